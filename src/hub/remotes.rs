//! Which addresses of the other side belong to which peer.
//!
//! **Invariant:** an address is a peer's only after that peer has verified a STUN message from it, and no longer than the
//! peer, or the TCP connection, lasts.

use std::time::Instant;

use super::Hub;
use super::demux::Route;
use super::keys::PeerKey;
use crate::egress::sink::{Path, Remote};

impl Hub {
    /// Whether a datagram from `remote` belongs to a peer whose media may flow: what else comes can wait.
    #[must_use]
    pub fn is_media(&self, remote: Remote, datagram: &[u8]) -> bool {
        // RFC 7983: RTP and RTCP begin with 128 to 191.
        datagram.first().is_some_and(|first| (128..=191).contains(first))
            && matches!(self.demux.route(remote, datagram), Route::Bound(_))
    }

    /// Whether `remote` is a peer's: a TCP connection that is nobody's has no business here.
    #[must_use]
    pub fn is_bound(&self, remote: Remote) -> bool {
        self.demux.bound(remote).is_some()
    }

    /// The TCP connection from `remote` has ended. Its peer lives on: it may come by another.
    pub fn handle_disconnect(&mut self, remote: Remote) {
        let Some(key) = self.demux.bound(remote) else {
            return;
        };
        self.demux.unbind(remote, key);
        if let Some(peer) = self.peers.get_mut(key) {
            tracing::debug!(session = peer.session.0, "a TCP connection ended");
            peer.disconnected(remote);
        }
    }

    /// Binds the other end of `path` to the peer that the STUN message names, if it verifies it.
    pub(super) fn bind(&mut self, now: Instant, key: PeerKey, path: Path, datagram: &[u8]) -> bool {
        let addresses_max = self.config.limits.addresses_per_peer;
        let Some(peer) = self.peers.get_mut(key) else {
            return false;
        };
        if !peer.accepts(now, path, datagram) {
            return false;
        }
        let remote = path.remote();
        peer.addresses.push(remote);
        if peer.addresses.len() > addresses_max {
            let oldest = peer.addresses.remove(0);
            self.demux.unbind(oldest, key);
        }
        if let Some(before) = self.demux.bind(remote, key).and_then(|before| self.peers.get_mut(before)) {
            before.addresses.retain(|address| *address != remote);
        }
        true
    }
}
