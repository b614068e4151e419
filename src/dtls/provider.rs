//! What DTLS instances are made of: our certificate, and what we offer and accept.
//!
//! **Invariant:** any certificate passes whose owner has signed with it and whose key is strong enough. Who the owner is, is
//! told by the fingerprint that came with the SDP, which str0m compares.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::ssl::{
    SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
};
use openssl::x509::{X509, X509Name, X509Ref};
use str0m::config::{CryptoProvider, DtlsVersion};
use str0m::crypto::dtls::{DtlsCert, DtlsInstance, DtlsProvider};
use str0m::crypto::{CryptoError, from_feature_flags};

use super::instance::Instance;
use crate::egress::keytap::KeyTap;

/// Our own certificate is signed by ECDSA, and so are the handshakes that we answer. Where we ask, the server may have RSA.
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:\
                       ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305";

/// For the key exchange.
const GROUPS: &str = "X25519:P-256:P-384";

/// What a handshake may be signed with.
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:\
                          RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:RSA+SHA256:RSA+SHA384:RSA+SHA512";

/// By our preference, which decides where we answer.
const SRTP_PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";

/// The shortest RSA key that is accepted: what browsers make.
const RSA_MIN_BITS: u32 = 2048;

/// OpenSSL's word for 112 bits: RSA of 2048 bits, groups of 224.
const SECURITY_LEVEL: u32 = 2;

/// What a datagram may hold where str0m does not say.
const MTU_DEFAULT_BYTES: usize = 1200;

/// What OpenSSL can work with: a datagram below 228 bytes it takes for a mistake.
const MTU_BYTES: std::ops::RangeInclusive<usize> = 256..=1500;

/// str0m's cryptography, with DTLS of ours.
#[must_use]
pub fn crypto() -> CryptoProvider {
    CryptoProvider { dtls_provider: &Provider, ..from_feature_flags() }
}

/// Makes DTLS instances.
#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        certificate().inspect_err(|error| tracing::error!(%error, "no certificate could be made")).ok()
    }

    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu_bytes: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let tap = KeyTap::next();
        if version == DtlsVersion::Dtls13 {
            return Err(CryptoError::Other("DTLS 1.3 is not supported".to_owned()));
        }
        let context = context(cert).map_err(|error| CryptoError::Other(error.to_string()))?;
        let mtu_bytes = mtu_bytes.unwrap_or(MTU_DEFAULT_BYTES).clamp(*MTU_BYTES.start(), *MTU_BYTES.end());
        Ok(Box::new(Instance::new(context, mtu_bytes, tap, now)))
    }
}

/// The context of a certificate. A process has one certificate, so the latest is kept.
fn context(cert: &DtlsCert) -> Result<SslContext, ErrorStack> {
    static LATEST: Mutex<Option<(Vec<u8>, SslContext)>> = Mutex::new(None);
    let mut latest = LATEST.lock().unwrap_or_else(PoisonError::into_inner);
    match &*latest {
        Some((certificate, context)) if *certificate == cert.certificate => Ok(context.clone()),
        _ => {
            let context = new_context(cert)?;
            *latest = Some((cert.certificate.clone(), context.clone()));
            Ok(context)
        }
    }
}

fn new_context(cert: &DtlsCert) -> Result<SslContext, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::dtls())?;
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_max_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_certificate(&*X509::from_der(&cert.certificate)?)?;
    context.set_private_key(&*PKey::private_key_from_der(&cert.private_key)?)?;
    context.check_private_key()?;
    context.set_security_level(SECURITY_LEVEL);
    context.set_cipher_list(CIPHERS)?;
    context.set_groups_list(GROUPS)?;
    context.set_sigalgs_list(SIGNATURES)?;
    context.set_tlsext_use_srtp(SRTP_PROFILES)?;
    // The MTU is told, not asked for. Nothing is resumed or renegotiated: a peer is one handshake.
    context.set_options(
        SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET | SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION,
    );
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_mode(SslMode::RELEASE_BUFFERS | SslMode::AUTO_RETRY);
    context.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, chain| {
        chain.error_depth() > 0 || chain.current_cert().is_some_and(is_strong)
    });
    Ok(context.build())
}

/// Whether a certificate's key is of a kind and a length that we trust.
fn is_strong(certificate: &X509Ref) -> bool {
    certificate.public_key().is_ok_and(|key| key.id() != Id::RSA || key.bits() >= RSA_MIN_BITS)
}

/// A certificate that is signed by itself, with a new key on P-256. Nobody looks at more of it than its fingerprint.
fn certificate() -> Result<DtlsCert, ErrorStack> {
    let key = EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?;
    let key = PKey::from_ec_key(key)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid(Nid::COMMONNAME, "onair")?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, MsbOption::ONE, false)?;
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    // It lives as long as the process, whose clock may be wrong.
    certificate.set_not_before(&*Asn1Time::from_str_x509("20000101000000Z")?)?;
    certificate.set_not_after(&*Asn1Time::from_str_x509("20991231235959Z")?)?;
    certificate.set_pubkey(&key)?;
    certificate.sign(&key, MessageDigest::sha256())?;
    Ok(DtlsCert { certificate: certificate.build().to_der()?, private_key: key.private_key_to_pkcs8()? })
}
