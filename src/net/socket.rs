//! The one UDP socket.
//!
//! **Invariant:** it never blocks; its buffers are as large as the kernel lets them be, and who runs the server is told
//! when that is too small.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, SndBufForce};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// What is asked of the kernel for each direction, in bytes: half a second of ingest at 100 Mbit/s, and a keyframe to some
/// hundred viewers.
const BUFFER_BYTES: usize = 8 << 20;

/// Binds the socket.
///
/// # Errors
///
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // `[::]` is for both families.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    enlarge(&socket);
    Ok(socket)
}

/// Enlarges both buffers, past the sysctl's limit where we may.
fn enlarge(socket: &UdpSocket) {
    let reference = SockRef::from(socket);
    if setsockopt(socket, RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = reference.set_recv_buffer_size(BUFFER_BYTES);
    }
    if setsockopt(socket, SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = reference.set_send_buffer_size(BUFFER_BYTES);
    }
    for (name, size) in
        [("net.core.rmem_max", reference.recv_buffer_size()), ("net.core.wmem_max", reference.send_buffer_size())]
    {
        let granted = size.unwrap_or(0);
        // Linux counts its own bookkeeping, too, and so reports twice what was asked for.
        if granted < BUFFER_BYTES {
            tracing::warn!(
                granted_bytes = granted,
                "the kernel keeps the UDP buffer small, packets will be lost under load: sysctl -w {name}={BUFFER_BYTES}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_socket_does_not_block() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = socket.recv_from(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
