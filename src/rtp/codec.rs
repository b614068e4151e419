//! The codecs that are relayed, by the names of their RTP payload formats.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrackKind {
    /// Sound.
    Audio,
    /// A picture.
    Video,
}

/// A codec with an RTP payload format that is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 6184.
    H264,
    /// RFC 7798.
    H265,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// The Alliance for Open Media's payload format.
    Av1,
}

impl Codec {
    /// Every video codec that is relayed.
    pub const VIDEO: [Codec; 5] = [Codec::H264, Codec::H265, Codec::Vp8, Codec::Vp9, Codec::Av1];

    /// Audio or video.
    #[must_use]
    pub fn kind(self) -> TrackKind {
        match self {
            Codec::Opus => TrackKind::Audio,
            _ => TrackKind::Video,
        }
    }

    /// The RTP clock rate, in Hz.
    #[must_use]
    pub fn clock_rate_hz(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// The name in `--codecs`, in the API and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::H264 => "h264",
            Codec::H265 => "h265",
            Codec::Vp8 => "vp8",
            Codec::Vp9 => "vp9",
            Codec::Av1 => "av1",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no codec of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no codec: choose among h264, vp9, vp8, av1, h265")]
pub struct UnknownCodec(pub String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, UnknownCodec> {
        let lower = name.to_ascii_lowercase();
        [Codec::Opus]
            .into_iter()
            .chain(Codec::VIDEO)
            .find(|codec| codec.name() == lower)
            .ok_or_else(|| UnknownCodec(name.to_owned()))
    }
}

/// A set of codecs, small enough to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CodecSet(u8);

impl CodecSet {
    /// The set that holds nothing.
    pub const EMPTY: CodecSet = CodecSet(0);

    /// The set with `codec` added.
    #[must_use]
    pub fn with(self, codec: Codec) -> Self {
        Self(self.0 | 1 << codec as u8)
    }

    /// Whether `codec` is in the set.
    #[must_use]
    pub fn contains(self, codec: Codec) -> bool {
        self.0 & (1 << codec as u8) != 0
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Codec> for CodecSet {
    fn from_iter<I: IntoIterator<Item = Codec>>(codecs: I) -> Self {
        codecs.into_iter().fold(Self::EMPTY, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_read_back_by_its_name() {
        for codec in Codec::VIDEO {
            assert_eq!(codec.name().to_uppercase().parse(), Ok(codec));
        }
        assert!("mp3".parse::<Codec>().is_err());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: CodecSet = [Codec::Opus, Codec::Vp9].into_iter().collect();
        assert!(set.contains(Codec::Opus) && set.contains(Codec::Vp9));
        assert!(!set.contains(Codec::Vp8) && !set.is_empty());
    }
}
