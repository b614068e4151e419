//! The certificate that is served, and those that answer an authority's challenges (TLS-ALPN-01, RFC 8737).
//!
//! **Invariant:** there is a certificate at any time, and a challenge's is shown to nobody but who asks for it by ALPN.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::pair::Pair;

/// The protocol by which an authority asks (RFC 8737 §4).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// What new connections get.
#[derive(Debug)]
pub struct Shelf {
    pair: RwLock<Pair>,
    /// By domain: no more than were configured.
    challenges: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Shelf {
    /// With its first certificate.
    #[must_use]
    pub fn new(pair: Pair) -> Self {
        Self { pair: RwLock::new(pair), challenges: Mutex::default() }
    }

    /// The pair that new connections get.
    #[must_use]
    pub fn current(&self) -> Pair {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on they get this one.
    pub fn replace(&self, pair: Pair) {
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }

    /// Answers the challenge for `domain` with `key`.
    pub fn challenge(&self, domain: String, key: Arc<CertifiedKey>) {
        self.challenges().insert(domain, key);
    }

    /// No challenge is answered any longer.
    pub fn forget_challenges(&self) {
        self.challenges().clear();
    }

    fn challenges(&self) -> MutexGuard<'_, HashMap<String, Arc<CertifiedKey>>> {
        self.challenges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Shelf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|mut protocols| protocols.any(|protocol| protocol == ACME_TLS));
        if is_challenge { self.challenges().get(hello.server_name()?).cloned() } else { Some(self.current().key) }
    }
}
