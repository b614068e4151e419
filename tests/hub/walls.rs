//! Viewers of a whole room: a wall that grows, shrinks and is chosen from, by one exchange of offer and answer at a time.

use onair::hub::io::Command;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::stream::{assert_whole, stretch, stretches};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

/// What plays on the viewer's m-lines by its latest offer is what arrives there, and nothing arrives elsewhere.
fn assert_wall(sim: &mut Simulation, viewer: ClientId, live: &[(&str, ClientId)]) {
    let since = sim.now;
    sim.run_for(ms(700));
    let mut expected = 0;
    for (name, publisher) in live {
        for track in &sim[*publisher].outgoing {
            let kind = track.encoder.codec.kind();
            let mid = sim.mid(viewer, name, kind).unwrap_or_else(|| panic!("{name} has its {kind:?}"));
            let stretches = stretches(&sim[viewer], mid);
            let latest = stretches.last().expect("something plays");
            assert_whole(latest, &track.encoder);
            expected += 1;
        }
    }
    let mut playing: Vec<_> = sim[viewer]
        .received
        .iter()
        .filter(|packet| packet.at > since + ms(100))
        .map(|packet| packet.mid.to_string())
        .collect();
    playing.sort();
    playing.dedup();
    assert_eq!(playing.len(), expected, "nothing plays that was not offered");
}

fn select(sim: &mut Simulation, viewer: ClientId, names: Option<&[&str]>) -> ServerMessage {
    let broadcasts = names.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
    let session = sim[viewer].session;
    sim.ask(session, Command::Select { broadcasts })
}

#[test]
fn a_wall_grows_and_shrinks_with_its_room() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        let a = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let b = sim.publish("r/b", Program::of(Codec::H264));
        let c = sim.publish("r/c", Program { audio: true, video: vec![], channels: vec![] });
        let elsewhere = sim.publish("other/a", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/a", a), ("r/b", b), ("r/c", c)]);
        let place = sim.mid(viewer, "r/b", TrackKind::Video).unwrap();
        sim.vanish(b);
        assert_wall(&mut sim, viewer, &[("r/a", a), ("r/c", c)]);
        sim.vanish(a);
        // Who returns gets its own place, though another is free.
        let b = sim.publish("r/b", Program::of(Codec::H264));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b), ("r/c", c)]);
        assert_eq!(sim.mid(viewer, "r/b", TrackKind::Video), Some(place));
        let d = sim.publish("r/d", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b), ("r/c", c), ("r/d", d)]);
        assert!(!sim.story(viewer).iter().any(|line| line.contains("other")));
        assert!(sim[elsewhere].keyframe_requests.is_empty());
    });
}

#[test]
fn changes_while_an_answer_is_due_are_folded_into_one_next_offer() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = true;
        let a = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(ms(500));
        assert_eq!(sim[viewer].offered.len(), 1);
        let b = sim.publish("r/b", Program::of(Codec::Vp8));
        let c = sim.publish("r/c", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        sim.vanish(c);
        sim.run_for(secs(1));
        assert_eq!(sim[viewer].offered.len(), 1, "one exchange in flight");
        let told = sim.story(viewer);
        let changes: Vec<_> = told.iter().filter(|line| line.contains("connected")).collect();
        assert_eq!(changes.len(), 4, "what happens is told at once: {told:?}");
        sim.answer(viewer);
        assert_eq!(sim[viewer].offered.len(), 1);
        assert_eq!(sim.story(viewer).last().unwrap(), "offer [r/a:audio r/a:video r/b:audio r/b:video]");
        sim[viewer].withholds_answers = false;
        sim.answer(viewer);
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/a", a), ("r/b", b)]);
    });
}

#[test]
fn one_broadcast_gone_and_another_come_while_an_answer_is_due_are_not_mixed_up() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = true;
        let a = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(ms(500));
        sim.vanish(a);
        let b = sim.publish("r/b", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = false;
        sim.answer(viewer);
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b)]);
        assert_eq!(sim.mid(viewer, "r/a", TrackKind::Video), None);
    });
}

#[test]
fn a_broadcast_gone_and_back_while_an_answer_is_due_is_offered_again() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/a");
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = true;
        let first = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(ms(500));
        sim.vanish(first);
        let second = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = false;
        sim.answer(viewer);
        sim.run_for(secs(1));
        let story = sim.story(viewer);
        assert_eq!(story[2..5], ["connected r/a", "offer [r/a:audio r/a:video]", "disconnected r/a left"]);
        assert_eq!(story[5], "connected r/a");
        assert_eq!(story.last().unwrap(), "offer [r/a:audio r/a:video]");
        assert!(story.len() > 6, "an offer with its tracks follows: {story:?}");
        assert_wall(&mut sim, viewer, &[("r/a", second)]);
    });
}

#[test]
fn a_viewer_of_a_room_selects_what_it_wants() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        let a = sim.publish("r/a", Program::of(Codec::Vp8));
        let b = sim.publish("r/b", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_eq!(select(&mut sim, viewer, Some(&["r/b", "r/later"])), ServerMessage::Selected);
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b)]);
        let offers = sim[viewer].offered.len() + sim.story(viewer).len();
        assert_eq!(select(&mut sim, viewer, Some(&["r/b"])), ServerMessage::Selected);
        sim.run_for(ms(100));
        assert_eq!(sim.story(viewer).len(), offers + 1, "no offer where nothing changes");
        select(&mut sim, viewer, Some(&["r/b", "r/later"]));
        // Those left out are heard of all the same.
        let later = sim.publish("r/later", Program::of(Codec::Vp8));
        let c = sim.publish("r/c", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert!(sim.story(viewer).contains(&"connected r/c".to_owned()));
        assert_wall(&mut sim, viewer, &[("r/b", b), ("r/later", later)]);
        select(&mut sim, viewer, None);
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/a", a), ("r/b", b), ("r/c", c), ("r/later", later)]);
        select(&mut sim, viewer, Some(&[]));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[]);
    });
}

#[test]
fn a_selection_while_an_answer_is_due_holds() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r");
        let a = sim.publish("r/a", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/a", a)]);
        sim[viewer].withholds_answers = true;
        let b = sim.publish("r/b", Program::of(Codec::Vp8));
        sim.run_for(ms(500));
        assert_eq!(sim[viewer].offered.len(), 1);
        assert_eq!(select(&mut sim, viewer, Some(&["r/b"])), ServerMessage::Selected);
        sim.run_for(ms(500));
        sim[viewer].withholds_answers = false;
        let selected = sim.now;
        sim.answer(viewer);
        let c = sim.publish("r/c", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b)]);
        let number = sim[a].encoder(TrackKind::Video).sent[0].payload.clone();
        let number = crate::simulation::media::Token::of(&number).encoder;
        let stray = sim[viewer].received.iter().filter(|packet| packet.at > selected && packet.token.encoder == number);
        assert_eq!(stray.count(), 0, "what was left out has stopped at once");
        select(&mut sim, viewer, Some(&["r/b", "r/c"]));
        sim.run_for(secs(1));
        assert_wall(&mut sim, viewer, &[("r/b", b), ("r/c", c)]);
    });
}

#[test]
fn only_a_viewer_of_a_room_selects_and_only_of_its_room() {
    let mut sim = Simulation::new(1);
    let of_one = sim.subscribe("r/u");
    let of_room = sim.subscribe("r");
    let code = |reply: ServerMessage| match reply {
        ServerMessage::Error { code, fatal: false, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(select(&mut sim, of_one, None)), ErrorCode::BadState);
    assert_eq!(code(select(&mut sim, of_room, Some(&["other/u"]))), ErrorCode::BadMessage);
}

#[test]
fn walls_of_many_viewers_stay_right_while_broadcasters_come_and_go_at_random() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let names = ["r/a", "r/b", "r/c", "r/d"];
        let mut live: Vec<(&str, ClientId)> = Vec::new();
        let viewers: Vec<_> = (0..3).map(|_| sim.subscribe("r")).collect();
        for _ in 0..25 {
            let name = names[sim.random.usize(..names.len())];
            match live.iter().position(|(live, _)| *live == name) {
                Some(place) => {
                    let (_, publisher) = live.remove(place);
                    sim.vanish(publisher);
                }
                None => live.push((name, sim.publish(name, Program::of(Codec::Vp8)))),
            }
            // One of the viewers answers late.
            let slow = viewers[sim.random.usize(..viewers.len())];
            if sim[slow].withholds_answers {
                sim[slow].withholds_answers = false;
                while !sim[slow].offered.is_empty() {
                    sim.answer(slow);
                }
            } else {
                sim[slow].withholds_answers = true;
            }
            let pause = ms(sim.random.u64(..400));
            sim.run_for(pause);
        }
        for viewer in &viewers {
            sim[*viewer].withholds_answers = false;
            while !sim[*viewer].offered.is_empty() {
                sim.answer(*viewer);
            }
        }
        sim.run_for(secs(1));
        for viewer in &viewers {
            assert_wall(&mut sim, *viewer, &live);
            let story = sim.story(*viewer);
            let seqs: Vec<_> = sim
                .heard_by(*viewer)
                .filter_map(|message| match message {
                    ServerMessage::Offer { seq, .. } => Some(*seq),
                    _ => None,
                })
                .collect();
            assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{story:?}");
        }
    });
}

#[test]
fn a_broadcast_of_sound_alone_has_one_m_line() {
    let mut sim = Simulation::new(1);
    let viewer = sim.subscribe("r/u");
    let publisher = sim.publish("r/u", Program { audio: true, video: vec![], channels: vec![] });
    sim.run_for(secs(2));
    assert_eq!(sim.story(viewer)[2..], ["connected r/u", "offer [r/u:audio]"]);
    let mid = sim.mid(viewer, "r/u", TrackKind::Audio).unwrap();
    assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Audio));
}
