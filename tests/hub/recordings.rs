//! What the hub hands to a recorder, and what it tells the broadcaster of it.

use onair::hub::io::{Command, FileFacts, News, Operation, Order, RecordingId, RecordingNews, SessionId};
use onair::hub::record_rule::RecordRule;
use onair::rtp::codec::{Codec, CodecSet, TrackKind};
use onair::signal::ServerMessage;
use onair::signal::message::RecordingState;

use crate::simulation::network::Conditions;
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn recording_hub(seed: u64) -> Simulation {
    Simulation::with(seed, |config| {
        config.record = RecordRule::All;
        config.recordable = recordable();
    })
}

fn recordable() -> CodecSet {
    [Codec::Opus, Codec::Vp8].into_iter().collect()
}

fn outcome(sim: &mut Simulation, recording: RecordingId, state: RecordingState) {
    tell(sim, recording, state, None, None);
}

fn tell(
    sim: &mut Simulation,
    recording: RecordingId,
    state: RecordingState,
    error: Option<&str>,
    facts: Option<FileFacts>,
) {
    let (file, error) = (Some("r/u/20260101-000000.mp4".to_owned()), error.map(str::to_owned));
    sim.order(SessionId(0), Order::Recording { recording, state, file, error, facts });
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

#[test]
fn a_recorder_that_is_late_records_what_is_live_already() {
    let mut sim = recording_hub(1);
    sim.order(SessionId(0), Order::Recordable(CodecSet::EMPTY));
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.publish("r/h264", Program::of(Codec::H264));
    sim.run_for(secs(1));
    assert!(sim.recordings.is_empty());
    for _ in 0..2 {
        sim.order(SessionId(0), Order::Recordable(recordable()));
        sim.run_for(secs(1));
        let recorded: Vec<_> = sim.recordings.values().map(|(id, packets)| (id.to_string(), *packets > 20)).collect();
        assert_eq!(recorded, [("r/u".to_owned(), true)], "once, and from now on");
    }
}

#[test]
fn a_broadcast_that_begins_while_the_disk_is_full_is_handed_to_the_recorder() {
    let mut sim = recording_hub(1);
    sim.order(SessionId(0), Order::RecordingPaused(true));
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    assert!(!is_recorded(&sim, publisher), "it is not promised");
    assert_eq!(sim.recordings.len(), 1, "the recorder begins by itself when the disk is back");
    sim.order(SessionId(0), Order::RecordingPaused(false));
    let publisher = sim.publish("r/v", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    assert!(is_recorded(&sim, publisher) && sim.recordings.len() == 2);
}

#[test]
fn length_and_size_are_told_of_a_finished_file_alone() {
    let mut sim = recording_hub(1);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    let recording = *sim.recordings.keys().next().unwrap();
    let facts = Some(FileFacts { duration: ms(61_234), size_bytes: 4_096 });
    for (state, shown) in [(RecordingState::Started, None), (RecordingState::Finished, facts)] {
        tell(&mut sim, recording, state, None, facts);
        let last = sim.notices.last().map(|notice| notice.news.clone());
        assert!(matches!(&last, Some(News::Recording(RecordingNews { facts, .. })) if *facts == shown), "{last:?}");
        let heard = sim.heard_by(publisher).last().cloned();
        let Some(ServerMessage::Recording { duration_s, size_bytes, .. }) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!((duration_s, size_bytes), (shown.map(|_| 61.234), shown.map(|facts| facts.size_bytes)));
    }
}

#[test]
fn a_snapshot_tells_why_a_broadcast_is_not_recorded() {
    let mut sim = recording_hub(1);
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    let recording = *sim.recordings.keys().next().unwrap();
    let why = |sim: &Simulation| sim.hub.snapshot(sim.now).broadcasts[0].recording_error.clone();
    assert_eq!(why(&sim), None);
    tell(&mut sim, recording, RecordingState::Failed, Some("ffmpeg ended"), None);
    assert_eq!(why(&sim).as_deref(), Some("ffmpeg ended"));
    outcome(&mut sim, recording, RecordingState::Started);
    assert_eq!(why(&sim), None);
    outcome(&mut sim, recording, RecordingState::Finished);
    sim.order(SessionId(0), Order::RecordingPaused(true));
    assert!(why(&sim).is_some_and(|why| why.contains("disk is full")));
    sim.order(SessionId(0), Order::RecordingPaused(false));
    assert_eq!(why(&sim), None);
    tell(&mut sim, recording, RecordingState::Failed, Some("ffmpeg ended"), None);
    sim.hub.operate(sim.now, &"r/u".parse().unwrap(), Operation::StopRecording).unwrap();
    assert_eq!(why(&sim), None, "nobody wants it recorded");
}

#[test]
fn a_keyframe_that_is_due_is_asked_for_once_and_never_beside_another_request() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(2));
        let recording = *sim.recordings.keys().next().unwrap();
        // An encoder that hears no requests.
        let address = sim[publisher].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.to != address || !datagram.is_media()));
        let sent = |sim: &Simulation| sim.hub.snapshot(sim.now).metrics.pli_sent;
        assert_eq!(sent(&sim), 0);
        for _ in 0..5 {
            sim.order(SessionId(0), Order::KeyframeDue(recording));
            sim.order(SessionId(0), Order::KeyframeDue(RecordingId(99)));
        }
        sim.run_for(secs(4));
        assert_eq!(sent(&sim), 1, "not repeated");
        sim.network.filter = None;
        sim.order(SessionId(0), Order::KeyframeDue(recording));
        sim.run_for(ms(400));
        assert_eq!((sent(&sim), sim[publisher].keyframe_requests.len()), (2, 1));
        // The keyframe has come just now.
        sim.order(SessionId(0), Order::KeyframeDue(recording));
        assert_eq!(sent(&sim), 2);
    });
}
