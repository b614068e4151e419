//! Players that come with an offer of their own (WHEP): no renegotiation, whatever happens to the broadcast.

use onair::hub::io::Command;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::client::Received;
use crate::simulation::stream::{assert_joined, assert_true, assert_whole, stretch, stretches};
use crate::simulation::{Program, Simulation, secs, with_seeds};

const KINDS: [TrackKind; 2] = [TrackKind::Audio, TrackKind::Video];

#[test]
fn a_player_by_its_own_offer_begins_with_a_keyframe() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        let (player, reply) = sim.play("r/u", &[Codec::Vp8]);
        assert!(matches!(reply, ServerMessage::Answer { .. }), "{reply:?}");
        sim.run_for(secs(2));
        for kind in KINDS {
            let mid = sim[player].mids[kind as usize].unwrap();
            assert_whole(&stretch(&sim[player], mid), sim[publisher].encoder(kind));
        }
        assert_eq!(sim.story(publisher), ["registered", "viewers 1"]);
        let session = sim[player].session;
        assert_eq!(sim.ask(session, Command::Unsubscribe), ServerMessage::Unsubscribed);
        assert_eq!(sim.log(session).ended, 1);
        sim.run_for(secs(2));
        assert!(sim[player].is_closed);
        assert_eq!(sim.story(publisher)[2..], ["viewers 0"]);
    });
}

#[test]
fn what_is_not_live_cannot_be_played() {
    let mut sim = Simulation::new(1);
    let (_, reply) = sim.play("r/u", &[Codec::Vp8]);
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::NotLive, fatal: false, .. }), "{reply:?}");
    // Registered, but nothing has come yet.
    let publisher = sim.client_of_new_session(&[Codec::Vp8]);
    sim[publisher].is_mute = true;
    sim.register(publisher, "r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    let (_, reply) = sim.play("r/u", &[Codec::Vp8]);
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::NotLive, .. }), "{reply:?}");
    assert_eq!(sim.hub.sizes()[0], 1, "the broadcaster alone");
}

#[test]
fn a_player_stays_while_its_broadcaster_leaves_and_returns() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let first = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let (player, _) = sim.play("r/u", &[Codec::Vp8]);
        sim.run_for(secs(1));
        sim.vanish(first);
        sim.run_for(secs(20));
        let second = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        assert_eq!(sim.story(player), ["answer"], "it hears of nothing");
        for kind in KINDS {
            let mid = sim[player].mids[kind as usize].unwrap();
            let stretches = stretches(&sim[player], mid);
            let [before, after]: &[Vec<&Received>; 2] = stretches.as_slice().try_into().expect("two stints");
            assert_true(before, sim[first].encoder(kind));
            assert_whole(after, sim[second].encoder(kind));
            assert_joined(before, after, sim[first].encoder(kind).codec);
        }
        assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].viewers, 1);
    });
}

#[test]
fn a_player_of_one_codec_hears_the_sound_of_another() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::H264));
        sim.run_for(secs(1));
        let (player, _) = sim.play("r/u", &[Codec::Vp8]);
        sim.run_for(secs(2));
        let audio = sim[player].mids[0].unwrap();
        assert_whole(&stretch(&sim[player], audio), sim[publisher].encoder(TrackKind::Audio));
        assert!(sim[player].received.iter().all(|packet| packet.mid == audio));
    });
}
