//! Renegotiations that a client begins: ICE restarts of viewers and broadcasters, tracks that come and go, and networks
//! that change under a connection.

use onair::hub::io::Command;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::ServerMessage;
use str0m::media::Direction;

use crate::simulation::stream::{assert_true, assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn live(seed: u64) -> (Simulation, ClientId, ClientId) {
    let mut sim = Simulation::new(seed);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(2));
    (sim, publisher, viewer)
}

fn assert_plays(sim: &mut Simulation, publisher: ClientId, viewer: ClientId) {
    sim.run_for(secs(1));
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let mid = sim.mid(viewer, "r/u", kind).unwrap();
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
    }
}

/// The last packet goes on to the end of what was sent, though some were lost on the way.
fn assert_resumed(sim: &mut Simulation, publisher: ClientId, viewer: ClientId) {
    sim.run_for(secs(1));
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let mid = sim.mid(viewer, "r/u", kind).unwrap();
        let stretch = stretch(&sim[viewer], mid);
        let encoder = sim[publisher].encoder(kind);
        assert_true(&stretch, encoder);
        let last = stretch.last().unwrap().token.index as usize;
        assert!(last + 30 > encoder.sent.len(), "{kind:?} stops at {last} of {}", encoder.sent.len());
    }
}

fn restart(sim: &mut Simulation, viewer: ClientId) -> String {
    let session = sim[viewer].session;
    let ServerMessage::Offer { sdp, .. } = sim.ask(session, Command::Restart) else {
        panic!("an offer is the reply");
    };
    ufrag(&sdp)
}

fn ufrag(sdp: &str) -> String {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).expect("an ufrag").to_owned()
}

fn ice_restart_of_broadcaster(sim: &mut Simulation, publisher: ClientId) {
    let offer = sim[publisher].offer_ice_restart();
    let session = sim[publisher].session;
    let reply = sim.ask(session, Command::Offer { offer });
    assert!(matches!(reply, ServerMessage::Answer { .. }), "{reply:?}");
}

#[test]
fn a_viewers_ice_restart_loses_nothing_and_old_ufrags_are_routed_for_a_while() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let ufrags = sim.hub.sizes()[5];
        let first = restart(&mut sim, viewer);
        sim.run_for(secs(1));
        assert_eq!(sim.hub.sizes()[5], ufrags + 1, "checks with the old ufrag may be on their way");
        let second = restart(&mut sim, viewer);
        assert_ne!(first, second);
        sim.run_for(secs(7));
        assert_eq!(sim.hub.sizes()[5], ufrags);
        assert_plays(&mut sim, publisher, viewer);
    });
}

#[test]
fn old_ufrags_are_forgotten_though_everyone_has_left() {
    let (mut sim, publisher, viewer) = live(1);
    restart(&mut sim, viewer);
    ice_restart_of_broadcaster(&mut sim, publisher);
    sim.run_for(ms(500));
    sim.vanish(viewer);
    sim.vanish(publisher);
    sim.run_for(secs(7));
    assert_eq!(sim.hub.sizes(), [0; 6]);
}

#[test]
fn a_restart_while_an_answer_is_due_is_the_next_offer() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        sim[viewer].withholds_answers = true;
        let before = restart(&mut sim, viewer);
        let session = sim[viewer].session;
        sim.tell(session, Command::Restart);
        sim.run_for(ms(300));
        assert_eq!(sim[viewer].offered.len(), 1, "one exchange in flight");
        sim.answer(viewer);
        assert_eq!(sim[viewer].offered.len(), 1);
        assert_ne!(ufrag(&sim[viewer].offered[0].sdp), before);
        sim[viewer].withholds_answers = false;
        sim.answer(viewer);
        assert_plays(&mut sim, publisher, viewer);
    });
}

#[test]
fn a_broadcasters_ice_restart_loses_nothing() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let heard = sim.story(viewer).len();
        for _ in 0..3 {
            ice_restart_of_broadcaster(&mut sim, publisher);
            let pause = ms(sim.random.u64(1..2000));
            sim.run_for(pause);
        }
        assert_plays(&mut sim, publisher, viewer);
        assert_eq!(sim.story(viewer).len(), heard, "viewers hear nothing of it");
    });
}

#[test]
fn a_viewer_that_moves_to_another_network_goes_on_after_a_restart() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        sim.move_client(viewer, "10.77.0.1:7000".parse().unwrap());
        sim.run_for(ms(500));
        restart(&mut sim, viewer);
        sim.run_for(secs(2));
        assert_resumed(&mut sim, publisher, viewer);
    });
}

#[test]
fn a_broadcaster_that_moves_to_another_network_goes_on_after_a_restart() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        sim.move_client(publisher, "10.77.0.1:7000".parse().unwrap());
        sim.run_for(ms(500));
        ice_restart_of_broadcaster(&mut sim, publisher);
        sim.run_for(secs(2));
        assert_resumed(&mut sim, publisher, viewer);
    });
}

#[test]
fn a_nat_that_gives_a_client_another_address_is_followed() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        for (client, public) in [(publisher, "198.51.100.1:9"), (viewer, "198.51.100.2:9")] {
            let address = sim[client].address;
            sim.network.nat.insert(address, public.parse().unwrap());
        }
        sim.run_for(secs(6));
        assert_eq!(sim.errors(publisher), []);
        assert_resumed(&mut sim, publisher, viewer);
    });
}

#[test]
fn an_address_that_another_client_gets_is_bound_anew() {
    with_seeds(|seed| {
        let (mut sim, publisher, first) = live(seed);
        let second = sim.subscribe("r/u");
        sim.run_for(secs(1));
        let (old, new) = (sim[first].address, sim[second].address);
        sim[first].is_gone = true;
        sim.network.nat.insert(new, old);
        sim.run_for(secs(6));
        assert_resumed(&mut sim, publisher, second);
        sim.run_for(secs(6));
        assert_eq!(sim.log(sim[first].session).ended, 1, "who lost its address is silent");
        assert_resumed(&mut sim, publisher, second);
        sim.vanish(second);
        sim.vanish(publisher);
        sim.run_for(secs(1));
        assert_eq!(sim.hub.sizes(), [0, 1, 0, 0, 0, 0]);
    });
}

#[test]
fn a_broadcaster_adds_pictures_to_its_sound_and_takes_them_away() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.client_of_new_session(&[Codec::Vp8]);
        sim.register(publisher, "r/u", Program { audio: true, video: vec![], channels: vec![] });
        sim.run_for(secs(1));
        let session = sim[publisher].session;
        let offer = sim[publisher].offer([true, true], Direction::SendOnly, &[]);
        assert!(matches!(sim.ask(session, Command::Offer { offer }), ServerMessage::Answer { .. }));
        sim.begin_to_send(publisher);
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer)[3..], ["offer [r/u:audio]", "offer [r/u:audio r/u:video]"]);
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
        }
        let video = sim[publisher].outgoing.pop().unwrap();
        let offer = sim[publisher].offer_direction(video.mid, Direction::Inactive);
        assert!(matches!(sim.ask(session, Command::Offer { offer }), ServerMessage::Answer { .. }));
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer)[5..], ["offer [r/u:audio]"]);
        assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].tracks.len(), 1);
        let offer = sim[publisher].offer_direction(video.mid, Direction::SendOnly);
        assert!(matches!(sim.ask(session, Command::Offer { offer }), ServerMessage::Answer { .. }));
        sim[publisher].outgoing.push(video);
        let now = sim.now;
        sim[publisher].track_mut(TrackKind::Video).encoder.next_at = now;
        sim[publisher].track_mut(TrackKind::Video).encoder.request_keyframe(now);
        sim.run_for(secs(2));
        assert_eq!(sim.story(viewer)[6..], ["offer [r/u:audio r/u:video]"]);
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        let last = stretch(&sim[viewer], mid).last().unwrap().token.index as usize;
        assert!(last + 30 > sim[publisher].encoder(TrackKind::Video).sent.len());
        assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].viewers, 1);
    });
}

#[test]
fn a_viewer_that_got_only_the_track_that_went_away_is_no_viewer_any_more() {
    let mut sim = Simulation::new(1);
    let publisher = sim.publish("r/u", Program { audio: false, video: vec![Codec::Vp8], channels: vec![] });
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(2));
    assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].viewers, 1);
    let session = sim[publisher].session;
    let mid = sim[publisher].outgoing.pop().unwrap().mid;
    let offer = sim[publisher].offer_direction(mid, Direction::Inactive);
    sim.ask(session, Command::Offer { offer });
    sim.vanish(viewer);
    sim.run_for(secs(2));
    assert_eq!(sim.hub.snapshot(sim.now).broadcasts[0].viewers, 0);
    assert_eq!(sim.story(publisher).last().unwrap(), "viewers 0");
}
