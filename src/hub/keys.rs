//! Names of peers and broadcasts that are never mistaken for later ones.
//!
//! **Invariant:** an index is used again, a generation is not.

/// Names one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey {
    /// Its place in the slab.
    pub(super) index: u32,
    /// Unlike that of any other peer.
    pub(super) generation: u32,
}

/// Names one broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastKey {
    /// Its place in the slab.
    pub(super) index: u32,
    /// Unlike that of any other broadcast.
    pub(super) generation: u32,
}

/// Whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerOwner {
    /// A peer's.
    Peer(PeerKey),
    /// A broadcast's.
    Broadcast(BroadcastKey),
}
