//! A hub with one live broadcast that is being watched, on which each input plays a short act.
//!
//! **Invariant:** what an act brought in is gone when it ends, and what was there before goes on: both are asserted. The
//! stage is built anew after [`ACTS_MAX`] acts, and when an act took the broadcast over, as it may.

use std::cell::RefCell;
use std::net::SocketAddr;

use onair::hub::io::{Command, Door, SessionId};
use onair::rtp::codec::Codec;
use onair::signal::{BroadcastId, ClientMessage, ServerMessage};
use str0m::rtp::RtpWrite;

use super::simulation::{ClientId, Program, Simulation, ms, secs, server_address};

/// So many inputs share a stage: building one takes a handshake.
const ACTS_MAX: usize = 500;

/// The broadcast that is live.
const LIVE: &str = "r/live";

/// The most frames that are taken of one input.
const FRAMES_MAX: usize = 16;

/// The most datagrams that are taken of one input.
const DATAGRAMS_MAX: usize = 16;

/// Longer than a peer that was told to close is kept.
const CURTAIN: std::time::Duration = ms(600);

/// Sound and pictures, with the data channels that the page opens.
fn program() -> Program {
    Program { channels: vec!["health-check", "video-check"], ..Program::of(Codec::Vp8) }
}

struct Stage {
    simulation: Simulation,
    publisher: ClientId,
    viewer: ClientId,
    at_rest: [usize; 6],
    acts: usize,
    spoken: u64,
}

impl Stage {
    fn new() -> Self {
        let mut simulation = Simulation::new(1);
        let publisher = simulation.publish(LIVE, program());
        let viewer = simulation.subscribe(LIVE);
        simulation.run_until(secs(5), "the broadcast is watched", |simulation| {
            let heard = simulation[viewer].received.len() > 100;
            heard && simulation[publisher].channels.len() == 2
        });
        simulation[publisher].is_mute = true;
        simulation.run_for(CURTAIN);
        let at_rest = simulation.hub.sizes();
        Self { simulation, publisher, viewer, at_rest, acts: 0, spoken: 0 }
    }

    /// Ends the sessions of an act, and looks at what is left.
    fn clear(&mut self, sessions: &[SessionId]) {
        for session in sessions {
            self.simulation.order(*session, onair::hub::io::Order::Close);
        }
        self.simulation.network.filter = None;
        // One leap: what is due in between comes late, which costs nobody anything but saves most of an act's time.
        self.simulation.now += CURTAIN;
        self.simulation.run_for(ms(1));
        self.acts += 1;
        assert_eq!(self.simulation.hub.snapshot(self.simulation.now).metrics.panics, 0, "a peer's engine panicked");
    }

    /// Whether the broadcast goes on with its viewer.
    fn is_whole(&self) -> bool {
        let snapshot = self.simulation.hub.snapshot(self.simulation.now);
        let [peers, sessions, rooms, ..] = self.simulation.hub.sizes();
        let there = snapshot.broadcasts.iter().any(|live| live.id.to_string() == LIVE && live.viewers == 1);
        there && [peers, sessions, rooms] == self.at_rest[..3]
    }
}

/// Runs an act on this thread's stage.
fn on_stage<R>(act: impl FnOnce(&mut Stage) -> R) -> R {
    thread_local! {
        static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
    }
    STAGE.with_borrow_mut(|place| {
        if place.as_ref().is_some_and(|stage| stage.acts >= ACTS_MAX || !stage.is_whole()) {
            *place = None;
        }
        act(place.get_or_insert_with(Stage::new))
    })
}

/// Text frames, one a line, to the hub by the way that they take in the server; returns all that was said to their senders.
///
/// A frame behind a `1` is another session's. The SDP of a `register` is also played by a session of WHEP. The mids of the
/// latest offer, which the server draws, stand in a frame as `$0`, `$1`, `$2`.
pub fn signaling(input: &[u8]) -> Vec<ServerMessage> {
    let Ok(input) = std::str::from_utf8(input) else {
        return Vec::new();
    };
    on_stage(|stage| {
        let sessions = [Door::WebSocket, Door::WebSocket, Door::Whep].map(|door| stage.simulation.open_by(door));
        let mut takes_over = false;
        for line in input.lines().take(FRAMES_MAX) {
            let (session, frame) = line.strip_prefix('1').map_or((sessions[0], line), |frame| (sessions[1], frame));
            let frame = with_mids(frame, &stage.simulation, session);
            let Ok(request) = ClientMessage::parse(&frame) else {
                continue;
            };
            if let ClientMessage::Register { sdp, room, user, .. } = &request.message {
                let broadcast: BroadcastId = LIVE.parse().expect("a broadcast id");
                takes_over |= (room, user) == (&broadcast.room, &broadcast.user);
                stage.simulation.tell(sessions[2], Command::Play { broadcast, offer: sdp.clone() });
            }
            stage.simulation.tell(session, request.message.into());
        }
        stage.clear(&sessions);
        assert!(takes_over || stage.is_whole(), "something stayed, or the broadcast suffered");
        let heard = sessions.iter().flat_map(|session| stage.simulation.heard(*session));
        heard.map(|heard| heard.message.clone()).collect()
    })
}

/// `frame` with the mids of the latest offer that its session got.
fn with_mids(frame: &str, simulation: &Simulation, session: SessionId) -> String {
    let mut frame = frame.to_owned();
    let latest = simulation.heard(session).iter().rev().find_map(|heard| match &heard.message {
        ServerMessage::Offer { sdp, .. } => Some(sdp),
        _ => None,
    });
    if let Some(sdp) = latest.filter(|_| frame.contains('$')) {
        for (index, mid) in sdp.lines().filter_map(|line| line.strip_prefix("a=mid:")).take(4).enumerate() {
            frame = frame.replace(&format!("${index}"), mid);
        }
    }
    frame
}

/// Datagrams to the hub, one after the other: who sends it, its length in two bytes, its bytes.
///
/// Senders: 0 a stranger; 1 the address of the broadcaster and 2 that of its viewer, both connected; 3 a broadcaster of
/// whom only ICE is done, so that DTLS is still to come. By the broadcaster's own engine, encrypted: 4 the payload of
/// video, 5 a message on the data channel `health-check`.
pub fn datagram(input: &[u8]) {
    on_stage(|stage| {
        let simulation = &mut stage.simulation;
        let newcomer = simulation.client_of_new_session(&[Codec::Vp8]);
        let address = simulation[newcomer].address;
        simulation.network.filter = Some(Box::new(move |datagram| datagram.from != address || !datagram.is_dtls()));
        simulation.register(newcomer, "r/newcomer", program());
        simulation.run_for(ms(60));
        assert_eq!(simulation.hub.sizes()[4], stage.at_rest[4] + 1, "the newcomer's address is bound");
        // From here on it is the input that speaks for the newcomer.
        simulation[newcomer].is_gone = true;

        let mut rest = input;
        for _ in 0..DATAGRAMS_MAX {
            let [sender, high, low, after @ ..] = rest else {
                break;
            };
            let len_bytes = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
            let (bytes, after) = after.split_at(len_bytes);
            rest = after;
            stage.say(*sender, address, bytes);
        }
        let session = stage.simulation[newcomer].session;
        stage.clear(&[session]);
        assert!(stage.is_whole(), "something stayed, or the broadcast suffered");
    });
}

impl Stage {
    fn say(&mut self, sender: u8, newcomer: SocketAddr, bytes: &[u8]) {
        let simulation = &mut self.simulation;
        let from = match sender {
            1 => simulation[self.publisher].address,
            2 => simulation[self.viewer].address,
            3 => newcomer,
            4 => return self.send_video(bytes),
            5 => {
                simulation[self.publisher].say("health-check", bytes);
                return self.let_speak();
            }
            _ => SocketAddr::from(([198, 51, 100, 7], 7)),
        };
        simulation.inject(from, server_address(), bytes);
    }

    fn send_video(&mut self, payload: &[u8]) {
        let now = self.simulation.now;
        let publisher = &mut self.simulation[self.publisher];
        let Some(track) = publisher.outgoing.iter().find(|track| track.encoder.codec == Codec::Vp8) else {
            return;
        };
        let Some(last) = track.encoder.sent.last() else {
            return;
        };
        let (mid, before, timestamp) = (track.mid, last.sequence, last.timestamp);
        // The viewer reads the name of a packet from its end.
        let payload = [payload, &last.payload[last.payload.len() - 6..]].concat();
        let payload_type = publisher.payload_type(mid, Codec::Vp8);
        self.spoken += 1;
        let (sequence, timestamp) = (before + self.spoken, timestamp.wrapping_add(3_000 * self.spoken as u32));
        let mut api = publisher.rtc.direct_api();
        let stream = api.stream_tx_by_mid(mid, None).expect("a stream for each track");
        stream.write_rtp(RtpWrite::new(payload_type.into(), sequence.into(), timestamp, now, payload));
        self.let_speak();
    }

    /// What the broadcaster's engine has to send arrives.
    fn let_speak(&mut self) {
        let now = self.simulation.now;
        self.simulation[self.publisher].poke(now);
        self.simulation.run_for(ms(11));
    }
}
