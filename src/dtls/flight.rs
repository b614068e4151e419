//! What goes out: datagrams as OpenSSL wrote them, and the latest flight of a handshake, to be sent again.
//!
//! OpenSSL sends flights again by the wall clock, whenever it is called late enough, and nobody outside can tell it to. So
//! its own repetitions are dropped, and ours are made here.
//!
//! **Invariant:** a record never leaves twice under the same number. A receiver takes a number once; one that could not use
//! a message when it came, because it came too early, needs it under a new one. So does a server: by a `Finished` that it
//! had already, it learns that its last flight was lost.

use std::collections::VecDeque;

use super::protection::Protection;
use super::record::{HEADER_BYTES, Kind, Place, records};

/// The most datagrams that wait to leave: what is written beyond is lost, as it might be on its way.
const QUEUE_MAX: usize = 64;

/// Where in a record's header its sequence number stands.
const SEQUENCE: std::ops::Range<usize> = 5..HEADER_BYTES - 2;

/// What a datagram is in the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Of a flight that is sent for the first time.
    New,
    /// Of one that was sent before.
    Again,
    /// Of none: an alert, or what is carried.
    Aside,
}

/// Datagrams on their way out.
#[derive(Debug, Default)]
pub struct Flights {
    queue: VecDeque<Vec<u8>>,
    flight: Vec<Vec<u8>>,
    /// Alerts as OpenSSL has sealed them, which have yet to leave.
    sealed: Vec<Vec<u8>>,
    furthest: Option<Place>,
    has_changed_cipher: bool,
    /// Whether the latest ChangeCipherSpec was sent again: what follows it cannot be read.
    is_again: bool,
    sequence: u64,
}

impl Flights {
    /// Takes what one call into OpenSSL wrote; tells whether a new flight began.
    pub fn take(&mut self, written: Vec<Vec<u8>>) -> bool {
        let mut begins = false;
        for datagram in written {
            match self.classify(&datagram) {
                Class::Again => {}
                Class::Aside if is_sealed(&datagram) => self.sealed.push(datagram),
                Class::Aside => self.send(datagram),
                Class::New => {
                    if !begins {
                        self.flight.clear();
                        begins = true;
                    }
                    self.flight.push(datagram.clone());
                    self.send(datagram);
                }
            }
        }
        begins
    }

    /// Sends the alerts that OpenSSL has sealed, under new numbers: it does not know of those that our repetitions took, and
    /// with AES-GCM each number of its own is a nonce, too.
    pub fn release(&mut self, mut protection: Option<&mut Protection>) {
        for datagram in std::mem::take(&mut self.sealed) {
            let again = resealed(&datagram, protection.as_deref_mut());
            self.send(again);
        }
    }

    /// Sends a datagram that is of no flight.
    pub fn pass(&mut self, datagram: Vec<u8>) {
        self.send(datagram);
    }

    /// Sends the latest flight again; its encrypted records need the keys.
    pub fn repeat(&mut self, mut protection: Option<&mut Protection>) {
        for datagram in std::mem::take(&mut self.flight) {
            let again = resealed(&datagram, protection.as_deref_mut());
            self.send(again);
            self.flight.push(datagram);
        }
    }

    /// Our `Finished` as OpenSSL has sealed it, if the latest flight holds it.
    pub fn finished(&self) -> Option<Vec<u8>> {
        let mut all = self.flight.iter().flat_map(|datagram| records(datagram));
        all.find(|record| record.epoch != 0).map(|record| record.bytes.to_vec())
    }

    /// Forgets the latest flight: it has arrived.
    pub fn settle(&mut self) {
        self.flight = Vec::new();
    }

    /// The next datagram to leave.
    pub fn poll(&mut self) -> Option<Vec<u8>> {
        let next = self.queue.pop_front();
        if self.queue.is_empty() {
            // Nothing may come for hours.
            self.queue = VecDeque::new();
        }
        next
    }

    /// Whether nothing waits to leave.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn send(&mut self, mut datagram: Vec<u8>) {
        if !datagram.is_empty() && self.queue.len() < QUEUE_MAX {
            self.number(&mut datagram);
            self.queue.push_back(datagram);
        }
    }

    /// Gives each record in the clear the next sequence number. Nothing vouches for it, so nobody misses OpenSSL's.
    fn number(&mut self, datagram: &mut [u8]) {
        let mut at = 0;
        let mut fresh = Vec::new();
        for record in records(datagram) {
            if record.epoch == 0 {
                fresh.push(at);
            }
            at += record.bytes.len();
        }
        for at in fresh {
            if let Some(field) = datagram.get_mut(at + SEQUENCE.start..at + SEQUENCE.end) {
                let [_, _, sequence @ ..] = self.sequence.to_be_bytes();
                field.copy_from_slice(&sequence);
                self.sequence += 1;
            }
        }
    }

    fn classify(&mut self, datagram: &[u8]) -> Class {
        let mut class = None;
        for record in records(datagram) {
            let own = match (record.kind, record.epoch) {
                (Kind::Alert | Kind::Data, _) => Class::Aside,
                (Kind::ChangeCipherSpec, _) => {
                    self.is_again = self.has_changed_cipher;
                    self.has_changed_cipher = true;
                    self.told(self.is_again)
                }
                (Kind::Handshake, 0) => {
                    let place = record.place();
                    let is_again = place <= self.furthest;
                    self.furthest = self.furthest.max(place);
                    self.told(is_again)
                }
                (Kind::Handshake, _) => self.told(self.is_again),
            };
            // A flight's datagrams are all of one class; the first record tells which.
            class.get_or_insert(own);
        }
        class.unwrap_or(Class::Aside)
    }

    fn told(&self, is_again: bool) -> Class {
        if is_again { Class::Again } else { Class::New }
    }
}

fn is_sealed(datagram: &[u8]) -> bool {
    records(datagram).any(|record| record.epoch != 0)
}

/// The datagram with its encrypted records under new numbers; without them, where there are no keys.
fn resealed(datagram: &[u8], mut protection: Option<&mut Protection>) -> Vec<u8> {
    let mut again = Vec::with_capacity(datagram.len());
    for record in records(datagram) {
        match (record.epoch, &mut protection) {
            (0, _) => again.extend_from_slice(record.bytes),
            (_, Some(protection)) => again.extend(protection.reseal(&record).unwrap_or_default()),
            (_, None) => {}
        }
    }
    again
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0xfe, 0xfd, 0, epoch, 9, 9, 9, 9, 9, 9, 0, body.len() as u8];
        bytes.extend_from_slice(body);
        bytes
    }

    fn message(number: u8, offset_bytes: u8) -> Vec<u8> {
        record(22, 0, &[11, 0, 0, 9, 0, number, 0, 0, offset_bytes, 0, 0, 2, 1, 2])
    }

    fn sequences(flights: &mut Flights) -> Vec<Vec<u64>> {
        let mut all = Vec::new();
        while let Some(datagram) = flights.poll() {
            let number = |bytes: &[u8]| bytes[SEQUENCE].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            all.push(records(&datagram).map(|record| number(record.bytes)).collect());
        }
        all
    }

    const ENCRYPTED: u64 = 0x0909_0909_0909;

    #[test]
    fn a_flight_leaves_again_under_new_numbers() {
        let mut flights = Flights::default();
        let first = [message(0, 0), message(1, 0)].concat();
        let second = [message(1, 2), record(20, 0, &[1])].concat();
        assert!(flights.take(vec![first, second]));
        assert_eq!(sequences(&mut flights), [vec![0, 1], vec![2, 3]]);
        flights.repeat(None);
        assert_eq!(sequences(&mut flights), [vec![4, 5], vec![6, 7]]);
        flights.settle();
        flights.repeat(None);
        assert!(flights.is_empty());
    }

    #[test]
    fn what_openssl_repeats_by_itself_is_dropped() {
        let mut flights = Flights::default();
        assert!(flights.take(vec![message(0, 0), message(0, 2)]));
        assert_eq!(sequences(&mut flights).len(), 2);
        assert!(!flights.take(vec![message(0, 0), message(0, 2)]));
        assert!(flights.is_empty());
        // A repetition, and then the next flight in the same call.
        let sealed = record(22, 1, &[7; 30]);
        let last = [record(20, 0, &[1]), sealed.clone()].concat();
        assert!(flights.take(vec![message(0, 0), message(0, 2), last.clone()]));
        assert_eq!(sequences(&mut flights), [[2, ENCRYPTED]]);
        assert_eq!(flights.finished(), Some(sealed));
        assert!(!flights.take(vec![last]));
        assert!(flights.is_empty());
    }

    #[test]
    fn an_alert_is_no_flight() {
        let mut flights = Flights::default();
        assert!(flights.take(vec![message(0, 0)]));
        assert!(!flights.take(vec![record(21, 0, &[1, 0])]));
        assert_eq!(sequences(&mut flights).len(), 2);
        flights.repeat(None);
        assert_eq!(sequences(&mut flights), [[2]]);
    }

    #[test]
    fn what_waits_is_capped() {
        let mut flights = Flights::default();
        for _ in 0..QUEUE_MAX + 9 {
            flights.pass(record(23, 1, b"x"));
        }
        assert_eq!(sequences(&mut flights).len(), QUEUE_MAX);
    }
}
