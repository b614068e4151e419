//! ICE over TCP: media by connections that the clients make, as far as the hub is concerned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use onair::egress::sink::{Remote, Transport};
use onair::hub::config::IceRole;
use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::stream::{assert_true, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, server_address, with_seeds};

/// A hub that takes TCP too.
fn simulation(ice: IceRole, seed: u64) -> Simulation {
    Simulation::with(seed, |config| {
        config.ice = ice;
        config.tcp_candidates = vec![server_address()];
    })
}

fn publish(sim: &mut Simulation, over_tcp: bool) -> ClientId {
    let program = Program::of(Codec::Vp8);
    let publisher = sim.client_of_new_session(&program.video);
    if over_tcp {
        sim[publisher].use_tcp();
    }
    sim.register(publisher, "r/u", program);
    publisher
}

fn subscribe(sim: &mut Simulation, over_tcp: bool) -> ClientId {
    let viewer = sim.client_of_new_session(&[Codec::Vp8]);
    if over_tcp {
        sim[viewer].use_tcp();
    }
    sim.subscribe_with(viewer, "r/u");
    viewer
}

/// How many datagrams of media the server sends from now on, by transport.
fn count(sim: &mut Simulation) -> Rc<RefCell<BTreeMap<(ClientId, Transport), usize>>> {
    let counts = Rc::new(RefCell::new(BTreeMap::new()));
    let into = Rc::clone(&counts);
    let clients = sim.addresses();
    sim.network.filter = Some(Box::new(move |datagram| {
        let client = clients.get(&datagram.to).filter(|_| datagram.from == server_address() && datagram.is_media());
        if let Some(client) = client {
            *into.borrow_mut().entry((*client, datagram.transport)).or_insert(0) += 1;
        }
        true
    }));
    counts
}

#[test]
fn broadcasters_and_viewers_come_by_tcp_or_udp_as_they_can() {
    for ice in [IceRole::Lite, IceRole::Full] {
        with_seeds(|seed| {
            let mut sim = simulation(ice, seed);
            let publisher = publish(&mut sim, seed % 2 == 0);
            let [by_tcp, by_udp] = [true, false].map(|over_tcp| subscribe(&mut sim, over_tcp));
            sim.run_for(secs(3));
            let counts = count(&mut sim);
            sim.run_for(secs(2));
            let counts = counts.borrow();
            for (viewer, transport, other) in
                [(by_tcp, Transport::Tcp, Transport::Udp), (by_udp, Transport::Udp, Transport::Tcp)]
            {
                assert!(counts.get(&(viewer, transport)).is_some_and(|count| *count > 150), "{counts:?}");
                assert_eq!(counts.get(&(viewer, other)), None);
                let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
                assert_true(&stretch(&sim[viewer], mid), sim[publisher].encoder(TrackKind::Video));
            }
        });
    }
}

#[test]
fn media_goes_on_at_once_over_the_connection_that_comes_after_one_that_has_ended() {
    with_seeds(|seed| {
        let mut sim = simulation(IceRole::Lite, seed);
        publish(&mut sim, false);
        let viewer = subscribe(&mut sim, true);
        sim.run_for(secs(3));
        let (before, after) = (sim[viewer].address, "198.51.100.2:9".parse().unwrap());
        let [.., addresses, _] = sim.hub.sizes();
        // What it sends comes from another port from now on: that of its new connection.
        sim.network.nat.insert(before, after);
        sim.hub.handle_disconnect(Remote::tcp(before));
        let [.., fewer, _] = sim.hub.sizes();
        assert_eq!(fewer, addresses - 1, "nothing that comes from the old one is its any more");
        let received = sim[viewer].received.len();
        // A browser's checks are 2.5 s apart at most; str0m's follow the same rule.
        sim.run_until(secs(4), "media by the new connection", |sim| sim[viewer].received.len() > received);
        let back_at = sim.now;
        sim.run_for(secs(2));
        assert!(sim[viewer].received.len() > received + 150);
        assert!(sim[viewer].received.iter().filter(|packet| packet.at > back_at + ms(500)).count() > 100);
        assert_eq!(sim.errors(viewer), []);
    });
}

#[test]
fn the_same_address_by_tcp_and_by_udp_is_two() {
    let mut sim = simulation(IceRole::Lite, 1);
    publish(&mut sim, false);
    let viewer = subscribe(&mut sim, true);
    sim.run_for(secs(2));
    let address = sim[viewer].address;
    assert!(sim.hub.is_bound(Remote::tcp(address)) && !sim.hub.is_bound(Remote::udp(address)));
    let unknown = sim.hub.snapshot(sim.now).metrics.datagrams_unknown;
    // By UDP (as it is injected), what would be the viewer's is a stranger's.
    sim.inject(address, server_address(), &[0x80, 201, 0, 1, 0, 0, 0, 1]);
    assert_eq!(sim.hub.snapshot(sim.now).metrics.datagrams_unknown, unknown + 1);
    sim.hub.handle_disconnect(Remote::udp(address));
    assert!(sim.hub.is_bound(Remote::tcp(address)));
}

#[test]
fn without_candidates_for_it_nobody_is_told_of_tcp() {
    for (has_tcp, lines) in [(true, 1), (false, 0)] {
        let mut sim = Simulation::with(1, |config| {
            config.tcp_candidates = if has_tcp { vec![server_address()] } else { vec![] };
        });
        let publisher = publish(&mut sim, false);
        let answer = sim
            .heard_by(publisher)
            .find_map(|message| match message {
                onair::signal::ServerMessage::Registered { sdp, .. } => Some(sdp.clone()),
                _ => None,
            })
            .unwrap();
        let candidates: Vec<_> = answer.lines().filter(|line| line.starts_with("a=candidate:")).collect();
        let tcp = candidates.iter().filter(|line| line.contains(" tcp ") && line.contains("tcptype passive"));
        assert_eq!((candidates.len(), tcp.count()), (1 + lines, lines), "{candidates:?}");
        assert!(candidates[0].contains(" udp "), "{candidates:?}");
    }
}
