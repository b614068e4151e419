//! The place outgoing datagrams are written into.

use std::net::SocketAddr;

/// A batch of outgoing datagrams that lends its slots: reserve, fill, commit.
///
/// Datagrams to one destination leave in the order of their commits.
pub trait DatagramSink {
    /// Lends a slot of at least `len_bytes` for a datagram from our candidate `source` to `destination`.
    ///
    /// `None` when the batch is full or `len_bytes` exceeds a slot: the datagram is dropped, and the sink counts it. A
    /// reservation that is not committed costs nothing; the next one takes its place.
    fn reserve(&mut self, source: SocketAddr, destination: SocketAddr, len_bytes: usize) -> Option<&mut [u8]>;

    /// Takes the first `len_bytes` of the slot reserved last as a datagram to send.
    fn commit(&mut self, len_bytes: usize);

    /// Copies a ready datagram into the batch; `false` when it was dropped.
    fn push(&mut self, source: SocketAddr, destination: SocketAddr, datagram: &[u8]) -> bool {
        let Some(slot) = self.reserve(source, destination, datagram.len()) else {
            return false;
        };
        let Some(slot) = slot.get_mut(..datagram.len()) else {
            return false;
        };
        slot.copy_from_slice(datagram);
        self.commit(datagram.len());
        true
    }
}
