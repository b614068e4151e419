//! What an authority is asked for by ACME (RFC 8555), and what it gave, kept from one start to the next.
//!
//! **Invariant:** what is kept belongs to this directory and these domains: another choice finds nothing, and asks anew. An
//! authority limits how often it may be asked, so nothing is asked for that is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use instant_acme::AccountCredentials;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::kept::{keep_pair, keep_text};
use super::pair::{Pair, PairError, read_chain, read_key};

/// What an authority is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// The domains, in lower case.
    pub domains: Vec<String>,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// The address of the authority's directory.
    pub directory: String,
    /// Who vouches for that address, where it is not one of those that browsers trust.
    pub ca: Option<PathBuf>,
    /// Where account and certificate are kept.
    pub dir: PathBuf,
}

impl Acme {
    /// The kept certificate, if it still counts.
    #[must_use]
    pub fn kept(&self, provider: &CryptoProvider, now: OffsetDateTime) -> Option<Pair> {
        let (cert, key) = self.pair_files();
        Pair::new(read_chain(&cert).ok()?, read_key(&key).ok()?, provider, now).ok()
    }

    /// Keeps a certificate that was issued.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn keep(&self, chain: &[CertificateDer<'_>], key: &PrivatePkcs8KeyDer<'_>) -> io::Result<()> {
        let (cert_file, key_file) = self.pair_files();
        keep_pair(&cert_file, chain, &key_file, key)
    }

    /// The account at the authority, if there is one.
    #[must_use]
    pub fn account(&self) -> Option<AccountCredentials> {
        serde_json::from_slice(&fs::read(self.account_file()).ok()?).ok()
    }

    /// Keeps the account.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn keep_account(&self, account: &AccountCredentials) -> io::Result<()> {
        keep_text(&self.account_file(), 0o600, &serde_json::to_string(account)?)
    }

    /// Whom to believe that an address is the authority's.
    ///
    /// # Errors
    ///
    /// `PairError` of the file that `--tls-acme-ca` names.
    pub fn roots(&self) -> Result<RootCertStore, PairError> {
        let Some(ca) = &self.ca else {
            return Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() });
        };
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(read_chain(ca)?);
        if added == 0 { Err(PairError::NoCertificate) } else { Ok(roots) }
    }

    fn pair_files(&self) -> (PathBuf, PathBuf) {
        let mut whole = self.directory.clone();
        for domain in &self.domains {
            whole.push(' ');
            whole.push_str(domain);
        }
        let name = format!("acme-{}", short_digest(&whole));
        (self.dir.join(format!("{name}.crt")), self.dir.join(format!("{name}.key")))
    }

    fn account_file(&self) -> PathBuf {
        self.dir.join(format!("acme-account-{}.json", short_digest(&self.directory)))
    }
}

/// Whether what is issued could be kept in `dir`.
///
/// # Errors
///
/// Those of the file system.
pub fn check_dir(dir: &Path) -> io::Result<()> {
    let probe = dir.join("acme.probe");
    keep_text(&probe, 0o600, "")?;
    fs::remove_file(probe)
}

fn short_digest(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
