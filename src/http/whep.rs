//! WHEP (draft-ietf-wish-whep): a player posts its offer and becomes a viewer of the path's room and user.
//!
//! **Invariant:** these are the door's handlers only; what they do is [`offer`]'s.

use axum::extract::{Extension, Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::caller::Caller;
use super::offer;
use super::problem::Problem;
use super::state::{AppState, Remote};
use crate::access::Right;
use crate::hub::io::Door;

/// `POST /whep/{room}/{user}`.
pub async fn play(
    State(state): State<AppState>,
    Extension(remote): Extension<Remote>,
    caller: Caller,
    Path((room, user)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let broadcast = offer::broadcast_of(&room, &user)?;
    caller.require(Right::Watch, &broadcast)?;
    offer::create(&state, remote, Door::Whep, broadcast, request).await
}

/// `OPTIONS /whep/{room}/{user}`, which is answered whoever asks.
pub async fn options(
    State(state): State<AppState>,
    caller: Result<Caller, Problem>,
    Path((room, user)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let broadcast = offer::broadcast_of(&room, &user);
    let may_use =
        caller.is_ok_and(|caller| broadcast.is_ok_and(|broadcast| caller.permit.may(Right::Watch, &broadcast)));
    offer::endpoint_options(&state, may_use, &headers)
}

/// `PATCH /whep/{room}/{user}/{resource}`.
pub async fn patch(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    offer::patch(&state, Door::Whep, path, request).await
}

/// `DELETE /whep/{room}/{user}/{resource}`.
pub async fn delete(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    offer::delete(&state, Door::Whep, &path)
}

/// `GET /whep/{room}/{user}/{resource}`.
pub async fn get(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    offer::get(&state, Door::Whep, &path)
}
