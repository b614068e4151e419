//! What clients can make grow has a cap: reaching it is `too-many`, and room comes free again.

use std::net::IpAddr;

use onair::hub::config::{HubConfig, Limits};
use onair::hub::io::{Command, Door, Order};
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::{ErrorCode, ServerMessage};

use crate::simulation::{Program, Simulation, secs};

fn limited(limits: Limits) -> Simulation {
    Simulation::with(1, |config: &mut HubConfig| config.limits = limits)
}

fn is_too_many(reply: &ServerMessage) -> bool {
    matches!(reply, ServerMessage::Error { code: ErrorCode::TooMany, fatal: false, .. })
}

fn subscribe(sim: &mut Simulation, room: &str) -> ServerMessage {
    let session = sim.open();
    sim.ask(session, Command::Subscribe { room: room.parse().unwrap(), user: None })
}

#[test]
fn sessions_in_all() {
    let mut sim = limited(Limits { sessions: 3, ..Limits::default() });
    let first = sim.open();
    sim.open();
    sim.open();
    let refused = sim.open();
    assert!(matches!(
        sim.heard(refused)[0].message,
        ServerMessage::Error { code: ErrorCode::TooMany, fatal: true, .. }
    ));
    assert_eq!(sim.log(refused).ended, 1);
    assert!(matches!(sim.ask(refused, Command::Ping), ServerMessage::Error { code: ErrorCode::BadState, .. }));
    sim.order(first, Order::Close);
    let next = sim.open();
    assert_eq!(sim.ask(next, Command::Ping), ServerMessage::Pong);
}

#[test]
fn sessions_from_one_address() {
    let mut sim = limited(Limits { sessions_per_address: 2, ..Limits::default() });
    let address: IpAddr = "192.0.2.9".parse().unwrap();
    let mapped: IpAddr = "::ffff:192.0.2.9".parse().unwrap();
    let first = sim.open_from(Door::WebSocket, address);
    sim.open_from(Door::Whip, mapped);
    let refused = sim.open_from(Door::WebSocket, address);
    assert_eq!(sim.log(refused).ended, 1, "the same address, however it is written");
    sim.order(first, Order::Close);
    let next = sim.open_from(Door::WebSocket, address);
    assert_eq!(sim.ask(next, Command::Ping), ServerMessage::Pong);
    for _ in 0..5 {
        let home = sim.open_from(Door::WebSocket, "127.0.0.1".parse().unwrap());
        assert_eq!(sim.ask(home, Command::Ping), ServerMessage::Pong, "a reverse proxy is not counted");
    }
}

#[test]
fn peers_of_a_room() {
    let mut sim = limited(Limits { peers_per_room: 2, ..Limits::default() });
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r");
    sim.run_for(secs(1));
    assert!(is_too_many(&subscribe(&mut sim, "r")));
    let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
    assert!(is_too_many(&sim.register(newcomer, "r/other", Program::of(Codec::Vp8))));
    let (_, reply) = sim.play("r/u", &[Codec::Vp8]);
    assert!(is_too_many(&reply));
    assert!(!is_too_many(&subscribe(&mut sim, "another")));
    // A takeover needs no place.
    let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
    assert!(matches!(sim.register(newcomer, "r/u", Program::of(Codec::Vp8)), ServerMessage::Registered { .. }));
    assert_eq!(sim.errors(publisher), [ErrorCode::NameTaken]);
    sim.vanish(viewer);
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
}

#[test]
fn broadcasts_of_a_room() {
    let mut sim = limited(Limits { broadcasts_per_room: 1, ..Limits::default() });
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
    assert!(is_too_many(&sim.register(newcomer, "r/other", Program::of(Codec::Vp8))));
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
    sim.vanish(publisher);
    let newcomer = sim.client_of_new_session(&[Codec::Vp8]);
    assert!(matches!(sim.register(newcomer, "r/other", Program::of(Codec::Vp8)), ServerMessage::Registered { .. }));
}

#[test]
fn handshakes_under_way() {
    let mut sim = limited(Limits { handshakes: 3, ..Limits::default() });
    sim.publish("r/u", Program::of(Codec::Vp8));
    sim.subscribe("r");
    let unanswered = sim.open();
    sim.ask(unanswered, Command::Subscribe { room: "r".parse().unwrap(), user: None });
    assert!(is_too_many(&subscribe(&mut sim, "r")));
    // Two of the three connect; the third is closed.
    sim.run_for(secs(1));
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
    assert!(is_too_many(&subscribe(&mut sim, "r")));
    sim.order(unanswered, Order::Close);
    sim.run_for(secs(1));
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
    // Those that never connect free their places by their deadline.
    sim.run_for(secs(12));
    assert!(matches!(subscribe(&mut sim, "r"), ServerMessage::Subscribed { .. }));
}

#[test]
fn broadcasts_that_one_viewer_receives() {
    let mut sim = limited(Limits { lanes_per_subscriber: 2, ..Limits::default() });
    let viewer = sim.subscribe("r");
    let mut publishers: Vec<_> =
        ["r/a", "r/b", "r/c"].iter().map(|name| sim.publish(name, Program::of(Codec::Vp8))).collect();
    sim.run_for(secs(2));
    let refused: Vec<_> = sim
        .heard_by(viewer)
        .filter_map(|message| match message {
            ServerMessage::Error { code: ErrorCode::TooMany, broadcast: Some(broadcast), fatal: false, .. } => {
                Some(broadcast.to_string())
            }
            _ => None,
        })
        .collect();
    assert_eq!(refused, ["r/c"], "each is told once");
    let session = sim[viewer].session;
    let broadcasts = Some(vec!["r/b".parse().unwrap(), "r/c".parse().unwrap()]);
    assert_eq!(sim.ask(session, Command::Select { broadcasts }), ServerMessage::Selected);
    sim.run_for(secs(1));
    assert!(sim.mid(viewer, "r/c", TrackKind::Video).is_some());
    sim.ask(session, Command::Select { broadcasts: None });
    sim.run_for(secs(1));
    // A place that comes free goes to who waits.
    sim.vanish(publishers.remove(1));
    sim.run_for(secs(1));
    for name in ["r/a", "r/c"] {
        assert!(sim.mid(viewer, name, TrackKind::Video).is_some(), "{:?}", sim.story(viewer));
    }
}

#[test]
fn candidates_of_one_peer() {
    let mut sim = limited(Limits { candidates_per_peer: 5, ..Limits::default() });
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let session = sim[publisher].session;
    let candidate =
        |port: u16| Command::Candidate { candidate: Some(format!("candidate:1 1 udp 1 192.0.2.1 {port} typ host")) };
    for port in 1..=5 {
        sim.tell(session, candidate(port));
    }
    assert_eq!(sim.errors(publisher), []);
    assert!(is_too_many(&sim.ask(session, candidate(6))));
    for end in [None, Some(String::new())] {
        sim.tell(session, Command::Candidate { candidate: end });
    }
    assert_eq!(sim.errors(publisher), [ErrorCode::TooMany], "the end of candidates is none");
    sim.run_for(secs(1));
    assert!(sim[publisher].connected_at.is_some());
}

#[test]
fn m_lines_of_an_offer() {
    let mut sim = Simulation::new(1);
    let client = sim.client_of_new_session(&[Codec::Vp8]);
    let offer = sim[client].offer([true, false], str0m::media::Direction::SendOnly, &[]);
    let (head, section) = offer.split_once("m=audio").unwrap();
    let mids: Vec<_> = (0..70).map(|mid| mid.to_string()).collect();
    let group = head.lines().find(|line| line.starts_with("a=group:BUNDLE")).unwrap();
    let head = head.replace(group, &format!("a=group:BUNDLE {}", mids.join(" ")));
    let mid = section.lines().find(|line| line.starts_with("a=mid:")).unwrap();
    let bare = |line: &&str| !["a=extmap", "a=candidate", "a=ssrc"].iter().any(|prefix| line.starts_with(prefix));
    let section: String = section.lines().filter(bare).map(|line| format!("{line}\r\n")).collect();
    let sections = mids.iter().map(|new| format!("m=audio{}", section.replace(mid, &format!("a=mid:{new}"))));
    let offer = head + &sections.collect::<String>();
    let session = sim[client].session;
    let reply = sim.ask(session, Command::Register { broadcast: "r/u".parse().unwrap(), offer });
    assert!(is_too_many(&reply), "{reply:?}");
}

#[test]
fn events_that_nobody_polls() {
    let mut sim = limited(Limits { events: 1, ..Limits::default() });
    let session = sim.open();
    sim.hub.handle_command(sim.now, session, None, Command::Ping);
    sim.hub.handle_command(sim.now, session, None, Command::Ping);
    sim.settle();
    let heard: Vec<_> = sim.heard(session).iter().map(|heard| heard.message.clone()).collect();
    assert_eq!(heard[0], ServerMessage::Pong);
    assert!(is_too_many(&heard[1]));
    assert_eq!(sim.ask(session, Command::Ping), ServerMessage::Pong, "once they were polled, all is well");
}
