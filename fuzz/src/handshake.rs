//! Two DTLS peers of ours, and an input that is the path between them.
//!
//! **Invariant:** a path that only loses, doubles, reorders and delays keeps nobody from connecting once it is good again;
//! one that also forges ends nothing worse than the handshake.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use onair::dtls::provider;
use str0m::config::DtlsVersion;
use str0m::crypto::dtls::{DtlsCert, DtlsInstance, DtlsOutput};

/// What a datagram may hold, in bytes: little, so that messages come in fragments.
const MTU_BYTES: usize = 300;

/// The most that an input may do.
const STEPS_MAX: usize = 200;

/// How long an input may keep the two apart: they give up after 40 s.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// The most outputs at one moment.
const OUTPUTS_MAX: usize = 500;

struct End {
    dtls: Box<dyn DtlsInstance>,
    due: Instant,
    /// What is on its way to this end.
    incoming: VecDeque<Vec<u8>>,
    is_connected: bool,
    has_failed: bool,
}

impl End {
    fn new(certificate: &DtlsCert, is_active: bool, now: Instant) -> Self {
        let provider = provider::crypto().dtls_provider;
        let mut dtls = provider.new_dtls(certificate, now, DtlsVersion::Dtls12, Some(MTU_BYTES)).expect("an instance");
        dtls.set_active(is_active);
        Self { dtls, due: now, incoming: VecDeque::new(), is_connected: false, has_failed: false }
    }

    fn receive(&mut self, datagram: &[u8]) {
        self.has_failed |= self.dtls.handle_packet(datagram).is_err();
    }

    /// Takes out what it sends.
    fn turn(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for _ in 0..OUTPUTS_MAX {
            if self.due <= now && !self.has_failed {
                self.has_failed = self.dtls.handle_timeout(now).is_err();
            }
            let mut buffer = [0; 2_000];
            match self.dtls.poll_output(&mut buffer) {
                DtlsOutput::Packet(datagram) => sent.push(datagram.to_vec()),
                DtlsOutput::Connected => self.is_connected = true,
                DtlsOutput::Timeout(at) => {
                    self.due = at;
                    if at > now || self.has_failed {
                        return sent;
                    }
                }
                _ => {}
            }
        }
        panic!("it never rests");
    }
}

struct Path {
    now: Instant,
    start: Instant,
    ends: [End; 2],
    has_forged: bool,
}

impl Path {
    fn new() -> Self {
        thread_local! {
            static CERTIFICATES: RefCell<Option<[DtlsCert; 2]>> = const { RefCell::new(None) };
        }
        let now = Instant::now();
        let ends = CERTIFICATES.with_borrow_mut(|certificates| {
            let make = || provider::crypto().dtls_provider.generate_certificate().expect("a certificate");
            let [client, server] = certificates.get_or_insert_with(|| [make(), make()]);
            [End::new(client, true, now), End::new(server, false, now)]
        });
        let mut path = Self { now, start: now, ends, has_forged: false };
        path.turn();
        path
    }

    fn turn(&mut self) {
        for (index, to) in [(0, 1), (1, 0)] {
            let sent = self.ends[index].turn(self.now);
            assert!(sent.iter().all(|datagram| datagram.len() <= MTU_BYTES), "longer than the MTU");
            self.ends[to].incoming.extend(sent);
        }
    }

    fn deliver(&mut self, to: usize, datagram: &[u8]) {
        self.ends[to].receive(datagram);
        self.turn();
    }

    /// Does what the next bytes say; returns those after them.
    fn step<'a>(&mut self, input: &'a [u8]) -> Option<&'a [u8]> {
        let [what, high, low, rest @ ..] = input else {
            return None;
        };
        let to = usize::from(what >> 7);
        let number = usize::from(*high) << 8 | usize::from(*low);
        match what & 0x07 {
            // Deliver, lose, deliver twice, put behind the others.
            0 => {
                if let Some(datagram) = self.ends[to].incoming.pop_front() {
                    self.deliver(to, &datagram);
                }
            }
            1 => drop(self.ends[to].incoming.pop_front()),
            2 => {
                if let Some(datagram) = self.ends[to].incoming.front().cloned() {
                    self.deliver(to, &datagram);
                }
            }
            3 => {
                if let Some(datagram) = self.ends[to].incoming.pop_front() {
                    self.ends[to].incoming.push_back(datagram);
                }
            }
            // Change a byte, cut, inject.
            4 => {
                self.has_forged = true;
                if let Some(mut datagram) = self.ends[to].incoming.pop_front() {
                    let at = usize::from(*high) % datagram.len();
                    datagram[at] ^= low;
                    self.deliver(to, &datagram);
                }
            }
            5 => {
                self.has_forged = true;
                if let Some(mut datagram) = self.ends[to].incoming.pop_front() {
                    datagram.truncate(number);
                    self.deliver(to, &datagram);
                }
            }
            6 => {
                self.has_forged = true;
                let (datagram, after) = rest.split_at(number.min(rest.len()));
                self.deliver(to, datagram);
                return Some(after);
            }
            // Let milliseconds pass.
            _ => {
                self.now = (self.now + Duration::from_millis(number as u64)).min(self.start + DELAY_MAX);
                self.turn();
            }
        }
        Some(rest)
    }

    /// Whether the two connect now that nothing is lost any more.
    fn connects(&mut self) -> bool {
        for _ in 0..STEPS_MAX {
            for to in [1, 0] {
                while let Some(datagram) = self.ends[to].incoming.pop_front() {
                    self.deliver(to, &datagram);
                }
            }
            if self.ends.iter().all(|end| end.is_connected) {
                return true;
            }
            let due = self.ends.iter().map(|end| end.due).min().unwrap_or(self.now);
            self.now = self.now.max(due);
            self.turn();
        }
        false
    }
}

/// Steps on the path between two peers, three bytes each: what, with the receiver in its first bit, and a number.
pub fn handshake(input: &[u8]) {
    let mut path = Path::new();
    let mut rest = input;
    for _ in 0..STEPS_MAX {
        match path.step(rest) {
            Some(after) => rest = after,
            None => break,
        }
    }
    assert!(path.has_forged || path.connects(), "nothing was forged, and yet they do not connect");
    for end in &mut path.ends {
        let closed = end.dtls.close();
        assert!(closed.is_ok(), "whatever was, it can be closed");
    }
    path.turn();
    assert!(path.ends.iter().all(|end| end.dtls.is_closed()));
}
