//! Datagrams of no media, put aside until media has been dealt with.
//!
//! **Invariant:** it is bounded, in number and in bytes, and its buffers are used again.

use std::collections::VecDeque;

use crate::egress::sink::Path;

/// Datagrams that may wait.
const WAITING_MAX: usize = 1_024;

/// The longest datagram that may wait, in bytes.
const DATAGRAM_MAX_BYTES: usize = 2_048;

/// Buffers that are kept to be used again.
const SPARE_MAX: usize = 32;

/// A queue of datagrams.
#[derive(Debug, Default)]
pub struct Waiting {
    queue: VecDeque<(Path, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
}

impl Waiting {
    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Puts one aside; `false` when it was dropped, since too many wait or it is too long.
    pub fn put(&mut self, path: Path, datagram: &[u8]) -> bool {
        if self.queue.len() >= WAITING_MAX || datagram.len() > DATAGRAM_MAX_BYTES {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(datagram);
        self.queue.push_back((path, buffer));
        true
    }

    /// The one that has waited longest, with the path that an answer takes.
    pub fn take(&mut self) -> Option<(Path, Vec<u8>)> {
        self.queue.pop_front()
    }

    /// Takes back the buffer of one that was dealt with.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_in_order_up_to_what_may_wait() {
        let path = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let mut waiting = Waiting::default();
        assert!(!waiting.put(path, &[0; DATAGRAM_MAX_BYTES + 1]));
        for number in 0..WAITING_MAX {
            assert!(waiting.put(path, &(number as u16).to_be_bytes()));
        }
        assert!(!waiting.put(path, b"one too many"));
        for number in 0..WAITING_MAX {
            let (_, bytes) = waiting.take().unwrap();
            assert_eq!(bytes, (number as u16).to_be_bytes());
            waiting.give_back(bytes);
        }
        assert!(waiting.is_empty() && waiting.spare.len() == SPARE_MAX);
        assert!(waiting.put(path, b"x") && waiting.take().unwrap().1 == b"x", "nothing of the buffer's past is left");
    }
}
