//! What a peer that sends a broadcast knows of itself.

use super::keys::BroadcastKey;

/// The publisher's side of a broadcast.
#[derive(Debug)]
pub struct Publisher {
    /// The broadcast it sends.
    pub broadcast: BroadcastKey,
}
