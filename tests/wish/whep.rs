//! draft-ietf-wish-whep-03, section by section, where it asks something else than RFC 9725 or might fare differently.

use std::collections::BTreeSet;

use super::live::{PATIENCE, Server};
use super::wire::{self, Wire, until};
use super::{ANY, FRAGMENT, ICE_SERVERS, SDP, expect_ice_servers, fragment, values};

const OFFER: &str = include_str!("../data/sdp/play/chromium.sdp");
const ABSENT: &str = "/whep/r/u/0123456789abcdef0123456789abcdef";

/// The SSRCs of each m-line.
fn line_up(player: &Wire) -> BTreeSet<(String, u32)> {
    player.client.received.iter().map(|packet| (packet.mid.to_string(), packet.ssrc)).collect()
}

#[tokio::test]
async fn s4_1_get_is_answered_with_2xx_and_no_content() {
    let server = Server::start(&[]).await;
    let _publisher = wire::live(&server, 1, "r/u").await;
    let player = Wire::play(&server, 2, "r/u").await;
    for path in ["/whep/r/u", &player.location] {
        let shown = server.get(path).await;
        assert_eq!((shown.status, shown.body.len()), (204, 0), "{path}: {shown:?}");
    }
    server.get(ABSENT).await.problem(404);
    let refused = server.request("PUT", "/whep/r/u", &[], b"").await;
    refused.problem(405);
    assert!(refused.header("allow").unwrap().contains("POST"));
    server.stop().await;
}

#[tokio::test]
async fn s4_2_an_offer_is_answered_with_201_and_media() {
    let server = Server::start(&[]).await;
    let mut publisher = wire::live(&server, 1, "r/u").await;
    for offer in [OFFER.to_owned(), OFFER.replace("a=recvonly", "a=sendrecv")] {
        let created = server.request("POST", "/whep/r/u", &[SDP], offer.as_bytes()).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.header("content-type"), Some("application/sdp"));
        assert!(created.header("location").unwrap().starts_with("/whep/r/u/"), "{created:?}");
        assert!(created.header("etag").is_some());
        assert_eq!(values(created.text(), "a=sendonly").len(), 2, "{created:?}");
        assert!(values(created.text(), "a=sendrecv").is_empty());
    }
    let mut player = Wire::play(&server, 2, "r/u").await;
    until("media comes", &mut [&mut publisher, &mut player], |wires| wires[1].received_of(1).iter().all(|n| *n > 30))
        .await;
    for (headers, body, status) in [
        (&[("Content-Type", "application/json")][..], "{}", 415),
        (&[SDP], "hello", 400),
        (&[SDP, ("Accept", "image/png")], OFFER, 406),
    ] {
        server.request("POST", "/whep/r/u", headers, body.as_bytes()).await.problem(status);
    }
    server.stop().await;
}

#[tokio::test]
async fn s4_2_what_is_not_live_is_a_conflict_to_be_tried_again() {
    let server = Server::start(&[]).await;
    let refused = server.request("POST", "/whep/r/u", &[SDP], OFFER.as_bytes()).await;
    assert_eq!(refused.problem(409).as_deref(), Some("not-live"));
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    server.stop().await;
}

#[tokio::test]
async fn s4_2_a_session_goes_on_while_its_broadcaster_leaves_and_returns() {
    let server = Server::start(&[]).await;
    let mut first = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    until("media comes", &mut [&mut first, &mut player], |wires| wires[1].received_of(1).iter().all(|n| *n > 30)).await;
    let before = line_up(&player);
    assert_eq!(before.len(), 2);
    assert_eq!(server.request("DELETE", &first.location, &[], b"").await.status, 200);
    until("it has left", &mut [&mut first, &mut player], |wires| wires[0].client.is_closed).await;

    let mut second = Wire::publish(&server, 3, "r/u").await;
    until("media comes again", &mut [&mut second, &mut player], |wires| {
        wires[1].received_of(3).iter().all(|n| *n > 30)
    })
    .await;
    assert_eq!(line_up(&player), before, "the SSRCs stay, for there is no renegotiation");
    assert_eq!((first.number(), second.number()), (1, 3));
    assert_eq!(server.get(&player.location).await.status, 204);
    server.stop().await;
}

#[tokio::test]
async fn s4_3_delete_ends_the_session() {
    let server = Server::start(&[]).await;
    let mut publisher = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    until("media comes", &mut [&mut publisher, &mut player], |wires| wires[1].received_of(1)[1] > 10).await;
    let deleted = server.request("DELETE", &player.location, &[("If-Match", "\"another\"")], b"").await;
    assert_eq!(deleted.status, 200, "{deleted:?}");
    server.request("DELETE", &player.location, &[], b"").await.problem(404);
    until("DTLS is closed", &mut [&mut publisher, &mut player], |wires| wires[1].client.is_closed).await;
    let options = server.request("OPTIONS", "/whep/r/u", &[], b"").await;
    assert_eq!((options.status, options.header("accept-post")), (200, Some("application/sdp")));
    server.stop().await;
}

#[tokio::test]
async fn s4_3_a_player_that_tears_dtls_down_ends_its_session() {
    let server = Server::start(&[]).await;
    let mut publisher = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    until("media comes", &mut [&mut publisher, &mut player], |wires| wires[1].received_of(1)[1] > 10).await;
    player.client.close();
    until("it has closed", &mut [&mut publisher, &mut player], |wires| wires[1].client.is_closed).await;
    let gone = async { while server.get(&player.location).await.status != 404 {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the resource goes with its peer");
    server.stop().await;
}

#[tokio::test]
async fn s4_4_1_a_patch_is_conditional() {
    let server = Server::start(&[]).await;
    let _publisher = wire::live(&server, 1, "r/u").await;
    let player = Wire::play(&server, 2, "r/u").await;
    let tag = player.created.header("etag").unwrap();
    let end = b"a=end-of-candidates\r\n";
    for (headers, status) in
        [(&[FRAGMENT][..], 428), (&[FRAGMENT, ("If-Match", "\"stale\"")], 412), (&[SDP, ("If-Match", tag)], 415)]
    {
        server.request("PATCH", &player.location, headers, end).await.problem(status);
    }
    server.request("PATCH", &player.location, &[FRAGMENT, ANY], &fragment("", "", "")).await.problem(400);
    server.stop().await;
}

#[tokio::test]
async fn s4_4_2_trickled_candidates_are_answered_with_204_and_no_entity_tag() {
    let server = Server::start(&[]).await;
    let _publisher = wire::live(&server, 1, "r/u").await;
    let player = Wire::play(&server, 2, "r/u").await;
    let tag = player.created.header("etag").unwrap();
    let candidates = b"a=candidate:1 1 udp 1 2b3f1c0e.local 9 typ host\r\na=end-of-candidates\r\n";
    let trickled = server.request("PATCH", &player.location, &[FRAGMENT, ("If-Match", tag)], candidates).await;
    assert_eq!((trickled.status, trickled.body.len(), trickled.header("etag")), (204, 0, None), "{trickled:?}");
    server.stop().await;
}

#[tokio::test]
async fn s4_4_3_an_ice_restart_moves_a_player_and_keeps_what_was_negotiated() {
    let server = Server::start(&[]).await;
    let mut publisher = wire::live(&server, 1, "r/u").await;
    let mut player = Wire::play(&server, 2, "r/u").await;
    until("media comes", &mut [&mut publisher, &mut player], |wires| wires[1].received_of(1).iter().all(|n| *n > 30))
        .await;
    let before = line_up(&player);
    player.move_away().await;
    let restarted = player.restart_ice(&server).await;
    assert_eq!(restarted.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert_ne!(restarted.header("etag"), player.created.header("etag"));
    let seen = player.received_of(1)[1];
    until("media goes on", &mut [&mut publisher, &mut player], |wires| wires[1].received_of(1)[1] > seen + 60).await;
    assert_eq!(line_up(&player), before);
    server.stop().await;
}

#[tokio::test]
async fn s4_5_what_is_played_is_one_bundled_stream() {
    let server = Server::start(&[]).await;
    let _publisher = wire::live(&server, 1, "r/u").await;
    let created = server.request("POST", "/whep/r/u", &[SDP], OFFER.as_bytes()).await;
    let msids = values(created.text(), "a=msid:");
    let streams: BTreeSet<_> = msids.iter().map(|msid| msid.split(' ').next()).collect();
    assert_eq!((msids.len(), streams.len()), (2, 1), "{created:?}");
    let bundled: Vec<_> = values(created.text(), "a=group:BUNDLE ")[0].split(' ').collect();
    assert_eq!(bundled, values(created.text(), "a=mid:"));
    assert_eq!(values(created.text(), "a=rtcp-mux-only").len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn s4_7_ice_servers_are_told_with_201_and_to_options() {
    let server = Server::start(&ICE_SERVERS).await;
    let _publisher = wire::live(&server, 1, "r/u").await;
    let player = Wire::play(&server, 2, "r/u").await;
    expect_ice_servers(&player.created);
    expect_ice_servers(&server.request("OPTIONS", "/whep/r/u", &[], b"").await);
    let resource = server.request("OPTIONS", &player.location, &[], b"").await;
    assert_eq!((resource.status, resource.header("link")), (200, None), "{resource:?}");
    server.stop().await;
}
