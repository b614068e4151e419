//! Viewers that come before and after their broadcaster: what they hear, and with which packets their picture begins.

use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::network::Conditions;
use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

/// VP8 or H.264, by the seed.
fn codec_of(seed: u64) -> Codec {
    if seed.is_multiple_of(2) { Codec::Vp8 } else { Codec::H264 }
}

fn has_video(sim: &Simulation, viewer: ClientId) -> bool {
    sim.mid(viewer, "r/u", TrackKind::Video).is_some_and(|mid| sim.received(viewer, mid) > 0)
}

#[test]
fn an_early_viewer_waits_and_then_sees_everything_from_a_keyframe_on() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        assert_eq!(sim.story(viewer), ["subscribed []", "offer []"]);
        assert!(sim[viewer].connected_at.is_some(), "the data channel alone connects");
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        sim.run_for(secs(3));
        assert_eq!(sim.story(viewer)[2..], ["connected r/u", "offer [r/u:audio r/u:video]"]);
        assert_eq!(sim.story(publisher), ["registered", "viewers 1"]);
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
        }
    });
}

#[test]
fn a_late_viewer_begins_with_a_keyframe_that_was_asked_for() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        sim.run_for(secs(3) + ms(seed * 7));
        assert_eq!(sim[publisher].keyframe_requests.len(), 0, "nobody watches");
        let viewer = sim.subscribe("r/u");
        let subscribed = sim.now;
        assert_eq!(sim.story(viewer), ["subscribed [r/u]", "offer [r/u:audio r/u:video]"]);
        sim.run_until(ms(500), "video", |sim| has_video(sim, viewer));
        assert!(!sim[publisher].keyframe_requests.is_empty());
        let connected = sim[viewer].connected_at.unwrap();
        // A PLI to the broadcaster, an encoder's 30 ms, up to a frame's time, and two legs back.
        let waited = sim.now - connected;
        assert!(waited < ms(120), "{waited:?} after it connected, {:?} after it subscribed", sim.now - subscribed);
        sim.run_for(secs(2));
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
        }
    });
}

#[test]
fn many_late_viewers_share_keyframes_and_requests_keep_their_distance() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        sim.run_for(secs(1));
        let mut viewers = Vec::new();
        for _ in 0..12 {
            viewers.push(sim.subscribe("r/u"));
            let pause = ms(sim.random.u64(..200));
            sim.run_for(pause);
        }
        sim.run_for(secs(2));
        let requests = &sim[publisher].keyframe_requests;
        for pair in requests.windows(2) {
            assert!(pair[1] - pair[0] >= ms(500), "{:?}", pair[1] - pair[0]);
        }
        assert!(requests.len() >= 2 && requests.len() <= 9, "{}", requests.len());
        for viewer in viewers {
            let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Video));
        }
    });
}

#[test]
fn a_request_is_repeated_until_a_keyframe_comes() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        // Until the keyframe it began with is too old to start with.
        sim.run_for(secs(5));
        // The broadcaster hears nothing for a while: no request reaches it.
        let address = sim[publisher].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.to != address || !datagram.is_media()));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(3));
        assert!(!has_video(&sim, viewer) && sim[publisher].keyframe_requests.is_empty());
        let sent = sim.hub.snapshot(sim.now).metrics.pli_sent;
        assert!((5..=6).contains(&sent), "{sent} requests in 3 s");
        sim.network.filter = None;
        sim.run_until(ms(700), "video", |sim| has_video(sim, viewer));
        sim.run_for(secs(2));
        let asked = sim[publisher].keyframe_requests.len();
        assert_eq!(asked, 1, "and not after it came");
    });
}

#[test]
fn a_broadcaster_that_ignores_requests_is_watched_from_its_latest_keyframe() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        sim.run_for(secs(5));
        let address = sim[publisher].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.to != address || !datagram.is_media()));
        let late = sim.subscribe("r/u");
        sim.run_for(secs(2));
        assert!(!has_video(&sim, late), "its only keyframe is long past");
        let now = sim.now;
        sim[publisher].track_mut(TrackKind::Video).encoder.request_keyframe(now);
        sim.run_until(ms(200), "the keyframe that it sends by itself", |sim| has_video(sim, late));
        sim.run_for(ms(1_500));
        let later = sim.subscribe("r/u");
        sim.run_until(secs(1), "a keyframe of the past", |sim| has_video(sim, later));
        sim.run_for(secs(3));
        let latest = sim.subscribe("r/u");
        sim.run_for(secs(2));
        assert!(!has_video(&sim, latest), "too long ago by now");
        for viewer in [late, later] {
            let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
            let (stretch, encoder) = (stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Video));
            assert!(encoder.sent[stretch[0].token.index as usize].starts_keyframe);
            assert_whole(&stretch, encoder);
        }
        assert_eq!(sim.hub.snapshot(sim.now).metrics.kept_starts, 1);
        assert!(sim[publisher].keyframe_requests.is_empty());
    });
}

#[test]
fn a_viewers_own_requests_reach_the_broadcaster_at_their_distance() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        let viewer = sim.subscribe("r/u");
        sim.run_until(secs(2), "video", |sim| has_video(sim, viewer));
        sim.run_for(secs(1));
        let before = sim[publisher].keyframe_requests.len();
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        for _ in 0..20 {
            sim[viewer].request_keyframe(mid);
            let now = sim.now;
            sim[viewer].poke(now);
            sim.run_for(ms(100));
        }
        sim.run_for(secs(1));
        let requests = &sim[publisher].keyframe_requests[before..];
        assert!((4..=5).contains(&requests.len()), "{} requests came of 20 in 2 s", requests.len());
        for pair in requests.windows(2) {
            assert!(pair[1] - pair[0] >= ms(500));
        }
        assert!(sim.hub.snapshot(sim.now).metrics.pli_received >= 15);
    });
}

#[test]
fn a_viewer_that_joins_through_losses_gets_its_picture_all_the_same() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        sim.run_for(secs(1));
        sim.network.conditions = Conditions { jitter: ms(10), ..Conditions::lossy(0.1) };
        sim.run_for(secs(3));
        // The last flight of DTLS is sent anew seldom, and not by the seed alone: whoever sees nothing until the deadline
        // comes again, as the page does.
        let come = |sim: &mut Simulation| {
            let viewer = sim.subscribe("r/u");
            let deadline = sim.now + secs(9);
            while sim.now < deadline && !has_video(sim, viewer) {
                sim.run_for(ms(100));
            }
            has_video(sim, viewer).then_some(viewer)
        };
        let viewer = (0..4).find_map(|_| come(&mut sim)).expect("one of four gets a picture");
        let video = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        // What a browser does that cannot decode: it asks. From then on the path is good.
        sim.network.conditions = Conditions::GOOD;
        sim[viewer].request_keyframe(video);
        let asked = sim.now;
        sim[viewer].poke(asked);
        sim.run_for(secs(3));
        let encoder = sim[publisher].encoder(TrackKind::Video);
        let stretch = stretch(&sim[viewer], video);
        let keyframe =
            stretch.iter().rposition(|packet| encoder.sent[packet.token.index as usize].starts_keyframe).unwrap();
        assert!(stretch[keyframe].at > asked);
        assert_whole(&stretch[keyframe..], encoder);
    });
}

#[test]
fn a_viewer_that_comes_before_the_first_picture_but_after_the_first_sound_sees_it() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(codec_of(seed)));
        // A camera that takes long to start.
        let start = sim.start + secs(4);
        sim[publisher].track_mut(TrackKind::Video).encoder.starts_at(start);
        sim.run_for(secs(1));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(2));
        assert!(!has_video(&sim, viewer));
        assert_eq!(sim.hub.snapshot(sim.now).metrics.pli_sent, 0, "nobody can be asked yet");
        sim.run_for(secs(3));
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(viewer, "r/u", kind).unwrap();
            let stretch = stretch(&sim[viewer], mid);
            assert_whole(&stretch, sim[publisher].encoder(kind));
        }
        let video = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        assert_eq!(stretch(&sim[viewer], video)[0].token.index, 0);
    });
}
