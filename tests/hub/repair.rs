//! Loss, reordering and duplicates on both legs: what a viewer ends up with is what was sent.

use std::cell::Cell;
use std::rc::Rc;

use onair::rtp::codec::{Codec, TrackKind};

use crate::simulation::network::Conditions;
use crate::simulation::stream::{assert_true, assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, secs, server_address, with_seeds};

fn assert_repaired(sim: &Simulation, publisher: ClientId, viewer: ClientId, mids: [str0m::media::Mid; 2]) {
    let [audio, video] = mids;
    assert_whole(&stretch(&sim[viewer], video), sim[publisher].encoder(TrackKind::Video));
    // Sound is not sent again, but what comes is true, and hardly anything is missing.
    let sound = stretch(&sim[viewer], audio);
    let encoder = sim[publisher].encoder(TrackKind::Audio);
    assert_true(&sound, encoder);
    let span = sound.last().unwrap().token.index - sound[0].token.index + 1;
    assert!(sound.len() as f64 > f64::from(span) * 0.9, "{} of {span}", sound.len());
}

#[test]
fn video_is_whole_after_repair_on_bad_paths() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let codec = if seed.is_multiple_of(2) { Codec::Vp8 } else { Codec::H264 };
        let publisher = sim.publish("r/u", Program::of(codec));
        let viewer = sim.subscribe("r/u");
        let (player, _) = sim.play_when_live("r/u", &[codec]);
        sim.run_for(secs(2));
        sim.network.conditions = Conditions::BAD;
        sim.run_for(secs(10));
        assert!(sim.network.lost > 50, "{} were lost", sim.network.lost);
        sim.network.conditions = Conditions::GOOD;
        sim.run_for(secs(2));
        let mids = [TrackKind::Audio, TrackKind::Video].map(|kind| sim.mid(viewer, "r/u", kind).unwrap());
        assert_repaired(&sim, publisher, viewer, mids);
        let metrics = sim.hub.snapshot(sim.now).metrics;
        let sent: usize = sim[publisher].outgoing.iter().map(|track| track.encoder.sent.len()).sum();
        let lost = metrics.rtp_packets_skipped - metrics.rtp_packets_late;
        assert!(lost > 0 && metrics.rtp_packets_late > 0, "{metrics:?}");
        assert!(sent as u64 - metrics.rtp_packets_in - lost < 10, "{sent} sent, {lost} lost, {metrics:?}");
        let mids = sim[player].mids.map(Option::unwrap);
        assert_repaired(&sim, publisher, player, mids);
    });
}

#[test]
fn one_viewers_bad_path_is_no_other_viewers() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let good = sim.subscribe("r/u");
        let bad = sim.subscribe("r/u");
        sim.run_for(secs(1));
        let address = sim[bad].address;
        sim.network.paths.insert(address, Conditions::lossy(0.5));
        sim.run_for(secs(6));
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(good, "r/u", kind).unwrap();
            let whole = stretch(&sim[good], mid);
            assert_whole(&whole, sim[publisher].encoder(kind));
            let path = Conditions::GOOD.delay * 2;
            let late = whole.iter().skip(50).filter(|packet| {
                packet.at - sim[publisher].encoder(kind).sent[packet.token.index as usize].captured > path
            });
            assert_eq!(late.count(), 0, "nothing of a good viewer's waits for a bad one");
        }
    });
}

#[test]
fn a_twentieth_lost_on_a_viewers_way_is_repaired_for_it_alone() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let codecs = [Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];
        let codec = codecs[seed as usize % codecs.len()];
        let publisher = sim.publish("r/u", Program::of(codec));
        let viewers: Vec<_> = (0..3).map(|_| sim.client_of_new_session(&[codec])).collect();
        for viewer in &viewers {
            sim.subscribe_with(*viewer, "r/u");
        }
        sim.run_for(secs(1));
        let (lossy, mids) =
            (viewers[0], [0, 1, 2].map(|viewer| sim.mid(viewers[viewer], "r/u", TrackKind::Video).unwrap()));
        let payload_type = sim[lossy].rtx_payload_type(mids[0], codec);
        let (repairs, strays) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (repairs_seen, strays_seen, address) = (Rc::clone(&repairs), Rc::clone(&strays), sim[lossy].address);
        sim.network.filter = Some(Box::new(move |datagram| {
            if datagram.from == server_address() && datagram.is_media() && datagram.bytes[1] & 0x7f == payload_type {
                let count = if datagram.to == address { &repairs_seen } else { &strays_seen };
                count.set(count.get() + 1);
            }
            true
        }));
        sim.network.paths.insert(address, Conditions::lossy(0.05));
        sim.run_for(secs(8));
        sim.network.paths.clear();
        sim.run_for(secs(1));
        for (viewer, mid) in viewers.iter().zip(mids) {
            assert_whole(&stretch(&sim[*viewer], mid), sim[publisher].encoder(TrackKind::Video));
        }
        let metrics = sim.hub.snapshot(sim.now).metrics;
        assert!(metrics.nacks_received > 10 && repairs.get() > 10, "{metrics:?}");
        assert_eq!((metrics.rtx_packets_out, strays.get()), (repairs.get(), 0));
        assert_eq!(metrics.repairs_capped, 0, "an honest viewer has share enough");
    });
}
