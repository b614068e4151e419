//! What an SDP says, read from its text, and the one hint that is added to ours.
//!
//! **Invariant:** total over any text: what cannot be understood counts as absent.

use super::sdp::{Section, Text};

/// The most candidates that are told of one SDP.
const TOLD_CANDIDATES_MAX: usize = 16;

/// Payload formats that carry or protect other formats.
const AUXILIARY: [&str; 4] = ["rtx", "red", "ulpfec", "flexfec-03"];

/// Whether an answer has audio or video, and all of it is rejected: no codec in common.
#[must_use]
pub fn answer_has_no_media(sdp: &str) -> bool {
    let text = Text::split(sdp);
    let mut media = text.media.iter().filter(|section| section.is_media()).peekable();
    media.peek().is_some() && media.all(Section::has_port_0)
}

/// Whether an answer rejects video.
#[must_use]
pub fn rejected_video(sdp: &str) -> bool {
    Text::split(sdp).media.iter().any(|section| section.kind == "video" && section.has_port_0())
}

/// The mids of the audio and video m-lines that an answer rejects.
#[must_use]
pub fn rejected_mids(sdp: &str) -> Vec<String> {
    let text = Text::split(sdp);
    let rejected = text.media.iter().filter(|section| section.is_media() && section.has_port_0());
    rejected.filter_map(|section| section.mid().map(str::to_owned)).collect()
}

/// The kind and the mid of each m-line of an SDP that has been made fit.
#[must_use]
pub fn m_lines(sdp: &str) -> Vec<(String, String)> {
    let text = Text::split(sdp);
    text.media.iter().map(|section| (section.kind.to_owned(), section.mid().unwrap_or_default().to_owned())).collect()
}

/// The candidates that a side offered, each as `typ protocol address:port`, for logs. At most 16 are told.
#[must_use]
pub fn candidates(sdp: &str) -> Vec<String> {
    let text = Text::split(sdp);
    text.all_values("candidate").filter_map(compact_candidate).take(TOLD_CANDIDATES_MAX).collect()
}

/// A trickled candidate line as [`candidates`] tells it.
#[must_use]
pub fn describe_candidate(line: &str) -> Option<String> {
    let line = line.strip_prefix("a=").unwrap_or(line);
    compact_candidate(line.strip_prefix("candidate:")?)
}

/// `candidate:<foundation> <component> <protocol> <priority> <address> <port> typ <type> …` (RFC 8839 §5.1).
fn compact_candidate(value: &str) -> Option<String> {
    let mut words = value.split_ascii_whitespace();
    let protocol = words.nth(2)?;
    let (address, port) = (words.nth(1)?, words.next()?);
    let kind = words.nth(1)?;
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    Some(format!("{kind} {} {address}:{port}", protocol.to_ascii_lowercase()))
}

/// A candidate of ours without the ufrag that it may end with: a client that restarts ICE by PATCH puts new credentials into
/// the answer it has, and the ufrag in the candidates would stay the old one.
pub(super) fn without_ufrag(candidate: &str) -> String {
    let mut words = candidate.split(' ');
    let mut kept: Vec<&str> = Vec::new();
    while let Some(word) = words.next() {
        if word == "ufrag" {
            let _ = words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The answer with a start bitrate for each video codec, which libwebrtc's senders follow: without it they feel their way up
/// from a small picture for many seconds. 0 changes nothing.
#[must_use]
pub fn with_start_bitrate(answer: &str, rate_kbps: u32) -> String {
    if rate_kbps == 0 {
        return answer.to_owned();
    }
    let hint = format!("x-google-start-bitrate={rate_kbps}");
    let text = Text::split(answer);
    let mut sections = text.media.iter();
    let mut section: Option<&Section<'_>> = None;
    let mut out = String::with_capacity(answer.len() + 512);
    for line in answer.lines() {
        if line.starts_with("m=") {
            section = sections.next().filter(|section| section.kind == "video");
        }
        out.push_str(line);
        if let Some(section) = section {
            match payload_type_of(line) {
                Some(("fmtp", payload_type)) if is_video_codec(section, payload_type) => {
                    out.push(';');
                    out.push_str(&hint);
                }
                Some(("rtpmap", payload_type))
                    if is_video_codec(section, payload_type) && !has_fmtp(section, payload_type) =>
                {
                    out.push_str("\r\na=fmtp:");
                    out.push_str(payload_type);
                    out.push(' ');
                    out.push_str(&hint);
                }
                _ => {}
            }
        }
        out.push_str("\r\n");
    }
    out
}

/// The attribute and the payload type of `a=fmtp:<payload type> …` and `a=rtpmap:<payload type> …`.
fn payload_type_of(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("a=")?.split_once(':')?;
    let payload_type = value.split(' ').next()?;
    matches!(name, "fmtp" | "rtpmap").then_some((name, payload_type))
}

fn is_video_codec(section: &Section<'_>, payload_type: &str) -> bool {
    let codec = section.codec_name(payload_type);
    codec.is_some_and(|name| !AUXILIARY.iter().any(|auxiliary| name.eq_ignore_ascii_case(auxiliary)))
}

fn has_fmtp(section: &Section<'_>, payload_type: &str) -> bool {
    section.values("fmtp").any(|value| value.split(' ').next() == Some(payload_type))
}

/// The answer without the TCP candidates of ours that it holds.
#[must_use]
pub fn without_tcp_candidates(answer: &str) -> String {
    let is_tcp = |line: &str| {
        let transport = line.strip_prefix("a=candidate:").and_then(|candidate| candidate.split(' ').nth(2));
        transport.is_some_and(|transport| transport.eq_ignore_ascii_case("tcp"))
    };
    answer.lines().filter(|line| !is_tcp(line)).flat_map(|line| [line, "\r\n"]).collect()
}

/// The answer with `a=rtcp-mux-only` in each m-section that has `a=rtcp-mux`, as RFC 9725 §4.4.1 asks of endpoints. Others are
/// not told: RFC 8858 §4.3 leaves it out of answers.
#[must_use]
pub fn with_rtcp_mux_only(answer: &str) -> String {
    let mut out = String::with_capacity(answer.len() + 64);
    for line in answer.lines() {
        out.push_str(line);
        out.push_str("\r\n");
        if line == "a=rtcp-mux" {
            out.push_str("a=rtcp-mux-only\r\n");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE a v\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=candidate:1 1 udp 2113 192.0.2.1 8189 typ host\r\n\
        a=candidate:2 1 TCP 99 2001:db8::1 9 typ srflx raddr 0.0.0.0 rport 0\r\n\
        a=mid:a\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 99\r\na=mid:v\r\n\
        a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=rtpmap:102 H264/90000\r\na=fmtp:102 packetization-mode=1;profile-level-id=42e01f\r\na=rtpmap:99 ulpfec/90000\r\n";

    #[test]
    fn tcp_candidates_are_taken_out_and_nothing_else() {
        let kept: Vec<_> = ANSWER.lines().filter(|line| !line.contains(" TCP ")).collect();
        assert_eq!(kept.len() + 1, ANSWER.lines().count());
        assert_eq!(without_tcp_candidates(ANSWER).lines().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn rejected_m_lines_are_told() {
        assert!(!answer_has_no_media(ANSWER) && !rejected_video(ANSWER));
        let no_video = ANSWER.replace("m=video 9", "m=video 0");
        assert!(!answer_has_no_media(&no_video) && rejected_video(&no_video));
        assert_eq!(rejected_mids(&no_video), ["v"]);
        let nothing = no_video.replace("m=audio 9", "m=audio 0");
        assert!(answer_has_no_media(&nothing));
        assert_eq!(rejected_mids(&nothing), ["a", "v"]);
        let data = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n";
        assert!(!answer_has_no_media(data), "it rejects nothing");
    }

    #[test]
    fn candidates_are_told_compactly() {
        assert_eq!(candidates(ANSWER), ["host udp 192.0.2.1:8189", "srflx tcp [2001:db8::1]:9"]);
        let many = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n".repeat(TOLD_CANDIDATES_MAX + 1);
        assert_eq!(candidates(&many).len(), TOLD_CANDIDATES_MAX);
    }

    #[test]
    fn the_start_bitrate_goes_to_every_video_codec_and_nowhere_else() {
        let expected = ANSWER
            .replace("a=rtpmap:96 VP8/90000\r\n", "a=rtpmap:96 VP8/90000\r\na=fmtp:96 x-google-start-bitrate=2500\r\n")
            .replace("profile-level-id=42e01f", "profile-level-id=42e01f;x-google-start-bitrate=2500");
        assert_eq!(with_start_bitrate(ANSWER, 2500), expected);
        assert_eq!(with_start_bitrate(ANSWER, 0), ANSWER);
    }

    #[test]
    fn candidates_of_an_answer_name_no_ufrag() {
        assert_eq!(without_ufrag("1 1 udp 9 192.0.2.1 8189 typ host ufrag abcd"), "1 1 udp 9 192.0.2.1 8189 typ host");
        assert_eq!(without_ufrag("1 1 udp 9 192.0.2.1 8189 typ host"), "1 1 udp 9 192.0.2.1 8189 typ host");
    }

    #[test]
    fn exclusive_multiplexing_is_told_where_there_is_multiplexing() {
        let answer = ANSWER.replace("a=mid:v\r\n", "a=mid:v\r\na=rtcp-mux\r\n");
        let expected = ANSWER.replace("a=mid:v\r\n", "a=mid:v\r\na=rtcp-mux\r\na=rtcp-mux-only\r\n");
        assert_eq!(with_rtcp_mux_only(&answer), expected);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "([vmac]=|a=candidate:|a=rtpmap:|a=fmtp:|m=video |m=audio |[ -~]|\r\n){0,60}") {
            prop_assert!(!answer_has_no_media(&text) || !rejected_video(&text) || text.contains("m=video"));
            prop_assert!(rejected_mids(&text).len() <= text.matches("m=").count());
            prop_assert!(candidates(&text).len() <= TOLD_CANDIDATES_MAX);
            prop_assert!(with_start_bitrate(&text, 1).lines().count() >= text.lines().count());
        }
    }
}
