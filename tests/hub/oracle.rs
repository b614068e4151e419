//! The oracle: what a viewer gets by our own egress is what it would have got by str0m's `write_rtp`.
//!
//! One broadcaster, and two viewers that offer one SRTP profile. The hub serves the first. The second is served by a str0m
//! of the test's own, which does all of RTP, SRTP and repair: it is handed the broadcaster's packets by the same fan-out,
//! through a writer that was the hub's before it sealed anything itself. Both lose packets, and have them repaired.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use onair::egress::cipher::Profile;
use onair::egress::fanout::{Fanout, PacketWriter, PayloadTypes, Target};
use onair::egress::packet::{PassedExtensions, RelayPacket};
use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::keyframe::KeyframeStart;
use onair::rtp::packet::MediaPacket;
use onair::rtp::rewrite::{Mapped, TrackRewrite};
use onair::rtp::vp8::Vp8Descriptor as OurVp8Descriptor;
use str0m::RtcConfig;
use str0m::media::{Direction, Frequency, MediaTime, Mid};
use str0m::rtp::{Extension, ExtensionMap, ExtensionValues, RtpWrite, VideoOrientation, Vp8Descriptor};

use crate::dtls;
use crate::simulation::client::{Client, Offered, Received};
use crate::simulation::media::{Encoder, without_ids};
use crate::simulation::network::Conditions;
use crate::simulation::stream::stretches;
use crate::simulation::{ClientId, Program, Simulation, ms, secs, with_seeds};

const KINDS: [TrackKind; 2] = [TrackKind::Audio, TrackKind::Video];

/// What each viewer's path is like while it is bad.
const LOSSY: Conditions = Conditions {
    delay: Duration::from_millis(10),
    jitter: Duration::from_millis(4),
    loss: 0.05,
    reorder: 0.05,
    duplicate: 0.01,
};

/// Packets at the end of a stretch that may still be under way.
const UNDER_WAY: usize = 30;

/// The server whose packets str0m seals, and repairs.
struct Oracle {
    server: ClientId,
    tracks: Vec<Track>,
}

/// One of the broadcaster's tracks on its way to the oracle's viewer.
struct Track {
    kind: TrackKind,
    fanout: Fanout<Mid>,
    keyframe_start: KeyframeStart,
    /// How many of the present encoder's packets were passed on.
    fed: usize,
}

impl Oracle {
    /// Serves `viewer`, without a hub.
    fn new(sim: &mut Simulation, viewer: ClientId, codec: Codec) -> Self {
        let mut extensions = ExtensionMap::empty();
        extensions.set(1, Extension::AudioLevel);
        extensions.set(2, Extension::AbsoluteSendTime);
        extensions.set(4, Extension::RtpMid);
        extensions.set(5, Extension::PlayoutDelay);
        extensions.set(13, Extension::VideoOrientation);
        let address = sim.next_address();
        let session = sim.open();
        let config = RtcConfig::new().set_extension_map(extensions);
        let server = sim.client_with(config, session, address, &[codec]);
        let sdp = sim[server].offer([true, true], Direction::SendOnly, &[]);
        let answer = sim[viewer].answer(&Offered { sdp, seq: 0 });
        sim[server].take_answer(&answer);
        let now = sim.now;
        for client in [server, viewer] {
            sim[client].poke(now);
        }
        let tracks = KINDS.map(|kind| Track {
            kind,
            fanout: Fanout::default(),
            keyframe_start: KeyframeStart::default(),
            fed: 0,
        });
        Self { server, tracks: tracks.into() }
    }

    /// Lets its viewer's tracks begin, video with the next keyframe.
    fn attach(&mut self, sim: &mut Simulation) {
        for track in &mut self.tracks {
            let mid = sim[self.server].mids[track.kind as usize].expect("it was offered");
            let clock_rate_hz = if track.kind == TrackKind::Audio { 48_000 } else { 90_000 };
            let rewrite = TrackRewrite::new(sim.random.u16(..), sim.random.u32(..), clock_rate_hz);
            track.fanout.attach(Target::new(mid, rewrite));
        }
    }

    /// Passes on what the broadcaster has sent since the last time.
    fn feed(&mut self, sim: &mut Simulation, publisher: ClientId) {
        let now = sim.now;
        for track in &mut self.tracks {
            let source = sim[publisher].track(track.kind);
            let codec = source.encoder.codec;
            let spec = sim[publisher].params(source.mid, codec).spec();
            let mut run = Vec::new();
            for sent in &source.encoder.sent[track.fed..] {
                let media = MediaPacket {
                    kind: track.kind,
                    codec,
                    epoch: u32::from(source.encoder.number),
                    sequence: sent.sequence,
                    timestamp: sent.timestamp,
                    marker: sent.marker,
                    payload: Arc::clone(&sent.payload),
                    arrival: now,
                    sender_report: None,
                };
                let begins = track.keyframe_start.observe(codec, &media.payload, media.timestamp);
                run.push(RelayPacket {
                    format: u32::from(source.encoder.number),
                    spec,
                    begins,
                    captured: sent.captured,
                    extensions: passed(&sent.extensions),
                    vp8: (codec == Codec::Vp8).then(|| OurVp8Descriptor::parse(&media.payload).expect("VP8")),
                    media,
                });
            }
            track.fed = source.encoder.sent.len();
            track.fanout.forward(&run, now, &mut StreamWriter { server: &mut sim[self.server] });
        }
        sim[self.server].poke(now);
    }

    /// Lets time pass while the broadcaster's packets are passed on.
    fn run_for(&mut self, sim: &mut Simulation, publisher: ClientId, duration: Duration) {
        let until = sim.now + duration;
        while sim.now < until {
            sim.run_for(ms(5));
            self.feed(sim, publisher);
        }
    }

    /// The broadcaster goes on with another source on each track; returns what it sent before.
    fn switch(&mut self, sim: &mut Simulation, publisher: ClientId) -> Vec<Encoder> {
        self.feed(sim, publisher);
        let mut gone = Vec::new();
        for track in &mut self.tracks {
            let encoder = sim.encoder(sim[publisher].encoder(track.kind).codec);
            gone.push(sim[publisher].restart_track(track.kind, encoder));
            track.fed = 0;
            track.keyframe_start.reset();
        }
        gone
    }
}

/// Writes packets into str0m's streams.
struct StreamWriter<'a> {
    server: &'a mut Client,
}

impl PacketWriter<Mid> for StreamWriter<'_> {
    fn payload_types(&mut self, to: &Mid, packet: &RelayPacket) -> Option<PayloadTypes> {
        let params = self.server.params(*to, packet.media.codec);
        Some(PayloadTypes { media: *params.pt(), rtx: params.resend().map(|pt| *pt) })
    }

    fn write(&mut self, to: &mut Mid, packet: &RelayPacket, mapped: Mapped, payload_types: PayloadTypes) {
        let mut write = RtpWrite::new(
            payload_types.media.into(),
            mapped.sequence.into(),
            mapped.timestamp,
            packet.captured,
            Arc::clone(&packet.media.payload),
        )
        .marker(packet.media.marker)
        .nackable(packet.media.kind == TrackKind::Video)
        .ext_vals(unpassed(&packet.extensions));
        if let Some(ids) = mapped.vp8 {
            let descriptor = Vp8Descriptor::parse(&packet.media.payload).expect("VP8");
            let mut patch = descriptor.patch();
            if let Some(picture_id) = ids.picture_id {
                patch = patch.picture_id(picture_id.value);
            }
            if let Some(tl0_pic_idx) = ids.tl0_pic_idx {
                patch = patch.tl0_pic_idx(tl0_pic_idx);
            }
            write = write.vp8_patch(patch.build().expect("ids that fit"));
        }
        let mut api = self.server.rtc.direct_api();
        api.stream_tx_by_mid(*to, None).expect("a stream for each track").write_rtp(write);
    }
}

/// Header extensions as they stand on the wire (RFC 6464, 3GPP TS 26.114, playout-delay).
fn passed(from: &ExtensionValues) -> PassedExtensions {
    let hundredths = |time: MediaTime| time.rebase(Frequency::HUNDREDTHS).numer() as u32;
    PassedExtensions {
        audio_level: from
            .audio_level
            .map(|level| level.unsigned_abs() | if from.voice_activity == Some(true) { 0x80 } else { 0 }),
        video_orientation: from.video_orientation.map(|orientation| orientation as u8),
        playout_delay: from.play_delay_min.zip(from.play_delay_max).map(|(min, max)| {
            let [_, high, middle, low] = (hundredths(min) << 12 | hundredths(max)).to_be_bytes();
            [high, middle, low]
        }),
    }
}

/// As str0m takes them.
fn unpassed(from: &PassedExtensions) -> ExtensionValues {
    let [min, max] = from.playout_delay.map_or([None; 2], |[high, middle, low]| {
        let both = u64::from(u32::from_be_bytes([0, high, middle, low]));
        [both >> 12, both & 0xfff].map(|count| Some(MediaTime::new(count, Frequency::HUNDREDTHS)))
    });
    ExtensionValues {
        audio_level: from.audio_level.map(|byte| -((byte & 0x7f) as i8)),
        voice_activity: from.audio_level.map(|byte| byte & 0x80 != 0),
        video_orientation: from.video_orientation.map(|byte| match byte {
            0 => VideoOrientation::Deg0,
            1 => VideoOrientation::Deg270,
            2 => VideoOrientation::Deg180,
            _ => VideoOrientation::Deg90,
        }),
        play_delay_min: min,
        play_delay_max: max,
        ..ExtensionValues::default()
    }
}

/// Counts the datagrams of the payload types given, each from one server to one viewer.
fn count_repairs(sim: &mut Simulation, of: [(ClientId, u8); 2]) -> [Rc<Cell<usize>>; 2] {
    let counts = [Rc::new(Cell::new(0)), Rc::new(Cell::new(0))];
    let of = of.map(|(viewer, payload_type)| (sim[viewer].address, payload_type));
    let counters = counts.clone();
    sim.network.filter = Some(Box::new(move |datagram| {
        for ((address, payload_type), counter) in of.iter().zip(&counters) {
            if datagram.to == *address && datagram.is_media() && datagram.bytes[1] & 0x7f == *payload_type {
                counter.set(counter.get() + 1);
            }
        }
        true
    }));
    counts
}

/// One source's packets at both viewers, by the index in their tokens.
fn by_index<'a>(stretch: &[&'a Received], encoder: &Encoder) -> BTreeMap<usize, &'a Received> {
    assert!(stretch.iter().all(|packet| packet.token.encoder == encoder.number));
    stretch.iter().map(|packet| (packet.token.index as usize, *packet)).collect()
}

/// What both viewers got of one source is the same, and what was sent.
fn assert_same(ours: &[&Received], theirs: &[&Received], encoder: &Encoder, end: usize) {
    let [ours, theirs] = [ours, theirs].map(|stretch| by_index(stretch, encoder));
    let first = *ours.first_key_value().unwrap().0.max(theirs.first_key_value().unwrap().0);
    let is_video = encoder.codec.kind() == TrackKind::Video;
    assert!(end - first > 100, "from {first} to {end}");
    assert!(!is_video || encoder.sent[first].starts_keyframe);
    let (our_origin, their_origin) = (ours[&first], theirs[&first]);
    let mut compared = 0;
    for index in first..end {
        let (ours, theirs, sent) = (ours.get(&index), theirs.get(&index), &encoder.sent[index]);
        assert!(!is_video || ours.is_some(), "{index} of {first} to {end} is missing");
        assert!(!is_video || theirs.is_some(), "{index} of {first} to {end} is missing at the oracle's");
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            // Sound is not repaired.
            continue;
        };
        compared += 1;
        assert_eq!(ours.payload, theirs.payload, "payload of {index}");
        assert_eq!(ours.marker, theirs.marker, "marker of {index}");
        let sequences = [(ours, our_origin), (theirs, their_origin)].map(|(it, origin)| it.sequence - origin.sequence);
        assert_eq!(sequences, [(index - first) as u64; 2], "order of {index}");
        let ticks = [(ours, our_origin), (theirs, their_origin)]
            .map(|(it, origin)| it.timestamp.wrapping_sub(origin.timestamp));
        assert_eq!(ticks[0], ticks[1], "time of {index}");
        assert_eq!(passed(&ours.extensions), passed(&theirs.extensions), "extensions of {index}");
        // And it is not that both are wrong.
        assert_eq!(passed(&ours.extensions), passed(&sent.extensions), "extensions of {index}");
        assert_eq!(without_ids(encoder.codec, &ours.payload), without_ids(encoder.codec, &sent.payload));
        assert_eq!((ours.marker, ticks[0]), (sent.marker, sent.timestamp.wrapping_sub(encoder.sent[first].timestamp)));
    }
    assert!(compared * 5 > (end - first) * 4, "{compared} of {}", end - first);
}

fn hold_against_the_oracle(profile: Profile, codec: Codec, seed: u64) {
    let mut sim = Simulation::new(seed);
    let (viewer, keys) = dtls::client_of(&mut sim, profile, &[codec]);
    sim.subscribe_with(viewer, "r/u");
    let (other, other_keys) = dtls::client_of(&mut sim, profile, &[codec]);
    let mut oracle = Oracle::new(&mut sim, other, codec);
    let publisher = sim.publish("r/u", Program::of(codec));
    sim.run_for(secs(1));
    assert_eq!([keys.profile(), other_keys.profile()], [Some(profile); 2], "the profile that was negotiated");
    let mids =
        KINDS.map(|kind| (sim.mid(viewer, "r/u", kind).unwrap(), sim[oracle.server].mids[kind as usize].unwrap()));

    oracle.attach(&mut sim);
    oracle.feed(&mut sim, publisher);
    sim[viewer].request_keyframe(mids[1].0);
    let (now, video) = (sim.now, mids[1]);
    sim[viewer].poke(now);
    oracle.run_for(&mut sim, publisher, secs(1));
    let types = [(viewer, video.0), (other, video.1)].map(|(id, mid)| (id, sim[id].rtx_payload_type(mid, codec)));
    let repairs = count_repairs(&mut sim, types);
    let mut gone = Vec::new();
    for _ in 0..2 {
        for client in [viewer, other] {
            let address = sim[client].address;
            sim.network.paths.insert(address, LOSSY);
        }
        oracle.run_for(&mut sim, publisher, secs(4));
        sim.network.paths.clear();
        // What is lost last is repaired before anything changes.
        oracle.run_for(&mut sim, publisher, secs(1));
        if gone.is_empty() {
            gone = oracle.switch(&mut sim, publisher);
            oracle.run_for(&mut sim, publisher, secs(1));
        }
    }

    assert!(sim.network.lost > 50, "{} were lost", sim.network.lost);
    let repairs = repairs.map(|count| count.get());
    assert!(repairs.iter().all(|count| *count > 10), "{repairs:?} retransmissions");
    assert!(sim.hub.snapshot(sim.now).metrics.rtx_packets_out > 10);
    for ((kind, mids), gone) in KINDS.into_iter().zip(mids).zip(&gone) {
        let (ours, theirs) = (stretches(&sim[viewer], mids.0), stretches(&sim[other], mids.1));
        let ([our_first, our_second], [their_first, their_second]) = (ours.as_slice(), theirs.as_slice()) else {
            panic!("two sources: {} {}", ours.len(), theirs.len());
        };
        assert_same(our_first, their_first, gone, gone.sent.len());
        let encoder = sim[publisher].encoder(kind);
        assert_same(our_second, their_second, encoder, encoder.sent.len() - UNDER_WAY);
        let joins = [(our_first, our_second), (their_first, their_second)].map(|(before, after)| {
            let (last, first) = (before.last().unwrap(), after.first().unwrap());
            (first.sequence - last.sequence, first.token.index)
        });
        assert_eq!(joins[0], joins[1], "how one source follows the other");
    }
}

/// Each codec with two seeds.
fn for_each_codec(profile: Profile) {
    with_seeds(|seed| {
        let codecs = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1];
        hold_against_the_oracle(profile, codecs[seed as usize % codecs.len()], seed);
    });
}

#[test]
fn what_viewers_decrypt_is_the_same_by_aead_aes_256_gcm() {
    for_each_codec(Profile::AeadAes256Gcm);
}

#[test]
fn what_viewers_decrypt_is_the_same_by_aead_aes_128_gcm() {
    for_each_codec(Profile::AeadAes128Gcm);
}

#[test]
fn what_viewers_decrypt_is_the_same_by_aes128_cm_sha1_80() {
    for_each_codec(Profile::Aes128CmSha1_80);
}
