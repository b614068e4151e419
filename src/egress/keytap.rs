//! The keys of a DTLS-SRTP handshake, taken where str0m's DTLS hands them to its SRTP.
//!
//! str0m tells nobody its keys, but takes them from our DTLS. Where a tap is set, str0m itself gets a decoy, with which it
//! can neither seal nor open anything.
//!
//! **Invariant:** a handshake's keys go to one place: to str0m, or to the tap, from which they are taken once.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use str0m::crypto::dtls::{KeyingMaterial, SrtpProfile};

use super::cipher::{CipherError, Profile};
use super::srtp::{self, Opener, Sealer};

/// What a handshake brought.
struct Keys {
    profile: SrtpProfile,
    material: KeyingMaterial,
    is_client: bool,
}

/// Where the keys of one handshake come out.
#[derive(Clone, Default)]
pub struct KeyTap(Arc<Mutex<Option<Keys>>>);

impl std::fmt::Debug for KeyTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyTap")
    }
}

impl KeyTap {
    /// Takes the keys, once the handshake has brought them; use them only when the peer's fingerprint has been checked.
    ///
    /// # Errors
    ///
    /// When the profile is none of ours.
    pub fn take(&self) -> Option<Result<(Sealer, Opener), CipherError>> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let profile = match keys.profile {
            SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
            SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
            SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
            _ => return Some(Err(CipherError)),
        };
        Some(srtp::session(profile, &keys.material, keys.is_client))
    }

    /// Takes the tap that [`tapped`] has set for the next DTLS instance of this thread.
    pub fn next() -> Option<Self> {
        NEXT.take()
    }

    /// Lets the keys of a handshake out here; returns what str0m gets in their place.
    pub fn fill(
        &self,
        profile: SrtpProfile,
        material: KeyingMaterial,
        is_client: bool,
    ) -> (KeyingMaterial, SrtpProfile) {
        let decoy = decoy(&material);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Keys { profile, material, is_client });
        (decoy, DECOY_PROFILE)
    }
}

thread_local! {
    /// The tap for the next DTLS instance that this thread makes: a provider is not told for whom it makes one.
    static NEXT: RefCell<Option<KeyTap>> = const { RefCell::new(None) };
}

/// Builds an `Rtc` whose DTLS is ours; its keys come out of the tap.
pub fn tapped<R>(build: impl FnOnce() -> R) -> (R, KeyTap) {
    let tap = KeyTap::default();
    NEXT.set(Some(tap.clone()));
    let built = build();
    NEXT.set(None);
    (built, tap)
}

/// What str0m takes the decoy for: the profile whose ciphers need the least memory.
const DECOY_PROFILE: SrtpProfile = SrtpProfile::AES128_CM_SHA1_80;

/// Bytes for keys of [`DECOY_PROFILE`], from which the true ones cannot be told.
fn decoy(material: &[u8]) -> KeyingMaterial {
    let hash = digest::digest(&digest::SHA256, material);
    let len_bytes = DECOY_PROFILE.keying_material_len();
    let bytes: Vec<u8> = hash.as_ref().iter().copied().cycle().take(len_bytes).collect();
    KeyingMaterial::new(&bytes)
}
