//! SRTP and SRTCP toward one subscriber: what is sealed, what is opened, and the counters.
//!
//! **Invariant:** a (key, SSRC, index) triple is used once. [`Sealer`] holds the only copy of the sending keys, and refuses
//! an index that it has sealed before or can no longer tell from one.

use super::cipher::{Cipher, CipherError, GCM_TAG_BYTES, MasterKey, Profile, RTCP_LABELS, RTP_LABELS, SHA1_TAG_BYTES};
use super::replay::ReplayWindow;
use crate::rtp::header::FIXED_HEADER_BYTES;

/// The most that sealing adds, in bytes: the tag, and the index of SRTCP.
pub const OVERHEAD_MAX_BYTES: usize = GCM_TAG_BYTES + RTCP_INDEX_BYTES;

/// What SRTCP leaves in the clear: the first header and the sender's SSRC, in bytes.
const RTCP_CLEAR_BYTES: usize = 8;

/// The E flag and the index of SRTCP, in bytes.
const RTCP_INDEX_BYTES: usize = 4;

/// The most streams that one sealer serves, and the most senders that one opener hears: twice the m-lines of an answer
/// that fits a message, with room to spare.
const STREAMS_MAX: usize = 256;

/// Why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The slot has no room for the tag, or the packet has no header.
    #[error("the packet does not fit")]
    Length,
    /// The index was sealed before, or lies too far back to tell.
    #[error("this index was used before")]
    Reused,
    /// The SSRC was not announced.
    #[error("no such stream")]
    Stream,
    /// No index is left (RFC 3711 §9.2).
    #[error("the keys are used up")]
    Exhausted,
    /// The cipher refused.
    #[error(transparent)]
    Cipher(#[from] CipherError),
}

/// Names a stream of a [`Sealer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId(usize);

/// Seals what one subscriber is sent.
pub struct Sealer {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_index: u32,
    streams: Vec<(u32, ReplayWindow)>,
}

/// Opens the SRTCP that one subscriber sends.
pub struct Opener {
    rtcp: Cipher,
    /// By the sender's SSRC: a browser counts for each of its own (RFC 3711 §3.2.3), and so repeats itself across them.
    seen: Vec<(u32, ReplayWindow)>,
}

/// Splits the keying material of a DTLS-SRTP handshake (RFC 5764 §4.2): what the client, or else the server, seals and
/// opens with.
///
/// # Errors
///
/// When its length is not that of the profile.
pub fn session(profile: Profile, material: &[u8], is_client: bool) -> Result<(Sealer, Opener), CipherError> {
    let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
    let mut rest = material;
    let mut take = |len_bytes| {
        let (taken, after) = rest.split_at_checked(len_bytes).ok_or(CipherError)?;
        rest = after;
        Ok(taken)
    };
    let (client_key, server_key) = (take(key)?, take(key)?);
    let (client_salt, server_salt) = (take(salt)?, take(salt)?);
    if !rest.is_empty() {
        return Err(CipherError);
    }
    let client = MasterKey::new(profile, client_key, client_salt).ok_or(CipherError)?;
    let server = MasterKey::new(profile, server_key, server_salt).ok_or(CipherError)?;
    let (ours, theirs) = if is_client { (client, server) } else { (server, client) };
    Ok((Sealer::new(profile, &ours)?, Opener::new(&theirs)?))
}

/// An RTP packet about to be sealed: header and head lie in the slot, the tail elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The header with its extensions: authenticated, not encrypted.
    pub header_bytes: usize,
    /// What follows the header in the slot: the start of the payload as this subscriber gets it.
    pub head_bytes: usize,
    /// The rest of the payload.
    pub tail: &'a [u8],
}

impl Sealer {
    fn new(profile: Profile, master: &MasterKey) -> Result<Self, CipherError> {
        Ok(Self {
            profile,
            rtp: Cipher::new(master, RTP_LABELS)?,
            rtcp: Cipher::new(master, RTCP_LABELS)?,
            rtcp_index: 0,
            streams: Vec::new(),
        })
    }

    /// The profile that was negotiated.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Announces an SSRC; announcing it again gives the same stream, with its counter. `None` when there are too many.
    pub fn stream(&mut self, ssrc: u32) -> Option<StreamId> {
        if let Some(index) = self.streams.iter().position(|(known, _)| *known == ssrc) {
            return Some(StreamId(index));
        }
        if self.streams.len() >= STREAMS_MAX {
            return None;
        }
        self.streams.push((ssrc, ReplayWindow::default()));
        Some(StreamId(self.streams.len() - 1))
    }

    /// Seals an RTP packet into `slot`, which begins with its header and head; returns the sealed length in bytes.
    ///
    /// `index` is the extended sequence number, of which the header has the lower 16 bits. The tail is encrypted from where
    /// it lies.
    ///
    /// # Errors
    ///
    /// [`SealError`]; the slot's content is of no use then.
    #[inline]
    pub fn seal_rtp(
        &mut self,
        stream: StreamId,
        index: u64,
        slot: &mut [u8],
        parts: Parts<'_>,
    ) -> Result<usize, SealError> {
        let Parts { header_bytes, head_bytes, tail } = parts;
        let (ssrc, sent) = self.streams.get_mut(stream.0).ok_or(SealError::Stream)?;
        if header_bytes < FIXED_HEADER_BYTES {
            return Err(SealError::Length);
        }
        if index >> 48 != 0 {
            return Err(SealError::Exhausted);
        }
        if sent.contains(index) {
            return Err(SealError::Reused);
        }
        let len_bytes = header_bytes + head_bytes + tail.len();
        let slot = slot.get_mut(..len_bytes + self.profile.tag_bytes()).ok_or(SealError::Length)?;
        // From here on the index is used up, whatever happens.
        sent.insert(index);
        match &self.rtp {
            Cipher::Gcm(gcm) => {
                let (header, body) = slot.split_at_mut(header_bytes);
                let (head, tail_and_tag) = body.split_at_mut(head_bytes);
                gcm.seal((*ssrc, index), header, head, tail, tail_and_tag)?;
            }
            Cipher::CmSha1(cm) => {
                let (packet, tag) = slot.split_at_mut(len_bytes);
                let (_, payload) = packet.split_at_mut(header_bytes);
                let (_, rest) = payload.split_at_mut(head_bytes);
                rest.copy_from_slice(tail);
                cm.apply((*ssrc, index), payload)?;
                let rollover = (index >> 16) as u32;
                tag.copy_from_slice(&cm.tag(packet, &rollover.to_be_bytes()));
            }
        }
        Ok(slot.len())
    }

    /// Seals the compound RTCP packet in the first `len_bytes` of `slot`; returns its sealed length in bytes.
    ///
    /// # Errors
    ///
    /// [`SealError`]; the slot's content is of no use then.
    pub fn seal_rtcp(&mut self, slot: &mut [u8], len_bytes: usize) -> Result<usize, SealError> {
        if len_bytes < RTCP_CLEAR_BYTES {
            return Err(SealError::Length);
        }
        let index = self.rtcp_index.checked_add(1).filter(|index| index >> 31 == 0).ok_or(SealError::Exhausted)?;
        let slot = slot.get_mut(..len_bytes + RTCP_INDEX_BYTES + self.profile.tag_bytes()).ok_or(SealError::Length)?;
        let ssrc = rtcp_ssrc(slot).ok_or(SealError::Length)?;
        self.rtcp_index = index;
        let word = (index | 1 << 31).to_be_bytes();
        let (packet, trailer) = slot.split_at_mut(len_bytes);
        match &self.rtcp {
            Cipher::Gcm(gcm) => {
                let (clear, body) = packet.split_at_mut(RTCP_CLEAR_BYTES);
                let (tag, index_slot) = trailer.split_at_mut(GCM_TAG_BYTES);
                gcm.seal((ssrc, u64::from(index)), &associated(clear, word), body, &[], tag)?;
                index_slot.copy_from_slice(&word);
            }
            Cipher::CmSha1(cm) => {
                let (_, body) = packet.split_at_mut(RTCP_CLEAR_BYTES);
                cm.apply((ssrc, u64::from(index)), body)?;
                let (index_slot, tag) = trailer.split_at_mut(RTCP_INDEX_BYTES);
                index_slot.copy_from_slice(&word);
                tag.copy_from_slice(&cm.tag(packet, &word));
            }
        }
        Ok(slot.len())
    }
}

impl Opener {
    fn new(master: &MasterKey) -> Result<Self, CipherError> {
        Ok(Self { rtcp: Cipher::new(master, RTCP_LABELS)?, seen: Vec::new() })
    }

    /// Opens an SRTCP packet where it lies; returns the compound RTCP packet.
    ///
    /// `None` for what is too short, is not encrypted, was not sealed with the peer's keys, or was seen before.
    pub fn open_rtcp<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        let ssrc = rtcp_ssrc(packet)?;
        let sender = self.seen.iter().position(|(known, _)| *known == ssrc).unwrap_or(self.seen.len());
        if sender >= STREAMS_MAX {
            return None;
        }
        let is_new = |index: &u64| self.seen.get(sender).is_none_or(|(_, seen)| !seen.contains(*index));
        let (index, len_bytes) = match &self.rtcp {
            Cipher::Gcm(gcm) => {
                let (sealed, word) = packet.split_last_chunk_mut::<RTCP_INDEX_BYTES>()?;
                let index = encrypted_index(*word).filter(is_new)?;
                let len_bytes = sealed.len().checked_sub(GCM_TAG_BYTES).filter(|len| *len >= RTCP_CLEAR_BYTES)?;
                let (clear, body) = sealed.split_at_mut(RTCP_CLEAR_BYTES);
                gcm.open((ssrc, index), &associated(clear, *word), body).ok()?;
                (index, len_bytes)
            }
            Cipher::CmSha1(cm) => {
                let (authenticated, tag) = packet.split_last_chunk_mut::<SHA1_TAG_BYTES>()?;
                let (body, word) = authenticated.split_last_chunk_mut::<RTCP_INDEX_BYTES>()?;
                let index = encrypted_index(*word).filter(is_new)?;
                let expected = cm.tag(body, word);
                aws_lc_rs::constant_time::verify_slices_are_equal(&expected, tag).ok()?;
                let len_bytes = body.len();
                cm.apply((ssrc, index), body.get_mut(RTCP_CLEAR_BYTES..)?).ok()?;
                (index, len_bytes)
            }
        };
        // Only now: what was not sealed with the peer's keys must not take a place.
        if sender == self.seen.len() {
            self.seen.push((ssrc, ReplayWindow::default()));
        }
        self.seen.get_mut(sender)?.1.insert(index);
        packet.get(..len_bytes)
    }
}

/// The SSRC of the sender of a compound RTCP packet.
fn rtcp_ssrc(packet: &[u8]) -> Option<u32> {
    let bytes = packet.get(4..RTCP_CLEAR_BYTES)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The index, unless the packet is authenticated alone: no client of WebRTC may send that (RFC 8827 §6.5).
fn encrypted_index(word: [u8; RTCP_INDEX_BYTES]) -> Option<u64> {
    let word = u32::from_be_bytes(word);
    (word >> 31 == 1).then_some(u64::from(word & !(1 << 31)))
}

/// What GCM authenticates beside the ciphertext of SRTCP (RFC 7714 §9.2).
fn associated(clear: &[u8], word: [u8; RTCP_INDEX_BYTES]) -> [u8; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES] {
    let mut associated = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
    for (byte, with) in associated.iter_mut().zip(clear.iter().copied().chain(word)) {
        *byte = with;
    }
    associated
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::cipher::Gcm;
    use proptest::prelude::*;

    const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn gcm(key_bytes: u8) -> Cipher {
        let key: Vec<u8> = (0..key_bytes).collect();
        Cipher::Gcm(Gcm::from_session(&key, *b"Quid pro quo"))
    }

    fn material(profile: Profile) -> Vec<u8> {
        (0..2 * (profile.key_bytes() + profile.salt_bytes())).map(|index| (index as u8).wrapping_mul(7)).collect()
    }

    fn pair(profile: Profile) -> ((Sealer, Opener), (Sealer, Opener)) {
        let material = material(profile);
        (session(profile, &material, true).unwrap(), session(profile, &material, false).unwrap())
    }

    /// RFC 7714 §16.1.1 and §16.2.1.
    #[test]
    fn sealed_rtp_is_that_of_the_rfc() {
        let header = hex("8040f17b 8041f8d3 5501a0b2");
        let payload = b"Gallia est omnis divisa in partes tres";
        for (key_bytes, profile, sealed) in [
            (
                16,
                Profile::AeadAes128Gcm,
                "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
            ),
            (
                32,
                Profile::AeadAes256Gcm,
                "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
            ),
        ] {
            for head_bytes in [0, 1, 16, 20, payload.len()] {
                let mut sealer =
                    Sealer { profile, rtp: gcm(key_bytes), rtcp: gcm(key_bytes), rtcp_index: 0, streams: vec![] };
                let stream = sealer.stream(0x5501_a0b2).unwrap();
                let (head, tail) = payload.split_at(head_bytes);
                let mut slot = [header.as_slice(), head, &[0; 100]].concat();
                let parts = Parts { header_bytes: header.len(), head_bytes, tail };
                let len_bytes = sealer.seal_rtp(stream, 0xf17b, &mut slot, parts).unwrap();
                assert_eq!(slot[..len_bytes], [header.as_slice(), &hex(sealed)].concat(), "{profile:?} {head_bytes}");
            }
        }
    }

    /// RFC 7714 §17.1.
    #[test]
    fn sealed_rtcp_is_that_of_the_rfc() {
        let plain = hex(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
        );
        let sealed = hex(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        let profile = Profile::AeadAes128Gcm;
        let mut sealer = Sealer { profile, rtp: gcm(16), rtcp: gcm(16), rtcp_index: 0x5d3, streams: vec![] };
        let mut slot = [plain.as_slice(), &[0; 20]].concat();
        assert_eq!(sealer.seal_rtcp(&mut slot, plain.len()), Ok(sealed.len()));
        assert_eq!(slot, sealed);
        let mut opener = Opener { rtcp: gcm(16), seen: Vec::new() };
        assert_eq!(opener.open_rtcp(&mut slot), Some(plain.as_slice()));
    }

    #[test]
    fn rtcp_is_opened_once_and_only_by_its_receiver() {
        for profile in PROFILES {
            let ((mut client, mut client_opens), (mut server, mut server_opens)) = pair(profile);
            for number in 0..3_u8 {
                let plain = [0x80, 201, 0, 2, 1, 2, 3, 4, number, 5, 6, 7];
                let mut slot = [plain.as_slice(), &[0; OVERHEAD_MAX_BYTES]].concat();
                let len_bytes = client.seal_rtcp(&mut slot, plain.len()).unwrap();
                slot.truncate(len_bytes);
                assert_ne!(slot[8..12], plain[8..12], "{profile:?}");
                assert_eq!(client_opens.open_rtcp(&mut slot.clone()), None, "a packet reflected to its sender");
                let mut forged = slot.clone();
                forged[9] ^= 1;
                assert_eq!(server_opens.open_rtcp(&mut forged), None, "{profile:?}");
                for short in 0..len_bytes {
                    assert_eq!(server_opens.open_rtcp(&mut slot[..short].to_vec()), None, "{profile:?}");
                }
                let replay = slot.clone();
                assert_eq!(server_opens.open_rtcp(&mut slot), Some(plain.as_slice()), "{profile:?}");
                assert_eq!(server_opens.open_rtcp(&mut replay.clone()), None, "{profile:?}");
            }
            let mut slot = [0; 64];
            assert_eq!(server.seal_rtcp(&mut slot, 7), Err(SealError::Length));
            assert_eq!(server.seal_rtcp(&mut slot, 60), Err(SealError::Length));
            server.rtcp_index = (1 << 31) - 1;
            assert_eq!(server.seal_rtcp(&mut slot, 16), Err(SealError::Exhausted));
        }
    }

    #[test]
    fn each_sender_of_a_peer_counts_for_itself() {
        for profile in PROFILES {
            let ((mut client, _), (_, mut opener)) = pair(profile);
            let mut sealed = |ssrc: u32, index: u32| {
                let mut slot = [[0x80, 201, 0, 1].as_slice(), &ssrc.to_be_bytes(), &[0; OVERHEAD_MAX_BYTES]].concat();
                client.rtcp_index = index - 1;
                let len_bytes = client.seal_rtcp(&mut slot, RTCP_CLEAR_BYTES).unwrap();
                slot.truncate(len_bytes);
                slot
            };
            for index in [1, 2, 5_000] {
                assert!(opener.open_rtcp(&mut sealed(7, index)).is_some(), "{profile:?}");
            }
            for index in [1, 2] {
                assert!(opener.open_rtcp(&mut sealed(8, index)).is_some(), "{profile:?}: another one begins anew");
                assert_eq!(opener.open_rtcp(&mut sealed(8, index)), None, "{profile:?}");
                assert_eq!(opener.open_rtcp(&mut sealed(7, index)), None, "{profile:?}");
            }
            let mut forged = sealed(9, 1);
            forged[RTCP_CLEAR_BYTES] ^= 1;
            assert_eq!(opener.open_rtcp(&mut forged), None);
            assert_eq!(opener.seen.len(), 2, "a forged packet takes no place");
            let heard = (100..1_100).filter(|ssrc| opener.open_rtcp(&mut sealed(*ssrc, 1)).is_some()).count();
            assert_eq!(heard, STREAMS_MAX - 2);
            assert!(opener.open_rtcp(&mut sealed(7, 5_001)).is_some(), "those that were heard before go on");
        }
    }

    #[test]
    fn an_index_is_sealed_once() {
        for profile in PROFILES {
            let (_, (mut sealer, _)) = pair(profile);
            let stream = sealer.stream(7).unwrap();
            assert_eq!(sealer.stream(7), Some(stream));
            let other = sealer.stream(8).unwrap();
            let mut seal = |stream, index, tail: &[u8]| {
                let parts = Parts { header_bytes: 12, head_bytes: 0, tail };
                sealer.seal_rtp(stream, index, &mut [0; 100], parts)
            };
            assert_eq!(seal(stream, 5, b"one"), Ok(12 + 3 + profile.tag_bytes()));
            assert_eq!(seal(stream, 5, b"two"), Err(SealError::Reused));
            assert!(seal(other, 5, b"one").is_ok());
            assert!(seal(stream, 4, b"late").is_ok());
            assert!(seal(stream, 5_000, b"far").is_ok());
            assert_eq!(seal(stream, 6, b"too late"), Err(SealError::Reused));
            assert_eq!(seal(stream, 1 << 48, b""), Err(SealError::Exhausted));
            assert_eq!(seal(StreamId(9), 1, b""), Err(SealError::Stream));
            assert_eq!(seal(stream, 5_001, &[0; 90]), Err(SealError::Length));
            assert!(seal(stream, 5_001, b"the refused one was not used up").is_ok());
        }
    }

    #[test]
    fn streams_are_capped_and_material_has_its_length() {
        let (_, (mut sealer, _)) = pair(Profile::AeadAes128Gcm);
        let announced = (0..1_000).filter(|ssrc| sealer.stream(*ssrc).is_some()).count();
        assert_eq!(announced, STREAMS_MAX);
        for profile in PROFILES {
            let material = material(profile);
            assert!(session(profile, &material[1..], true).is_err());
            assert!(session(profile, &[&material[..], &[0]].concat(), true).is_err());
            assert!(session(profile, &[], false).is_err());
        }
    }

    proptest! {
        #[test]
        fn strangers_bytes_are_refused_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for profile in PROFILES {
                let (_, (_, mut opener)) = pair(profile);
                prop_assert_eq!(opener.open_rtcp(&mut bytes), None);
            }
        }
    }
}
