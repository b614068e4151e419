//! Bytes to the parsers of the lowest floor.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use onair::access::Policy;
use onair::net::tcp::framing::{FRAME_MAX_BYTES, Unframer};
use onair::rtp::codec::Codec;
use onair::rtp::frame_size::frame_size;
use onair::rtp::header::{DatagramKind, RtpHeader};
use onair::rtp::keyframe::{KeyframeStart, starts_keyframe};
use onair::rtp::rtcp::{self, Rtcp};
use onair::rtp::vp8::{PictureId, Vp8Descriptor, Vp8Ids};
use onair::rtp::vp9::cut_descriptor;
use onair::signal::ClientMessage;
use onair::signal::answer::{candidates, rejected_mids, with_rtcp_mux_only, with_start_bitrate};
use onair::signal::foreign::{Foreign, OfferOptions, Role, normalise_answer};
use onair::signal::sdpfrag::{FragCredentials, SdpFrag};
use str0m::change::{SdpAnswer, SdpOffer};

/// The application's secret, and when its tokens are looked at.
const TOKEN_SECRET: &str = "0123456789abcdef0123456789abcdef";
const TOKEN_NOW_S: u64 = 1_800_000_000;

/// The public keys of RFC 8037 §A.2 and RFC 7515 §A.2.
const TOKEN_KEYS: &str = include_str!("../token-keys.json");

/// A text frame as a client's message.
pub fn message(frame: &[u8]) {
    if let Ok(frame) = std::str::from_utf8(frame) {
        let _ = ClientMessage::parse(frame);
    }
}

/// SDP as a broadcaster's offer, as a player's offer and as a viewer's answer, made fit and parsed by the engine; and as
/// an answer of ours that is mapped back.
pub fn sdp(sdp: &[u8]) {
    let Ok(sdp) = std::str::from_utf8(sdp) else {
        return;
    };
    for options in [
        OfferOptions::default(),
        OfferOptions { role: Role::Subscriber, stream: Some("onair"), ..OfferOptions::default() },
    ] {
        if let Ok(foreign) = Foreign::offer(sdp, options) {
            if let Ok(offer) = SdpOffer::from_sdp_string(foreign.sdp()) {
                let m_lines = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
                assert_eq!(m_lines(&offer.to_sdp_string()), m_lines(foreign.sdp()), "an m-line was lost in parsing");
                let credentials = FragCredentials { ufrag: "anew".into(), password: "0123456789012345678901".into() };
                let again = foreign.restarted(&credentials);
                let restarted = SdpOffer::from_sdp_string(again.sdp()).expect("it was read with other credentials");
                assert_eq!(m_lines(&restarted.to_sdp_string()), m_lines(foreign.sdp()), "a restart changes ICE alone");
            }
            let _ = foreign.is_rejected_in_part(sdp);
            let _ = with_start_bitrate(&foreign.answer(sdp), 2_500);
        }
    }
    if let Ok(fit) = normalise_answer(sdp) {
        let _ = SdpAnswer::from_sdp_string(&fit);
    }
    let _ = candidates(sdp);
    let _ = rejected_mids(sdp);
    if let Some(frag) = SdpFrag::of_answer(sdp) {
        let _ = SdpFrag::parse(&frag.to_string());
    }
    let _ = with_rtcp_mux_only(sdp);
}

/// A trickled SDP fragment: what is read is written the same.
pub fn sdpfrag(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    if let Ok(frag) = SdpFrag::parse(text) {
        assert_eq!(SdpFrag::parse(&frag.to_string()).as_ref(), Ok(&frag));
    }
}

/// A packet to everything that looks into RTP, RTCP and their payloads.
pub fn rtp(packet: &[u8]) {
    let payload = match DatagramKind::classify(packet) {
        DatagramKind::Rtcp => {
            rtcp::packets(packet).for_each(read_rtcp);
            return;
        }
        DatagramKind::Rtp => {
            let Ok(header) = RtpHeader::parse(packet) else {
                return;
            };
            header.extensions.clone().for_each(drop);
            let _ = header.extensions.value_of(4);
            &packet[header.payload.clone()]
        }
        // What is no packet may be a payload: it is easier to find without a header in front of it.
        DatagramKind::Stun | DatagramKind::Dtls | DatagramKind::Unknown => packet,
    };
    for codec in Codec::VIDEO.into_iter().chain([Codec::Opus]) {
        keyframe(codec, payload);
        let _ = frame_size(codec, payload);
    }
    if let Some((_, frame)) = cut_descriptor(payload) {
        assert!(frame.len() < payload.len());
    }
    patch_vp8(payload);
}

/// A stream of frames: what is found in it is the same however it comes.
pub fn framing(stream: &[u8]) {
    let (cut, stream) = stream.split_first().map_or((1, stream), |(cut, rest)| (usize::from(*cut).max(1), rest));
    let unframe = |part_bytes: usize| {
        let (mut unframer, mut found) = (Unframer::default(), Vec::new());
        let fed = stream
            .chunks(part_bytes)
            .try_for_each(|part| unframer.feed(part, |datagram| found.push(datagram.to_vec())));
        assert!(found.iter().all(|datagram| datagram.len() <= FRAME_MAX_BYTES));
        (fed, found)
    };
    assert_eq!(unframe(cut), unframe(stream.len().max(1)));
}

/// A token that a stranger shows; and, as two lines, the header and claims of one that our own application signed, for
/// what lies behind a signature is not found by guessing.
pub fn token(shown: &[u8]) {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| {
        let keys = |name: &str| match name {
            "keys.json" => Ok(TOKEN_KEYS.to_owned()),
            _ => Err("there is no other".to_owned()),
        };
        Policy::parse_beside(&format!("[[jwt]]\nsecret = \"{TOKEN_SECRET}\"\n[[jwt]]\njwks = \"keys.json\""), &keys)
            .expect("a sound file")
    });
    let Ok(shown) = std::str::from_utf8(shown) else {
        return;
    };
    let _ = POLICY.permit(Some(shown), TOKEN_NOW_S);
    let (header, claims) = shown.split_once('\n').unwrap_or(("{\"alg\":\"HS256\"}", shown));
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.as_bytes()), URL_SAFE_NO_PAD.encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN_SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, text.as_bytes()).as_ref());
    if POLICY.permit(Some(&format!("{text}.{signature}")), TOKEN_NOW_S).is_ok() {
        // What is ignored may also hold numbers that this reader has no type for.
        let read = |part: &str| serde_json::from_str::<serde_json::Value>(part);
        let (Ok(header), Ok(claims)) = (read(header), read(claims)) else {
            return;
        };
        assert_eq!(header["alg"], "HS256", "signed so, whatever it names");
        let until_s = claims["exp"].as_f64().expect("it has an end");
        assert!(until_s > TOKEN_NOW_S as f64 - 61.0, "its time is over");
    }
}

/// Where a keyframe may begin one does, though a slice without its parameter sets counts from the second picture on; and
/// none does twice in one picture.
fn keyframe(codec: Codec, payload: &[u8]) {
    let may_start = starts_keyframe(codec, payload);
    let mut start = KeyframeStart::default();
    let at_first = start.observe(codec, payload, 1);
    assert!(may_start || !at_first);
    assert_eq!(start.observe(codec, payload, 2), may_start);
    assert!(!start.observe(codec, payload, 2));
}

fn read_rtcp(packet: Result<Rtcp<'_>, rtcp::RtcpError>) {
    match packet {
        Ok(Rtcp::SenderReport(report, blocks)) => {
            let _ = report.mapping(90_000);
            blocks.for_each(drop);
        }
        Ok(Rtcp::ReceiverReport(_, blocks)) => blocks.for_each(drop),
        Ok(Rtcp::SourceDescription(cnames)) => cnames.for_each(drop),
        Ok(Rtcp::Goodbye(sources)) => sources.for_each(drop),
        Ok(Rtcp::Nack { lost, .. }) => lost.for_each(drop),
        Ok(Rtcp::FullIntra { requests, .. }) => requests.for_each(drop),
        Ok(Rtcp::ReceiverBitrate { ssrcs, .. }) => ssrcs.for_each(drop),
        Ok(Rtcp::PictureLoss { .. } | Rtcp::Other(..)) | Err(_) => {}
    }
}

/// The ids that are written into a descriptor are read from it again.
fn patch_vp8(payload: &[u8]) {
    let Ok(descriptor) = Vp8Descriptor::parse(payload) else {
        return;
    };
    let before = descriptor.ids();
    let ids =
        Vp8Ids { picture_id: before.picture_id.map(|id| PictureId::new(id.value.wrapping_add(1), id.long)), ..before };
    let mut patched = payload.to_vec();
    descriptor.patch(&mut patched, ids);
    let after = Vp8Descriptor::parse(&patched).expect("what was patched is a descriptor still");
    assert_eq!(after.ids(), ids);
    assert_eq!(after.len_bytes(), descriptor.len_bytes());
    assert_eq!(patched.get(after.len_bytes()..), payload.get(descriptor.len_bytes()..));
}
