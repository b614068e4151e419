//! Which peer a datagram belongs to.
//!
//! **Invariant:** never a scan over peers: one look-up by source address, or for STUN by the ufrag it names; an address is
//! bound to a peer only after that peer has verified a STUN message from it.

use std::collections::HashMap;
use std::time::Instant;

use foldhash::fast::FixedState;
use str0m::ice::StunMessage;

use super::config::OLD_UFRAG_KEPT;
use super::keys::PeerKey;
use crate::egress::sink::Remote;

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To the peer that its source address is bound to.
    Bound(PeerKey),
    /// To the peer that it names, if that peer accepts it; its source address is not bound yet.
    Named(PeerKey),
    /// To nobody.
    Unknown,
}

/// Addresses and ufrags of all peers.
#[derive(Debug)]
pub struct Demux {
    by_address: HashMap<Remote, PeerKey, FixedState>,
    by_ufrag: HashMap<String, PeerKey, FixedState>,
    /// Ufrags of before an ICE restart, in the order in which they expire.
    expiring: std::collections::VecDeque<(Instant, String)>,
}

impl Demux {
    /// `seed` keeps others from choosing addresses that collide.
    pub fn new(seed: u64) -> Self {
        let state = FixedState::with_seed(seed);
        Self {
            by_address: HashMap::with_hasher(state.clone()),
            by_ufrag: HashMap::with_hasher(state),
            expiring: std::collections::VecDeque::new(),
        }
    }

    /// Finds the peer for a datagram from `source`.
    #[inline]
    pub fn route(&self, source: Remote, datagram: &[u8]) -> Route {
        let bound = self.by_address.get(&source).copied();
        // RFC 7983: STUN begins with 0 to 3.
        if datagram.first().is_none_or(|first| *first > 3) {
            return bound.map_or(Route::Unknown, Route::Bound);
        }
        let named = StunMessage::parse(datagram)
            .ok()
            .and_then(|message| message.split_username().map(|(local, _)| self.by_ufrag.get(local).copied()));
        match (named, bound) {
            // A request names its peer; an address that has moved to another peer is bound anew.
            (Some(Some(named)), Some(bound)) if named == bound => Route::Bound(bound),
            (Some(Some(named)), _) => Route::Named(named),
            (Some(None), _) | (None, None) => Route::Unknown,
            // A response names nobody.
            (None, Some(bound)) => Route::Bound(bound),
        }
    }

    /// Binds `source` to `peer`, and tells which peer it was bound to before.
    pub fn bind(&mut self, source: Remote, peer: PeerKey) -> Option<PeerKey> {
        self.by_address.insert(source, peer).filter(|before| *before != peer)
    }

    /// Frees `source` if it is bound to `peer`.
    pub fn unbind(&mut self, source: Remote, peer: PeerKey) {
        if self.by_address.get(&source) == Some(&peer) {
            self.by_address.remove(&source);
        }
    }

    /// The peer that `source` is bound to.
    #[must_use]
    pub fn bound(&self, source: Remote) -> Option<PeerKey> {
        self.by_address.get(&source).copied()
    }

    /// Routes STUN that names `ufrag` to `peer`.
    pub fn name(&mut self, ufrag: &str, peer: PeerKey) {
        self.by_ufrag.insert(ufrag.to_owned(), peer);
    }

    /// Stops routing `ufrag` in a while: checks with it may still be on their way.
    pub fn retire(&mut self, ufrag: String, now: Instant) {
        self.expiring.push_back((now + OLD_UFRAG_KEPT, ufrag));
    }

    /// Stops routing `ufrag` at once.
    pub fn forget(&mut self, ufrag: &str) {
        self.by_ufrag.remove(ufrag);
    }

    /// When the next ufrag is to be forgotten.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        self.expiring.front().map(|(at, _)| *at)
    }

    /// Forgets the ufrags whose time is up.
    pub fn expire(&mut self, now: Instant) {
        while self.expiring.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, ufrag)) = self.expiring.pop_front() {
                self.by_ufrag.remove(&ufrag);
            }
        }
    }

    /// How many addresses and ufrags are known: for tests of leaks.
    #[must_use]
    pub fn len(&self) -> (usize, usize) {
        (self.by_address.len(), self.by_ufrag.len())
    }

    /// Whether nothing is routed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == (0, 0)
    }
}
