//! What operators ask: to end a broadcast, to start or to stop its recording, to remove a recording.
//!
//! **Invariant:** nothing happens unless the caller has the right to it for that broadcast; a caller without the right is
//! not even told whether the broadcast exists.

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::caller::Caller;
use super::offer::broadcast_of;
use super::problem::Problem;
use super::state::AppState;
use crate::access::Right;
use crate::hub::io::{Operation, OperationError};
use crate::record::{self, DISK_DEADLINE, RemoveError, Turn};
use crate::signal::{BroadcastId, ErrorCode};

/// `DELETE /api/broadcasts/{room}/{user}`: ends the broadcast.
pub async fn kick(
    State(state): State<AppState>,
    caller: Caller,
    Path((room, user)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let broadcast = broadcast_of(&room, &user)?;
    caller.require(Right::Operate, &broadcast)?;
    answer(state.handle().operate(broadcast, Operation::Kick).await?)
}

/// `POST /api/broadcasts/{room}/{user}/recording`: starts a recording of a live broadcast.
pub async fn start_recording(
    State(state): State<AppState>,
    caller: Caller,
    Path((room, user)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let broadcast = broadcast_of(&room, &user)?;
    caller.require(Right::Record, &broadcast)?;
    let outcome = state.handle().operate(broadcast.clone(), Operation::StartRecording).await?;
    if outcome != Err(OperationError::NoRecorder) {
        return answer(outcome);
    }
    // With `--record off` the recorder starts with the first request that needs it.
    state.start_recorder().await.map_err(|reason| Problem::no_recorder(&reason))?;
    answer(state.handle().operate(broadcast, Operation::StartRecording).await?)
}

/// `DELETE /api/broadcasts/{room}/{user}/recording`: stops the recording of a broadcast, which goes on.
pub async fn stop_recording(
    State(state): State<AppState>,
    caller: Caller,
    Path((room, user)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let broadcast = broadcast_of(&room, &user)?;
    caller.require(Right::Record, &broadcast)?;
    answer(state.handle().operate(broadcast, Operation::StopRecording).await?)
}

fn answer(outcome: Result<(), OperationError>) -> Result<StatusCode, Problem> {
    outcome.map(|()| StatusCode::NO_CONTENT).map_err(|error| match error {
        OperationError::NotLive => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        OperationError::NotRecording
        | OperationError::AlreadyRecording
        | OperationError::NoRecorder
        | OperationError::NotRecordable(_) => Problem::signaling(ErrorCode::BadState, error.to_string()),
    })
}

/// `DELETE /api/recordings/{room}/{user}/{file}`: removes the recording.
pub async fn remove_recording(
    State(state): State<AppState>,
    caller: Caller,
    Path((room, user, file)): Path<(String, String, String)>,
) -> Result<StatusCode, Problem> {
    let none = |_| Problem::new(StatusCode::NOT_FOUND, RemoveError::None.to_string());
    let broadcast = BroadcastId::new(room.parse().map_err(none)?, user.parse().map_err(none)?);
    caller.require(Right::Operate, &broadcast)?;
    let (dir, growing) = (state.record_dir().to_owned(), state.growing().clone());
    let remove = move |turn: &Turn| {
        let removed = record::remove(turn, &dir, &growing, &broadcast, &file);
        if removed.is_ok() {
            tracing::info!(%broadcast, file, "recording removed by an operator");
        }
        Ok(removed)
    };
    let cannot = |error| Problem::of_disk(&error, "the recording could not be removed");
    let removed = state.disk().run("removing a recording", DISK_DEADLINE, remove).await.map_err(cannot)?;
    removed.map(|()| StatusCode::NO_CONTENT).map_err(|error| match error {
        RemoveError::None => Problem::new(StatusCode::NOT_FOUND, error.to_string()),
        RemoveError::Grows => Problem::signaling(ErrorCode::BadState, error.to_string()),
        RemoveError::Disk(error) => cannot(error.into()),
    })
}
