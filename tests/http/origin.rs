//! The origin rule at every door that acts on the hub or tells of it.

use super::live::Server;

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// Each guarded door, and what it answers to a plain request that passes.
const DOORS: [(&str, &str, u16); 11] = [
    ("GET", "/ws", 426),
    ("GET", "/api/broadcasts", 200),
    ("GET", "/api/recordings", 200),
    // As GET, but that it ends.
    ("HEAD", "/api/events", 200),
    ("DELETE", "/api/broadcasts/r/u", 404),
    ("DELETE", "/api/broadcasts/r/u/recording", 404),
    ("DELETE", "/api/recordings/r/u/20260102-030405.mp4", 404),
    ("POST", "/whip/r/u", 415),
    ("POST", "/whep/r/u", 415),
    ("DELETE", "/whip/r/u/0123456789abcdef0123456789abcdef", 404),
    ("PATCH", "/whep/r/u/0123456789abcdef0123456789abcdef", 404),
];

#[tokio::test]
async fn foreign_pages_are_refused_at_every_door() {
    let server = Server::start(&["--allow-origin", "https://friend.example"]).await;
    let own = format!("http://{}", server.http);
    let other_port = format!("http://{}:1", server.http.ip());
    let other_scheme = format!("https://{}", server.http);
    for (method, path, passed) in DOORS {
        assert_eq!(server.request(method, path, &[], b"").await.status, passed, "{method} {path} without Origin");
        for (origin, status) in [
            (own.as_str(), passed),
            ("https://friend.example", passed),
            ("HTTPS://Friend.example:443", passed),
            ("http://friend.example", 403),
            ("https://friend.example:8443", 403),
            ("https://foe.example", 403),
            (&other_port, 403),
            (&other_scheme, 403),
            ("null", 403),
            ("", 403),
        ] {
            let response = server.request(method, path, &[("Origin", origin)], b"").await;
            assert_eq!(response.status, status, "{method} {path} from {origin:?}");
            if status == 403 {
                if method != "HEAD" {
                    response.problem(403);
                }
                assert_eq!(response.header("access-control-allow-origin"), None, "{method} {path} from {origin:?}");
            } else if origin == own {
                assert_eq!(response.header("access-control-allow-origin"), None);
            } else {
                assert_eq!(response.header("access-control-allow-origin"), Some(origin));
                let exposed = response.header("access-control-expose-headers").unwrap();
                for name in ["Location", "ETag", "Link"] {
                    assert!(exposed.contains(name), "{exposed}");
                }
                assert!(response.head.contains("Vary: Origin"), "{}", response.head);
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_a_proxy_claims_counts_for_nothing() {
    let server = Server::start(&[]).await;
    let headers = [
        ("Origin", "https://foe.example"),
        ("X-Forwarded-Host", "foe.example"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "host=foe.example;proto=https"),
    ];
    server.request("GET", "/api/broadcasts", &headers, b"").await.problem(403);
    server.stop().await;
}

#[tokio::test]
async fn a_websocket_of_a_foreign_page_is_not_opened() {
    let server = Server::start(&["--allow-origin", "https://friend.example"]).await;
    for (origin, status) in [(None, 101), (Some("https://friend.example"), 101), (Some("https://foe.example"), 403)] {
        let mut headers = HANDSHAKE.to_vec();
        headers.extend(origin.map(|origin| ("Origin", origin)));
        assert_eq!(websocket_status(&server, &headers).await, status, "{origin:?}");
    }
    server.stop().await;
}

/// The status of a handshake; the connection is dropped after it.
async fn websocket_status(server: &Server, headers: &[(&str, &str)]) -> u16 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let mut head = format!("GET /ws HTTP/1.1\r\nHost: {}\r\n", server.http);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    std::str::from_utf8(&start).unwrap().strip_prefix("HTTP/1.1 ").unwrap().parse().unwrap()
}

#[tokio::test]
async fn preflights_of_allowed_pages_are_answered_in_full() {
    let server = Server::start(&["--allow-origin", "*"]).await;
    for path in ["/whip/r/u", "/whep/r/u/0123456789abcdef0123456789abcdef", "/api/broadcasts"] {
        let headers = [
            ("Origin", "https://anyone.example"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,authorization,if-match"),
        ];
        let preflight = server.request("OPTIONS", path, &headers, b"").await;
        assert!(matches!(preflight.status, 200 | 204) && preflight.body.is_empty(), "{path}: {preflight:?}");
        assert_eq!(preflight.header("access-control-allow-origin"), Some("https://anyone.example"));
        for method in ["GET", "POST", "PATCH", "DELETE"] {
            assert!(preflight.header("access-control-allow-methods").unwrap().contains(method), "{method}");
        }
        let allowed = preflight.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        for name in ["authorization", "content-type", "if-match"] {
            assert!(allowed.contains(name), "{name}");
        }
    }
    server.stop().await;
    let server = Server::start(&[]).await;
    let headers = [("Origin", "https://anyone.example"), ("Access-Control-Request-Method", "POST")];
    server.request("OPTIONS", "/whip/r/u", &headers, b"").await.problem(403);
    server.stop().await;
}
