//! Messages out of turn: each is `bad-state`, and nothing has changed.

use onair::hub::io::{Command, Order, SessionId};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{BroadcastId, ErrorCode, ServerMessage};
use str0m::media::Direction;

use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

fn commands(sim: &mut Simulation) -> Vec<Command> {
    let mut stranger =
        crate::simulation::client::Client::new(SessionId(0), "10.8.8.8:8".parse().unwrap(), &[Codec::Vp8], sim.now);
    let offer = stranger.offer([true, true], Direction::SendOnly, &[]);
    let broadcast: BroadcastId = "r/new".parse().unwrap();
    vec![
        Command::Register { broadcast: broadcast.clone(), offer: offer.clone() },
        Command::Subscribe { room: "new".parse().unwrap(), user: None },
        Command::Play { broadcast: "r/u".parse().unwrap(), offer: offer.clone() },
        Command::Offer { offer },
        Command::Unregister,
        Command::Answer { answer: String::new(), seq: 1 },
        Command::Select { broadcasts: None },
        Command::Restart,
        Command::Unsubscribe,
        Command::Candidate { candidate: Some("candidate:1 1 udp 1 192.0.2.1 1 typ host".into()) },
    ]
}

/// Gives every command but those that are in turn, and expects `bad-state` of each.
fn assert_refused(sim: &mut Simulation, session: SessionId, in_turn: &[usize]) {
    let before = sim.hub.sizes();
    for (index, command) in commands(sim).into_iter().enumerate() {
        if in_turn.contains(&index) {
            continue;
        }
        let reply = sim.ask(session, command.clone());
        assert!(
            matches!(reply, ServerMessage::Error { code: ErrorCode::BadState, fatal: false, .. }),
            "{command:?}: {reply:?}"
        );
    }
    assert_eq!(sim.ask(session, Command::Ping), ServerMessage::Pong);
    assert_eq!(sim.hub.sizes(), before);
}

fn live(seed: u64) -> (Simulation, ClientId, ClientId) {
    let mut sim = Simulation::new(seed);
    let viewer = sim.subscribe("r/u");
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
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
fn a_session_that_has_begun_nothing_can_only_begin() {
    let mut sim = Simulation::new(1);
    let session = sim.open();
    assert_refused(&mut sim, session, &[0, 1, 2]);
}

#[test]
fn a_broadcaster_can_only_renegotiate_trickle_and_leave() {
    let (mut sim, publisher, viewer) = live(1);
    let session = sim[publisher].session;
    assert_refused(&mut sim, session, &[3, 4, 9]);
    assert_undisturbed(&mut sim, publisher, viewer);
}

#[test]
fn a_viewer_neither_registers_nor_subscribes_again() {
    let (mut sim, publisher, viewer) = live(1);
    let session = sim[viewer].session;
    // `select` is for viewers of a whole room.
    assert_refused(&mut sim, session, &[7, 8, 9]);
    assert_undisturbed(&mut sim, publisher, viewer);
}

#[test]
fn a_player_neither_answers_nor_restarts_by_command() {
    let (mut sim, publisher, viewer) = live(1);
    let (player, _) = sim.play("r/u", &[Codec::Vp8]);
    sim.run_for(ms(500));
    let session = sim[player].session;
    assert_refused(&mut sim, session, &[8, 9]);
    assert_undisturbed(&mut sim, publisher, viewer);
}

#[test]
fn a_closed_session_is_over() {
    let (mut sim, publisher, viewer) = live(1);
    let session = sim.open();
    sim.order(session, Order::Close);
    for command in commands(&mut sim).into_iter().chain([Command::Ping]) {
        let reply = sim.ask(session, command);
        assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadState, .. }), "{reply:?}");
    }
    assert_undisturbed(&mut sim, publisher, viewer);
}

#[test]
fn an_answer_with_another_number_changes_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        sim[viewer].withholds_answers = true;
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        sim.run_until(secs(2), "an offer", |sim| !sim[viewer].offered.is_empty());
        let offer = sim[viewer].offered.pop_front().unwrap();
        let answer = sim[viewer].answer(&offer);
        let session = sim[viewer].session;
        for seq in [0, 1, offer.seq - 1, offer.seq + 1, u64::MAX] {
            let reply = sim.ask(session, Command::Answer { answer: answer.clone(), seq });
            assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadState, fatal: false, .. }));
        }
        // Nor does one that cannot be read.
        for bad in ["", "v=0\r\n", "m=audio"] {
            let reply = sim.ask(session, Command::Answer { answer: bad.to_owned(), seq: offer.seq });
            assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, fatal: false, .. }), "{bad}");
        }
        sim.tell(session, Command::Answer { answer: answer.clone(), seq: offer.seq });
        let now = sim.now;
        sim[viewer].poke(now);
        let reply = sim.ask(session, Command::Answer { answer, seq: offer.seq });
        assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadState, .. }), "answered twice: {reply:?}");
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn a_bad_offer_of_a_live_broadcaster_changes_nothing() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let session = sim[publisher].session;
        for offer in ["", "v=0\r\n", "v=0\r\nm=audio 9 RTP/AVP 0\r\n"] {
            let reply = sim.ask(session, Command::Offer { offer: offer.to_owned() });
            assert!(matches!(reply, ServerMessage::Error { code: ErrorCode::BadSdp, fatal: false, .. }), "{reply:?}");
        }
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn after_unsubscribing_the_session_may_begin_again() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let session = sim[viewer].session;
        assert_eq!(sim.ask(session, Command::Unsubscribe), ServerMessage::Unsubscribed);
        sim.run_for(ms(300));
        assert!(sim[viewer].is_closed);
        assert_refused(&mut sim, session, &[0, 1, 2]);
        let again = sim.client_of(session, "10.9.9.9:1".parse().unwrap(), &[Codec::Vp8]);
        sim.subscribe_with(again, "r/u");
        sim.run_for(secs(1));
        assert_undisturbed(&mut sim, publisher, again);
    });
}
