//! The task that keeps the certificate up to date.
//!
//! **Invariant:** there is one at any time: another takes its place only when it is good, and connections that stand do
//! not notice.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::issuer::Issuer;
use super::pair::{Pair, day, tell};
use super::shelf::Shelf;
use super::source::{Signature, Source, SourceError};
use crate::http::stop::stopped;

/// How often the files are looked at. They are read when they have stood still that long, since a certificate and its
/// key are replaced one after the other.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// With less than this left an operator should know that nobody renews it.
const WARNED_BEFORE: time::Duration = time::Duration::days(14);
const WARN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks after a `Shelf`.
#[derive(Debug)]
pub struct Keeper {
    shelf: Arc<Shelf>,
    source: Arc<Source>,
    provider: Arc<CryptoProvider>,
    again: Arc<Notify>,
    /// The state of the files that was read last, good or not.
    read: Signature,
    /// A state that was seen once, and is read when it is seen twice.
    settling: Option<Signature>,
    warned: Option<Instant>,
    issuer: Option<Issuer>,
}

impl Keeper {
    /// Reads or makes the first certificate.
    ///
    /// # Errors
    ///
    /// [`SourceError`].
    pub fn new(source: Source, provider: Arc<CryptoProvider>) -> Result<Self, SourceError> {
        let read = source.signature();
        let pair = source.pair(&provider, OffsetDateTime::now_utc())?;
        tell("this certificate is served", &pair);
        let shelf = Arc::new(Shelf::new(pair));
        let issuer = match &source {
            Source::Acme(acme) => Some(Issuer::new(acme.clone(), Arc::clone(&shelf), Arc::clone(&provider))?),
            Source::Files { .. } | Source::SelfSigned(_) => None,
        };
        Ok(Self {
            shelf,
            source: Arc::new(source),
            provider,
            again: Arc::default(),
            read,
            settling: None,
            warned: None,
            issuer,
        })
    }

    /// What it looks after.
    #[must_use]
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }

    /// Told so, it reads the files whether or not they seem to have changed.
    #[must_use]
    pub fn again(&self) -> Arc<Notify> {
        Arc::clone(&self.again)
    }

    /// Keeps the certificate up to date until the server stops.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        if let Some(issuer) = self.issuer.take() {
            tokio::spawn(issuer.run(stopping.clone()));
        }
        let again = self.again();
        let mut ticks = interval(POLL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                () = again.notified() => true,
                () = stopped(&mut stopping) => return,
            };
            self.look(asked).await;
        }
    }

    async fn look(&mut self, asked: bool) {
        let source = Arc::clone(&self.source);
        let Ok(seen) = tokio::task::spawn_blocking(move || source.signature()).await else { return };
        let pair = self.shelf.current();
        let now = OffsetDateTime::now_utc();
        self.warn_of_the_end(&pair, now);
        if !asked && !self.source.is_due(&pair, now) {
            if seen == self.read {
                self.settling = None;
                return;
            }
            if self.settling != Some(seen) {
                self.settling = Some(seen);
                return;
            }
        }
        self.settling = None;
        self.read = seen;
        let (source, provider) = (Arc::clone(&self.source), Arc::clone(&self.provider));
        match tokio::task::spawn_blocking(move || source.pair(&provider, now)).await {
            Ok(Ok(pair)) => {
                self.shelf.replace(pair.clone());
                tell("from now on this certificate is served", &pair);
                self.warned = None;
            }
            Ok(Err(error)) => tracing::error!(%error, "the new certificate is no good: the one before it stays"),
            Err(error) => tracing::error!(%error, "the certificate could not be read"),
        }
    }

    fn warn_of_the_end(&mut self, pair: &Pair, now: OffsetDateTime) {
        let is_near = pair.expires - now < WARNED_BEFORE;
        if is_near && self.warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!(expires = day(pair.expires), "the certificate expires soon and has not been renewed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::tls::self_signed::SelfSigned;
    use rustls::crypto::aws_lc_rs::default_provider;

    #[tokio::test]
    async fn a_certificate_near_its_end_is_made_anew_while_the_server_runs() {
        let nowhere = SelfSigned { addresses: Vec::new(), host: None, dir: None };
        let source = Source::SelfSigned(nowhere);
        let provider = Arc::new(default_provider());
        let mut keeper = Keeper::new(source.clone(), Arc::clone(&provider)).unwrap();
        let first = keeper.shelf.current().fingerprint;
        keeper.look(false).await;
        assert_eq!(keeper.shelf.current().fingerprint, first);
        let then = OffsetDateTime::now_utc() - time::Duration::days(380);
        keeper.shelf.replace(source.pair(&provider, then).unwrap());
        keeper.look(false).await;
        let renewed = keeper.shelf.current();
        assert!(renewed.expires - OffsetDateTime::now_utc() > time::Duration::days(390));
    }
}
