//! A client's DTLS that sees but one SRTP profile offered, and leaves a copy of the keys that come of it.
//!
//! In DTLS the side that answers chooses the profile; here that is the client, as the hub begins the handshake. str0m's own
//! takes the best that it is offered, and nothing can be set. So the `use_srtp` extension of a ClientHello is changed before
//! the client sees it, and changed back wherever the client hashes or verifies what was said.
//!
//! **Invariant:** nothing on the wire and nothing on the server's side differs from any other handshake.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use dimpl::crypto::{
    Buf, CryptoProvider as DtlsCrypto, HashContext, HashProvider, SignatureVerifier, aws_lc_rs::default_provider,
};
use dimpl::{CryptoError as DtlsCryptoError, Dtls, HashAlgorithm, SignatureAlgorithm};
use onair::egress::cipher::Profile;
use onair::egress::srtp::{self, Opener, Sealer};
use onair::rtp::codec::Codec;
use str0m::RtcConfig;
use str0m::config::{CryptoProvider, DtlsVersion};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, ProtocolVersion, SrtpProfile,
};
use str0m::crypto::{CryptoError, from_feature_flags};

use crate::simulation::{ClientId, Simulation, secs};

/// The extension as it is written (RFC 5764 §4.1.1): its number and length, then `profiles`, without an MKI.
const fn use_srtp(profiles: [u8; 3]) -> [u8; 13] {
    let [first, second, third] = profiles;
    [0, 14, 0, 9, 0, 6, 0, first, 0, second, 0, third, 0]
}

/// What str0m offers: the numbers of RFC 7714 §14.2 and RFC 5764 §4.1.2.
const OFFERED: [u8; 13] = use_srtp([8, 7, 1]);

/// Where the keys of one client come out.
#[derive(Debug, Clone, Default)]
pub struct KeyCopy(Arc<Mutex<Option<Keys>>>);

#[derive(Debug)]
struct Keys {
    profile: Profile,
    material: Vec<u8>,
    is_active: bool,
}

impl KeyCopy {
    /// What the client seals its RTCP with and opens the server's with, each from its beginning.
    pub fn session(&self) -> (Sealer, Opener) {
        let keys = self.0.lock().expect("nobody panicked with it");
        let Keys { profile, material, is_active } = keys.as_ref().expect("the handshake is done");
        srtp::session(*profile, material, *is_active).expect("the profile's keys")
    }

    /// The profile that was negotiated.
    pub fn profile(&self) -> Option<Profile> {
        self.0.lock().expect("nobody panicked with it").as_ref().map(|keys| keys.profile)
    }
}

/// A client of a new session that takes `profile` alone, and where its keys come out.
pub fn client_of(sim: &mut Simulation, profile: Profile, codecs: &[Codec]) -> (ClientId, KeyCopy) {
    let keys = KeyCopy::default();
    // A provider lives as long as the process: a test has a handful of clients.
    let dtls_provider = Box::leak(Box::new(OneProfile { profile, keys: keys.clone() }));
    let crypto = CryptoProvider { dtls_provider, ..from_feature_flags() };
    let config = RtcConfig::new().set_crypto_provider(Arc::new(crypto));
    let address = sim.next_address();
    let session = sim.open();
    (sim.client_with(config, session, address, codecs), keys)
}

#[derive(Debug)]
struct OneProfile {
    profile: Profile,
    keys: KeyCopy,
}

impl DtlsProvider for OneProfile {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        static BACK: [Back; 3] = [Back(use_srtp([1; 3])), Back(use_srtp([7; 3])), Back(use_srtp([8; 3]))];
        let [sha1, gcm_128, gcm_256] = &BACK;
        let back = match self.profile {
            Profile::Aes128CmSha1_80 => sha1,
            Profile::AeadAes128Gcm => gcm_128,
            Profile::AeadAes256Gcm => gcm_256,
        };
        let crypto = DtlsCrypto { hash_provider: back, signature_verification: back, ..default_provider() };
        let config = dimpl::Config::builder().with_crypto_provider(crypto).build().expect("a configuration");
        let dtls = Dtls::new_12(Arc::new(config), cert.clone(), now);
        Ok(Box::new(Instance { dtls, seen: back.0, keys: self.keys.clone() }))
    }
}

/// str0m's own DTLS that goes on trying for longer than by itself, where it gives up after the fourth repetition.
#[derive(Debug)]
pub struct Patient;

impl DtlsProvider for Patient {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu_bytes: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let config = dimpl::Config::builder()
            .use_server_cookie(false)
            .mtu(mtu_bytes.expect("an MTU"))
            .flight_retries(12)
            .handshake_timeout(secs(120));
        let dtls = Dtls::new_12(Arc::new(config.build().expect("a configuration")), cert.clone(), now);
        Ok(Box::new(Instance { dtls, seen: OFFERED, keys: KeyCopy::default() }))
    }
}

/// `said` with `to` wherever it had `from`.
fn replaced(said: &[u8], from: &[u8; 13], to: &[u8; 13]) -> Vec<u8> {
    let mut edited = said.to_vec();
    for start in 0..said.len().saturating_sub(from.len() - 1) {
        if said[start..].starts_with(from) {
            edited[start..start + to.len()].copy_from_slice(to);
        }
    }
    edited
}

/// Changes the extension, as it was seen, back to what was offered.
#[derive(Debug, Clone, Copy)]
struct Back([u8; 13]);

impl HashProvider for Back {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        let context = default_provider().hash_provider.create_hash(algorithm);
        Box::new(EditedHash { context, back: *self })
    }
}

#[derive(Debug)]
struct EditedHash {
    context: Box<dyn HashContext>,
    back: Back,
}

impl HashContext for EditedHash {
    fn update(&mut self, data: &[u8]) {
        self.context.update(&replaced(data, &self.back.0, &OFFERED));
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.context.clone_and_finalize(out);
    }
}

impl SignatureVerifier for Back {
    fn verify_signature(
        &self,
        cert_der: &[u8],
        data: &[u8],
        signature: &[u8],
        hash: HashAlgorithm,
        algorithm: SignatureAlgorithm,
    ) -> Result<(), DtlsCryptoError> {
        let said = replaced(data, &self.0, &OFFERED);
        default_provider().signature_verification.verify_signature(cert_der, &said, signature, hash, algorithm)
    }
}

/// What is handed ClientHellos with another extension.
struct Instance {
    dtls: Dtls,
    seen: [u8; 13],
    keys: KeyCopy,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl DtlsInstance for Instance {
    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(&replaced(packet, &OFFERED, &self.seen))
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.dtls.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let profile = match *profile {
                SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
                SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                other => panic!("{other:?} was chosen"),
            };
            let keys = Keys { profile, material: material.to_vec(), is_active: self.dtls.is_active() };
            *self.keys.0.lock().expect("nobody panicked with it") = Some(keys);
        }
        output
    }

    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}
