//! SDP that is broken in the middle: whatever a client writes, it harms nobody but itself, and nothing is left of it.

use std::fs;
use std::path::PathBuf;

use onair::hub::io::{Command, Door};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

/// A few lines gone, doubled, swapped or with another byte in them.
fn mangled(sdp: &str, random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = sdp.lines().map(str::to_owned).collect();
    for _ in 0..random.usize(1..4) {
        let (at, other) = (random.usize(..lines.len()), random.usize(..lines.len()));
        match random.u8(..5) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(other, lines[at].clone()),
            2 => lines.swap(at, other),
            3 => {
                let mut bytes = lines[at].clone().into_bytes();
                if !bytes.is_empty() {
                    let place = random.usize(..bytes.len());
                    bytes[place] = random.u8(b' '..=b'~');
                }
                lines[at] = String::from_utf8_lossy(&bytes).into_owned();
            }
            _ => {
                // A number that is another.
                let digit = random.char('0'..='9');
                lines[at] =
                    lines[at].chars().map(|c| if c.is_ascii_digit() && random.bool() { digit } else { c }).collect();
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.into_iter().map(|line| line + "\r\n").collect()
}

fn samples(folder: &str) -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/sdp").join(folder);
    let mut paths: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn live(seed: u64) -> (Simulation, ClientId, ClientId) {
    let mut sim = Simulation::new(seed);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(1));
    (sim, publisher, viewer)
}

fn assert_undisturbed(sim: &mut Simulation, publisher: ClientId, viewer: ClientId) {
    sim.run_for(secs(1));
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let mid = sim.mid(viewer, "r/u", kind).unwrap();
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
    }
}

#[test]
fn mangled_offers_are_answered_or_refused() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let sizes = sim.hub.sizes();
        for offer in samples("publish").into_iter().chain(samples("play")) {
            for _ in 0..8 {
                let offer = mangled(&offer, &mut sim.random);
                let broadcast = "r/mangled".parse().unwrap();
                let (door, command) = if sim.random.bool() {
                    (Door::WebSocket, Command::Register { broadcast, offer })
                } else {
                    (Door::Whep, Command::Play { broadcast: "r/u".parse().unwrap(), offer })
                };
                let session = sim.open_by(door);
                match sim.ask(session, command.clone()) {
                    ServerMessage::Registered { .. } | ServerMessage::Answer { .. } => {}
                    ServerMessage::Error {
                        code: ErrorCode::BadSdp | ErrorCode::UnsupportedCodec | ErrorCode::TooMany,
                        fatal: false,
                        ..
                    } => {}
                    other => panic!("{other:?} to {command:?}"),
                }
                sim.vanish_session(session);
            }
        }
        sim.run_for(secs(1));
        assert_eq!(sim.hub.sizes(), sizes);
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn mangled_answers_end_at_most_their_own_session() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let sizes = sim.hub.sizes();
        for _ in 0..20 {
            let client = sim.client_of_new_session(&[Codec::Vp8, Codec::H264]);
            sim[client].withholds_answers = true;
            sim.subscribe_with(client, "r");
            let offer = sim[client].offered.pop_front().unwrap();
            let answer = sim[client].answer(&offer);
            let answer = mangled(&answer, &mut sim.random);
            let session = sim[client].session;
            sim.tell(session, Command::Answer { answer, seq: offer.seq });
            let now = sim.now;
            sim[client].poke(now);
            sim.run_for(ms(100));
            let fatal = sim.heard_by(client).any(|message| matches!(message, ServerMessage::Error { fatal: true, .. }));
            assert_eq!(fatal, sim.log(session).ended == 1, "{:?}", sim.story(client));
            sim.vanish(client);
        }
        sim.run_for(secs(1));
        assert_eq!(sim.hub.sizes(), sizes);
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn mangled_renegotiations_end_at_most_their_own_broadcast() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        for index in 0..10 {
            let name = format!("r/other-{index}");
            let client = sim.publish(&name, Program::of(Codec::Vp8));
            sim.run_for(ms(200));
            let offer = sim[client].offer_ice_restart();
            let offer = mangled(&offer, &mut sim.random);
            let session = sim[client].session;
            // Whether it is answered or not, what it answers is not for this client.
            sim[client].is_gone = true;
            let reply = sim.ask(session, Command::Offer { offer });
            assert!(
                matches!(reply, ServerMessage::Answer { .. } | ServerMessage::Error { code: ErrorCode::BadSdp, .. }),
                "{reply:?}"
            );
            sim.vanish(client);
        }
        assert_undisturbed(&mut sim, publisher, viewer);
        sim.vanish(viewer);
        sim.vanish(publisher);
        sim.run_for(secs(7));
        assert_eq!(sim.hub.sizes(), [0; 6]);
    });
}

#[test]
fn an_offer_that_is_refused_late_has_not_restarted_ice() {
    let edits: [fn(&str) -> String; 3] = [
        // An m-line less.
        |sdp| {
            let (kept, video) = sdp.split_at(sdp.find("m=video").expect("video"));
            let mid = video.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a mid");
            kept.replace(&format!(" {mid}\r\n"), "\r\n")
        },
        // Another kind in the place of one.
        |sdp| sdp.replace("m=video", "m=audio"),
        // Another mid in the place of one.
        |sdp| {
            let video = &sdp[sdp.find("m=video").expect("video")..];
            let mid = video.lines().find_map(|line| line.strip_prefix("a=mid:")).expect("a mid");
            sdp.replace(mid, "new")
        },
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let (mut sim, publisher, viewer) = live(1);
        // A client that offers one thing and goes on as if it had offered nothing.
        let offer = sim[publisher].offer_ice_restart();
        sim[publisher].pending = None;
        let session = sim[publisher].session;
        let reply = sim.ask(session, Command::Offer { offer: edit(&offer) });
        assert!(
            matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, fatal: false, .. }),
            "edit {index}: {reply:?}"
        );
        sim.run_for(secs(12));
        assert_eq!(sim.log(session).ended, 0, "edit {index}: {:?}", sim.story(publisher));
        assert_undisturbed(&mut sim, publisher, viewer);
    }
}
