//! Files of certificates and keys that the server itself writes.
//!
//! **Invariant:** a file is there as a whole or not at all, and a key is readable by its owner alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_cert::der::pem::{LineEnding, encode_string};

/// Writes a chain and its key in PEM. A key without its certificate is no pair, so an interruption between the two costs
/// nothing but that pair.
///
/// # Errors
///
/// Those of the file system.
pub fn keep_pair(
    cert_file: &Path,
    chain: &[CertificateDer<'_>],
    key_file: &Path,
    key: &PrivatePkcs8KeyDer<'_>,
) -> io::Result<()> {
    keep_text(key_file, 0o600, &pem("PRIVATE KEY", key.secret_pkcs8_der())?)?;
    let mut text = String::new();
    for certificate in chain {
        text.push_str(&pem("CERTIFICATE", certificate)?);
    }
    keep_text(cert_file, 0o644, &text)
}

/// Writes a text with the permissions `mode`, and the directory if there is none.
///
/// # Errors
///
/// Those of the file system.
pub fn keep_text(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    // An older one may have come with other permissions.
    if let Err(error) = fs::remove_file(&part)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&part, path)
}

fn pem(label: &str, der: &[u8]) -> io::Result<String> {
    encode_string(label, LineEnding::LF, der).map_err(|error| io::Error::other(error.to_string()))
}
