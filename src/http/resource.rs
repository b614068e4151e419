//! The resources that a WHIP or WHEP `POST` creates (RFC 9725 §4.2): one session each, under an unguessable id.
//!
//! **Invariant:** a resource is in the table exactly as long as its session lives: it leaves when its peer ends, when it
//! is deleted, and when the server stops. There are never more than [`RESOURCES_MAX`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::stop::stopped;
use crate::handle::Session;
use crate::hub::io::{Command, Door};
use crate::signal::{BroadcastId, ServerMessage};

/// The most resources at a time.
pub const RESOURCES_MAX: usize = 10_000;

/// Trickle requests that may wait for one resource.
const TRICKLES_MAX: usize = 16;

/// 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResourceId(u128);

impl ResourceId {
    /// A new one.
    ///
    /// # Errors
    ///
    /// Where the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Shows the first digits only: who knows the whole id may end the session.
impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}…", self.0 >> 112)
    }
}

/// What is no resource id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a resource id has 32 hexadecimal digits")]
pub struct NotAResourceId;

impl FromStr for ResourceId {
    type Err = NotAResourceId;

    fn from_str(text: &str) -> Result<Self, NotAResourceId> {
        let well_formed = text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !well_formed {
            return Err(NotAResourceId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotAResourceId)
    }
}

/// What a resource is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// By which door it came.
    pub door: Door,
    /// What it publishes or plays.
    pub broadcast: BroadcastId,
    /// The ICE username fragment of the client's offer: another one is an ICE restart.
    pub ufrag: Option<String>,
    /// The tag of its ICE session.
    pub etag: String,
}

/// Candidates of one trickle request: `None` ends them.
pub type Trickle = Vec<Option<String>>;

/// Why a trickle request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrickleError {
    /// There is no such resource (any more).
    Gone,
    /// Too many of them wait.
    Busy,
}

#[derive(Debug)]
struct Entry {
    resource: Resource,
    /// Dropping it ends the resource's task, and with it the session.
    trickles: mpsc::Sender<Trickle>,
}

/// All resources. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ResourceTable(Arc<Mutex<HashMap<ResourceId, Entry>>>);

impl ResourceTable {
    /// Keeps `session` alive under `id` until one of its ends; `None` when the table is full.
    #[must_use]
    pub fn insert(
        &self,
        id: ResourceId,
        resource: Resource,
        session: Session,
        stopping: watch::Receiver<bool>,
    ) -> Option<()> {
        let (trickles, inbox) = mpsc::channel(TRICKLES_MAX);
        {
            let mut entries = self.lock();
            if entries.len() >= RESOURCES_MAX {
                return None;
            }
            entries.insert(id, Entry { resource, trickles });
        }
        let table = self.clone();
        tokio::spawn(async move {
            keep(session, inbox, stopping).await;
            table.lock().remove(&id);
            tracing::debug!(resource = ?id, "a resource is gone");
        });
        Some(())
    }

    /// What the resource is known by.
    #[must_use]
    pub fn get(&self, id: ResourceId) -> Option<Resource> {
        self.lock().get(&id).map(|entry| entry.resource.clone())
    }

    /// Hands candidates to the resource's session.
    ///
    /// # Errors
    ///
    /// [`TrickleError`]; none was taken.
    pub fn trickle(&self, id: ResourceId, candidates: Trickle) -> Result<(), TrickleError> {
        let entries = self.lock();
        let entry = entries.get(&id).ok_or(TrickleError::Gone)?;
        entry.trickles.try_send(candidates).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => TrickleError::Busy,
            mpsc::error::TrySendError::Closed(_) => TrickleError::Gone,
        })
    }

    /// Ends the resource; `false` when it was gone.
    pub fn remove(&self, id: ResourceId) -> bool {
        self.lock().remove(&id).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ResourceId, Entry>> {
        // Every critical section is one call on the map, which leaves it sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds the session until its peer ends, its entry is removed, or the server stops.
async fn keep(mut session: Session, mut trickles: mpsc::Receiver<Trickle>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            signal = session.recv() => match signal {
                None => return,
                Some(signal) => {
                    if let ServerMessage::Error { code, message, fatal, .. } = signal.message {
                        tracing::debug!(session = session.id().0, ?code, message, "an error on a resource");
                        if fatal {
                            return;
                        }
                    }
                }
            },
            candidates = trickles.recv() => {
                let Some(candidates) = candidates else { return };
                for candidate in candidates {
                    if let Err(error) = session.send(None, Command::Candidate { candidate }) {
                        tracing::debug!(session = session.id().0, %error, "a trickled candidate was lost");
                    }
                }
            }
            () = stopped(&mut stopping) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{HubPort, Request, bridge};

    fn resource() -> Resource {
        Resource { door: Door::Whip, broadcast: "r/u".parse().unwrap(), ufrag: None, etag: "\"1\"".to_owned() }
    }

    async fn next(port: &mut HubPort) -> Request {
        port.requests.recv().await.unwrap()
    }

    #[test]
    fn ids_are_written_and_read_in_one_form_only() {
        let id = ResourceId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_ne!(ResourceId::random().unwrap(), id);
        for text in ["", "0", "+0000000000000000000000000000000", &"A".repeat(32), &"a".repeat(33)] {
            assert_eq!(text.parse::<ResourceId>(), Err(NotAResourceId), "{text}");
        }
    }

    #[tokio::test]
    async fn a_resource_hands_candidates_on_and_ends_its_session_when_removed() {
        let (handle, mut port, _recordings) = bridge().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let (table, id) = (ResourceTable::default(), ResourceId::random().unwrap());
        let session = handle.open(Door::Whip, [127, 0, 0, 1].into()).unwrap();
        let Request::Open { signals: _signals, .. } = next(&mut port).await else { panic!("no session began") };
        table.insert(id, resource(), session, stopping).unwrap();

        table.trickle(id, vec![Some("candidate:1".to_owned()), None]).unwrap();
        for expected in [Some("candidate:1".to_owned()), None] {
            let Request::Command { command, .. } = next(&mut port).await else { panic!("no command") };
            assert_eq!(command, Command::Candidate { candidate: expected });
        }
        assert!(table.remove(id) && !table.remove(id));
        assert!(matches!(next(&mut port).await, Request::Close(_)));
        assert_eq!(table.trickle(id, Vec::new()), Err(TrickleError::Gone));
    }

    #[tokio::test]
    async fn a_resource_leaves_with_its_peer_and_with_the_server() {
        let (handle, mut port, _recordings) = bridge().unwrap();
        let (stop, stopping) = watch::channel(false);
        let table = ResourceTable::default();
        let ids = [ResourceId::random().unwrap(), ResourceId::random().unwrap()];
        let mut signals = Vec::new();
        for id in ids {
            let session = handle.open(Door::Whep, [127, 0, 0, 1].into()).unwrap();
            let Request::Open { signals: sender, .. } = next(&mut port).await else { panic!("no session began") };
            signals.push(sender);
            table.insert(id, resource(), session, stopping.clone()).unwrap();
        }
        signals.remove(0);
        assert!(matches!(next(&mut port).await, Request::Close(_)));
        stop.send(true).unwrap();
        assert!(matches!(next(&mut port).await, Request::Close(_)));
        // The session closes just before its entry goes.
        while ids.iter().any(|id| table.get(*id).is_some()) {
            tokio::task::yield_now().await;
        }
    }
}
