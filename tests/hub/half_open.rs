//! Sessions that stop half-way: each ends by its deadline, says why, and leaves nothing behind.

use std::time::Duration;

use onair::hub::io::{Command, Door, Order};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};
use str0m::media::Direction;

use crate::simulation::network::{Conditions, Datagram};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

const DEADLINE: Duration = secs(10);

/// Runs until a client's session is told that its peer is gone, and returns how long that took.
fn until_ended(sim: &mut Simulation, client: ClientId, since: std::time::Instant) -> Duration {
    let session = sim[client].session;
    sim.run_until(secs(25), "the session ends", |sim| sim.log(session).ended == 1);
    sim.now - since
}

fn assert_nothing_left(sim: &mut Simulation, sessions: usize) {
    sim.run_for(secs(1));
    assert_eq!(sim.hub.sizes(), [0, sessions, 0, 0, 0, 0], "peers, sessions, rooms, recordings, addresses, ufrags");
}

fn last_error(sim: &Simulation, client: ClientId) -> (ErrorCode, String) {
    let found = sim.heard_by(client).rev().find_map(|message| match message {
        ServerMessage::Error { code, message, fatal: false, .. } => Some((*code, message.clone())),
        _ => None,
    });
    found.expect("an error was told")
}

fn dtls_is_lost(datagram: &Datagram) -> bool {
    !datagram.is_dtls()
}

#[test]
fn a_broadcaster_that_cannot_be_reached_is_told_what_was_tried() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.client(Door::WebSocket, &[Codec::Vp8]);
        sim[publisher].is_gone = true;
        // A waiting viewer hears nothing of it.
        let viewer = sim.subscribe("r/u");
        let since = sim.now;
        sim.register(publisher, "r/u", Program::of(Codec::Vp8));
        let took = until_ended(&mut sim, publisher, since);
        assert_eq!(took, DEADLINE);
        let (code, message) = last_error(&sim, publisher);
        assert_eq!(code, ErrorCode::Internal);
        let own = sim[publisher].address.to_string();
        assert!(message.contains("203.0.113.1:8189") && message.contains(&own), "{message}");
        assert_eq!(sim.story(viewer), ["subscribed []", "offer []"]);
        sim.vanish(viewer);
        assert_nothing_left(&mut sim, 1);
    });
}

#[test]
fn without_dtls_nobody_stays() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.network.filter = Some(Box::new(dtls_is_lost));
        let since = sim.now;
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        assert_eq!(until_ended(&mut sim, publisher, since), DEADLINE);
        assert_eq!(last_error(&sim, publisher).0, ErrorCode::Internal);
        let since = sim.now;
        let viewer = sim.subscribe("r");
        assert_eq!(until_ended(&mut sim, viewer, since), DEADLINE);
        assert_eq!(last_error(&sim, viewer).0, ErrorCode::Internal);
        assert_nothing_left(&mut sim, 2);
        assert_eq!(sim.hub.snapshot(sim.now).metrics.timeouts, 2);
    });
}

#[test]
fn a_broadcaster_without_media_ends_ten_seconds_after_it_registered() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.client(Door::WebSocket, &[Codec::Vp8]);
        sim[publisher].is_mute = true;
        let since = sim.now;
        sim.register(publisher, "r/u", Program::of(Codec::Vp8));
        assert_eq!(until_ended(&mut sim, publisher, since), DEADLINE);
        assert!(sim[publisher].connected_at.is_some());
        assert!(last_error(&sim, publisher).1.contains("no media"));
        sim.run_for(ms(100));
        assert!(sim[publisher].is_closed);
        assert_eq!(sim.story(viewer), ["subscribed []", "offer []"], "it was never live");
    });
}

#[test]
fn a_viewer_that_does_not_answer_ends() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.client(Door::WebSocket, &[Codec::Vp8]);
        sim[viewer].withholds_answers = true;
        let since = sim.now;
        sim.subscribe_with(viewer, "r/u");
        assert_eq!(until_ended(&mut sim, viewer, since), DEADLINE);
        assert_eq!(last_error(&sim, viewer).0, ErrorCode::BadState);
        assert_nothing_left(&mut sim, 1);
        // The same WebSocket may begin again.
        sim[viewer].withholds_answers = false;
        let session = sim[viewer].session;
        let again = sim.client_of(session, "10.9.9.9:1".parse().unwrap(), &[Codec::Vp8]);
        sim.subscribe_with(again, "r/u");
        sim.run_for(secs(20));
        assert!(sim[again].connected_at.is_some() && !sim[again].is_closed);
    });
}

#[test]
fn a_viewer_that_leaves_a_renegotiation_unanswered_ends() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(30));
        sim[viewer].withholds_answers = true;
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_until(secs(2), "an offer", |sim| !sim[viewer].offered.is_empty());
        let since = sim.now;
        assert_eq!(until_ended(&mut sim, viewer, since), DEADLINE);
        assert_eq!(sim.errors(publisher), []);
        assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].viewers, 0);
    });
}

#[test]
fn a_viewer_that_answers_and_never_sends_a_datagram_ends() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.client(Door::WebSocket, &[Codec::Vp8]);
        let address = sim[viewer].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.from != address));
        sim.subscribe_with(viewer, "r/u");
        let since = sim.now;
        assert_eq!(until_ended(&mut sim, viewer, since), DEADLINE);
        assert_nothing_left(&mut sim, 1);
    });
}

#[test]
fn a_player_that_never_connects_ends() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let player = sim.client(Door::Whep, &[Codec::Vp8]);
        sim[player].is_gone = true;
        let offer = sim[player].offer([true, true], Direction::RecvOnly, &[]);
        let session = sim[player].session;
        let since = sim.now;
        let reply = sim.ask(session, Command::Play { broadcast: "r/u".parse().unwrap(), offer });
        assert!(matches!(reply, ServerMessage::Answer { .. }));
        assert_eq!(until_ended(&mut sim, player, since), DEADLINE);
        sim.vanish(publisher);
        assert_nothing_left(&mut sim, 1);
    });
}

#[test]
fn silence_of_ten_seconds_ends_a_broadcaster_and_its_viewers_hear_of_it() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(5));
        sim[publisher].is_gone = true;
        let since = sim.now;
        let took = until_ended(&mut sim, publisher, since);
        assert!(took.abs_diff(DEADLINE) < ms(50), "{took:?}");
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u timeout", "offer []"]);
        assert!(last_error(&sim, publisher).1.contains("nothing came"));
        sim.run_for(secs(30));
        assert!(!sim[viewer].is_closed, "a viewer stays though nothing is live");
    });
}

#[test]
fn silence_of_ten_seconds_ends_a_viewer() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(5));
        sim[viewer].is_gone = true;
        let since = sim.now;
        let took = until_ended(&mut sim, viewer, since);
        assert!(took <= DEADLINE && took > secs(6), "{took:?}");
        assert_eq!(last_error(&sim, viewer).0, ErrorCode::Internal);
        sim.run_for(secs(2));
        assert_eq!(sim.story(publisher), ["registered", "viewers 1", "viewers 0"]);
    });
}

#[test]
fn a_broadcaster_that_sends_no_media_but_answers_to_stun_stays() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        sim[publisher].is_mute = true;
        sim.run_for(secs(60));
        assert_eq!(sim.log(sim[publisher].session).ended, 0);
        sim[publisher].is_mute = false;
        let now = sim.now;
        for kind in [TrackKind::Audio, TrackKind::Video] {
            sim[publisher].track_mut(kind).encoder.next_at = now;
        }
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        let before = sim.received(viewer, mid);
        sim.run_for(secs(2));
        assert!(sim.received(viewer, mid) > before + 50);
    });
}

#[test]
fn a_peer_that_closes_its_dtls_has_left() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        sim[publisher].close();
        let now = sim.now;
        sim[publisher].poke(now);
        sim.run_for(ms(200));
        assert_eq!(sim.log(sim[publisher].session).ended, 1);
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u left", "offer []"]);
        sim[viewer].close();
        let now = sim.now;
        sim[viewer].poke(now);
        sim.run_for(ms(200));
        assert_eq!(sim.log(sim[viewer].session).ended, 1);
        assert_nothing_left(&mut sim, 2);
    });
}

#[test]
fn sessions_closed_at_any_moment_of_their_beginning_leave_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.network.conditions = Conditions { jitter: ms(20), ..Conditions::lossy(0.1) };
        let stays = sim.publish("r/stays", Program::of(Codec::Vp8));
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(match sim.random.u8(..4) {
                0 => sim.publish("r/u", Program::of(Codec::H264)),
                1 => sim.subscribe("r"),
                2 => sim.subscribe("r/stays"),
                _ => sim.play("r/stays", &[Codec::Vp8]).0,
            });
            let pause = ms(sim.random.u64(..150));
            sim.run_for(pause);
            if sim.random.u8(..3) > 0 {
                let victim = clients.swap_remove(sim.random.usize(..clients.len()));
                sim.vanish(victim);
            }
        }
        for client in clients {
            sim.vanish(client);
        }
        sim.vanish(stays);
        assert_nothing_left(&mut sim, 0);
    });
}

#[test]
fn a_session_that_is_closed_before_it_did_anything_leaves_nothing() {
    let mut sim = Simulation::new(1);
    let session = sim.open();
    sim.order(session, Order::Close);
    sim.order(session, Order::Close);
    assert_eq!(sim.hub.sizes(), [0; 6]);
    assert_eq!(sim.log(session).ended, 0);
}
