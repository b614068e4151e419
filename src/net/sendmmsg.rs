//! The system call that sends: many messages at once, each a datagram or a run that the kernel cuts into datagrams
//! (UDP GSO).
//!
//! **Invariant:** a call allocates nothing. `nix` gives all messages of a call the same control messages, so they share
//! the address they leave from and the length they are cut at.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::UdpGsoSegment;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, getsockopt, sendmmsg};

/// How many messages go with one call.
pub const CALL_MAX: usize = 64;

/// What all messages of a call have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Common {
    /// Our address to send from, where the kernel is not to choose.
    pub source: Option<IpAddr>,
    /// The length in bytes at which the kernel cuts messages that are longer.
    pub segment_bytes: Option<u16>,
}

/// What takes messages: the kernel, or what a test puts in its place.
pub trait Transmit {
    /// Sends the first [`CALL_MAX`] of `messages` without waiting; returns how many went.
    ///
    /// # Errors
    ///
    /// Why the first message did not go. An error of a later one ends the call before it.
    fn transmit<'a>(
        &mut self,
        messages: impl Iterator<Item = (SocketAddr, &'a [u8])>,
        common: Common,
    ) -> Result<usize, Errno>;
}

/// A socket with the memory that its calls need.
pub struct Sender {
    socket: UdpSocket,
    is_ipv6: bool,
    destinations: Box<[Option<SockaddrStorage>]>,
    /// Without control messages; with a source; with segments; with both.
    headers: [MultiHeaders<SockaddrStorage>; 4],
}

impl Sender {
    /// Sends from `socket`.
    pub fn new(socket: UdpSocket, is_ipv6: bool) -> Self {
        let source = || if is_ipv6 { cmsg_space!(in6_pktinfo) } else { cmsg_space!(in_pktinfo) };
        let both = || if is_ipv6 { cmsg_space!(in6_pktinfo, u16) } else { cmsg_space!(in_pktinfo, u16) };
        Self {
            socket,
            is_ipv6,
            destinations: vec![None; CALL_MAX].into_boxed_slice(),
            headers: [
                MultiHeaders::preallocate(CALL_MAX, None),
                MultiHeaders::preallocate(CALL_MAX, Some(source())),
                MultiHeaders::preallocate(CALL_MAX, Some(cmsg_space!(u16))),
                MultiHeaders::preallocate(CALL_MAX, Some(both())),
            ],
        }
    }

    /// Whether the kernel knows how to cut runs: one that does not may ignore what it is told and send one long datagram.
    pub fn knows_segments(&self) -> bool {
        getsockopt(&self.socket, UdpGsoSegment).is_ok()
    }
}

impl Transmit for Sender {
    fn transmit<'a>(
        &mut self,
        messages: impl Iterator<Item = (SocketAddr, &'a [u8])>,
        common: Common,
    ) -> Result<usize, Errno> {
        let mut slices: [[IoSlice<'_>; 1]; CALL_MAX] = std::array::from_fn(|_| [IoSlice::new(&[])]);
        let mut count = 0;
        for ((to, bytes), (slice, destination)) in messages.zip(slices.iter_mut().zip(&mut self.destinations)) {
            *slice = [IoSlice::new(bytes)];
            *destination = Some(storage(to, self.is_ipv6));
            count += 1;
        }
        let (info_v4, info_v6);
        let source = match common.source {
            None => None,
            Some(IpAddr::V4(ip)) if !self.is_ipv6 => {
                info_v4 = in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                    ipi_addr: in_addr { s_addr: 0 },
                };
                Some(ControlMessage::Ipv4PacketInfo(&info_v4))
            }
            Some(ip) => {
                let s6_addr = match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                };
                info_v6 = in6_pktinfo { ipi6_addr: in6_addr { s6_addr }, ipi6_ifindex: 0 };
                Some(ControlMessage::Ipv6PacketInfo(&info_v6))
            }
        };
        let segment = common.segment_bytes.as_ref().map(ControlMessage::UdpGsoSegments);
        let [plain, from, cut, cut_from] = &mut self.headers;
        let (slices, destinations) = (slices.iter().take(count), self.destinations.get(..count).unwrap_or_default());
        let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let sent = match (source, segment) {
            (None, None) => sendmmsg(fd, plain, slices, destinations, [], flags),
            (Some(source), None) => sendmmsg(fd, from, slices, destinations, [source], flags),
            (None, Some(segment)) => sendmmsg(fd, cut, slices, destinations, [segment], flags),
            (Some(source), Some(segment)) => sendmmsg(fd, cut_from, slices, destinations, [source, segment], flags),
        };
        Ok(sent?.count())
    }
}

/// `address` as the socket's family wants it.
fn storage(address: SocketAddr, is_ipv6: bool) -> SockaddrStorage {
    match address {
        SocketAddr::V4(v4) if is_ipv6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        other => other.into(),
    }
}
