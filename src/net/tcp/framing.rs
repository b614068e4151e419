//! Frames in a stream: each datagram behind its length in two bytes (RFC 4571 §2).
//!
//! **Invariant:** what is kept of a frame that has not wholly come is at most one frame of the longest kind.

/// The longest datagram that is taken, in bytes: none of media or of a handshake is longer.
pub const FRAME_MAX_BYTES: usize = 2_048;

/// The length in front of each datagram, in bytes.
pub const HEADER_BYTES: usize = 2;

/// A frame that is longer than [`FRAME_MAX_BYTES`]: what follows cannot be told from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame has at most {FRAME_MAX_BYTES} bytes")]
pub struct FrameTooLong;

/// Finds the datagrams in a stream.
#[derive(Debug, Default)]
pub struct Unframer {
    /// A frame with its header, as far as it has come.
    partial: Vec<u8>,
}

impl Unframer {
    /// Hands each datagram that `stream` completes to `take`, and keeps what is left of it.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`]; the stream is of no use any more.
    pub fn feed(&mut self, mut stream: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), FrameTooLong> {
        while !stream.is_empty() {
            if self.partial.is_empty()
                && let Some((header, rest)) = stream.split_first_chunk::<HEADER_BYTES>()
                && let Some((datagram, rest)) = rest.split_at_checked(len_bytes(*header)?)
            {
                take(datagram);
                stream = rest;
                continue;
            }
            let missing_bytes = self.wanted_bytes()?.saturating_sub(self.partial.len());
            let (part, rest) = stream.split_at(missing_bytes.min(stream.len()));
            self.partial.extend_from_slice(part);
            stream = rest;
            if self.partial.len() >= HEADER_BYTES && self.partial.len() == self.wanted_bytes()? {
                take(self.partial.get(HEADER_BYTES..).unwrap_or_default());
                self.partial.clear();
            }
        }
        Ok(())
    }

    /// What is kept once the header, then the whole frame, is there.
    fn wanted_bytes(&self) -> Result<usize, FrameTooLong> {
        match self.partial.first_chunk::<HEADER_BYTES>() {
            Some(header) => Ok(HEADER_BYTES + len_bytes(*header)?),
            None => Ok(HEADER_BYTES),
        }
    }
}

fn len_bytes(header: [u8; HEADER_BYTES]) -> Result<usize, FrameTooLong> {
    let len_bytes = usize::from(u16::from_be_bytes(header));
    if len_bytes > FRAME_MAX_BYTES { Err(FrameTooLong) } else { Ok(len_bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
        let frame = |datagram: &Vec<u8>| [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat();
        datagrams.iter().flat_map(frame).collect()
    }

    /// All datagrams of a stream that comes in `parts`.
    fn unframe<'a>(
        unframer: &mut Unframer,
        parts: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Vec<u8>>, FrameTooLong> {
        let mut found = Vec::new();
        for part in parts {
            unframer.feed(part, |datagram| found.push(datagram.to_vec()))?;
        }
        Ok(found)
    }

    #[test]
    fn datagrams_come_out_whole_however_the_stream_is_cut() {
        let mut random = fastrand::Rng::with_seed(7);
        let lengths = [0, 1, 2, 3, 255, 256, 1_200, FRAME_MAX_BYTES, 0, 0, 20];
        let datagrams: Vec<Vec<u8>> =
            lengths.iter().map(|len| std::iter::repeat_with(|| random.u8(..)).take(*len).collect()).collect();
        let stream = framed(&datagrams);
        for part_bytes in [1, 2, 3, 7, 100, 1_203, 4_096, stream.len()] {
            let mut unframer = Unframer::default();
            assert_eq!(unframe(&mut unframer, stream.chunks(part_bytes)), Ok(datagrams.clone()), "in {part_bytes}");
            assert!(unframer.partial.capacity() <= 2 * (FRAME_MAX_BYTES + HEADER_BYTES));
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_an_error_as_soon_as_its_length_is_there() {
        let [high, low] = (FRAME_MAX_BYTES as u16 + 1).to_be_bytes();
        for parts in [vec![&[high, low][..]], vec![&[high][..], &[low][..]], vec![&[0, 1, 9, high][..], &[low, 1][..]]]
        {
            assert_eq!(unframe(&mut Unframer::default(), parts.into_iter()), Err(FrameTooLong));
        }
    }
}
