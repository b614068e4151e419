//! Where the certificate comes from, and how a change there is noticed.
//!
//! **Invariant:** what is read is checked as a whole before anybody sees it, and an error is one line that names flag and
//! file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;

use super::acme::{Acme, check_dir};
use super::pair::{Pair, PairError, read_chain, read_key};
use super::self_signed::{SelfSigned, SelfSignedError};

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// PEM files that somebody else sees to.
    Files {
        /// The chain, the server's own certificate first.
        cert: PathBuf,
        /// The key of the first certificate.
        key: PathBuf,
    },
    /// Made here.
    SelfSigned(SelfSigned),
    /// Issued by an authority.
    Acme(Acme),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Something is wrong with a file.
    #[error("{flag} {path}: {error}")]
    File {
        /// The flag that names the file.
        flag: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        error: PairError,
    },
    /// None could be made.
    #[error("--tls-self-signed: {0}")]
    SelfSigned(#[from] SelfSignedError),
    /// What an authority issues could not be kept.
    #[error("--tls-dir {0}: {1}")]
    Dir(String, std::io::Error),
    /// The authority could not be told from another.
    #[error("--tls-acme-ca: {0}")]
    Ca(#[from] PairError),
}

/// What tells one state of the files from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signature([Option<FileSignature>; 2]);

/// Device, inode, size, and the moments of the last change of content and of anything, in nanoseconds.
type FileSignature = (u64, u64, u64, i128, i128);

impl Source {
    /// Reads or makes a certificate that is good at the time `now`.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub fn pair(&self, provider: &CryptoProvider, now: OffsetDateTime) -> Result<Pair, SourceError> {
        let (cert, key) = match self {
            Self::SelfSigned(signed) => return Ok(signed.pair(provider, now)?),
            Self::Acme(acme) => return acme_pair(acme, provider, now),
            Self::Files { cert, key } => (cert, key),
        };
        let of_cert = |error| SourceError::File { flag: "--tls-cert", path: shown(cert), error };
        let of_key = |error| SourceError::File { flag: "--tls-key", path: shown(key), error };
        let chain = read_chain(cert).map_err(of_cert)?;
        let secret = read_key(key).map_err(of_key)?;
        Pair::new(chain, secret, provider, now).map_err(|error| match error {
            PairError::Mismatch | PairError::BadKey(_) => of_key(error),
            error => of_cert(error),
        })
    }

    /// Differs from that of another moment when the files have changed since. Links are followed: certbot and Kubernetes
    /// put another file in place by changing a link.
    #[must_use]
    pub fn signature(&self) -> Signature {
        match self {
            Self::Files { cert, key } => Signature([file_signature(cert), file_signature(key)]),
            Self::SelfSigned(_) | Self::Acme(_) => Signature::default(),
        }
    }

    /// Whether `pair` is to be replaced by its age alone.
    #[must_use]
    pub fn is_due(&self, pair: &Pair, now: OffsetDateTime) -> bool {
        matches!(self, Self::SelfSigned(_)) && SelfSigned::is_due(pair, now)
    }
}

/// The one of before, or until the authority has issued one, one that nobody vouches for.
fn acme_pair(acme: &Acme, provider: &CryptoProvider, now: OffsetDateTime) -> Result<Pair, SourceError> {
    check_dir(&acme.dir).map_err(|error| SourceError::Dir(shown(&acme.dir), error))?;
    acme.roots()?;
    if let Some(kept) = acme.kept(provider, now) {
        return Ok(kept);
    }
    tracing::info!(domains = ?acme.domains, "asking for a certificate; until it comes, one is served that browsers refuse");
    Ok(SelfSigned { addresses: Vec::new(), host: acme.domains.first().cloned(), dir: None }.fresh(provider, now)?)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn file_signature(path: &Path) -> Option<FileSignature> {
    let file = std::fs::metadata(path).ok()?;
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    let (modified, changed) = (ns(file.mtime(), file.mtime_nsec()), ns(file.ctime(), file.ctime_nsec()));
    Some((file.dev(), file.ino(), file.size(), modified, changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs::default_provider;
    use std::fs;
    use x509_cert::der::pem::{LineEnding, encode_string};

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("onair-source-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn pem(until: OffsetDateTime) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = until;
        let certificate = params.self_signed(&key).unwrap();
        let pem = |label, der: &[u8]| encode_string(label, LineEnding::LF, der).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", &key.serialize_der()))
    }

    #[test]
    fn what_is_wrong_is_one_line_that_names_flag_and_file() {
        let dir = Dir::new("wrong");
        let now = OffsetDateTime::now_utc();
        let (good, key) = pem(now + time::Duration::days(1));
        let (expired, expired_key) = pem(now - time::Duration::days(1));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let half = &good[..good.len() / 2];
        let long = "x".repeat(2 * 1024 * 1024);
        for (cert, secret, wanted) in [
            (Some(&*good), Some(&*key), None),
            // Both in one file, as haproxy has them.
            (Some(&*format!("{key}{good}")), Some(&*format!("{good}{key}")), None),
            (None, Some(&*key), Some("--tls-cert CERT: No such file")),
            (Some(&*good), None, Some("--tls-key KEY: No such file")),
            (Some(""), Some(&*key), Some("--tls-cert CERT: there is no certificate in it")),
            (Some(&*key), Some(&*key), Some("--tls-cert CERT: there is no certificate in it")),
            (Some(half), Some(&*key), Some("--tls-cert CERT: no PEM")),
            (Some(&*long), Some(&*key), Some("--tls-cert CERT: too long")),
            (Some(broken), Some(&*key), Some("--tls-cert CERT: the certificate is malformed")),
            (Some(&*good), Some(&*good), Some("--tls-key KEY: there is no private key in it")),
            (Some(&*good), Some(&*expired_key), Some("--tls-key KEY: the key does not belong to the certificate")),
            (Some(&*expired), Some(&*expired_key), Some("--tls-cert CERT: the certificate expired on 2")),
        ] {
            let source = Source::Files { cert: dir.0.join("c.pem"), key: dir.0.join("k.pem") };
            let _ = (fs::remove_file(dir.0.join("c.pem")), fs::remove_file(dir.0.join("k.pem")));
            cert.map(|text| dir.write("c.pem", text));
            secret.map(|text| dir.write("k.pem", text));
            let read = source.pair(&default_provider(), now).map(drop).map_err(|error| error.to_string());
            let Some(wanted) = wanted else {
                assert_eq!(read, Ok(()));
                continue;
            };
            let wanted = wanted.replace("CERT:", &format!("{}:", dir.0.join("c.pem").display()));
            let wanted = wanted.replace("KEY:", &format!("{}:", dir.0.join("k.pem").display()));
            let error = read.unwrap_err();
            assert!(error.starts_with(&wanted) && !error.contains('\n'), "{error:?}, not {wanted:?}");
        }
    }

    #[test]
    fn a_directory_or_a_pipe_is_no_file_to_wait_for() {
        let source = Source::Files { cert: "/".into(), key: "/dev/zero".into() };
        assert!(source.pair(&default_provider(), OffsetDateTime::now_utc()).is_err());
    }

    #[test]
    fn every_change_changes_the_signature() {
        let dir = Dir::new("signature");
        let source = Source::Files { cert: dir.0.join("c.pem"), key: dir.0.join("k.pem") };
        let mut seen = vec![source.signature()];
        let mut differs = |what: &str| {
            assert!(!seen.contains(&source.signature()), "{what}");
            seen.push(source.signature());
        };
        dir.write("c.pem", "a");
        differs("a file comes");
        dir.write("k.pem", "b");
        differs("the other one comes");
        dir.write("c.pem", "aa");
        differs("it grows");
        let other = dir.write("other.pem", "aa");
        fs::rename(other, dir.0.join("c.pem")).unwrap();
        differs("another takes its place");
        fs::remove_file(dir.0.join("k.pem")).unwrap();
        assert_eq!(source.signature(), source.signature());
    }
}
