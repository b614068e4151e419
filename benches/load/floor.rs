//! The bare sender: what the kernel alone costs, sending ready-made packets as a server does that does nothing else.
//!
//! For each burst of the schedule it sends each viewer the burst as one run, segmented by the kernel (UDP GSO), and as many
//! runs with one `sendmmsg` as the server would. The bytes come from a megabyte of memory in turn, as from the server's send
//! batch; what they are is of no importance.
//!
//! **Invariant:** the rate, the destinations, the sizes and the lengths of runs are those of the round that it is held
//! against; it measures its own thread.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use nix::time::{ClockId, clock_gettime};
use onair::rtp::codec::TrackKind;

use super::schedule::{Burst, Schedule};

/// What its packets begin with: RFC 7983 gives it to no protocol.
pub const FLOOR_BYTE: u8 = 0xf0;

/// Runs of one `sendmmsg`.
const CALL_MAX: usize = 64;

const ARENA_BYTES: usize = 1 << 20;

/// What was sent, at what cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct FloorUsage {
    /// Packets.
    pub packets: u64,
    /// CPU time of the thread.
    pub cpu: Duration,
}

/// The bare sender.
pub struct Floor {
    socket: UdpSocket,
    destinations: Vec<Option<SockaddrStorage>>,
    /// Sizes of datagrams of sound and of pictures.
    datagrams_bytes: [usize; 2],
    arena: Vec<u8>,
    offset: usize,
    single: MultiHeaders<SockaddrStorage>,
    run: MultiHeaders<SockaddrStorage>,
    packets: u64,
}

impl Floor {
    /// A sender of datagrams of such sizes.
    pub fn new(destinations: &[SocketAddr], datagrams_bytes: [usize; 2]) -> Self {
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").expect("a socket"),
            destinations: destinations.iter().map(|it| Some(SockaddrStorage::from(*it))).collect(),
            datagrams_bytes,
            arena: vec![FLOOR_BYTE; ARENA_BYTES],
            offset: 0,
            single: MultiHeaders::preallocate(CALL_MAX, None),
            run: MultiHeaders::preallocate(CALL_MAX, Some(cmsg_space!(u16))),
            packets: 0,
        }
    }

    /// Sends the schedule for so long, on the calling thread.
    pub fn send_for(mut self, schedule: Schedule, time: Duration) -> FloorUsage {
        let (begun, cpu_before) = (Instant::now(), thread_cpu());
        for burst in schedule.take_while(|burst| burst.at < time) {
            std::thread::sleep((begun + burst.at).saturating_duration_since(Instant::now()));
            self.send(&burst);
        }
        FloorUsage { packets: self.packets, cpu: thread_cpu() - cpu_before }
    }

    fn send(&mut self, burst: &Burst) {
        let segment_bytes = self.datagrams_bytes[usize::from(burst.kind == TrackKind::Video)];
        let segments = burst.payloads_bytes.len();
        let run_bytes = segment_bytes * segments;
        let size = u16::try_from(segment_bytes).expect("a datagram");
        let segmented = [ControlMessage::UdpGsoSegments(&size)];
        let (headers, control) = match segments {
            1 => (&mut self.single, &[][..]),
            _ => (&mut self.run, &segmented[..]),
        };
        for destinations in self.destinations.chunks(CALL_MAX) {
            let mut slices: [[IoSlice<'_>; 1]; CALL_MAX] = std::array::from_fn(|_| [IoSlice::new(&[])]);
            for slice in slices.iter_mut().take(destinations.len()) {
                if self.offset + run_bytes > ARENA_BYTES {
                    self.offset = 0;
                }
                *slice = [IoSlice::new(&self.arena[self.offset..self.offset + run_bytes])];
                self.offset += run_bytes;
            }
            let mut gone = 0;
            while gone < destinations.len() {
                let (slices, destinations) = (&slices[gone..destinations.len()], &destinations[gone..]);
                let fd = self.socket.as_raw_fd();
                let sent = sendmmsg(fd, headers, slices, destinations, control, MsgFlags::empty());
                gone += sent.expect("the kernel segments runs").count();
            }
        }
        self.packets += (segments * self.destinations.len()) as u64;
    }
}

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("its clock runs").into()
}
