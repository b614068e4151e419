//! The word that the server stops, as every task here hears it.
//!
//! **Invariant:** it is said once and never taken back.

use tokio::sync::watch;

/// Comes back when the server stops.
pub async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that whoever could have stopped the server is gone, which is a stop as well.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
