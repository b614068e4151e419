//! RFC 9725, section by section. What each kind of token may do is tested with the doors.

use super::live::{PATIENCE, Scratch, Server};
use super::wire::{self, Wire, until};
use super::{ANY, FRAGMENT, ICE_SERVERS, SDP, expect_ice_servers, fragment, values};

const OFFER: &str = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
const ABSENT: &str = "/whip/r/u/0123456789abcdef0123456789abcdef";

async fn post(server: &Server, offer: &str) -> super::live::Response {
    server.request("POST", "/whip/r/u", &[SDP], offer.as_bytes()).await
}

#[tokio::test]
async fn s4_1_get_is_answered_with_2xx_and_no_content() {
    let server = Server::start(&[]).await;
    let location = post(&server, OFFER).await.header("location").unwrap().to_owned();
    for path in ["/whip/r/u", &location] {
        for method in ["GET", "HEAD"] {
            let shown = server.request(method, path, &[], b"").await;
            assert_eq!((shown.status, shown.body.len()), (204, 0), "{method} {path}: {shown:?}");
        }
    }
    server.get(ABSENT).await.problem(404);
    server.stop().await;
}

#[tokio::test]
async fn s4_1_errors_are_problem_documents() {
    let server = Server::start(&[]).await;
    for (method, path, allowed) in [("PUT", "/whip/r/u", "POST"), ("POST", ABSENT, "PATCH"), ("PUT", ABSENT, "DELETE")]
    {
        let refused = server.request(method, path, &[], b"").await;
        refused.problem(405);
        let allow = refused.header("allow").unwrap();
        assert!(allow.contains(allowed) && allow.contains("OPTIONS") && allow.contains("GET"), "{allow}");
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_2_an_offer_is_answered_with_201_and_the_sessions_url() {
    let server = Server::start(&[]).await;
    for offer in [OFFER.to_owned(), OFFER.replace("a=sendonly", "a=sendrecv")] {
        let created = post(&server, &offer).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.header("content-type"), Some("application/sdp"));
        assert_eq!(created.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
        assert!(created.header("location").unwrap().starts_with("/whip/r/u/"), "{created:?}");
        assert_eq!(created.header("link"), None, "no STUN or TURN server is configured, and no extension known");
        let answer = created.text();
        assert_eq!(values(answer, "a=recvonly").len(), 2, "{answer}");
        for other in ["a=sendrecv", "a=sendonly", "a=inactive"] {
            assert!(values(answer, other).is_empty(), "{answer}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_2_other_types_and_malformed_sdp_are_refused() {
    let server = Server::start(&[]).await;
    for (headers, body, status) in [
        (&[("Content-Type", "text/plain")][..], OFFER, 415),
        (&[], OFFER, 415),
        (&[SDP], "v=0\r\nhello", 400),
        (&[SDP], "", 400),
        (&[SDP, ("Accept", "text/html")], OFFER, 406),
    ] {
        let refused = server.request("POST", "/whip/r/u", headers, body.as_bytes()).await;
        refused.problem(status);
        assert_eq!(refused.header("location"), None);
    }
    let accepts = [SDP, ("Accept", "application/json, application/sdp;q=0.9")];
    assert_eq!(server.request("POST", "/whip/r/u", &accepts, OFFER.as_bytes()).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn s4_2_delete_ends_the_session_whatever_entity_tag_it_bears() {
    let server = Server::start(&[]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let deleted = server.request("DELETE", &encoder.location, &[("If-Match", "\"another\"")], b"").await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    server.request("DELETE", &encoder.location, &[], b"").await.problem(404);
    server.request("PATCH", &encoder.location, &[FRAGMENT, ANY], b"a=end-of-candidates\r\n").await.problem(404);
    server.get(&encoder.location).await.problem(404);
    // Consent is revoked at once: DTLS is closed.
    until("DTLS is closed", &mut [&mut encoder], |wires| wires[0].client.is_closed).await;
    assert_eq!(server.get("/api/broadcasts").await.text(), "[]");
    server.stop().await;
}

#[tokio::test]
async fn s4_2_a_client_that_tears_dtls_down_ends_its_session() {
    let server = Server::start(&[]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    encoder.client.close();
    until("it has closed", &mut [&mut encoder], |wires| wires[0].client.is_closed).await;
    let gone = async { while server.get(&encoder.location).await.status != 404 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the resource goes with its peer");
    server.stop().await;
}

#[tokio::test]
async fn s4_2_options_tells_what_may_be_posted_and_cors_lets_allowed_pages_in() {
    let server = Server::start(&["--allow-origin", "https://studio.example"]).await;
    let origin = ("Origin", "https://studio.example");
    let preflight = [origin, ("Access-Control-Request-Method", "POST")];
    for headers in [&[][..], &preflight] {
        let options = server.request("OPTIONS", "/whip/r/u", headers, b"").await;
        assert_eq!((options.status, options.body.len()), (200, 0), "{options:?}");
        assert_eq!(options.header("accept-post"), Some("application/sdp"), "{options:?}");
    }
    let created = server.request("POST", "/whip/r/u", &[SDP, origin], OFFER.as_bytes()).await;
    assert_eq!(created.header("access-control-allow-origin"), Some("https://studio.example"));
    let exposed = created.header("access-control-expose-headers").unwrap();
    for name in ["Location", "ETag", "Link"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    let foreign = [SDP, ("Origin", "https://elsewhere.example")];
    server.request("POST", "/whip/r/u", &foreign, OFFER.as_bytes()).await.problem(403);
    server.stop().await;
}

#[tokio::test]
async fn s4_3_1_a_patch_is_conditional_and_an_sdp_fragment() {
    let server = Server::start(&[]).await;
    let (before, created) = (post(&server, OFFER).await, post(&server, OFFER).await);
    let (location, tag) = (created.header("location").unwrap(), created.header("etag").unwrap());
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2, "a strong tag: {tag}");
    assert_ne!(before.header("etag"), Some(tag), "unique");
    let weak = format!("W/{tag}");
    let end = "a=end-of-candidates\r\n";
    for (headers, body, status) in [
        (&[SDP, ("If-Match", tag)][..], end, 415),
        (&[("If-Match", tag)], end, 415),
        (&[FRAGMENT], end, 428),
        (&[FRAGMENT, ("If-Match", "\"stale\"")], end, 412),
        (&[FRAGMENT, ("If-Match", &weak)], end, 412),
        (&[FRAGMENT, ("If-Match", tag)], "hello", 400),
        (&[FRAGMENT, ("If-Match", tag)], "a=ice-ufrag:half\r\n", 400),
        (&[FRAGMENT, ("If-Match", tag)], "", 400),
    ] {
        server.request("PATCH", location, headers, body.as_bytes()).await.problem(status);
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_3_2_trickled_candidates_are_answered_with_204_and_no_entity_tag() {
    let server = Server::start(&[]).await;
    let created = post(&server, OFFER).await;
    let (location, tag) = (created.header("location").unwrap(), created.header("etag").unwrap());
    let (ufrag, password) = (values(OFFER, "a=ice-ufrag:")[0], values(OFFER, "a=ice-pwd:")[0]);
    // One at which nobody can be reached, a name that it does not resolve, and one that it takes.
    let candidates = "a=candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
        a=candidate:2 1 udp 2122260223 2b3f1c0e.local 61764 typ host\r\n\
        a=candidate:3 1 udp 2122260223 127.0.0.1 61764 typ host generation 0 ufrag x network-id 1\r\n\
        a=end-of-candidates\r\n";
    for fragment in [fragment(ufrag, password, candidates), candidates.as_bytes().to_vec()] {
        let trickled = server.request("PATCH", location, &[FRAGMENT, ("If-Match", tag)], &fragment).await;
        assert_eq!((trickled.status, trickled.body.len()), (204, 0), "{trickled:?}");
        assert_eq!(trickled.header("etag"), None);
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_3_2_the_answer_holds_all_candidates_and_an_offer_need_hold_none() {
    let server = Server::start(&[]).await;
    let mut encoder = Wire::publish(&server, 1, "r/u").await;
    assert_eq!(encoder.candidates(), [("udp".to_owned(), server.udp), ("tcp".to_owned(), server.udp)]);
    until("it connects", &mut [&mut encoder], |wires| wires[0].client.connected_at.is_some()).await;
    let lines = OFFER.lines().filter(|line| !line.starts_with("a=candidate:"));
    let bare: String = lines.map(|line| format!("{line}\r\n")).collect();
    assert_eq!(post(&server, &bare).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn s4_3_3_an_ice_restart_is_answered_with_new_credentials_and_a_new_entity_tag() {
    let server = Server::start(&[]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    let tag = encoder.created.header("etag").unwrap().to_owned();
    encoder.move_away().await;
    let restarted = encoder.restart_ice(&server).await;
    assert_eq!(restarted.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    let renewed = restarted.header("etag").unwrap();
    assert_ne!(renewed, tag);
    let (before, after) = (encoder.created.text(), restarted.text());
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        assert!(values(after, name)[0] != values(before, name)[0], "{after}");
    }
    for name in ["a=ice-lite", "a=ice-options:", "a=candidate:"] {
        assert_eq!(values(after, name).first(), values(before, name).first(), "{name} of {after}");
    }
    // The broadcast goes on over the new ICE session, from another address.
    let seen = player.received_of(1)[1];
    until("media goes on", &mut [&mut encoder, &mut player], |wires| wires[1].received_of(1)[1] > seen + 60).await;

    let (ufrag, password) = ("anew", "0123456789012345678901");
    let headers = [FRAGMENT, ("If-Match", tag.as_str())];
    server.request("PATCH", &encoder.location, &headers, &fragment(ufrag, password, "")).await.problem(412);
    let headers = [FRAGMENT, ("If-Match", renewed)];
    let trickled = server.request("PATCH", &encoder.location, &headers, b"a=end-of-candidates\r\n").await;
    assert_eq!(trickled.status, 204, "{trickled:?}");
    server.stop().await;
}

#[tokio::test]
async fn s4_3_3_a_restart_that_cannot_be_made_leaves_the_ice_session() {
    let server = Server::start(&[]).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    for (body, status) in [(fragment("a b", "0123456789012345678901", ""), 400), (b"a=ice-pwd:alone\r\n".to_vec(), 400)]
    {
        server.request("PATCH", &encoder.location, &[FRAGMENT, ANY], &body).await.problem(status);
    }
    let seen = player.received_of(1)[1];
    until("media goes on", &mut [&mut encoder, &mut player], |wires| wires[1].received_of(1)[1] > seen + 60).await;
    let tag = encoder.created.header("etag").unwrap();
    let headers = [FRAGMENT, ("If-Match", tag)];
    assert_eq!(server.request("PATCH", &encoder.location, &headers, b"a=end-of-candidates\r\n").await.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn s4_4_1_everything_is_bundled_and_multiplexed() {
    let server = Server::start(&[]).await;
    let answer = post(&server, OFFER).await;
    assert_eq!(values(answer.text(), "a=group:BUNDLE "), ["0 1 2"]);
    let media = answer.text().split("\r\nm=").skip(1).filter(|section| !section.starts_with("application"));
    for section in media {
        let has = |line| section.lines().any(|other| other == line);
        assert!(has("a=rtcp-mux") && has("a=rtcp-mux-only"), "{section}");
    }
    let unbundled = OFFER.replace("a=group:BUNDLE 0 1 2\r\n", "");
    post(&server, &unbundled).await.problem(400);
    server.stop().await;
}

#[tokio::test]
async fn s4_4_2_more_than_one_track_of_a_kind_is_refused() {
    let server = Server::start(&[]).await;
    let place = |name| OFFER.find(name).unwrap();
    let (video, data) = (place("m=video"), place("m=application"));
    let second = OFFER[video..data].replace("a=mid:1", "a=mid:7");
    let offer = format!("{}{second}", &OFFER[..data]).replace("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 0 1 7");
    post(&server, &offer).await.problem(400);
    assert_eq!(post(&server, OFFER).await.status, 201);
    server.stop().await;
}

#[tokio::test]
async fn s4_4_3_no_offer_is_accepted_in_part() {
    // Sound would be taken, the picture would not.
    let server = Server::start(&["--codecs", "h265"]).await;
    let without_h265 = OFFER.replace("H265/90000", "H999/90000");
    let refused = post(&server, &without_h265).await;
    assert_eq!(refused.problem(422).as_deref(), Some("unsupported-codec"));
    server.stop().await;
}

#[tokio::test]
async fn s4_4_4_the_server_is_passive_for_actpass_and_active_alike() {
    let server = Server::start(&[]).await;
    for setup in ["a=setup:actpass", "a=setup:active"] {
        let answer = post(&server, &OFFER.replace("a=setup:actpass", setup)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let roles = values(answer.text(), "a=setup:");
        assert!(!roles.is_empty() && roles.iter().all(|role| *role == "passive"), "{roles:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_4_5_the_server_is_ice_lite_unless_told_otherwise() {
    for (args, is_lite) in [(&[][..], true), (&["--ice", "full"], false)] {
        let server = Server::start(args).await;
        let mut encoder = wire::live(&server, 1, "r/u").await;
        assert_eq!(encoder.created.text().contains("a=ice-lite\r\n"), is_lite);
        let restarted = encoder.restart_ice(&server).await;
        assert_eq!(restarted.text().contains("a=ice-lite\r\n"), is_lite);
        let sent = encoder.client.outgoing[1].encoder.sent.len();
        until("it goes on", &mut [&mut encoder], |wires| wires[0].client.outgoing[1].encoder.sent.len() > sent + 60)
            .await;
        assert_eq!(server.get(&encoder.location).await.status, 204);
        server.stop().await;
    }
}

#[tokio::test]
async fn s4_6_ice_servers_are_told_with_201_and_to_options_but_not_to_preflights() {
    let server = Server::start(&[&ICE_SERVERS[..], &["--allow-origin", "https://studio.example"]].concat()).await;
    let mut logins = vec![expect_ice_servers(&post(&server, OFFER).await)];
    for _ in 0..4 {
        logins.push(expect_ice_servers(&server.request("OPTIONS", "/whip/r/u", &[], b"").await));
    }
    logins.dedup();
    assert!(logins.len() > 1, "each answer has a login of its own: {logins:?}");
    let preflight = [("Origin", "https://studio.example"), ("Access-Control-Request-Method", "POST")];
    let answer = server.request("OPTIONS", "/whip/r/u", &preflight, b"").await;
    assert_eq!((answer.status, answer.header("link")), (200, None), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn s4_6_without_leave_to_publish_options_tell_no_ice_servers() {
    let scratch = Scratch::new();
    scratch.write("auth.toml", "[[token]]\ntoken = \"publisher-0123456789\"\ncan = [\"publish\"]\nrooms = [\"r\"]");
    let loopback = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--auth", "auth.toml"];
    let server = Server::start_with(scratch, &[&loopback[..], &ICE_SERVERS].concat(), &[]).await;
    let publisher = ("Authorization", "Bearer publisher-0123456789");
    for (path, headers, told) in [
        ("/whip/r/u", &[publisher][..], true),
        ("/whip/other/u", &[publisher], false),
        ("/whep/r/u", &[publisher], false),
        ("/whip/r/u", &[], false),
        ("/whip/r/u", &[("Authorization", "Bearer nobody-0123456789")], false),
        ("/whip/-/u", &[publisher], false),
    ] {
        let answer = server.request("OPTIONS", path, headers, b"").await;
        assert_eq!((answer.status, answer.header("accept-post")), (200, Some("application/sdp")), "{path}: {answer:?}");
        assert_eq!(answer.header("link").is_some(), told, "{path}: {answer:?}");
    }
    let refused = server.request("POST", "/whip/r/u", &[SDP], OFFER.as_bytes()).await;
    refused.problem(401);
    assert_eq!(refused.header("link"), None);
    server.stop().await;
}

#[tokio::test]
async fn s4_7_1_a_bearer_token_lets_a_client_in_and_preflights_need_none() {
    let scratch = Scratch::new();
    let token = "studio-0123456789";
    let file =
        scratch.write("auth.toml", format!("[[token]]\ntoken = \"{token}\"\ncan = [\"publish\"]\nrooms = [\"r\"]\n"));
    let auth = ["--auth", file.to_str().unwrap(), "--allow-origin", "https://studio.example"];
    let server = Server::start(&auth).await;
    for headers in [&[SDP][..], &[SDP, ("Authorization", "Bearer another-0123456789")]] {
        let refused = server.request("POST", "/whip/r/u", headers, OFFER.as_bytes()).await;
        refused.problem(401);
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"), "{refused:?}");
    }
    let preflight = [
        ("Origin", "https://studio.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    ];
    let allowed = server.request("OPTIONS", "/whip/r/u", &preflight, b"").await;
    assert_eq!(allowed.status, 200, "{allowed:?}");
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("Authorization"));
    let bearer = format!("Bearer {token}");
    let bearer = ("Authorization", bearer.as_str());
    let created = server.request("POST", "/whip/r/u", &[SDP, bearer], OFFER.as_bytes()).await;
    assert_eq!(created.status, 201, "{created:?}");
    let location = created.header("location").unwrap();
    assert_eq!(server.request("DELETE", location, &[bearer], b"").await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn s5_session_urls_are_unguessable_and_bound_to_their_broadcast() {
    let server = Server::start(&[]).await;
    let mut ids = std::collections::BTreeSet::new();
    for user in 0..20 {
        let path = format!("/whip/r/user{user}");
        let created = server.request("POST", &path, &[SDP], OFFER.as_bytes()).await;
        let location = created.header("location").unwrap().to_owned();
        let id = location.rsplit('/').next().unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "128 bits: {location}");
        for elsewhere in [format!("/whep/r/user{user}/{id}"), format!("/whip/r/other/{id}")] {
            server.request("DELETE", &elsewhere, &[], b"").await.problem(404);
        }
        ids.insert(id);
    }
    assert_eq!(ids.len(), 20);
    server.stop().await;
}
