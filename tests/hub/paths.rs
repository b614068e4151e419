//! Where a viewer's media goes: to the address that its client has now, whoever does the checks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use onair::hub::config::IceRole;
use onair::hub::io::Command;
use onair::rtp::codec::{Codec, TrackKind};
use onair::signal::ServerMessage;

use crate::simulation::stream::{assert_true, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, server_address};

const ROLES: [IceRole; 2] = [IceRole::Lite, IceRole::Full];

const SEEDS: std::ops::Range<u64> = 1..5;

fn live(ice: IceRole, seed: u64) -> (Simulation, ClientId, ClientId) {
    let mut sim = Simulation::with(seed, |config| config.ice = ice);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(3));
    (sim, publisher, viewer)
}

/// How many datagrams of media the server sends to each address from now on.
fn count(sim: &mut Simulation) -> Rc<RefCell<BTreeMap<SocketAddr, usize>>> {
    let counts = Rc::new(RefCell::new(BTreeMap::new()));
    let into = Rc::clone(&counts);
    sim.network.filter = Some(Box::new(move |datagram| {
        if datagram.from == server_address() && datagram.is_media() {
            *into.borrow_mut().entry(datagram.to).or_insert(0) += 1;
        }
        true
    }));
    counts
}

/// Media goes to `new`, none of it to `old`, and it arrives.
fn assert_moved(sim: &mut Simulation, [publisher, viewer]: [ClientId; 2], old: SocketAddr, new: SocketAddr) {
    let counts = count(sim);
    let before = sim[viewer].received.len();
    sim.run_for(secs(2));
    let counts = counts.borrow();
    assert_eq!(counts.get(&old), None, "what it had before");
    assert!(counts.get(&new).is_some_and(|count| *count > 150), "{counts:?}");
    assert!(sim[viewer].received.len() > before + 150);
    let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
    let stretch = stretch(&sim[viewer], mid);
    assert_true(&stretch, sim[publisher].encoder(TrackKind::Video));
    assert_eq!(sim.hub.snapshot(sim.now).metrics.panics, 0);
}

fn for_each(test: impl Fn(IceRole, u64)) {
    for ice in ROLES {
        for seed in SEEDS {
            test(ice, seed);
        }
    }
}

#[test]
fn media_follows_a_viewer_whose_nat_gives_it_another_address() {
    for_each(|ice, seed| {
        let (mut sim, publisher, viewer) = live(ice, seed);
        let old = sim[viewer].address;
        let new = "198.51.100.2:9".parse().unwrap();
        sim.network.nat.insert(old, new);
        sim.run_for(secs(6));
        assert_moved(&mut sim, [publisher, viewer], old, new);
    });
}

#[test]
fn requests_follow_a_broadcaster_whose_nat_gives_it_another_address() {
    for_each(|ice, seed| {
        let (mut sim, publisher, viewer) = live(ice, seed);
        let old = sim[publisher].address;
        sim.network.nat.insert(old, "198.51.100.1:9".parse().unwrap());
        sim.run_for(secs(6));
        let asked = sim[publisher].keyframe_requests.len();
        let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
        sim[viewer].request_keyframe(mid);
        let now = sim.now;
        sim[viewer].poke(now);
        sim.run_for(secs(1));
        assert_eq!(sim[publisher].keyframe_requests.len(), asked + 1);
        assert_eq!(sim.errors(publisher), []);
    });
}

#[test]
fn media_follows_a_viewer_to_another_network_by_an_ice_restart() {
    for_each(|ice, seed| {
        let (mut sim, publisher, viewer) = live(ice, seed);
        let (old, new) = (sim[viewer].address, "10.77.0.1:7000".parse().unwrap());
        sim.move_client(viewer, new);
        sim.run_for(ms(500));
        let session = sim[viewer].session;
        assert!(matches!(sim.ask(session, Command::Restart), ServerMessage::Offer { .. }));
        sim.run_for(secs(3));
        assert_moved(&mut sim, [publisher, viewer], old, new);
    });
}

#[test]
fn an_ice_restart_that_moves_nothing_leaves_media_where_it_goes() {
    for_each(|ice, seed| {
        let (mut sim, publisher, viewer) = live(ice, seed);
        let address = sim[viewer].address;
        let counts = count(&mut sim);
        let session = sim[viewer].session;
        assert!(matches!(sim.ask(session, Command::Restart), ServerMessage::Offer { .. }));
        sim.run_for(secs(3));
        assert_eq!(counts.borrow().keys().copied().filter(|to| *to != sim[publisher].address).count(), 1);
        assert_moved(&mut sim, [publisher, viewer], "192.0.2.1:1".parse().unwrap(), address);
    });
}

#[test]
fn a_stranger_that_copies_a_viewers_checks_draws_no_media() {
    for_each(|ice, seed| {
        let (mut sim, publisher, viewer) = live(ice, seed);
        let (address, stranger) = (sim[viewer].address, "198.51.100.66:9".parse().unwrap());
        let checks = Rc::new(RefCell::new(Vec::new()));
        let into = Rc::clone(&checks);
        sim.network.filter = Some(Box::new(move |datagram| {
            if datagram.from == address && datagram.bytes[0] < 4 {
                into.borrow_mut().push(datagram.bytes.clone());
            }
            true
        }));
        sim.run_for(secs(4));
        assert!(!checks.borrow().is_empty());
        for check in checks.take() {
            // With a byte changed: it cannot make its own.
            let mut forged = check.clone();
            forged[12] ^= 1;
            sim.inject(stranger, server_address(), &forged);
        }
        assert_moved(&mut sim, [publisher, viewer], stranger, address);
    });
}
