//! Players that come with an offer of their own (WHEP): no renegotiation, whatever happens to the broadcast.

use std::collections::BTreeSet;

use onair::hub::io::{Command, Door};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::sdpfrag::{FragCredentials, SdpFrag};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::client::Received;
use crate::simulation::stream::{assert_joined, assert_true, assert_whole, stretch, stretches};
use crate::simulation::{ClientId, Program, Simulation, secs, with_seeds};

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

/// A client of WHIP or WHEP restarts ICE: it tells its new credentials, and is told those of the server.
fn restart_ice(sim: &mut Simulation, client: ClientId) -> ServerMessage {
    let offer = sim[client].offer_ice_restart();
    let credentials = SdpFrag::of_answer(&offer).expect("an offer says its credentials").credentials.unwrap();
    let session = sim[client].session;
    sim.ask(session, Command::RestartIce { credentials })
}

fn ufrag(reply: &ServerMessage) -> String {
    let ServerMessage::Answer { sdp } = reply else { panic!("an answer is the reply: {reply:?}") };
    SdpFrag::of_answer(sdp).unwrap().credentials.unwrap().ufrag
}

#[test]
fn an_ice_restart_of_a_player_and_of_an_encoder_loses_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.client(Door::Whip, &[Codec::Vp8]);
        sim.register(publisher, "r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let (player, played) = sim.play("r/u", &[Codec::Vp8]);
        sim.run_for(secs(1));
        let first = restart_ice(&mut sim, player);
        assert_ne!(ufrag(&first), ufrag(&played));
        sim.run_for(secs(1));
        let second = restart_ice(&mut sim, publisher);
        assert_ne!(ufrag(&second), ufrag(&first));
        sim.run_for(secs(1));
        assert_ne!(ufrag(&restart_ice(&mut sim, player)), ufrag(&first));
        // Consent of the old ICE session would be over by then.
        sim.run_for(secs(40));
        for kind in KINDS {
            let mid = sim[player].mids[kind as usize].unwrap();
            assert_whole(&stretch(&sim[player], mid), sim[publisher].encoder(kind));
        }
        assert_eq!(sim.hub.sizes()[5], 2, "old ufrags are forgotten");
    });
}

#[test]
fn a_player_that_restarts_ice_moves_to_another_address() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let (player, _) = sim.play("r/u", &[Codec::Vp8]);
        sim.run_for(secs(1));
        let ssrcs =
            |sim: &Simulation| -> BTreeSet<u32> { sim[player].received.iter().map(|packet| packet.ssrc).collect() };
        let before = ssrcs(&sim);
        sim.move_client(player, "192.0.2.77:4077".parse().unwrap());
        restart_ice(&mut sim, player);
        sim.run_for(secs(3));
        for kind in KINDS {
            let mid = sim[player].mids[kind as usize].unwrap();
            let stretch = stretch(&sim[player], mid);
            assert_true(&stretch, sim[publisher].encoder(kind));
            let last = stretch.last().unwrap().token.index as usize;
            assert!(last + 30 > sim[publisher].encoder(kind).sent.len(), "{kind:?} stops");
        }
        assert_eq!(ssrcs(&sim), before, "the line-up of SSRCs stays");
    });
}

#[test]
fn who_has_no_standing_offer_or_no_fit_credentials_restarts_nothing() {
    let mut sim = Simulation::new(1);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    let (player, _) = sim.play("r/u", &[Codec::Vp8]);
    sim.run_for(secs(1));
    let fit = || FragCredentials { ufrag: "abcd".into(), password: "0123456789012345678901".into() };
    let code = |reply: ServerMessage| match reply {
        ServerMessage::Error { code, .. } => code,
        other => panic!("refused, not {other:?}"),
    };
    let (of_browser, of_player) = (sim[publisher].session, sim[player].session);
    let stranger = sim.open_by(Door::Whip);
    for session in [of_browser, stranger] {
        assert_eq!(code(sim.ask(session, Command::RestartIce { credentials: fit() })), ErrorCode::BadState);
    }
    let credentials = FragCredentials { ufrag: "a b\tc".into(), ..fit() };
    assert_eq!(code(sim.ask(of_player, Command::RestartIce { credentials })), ErrorCode::BadSdp);
    sim.run_for(secs(1));
    let mid = sim[player].mids[1].unwrap();
    assert_whole(&stretch(&sim[player], mid), sim[publisher].encoder(TrackKind::Video));
    // One in flight is enough: each leaves a ufrag behind.
    assert!(matches!(restart_ice(&mut sim, player), ServerMessage::Answer { .. }));
    assert_eq!(code(sim.ask(of_player, Command::RestartIce { credentials: fit() })), ErrorCode::TooMany);
}

#[test]
fn what_an_encoder_offers_is_taken_whole_or_not_at_all() {
    let mut sim = Simulation::new(1);
    // Two tracks of video.
    let session = sim.open_by(Door::Whip);
    let two = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
    let audio = two.find("m=audio").unwrap();
    let video = two.find("m=video").unwrap();
    let data = two.find("m=application").unwrap();
    let second = two[video..data].replace("a=mid:1", "a=mid:7");
    let group = two.lines().find(|line| line.starts_with("a=group:BUNDLE")).unwrap();
    let head = two[..audio].replace(group, "a=group:BUNDLE 0 1 7");
    let offer = format!("{head}{}{second}", &two[audio..data]);
    let register = |offer: String| Command::Register { broadcast: "r/u".parse().unwrap(), offer };
    let reply = sim.ask(session, register(offer));
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, .. }), "{reply:?}");
    // Sound that is taken, and a picture that is not.
    let offer = two.replace("H264/90000", "H999/90000").replace("VP8/90000", "VP0/90000");
    let offer = offer.replace("VP9/90000", "VP0/90000").replace("AV1/90000", "AV0/90000");
    let offer = offer.replace("H265/90000", "H999/90000");
    let reply = sim.ask(session, register(offer));
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::UnsupportedCodec, .. }), "{reply:?}");
    assert_eq!(sim.hub.sizes()[0], 0, "nobody came in");
}
