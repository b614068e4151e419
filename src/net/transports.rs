//! Both transports as one sink: each datagram leaves by that of its path.
//!
//! **Invariant:** a commit goes where its reservation was made.

use super::send::SendBatch;
use super::tcp::port::TcpPort;
use crate::egress::sink::{DatagramSink, Path, Traffic, Transport};

/// The UDP batch and, unless there is none, the TCP port.
pub struct Transports {
    /// By UDP.
    pub udp: SendBatch,
    /// By TCP.
    pub tcp: Option<TcpPort>,
    reserved: Transport,
}

impl Transports {
    /// Nothing waits yet.
    pub fn new(udp: SendBatch, tcp: Option<TcpPort>) -> Self {
        Self { udp, tcp, reserved: Transport::Udp }
    }

    /// Sends what waits, as far as the kernel takes it.
    pub fn flush(&mut self) {
        self.udp.flush();
        if let Some(tcp) = &mut self.tcp {
            tcp.flush();
        }
    }
}

impl DatagramSink for Transports {
    #[inline]
    fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.reserved = path.transport;
        match path.transport {
            Transport::Udp => self.udp.reserve(path, traffic, len_bytes),
            Transport::Tcp => self.tcp.as_mut()?.reserve(path, traffic, len_bytes),
        }
    }

    #[inline]
    fn commit(&mut self, len_bytes: usize) {
        match self.reserved {
            Transport::Udp => self.udp.commit(len_bytes),
            Transport::Tcp => {
                if let Some(tcp) = &mut self.tcp {
                    tcp.commit(len_bytes);
                }
            }
        }
    }
}
