//! The loop: one thread that owns the socket and the hub.
//!
//! Each turn waits for the socket, the bridge or a deadline; takes in media first and sends what came of it; then, within a
//! budget, handshakes and requests; then deadlines.
//!
//! **Invariant:** media never waits behind handshakes or requests, which sit in bounded queues; and the clock is read here
//! and nowhere below.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::addresses::{Addresses, PublicIp};
use super::metrics::NetMetrics;
use super::outboxes::Outboxes;
use super::ports::Ports;
use super::receive::{Datagram, ReceiveBatch};
use super::receive_drops::ReceiveDrops;
use super::send::SendBatch;
use super::tcp::port::TcpPort;
use super::thread_time::ThreadTime;
use super::transports::Transports;
use super::waiting::Waiting;
use crate::egress::sink::Path;
use crate::handle::{HubPort, Request};
use crate::hub::Hub;
use crate::hub::config::HubConfig;
use crate::hub::io::{Order, SessionId};

/// Receive batches that are taken in before what they brought about is sent.
const BATCHES_PER_TURN: usize = 4;

/// Datagrams of no media that are handed in each turn: a handshake's flight costs about a millisecond.
const HANDSHAKES_PER_TURN: usize = 8;

/// Requests that are handed in each turn.
const REQUESTS_PER_TURN: usize = 16;

/// The longest sleep, so that sessions that vanished are found.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What is read from a TCP connection in a turn, in bytes.
const TCP_READ_MAX_BYTES: usize = 16 * 1024;

/// How long peers may take to be told of a shutdown.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);

/// How long, after that, recordings may take to be finished: whoever watches the server is told how they ended.
const FINISHED_MAX: Duration = Duration::from_secs(7);

/// The running loop.
#[derive(Debug)]
pub struct Driver {
    local: SocketAddr,
    candidates: Vec<SocketAddr>,
    has_tcp: bool,
    metrics: Arc<NetMetrics>,
    thread: JoinHandle<()>,
    ended: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl Driver {
    /// Binds `udp`, and TCP's port of the same number where `tcp` says so, and starts the hub's thread. The hub's candidates
    /// are found here.
    ///
    /// # Errors
    ///
    /// What the kernel says to the socket or the thread.
    pub fn start(
        udp: SocketAddr,
        tcp: bool,
        public: &[PublicIp],
        mut hub: HubConfig,
        port: HubPort,
    ) -> io::Result<Self> {
        let metrics = Arc::new(NetMetrics::default());
        let Ports { socket, tcp, local, addresses } = Ports::open(udp, tcp, public, &metrics)?;
        let candidates = addresses.candidates().to_vec();
        hub.candidates.clone_from(&candidates);
        let has_tcp = tcp.is_some();
        if has_tcp {
            hub.tcp_candidates.clone_from(&candidates);
        }
        if let Some(drops) = ReceiveDrops::of(&socket) {
            let _ = metrics.receive_drops.set(drops);
        }
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        let receive = ReceiveBatch::new(&socket)?;
        let sender = socket.try_clone()?;
        let shared = Arc::clone(&metrics);
        let thread = std::thread::Builder::new().name("onair-hub".to_owned()).spawn(move || {
            let _ = shared.thread.set(ThreadTime::of_this_thread());
            let send = SendBatch::new(sender, local.is_ipv6(), addresses.clone(), Arc::clone(&shared));
            let outboxes = Outboxes::new(port.recordings.clone(), port.notices.clone());
            let send = Transports::new(send, tcp);
            let turn = Turn {
                socket,
                addresses,
                hub: Hub::new(hub),
                port,
                receive,
                send,
                outboxes,
                metrics: shared,
                waiting: Waiting::default(),
                readable: Vec::new(),
                read: vec![0; TCP_READ_MAX_BYTES],
                forwarded: 0,
                swept: Instant::now(),
                stop_by: None,
            };
            turn.run();
            drop(alive);
        })?;
        Ok(Self { local, candidates, has_tcp, metrics, thread, ended: Some(ended) })
    }

    /// The address that the socket is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What clients are told to send to.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// Whether clients may send by TCP, too.
    #[must_use]
    pub fn has_tcp(&self) -> bool {
        self.has_tcp
    }

    /// The socket's counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<NetMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Waits until the thread has ended: after `Order::Shutdown`, or because it panicked. Cancel safe.
    pub async fn ended(&mut self) {
        if let Some(ended) = self.ended.as_mut() {
            let _ = ended.await;
            self.ended = None;
        }
    }

    /// Whether the thread ended by a panic. Call it once [`ended`](Self::ended) has returned.
    #[must_use]
    pub fn has_panicked(self) -> bool {
        self.thread.join().is_err()
    }
}

/// Everything the loop owns.
struct Turn {
    socket: UdpSocket,
    addresses: Addresses,
    hub: Hub,
    port: HubPort,
    receive: ReceiveBatch,
    send: Transports,
    outboxes: Outboxes,
    metrics: Arc<NetMetrics>,
    /// Datagrams of no media.
    waiting: Waiting,
    /// TCP connections that have something to read.
    readable: Vec<usize>,
    /// What was read of one of them.
    read: Vec<u8>,
    /// RTP packets forwarded when that was looked at last.
    forwarded: u64,
    swept: Instant,
    stop_by: Option<Instant>,
}

impl Turn {
    fn run(mut self) {
        loop {
            let has_framed = self.sleep();
            let more = self.take_in();
            if has_framed {
                self.take_in_framed();
            }
            let now = Instant::now();
            self.hand_in_handshakes(now);
            let open = self.hand_in_requests(now);
            if self.hub.poll_timeout().is_some_and(|at| at <= now) {
                self.hub.handle_timeout(now, &mut self.send);
            }
            self.sweep(now);
            self.finish(now);
            if !open && self.stop_by.is_none() {
                // Nobody holds a handle any more.
                self.stop(now);
            }
            if self.may_end(now, more) {
                return;
            }
        }
    }

    /// Whether all was said after the stop, or the time for it is over; `more` is still to be received.
    fn may_end(&self, now: Instant, more: bool) -> bool {
        let Some(by) = self.stop_by else { return false };
        let peers_are_gone = now >= by || (self.hub.is_quiet() && !more);
        peers_are_gone && (!self.hub.awaits_recordings() || now >= by + FINISHED_MAX)
    }

    /// Waits for the sockets, a request or a deadline; tells whether something is there by TCP.
    fn sleep(&mut self) -> bool {
        let now = Instant::now();
        let mut until = now + SWEEP_INTERVAL;
        if let Some(at) = self.hub.poll_timeout() {
            until = until.min(at);
        }
        if let Some(by) = self.stop_by {
            until = until.min(if by > now { by } else { by + FINISHED_MAX });
        }
        let idle = self.waiting.is_empty() && self.port.requests.is_empty();
        let timeout = if idle { until.saturating_duration_since(now) } else { Duration::ZERO };
        let mut socket_events = PollFlags::POLLIN;
        if self.send.udp.is_blocked() {
            socket_events |= PollFlags::POLLOUT;
        }
        let tcp = self.send.tcp.as_ref().map_or(self.port.waker.event().as_fd(), TcpPort::as_fd);
        let mut fds = [
            PollFd::new(self.socket.as_fd(), socket_events),
            PollFd::new(self.port.waker.event().as_fd(), PollFlags::POLLIN),
            PollFd::new(tcp, PollFlags::POLLIN),
        ];
        // Interrupted or failed, the turn looks at everything anyway.
        let polled = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
        let has_framed =
            self.send.tcp.is_some() && (polled.is_err() || fds.last().and_then(PollFd::any).unwrap_or(true));
        self.port.waker.clear();
        has_framed
    }

    /// Takes in media and sends what came of it; tells whether more may be there.
    fn take_in(&mut self) -> bool {
        if self.send.udp.is_blocked() {
            self.send.udp.flush();
        }
        for _ in 0..BATCHES_PER_TURN {
            match self.receive.fill(&self.socket) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    // ICMP errors of datagrams that were sent come up here.
                    tracing::debug!(%error, "receiving failed");
                    return false;
                }
            }
            self.metrics.receive_calls.add(1);
            let now = Instant::now();
            for datagram in self.receive.datagrams() {
                self.metrics.datagrams_received.add(1);
                self.metrics.bytes_received.add(datagram.bytes.len() as u64);
                let Datagram { source, bytes, .. } = datagram;
                let path = Path::udp(self.addresses.arrival(datagram.destination, source.ip()), source);
                if self.hub.is_media(path.remote(), bytes) {
                    self.hub.handle_datagram(now, path, bytes, &mut self.send);
                } else if !self.waiting.put(path, bytes) {
                    self.metrics.handshakes_dropped.add(1);
                }
            }
            self.finish(now);
            self.measure(now);
        }
        true
    }

    /// Takes in what came by TCP, and sends what came of it.
    fn take_in_framed(&mut self) {
        let now = Instant::now();
        let mut readable = std::mem::take(&mut self.readable);
        if let Some(tcp) = &mut self.send.tcp {
            tcp.poll(now, &mut readable);
        }
        self.note_disconnects();
        for place in readable.drain(..) {
            self.take_in_stream(now, place);
        }
        self.readable = readable;
        self.finish(now);
        self.measure(now);
    }

    /// Takes in what came on one TCP connection.
    fn take_in_stream(&mut self, now: Instant, place: usize) {
        let read = self.send.tcp.as_mut().and_then(|tcp| tcp.read(place, &mut self.read));
        let Some((path, len_bytes, mut unframer)) = read else {
            return;
        };
        let fed = unframer.feed(self.read.get(..len_bytes).unwrap_or_default(), |datagram| {
            self.metrics.tcp_datagrams_received.add(1);
            if self.hub.is_media(path.remote(), datagram) {
                self.hub.handle_datagram(now, path, datagram, &mut self.send);
            } else if !self.waiting.put(path, datagram) {
                self.metrics.handshakes_dropped.add(1);
            }
        });
        let is_bound = self.hub.is_bound(path.remote());
        if let Some(tcp) = &mut self.send.tcp {
            tcp.put_back(place, unframer, is_bound);
            if fed.is_err() {
                tcp.close(place, "a frame was too long");
            }
        }
    }

    /// Tells the hub of TCP connections that have ended.
    fn note_disconnects(&mut self) {
        while let Some(remote) = self.send.tcp.as_mut().and_then(TcpPort::pop_ended) {
            self.hub.handle_disconnect(remote);
        }
    }

    /// Takes note of how long it took to pass on what was received at `since`.
    fn measure(&mut self, since: Instant) {
        let forwarded = self.hub.forwarded_packets();
        let newly = forwarded.wrapping_sub(std::mem::replace(&mut self.forwarded, forwarded));
        if newly > 0 {
            let spent = since.elapsed().as_micros();
            self.metrics.forwarding.observe(u64::try_from(spent).unwrap_or(u64::MAX), newly);
        }
    }

    fn hand_in_handshakes(&mut self, now: Instant) {
        for _ in 0..HANDSHAKES_PER_TURN {
            let Some((path, bytes)) = self.waiting.take() else {
                break;
            };
            self.hub.handle_datagram(now, path, &bytes, &mut self.send);
            self.waiting.give_back(bytes);
        }
    }

    /// Hands requests in; `false` when nobody can ask any more.
    fn hand_in_requests(&mut self, now: Instant) -> bool {
        for _ in 0..REQUESTS_PER_TURN {
            match self.port.requests.try_recv() {
                Ok(request) => self.hand_in(now, request),
                Err(tokio::sync::mpsc::error::TryRecvError::Empty) => return true,
                Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
        true
    }

    fn hand_in(&mut self, now: Instant, request: Request) {
        match request {
            Request::Open { session, door, remote, signals } => {
                self.outboxes.open(session, door, signals);
                self.hub.handle_order(now, session, Order::Open { door, remote });
            }
            Request::Command { session, id, command } => self.hub.handle_command(now, session, id, command),
            Request::Close(session) => self.close(now, session),
            Request::Order(Order::Shutdown) => self.stop(now),
            Request::Order(order) => self.hub.handle_order(now, SessionId(0), order),
            Request::Operate { broadcast, operation, reply } => {
                // Who asked may have given up.
                let _ = reply.send(self.hub.operate(now, &broadcast, operation));
            }
            Request::Snapshot(reply) => {
                // Who asked may have given up.
                let _ = reply.send(self.hub.snapshot(now));
            }
        }
    }

    fn close(&mut self, now: Instant, session: SessionId) {
        self.outboxes.close(session);
        self.hub.handle_order(now, session, Order::Close);
    }

    fn stop(&mut self, now: Instant) {
        self.stop_by.get_or_insert(now + SHUTDOWN_MAX);
        self.hub.handle_order(now, SessionId(0), Order::Shutdown);
    }

    /// Finds sessions whose end could not be told, because the queue was full.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP_INTERVAL {
            return;
        }
        self.swept = now;
        for session in self.outboxes.abandoned() {
            self.close(now, session);
        }
        if let Some(tcp) = &mut self.send.tcp {
            tcp.sweep(now, |remote| self.hub.is_bound(remote));
        }
    }

    /// Sends and tells all that this turn has brought about.
    fn finish(&mut self, now: Instant) {
        self.hub.flush(now, &mut self.send);
        self.send.flush();
        while let Some(event) = self.hub.poll_event() {
            if let Some(session) = self.outboxes.deliver(event) {
                self.close(now, session);
                self.hub.flush(now, &mut self.send);
            }
        }
        self.send.flush();
        self.note_disconnects();
    }
}
