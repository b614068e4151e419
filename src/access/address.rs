//! Under which address a client is counted, wherever one may have few of something.
//!
//! **Invariant:** what one customer of a network commands counts as one.

use std::net::IpAddr;

/// The IPv4 address, also of a client of a dual socket, or the IPv6 /64: one customer commands a whole one. Loopback stays
/// as it is: behind a reverse proxy everyone comes from there, and callers make an exception of it.
#[must_use]
pub fn counted_under(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((ip.to_bits() & !u128::from(u64::MAX)).into()),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_64_are_one_and_the_rest_are_themselves() {
        for (one, other) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(counted_under(one.parse().unwrap()), counted_under(other.parse().unwrap()), "{one}");
        }
        for (one, other) in [
            ("2001:db8:0:1::1", "2001:db8:0:2::1"),
            ("192.0.2.1", "192.0.2.2"),
            ("::1", "::2"),
            ("127.0.0.1", "127.0.0.2"),
        ] {
            assert_ne!(counted_under(one.parse().unwrap()), counted_under(other.parse().unwrap()), "{one}");
        }
        assert!(counted_under("::1".parse().unwrap()).is_loopback());
    }
}
