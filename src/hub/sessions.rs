//! Signaling attachments and the peer that each has.
//!
//! **Invariant:** a session has at most one peer at a time; how many come from one address is known without counting.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use foldhash::fast::FixedState;

use super::error::Refusal;
use super::io::{Door, SessionId};
use super::keys::PeerKey;
use crate::access::address::counted_under;

/// One attachment.
#[derive(Debug)]
pub struct SessionEntry {
    /// By which door it came.
    pub door: Door,
    /// The address it is counted under.
    remote: IpAddr,
    /// Its publisher or subscriber.
    pub peer: Option<PeerKey>,
}

/// All attachments.
#[derive(Debug)]
pub struct Sessions {
    entries: BTreeMap<SessionId, SessionEntry>,
    by_address: HashMap<IpAddr, usize, FixedState>,
    max: usize,
    max_per_address: usize,
}

impl Sessions {
    /// At most `max` in all, and `max_per_address` from one address that is not loopback.
    pub fn new(max: usize, max_per_address: usize, seed: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_address: HashMap::with_hasher(FixedState::with_seed(seed)),
            max,
            max_per_address,
        }
    }

    /// Takes a session in.
    ///
    /// # Errors
    ///
    /// `too-many`.
    pub fn open(&mut self, session: SessionId, door: Door, remote: IpAddr) -> Result<(), Refusal> {
        if self.entries.len() >= self.max {
            return Err(Refusal::too_many(format!("the server has its {} sessions", self.max)));
        }
        let remote = counted_under(remote);
        let count = self.by_address.get(&remote).copied().unwrap_or(0);
        if count >= self.max_per_address && !remote.is_loopback() {
            let reason = format!("your address has its {} sessions", self.max_per_address);
            return Err(Refusal::too_many(reason));
        }
        self.by_address.insert(remote, count + 1);
        let entry = SessionEntry { door, remote, peer: None };
        self.entries.insert(session, entry);
        Ok(())
    }

    /// Takes a session out.
    pub fn close(&mut self, session: SessionId) -> Option<SessionEntry> {
        let entry = self.entries.remove(&session)?;
        match self.by_address.get_mut(&entry.remote) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.by_address.remove(&entry.remote);
            }
        }
        Some(entry)
    }

    /// The session, unless it is closed.
    pub fn get(&self, session: SessionId) -> Option<&SessionEntry> {
        self.entries.get(&session)
    }

    /// Gives a session its peer, or takes it away.
    pub fn set_peer(&mut self, session: SessionId, peer: Option<PeerKey>) {
        if let Some(entry) = self.entries.get_mut(&session) {
            entry.peer = peer;
        }
    }

    /// Sessions that have a peer.
    pub fn with_peers(&self) -> Vec<(SessionId, PeerKey)> {
        self.entries.iter().filter_map(|(session, entry)| Some((*session, entry.peer?))).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::ErrorCode;

    #[test]
    fn caps_hold_and_are_freed() {
        let mut sessions = Sessions::new(3, 1, 7);
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let home: IpAddr = "127.0.0.1".parse().unwrap();
        sessions.open(SessionId(1), Door::WebSocket, far).unwrap();
        let refused = sessions.open(SessionId(2), Door::WebSocket, far).unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooMany);
        sessions.close(SessionId(1)).unwrap();
        sessions.open(SessionId(3), Door::WebSocket, far).unwrap();
        sessions.open(SessionId(4), Door::WebSocket, home).unwrap();
        sessions.open(SessionId(5), Door::WebSocket, home).unwrap();
        assert!(sessions.open(SessionId(6), Door::WebSocket, home).is_err());
        assert_eq!(sessions.count(), 3);
    }

    #[test]
    fn neighbours_in_an_ipv6_network_share_their_cap() {
        let mut sessions = Sessions::new(9, 1, 7);
        let mut open = |session, ip: &str| sessions.open(SessionId(session), Door::WebSocket, ip.parse().unwrap());
        open(1, "2001:db8:0:1::1").unwrap();
        open(2, "2001:db8:0:1:ffff::2").unwrap_err();
        open(3, "2001:db8:0:2::1").unwrap();
        open(4, "::ffff:192.0.2.1").unwrap();
        open(5, "192.0.2.1").unwrap_err();
        for session in 6..8 {
            open(session, "::1").unwrap();
        }
        sessions.close(SessionId(1)).unwrap();
        sessions.open(SessionId(8), Door::WebSocket, "2001:db8:0:1::3".parse().unwrap()).unwrap();
    }
}
