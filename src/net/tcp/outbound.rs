//! What waits to be written to one connection.
//!
//! **Invariant:** a datagram is in it whole or not at all, behind its length, and stays in the order of its commit; it never
//! holds more than [`WAITING_MAX_BYTES`]. As it fills up, video finds no room first, then audio, control last.

use std::io::{self, Write};

use super::framing::HEADER_BYTES;
use crate::egress::sink::Traffic;

/// What may wait, in bytes: a keyframe of 5 Mbit/s video, and some. What waits longer than that is late.
pub const WAITING_MAX_BYTES: usize = 256 * 1024;

/// What audio and control find room in after video finds none, and control after audio, in bytes.
const KEPT_FREE_BYTES: usize = 32 * 1024;

/// How much was written before what waits moves to the front, in bytes.
const GONE_MAX_BYTES: usize = WAITING_MAX_BYTES / 4;

/// Frames that wait.
#[derive(Debug, Default)]
pub struct Outbound {
    bytes: Vec<u8>,
    /// How much of it was written.
    gone_bytes: usize,
    /// How much of it was committed.
    ready_bytes: usize,
}

impl Outbound {
    /// Lends a slot of `len_bytes`; `None` where there is no room for such a datagram now.
    pub fn reserve(&mut self, traffic: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        let kept_free_bytes = match traffic {
            Traffic::Control => 0,
            Traffic::Audio => KEPT_FREE_BYTES,
            Traffic::Video => 2 * KEPT_FREE_BYTES,
        };
        let waiting_bytes = self.ready_bytes - self.gone_bytes;
        let is_too_much = waiting_bytes + HEADER_BYTES + len_bytes + kept_free_bytes > WAITING_MAX_BYTES;
        if is_too_much || u16::try_from(len_bytes).is_err() {
            return None;
        }
        self.bytes.resize(self.ready_bytes + HEADER_BYTES + len_bytes, 0);
        self.bytes.get_mut(self.ready_bytes + HEADER_BYTES..)
    }

    /// Takes the first `len_bytes` of the slot reserved last as a datagram.
    pub fn commit(&mut self, len_bytes: usize) {
        let end = (self.ready_bytes + HEADER_BYTES + len_bytes).min(self.bytes.len());
        let Some(len_bytes) = end.checked_sub(self.ready_bytes + HEADER_BYTES) else {
            return;
        };
        // It was reserved, and so fits.
        let header = u16::try_from(len_bytes).unwrap_or(u16::MAX).to_be_bytes();
        if let Some(slot) = self.bytes.get_mut(self.ready_bytes..self.ready_bytes + HEADER_BYTES) {
            slot.copy_from_slice(&header);
            self.ready_bytes = end;
            self.bytes.truncate(end);
        }
    }

    /// Writes what waits until all is written, or `stream` takes no more: tells whether all is.
    ///
    /// # Errors
    ///
    /// What `stream` says; it is of no use any more.
    pub fn flush(&mut self, mut stream: impl Write) -> io::Result<bool> {
        while let Some(waiting) =
            self.bytes.get(self.gone_bytes..self.ready_bytes).filter(|waiting| !waiting.is_empty())
        {
            match stream.write(waiting) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written_bytes) => self.gone_bytes += written_bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.gone_bytes > GONE_MAX_BYTES {
                        self.bytes.copy_within(self.gone_bytes..self.ready_bytes, 0);
                        self.ready_bytes -= std::mem::take(&mut self.gone_bytes);
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        (self.gone_bytes, self.ready_bytes) = (0, 0);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::framing::Unframer;

    /// Takes so many bytes of each write, by turns; of none, it would block.
    struct Narrow {
        takes: Vec<usize>,
        turn: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let takes = self.takes[self.turn % self.takes.len()].min(bytes.len());
            self.turn += 1;
            self.taken.extend(&bytes[..takes]);
            if takes == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(takes) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn datagrams(stream: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        Unframer::default().feed(stream, |datagram| found.push(datagram.to_vec())).unwrap();
        found
    }

    #[test]
    fn what_is_written_bit_by_bit_arrives_whole_and_in_order() {
        let mut outbound = Outbound::default();
        let mut stream = Narrow { takes: vec![1, 700, 0, 30_000, 0], turn: 0, taken: Vec::new() };
        let mut committed = Vec::new();
        for number in 0..2_000_usize {
            let len_bytes = number % 1_300;
            // Reserved and left: it costs nothing.
            outbound.reserve(Traffic::Control, 9).unwrap().fill(0xff);
            outbound.reserve(Traffic::Control, len_bytes).unwrap().fill(number as u8);
            outbound.commit(len_bytes);
            outbound.commit(len_bytes);
            committed.push(vec![number as u8; len_bytes]);
            while outbound.ready_bytes - outbound.gone_bytes > 100_000 {
                outbound.flush(&mut stream).unwrap();
            }
        }
        while !outbound.flush(&mut stream).unwrap() {}
        assert!(outbound.bytes.is_empty() && outbound.bytes.capacity() <= 2 * WAITING_MAX_BYTES);
        assert!(datagrams(&stream.taken) == committed);
    }

    #[test]
    fn when_it_fills_up_video_goes_first_then_audio_control_last() {
        let mut outbound = Outbound::default();
        let mut fill = |traffic, len_bytes| {
            let mut count = 0;
            while let Some(slot) = outbound.reserve(traffic, len_bytes) {
                slot.fill(1);
                outbound.commit(len_bytes);
                count += 1;
            }
            count
        };
        let [video, audio, control] =
            [Traffic::Video, Traffic::Audio, Traffic::Control].map(|traffic| fill(traffic, 1_000));
        assert_eq!([fill(Traffic::Video, 10), fill(Traffic::Audio, 10)], [0, 0]);
        assert!(video > 190 && audio > 30 && control > 30, "{video} {audio} {control}");
        assert!((video + audio + control) * 1_002 <= WAITING_MAX_BYTES);
        assert!(outbound.bytes.len() <= WAITING_MAX_BYTES);
    }

    #[test]
    fn a_stream_that_takes_nothing_any_more_is_an_error() {
        let mut outbound = Outbound::default();
        outbound.reserve(Traffic::Control, 3).unwrap().fill(1);
        outbound.commit(3);
        assert!(outbound.flush(&mut [0_u8; 2][..]).is_err());
    }
}
