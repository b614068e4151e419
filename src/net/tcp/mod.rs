//! ICE over TCP: the TCP port for viewers and broadcasters whose firewalls let no UDP pass.
//!
//! Clients connect, we never do (passive candidates, RFC 6544); each datagram travels in a frame (RFC 4571). Look at
//! [`TcpPort`](port::TcpPort) first: the driver polls it, and it is a sink as the UDP batch is.
//!
//! **Invariant:** a connection is nobody's until a peer has verified a STUN message from it, and such a one is closed soon;
//! whoever reads slowly loses datagrams, video first, and holds nobody up.

mod connection;
pub mod framing;
mod outbound;
pub mod port;
