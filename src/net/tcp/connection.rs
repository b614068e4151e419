//! One connection that a client made.
//!
//! **Invariant:** reading and writing never wait.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

use socket2::SockRef;

use super::framing::Unframer;
use super::outbound::Outbound;
use crate::egress::sink::Path;

/// How much the kernel may hold that was not sent yet, in bytes: what waits longer waits here, where it can be dropped.
const UNSENT_MAX_BYTES: u32 = 32 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// The stream itself, which does not block.
    pub stream: TcpStream,
    /// The path that an answer takes.
    pub path: Path,
    /// When it was made, or was last seen to be a peer's.
    pub since: Instant,
    /// Whether it is a peer's.
    pub is_bound: bool,
    /// What came while it was nobody's, in bytes.
    pub unbound_bytes: usize,
    /// Whether it is on the list of those that have something to write.
    pub is_dirty: bool,
    /// Whether it waits for the kernel to take more.
    pub is_blocked: bool,
    /// What waits to be written.
    pub outbound: Outbound,
    /// Finds the datagrams in what comes.
    pub unframer: Unframer,
}

impl Connection {
    /// Sets up a stream that was just accepted.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn new(stream: TcpStream, path: Path, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_MAX_BYTES)?;
        Ok(Self {
            stream,
            path,
            since: now,
            is_bound: false,
            unbound_bytes: 0,
            is_dirty: false,
            is_blocked: false,
            outbound: Outbound::default(),
            unframer: Unframer::default(),
        })
    }

    /// Reads what is there, as far as `buffer` holds it; `None` when there is nothing.
    ///
    /// # Errors
    ///
    /// Why it has ended, also when the client ended it.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len_bytes) => Ok(Some(len_bytes)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
