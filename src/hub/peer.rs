//! One str0m instance and what the hub knows of the client behind it.
//!
//! **Invariant:** every call into str0m that can be reached from the network goes through [`Peer::guard`]: a panic in there
//! ends this peer and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive, Transmit};
use str0m::{Event as RtcEvent, Input, Output, Rtc, RtcError};

use super::config::{CLOSING_MAX, DEADLINE, PATH_LOST, SILENCE_MAX};
use super::io::SessionId;
use super::publisher::Publisher;
use super::standing_offer::StandingOffer;
use super::subscriber::Subscriber;
use crate::egress::keytap::KeyTap;
use crate::egress::outlet::{Outlet, OutletKey};
use crate::egress::sink::{DatagramSink, Path, Remote, Transport};
use crate::rtp::header::DatagramKind;

/// Why a call into a peer's `Rtc` failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It panicked: the peer is of no use any more.
    #[error("internal error in this peer")]
    Panicked,
    /// It refused.
    #[error(transparent)]
    Rtc(#[from] RtcError),
}

/// What a peer is in its room.
#[derive(Debug)]
pub enum Role {
    /// It sends a broadcast.
    Publisher(Publisher),
    /// It receives broadcasts.
    Subscriber(Box<Subscriber>),
}

/// A data channel that we answer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelUse {
    /// `ping-N` is answered by `pong-N`.
    HealthCheck,
    /// `video-ok` is said on it while video arrives.
    VideoCheck,
    /// Anything else: left alone.
    Other,
}

/// One client's peer connection.
pub struct Peer {
    rtc: Rtc,
    /// The session that asked for it.
    pub session: SessionId,
    /// Publisher or subscriber.
    pub role: Role,
    /// Whether it is on the list of peers to be polled.
    pub dirty: bool,
    /// Whether ICE and DTLS are done.
    pub connected: bool,
    /// By when DTLS must be done; `None` while nothing is due.
    pub connect_by: Option<Instant>,
    /// Addresses bound to it, the latest last.
    pub addresses: Vec<Remote>,
    /// Its local ufrag as routed now.
    pub ufrag: String,
    /// Open data channels.
    pub channels: Vec<(ChannelId, ChannelUse)>,
    /// Candidates that it has trickled.
    pub candidates: usize,
    /// The offer of a WHIP or WHEP client, which an ICE restart repeats.
    pub standing: Option<Box<StandingOffer>>,
    /// What it said it can be reached at, for people.
    pub remote_candidates: Vec<String>,
    /// For a connected subscriber: what its media leaves by.
    pub outlet: Option<OutletKey>,
    /// For a subscriber: where its keys come out. What str0m seals for it with other keys is dropped.
    tap: Option<KeyTap>,
    /// The nominated pair, as far as str0m has shown it.
    path: Option<Path>,
    /// The pair that its client was found at after it had left that one.
    found_at: Option<Path>,
    /// When something came by the pair in force; `None` once it is known that nothing can come any more.
    path_alive_at: Option<Instant>,
    /// How much of str0m's has been dropped.
    dropped: u64,
    last_received: Instant,
    rtc_timeout: Instant,
    closing_since: Option<Instant>,
    broken: bool,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("session", &self.session)
            .field("connected", &self.connected)
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// A peer that has yet to connect.
    pub fn new(rtc: Rtc, session: SessionId, role: Role, now: Instant) -> Self {
        Self {
            rtc,
            session,
            role,
            dirty: false,
            connected: false,
            connect_by: None,
            addresses: Vec::new(),
            ufrag: String::new(),
            channels: Vec::new(),
            candidates: 0,
            standing: None,
            remote_candidates: Vec::new(),
            outlet: None,
            tap: None,
            path: None,
            found_at: None,
            path_alive_at: Some(now),
            dropped: 0,
            last_received: now,
            rtc_timeout: now,
            closing_since: None,
            broken: false,
        }
    }

    /// Takes the keys of its media from `tap`.
    #[must_use]
    pub fn tapped(mut self, tap: KeyTap) -> Self {
        self.tap = Some(tap);
        self
    }

    /// What its media leaves by, once the handshake is done and the fingerprint was checked; `None` where the keys are not
    /// there or of no use.
    pub fn open_outlet(&mut self) -> Option<Outlet> {
        let (sealer, opener) = self.tap.as_ref()?.take()?.ok()?;
        Some(Outlet::new(self.path()?, sealer, opener))
    }

    /// The pair in force: the nominated one, as far as str0m has shown it by what it sent that is not STUN, or the one that
    /// its client was found at.
    pub fn path(&self) -> Option<Path> {
        self.found_at.or(self.path)
    }

    /// Something came by `path`: tells whether that is not the pair in force, and nothing has come by that for so long that
    /// the client has left it, as when a NAT gives it another address.
    pub fn is_found_at(&mut self, now: Instant, path: Path) -> bool {
        let in_force = self.path();
        if in_force == Some(path) {
            self.path_alive_at = Some(now);
        }
        in_force.is_some_and(|in_force| in_force != path)
            && self.path_alive_at.is_none_or(|alive_at| now >= alive_at + PATH_LOST)
    }

    /// The connection from `remote` is gone: if the pair in force is over it, the next check by another pair is where the
    /// client is.
    pub fn disconnected(&mut self, remote: Remote) {
        self.addresses.retain(|address| *address != remote);
        if self.path().is_some_and(|path| path.remote() == remote) {
            self.path_alive_at = None;
        }
    }

    /// Sends by `path` from now on. str0m stays with the pair of highest priority that was ever nominated, though nobody is
    /// at its end any more.
    pub fn follow_to(&mut self, now: Instant, path: Path) {
        self.found_at = Some(path);
        self.path_alive_at = Some(now);
    }

    /// Lets str0m show the nominated pair with what it sends next: it tells it nobody. The packet itself is dropped.
    pub fn ask_path(&mut self) {
        // A peer that panics in there ends when it is polled next.
        let _ = self.guard(|rtc| rtc.direct_api().send_app_specific_feedback(0.into(), 0.into(), [0; 4]));
    }

    /// Takes out how much of str0m's has been dropped.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Something came from it.
    pub fn heard(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Calls into str0m; a panic in there breaks this peer alone.
    pub fn guard<R>(&mut self, call: impl FnOnce(&mut Rtc) -> R) -> Result<R, PeerError> {
        if self.broken {
            return Err(PeerError::Panicked);
        }
        let result = guard(&mut self.rtc, call);
        self.broken = result.is_err();
        result
    }

    /// As [`guard`](Self::guard), with the subscriber in the peer; `None` for a publisher.
    pub fn guard_subscriber<R>(
        &mut self,
        call: impl FnOnce(&mut Subscriber, &mut Rtc) -> R,
    ) -> Option<Result<R, PeerError>> {
        let Role::Subscriber(subscriber) = &mut self.role else {
            return None;
        };
        if self.broken {
            return Some(Err(PeerError::Panicked));
        }
        let result = guard(&mut self.rtc, |rtc| call(subscriber, rtc));
        self.broken = result.is_err();
        Some(result)
    }

    /// Reads what needs no guard: getters.
    pub fn rtc(&self) -> &Rtc {
        &self.rtc
    }

    /// Whether a panic inside it has ended it, or str0m cannot go on.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Gives it up: str0m cannot go on.
    pub fn give_up(&mut self) {
        self.broken = true;
    }

    /// Whether it accepts this datagram as its own: for STUN, whether the integrity check passes.
    pub fn accepts(&mut self, now: Instant, path: Path, datagram: &[u8]) -> bool {
        let Some(receive) = received(path, datagram) else {
            return false;
        };
        let input = Input::Receive(now, receive);
        self.guard(|rtc| rtc.accepts(&input)).unwrap_or(false)
    }

    /// Hands it a datagram that an answer to which would take `path`.
    pub fn receive(&mut self, now: Instant, path: Path, datagram: &[u8]) -> Result<(), PeerError> {
        let Some(receive) = received(path, datagram) else {
            return Ok(());
        };
        self.last_received = now;
        self.guard(|rtc| rtc.handle_input(Input::Receive(now, receive)))??;
        Ok(())
    }

    /// Lets its time pass, then takes out all that it has to send and to tell.
    ///
    /// # Errors
    ///
    /// When the peer is over: it panicked, or str0m cannot go on.
    pub fn poll(
        &mut self,
        now: Instant,
        sink: &mut dyn DatagramSink,
        events: &mut Vec<RtcEvent>,
    ) -> Result<(), PeerError> {
        self.guard(|rtc| rtc.handle_input(Input::Timeout(now)))??;
        self.drain(sink, events)
    }

    /// Takes out all that it has to send and to tell, after [`receive`](Self::receive).
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn drain(&mut self, sink: &mut dyn DatagramSink, events: &mut Vec<RtcEvent>) -> Result<(), PeerError> {
        let mut transmits =
            Transmits { sink, is_tapped: self.tap.is_some(), path: self.path, found_at: self.found_at, dropped: 0 };
        let drained = self.guard(|rtc| drain(rtc, &mut transmits, events));
        (self.path, self.found_at) = (transmits.path, transmits.found_at);
        self.dropped += transmits.dropped;
        self.rtc_timeout = drained??;
        Ok(())
    }

    /// When it wants to be polled next, for str0m's sake or for a deadline of ours.
    pub fn wake_at(&self) -> Instant {
        // Only deadlines that rule now: one that has passed without effect would wake it for ever.
        if let Some(since) = self.closing_since {
            return self.rtc_timeout.min(since + CLOSING_MAX);
        }
        let connection = if self.connected { Some(self.last_received + SILENCE_MAX) } else { self.connect_by };
        let answer_by = self.subscriber().and_then(Subscriber::answer_by);
        [connection, answer_by].into_iter().flatten().fold(self.rtc_timeout, Instant::min)
    }

    /// Whether nothing came from it for too long. Before it is connected, the deadlines rule.
    pub fn is_silent(&self, now: Instant) -> bool {
        self.connected && now >= self.last_received + SILENCE_MAX
    }

    /// Whether it ought to be connected by now and is not.
    pub fn is_overdue(&self, now: Instant) -> bool {
        !self.connected && self.connect_by.is_some_and(|by| now >= by)
    }

    /// Gives it until [`DEADLINE`] from now to connect, unless it is.
    pub fn expect_connection(&mut self, now: Instant) {
        if !self.connected && self.connect_by.is_none() {
            self.connect_by = Some(now + DEADLINE);
        }
    }

    /// Begins to close: DTLS is told, and the peer goes when that has been sent.
    pub fn close(&mut self, now: Instant) {
        self.closing_since.get_or_insert(now);
        // A peer that cannot even close is removed by its deadline.
        let _ = self.guard(Rtc::close);
    }

    /// Whether it was told to close.
    pub fn is_closing(&self) -> bool {
        self.closing_since.is_some()
    }

    /// Whether a closing peer has said its last word, or has had its time.
    pub fn is_closed(&self, now: Instant) -> bool {
        let late = self.closing_since.is_some_and(|since| now >= since + CLOSING_MAX);
        late || self.broken || !self.rtc.is_alive()
    }

    /// Writes on a data channel; a full one drops the message.
    pub fn write_channel(&mut self, channel: ChannelId, binary: bool, message: &[u8]) {
        let written = self.guard(|rtc| rtc.channel(channel).map(|mut channel| channel.write(binary, message)));
        if !matches!(written, Ok(Some(Ok(true)))) {
            tracing::debug!(session = self.session.0, "a data channel took no message");
        }
    }

    /// The subscriber in it.
    pub fn subscriber(&self) -> Option<&Subscriber> {
        match &self.role {
            Role::Subscriber(subscriber) => Some(subscriber),
            Role::Publisher(_) => None,
        }
    }

    /// The subscriber in it.
    pub fn subscriber_mut(&mut self) -> Option<&mut Subscriber> {
        match &mut self.role {
            Role::Subscriber(subscriber) => Some(subscriber),
            Role::Publisher(_) => None,
        }
    }

    /// The publisher in it.
    pub fn publisher(&self) -> Option<&Publisher> {
        match &self.role {
            Role::Publisher(publisher) => Some(publisher),
            Role::Subscriber(_) => None,
        }
    }
}

/// Calls into an `Rtc` that belongs to no peer yet; its panic is an error.
pub fn guard<R>(rtc: &mut Rtc, call: impl FnOnce(&mut Rtc) -> R) -> Result<R, PeerError> {
    catch_unwind(AssertUnwindSafe(|| call(rtc))).map_err(|_| PeerError::Panicked)
}

/// A datagram as str0m takes it, if that is one that it knows.
fn received(path: Path, datagram: &[u8]) -> Option<Receive<'_>> {
    let protocol = match path.transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    Receive::new(protocol, path.destination, path.source, datagram).ok()
}

/// Where what str0m sends goes.
struct Transmits<'a> {
    sink: &'a mut dyn DatagramSink,
    is_tapped: bool,
    path: Option<Path>,
    found_at: Option<Path>,
    dropped: u64,
}

impl Transmits<'_> {
    fn take(&mut self, transmit: &Transmit) {
        let transport = match transmit.proto {
            Protocol::Udp => Transport::Udp,
            Protocol::Tcp => Transport::Tcp,
            // There are no such candidates of ours.
            Protocol::SslTcp | Protocol::Tls => return,
        };
        let mut path = Path { transport, source: transmit.source, destination: transmit.destination };
        let kind = DatagramKind::classify(&transmit.contents);
        // Checks go to any pair.
        if kind != DatagramKind::Stun {
            if self.path.replace(path) != Some(path) {
                // It has nominated another one: that is the later word.
                self.found_at = None;
            }
            path = self.found_at.unwrap_or(path);
        }
        if self.is_tapped && matches!(kind, DatagramKind::Rtp | DatagramKind::Rtcp) {
            self.dropped += 1;
            return;
        }
        self.sink.push(path, &transmit.contents);
    }
}

/// Polls `rtc` until it only waits; returns until when.
fn drain(rtc: &mut Rtc, transmits: &mut Transmits<'_>, events: &mut Vec<RtcEvent>) -> Result<Instant, RtcError> {
    loop {
        match rtc.poll_output()? {
            Output::Timeout(at) => return Ok(at),
            Output::Transmit(transmit) => transmits.take(&transmit),
            Output::Event(event) => events.push(event),
        }
    }
}
