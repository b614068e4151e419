//! One connection, spoken to in HTTP/1.1 or HTTP/2 until it ends.
//!
//! **Invariant:** whoever does not get on with a request within [`HEAD_DEADLINE`] loses the connection, in either protocol,
//! and a handler finds the request's own host in `Host`, whatever the protocol calls it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::HeaderValue;
use axum::http::header::HOST;
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::ServiceExt;

use super::gate::Seat;
use super::metrics::Counted;
use super::state::Remote;
use super::stop::stopped;

/// How long a request's head may take to come, and a connection may stand idle before the next.
const HEAD_DEADLINE: Duration = Duration::from_secs(20);

/// The longest request head.
const HEAD_MAX_BYTES: u32 = 32 * 1024;

/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;

/// How long an HTTP/2 client may take to end an idle connection.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What an HTTP/2 client may send ahead of our reading, of one request and of all: requests are small here.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 256 * 1024;

/// One admitted connection; whoever keeps the connection alive holds it.
#[derive(Debug)]
pub struct Permit {
    _seat: Seat,
    _counted: Counted,
}

impl Permit {
    /// For a connection that has this seat and is counted so.
    #[must_use]
    pub fn new(seat: Seat, counted: Counted) -> Self {
        Self { _seat: seat, _counted: counted }
    }
}

/// What a connection hands to each of its requests.
#[derive(Clone)]
pub struct Requests {
    /// The doors.
    pub router: Router,
    /// Where they come from.
    pub remote: SocketAddr,
    /// Kept by whatever outlives its request: a WebSocket.
    pub permit: Arc<Permit>,
}

impl Requests {
    async fn serve(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let mut request = request.map(Body::new);
        // HTTP/2 has no `Host` (RFC 9113 §8.3.1); where one comes all the same, `:authority` counts.
        if request.version() == Version::HTTP_2
            && let Some(authority) = request.uri().authority()
            && let Ok(host) = HeaderValue::from_str(authority.as_str())
        {
            request.headers_mut().insert(HOST, host);
        }
        request.extensions_mut().insert(Remote(self.remote));
        request.extensions_mut().insert(self.permit);
        self.router.oneshot(request).await
    }
}

/// Speaks HTTP/1.1 with the other side of `io`.
pub async fn serve_http1<S>(io: S, requests: Requests, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| requests.clone().serve(request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE).max_buf_size(HEAD_MAX_BYTES as usize);
    // Some encoders look for `Location` in exactly this spelling.
    http.title_case_headers(true);
    let mut served = pin!(http.serve_connection(TokioIo::new(io), service).with_upgrades());
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

/// Speaks HTTP/2 with the other side of `io`. Extended CONNECT (RFC 8441) is not offered: a browser opens its WebSockets
/// over HTTP/1.1 then.
pub async fn serve_http2<S>(io: S, requests: Requests, mut stopping: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (running, mut seen) = watch::channel(0_usize);
    let service = service_fn(move |request| {
        let requests = requests.clone();
        let turn = Running::begin(running.clone());
        async move {
            let response = requests.serve(request).await?;
            Ok::<_, Infallible>(response.map(|body| Answer { body, _turn: turn }))
        }
    });
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_MAX_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let mut served = pin!(http.serve_connection(TokioIo::new(io), service));
    let ended = tokio::select! {
        ended = served.as_mut() => Ok(ended),
        () = idle(&mut seen) => {
            served.as_mut().graceful_shutdown();
            // A client that has not even begun to speak HTTP/2, or answers no GOAWAY, never ends it by itself.
            timeout(CLOSE_DEADLINE, served).await
        }
        () = stopped(&mut stopping) => {
            // What was asked before is still answered to its end.
            served.as_mut().graceful_shutdown();
            Ok(served.await)
        }
    };
    if let Ok(Err(error)) = ended {
        tracing::trace!(%error, "a connection failed");
    }
}

/// Comes back when no request has been answered for [`HEAD_DEADLINE`].
async fn idle(running: &mut watch::Receiver<usize>) {
    loop {
        match timeout(HEAD_DEADLINE, running.changed()).await {
            Ok(Ok(())) => {}
            Err(_) if *running.borrow() > 0 => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Counts a request until its answer is out.
struct Running(watch::Sender<usize>);

impl Running {
    fn begin(running: watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// The body of an answer, which is running as long as it is there.
struct Answer {
    body: Body,
    _turn: Running,
}

impl HttpBody for Answer {
    type Data = <Body as HttpBody>::Data;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::gate::Gate;
    use crate::http::metrics::HttpMetrics;
    use tokio::io::AsyncReadExt;

    fn requests() -> Requests {
        let seat = Gate::new(1, 1).admit([127, 0, 0, 1].into()).unwrap();
        let permit = Arc::new(Permit::new(seat, HttpMetrics::default().connection()));
        Requests { router: Router::new(), remote: ([127, 0, 0, 1], 9).into(), permit }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_let_go_in_either_protocol() {
        for speaks_http2 in [false, true] {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            let (_stop, stopping) = watch::channel(false);
            let begun = tokio::time::Instant::now();
            let served = if speaks_http2 {
                tokio::spawn(serve_http2(ours, requests(), stopping))
            } else {
                tokio::spawn(serve_http1(ours, requests(), stopping))
            };
            let mut said = Vec::new();
            theirs.read_to_end(&mut said).await.unwrap();
            served.await.unwrap();
            let deadline = if speaks_http2 { HEAD_DEADLINE + CLOSE_DEADLINE } else { HEAD_DEADLINE };
            assert_eq!(begun.elapsed().as_secs(), deadline.as_secs(), "HTTP/2: {speaks_http2}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_while_nothing_runs() {
        let (running, mut seen) = watch::channel(0);
        let turn = Running::begin(running.clone());
        let begun = tokio::time::Instant::now();
        let ends = tokio::spawn(async move { idle(&mut seen).await });
        tokio::time::sleep(HEAD_DEADLINE * 3 + Duration::from_secs(1)).await;
        assert!(!ends.is_finished());
        drop(turn);
        ends.await.unwrap();
        assert_eq!(begun.elapsed(), HEAD_DEADLINE * 4 + Duration::from_secs(1));
    }
}
