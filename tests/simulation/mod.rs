//! The hub on a simulated network, with real clients: time jumps from one deadline to the next.
//!
//! **Invariant:** the clock is read once; from then on time passes only here, and what is random follows the seed, save for
//! keys and whatever else str0m draws by itself.

pub mod client;
pub mod media;
pub mod network;
pub mod stream;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use onair::egress::sink::Path;
use onair::hub::Hub;
use onair::hub::config::{HubConfig, IceRole, Limits};
use onair::hub::io::{Command, Door, Event, Notice, Order, RecordingId, SessionId};
use onair::hub::record_rule::RecordRule;
use onair::rtp::codec::{Codec, CodecSet, TrackKind};
use onair::rtp::ntp::WallClock;
use onair::signal::{BroadcastId, ErrorCode, ServerMessage};
use str0m::RtcConfig;
use str0m::media::{Direction, Mid};

use client::{Client, Offered, Outgoing};
use media::Encoder;
use network::{Batch, Datagram, Network};

/// Each test of a life is run with each of these.
const SEEDS: std::ops::Range<u64> = 1..9;

/// Steps at one moment after which time is taken to stand still.
const STEPS_AT_ONE_MOMENT_MAX: usize = 100_000;

/// Runs a test with every seed, and names the seed that fails. `ONAIR_SEED` picks one.
pub fn with_seeds(test: impl Fn(u64)) {
    struct Named(u64);
    impl Drop for Named {
        #[allow(clippy::print_stderr, reason = "a seed that failed is told to who runs the test")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with ONAIR_SEED={}", self.0);
            }
        }
    }
    let one = std::env::var("ONAIR_SEED").ok().map(|seed| seed.parse().expect("ONAIR_SEED is a number"));
    for seed in one.map_or(SEEDS, |seed: u64| seed..seed + 1) {
        let named = Named(seed);
        test(seed);
        drop(named);
    }
}

/// Milliseconds.
pub const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Seconds.
pub const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Names a client of a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(usize);

/// One message that a session was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// The request that it answers.
    pub id: Option<String>,
    /// What was said.
    pub message: ServerMessage,
}

/// All that a session was told.
#[derive(Debug, Default)]
pub struct Log {
    /// Messages, in order.
    pub heard: Vec<Heard>,
    /// How often it was told that its peer is gone.
    pub ended: usize,
}

/// What a publisher sends.
#[derive(Debug, Clone)]
pub struct Program {
    /// Whether there is sound.
    pub audio: bool,
    /// The video codecs that it offers; none for no video.
    pub video: Vec<Codec>,
    /// Data channels that it opens.
    pub channels: Vec<&'static str>,
}

impl Program {
    /// Sound and pictures in one codec.
    pub fn of(codec: Codec) -> Self {
        Self { audio: true, video: vec![codec], channels: vec![] }
    }
}

/// The server's one candidate.
pub fn server_address() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 1], 8189))
}

/// Hub, network and clients.
pub struct Simulation {
    /// What everything random follows.
    pub seed: u64,
    /// The present.
    pub now: Instant,
    /// When it began.
    pub start: Instant,
    /// What is tested.
    pub hub: Hub,
    /// What lies between.
    pub network: Network,
    /// For tests that leave something to chance.
    pub random: fastrand::Rng,
    /// Recordings that were begun: which, of what, and how many packets each got.
    pub recordings: BTreeMap<RecordingId, (BroadcastId, usize)>,
    /// Recordings that ended, in order.
    pub ended_recordings: Vec<RecordingId>,
    /// What whoever watches the server was told.
    pub notices: Vec<Notice>,
    clients: BTreeMap<ClientId, Client>,
    by_address: BTreeMap<SocketAddr, ClientId>,
    by_session: BTreeMap<SessionId, ClientId>,
    logs: BTreeMap<SessionId, Log>,
    batch: Batch,
    last_notice: u64,
    last_client: usize,
    last_session: u64,
    last_request: u64,
    last_encoder: u16,
    steps_at_one_moment: usize,
}

impl Index<ClientId> for Simulation {
    type Output = Client;

    fn index(&self, client: ClientId) -> &Client {
        &self.clients[&client]
    }
}

impl IndexMut<ClientId> for Simulation {
    fn index_mut(&mut self, client: ClientId) -> &mut Client {
        self.clients.get_mut(&client).expect("a client that was not forgotten")
    }
}

impl Simulation {
    /// A hub with default caps, and nobody there.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// A hub that is set up by `configure`, and nobody there.
    pub fn with(seed: u64, configure: impl FnOnce(&mut HubConfig)) -> Self {
        str0m::crypto::from_feature_flags().install_process_default();
        // str0m maps instants to wall clock times from the first that it sees on: all of these lie behind that.
        let start = Instant::now() + secs(60);
        let mut config = HubConfig {
            candidates: vec![server_address()],
            tcp_candidates: vec![],
            ice: IceRole::Lite,
            codecs: vec![Codec::H264, Codec::Vp9, Codec::Vp8, Codec::Av1, Codec::H265],
            start_bitrate_bps: 2_500_000,
            record: RecordRule::Off,
            recordable: CodecSet::EMPTY,
            limits: Limits::default(),
            seed,
            clock: WallClock::new(start, secs(1_800_000_000)),
        };
        configure(&mut config);
        Self {
            seed,
            now: start,
            start,
            hub: Hub::new(config),
            network: Network::new(seed),
            random: fastrand::Rng::with_seed(seed ^ 0x5eed),
            recordings: BTreeMap::new(),
            ended_recordings: Vec::new(),
            notices: Vec::new(),
            last_notice: 0,
            clients: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_session: BTreeMap::new(),
            logs: BTreeMap::new(),
            batch: Batch::default(),
            last_client: 0,
            last_session: 0,
            last_request: 0,
            last_encoder: 0,
            steps_at_one_moment: 0,
        }
    }

    /// A session by a WebSocket from an address that is its own.
    pub fn open(&mut self) -> SessionId {
        self.open_by(Door::WebSocket)
    }

    /// A session by a door, from an address that is its own.
    pub fn open_by(&mut self, door: Door) -> SessionId {
        let remote = self.next_address().ip();
        self.open_from(door, remote)
    }

    /// A session from an address.
    pub fn open_from(&mut self, door: Door, remote: IpAddr) -> SessionId {
        self.last_session += 1;
        let session = SessionId(self.last_session);
        self.logs.insert(session, Log::default());
        self.order(session, Order::Open { door, remote });
        session
    }

    /// The address of the next client.
    pub fn next_address(&self) -> SocketAddr {
        let count = self.last_session + 1;
        let [high, low] = (count as u16).to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 40_000))
    }

    /// A client with a session of its own.
    pub fn client(&mut self, door: Door, codecs: &[Codec]) -> ClientId {
        let address = self.next_address();
        let session = self.open_by(door);
        self.client_of(session, address, codecs)
    }

    /// A client by WebSocket that has said nothing yet.
    pub fn client_of_new_session(&mut self, codecs: &[Codec]) -> ClientId {
        self.client(Door::WebSocket, codecs)
    }

    /// A client of a session that is open.
    pub fn client_of(&mut self, session: SessionId, address: SocketAddr, codecs: &[Codec]) -> ClientId {
        self.client_with(RtcConfig::new(), session, address, codecs)
    }

    /// A client of a session that is open, made as `config` says.
    pub fn client_with(
        &mut self,
        config: RtcConfig,
        session: SessionId,
        address: SocketAddr,
        codecs: &[Codec],
    ) -> ClientId {
        self.last_client += 1;
        let id = ClientId(self.last_client);
        self.clients.insert(id, Client::with(config, session, address, codecs, self.now));
        self.by_address.insert(address, id);
        self.by_session.insert(session, id);
        id
    }

    /// A broadcaster that registers and sends as soon as it can.
    pub fn publish(&mut self, broadcast: &str, program: Program) -> ClientId {
        let client = self.client(Door::WebSocket, &program.video);
        self.register(client, broadcast, program);
        client
    }

    /// Lets a client register a broadcast; returns the reply.
    pub fn register(&mut self, client: ClientId, broadcast: &str, program: Program) -> ServerMessage {
        let kinds = [program.audio, !program.video.is_empty()];
        let offer = self[client].offer(kinds, Direction::SendOnly, &program.channels);
        let broadcast = broadcast.parse().expect("a broadcast id");
        let session = self[client].session;
        self.ask(session, Command::Register { broadcast, offer })
    }

    /// A viewer with Opus, VP8 and H.264 of one broadcast or of a whole room.
    pub fn subscribe(&mut self, what: &str) -> ClientId {
        let client = self.client(Door::WebSocket, &[Codec::Vp8, Codec::H264]);
        self.subscribe_with(client, what);
        client
    }

    /// Lets a client subscribe; returns the reply.
    pub fn subscribe_with(&mut self, client: ClientId, what: &str) -> ServerMessage {
        let (room, user) = what.split_once('/').map_or((what, None), |(room, user)| (room, Some(user)));
        let room = room.parse().expect("a room");
        let user = user.map(|user| user.parse().expect("a user"));
        let session = self[client].session;
        self.ask(session, Command::Subscribe { room, user })
    }

    /// A player by WHEP of one broadcast.
    pub fn play(&mut self, broadcast: &str, codecs: &[Codec]) -> (ClientId, ServerMessage) {
        let client = self.client(Door::Whep, codecs);
        let offer = self[client].offer([true, true], Direction::RecvOnly, &[]);
        let broadcast = broadcast.parse().expect("a broadcast id");
        let session = self[client].session;
        let reply = self.ask(session, Command::Play { broadcast, offer });
        (client, reply)
    }

    /// A player of a broadcast, as soon as it is live.
    pub fn play_when_live(&mut self, broadcast: &str, codecs: &[Codec]) -> (ClientId, ServerMessage) {
        self.run_until(secs(2), "it is live", |sim| {
            sim.hub.snapshot(sim.now).broadcasts.iter().any(|live| live.id.to_string() == broadcast)
        });
        self.play(broadcast, codecs)
    }

    /// Which client is at which address.
    pub fn addresses(&self) -> BTreeMap<SocketAddr, ClientId> {
        self.by_address.clone()
    }

    /// Gives a client another address: what is under way to its old one is lost.
    pub fn move_client(&mut self, client: ClientId, address: SocketAddr) {
        let old = self[client].address;
        self.by_address.remove(&old);
        self.by_address.insert(address, client);
        self[client].move_to(address);
    }

    /// Frees what clients have received, which nobody is going to look at.
    pub fn forget_received(&mut self, clients: &[ClientId]) {
        for client in clients {
            self[*client].received.clear();
        }
    }

    /// Answers an offer that a client withheld.
    pub fn answer(&mut self, client: ClientId) {
        let offer = self[client].offered.pop_front().expect("an offer is withheld");
        self.answer_to(client, &offer);
    }

    fn answer_to(&mut self, client: ClientId, offer: &Offered) {
        let answer = self[client].answer(offer);
        let now = self.now;
        self[client].poke(now);
        let session = self[client].session;
        self.tell(session, Command::Answer { answer, seq: offer.seq });
    }

    /// A command that has a reply.
    pub fn ask(&mut self, session: SessionId, command: Command) -> ServerMessage {
        self.last_request += 1;
        let id = format!("request-{}", self.last_request);
        self.hub.handle_command(self.now, session, Some(id.clone()), command);
        self.settle();
        let replies: Vec<_> = self.heard(session).iter().filter(|heard| heard.id.as_ref() == Some(&id)).collect();
        assert_eq!(replies.len(), 1, "one reply to a request: {replies:?}");
        replies[0].message.clone()
    }

    /// A command that has no reply but an error.
    pub fn tell(&mut self, session: SessionId, command: Command) {
        self.hub.handle_command(self.now, session, None, command);
        self.settle();
    }

    /// The server's own wishes.
    pub fn order(&mut self, session: SessionId, order: Order) {
        self.hub.handle_order(self.now, session, order);
        self.settle();
    }

    /// A client's WebSocket is closed and its process ends.
    pub fn vanish(&mut self, client: ClientId) {
        self[client].is_gone = true;
        let session = self[client].session;
        self.order(session, Order::Close);
    }

    /// A session's attachment is gone.
    pub fn vanish_session(&mut self, session: SessionId) {
        self.order(session, Order::Close);
    }

    /// Lets go of the clients that have vanished and of everything that was noted: a long run is to need no more memory
    /// than a short one.
    pub fn forget(&mut self) {
        self.clients.retain(|_, client| !client.is_gone);
        self.by_address.retain(|_, client| self.clients.contains_key(client));
        self.by_session.retain(|_, client| self.clients.contains_key(client));
        self.logs.retain(|session, _| self.by_session.contains_key(session));
        self.logs.values_mut().for_each(|log| *log = Log::default());
        self.clients.values_mut().for_each(Client::forget);
        self.network.forget(|address| self.by_address.contains_key(address));
        self.notices = Vec::new();
        self.batch = Batch::default();
    }

    /// What a session was told.
    pub fn log(&self, session: SessionId) -> &Log {
        &self.logs[&session]
    }

    /// The messages that a session was sent.
    pub fn heard(&self, session: SessionId) -> &[Heard] {
        &self.log(session).heard
    }

    /// The messages that a client was sent.
    pub fn heard_by(&self, client: ClientId) -> impl DoubleEndedIterator<Item = &ServerMessage> {
        self.heard(self[client].session).iter().map(|heard| &heard.message)
    }

    /// The errors that a client was sent.
    pub fn errors(&self, client: ClientId) -> Vec<ErrorCode> {
        self.heard_by(client)
            .filter_map(|message| match message {
                ServerMessage::Error { code, .. } => Some(*code),
                _ => None,
            })
            .collect()
    }

    /// Names of the messages that a client was sent, for comparing whole lives.
    pub fn story(&self, client: ClientId) -> Vec<String> {
        self.heard_by(client).map(named).collect()
    }

    /// The m-line of the latest offer that carries a broadcast's track.
    pub fn mid(&self, client: ClientId, broadcast: &str, kind: TrackKind) -> Option<Mid> {
        let latest = self.heard_by(client).rev().find_map(|message| match message {
            ServerMessage::Offer { tracks, .. } => Some(tracks),
            _ => None,
        })?;
        let track = latest.iter().find(|track| track.broadcast.to_string() == broadcast && track.kind == kind)?;
        Some(Mid::from(track.mid.as_str()))
    }

    /// How many packets of an m-line a client has got.
    pub fn received(&self, client: ClientId, mid: Mid) -> usize {
        self[client].received.iter().filter(|packet| packet.mid == mid).count()
    }

    /// Hands the hub a datagram as if it had come from `from`.
    pub fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.hub.handle_datagram(self.now, Path::udp(to, from), bytes, &mut self.batch);
        self.settle();
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
    }

    /// Lets time pass until something has happened; fails if it has not within `limit`.
    pub fn run_until(&mut self, limit: Duration, what: &str, happened: impl Fn(&Self) -> bool) {
        let until = self.now + limit;
        loop {
            if happened(self) {
                return;
            }
            assert!(self.step(until), "not within {limit:?}: {what}");
        }
    }

    /// Goes on to the next moment at which something is due; `false` if that is not before `until`.
    fn step(&mut self, until: Instant) -> bool {
        let clients = self.clients.values().filter_map(Client::wake_at);
        let due = clients.chain(self.network.next_at()).chain(self.hub.poll_timeout()).min();
        let Some(at) = due.filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        if at > self.now {
            self.now = at;
            self.steps_at_one_moment = 0;
        }
        self.steps_at_one_moment += 1;
        assert!(self.steps_at_one_moment < STEPS_AT_ONE_MOMENT_MAX, "time stands still");
        let now = self.now;
        while let Some(datagram) = self.network.receive(now) {
            self.deliver(&datagram);
        }
        if self.hub.poll_timeout().is_some_and(|at| at <= now) {
            self.hub.handle_timeout(now, &mut self.batch);
        }
        self.settle();
        for client in self.clients.values_mut().filter(|client| client.wake_at().is_some_and(|at| at <= now)) {
            client.wake(now, &mut self.network);
        }
        true
    }

    fn deliver(&mut self, datagram: &Datagram) {
        if datagram.to == server_address() {
            self.hub.handle_datagram(self.now, datagram.path_back(), &datagram.bytes, &mut self.batch);
        } else if let Some(client) = self.by_address.get(&datagram.to) {
            let client = self.clients.get_mut(client).expect("a client that was not forgotten");
            client.receive(datagram, self.now, &mut self.network);
        }
    }

    /// Sends what the hub has to send, and acts on what it has to tell.
    pub fn settle(&mut self) {
        loop {
            self.hub.flush(self.now, &mut self.batch);
            for datagram in self.batch.datagrams.drain(..) {
                self.network.send(self.now, datagram);
            }
            let Some(event) = self.hub.poll_event() else {
                break;
            };
            match event {
                Event::Signal(session, signal) => {
                    let heard = Heard { at: self.now, id: signal.id, message: signal.message };
                    self.logs.get_mut(&session).expect("a session that was opened").heard.push(heard.clone());
                    if let Some(client) = self.by_session.get(&session).copied() {
                        self.react(client, heard.message);
                    }
                }
                Event::Ended(session) => self.logs.get_mut(&session).expect("a session that was opened").ended += 1,
                Event::RecordingStarted { recording, broadcast, .. } => {
                    self.recordings.insert(recording, (broadcast, 0));
                }
                Event::RecordingPacket(recording, _) => {
                    self.recordings.get_mut(&recording).expect("a recording that runs").1 += 1;
                }
                Event::RecordingEnded(recording) => {
                    assert!(self.recordings.contains_key(&recording));
                    self.ended_recordings.push(recording);
                }
                Event::Notice(notice) => {
                    assert_eq!(notice.seq, self.last_notice + 1);
                    self.last_notice = notice.seq;
                    self.notices.push(notice);
                }
            }
        }
    }

    /// Does what a client does when it is told something.
    fn react(&mut self, id: ClientId, message: ServerMessage) {
        let now = self.now;
        if self[id].is_gone {
            return;
        }
        match message {
            ServerMessage::Registered { sdp, .. } => {
                self[id].take_answer(&sdp);
                self.begin_to_send(id);
            }
            ServerMessage::Answer { sdp } => self[id].take_answer(&sdp),
            ServerMessage::Offer { sdp, seq, tracks } => {
                check_tracks(&sdp, &tracks);
                let offer = Offered { sdp, seq };
                if self[id].withholds_answers {
                    self[id].offered.push_back(offer);
                } else {
                    self.answer_to(id, &offer);
                }
            }
            _ => {}
        }
        self[id].poke(now);
    }

    /// Gives a broadcaster an encoder for each track that was negotiated.
    pub fn begin_to_send(&mut self, id: ClientId) {
        for (kind, mid) in [TrackKind::Audio, TrackKind::Video].into_iter().zip(self[id].mids) {
            let begun = |mid| self[id].outgoing.iter().any(|track| track.mid == mid);
            let Some(mid) = mid.filter(|mid| !begun(*mid)) else {
                continue;
            };
            let negotiated = self[id].negotiated(mid);
            let first = negotiated.first().map(|format| match format {
                str0m::format::Codec::Vp8 => Codec::Vp8,
                str0m::format::Codec::H264 => Codec::H264,
                str0m::format::Codec::Vp9 => Codec::Vp9,
                str0m::format::Codec::Av1 => Codec::Av1,
                str0m::format::Codec::Opus => Codec::Opus,
                other => panic!("no encoder for {other:?}"),
            });
            let Some(codec) = self[id].sends.filter(|_| kind == TrackKind::Video).or(first) else {
                continue;
            };
            let encoder = self.encoder(codec);
            self[id].outgoing.push(Outgoing { mid, encoder, latency: Duration::ZERO });
        }
    }

    /// An encoder that begins now.
    pub fn encoder(&mut self, codec: Codec) -> Encoder {
        self.last_encoder += 1;
        Encoder::new(codec, self.last_encoder, self.now, &mut self.random)
    }
}

/// `tracks` names exactly the m-lines of an offer that send.
fn check_tracks(sdp: &str, tracks: &[onair::signal::message::Track]) {
    let mut sending = Vec::new();
    for section in sdp.split("\r\nm=").skip(1).filter(|section| !section.starts_with("application")) {
        let mid = section.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a mid");
        if section.lines().any(|line| line == "a=sendonly") {
            sending.push(mid.to_owned());
        } else {
            assert!(section.lines().any(|line| line == "a=inactive"), "m-lines of an offer send or are inactive");
        }
    }
    let mut named: Vec<_> = tracks.iter().map(|track| track.mid.clone()).collect();
    sending.sort();
    named.sort();
    assert_eq!(named, sending, "`tracks` names every m-line that sends");
}

/// A message's name and what matters of it.
fn named(message: &ServerMessage) -> String {
    match message {
        ServerMessage::Registered { .. } => "registered".into(),
        ServerMessage::Subscribed { broadcasts, .. } => {
            let names: Vec<_> = broadcasts.iter().map(ToString::to_string).collect();
            format!("subscribed [{}]", names.join(" "))
        }
        ServerMessage::Offer { tracks, .. } => {
            let names: Vec<_> =
                tracks.iter().map(|track| format!("{}:{:?}", track.broadcast, track.kind).to_lowercase()).collect();
            format!("offer [{}]", names.join(" "))
        }
        ServerMessage::Answer { .. } => "answer".into(),
        ServerMessage::BroadcasterConnected { broadcast } => format!("connected {broadcast}"),
        ServerMessage::BroadcasterDisconnected { broadcast, reason } => {
            format!("disconnected {broadcast} {reason:?}").to_lowercase()
        }
        ServerMessage::Viewers { count, .. } => format!("viewers {count}"),
        ServerMessage::Recording { state, .. } => format!("recording {state:?}").to_lowercase(),
        ServerMessage::Unregistered => "unregistered".into(),
        ServerMessage::Unsubscribed => "unsubscribed".into(),
        ServerMessage::Selected => "selected".into(),
        ServerMessage::Pong => "pong".into(),
        ServerMessage::Error { code, fatal, .. } => {
            format!("error {code:?}{}", if *fatal { " fatal" } else { "" }).to_lowercase()
        }
    }
}
