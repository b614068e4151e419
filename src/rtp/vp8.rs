//! The VP8 payload descriptor (RFC 7741 §4.2): parsed, and its running ids rewritten in place.
//!
//! **Invariant:** a patch never changes a payload's length, and what is patched into a descriptor is read back from it.

/// The bits of a long PictureID.
pub const PICTURE_ID_LONG_MASK: u16 = 0x7fff;

/// The bits of a short PictureID.
pub const PICTURE_ID_SHORT_MASK: u16 = 0x7f;

/// The ids of a VP8 stream that run on from frame to frame, as one packet carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp8Ids {
    /// The PictureID, if the packet has one.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX, if the packet has one.
    pub tl0_pic_idx: Option<u8>,
}

/// A PictureID with the width of the field that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// The value: 15 bits in a long field, 7 in a short one.
    pub value: u16,
    /// Whether the field is the long one (the M bit).
    pub long: bool,
}

impl PictureId {
    /// `value` cut down to what the field holds.
    #[must_use]
    pub fn new(value: u16, long: bool) -> Self {
        let mask = if long { PICTURE_ID_LONG_MASK } else { PICTURE_ID_SHORT_MASK };
        Self { value: value & mask, long }
    }
}

/// Why bytes are no VP8 payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Vp8Error {
    /// The payload ends within its descriptor, or right after it.
    #[error("the payload ends within its VP8 descriptor")]
    Short,
}

/// A parsed VP8 payload descriptor.
///
/// Valid for the payload it was parsed from and for every copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    first: u8,
    ids: Vp8Ids,
    picture_id_at: usize,
    tl0_pic_idx_at: usize,
    len_bytes: usize,
}

impl Vp8Descriptor {
    /// Parses the descriptor that `payload` begins with.
    ///
    /// # Errors
    ///
    /// [`Vp8Error::Short`] where nothing is left for the frame itself.
    pub fn parse(payload: &[u8]) -> Result<Self, Vp8Error> {
        let mut at = 0;
        let mut take = || {
            let byte = payload.get(at).copied().ok_or(Vp8Error::Short);
            at += 1;
            byte.map(|byte| (byte, at - 1))
        };
        let (first, _) = take()?;
        let mut ids = Vp8Ids::default();
        let (mut picture_id_at, mut tl0_pic_idx_at) = (0, 0);
        if first & 0x80 != 0 {
            let (present, _) = take()?;
            if present & 0x80 != 0 {
                let (high, offset) = take()?;
                let long = high & 0x80 != 0;
                let mut value = u16::from(high & 0x7f);
                if long {
                    value = value << 8 | u16::from(take()?.0);
                }
                ids.picture_id = Some(PictureId { value, long });
                picture_id_at = offset;
            }
            if present & 0x40 != 0 {
                let (value, offset) = take()?;
                ids.tl0_pic_idx = Some(value);
                tl0_pic_idx_at = offset;
            }
            if present & 0x30 != 0 {
                take()?;
            }
        }
        take()?;
        Ok(Self { first, ids, picture_id_at, tl0_pic_idx_at, len_bytes: at - 1 })
    }

    /// The running ids that the descriptor carries.
    #[must_use]
    pub fn ids(&self) -> Vp8Ids {
        self.ids
    }

    /// The length of the descriptor; the frame's bytes follow it.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether the payload begins a frame: the S bit with partition 0.
    #[must_use]
    pub fn starts_frame(&self) -> bool {
        self.first & 0x10 != 0 && self.first & 0x07 == 0
    }

    /// Writes `ids` into `payload`, a copy of what was parsed; fields that the descriptor lacks are left out.
    ///
    /// A PictureID keeps the width of its field, so a value too large for it loses its upper bits. A `payload` that is
    /// too short for the descriptor is left as it is.
    pub fn patch(&self, payload: &mut [u8], ids: Vp8Ids) {
        if payload.len() < self.len_bytes {
            return;
        }
        if let (Some(old), Some(new)) = (self.ids.picture_id, ids.picture_id) {
            let [high, low] = PictureId::new(new.value, old.long).value.to_be_bytes();
            if let Some(field) = payload.get_mut(self.picture_id_at..) {
                match field {
                    [first, second, ..] if old.long => (*first, *second) = (0x80 | high, low),
                    [first, ..] if !old.long => *first = low,
                    _ => {}
                }
            }
        }
        if let (Some(_), Some(new)) = (self.ids.tl0_pic_idx, ids.tl0_pic_idx)
            && let Some(field) = payload.get_mut(self.tl0_pic_idx_at)
        {
            *field = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_descriptor_without_extension_is_one_byte() {
        let descriptor = Vp8Descriptor::parse(&[0x10, 0x00]).unwrap();
        assert_eq!((descriptor.len_bytes(), descriptor.ids()), (1, Vp8Ids::default()));
        assert!(descriptor.starts_frame());
    }

    #[test]
    fn every_field_is_read() {
        // X S | I L T K | M+PictureID 0x1234 | TL0PICIDX 9 | TID Y KEYIDX | frame
        let payload = [0x90, 0xf0, 0x92, 0x34, 9, 0x41, 0x00];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.len_bytes(), 6);
        assert_eq!(descriptor.ids().picture_id, Some(PictureId { value: 0x1234, long: true }));
        assert_eq!(descriptor.ids().tl0_pic_idx, Some(9));
    }

    #[test]
    fn a_second_partition_does_not_start_a_frame() {
        assert!(!Vp8Descriptor::parse(&[0x11, 0]).unwrap().starts_frame());
        assert!(!Vp8Descriptor::parse(&[0x00, 0]).unwrap().starts_frame());
    }

    #[test]
    fn a_descriptor_that_ends_early_is_refused() {
        let whole = [0x90, 0xf0, 0x92, 0x34, 9, 0x41, 0x00];
        for len in 0..whole.len() {
            assert_eq!(Vp8Descriptor::parse(&whole[..len]), Err(Vp8Error::Short), "{len}");
        }
    }

    #[test]
    fn a_short_picture_id_keeps_its_width() {
        let mut payload = [0x90, 0x80, 0x05, 0xaa];
        let ids = Vp8Ids { picture_id: Some(PictureId { value: 0x1fe, long: true }), tl0_pic_idx: Some(1) };
        Vp8Descriptor::parse(&payload).unwrap().patch(&mut payload, ids);
        assert_eq!(payload, [0x90, 0x80, 0x7e, 0xaa]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic_and_patched_to_what_is_read_back(
            mut payload in prop::collection::vec(any::<u8>(), 0..12), value: u16, tl0: u8,
        ) {
            if let Ok(before) = Vp8Descriptor::parse(&payload) {
                let len = payload.len();
                let picture_id = before.ids().picture_id.map(|old| PictureId::new(value, old.long));
                let ids = Vp8Ids { picture_id, tl0_pic_idx: before.ids().tl0_pic_idx.map(|_| tl0) };
                before.patch(&mut payload, ids);
                let after = Vp8Descriptor::parse(&payload).unwrap();
                prop_assert_eq!(after.ids(), ids);
                prop_assert_eq!((after.len_bytes(), payload.len()), (before.len_bytes(), len));
            }
        }
    }
}
