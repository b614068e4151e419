//! A certificate by ACME, from a real authority on this machine: Pebble, with a name server that leads every name here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;
#[path = "live/tls.rs"]
mod tls;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Stdio;

use live::{PATIENCE, Scratch, Server};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::pem::{LineEnding, encode_string};

const DOMAINS: [&str; 2] = ["live.example.org", "www.example.org"];

/// An authority, its name server, and how to speak with it.
struct Authority {
    directory: String,
    _pebble: Child,
    _names: Child,
}

/// Ports that nobody had a moment ago: these programs cannot be told to take any.
fn free_ports<const N: usize>() -> [u16; N] {
    let open = [(); N].map(|()| {
        loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        }
    });
    open.map(|(tcp, _)| tcp.local_addr().unwrap().port())
}

fn run(scratch: &Scratch, program: &str, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(args).current_dir(scratch.path()).env("PEBBLE_VA_NOSLEEP", "1").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("{program}, of the Debian package pebble: {error}"))
}

async fn listens(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {port}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

impl Authority {
    /// Reaches the server that it verifies at `https_port`. Who vouches for it itself is in `ca.pem`.
    async fn start(scratch: &Scratch, https_port: u16) -> Self {
        let pem = |label, der: &[u8]| encode_string(label, LineEnding::LF, der).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        scratch.write("ca.pem", pem("CERTIFICATE", ca.der()));
        scratch.write("pebble.pem", pem("CERTIFICATE", leaf.der()));
        scratch.write("pebble.key", pem("PRIVATE KEY", &key.serialize_der()));
        let [acme, management, dns, control] = free_ports();
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{acme}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "pebble.pem", "privateKey": "pebble.key", "httpPort": 1, "tlsPort": https_port,
        }});
        scratch.write("pebble.json", config.to_string());
        let (dns, control) = (format!("127.0.0.1:{dns}"), format!("127.0.0.1:{control}"));
        let names = ["-dns01", &dns, "-management", &control, "-http01", "", "-https01", "", "-tlsalpn01", ""];
        let names = [&names[..], &["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""]].concat();
        let names = run(scratch, "pebble-challtestsrv", &names);
        let pebble = run(scratch, "pebble", &["-config", "pebble.json", "-dnsserver", &dns]);
        listens(acme).await;
        listens(control.parse::<SocketAddr>().unwrap().port()).await;
        Self { directory: format!("https://localhost:{acme}/dir"), _pebble: pebble, _names: names }
    }
}

async fn start(scratch: Scratch, port: u16, kept: &Path, directory: &str, ca: &Path) -> Server {
    let (http, kept, ca) = (format!("127.0.0.1:{port}"), kept.to_str().unwrap(), ca.to_str().unwrap());
    let mut args = vec!["--http", &http, "--udp", "127.0.0.1:0", "--record", "off", "--tls-dir", kept];
    args.extend(["--tls-acme-directory", directory, "--tls-acme-ca", ca, "--tls-acme-email", "ops@example.org"]);
    for domain in DOMAINS {
        args.extend(["--tls-acme", domain]);
    }
    Server::start_with(scratch, &args, &[]).await
}

fn issuer(certificate: &[u8]) -> String {
    Certificate::from_der(certificate).unwrap().tbs_certificate().issuer().to_string()
}

#[tokio::test]
async fn a_certificate_is_issued_served_and_kept() {
    let home = Scratch::new();
    let [port] = free_ports();
    let authority = Authority::start(&home, port).await;
    let (kept, ca) = (home.path().join("kept"), home.path().join("ca.pem"));

    let mut server = start(Scratch::new(), port, &kept, &authority.directory, &ca).await;
    server.logged("the authority has issued this certificate").await;
    let shown = tls::certificate(&tls::connect(server.http, DOMAINS[1], &["h2", "http/1.1"]).await);
    assert!(issuer(&shown).contains("Pebble"), "{}", issuer(&shown));
    let answer = live::request_over(
        tls::connect(server.http, DOMAINS[0], &["http/1.1"]).await,
        server.http,
        "GET",
        "/healthz",
        &[],
        b"",
    );
    assert_eq!(answer.await.text(), "ok\n");
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path).unwrap().permissions());
    for file in std::fs::read_dir(&kept).unwrap().map(|file| file.unwrap().path()) {
        let is_public = file.extension().is_some_and(|extension| extension == "crt");
        assert_eq!(mode(&file) & 0o777, if is_public { 0o644 } else { 0o600 }, "{file:?}");
    }

    // The authority is gone, and need not be asked again.
    drop(authority);
    let server = start(Scratch::new(), port, &kept, "https://localhost:1/dir", &ca).await;
    assert_ne!(tls::certificate(&tls::connect(server.http, DOMAINS[0], &[]).await), shown, "another authority");
    server.stop().await;
}

#[tokio::test]
async fn what_was_issued_is_used_again_without_the_authority() {
    let home = Scratch::new();
    let [port] = free_ports();
    let authority = Authority::start(&home, port).await;
    let directory = authority.directory.clone();
    let (kept, ca) = (home.path().join("kept"), home.path().join("ca.pem"));
    let mut server = start(Scratch::new(), port, &kept, &directory, &ca).await;
    server.logged("the authority has issued this certificate").await;
    let issued = tls::certificate(&tls::connect(server.http, DOMAINS[0], &[]).await);
    server.stop().await;
    drop(authority);
    let server = start(Scratch::new(), port, &kept, &directory, &ca).await;
    assert_eq!(tls::certificate(&tls::connect(server.http, DOMAINS[0], &[]).await), issued);
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("ERROR")), "{log:?}");
}

#[tokio::test]
async fn an_authority_that_cannot_reach_the_server_says_why_and_the_server_goes_on() {
    let home = Scratch::new();
    let [port, elsewhere] = free_ports();
    let authority = Authority::start(&home, elsewhere).await;
    let (kept, ca) = (home.path().join("kept"), home.path().join("ca.pem"));
    let mut server = start(Scratch::new(), port, &kept, &authority.directory, &ca).await;
    let line = server.logged("no certificate was issued").await;
    assert!(line.contains("could not verify") && line.contains("example.org"), "{line}");
    assert!(line.contains("again_in_s=60"), "{line}");
    let answer = live::request_over(
        tls::connect(server.http, DOMAINS[0], &["http/1.1"]).await,
        server.http,
        "GET",
        "/healthz",
        &[],
        b"",
    );
    assert_eq!(answer.await.text(), "ok\n");
    server.stop().await;
}
