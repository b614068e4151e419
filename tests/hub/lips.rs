//! Lips and voice: the clock that a viewer's sender reports give to sound and picture is one, and it is the broadcaster's.

use std::time::{Duration, Instant, SystemTime};

use onair::rtp::codec::{Codec, TrackKind};
use str0m::rtp::rtcp::SenderInfo;

use crate::simulation::network::Conditions;
use crate::simulation::stream::stretch;
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

/// Where on the sender's clock a report places an RTP timestamp, in seconds.
fn placed(report: &SenderInfo, timestamp: u32, clock_rate_hz: u32) -> f64 {
    let ntp = report.ntp_time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let ticks = timestamp.wrapping_sub(report.rtp_time.numer() as u32) as i32;
    ntp + f64::from(ticks) / f64::from(clock_rate_hz)
}

/// How much later than its capture each packet of a track is placed, by the report that was the latest when it came.
fn offsets(sim: &Simulation, publisher: ClientId, viewer: ClientId, kind: TrackKind, since: Instant) -> Vec<f64> {
    let mid = sim.mid(viewer, "r/u", kind).unwrap();
    let encoder = sim[publisher].encoder(kind);
    let packets = stretch(&sim[viewer], mid).into_iter().filter(|packet| packet.at > since);
    packets
        .filter_map(|packet| {
            let report = packet.report?;
            let captured = encoder.sent[packet.token.index as usize].captured - sim.start;
            Some(placed(&report, packet.timestamp, encoder.codec.clock_rate_hz()) - captured.as_secs_f64())
        })
        .collect()
}

/// Sound and picture captured at one moment are placed at most `apart` from each other.
fn assert_in_step(sim: &Simulation, publisher: ClientId, viewer: ClientId, since: Instant, apart: Duration) {
    let [audio, video] = [TrackKind::Audio, TrackKind::Video].map(|kind| offsets(sim, publisher, viewer, kind, since));
    assert!(audio.len() > 50 && video.len() > 50, "reports came: {} {}", audio.len(), video.len());
    let range = |all: &[f64]| all.iter().fold((f64::MAX, f64::MIN), |(low, high), at| (low.min(*at), high.max(*at)));
    let ((audio_low, audio_high), (video_low, video_high)) = (range(&audio), range(&video));
    let worst = (audio_high - video_low).max(video_high - audio_low);
    assert!(worst < apart.as_secs_f64(), "{worst} s apart");
}

#[test]
fn sound_and_picture_keep_step_by_the_broadcasters_reports() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.network.conditions = Conditions { jitter: ms(15), ..Conditions::GOOD };
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        // Pictures take longer to encode than sound.
        sim[publisher].track_mut(TrackKind::Video).latency = ms(70);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(12));
        // str0m's first report of sound comes after 5 s.
        let since = sim.start + secs(8);
        assert_in_step(&sim, publisher, viewer, since, ms(1));
    });
}

#[test]
fn a_late_viewer_has_them_in_step_too() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim[publisher].track_mut(TrackKind::Video).latency = ms(70);
        sim.run_for(secs(8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(6));
        assert_in_step(&sim, publisher, viewer, sim.start + secs(11), ms(1));
    });
}

#[test]
fn without_reports_arrival_keeps_them_in_step_and_the_first_report_moves_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let address = sim[publisher].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.from != address || !datagram.is_sender_report()));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(8));
        assert_in_step(&sim, publisher, viewer, sim.start + secs(4), ms(1));
        sim.network.filter = None;
        sim.run_for(secs(8));
        // What sets a report apart from an arrival is the way, which is one for both.
        assert_in_step(&sim, publisher, viewer, sim.start + secs(4), ms(1));
    });
}

#[test]
fn a_returning_broadcaster_is_in_step_from_its_own_clock() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let first = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(4));
        sim.vanish(first);
        sim.run_for(secs(3));
        let second = sim.publish("r/u", Program::of(Codec::Vp8));
        sim[second].track_mut(TrackKind::Video).latency = ms(70);
        sim.run_for(secs(12));
        let since = sim.start + secs(15);
        let number = |kind| sim[second].encoder(kind).number;
        let numbers = [number(TrackKind::Audio), number(TrackKind::Video)];
        sim[viewer].received.retain(|packet| numbers.contains(&packet.token.encoder));
        assert_in_step(&sim, second, viewer, since, ms(1));
    });
}
