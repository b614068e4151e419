//! `GET /api/events`: what befalls broadcasts, as server-sent events (HTML, "Server-sent events").
//!
//! A stream begins with what is live; from there on each event is a message of the WebSocket's, told to whoever may hear of
//! that broadcast. A client that reconnects begins anew, so it needs to know nothing of what it missed.
//!
//! **Invariant:** no listener is waited for: one that does not read loses its stream, and of what a listener may not hear
//! nothing is written.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::poll_fn;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, interval_at, timeout};
use utoipa::ToSchema;

use super::api::{Broadcast, snapshot, visible};
use super::caller::Caller;
use super::gate::{Gate, Seat};
use super::metrics::Counted;
use super::policy::PolicyCell;
use super::problem::Problem;
use super::state::{AppState, Remote};
use super::stop::stopped;
use crate::access::Right;
use crate::hub::io::{News, Notice};
use crate::signal::ErrorCode;

/// Events that may wait for a client to read them.
const EVENTS_MAX: usize = 64;

/// How long a client may read nothing while that many wait.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// A quiet stream shows that it lives: proxies end what says nothing for a minute.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How often it is seen whether a token's time is over.
const JUDGED_EVERY: Duration = Duration::from_secs(15);

/// After so long a client connects again.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long the hub may take to say farewell when the server stops.
const FAREWELL_DEADLINE: Duration = Duration::from_millis(500);

/// One of these a listener must have.
const HEARD: [Right; 2] = [Right::Watch, Right::Recordings];

/// Asks nginx to pass events on as they come.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The first event of a stream.
#[derive(Serialize, ToSchema)]
pub struct Beginning {
    r#type: BeginningType,
    broadcasts: Vec<Broadcast>,
}

/// What tells it from the messages.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BeginningType {
    /// What is live.
    Broadcasts,
}

/// `GET /api/events`: for whoever may watch or see the recordings of something.
pub async fn events(
    State(state): State<AppState>,
    Extension(remote): Extension<Remote>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.require_somewhere(HEARD)?;
    let seat = admit(state.event_gate(), remote.0.ip())?;
    // In this order: what comes after the look at what is live is heard.
    let notices = state.handle().notices()?;
    let snapshot = snapshot(&state).await?;
    let broadcasts = visible(&snapshot, &caller.permit);
    let (sender, receiver) = mpsc::channel(EVENTS_MAX);
    let stream = Stream {
        notices,
        told: snapshot.notices,
        caller,
        policy: state.policy().clone(),
        events: sender,
        _open: (seat, state.metrics().event_stream()),
    };
    let beginning = Event::default().event("broadcasts").id(stream.told.to_string()).retry(RETRY_AFTER);
    let beginning =
        beginning.json_data(Beginning { r#type: BeginningType::Broadcasts, broadcasts }).map_err(unwritten)?;
    tokio::spawn(async move {
        if stream.run(beginning, state.stopping()).await == End::Slow {
            state.metrics().event_stream_cut();
            tracing::debug!("a listener to events does not keep up: its stream is over");
        }
    });
    Ok(respond(receiver))
}

fn respond(mut events: mpsc::Receiver<Event>) -> Response {
    let events = poll_fn(move |context| events.poll_recv(context).map(|event| event.map(Ok::<_, Infallible>)));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_EVERY);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn admit(gate: &Gate, remote: IpAddr) -> Result<Seat, Problem> {
    gate.admit(remote).ok_or_else(|| Problem::signaling(ErrorCode::TooMany, "too many listen to events at once"))
}

fn unwritten(error: axum::Error) -> Problem {
    tracing::error!(%error, "an event could not be written");
    Problem::signaling(ErrorCode::Internal, "an event could not be written")
}

/// Why a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client left.
    Left,
    /// The client does not keep up.
    Slow,
    /// The client may hear nothing any more.
    Refused,
    /// The server stops.
    Stopped,
}

/// One listener.
struct Stream {
    notices: broadcast::Receiver<Arc<Notice>>,
    /// The number of the latest notice that the client knows of.
    told: u64,
    caller: Caller,
    policy: PolicyCell,
    events: mpsc::Sender<Event>,
    _open: (Seat, Counted),
}

impl Stream {
    async fn run(mut self, beginning: Event, mut stopping: watch::Receiver<bool>) -> End {
        let mut policies = self.policy.changes();
        let mut clock = interval_at(Instant::now() + JUDGED_EVERY, JUDGED_EVERY);
        let mut step = self.say(beginning).await;
        while step.is_ok() {
            step = tokio::select! {
                biased;
                () = self.events.closed() => Err(End::Left),
                Ok(()) = policies.changed() => self.judge(),
                _ = clock.tick() => self.judge(),
                notice = self.notices.recv() => self.pass_on(notice).await,
                () = stopped(&mut stopping) => break,
            };
        }
        match step {
            Err(end) => end,
            Ok(()) => self.farewell().await,
        }
    }

    /// The server stops: the hub's last words pass, and end with its thread.
    async fn farewell(&mut self) -> End {
        let words = async {
            loop {
                let notice = self.notices.recv().await;
                if let Err(end) = self.pass_on(notice).await {
                    return end;
                }
            }
        };
        timeout(FAREWELL_DEADLINE, words).await.unwrap_or(End::Stopped)
    }

    /// What the client may hear is not for ever: policies change, and tokens expire.
    fn judge(&mut self) -> Result<(), End> {
        self.caller.permit = self.caller.shown.permit(&self.policy, None).map_err(|_| End::Refused)?;
        self.caller.require_somewhere(HEARD).map_err(|_| End::Refused)
    }

    async fn pass_on(&mut self, notice: Result<Arc<Notice>, RecvError>) -> Result<(), End> {
        let notice = notice.map_err(|error| match error {
            RecvError::Lagged(_) => End::Slow,
            RecvError::Closed => End::Stopped,
        })?;
        if notice.seq <= self.told {
            return Ok(());
        }
        self.told = notice.seq;
        let right = match notice.news {
            News::Recording(_) => Right::Recordings,
            News::Connected { .. } | News::Disconnected { .. } | News::Viewers { .. } => Right::Watch,
        };
        if !self.caller.permit.may(right, &notice.broadcast) {
            return Ok(());
        }
        let event = Event::default().event(name(&notice.news)).id(notice.seq.to_string());
        match event.json_data(notice.message()) {
            Ok(event) => self.say(event).await,
            Err(error) => {
                tracing::error!(%error, "an event could not be written");
                Ok(())
            }
        }
    }

    async fn say(&self, event: Event) -> Result<(), End> {
        match timeout(WRITE_DEADLINE, self.events.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Left),
            Err(_) => Err(End::Slow),
        }
    }
}

/// The `type` of the message that tells the same.
fn name(news: &News) -> &'static str {
    match news {
        News::Connected { .. } => "broadcaster-connected",
        News::Disconnected { .. } => "broadcaster-disconnected",
        News::Viewers { .. } => "viewers",
        News::Recording(_) => "recording",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Permit, Policy};
    use crate::http::policy::Shown;
    use crate::hub::io::{FileFacts, RecordingNews, SessionId};
    use crate::signal::LeaveReason;
    use crate::signal::message::RecordingState;
    use futures_util::StreamExt;

    struct Line {
        notices: broadcast::Sender<Arc<Notice>>,
        policy: PolicyCell,
        events: Option<mpsc::Receiver<Event>>,
        stop: watch::Sender<bool>,
        server: tokio::task::JoinHandle<End>,
    }

    const WATCHER: &str = "[[token]]\ntoken = \"watcher-0123456789\"\ncan = [\"watch\"]\nrooms = [\"r\"]";

    /// To a watcher of `r`, where there is a policy.
    fn line(policy: Option<&str>, waiting_max: usize, told: u64) -> Line {
        let policy = policy.map_or_else(PolicyCell::default, |rules| PolicyCell::new(Policy::parse(rules).unwrap()));
        let shown = Shown::new(Some("watcher-0123456789".to_owned()), [127, 0, 0, 1].into());
        let caller = Caller { permit: shown.permit(&policy, None).unwrap(), shown };
        line_to(caller, policy, waiting_max, told)
    }

    fn line_to(caller: Caller, policy: PolicyCell, waiting_max: usize, told: u64) -> Line {
        let notices = broadcast::Sender::new(waiting_max);
        let (sender, events) = mpsc::channel(1);
        let (stop, stopping) = watch::channel(false);
        let seat = admit(&Gate::new(1, 1), [127, 0, 0, 1].into()).unwrap();
        let open = (seat, crate::http::metrics::HttpMetrics::default().event_stream());
        let stream =
            Stream { notices: notices.subscribe(), told, caller, policy: policy.clone(), events: sender, _open: open };
        let server = tokio::spawn(stream.run(Event::default().data("begin"), stopping));
        Line { notices, policy, events: Some(events), stop, server }
    }

    impl Line {
        fn tell(&self, seq: u64, broadcast: &str, news: News) {
            let notice = Notice { seq, broadcast: broadcast.parse().unwrap(), news };
            self.notices.send(Arc::new(notice)).unwrap();
        }

        async fn heard(&mut self) -> Option<String> {
            let event = self.events.as_mut().unwrap().recv().await?;
            let response = Sse::new(futures_util::stream::iter([Ok::<_, Infallible>(event)])).into_response();
            let text = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
            Some(String::from_utf8(text.to_vec()).unwrap())
        }
    }

    fn recording(state: RecordingState, file: Option<String>, facts: Option<FileFacts>) -> News {
        News::Recording(RecordingNews { state, file, error: None, facts })
    }

    fn viewers(count: usize) -> News {
        News::Viewers { count }
    }

    #[tokio::test]
    async fn events_are_the_messages_of_the_websocket() {
        let mut line = line(None, 16, 4);
        line.tell(4, "r/u", viewers(9));
        line.tell(5, "r/u", News::Connected { session: SessionId(1), tracks: vec![] });
        line.tell(6, "r/u", viewers(2));
        let file = Some("r/u/20260102-030405.mp4".to_owned());
        let facts = Some(FileFacts { duration: Duration::from_millis(61_250), size_bytes: 4_096 });
        line.tell(7, "r/u", recording(RecordingState::Finished, file, facts));
        line.tell(8, "r/u", News::Disconnected { reason: LeaveReason::Left });
        for expected in [
            "data: begin\n\n",
            "event: broadcaster-connected\nid: 5\ndata: {\"type\":\"broadcaster-connected\",\"broadcast\":\"r/u\"}\n\n",
            "event: viewers\nid: 6\ndata: {\"type\":\"viewers\",\"broadcast\":\"r/u\",\"count\":2}\n\n",
            "event: recording\nid: 7\ndata: {\"type\":\"recording\",\"broadcast\":\"r/u\",\"state\":\"finished\",\
                \"file\":\"r/u/20260102-030405.mp4\",\"duration_s\":61.25,\"size_bytes\":4096}\n\n",
            "event: broadcaster-disconnected\nid: 8\n\
                data: {\"type\":\"broadcaster-disconnected\",\"broadcast\":\"r/u\",\"reason\":\"left\"}\n\n",
        ] {
            assert_eq!(line.heard().await.as_deref(), Some(expected));
        }
    }

    #[test]
    fn each_event_bears_the_type_of_its_message() {
        for news in [
            News::Connected { session: SessionId(1), tracks: vec![] },
            News::Disconnected { reason: LeaveReason::Kicked },
            viewers(1),
            recording(RecordingState::Started, None, None),
        ] {
            let expected = name(&news);
            let notice = Notice { seq: 1, broadcast: "r/u".parse().unwrap(), news };
            assert_eq!(serde_json::to_value(notice.message()).unwrap()["type"], expected);
        }
    }

    #[tokio::test]
    async fn nobody_hears_of_what_they_may_not_see() {
        let mut line = line(Some(WATCHER), 16, 0);
        line.tell(1, "other/u", viewers(1));
        line.tell(2, "r/u", recording(RecordingState::Started, None, None));
        line.tell(3, "r/u", viewers(3));
        line.heard().await.unwrap();
        assert!(line.heard().await.unwrap().contains("\"count\":3"));
    }

    #[tokio::test]
    async fn a_change_of_policy_reaches_who_listens_already() {
        let mut first = line(Some(WATCHER), 16, 0);
        first.heard().await.unwrap();
        let elsewhere = WATCHER.replace("[\"r\"]", "[\"other\"]");
        first.policy.replace(Policy::parse(&elsewhere).unwrap());
        first.tell(1, "r/u", viewers(1));
        first.tell(2, "other/u", viewers(2));
        assert!(first.heard().await.unwrap().contains("other/u"));
        first.policy.replace(Policy::parse("").unwrap());
        assert_eq!(first.heard().await, None);
        assert_eq!(first.server.await.unwrap(), End::Refused);
        // Nor does it help to have a token of which no right is left that matters here.
        let mut other = line(Some(WATCHER), 16, 0);
        other.heard().await.unwrap();
        other.policy.replace(Policy::parse(&WATCHER.replace("watch\"", "publish\"")).unwrap());
        assert_eq!(other.server.await.unwrap(), End::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_whose_time_is_over_ends_the_stream() {
        let policy = PolicyCell::new(Policy::parse("").unwrap());
        // As it was when the stream began.
        let permit = Permit::everything();
        let shown = Shown::new(Some("expired".to_owned()), [127, 0, 0, 1].into());
        let begun = Instant::now();
        let mut line = line_to(Caller { permit, shown }, policy, 16, 0);
        line.heard().await.unwrap();
        assert_eq!(line.heard().await, None);
        assert_eq!((line.server.await.unwrap(), begun.elapsed()), (End::Refused, JUDGED_EVERY));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_loses_the_stream() {
        // By the clock, where little is told.
        let slow = line(None, 16, 0);
        (1..=2).for_each(|seq| slow.tell(seq, "r/u", viewers(1)));
        assert_eq!(slow.server.await.unwrap(), End::Slow);
        // By what waits, where much is.
        let mut late = line(None, 2, 0);
        late.heard().await.unwrap();
        tokio::task::yield_now().await;
        (1..=9).for_each(|seq| late.tell(seq, "r/u", viewers(1)));
        while late.heard().await.is_some() {}
        assert_eq!(late.server.await.unwrap(), End::Slow);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_let_go_at_once_and_a_stop_lets_the_last_words_pass() {
        let mut line_left = line(None, 16, 0);
        line_left.events = None;
        assert_eq!(line_left.server.await.unwrap(), End::Left);

        let mut line = line(None, 16, 0);
        line.heard().await.unwrap();
        line.stop.send(true).unwrap();
        line.tell(1, "r/u", News::Disconnected { reason: LeaveReason::Shutdown });
        assert!(line.heard().await.unwrap().contains("\"reason\":\"shutdown\""));
        line.notices = broadcast::Sender::new(1);
        assert_eq!(line.heard().await, None);
        assert_eq!(line.server.await.unwrap(), End::Stopped);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_shows_that_it_lives() {
        let (sender, receiver) = mpsc::channel(1);
        let response = respond(receiver);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        let begun = Instant::now();
        let mut body = response.into_body().into_data_stream();
        for _ in 0..2 {
            assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
        }
        assert_eq!(begun.elapsed(), KEEP_ALIVE_EVERY * 2);
        sender.send(Event::default().data("x")).await.unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), "data: x\n\n");
        drop(sender);
        assert!(body.next().await.is_none());
    }

    #[test]
    fn who_finds_no_seat_is_told_when_to_come_back() {
        let gate = Gate::new(2, 1);
        let [one, other] = [1, 2].map(|octet| IpAddr::from([192, 0, 2, octet]));
        let seat = admit(&gate, one).unwrap();
        let refused = admit(&gate, one).unwrap_err().into_response();
        assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"5".parse().unwrap()));
        drop((seat, admit(&gate, other).unwrap()));
        admit(&gate, one).unwrap();
    }
}
