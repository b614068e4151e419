//! The payload formats of an m-line, as far as the engine can read them.
//!
//! **Invariant:** a format that is let through has an a=rtpmap which the engine's parser takes whole.

use super::sdp::Section;

/// The payload types of a section that have an a=rtpmap, each once, in their order.
pub(super) fn readable<'a>(section: &Section<'a>) -> Vec<&'a str> {
    let mut formats: Vec<&str> = Vec::with_capacity(section.formats.len());
    for format in &section.formats {
        if has_rtpmap(section, format) && !formats.contains(format) {
            formats.push(format);
        }
    }
    formats
}

/// `<name>/<clock rate>[/<channels>]`
pub(super) fn is_codec(codec: &str) -> bool {
    let mut parts = codec.split('/');
    parts.next().is_some_and(|name| !name.is_empty())
        && parts
            .next()
            .is_some_and(|rate| !rate.starts_with('+') && rate.parse::<u32>().is_ok_and(|rate_hz| rate_hz > 0))
        && parts.next().is_none_or(|channels| channels.parse::<u8>().is_ok())
        && parts.next().is_none()
}

/// `OPUS/48000` lacks its channels, which are always two (RFC 7587 §7).
pub(super) fn fit_codec(codec: &str) -> &str {
    if codec.eq_ignore_ascii_case("opus/48000") { "opus/48000/2" } else { codec }
}

/// Whether a payload type has an a=rtpmap that the engine reads.
fn has_rtpmap(section: &Section<'_>, format: &str) -> bool {
    format.parse::<u8>().is_ok_and(|payload_type| payload_type < 128)
        && section
            .values("rtpmap")
            .any(|map| map.split_once(' ').is_some_and(|(id, codec)| id == format && is_codec(codec)))
}
