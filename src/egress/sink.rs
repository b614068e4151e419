//! The place outgoing datagrams are written into.

use std::net::SocketAddr;

/// What carries datagrams to the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// The one UDP socket.
    Udp,
    /// A TCP connection that the other side made (RFC 6544), each datagram in a frame (RFC 4571).
    Tcp,
}

/// An address of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remote {
    /// How it is reached.
    pub transport: Transport,
    /// The address itself; over TCP it names one connection.
    pub address: SocketAddr,
}

impl Remote {
    /// An address reached by UDP.
    #[must_use]
    pub const fn udp(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }

    /// The other end of a TCP connection.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, address }
    }
}

/// Where a datagram goes: from which of our candidates, by which transport, to which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// What carries it.
    pub transport: Transport,
    /// The candidate of ours.
    pub source: SocketAddr,
    /// The other side's address.
    pub destination: SocketAddr,
}

impl Path {
    /// From our candidate `source` by UDP to `destination`.
    #[must_use]
    pub const fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { transport: Transport::Udp, source, destination }
    }

    /// Over the TCP connection that `destination` made to our candidate `source`.
    #[must_use]
    pub const fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, source, destination }
    }

    /// The other side.
    #[must_use]
    pub const fn remote(&self) -> Remote {
        Remote { transport: self.transport, address: self.destination }
    }
}

/// What a datagram carries, which decides what is dropped first when the kernel takes no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// STUN, DTLS, RTCP.
    Control,
    /// RTP of an audio track.
    Audio,
    /// RTP of a video track.
    Video,
}

/// A batch of outgoing datagrams that lends its slots: reserve, fill, commit.
///
/// Datagrams to one destination leave in the order of their commits.
pub trait DatagramSink {
    /// Lends a slot of at least `len_bytes` for a datagram of `traffic` on `path`.
    ///
    /// `None` when the batch is full or `len_bytes` exceeds a slot: the datagram is dropped, and the sink counts it. A
    /// reservation that is not committed costs nothing; the next one takes its place.
    fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]>;

    /// Takes the first `len_bytes` of the slot reserved last, no more than were reserved, as a datagram to send.
    fn commit(&mut self, len_bytes: usize);

    /// Copies a ready datagram of [`Traffic::Control`] into the batch; `false` when it was dropped.
    fn push(&mut self, path: Path, datagram: &[u8]) -> bool {
        let slot = self.reserve(path, Traffic::Control, datagram.len());
        let Some(slot) = slot.and_then(|slot| slot.get_mut(..datagram.len())) else {
            return false;
        };
        slot.copy_from_slice(datagram);
        self.commit(datagram.len());
        true
    }
}
