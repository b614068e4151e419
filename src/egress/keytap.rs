//! The keys of a DTLS-SRTP handshake, taken where str0m's DTLS hands them to its SRTP.
//!
//! str0m tells nobody its keys, but takes any DTLS provider. Ours is the default one, whose instances can be tapped: of a
//! tapped one, str0m itself gets a decoy, with which it can neither seal nor open anything.
//!
//! **Invariant:** a handshake's keys go to one place: to str0m, or to the tap, from which they are taken once.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use aws_lc_rs::digest;
use str0m::config::{CryptoProvider, DtlsVersion};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, KeyingMaterial, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{CryptoError, from_feature_flags};

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
}

thread_local! {
    /// The tap for the next DTLS instance that this thread makes: a provider is not told for whom it makes one.
    static NEXT: RefCell<Option<KeyTap>> = const { RefCell::new(None) };
}

/// The default provider, whose DTLS instances can be tapped.
#[must_use]
pub fn provider() -> CryptoProvider {
    CryptoProvider { dtls_provider: &TappableDtls, ..from_feature_flags() }
}

/// Builds an `Rtc` with a provider of [`provider`]'s; its keys come out of the tap.
pub fn tapped<R>(build: impl FnOnce() -> R) -> (R, KeyTap) {
    let tap = KeyTap::default();
    NEXT.set(Some(tap.clone()));
    let built = build();
    NEXT.set(None);
    (built, tap)
}

#[derive(Debug)]
struct TappableDtls;

impl DtlsProvider for TappableDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu_bytes: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let instance = from_feature_flags().dtls_provider.new_dtls(cert, now, version, mtu_bytes)?;
        match NEXT.take() {
            Some(tap) => Ok(Box::new(Tapped { instance, tap })),
            None => Ok(instance),
        }
    }
}

/// A DTLS instance that gives its keys to a tap.
#[derive(Debug)]
struct Tapped {
    instance: Box<dyn DtlsInstance>,
    tap: KeyTap,
}

impl DtlsInstance for Tapped {
    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        match self.instance.poll_output(buffer) {
            DtlsOutput::KeyingMaterial(material, profile) => {
                let decoy = decoy(&material);
                let keys = Keys { profile, material, is_client: self.instance.is_active() };
                *self.tap.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(keys);
                DtlsOutput::KeyingMaterial(decoy, DECOY_PROFILE)
            }
            other => other,
        }
    }

    fn set_active(&mut self, active: bool) {
        self.instance.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.instance.handle_packet(packet)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.instance.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.instance.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.instance.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.instance.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.instance.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.instance.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.instance.close()
    }
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
