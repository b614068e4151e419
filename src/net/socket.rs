//! The one UDP socket.
//!
//! **Invariant:** it never blocks; its buffers are as large as the kernel lets them be, and who runs the server is told
//! when that is too small.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce};
use nix::sys::socket::{GetSockOpt, SetSockOpt, getsockopt, setsockopt};
use socket2::{Domain, Protocol, Socket, Type};

/// What is asked of the kernel for what arrives, in bytes: half a second of ingest at 100 Mbit/s. The ingest comes first:
/// what is lost here is lost for every viewer.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// What is asked of the kernel for what leaves, in bytes: a frame of a 2.5 Mbit/s video to 1,000 viewers at once. Each of
/// its nine datagrams is counted as 2,304 bytes when it leaves by itself, and Linux takes twice what is asked for.
const SEND_BUFFER_BYTES: usize = 12 << 20;

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
    enlarge_both(&socket);
    Ok(socket)
}

/// Enlarges both buffers, and tells who runs the server where the kernel does not let us.
fn enlarge_both(socket: &UdpSocket) {
    let receive = enlarge(socket, RECEIVE_BUFFER_BYTES, RcvBufForce, RcvBuf);
    let send = enlarge(socket, SEND_BUFFER_BYTES, SndBufForce, SndBuf);
    for (sysctl, granted_bytes, wanted_bytes) in
        [("net.core.rmem_max", receive, RECEIVE_BUFFER_BYTES), ("net.core.wmem_max", send, SEND_BUFFER_BYTES)]
    {
        if granted_bytes < wanted_bytes {
            tracing::warn!(
                granted_bytes,
                "the kernel keeps the UDP buffer small, packets will be lost under load: sysctl -w {sysctl}={wanted_bytes}"
            );
        }
    }
}

/// Enlarges the buffer of `option`, with `force` past the sysctl's limit where we may; returns the bytes granted.
fn enlarge(
    socket: &UdpSocket,
    wanted_bytes: usize,
    force: impl SetSockOpt<Val = usize>,
    option: impl SetSockOpt<Val = usize> + GetSockOpt<Val = usize>,
) -> usize {
    if setsockopt(socket, force, &wanted_bytes).is_err() {
        // Refused or clamped: what came of it is read back.
        let _ = setsockopt(socket, option, &wanted_bytes);
    }
    // Linux doubles what it grants, for its own bookkeeping, and reports that (socket(7)).
    getsockopt(socket, option).unwrap_or(0) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the sysctl allows: a network namespace may not show the sysctl itself.
    fn limit(option: impl SetSockOpt<Val = usize> + GetSockOpt<Val = usize>) -> usize {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        setsockopt(&socket, option, &(1 << 30)).unwrap();
        getsockopt(&socket, option).unwrap() / 2
    }

    #[test]
    fn a_bound_socket_does_not_block() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = socket.recv_from(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn buffers_are_as_large_as_we_may_have_them() {
        let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let granted = [getsockopt(&socket, RcvBuf).unwrap() / 2, getsockopt(&socket, SndBuf).unwrap() / 2];
        let wanted = [RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES];
        let is_privileged = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES).is_ok();
        let clamped = [wanted[0].min(limit(RcvBuf)), wanted[1].min(limit(SndBuf))];
        assert_eq!(granted, if is_privileged { wanted } else { clamped });
    }

    #[test]
    fn without_privileges_the_limit_is_what_is_granted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(enlarge(&socket, limit(RcvBuf) + 1_000, RcvBuf, RcvBuf), limit(RcvBuf));
        assert_eq!(enlarge(&socket, 100_000, SndBuf, SndBuf), 100_000);
    }
}
