//! One viewer's stream, as it stands in the hub, and a packet for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use onair::egress::cipher::{Cipher, MasterKey, Profile, RTP_LABELS};
use onair::egress::extensions::ExtensionIds;
use onair::egress::outlet::Outlet;
use onair::egress::packet::{PassedExtensions, RelayPacket};
use onair::egress::sink::{DatagramSink, Path, Traffic};
use onair::egress::srtp;
use onair::egress::stream::{Moment, Stream, StreamSetup};
use onair::rtp::codec::{Codec, TrackKind};
use onair::rtp::header::{FIXED_HEADER_BYTES, RtpHeader};
use onair::rtp::ntp::WallClock;
use onair::rtp::packet::MediaPacket;
use onair::rtp::rewrite::Mapped;
use str0m::format::{CodecSpec, FormatParams};
use str0m::media::Frequency;

/// Of its stream.
pub const SSRC: u32 = 0x1234_5678;

/// What the packets hold.
fn h264() -> CodecSpec {
    CodecSpec {
        codec: str0m::format::Codec::H264,
        clock_rate: Frequency::NINETY_KHZ,
        channels: None,
        format: FormatParams::default(),
    }
}

/// A batch of one slot.
struct Slot {
    bytes: [u8; 1_536],
    len_bytes: usize,
}

impl DatagramSink for Slot {
    fn reserve(&mut self, _: Path, _: Traffic, len_bytes: usize) -> Option<&mut [u8]> {
        self.bytes.get_mut(..len_bytes)
    }

    fn commit(&mut self, len_bytes: usize) {
        self.len_bytes = len_bytes;
    }
}

/// One of video, with an extension that is passed on.
pub fn packet(sequence: u64, payload: Arc<[u8]>, now: Instant) -> RelayPacket {
    let media = MediaPacket {
        kind: TrackKind::Video,
        codec: Codec::H264,
        epoch: 1,
        sequence,
        timestamp: 3_000,
        marker: false,
        payload,
        arrival: now,
        sender_report: None,
    };
    let extensions = PassedExtensions { playout_delay: Some([0, 0, 10]), ..PassedExtensions::default() };
    RelayPacket { media, format: 1, spec: h264(), begins: false, captured: now, extensions, vp8: None }
}

/// The keys of a handshake that never was.
fn material(profile: Profile) -> Vec<u8> {
    (0..2 * (profile.key_bytes() + profile.salt_bytes())).map(|at| (at as u8).wrapping_mul(37)).collect()
}

/// The session keys that the server seals with.
pub fn cipher(profile: Profile) -> Cipher {
    let material = material(profile);
    let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
    let server_salt = &material[2 * key + salt..];
    Cipher::new(&MasterKey::new(profile, &material[key..2 * key], server_salt).unwrap(), RTP_LABELS).unwrap()
}

/// One viewer's stream, as it stands in the hub.
pub struct Viewer {
    outlet: Outlet,
    stream: Stream,
    slot: Slot,
    moment: Moment,
    sequence: u64,
}

impl Viewer {
    /// One that got `profile`.
    pub fn new(profile: Profile, now: Instant) -> Self {
        let (sealer, opener) = srtp::session(profile, &material(profile), false).unwrap();
        let path = Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into());
        let mut outlet = Outlet::new(path, sealer, opener);
        let extensions = ExtensionIds { mid: 4, abs_send_time: 2, playout_delay: 5, ..ExtensionIds::default() };
        let setup = StreamSetup { ssrc: SSRC, rtx_ssrc: Some(SSRC + 1), random: 7, mid: "abc", extensions };
        let stream = Stream::new(&mut outlet, setup).unwrap();
        let slot = Slot { bytes: [0; 1_536], len_bytes: 0 };
        let ntp = WallClock::new(now, Duration::from_secs(1_800_000_000)).ntp_at(now);
        Self { outlet, stream, slot, moment: Moment { now, ntp }, sequence: 100 }
    }

    /// Sends it one packet.
    pub fn send(&mut self, packet: &RelayPacket) {
        let mapped = Mapped { sequence: self.sequence, timestamp: packet.media.timestamp, vp8: None };
        self.sequence += 1;
        assert!(self.stream.send(&mut self.outlet, packet, mapped, 96, self.moment, &mut self.slot));
    }

    /// What was sent opens, with the same keys, to the packet's payload.
    pub fn assert_opens(&mut self, profile: Profile, packet: &RelayPacket) {
        let index = self.sequence;
        self.send(packet);
        let sealed = &mut self.slot.bytes[..self.slot.len_bytes];
        let header_bytes = FIXED_HEADER_BYTES + 4 + 4 * usize::from(u16::from_be_bytes([sealed[14], sealed[15]]));
        let (header, body) = sealed.split_at_mut(header_bytes);
        let payload_bytes = body.len() - profile.tag_bytes();
        match cipher(profile) {
            Cipher::Gcm(gcm) => gcm.open((SSRC, index), header, body).unwrap(),
            Cipher::CmSha1(cm) => {
                let (payload, tag) = body.split_at_mut(payload_bytes);
                let authenticated = [&*header, &*payload].concat();
                assert_eq!(cm.tag(&authenticated, &[0; 4]), *tag);
                cm.apply((SSRC, index), payload).unwrap();
            }
        }
        assert_eq!(body[..payload_bytes], *packet.media.payload);
        let plain = [&*header, &body[..payload_bytes]].concat();
        let header = RtpHeader::parse(&plain).unwrap();
        assert_eq!((header.ssrc, u64::from(header.sequence), header.payload_type), (SSRC, index, 96));
        assert_eq!(header.extensions.value_of(4), Some(&b"abc"[..]));
    }
}
