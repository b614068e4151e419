//! What whoever watches the server is told: nothing less than what befalls broadcasts, and nothing more often.

use onair::hub::io::{Command, News, Notice, Order, RecordingNews, SessionId};
use onair::hub::record_rule::RecordRule;
use onair::rtp::codec::Codec;
use onair::signal::ServerMessage;
use onair::signal::message::RecordingState;

use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn recording_hub(seed: u64) -> Simulation {
    Simulation::with(seed, |config| {
        config.record = RecordRule::All;
        config.recordable = [Codec::Opus, Codec::Vp8].into_iter().collect();
    })
}

fn told(sim: &Simulation) -> Vec<String> {
    let line = |notice: &Notice| {
        let news = match &notice.news {
            News::Connected { tracks, .. } => format!("connected, {} tracks", tracks.len()),
            News::Disconnected { reason } => format!("{reason:?}").to_lowercase(),
            News::Viewers { count } => format!("{count} viewers"),
            News::Recording(RecordingNews { state, error, .. }) => {
                format!("recording {state:?} {error:?}").to_lowercase()
            }
        };
        format!("{}: {news}", notice.broadcast)
    };
    sim.notices.iter().map(line).collect()
}

fn unregister(sim: &mut Simulation, publisher: ClientId) {
    let session = sim[publisher].session;
    assert_eq!(sim.ask(session, Command::Unregister), ServerMessage::Unregistered);
}

#[test]
fn the_life_of_a_broadcast_is_told() {
    with_seeds(|seed| {
        let mut sim = recording_hub(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        let recording = *sim.recordings.keys().next().unwrap();
        let file = Some("r/u/20260101-000000.mp4".to_owned());
        let outcome = |state, error| Order::Recording { recording, state, file: file.clone(), error, facts: None };
        sim.order(SessionId(0), outcome(RecordingState::Started, None));
        let viewers = [sim.subscribe("r/u"), sim.subscribe("r")];
        sim.run_for(secs(3));
        sim.vanish(viewers[0]);
        sim.run_for(secs(2));
        // Who takes it over is another stint.
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(3));
        sim.order(SessionId(0), outcome(RecordingState::Failed, Some("full".to_owned())));
        sim.order(SessionId(0), Order::Shutdown);
        let rises: Vec<_> = told(&sim).into_iter().filter(|line| line != "r/u: 1 viewers").collect();
        assert_eq!(
            rises,
            [
                "r/u: connected, 2 tracks",
                "r/u: recording started none",
                "r/u: 2 viewers",
                "r/u: replaced",
                "r/u: connected, 2 tracks",
                "r/u: recording failed some(\"full\")",
                "r/u: shutdown",
            ]
        );
        // With one left, and once more for the second stint; the two may also have come by turns.
        assert!((2..=3).contains(&(sim.notices.len() - rises.len())), "{:?}", told(&sim));
        let session = sim[publisher].session;
        assert!(matches!(&sim.notices[0].news, News::Connected { session: whose, .. } if *whose == session));
    });
}

#[test]
fn a_snapshot_says_up_to_which_notice_it_tells() {
    let mut sim = Simulation::new(1);
    assert_eq!(sim.hub.snapshot(sim.now).notices, 0);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    sim.run_for(secs(2));
    assert_eq!(sim.hub.snapshot(sim.now).notices, 1);
    unregister(&mut sim, publisher);
    assert_eq!(sim.hub.snapshot(sim.now).notices, 2);
    assert_eq!(told(&sim), ["r/u: connected, 2 tracks", "r/u: left"]);
}

#[test]
fn what_never_went_live_is_nobodys_news() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.subscribe("r/u");
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        unregister(&mut sim, publisher);
        let mute = sim.publish("r/v", Program::of(Codec::Vp8));
        sim[mute].is_mute = true;
        sim.run_for(secs(15));
        assert_eq!(told(&sim), [] as [&str; 0]);
    });
}

#[test]
fn viewers_that_come_and_go_are_counted_once_a_second() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_for(secs(1));
        for _ in 0..20 {
            let viewer = sim.subscribe("r/u");
            sim.run_for(ms(300));
            sim.vanish(viewer);
        }
        sim.run_for(secs(2));
        let counts = told(&sim).iter().filter(|line| line.ends_with("viewers")).count();
        assert!((1..=9).contains(&counts), "{:?}", told(&sim));
    });
}
