//! How the hub's str0m instances are made: one certificate, one codec table for publishers and one for subscribers.
//!
//! **Invariant:** a subscriber's table is fixed when it is made and holds every format we accept, with payload types of
//! its own, so that whatever is published later has its place in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::config::{CryptoProvider, DtlsCert};
use str0m::format::{Codec as Format, CodecConfig, CodecSpec, FormatParams, PayloadParams};
use str0m::media::{Frequency, Pt};
use str0m::net::{Protocol, TcpType};
use str0m::rtp::{Extension, ExtensionMap};
use str0m::{Candidate, Rtc, RtcConfig};

use super::config::{HubConfig, IceRole};
use crate::dtls::provider;
use crate::egress::extensions::ExtensionIds;
use crate::egress::fanout::PayloadTypes;
use crate::egress::keytap::{self, KeyTap};
use crate::rtp::codec::{Codec, CodecSet};

/// The largest data channel message we take: `ping-N` is all that is asked for.
const CHANNEL_MESSAGE_MAX_BYTES: u32 = 16 * 1024;

/// What a data channel may buffer toward a peer that does not acknowledge.
const CHANNEL_BUFFER_MAX_BYTES: usize = 16 * 1024;

/// An interval that no connection lives to see.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes [`Rtc`]s.
#[derive(Debug)]
pub struct RtcFactory {
    crypto: Arc<CryptoProvider>,
    certificate: Option<DtlsCert>,
    candidates: Vec<SocketAddr>,
    tcp_candidates: Vec<SocketAddr>,
    ice: IceRole,
    codecs: Vec<Codec>,
}

impl RtcFactory {
    /// Makes the process's certificate.
    pub fn new(config: &HubConfig) -> Self {
        let crypto = Arc::new(provider::crypto());
        let certificate = crypto.dtls_provider.generate_certificate();
        Self {
            crypto,
            certificate,
            candidates: config.candidates.clone(),
            tcp_candidates: config.tcp_candidates.clone(),
            ice: config.ice,
            codecs: config.codecs.clone(),
        }
    }

    /// A publisher's: it answers in the operator's codec order, what can be recorded first.
    pub fn publisher(&self, recordable: CodecSet, now: Instant) -> Rtc {
        let mut codecs = self.codecs.clone();
        if !recordable.is_empty() {
            codecs.sort_by_key(|codec| !recordable.contains(*codec));
        }
        // What passes through to subscribers is taken from publishers: str0m by itself leaves playout delay out.
        let config = self
            .base(&codecs, true)
            .set_extension(5, Extension::PlayoutDelay)
            .set_rtcp_report_interval_audio(Duration::from_secs(2));
        self.build(config, now)
    }

    /// A subscriber's: what secures its media goes to the tap, for str0m seals none of it.
    pub fn subscriber(&self, now: Instant) -> (Rtc, KeyTap) {
        let mut extensions = ExtensionMap::empty();
        extensions.set(1, Extension::AudioLevel);
        extensions.set(2, Extension::AbsoluteSendTime);
        extensions.set(4, Extension::RtpMid);
        extensions.set(5, Extension::PlayoutDelay);
        extensions.set(13, Extension::VideoOrientation);
        // Reports are the egress's: str0m's would be made and dropped.
        let config = self
            .base(&self.codecs, false)
            .set_extension_map(extensions)
            .set_rtcp_report_interval_audio(NEVER)
            .set_rtcp_report_interval_video(NEVER);
        keytap::tapped(|| self.build(config, now))
    }

    fn base(&self, codecs: &[Codec], transport_cc: bool) -> RtcConfig {
        let mut config = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&self.crypto))
            .set_rtp_mode(true)
            .set_ice_lite(self.ice == IceRole::Lite)
            .set_sctp_max_message_size(CHANNEL_MESSAGE_MAX_BYTES)
            .set_sctp_max_buffered_amount(CHANNEL_BUFFER_MAX_BYTES);
        if let Some(certificate) = &self.certificate {
            config = config.set_dtls_cert(certificate.clone());
        }
        *config.codec_config() = table(codecs, transport_cc);
        config
    }

    fn build(&self, config: RtcConfig, now: Instant) -> Rtc {
        let mut rtc = config.build(now);
        // UDP first: some clients take the first candidate and no other.
        let udp = self.candidates.iter().map(|address| (address, Candidate::host(*address, Protocol::Udp)));
        let passive =
            |address: &SocketAddr| Candidate::builder().tcp().host(*address).tcptype(TcpType::Passive).build();
        let tcp = self.tcp_candidates.iter().map(|address| (address, passive(address)));
        for (address, candidate) in udp.chain(tcp) {
            match candidate {
                Ok(candidate) => {
                    rtc.add_local_candidate(candidate);
                }
                Err(error) => tracing::warn!(%address, %error, "an address cannot be a candidate"),
            }
        }
        rtc
    }
}

/// The H.264 variants we accept, the most widely played first: packetization mode and `profile-level-id`.
const H264: [(u8, u32); 7] =
    [(1, 0x42e01f), (1, 0x42001f), (1, 0x4d001f), (1, 0x64001f), (0, 0x42e01f), (0, 0x42001f), (0, 0x4d001f)];

/// Builds a codec table: Opus, and `codecs` in their order, with unique payload types.
fn table(codecs: &[Codec], transport_cc: bool) -> CodecConfig {
    // 96 to 127, then 35 to 63: the dynamic ones (RFC 3551 §6) that RTCP's packet types leave free (RFC 5761 §4).
    let mut free = (96..=127).chain(35..=63).map(Pt::from);
    let mut params = vec![];
    let mut add = |codec, clock_rate, channels, format, repaired: bool| {
        let (Some(pt), rtx) = (free.next(), repaired.then(|| free.next()).flatten()) else {
            return;
        };
        let spec = CodecSpec { codec, clock_rate, channels, format };
        let mut param = PayloadParams::new(pt, rtx, spec);
        param.set_fb_transport_cc(transport_cc);
        params.push(param);
    };
    let opus = FormatParams { min_p_time: Some(10), use_inband_fec: Some(true), ..FormatParams::default() };
    add(Format::Opus, Frequency::FORTY_EIGHT_KHZ, Some(2), opus, false);
    let video = Frequency::NINETY_KHZ;
    for codec in codecs {
        match codec {
            Codec::Opus => {}
            Codec::Vp8 => add(Format::Vp8, video, None, FormatParams::default(), true),
            Codec::Vp9 => {
                for profile in [0, 2] {
                    let format = FormatParams { profile_id: Some(profile), ..FormatParams::default() };
                    add(Format::Vp9, video, None, format, true);
                }
            }
            Codec::Av1 => {
                let format = FormatParams { profile: Some(0), ..FormatParams::default() };
                add(Format::Av1, video, None, format, true);
            }
            Codec::H264 => {
                for (mode, profile) in H264 {
                    let format = FormatParams {
                        level_asymmetry_allowed: Some(true),
                        packetization_mode: Some(mode),
                        profile_level_id: Some(profile),
                        ..FormatParams::default()
                    };
                    add(Format::H264, video, None, format, true);
                }
            }
            Codec::H265 => {
                // Main profile, Main tier, level 6.0, as str0m's own table has it.
                let mut preset = CodecConfig::empty();
                preset.enable_h265(true);
                if let Some(param) = preset.params().first() {
                    add(Format::H265, video, None, param.spec().format, true);
                }
            }
        }
    }
    CodecConfig::new_from_payload_params(params)
}

/// The ids of the header extensions that we write, in the map of one m-line.
pub fn extension_ids(map: &ExtensionMap) -> ExtensionIds {
    let id = |extension| map.id_of(extension).unwrap_or(0);
    ExtensionIds {
        mid: id(Extension::RtpMid),
        abs_send_time: id(Extension::AbsoluteSendTime),
        audio_level: id(Extension::AudioLevel),
        video_orientation: id(Extension::VideoOrientation),
        playout_delay: id(Extension::PlayoutDelay),
    }
}

/// The codec that `spec` names, if it is one that we relay.
pub fn codec_of(spec: &CodecSpec) -> Option<Codec> {
    match spec.codec {
        Format::Opus => Some(Codec::Opus),
        Format::H264 => Some(Codec::H264),
        Format::H265 => Some(Codec::H265),
        Format::Vp8 => Some(Codec::Vp8),
        Format::Vp9 => Some(Codec::Vp9),
        Format::Av1 => Some(Codec::Av1),
        _ => None,
    }
}

/// The payload types, that of the media among `accepted`, under which a receiver whose table is `config` plays what `source` describes.
///
/// An exact match of the format first; of H.264, then a profile that decodes it too.
pub fn payload_types_for(config: &CodecConfig, accepted: &[Pt], source: &CodecSpec) -> Option<PayloadTypes> {
    let (_, param) = config
        .params()
        .iter()
        .filter(|param| accepted.contains(&param.pt()))
        .filter_map(|param| Some((fit(source, &param.spec())?, param)))
        .min_by_key(|(distance, _)| *distance)?;
    Some(PayloadTypes { media: *param.pt(), rtx: param.resend().map(|pt| *pt) })
}

/// How far a receiver's format is from the source's; `None` when it cannot play it.
fn fit(source: &CodecSpec, receiver: &CodecSpec) -> Option<u32> {
    if source.codec != receiver.codec {
        return None;
    }
    match source.codec {
        Format::H264 => {
            // Who says nothing of modes, as GStreamer, takes fragments all the same. It cannot be told from one who
            // names mode 0 alone, so those get them as well, where they have nothing better.
            let mode = |spec: &CodecSpec| spec.format.packetization_mode.unwrap_or(0);
            let mode_distance = if mode(source) > mode(receiver) { 100 } else { mode(receiver) - mode(source) };
            let rank = |spec: &CodecSpec| h264_rank(spec.format.profile_level_id.unwrap_or(0x42e01f));
            let (from, to) = (rank(source)?, rank(receiver)?);
            // A decoder of a higher profile plays a lower one; browsers play baseline as constrained baseline.
            let distance = if to >= from {
                to - from
            } else if from == 1 {
                2
            } else {
                return None;
            };
            Some(distance * 2 + u32::from(mode_distance))
        }
        Format::Vp9 => {
            let profile = |spec: &CodecSpec| spec.format.profile_id.unwrap_or(0);
            (profile(source) == profile(receiver)).then_some(0)
        }
        _ => Some(0),
    }
}

/// Constrained baseline 0, baseline 1, main 2, high 3.
fn h264_rank(profile_level_id: u32) -> Option<u32> {
    let (profile, constraints) = (profile_level_id >> 16, (profile_level_id >> 8) & 0xff);
    match profile {
        0x42 if constraints & 0x40 != 0 => Some(0),
        0x42 => Some(1),
        0x4d | 0x58 => Some(2),
        0x64 => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_types_are_unique() {
        let config = table(&Codec::VIDEO, false);
        let mut all: Vec<u8> = config
            .params()
            .iter()
            .flat_map(|param| [Some(param.pt()), param.resend()])
            .flatten()
            .map(|pt| *pt)
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|pt| (96..=127).contains(pt) || (35..=63).contains(pt)));
    }

    #[test]
    fn every_codec_asked_for_is_in_the_table_and_no_other() {
        let config = table(&[Codec::Vp8, Codec::Av1], true);
        let codecs: Vec<_> = config.params().iter().filter_map(|param| codec_of(&param.spec())).collect();
        assert_eq!(codecs, [Codec::Opus, Codec::Vp8, Codec::Av1]);
    }

    fn h264(mode: u8, profile: u32) -> CodecSpec {
        CodecSpec {
            codec: Format::H264,
            clock_rate: Frequency::NINETY_KHZ,
            channels: None,
            format: FormatParams {
                packetization_mode: Some(mode),
                profile_level_id: Some(profile),
                ..FormatParams::default()
            },
        }
    }

    #[test]
    fn h264_goes_to_the_nearest_profile_that_decodes_it() {
        let config = table(&[Codec::H264], false);
        let all: Vec<Pt> = config.params().iter().map(PayloadParams::pt).collect();
        let chosen = |accepted: &[Pt], mode, profile| {
            payload_types_for(&config, accepted, &h264(mode, profile)).map(|chosen| {
                let param = config.params().iter().find(|param| *param.pt() == chosen.media).unwrap();
                assert_eq!(param.resend().map(|pt| *pt), chosen.rtx);
                let format = param.spec().format;
                (format.packetization_mode.unwrap(), format.profile_level_id.unwrap())
            })
        };
        for (mode, profile) in H264 {
            assert_eq!(chosen(&all, mode, profile), Some((mode, profile)));
        }
        assert_eq!(chosen(&all, 1, 0x42c01f), Some((1, 0x42e01f)));
        // A receiver of constrained baseline in mode 1 alone, as Firefox is.
        let firefox: Vec<Pt> = all[1..2].to_vec();
        assert_eq!(chosen(&firefox, 1, 0x42001f), Some((1, 0x42e01f)));
        assert_eq!(chosen(&firefox, 0, 0x42e01f), Some((1, 0x42e01f)));
        assert_eq!(chosen(&firefox, 1, 0x64001f), None);
        // A receiver that says nothing of modes, as GStreamer's.
        let silent: Vec<Pt> = config
            .params()
            .iter()
            .filter(|param| param.spec().format.packetization_mode == Some(0))
            .map(PayloadParams::pt)
            .collect();
        assert_eq!(chosen(&silent, 1, 0x42c01f), Some((0, 0x42e01f)));
        assert_eq!(chosen(&silent, 1, 0x64001f), None);
        assert_eq!(chosen(&[], 1, 0x42e01f), None);
    }
}
