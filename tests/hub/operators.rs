//! What operators do to a live broadcast, and what everyone else makes of it.

use onair::hub::io::{Door, News, Operation, OperationError, Order, RecordingId, SessionId};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::message::RecordingState;
use onair::signal::{LeaveReason, ServerMessage};

use crate::simulation::{Program, Simulation, ms, secs, with_seeds};

fn recording_hub(seed: u64) -> Simulation {
    Simulation::with(seed, |config| {
        config.record = true;
        config.recordable = [Codec::Opus, Codec::Vp8].into_iter().collect();
    })
}

fn operate(sim: &mut Simulation, broadcast: &str, operation: Operation) -> Result<(), OperationError> {
    let outcome = sim.hub.operate(sim.now, &broadcast.parse().unwrap(), operation);
    sim.settle();
    outcome
}

fn told(sim: &mut Simulation, recording: RecordingId, state: RecordingState, file: &str) {
    let file = Some(format!("r/u/{file}"));
    sim.order(SessionId(0), Order::Recording { recording, state, file, error: None, facts: None });
}

#[test]
fn a_kicked_broadcaster_is_told_not_to_return_by_itself_and_its_viewers_wait() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        let recording = *sim.recordings.keys().next().unwrap();
        assert_eq!(operate(&mut sim, "r/other", Operation::Kick), Err(OperationError::NotLive));
        operate(&mut sim, "r/u", Operation::Kick).unwrap();
        assert_eq!(sim.ended_recordings, [recording]);
        sim.run_for(secs(2));
        assert_eq!(sim.story(publisher)[1..].last().unwrap(), "error unauthorized fatal");
        assert!(sim[publisher].is_closed, "the peer connection is closed by DTLS");
        assert_eq!(sim.story(viewer)[4..], ["disconnected r/u kicked", "offer []"]);
        let last = sim.notices.last().map(|notice| notice.news.clone());
        assert_eq!(last, Some(News::Disconnected { reason: LeaveReason::Kicked }));
        assert_eq!(operate(&mut sim, "r/u", Operation::Kick), Err(OperationError::NotLive));
        // Someone who begins again by hand may.
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer)[6..], ["connected r/u", "offer [r/u:audio r/u:video]"]);
    });
}

#[test]
fn an_encoder_that_is_kicked_loses_its_session() {
    let mut sim = Simulation::new(1);
    let encoder = sim.client(Door::Whip, &[Codec::Vp8]);
    sim.register(encoder, "r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    operate(&mut sim, "r/u", Operation::Kick).unwrap();
    assert_eq!(sim.log(sim[encoder].session).ended, 1);
    sim.run_for(secs(1));
    assert!(sim[encoder].is_closed);
    sim.vanish(encoder);
    assert_eq!(sim.hub.sizes(), [0; 6]);
}

#[test]
fn one_that_has_yet_to_begin_is_kicked_without_a_word_to_viewers() {
    let mut sim = Simulation::new(1);
    let viewer = sim.subscribe("r/u");
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    operate(&mut sim, "r/u", Operation::Kick).unwrap();
    sim.run_for(secs(1));
    assert_eq!(sim.story(publisher), ["registered", "error unauthorized fatal"]);
    assert_eq!(sim.story(viewer), ["subscribed []", "offer []"]);
    assert_eq!(sim.notices, []);
}

#[test]
fn a_recording_that_is_stopped_leaves_the_broadcast_alone() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let recording = *sim.recordings.keys().next().unwrap();
        told(&mut sim, recording, RecordingState::Started, "20260101-000000.mp4");
        assert_eq!(operate(&mut sim, "r/other", Operation::StopRecording), Err(OperationError::NotLive));
        operate(&mut sim, "r/u", Operation::StopRecording).unwrap();
        assert_eq!(operate(&mut sim, "r/u", Operation::StopRecording), Err(OperationError::NotRecording));
        assert_eq!(sim.ended_recordings, [recording]);
        assert!(!sim.hub.snapshot(sim.now).broadcasts[0].recording);
        let (recorded, mid) = (sim.recordings[&recording].1, sim.mid(viewer, "r/u", TrackKind::Video).unwrap());
        let seen = sim.received(viewer, mid);
        sim.run_for(secs(1));
        assert!(sim.received(viewer, mid) > seen + 20, "viewers go on watching");
        assert_eq!(sim.recordings[&recording].1, recorded);
        // The recorder finishes the file in its own time.
        told(&mut sim, recording, RecordingState::Finished, "20260101-000000.mp4");
        sim.order(SessionId(0), Order::RecordingOver(recording));
        let heard: Vec<_> = sim.story(publisher).into_iter().filter(|line| line.starts_with("recording")).collect();
        assert_eq!(heard, ["recording started", "recording finished"]);
        assert_eq!(sim.recordings.len(), 1);
        // When it comes back it is recorded again.
        sim.vanish(publisher);
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_eq!(sim.recordings.len(), 2);
    });
}

#[test]
fn what_is_not_recorded_cannot_be_stopped() {
    let mut sim = recording_hub(1);
    sim.publish("r/u", Program::of(Codec::H264));
    sim.run_for(secs(1));
    assert_eq!(operate(&mut sim, "r/u", Operation::StopRecording), Err(OperationError::NotRecording));
}

#[test]
fn a_recording_goes_on_while_an_earlier_file_of_it_is_finished() {
    let mut sim = recording_hub(1);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    let recording = *sim.recordings.keys().next().unwrap();
    let runs = |sim: &Simulation| sim.hub.snapshot(sim.now).broadcasts[0].recording;
    told(&mut sim, recording, RecordingState::Started, "20260101-000000.mp4");
    told(&mut sim, recording, RecordingState::Started, "20260101-000009.mp4");
    told(&mut sim, recording, RecordingState::Finished, "20260101-000000.mp4");
    assert!(runs(&sim));
    // What is left of a file that failed has another ending.
    told(&mut sim, recording, RecordingState::Failed, "20260101-000009.part.mp4");
    assert!(!runs(&sim));
    told(&mut sim, recording, RecordingState::Started, "20260101-000020.mp4");
    sim.run_for(ms(100));
    sim.vanish(publisher);
    // Its session is gone, yet whoever watches the server hears the end.
    told(&mut sim, recording, RecordingState::Finished, "20260101-000020.mp4");
    let last = sim.notices.last().map(|notice| notice.news.clone());
    assert!(matches!(last, Some(News::Recording { state: RecordingState::Finished, .. })), "{last:?}");
    assert!(!sim.heard_by(publisher).any(|message| matches!(message, ServerMessage::Error { .. })));
}
