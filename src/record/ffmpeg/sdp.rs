//! The session description that ffmpeg reads before the packets.
//!
//! **Invariant:** a payload type and an SSRC named here are the ones that [`Feed`](super::feed::Feed) sends.

use std::fmt::Write as _;

use crate::rtp::codec::{Codec, TrackKind};

/// One stream towards ffmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// Its payload type.
    pub payload_type: u8,
    /// Its SSRC.
    pub ssrc: u32,
}

/// The stream that carries `kind`.
pub fn stream(kind: TrackKind) -> Stream {
    match kind {
        TrackKind::Video => Stream { payload_type: 96, ssrc: 1111 },
        TrackKind::Audio => Stream { payload_type: 111, ssrc: 2222 },
    }
}

/// Describes the streams of one file.
pub fn describe(video: Option<Codec>, audio: bool) -> String {
    let mut sdp = String::from("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n");
    if let Some(codec) = video {
        let Stream { payload_type, ssrc } = stream(TrackKind::Video);
        let name = codec.name().to_ascii_uppercase();
        // Writing to a String cannot fail.
        let _ = write!(sdp, "m=video 9 RTP/AVP {payload_type}\r\na=ssrc:{ssrc} cname:r\r\n");
        let _ = write!(sdp, "a=rtpmap:{payload_type} {name}/{}\r\n", codec.clock_rate_hz());
        if codec == Codec::H264 {
            let _ = write!(sdp, "a=fmtp:{payload_type} packetization-mode=1\r\n");
        }
    }
    if audio {
        let Stream { payload_type, ssrc } = stream(TrackKind::Audio);
        let _ = write!(sdp, "m=audio 9 RTP/AVP {payload_type}\r\na=ssrc:{ssrc} cname:r\r\n");
        let _ = write!(sdp, "a=rtpmap:{payload_type} opus/48000/2\r\na=fmtp:{payload_type} sprop-stereo=1\r\n");
    }
    sdp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_holds_the_tracks_asked_for() {
        let both = describe(Some(Codec::H264), true);
        assert!(both.contains("m=video 9 RTP/AVP 96\r\na=ssrc:1111 cname:r\r\na=rtpmap:96 H264/90000\r\n"));
        assert!(both.contains("m=audio 9 RTP/AVP 111\r\na=ssrc:2222 cname:r\r\na=rtpmap:111 opus/48000/2\r\n"));
        assert!(!describe(None, true).contains("video"));
        assert!(!describe(Some(Codec::Vp9), false).contains("audio"));
    }
}
