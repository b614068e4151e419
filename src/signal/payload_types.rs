//! What each payload type of a receiver's SDP stands for, in all of its m-lines together.
//!
//! **Invariant:** total over any text; what is let through gives no payload type two meanings.
//!
//! A receiver's payload types bind the sender, and with everything in one BUNDLE one stands for one thing (RFC 9143 §9.2).
//! str0m 0.25 takes that for granted: where two formats claim one payload type, `assert_claim_once` panics. So SDP that
//! breaks the rule is refused before it gets there. A sender's payload types are proposals only, which str0m replaces where
//! they collide.

use super::sdp::{SdpError, Section, Text};

/// Refuses SDP in which a payload type stands for two things.
pub(super) fn check(text: &Text<'_>) -> Result<(), SdpError> {
    let mut meanings: Vec<(&str, Meaning<'_>)> = Vec::new();
    for section in text.media.iter().filter(|section| section.is_media()) {
        for payload_type in &section.formats {
            let Some(meaning) = Meaning::read(section, payload_type) else {
                continue;
            };
            if meaning.is_contradictory() {
                return Err(SdpError::PayloadType((*payload_type).to_owned()));
            }
            match meanings.iter().find(|(known, _)| known == payload_type) {
                Some((_, before)) if *before != meaning => {
                    return Err(SdpError::PayloadType((*payload_type).to_owned()));
                }
                Some(_) => {}
                None => meanings.push((payload_type, meaning)),
            }
        }
    }
    Ok(())
}

/// What a section says of one payload type.
#[derive(Debug, PartialEq, Eq)]
struct Meaning<'a> {
    codec: String,
    parameters: Vec<&'a str>,
}

impl<'a> Meaning<'a> {
    /// Without an a=rtpmap it has none, and is left out of what the engine gets.
    fn read(section: &Section<'a>, payload_type: &str) -> Option<Self> {
        let mut values = section.values("rtpmap").filter_map(|value| value.split_once(' '));
        let (_, codec) = values.find(|(found, _)| *found == payload_type)?;
        let parameters = section.values("fmtp").filter_map(|value| value.split_once(' '));
        let parameters = parameters.filter(|(found, _)| *found == payload_type).map(|(_, value)| value.trim());
        Some(Self { codec: codec.trim().to_ascii_lowercase(), parameters: parameters.collect() })
    }

    /// Retransmission of several others, or a codec that is also a retransmission (RFC 4588 §8.6).
    fn is_contradictory(&self) -> bool {
        let words = self.parameters.iter().flat_map(|value| value.split(';'));
        let repaired = words.filter(|word| word.trim_start().to_ascii_lowercase().starts_with("apt=")).count();
        repaired > usize::from(self.codec.starts_with("rtx/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sections: &[&str]) -> Result<(), SdpError> {
        let sdp = sections.iter().fold("v=0\r\n".to_owned(), |sdp, section| sdp + section);
        check(&Text::parse(&sdp, 9).unwrap())
    }

    const AUDIO: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n";
    const VIDEO: &str = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
        a=fmtp:97 apt=96\r\n";

    #[test]
    fn one_meaning_however_often_it_is_told_is_fine() {
        assert_eq!(verdict(&[AUDIO, VIDEO, VIDEO, AUDIO]), Ok(()));
        assert_eq!(verdict(&[VIDEO, &VIDEO.replace("VP8", "vp8")]), Ok(()));
    }

    #[test]
    fn two_meanings_are_refused() {
        for other in [
            AUDIO.replace("111", "96"),
            VIDEO.replace("VP8", "VP9"),
            VIDEO.replace("a=fmtp:97 apt=96", "a=fmtp:97 apt=98"),
            format!("{VIDEO}a=fmtp:96 max-fr=30\r\n"),
            format!("{VIDEO}a=fmtp:97 apt=98\r\n"),
            format!("{VIDEO}a=fmtp:96 apt=97\r\n"),
        ] {
            let refused = verdict(&[VIDEO, &other]);
            assert!(matches!(refused, Err(SdpError::PayloadType(_))), "{other}");
        }
    }
}
