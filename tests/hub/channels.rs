//! Data channels, and the count of viewers that a broadcaster is told.

use onair::rtp::codec::Codec;
use onair::signal::ServerMessage;

use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn said(sim: &Simulation, client: ClientId) -> Vec<String> {
    sim[client].messages.iter().map(|(_, _, message)| String::from_utf8_lossy(message).into_owned()).collect()
}

fn say(sim: &mut Simulation, client: ClientId, label: &str, message: &[u8]) {
    sim[client].say(label, message);
    let now = sim.now;
    sim[client].poke(now);
    sim.run_for(ms(100));
}

#[test]
fn pings_are_answered_by_pongs_on_both_sides() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program { channels: vec!["health-check"], ..Program::of(Codec::Vp8) });
        sim.run_for(secs(1));
        sim[viewer].open_channel("health-check");
        let now = sim.now;
        sim[viewer].poke(now);
        sim.run_for(secs(1));
        for client in [viewer, publisher] {
            for ping in ["ping-1", "ping-2", "ping-", "ping-1700000000000.5", "pong-3", "PING-4", ""] {
                if !ping.is_empty() {
                    say(&mut sim, client, "health-check", ping.as_bytes());
                }
            }
            assert_eq!(said(&sim, client), ["pong-1", "pong-2", "pong-", "pong-1700000000000.5"]);
        }
    });
}

#[test]
fn what_is_no_ping_is_dropped_however_long() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        for label in ["health-check", "other"] {
            sim[viewer].open_channel(label);
        }
        let now = sim.now;
        sim[viewer].poke(now);
        sim.run_for(secs(1));
        let long = [b"ping-".as_slice(), &[b'1'; 12_000]].concat();
        say(&mut sim, viewer, "health-check", &long);
        say(&mut sim, viewer, "health-check", &[0xff; 3000]);
        say(&mut sim, viewer, "other", b"ping-1");
        sim.run_for(secs(1));
        assert_eq!(said(&sim, viewer), [""; 0]);
        say(&mut sim, viewer, "health-check", b"ping-7");
        assert_eq!(said(&sim, viewer), ["pong-7"], "and the channel lives on");
    });
}

#[test]
fn channels_beyond_the_cap_are_closed() {
    with_seeds(|seed| {
        let mut sim = Simulation::with(seed, |config| config.limits.channels_per_peer = 3);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        let ours = sim[viewer].channels.len();
        for index in 0..8 {
            sim[viewer].open_channel(&format!("number-{index}"));
            let now = sim.now;
            sim[viewer].poke(now);
            sim.run_for(ms(200));
        }
        sim.run_for(secs(2));
        assert_eq!(sim[viewer].channels.len(), 3, "{ours} of the server: {:?}", sim[viewer].channels);
        assert!(!sim[viewer].is_closed);
    });
}

#[test]
fn video_ok_is_said_once_a_second_while_video_arrives() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let channels = vec!["health-check", "video-check"];
        let publisher = sim.publish("r/u", Program { channels, ..Program::of(Codec::Vp8) });
        sim.run_for(ms(10_500));
        let count = said(&sim, publisher).iter().filter(|message| *message == "video-ok").count();
        assert!((9..=11).contains(&count), "{count} in 10 s");
        let times: Vec<_> = sim[publisher].messages.iter().map(|(at, _, _)| *at).collect();
        assert!(times.windows(2).all(|pair| (pair[1] - pair[0]).abs_diff(secs(1)) < ms(20)));
        sim[publisher].is_mute = true;
        sim.run_for(secs(2));
        let before = said(&sim, publisher).len();
        sim.run_for(secs(5));
        assert_eq!(said(&sim, publisher).len(), before, "no video, no word");
    });
}

#[test]
fn a_viewer_is_told_nothing_on_a_video_check() {
    let mut sim = Simulation::new(1);
    let viewer = sim.subscribe("r/u");
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    sim[viewer].open_channel("video-check");
    let now = sim.now;
    sim[viewer].poke(now);
    sim.run_for(secs(4));
    assert_eq!(said(&sim, viewer), [""; 0]);
}

#[test]
fn a_broadcaster_hears_how_many_watch_at_most_once_a_second() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program { audio: true, video: vec![], channels: vec![] });
        sim.run_for(secs(1));
        let mut viewers = Vec::new();
        for _ in 0..60 {
            if viewers.len() > 3 && sim.random.bool() {
                let viewer = viewers.swap_remove(sim.random.usize(..viewers.len()));
                sim.vanish(viewer);
            } else {
                viewers.push(match sim.random.u8(..3) {
                    0 => sim.subscribe("r"),
                    1 => sim.subscribe("r/u"),
                    _ => sim.play("r/u", &[]).0,
                });
            }
            let pause = ms(sim.random.u64(..200));
            sim.run_for(pause);
        }
        sim.run_for(secs(3));
        let session = sim[publisher].session;
        let told: Vec<_> = sim
            .heard(session)
            .iter()
            .filter_map(|heard| match heard.message {
                ServerMessage::Viewers { count, .. } => Some((heard.at, count)),
                _ => None,
            })
            .collect();
        assert!(told.windows(2).all(|pair| pair[1].0 - pair[0].0 >= secs(1) && pair[1].1 != pair[0].1), "{told:?}");
        assert_eq!(told.last().unwrap().1, viewers.len());
        assert!(told.len() >= 3);
    });
}
