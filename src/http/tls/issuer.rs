//! The task that has an authority issue the certificate, and issue it again before it expires.
//!
//! **Invariant:** the authority is asked when a third of the certificate's time is left or there is none, and after a
//! failure not before twice the pause of the failure before it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::acme::Acme;
use super::https_client::HttpsClient;
use super::pair::{Pair, PairError, tell};
use super::shelf::Shelf;
use crate::http::stop::stopped;

/// How often it is looked whether the certificate is due.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// The pause after a failure, and the longest to which it doubles: authorities count failures by the hour.
const RETRY_AFTER: Duration = Duration::from_secs(60);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(4 * 60 * 60);

/// How long all of it may take.
const ORDER_DEADLINE: Duration = Duration::from_secs(5 * 60);

/// How the authority is asked whether it is done.
const PATIENCE: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(120));

/// Has certificates issued.
pub struct Issuer {
    acme: Acme,
    shelf: Arc<Shelf>,
    provider: Arc<CryptoProvider>,
    client: HttpsClient,
    /// Whether the certificate on the shelf came from the authority.
    has_issued: bool,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("acme", &self.acme).finish_non_exhaustive()
    }
}

/// Why none was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The authority refuses, or cannot be reached.
    #[error("{0}")]
    Acme(#[from] instant_acme::Error),
    /// It does not believe that the domain is ours.
    #[error("the authority could not verify {domain}, for which it must reach this server at port 443: {reason}")]
    NotVerified {
        /// Which of the domains.
        domain: String,
        /// What the authority says.
        reason: String,
    },
    /// It does not say why.
    #[error("the order became {0:?}")]
    NotReady(OrderStatus),
    /// It asks for proof that we cannot give.
    #[error("the authority does not offer the challenge tls-alpn-01 for {0}")]
    NoChallenge(String),
    /// A key or request could not be made.
    #[error("{0}")]
    Making(#[from] rcgen::Error),
    /// What was issued is no good, or a challenge's certificate.
    #[error("{0}")]
    Pair(#[from] PairError),
    /// It could not be kept.
    #[error("cannot be kept: {0}")]
    Keeping(#[from] io::Error),
    /// It took too long.
    #[error("it took too long")]
    TooSlow,
}

impl Issuer {
    /// Puts what is issued on `shelf`.
    ///
    /// # Errors
    ///
    /// [`PairError`] of the file that `--tls-acme-ca` names.
    pub fn new(acme: Acme, shelf: Arc<Shelf>, provider: Arc<CryptoProvider>) -> Result<Self, PairError> {
        let client = HttpsClient::new(acme.roots()?, Arc::clone(&provider)).map_err(PairError::BadKey)?;
        let has_issued = acme.kept(&provider, OffsetDateTime::now_utc()).is_some();
        Ok(Self { acme, shelf, provider, client, has_issued })
    }

    /// Until the server stops.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut retry_after = RETRY_AFTER;
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = stopped(&mut stopping) => return,
            }
            wait = LOOK_EVERY;
            if self.has_issued && !is_due(&self.shelf.current(), OffsetDateTime::now_utc()) {
                continue;
            }
            let issued = tokio::select! {
                issued = timeout(ORDER_DEADLINE, self.issue()) => issued.unwrap_or(Err(IssueError::TooSlow)),
                () = stopped(&mut stopping) => return,
            };
            self.shelf.forget_challenges();
            match issued {
                Ok(pair) => {
                    self.shelf.replace(pair.clone());
                    tell("the authority has issued this certificate", &pair);
                    self.has_issued = true;
                    retry_after = RETRY_AFTER;
                }
                Err(error) => {
                    tracing::error!(%error, again_in_s = retry_after.as_secs(), "no certificate was issued");
                    wait = retry_after;
                    retry_after = (retry_after * 2).min(RETRY_AFTER_MAX);
                }
            }
        }
    }

    async fn issue(&self) -> Result<Pair, IssueError> {
        let account = self.account().await?;
        let domains: Vec<_> = self.acme.domains.iter().map(|domain| Identifier::Dns(domain.clone())).collect();
        let mut order = account.new_order(&NewOrder::new(&domains)).await?;
        self.answer_challenges(&mut order).await?;
        let ready = order.poll_ready(&PATIENCE).await;
        if !matches!(ready, Ok(OrderStatus::Ready)) {
            // What the challenges say is closer to the cause than what the order says.
            let said = refusal(&mut order).await;
            return Err(match (said, ready) {
                (Some(said), _) => said,
                (None, Ok(status)) => IssueError::NotReady(status),
                (None, Err(error)) => error.into(),
            });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(self.acme.domains.clone())?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key)?.der()).await?;
        let text = order.poll_certificate(&PATIENCE).await?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| PairError::NotPem(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let now = OffsetDateTime::now_utc();
        let pair = Pair::new(chain.clone(), PrivateKeyDer::Pkcs8(key.clone_key()), &self.provider, now)?;
        // A certificate that cannot be kept serves all the same; the next start asks for another.
        let kept = self.on_disk(move |acme| acme.keep(&chain, &key)).await;
        if let Err(error) = kept {
            tracing::error!(%error, dir = %self.acme.dir.display(), "the certificate cannot be kept");
        }
        Ok(pair)
    }

    /// The account of before, or a new one.
    async fn account(&self) -> Result<Account, IssueError> {
        let builder = Account::builder_with_http(Box::new(self.client.clone()));
        if let Some(kept) = self.on_disk(|acme| Ok(acme.account())).await? {
            return Ok(builder.from_credentials(kept).await?);
        }
        let email = self.acme.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = email.iter().map(String::as_str).collect();
        let account = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = builder.create(&account, self.acme.directory.clone(), None).await?;
        // Without it the next order would need another account, and authorities count those as well.
        self.on_disk(move |acme| acme.keep_account(&credentials)).await?;
        Ok(account)
    }

    /// Reads or writes files where that may block: a disk that hangs must not hold a worker.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Acme) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let acme = self.acme.clone();
        tokio::task::spawn_blocking(move || work(&acme)).await.map_err(io::Error::other)?
    }

    async fn answer_challenges(&self, order: &mut Order) -> Result<(), IssueError> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or_else(|| IssueError::NoChallenge(domain.clone()))?;
            let key = self.answer(&domain, challenge.key_authorization().digest().as_ref())?;
            self.shelf.challenge(domain, Arc::new(key));
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The certificate that proves the domain to be ours (RFC 8737 §3).
    fn answer(&self, domain: &str, digest: &[u8]) -> Result<CertifiedKey, IssueError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new([domain.to_owned()])?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // rustls would check the certificate, and does not know its critical extension.
        let key = self.provider.key_provider.load_private_key(key).map_err(PairError::BadKey)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }
}

fn is_due(pair: &Pair, now: OffsetDateTime) -> bool {
    pair.expires - now < (pair.expires - pair.begins) / 3
}

/// Why an order failed, by what the authority says of its challenges.
async fn refusal(order: &mut Order) -> Option<IssueError> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else { continue };
        let domain = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(IssueError::NotVerified { domain, reason: problem.to_string().replace('\n', " ") });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls::self_signed::SelfSigned;
    use rustls::crypto::aws_lc_rs::default_provider;

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_time_is_left() {
        let now = OffsetDateTime::now_utc();
        let signed = SelfSigned { addresses: Vec::new(), host: None, dir: None };
        let pair = Pair {
            begins: now,
            expires: now + time::Duration::days(90),
            ..signed.fresh(&default_provider(), now).unwrap()
        };
        assert!(!is_due(&pair, now + time::Duration::days(59)));
        assert!(is_due(&pair, now + time::Duration::days(61)));
    }
}
