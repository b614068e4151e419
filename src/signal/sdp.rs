//! SDP (RFC 8866) as lines: a session part and its m-sections, with the caps that keep a stranger's text small.
//!
//! **Invariant:** what was parsed under caps holds no control characters and no more than the caps allow.

/// The largest SDP that is looked at, in bytes.
pub const SDP_MAX_BYTES: usize = 60 * 1024;

/// The most m-lines an SDP may have, unless the caller says less.
pub const M_LINES_MAX: usize = 64;

/// The most candidates that are kept of one SDP, unless the caller says less.
pub const CANDIDATES_MAX: usize = 32;

/// Why SDP cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than [`SDP_MAX_BYTES`].
    #[error("the SDP has more than {SDP_MAX_BYTES} bytes")]
    TooLong,
    /// A control character, which no SDP has.
    #[error("line {0} of the SDP holds a control character")]
    ControlCharacter(usize),
    /// It does not begin with `v=0`, or a line is not of the form `x=…`.
    #[error("line {0} is no line of SDP")]
    Line(usize),
    /// More m-lines than the cap.
    #[error("the SDP has more than {0} m-lines")]
    TooManyMLines(usize),
    /// No m-line.
    #[error("the SDP has no m-line")]
    NoMLines,
    /// An m-line that is neither audio, video nor a data channel.
    #[error("an m-line of type `{0}` cannot be used: offer audio, video or a data channel")]
    MediaType(String),
    /// An m-line over a transport that is not DTLS-SRTP or SCTP over DTLS.
    #[error("the transport `{0}` cannot be used: offer UDP/TLS/RTP/SAVPF or UDP/DTLS/SCTP")]
    Transport(String),
    /// Several m-lines, and one of them without a=mid.
    #[error("m-line {0} lacks a=mid")]
    MissingMid(usize),
    /// Two m-lines with one mid.
    #[error("a=mid:{0} is used by two m-lines")]
    DuplicateMid(String),
    /// Several m-lines without a=group:BUNDLE.
    #[error("a=group:BUNDLE is missing: all media share one transport")]
    MissingBundle,
    /// An m-line outside of the BUNDLE group, or several groups.
    #[error("a=group:BUNDLE must name every m-line, and `{0}` is not in it")]
    PartialBundle(String),
    /// The BUNDLE group names an m-line that is not there.
    #[error("a=group:BUNDLE names `{0}`, which no m-line has as its a=mid")]
    UnknownBundleMid(String),
    /// A payload type of a receiver that stands for two things.
    #[error("payload type {0} stands for two things: in a BUNDLE each has one meaning")]
    PayloadType(String),
    /// No fingerprint, so nothing would say who is at the other end of DTLS.
    #[error("a=fingerprint is missing: media goes over DTLS-SRTP")]
    MissingFingerprint,
    /// Fingerprints that cannot be verified.
    #[error("a=fingerprint must be of sha-256 (or sha-1)")]
    Fingerprint,
    /// No ICE credentials.
    #[error("a=ice-ufrag and a=ice-pwd are missing")]
    MissingIce,
}

/// SDP taken apart into lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Text<'a> {
    /// The lines before the first m-line.
    pub(super) session: Vec<&'a str>,
    /// The m-lines with what belongs to each.
    pub(super) media: Vec<Section<'a>>,
}

/// An m-line and the lines below it.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    /// `audio`, `video`, `application`.
    pub(super) kind: &'a str,
    /// The port, 0 for rejected or bundle-only.
    pub(super) port: &'a str,
    /// The transport.
    pub(super) proto: &'a str,
    /// Payload types, in order of preference.
    pub(super) formats: Vec<&'a str>,
    /// The lines below the m-line.
    pub(super) lines: Vec<&'a str>,
}

impl<'a> Text<'a> {
    /// Takes a stranger's SDP apart. Line ends may be LF alone; spaces at their end are dropped.
    pub(super) fn parse(sdp: &'a str, m_lines_max: usize) -> Result<Self, SdpError> {
        if sdp.len() > SDP_MAX_BYTES {
            return Err(SdpError::TooLong);
        }
        let mut text = Text::default();
        for (index, line) in sdp.lines().enumerate() {
            let line = line.trim_end_matches(['\r', ' ', '\t']);
            if line.chars().any(|c| c.is_control() && c != '\t') {
                return Err(SdpError::ControlCharacter(index + 1));
            }
            if line.is_empty() {
                continue;
            }
            let begins_well = !text.session.is_empty() || line == "v=0";
            if line.as_bytes().get(1) != Some(&b'=') || !begins_well {
                return Err(SdpError::Line(index + 1));
            }
            text.push(line).ok_or(SdpError::Line(index + 1))?;
            if text.media.len() > m_lines_max {
                return Err(SdpError::TooManyMLines(m_lines_max));
            }
        }
        if text.media.is_empty() { Err(SdpError::NoMLines) } else { Ok(text) }
    }

    /// Takes SDP apart that this side wrote, or that passed before; lines that are none are left out.
    pub(super) fn split(sdp: &'a str) -> Self {
        let mut text = Text::default();
        for line in sdp.lines().filter(|line| line.as_bytes().get(1) == Some(&b'=')) {
            // A malformed m-line has no section of its own to stand in.
            let _ = text.push(line.trim_end_matches('\r'));
        }
        text
    }

    fn push(&mut self, line: &'a str) -> Option<()> {
        if let Some(m_line) = line.strip_prefix("m=") {
            let mut words = m_line.split_ascii_whitespace();
            self.media.push(Section {
                kind: words.next()?,
                port: words.next()?,
                proto: words.next()?,
                formats: words.collect(),
                lines: Vec::new(),
            });
        } else if let Some(section) = self.media.last_mut() {
            section.lines.push(line);
        } else {
            self.session.push(line);
        }
        Some(())
    }

    /// The values of `a=name:` at session level.
    pub(super) fn session_values<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'a str> + 't {
        values(&self.session, name)
    }

    /// Whether `a=name:` has a value at session level or in any section.
    pub(super) fn all_values<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'a str> + 't {
        self.session_values(name).chain(self.media.iter().flat_map(move |section| section.values(name)))
    }
}

impl<'a> Section<'a> {
    /// The values of `a=name:`, in order.
    pub(super) fn values<'t>(&'t self, name: &'t str) -> impl Iterator<Item = &'a str> + 't {
        values(&self.lines, name)
    }

    /// The first `a=mid:`.
    pub(super) fn mid(&self) -> Option<&'a str> {
        self.values("mid").next()
    }

    /// Whether the m-line carries RTP.
    pub(super) fn is_media(&self) -> bool {
        matches!(self.kind, "audio" | "video")
    }

    /// Whether the port is 0: rejected in an answer, rejected or bundle-only in an offer.
    pub(super) fn has_port_0(&self) -> bool {
        self.port == "0"
    }

    /// The codec's name of a payload type, as its a=rtpmap has it.
    pub(super) fn codec_name(&self, payload_type: &str) -> Option<&'a str> {
        self.values("rtpmap").find_map(|map| {
            let (found, encoding) = map.split_once(' ')?;
            (found == payload_type).then(|| encoding.split('/').next()).flatten()
        })
    }
}

fn values<'t, 'a: 't>(lines: &'t [&'a str], name: &'t str) -> impl Iterator<Item = &'a str> + 't {
    lines.iter().filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_of_both_kinds_and_spaces_are_taken() {
        let text = Text::parse("v=0\r\na=x:1 \nm=audio 9 UDP/TLS/RTP/SAVPF 111  96\r\na=mid:0\r\n\r\n", 1).unwrap();
        assert_eq!(text.session, ["v=0", "a=x:1"]);
        assert_eq!((text.media[0].kind, text.media[0].mid()), ("audio", Some("0")));
        assert_eq!(text.media[0].formats, ["111", "96"]);
        assert_eq!(text.all_values("x").chain(text.all_values("mid")).collect::<Vec<_>>(), ["1", "0"]);
    }

    #[test]
    fn what_is_no_sdp_is_refused_with_its_line() {
        let parse = |sdp: &str| Text::parse(sdp, 1).err();
        assert_eq!(parse(""), Some(SdpError::NoMLines));
        assert_eq!(parse("{}"), Some(SdpError::Line(1)));
        assert_eq!(parse("s=-\r\nv=0"), Some(SdpError::Line(1)));
        assert_eq!(parse("v=0\r\nm=audio"), Some(SdpError::Line(2)));
        assert_eq!(parse("v=0\r\na=x\0"), Some(SdpError::ControlCharacter(2)));
        assert_eq!(parse("v=0\ra=x\r\nm=audio 9 P 0"), Some(SdpError::ControlCharacter(1)));
        assert_eq!(parse("v=0\nm=audio 9 P 0\nm=audio 9 P 0"), Some(SdpError::TooManyMLines(1)));
        assert_eq!(parse(&format!("v=0\na={}", "x".repeat(SDP_MAX_BYTES))), Some(SdpError::TooLong));
    }
}
