//! Bits of a codec's header, read from the most significant one.
//!
//! **Invariant:** reading past the end is `None`, never a panic and never a made-up bit.

/// A reader of bits; H.264 and H.265 ask it to skip emulation prevention bytes.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    current: u8,
    left: u32,
    skips_emulation: bool,
    zeros: u8,
}

impl<'a> Bits<'a> {
    /// Reads `bytes` as they stand.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, current: 0, left: 0, skips_emulation: false, zeros: 0 }
    }

    /// Reads the raw byte sequence of a NAL unit's body (H.264 §7.4.1): the 3 of each `00 00 03` is left out.
    pub(super) fn of_nal(bytes: &'a [u8]) -> Self {
        Self { skips_emulation: true, ..Self::new(bytes) }
    }

    fn next_byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        if self.skips_emulation && self.zeros >= 2 && byte == 3 {
            self.zeros = 0;
            return self.next_byte_after_emulation();
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }

    fn next_byte_after_emulation(&mut self) -> Option<u8> {
        let (&byte, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.zeros = u8::from(byte == 0);
        Some(byte)
    }

    /// One bit.
    pub(super) fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.next_byte()?;
            self.left = 8;
        }
        self.left -= 1;
        Some(self.current >> self.left & 1 == 1)
    }

    /// `count` bits, at most 32.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32);
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Leaves out `count` bits.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// An unsigned Exp-Golomb number (H.264 §9.1), the same as AV1's `uvlc` for numbers below 2^32 − 1.
    pub(super) fn golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        let suffix = u64::from(self.take(zeros)?);
        u32::try_from((1_u64 << zeros) - 1 + suffix).ok()
    }

    /// A signed Exp-Golomb number (H.264 §9.1.1).
    pub(super) fn signed_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.golomb()?);
        Some(if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_numbers_of_the_standard() {
        // 1 | 010 | 011 | 00100 | 00101 and padding
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let numbers: Vec<_> = (0..5).map(|_| bits.golomb().unwrap()).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let numbers: Vec<_> = (0..5).map(|_| bits.signed_golomb().unwrap()).collect();
        assert_eq!(numbers, [0, 1, -1, 2, -2]);
    }

    #[test]
    fn emulation_prevention_is_left_out_of_nal_units_only() {
        let bytes = [0, 0, 3, 0, 0, 3, 1, 3];
        let mut nal = Bits::of_nal(&bytes);
        let read: Vec<_> = std::iter::from_fn(|| nal.take(8)).collect();
        assert_eq!(read, [0, 0, 0, 0, 1, 3]);
        let mut plain = Bits::new(&bytes);
        assert_eq!(std::iter::from_fn(|| plain.take(8)).count(), bytes.len());
    }

    #[test]
    fn the_end_is_none() {
        assert_eq!(Bits::new(&[]).bit(), None);
        assert_eq!(Bits::new(&[0; 9]).golomb(), None);
        assert_eq!(Bits::new(&[0xff]).take(9), None);
    }
}
