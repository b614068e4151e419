//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): what WHIP and WHEP clients PATCH with, and what an ICE restart is
//! answered with.
//!
//! **Invariant:** what was parsed fits the caps, holds no control characters, and is read back the same once written.
//!
//! All media is bundled onto one transport, so candidates are kept in one list whichever m-line they stood under.

use std::fmt;

use super::sdp::{CANDIDATES_MAX, M_LINES_MAX, Text};

/// The media type of a fragment.
pub const SDPFRAG_MEDIA_TYPE: &str = "application/trickle-ice-sdpfrag";

/// The largest fragment that is looked at, in bytes.
pub const SDPFRAG_MAX_BYTES: usize = 16 * 1024;

/// The longest ufrag or password, in characters (RFC 8839 §5.4).
const ICE_CREDENTIAL_MAX_BYTES: usize = 256;

/// Why text is no fragment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpFragError {
    /// Longer than [`SDPFRAG_MAX_BYTES`].
    #[error("the SDP fragment has more than {SDPFRAG_MAX_BYTES} bytes")]
    TooLong,
    /// A line that is not of the form `x=…`, or holds a control character.
    #[error("line {0} is no line of an SDP fragment")]
    Line(usize),
    /// More m-lines than [`M_LINES_MAX`].
    #[error("the SDP fragment has more than {M_LINES_MAX} m-lines")]
    TooManyMLines,
    /// A ufrag without a password, or the other way round.
    #[error("a=ice-ufrag and a=ice-pwd come together")]
    HalfCredentials,
    /// An empty or over-long ufrag or password, or different ones in different m-lines.
    #[error("a=ice-ufrag and a=ice-pwd must be one pair of 1 to {ICE_CREDENTIAL_MAX_BYTES} characters")]
    Credentials,
    /// Neither credentials, nor candidates, nor their end.
    #[error("the SDP fragment tells nothing of ICE")]
    Empty,
}

/// An SDP fragment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SdpFrag {
    /// `a=ice-ufrag` and `a=ice-pwd`; other ones than before ask for an ICE restart.
    pub credentials: Option<FragCredentials>,
    /// The m-lines that are named.
    pub m_lines: Vec<FragMLine>,
    /// The `candidate:…` lines, without their `a=`, at most [`CANDIDATES_MAX`].
    pub candidates: Vec<String>,
    /// Whether no more candidates come.
    pub end_of_candidates: bool,
    /// `a=ice-lite`.
    pub lite: bool,
    /// The value of `a=ice-options`.
    pub options: Option<String>,
    /// The value of `a=group`.
    pub group: Option<String>,
}

/// ICE credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct FragCredentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for FragCredentials {
    /// Without the password: it must not get into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FragCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// An m-line of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragMLine {
    /// `audio`, `video` or `application`.
    pub kind: String,
    /// Its mid, if told.
    pub mid: Option<String>,
}

impl SdpFrag {
    /// Parses a fragment. Lines other than those that ICE needs are passed over; candidates beyond the cap are dropped.
    ///
    /// # Errors
    ///
    /// See [`SdpFragError`].
    pub fn parse(text: &str) -> Result<Self, SdpFragError> {
        if text.len() > SDPFRAG_MAX_BYTES {
            return Err(SdpFragError::TooLong);
        }
        let mut frag = Self::default();
        let (mut ufrag, mut password) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if line.is_empty() {
                continue;
            }
            let (kind, value) = line.split_once('=').ok_or(SdpFragError::Line(index + 1))?;
            if kind.len() != 1 || line.chars().any(char::is_control) {
                return Err(SdpFragError::Line(index + 1));
            }
            match (kind, value.split_once(':').unwrap_or((value, ""))) {
                ("m", _) => {
                    if frag.m_lines.len() == M_LINES_MAX {
                        return Err(SdpFragError::TooManyMLines);
                    }
                    let kind = value.split_ascii_whitespace().next().ok_or(SdpFragError::Line(index + 1))?;
                    frag.m_lines.push(FragMLine { kind: kind.to_owned(), mid: None });
                }
                ("a", ("mid", mid)) => {
                    if let Some(m_line) = frag.m_lines.last_mut() {
                        m_line.mid = Some(mid.to_owned());
                    }
                }
                ("a", ("ice-ufrag", value)) => note_credential(&mut ufrag, value)?,
                ("a", ("ice-pwd", value)) => note_credential(&mut password, value)?,
                ("a", ("candidate", _)) if frag.candidates.len() < CANDIDATES_MAX => {
                    frag.candidates.push(value.to_owned());
                }
                ("a", ("end-of-candidates", _)) => frag.end_of_candidates = true,
                ("a", ("ice-lite", _)) => frag.lite = true,
                ("a", ("ice-options", options)) => frag.options = Some(options.to_owned()),
                ("a", ("group", group)) => frag.group = Some(group.to_owned()),
                _ => {}
            }
        }
        frag.credentials = match (ufrag, password) {
            (Some(ufrag), Some(password)) => Some(FragCredentials { ufrag, password }),
            (None, None) => None,
            _ => return Err(SdpFragError::HalfCredentials),
        };
        if frag.credentials.is_none() && frag.candidates.is_empty() && !frag.end_of_candidates {
            return Err(SdpFragError::Empty);
        }
        Ok(frag)
    }

    /// What an answer of ours says of ICE: with it an ICE restart is answered (RFC 9725 §4.3.3). `None` when it says nothing.
    #[must_use]
    pub fn of_answer(answer: &str) -> Option<Self> {
        let text = Text::split(answer);
        let first = |name| text.all_values(name).next().map(str::to_owned);
        let credentials = FragCredentials { ufrag: first("ice-ufrag")?, password: first("ice-pwd")? };
        let home = text.media.iter().find(|section| !section.has_port_0())?;
        Some(Self {
            credentials: Some(credentials),
            m_lines: vec![FragMLine { kind: home.kind.to_owned(), mid: home.mid().map(str::to_owned) }],
            candidates: text.all_values("candidate").map(|value| format!("candidate:{value}")).collect(),
            end_of_candidates: true,
            lite: answer.lines().any(|line| line == "a=ice-lite"),
            options: first("ice-options"),
            group: text.session_values("group").next().map(str::to_owned),
        })
    }
}

/// Takes a ufrag or password, which must be the same wherever it is told.
fn note_credential(known: &mut Option<String>, value: &str) -> Result<(), SdpFragError> {
    let fits = (1..=ICE_CREDENTIAL_MAX_BYTES).contains(&value.len());
    if !fits || known.as_ref().is_some_and(|known| known != value) {
        return Err(SdpFragError::Credentials);
    }
    *known = Some(value.to_owned());
    Ok(())
}

impl fmt::Display for SdpFrag {
    /// Writes the fragment: credentials for the session, candidates under the first m-line, to which all are bundled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.lite {
            f.write_str("a=ice-lite\r\n")?;
        }
        if let Some(options) = &self.options {
            write!(f, "a=ice-options:{options}\r\n")?;
        }
        if let Some(group) = &self.group {
            write!(f, "a=group:{group}\r\n")?;
        }
        if let Some(credentials) = &self.credentials {
            write!(f, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", credentials.ufrag, credentials.password)?;
        }
        let mut m_lines = self.m_lines.iter();
        if let Some(first) = m_lines.next() {
            first.fmt(f)?;
        }
        for candidate in &self.candidates {
            write!(f, "a={candidate}\r\n")?;
        }
        if self.end_of_candidates {
            f.write_str("a=end-of-candidates\r\n")?;
        }
        m_lines.try_for_each(|m_line| m_line.fmt(f))
    }
}

impl fmt::Display for FragMLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 8840 §9: port and formats of a fragment's m-line mean nothing.
        write!(f, "m={} 9 UDP/TLS/RTP/SAVPF 0\r\n", self.kind)?;
        match &self.mid {
            Some(mid) => write!(f, "a=mid:{mid}\r\n"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 9725, figure 9.
    const FRAGMENT: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:3471623853 1 udp 2122194687 198.51.100.2 61765 typ host generation 0 ufrag EsAw network-id 2\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn the_rfcs_fragment_is_read() {
        let frag = SdpFrag::parse(FRAGMENT).unwrap();
        assert_eq!(frag.credentials.as_ref().unwrap().ufrag, "EsAw");
        assert_eq!(frag.m_lines, [FragMLine { kind: "audio".into(), mid: Some("0".into()) }]);
        assert_eq!(frag.candidates.len(), 2);
        assert!(frag.candidates[0].starts_with("candidate:1387637174 ") && frag.end_of_candidates);
        assert_eq!(SdpFrag::parse(&frag.to_string()), Ok(frag));
    }

    #[test]
    fn an_answer_says_of_ice_what_a_restart_is_answered_with() {
        let answer = "v=0\r\na=ice-lite\r\na=group:BUNDLE 1\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\na=ice-options:trickle\r\na=mid:1\r\n\
            a=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
        let frag = SdpFrag::of_answer(answer).unwrap();
        let expected = "a=ice-lite\r\na=ice-options:trickle\r\na=group:BUNDLE 1\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:1\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\na=end-of-candidates\r\n";
        assert_eq!(frag.to_string(), expected);
        assert_eq!(SdpFrag::of_answer("v=0\r\n"), None);
    }

    #[test]
    fn line_feeds_alone_and_session_level_candidates_are_taken() {
        let frag = SdpFrag::parse("a=candidate:1 1 udp 1 192.0.2.1 1 typ host\n\n").unwrap();
        assert_eq!((frag.candidates.len(), frag.end_of_candidates, frag.credentials), (1, false, None));
    }

    #[test]
    fn what_is_no_fragment_is_refused() {
        for (text, error) in [
            ("", SdpFragError::Empty),
            ("m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n", SdpFragError::Empty),
            ("{\"candidate\":1}", SdpFragError::Line(1)),
            ("a=end-of-candidates\r\na\r\n", SdpFragError::Line(2)),
            ("a=mid:\u{1}\r\n", SdpFragError::Line(1)),
            ("m=\r\n", SdpFragError::Line(1)),
            ("a=ice-ufrag:abcd\r\n", SdpFragError::HalfCredentials),
            ("a=ice-ufrag:\r\na=ice-pwd:x\r\n", SdpFragError::Credentials),
            ("a=ice-ufrag:a\r\na=ice-pwd:x\r\na=ice-ufrag:b\r\n", SdpFragError::Credentials),
        ] {
            assert_eq!(SdpFrag::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(SdpFrag::parse(&"a=x\r\n".repeat(SDPFRAG_MAX_BYTES / 4)), Err(SdpFragError::TooLong));
        assert_eq!(SdpFrag::parse(&"m=audio 9 x 0\n".repeat(M_LINES_MAX + 1)), Err(SdpFragError::TooManyMLines));
        let many = "a=candidate:1 1 udp 1 192.0.2.1 1 typ host\n".repeat(CANDIDATES_MAX + 1);
        assert_eq!(SdpFrag::parse(&many).unwrap().candidates.len(), CANDIDATES_MAX);
    }

    #[test]
    fn passwords_stay_out_of_logs() {
        assert!(!format!("{:?}", SdpFrag::parse(FRAGMENT).unwrap()).contains("P2uYro0UCOQ4zxjKXaWCBui1"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_what_is_read_is_written_the_same(
            text in "(a=ice-ufrag:ab\r\n|a=ice-pwd:cd\r\n|m=video 9 x 0\n|a=mid:[a-c]{1,2}\r\n|a=candidate:[0-9 a-z.]{0,30}\r\n|a=end-of-candidates\r\n|a=ice-lite\r\n|a=ice-options:[a-z ]{1,9}\r\n|a=group:BUNDLE [a-c]\r\n|.=[ -~]{0,6}\r\n){0,12}",
        ) {
            if let Ok(frag) = SdpFrag::parse(&text) {
                prop_assert_eq!(SdpFrag::parse(&frag.to_string()), Ok(frag));
            }
        }
    }
}
