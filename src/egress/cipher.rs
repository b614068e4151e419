//! The SRTP protection profiles: their lengths, their keys and their ciphers.
//!
//! Key derivation is RFC 3711 §4.3; the profiles are AES128_CM_SHA1_80 (RFC 3711, RFC 5764 §4.1.2), AEAD_AES_128_GCM and
//! AEAD_AES_256_GCM (RFC 7714).
//!
//! **Invariant:** keys enter through [`MasterKey`] and never leave; nothing here allocates per packet.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

/// The tag of AES128_CM_SHA1_80, in bytes.
pub const SHA1_TAG_BYTES: usize = 10;

/// The tag of the GCM profiles, in bytes.
pub const GCM_TAG_BYTES: usize = 16;

/// A protection profile (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// SRTP_AES128_CM_HMAC_SHA1_80.
    Aes128CmSha1_80,
    /// SRTP_AEAD_AES_128_GCM.
    AeadAes128Gcm,
    /// SRTP_AEAD_AES_256_GCM.
    AeadAes256Gcm,
}

impl Profile {
    /// The length of a master key, in bytes.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// The length of a master salt, in bytes.
    #[must_use]
    pub const fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// The length of the authentication tag, in bytes.
    #[must_use]
    pub const fn tag_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => SHA1_TAG_BYTES,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => GCM_TAG_BYTES,
        }
    }
}

/// A cipher refused, or a length does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cipher refused")]
pub struct CipherError;

/// The labels of one derivation (RFC 3711 §4.3.1): of the encryption key, the authentication key and the salt.
pub type Labels = [u8; 3];

/// The labels of SRTP's session keys.
pub const RTP_LABELS: Labels = [0, 1, 2];

/// The labels of SRTCP's session keys.
pub const RTCP_LABELS: Labels = [3, 4, 5];

/// The master key and salt of one direction.
pub struct MasterKey {
    profile: Profile,
    key: [u8; 32],
    salt: [u8; 14],
}

impl MasterKey {
    /// `None` where a length is not the profile's.
    #[must_use]
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != profile.key_bytes() || salt.len() != profile.salt_bytes() {
            return None;
        }
        let mut master = Self { profile, key: [0; 32], salt: [0; 14] };
        master.key.get_mut(..key.len())?.copy_from_slice(key);
        master.salt.get_mut(..salt.len())?.copy_from_slice(salt);
        Some(master)
    }

    /// The AES-CM PRF of RFC 3711 §4.3.3, with the AES of the key's length (RFC 7714 §11). A key derivation rate of 0.
    fn derive(&self, label: u8, out: &mut [u8]) -> Result<(), CipherError> {
        let key = self.key.get(..self.profile.key_bytes()).ok_or(CipherError)?;
        let cipher = counter_mode(key)?;
        let mut block = [0_u8; 16];
        for (byte, salt) in block.iter_mut().zip(self.salt) {
            *byte = salt;
        }
        let [_, _, _, _, _, _, _, labelled, ..] = &mut block;
        *labelled ^= label;
        out.fill(0);
        let context = EncryptionContext::Iv128(FixedLength::from(block));
        cipher.less_safe_encrypt(out, context).map_err(|_| CipherError)?;
        Ok(())
    }
}

/// AES in counter mode, by the length of the key.
fn counter_mode(key: &[u8]) -> Result<EncryptingKey, CipherError> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    let key = UnboundCipherKey::new(algorithm, key).map_err(|_| CipherError)?;
    EncryptingKey::ctr(key).map_err(|_| CipherError)
}

/// The session keys of one direction, for RTP or for RTCP.
pub enum Cipher {
    /// AEAD_AES_128_GCM and AEAD_AES_256_GCM.
    Gcm(Gcm),
    /// AES128_CM_SHA1_80.
    CmSha1(Box<CmSha1>),
}

impl Cipher {
    /// Derives the session keys.
    ///
    /// # Errors
    ///
    /// When the cipher library does not take a key.
    pub fn new(master: &MasterKey, labels: Labels) -> Result<Self, CipherError> {
        let [encryption, authentication, salting] = labels;
        match master.profile {
            Profile::Aes128CmSha1_80 => {
                let (mut key, mut mac, mut salt) = ([0; 16], [0; 20], [0; 14]);
                master.derive(encryption, &mut key)?;
                master.derive(authentication, &mut mac)?;
                master.derive(salting, &mut salt)?;
                let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac);
                Ok(Self::CmSha1(Box::new(CmSha1 { key: counter_mode(&key)?, mac, salt })))
            }
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => {
                let (mut key, mut salt) = ([0; 32], [0; 12]);
                let key = key.get_mut(..master.profile.key_bytes()).ok_or(CipherError)?;
                master.derive(encryption, key)?;
                master.derive(salting, &mut salt)?;
                let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
                let key = LessSafeKey::new(UnboundKey::new(algorithm, key).map_err(|_| CipherError)?);
                Ok(Self::Gcm(Gcm { key, salt }))
            }
        }
    }
}

/// AES in Galois/counter mode with its session salt.
pub struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

impl Gcm {
    /// Encrypts `head` where it lies and `tail` into `tail_and_tag`, which also gets the tag: the ciphertext is that of the
    /// two joined.
    ///
    /// # Errors
    ///
    /// When `tail_and_tag` is not as long as the tail and a tag.
    #[inline]
    pub fn seal(
        &self,
        (ssrc, counter): (u32, u64),
        associated: &[u8],
        head: &mut [u8],
        tail: &[u8],
        tail_and_tag: &mut [u8],
    ) -> Result<(), CipherError> {
        let nonce = self.nonce(ssrc, counter);
        self.key.seal_in_place_scatter(nonce, Aad::from(associated), head, tail, tail_and_tag).map_err(|_| CipherError)
    }

    /// Decrypts `sealed`, which ends with the tag, where it lies.
    ///
    /// # Errors
    ///
    /// When it was not sealed so.
    pub fn open(&self, (ssrc, counter): (u32, u64), associated: &[u8], sealed: &mut [u8]) -> Result<(), CipherError> {
        let nonce = self.nonce(ssrc, counter);
        self.key.open_in_place(nonce, Aad::from(associated), sealed).map_err(|_| CipherError)?;
        Ok(())
    }

    /// Session keys as they stand in a test vector.
    #[cfg(test)]
    pub fn from_session(key: &[u8], salt: [u8; 12]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        Self { key: LessSafeKey::new(UnboundKey::new(algorithm, key).unwrap()), salt }
    }

    /// SSRC and 48 bits of counter, mixed with the salt (RFC 7714 §8.1 and §9.1).
    fn nonce(&self, ssrc: u32, counter: u64) -> Nonce {
        let [_, _, counter @ ..] = counter.to_be_bytes();
        let mut nonce = self.salt;
        let mixed = nonce.iter_mut().skip(2).zip(ssrc.to_be_bytes().into_iter().chain(counter));
        for (byte, with) in mixed {
            *byte ^= with;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// AES in counter mode with HMAC-SHA1, and its session salt.
pub struct CmSha1 {
    key: EncryptingKey,
    mac: hmac::Key,
    salt: [u8; 14],
}

impl CmSha1 {
    /// Encrypts or decrypts `bytes` where they lie.
    ///
    /// # Errors
    ///
    /// When the cipher library refuses.
    #[inline]
    pub fn apply(&self, (ssrc, index): (u32, u64), bytes: &mut [u8]) -> Result<(), CipherError> {
        let context = EncryptionContext::Iv128(FixedLength::from(self.counter_block(ssrc, index)));
        self.key.less_safe_encrypt(bytes, context).map_err(|_| CipherError)?;
        Ok(())
    }

    /// The tag over `authenticated` and `rollover`, cut down to its length.
    #[inline]
    pub fn tag(&self, authenticated: &[u8], rollover: &[u8]) -> [u8; SHA1_TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(authenticated);
        context.update(rollover);
        let whole = context.sign();
        let mut tag = [0; SHA1_TAG_BYTES];
        for (byte, with) in tag.iter_mut().zip(whole.as_ref()) {
            *byte = *with;
        }
        tag
    }

    /// The first counter block (RFC 3711 §4.1.1).
    fn counter_block(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut block = [0_u8; 16];
        for (byte, salt) in block.iter_mut().zip(self.salt) {
            *byte = salt;
        }
        let [_, _, index @ ..] = index.to_be_bytes();
        let mixed = block.iter_mut().skip(4).zip(ssrc.to_be_bytes().into_iter().chain(index));
        for (byte, with) in mixed {
            *byte ^= with;
        }
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// RFC 3711 §B.3.
    #[test]
    fn session_keys_are_those_of_the_rfc() {
        let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
        let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::new(Profile::Aes128CmSha1_80, &key, &salt).unwrap();
        let derived = |label, len_bytes| {
            let mut out = vec![0xff; len_bytes];
            master.derive(label, &mut out).unwrap();
            out
        };
        assert_eq!(derived(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(
            derived(1, 94),
            hex(
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCEE049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC256D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2"
            )
        );
    }

    /// RFC 3711 §B.2, AES in counter mode: the keystream's first blocks and those after 0xfeff.
    #[test]
    fn the_keystream_is_that_of_the_rfc() {
        let key = counter_mode(&hex("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
        let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[]);
        let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let cipher = CmSha1 { key, mac, salt };
        let mut stream = vec![0; 0xff02 * 16];
        cipher.apply((0, 0), &mut stream).unwrap();
        assert_eq!(stream[..16], hex("E03EAD0935C95E80E166B16DD92B4EB4"));
        assert_eq!(stream[16..32], hex("D23513162B02D0F72A43A2FE4A5F97AB"));
        assert_eq!(stream[0xfeff * 16..0xff00 * 16], hex("EC8CDF7398607CB0F2D21675EA9EA1E4"));
        assert_eq!(stream[0xff00 * 16..0xff01 * 16], hex("362B7C3C6773516318A077D7FC5073AE"));
        assert_eq!(stream[0xff01 * 16..], hex("6A2CC3787889374FBEB4C81B17BA6C44"));
    }
}
