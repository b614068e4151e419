//! Broadcasters that leave, return and are taken over: what their viewers hear and see.

use onair::hub::io::{Command, Order};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::client::Received;
use crate::simulation::network::Conditions;
use crate::simulation::stream::{assert_joined, assert_true, assert_whole, stretches};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

const KINDS: [TrackKind; 2] = [TrackKind::Audio, TrackKind::Video];

fn mids(sim: &Simulation, viewer: ClientId) -> [String; 2] {
    KINDS.map(|kind| sim.mid(viewer, "r/u", kind).expect("it is offered").to_string())
}

/// Both stints came over the same m-line, each true to its encoder, the second where the first stopped.
fn assert_two_stints(sim: &Simulation, viewer: ClientId, publishers: [ClientId; 2]) {
    for kind in KINDS {
        let mid = sim.mid(viewer, "r/u", kind).unwrap();
        let stretches = stretches(&sim[viewer], mid);
        let [first, second]: &[Vec<&Received>; 2] = stretches.as_slice().try_into().expect("two stints");
        let encoders = publishers.map(|publisher| sim[publisher].encoder(kind));
        assert_true(first, encoders[0]);
        assert_whole(second, encoders[1]);
        assert_joined(first, second, encoders[0].codec);
    }
}

#[test]
fn a_broadcaster_that_leaves_and_returns_gets_its_m_lines_back() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let codec = if seed % 3 == 0 { Codec::H264 } else { Codec::Vp8 };
        let first = sim.publish("r/u", Program::of(codec));
        sim.run_for(secs(2));
        let before = mids(&sim, viewer);
        let session = sim[first].session;
        assert_eq!(sim.ask(session, Command::Unregister), ServerMessage::Unregistered);
        sim.run_for(secs(3));
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u left", "offer []"]);
        assert!(sim[first].is_closed, "the broadcaster's peer connection is closed by DTLS");
        let second = sim.publish("r/u", Program::of(codec));
        sim.run_for(secs(2));
        assert_eq!(sim.story(viewer)[6..], ["connected r/u", "offer [r/u:audio r/u:video]"]);
        assert_eq!(mids(&sim, viewer), before);
        assert_two_stints(&sim, viewer, [first, second]);
    });
}

#[test]
fn a_session_that_unregistered_may_register_again() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let first = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let session = sim[first].session;
        assert_eq!(sim.ask(session, Command::Unregister), ServerMessage::Unregistered);
        // At once, with the old peer connection still saying its last words.
        let address = "10.9.9.9:1".parse().unwrap();
        let second = sim.client_of(session, address, &[Codec::Vp8]);
        assert!(matches!(sim.register(second, "r/u", Program::of(Codec::Vp8)), ServerMessage::Registered { .. }));
        sim.run_for(secs(2));
        assert_two_stints(&sim, viewer, [first, second]);
        assert_eq!(sim.log(session).ended, 1, "the session's first peer alone is gone");
    });
}

#[test]
fn a_broadcaster_whose_websocket_closes_has_left() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let first = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        sim.vanish(first);
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u left", "offer []"]);
        sim.run_for(secs(30));
        let second = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        assert_two_stints(&sim, viewer, [first, second]);
    });
}

#[test]
fn a_takeover_happens_once_the_newcomers_offer_is_accepted() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let older = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        let before = mids(&sim, viewer);
        let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
        let session = sim[newcomer].session;
        for offer in ["", "v=0\r\n", "no SDP at all"] {
            let broadcast = "r/u".parse().unwrap();
            let reply = sim.ask(session, Command::Register { broadcast, offer: offer.to_owned() });
            assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, fatal: false, .. }), "{reply:?}");
        }
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer).len(), 4, "bad offers change nothing");
        assert_eq!(sim.errors(older), []);

        assert!(matches!(sim.register(newcomer, "r/u", Program::of(Codec::Vp8)), ServerMessage::Registered { .. }));
        assert_eq!(sim.story(older).last().unwrap(), "error nametaken fatal");
        assert_eq!(sim.log(sim[older].session).ended, 1);
        sim.run_for(secs(2));
        assert!(sim[older].is_closed);
        assert_eq!(
            sim.story(viewer)[4..],
            ["disconnected r/u replaced", "offer []", "connected r/u", "offer [r/u:audio r/u:video]"]
        );
        assert_eq!(mids(&sim, viewer), before);
        assert_two_stints(&sim, viewer, [older, newcomer]);
    });
}

#[test]
fn a_takeover_by_a_newcomer_that_never_connects_ends_the_broadcast() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let older = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
        sim[newcomer].is_gone = true;
        sim.register(newcomer, "r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(11));
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u replaced", "offer []"]);
        assert_eq!(sim.story(newcomer), ["registered", "error internal"]);
        assert_eq!(sim.log(sim[newcomer].session).ended, 1);
        assert!(sim[older].is_closed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer)[6..], ["connected r/u", "offer [r/u:audio r/u:video]"]);
    });
}

#[test]
fn a_broadcast_handed_on_ten_times_over_a_bad_network_is_one_stream() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let mut publishers = vec![sim.publish("r/u", Program::of(Codec::Vp8))];
        // The viewer's str0m refuses what is overtaken by the very first packet.
        sim.run_for(secs(1));
        sim.network.conditions = Conditions { jitter: ms(5), reorder: 0.03, duplicate: 0.03, ..Conditions::GOOD };
        for _ in 0..9 {
            publishers.push(sim.publish("r/u", Program::of(Codec::Vp8)));
            let stint = ms(sim.random.u64(400..1500));
            sim.run_for(stint);
        }
        sim.run_for(secs(1));
        for kind in KINDS {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            let stretches = stretches(&sim[viewer], mid);
            assert_eq!(stretches.len(), publishers.len());
            for (stretch, publisher) in stretches.iter().zip(&publishers) {
                assert_true(stretch, sim[*publisher].encoder(kind));
            }
            for pair in stretches.windows(2) {
                assert_eq!(pair[1][0].sequence, pair[0].last().unwrap().sequence + 1);
                let ticks = pair[1][0].timestamp.wrapping_sub(pair[0].last().unwrap().timestamp);
                assert!(ticks > 0 && ticks < 1 << 31, "timestamps never jump back");
            }
        }
    });
}

#[test]
fn shutdown_tells_everyone_and_leaves_nobody() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let session = sim[viewer].session;
        sim.order(session, Order::Shutdown);
        assert_eq!(sim.story(viewer)[4], "disconnected r/u shutdown");
        sim.run_for(ms(600));
        assert!(sim.hub.is_quiet());
        assert!(sim[viewer].is_closed && sim[publisher].is_closed);
        let late = sim.open();
        let reply = sim.ask(late, Command::Subscribe { room: "r".parse().unwrap(), user: None });
        assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadState, .. }));
    });
}
