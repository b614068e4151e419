//! RTP header extensions (RFC 8285), as a subscriber takes them.
//!
//! **Invariant:** what is written is the one-byte form in whole words, never longer than `EXTENSIONS_MAX_BYTES`.

use crate::rtp::header::FIXED_HEADER_BYTES;

/// What a block begins with: its form and its length, in bytes.
const PREFIX_BYTES: usize = 4;

/// The longest block, in bytes: all that are written, in whole words.
const BLOCK_MAX_BYTES: usize = 32;

/// The most that header extensions add to a packet, in bytes.
pub(super) const EXTENSIONS_MAX_BYTES: usize = PREFIX_BYTES + BLOCK_MAX_BYTES;

/// The ids under which a subscriber takes header extensions (RFC 8285); 0 where it takes none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// urn:ietf:params:rtp-hdrext:sdes:mid
    pub mid: u8,
    /// Absolute send time.
    pub abs_send_time: u8,
    /// Client-to-mixer audio level.
    pub audio_level: u8,
    /// Video orientation.
    pub video_orientation: u8,
    /// Playout delay.
    pub playout_delay: u8,
}

/// Collects header extensions in one-byte form (RFC 8285 §4.2).
#[derive(Debug, Default)]
pub(super) struct ExtensionWriter {
    block: [u8; BLOCK_MAX_BYTES],
    len_bytes: usize,
}

impl ExtensionWriter {
    /// Adds a value of 1 to 16 bytes under `id`; nothing for an id that the form does not have, 0 among them.
    pub(super) fn put(&mut self, id: u8, value: &[u8]) {
        let Some(len) = value.len().checked_sub(1).filter(|len| *len < 16 && (1..=14).contains(&id)) else {
            return;
        };
        let end = self.len_bytes + 1 + value.len();
        if let Some([head, place @ ..]) = self.block.get_mut(self.len_bytes..end) {
            *head = id << 4 | len as u8;
            place.copy_from_slice(value);
            self.len_bytes = end;
        }
    }

    /// Writes what was collected after the fixed header of the packet in `slot`, and tells its length in bytes.
    pub(super) fn copy_to(&self, slot: &mut [u8]) -> Option<usize> {
        if self.len_bytes == 0 {
            return Some(0);
        }
        let padded_bytes = self.len_bytes.next_multiple_of(4);
        let ([first, ..], [p0, p1, l0, l1, rest @ ..]) = slot.split_at_mut_checked(FIXED_HEADER_BYTES)? else {
            return None;
        };
        *first |= 0x10;
        [*p0, *p1] = [0xbe, 0xde];
        [*l0, *l1] = ((padded_bytes / 4) as u16).to_be_bytes();
        rest.get_mut(..padded_bytes)?.copy_from_slice(self.block.get(..padded_bytes)?);
        Some(PREFIX_BYTES + padded_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_filled_to_whole_words_and_cleared_of_what_was_there() {
        let mut extensions = ExtensionWriter::default();
        extensions.put(4, b"ab");
        extensions.put(2, &[1, 2, 3]);
        let mut slot = [0xa5; FIXED_HEADER_BYTES + 16];
        slot[0] = 0x80;
        assert_eq!(extensions.copy_to(&mut slot), Some(12));
        assert_eq!(slot[0], 0x90);
        let block = [0xbe, 0xde, 0, 2, 0x41, b'a', b'b', 0x22, 1, 2, 3, 0, 0xa5, 0xa5, 0xa5, 0xa5];
        assert_eq!(slot[FIXED_HEADER_BYTES..], block);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut extensions = ExtensionWriter::default();
        for (id, value) in [(0, [1].as_slice()), (15, &[1]), (1, &[]), (1, &[0; 17])] {
            extensions.put(id, value);
        }
        let mut slot = [0; FIXED_HEADER_BYTES];
        assert_eq!((extensions.copy_to(&mut slot), slot), (Some(0), [0; FIXED_HEADER_BYTES]), "none, so no block");
        extensions.put(1, &[0; 16]);
        extensions.put(2, &[0; 16]);
        let mut slot = [0; 60];
        assert_eq!(extensions.copy_to(&mut slot), Some(24), "the second is too long for the block");
        assert_eq!(extensions.copy_to(&mut slot[..30]), None, "a slot that is too short");
    }
}
