//! Codecs: what a viewer cannot play, and broadcasters that change what they send in the middle of it.

use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::client::Received;
use crate::simulation::network::Conditions;
use crate::simulation::stream::{assert_joined, assert_true, assert_whole, stretch, stretches};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn viewer_of(sim: &mut Simulation, codecs: &[Codec], what: &str) -> ClientId {
    let viewer = sim.client_of_new_session(codecs);
    sim.subscribe_with(viewer, what);
    viewer
}

/// The `unsupported-codec`s that a viewer was told, by broadcast; none is fatal.
fn unsupported(sim: &Simulation, viewer: ClientId) -> Vec<String> {
    let told = sim.heard_by(viewer).filter_map(|message| match message {
        ServerMessage::Error {
            code: ErrorCode::UnsupportedCodec, broadcast: Some(broadcast), fatal: false, ..
        } => Some(broadcast.to_string()),
        ServerMessage::Error { .. } => panic!("{message:?}"),
        _ => None,
    });
    told.collect()
}

/// Lets time pass until right after a frame was sent, so that its packets may be overtaken by what comes next.
fn after_a_frame(sim: &mut Simulation, publisher: ClientId) {
    let sent = |sim: &Simulation| sim[publisher].encoder(TrackKind::Video).sent.len();
    let before = sent(sim);
    sim.run_until(secs(1), "a frame", |sim| sent(sim) > before);
}

#[test]
fn a_viewer_that_cannot_play_the_video_is_told_and_hears_the_sound() {
    for codecs in [&[Codec::Vp8, Codec::Vp9][..], &[]] {
        with_seeds(|seed| {
            let mut sim = Simulation::new(seed);
            let viewer = viewer_of(&mut sim, codecs, "r");
            let publisher = sim.publish("r/u", Program::of(Codec::H264));
            sim.run_for(secs(2));
            assert_eq!(unsupported(&sim, viewer), ["r/u"]);
            let audio = sim.mid(viewer, "r/u", TrackKind::Audio).unwrap();
            assert_whole(&stretch(&sim[viewer], audio), sim[publisher].encoder(TrackKind::Audio));
            assert!(sim[viewer].received.iter().all(|packet| packet.mid == audio));
            // Other things that happen are no reason to say it again.
            let other = sim.publish("r/other", Program { audio: true, video: vec![], channels: vec![] });
            sim.run_for(secs(1));
            assert_eq!(unsupported(&sim, viewer), ["r/u"]);
            let audio = sim.mid(viewer, "r/other", TrackKind::Audio).unwrap();
            assert_whole(&stretch(&sim[viewer], audio), sim[other].encoder(TrackKind::Audio));
        });
    }
}

#[test]
fn the_operators_order_of_codecs_is_what_broadcasters_are_answered() {
    for order in [[Codec::Vp8, Codec::H264], [Codec::H264, Codec::Vp8]] {
        let mut sim = Simulation::with(1, |config| config.codecs = order.to_vec());
        let publisher = sim.publish("r/u", Program { audio: true, video: order.into(), channels: vec![] });
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        assert_eq!(sim[publisher].encoder(TrackKind::Video).codec, order[0]);
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Video));
    }
}

#[test]
fn another_ssrc_in_the_middle_goes_on_as_one_stream() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(2));
        let mut before = Vec::new();
        for (kind, codec) in [(TrackKind::Audio, Codec::Opus), (TrackKind::Video, Codec::Vp8)] {
            let encoder = sim.encoder(codec);
            before.push(sim[publisher].restart_track(kind, encoder));
        }
        sim.run_for(secs(2));
        for (kind, before) in [TrackKind::Audio, TrackKind::Video].into_iter().zip(&before) {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            let stretches = stretches(&sim[viewer], mid);
            let [first, second]: &[Vec<&Received>; 2] = stretches.as_slice().try_into().expect("two sources");
            assert_true(first, before);
            assert_whole(second, sim[publisher].encoder(kind));
            assert_eq!(second[0].token.index, 0, "nothing of the new source is lost");
            assert_joined(first, second, before.codec);
        }
        assert_eq!(sim.story(viewer).len(), 4, "no renegotiation");
    });
}

#[test]
fn packets_of_the_old_ssrc_that_come_late_do_not_bring_it_back() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(2));
        let address = sim[publisher].address;
        for _ in 0..4 {
            sim.network.paths.insert(address, Conditions { reorder: 0.2, ..Conditions::GOOD });
            sim.run_for(ms(190));
            after_a_frame(&mut sim, publisher);
            let encoder = sim.encoder(Codec::Vp8);
            sim[publisher].restart_track(TrackKind::Video, encoder);
            sim.run_for(ms(1200));
            sim.network.paths.remove(&address);
            sim.run_for(secs(1));
            let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
            let all = stretches(&sim[viewer], mid);
            let latest = all.last().unwrap();
            assert_whole(latest, sim[publisher].encoder(TrackKind::Video));
            // At worst the first packet of each keyframe was overtaken, and others were asked for until none was.
            assert!(latest[0].token.index < 140, "{:?}", latest[0].token);
        }
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        assert_eq!(stretches(&sim[viewer], mid).len(), 5, "each source came once");
    });
}

#[test]
fn another_codec_in_the_middle_goes_on_on_the_same_m_line() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let both = vec![Codec::H264, Codec::Vp8];
        let publisher = sim.client_of_new_session(&both);
        sim[publisher].sends = Some(Codec::H264);
        sim.register(publisher, "r/u", Program { audio: true, video: both, channels: vec![] });
        let plays_both = sim.subscribe("r/u");
        let plays_one = viewer_of(&mut sim, &[Codec::H264], "r/u");
        sim.run_for(secs(2));
        let address = sim[publisher].address;
        sim.network.paths.insert(address, Conditions { reorder: 0.2, ..Conditions::GOOD });
        let mut encoders = Vec::new();
        for codec in [Codec::Vp8, Codec::H264] {
            after_a_frame(&mut sim, publisher);
            let encoder = sim.encoder(codec);
            let encoder = encoder.continuing(sim[publisher].encoder(TrackKind::Video));
            encoders.push(sim[publisher].replace_encoder(TrackKind::Video, encoder));
            sim.run_for(secs(2));
        }
        sim.network.paths.remove(&address);
        sim.run_for(ms(50));
        let mid = sim.mid(plays_both, "r/u", TrackKind::Video).unwrap();
        let stretches = stretches(&sim[plays_both], mid);
        assert_eq!(stretches.len(), 3);
        assert_true(&stretches[0], &encoders[0]);
        assert_true(&stretches[1], &encoders[1]);
        assert_whole(&stretches[2], sim[publisher].encoder(TrackKind::Video));
        let types: Vec<_> = stretches.iter().map(|stretch| stretch[0].payload_type).collect();
        assert!(types[0] == types[2] && types[0] != types[1], "{types:?}");
        for pair in stretches.windows(2) {
            assert!(pair[1][0].sequence > pair[0].last().unwrap().sequence);
        }
        assert_eq!(unsupported(&sim, plays_one), ["r/u"], "told once, when it came");
        let mid = sim.mid(plays_one, "r/u", TrackKind::Video).unwrap();
        let stretches = crate::simulation::stream::stretches(&sim[plays_one], mid);
        assert_eq!(stretches.len(), 2);
        assert_whole(&stretches[1], sim[publisher].encoder(TrackKind::Video));
    });
}
