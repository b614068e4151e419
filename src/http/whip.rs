//! WHIP (RFC 9725): an encoder posts its offer and becomes the broadcaster of the path's room and user.
//!
//! **Invariant:** these are the door's handlers only; what they do is [`offer`]'s.

use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;

use super::caller::Caller;
use super::offer;
use super::problem::Problem;
use super::state::{AppState, Remote};
use crate::access::Right;
use crate::hub::io::Door;

/// `POST /whip/{room}/{user}`.
pub async fn publish(
    State(state): State<AppState>,
    Extension(remote): Extension<Remote>,
    caller: Caller,
    Path((room, user)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    let broadcast = offer::broadcast_of(&room, &user)?;
    caller.require(Right::Publish, &broadcast)?;
    offer::create(&state, remote, Door::Whip, broadcast, request).await
}

/// `PATCH /whip/{room}/{user}/{resource}`.
pub async fn patch(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Problem> {
    offer::patch(&state, Door::Whip, path, request).await
}

/// `DELETE /whip/{room}/{user}/{resource}`.
pub async fn delete(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    offer::delete(&state, Door::Whip, &path)
}

/// `GET /whip/{room}/{user}/{resource}`.
pub async fn get(
    State(state): State<AppState>,
    Path(path): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    offer::get(&state, Door::Whip, &path)
}
