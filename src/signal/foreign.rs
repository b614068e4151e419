//! Foreign SDP made fit for the media engine, and its answers mapped back: the one place where dialects are known.
//!
//! **Invariant:** the text handed on is rebuilt line by line from what was understood (nothing of a stranger's SDP that the
//! engine's parser could trip over gets past), and the client gets its own mids back.
//!
//! The engine's parser stops silently at a line it does not expect, cuts mids, and looks at the first group and the first
//! fingerprint only. This module sees to what it is strict about, and leaves codecs and their parameters alone.

use std::fmt::Write as _;

use super::answer::without_ufrag;
pub use super::answer::{answer_has_no_media, candidates, rejected_mids, rejected_video, with_start_bitrate};
use super::formats;
use super::mids::Mids;
use super::payload_types;
pub use super::sdp::{CANDIDATES_MAX, M_LINES_MAX, SDP_MAX_BYTES, SdpError};
use super::sdp::{Section, Text};
use super::sdpfrag::FragCredentials;

/// A payload type for an m-line that has none that can be used: it stands in its place, matches no codec, and is rejected.
const PLACEHOLDER: &str = "127";

/// The extension by which a packet tells its mid (RFC 9143 §15).
const MID_EXTENSION: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";

const END_OF_CANDIDATES: &str = "a=end-of-candidates";

/// What a client is to the server, which settles the directions of its m-lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It sends: what it offers to receive stays inactive.
    #[default]
    Publisher,
    /// It receives: what it offers to send stays inactive.
    Subscriber,
}

/// What is asked of an offer.
#[derive(Debug, Clone, Copy)]
pub struct OfferOptions<'a> {
    /// What the client is.
    pub role: Role,
    /// The most m-lines.
    pub m_lines_max: usize,
    /// The most candidates that are kept; those beyond are dropped.
    pub candidates_max: usize,
    /// The one MediaStream (RFC 8830) into which all that a subscriber receives is put, with a track id for each m-line: a
    /// token of at most 48 characters. Without it, each track would land in a stream of its own.
    pub stream: Option<&'a str>,
}

impl Default for OfferOptions<'_> {
    fn default() -> Self {
        Self { role: Role::default(), m_lines_max: M_LINES_MAX, candidates_max: CANDIDATES_MAX, stream: None }
    }
}

/// A foreign offer, made fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    sdp: String,
    lines: Vec<MLine>,
    has_bundle: bool,
}

/// What of an offered m-line its answer must repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MLine {
    /// The client's mid, if it gave one.
    theirs: Option<String>,
    /// The mid that the engine sees.
    ours: String,
    proto: String,
    offers_media: bool,
}

impl Foreign {
    /// Makes an offer fit for the engine.
    ///
    /// # Errors
    ///
    /// See [`SdpError`]: what is missing or cannot be used.
    pub fn offer(sdp: &str, options: OfferOptions<'_>) -> Result<Self, SdpError> {
        let text = Text::parse(sdp, options.m_lines_max)?;
        let mids = Mids::read(&text)?;
        let sdp = rebuild(&text, &mids, Side::Offer(options))?;
        let lines = text.media.iter().zip(&mids.ours).zip(&mids.bundled).map(|((section, ours), bundled)| MLine {
            theirs: section.mid().map(str::to_owned),
            ours: ours.clone(),
            proto: section.proto.to_owned(),
            offers_media: section.is_media() && (*bundled || !section.has_port_0()),
        });
        Ok(Self { sdp, lines: lines.collect(), has_bundle: mids.has_bundle })
    }

    /// The offer, fit to be parsed by the engine.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// The offer once more, with other ICE credentials and without candidates: an ICE restart that changes nothing else
    /// (RFC 9725 §4.3.3).
    #[must_use]
    pub fn restarted(&self, credentials: &FragCredentials) -> Self {
        let mut sdp = String::with_capacity(self.sdp.len());
        for line in self.sdp.lines() {
            match line.split_once(':').map_or(line, |(name, _)| name) {
                "a=ice-ufrag" => push(&mut sdp, format_args!("a=ice-ufrag:{}", credentials.ufrag)),
                "a=ice-pwd" => push(&mut sdp, format_args!("a=ice-pwd:{}", credentials.password)),
                "a=candidate" | END_OF_CANDIDATES => {}
                _ => push(&mut sdp, format_args!("{line}")),
            }
        }
        Self { sdp, ..self.clone() }
    }

    /// Whether audio or video that was offered is rejected by the engine's answer.
    #[must_use]
    pub fn is_rejected_in_part(&self, answer: &str) -> bool {
        let text = Text::split(answer);
        let mut pairs = self.lines.iter().zip(&text.media);
        pairs.any(|(offered, answered)| offered.offers_media && answered.has_port_0())
    }

    /// Whether audio or video is offered, and not data channels alone.
    #[must_use]
    pub fn has_media(&self) -> bool {
        self.lines.iter().any(|line| line.offers_media)
    }

    /// The engine's answer as this client must get it: with its own mids and transports, and with the server's candidates in
    /// the first m-line that was accepted, where a client looks for them.
    #[must_use]
    pub fn answer(&self, answer: &str) -> String {
        let text = Text::split(answer);
        let mut out = String::with_capacity(answer.len() + 64);
        for line in &text.session {
            match line.strip_prefix("a=group:BUNDLE") {
                Some(_) if !self.has_bundle => {}
                Some(mids) => {
                    let theirs = mids.split_ascii_whitespace().map(|mid| self.theirs(mid).unwrap_or(mid));
                    push(
                        &mut out,
                        format_args!("a=group:BUNDLE{}", theirs.fold(String::new(), |all, mid| all + " " + mid)),
                    );
                }
                None => push(&mut out, format_args!("{line}")),
            }
        }
        let home = text.media.iter().position(|section| !section.has_port_0()).unwrap_or(0);
        let mut candidates: Vec<_> = text.all_values("candidate").collect();
        for (index, section) in text.media.iter().enumerate() {
            let offered = self.lines.get(index);
            let proto = offered.map_or(section.proto, |line| &line.proto);
            push_m_line(&mut out, (section.kind, section.port, proto), section.formats.iter());
            for line in &section.lines {
                match line.strip_prefix("a=mid:") {
                    Some(mid) => {
                        if let Some(theirs) = self.theirs(mid) {
                            push(&mut out, format_args!("a=mid:{theirs}"));
                        }
                    }
                    None if line.starts_with("a=candidate:") || *line == END_OF_CANDIDATES => {}
                    None => push(&mut out, format_args!("{line}")),
                }
            }
            if index == home {
                for candidate in candidates.drain(..).map(without_ufrag) {
                    push(&mut out, format_args!("a=candidate:{candidate}"));
                }
                if text.media.iter().any(|section| section.lines.contains(&END_OF_CANDIDATES)) {
                    push(&mut out, format_args!("{END_OF_CANDIDATES}"));
                }
            }
        }
        out
    }

    fn theirs(&self, ours: &str) -> Option<&str> {
        self.lines.iter().find(|line| line.ours == ours)?.theirs.as_deref()
    }
}

/// Makes a viewer's answer to an offer of ours fit for the engine.
///
/// # Errors
///
/// See [`SdpError`].
pub fn normalise_answer(sdp: &str) -> Result<String, SdpError> {
    let text = Text::parse(sdp, M_LINES_MAX)?;
    let mids = Mids::read(&text)?;
    rebuild(&text, &mids, Side::Answer)
}

/// Whose text is rebuilt.
#[derive(Debug, Clone, Copy)]
enum Side<'a> {
    Offer(OfferOptions<'a>),
    Answer,
}

fn rebuild(text: &Text<'_>, mids: &Mids, side: Side<'_>) -> Result<String, SdpError> {
    check_security(text)?;
    if !matches!(side, Side::Offer(OfferOptions { role: Role::Publisher, .. })) {
        payload_types::check(text)?;
    }
    let mut out = String::with_capacity(SDP_MAX_BYTES / 4);
    let mut candidates_left = match side {
        Side::Offer(options) => options.candidates_max,
        Side::Answer => CANDIDATES_MAX,
    };
    rebuild_session(&mut out, text, mids, &mut candidates_left);
    let session_direction = text.session.iter().find_map(|line| direction(line)).unwrap_or("sendrecv");
    let keeps_mid_extension = match side {
        // The engine would send its own mids, which this client does not know.
        Side::Offer(OfferOptions { role: Role::Subscriber, .. }) => !mids.some_changed,
        Side::Offer(_) | Side::Answer => !mids.some_hashed,
    };
    for (index, (section, mid)) in text.media.iter().zip(&mids.ours).enumerate() {
        let context = Context { index, mid, side, session_direction, keeps_mid_extension };
        rebuild_section(&mut out, section, context, &mut candidates_left)?;
    }
    Ok(out)
}

/// What DTLS and ICE cannot do without.
fn check_security(text: &Text<'_>) -> Result<(), SdpError> {
    let mut fingerprints = text.all_values("fingerprint").peekable();
    if fingerprints.peek().is_none() {
        return Err(SdpError::MissingFingerprint);
    }
    if !fingerprints.any(is_verifiable) {
        return Err(SdpError::Fingerprint);
    }
    let has = |name| text.all_values(name).any(|value| (1..=256).contains(&value.len()));
    if has("ice-ufrag") && has("ice-pwd") { Ok(()) } else { Err(SdpError::MissingIce) }
}

/// Whether the engine compares a fingerprint with the certificate, and can read it.
fn is_verifiable(fingerprint: &str) -> bool {
    let Some((hash, bytes)) = fingerprint.split_once(' ') else {
        return false;
    };
    let len_bytes = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => 32,
        "sha-1" => 20,
        _ => return false,
    };
    let is_hex = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    bytes.split(':').count() == len_bytes && bytes.split(':').all(is_hex)
}

fn rebuild_session(out: &mut String, text: &Text<'_>, mids: &Mids, candidates_left: &mut usize) {
    let origin = text.session.iter().find(|line| line.starts_with("o=") && is_origin(line));
    push(out, format_args!("v=0"));
    push(out, format_args!("{}", origin.unwrap_or(&"o=- 1 1 IN IP4 0.0.0.0")));
    push(out, format_args!("s=-"));
    push(out, format_args!("t=0 0"));
    out.push_str("a=group:BUNDLE");
    for (mid, _) in mids.ours.iter().zip(&mids.bundled).filter(|(_, bundled)| **bundled) {
        out.push(' ');
        out.push_str(mid);
    }
    out.push_str("\r\n");
    for line in text.session.iter().filter(|line| line.starts_with("a=")) {
        let is_dropped = line.starts_with("a=group:") || direction(line).is_some();
        if !is_dropped && is_kept(line, candidates_left) {
            push(out, format_args!("{line}"));
        }
    }
}

/// `o=<username> <sess-id> …`, whose id must be a number.
fn is_origin(line: &str) -> bool {
    let mut words = line.split(' ');
    let is_number = |id: &str| id.bytes().all(|digit| digit.is_ascii_digit()) && id.parse::<u64>().is_ok();
    words.next().is_some_and(|name| name.len() > "o=".len())
        && words.next().is_some_and(is_number)
        && words.next().is_some_and(|rest| !rest.is_empty())
}

/// What of an SDP stands around one of its sections.
#[derive(Clone, Copy)]
struct Context<'a> {
    index: usize,
    mid: &'a str,
    side: Side<'a>,
    session_direction: &'static str,
    keeps_mid_extension: bool,
}

fn rebuild_section(
    out: &mut String,
    section: &Section<'_>,
    context: Context<'_>,
    candidates_left: &mut usize,
) -> Result<(), SdpError> {
    let is_media = match section.kind {
        "audio" | "video" => true,
        "application" => false,
        other => return Err(SdpError::MediaType(other.to_owned())),
    };
    let proto = fit_proto(section.proto, is_media)?;
    if !is_media {
        push_m_line(out, (section.kind, section.port, proto), ["webrtc-datachannel"].iter());
        push(out, format_args!("a=mid:{}", context.mid));
        push_attributes(out, section, &[], true, candidates_left);
        return Ok(());
    }
    let mut formats = formats::readable(section);
    let has_none = formats.is_empty();
    if has_none {
        formats.push(PLACEHOLDER);
    }
    push_m_line(out, (section.kind, section.port, proto), formats.iter());
    if has_none {
        push(out, format_args!("a=rtpmap:{PLACEHOLDER} none/90000"));
    }
    push(out, format_args!("a=mid:{}", context.mid));
    let direction = section.lines.iter().find_map(|line| direction(line)).unwrap_or(context.session_direction);
    let direction = fit_direction(direction, context.side);
    push(out, format_args!("a={direction}"));
    if let Side::Offer(OfferOptions { role: Role::Subscriber, stream: Some(stream), .. }) = context.side
        && direction == "recvonly"
    {
        push(out, format_args!("a=msid:{stream} {stream}-{}{}", section.kind, context.index));
    }
    push_attributes(out, section, &formats, context.keeps_mid_extension, candidates_left);
    Ok(())
}

/// The transport by the name the engine knows. Older names of the same thing are taken too (RFC 8829 §5.1.2).
fn fit_proto(proto: &str, is_media: bool) -> Result<&'static str, SdpError> {
    match (proto, is_media) {
        ("UDP/DTLS/SCTP" | "TCP/DTLS/SCTP" | "DTLS/SCTP", false) => Ok("UDP/DTLS/SCTP"),
        (
            "UDP/TLS/RTP/SAVPF" | "UDP/TLS/RTP/SAVP" | "TCP/DTLS/RTP/SAVPF" | "TCP/DTLS/RTP/SAVP" | "RTP/SAVPF"
            | "RTP/SAVP" | "RTP/AVPF" | "RTP/AVP",
            true,
        ) => Ok("UDP/TLS/RTP/SAVPF"),
        _ => Err(SdpError::Transport(proto.to_owned())),
    }
}

/// The direction that an attribute line names.
fn direction(line: &str) -> Option<&'static str> {
    match line {
        "a=sendrecv" => Some("sendrecv"),
        "a=sendonly" => Some("sendonly"),
        "a=recvonly" => Some("recvonly"),
        "a=inactive" => Some("inactive"),
        _ => None,
    }
}

/// Media goes one way only: a publisher is not sent any, a subscriber's is not taken.
fn fit_direction(direction: &'static str, side: Side<'_>) -> &'static str {
    match (side, direction) {
        (Side::Offer(OfferOptions { role: Role::Publisher, .. }), "sendrecv" | "sendonly") => "sendonly",
        (Side::Offer(OfferOptions { role: Role::Subscriber, .. }), "sendrecv" | "recvonly") => "recvonly",
        (Side::Offer(_), _) => "inactive",
        // An answer may not say more than the offer did, and ours offer to send only.
        (Side::Answer, "sendrecv" | "recvonly") => "recvonly",
        (Side::Answer, _) => "inactive",
    }
}

/// Writes the a= lines of a section that mean something to the engine; everything else it has (b=, i=, c=, k=) is left out.
fn push_attributes(
    out: &mut String,
    section: &Section<'_>,
    formats: &[&str],
    keeps_mid_extension: bool,
    candidates_left: &mut usize,
) {
    let mut mapped: Vec<&str> = Vec::new();
    let mut has_setup = false;
    for line in section.lines.iter().filter(|line| line.starts_with("a=")) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name {
            // Told above. A publisher's stream and track ids mean nothing to anybody else.
            "a=mid" | "a=msid" => {}
            _ if direction(line).is_some() => {}
            "a=extmap" if !keeps_mid_extension && value.ends_with(MID_EXTENSION) => {}
            "a=setup" if std::mem::replace(&mut has_setup, true) => {}
            "a=rtpmap" => {
                let (payload_type, codec) = value.split_once(' ').unwrap_or((value, ""));
                if formats.contains(&payload_type) && formats::is_codec(codec) && !mapped.contains(&payload_type) {
                    mapped.push(payload_type);
                    push(out, format_args!("a=rtpmap:{payload_type} {}", formats::fit_codec(codec)));
                }
            }
            // RFC 4585 §4.2: a feedback message for every payload type.
            "a=rtcp-fb" if value.starts_with("* ") => {
                let feedback = value.trim_start_matches("* ");
                for payload_type in formats {
                    push(out, format_args!("a=rtcp-fb:{payload_type} {feedback}"));
                }
            }
            _ => {
                if is_kept(line, candidates_left) {
                    push(out, format_args!("{line}"));
                }
            }
        }
    }
}

/// Whether an a= line is handed on: not one that offers several layers, which are answered with one (without the rid
/// extensions the layer that a client then sends is found by its mid), nor a fingerprint that would hide a better one.
fn is_kept(line: &str, candidates_left: &mut usize) -> bool {
    const RID_EXTENSIONS: [&str; 2] =
        ["urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"];
    let Some((name, value)) = line.split_once(':') else {
        return line.len() > "a=".len();
    };
    match name {
        "a=simulcast" | "a=rid" => false,
        "a=extmap" => !value.split_ascii_whitespace().any(|word| RID_EXTENSIONS.contains(&word)),
        "a=fingerprint" => is_verifiable(value),
        "a=candidate" => {
            let is_within = *candidates_left > 0;
            *candidates_left = candidates_left.saturating_sub(1);
            is_within
        }
        _ => true,
    }
}

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _ = out.write_fmt(line);
    out.push_str("\r\n");
}

fn push_m_line<'a>(
    out: &mut String,
    (kind, port, proto): (&str, &str, &str),
    formats: impl Iterator<Item = &'a &'a str>,
) {
    let _ = write!(out, "m={kind} {port} {proto}");
    for format in formats {
        out.push(' ');
        out.push_str(format);
    }
    out.push_str("\r\n");
}
