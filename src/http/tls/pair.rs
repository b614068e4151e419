//! A certificate chain and its private key, read and checked.
//!
//! **Invariant:** the key of a [`Pair`] belongs to its certificate, and the certificate had not expired when it was made.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The longest file that is read: a chain has a few KiB.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

const DAY: &[BorrowedFormatItem<'static>] = format_description!("[year]-[month]-[day]");

/// A certificate that can be served.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// From when on it counts.
    pub begins: OffsetDateTime,
    /// Until when it counts.
    pub expires: OffsetDateTime,
    /// By which people compare it.
    pub fingerprint: Fingerprint,
}

/// SHA-256 of the certificate, shown as browsers show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Why there is no pair. Each is one line and names no path: the caller knows whether there is one.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is longer than any certificate.
    #[error("too long for a certificate or key")]
    TooLong,
    /// No PEM, or broken.
    #[error("no PEM: {0}")]
    NotPem(String),
    /// There is no certificate in it.
    #[error("there is no certificate in it: a PEM file has a line BEGIN CERTIFICATE")]
    NoCertificate,
    /// There is no key in it.
    #[error("there is no private key in it: a PEM file has a line BEGIN PRIVATE KEY; a password is not understood")]
    NoKey,
    /// The certificate is malformed.
    #[error("the certificate is malformed: {0}")]
    Malformed(String),
    /// The key does not belong to the certificate.
    #[error("the key does not belong to the certificate, which must be the first one in its file")]
    Mismatch,
    /// The key is of a kind that is not known.
    #[error("the key cannot be used: {0}")]
    BadKey(rustls::Error),
    /// The certificate has expired.
    #[error("the certificate expired on {0}")]
    Expired(String),
}

impl Pair {
    /// Checks what belongs together at the time `now`.
    ///
    /// # Errors
    ///
    /// [`PairError`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
        now: OffsetDateTime,
    ) -> Result<Self, PairError> {
        let first = chain.first().ok_or(PairError::NoCertificate)?;
        let fingerprint = Fingerprint::of(first);
        let (begins, expires) = validity(first)?;
        if expires <= now {
            return Err(PairError::Expired(day(expires)));
        }
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => PairError::Mismatch,
            rustls::Error::InvalidCertificate(error) => PairError::Malformed(format!("{error:?}")),
            error => PairError::BadKey(error),
        })?;
        Ok(Self { key: Arc::new(key), begins, expires, fingerprint })
    }
}

/// The chain in a PEM file.
///
/// # Errors
///
/// [`PairError`].
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let bytes = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(not_pem)?;
    if chain.is_empty() { Err(PairError::NoCertificate) } else { Ok(chain) }
}

/// The first private key in a PEM file: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
///
/// [`PairError`].
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PairError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => PairError::NoKey,
        error => not_pem(error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    let file = std::fs::File::open(path)?;
    // A pipe would hold the start up for ever.
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file").into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX_BYTES { Err(PairError::TooLong) } else { Ok(bytes) }
}

fn not_pem(error: pem::Error) -> PairError {
    PairError::NotPem(match error {
        pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    })
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(OffsetDateTime, OffsetDateTime), PairError> {
    let malformed = |error: &dyn fmt::Display| PairError::Malformed(error.to_string());
    let parsed = Certificate::from_der(certificate).map_err(|error| malformed(&error))?;
    let at = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| malformed(&error))
    };
    let validity = parsed.tbs_certificate().validity();
    Ok((at(validity.not_before)?, at(validity.not_after)?))
}

/// The day of a moment, in UTC.
#[must_use]
pub fn day(moment: OffsetDateTime) -> String {
    moment.format(DAY).unwrap_or_default()
}

/// Logs which certificate it is from now on.
pub fn tell(what: &'static str, pair: &Pair) {
    let (fingerprint, expires) = (pair.fingerprint, day(pair.expires));
    tracing::info!(%fingerprint, expires, "{what}");
    if pair.begins > OffsetDateTime::now_utc() {
        tracing::warn!(begins = day(pair.begins), "the certificate does not count yet: browsers will refuse it");
    }
}

impl Fingerprint {
    fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, certificate).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if place == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}
