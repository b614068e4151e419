//! What arrived and was thrown away by the kernel, because the socket's buffer was full.
//!
//! **Invariant:** it is the count of one socket, whoever else has one with the same port.

use std::net::UdpSocket;

use nix::sys::stat::fstat;

/// Where the kernel tells of one socket's losses.
#[derive(Debug)]
pub struct ReceiveDrops {
    inode: u64,
    /// A socket for both families stands with those of IPv6.
    table: &'static str,
}

impl ReceiveDrops {
    /// Those of `socket`.
    pub fn of(socket: &UdpSocket) -> Option<Self> {
        let is_ipv6 = socket.local_addr().ok()?.is_ipv6();
        let inode = fstat(socket).ok()?.st_ino;
        Some(Self { inode, table: if is_ipv6 { "/proc/net/udp6" } else { "/proc/net/udp" } })
    }

    /// How many datagrams by now; `None` where the kernel does not tell.
    pub fn read(&self) -> Option<u64> {
        drops_in(&std::fs::read_to_string(self.table).ok()?, self.inode)
    }
}

/// The last word of the line of that inode, which is the tenth.
fn drops_in(table: &str, inode: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let found: u64 = words.nth(9)?.parse().ok()?;
        if found == inode { words.last()?.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::socket;

    #[test]
    fn what_does_not_fit_into_the_buffer_is_counted_for_its_own_socket() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (full, other) = (socket::bind(address.parse().unwrap()).unwrap(), UdpSocket::bind(address).unwrap());
            socket2::SockRef::from(&full).set_recv_buffer_size(4_096).unwrap();
            let drops = ReceiveDrops::of(&full).unwrap();
            assert_eq!(drops.read(), Some(0));
            for _ in 0..64 {
                other.send_to(&[0; 1_000], full.local_addr().unwrap()).unwrap();
            }
            let lost = drops.read().unwrap();
            assert!((1..64).contains(&lost), "{lost}");
            assert_eq!(ReceiveDrops::of(&other).unwrap().read(), Some(0));
        }
    }

    #[test]
    fn a_table_of_another_form_tells_nothing() {
        for table in ["", "header\n", "header\n1 2 3\n", "header\na b c d e f g h i j k l m\n"] {
            assert_eq!(drops_in(table, 1), None, "{table}");
        }
    }
}
