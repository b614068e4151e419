//! Datagrams that nobody asked for: noise, forgeries and replays, from strangers and under the addresses of peers.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::network::Datagram;
use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, server_address, with_seeds};

fn live(seed: u64) -> (Simulation, ClientId, ClientId) {
    let mut sim = Simulation::new(seed);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(1));
    (sim, publisher, viewer)
}

/// Every datagram that was sent to the server from now on.
fn tap(sim: &mut Simulation) -> Rc<RefCell<Vec<Datagram>>> {
    let log = Rc::new(RefCell::new(Vec::new()));
    let tapped = Rc::clone(&log);
    sim.network.filter = Some(Box::new(move |datagram| {
        if datagram.to == server_address() {
            tapped.borrow_mut().push(datagram.clone());
        }
        true
    }));
    log
}

fn assert_undisturbed(sim: &mut Simulation, publisher: ClientId, viewer: ClientId) {
    sim.run_for(secs(1));
    for kind in [TrackKind::Audio, TrackKind::Video] {
        let mid = sim.mid(viewer, "r/u", kind).unwrap();
        assert_whole(&stretch(&sim[viewer], mid), sim[publisher].encoder(kind));
    }
    assert_eq!((sim.errors(publisher), sim.errors(viewer)), (vec![], vec![]));
    assert_eq!(sim.hub.snapshot(sim.now).metrics.panics, 0);
}

fn noise(sim: &mut Simulation) -> Vec<u8> {
    let len = match sim.random.u8(..4) {
        0 => sim.random.usize(..4),
        1 => sim.random.usize(..40),
        _ => sim.random.usize(..1500),
    };
    let mut bytes: Vec<u8> = (0..len).map(|_| sim.random.u8(..)).collect();
    if let Some(first) = bytes.first_mut() {
        // Each kind of RFC 7983 has its turn.
        *first = match sim.random.u8(..5) {
            0 => sim.random.u8(..4),
            1 => sim.random.u8(20..64),
            2 | 3 => sim.random.u8(128..192),
            _ => sim.random.u8(..),
        };
    }
    bytes
}

#[test]
fn noise_from_strangers_and_under_peers_addresses_does_nothing() {
    with_seeds(|seed| {
        let (mut sim, publisher, viewer) = live(seed);
        let stranger: SocketAddr = "192.0.2.66:6666".parse().unwrap();
        let alien: SocketAddr = "192.0.2.1:1".parse().unwrap();
        let sizes = sim.hub.sizes();
        for _ in 0..2000 {
            let from = match sim.random.u8(..3) {
                0 => stranger,
                1 => sim[publisher].address,
                _ => sim[viewer].address,
            };
            let to = if sim.random.u8(..5) == 0 { alien } else { server_address() };
            let bytes = noise(&mut sim);
            sim.inject(from, to, &bytes);
            if sim.random.u8(..20) == 0 {
                sim.run_for(ms(5));
            }
        }
        assert_eq!(sim.hub.sizes(), sizes);
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn forged_and_replayed_copies_of_real_datagrams_do_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let log = tap(&mut sim);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        // From the first check on, each datagram may be followed by forgeries of it.
        let until = sim.now + secs(3);
        while sim.now < until {
            sim.run_for(ms(4));
            let taken: Vec<_> = log.borrow_mut().drain(..).collect();
            for datagram in taken {
                if sim.random.u8(..4) > 0 {
                    continue;
                }
                let mut forged = datagram.bytes.clone();
                match sim.random.u8(..4) {
                    0 => {
                        let bit = sim.random.usize(..forged.len() * 8);
                        forged[bit / 8] ^= 1 << (bit % 8);
                    }
                    1 => forged.truncate(sim.random.usize(..forged.len())),
                    2 => forged.extend([0; 7]),
                    // A replay.
                    _ => {}
                }
                sim.inject(datagram.from, datagram.to, &forged);
            }
        }
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn stun_with_a_wrong_password_binds_nothing() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let log = tap(&mut sim);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(1));
        let requests: Vec<_> = log.borrow().iter().filter(|datagram| datagram.bytes[0] == 0).cloned().collect();
        assert!(!requests.is_empty());
        let sizes = sim.hub.sizes();
        let unknown = sim.hub.snapshot(sim.now).metrics.datagrams_unknown;
        let stranger: SocketAddr = "192.0.2.66:6666".parse().unwrap();
        for request in &requests {
            let mut forged = request.bytes.clone();
            // MESSAGE-INTEGRITY stands before the 8 bytes of FINGERPRINT.
            let at = forged.len() - 8 - 10;
            forged[at] ^= 1;
            sim.inject(stranger, server_address(), &forged);
        }
        assert_eq!(sim.hub.sizes(), sizes);
        let counted = sim.hub.snapshot(sim.now).metrics.datagrams_unknown - unknown;
        assert_eq!(counted, requests.len() as u64);
        assert_undisturbed(&mut sim, publisher, viewer);
    });
}

#[test]
fn one_peer_is_bound_to_few_addresses() {
    let mut sim = Simulation::with(1, |config| config.limits.addresses_per_peer = 3);
    let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
    let viewer = sim.subscribe("r/u");
    sim.run_for(secs(1));
    let log = tap(&mut sim);
    sim.run_for(secs(5));
    let address = sim[viewer].address;
    let request = log.borrow().iter().find(|it| it.from == address && it.bytes[0] == 0).cloned().expect("a check");
    for port in 1..50 {
        sim.inject(SocketAddr::from(([192, 0, 2, 7], port)), server_address(), &request.bytes);
        assert!(sim.hub.sizes()[4] <= 4, "three of the viewer's, one of the broadcaster's");
    }
    sim.network.filter = None;
    sim.run_for(secs(5));
    sim.vanish(viewer);
    sim.vanish(publisher);
    sim.run_for(secs(1));
    assert_eq!(sim.hub.sizes(), [0; 6]);
}
