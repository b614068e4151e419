//! The resources that a WHIP or WHEP `POST` creates (RFC 9725 §4.2): one session each, under an unguessable id.
//!
//! **Invariant:** a resource is in the table exactly as long as its session lives: it leaves when its peer ends, when it
//! is deleted, and when the server stops. There are never more than [`RESOURCES_MAX`].

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::stop::stopped;
use crate::handle::Session;
use crate::hub::io::{Command, Door, SessionId};
use crate::signal::sdpfrag::FragCredentials;
use crate::signal::{BroadcastId, ErrorCode, ServerMessage};

/// The most resources at a time.
pub const RESOURCES_MAX: usize = 10_000;

/// PATCH requests that may wait for one resource.
const PATCHES_MAX: usize = 16;

/// How long the hub may take to end a session when the server stops.
const FAREWELL_DEADLINE: Duration = Duration::from_millis(500);

/// The request id of an ICE restart: a resource has one under way at a time.
const RESTART: &str = "restart";

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
    /// The client's ICE credentials: other ones are an ICE restart.
    pub credentials: Option<FragCredentials>,
    /// The tag of its ICE session (RFC 9725 §4.3.1).
    pub etag: EntityTag,
}

/// The strong tag of an ICE session: each session has its own, and each restart a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag {
    session: u64,
    restarts: u64,
}

impl EntityTag {
    /// That of a session's first ICE session.
    #[must_use]
    pub fn first(session: u64) -> Self {
        Self { session, restarts: 0 }
    }

    /// Whose it is.
    #[must_use]
    pub fn session(self) -> SessionId {
        SessionId(self.session)
    }

    fn next(self) -> Self {
        Self { restarts: self.restarts + 1, ..self }
    }
}

impl fmt::Display for EntityTag {
    /// As it stands in a header, quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}.{}\"", self.session, self.restarts)
    }
}

/// Candidates of one PATCH: `None` ends them.
pub type Trickle = Vec<Option<String>>;

/// What a PATCH asks of a session.
#[derive(Debug)]
pub enum Patch {
    /// Candidates.
    Trickle(Trickle),
    /// An ICE restart.
    Restart(Restart),
}

/// An ICE restart.
#[derive(Debug)]
pub struct Restart {
    /// The client's new credentials.
    pub credentials: FragCredentials,
    /// Its candidates.
    pub candidates: Trickle,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<Restarted, RestartError>>,
}

/// A restart that the hub has made.
#[derive(Debug)]
pub struct Restarted {
    /// The server's description, with its new credentials.
    pub answer: String,
    /// The tag of the new ICE session.
    pub etag: EntityTag,
}

/// A restart that was refused: the ICE session that stood goes on.
#[derive(Debug)]
pub struct RestartError {
    /// The kind of refusal.
    pub code: ErrorCode,
    /// One line for a person.
    pub reason: String,
}

/// Why a PATCH was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchError {
    /// There is no such resource (any more).
    Gone,
    /// Too many of them wait.
    Busy,
}

#[derive(Debug)]
struct Entry {
    resource: Resource,
    /// Dropping it ends the resource's task, and with it the session.
    patches: mpsc::Sender<Patch>,
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
        let (patches, inbox) = mpsc::channel(PATCHES_MAX);
        {
            let mut entries = self.lock();
            if entries.len() >= RESOURCES_MAX {
                return None;
            }
            entries.insert(id, Entry { resource, patches });
        }
        let table = self.clone();
        tokio::spawn(async move {
            let number = session.id().0;
            keep(&table, id, session, inbox, stopping).await;
            table.lock().remove(&id);
            tracing::debug!(session = number, resource = ?id, "a resource is gone");
        });
        Some(())
    }

    /// What the resource is known by.
    #[must_use]
    pub fn get(&self, id: ResourceId) -> Option<Resource> {
        self.lock().get(&id).map(|entry| entry.resource.clone())
    }

    /// Hands a PATCH to the resource's session.
    ///
    /// # Errors
    ///
    /// [`PatchError`]; it was not taken.
    pub fn patch(&self, id: ResourceId, patch: Patch) -> Result<(), PatchError> {
        let entries = self.lock();
        let entry = entries.get(&id).ok_or(PatchError::Gone)?;
        entry.patches.try_send(patch).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => PatchError::Busy,
            mpsc::error::TrySendError::Closed(_) => PatchError::Gone,
        })
    }

    /// Notes a new ICE session; `None` when the resource was gone.
    fn renew(&self, id: ResourceId, credentials: FragCredentials) -> Option<EntityTag> {
        let mut entries = self.lock();
        let resource = &mut entries.get_mut(&id)?.resource;
        resource.credentials = Some(credentials);
        resource.etag = resource.etag.next();
        Some(resource.etag)
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
async fn keep(
    table: &ResourceTable,
    id: ResourceId,
    mut session: Session,
    mut patches: mpsc::Receiver<Patch>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut under_way: Option<Restart> = None;
    loop {
        tokio::select! {
            signal = session.recv() => {
                let Some(signal) = signal else { return };
                let answers_restart = signal.id.as_deref() == Some(RESTART);
                match signal.message {
                    ServerMessage::Answer { sdp } if answers_restart => {
                        let Some(Restart { credentials, candidates, reply }) = under_way.take() else { continue };
                        let Some(etag) = table.renew(id, credentials) else { return };
                        trickle(&session, candidates);
                        // Whoever asked may be gone by now.
                        let _ = reply.send(Ok(Restarted { answer: sdp, etag }));
                    }
                    ServerMessage::Error { code, message, fatal, .. } => {
                        tracing::debug!(session = session.id().0, ?code, message, "an error on a resource");
                        if let Some(restart) = under_way.take_if(|_| answers_restart) {
                            let _ = restart.reply.send(Err(RestartError { code, reason: message }));
                        }
                        if fatal {
                            return;
                        }
                    }
                    _ => {}
                }
            },
            patch = patches.recv(), if under_way.is_none() => match patch {
                None => return,
                Some(Patch::Trickle(candidates)) => trickle(&session, candidates),
                Some(Patch::Restart(restart)) => {
                    let command = Command::RestartIce { credentials: restart.credentials.clone() };
                    match session.send(Some(RESTART.to_owned()), command) {
                        Ok(()) => under_way = Some(restart),
                        Err(error) => {
                            let refused = RestartError { code: ErrorCode::TooMany, reason: error.to_string() };
                            let _ = restart.reply.send(Err(refused));
                        }
                    }
                }
            },
            () = stopped(&mut stopping) => break,
        }
    }
    // The hub ends the session, and says that the server stops: whoever watches is not to hear that the client left.
    let _ = timeout(FAREWELL_DEADLINE, async { while session.recv().await.is_some() {} }).await;
}

fn trickle(session: &Session, candidates: Trickle) {
    for candidate in candidates {
        if let Err(error) = session.send(None, Command::Candidate { candidate }) {
            tracing::debug!(session = session.id().0, %error, "a trickled candidate was lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{HubPort, Request, bridge};
    use crate::signal::Signal;

    fn resource() -> Resource {
        let etag = EntityTag::first(1);
        Resource { door: Door::Whip, broadcast: "r/u".parse().unwrap(), credentials: None, etag }
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

        table.patch(id, Patch::Trickle(vec![Some("candidate:1".to_owned()), None])).unwrap();
        for expected in [Some("candidate:1".to_owned()), None] {
            let Request::Command { command, .. } = next(&mut port).await else { panic!("no command") };
            assert_eq!(command, Command::Candidate { candidate: expected });
        }
        assert!(table.remove(id) && !table.remove(id));
        assert!(matches!(next(&mut port).await, Request::Close(_)));
        assert_eq!(table.patch(id, Patch::Trickle(Vec::new())), Err(PatchError::Gone));
    }

    #[tokio::test]
    async fn a_restart_renews_the_tag_once_the_hub_has_answered_it() {
        let (handle, mut port, _recordings) = bridge().unwrap();
        let (_stop, stopping) = watch::channel(false);
        let (table, id) = (ResourceTable::default(), ResourceId::random().unwrap());
        let session = handle.open(Door::Whip, [127, 0, 0, 1].into()).unwrap();
        let Request::Open { signals, .. } = next(&mut port).await else { panic!("no session began") };
        table.insert(id, resource(), session, stopping).unwrap();
        let credentials = |ufrag: &str| FragCredentials { ufrag: ufrag.to_owned(), password: "p".repeat(22) };
        let restart = |ufrag: &str| {
            let (reply, outcome) = oneshot::channel();
            let candidates = vec![Some("candidate:1".to_owned())];
            let restart = Restart { credentials: credentials(ufrag), candidates, reply };
            table.patch(id, Patch::Restart(restart)).unwrap();
            outcome
        };
        let (first, second) = (restart("refused"), restart("made"));
        let request = next(&mut port).await;
        let Request::Command { id: Some(asked), command: Command::RestartIce { .. }, .. } = request else {
            panic!("a restart is asked for: {request:?}");
        };
        assert!(port.requests.try_recv().is_err(), "one at a time");
        let refusal = ServerMessage::error(ErrorCode::TooMany, "later");
        signals.send(Box::new(Signal { id: Some(asked), message: refusal })).await.unwrap();
        assert_eq!(first.await.unwrap().unwrap_err().code, ErrorCode::TooMany);
        assert_eq!(table.get(id).unwrap(), resource());

        let Request::Command { id: asked, .. } = next(&mut port).await else { panic!("the second restart") };
        signals
            .send(Box::new(Signal { id: asked, message: ServerMessage::Answer { sdp: "v=0".into() } }))
            .await
            .unwrap();
        let made = second.await.unwrap().unwrap();
        assert_eq!((made.answer.as_str(), made.etag.to_string().as_str()), ("v=0", "\"1.1\""));
        let renewed = table.get(id).unwrap();
        assert_eq!((renewed.credentials, renewed.etag), (Some(credentials("made")), made.etag));
        // The candidates follow the restart that they belong to.
        let request = next(&mut port).await;
        assert!(matches!(request, Request::Command { command: Command::Candidate { .. }, .. }), "{request:?}");
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
