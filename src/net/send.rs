//! The send batch: many datagrams with few system calls.
//!
//! **Invariant:** its memory is allocated once; datagrams leave in the order of their commits; one that the kernel refuses
//! is dropped and counted, and does not hold up the next.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

use super::addresses::Addresses;
use super::metrics::NetMetrics;
use crate::egress::sink::{DatagramSink, Path, Traffic};

/// The largest datagram, in bytes: str0m keeps below 1,200, and an Ethernet frame holds 1,500.
const SLOT_BYTES: usize = 1_536;

/// How many datagrams the batch holds.
const SLOTS: usize = 1_024;

/// How many datagrams go with one `sendmmsg`.
const CALL_MAX: usize = 64;

/// Where a slot's datagram goes.
#[derive(Debug, Clone, Copy)]
struct Entry {
    destination: SockaddrStorage,
    /// Our address to send from, where the kernel is not to choose.
    source: Option<IpAddr>,
    len_bytes: usize,
}

/// Datagrams that wait to be sent.
pub struct SendBatch {
    socket: UdpSocket,
    addresses: Addresses,
    metrics: Arc<NetMetrics>,
    is_ipv6: bool,
    memory: Vec<u8>,
    entries: Vec<Entry>,
    sent: usize,
    reserved: Option<(SockaddrStorage, Option<IpAddr>)>,
    plain: MultiHeaders<SockaddrStorage>,
    from_v4: MultiHeaders<SockaddrStorage>,
    from_v6: MultiHeaders<SockaddrStorage>,
}

impl SendBatch {
    /// An empty batch for `socket`.
    pub fn new(socket: UdpSocket, is_ipv6: bool, addresses: Addresses, metrics: Arc<NetMetrics>) -> Self {
        Self {
            socket,
            addresses,
            metrics,
            is_ipv6,
            memory: vec![0; SLOT_BYTES * SLOTS],
            entries: Vec::with_capacity(SLOTS),
            sent: 0,
            reserved: None,
            plain: MultiHeaders::preallocate(CALL_MAX, None),
            from_v4: MultiHeaders::preallocate(CALL_MAX, Some(cmsg_space!(in_pktinfo))),
            from_v6: MultiHeaders::preallocate(CALL_MAX, Some(cmsg_space!(in6_pktinfo))),
        }
    }

    /// Whether datagrams wait because the kernel's buffer is full.
    pub fn is_blocked(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// Sends what waits, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while let Some(first) = self.entries.get(self.sent).copied() {
            let rest = self.entries.get(self.sent..).unwrap_or_default();
            let run = rest.iter().take(CALL_MAX).take_while(|entry| entry.source == first.source).count();
            match self.call(first.source, run) {
                Ok(sent) => {
                    self.metrics.datagrams_sent.add(sent as u64);
                    self.sent += sent;
                }
                Err(Errno::EAGAIN) => {
                    self.metrics.send_blocked.add(1);
                    return;
                }
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // An ICMP error of an earlier datagram, or no route: this one is lost, the next may have a chance.
                    tracing::debug!(%error, "a datagram could not be sent");
                    self.metrics.send_errors.add(1);
                    self.sent += 1;
                }
            }
        }
        self.entries.clear();
        self.sent = 0;
    }

    /// One `sendmmsg` of the next `run` datagrams, all from `source`; returns how many went.
    fn call(&mut self, source: Option<IpAddr>, run: usize) -> Result<usize, Errno> {
        let mut slices: [[IoSlice<'_>; 1]; CALL_MAX] = std::array::from_fn(|_| [IoSlice::new(&[])]);
        let mut destinations: [Option<SockaddrStorage>; CALL_MAX] = [None; CALL_MAX];
        let slots = self.memory.chunks_exact(SLOT_BYTES).zip(&self.entries).skip(self.sent).take(run);
        for ((slot, entry), (slice, destination)) in slots.zip(slices.iter_mut().zip(&mut destinations)) {
            *slice = [IoSlice::new(slot.get(..entry.len_bytes).unwrap_or_default())];
            *destination = Some(entry.destination);
        }
        let (slices, destinations) = (slices.iter().take(run), destinations.get(..run).unwrap_or_default());
        self.metrics.send_calls.add(1);
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match source {
            None => sendmmsg(fd, &mut self.plain, slices, destinations, [], flags)?.count(),
            Some(IpAddr::V4(ip)) if !self.is_ipv6 => {
                let info = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmmsg(fd, &mut self.from_v4, slices, destinations, control, flags)?.count()
            }
            Some(ip) => {
                let octets = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                let info = in6_pktinfo { ipi6_addr: in6_addr { s6_addr: octets }, ipi6_ifindex: 0 };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmmsg(fd, &mut self.from_v6, slices, destinations, control, flags)?.count()
            }
        };
        Ok(sent)
    }
}

impl DatagramSink for SendBatch {
    fn reserve(&mut self, path: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        if self.entries.len() >= SLOTS {
            self.flush();
        }
        let index = self.entries.len();
        if index >= SLOTS || len_bytes > SLOT_BYTES {
            self.metrics.send_dropped.add(1);
            return None;
        }
        let destination = match path.destination {
            SocketAddr::V4(v4) if self.is_ipv6 => {
                let mapped = std::net::SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0);
                SockaddrStorage::from(mapped)
            }
            other => SockaddrStorage::from(other),
        };
        self.reserved = Some((destination, self.addresses.departure(path.source)));
        self.memory.get_mut(index * SLOT_BYTES..(index + 1) * SLOT_BYTES)
    }

    fn commit(&mut self, len_bytes: usize) {
        let Some((destination, source)) = self.reserved.take() else {
            return;
        };
        self.entries.push(Entry { destination, source, len_bytes: len_bytes.min(SLOT_BYTES) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket;

    fn batch(bound: &str) -> (SendBatch, SocketAddr) {
        let socket = socket::bind(bound.parse().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        let addresses = Addresses::new(local, &[], &["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()]);
        (SendBatch::new(socket, local.is_ipv6(), addresses, Arc::default()), local)
    }

    #[test]
    fn many_datagrams_leave_in_order_with_few_calls() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        let (mut batch, from) = batch("127.0.0.1:0");
        for number in 0..100_u32 {
            assert!(batch.push(Path { source: from, destination: to }, &number.to_be_bytes()));
        }
        batch.flush();
        assert_eq!((batch.metrics.send_calls.get(), batch.metrics.datagrams_sent.get()), (2, 100));
        for number in 0..100_u32 {
            let mut bytes = [0; 8];
            assert_eq!(receiver.recv_from(&mut bytes).unwrap(), (4, from));
            assert_eq!(bytes[..4], number.to_be_bytes());
        }
    }

    #[test]
    fn a_datagram_leaves_from_the_candidate_that_it_is_sent_by() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let (mut batch, local) = batch(bound);
            for ip in ["127.0.0.2", "127.0.0.1"] {
                let source = SocketAddr::new(ip.parse().unwrap(), local.port());
                assert!(batch.push(Path { source, destination: to }, ip.as_bytes()));
                batch.flush();
                let (_, seen) = receiver.recv_from(&mut [0; 16]).unwrap();
                assert_eq!(seen, source, "{bound}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_counted_and_the_next_goes() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut batch, from) = batch("127.0.0.1:0");
        let nowhere = "[2001:db8::1]:9".parse().unwrap();
        batch.push(Path { source: from, destination: nowhere }, b"lost");
        batch.push(Path { source: from, destination: receiver.local_addr().unwrap() }, b"kept");
        assert!(!batch.push(Path { source: from, destination: nowhere }, &[0; SLOT_BYTES + 1]));
        batch.flush();
        let mut bytes = [0; 8];
        assert_eq!(receiver.recv(&mut bytes).unwrap(), 4);
        assert_eq!(&bytes[..4], b"kept");
        assert_eq!((batch.metrics.send_errors.get(), batch.metrics.send_dropped.get()), (1, 1));
        assert!(!batch.is_blocked());
    }
}
