//! Packets of a source that come when another has taken over from it: however they come, they change nothing.

use std::cell::RefCell;
use std::rc::Rc;

use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::media::Encoder;
use crate::simulation::network::Datagram;
use crate::simulation::stream::{assert_true, assert_whole, stretches};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, server_address, with_seeds};

/// What was kept on its way, to be delivered later.
type Kept = Rc<RefCell<Vec<Datagram>>>;

/// Keeps one packet of a publisher's video, and the retransmissions that are asked for then if `with_repair`.
fn keep_one(sim: &mut Simulation, publisher: ClientId, with_repair: bool) -> Kept {
    let kept = Kept::default();
    let mid = sim[publisher].track(TrackKind::Video).mid;
    let payload_type = sim[publisher].payload_type(mid, Codec::Vp8);
    let rtx_payload_type = sim[publisher].rtx_payload_type(mid, Codec::Vp8);
    let (address, into) = (sim[publisher].address, Rc::clone(&kept));
    let mut sequence = None;
    sim.network.filter = Some(Box::new(move |datagram| {
        if datagram.from != address || !datagram.is_media() {
            return true;
        }
        let found = datagram.bytes[1] & 0x7f;
        let is_first = found == payload_type && *sequence.get_or_insert(datagram.sequence()) == datagram.sequence();
        if is_first || with_repair && found == rtx_payload_type {
            into.borrow_mut().push(datagram.clone());
            return false;
        }
        true
    }));
    kept
}

/// The stretches of a viewer's video are all that `encoders` sent, each from its first packet on.
fn assert_unbroken(sim: &Simulation, viewer: ClientId, publisher: ClientId, gone: &[Encoder]) {
    let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
    let stretches = stretches(&sim[viewer], mid);
    assert_eq!(stretches.len(), gone.len() + 1, "each source came once");
    for (stretch, encoder) in stretches.iter().zip(gone) {
        assert_true(stretch, encoder);
    }
    assert_whole(stretches.last().unwrap(), sim[publisher].encoder(TrackKind::Video));
    for pair in stretches.windows(2) {
        assert_eq!(pair[1][0].token.index, 0, "nothing of a new source is lost");
        assert!(pair[1][0].sequence > pair[0].last().unwrap().sequence);
    }
}

fn switch(sim: &mut Simulation, publisher: ClientId) -> Encoder {
    let encoder = sim.encoder(Codec::Vp8);
    sim[publisher].restart_track(TrackKind::Video, encoder)
}

#[test]
fn a_retransmission_for_the_source_before_is_not_taken_for_the_new_ones() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(2));
        // With even seeds it is the first that ever came: its SSRC is known to nobody.
        if !seed.is_multiple_of(2) {
            keep_one(&mut sim, publisher, false);
            sim.run_for(secs(1));
        }
        let kept = keep_one(&mut sim, publisher, true);
        sim.run_until(secs(1), "a retransmission", |_| kept.borrow().len() > 1);
        let before = switch(&mut sim, publisher);
        sim.network.filter = None;
        sim.run_for(ms(100));
        for late in kept.take() {
            sim.inject(late.from, server_address(), &late.bytes);
        }
        sim.run_for(secs(2));
        assert_unbroken(&sim, viewer, publisher, &[before]);
    });
}

#[test]
fn a_packet_of_the_source_before_that_was_repaired_already_leaves_nothing_behind() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        sim.run_for(secs(2));
        let mut gone = Vec::new();
        for _ in 0..4 {
            let kept = keep_one(&mut sim, publisher, false);
            sim.run_for(secs(1));
            sim.network.filter = None;
            gone.push(switch(&mut sim, publisher));
            sim.run_for(ms(100));
            for late in kept.take() {
                sim.inject(late.from, server_address(), &late.bytes);
            }
            // What was left behind would take the repair of this one.
            keep_one(&mut sim, publisher, false);
            sim.run_for(secs(1));
        }
        assert_unbroken(&sim, viewer, publisher, &gone);
    });
}
