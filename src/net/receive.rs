//! The receive batch: many datagrams with one system call.
//!
//! **Invariant:** its memory is allocated once; datagrams are read where the kernel put them.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

/// What one buffer of the batch holds, in bytes: a whole run that the kernel has joined (GRO).
const BUFFER_BYTES: usize = 64 * 1024;

/// Datagrams of one `recvmmsg`.
pub struct ReceiveBatch {
    state: UdpSocketState,
    memory: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

/// One datagram.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// Who sent it; IPv4 is never written as IPv6.
    pub source: SocketAddr,
    /// To which of our addresses, where the kernel tells.
    pub destination: Option<IpAddr>,
    /// What it holds.
    pub bytes: &'a [u8],
}

impl ReceiveBatch {
    /// A batch for `socket`, which is set up to tell destinations and to join runs.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn new(socket: &UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new(UdpSockRef::from(socket))?,
            memory: vec![0; BUFFER_BYTES * BATCH_SIZE],
            metas: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        })
    }

    /// Receives what is there, up to a full batch; tells whether that was anything.
    ///
    /// # Errors
    ///
    /// What the kernel says, but not that nothing is there.
    pub fn fill(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.filled = 0;
        let mut chunks = self.memory.chunks_exact_mut(BUFFER_BYTES);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        match self.state.recv(UdpSockRef::from(socket), &mut buffers, &mut self.metas) {
            Ok(filled) => {
                self.filled = filled;
                Ok(filled > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The datagrams received last.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.memory.chunks_exact(BUFFER_BYTES).zip(&self.metas).take(self.filled).flat_map(|(buffer, meta)| {
            let run = buffer.get(..meta.len).unwrap_or_default();
            let source = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            run.chunks(meta.stride.max(1)).map(move |bytes| Datagram { source, destination: meta.dst_ip, bytes })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket;

    #[test]
    fn datagrams_arrive_whole_with_their_addresses() {
        let ours = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        for message in [&b"one"[..], b"two", b"three"] {
            theirs.send_to(message, ours.local_addr().unwrap()).unwrap();
        }
        let mut batch = ReceiveBatch::new(&ours).unwrap();
        let mut received = Vec::new();
        while received.len() < 3 {
            batch.fill(&ours).unwrap();
            for datagram in batch.datagrams() {
                assert_eq!(datagram.source, theirs.local_addr().unwrap());
                assert_eq!(datagram.destination, Some("127.0.0.1".parse().unwrap()));
                received.push(datagram.bytes.to_vec());
            }
        }
        assert_eq!(received, [&b"one"[..], b"two", b"three"]);
    }
}
