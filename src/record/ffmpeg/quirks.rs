//! Every peculiarity of ffmpeg that we work around, in one place, each with the versions that show it.
//!
//! Tried were FFmpeg 5.1.9 (Debian 12), 6.0, 7.1.5, 8.0, 8.1.2 and 9.0.2; "all" below means these. 4.2.2 cannot be used: it
//! stops at an assertion of its own (`!s->write_flag`) as soon as its input is opened for reading and writing.
//!
//! **Invariant:** no other file knows why one of these things is done.

use crate::rtp::codec::Codec;
use crate::rtp::vp9::cut_descriptor;

/// `AVIO_FLAG_DIRECT | AVIO_FLAG_WRITE` for the input (all). ffmpeg answers RTP with receiver reports. It writes them into
/// its input, which is opened for reading alone, and after 280 kB of a stream it spins for ever.
pub const READ_WRITE_DIRECT: &str = "32770";

/// Bytes of the input that the probe for ID3v2 tags takes before the SDP is read (all).
const EATEN_BY_PROBE: &[u8] = &[b'\n'; 10];

/// The SDP is read in steps of so many bytes (all), and each read takes one datagram.
const SDP_STEP_BYTES: usize = 1024;

/// The datagrams that carry an SDP to ffmpeg's standard input.
///
/// Exactly two empty datagrams end it (all): after one, the first RTP packet would be taken for more of the SDP and lost.
pub fn sdp_datagrams(sdp: &str) -> Vec<Vec<u8>> {
    let mut padded = sdp.as_bytes().to_vec();
    padded.resize(padded.len().next_multiple_of(SDP_STEP_BYTES), b'\n');
    let mut datagrams = vec![EATEN_BY_PROBE.to_vec()];
    datagrams.extend(padded.chunks(SDP_STEP_BYTES).map(<[u8]>::to_vec));
    datagrams.extend([Vec::new(), Vec::new()]);
    datagrams
}

/// Options of the input.
///
/// - `-analyzeduration 1000000`: for so long, in microseconds, the streams are looked at before the file begins (all). A
///   stream that shows no packet in that time is left out of the file, unless `-map 0` asks for it. So the first picture
///   must be written before the sound that belongs to it.
/// - `-fpsprobesize 0`: else the first twenty pictures are waited for, to guess a rate that is not used (all).
/// - `-reorder_queue_size 0`: packets come in order, and the queue would hold back those behind a gap (all).
/// - `-copyts`: times are ours from the first packet on; else each track would begin at zero (all).
pub const INPUT: [&str; 3] = [
    "-protocol_whitelist pipe,fd -analyzeduration 1000000 -fpsprobesize 0",
    "-f sdp -sdp_flags custom_io -reorder_queue_size 0",
    "-copyts",
];

/// A silent track holds the other one back for ten seconds (all), unless this says half a second, in microseconds.
pub const INTERLEAVING: &str = "-max_interleave_delta 500000";

/// The first picture has no timestamp, since the parser of H.264 and H.265 gives none to packets without a position in a
/// file, and the decoding times that ffmpeg guesses for pictures that it takes for reordered delay the picture by one (all).
/// WebRTC reorders none: both times are the packet's, and the first picture is the beginning.
pub const PARSED_TIMES: &str = r"setts=pts=if(eq(N\,0)\,0\,PTS):dts=if(eq(N\,0)\,0\,PTS)";

/// A copied stream loses its pictures up to the first that is marked as a keyframe (all). The RTP reader marks none of
/// VP9, and a file that had to begin without a keyframe has none either.
pub const KEEP_LEADING_PICTURES: &str = "-copyinkf";

/// H.265 is `hvc1` in the file: Safari and QuickTime refuse ffmpeg's own `hev1` (all). Under `hvc1` ffmpeg takes the
/// parameter sets out of the pictures and keeps the first ones alone, so that other sets need another file.
pub const H265_TAG: &str = "-tag:v hvc1";

/// The form of the file while it grows. `delay_moov` writes the first box with the first fragment, when it is known what
/// stands in the streams; without it the box of AV1 and Opus is incomplete (5.1). A fragment lasts a second, and one that
/// begins with a keyframe can be found.
pub const FRAGMENTED: &str = "+frag_keyframe+empty_moov+default_base_moof+delay_moov";

/// At its end the file is made whole where it lies, with its index behind the media: no copy, no time, no second file. From
/// 7.1 on. A killed ffmpeg leaves the fragments as they were.
pub const HYBRID: &str = "+hybrid_fragmented";

/// What `ffmpeg -h muxer=mp4` says where it knows [`HYBRID`].
pub const HYBRID_KNOWN: &str = "hybrid_fragmented";

/// Sound that is encoded is laid out by its timestamps: where packets were lost, the AAC encoder would close the gap, and
/// the sound would run ahead of the picture (all).
pub const FILL_GAPS: &str = "-af aresample=async=1000";

/// Sound in fragments is read without durations (5.1), so that the copy takes the last packet for one of no length, and its
/// edit list leaves that packet out. 960 samples are 20 ms, which is what nearly all encoders put into a packet.
pub const LAST_SOUND: &str = r"setts=duration=if(DURATION\,DURATION\,960)";

/// A payload as ffmpeg can read it: a first byte where its own is cut off, and the rest; `None` where it is left out.
///
/// ffmpeg reads VP9 by an older draft of RFC 9628, and takes the reference indices of libwebrtc's flexible mode for picture
/// data (5.1 to 9.0): 4 of 174 pictures decoded, and all of them once the descriptor is cut down.
pub fn readable(codec: Codec, payload: &[u8]) -> Option<(Option<u8>, &[u8])> {
    match codec {
        Codec::Vp9 => cut_descriptor(payload).map(|(first, frame)| (Some(first), frame)),
        _ => Some((None, payload)),
    }
}

/// The version from which on ffmpeg reads AV1 from RTP. Its reader wants the packets of a picture with nothing between them.
pub const AV1_SINCE: &str = "8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdp_ends_with_two_empty_datagrams_and_fills_its_steps() {
        let datagrams = sdp_datagrams(&"v".repeat(1500));
        let sizes: Vec<usize> = datagrams.iter().map(Vec::len).collect();
        assert_eq!(sizes, [10, 1024, 1024, 0, 0]);
        assert!(datagrams[2][500..].iter().all(|byte| *byte == b'\n'));
    }
}
