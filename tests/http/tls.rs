//! HTTPS and WSS: which protocol is spoken, which certificate is shown, and what becomes of clients that speak no TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::body::Body;
use futures_util::{SinkExt, StreamExt};
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use x509_cert::der::pem::{LineEnding, encode_string};

use super::live::{PATIENCE, Response, Scratch, Server, onair, request_over};
use super::live_tls::{certificate, connect};

async fn connect_here(server: SocketAddr, protocols: &[&str]) -> TlsStream<TcpStream> {
    connect(server, "localhost", protocols).await
}

/// The certificate that a new connection is shown.
async fn shown(server: SocketAddr) -> Vec<u8> {
    certificate(&connect_here(server, &[]).await)
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response {
    request_over(connect_here(server.http, &["http/1.1"]).await, server.http, "GET", path, headers, b"").await
}

/// A certificate and its key, written beside each other; the certificate as a client sees it.
fn write_pair(scratch: &Scratch, days: i64) -> (PathBuf, PathBuf, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
    let certificate = params.self_signed(&key).unwrap();
    let pem = |label, der: &[u8]| encode_string(label, LineEnding::LF, der).unwrap();
    let cert_path = scratch.write("cert.pem", pem("CERTIFICATE", certificate.der()));
    let key_path = scratch.write("key.pem", pem("PRIVATE KEY", &key.serialize_der()));
    (cert_path, key_path, certificate.der().to_vec())
}

async fn start_with_files(days: i64) -> (Server, Vec<u8>) {
    let scratch = Scratch::new();
    let (cert, key, der) = write_pair(&scratch, days);
    let args = ["--tls-cert", text(&cert), "--tls-key", text(&key)];
    let all = [&["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off"][..], &args[..]].concat();
    (Server::start_with(scratch, &all, &[]).await, der)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn it_says_https_and_speaks_http_1_to_those_who_name_no_protocol() {
    let server = Server::start(&["--tls-self-signed", "--tls-dir", "kept"]).await;
    assert_eq!(server.lines[0], format!("listening https://{}", server.http));
    let (own, plain) = (format!("https://{}", server.http), format!("http://{}", server.http));
    assert_eq!(get(&server, "/api/broadcasts", &[("Origin", &own)]).await.status, 200);
    get(&server, "/api/broadcasts", &[("Origin", &plain)]).await.problem(403);
    let quiet = connect_here(server.http, &[]).await;
    assert_eq!(request_over(quiet, server.http, "GET", "/healthz", &[], b"").await.text(), "ok\n");
    server.stop().await;
}

#[tokio::test]
async fn http_2_reaches_the_same_doors() {
    let server = Server::start(&["--tls-self-signed", "--tls-dir", "kept"]).await;
    let stream = connect_here(server.http, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let own = format!("https://{}", server.http);
    for (path, origin, status) in [
        ("/", None, 200),
        ("/healthz", None, 200),
        ("/nothing", None, 404),
        ("/api/broadcasts", Some(&*own), 200),
        ("/api/broadcasts", Some("https://evil.example"), 403),
        // A WebSocket needs HTTP/1.1 here, and is told so rather than left hanging.
        ("/ws", Some(&*own), 426),
    ] {
        let mut request = Request::builder().uri(format!("{own}{path}"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let answer = requests.send_request(request.body(Body::empty()).unwrap());
        let response = timeout(PATIENCE, answer).await.expect("an answer").unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (status, Version::HTTP_2), "{path} {origin:?}");
        let body = axum::body::to_bytes(Body::new(response.into_body()), 1 << 20).await.unwrap();
        assert!(!body.is_empty(), "{path}");
    }
    // The page of an allowed name cannot be claimed by a `Host` beside the `:authority`.
    let request = Request::builder().uri(format!("{own}/api/broadcasts"));
    let request = request.header("host", "evil.example").header("origin", "https://evil.example");
    assert_eq!(requests.send_request(request.body(Body::empty()).unwrap()).await.unwrap().status(), 403);
    server.stop().await;
    let _ = timeout(PATIENCE, connection).await.expect("the stop ends the connection");
}

#[tokio::test]
async fn a_websocket_runs_over_tls() {
    let server = Server::start(&["--tls-self-signed", "--tls-dir", "kept"]).await;
    let stream = connect_here(server.http, &["http/1.1"]).await;
    let (mut socket, _) = tokio_tungstenite::client_async(format!("wss://{}/ws", server.http), stream).await.unwrap();
    socket.send(Message::text(r#"{"type":"ping","id":"a"}"#)).await.unwrap();
    let pong = timeout(PATIENCE, socket.next()).await.expect("a pong").unwrap().unwrap();
    assert_eq!(pong, Message::text(r#"{"id":"a","type":"pong"}"#));
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_changes_is_shown_to_new_connections_only() {
    let (mut server, first) = start_with_files(90).await;
    let mut standing = connect_here(server.http, &["http/1.1"]).await;
    assert_eq!(certificate(&standing), first);

    let (_, _, second) = write_pair(&server.scratch, 90);
    server.logged("from now on this certificate is served").await;
    assert_eq!(shown(server.http).await, second);
    // The connection of before goes on.
    standing.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    standing.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");

    // What is no good changes nothing.
    server.scratch.write("cert.pem", "nonsense");
    let line = server.logged("the new certificate is no good").await;
    assert!(line.contains("ERROR") && line.contains("--tls-cert") && line.contains("cert.pem"), "{line}");
    assert_eq!(shown(server.http).await, second);
    write_pair(&server.scratch, -1);
    let line = server.logged("the new certificate is no good").await;
    assert!(line.contains("expired"), "{line}");
    assert_eq!(shown(server.http).await, second);

    let (_, _, third) = write_pair(&server.scratch, 90);
    server.logged("from now on this certificate is served").await;
    assert_eq!(shown(server.http).await, third);
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
}

#[tokio::test]
async fn sighup_reads_the_certificate_at_once_and_ends_nothing() {
    let (mut server, first) = start_with_files(10).await;
    server.logged("expires soon").await;
    server.signal(Signal::SIGHUP);
    server.logged("from now on this certificate is served").await;
    assert_eq!(shown(server.http).await, first);
    assert_eq!(get(&server, "/healthz", &[]).await.status, 200);
    server.stop().await;

    let mut plain = Server::start(&[]).await;
    plain.signal(Signal::SIGHUP);
    plain.logged("nothing to read again").await;
    assert_eq!(plain.get("/healthz").await.status, 200);
    plain.stop().await;
}

#[tokio::test]
async fn the_self_signed_certificate_outlives_the_server() {
    let scratch = Scratch::new();
    let state = scratch.path().join("state");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--tls-self-signed"];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let home = [("XDG_STATE_HOME", text(&state))];
        let server = Server::start_with(Scratch::new(), &args, &home).await;
        seen.push(shown(server.http).await);
        let log = server.stop().await;
        assert!(log.iter().any(|line| line.contains("fingerprint=")), "{log:?}");
    }
    assert_eq!(seen[0], seen[1]);
    let server = Server::start_with(Scratch::new(), &args, &[]).await;
    assert!(!seen.contains(&shown(server.http).await), "nobody's directory was used");
    server.stop().await;
}

#[tokio::test]
async fn whoever_speaks_no_tls_is_told_and_the_log_is_told_once() {
    let server = Server::start(&["--tls-self-signed", "--tls-dir", "kept"]).await;
    for _ in 0..3 {
        let answer = server.get("/healthz").await;
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("https://"), "{answer:?}");
    }
    // Nothing is said to what is no HTTP either.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(&[0, 1, 2]).await.unwrap();
    let mut said = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it hangs up");
    assert!(said.is_empty());
    // Nor does a broken handshake hurt anybody.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(&[22, 3, 1, 0, 4, 9, 9, 9, 9]).await.unwrap();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it hangs up");
    let metrics = get(&server, "/metrics", &[]).await;
    for line in [
        "onair_tls_handshakes_total{outcome=\"plaintext\"} 4\n",
        "onair_tls_handshakes_total{outcome=\"failed\"} 1\n",
        "onair_tls_handshakes_total{outcome=\"done\"} 1\n",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
    let log = server.stop().await;
    let hints = log.iter().filter(|line| line.contains("does not speak TLS")).count();
    assert_eq!(hints, 1, "{log:?}");
}

#[tokio::test]
async fn a_handshake_that_never_ends_does_not_hold_the_stop_up() {
    let server = Server::start(&["--tls-self-signed", "--tls-dir", "kept"]).await;
    let mut half = TcpStream::connect(server.http).await.unwrap();
    half.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    assert_eq!(get(&server, "/healthz", &[]).await.status, 200);
    let begun = std::time::Instant::now();
    server.stop().await;
    assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn bad_files_stop_the_start_with_one_line() {
    let scratch = Scratch::new();
    let (cert, key, _) = write_pair(&scratch, 90);
    let other = Scratch::new();
    let (_, foreign, _) = write_pair(&other, 90);
    let old = Scratch::new();
    let (expired, expired_key, _) = write_pair(&old, -1);
    let absent = scratch.path().join("absent.pem");
    for (cert, key, named) in [
        (&absent, &key, "--tls-cert"),
        (&cert, &absent, "--tls-key"),
        (&key, &key, "no certificate"),
        (&cert, &foreign, "does not belong"),
        (&expired, &expired_key, "expired on"),
    ] {
        for also in [&[][..], &["--check"]] {
            let args = [&["--tls-cert", text(cert), "--tls-key", text(key)][..], also].concat();
            let output = timeout(PATIENCE, onair(&scratch, &args, &[]).output()).await.expect("it ends").unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {stderr}");
            assert!(stderr.lines().count() == 1 && stderr.contains(named), "{args:?}: {stderr}");
        }
    }
}
