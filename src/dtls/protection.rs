//! Records under the keys of a handshake that is done (RFC 5246 §6.2.3.3, RFC 6347 §4.1, RFC 5288, RFC 7905).
//!
//! OpenSSL shakes hands, and then hands over to this: it would hold 48 KiB for each peer, and could not be told to seal its
//! `Finished` again.
//!
//! **Invariant:** a key never sees a nonce twice, and no record is opened twice.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use openssl::ssl::SslRef;

use super::record::{HEADER_BYTES, Kind, Record};
use crate::egress::replay::ReplayWindow;

const TAG_BYTES: usize = 16;

/// The part of a nonce of AES-GCM that stands before the ciphertext, in bytes.
const EXPLICIT_BYTES: usize = 8;

/// The epoch of the first keys; there are no second ones.
const EPOCH: u16 = 1;

const MASTER_BYTES: usize = 48;
const RANDOM_BYTES: usize = 32;

/// One direction's key.
struct Half {
    key: LessSafeKey,
    /// What the nonce is made of: with AES-GCM the first four bytes of it, else what the sequence number is mixed into.
    iv: [u8; NONCE_LEN],
}

/// The keys of both directions.
pub struct Protection {
    has_explicit: bool,
    ours: Half,
    theirs: Half,
    next_sequence: u64,
    next_explicit: u64,
    seen: ReplayWindow,
}

impl Protection {
    /// Those of a handshake in which `finished` is our own last message, as OpenSSL has sealed it under the first number.
    ///
    /// `None` where there are no keys yet.
    pub fn new(ssl: &SslRef, is_client: bool, finished: &[u8]) -> Option<Self> {
        let name = ssl.current_cipher()?.name();
        let (algorithm, hash, has_explicit) = if name.contains("AES128-GCM") {
            (&AES_128_GCM, hmac::HMAC_SHA256, true)
        } else if name.contains("AES256-GCM") {
            (&AES_256_GCM, hmac::HMAC_SHA384, true)
        } else if name.contains("CHACHA20") {
            (&CHACHA20_POLY1305, hmac::HMAC_SHA256, false)
        } else {
            return None;
        };
        let mut master = [0; MASTER_BYTES];
        if ssl.session()?.master_key(&mut master) != MASTER_BYTES {
            return None;
        }
        let mut seed = [0; 2 * RANDOM_BYTES];
        let (server, client) = seed.split_at_mut(RANDOM_BYTES);
        if (ssl.server_random(server), ssl.client_random(client)) != (RANDOM_BYTES, RANDOM_BYTES) {
            return None;
        }
        let iv_bytes = if has_explicit { NONCE_LEN - EXPLICIT_BYTES } else { NONCE_LEN };
        let mut block = vec![0; 2 * (algorithm.key_len() + iv_bytes)];
        expand(hash, &master, b"key expansion", &seed, &mut block);
        let (keys, ivs) = block.split_at(2 * algorithm.key_len());
        let (client_key, server_key) = keys.split_at(algorithm.key_len());
        let (client_iv, server_iv) = ivs.split_at(iv_bytes);
        let half = |key, iv: &[u8]| {
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
            let mut whole = [0; NONCE_LEN];
            whole.get_mut(..iv.len())?.copy_from_slice(iv);
            Some(Half { key, iv: whole })
        };
        let (client, server) = (half(client_key, client_iv)?, half(server_key, server_iv)?);
        let (ours, theirs) = if is_client { (client, server) } else { (server, client) };
        let used = *finished.get(HEADER_BYTES..)?.first_chunk::<EXPLICIT_BYTES>()?;
        Some(Self {
            has_explicit,
            ours,
            theirs,
            next_sequence: 1,
            next_explicit: u64::from_be_bytes(used).wrapping_add(1),
            seen: ReplayWindow::default(),
        })
    }

    /// A record that holds `plaintext`; `None` when no number is left.
    pub fn seal(&mut self, kind: Kind, plaintext: &[u8]) -> Option<Vec<u8>> {
        let sequence = self.next_sequence;
        if sequence >> 48 != 0 {
            return None;
        }
        self.next_sequence += 1;
        let number = (u64::from(EPOCH) << 48 | sequence).to_be_bytes();
        let mut explicit = number;
        if self.has_explicit {
            explicit = self.next_explicit.to_be_bytes();
            self.next_explicit = self.next_explicit.wrapping_add(1);
        }
        let clear: &[u8] = if self.has_explicit { &explicit } else { &[] };
        let body_bytes = u16::try_from(clear.len() + plaintext.len() + TAG_BYTES).ok()?;
        let mut record = Vec::with_capacity(HEADER_BYTES + usize::from(body_bytes));
        record.extend_from_slice(&[kind.number(), 0xfe, 0xfd]);
        record.extend_from_slice(&number);
        record.extend_from_slice(&body_bytes.to_be_bytes());
        record.extend_from_slice(clear);
        let start = record.len();
        record.extend_from_slice(plaintext);
        let associated = associated(number, kind, plaintext.len())?;
        let nonce = self.nonce(&self.ours, explicit);
        let body = record.get_mut(start..)?;
        let tag = self.ours.key.seal_in_place_separate_tag(nonce, associated, body).ok()?;
        record.extend_from_slice(tag.as_ref());
        Some(record)
    }

    /// Opens a record of the peer's: once.
    pub fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let [_, _, sequence @ ..] = record.number();
        let sequence = sequence.into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte));
        if record.epoch != EPOCH || self.seen.contains(sequence) {
            return None;
        }
        let plaintext = self.opened(&self.theirs, record)?;
        self.seen.insert(sequence);
        Some(plaintext)
    }

    /// A record of our own under a new number.
    pub fn reseal(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let plaintext = self.opened(&self.ours, record)?;
        self.seal(record.kind, &plaintext)
    }

    fn opened(&self, half: &Half, record: &Record<'_>) -> Option<Vec<u8>> {
        let body = record.bytes.get(HEADER_BYTES..)?;
        let (explicit, sealed) = if self.has_explicit {
            let (explicit, sealed) = body.split_first_chunk::<EXPLICIT_BYTES>()?;
            (*explicit, sealed)
        } else {
            (record.number(), body)
        };
        let associated = associated(record.number(), record.kind, sealed.len().checked_sub(TAG_BYTES)?)?;
        let mut plaintext = sealed.to_vec();
        let len_bytes = half.key.open_in_place(self.nonce(half, explicit), associated, &mut plaintext).ok()?.len();
        plaintext.truncate(len_bytes);
        Some(plaintext)
    }

    /// The nonce of a record, by what stands before its ciphertext, or else by its number.
    fn nonce(&self, half: &Half, last: [u8; EXPLICIT_BYTES]) -> Nonce {
        let mut nonce = half.iv;
        let place = nonce.last_chunk_mut::<EXPLICIT_BYTES>();
        for (own, other) in place.into_iter().flatten().zip(last) {
            // Of AES-GCM's nonce these bytes were zero.
            *own ^= other;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What is authenticated beside the ciphertext: number, kind, version, length of the plaintext.
fn associated(number: [u8; 8], kind: Kind, len_bytes: usize) -> Option<Aad<[u8; 13]>> {
    let mut all = [0; 13];
    let (first, rest) = all.split_at_mut(8);
    first.copy_from_slice(&number);
    let [high, low] = u16::try_from(len_bytes).ok()?.to_be_bytes();
    rest.copy_from_slice(&[kind.number(), 0xfe, 0xfd, high, low]);
    Some(Aad::from(all))
}

/// The pseudo-random function of TLS 1.2 (RFC 5246 §5).
fn expand(hash: hmac::Algorithm, secret: &[u8], label: &[u8], seed: &[u8], out: &mut [u8]) {
    let key = hmac::Key::new(hash, secret);
    let first = [label, seed].concat();
    let mut chain = hmac::sign(&key, &first);
    let mut rest = out;
    while !rest.is_empty() {
        let block = hmac::sign(&key, &[chain.as_ref(), &first].concat());
        let len_bytes = rest.len().min(block.as_ref().len());
        let (place, after) = rest.split_at_mut(len_bytes);
        for (own, byte) in place.iter_mut().zip(block.as_ref()) {
            *own = *byte;
        }
        rest = after;
        chain = hmac::sign(&key, chain.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::record::records;

    /// The vector for SHA-256 that was posted to the TLS working group's list, as RFC 5246 has none.
    #[test]
    fn the_pseudo_random_function_is_that_of_tls() {
        let secret = [0x9b, 0xbe, 0x43, 0x6b, 0xa9, 0x40, 0xf0, 0x17, 0xb1, 0x76, 0x52, 0x84, 0x9a, 0x71, 0xdb, 0x35];
        let seed = [0xa0, 0xba, 0x9f, 0x93, 0x6c, 0xda, 0x31, 0x18, 0x27, 0xa6, 0xf7, 0x96, 0xff, 0xd5, 0x19, 0x8c];
        let expected = [
            0xe3, 0xf2, 0x29, 0xba, 0x72, 0x7b, 0xe1, 0x7b, 0x8d, 0x12, 0x26, 0x20, 0x55, 0x7c, 0xd4, 0x53, 0xc2, 0xaa,
            0xb2, 0x1d, 0x07, 0xc3, 0xd4, 0x95, 0x32, 0x9b, 0x52, 0xd4, 0xe6, 0x1e, 0xdb, 0x5a,
        ];
        let mut out = [0; 32];
        expand(hmac::HMAC_SHA256, &secret, b"test label", &seed, &mut out);
        assert_eq!(out, expected);
    }

    fn pair(has_explicit: bool) -> [Protection; 2] {
        let algorithm = if has_explicit { &AES_256_GCM } else { &CHACHA20_POLY1305 };
        let half = |fill: u8| {
            let mut iv = [fill; NONCE_LEN];
            if has_explicit {
                iv[4..].fill(0);
            }
            Half { key: LessSafeKey::new(UnboundKey::new(algorithm, &[fill; 32]).unwrap()), iv }
        };
        [(1, 2), (2, 1)].map(|(ours, theirs)| Protection {
            has_explicit,
            ours: half(ours),
            theirs: half(theirs),
            next_sequence: 1,
            next_explicit: u64::MAX,
            seen: ReplayWindow::default(),
        })
    }

    #[test]
    fn what_one_seals_the_other_opens_once() {
        for has_explicit in [true, false] {
            let [mut one, mut other] = pair(has_explicit);
            for said in [&b"first"[..], b"", b"third"] {
                let sealed = one.seal(Kind::Data, said).unwrap();
                let record = records(&sealed).next().unwrap();
                assert_eq!((record.kind, record.epoch, record.bytes.len()), (Kind::Data, 1, sealed.len()));
                assert_eq!(other.open(&record).unwrap(), said);
                assert_eq!(other.open(&record), None, "it was there before");
                assert_eq!(one.open(&record), None, "it is our own");
                let again = one.reseal(&record).unwrap();
                assert_ne!(again, sealed);
                assert_eq!(other.open(&records(&again).next().unwrap()).unwrap(), said);
            }
        }
    }

    #[test]
    fn what_was_changed_is_not_opened() {
        for has_explicit in [true, false] {
            let [mut one, mut other] = pair(has_explicit);
            let sealed = one.seal(Kind::Alert, &[1, 0]).unwrap();
            for at in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[at] ^= 1;
                let version = at == 1 || at == 2;
                assert!(records(&forged).all(|record| version || other.open(&record).is_none()), "byte {at}");
            }
            for len_bytes in 0..sealed.len() - HEADER_BYTES {
                let mut short = sealed[..HEADER_BYTES + len_bytes].to_vec();
                short[11..13].copy_from_slice(&(len_bytes as u16).to_be_bytes());
                assert!(records(&short).all(|record| other.open(&record).is_none()), "{len_bytes} bytes");
            }
            assert!(other.open(&records(&sealed).next().unwrap()).is_some());
        }
    }

    #[test]
    fn numbers_end() {
        let [mut one, _] = pair(true);
        one.next_sequence = (1 << 48) - 1;
        assert!(one.seal(Kind::Data, b"the last").is_some());
        assert!(one.seal(Kind::Data, b"one more").is_none());
    }
}
