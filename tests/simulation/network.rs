//! The network between the clients and the server: datagrams that come late, twice, out of order or not at all.
//!
//! **Invariant:** one seed and one sequence of sends give one schedule of deliveries; nothing is delivered before it was
//! sent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use onair::egress::sink::{DatagramSink, Path, Traffic, Transport};

/// How a path treats its datagrams.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The least time a datagram takes.
    pub delay: Duration,
    /// What is added at random; the order stays.
    pub jitter: Duration,
    /// The share that is lost, 0 to 1.
    pub loss: f64,
    /// The share that is overtaken by up to [`OVERTAKEN_BY_MAX`].
    pub reorder: f64,
    /// The share that arrives twice.
    pub duplicate: f64,
}

/// How much later a reordered datagram comes than it would have, at most.
pub const OVERTAKEN_BY_MAX: Duration = Duration::from_millis(15);

impl Conditions {
    /// A good path: 10 ms and nothing else.
    pub const GOOD: Self =
        Self { delay: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0.0, reorder: 0.0, duplicate: 0.0 };

    /// A path that does everything wrong, within what retransmission can mend.
    pub const BAD: Self = Self {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(8),
        loss: 0.02,
        reorder: 0.03,
        duplicate: 0.02,
    };

    /// A path that loses a share of its datagrams.
    pub fn lossy(loss: f64) -> Self {
        Self { loss, ..Self::GOOD }
    }
}

/// One datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    /// What carries it.
    pub transport: Transport,
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Datagram {
    /// One by UDP.
    pub fn udp(from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) -> Self {
        Self { transport: Transport::Udp, from, to, bytes }
    }

    /// The path that an answer to it takes.
    pub fn path_back(&self) -> Path {
        Path { transport: self.transport, source: self.to, destination: self.from }
    }

    /// Whether it is DTLS (RFC 7983).
    pub fn is_dtls(&self) -> bool {
        self.bytes.first().is_some_and(|first| (20..=63).contains(first))
    }

    /// Whether it is RTP or RTCP (RFC 7983).
    pub fn is_media(&self) -> bool {
        self.bytes.first().is_some_and(|first| (128..=191).contains(first))
    }

    /// The sequence number, if it is RTP.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Whether it is a compound RTCP packet that begins with a sender report: the first header is not encrypted.
    pub fn is_sender_report(&self) -> bool {
        self.is_media() && self.bytes.get(1) == Some(&200)
    }
}

/// Decides of each datagram whether it may pass.
pub type Filter = Box<dyn FnMut(&Datagram) -> bool>;

/// Everything under way.
pub struct Network {
    /// How paths are that have no conditions of their own.
    pub conditions: Conditions,
    /// Conditions of single clients' paths, both ways.
    pub paths: BTreeMap<SocketAddr, Conditions>,
    /// Clients behind a NAT, by their own address: where the server sees them.
    pub nat: BTreeMap<SocketAddr, SocketAddr>,
    /// What is not let through is lost.
    pub filter: Option<Filter>,
    /// Datagrams that were lost by chance.
    pub lost: u64,
    under_way: BinaryHeap<Reverse<(Instant, u64, Datagram)>>,
    latest: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    sent: u64,
    random: fastrand::Rng,
}

impl Network {
    /// A good network.
    pub fn new(seed: u64) -> Self {
        Self {
            conditions: Conditions::GOOD,
            paths: BTreeMap::new(),
            nat: BTreeMap::new(),
            filter: None,
            lost: 0,
            under_way: BinaryHeap::new(),
            latest: BTreeMap::new(),
            sent: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes a datagram on its way.
    pub fn send(&mut self, now: Instant, datagram: Datagram) {
        if self.filter.as_mut().is_some_and(|passes| !passes(&datagram)) {
            return;
        }
        let path = self.paths.get(&datagram.from).or_else(|| self.paths.get(&datagram.to));
        let conditions = *path.unwrap_or(&self.conditions);
        if self.random.f64() < conditions.loss {
            self.lost += 1;
            return;
        }
        if self.random.f64() < conditions.duplicate {
            self.schedule(now, conditions, datagram.clone());
        }
        self.schedule(now, conditions, datagram);
    }

    fn schedule(&mut self, now: Instant, conditions: Conditions, datagram: Datagram) {
        let mut due = now + conditions.delay + conditions.jitter.mul_f64(self.random.f64());
        let latest = self.latest.entry((datagram.from, datagram.to)).or_insert(due);
        if self.random.f64() < conditions.reorder {
            due += OVERTAKEN_BY_MAX.mul_f64(self.random.f64());
        } else {
            due = due.max(*latest);
            *latest = due;
        }
        self.sent += 1;
        self.under_way.push(Reverse((due, self.sent, datagram)));
    }

    /// Drops what it knows of paths to clients that are gone, and what is still on its way to them.
    pub fn forget(&mut self, is_there: impl Fn(&SocketAddr) -> bool) {
        self.latest.retain(|(from, to), _| is_there(from) || is_there(to));
        self.under_way.retain(|Reverse((_, _, datagram))| is_there(&datagram.from) || is_there(&datagram.to));
        self.under_way.shrink_to_fit();
    }

    /// When the next datagram arrives.
    pub fn next_at(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((at, _, _))| *at)
    }

    /// A datagram that has arrived, under the addresses that its receiver knows.
    pub fn receive(&mut self, now: Instant) -> Option<Datagram> {
        if self.next_at()? > now {
            return None;
        }
        let Reverse((_, _, mut datagram)) = self.under_way.pop()?;
        if let Some(public) = self.nat.get(&datagram.from) {
            datagram.from = *public;
        } else if let Some((own, _)) = self.nat.iter().find(|(_, public)| **public == datagram.to) {
            datagram.to = *own;
        } else if self.nat.contains_key(&datagram.to) {
            // Nobody is there any more.
            return self.receive(now);
        }
        Some(datagram)
    }
}

/// The batch that the hub writes into.
#[derive(Debug, Default)]
pub struct Batch {
    /// What was committed and not yet taken.
    pub datagrams: Vec<Datagram>,
    reserved: Option<Datagram>,
}

impl DatagramSink for Batch {
    fn reserve(&mut self, path: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        let Path { transport, source, destination } = path;
        let reserved = Datagram { transport, from: source, to: destination, bytes: vec![0; len_bytes] };
        Some(&mut self.reserved.insert(reserved).bytes)
    }

    fn commit(&mut self, len_bytes: usize) {
        let mut datagram = self.reserved.take().expect("a commit follows a reservation");
        datagram.bytes.truncate(len_bytes);
        self.datagrams.push(datagram);
    }
}
