//! What viewers tell by RTCP, well meant or not: NACKs, reports, keyframe requests, forgeries and replays.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use onair::egress::cipher::Profile;
use onair::egress::srtp::{Opener, Sealer};
use onair::hub::io::{Command, HubMetrics};
use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::rtcp::{Rtcp, packets};
use onair::signal::ServerMessage;
use str0m::media::KeyframeRequestKind;

use crate::dtls;
use crate::simulation::network::{Conditions, Datagram};
use crate::simulation::stream::{assert_whole, stretch};
use crate::simulation::{ClientId, Program, Simulation, ms, secs, server_address, with_seeds};

/// As many SRTCP packets as a client has surely not sent by itself.
const INDICES_SKIPPED: usize = 5_000;

/// A viewer whose RTCP is written by the test.
struct Hostile {
    client: ClientId,
    sealer: Sealer,
    opener: Opener,
    /// The SSRCs of its video: the media's, and the one that it writes its feedback under.
    media_ssrc: u32,
    sender_ssrc: u32,
}

impl Hostile {
    fn new(sim: &mut Simulation, profile: Profile) -> (ClientId, Self) {
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let (client, keys) = dtls::client_of(sim, profile, &[Codec::Vp8]);
        sim.subscribe_with(client, "r/u");
        sim.run_for(secs(2));
        let (mut sealer, opener) = keys.session();
        for _ in 0..INDICES_SKIPPED {
            let mut slot = [0x80, 201, 0, 1, 0, 0, 0, 1].to_vec();
            slot.resize(64, 0);
            sealer.seal_rtcp(&mut slot, 8).unwrap();
        }
        let mid = sim.mid(client, "r/u", TrackKind::Video).unwrap();
        let media_ssrc = stretch(&sim[client], mid)[0].ssrc;
        // From now on it says nothing but what the test says.
        let address = sim[client].address;
        sim.network.filter = Some(Box::new(move |datagram| datagram.from != address || !datagram.is_media()));
        (publisher, Self { client, sealer, opener, media_ssrc, sender_ssrc: 0x5eed })
    }

    fn seal(&mut self, compound: &[u8]) -> Vec<u8> {
        let mut slot = [compound, &[0; 64]].concat();
        let len_bytes = self.sealer.seal_rtcp(&mut slot, compound.len()).unwrap();
        slot.truncate(len_bytes);
        slot
    }

    fn say(&mut self, sim: &mut Simulation, compound: &[u8]) {
        let sealed = self.seal(compound);
        let from = sim[self.client].address;
        sim.inject(from, server_address(), &sealed);
    }

    /// A compound of an empty RR and a NACK of whole masks from each of `firsts` on.
    fn nack(&self, firsts: impl IntoIterator<Item = u16>, mask: u16) -> Vec<u8> {
        let entries: Vec<_> = firsts.into_iter().map(|first| u32::from(first) << 16 | u32::from(mask)).collect();
        let head = [0x80c9_0001, self.sender_ssrc, 0x81cd_0000 | (2 + entries.len() as u32)];
        let words = [head.as_slice(), &[self.sender_ssrc, self.media_ssrc], &entries].concat();
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }
}

/// Every datagram that the server sends to a client from now on, with what filter there is left in force.
fn watch(sim: &mut Simulation, client: ClientId) -> Rc<RefCell<Vec<Datagram>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (into, address) = (Rc::clone(&seen), sim[client].address);
    let mut before = sim.network.filter.take();
    sim.network.filter = Some(Box::new(move |datagram| {
        if datagram.to == address {
            into.borrow_mut().push(datagram.clone());
        }
        before.as_mut().is_none_or(|passes| passes(datagram))
    }));
    seen
}

/// Every STUN message that a client sends from now on, with what filter there is left in force.
fn checks_of(sim: &mut Simulation, client: ClientId) -> Rc<RefCell<Vec<Datagram>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (into, address) = (Rc::clone(&seen), sim[client].address);
    let mut before = sim.network.filter.take();
    sim.network.filter = Some(Box::new(move |datagram| {
        // Requests alone: they begin with 0 and 1 (RFC 8489 §5).
        if datagram.from == address && datagram.bytes.starts_with(&[0, 1]) {
            into.borrow_mut().push(datagram.clone());
        }
        before.as_mut().is_none_or(|passes| passes(datagram))
    }));
    seen
}

fn metrics(sim: &Simulation) -> HubMetrics {
    sim.hub.snapshot(sim.now).metrics
}

/// The lower bits of the sequence numbers that a client's video came with.
fn sequences(sim: &Simulation, client: ClientId) -> Vec<u16> {
    let mid = sim.mid(client, "r/u", TrackKind::Video).unwrap();
    sim[client].stream(mid).iter().map(|packet| packet.sequence as u16).collect()
}

#[test]
fn a_late_viewer_gets_nothing_from_before_it_joined_whatever_it_asks_for() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let (_, mut viewer) = Hostile::new(&mut sim, Profile::AeadAes256Gcm);
        let first = sequences(&sim, viewer.client)[0];
        let before = metrics(&sim);
        for back in 1..=100 {
            // All of 1,700 numbers before its first one.
            let compound = viewer.nack([first.wrapping_sub(17 * back)], 0xffff);
            viewer.say(&mut sim, &compound);
        }
        let after = metrics(&sim);
        assert_eq!(after.nacks_received - before.nacks_received, 100);
        assert_eq!(after.rtx_packets_out, before.rtx_packets_out);
        assert_eq!(after.repairs_missed - before.repairs_missed, 1_700);
        // What it was sent since, it can have again.
        let compound = viewer.nack([first], 0xffff);
        viewer.say(&mut sim, &compound);
        assert_eq!(metrics(&sim).rtx_packets_out - before.rtx_packets_out, 17);
    });
}

#[test]
fn a_storm_of_nacks_costs_no_more_than_its_share_and_no_other_viewer_anything() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let (publisher, mut viewer) = Hostile::new(&mut sim, Profile::AeadAes128Gcm);
        let other = sim.subscribe("r/u");
        sim.run_for(secs(1));
        let seen = watch(&mut sim, viewer.client);
        // As many numbers as one NACK is heard with.
        let step = 17 * 15;
        for round in 0..60 {
            let highest = *sequences(&sim, viewer.client).last().unwrap();
            // What it has just been sent, again and again; now and then all numbers that there are.
            let numbers = if round % 20 == 0 { 0..=u16::MAX } else { 0..=4 * step };
            for back in numbers.step_by(usize::from(step)) {
                let first = highest.wrapping_sub(back);
                let compound = viewer.nack((0..15).map(|entry| first.wrapping_sub(17 * entry)), 0xffff);
                viewer.say(&mut sim, &compound);
            }
            sim.run_for(ms(50));
        }
        assert!(metrics(&sim).repairs_capped > 20, "{:?}", metrics(&sim));
        let rtx_payload_type = {
            let mid = sim.mid(viewer.client, "r/u", TrackKind::Video).unwrap();
            sim[viewer.client].rtx_payload_type(mid, Codec::Vp8)
        };
        let (mut media_bytes, mut repair_bytes) = (0, 0);
        for datagram in seen.borrow().iter().filter(|datagram| datagram.is_media()) {
            let is_repair = datagram.bytes[1] & 0x7f == rtx_payload_type;
            *(if is_repair { &mut repair_bytes } else { &mut media_bytes }) += datagram.bytes.len();
        }
        // As much as the media it gets, and what it had saved up; headers come on top of payloads.
        assert!(repair_bytes > 200_000, "{repair_bytes}");
        assert!(repair_bytes < (256 * 1024 + media_bytes) * 3 / 2, "{repair_bytes} for {media_bytes}");
        for kind in [TrackKind::Audio, TrackKind::Video] {
            let mid = sim.mid(other, "r/u", kind).unwrap();
            assert_whole(&stretch(&sim[other], mid), sim[publisher].encoder(kind));
        }
        assert!(metrics(&sim).nacks_received > 1_000, "{:?}", metrics(&sim));
    });
}

#[test]
fn nacks_for_what_an_earlier_broadcaster_sent_are_ignored() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let (first, mut viewer) = Hostile::new(&mut sim, Profile::AeadAes256Gcm);
        let older = sequences(&sim, viewer.client);
        sim.vanish(first);
        sim.run_for(ms(300));
        sim.publish("r/u", Program::of(Codec::Vp8));
        // Within what the ring of packets is kept for.
        sim.run_for(ms(900));
        let newer: Vec<_> = sequences(&sim, viewer.client).split_off(older.len());
        assert!(newer.len() > 10, "the viewer goes on");
        let before = metrics(&sim);
        for sequence in &older[older.len() - 20..] {
            let compound = viewer.nack([*sequence], 0);
            viewer.say(&mut sim, &compound);
        }
        let after = metrics(&sim);
        assert_eq!(after.rtx_packets_out, before.rtx_packets_out);
        assert_eq!(after.repairs_missed - before.repairs_missed, 20);
        let compound = viewer.nack([newer[0]], 0);
        viewer.say(&mut sim, &compound);
        assert_eq!(metrics(&sim).rtx_packets_out - before.rtx_packets_out, 1);
    });
}

#[test]
fn replayed_and_forged_rtcp_is_counted_and_changes_nothing() {
    for profile in [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        with_seeds(|seed| {
            let mut sim = Simulation::new(seed);
            let (publisher, mut viewer) = Hostile::new(&mut sim, profile);
            let last = *sequences(&sim, viewer.client).last().unwrap();
            let compound = viewer.nack([last], 0);
            let sealed = viewer.seal(&compound);
            let from = sim[viewer.client].address;
            let before = metrics(&sim);
            for place in 0..sealed.len() {
                let mut forged = sealed.clone();
                forged[place] ^= 1 << sim.random.u8(..8);
                sim.inject(from, server_address(), &forged);
            }
            let after = metrics(&sim);
            assert_eq!((after.rtcp_in, after.rtx_packets_out), (before.rtcp_in, before.rtx_packets_out));
            // A first byte may make it something else than RTCP.
            let refused = after.rtcp_refused - before.rtcp_refused;
            assert!((sealed.len() - 2..=sealed.len()).contains(&(refused as usize)), "{refused} of {}", sealed.len());

            sim.inject(from, server_address(), &sealed);
            let after = metrics(&sim);
            assert_eq!((after.rtcp_in, after.rtx_packets_out), (before.rtcp_in + 1, before.rtx_packets_out + 1));
            for _ in 0..10 {
                sim.inject(from, server_address(), &sealed);
            }
            let replayed = metrics(&sim);
            assert_eq!((replayed.rtcp_in, replayed.rtx_packets_out), (after.rtcp_in, after.rtx_packets_out));
            assert_eq!(replayed.rtcp_refused, after.rtcp_refused + 10);
            sim.run_for(secs(1));
            let mid = sim.mid(viewer.client, "r/u", TrackKind::Video).unwrap();
            assert_whole(&stretch(&sim[viewer.client], mid), sim[publisher].encoder(TrackKind::Video));
        });
    }
}

#[test]
fn reports_tell_of_loss_jitter_and_the_round_trip() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        let (far, near) = (sim.subscribe("r/u"), sim.subscribe("r/u"));
        let address = sim[far].address;
        let path = Conditions { delay: ms(40), jitter: ms(20), loss: 0.1, ..Conditions::GOOD };
        sim.run_for(secs(1));
        sim.network.paths.insert(address, path);
        sim.run_for(secs(12));
        let told = |client: ClientId, kind| {
            let session = sim[client].session;
            let mut all = sim.hub.receptions();
            all.find(|(of, what, _)| (*of, *what) == (session, kind)).expect("it receives the track").2
        };
        for (kind, clock_rate_hz) in [(TrackKind::Audio, 48_000.0), (TrackKind::Video, 90_000.0)] {
            let (far, near) = (told(far, kind), told(near, kind));
            let round_trip = |of: Option<std::time::Duration>| of.expect("it was measured").as_secs_f64() * 1000.0;
            let (long, short) = (round_trip(far.round_trip), round_trip(near.round_trip));
            // There and back: 40 ms and up to 20 ms more, each.
            assert!((79.0..=121.0).contains(&long), "{kind:?}: {long} ms");
            assert!((19.0..=21.0).contains(&short), "{kind:?}: {short} ms");
            assert!(f64::from(near.jitter) / clock_rate_hz < 0.001, "{kind:?}: {near:?}");
            // str0m counts what was repaired among what came late.
            let jitter_max_ms = if kind == TrackKind::Audio { 20.0 } else { 150.0 };
            let jitter_ms = f64::from(far.jitter) / clock_rate_hz * 1000.0;
            assert!((1.0..=jitter_max_ms).contains(&jitter_ms), "{kind:?}: {jitter_ms} ms");
            assert_eq!((near.cumulative_lost, near.fraction_lost), (0, 0));
        }
        // Video is repaired, and what was repaired counts as received.
        let sound = told(far, TrackKind::Audio);
        // A tenth of 600, or of what there was when the last report came through: they are lost, too.
        assert!((5..=100).contains(&sound.cumulative_lost), "{sound:?}");
        assert!(sound.fraction_lost > 0, "{sound:?}");
        let metrics = sim.hub.snapshot(sim.now).metrics;
        let reports: u64 = metrics.loss.buckets().map(|(_, count)| count).sum();
        let without_loss = metrics.loss.buckets().next().expect("it has buckets").1;
        assert!(0 < without_loss && without_loss < reports, "{metrics:?}");
        let long = metrics.round_trip.buckets().filter(|(bound_s, _)| (0.1..=0.2).contains(bound_s));
        let short = metrics.round_trip.buckets().filter(|(bound_s, _)| (0.02..=0.05).contains(bound_s));
        assert!(long.map(|(_, count)| count).sum::<u64>() > 0 && short.map(|(_, count)| count).sum::<u64>() > 0);
        assert_eq!(metrics.jitter.buckets().map(|(_, count)| count).sum::<u64>(), reports);
    });
}

#[test]
fn pli_and_fir_ask_the_broadcaster_for_a_keyframe_and_not_too_often() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let viewers = [sim.subscribe("r/u"), sim.subscribe("r/u")];
        sim.run_for(secs(3));
        for kind in [KeyframeRequestKind::Pli, KeyframeRequestKind::Fir] {
            let asked = sim[publisher].keyframe_requests.len();
            let before = metrics(&sim);
            for _ in 0..40 {
                for viewer in viewers {
                    let mid = sim.mid(viewer, "r/u", TrackKind::Video).unwrap();
                    let mut api = sim[viewer].rtc.direct_api();
                    api.stream_rx_by_mid(mid, None).unwrap().request_keyframe(kind);
                    let now = sim.now;
                    sim[viewer].poke(now);
                }
                sim.run_for(ms(50));
            }
            let after = metrics(&sim);
            assert_eq!(after.pli_received - before.pli_received, 80, "{kind:?}");
            let asked = sim[publisher].keyframe_requests.len() - asked;
            assert!((3..=5).contains(&asked), "{kind:?}: {asked} in two seconds");
            sim.run_for(secs(1));
        }
    });
}

#[test]
fn a_viewer_that_is_dismissed_is_told_bye() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let (_, mut viewer) = Hostile::new(&mut sim, Profile::AeadAes256Gcm);
        let seen = watch(&mut sim, viewer.client);
        let session = sim[viewer.client].session;
        assert_eq!(sim.ask(session, Command::Unsubscribe), ServerMessage::Unsubscribed);
        sim.run_for(secs(1));
        let mut left = BTreeSet::new();
        let mut is_over = false;
        for datagram in seen.borrow_mut().iter_mut().filter(|datagram| datagram.is_media()) {
            assert!(!is_over, "nothing follows");
            let Some(compound) = viewer.opener.open_rtcp(&mut datagram.bytes) else {
                continue;
            };
            for packet in packets(compound) {
                if let Ok(Rtcp::Goodbye(ssrcs)) = packet {
                    left.extend(ssrcs);
                    is_over = true;
                }
            }
        }
        assert!(left.contains(&viewer.media_ssrc), "{left:?}");
        assert_eq!(left.len(), 2, "sound and picture");
    });
}

#[test]
fn all_that_a_viewer_is_sent_is_sealed_with_its_keys() {
    for profile in [Profile::AeadAes256Gcm, Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80] {
        with_seeds(|seed| {
            let mut sim = Simulation::new(seed);
            let (client, keys) = dtls::client_of(&mut sim, profile, &[Codec::Vp8]);
            sim.subscribe_with(client, "r/u");
            let seen = watch(&mut sim, client);
            let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
            sim.run_for(secs(2));
            let checks = checks_of(&mut sim, client);
            sim.run_for(secs(6));
            // A check by another pair makes str0m say what shows by which one it would send.
            let check = checks.take().pop().expect("it keeps checking");
            sim.inject("198.51.100.7:9".parse().unwrap(), server_address(), &check.bytes);
            sim.run_for(secs(1));
            sim.vanish(publisher);
            sim.run_for(secs(1));
            let (_, mut opener) = keys.session();
            let (mut rtp, mut rtcp) = (0, 0);
            for datagram in seen.borrow_mut().iter_mut().filter(|datagram| datagram.is_media()) {
                if (192..=223).contains(&datagram.bytes[1]) {
                    assert!(opener.open_rtcp(&mut datagram.bytes).is_some(), "RTCP {rtcp} opens");
                    rtcp += 1;
                } else {
                    rtp += 1;
                }
            }
            assert!(rtcp > 10, "{rtcp}");
            // Nothing is lost on this path: what its str0m did not take, it could not open.
            assert_eq!(sim[client].received.len(), rtp);
            assert!(metrics(&sim).foreign_srtp_dropped > 0, "str0m has said something, too");
        });
    }
}

#[test]
fn the_mid_is_told_until_a_viewer_has_reported() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.subscribe("r/u");
        let seen = watch(&mut sim, viewer);
        sim.run_for(secs(8));
        let mids: Vec<_> = [TrackKind::Audio, TrackKind::Video]
            .into_iter()
            .map(|kind| {
                let mid = sim.mid(viewer, "r/u", kind).unwrap();
                (stretch(&sim[viewer], mid)[0].ssrc, mid)
            })
            .collect();
        for (ssrc, mid) in mids {
            let map = sim[viewer].rtc.media(mid).unwrap().remote_extmap();
            let id = map.id_of(str0m::rtp::Extension::RtpMid).unwrap();
            let seen = seen.borrow();
            let told: Vec<_> = seen
                .iter()
                .filter(|datagram| datagram.is_media() && !(192..=223).contains(&datagram.bytes[1]))
                .filter_map(|datagram| onair::rtp::header::RtpHeader::parse(&datagram.bytes).ok())
                .filter(|header| header.ssrc == ssrc)
                .map(|header| header.extensions.value_of(id).map(<[u8]>::to_vec))
                .collect();
            assert_eq!(told[0].as_deref(), Some(mid.as_bytes()));
            let until = told.iter().position(Option::is_none).expect("it stops");
            assert!(told[until..].iter().all(Option::is_none), "and for good");
            assert!(told.len() - until > 50, "after {until} of {}", told.len());
        }
    });
}

/// An answer as of a client that knows no retransmission.
fn without_rtx(sdp: &str) -> String {
    let types: Vec<_> = sdp
        .lines()
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.strip_suffix(" rtx/90000"))
        .map(str::to_owned)
        .collect();
    let keeps = |line: &&str| {
        let attribute = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().find_map(|prefix| line.strip_prefix(prefix));
        attribute.and_then(|rest| rest.split(' ').next()).is_none_or(|of| !types.iter().any(|found| found == of))
    };
    let line = |line: &str| {
        if line.starts_with("m=") {
            let words: Vec<_> = line.split(' ').filter(|word| !types.iter().any(|found| found == word)).collect();
            words.join(" ")
        } else {
            line.to_owned()
        }
    };
    sdp.lines().filter(keeps).map(|kept| line(kept) + "\r\n").collect()
}

#[test]
fn a_viewer_without_rtx_is_sent_nothing_twice() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        sim.publish("r/u", Program::of(Codec::Vp8));
        let viewer = sim.client_of_new_session(&[Codec::Vp8]);
        sim[viewer].edits = Some(without_rtx);
        sim.subscribe_with(viewer, "r/u");
        sim.run_for(secs(1));
        let seen = watch(&mut sim, viewer);
        let address = sim[viewer].address;
        sim.network.paths.insert(address, Conditions::lossy(0.05));
        sim.run_for(secs(6));
        let after = metrics(&sim);
        assert!(after.nacks_received > 10, "its str0m asks all the same");
        assert!(after.repairs_missed > 10, "{after:?}");
        assert_eq!(after.rtx_packets_out, 0);
        let mut indices = BTreeSet::new();
        let seen = seen.borrow();
        for datagram in seen.iter().filter(|datagram| datagram.is_media() && !(192..=223).contains(&datagram.bytes[1]))
        {
            assert!(indices.insert((datagram.bytes[8..12].to_vec(), datagram.sequence())), "an index used twice");
        }
        assert!(indices.len() > 500);
    });
}

#[test]
fn a_viewer_that_is_closed_while_a_packet_waits_for_the_flush_gets_none_of_it() {
    with_seeds(|seed| {
        let mut sim = Simulation::new(seed);
        let publisher = sim.publish("r/u", Program::of(Codec::Vp8));
        let (leaves, stays) = (sim.subscribe("r/u"), sim.subscribe("r/u"));
        sim.run_for(secs(2));
        let kept = Rc::new(RefCell::new(None));
        let (into, address, is_done) = (Rc::clone(&kept), sim[publisher].address, Cell::new(false));
        sim.network.filter = Some(Box::new(move |datagram| {
            if datagram.from == address && datagram.is_media() && datagram.bytes.len() > 150 && !is_done.replace(true) {
                *into.borrow_mut() = Some(datagram.clone());
                return false;
            }
            true
        }));
        sim.run_until(secs(1), "a packet of video", |_| kept.borrow().is_some());
        let datagram = kept.take().unwrap();
        let mut batch = crate::simulation::network::Batch::default();
        let (now, session) = (sim.now, sim[leaves].session);
        sim.hub.handle_datagram(now, datagram.path_back(), &datagram.bytes, &mut batch);
        sim.hub.handle_order(now, session, onair::hub::io::Order::Close);
        sim.hub.flush(now, &mut batch);
        let sent_to = |client: ClientId| {
            let to = sim[client].address;
            let media = batch.datagrams.iter().filter(move |sent| sent.to == to && sent.is_media());
            media.filter(|sent| !(192..=223).contains(&sent.bytes[1])).count()
        };
        assert_eq!((sent_to(leaves), sent_to(stays)), (0, 1));
        sim.run_for(secs(1));
        assert_eq!(metrics(&sim).panics, 0);
        assert_eq!(metrics(&sim).viewers, 1);
    });
}
