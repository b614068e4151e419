//! `GET /ws`: text frames in, commands to the hub; signals of the hub, text frames out.
//!
//! **Invariant:** one WebSocket carries one session, and each ends the other. A client that sends too much, too fast or
//! reads too slowly is closed; the hub never waits for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::access::{Access, NoLeave, Word};
use super::allowance::{Allowance, TooFast};
use super::caller::Caller;
use super::connection::Permit;
use super::handshake;
use super::metrics::{Direction, HttpMetrics};
use super::state::{AppState, Remote};
use super::stop::stopped;
use crate::handle::{HandleError, Session};
use crate::hub::io::Door;
use crate::signal::message::{FRAME_MAX_BYTES, Request as ClientRequest};
use crate::signal::{ClientMessage, ErrorCode, ServerMessage, Signal};

const PING_EVERY: Duration = Duration::from_secs(20);

/// So many pings without an answer end the WebSocket.
const UNANSWERED_PINGS_MAX: u32 = 2;

/// How long one message may take to leave.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// How long a client may take to end the connection after a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// How long the hub may take to say farewell when the server stops.
const FAREWELL_DEADLINE: Duration = Duration::from_millis(500);

/// Messages that may wait while the webhook is asked about one before them; beyond that the client is not read.
const WAITING_MAX: usize = 8;

/// What a frame that is no message costs, in frames.
const BAD_MESSAGE_COST: f64 = 2.0;

/// The read buffer of each connection; the library's own choice of 128 KiB would be most of a viewer's memory.
const READ_BUFFER_BYTES: usize = 1024;
/// More than any one message.
const WRITE_BUFFER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Turns the connection into a WebSocket with a session of its own.
pub async fn upgrade(
    State(state): State<AppState>,
    Extension(remote): Extension<Remote>,
    Extension(permit): Extension<Arc<Permit>>,
    Caller { shown, .. }: Caller,
    mut request: Request,
) -> Response {
    let (response, upgrade) = match handshake::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refusal) => return *refusal,
    };
    tokio::spawn(async move {
        let _permit = permit;
        let Ok(upgraded) = upgrade.await else { return };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BUFFER_MAX_BYTES)
            .max_message_size(Some(FRAME_MAX_BYTES))
            .max_frame_size(Some(FRAME_MAX_BYTES));
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        let _open = state.metrics().websocket();
        match state.handle().open(Door::WebSocket, remote.0.ip()) {
            Ok(session) => {
                let number = session.id().0;
                tracing::info!(session = number, "a WebSocket begins");
                let (policy, asker) = (state.policy().clone(), state.asker().cloned());
                let access = Access { policy, shown, asker };
                let end = converse(socket, session, access, state.stopping(), state.metrics()).await;
                tracing::info!(session = number, %end, "a WebSocket ended");
            }
            Err(error) => {
                let end = close(socket, Verdict::of_handle(error)).await;
                tracing::debug!(%end, "a WebSocket was not taken");
            }
        }
    });
    response
}

/// Why the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    code: CloseCode,
    reason: &'static str,
}

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client left, or its connection broke.
    Left,
    /// The server closed.
    Closed(Verdict),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("the client left"),
            Self::Closed(Verdict { code, reason }) => write!(f, "closed with {code}: {reason}"),
        }
    }
}

impl From<TooFast> for End {
    fn from(_: TooFast) -> Self {
        Self::Closed(Verdict::TOO_FAST)
    }
}

impl Verdict {
    const GOING_AWAY: Self = Self { code: CloseCode::Away, reason: "the server is shutting down" };
    const TOO_SLOW: Self = Self { code: CloseCode::Policy, reason: "the client does not keep up" };
    const TOO_FAST: Self = Self { code: CloseCode::Policy, reason: "too many messages" };
    const SILENT: Self = Self { code: CloseCode::Policy, reason: "pings were not answered" };
    const BINARY: Self = Self { code: CloseCode::Unsupported, reason: "messages are text" };
    const TOO_BIG: Self = Self { code: CloseCode::Size, reason: "a message has at most 64 KiB" };
    const NOT_UTF_8: Self = Self { code: CloseCode::Invalid, reason: "text is UTF-8" };
    const MALFORMED: Self = Self { code: CloseCode::Protocol, reason: "a malformed frame" };
    const BUSY: Self = Self { code: CloseCode::Again, reason: "the server is busy" };

    fn of_handle(error: HandleError) -> Self {
        match error {
            HandleError::Busy => Self::BUSY,
            HandleError::Stopped => Self::GOING_AWAY,
        }
    }
}

/// Carries messages both ways until one side ends it.
async fn converse<S>(
    socket: WebSocketStream<S>,
    session: Session,
    access: Access,
    mut stopping: watch::Receiver<bool>,
    metrics: &HttpMetrics,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let allowance = Allowance::default();
    let (asked, waiting) = (None, VecDeque::new());
    let mut talk = Conversation { socket, session, access, asked, waiting, allowance, unanswered_pings: 0, metrics };
    let mut pings = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = loop {
        let step = tokio::select! {
            signal = talk.session.recv() => match signal {
                Some(signal) => talk.pass_on(&signal).await,
                None if talk.session.ended_with_the_server() => Err(End::Closed(Verdict::GOING_AWAY)),
                None => Err(End::Closed(Verdict::TOO_SLOW)),
            },
            frame = talk.socket.next(), if talk.waiting.len() < WAITING_MAX => talk.hear(frame).await,
            word = word_on(&mut talk.asked) => talk.go_on(word).await,
            _ = pings.tick() => talk.ping().await,
            () = stopped(&mut stopping) => Err(talk.farewell().await),
        };
        if let Err(end) = step {
            break end;
        }
    };
    let Conversation { socket, session, .. } = talk;
    // The session ends at once; the closing handshake may take its time.
    drop(session);
    match end {
        End::Closed(verdict) => {
            metrics.websocket_close(verdict.code.into());
            close(socket, verdict).await
        }
        End::Left => {
            answer_close(socket).await;
            End::Left
        }
    }
}

struct Conversation<'a, S> {
    socket: WebSocketStream<S>,
    session: Session,
    access: Access,
    /// What the webhook is being asked about.
    asked: Option<Asked>,
    /// Messages that came after that one: their turn is when it has been answered.
    waiting: VecDeque<Utf8Bytes>,
    allowance: Allowance,
    unanswered_pings: u32,
    metrics: &'a HttpMetrics,
}

/// A message that waits for the webhook's word.
struct Asked {
    request: ClientRequest,
    word: Word,
}

/// Comes back with the word that is waited for, and never where none is. Cancel safe.
async fn word_on(asked: &mut Option<Asked>) -> Result<(), NoLeave> {
    match asked {
        Some(asked) => asked.word.as_mut().await,
        None => std::future::pending().await,
    }
}

impl<S> Conversation<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn hear(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), End> {
        let frame = match frame {
            None => return Err(End::Left),
            Some(Ok(frame)) => frame,
            Some(Err(Error::Capacity(_))) => return Err(End::Closed(Verdict::TOO_BIG)),
            Some(Err(Error::Utf8(_))) => return Err(End::Closed(Verdict::NOT_UTF_8)),
            Some(Err(Error::Protocol(error))) => return Err(Self::broken(&error)),
            Some(Err(_)) => return Err(End::Left),
        };
        self.allowance.spend(1.0)?;
        match frame {
            Message::Text(text) if self.asked.is_some() => {
                self.waiting.push_back(text);
                Ok(())
            }
            Message::Text(text) => self.obey(text.as_str()).await,
            Message::Binary(_) => Err(End::Closed(Verdict::BINARY)),
            Message::Pong(_) => {
                self.unanswered_pings = 0;
                Ok(())
            }
            Message::Close(_) => Err(End::Left),
            // The library answers pings by itself with its next write.
            Message::Ping(_) | Message::Frame(_) => self.flush().await,
        }
    }

    fn broken(error: &tokio_tungstenite::tungstenite::error::ProtocolError) -> End {
        use tokio_tungstenite::tungstenite::error::ProtocolError;
        match error {
            ProtocolError::ResetWithoutClosingHandshake => End::Left,
            _ => End::Closed(Verdict::MALFORMED),
        }
    }

    async fn obey(&mut self, text: &str) -> Result<(), End> {
        self.metrics.websocket_message(Direction::In);
        let request = match ClientMessage::parse(text) {
            Ok(request) => request,
            Err(error) => {
                self.allowance.spend(BAD_MESSAGE_COST - 1.0)?;
                return self
                    .say(&Signal { id: error.id, message: ServerMessage::error(error.code, error.reason) })
                    .await;
            }
        };
        if let Err(refusal) = self.access.permits(&request.message) {
            self.metrics.unauthorized();
            return self.refuse(request.id, refusal).await;
        }
        match self.access.ask(&request.message) {
            Some(word) => {
                self.asked = Some(Asked { request, word });
                Ok(())
            }
            None => self.hand_on(request).await,
        }
    }

    /// The webhook has answered: the client goes on from there.
    async fn go_on(&mut self, word: Result<(), NoLeave>) -> Result<(), End> {
        let Some(Asked { request, .. }) = self.asked.take() else { return Ok(()) };
        match word {
            Ok(()) => self.hand_on(request).await?,
            Err(refusal) => self.refuse(request.id, refusal).await?,
        }
        while self.asked.is_none()
            && let Some(text) = self.waiting.pop_front()
        {
            self.obey(text.as_str()).await?;
        }
        Ok(())
    }

    async fn refuse(&mut self, id: Option<String>, refusal: NoLeave) -> Result<(), End> {
        self.allowance.spend(BAD_MESSAGE_COST - 1.0)?;
        self.say(&Signal { id, message: ServerMessage::error(refusal.code, refusal.reason) }).await
    }

    async fn hand_on(&mut self, request: ClientRequest) -> Result<(), End> {
        match self.session.send(request.id.clone(), request.message.into()) {
            Ok(()) => Ok(()),
            Err(HandleError::Stopped) => Err(End::Closed(Verdict::GOING_AWAY)),
            Err(error @ HandleError::Busy) => {
                let message = ServerMessage::error(ErrorCode::TooMany, error.to_string());
                self.say(&Signal { id: request.id, message }).await
            }
        }
    }

    async fn pass_on(&mut self, signal: &Signal) -> Result<(), End> {
        self.say(signal).await?;
        match signal.message {
            // The hub has not taken this session in, and will not.
            ServerMessage::Error { code: ErrorCode::TooMany, fatal: true, .. } => Err(End::Closed(Verdict::BUSY)),
            _ => Ok(()),
        }
    }

    async fn say(&mut self, signal: &Signal) -> Result<(), End> {
        let text = match serde_json::to_string(signal) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "a signal could not be written");
                return Ok(());
            }
        };
        self.metrics.websocket_message(Direction::Out);
        self.write(Message::text(text)).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered_pings >= UNANSWERED_PINGS_MAX {
            return Err(End::Closed(Verdict::SILENT));
        }
        self.unanswered_pings += 1;
        self.write(Message::Ping(bytes::Bytes::new())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        match timeout(WRITE_DEADLINE, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::Closed(Verdict::TOO_SLOW)),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match timeout(WRITE_DEADLINE, self.socket.flush()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::Closed(Verdict::TOO_SLOW)),
        }
    }

    /// The server stops: the hub's last words pass before the close.
    async fn farewell(&mut self) -> End {
        let words = async {
            while let Some(signal) = self.session.recv().await {
                if let Err(end) = self.say(&signal).await {
                    return Some(end);
                }
            }
            None
        };
        match timeout(FAREWELL_DEADLINE, words).await {
            Ok(Some(End::Left)) => End::Left,
            _ => End::Closed(Verdict::GOING_AWAY),
        }
    }
}

/// Sends the close frame and lets what the client still sends run dry: an early end of the connection would reset it,
/// and the client might never read the code.
async fn close<S>(mut socket: WebSocketStream<S>, verdict: Verdict) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame { code: verdict.code, reason: verdict.reason.into() };
    let farewell = async {
        if socket.send(Message::Close(Some(frame))).await.is_ok() {
            let stream = socket.get_mut();
            if stream.shutdown().await.is_ok() {
                let mut rest = [0; 4096];
                while stream.read(&mut rest).await.is_ok_and(|len_bytes| len_bytes > 0) {}
            }
        }
    };
    let _ = timeout(CLOSE_DEADLINE, farewell).await;
    End::Closed(verdict)
}

/// Answers the client's close frame, if that is how it left.
async fn answer_close<S>(mut socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _ = timeout(CLOSE_DEADLINE, async {
        let _ = socket.flush().await;
        socket.get_mut().shutdown().await
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{HubHandle, HubPort, NewRecording, Request, SIGNALS_MAX, bridge};
    use crate::http::allowance::FRAMES_BURST;
    use crate::http::policy::{PolicyCell, Shown};
    use crate::hub::io::{Command, Order};
    use tokio::io::DuplexStream;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;

    /// A client, the hub's side of its session, and the server's task.
    struct Line {
        client: WebSocketStream<DuplexStream>,
        port: HubPort,
        signals: Option<mpsc::Sender<Box<Signal>>>,
        stop: watch::Sender<bool>,
        server: JoinHandle<End>,
        _recordings: mpsc::Receiver<NewRecording>,
    }

    /// The line, and the server's handle of the hub.
    async fn line_and_hub(buffer_bytes: usize) -> (Line, HubHandle) {
        let (ours, theirs) = tokio::io::duplex(buffer_bytes);
        let client = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let server = WebSocketStream::from_raw_socket(ours, Role::Server, None).await;
        let (handle, mut port, recordings) = bridge().unwrap();
        let (stop, stopping) = watch::channel(false);
        let session = handle.open(Door::WebSocket, [127, 0, 0, 1].into()).unwrap();
        let Some(Request::Open { signals, .. }) = port.requests.recv().await else { panic!("no session began") };
        let shown = Shown::new(None, [127, 0, 0, 1].into());
        let access = Access { policy: PolicyCell::default(), shown, asker: None };
        let server =
            tokio::spawn(async move { converse(server, session, access, stopping, &HttpMetrics::default()).await });
        (Line { client, port, signals: Some(signals), stop, server, _recordings: recordings }, handle)
    }

    async fn line(buffer_bytes: usize) -> Line {
        line_and_hub(buffer_bytes).await.0
    }

    async fn close_code(client: &mut WebSocketStream<DuplexStream>) -> u16 {
        loop {
            if let Message::Close(Some(frame)) = client.next().await.unwrap().unwrap() {
                return frame.code.into();
            }
        }
    }

    #[tokio::test]
    async fn messages_pass_both_ways_with_their_ids() {
        let mut line = line(1 << 16).await;
        line.client.send(Message::text(r#"{"type":"subscribe","id":"a","room":"r"}"#)).await.unwrap();
        let Some(Request::Command { id, command, .. }) = line.port.requests.recv().await else { panic!("no command") };
        assert_eq!(id.as_deref(), Some("a"));
        assert_eq!(command, Command::Subscribe { room: "r".parse().unwrap(), user: None });
        let reply = Signal { id, message: ServerMessage::Pong };
        line.signals.as_ref().unwrap().send(Box::new(reply)).await.unwrap();
        assert_eq!(line.client.next().await.unwrap().unwrap(), Message::text(r#"{"id":"a","type":"pong"}"#));

        line.client.send(Message::text(r#"{"type":"subscribe","id":"b","room":".."}"#)).await.unwrap();
        let Message::Text(error) = line.client.next().await.unwrap().unwrap() else { panic!("no error") };
        let error: serde_json::Value = serde_json::from_str(&error).unwrap();
        assert_eq!((&error["type"], &error["code"], &error["id"]), (&"error".into(), &"bad-name".into(), &"b".into()));

        line.client.close(None).await.unwrap();
        assert_eq!(line.server.await.unwrap(), End::Left);
        assert!(matches!(line.port.requests.recv().await, Some(Request::Close(_))));
    }

    #[tokio::test]
    async fn an_empty_candidate_ends_the_candidates() {
        let mut line = line(1 << 16).await;
        for (candidate, expected) in
            [(r#"{"candidate":"candidate:1"}"#, Some("candidate:1")), (r#"{"candidate":""}"#, None), ("null", None)]
        {
            let text = format!(r#"{{"type":"candidate","candidate":{candidate}}}"#);
            line.client.send(Message::text(text)).await.unwrap();
            let Some(Request::Command { command, .. }) = line.port.requests.recv().await else { panic!("no command") };
            assert_eq!(command, Command::Candidate { candidate: expected.map(str::to_owned) });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_unanswered_pings_close() {
        let Line { mut client, server, signals: _signals, stop: _stop, .. } = line(1 << 16).await;
        let begun = Instant::now();
        // Read below the client's library, which would answer the pings.
        let mut bytes = Vec::new();
        client.get_mut().read_to_end(&mut bytes).await.unwrap();
        assert_eq!(begun.elapsed(), PING_EVERY * 3);
        let (pings, close) = bytes.split_at(4);
        assert_eq!(pings, [0x89, 0, 0x89, 0]);
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1008));
        drop(client);
        assert_eq!(server.await.unwrap(), End::Closed(Verdict::SILENT));
    }

    #[tokio::test(start_paused = true)]
    async fn answered_pings_keep_the_line_open() {
        let Line { mut client, server, signals: _signals, stop: _stop, .. } = line(1 << 16).await;
        let mut pings = 0;
        while pings < 10 {
            if let Message::Ping(_) = client.next().await.unwrap().unwrap() {
                pings += 1;
                client.flush().await.unwrap();
            }
        }
        assert!(!server.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_abuse_but_a_steady_stream_is_not() {
        let mut line = line(1 << 16).await;
        let ping = || Message::text(r#"{"type":"ping"}"#);
        for _ in 0..FRAMES_BURST as u32 * 3 {
            line.client.send(ping()).await.unwrap();
            assert!(matches!(line.port.requests.recv().await, Some(Request::Command { .. })));
            tokio::time::advance(Duration::from_millis(20)).await;
        }
        for _ in 0..=FRAMES_BURST as u32 {
            line.client.send(ping()).await.unwrap();
        }
        assert_eq!(close_code(&mut line.client).await, 1008);
        drop(line.client);
        assert_eq!(line.server.await.unwrap(), End::Closed(Verdict::TOO_FAST));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_closed_and_the_hub_never_waits() {
        let line = line(1024).await;
        let Line { client, port, signals, .. } = line;
        let signals = signals.unwrap();
        let long = Signal::from(ServerMessage::Answer { sdp: "x".repeat(4096) });
        let mut queued = 0;
        while signals.try_send(Box::new(long.clone())).is_ok() {
            queued += 1;
            tokio::task::yield_now().await;
        }
        assert!((SIGNALS_MAX..SIGNALS_MAX + 4).contains(&queued), "{queued}");
        assert_eq!(line.server.await.unwrap(), End::Closed(Verdict::TOO_SLOW));
        drop((client, port));
    }

    #[tokio::test]
    async fn a_session_that_the_hub_gave_up_is_closed() {
        let mut line = line(1 << 16).await;
        line.signals = None;
        assert_eq!(close_code(&mut line.client).await, 1008);
    }

    /// The hub may be done with the stop before its doors have heard of it.
    #[tokio::test]
    async fn a_session_that_the_hub_ends_because_it_stops_is_not_blamed() {
        let (mut line, hub) = line_and_hub(1 << 16).await;
        hub.order(Order::Shutdown).unwrap();
        line.signals = None;
        assert_eq!(close_code(&mut line.client).await, 1001);
    }

    #[tokio::test]
    async fn a_session_that_the_hub_does_not_take_in_is_closed_and_told_why() {
        let mut line = line(1 << 16).await;
        let signals = line.signals.take().unwrap();
        signals.send(Box::new(ServerMessage::fatal(ErrorCode::NameTaken, "taken over").into())).await.unwrap();
        signals.send(Box::new(ServerMessage::fatal(ErrorCode::TooMany, "full").into())).await.unwrap();
        for code in ["name-taken", "too-many"] {
            let Message::Text(error) = line.client.next().await.unwrap().unwrap() else { panic!("no error") };
            assert!(error.contains(code), "{error}");
        }
        assert_eq!(close_code(&mut line.client).await, 1013);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_the_last_words_pass() {
        let mut line = line(1 << 16).await;
        line.stop.send(true).unwrap();
        line.signals.as_ref().unwrap().send(Box::new(ServerMessage::Unsubscribed.into())).await.unwrap();
        assert_eq!(line.client.next().await.unwrap().unwrap(), Message::text(r#"{"type":"unsubscribed"}"#));
        assert_eq!(close_code(&mut line.client).await, 1001);
    }
}
