//! The accept loop: TCP connections under caps, each taken through TLS where it is served and then spoken to.
//!
//! **Invariant:** a connection holds a permit from its acceptance to its end, WebSocket or not; there are never more
//! than [`CONNECTIONS_MAX`], nor more than [`CONNECTIONS_PER_ADDRESS_MAX`] from one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::{Permit, Requests, serve_http1, serve_http2};
use super::gate::Gate;
use super::state::AppState;
use super::stop::stopped;
use super::tls::{Protocol, Tls};

/// The most connections at a time.
pub const CONNECTIONS_MAX: u32 = 10_000;

/// The most connections at a time from one IPv4 address or one IPv6 /64: a school or an office behind one address fits.
/// Loopback is not counted: behind a reverse proxy, everyone comes from there.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1_000;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// After so long without a word the other side is asked whether it still lives.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// How long to wait when the process has no file descriptor left.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 5\r\nConnection: close\r\nContent-Length: 83\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"too-many\"}";

/// Binds the socket of the doors.
///
/// # Errors
///
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // `[::]` is for both families.
        socket.set_only_v6(false)?;
    }
    // A restart need not wait for the last connections of the server before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stopping` turns true, then gives open connections `drain` to end. With `tls` all of them speak it.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    state: AppState,
    mut stopping: watch::Receiver<bool>,
    drain: Duration,
) {
    let gate = Gate::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stopping) => break,
        };
        match accepted {
            Ok((stream, remote)) => match gate.admit(remote.ip()) {
                Some(seat) => {
                    let permit = Arc::new(Permit::new(seat, state.metrics().connection()));
                    // An IPv4 client of a socket for both families is written as one.
                    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                    let requests = Requests { router: router.clone(), remote, permit };
                    tokio::spawn(connection(stream, tls.clone(), requests, state.clone(), stopping.clone()));
                }
                None => {
                    state.metrics().connection_refused();
                    // The client may be too slow to read why; the cap matters more. TLS has no words for it.
                    if tls.is_none() {
                        let _ = stream.try_write(REFUSAL);
                    }
                }
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
    tls: Option<Tls>,
    requests: Requests,
    state: AppState,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = tune(&stream) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let Some(tls) = tls else { return serve_http1(stream, requests, stopping).await };
    let accepted = tokio::select! {
        accepted = tls.accept(stream, requests.remote, state.metrics()) => accepted,
        () = stopped(&mut stopping) => None,
    };
    match accepted {
        Some((stream, Protocol::Http1)) => serve_http1(stream, requests, stopping).await,
        Some((stream, Protocol::Http2)) => serve_http2(stream, requests, stopping).await,
        None => {}
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(Duration::from_secs(15));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_well_formed() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["status"], 503);
    }
}
