//! The send batch: many datagrams with few system calls.
//!
//! Datagrams on one path and of one length leave as a run, which goes through the kernel once and is cut into datagrams
//! at its end (UDP GSO). Where the kernel does not do that, every datagram is a message of its own.
//!
//! **Invariant:** its memory is allocated once; datagrams to one destination leave in the order of their commits; one that the
//! kernel refuses is dropped and counted, and does not hold up the next; while the kernel takes nothing, control outlives audio, and
//! audio outlives video.

use std::net::UdpSocket;
use std::sync::Arc;

use nix::errno::Errno;

use super::addresses::Addresses;
use super::arena::{Arena, Run, SEGMENTS_MAX};
use super::call::Call;
use super::metrics::NetMetrics;
use super::sendmmsg::{Sender, Transmit};
use crate::egress::sink::{DatagramSink, Path, Traffic};

/// The largest datagram, in bytes: str0m keeps below 1,200, and an Ethernet frame holds 1,500.
const DATAGRAM_MAX_BYTES: usize = 1_536;

/// Datagrams that wait to be sent.
pub struct SendBatch<T = Sender> {
    sender: T,
    addresses: Addresses,
    metrics: Arc<NetMetrics>,
    arena: Arena,
    /// Whether the kernel cuts runs into datagrams.
    has_segments: bool,
}

impl SendBatch {
    /// An empty batch for `socket`.
    pub fn new(socket: UdpSocket, is_ipv6: bool, addresses: Addresses, metrics: Arc<NetMetrics>) -> Self {
        let sender = Sender::new(socket, is_ipv6);
        let knows_segments = sender.knows_segments();
        let batch = Self::over(sender, addresses, metrics, SEGMENTS_MAX);
        if knows_segments { batch } else { batch.without_segments() }
    }
}

impl<T: Transmit> SendBatch<T> {
    fn over(sender: T, addresses: Addresses, metrics: Arc<NetMetrics>, segments_max: u16) -> Self {
        Self { sender, addresses, metrics, arena: Arena::new(segments_max), has_segments: true }
    }

    /// The same batch, which leaves no run to the kernel to cut.
    #[must_use]
    pub fn without_segments(mut self) -> Self {
        self.give_up_segments();
        self
    }

    /// Whether datagrams wait because the kernel's buffer is full.
    pub fn is_blocked(&self) -> bool {
        !self.arena.waiting().is_empty()
    }

    /// Sends what waits, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while let Some(call) = Call::next(&self.arena, &self.addresses, self.has_segments) {
            self.metrics.send_calls.add(1);
            match self.transmit(&call) {
                Ok(0) | Err(Errno::EAGAIN) => {
                    self.metrics.send_blocked.add(1);
                    return;
                }
                Ok(messages) => self.note_sent(&call, messages),
                Err(Errno::EINTR) => {}
                Err(error @ (Errno::EINVAL | Errno::EIO | Errno::EMSGSIZE)) if call.common.segment_bytes.is_some() => {
                    // It may be the cutting that cannot be done, or the message itself that cannot be sent: that shows
                    // when its datagrams are sent one by one.
                    tracing::debug!(%error, "a run was refused");
                    self.arena.refuse(call.first());
                }
                Err(error) => {
                    // An ICMP error of an earlier datagram, or no route: this one is lost, the next may have a chance.
                    tracing::debug!(%error, "a datagram could not be sent");
                    let lost = self.pass(&call, 1);
                    self.metrics.send_errors.add(lost);
                }
            }
        }
    }

    fn transmit(&mut self, call: &Call) -> Result<usize, Errno> {
        let arena = &self.arena;
        let runs = call.places().filter_map(|place| arena.waiting().get(place));
        if call.is_singly {
            let datagrams = |run| arena.datagrams(run).map(|datagram| (run.path.destination, datagram));
            self.sender.transmit(runs.flat_map(datagrams), call.common)
        } else {
            self.sender.transmit(runs.map(|run| (run.path.destination, arena.bytes(run))), call.common)
        }
    }

    /// Lets the first `messages` of `call` go; returns how many datagrams those were.
    fn pass(&mut self, call: &Call, messages: usize) -> u64 {
        let (mut left, mut datagrams) = (messages, 0);
        for place in call.places() {
            if left == 0 {
                break;
            }
            if call.is_singly {
                let gone = self.arena.pass_datagrams(place, left);
                left -= gone;
                datagrams += gone;
            } else {
                left -= 1;
                datagrams += self.arena.pass_run(place);
            }
        }
        self.arena.settle();
        datagrams as u64
    }

    fn note_sent(&mut self, call: &Call, messages: usize) {
        // The same bytes alone, as long as a segment was: what the kernel refused was to cut them.
        let is_blamed = |run: &Run| call.is_singly && run.is_refused && run.datagrams > 1;
        if self.has_segments && self.arena.waiting().first().is_some_and(is_blamed) {
            self.give_up_segments();
            tracing::warn!("the kernel does not segment datagrams (UDP GSO): sending costs more from here on");
        }
        let datagrams = self.pass(call, messages);
        self.metrics.messages_sent.add(messages as u64);
        self.metrics.datagrams_sent.add(datagrams);
    }

    fn give_up_segments(&mut self) {
        if self.has_segments {
            self.has_segments = false;
            self.metrics.segments_given_up.add(1);
        }
    }
}

impl<T: Transmit> DatagramSink for SendBatch<T> {
    fn reserve(&mut self, path: Path, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        if len_bytes > DATAGRAM_MAX_BYTES {
            self.metrics.dropped_oversized.add(1);
            return None;
        }
        if !self.arena.has_room(len_bytes) {
            self.flush();
        }
        if !self.arena.has_room(len_bytes) {
            let dropped = self.arena.make_room();
            self.metrics.dropped_video.add(dropped.video);
            self.metrics.dropped_audio.add(dropped.audio);
            self.metrics.dropped_control.add(dropped.control);
        }
        self.arena.reserve(path, traffic, len_bytes)
    }

    fn commit(&mut self, len_bytes: usize) {
        self.arena.commit(len_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::SocketAddr;

    use super::*;
    use crate::net::sendmmsg::{CALL_MAX, Common};
    use crate::net::socket;

    fn addresses(local: SocketAddr) -> Addresses {
        Addresses::new(local, &[], &["127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap()])
    }

    fn batch(bound: &str) -> (SendBatch, SocketAddr) {
        let socket = socket::bind(bound.parse().unwrap()).unwrap();
        let local = socket.local_addr().unwrap();
        (SendBatch::new(socket, local.is_ipv6(), addresses(local), Arc::default()), local)
    }

    fn receiver() -> (UdpSocket, SocketAddr) {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        (receiver, address)
    }

    fn put<T: Transmit>(batch: &mut SendBatch<T>, path: Path, traffic: Traffic, datagram: &[u8]) {
        batch.reserve(path, traffic, datagram.len()).unwrap().copy_from_slice(datagram);
        batch.commit(datagram.len());
    }

    fn receive(receiver: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut bytes = vec![0; 65_536];
        let (len, from) = receiver.recv_from(&mut bytes).unwrap();
        bytes.truncate(len);
        (bytes, from)
    }

    /// A datagram of `len` bytes that no other number has.
    fn datagram(number: usize, len: usize) -> Vec<u8> {
        (0..len).map(|at| (number.wrapping_mul(31) + at * at) as u8).collect()
    }

    /// A kernel that answers as it is told, then takes everything.
    #[derive(Default)]
    struct Script {
        answers: VecDeque<Result<usize, Errno>>,
        /// Destination and bytes of each message taken, and where it was to be cut.
        taken: Vec<(SocketAddr, Vec<u8>, Option<u16>)>,
    }

    impl Transmit for Script {
        fn transmit<'a>(
            &mut self,
            messages: impl Iterator<Item = (SocketAddr, &'a [u8])>,
            common: Common,
        ) -> Result<usize, Errno> {
            let taken = self.answers.pop_front().unwrap_or(Ok(CALL_MAX))?;
            let messages = messages.take(taken).map(|(to, bytes)| (to, bytes.to_vec(), common.segment_bytes));
            let before = self.taken.len();
            self.taken.extend(messages);
            Ok(self.taken.len() - before)
        }
    }

    fn scripted(answers: impl IntoIterator<Item = Result<usize, Errno>>) -> SendBatch<Script> {
        let script = Script { answers: answers.into_iter().collect(), taken: Vec::new() };
        SendBatch::over(script, addresses(([127, 0, 0, 1], 9).into()), Arc::default(), SEGMENTS_MAX)
    }

    fn path(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], 9).into(), ([127, 0, 0, 1], port).into())
    }

    #[test]
    fn many_datagrams_leave_in_order_with_few_calls() {
        let (receiver, destination) = receiver();
        for has_segments in [true, false] {
            let (mut batch, source) = batch("127.0.0.1:0");
            if !has_segments {
                batch = batch.without_segments();
            }
            for number in 0..100_u32 {
                assert!(batch.push(Path::udp(source, destination), &number.to_be_bytes()));
            }
            batch.flush();
            let metrics = &batch.metrics;
            assert_eq!(metrics.datagrams_sent.get(), 100);
            let messages = if has_segments { 2 } else { 100 };
            assert_eq!(
                (metrics.messages_sent.get(), metrics.segments_given_up.get()),
                (messages, u64::from(!has_segments))
            );
            assert_eq!(metrics.send_calls.get(), messages.div_ceil(CALL_MAX as u64));
            for number in 0..100_u32 {
                assert_eq!(receive(&receiver), (number.to_be_bytes().to_vec(), source));
            }
        }
    }

    #[test]
    fn runs_and_single_datagrams_mixed_arrive_whole_and_in_order() {
        // Lengths of the datagrams to each of three receivers, by turns; 0 goes on to the next receiver.
        let lengths = [
            1_100, 1_100, 1_100, 0, 1_100, 1_100, 700, 0, 60, 0, 1_100, 1_100, 0, 1_200, 0, 900, 900, 40, 0, 1_101,
            1_100, 0, 1, 1, 1, 1, 0, 1_536, 1_536, 0, 500,
        ];
        for (bound, has_segments) in
            [("127.0.0.1:0", true), ("127.0.0.1:0", false), ("0.0.0.0:0", true), ("[::]:0", true)]
        {
            let receivers = [receiver(), receiver(), receiver()];
            let (mut batch, local) = batch(bound);
            if !has_segments {
                batch = batch.without_segments();
            }
            let source = SocketAddr::new([127, 0, 0, 1].into(), local.port());
            let mut sent = [Vec::new(), Vec::new(), Vec::new()];
            let mut to = 0;
            for (number, len) in lengths.iter().cycle().take(lengths.len() * 3).copied().enumerate() {
                if len == 0 {
                    to = (to + 1) % receivers.len();
                    continue;
                }
                let bytes = datagram(number, len);
                put(&mut batch, Path::udp(source, receivers[to].1), Traffic::Video, &bytes);
                sent[to].push(bytes);
            }
            batch.flush();
            assert!(!batch.is_blocked());
            let total: usize = sent.iter().map(Vec::len).sum();
            assert_eq!(batch.metrics.datagrams_sent.get(), total as u64, "{bound}");
            assert_eq!(batch.metrics.messages_sent.get() < total as u64, has_segments, "{bound}");
            assert_eq!(batch.metrics.segments_given_up.get(), u64::from(!has_segments), "{bound}");
            for ((receiver, _), sent) in receivers.iter().zip(sent) {
                for bytes in sent {
                    assert_eq!(receive(receiver), (bytes, source), "{bound}");
                }
            }
        }
    }

    #[test]
    fn a_datagram_leaves_from_the_candidate_that_it_is_sent_by() {
        let (receiver, destination) = receiver();
        for bound in ["0.0.0.0:0", "[::]:0"] {
            let (mut batch, local) = batch(bound);
            for ip in ["127.0.0.2", "127.0.0.1", "127.0.0.2"] {
                let source = SocketAddr::new(ip.parse().unwrap(), local.port());
                assert!(batch.push(Path::udp(source, destination), ip.as_bytes()));
                assert!(batch.push(Path::udp(source, destination), ip.as_bytes()));
            }
            batch.flush();
            assert_eq!((batch.metrics.send_calls.get(), batch.metrics.messages_sent.get()), (3, 3), "{bound}");
            for ip in ["127.0.0.2", "127.0.0.2", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"] {
                let source = SocketAddr::new(ip.parse().unwrap(), local.port());
                assert_eq!(receive(&receiver), (ip.as_bytes().to_vec(), source), "{bound}");
            }
        }
    }

    #[test]
    fn what_cannot_be_sent_is_counted_and_the_next_goes() {
        let (receiver, destination) = receiver();
        let (mut batch, source) = batch("127.0.0.1:0");
        let nowhere = Path::udp(source, "[2001:db8::1]:9".parse().unwrap());
        for lost in [&b"lost"[..], b"lost", b"too"] {
            batch.push(nowhere, lost);
        }
        batch.push(Path::udp(source, destination), b"kept");
        assert!(!batch.push(nowhere, &[0; DATAGRAM_MAX_BYTES + 1]));
        batch.flush();
        assert_eq!(receive(&receiver).0, b"kept");
        assert_eq!((batch.metrics.send_errors.get(), batch.metrics.dropped_oversized.get()), (3, 1));
        assert!(!batch.is_blocked());
    }

    #[test]
    fn a_run_that_the_kernel_refuses_goes_datagram_by_datagram_and_no_run_is_tried_again() {
        let (receiver, destination) = receiver();
        let socket = socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let source = socket.local_addr().unwrap();
        // No kernel takes as many segments in one message.
        let mut batch = SendBatch::over(Sender::new(socket, false), addresses(source), Arc::default(), 300);
        let sent: Vec<Vec<u8>> = (0..210).map(|number| datagram(number, if number == 209 { 7 } else { 20 })).collect();
        for bytes in &sent {
            put(&mut batch, Path::udp(source, destination), Traffic::Video, bytes);
        }
        batch.flush();
        for bytes in &sent {
            assert_eq!(receive(&receiver).0, *bytes);
        }
        let metrics = Arc::clone(&batch.metrics);
        assert_eq!((metrics.datagrams_sent.get(), metrics.messages_sent.get()), (210, 210));
        assert_eq!((metrics.segments_given_up.get(), metrics.send_errors.get()), (1, 0));
        for bytes in &sent[..2] {
            put(&mut batch, Path::udp(source, destination), Traffic::Video, bytes);
        }
        let calls = metrics.send_calls.get();
        batch.flush();
        assert_eq!((metrics.messages_sent.get(), metrics.send_calls.get()), (212, calls + 1));
        assert_eq!([receive(&receiver).0, receive(&receiver).0], [sent[0].clone(), sent[1].clone()]);
    }

    #[test]
    fn every_refusal_of_a_run_that_goes_singly_ends_segmentation() {
        for error in [Errno::EINVAL, Errno::EIO, Errno::EMSGSIZE] {
            // The second run is refused; its first datagram goes, then the kernel's buffer is full.
            let mut batch = scripted([Ok(1), Err(error), Ok(1), Err(Errno::EAGAIN)]);
            for (port, number) in [(1, 1), (1, 2), (2, 3), (2, 4), (2, 5), (3, 6), (3, 7)] {
                put(&mut batch, path(port), Traffic::Video, &datagram(number, 50));
            }
            batch.flush();
            assert!(batch.is_blocked());
            batch.flush();
            assert!(!batch.is_blocked());
            let bytes: Vec<Vec<u8>> = batch.sender.taken.iter().map(|(_, bytes, _)| bytes.clone()).collect();
            let single = |number| datagram(number, 50);
            let mut wanted = vec![[single(1), single(2)].concat()];
            wanted.extend((3..=7).map(single));
            assert_eq!(bytes, wanted, "{error}");
            assert_eq!((batch.metrics.segments_given_up.get(), batch.metrics.datagrams_sent.get()), (1, 7));
        }
    }

    #[test]
    fn a_path_that_takes_no_datagram_of_that_length_is_no_reason_to_end_segmentation() {
        // Refused as a run, and each datagram of it too, but for the short one at the end.
        let too_long = Err(Errno::EMSGSIZE);
        let mut batch = scripted([too_long, too_long, too_long, Ok(1)]);
        for (port, number, len) in [(1, 1, 50), (1, 2, 50), (1, 3, 10), (2, 4, 50), (2, 5, 50)] {
            put(&mut batch, path(port), Traffic::Video, &datagram(number, len));
        }
        batch.flush();
        let bytes: Vec<Vec<u8>> = batch.sender.taken.iter().map(|(_, bytes, _)| bytes.clone()).collect();
        assert_eq!(bytes, [datagram(3, 10), [datagram(4, 50), datagram(5, 50)].concat()]);
        let metrics = &batch.metrics;
        assert_eq!((metrics.send_errors.get(), metrics.segments_given_up.get()), (2, 0));
    }

    #[test]
    fn a_blocked_batch_keeps_order_and_drops_the_oldest_video_when_it_is_full() {
        let mut batch = scripted((0..1_000).map(|_| Err(Errno::EAGAIN)));
        let mut committed = Vec::new();
        for number in 0..3_000_usize {
            let traffic = match number % 10 {
                0 => Traffic::Control,
                1 => Traffic::Audio,
                _ => Traffic::Video,
            };
            let bytes = [&(number as u32).to_be_bytes()[..], &datagram(number, 996)].concat();
            put(&mut batch, path(1 + (number % 7) as u16), traffic, &bytes);
            committed.push(bytes);
        }
        batch.flush();
        assert!(batch.is_blocked());
        batch.sender.answers.clear();
        batch.flush();
        assert!(!batch.is_blocked());

        let arrived: Vec<&[u8]> = batch.sender.taken.iter().flat_map(|(_, bytes, _)| bytes.chunks(1_000)).collect();
        let numbers: Vec<usize> =
            arrived.iter().map(|bytes| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize).collect();
        assert!(numbers.is_sorted());
        assert!(numbers.iter().zip(&arrived).all(|(number, bytes)| committed[*number] == *bytes));
        assert_eq!(numbers.last(), Some(&2_999));
        let of_kind = |digit: usize| numbers.iter().filter(|number| *number % 10 == digit).count();
        assert_eq!((of_kind(0), of_kind(1)), (300, 300), "only video is dropped");
        let metrics = &batch.metrics;
        assert_eq!(metrics.dropped_video.get(), 3_000 - numbers.len() as u64);
        assert_eq!((metrics.dropped_audio.get(), metrics.dropped_control.get()), (0, 0));
        assert!(metrics.send_blocked.get() > 1);
    }

    #[test]
    fn whatever_the_kernel_answers_each_destination_gets_its_datagrams_in_order() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let answers = (0..60).map(|_| match random.u8(..10) {
                0..5 => Ok(1 + random.usize(..6)),
                5 | 6 => Err(Errno::EAGAIN),
                7 => Err(Errno::EMSGSIZE),
                8 => Err(Errno::EINTR),
                _ => Err(Errno::ENETUNREACH),
            });
            let answers: Vec<_> = answers.collect();
            let mut batch = scripted(answers);
            let mut committed: [VecDeque<Vec<u8>>; 5] = Default::default();
            for number in 0..400 {
                let to = random.usize(..committed.len());
                let len = [40, 41, 41, 90][random.usize(..4)];
                for part in 0..1 + random.usize(..4) {
                    let bytes = datagram(number * 4 + part, len);
                    put(&mut batch, path(to as u16), Traffic::Video, &bytes);
                    committed[to].push_back(bytes);
                }
                if random.u8(..8) == 0 {
                    batch.flush();
                }
            }
            while batch.is_blocked() {
                batch.flush();
            }
            let metrics = &batch.metrics;
            let total: usize = committed.iter().map(VecDeque::len).sum();
            let mut arrived = 0;
            for (to, bytes, cut) in &batch.sender.taken {
                for datagram in bytes.chunks(cut.map_or(bytes.len(), usize::from)) {
                    arrived += 1;
                    // What could not be sent is missing; what comes after it still comes in order.
                    let waits = &mut committed[usize::from(to.port())];
                    while waits.pop_front().expect("it was committed, and comes once") != datagram {}
                }
            }
            assert_eq!(
                (arrived, metrics.datagrams_sent.get() + metrics.send_errors.get()),
                (metrics.datagrams_sent.get(), total as u64),
                "seed {seed}"
            );
        }
    }
}
