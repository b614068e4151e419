//! Which path leads to which door, and what stands before all of them.
//!
//! **Invariant:** every door that acts on the hub or tells of it stands behind the origin rule.

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::X_CONTENT_TYPE_OPTIONS;
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{delete, get, patch, post};

use super::problem;
use super::state::AppState;
use super::{api, assets, cors, events, offer, operate, recordings, whep, whip, ws};
use crate::hub::io::SessionId;

/// All doors.
pub fn router(state: AppState) -> Router {
    let guarded = Router::new()
        .route("/ws", get(ws::upgrade))
        .route("/whip/{room}/{user}", post(whip::publish).get(offer::endpoint_get).options(whip::options))
        .route("/whip/{room}/{user}/{resource}", resource(patch(whip::patch).delete(whip::delete).get(whip::get)))
        .route("/whep/{room}/{user}", post(whep::play).get(offer::endpoint_get).options(whep::options))
        .route("/whep/{room}/{user}/{resource}", resource(patch(whep::patch).delete(whep::delete).get(whep::get)))
        .route("/api/broadcasts", get(api::broadcasts))
        .route("/api/broadcasts/{room}/{user}", delete(operate::kick))
        .route("/api/broadcasts/{room}/{user}/recording", delete(operate::stop_recording))
        .route("/api/recordings", get(api::recordings))
        .route("/api/recordings/{room}/{user}/{file}", delete(operate::remove_recording))
        .route("/api/ice-servers", get(api::ice_servers))
        .route("/api/events", get(events::events))
        .layer(from_fn_with_state(state.clone(), cors::guard));
    Router::new()
        .merge(guarded)
        .route("/recordings/{room}/{user}/{file}", get(recordings::file))
        .route("/healthz", get(api::health))
        .route("/metrics", get(api::metrics))
        .fallback(assets::serve)
        .layer(map_response(problem::complete))
        .layer(from_fn_with_state(state.clone(), account))
        .with_state(state)
}

fn resource(methods: axum::routing::MethodRouter<AppState>) -> axum::routing::MethodRouter<AppState> {
    methods.options(offer::resource_options)
}

/// Counts and logs every response (one that begins or ends a session where everyone looks, with its number), and forbids browsers to guess its type.
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
