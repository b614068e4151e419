//! WHIP and WHEP over HTTP: offers that become resources, candidates, the end, and every refusal.

use super::live::{PATIENCE, Response, Server};

const OFFER: &str = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
const PLAYER_OFFER: &str = include_str!("../data/sdp/play/chromium.sdp");
const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
const ANY: (&str, &str) = ("If-Match", "*");
const ABSENT: &str = "/whip/r/u/0123456789abcdef0123456789abcdef";

async fn post(server: &Server, path: &str) -> Response {
    let created = server.request("POST", path, &[SDP], OFFER.as_bytes()).await;
    assert_eq!(created.status, 201, "{created:?}");
    created
}

fn ufrag() -> &'static str {
    OFFER.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).unwrap().trim()
}

fn password() -> &'static str {
    OFFER.lines().find_map(|line| line.strip_prefix("a=ice-pwd:")).unwrap().trim()
}

#[tokio::test]
async fn an_offer_becomes_a_resource_that_trickles_and_ends() {
    let server = Server::start(&[]).await;
    let created = post(&server, "/whip/room/user").await;
    assert_eq!(created.header("content-type"), Some("application/sdp"));
    assert_eq!(created.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    assert!(created.text().starts_with("v=0"), "{created:?}");
    assert!(created.text().contains("a=recvonly"), "{created:?}");
    // Some encoders look for exactly this spelling.
    assert!(created.head.contains("\r\nLocation: /whip/room/user/"), "{}", created.head);
    let location = created.header("location").unwrap();
    let id = location.strip_prefix("/whip/room/user/").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{location}");
    let tag = created.header("etag").unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");

    let candidates = format!(
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1 1 udp 2122260223 127.0.0.1 61764 typ host\r\na=candidate:2 1 udp 1 x.local 9 typ host\r\n\
         a=end-of-candidates\r\n",
        ufrag(),
        password()
    );
    for headers in [[FRAGMENT, ("If-Match", tag)], [FRAGMENT, ("If-Match", "*")]] {
        let trickled = server.request("PATCH", location, &headers, candidates.as_bytes()).await;
        assert_eq!((trickled.status, trickled.body.len()), (204, 0), "{headers:?}: {trickled:?}");
    }
    let stale = [FRAGMENT, ("If-Match", "\"stale\"")];
    server.request("PATCH", location, &stale, candidates.as_bytes()).await.problem(412);
    server.request("PATCH", location, &[SDP], candidates.as_bytes()).await.problem(415);
    for (fragment, status) in [("", 400), ("hello", 400), ("a=ice-ufrag:half\r\n", 400), (&"a=x\r\n".repeat(4000), 413)]
    {
        server.request("PATCH", location, &[FRAGMENT, ANY], fragment.as_bytes()).await.problem(status);
    }

    // The id is bound to its broadcast and its door.
    for elsewhere in [format!("/whep/room/user/{id}"), format!("/whip/room/other/{id}")] {
        server.request("DELETE", &elsewhere, &[], b"").await.problem(404);
    }
    let deleted = server.request("DELETE", location, &[], b"").await;
    assert_eq!(deleted.status, 200);
    server.request("DELETE", location, &[], b"").await.problem(404);
    server.request("PATCH", location, &[FRAGMENT], candidates.as_bytes()).await.problem(404);
    // The broadcast is free again.
    post(&server, "/whip/room/user").await;
    server.stop().await;
}

#[tokio::test]
async fn resource_ids_do_not_repeat_and_each_dies_with_its_peer() {
    let server = Server::start(&[]).await;
    let first = post(&server, "/whip/room/user").await;
    let second = post(&server, "/whip/room/user").await;
    let (first, second) = (first.header("location").unwrap(), second.header("location").unwrap());
    assert_ne!(first, second);
    // The second took the broadcast over. The hub tells the first in its own time.
    let gone = async {
        while server.request("PATCH", first, &[FRAGMENT, ANY], b"a=end-of-candidates\r\n").await.status != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the first resource goes");
    let alive = server.request("PATCH", second, &[FRAGMENT, ANY], b"a=end-of-candidates\r\n").await;
    assert_eq!(alive.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_offer_is_refused_and_leaves_nothing() {
    let server = Server::start(&[]).await;
    let long = vec![b'a'; 64 * 1024 + 1];
    for (path, headers, body, status, code) in [
        ("/whip/r/u", &[][..], OFFER.as_bytes(), 415, None),
        ("/whip/r/u", &[("Content-Type", "text/plain")], OFFER.as_bytes(), 415, None),
        ("/whip/r/u", &[SDP], b"", 400, Some("bad-sdp")),
        ("/whip/r/u", &[SDP], b"v=0\r\n", 400, Some("bad-sdp")),
        ("/whip/r/u", &[SDP], b"\xff\xfe", 400, Some("bad-sdp")),
        ("/whip/r/u", &[SDP], b"hello", 400, Some("bad-sdp")),
        ("/whip/r/u", &[SDP], &long, 413, None),
        ("/whip/-r/u", &[SDP], OFFER.as_bytes(), 400, Some("bad-name")),
        ("/whip/r/%20", &[SDP], OFFER.as_bytes(), 400, Some("bad-name")),
        ("/whip/r/%ff", &[SDP], OFFER.as_bytes(), 400, None),
        ("/whep/r/u", &[SDP], PLAYER_OFFER.as_bytes(), 409, Some("not-live")),
        ("/whep/r/u", &[("Content-Type", "application/json")], b"{}", 415, None),
    ] {
        let refused = server.request("POST", path, headers, body).await;
        assert_eq!(refused.problem(status).as_deref(), code, "{path} {headers:?}: {refused:?}");
        assert_eq!(refused.header("retry-after").is_some(), code == Some("not-live"), "{refused:?}");
        assert_eq!(refused.header("location"), None);
    }
    let with_charset = [("Content-Type", "Application/SDP; charset=utf-8")];
    let created = server.request("POST", "/whip/r/u", &with_charset, OFFER.as_bytes()).await;
    assert_eq!(created.status, 201, "{created:?}");
    server.stop().await;
}

#[tokio::test]
async fn an_offer_of_codecs_that_are_not_accepted_is_not_processed() {
    let server = Server::start(&["--codecs", "h265"]).await;
    let offer = include_str!("../data/sdp/publish/chromium-video-alone.sdp");
    let refused = server.request("POST", "/whip/r/u", &[SDP], offer.as_bytes()).await;
    assert_eq!(refused.problem(422).as_deref(), Some("unsupported-codec"));
    server.stop().await;
}

#[tokio::test]
async fn resources_that_never_were_are_not_found() {
    let server = Server::start(&[]).await;
    server.request("DELETE", ABSENT, &[], b"").await.problem(404);
    server.request("PATCH", ABSENT, &[FRAGMENT], b"a=end-of-candidates\r\n").await.problem(404);
    server.request("DELETE", "/whip/r/u/short", &[], b"").await.problem(404);
    for (path, allowed) in [("/whip/r/u", "POST"), ("/whep/r/u", "POST"), (ABSENT, "PATCH")] {
        let options = server.request("OPTIONS", path, &[], b"").await;
        assert_eq!(options.status, 200);
        assert!(options.header("allow").unwrap().contains(allowed));
    }
    let accepted = server.request("OPTIONS", "/whip/r/u", &[], b"").await;
    assert_eq!(accepted.header("accept-post"), Some("application/sdp"));
    server.stop().await;
}
