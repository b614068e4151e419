//! The accept loop: TCP connections under caps and deadlines, each served by hyper.
//!
//! **Invariant:** a connection holds a [`Permit`] from its acceptance to its end, WebSocket or not; there are never more
//! than [`CONNECTIONS_MAX`], nor more than [`CONNECTIONS_PER_ADDRESS_MAX`] from one address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt;

use super::metrics::Counted;
use super::state::{AppState, Remote};
use super::stop::stopped;

/// The most connections at a time.
pub const CONNECTIONS_MAX: u32 = 10_000;

/// The most connections at a time from one IPv4 address or one IPv6 /64: a school or an office behind one address fits.
/// Loopback is not counted: behind a reverse proxy, everyone comes from there.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_000;

/// How long a request's head may take to come, and a connection may stand idle before the next.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);

/// The longest request head.
const HEAD_MAX_BYTES: usize = 32 * 1024;

/// After so long without a word the other side is asked whether it still lives.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long to wait when the process has no file descriptor left.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 5\r\nConnection: close\r\nContent-Length: 83\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"too-many\"}";

/// Accepts until `stopping` turns true, then gives open connections `drain` to end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    state: AppState,
    mut stopping: watch::Receiver<bool>,
    drain: Duration,
) {
    let gate = Gate::new(state);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, remote)) => match gate.admit(remote.ip()) {
                Some(permit) => {
                    tokio::spawn(connection(stream, remote, router.clone(), permit, stopping.clone()));
                }
                // The client may be too slow to read why; the cap matters more.
                None => drop(stream.try_write(REFUSAL)),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(drain, gate.all_gone()).await.is_err() {
        tracing::debug!("some connections did not end in time");
    }
}

/// Errors of `accept` that tell of the connection that was to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection(
    stream: TcpStream,
    remote: SocketAddr,
    router: Router,
    permit: Arc<Permit>,
    mut stopping: watch::Receiver<bool>,
) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(Duration::from_secs(15));
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Remote(remote));
        request.extensions_mut().insert(Arc::clone(&permit));
        router.clone().oneshot(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_MAX_BYTES);
    // Some encoders look for `Location` in exactly this spelling.
    http.title_case_headers(true);
    let mut served = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let mut ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        () = stopped(&mut stopping) => None,
    };
    if ended.is_none() {
        served.as_mut().graceful_shutdown();
        ended = Some(served.await);
    }
    if let Some(Err(error)) = ended {
        tracing::trace!(%error, "a connection failed");
    }
}

/// Lets connections in up to the caps.
struct Gate {
    state: AppState,
    total: Arc<Semaphore>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One admitted connection; whoever keeps the connection alive holds it.
#[derive(Debug)]
pub struct Permit {
    address: Option<IpAddr>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _one_of_all: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Gate {
    fn new(state: AppState) -> Self {
        let total = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        Self { state, total, addresses: Arc::default() }
    }

    fn admit(&self, ip: IpAddr) -> Option<Arc<Permit>> {
        let permit = self.try_admit(ip);
        if permit.is_none() {
            self.state.metrics().connection_refused();
        }
        permit
    }

    fn try_admit(&self, ip: IpAddr) -> Option<Arc<Permit>> {
        let one_of_all = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let address = counted_under(ip);
        if let Some(address) = address {
            let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
            let open = addresses.entry(address).or_default();
            if *open >= CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            *open += 1;
        }
        Some(Arc::new(Permit {
            address,
            addresses: Arc::clone(&self.addresses),
            _one_of_all: one_of_all,
            _counted: self.state.metrics().connection(),
        }))
    }

    async fn all_gone(&self) {
        // It fails only when the semaphore is closed, which nobody does.
        let _all = self.total.acquire_many(CONNECTIONS_MAX).await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = addresses.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// One IPv6 customer commands a whole /64; an IPv4 client of a dual socket is counted as such.
fn counted_under(ip: IpAddr) -> Option<IpAddr> {
    match ip.to_canonical() {
        ip if ip.is_loopback() => None,
        IpAddr::V6(ip) => Some(IpAddr::V6((u128::from(ip) & !u128::from(u64::MAX)).into())),
        v4 => Some(v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::bridge;
    use crate::http::state::HttpConfig;

    fn gate() -> Gate {
        let (handle, _port, _recordings) = bridge().unwrap();
        let (_, stopping) = watch::channel(false);
        let config =
            HttpConfig { allowed_origins: Vec::new(), record_dir: "recordings".into(), ice_servers: Vec::new() };
        Gate::new(AppState::new(config, handle, Vec::new(), stopping))
    }

    #[test]
    fn one_address_cannot_take_all_connections() {
        let gate = gate();
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, last]);
        let mut permits: Vec<_> =
            (0..CONNECTIONS_PER_ADDRESS_MAX).map(|n| gate.admit(address(n as u16)).unwrap()).collect();
        assert!(gate.admit(address(9)).is_none(), "a neighbour in the same /64");
        assert!(gate.admit([192, 0, 2, 1].into()).is_some());
        permits.pop();
        permits.push(gate.admit(address(9)).unwrap());
        let local: Vec<_> = (0..=CONNECTIONS_PER_ADDRESS_MAX).map(|_| gate.admit([127, 0, 0, 1].into())).collect();
        assert!(local.iter().all(Option::is_some), "a proxy on this machine stands for many clients");
        permits.clear();
        assert!(gate.addresses.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_drain_waits_for_the_last_permit() {
        let gate = gate();
        let permit = gate.admit([127, 0, 0, 1].into()).unwrap();
        let gone = gate.all_gone();
        tokio::pin!(gone);
        assert!(futures_util::FutureExt::now_or_never(gone.as_mut()).is_none());
        drop(permit);
        gone.await;
    }

    #[test]
    fn the_refusal_is_well_formed() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], 503);
    }
}
