//! Which path leads to which door, and what stands before all of them.
//!
//! **Invariant:** every door that acts on the hub or tells of it stands behind the origin rule.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};

use super::problem;
use super::state::AppState;
use super::{api, assets, cors, events, listing, offer, openapi, operate, recordings, whep, whip, ws};
use crate::hub::io::SessionId;

/// A path, and the methods that are answered there.
type Door = (&'static str, MethodRouter<AppState>);

/// Doors that act on the hub or tell of it, and those that tell how to.
fn guarded() -> Vec<Door> {
    vec![
        ("/ws", get(ws::upgrade)),
        ("/whip/{room}/{user}", post(whip::publish).get(offer::endpoint_get).options(whip::options)),
        ("/whip/{room}/{user}/{resource}", resource(patch(whip::patch).delete(whip::delete).get(whip::get))),
        ("/whep/{room}/{user}", post(whep::play).get(offer::endpoint_get).options(whep::options)),
        ("/whep/{room}/{user}/{resource}", resource(patch(whep::patch).delete(whep::delete).get(whep::get))),
        ("/api/broadcasts", get(api::broadcasts)),
        ("/api/broadcasts/{room}/{user}", delete(operate::kick)),
        ("/api/broadcasts/{room}/{user}/recording", post(operate::start_recording).delete(operate::stop_recording)),
        ("/api/recordings", get(listing::recordings)),
        ("/api/recordings/{room}/{user}/{file}", delete(operate::remove_recording)),
        ("/api/ice-servers", get(api::ice_servers)),
        ("/api/events", get(events::events)),
        ("/api/openapi.json", get(openapi::description)),
    ]
}

/// Doors that change nothing, and whose answers no page of another origin can read.
fn unguarded() -> Vec<Door> {
    vec![
        ("/recordings/{room}/{user}/{file}", get(recordings::file)),
        ("/healthz", get(api::health)),
        ("/metrics", get(api::metrics)),
    ]
}

fn routes(doors: Vec<Door>) -> Router<AppState> {
    doors.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

fn resource(methods: MethodRouter<AppState>) -> MethodRouter<AppState> {
    methods.options(offer::resource_options)
}

/// All doors.
pub fn router(state: AppState) -> Router {
    Router::new()
        .merge(routes(guarded()).layer(from_fn_with_state(state.clone(), cors::guard)))
        .merge(routes(unguarded()))
        .fallback(assets::serve)
        .layer(map_response(problem::complete))
        .layer(from_fn_with_state(state.clone(), account))
        .with_state(state)
}

/// Counts and logs every response, those that begin or end a session where everyone looks, and forbids browsers to guess
/// its type.
async fn account(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    // The matched route, not the path: whoever reads a resource id in a log could end that session.
    let route = request.extensions().get::<MatchedPath>().map(|route| route.as_str().to_owned());
    let mut response = next.run(request).await;
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    state.metrics().response(response.status().as_u16());
    let status = response.status().as_u16();
    match response.extensions().get::<SessionId>() {
        Some(session) if matches!(method, Method::POST | Method::DELETE) => {
            tracing::info!(session = session.0, %method, route, status, "request");
        }
        session => tracing::debug!(session = session.map(|session| session.0), %method, route, status, "request"),
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::body::Body;
    use axum::http::header::ALLOW;
    use tokio::sync::watch;
    use tower::ServiceExt;

    use super::*;
    use crate::handle::bridge;
    use crate::http::ice_server::IceServers;
    use crate::http::policy::PolicyCell;
    use crate::http::state::HttpConfig;

    #[tokio::test]
    async fn each_door_is_described_with_its_methods_and_nothing_else_is() {
        let (handle, _port, _recordings) = bridge().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let config = HttpConfig {
            tls: false,
            allowed_origins: Vec::new(),
            record_dir: "nowhere".into(),
            growing: Default::default(),
            ice_servers: IceServers::default(),
            policy: PolicyCell::default(),
            webhook: None,
            recorder: None,
        };
        let router = router(AppState::new(config, handle, Vec::new(), stopping));
        let mut doors = BTreeMap::new();
        for (path, _) in guarded().into_iter().chain(unguarded()) {
            // A method that no door has is answered with those that it has.
            let place = path.replace(['{', '}'], "");
            let request = Request::builder().method(Method::TRACE).uri(place).body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 405, "{path}");
            let allowed = response.headers()[ALLOW].to_str().unwrap().split(',').map(|method| method.trim().to_owned());
            let mut methods: BTreeSet<String> = allowed.collect();
            // Where GET is answered, HEAD is.
            assert_eq!(methods.remove("HEAD"), methods.contains("GET"), "{path}");
            doors.insert(path.to_owned(), methods);
        }
        assert_eq!(openapi::tests::methods(), doors);
    }
}
