//! The TCP port: who may connect, who may stay, and what is written to whom.
//!
//! **Invariant:** connections are capped, and those of nobody much more so; each is in the table, the index and the poll, or
//! in none of them; whoever had one is told of by [`TcpPort::pop_ended`] when it ends.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::Connection;
use super::framing::Unframer;
use crate::access::address::counted_under;
use crate::egress::sink::{DatagramSink, Path, Remote, Traffic};
use crate::net::addresses::Addresses;
use crate::net::metrics::NetMetrics;

/// The most connections.
const CONNECTIONS_MAX: usize = 4_096;

/// The most connections that are nobody's; beyond them the oldest one goes.
const UNBOUND_MAX: usize = 256;

/// The most of those from one IPv4 address or one IPv6 /64.
const UNBOUND_PER_ADDRESS_MAX: usize = 32;

/// How long a connection may be nobody's.
const UNBOUND_FOR_MAX: Duration = Duration::from_secs(10);

/// What a connection may send while it is nobody's, in bytes: a few checks are enough.
const UNBOUND_MAX_BYTES: usize = 16 * 1024;

/// Connections that the kernel has made and we have not seen.
const BACKLOG: i32 = 256;

/// Connections that are taken in each turn.
const ACCEPTS_PER_TURN: usize = 16;

/// Connections that are looked at each turn.
const EVENTS_PER_TURN: usize = 64;

/// The listener's name in the poll: no connection has it.
const LISTENER: u64 = u64::MAX;

/// All connections of the media port.
pub struct TcpPort {
    listener: TcpListener,
    /// Whether connections are accepted now: not while there are no file descriptors.
    is_accepting: bool,
    epoll: Epoll,
    addresses: Addresses,
    connections: Slab<Connection>,
    by_remote: HashMap<SocketAddr, usize>,
    /// Those that have something to write.
    dirty: Vec<usize>,
    reserved: Option<usize>,
    ended: VecDeque<Remote>,
    metrics: Arc<NetMetrics>,
}

impl TcpPort {
    /// Listens on `address`, whose candidates are those of `addresses`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn listen(address: SocketAddr, addresses: Addresses, metrics: Arc<NetMetrics>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            // `[::]` is for both families.
            socket.set_only_v6(false)?;
        }
        // Connections of the process before, which have yet to time out, are no reason not to start.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            is_accepting: true,
            epoll,
            addresses,
            connections: Slab::new(),
            by_remote: HashMap::new(),
            dirty: Vec::new(),
            reserved: None,
            ended: VecDeque::new(),
            metrics,
        })
    }

    /// Can be read from when [`poll`](Self::poll) has something to do.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Takes connections in, goes on with writing, and adds those that can be read from to `readable`.
    pub fn poll(&mut self, now: Instant, readable: &mut Vec<usize>) {
        let mut events = [EpollEvent::empty(); EVENTS_PER_TURN];
        let Ok(count) = self.epoll.wait(&mut events, EpollTimeout::ZERO) else {
            // Interrupted: it says so again.
            return;
        };
        for event in events.iter().take(count) {
            if event.data() == LISTENER {
                self.accept(now);
                continue;
            }
            let Ok(place) = usize::try_from(event.data()) else { continue };
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.write(place);
            }
            if event.events().intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                readable.push(place);
            }
        }
    }

    /// Reads from a connection into `buffer`: the path that answers take, how much there is, and what finds the datagrams
    /// in it, to be [put back](Self::put_back). `None` when there is nothing; the connection may have ended.
    pub fn read(&mut self, place: usize, buffer: &mut [u8]) -> Option<(Path, usize, Unframer)> {
        let connection = self.connections.get_mut(place)?;
        match connection.read(buffer) {
            Ok(None) => None,
            Ok(Some(len_bytes)) => {
                self.metrics.tcp_bytes_received.add(len_bytes as u64);
                if !connection.is_bound {
                    connection.unbound_bytes += len_bytes;
                    if connection.unbound_bytes > UNBOUND_MAX_BYTES {
                        self.close(place, "it says much and is nobody's");
                        return None;
                    }
                }
                Some((connection.path, len_bytes, std::mem::take(&mut connection.unframer)))
            }
            Err(error) => {
                tracing::debug!(%error, "a TCP connection was read to its end");
                self.close(place, "its other end is gone");
                None
            }
        }
    }

    /// Puts back what [`read`](Self::read) lent, with whether the connection is a peer's.
    pub fn put_back(&mut self, place: usize, unframer: Unframer, is_bound: bool) {
        if let Some(connection) = self.connections.get_mut(place) {
            connection.unframer = unframer;
            connection.is_bound |= is_bound;
        }
    }

    /// Closes a connection.
    pub fn close(&mut self, place: usize, why: &'static str) {
        let Some(connection) = self.connections.try_remove(place) else {
            return;
        };
        // With the stream it leaves the poll by itself, unless something has gone wrong already.
        let _ = self.epoll.delete(&connection.stream);
        let remote = connection.path.remote();
        if self.by_remote.get(&remote.address) == Some(&place) {
            self.by_remote.remove(&remote.address);
        }
        self.ended.push_back(remote);
        self.metrics.tcp_connections.set(self.connections.len() as u64);
        tracing::debug!(%remote.address, why, "a TCP connection is closed");
    }

    /// A connection that has ended, and was not told of before.
    pub fn pop_ended(&mut self) -> Option<Remote> {
        self.ended.pop_front()
    }

    /// Closes those that have been nobody's for too long, and accepts again if it could not.
    pub fn sweep(&mut self, now: Instant, is_bound: impl Fn(Remote) -> bool) {
        let mut late = Vec::new();
        for (place, connection) in &mut self.connections {
            connection.is_bound = is_bound(connection.path.remote());
            if connection.is_bound {
                connection.since = now;
                connection.unbound_bytes = 0;
            } else if now >= connection.since + UNBOUND_FOR_MAX {
                late.push(place);
            }
        }
        for place in late {
            self.close(place, "it is nobody's");
        }
        if !self.is_accepting {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, LISTENER);
            self.is_accepting = self.epoll.add(&self.listener, event).is_ok();
        }
    }

    /// Writes what waits, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while let Some(place) = self.dirty.pop() {
            if let Some(connection) = self.connections.get_mut(place) {
                connection.is_dirty = false;
                // What is blocked goes on when the poll says so.
                if !connection.is_blocked {
                    self.write(place);
                }
            }
        }
    }

    fn write(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place) else {
            return;
        };
        let is_all_written = match connection.outbound.flush(&connection.stream) {
            Ok(is_all_written) => is_all_written,
            Err(error) => {
                tracing::debug!(%error, "a TCP connection takes nothing any more");
                self.close(place, "it could not be written to");
                return;
            }
        };
        if connection.is_blocked != is_all_written {
            return;
        }
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, !is_all_written);
        let mut event = EpollEvent::new(flags, place as u64);
        if self.epoll.modify(&connection.stream, &mut event).is_ok() {
            connection.is_blocked = !is_all_written;
        } else {
            self.close(place, "it cannot be polled");
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            let (stream, remote) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One that had gone before we came to it.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // No file descriptors, or no memory: it would be told of again and again.
                    tracing::warn!(%error, "a TCP connection for media cannot be accepted: none are for a second");
                    self.is_accepting = self.epoll.delete(&self.listener).is_err();
                    return;
                }
            };
            let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
            if !self.makes_room(remote.ip()) {
                self.metrics.tcp_refused.add(1);
                continue;
            }
            let destination = stream.local_addr().ok().map(|local| local.ip());
            let path = Path::tcp(self.addresses.arrival(destination, remote.ip()), remote);
            match Connection::new(stream, path, now) {
                Ok(connection) => self.take_in(connection, remote),
                Err(error) => tracing::debug!(%error, "a TCP connection could not be set up"),
            }
        }
    }

    fn take_in(&mut self, connection: Connection, remote: SocketAddr) {
        // Possible where we have several addresses; a path to it would not say which of the two it means.
        if let Some(other) = self.by_remote.get(&remote).copied() {
            self.close(other, "another came from the same address");
        }
        let entry = self.connections.vacant_entry();
        let place = entry.key();
        if let Err(error) = self.epoll.add(&connection.stream, EpollEvent::new(EpollFlags::EPOLLIN, place as u64)) {
            tracing::debug!(%error, "a TCP connection could not be polled");
            return;
        }
        entry.insert(connection);
        self.metrics.tcp_accepted.add(1);
        self.metrics.tcp_connections.set(self.connections.len() as u64);
        self.by_remote.insert(remote, place);
    }

    /// Whether one more from `ip` may come; of those that are nobody's, the oldest one goes for it.
    fn makes_room(&mut self, ip: IpAddr) -> bool {
        if self.connections.len() >= CONNECTIONS_MAX {
            return false;
        }
        let unbound = || self.connections.iter().filter(|(_, connection)| !connection.is_bound);
        let ip = counted_under(ip);
        let is_theirs = |connection: &Connection| counted_under(connection.path.destination.ip()) == ip;
        if unbound().filter(|(_, connection)| is_theirs(connection)).count() >= UNBOUND_PER_ADDRESS_MAX {
            return false;
        }
        if unbound().count() >= UNBOUND_MAX {
            let oldest = unbound().min_by_key(|(_, connection)| connection.since).map(|(place, _)| place);
            if let Some(oldest) = oldest {
                self.close(oldest, "too many are nobody's");
            }
        }
        true
    }
}

impl DatagramSink for TcpPort {
    fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.reserved = None;
        let place = self.by_remote.get(&path.destination).copied();
        let connection = place.and_then(|place| self.connections.get_mut(place));
        let slot = connection.and_then(|connection| connection.outbound.reserve(traffic, len_bytes));
        match &slot {
            Some(_) => self.reserved = place,
            None => self.metrics.tcp_dropped.add(1),
        }
        slot
    }

    fn commit(&mut self, len_bytes: usize) {
        let Some(place) = self.reserved.take() else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(place) {
            connection.outbound.commit(len_bytes);
            self.metrics.tcp_datagrams_sent.add(1);
            if !std::mem::replace(&mut connection.is_dirty, true) {
                self.dirty.push(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;

    use super::*;

    const LATER: Duration = Duration::from_secs(1);

    struct Rig {
        port: TcpPort,
        address: SocketAddr,
        now: Instant,
        readable: Vec<usize>,
    }

    impl Rig {
        fn new() -> Self {
            let any = "127.0.0.1:0".parse().unwrap();
            let mut port = TcpPort::listen(any, Addresses::new(any, &[], &[]), Arc::default()).unwrap();
            let address = port.listener.local_addr().unwrap();
            port.addresses = Addresses::new(address, &[], &[]);
            Self { port, address, now: Instant::now(), readable: Vec::new() }
        }

        /// A client whose connection was taken in, or refused.
        fn connect(&mut self) -> TcpStream {
            let client = TcpStream::connect(self.address).unwrap();
            let seen = |port: &TcpPort| port.metrics.tcp_accepted.get() + port.metrics.tcp_refused.get();
            let before = seen(&self.port);
            while seen(&self.port) == before {
                self.port.poll(self.now, &mut self.readable);
            }
            client
        }

        /// Reads once from whoever has something, when somebody has.
        fn read(&mut self) -> Option<(usize, Path, Vec<u8>)> {
            let mut buffer = vec![0; 64 * 1024];
            while self.readable.is_empty() {
                self.port.poll(self.now, &mut self.readable);
            }
            let place = self.readable.remove(0);
            let (path, len_bytes, unframer) = self.port.read(place, &mut buffer)?;
            self.port.put_back(place, unframer, false);
            buffer.truncate(len_bytes);
            Some((place, path, buffer))
        }

        fn send(&mut self, path: Path, traffic: Traffic, datagram: &[u8]) -> bool {
            let slot = self.port.reserve(path, traffic, datagram.len());
            let Some(slot) = slot else { return false };
            slot.copy_from_slice(datagram);
            self.port.commit(datagram.len());
            true
        }
    }

    fn path_of(client: &TcpStream) -> Path {
        Path::tcp(client.peer_addr().unwrap(), client.local_addr().unwrap())
    }

    /// Whether the server has closed it.
    fn is_closed(client: &TcpStream) -> bool {
        client.set_nonblocking(true).unwrap();
        let mut client = client;
        match client.read(&mut [0; 16]) {
            Ok(len_bytes) => len_bytes == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    #[test]
    fn datagrams_go_both_ways_over_the_connection_that_they_name() {
        let mut rig = Rig::new();
        let mut clients = [rig.connect(), rig.connect()];
        clients[1].write_all(b"\x00\x05hello").unwrap();
        let (_, path, bytes) = rig.read().unwrap();
        assert_eq!((path, bytes.as_slice()), (path_of(&clients[1]), &b"\x00\x05hello"[..]));
        for (number, client) in clients.iter().enumerate() {
            assert!(rig.send(path_of(client), Traffic::Control, &[number as u8; 3]));
        }
        let nowhere = Path::tcp(rig.address, "192.0.2.1:9".parse().unwrap());
        assert!(!rig.send(nowhere, Traffic::Control, b"lost"));
        rig.port.flush();
        for (number, client) in clients.iter_mut().enumerate() {
            let mut bytes = [0; 5];
            client.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, [0, 3, number as u8, number as u8, number as u8]);
        }
        assert_eq!((rig.port.metrics.tcp_datagrams_sent.get(), rig.port.metrics.tcp_dropped.get()), (2, 1));
        assert_eq!(rig.port.metrics.tcp_connections.get(), 2);
    }

    #[test]
    fn a_client_that_leaves_is_told_of_once_and_leaves_nothing() {
        let mut rig = Rig::new();
        let client = rig.connect();
        let remote = Remote::tcp(client.local_addr().unwrap());
        drop(client);
        assert!(rig.read().is_none());
        assert_eq!((rig.port.pop_ended(), rig.port.pop_ended()), (Some(remote), None));
        assert!(rig.port.connections.is_empty() && rig.port.by_remote.is_empty());
        assert_eq!(rig.port.metrics.tcp_connections.get(), 0);
    }

    #[test]
    fn what_is_nobodys_is_closed_in_time_and_what_is_a_peers_stays() {
        let mut rig = Rig::new();
        let clients = [rig.connect(), rig.connect()];
        let peers = Remote::tcp(clients[0].local_addr().unwrap());
        for _ in 0..UNBOUND_FOR_MAX.as_secs() {
            assert_eq!(clients.each_ref().map(is_closed), [false, false]);
            rig.now += LATER;
            rig.port.sweep(rig.now, |remote| remote == peers);
        }
        while !is_closed(&clients[1]) {}
        assert!(!is_closed(&clients[0]));
        // Its peer has ended.
        for _ in 0..UNBOUND_FOR_MAX.as_secs() {
            rig.now += LATER;
            rig.port.sweep(rig.now, |_| false);
        }
        while !is_closed(&clients[0]) {}
    }

    #[test]
    fn who_says_much_and_is_nobody_is_closed() {
        let mut rig = Rig::new();
        let mut client = rig.connect();
        client.set_nonblocking(true).unwrap();
        let frame = [&[4, 0][..], &[9; 1_024]].concat();
        let mut read_bytes = 0;
        while !rig.port.connections.is_empty() {
            let _ = client.write(&frame);
            read_bytes += rig.read().map_or(0, |(.., bytes)| bytes.len());
        }
        assert!(read_bytes <= UNBOUND_MAX_BYTES);
        assert!(rig.port.pop_ended().is_some());
    }

    #[test]
    fn one_address_may_have_few_that_are_nobodys() {
        let mut rig = Rig::new();
        let clients: Vec<TcpStream> = (0..UNBOUND_PER_ADDRESS_MAX + 3).map(|_| rig.connect()).collect();
        let (stay, refused) = clients.split_at(UNBOUND_PER_ADDRESS_MAX);
        for client in refused {
            while !is_closed(client) {}
        }
        assert!(!stay.iter().any(is_closed));
        assert_eq!(rig.port.metrics.tcp_refused.get(), 3);
        // Those of peers do not count.
        rig.port.sweep(rig.now, |_| true);
        assert!(!is_closed(&rig.connect()));
    }

    #[test]
    fn neighbours_in_one_ipv6_64_are_one_address() {
        let mut rig = Rig::new();
        let mut clients = Vec::new();
        for last in 0..UNBOUND_PER_ADDRESS_MAX {
            let remote = SocketAddr::from(([0x2001, 0xdb8, 0, 1, 0, 0, 0, last as u16], 9));
            let stream = TcpStream::connect(rig.address).unwrap();
            clients.push(stream.try_clone().unwrap());
            assert!(rig.port.makes_room(remote.ip()), "{last}");
            rig.port.take_in(Connection::new(stream, Path::tcp(rig.address, remote), rig.now).unwrap(), remote);
        }
        assert!(!rig.port.makes_room("2001:db8:0:1::ffff".parse().unwrap()));
        assert!(rig.port.makes_room("2001:db8:0:2::1".parse().unwrap()));
    }

    #[test]
    fn of_too_many_that_are_nobodys_the_oldest_goes() {
        let mut rig = Rig::new();
        let mut clients = Vec::new();
        for number in 0..UNBOUND_MAX + 2 {
            // Addresses of loopback, each with a few.
            let [high, low] = ((number / UNBOUND_PER_ADDRESS_MAX) as u16 + 1).to_be_bytes();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
            socket.bind(&SocketAddr::from(([127, 1, high, low], 0)).into()).unwrap();
            socket.connect(&rig.address.into()).unwrap();
            while rig.port.metrics.tcp_accepted.get() == number as u64 {
                rig.port.poll(rig.now, &mut rig.readable);
            }
            rig.now += Duration::from_millis(1);
            clients.push(TcpStream::from(socket));
        }
        let (oldest, others) = clients.split_at(2);
        for client in oldest {
            while !is_closed(client) {}
        }
        assert!(!others.iter().any(is_closed));
        assert_eq!(rig.port.connections.len(), UNBOUND_MAX);
    }

    #[test]
    fn who_reads_slowly_loses_video_first_and_gets_what_was_taken_whole() {
        let mut rig = Rig::new();
        let mut client = rig.connect();
        let path = path_of(&client);
        let mut sent = Vec::new();
        // Until the kernel takes no more, and what waits is as much as may wait.
        for number in 0_u32.. {
            let datagram = number.to_be_bytes().repeat(250);
            let is_taken = rig.send(path, Traffic::Video, &datagram);
            rig.port.flush();
            if !is_taken {
                break;
            }
            sent.push(datagram);
        }
        assert!(rig.port.metrics.tcp_dropped.get() == 1 && rig.send(path, Traffic::Control, b"still"));
        sent.push(b"still".to_vec());
        let mut found = Vec::new();
        let mut unframer = Unframer::default();
        let mut buffer = vec![0; 64 * 1024];
        client.set_nonblocking(true).unwrap();
        while found.len() < sent.len() {
            match client.read(&mut buffer) {
                Ok(len_bytes) => {
                    unframer.feed(&buffer[..len_bytes], |datagram| found.push(datagram.to_vec())).unwrap();
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            rig.port.poll(rig.now, &mut rig.readable);
        }
        assert!(found == sent);
        assert!(rig.send(path, Traffic::Video, b"there is room again"));
    }
}
