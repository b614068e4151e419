//! What the hub hands to a recorder, and what it tells the broadcaster of it.

use onair::hub::io::{Command, Order, RecordingId, SessionId};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::ServerMessage;
use onair::signal::message::RecordingState;

use crate::simulation::network::Conditions;
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn recording_hub(seed: u64) -> Simulation {
    Simulation::with(seed, |config| {
        config.record = true;
        config.recordable = [Codec::Opus, Codec::Vp8].into_iter().collect();
    })
}

fn outcome(sim: &mut Simulation, recording: RecordingId, state: RecordingState) {
    let file = Some("r/u/20260101-000000.mp4".to_owned());
    sim.order(SessionId(0), Order::Recording { recording, state, file, error: None, facts: None });
}

fn is_recorded(sim: &Simulation, client: ClientId) -> bool {
    let registered = sim.heard_by(client).find_map(|message| match message {
        ServerMessage::Registered { recording, .. } => Some(*recording),
        _ => None,
    });
    registered.expect("it registered")
}

#[test]
fn every_packet_of_a_broadcast_is_recorded_once_from_the_first_on() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        sim.network.conditions = Conditions { duplicate: 0.1, ..Conditions::GOOD };
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(3));
        sim[publisher].is_mute = true;
        sim.run_for(secs(1));
        assert!(is_recorded(&sim, publisher));
        let sent: usize = sim[publisher].outgoing.iter().map(|track| track.encoder.sent.len()).sum();
        let recorded: Vec<_> =
            sim.recordings.values().map(|(broadcast, packets)| (broadcast.to_string(), *packets)).collect();
        assert_eq!(recorded, [("r/u".to_owned(), sent)]);
    });
}

#[test]
fn the_broadcaster_hears_how_its_recording_fares_also_after_it_left() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let recording = *sim.recordings.keys().next().unwrap();
        assert!(!sim.hub.snapshot(sim.now).broadcasts[0].recording);
        outcome(&mut sim, recording, RecordingState::Started);
        assert!(sim.hub.snapshot(sim.now).broadcasts[0].recording);
        let session = sim[publisher].session;
        assert_eq!(sim.ask(session, Command::Unregister), ServerMessage::Unregistered);
        assert_eq!(sim.ended_recordings, [recording]);
        sim.run_for(secs(1));
        outcome(&mut sim, recording, RecordingState::Finished);
        assert_eq!(sim.story(publisher), ["registered", "recording started", "unregistered", "recording finished"]);
        assert_eq!(sim.hub.sizes(), [0, 1, 0, 1, 0, 0]);
        sim.order(SessionId(0), Order::RecordingOver(recording));
        assert_eq!(sim.hub.sizes(), [0, 1, 0, 0, 0, 0]);
    });
}

#[test]
fn each_stint_is_a_recording_of_its_own_and_none_is_kept_in_mind() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        for stint in 0..6 {
            let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
            sim.run_for(secs(1));
            let latest = *sim.recordings.keys().next_back().unwrap();
            assert_eq!(sim.recordings.len(), stint + 1);
            // Some recorders never begin, some end first, some after their broadcaster's session.
            if stint % 3 > 0 {
                outcome(&mut sim, latest, RecordingState::Started);
            }
            if stint % 3 == 1 {
                outcome(&mut sim, latest, RecordingState::Failed);
            }
            sim.vanish(publisher);
            if stint % 3 == 2 {
                outcome(&mut sim, latest, RecordingState::Finished);
            }
            sim.order(SessionId(0), Order::RecordingOver(latest));
        }
        sim.run_for(secs(1));
        assert_eq!(sim.hub.sizes(), [0; 6]);
        assert_eq!(sim.ended_recordings.len(), 6);
    });
}

#[test]
fn what_cannot_be_recorded_is_relayed_all_the_same() {
    let mut sim = recording_hub(1);
    let publisher = sim.publish("r/u", Program::of(Codec::H264));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(1));
    assert!(!is_recorded(&sim, publisher));
    assert!(sim.recordings.is_empty());
    let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
    assert!(sim.received(viewer, mid) > 20);
    // The disk is full from now on.
    sim.order(SessionId(0), Order::Recordable([].into_iter().collect()));
    let publisher = sim.publish("r/v", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    assert!(!is_recorded(&sim, publisher) && sim.recordings.is_empty());
}

#[test]
fn what_can_be_recorded_is_answered_first() {
    let mut sim = recording_hub(1);
    let publisher = sim.publish("r/u", Program { audio: true, video: vec![Codec::H264, Codec::Vp8], channels: vec![] });
    sim.run_for(secs(1));
    assert_eq!(sim[publisher].encoder(TrackKind::Video).codec, Codec::Vp8, "though the operator prefers H.264");
    assert!(is_recorded(&sim, publisher));
}

#[test]
fn a_recorder_that_lost_packets_gets_a_keyframe() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let recording = *sim.recordings.keys().next().unwrap();
        for _ in 0..5 {
            sim.order(SessionId(0), Order::Keyframe(recording));
            sim.order(SessionId(0), Order::Keyframe(RecordingId(99)));
        }
        sim.run_for(ms(400));
        assert_eq!(sim[publisher].keyframe_requests.len(), 1);
    });
}
