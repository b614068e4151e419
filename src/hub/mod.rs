//! The hub: rooms, broadcasts, peers and what passes between them, as a state machine.
//!
//! It does no I/O: the caller hands in datagrams, commands and the time, lends a [`DatagramSink`] for what is to be sent,
//! and polls [`io::Event`]s. The original design's five events are here: Register, Unregister, Subscribe and Unsubscribe
//! are [`io::Command`]s, and Broadcast is the fan-out of one RTP packet (`relay`).
//!
//! After any number of [`Hub::handle_datagram`], [`Hub::handle_command`] and [`Hub::handle_order`] the caller calls
//! [`Hub::flush`] once, and [`Hub::handle_timeout`] when [`Hub::poll_timeout`] says so.
//!
//! **Invariant:** the hub knows no socket, no clock and no task; and whatever one peer does, or whatever goes wrong inside
//! it, ends at most that peer.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod broadcasts;
pub mod clock;
pub mod config;
pub mod demux;
pub mod error;
pub mod histogram;
pub mod io;
pub mod keyframes;
pub mod keys;
pub mod lane;
pub mod line;
pub mod peer;
pub mod peers;
pub mod publisher;
pub mod record_rule;
pub mod recording;
pub mod rooms;
pub mod rtc;
pub mod sessions;
pub mod standing_offer;
pub mod subscriber;
pub mod timers;

mod feedback;
mod forward;
mod ice_restart;
mod lives;
mod operate;
mod publish;
mod recordings;
mod relay;
mod remotes;
mod rtc_events;
mod subscribe;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use str0m::Event as RtcEvent;

use self::broadcasts::Broadcasts;
use self::config::HubConfig;
use self::demux::{Demux, Route};
use self::error::Refusal;
use self::io::{
    BroadcastSnapshot, Command, Event, HubMetrics, News, Notice, Order, RecordingId, RecordingNews, SessionId, Snapshot,
};
use self::keys::{BroadcastKey, PeerKey, TimerOwner};
use self::peers::Peers;
use self::rooms::Rooms;
use self::rtc::RtcFactory;
use self::sessions::Sessions;
use self::timers::Timers;
use crate::egress::outlet::Outlets;
use crate::egress::sink::{DatagramSink, Path};
use crate::rtp::codec::{CodecSet, TrackKind};
use crate::rtp::header::DatagramKind;
use crate::signal::{BroadcastId, ServerMessage, Signal};

/// The state machine. See the module's page.
#[derive(Debug)]
pub struct Hub {
    config: HubConfig,
    factory: RtcFactory,
    peers: Peers,
    demux: Demux,
    sessions: Sessions,
    rooms: Rooms,
    broadcasts: Broadcasts,
    /// What secures and sends the media of each connected subscriber.
    outlets: Outlets,
    /// Tracks of which something has come since the last flush.
    runs: Vec<(BroadcastKey, TrackKind)>,
    timers: Timers<TimerOwner>,
    events: VecDeque<Event>,
    random: fastrand::Rng,
    recordable: CodecSet,
    recording_paused: bool,
    recordings: BTreeMap<RecordingId, (SessionId, BroadcastId)>,
    last_recording: u64,
    last_notice: u64,
    last_epoch: u32,
    last_format: u32,
    handshaking: usize,
    metrics: HubMetrics,
    scratch: Vec<RtcEvent>,
    stopping: bool,
}

impl Hub {
    /// An empty hub. Makes the process's DTLS certificate.
    #[must_use]
    pub fn new(config: HubConfig) -> Self {
        let mut random = fastrand::Rng::with_seed(config.seed);
        let limits = config.limits;
        Self {
            factory: RtcFactory::new(&config),
            peers: Peers::default(),
            demux: Demux::new(random.u64(..)),
            sessions: Sessions::new(limits.sessions, limits.sessions_per_address, random.u64(..)),
            rooms: Rooms::default(),
            broadcasts: Broadcasts::default(),
            outlets: Outlets::default(),
            runs: Vec::new(),
            timers: Timers::default(),
            events: VecDeque::new(),
            random,
            recordable: config.recordable,
            recording_paused: false,
            recordings: BTreeMap::new(),
            last_recording: 0,
            last_notice: 0,
            last_epoch: 0,
            last_format: 0,
            handshaking: 0,
            metrics: HubMetrics::default(),
            scratch: Vec::new(),
            stopping: false,
            config,
        }
    }

    /// Takes a datagram. `path` is the one that an answer takes: from our candidate that it was sent to, to where it came
    /// from.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8], sink: &mut dyn DatagramSink) {
        let key = match self.demux.route(path.remote(), datagram) {
            Route::Bound(key) => key,
            Route::Named(key) if self.bind(now, key, path, datagram) => key,
            Route::Named(_) | Route::Unknown => {
                self.metrics.datagrams_unknown += 1;
                return;
            }
        };
        let kind = DatagramKind::classify(datagram);
        if kind == DatagramKind::Rtp && self.is_straggler(now, key, datagram) {
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let is_found = peer.is_found_at(now, path);
        if peer.subscriber().is_some() && matches!(kind, DatagramKind::Rtp | DatagramKind::Rtcp) {
            self.take_feedback(now, key, datagram, sink);
            return;
        }
        if is_found && kind == DatagramKind::Stun && peer.accepts(now, path, datagram) {
            peer.follow_to(now, path);
        }
        if let Err(error) = peer.receive(now, path, datagram) {
            // What cannot be parsed or verified is no reason to end a peer: anyone can send it under its address.
            tracing::debug!(session = peer.session.0, %error, "a datagram was refused");
        }
        if peer.outlet.is_some() && kind == DatagramKind::Stun && peer.path() != Some(path) {
            peer.ask_path();
        }
        let mut events = std::mem::take(&mut self.scratch);
        let drained = peer.drain(sink, &mut events);
        self.settle(now, key, drained, events);
    }

    /// Takes what a session asks; the replies are among the events.
    pub fn handle_command(&mut self, now: Instant, session: SessionId, id: Option<String>, command: Command) {
        let result = if self.events.len() >= self.config.limits.events {
            Err(Refusal::too_many("the server is busy: try again in a moment"))
        } else {
            self.command(now, session, &id, command)
        };
        if let Err(refusal) = result {
            self.metrics.refusals += 1;
            tracing::info!(session = session.0, code = ?refusal.code, reason = %refusal.reason, "refused");
            self.signal(session, id, refusal.into());
        }
    }

    fn command(
        &mut self,
        now: Instant,
        session: SessionId,
        id: &Option<String>,
        command: Command,
    ) -> Result<(), Refusal> {
        if self.sessions.get(session).is_none() {
            return Err(Refusal::bad_state("this session is closed"));
        }
        if self.stopping {
            return Err(Refusal::bad_state("the server is shutting down"));
        }
        match command {
            Command::Register { broadcast, offer } => self.register(now, session, id, broadcast, &offer),
            Command::Offer { offer } => self.renegotiate(now, session, id, &offer),
            Command::Unregister => self.unregister(now, session, id),
            Command::Subscribe { room, user } => self.subscribe(now, session, id, room, user),
            Command::Play { broadcast, offer } => self.play(now, session, id, broadcast, &offer),
            Command::Answer { answer, seq } => self.answer(now, session, id, &answer, seq),
            Command::Select { broadcasts } => self.select(now, session, id, broadcasts),
            Command::Restart => self.restart(now, session, id),
            Command::RestartIce { credentials } => self.restart_ice(now, session, id, &credentials),
            Command::Unsubscribe => self.unsubscribe(now, session, id),
            Command::Candidate { candidate } => self.candidate(session, candidate.as_deref()),
            Command::Ping => {
                self.signal(session, id.clone(), ServerMessage::Pong);
                Ok(())
            }
        }
    }

    /// Takes what the server itself asks. `session` is the session that it is about, for `Open` and `Close`.
    pub fn handle_order(&mut self, now: Instant, session: SessionId, order: Order) {
        match order {
            Order::Open { door, remote } => {
                if let Err(refusal) = self.sessions.open(session, door, remote) {
                    self.metrics.refusals += 1;
                    self.signal(session, None, ServerMessage::fatal(refusal.code, refusal.reason));
                    self.events.push_back(Event::Ended(session));
                }
            }
            Order::Close => self.close_session(now, session),
            Order::Recordable(codecs) => self.set_recordable(codecs),
            Order::Keyframe(recording) => self.keyframe_for_recording(now, recording),
            Order::KeyframeDue(recording) => self.keyframe_due_for_recording(now, recording),
            Order::RecordingPaused(is_paused) => self.recording_paused = is_paused,
            Order::Recording { recording, state, file, error, facts } => {
                self.tell_recording(recording, RecordingNews { state, file, error, facts });
            }
            Order::RecordingOver(recording) => self.end_of_recording(recording),
            Order::Shutdown => self.shutdown(now),
        }
    }

    /// Lets time pass: call it when [`poll_timeout`](Self::poll_timeout) is due.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut dyn DatagramSink) {
        self.demux.expire(now);
        // Bounded, so that an owner that schedules itself for now waits for the next call.
        for _ in 0..self.timers.len() {
            let Some(owner) = self.timers.pop(now) else {
                break;
            };
            match owner {
                TimerOwner::Peer(key) => self.poll_peer(now, key, sink),
                TimerOwner::Broadcast(key) => self.tick_broadcast(now, key),
            }
        }
        self.flush(now, sink);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        [self.timers.next_at(), self.demux.expires_at()].into_iter().flatten().min()
    }

    /// Sends what all that was handed in has brought about.
    pub fn flush(&mut self, now: Instant, sink: &mut dyn DatagramSink) {
        self.forward(now, sink);
        while let Some(key) = self.peers.pop_dirty() {
            self.poll_peer(now, key, sink);
        }
    }

    /// How many RTP packets were forwarded to subscribers so far.
    #[must_use]
    pub fn forwarded_packets(&self) -> u64 {
        self.metrics.rtp_packets_out
    }

    /// The next fact, in the order in which they came about.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is live, and the counters.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let live: Vec<_> = self
            .rooms
            .all_broadcasts()
            .filter_map(|key| self.broadcasts.get(key))
            .filter_map(|broadcast| Some((broadcast, broadcast.live_since?)))
            .collect();
        let broadcasts: Vec<_> = live
            .into_iter()
            .map(|(broadcast, since)| BroadcastSnapshot {
                id: broadcast.id.clone(),
                live_for: now.saturating_duration_since(since),
                tracks: broadcast.track_infos(),
                viewers: broadcast.viewers.len(),
                bitrate_bps: broadcast.bitrate_bps,
                recording: broadcast.recording.file.is_some(),
                recording_error: self.recording_error(broadcast),
                b_frames: broadcast.track(TrackKind::Video).is_some_and(|track| track.has_b_frames),
            })
            .collect();
        let connected = |peer: &peer::Peer| peer.connected && peer.subscriber().is_some();
        let metrics = HubMetrics {
            broadcasts: broadcasts.len() as u64,
            sessions: self.sessions.count() as u64,
            viewers: self.peers.iter().filter(|(_, peer)| connected(peer)).count() as u64,
            peers: self.peers.count() as u64,
            ..self.metrics
        };
        Snapshot { broadcasts, metrics, notices: self.last_notice }
    }

    /// How much of everything that can grow there is: peers, sessions, rooms, recordings, addresses, ufrags. For tests.
    #[must_use]
    pub fn sizes(&self) -> [usize; 6] {
        let (addresses, ufrags) = self.demux.len();
        [self.peers.count(), self.sessions.count(), self.rooms.count(), self.recordings.len(), addresses, ufrags]
    }

    fn poll_peer(&mut self, now: Instant, key: PeerKey, sink: &mut dyn DatagramSink) {
        self.say_goodbye(key, sink);
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let mut events = std::mem::take(&mut self.scratch);
        let polled = peer.poll(now, sink, &mut events);
        self.settle(now, key, polled, events);
    }

    /// Acts on what a peer told, and on its end.
    fn settle(&mut self, now: Instant, key: PeerKey, polled: Result<(), peer::PeerError>, mut events: Vec<RtcEvent>) {
        for event in events.drain(..) {
            self.handle_rtc_event(now, key, event);
        }
        self.scratch = events;
        if let Some(peer) = self.peers.get_mut(key) {
            self.metrics.foreign_srtp_dropped += peer.take_dropped();
            let outlet = peer.outlet.and_then(|outlet| self.outlets.get_mut(outlet));
            if let (Some(outlet), Some(path)) = (outlet, peer.path()) {
                outlet.path = path;
            }
        }
        if let (Err(error), Some(peer)) = (polled, self.peers.get_mut(key)) {
            // Told once: what is closing is on its way out already.
            if !peer.is_closing() {
                self.metrics.panics += u64::from(matches!(error, peer::PeerError::Panicked));
                tracing::warn!(session = peer.session.0, %error, "a peer cannot go on");
            }
            peer.give_up();
        }
        self.end_if_over(now, key);
        if let Some(peer) = self.peers.get(key) {
            self.timers.schedule(TimerOwner::Peer(key), peer.wake_at());
        }
    }

    fn signal(&mut self, session: SessionId, id: Option<String>, message: ServerMessage) {
        self.events.push_back(Event::Signal(session, Signal { id, message }));
    }

    fn notify(&mut self, broadcast: BroadcastId, news: News) {
        self.last_notice += 1;
        self.events.push_back(Event::Notice(Notice { seq: self.last_notice, broadcast, news }));
    }
}
