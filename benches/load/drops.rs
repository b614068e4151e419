//! Datagrams that the kernel dropped because a socket's buffer was full.
//!
//! **Invariant:** all sockets in question are bound to IPv4.

use std::collections::BTreeSet;
use std::fs;

/// How many were dropped at the sockets bound to these ports, since they were opened.
pub fn drops(ports: &BTreeSet<u16>) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").expect("the kernel tells its UDP sockets");
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.split_once(':')?;
        let is_meant = ports.contains(&u16::from_str_radix(port, 16).ok()?);
        is_meant.then(|| fields.last()?.parse::<u64>().ok()).flatten()
    });
    lines.sum()
}
