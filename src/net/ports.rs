//! The ports of the media: UDP's, and TCP's of the same number.
//!
//! **Invariant:** both bear one number, so that one rule of a firewall or one line of a configuration is for both.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::addresses::{Addresses, PublicIp, interface_addresses};
use super::metrics::NetMetrics;
use super::socket;
use super::tcp::port::TcpPort;

/// How often another number is tried when TCP has no port of UDP's number.
const PORT_TRIES_MAX: usize = 16;

/// The ports of the media, of one number.
pub struct Ports {
    /// UDP.
    pub socket: UdpSocket,
    /// TCP, where it is wanted and there is one.
    pub tcp: Option<TcpPort>,
    /// The address that both are bound to.
    pub local: SocketAddr,
    /// What clients are told.
    pub addresses: Addresses,
}

impl Ports {
    /// Binds `udp`, and the same address for TCP if `has_tcp`. Without the latter it goes on, and tells who runs the server.
    ///
    /// # Errors
    ///
    /// What the kernel says of UDP.
    pub fn open(udp: SocketAddr, has_tcp: bool, public: &[PublicIp], metrics: &Arc<NetMetrics>) -> io::Result<Self> {
        let mut tries_left = PORT_TRIES_MAX;
        loop {
            let socket = socket::bind(udp)?;
            let local = socket.local_addr()?;
            let addresses = Addresses::new(local, public, &interface_addresses());
            let tcp = has_tcp.then(|| TcpPort::listen(local, addresses.clone(), Arc::clone(metrics))).transpose();
            let tcp = match tcp {
                Ok(tcp) => tcp,
                // Whoever left the number to us minds none.
                Err(_) if udp.port() == 0 && tries_left > 0 => {
                    tries_left -= 1;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "no TCP port {} for media: who cannot send UDP cannot be reached; free it, or say --ice-tcp off",
                        local.port()
                    );
                    None
                }
            };
            return Ok(Self { socket, tcp, local, addresses });
        }
    }
}
