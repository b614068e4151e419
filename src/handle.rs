//! The bounded bridge between tokio's tasks and the hub's thread.
//!
//! **Invariant:** neither side ever waits for the other: a full queue refuses (toward the hub) or ends the session
//! (toward a client), and a recorder that does not keep up loses packets, never delays them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::hub::io::{
    Command, Door, MediaPacket, Notice, Operation, OperationError, Order, RecordingId, SessionId, Snapshot, TrackInfo,
};
use crate::signal::{BroadcastId, Signal};

/// Requests that may wait for the hub's thread.
pub const REQUESTS_MAX: usize = 4096;

/// Messages that may wait for one client.
pub const SIGNALS_MAX: usize = 256;

/// Packets that may wait for one recorder: some eight seconds of 2.5 Mbit/s.
pub const RECORDING_PACKETS_MAX: usize = 4096;

/// Notices that may wait for whoever listens to them; who falls further behind loses the oldest, and is told so.
pub const NOTICES_MAX: usize = 1024;

/// The hub cannot take the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Too many requests wait.
    #[error("the server is busy: try again in a moment")]
    Busy,
    /// The hub's thread has ended.
    #[error("the server is shutting down")]
    Stopped,
}

/// What travels to the hub's thread.
#[derive(Debug)]
pub enum Request {
    /// A session begins; its messages go to `signals`.
    Open {
        /// The new session.
        session: SessionId,
        /// By which door.
        door: Door,
        /// The client's address.
        remote: IpAddr,
        /// Where its messages go.
        signals: mpsc::Sender<Box<Signal>>,
    },
    /// A session asks for something.
    Command {
        /// Who asks.
        session: SessionId,
        /// The id to be echoed.
        id: Option<String>,
        /// What is asked.
        command: Command,
    },
    /// A session's attachment is gone.
    Close(SessionId),
    /// The server itself asks.
    Order(Order),
    /// A client with the right to do so asks something of a broadcast.
    Operate {
        /// Which one.
        broadcast: BroadcastId,
        /// What is asked.
        operation: Operation,
        /// Where the outcome goes.
        reply: oneshot::Sender<Result<(), OperationError>>,
    },
    /// The API asks.
    Snapshot(oneshot::Sender<Snapshot>),
}

/// Wakes the hub's thread, which sleeps in `poll` on its socket and on this.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
    raised: AtomicBool,
}

impl Waker {
    fn new() -> nix::Result<Self> {
        Ok(Self {
            event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
            raised: AtomicBool::new(false),
        })
    }

    /// Ends the sleep of the hub's thread, once for any number of calls until it has woken.
    pub fn wake(&self) {
        if !self.raised.swap(true, Ordering::SeqCst) {
            // An eventfd refuses a write only when its counter is full, and then it is readable already.
            let _ = self.event.write(1);
        }
    }

    /// Called by the hub's thread when it has woken, before it looks at its queue.
    pub fn clear(&self) {
        if self.raised.swap(false, Ordering::SeqCst) {
            let _ = self.event.read();
        }
    }

    /// What the hub's thread polls for reading.
    #[must_use]
    pub fn event(&self) -> &EventFd {
        &self.event
    }
}

/// The tasks' side of the bridge. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HubHandle {
    requests: mpsc::Sender<Request>,
    waker: Arc<Waker>,
    last_session: Arc<AtomicU64>,
    /// The stop has been ordered.
    is_stopping: Arc<AtomicBool>,
    notices: broadcast::WeakSender<Arc<Notice>>,
}

/// The hub thread's side of the bridge.
#[derive(Debug)]
pub struct HubPort {
    /// What the tasks ask.
    pub requests: mpsc::Receiver<Request>,
    /// Raised when `requests` is not empty.
    pub waker: Arc<Waker>,
    /// Where new recordings are announced.
    pub recordings: mpsc::Sender<NewRecording>,
    /// Where notices go. The listeners' end comes with the end of this.
    pub notices: broadcast::Sender<Arc<Notice>>,
}

/// A broadcast that is to be recorded.
#[derive(Debug)]
pub struct NewRecording {
    /// The stretch.
    pub recording: RecordingId,
    /// Who broadcasts.
    pub session: SessionId,
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Its tracks, by what its publisher negotiated.
    pub tracks: Vec<TrackInfo>,
    /// Its packets in the order of their arrival; closed when the broadcast ends.
    pub packets: mpsc::Receiver<MediaPacket>,
    /// How many were dropped because `packets` was full: gaps in the sequence numbers tell where.
    pub dropped: Arc<AtomicU64>,
}

/// Recordings that may wait to be begun: one for each broadcast that is live when the recorder starts.
const NEW_RECORDINGS_MAX: usize = 4096;

/// Builds the bridge: for the tasks, for the hub's thread, and for the recorder.
///
/// # Errors
///
/// Where the kernel grants no `eventfd`.
pub fn bridge() -> nix::Result<(HubHandle, HubPort, mpsc::Receiver<NewRecording>)> {
    let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
    let (recordings, new_recordings) = mpsc::channel(NEW_RECORDINGS_MAX);
    let waker = Arc::new(Waker::new()?);
    let notices = broadcast::Sender::new(NOTICES_MAX);
    let handle = HubHandle {
        requests,
        waker: Arc::clone(&waker),
        last_session: Arc::new(AtomicU64::new(0)),
        is_stopping: Arc::new(AtomicBool::new(false)),
        notices: notices.downgrade(),
    };
    let port = HubPort { requests: inbox, waker, recordings, notices };
    Ok((handle, port, new_recordings))
}

impl HubHandle {
    /// Begins a session. It ends when the returned value is dropped.
    ///
    /// # Errors
    ///
    /// [`HandleError`]; nothing has begun then.
    pub fn open(&self, door: Door, remote: IpAddr) -> Result<Session, HandleError> {
        let id = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let (sender, signals) = mpsc::channel(SIGNALS_MAX);
        self.send(Request::Open { session: id, door, remote, signals: sender })?;
        Ok(Session { id, signals, handle: self.clone() })
    }

    /// Gives an order of the server's own.
    ///
    /// # Errors
    ///
    /// [`HandleError`]; the order was not taken.
    pub fn order(&self, order: Order) -> Result<(), HandleError> {
        if matches!(order, Order::Shutdown) {
            // Before the hub can act on it: a session that ends because of it is told so.
            self.is_stopping.store(true, Ordering::SeqCst);
        }
        self.send(Request::Order(order))
    }

    /// Does what a client with the right to do so asks of a broadcast: it was done, or was not.
    ///
    /// # Errors
    ///
    /// [`HandleError`]; it may have been done all the same where that is [`HandleError::Stopped`].
    pub async fn operate(
        &self,
        broadcast: BroadcastId,
        operation: Operation,
    ) -> Result<Result<(), OperationError>, HandleError> {
        let (reply, outcome) = oneshot::channel();
        self.send(Request::Operate { broadcast, operation, reply })?;
        outcome.await.map_err(|_| HandleError::Stopped)
    }

    /// What is live, and the counters.
    ///
    /// # Errors
    ///
    /// [`HandleError`].
    pub async fn snapshot(&self) -> Result<Snapshot, HandleError> {
        let (sender, snapshot) = oneshot::channel();
        self.send(Request::Snapshot(sender))?;
        snapshot.await.map_err(|_| HandleError::Stopped)
    }

    /// What befalls broadcasts from now on, until the hub's thread has ended and said its last.
    ///
    /// To know the state as well, take a [`snapshot`](Self::snapshot) after this call: it shows all that the notices up to
    /// [`Snapshot::notices`] tell, and those after it follow here.
    ///
    /// # Errors
    ///
    /// [`HandleError::Stopped`].
    pub fn notices(&self) -> Result<broadcast::Receiver<Arc<Notice>>, HandleError> {
        self.notices.upgrade().map(|notices| notices.subscribe()).ok_or(HandleError::Stopped)
    }

    fn send(&self, request: Request) -> Result<(), HandleError> {
        self.requests.try_send(request).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => HandleError::Busy,
            mpsc::error::TrySendError::Closed(_) => HandleError::Stopped,
        })?;
        self.waker.wake();
        Ok(())
    }
}

/// A session's attachment to the hub. Dropping it ends the session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    /// Boxed, for a channel keeps room for many.
    signals: mpsc::Receiver<Box<Signal>>,
    handle: HubHandle,
}

impl Session {
    /// The session's number, for logs.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Asks for something; the reply comes out of [`recv`](Self::recv) and carries `id`.
    ///
    /// # Errors
    ///
    /// [`HandleError`]; the command was not taken.
    pub fn send(&self, id: Option<String>, command: Command) -> Result<(), HandleError> {
        self.handle.send(Request::Command { session: self.id, id, command })
    }

    /// The next message for the client.
    ///
    /// `None` when the session is over for the hub: a WebSocket that could not keep up, a WHIP or WHEP peer that ended,
    /// or a server that has stopped. Cancel safe.
    pub async fn recv(&mut self) -> Option<Signal> {
        self.signals.recv().await.map(|signal| *signal)
    }

    /// Whether a session that is over ended with the server, and not by itself.
    #[must_use]
    pub fn ended_with_the_server(&self) -> bool {
        self.handle.is_stopping.load(Ordering::SeqCst) || self.handle.requests.is_closed()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // When the queue is full the hub's thread finds the closed channel by itself, within a second.
        let _ = self.handle.send(Request::Close(self.id));
    }
}
