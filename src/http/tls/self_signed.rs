//! The certificate that the server signs itself, for trying it on a LAN, and where it is kept from one start to the next.
//!
//! **Invariant:** a kept certificate is used as long as it is good for a while and names all that it should: whoever has
//! told a browser to trust it is not asked again. The file with its key is readable by its owner alone.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::kept::keep_pair;
use super::pair::{Pair, PairError, read_chain, read_key};

/// Chromium and Safari take no certificate that is good for more than 398 days.
const GOOD_FOR: Duration = Duration::days(397);

/// With less than this left it is made anew.
const RENEWED_BEFORE: Duration = Duration::days(30);

/// Clocks on a LAN differ.
const BEGINS_BEFORE: Duration = Duration::days(1);

const CERTIFICATE_FILE: &str = "self-signed.crt";
const KEY_FILE: &str = "self-signed.key";

/// What a self-signed certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// The addresses at which the server is reached.
    pub addresses: Vec<IpAddr>,
    /// The name of this machine.
    pub host: Option<String>,
    /// Where it is kept; without it, it is made at each start.
    pub dir: Option<PathBuf>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// The cryptographic library failed.
    #[error("a certificate cannot be made: {0}")]
    Making(#[from] rcgen::Error),
    /// What was made is no good.
    #[error("a certificate cannot be made: {0}")]
    Pair(#[from] PairError),
}

impl SelfSigned {
    /// The kept one if it still serves, else a new one.
    ///
    /// # Errors
    ///
    /// `SelfSignedError`; that it cannot be kept is none, only a line in the log.
    pub fn pair(&self, provider: &CryptoProvider, now: OffsetDateTime) -> Result<Pair, SelfSignedError> {
        if let Some(kept) = self.dir.as_deref().and_then(|dir| self.kept(dir, provider, now)) {
            return Ok(kept);
        }
        let (certificate, key) = self.make(now)?;
        match &self.dir {
            Some(dir) => match keep(dir, &certificate, &key) {
                Ok(()) => tracing::info!(dir = %dir.display(), "made a self-signed certificate and keep it"),
                Err(error) => tracing::warn!(
                    dir = %dir.display(), %error,
                    "the self-signed certificate cannot be kept: browsers will warn anew after each start"
                ),
            },
            None => tracing::info!("made a self-signed certificate: there is no directory to keep it in"),
        }
        Ok(Pair::new(vec![certificate], PrivateKeyDer::Pkcs8(key), provider, now)?)
    }

    /// A new one that is not kept.
    ///
    /// # Errors
    ///
    /// [`SelfSignedError`].
    pub fn fresh(&self, provider: &CryptoProvider, now: OffsetDateTime) -> Result<Pair, SelfSignedError> {
        let (certificate, key) = self.make(now)?;
        Ok(Pair::new(vec![certificate], PrivateKeyDer::Pkcs8(key), provider, now)?)
    }

    /// Whether it is time for another one.
    #[must_use]
    pub fn is_due(pair: &Pair, now: OffsetDateTime) -> bool {
        pair.expires - now < RENEWED_BEFORE
    }

    fn kept(&self, dir: &Path, provider: &CryptoProvider, now: OffsetDateTime) -> Option<Pair> {
        let chain = read_chain(&dir.join(CERTIFICATE_FILE)).ok()?;
        let names = names_of(chain.first()?)?;
        let key = read_key(&dir.join(KEY_FILE)).ok()?;
        let pair = Pair::new(chain, key, provider, now).ok()?;
        let serves = self.names().iter().all(|name| names.contains(name)) && !Self::is_due(&pair, now);
        serves.then_some(pair)
    }

    /// `localhost`, this machine by its name with and without the `.local` of mDNS, and its addresses.
    fn names(&self) -> Vec<SanType> {
        let mut names = vec!["localhost".to_owned()];
        if let Some(host) = &self.host
            && host != "localhost"
        {
            names.push(host.clone());
            if !host.contains('.') {
                names.push(format!("{host}.local"));
            }
        }
        let names = names.into_iter().filter_map(|name| Some(SanType::DnsName(name.try_into().ok()?)));
        let mut all: Vec<SanType> = names.collect();
        let loopback = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
        for ip in loopback.iter().chain(&self.addresses) {
            let name = SanType::IpAddress(ip.to_canonical());
            if !ip.is_unspecified() && !all.contains(&name) {
                all.push(name);
            }
        }
        all
    }

    fn make(
        &self,
        now: OffsetDateTime,
    ) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>), rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "onair, self-signed");
        params.subject_alt_names = self.names();
        params.not_before = now - BEGINS_BEFORE;
        params.not_after = now + GOOD_FOR - BEGINS_BEFORE;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok((certificate.der().clone(), PrivatePkcs8KeyDer::from(key.serialize_der())))
    }
}

/// The names that a certificate is for; `None` where they cannot be read.
fn names_of(certificate: &CertificateDer<'_>) -> Option<Vec<SanType>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let (_, names) = parsed.tbs_certificate().get_extension::<SubjectAltName>().ok()??;
    let names = names.0.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(SanType::DnsName(name.as_str().to_owned().try_into().ok()?)),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
            v4.or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok()).map(SanType::IpAddress)
        }
        _ => None,
    });
    Some(names.collect())
}

fn keep(dir: &Path, certificate: &CertificateDer<'_>, key: &PrivatePkcs8KeyDer<'_>) -> io::Result<()> {
    keep_pair(&dir.join(CERTIFICATE_FILE), std::slice::from_ref(certificate), &dir.join(KEY_FILE), key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::aws_lc_rs::default_provider;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            Self(std::env::temp_dir().join(format!("onair-self-signed-{name}-{}", std::process::id())))
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn signed(dir: &Dir) -> SelfSigned {
        SelfSigned { addresses: vec![[192, 0, 2, 1].into()], host: Some("studio".into()), dir: Some(dir.0.clone()) }
    }

    #[test]
    fn it_names_the_machine_and_its_addresses() {
        let dir = Dir::new("names");
        let now = OffsetDateTime::now_utc();
        let pair = signed(&dir).pair(&default_provider(), now).unwrap();
        let names = names_of(&pair.key.cert[0]).unwrap();
        for name in ["localhost", "studio", "studio.local"] {
            assert!(names.contains(&SanType::DnsName(name.try_into().unwrap())), "{name}: {names:?}");
        }
        for ip in ["127.0.0.1", "::1", "192.0.2.1"] {
            assert!(names.contains(&SanType::IpAddress(ip.parse().unwrap())), "{ip}: {names:?}");
        }
        assert!(pair.expires - pair.begins <= Duration::days(398));
        let mode = fs::metadata(dir.0.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn it_is_kept_until_it_no_longer_serves() {
        let dir = Dir::new("kept");
        let now = OffsetDateTime::now_utc();
        let made = |signed: &SelfSigned, now| signed.pair(&default_provider(), now).unwrap().fingerprint;
        let first = made(&signed(&dir), now);
        assert_eq!(made(&signed(&dir), now + Duration::days(300)), first);
        assert_eq!(made(&SelfSigned { addresses: Vec::new(), ..signed(&dir) }, now), first, "fewer names");

        let later = made(&signed(&dir), now + Duration::days(380));
        assert_ne!(later, first, "it would expire soon");
        let moved = SelfSigned { addresses: vec![[192, 0, 2, 2].into()], ..signed(&dir) };
        let elsewhere = made(&moved, now);
        assert_ne!(elsewhere, later, "another address");
        fs::write(dir.0.join(CERTIFICATE_FILE), "broken").unwrap();
        assert_ne!(made(&moved, now), elsewhere);
    }

    #[test]
    fn without_a_place_it_is_made_each_time() {
        let nowhere = SelfSigned { addresses: Vec::new(), host: None, dir: Some("/proc/onair".into()) };
        let made = || nowhere.pair(&default_provider(), OffsetDateTime::now_utc()).unwrap().fingerprint;
        assert_ne!(made(), made());
    }
}
