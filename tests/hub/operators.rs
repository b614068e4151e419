//! What operators do to a live broadcast, and what everyone else makes of it.

use onair::hub::io::{Door, News, Operation, OperationError, Order, RecordingId, RecordingNews, SessionId};
use onair::rtp::codec::{Codec, CodecSet, TrackKind};
use onair::signal::message::RecordingState;
use onair::signal::{LeaveReason, ServerMessage};

use crate::simulation::{Program, Simulation, ms, secs, with_seeds};

fn recording_hub(seed: u64) -> Simulation {
    recording_hub_by(seed, "all")
}

fn recording_hub_by(seed: u64, rule: &str) -> Simulation {
    Simulation::with(seed, |config| {
        config.record = rule.parse().unwrap();
        config.recordable = vp8();
    })
}

fn operate(sim: &mut Simulation, broadcast: &str, operation: Operation) -> Result<(), OperationError> {
    let outcome = sim.hub.operate(sim.now, &broadcast.parse().unwrap(), operation);
    sim.settle();
    outcome
}

fn vp8() -> CodecSet {
    [Codec::Opus, Codec::Vp8].into_iter().collect()
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
    assert!(matches!(last, Some(News::Recording(RecordingNews { state: RecordingState::Finished, .. }))), "{last:?}");
    assert!(!sim.heard_by(publisher).any(|message| matches!(message, ServerMessage::Error { .. })));
}

#[test]
fn only_what_the_rule_names_is_recorded_without_a_request() {
    with_seeds(|seed| {
        let mut sim = recording_hub_by(seed, "stage/cam-*,yard/*");
        let [seen, unseen] = ["stage/cam-1", "stage/ada"].map(|id| sim.publish(id, Program::of(Codec::Vp8)));
        sim.publish("yard/ada", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let promised = |sim: &Simulation, client| {
            sim.heard_by(client).any(|message| matches!(message, ServerMessage::Registered { recording: true, .. }))
        };
        assert!(promised(&sim, seen) && !promised(&sim, unseen));
        let recorded = |sim: &Simulation| sim.recordings.values().map(|(id, _)| id.to_string()).collect::<Vec<_>>();
        assert_eq!(recorded(&sim).len(), 2);
        assert!(!recorded(&sim).contains(&"stage/ada".to_owned()));
        operate(&mut sim, "stage/ada", Operation::StartRecording).unwrap();
        sim.run_for(secs(1));
        assert_eq!(recorded(&sim)[2], "stage/ada");
        let (_, packets) = sim.recordings.values().next_back().unwrap();
        assert!(*packets > 20, "from now on: {packets}");
    });
}

#[test]
fn a_recording_that_was_stopped_is_begun_again_by_request_alone() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_eq!(operate(&mut sim, "r/u", Operation::StartRecording), Err(OperationError::AlreadyRecording));
        operate(&mut sim, "r/u", Operation::StopRecording).unwrap();
        sim.order(SessionId(0), Order::Recordable(vp8()));
        sim.run_for(secs(1));
        assert_eq!(sim.recordings.len(), 1, "the rule does not begin it again");
        operate(&mut sim, "r/u", Operation::StartRecording).unwrap();
        sim.run_for(secs(1));
        let recordings: Vec<_> = sim.recordings.keys().copied().collect();
        assert_eq!(
            (recordings.len(), sim.ended_recordings.as_slice()),
            (2, &recordings[..1]),
            "a recording of its own"
        );
        assert!(sim.recordings[&recordings[1]].1 > 20);
        // What the recorder gives up can be begun anew.
        sim.order(SessionId(0), Order::RecordingOver(recordings[1]));
        assert_eq!(sim.ended_recordings, recordings);
        operate(&mut sim, "r/u", Operation::StartRecording).unwrap();
        assert_eq!(sim.recordings.len(), 3);
    });
}

#[test]
fn what_cannot_be_recorded_is_refused_with_the_reason() {
    let mut sim = recording_hub_by(1, "off");
    let start = |sim: &mut Simulation, id| operate(sim, id, Operation::StartRecording);
    assert_eq!(start(&mut sim, "r/u"), Err(OperationError::NotLive));
    let mute = sim.publish("r/mute", Program::of(Codec::Vp8));
    sim[mute].is_mute = true;
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.publish("r/h264", Program::of(Codec::H264));
    sim.run_for(secs(1));
    assert_eq!(start(&mut sim, "r/mute"), Err(OperationError::NotLive), "it has yet to begin");
    assert_eq!(start(&mut sim, "r/h264"), Err(OperationError::NotRecordable(Codec::H264)));
    sim.order(SessionId(0), Order::Recordable(CodecSet::EMPTY));
    assert_eq!(start(&mut sim, "r/u"), Err(OperationError::NoRecorder));
    assert!(sim.recordings.is_empty());
    sim.order(SessionId(0), Order::Recordable(vp8()));
    assert!(sim.recordings.is_empty(), "what was refused has changed nothing");
    assert_eq!(start(&mut sim, "r/u"), Ok(()));
}
