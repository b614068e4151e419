//! What real clients write into their SDP: every kind of candidate, of mid and of role, and the browsers' own offers.

use std::fs;
use std::path::PathBuf;

use onair::hub::config::IceRole;
use onair::hub::io::{Command, Door};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{Program, Simulation, ms, secs, with_seeds};

/// An SDP whose candidates are `lines` instead.
fn with_candidates(sdp: &str, lines: &[&str]) -> String {
    let mut out = String::new();
    for line in sdp.lines().filter(|line| !line.starts_with("a=candidate:")) {
        out += &format!("{line}\r\n");
        // At the end of each section's head.
        if line.starts_with("a=mid:") {
            for candidate in lines {
                out += &format!("a={candidate}\r\n");
            }
        }
    }
    out
}

const MDNS: &str =
    "candidate:1 1 udp 2113937151 24fbc0a9-4739-4089-b0be-03d13e6deec7.local 56056 typ host generation 0";
const TCP: &str = "candidate:2 1 tcp 1518214911 192.0.2.2 9 typ host tcptype active generation 0";
const IPV6: &str = "candidate:3 1 udp 2122265343 2001:db8::2 49103 typ host";
const LINK_LOCAL: &str = "candidate:4 1 udp 2122265343 fe80::1%eth0 49103 typ host";
const LINK_LOCAL_BARE: &str = "candidate:5 1 udp 2122265343 fe80::1 49103 typ host";
const GARBAGE: &str = "candidate:what is this";
const UNSPECIFIED: &str = "candidate:6 1 udp 2122265343 0.0.0.0 9 typ host";
const PORT_0: &str = "candidate:7 1 udp 2122265343 192.0.2.2 0 typ host";
const ALL: [&str; 8] = [MDNS, TCP, IPV6, LINK_LOCAL, LINK_LOCAL_BARE, GARBAGE, UNSPECIFIED, PORT_0];

const EDITS: [fn(&str) -> String; 10] = [
    |sdp| with_candidates(sdp, &[]),
    |sdp| with_candidates(sdp, &[MDNS]),
    |sdp| with_candidates(sdp, &[TCP]),
    |sdp| with_candidates(sdp, &[IPV6]),
    |sdp| with_candidates(sdp, &[LINK_LOCAL]),
    |sdp| with_candidates(sdp, &[LINK_LOCAL_BARE]),
    |sdp| with_candidates(sdp, &[GARBAGE]),
    |sdp| with_candidates(sdp, &[UNSPECIFIED]),
    |sdp| with_candidates(sdp, &[PORT_0]),
    |sdp| with_candidates(sdp, &ALL),
];

fn assert_plays(sim: &mut Simulation, edits: fn(&str) -> String, edits_back: Option<fn(&str) -> String>) {
    let publisher = sim.client(Door::WebSocket, &[Codec::Vp8]);
    sim[publisher].edits = Some(edits);
    sim[publisher].edits_back = edits_back;
    let reply = sim.register(publisher, "r/u", Program::of(Codec::Vp8));
    assert!(matches!(reply, ServerMessage::Registered { .. }), "{reply:?}");
    let viewer = sim.client(Door::WebSocket, &[Codec::Vp8]);
    // What is in an offer only is not for answers.
    if edits_back.is_none() {
        sim[viewer].edits = Some(edits);
    }
    sim.subscribe_with(viewer, "r/u");
    sim.run_for(secs(2));
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let mid = sim.mid(viewer, "r/u", kind).expect("it is offered");
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
    }
    assert_eq!((sim.errors(publisher), sim.errors(viewer)), (vec![], vec![]));
}

#[test]
fn candidates_of_every_kind_are_taken() {
    for role in [IceRole::Lite, IceRole::Full] {
        for edits in EDITS {
            let mut sim = Simulation::with(1, |config| config.ice = role);
            assert_plays(&mut sim, edits, None);
        }
    }
}

#[test]
fn trickled_candidates_of_every_kind_are_taken() {
    for role in [IceRole::Lite, IceRole::Full] {
        let mut sim = Simulation::with(1, |config| config.ice = role);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        for client in [publisher, viewer] {
            let session = sim[client].session;
            for candidate in
                ALL.into_iter().map(str::to_owned).chain(["".into(), "a=candidate:".into(), "\u{0}".into()])
            {
                sim.tell(session, Command::Candidate { candidate: Some(candidate) });
            }
            sim.tell(session, Command::Candidate { candidate: None });
        }
        sim.run_for(secs(2));
        assert_eq!((sim.errors(publisher), sim.errors(viewer)), (vec![], vec![]));
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Video));
    }
}

#[test]
fn a_full_ice_server_connects_to_a_client_that_trickles_and_checks_late() {
    with_seeds(|seed| {
        let mut sim = Simulation::with(seed, |config| config.ice = IceRole::Full);
        let publisher = sim.client(Door::WebSocket, &[Codec::Vp8]);
        sim[publisher].edits = Some(|sdp| with_candidates(sdp, &[]));
        sim.register(publisher, "r/u", Program::of(Codec::Vp8));
        sim.run_for(ms(30));
        let (session, address) = (sim[publisher].session, sim[publisher].address);
        let candidate = format!("candidate:1 1 udp 2122265343 {} {} typ host", address.ip(), address.port());
        sim.tell(session, Command::Candidate { candidate: Some(candidate) });
        sim.run_for(secs(2));
        assert!(sim[publisher].connected_at.is_some());
        assert_eq!(sim.hub.snapshot(sim.now).broadcasts.len(), 1);
    });
}

/// Mids that str0m would cut or change, in the place of its own.
fn long_mids(sdp: &str) -> String {
    let mids: Vec<_> = sdp.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
    let long = |mid: &str| format!("a-very.long-mid.of-{mid}");
    let replaced = sdp.lines().map(|line| {
        if line.starts_with("a=group:BUNDLE") {
            let all: Vec<_> = mids.iter().map(|mid| long(mid)).collect();
            format!("a=group:BUNDLE {}\r\n", all.join(" "))
        } else if let Some(mid) = line.strip_prefix("a=mid:") {
            format!("a=mid:{}\r\n", long(mid))
        } else {
            format!("{line}\r\n")
        }
    });
    replaced.collect()
}

#[test]
fn long_and_odd_mids_are_given_back() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        assert_plays(&mut sim, long_mids, Some(|sdp| sdp.replace("a-very.long-mid.of-", "")));
    });
}

#[test]
fn a_passive_client_is_met_actively() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let passive: fn(&str) -> String = |sdp| sdp.replace("a=setup:actpass", "a=setup:passive");
        assert_plays(&mut sim, passive, Some(str::to_owned));
    });
}

#[test]
fn an_active_client_and_one_without_a_role_are_met_passively() {
    let edits: [fn(&str) -> String; 2] =
        [|sdp| sdp.replace("a=setup:actpass", "a=setup:active"), |sdp| sdp.replace("a=setup:actpass\r\n", "")];
    for edit in edits {
        let mut sim = Simulation::new(1);
        assert_plays(&mut sim, edit, Some(str::to_owned));
    }
}

#[test]
fn port_0_with_bundle_only_is_an_offer_all_the_same() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let bundled: fn(&str) -> String = |sdp| {
            let at = sdp.find("m=video").expect("video");
            let (audio, video) = sdp.split_at(at);
            let video = video.replacen("m=video 9", "m=video 0", 1);
            format!("{audio}{}", video.replacen("a=mid:", "a=bundle-only\r\na=mid:", 1))
        };
        assert_plays(&mut sim, bundled, Some(str::to_owned));
    });
}

#[test]
fn sound_alone_and_pictures_alone_are_broadcasts() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        let sound = sim.publish("r/sound", Program { audio: true, video: vec![], channels: vec![] });
        let pictures = sim.publish("r/pictures", Program { audio: false, video: vec![Codec::H264], channels: vec![] });
        sim.run_for(secs(2));
        for (name, publisher, kind) in
            [("r/sound", sound, TrackKind::Audio), ("r/pictures", pictures, TrackKind::Video)]
        {
            let mid = sim.mid(viewer, name, kind).expect("it is offered");
            assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
        }
        assert_eq!(
            sim[viewer].received.iter().map(|packet| packet.mid).collect::<std::collections::HashSet<_>>().len(),
            2
        );
    });
}

fn samples(folder: &str) -> Vec<(String, String)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/sdp").join(folder);
    let paths = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let mut samples: Vec<_> = paths
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    samples.sort();
    assert!(samples.len() >= 3, "{folder} holds samples");
    samples
}

/// Kind and mid of each m-line.
fn m_lines(sdp: &str) -> Vec<(String, Option<String>)> {
    let sections = sdp.split("\nm=").skip(1);
    sections
        .map(|section| {
            let mid = section.lines().find_map(|line| line.trim_end().strip_prefix("a=mid:")).map(str::to_owned);
            (section.split(' ').next().unwrap().to_owned(), mid)
        })
        .collect()
}

#[test]
fn browsers_and_encoders_offers_are_answered_line_by_line() {
    let mut sim = Simulation::new(1);
    for (name, offer) in samples("publish") {
        let session = sim.open();
        let reply = sim.ask(session, Command::Register { broadcast: "r/u".parse().unwrap(), offer: offer.clone() });
        let ServerMessage::Registered { sdp, .. } = reply else {
            panic!("{name}: {reply:?}");
        };
        assert_eq!(m_lines(&sdp), m_lines(&offer), "{name}");
        assert!(sdp.contains("203.0.113.1 8189"), "{name}: our candidate");
        assert!(sdp.contains("a=ice-lite"), "{name}");
        assert!(!sdp.contains("m=audio") || sdp.contains("opus/48000/2"), "{name}");
        let video = offer.contains("m=video");
        assert_eq!(sdp.contains("x-google-start-bitrate=2500"), video, "{name}");
        sim.vanish_session(session);
    }
    sim.run_for(secs(1));
    assert_eq!(sim.hub.sizes(), [0; 6]);
}

#[test]
fn browsers_and_players_offers_to_watch_are_answered_line_by_line() {
    let mut sim = Simulation::new(1);
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(1));
    for (name, offer) in samples("play") {
        let session = sim.open_by(Door::Whep);
        let reply = sim.ask(session, Command::Play { broadcast: "r/u".parse().unwrap(), offer: offer.clone() });
        let ServerMessage::Answer { sdp } = reply else {
            panic!("{name}: {reply:?}");
        };
        assert_eq!(m_lines(&sdp), m_lines(&offer), "{name}");
        let streams: std::collections::BTreeSet<_> = sdp
            .lines()
            .filter_map(|line| line.strip_prefix("a=msid:"))
            .map(|msid| msid.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(streams.len(), 1, "{name}: sound and picture in one stream");
        sim.vanish_session(session);
    }
}

#[test]
fn nothing_in_common_is_refused_and_leaves_nothing() {
    let mut sim = Simulation::with(1, |config| config.codecs = vec![Codec::H264]);
    let client = sim.client_of_new_session(&[Codec::Vp8]);
    let reply = sim.register(client, "r/u", Program { audio: false, video: vec![Codec::Vp8], channels: vec![] });
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::UnsupportedCodec, fatal: false, .. }), "{reply:?}");
    let client = sim.client_of_new_session(&[Codec::Vp8]);
    let reply = sim.register(client, "r/u", Program { audio: false, video: vec![], channels: vec!["alone"] });
    assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, fatal: false, .. }), "{reply:?}");
    sim.run_for(ms(10));
    assert_eq!(sim.hub.sizes(), [0, 2, 0, 0, 0, 0]);
    // With sound in common, the sound is broadcast.
    let client = sim.client_of_new_session(&[Codec::Vp8]);
    let reply = sim.register(client, "r/u", Program::of(Codec::Vp8));
    assert!(matches!(reply, ServerMessage::Registered { .. }), "{reply:?}");
}
