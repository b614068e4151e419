//! TLS before HTTP: handshakes under a deadline and a cap, with the certificate of the moment.
//!
//! **Invariant:** a handshake ends within `HANDSHAKE_DEADLINE`, and only those that have begun one, at most
//! `HANDSHAKES_MAX` at a time and `HANDSHAKES_PER_ADDRESS_MAX` from one address, cost more than a socket.

mod acme;
mod https_client;
mod issuer;
mod keeper;
mod kept;
mod pair;
mod plaintext;
mod self_signed;
mod shelf;
mod source;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::gate::{Gate, Seat};
use super::metrics::{Handshake, HttpMetrics};
use plaintext::{Hint, begins_tls};
use shelf::{ACME_TLS, Shelf};

pub use acme::Acme;
pub use keeper::Keeper;
pub use pair::PairError;
pub use self_signed::{SelfSigned, SelfSignedError};
pub use source::{Source, SourceError};

/// How long a client may take from its first byte on.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// The most handshakes at a time. Who finds no place waits for one, within the deadline.
const HANDSHAKES_MAX: u32 = 512;

/// The most handshakes at a time from one IPv4 address or one IPv6 /64.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 128;

/// How long to wait for a place before looking again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// What client and server have agreed upon (ALPN, RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also of those who name no protocol.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The server's side of TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shelf: Arc<Shelf>,
    again: Arc<Notify>,
    handshakes: Arc<Gate>,
    hint: Arc<Hint>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The library refuses its own defaults.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Whether the certificate of `source` can be served.
///
/// # Errors
///
/// [`SourceError`]: one line.
pub fn check(source: &Source) -> Result<(), SourceError> {
    source.pair(&default_provider(), OffsetDateTime::now_utc()).map(drop)
}

impl Tls {
    /// Reads or makes the certificate. Somebody must run the keeper.
    ///
    /// # Errors
    ///
    /// [`TlsError`]: one line.
    pub fn new(source: Source) -> Result<(Self, Keeper), TlsError> {
        let provider = Arc::new(default_provider());
        let answers_challenges = matches!(source, Source::Acme(_));
        let keeper = Keeper::new(source, Arc::clone(&provider))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(keeper.shelf());
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        if answers_challenges {
            config.alpn_protocols.push(ACME_TLS.to_vec());
        }
        let tls = Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shelf: keeper.shelf(),
            again: keeper.again(),
            handshakes: Arc::new(Gate::new(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX)),
            hint: Arc::default(),
        };
        Ok((tls, keeper))
    }

    /// Has the keeper read the certificate again.
    pub fn read_again(&self) {
        self.again.notify_one();
    }

    /// Until when the certificate counts.
    #[must_use]
    pub fn expires(&self) -> OffsetDateTime {
        self.shelf.current().expires
    }

    /// Takes a connection through its handshake; `None` when it has ended instead.
    pub async fn accept(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        metrics: &HttpMetrics,
    ) -> Option<(TlsStream<TcpStream>, Protocol)> {
        let (outcome, stream) = match timeout(HANDSHAKE_DEADLINE, self.shake_hands(stream, remote)).await {
            Ok(Ok(Some(stream))) => (Handshake::Done, Some(stream)),
            Ok(Ok(None)) => (Handshake::Plaintext, None),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                (Handshake::Failed, None)
            }
            Err(_) => (Handshake::TimedOut, None),
        };
        metrics.handshake(outcome);
        let stream = stream?;
        match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Some((stream, Protocol::Http2)),
            // The authority has seen what it wanted to see.
            Some(ACME_TLS) => None,
            _ => Some((stream, Protocol::Http1)),
        }
    }

    async fn shake_hands(&self, stream: TcpStream, remote: SocketAddr) -> io::Result<Option<TlsStream<TcpStream>>> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [first] = first;
        if !begins_tls(first) {
            self.hint.answer(stream, first, remote).await;
            return Ok(None);
        }
        let _seat = self.seat(remote).await;
        self.acceptor.accept(stream).await.map(Some)
    }

    async fn seat(&self, remote: SocketAddr) -> Seat {
        loop {
            match self.handshakes.admit(remote.ip()) {
                Some(seat) => return seat,
                None => sleep(LOOK_AGAIN_AFTER).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    fn tls() -> Tls {
        Tls::new(Source::SelfSigned(SelfSigned { addresses: Vec::new(), host: None, dir: None })).unwrap().0
    }

    /// The first bytes of a record of 512 bytes that holds a ClientHello.
    const HALF_A_HELLO: &[u8] = &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];

    #[tokio::test(start_paused = true)]
    async fn whoever_dawdles_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tls = tls();
        let metrics = HttpMetrics::default();
        for begun in [&b""[..], HALF_A_HELLO] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(begun).await.unwrap();
            let (stream, remote) = listener.accept().await.unwrap();
            let since = Instant::now();
            assert!(tls.accept(stream, remote, &metrics).await.is_none());
            assert_eq!(since.elapsed().as_secs(), HANDSHAKE_DEADLINE.as_secs(), "{begun:?}");
        }
        let text = metrics.open_metrics(Vec::new()).unwrap();
        assert!(text.contains("onair_tls_handshakes_total{outcome=\"timed-out\"} 2"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_for_one() {
        let tls = tls();
        let remote = SocketAddr::from(([192, 0, 2, 1], 9));
        let mut seats = Vec::new();
        for _ in 0..HANDSHAKES_PER_ADDRESS_MAX {
            seats.push(tls.seat(remote).await);
        }
        let elsewhere = SocketAddr::from(([192, 0, 2, 2], 9));
        let _elsewhere = timeout(LOOK_AGAIN_AFTER, tls.seat(elsewhere)).await.expect("another address finds one");
        assert!(timeout(HANDSHAKE_DEADLINE, tls.seat(remote)).await.is_err());
        seats.pop();
        let _next = timeout(LOOK_AGAIN_AFTER * 2, tls.seat(remote)).await.expect("a place is free again");
    }
}
