//! The addresses that clients are told to send to, and how they map to those that datagrams arrive at.
//!
//! **Invariant:** the hub sees its own candidates alone: a datagram that came through a 1:1 NAT or a mapped port is handed
//! in under the candidate that its sender was told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An address that clients are told, with the port where another one than ours is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicIp {
    /// The address.
    pub ip: IpAddr,
    /// The port; ours without it.
    pub port: Option<u16>,
}

/// What is no `IP[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no IP or IP:PORT, such as 203.0.113.7, 203.0.113.7:9000 or [2001:db8::7]:9000")]
pub struct BadPublicIp(String);

impl FromStr for PublicIp {
    type Err = BadPublicIp;

    fn from_str(text: &str) -> Result<Self, BadPublicIp> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let parsed = if let Ok(ip) = bare.parse::<IpAddr>() {
            Some(Self { ip, port: None })
        } else {
            text.parse::<SocketAddr>()
                .ok()
                .filter(|address| address.port() != 0)
                .map(|address| Self { ip: address.ip(), port: Some(address.port()) })
        };
        parsed
            .filter(|public| !public.ip.is_unspecified() && !public.ip.is_multicast())
            .ok_or_else(|| BadPublicIp(text.to_owned()))
    }
}

impl fmt::Display for PublicIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// The most candidates that are advertised; hosts with hundreds of virtual interfaces exist.
const CANDIDATES_MAX: usize = 16;

/// Our candidates and where they lead.
#[derive(Debug, Clone)]
pub struct Addresses {
    candidates: Vec<SocketAddr>,
    /// Those of them that are addresses of this machine, from which datagrams can be sent.
    ours: Vec<SocketAddr>,
    bound: SocketAddr,
}

impl Addresses {
    /// The candidates of a socket bound to `bound`: what `public` says, else `bound` itself, else the addresses of the
    /// machine's interfaces.
    #[must_use]
    pub fn new(bound: SocketAddr, public: &[PublicIp], interfaces: &[IpAddr]) -> Self {
        let port = bound.port();
        let mut candidates: Vec<SocketAddr> = if !public.is_empty() {
            let told = |public: &PublicIp| SocketAddr::new(public.ip, public.port.unwrap_or(port));
            public.iter().map(told).collect()
        } else if !bound.ip().is_unspecified() {
            vec![bound]
        } else {
            let reaches = |ip: &&IpAddr| bound.is_ipv6() || ip.is_ipv4();
            interfaces.iter().filter(reaches).map(|ip| SocketAddr::new(*ip, port)).collect()
        };
        candidates.truncate(CANDIDATES_MAX);
        // A public address may be one of ours all the same: of a machine without NAT that has several.
        let is_ours = |candidate: &&SocketAddr| candidate.ip().is_loopback() || interfaces.contains(&candidate.ip());
        let ours = candidates.iter().filter(is_ours).copied().collect();
        Self { candidates, ours, bound }
    }

    /// What clients are told.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.candidates
    }

    /// The candidate under which a datagram arrived that the kernel says was sent to `destination` and came from `source`.
    #[must_use]
    pub fn arrival(&self, destination: Option<IpAddr>, source: IpAddr) -> SocketAddr {
        let destination = destination.map(|ip| ip.to_canonical());
        let exact = |candidate: &&SocketAddr| Some(candidate.ip()) == destination;
        let family = |candidate: &&SocketAddr| candidate.is_ipv4() == source.is_ipv4();
        self.candidates
            .iter()
            .find(exact)
            .or_else(|| self.candidates.iter().find(family))
            .or_else(|| self.candidates.first())
            .copied()
            .unwrap_or(self.bound)
    }

    /// The address to send from for a datagram of `candidate`; `None` leaves it to the kernel.
    #[must_use]
    pub fn departure(&self, candidate: SocketAddr) -> Option<IpAddr> {
        let choose = self.bound.ip().is_unspecified() && self.ours.contains(&candidate);
        choose.then(|| candidate.ip())
    }
}

/// The addresses of the machine's interfaces that others may reach: no loopback and no link-local ones, unless there is
/// nothing but loopback.
#[must_use]
pub fn interface_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return vec![IpAddr::from([127, 0, 0, 1])];
    };
    let mut found: Vec<IpAddr> = interfaces
        .filter(|interface| interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
        })
        .collect();
    // IPv4 first: it is what most clients reach at once.
    found.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    found.dedup();
    let reachable: Vec<IpAddr> = found.iter().copied().filter(|ip| !is_link_local(*ip) && !ip.is_loopback()).collect();
    if reachable.is_empty() {
        found.retain(IpAddr::is_loopback);
        return found;
    }
    reachable
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn public_addresses_are_read_in_every_form() {
        for (text, wanted) in [
            ("203.0.113.7", ("203.0.113.7", None)),
            ("203.0.113.7:9000", ("203.0.113.7", Some(9000))),
            ("2001:db8::7", ("2001:db8::7", None)),
            ("[2001:db8::7]", ("2001:db8::7", None)),
            ("[2001:db8::7]:9000", ("2001:db8::7", Some(9000))),
        ] {
            let public: PublicIp = text.parse().unwrap();
            assert_eq!((public.ip, public.port), (ip(wanted.0), wanted.1), "{text}");
        }
        for text in ["", "host", "0.0.0.0", "::", "224.0.0.1", "203.0.113.7:0", "203.0.113.7:x", "203.0.113.7:70000"] {
            assert!(text.parse::<PublicIp>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_address_is_the_candidate() {
        let addresses = Addresses::new(address("127.0.0.1:8189"), &[], &[ip("192.0.2.1")]);
        assert_eq!(addresses.candidates(), [address("127.0.0.1:8189")]);
        assert_eq!(addresses.arrival(None, ip("127.0.0.1")), address("127.0.0.1:8189"));
        assert_eq!(addresses.departure(address("127.0.0.1:8189")), None);
    }

    #[test]
    fn an_unspecified_address_stands_for_those_of_the_interfaces() {
        let interfaces = [ip("192.0.2.1"), ip("198.51.100.1"), ip("2001:db8::1")];
        let v4 = Addresses::new(address("0.0.0.0:8189"), &[], &interfaces);
        assert_eq!(v4.candidates(), [address("192.0.2.1:8189"), address("198.51.100.1:8189")]);
        assert_eq!(v4.arrival(Some(ip("198.51.100.1")), ip("192.0.2.9")), address("198.51.100.1:8189"));
        assert_eq!(v4.arrival(Some(ip("127.0.0.1")), ip("127.0.0.1")), address("192.0.2.1:8189"));
        assert_eq!(v4.departure(address("198.51.100.1:8189")), Some(ip("198.51.100.1")));
        let v6 = Addresses::new(address("[::]:8189"), &[], &interfaces);
        assert_eq!(v6.candidates().len(), 3);
        assert_eq!(v6.arrival(Some(ip("::ffff:192.0.2.1")), ip("192.0.2.9")), address("192.0.2.1:8189"));
        assert_eq!(v6.arrival(None, ip("2001:db8::9")), address("[2001:db8::1]:8189"));
    }

    #[test]
    fn behind_a_nat_with_a_mapped_port_arrivals_bear_the_public_address() {
        let public = ["203.0.113.7:9000".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let addresses = Addresses::new(address("10.0.0.5:8189"), &public, &[]);
        assert_eq!(addresses.candidates(), [address("203.0.113.7:9000"), address("[2001:db8::7]:8189")]);
        let told = addresses.arrival(Some(ip("10.0.0.5")), ip("192.0.2.9"));
        assert_eq!(told, address("203.0.113.7:9000"));
        assert_eq!(addresses.departure(told), None);
    }

    #[test]
    fn a_public_address_of_our_own_is_sent_from() {
        let public = ["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap(), "203.0.113.7".parse().unwrap()];
        let addresses = Addresses::new(address("0.0.0.0:8189"), &public, &[ip("192.0.2.1"), ip("198.51.100.1")]);
        for (arrived_at, sent_from) in [("127.0.0.1", Some("127.0.0.1")), ("192.0.2.1", Some("192.0.2.1"))] {
            let told = addresses.arrival(Some(ip(arrived_at)), ip("198.51.100.9"));
            assert_eq!(told.ip(), ip(arrived_at));
            // Left to the kernel, the answer would bear the address nearest to the client, which it never asked.
            assert_eq!(addresses.departure(told), sent_from.map(ip));
        }
        assert_eq!(addresses.departure(address("203.0.113.7:8189")), None);
    }
}
