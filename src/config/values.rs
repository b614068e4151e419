//! The types of the flags' values.
//!
//! **Invariant:** each is built only from text that it can stand for, and says what it expected instead.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::rtp::codec::{Codec, TrackKind};

/// The lowest start bitrate that is not a forgotten unit.
const RATE_MIN_BPS: u64 = 10_000;
const RATE_MAX_BPS: u64 = 1_000_000_000;

/// The longest that a client is kept waiting for the webhook's word.
const WEBHOOK_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// How long a file of a recording may be. A shorter one holds no picture but its first.
const SEGMENT_MIN: Duration = Duration::from_secs(1);
const SEGMENT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Keyframes are large: more of them than this cost more than they are good for.
const KEYFRAMES_MIN: Duration = Duration::from_secs(1);

/// Parses an address to listen on.
///
/// # Errors
///
/// Where it is not `IP:PORT`.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address is IP:PORT, like 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// A number of bytes: `500M`, `1GiB`, `1.5G`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(u64);

impl Size {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_unit(text, &["M", "MiB", "G"])?;
        scaled(text, |unit| {
            Some(match unit {
                "" | "b" => 1,
                "k" | "kb" => 1_000,
                "m" | "mb" => 1_000_000,
                "g" | "gb" => 1_000_000_000,
                "t" | "tb" => 1_000_000_000_000,
                "ki" | "kib" => 1 << 10,
                "mi" | "mib" => 1 << 20,
                "gi" | "gib" => 1 << 30,
                "ti" | "tib" => 1 << 40,
                _ => return None,
            })
        })
        .map(Self)
        .ok_or_else(|| "a size is a number with a unit, like 500M or 1GiB".to_owned())
    }
}

/// Parses the most that all recordings together may take.
///
/// # Errors
///
/// Where it is no size, or nothing.
pub fn max_size(text: &str) -> Result<Size, String> {
    match text.parse()? {
        Size(0) => Err("that would remove every recording: leave it out to have no limit".to_owned()),
        size => Ok(size),
    }
}

/// A length of time: `30d`, `12h`, `90m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match duration(text)? {
            Duration::ZERO => Err("a time is longer than 0".to_owned()),
            longer => Ok(Self(longer)),
        }
    }
}

/// `NUMBER[UNIT]` as a length of time, which may be none.
fn duration(text: &str) -> Result<Duration, String> {
    check_unit(text, &["s", "m", "h", "d"])?;
    let milliseconds = scaled(text, |unit| {
        Some(match unit {
            "" | "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        })
    });
    let milliseconds = milliseconds.ok_or_else(|| "a time is a number with a unit, like 30d, 12h or 90m".to_owned())?;
    Ok(Duration::from_millis(milliseconds))
}

/// Parses how long a file of a recording may be.
///
/// # Errors
///
/// Where it is no time, or less than a second, or more than a day.
pub fn segment(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if (SEGMENT_MIN..=SEGMENT_MAX).contains(&span.0) { Ok(span) } else { Err("a file lasts from 1s to 24h".to_owned()) }
}

/// How far apart keyframes may be: a length of time, or 0 for as far as the encoder likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyframeInterval(Duration);

impl KeyframeInterval {
    /// As a duration; `None` where nobody asks for keyframes.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        (!self.0.is_zero()).then_some(self.0)
    }
}

impl FromStr for KeyframeInterval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match duration(text)? {
            interval if interval.is_zero() || interval >= KEYFRAMES_MIN => Ok(Self(interval)),
            _ => Err("keyframes are asked for once a second at most: 1s or longer, or 0 for never".to_owned()),
        }
    }
}

/// Parses how long the webhook may take to answer.
///
/// # Errors
///
/// Where it is no time, or more than half a minute.
pub fn webhook_timeout(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    if span.0 > WEBHOOK_TIMEOUT_MAX { Err("a client does not wait longer than 30s".to_owned()) } else { Ok(span) }
}

/// A bitrate: `2500k`, `4M`, `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// In bits a second.
    #[must_use]
    pub fn bps(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_unit(text, &["k", "M"])?;
        let bps = scaled(text, |unit| {
            Some(match unit.strip_suffix("bps").unwrap_or(unit) {
                "" => 1,
                "k" => 1_000,
                "m" => 1_000_000,
                "g" => 1_000_000_000,
                _ => return None,
            })
        })
        .ok_or_else(|| "a rate is a number of bits a second with a unit, like 2500k or 4M, or 0".to_owned())?;
        match bps {
            0 | RATE_MIN_BPS..=RATE_MAX_BPS => Ok(Self(bps)),
            1..RATE_MIN_BPS => Err("that is too low for a picture: 2500k is 2.5 Mbit/s".to_owned()),
            _ => Err("a rate is at most 1G".to_owned()),
        }
    }
}

/// Refuses a number that lacks its unit, which could mean anything: of a few bytes nobody has ever thought. 0 needs none.
fn check_unit(text: &str, units: &[&str]) -> Result<(), String> {
    let number = text.trim();
    if number.parse::<f64>().is_ok_and(|value| value != 0.0) && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        let written: Vec<String> = units.iter().map(|unit| format!("{number}{unit}")).collect();
        if let Some((last, others)) = written.split_last() {
            return Err(format!("{number} has no unit: write {} or {last}", others.join(", ")));
        }
    }
    Ok(())
}

/// `NUMBER[UNIT]` as a whole number of ones, rounded down.
fn scaled(text: &str, factor_of: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = factor_of(&unit.trim().to_ascii_lowercase())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut ones = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if number.contains('.') {
        // Nine digits are more than any unit is exact to.
        let digits = fraction.get(..fraction.len().min(9))?;
        let divisor = 10_u128.pow(u32::try_from(digits.len()).ok()?);
        let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(factor) / divisor;
        ones = ones.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(ones)
}

/// The video codecs accepted, in order of preference: at least one, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoCodecs(Vec<Codec>);

impl VideoCodecs {
    /// The codecs, the preferred one first.
    #[must_use]
    pub fn as_slice(&self) -> &[Codec] {
        &self.0
    }
}

impl FromStr for VideoCodecs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut codecs = Vec::new();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let codec: Codec = name.parse().map_err(|error: crate::rtp::codec::UnknownCodec| error.to_string())?;
            if codec.kind() != TrackKind::Video {
                return Err(format!("`{name}` is no video codec; Opus is always accepted"));
            }
            if codecs.contains(&codec) {
                return Err(format!("`{name}` is named twice"));
            }
            codecs.push(codec);
        }
        if codecs.is_empty() { Err("name at least one codec".to_owned()) } else { Ok(Self(codecs)) }
    }
}

/// What is logged: a filter of `tracing-subscriber` that parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// Libraries whose notes below a warning are about packets, not about the server; and one that shows whole messages, in
/// which tokens stand.
const QUIET: &str = "str0m=warn,str0m_proto=warn,dimpl=warn,is=warn,sctp_proto=warn,tungstenite=warn";

impl LogFilter {
    /// The filter; str0m and its parts are quiet unless they are named.
    ///
    /// # Errors
    ///
    /// None in practice: the text was parsed before.
    pub fn build(&self) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
        EnvFilter::try_new(format!("{QUIET},{}", self.0))
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let filter = Self(text.to_owned());
        match filter.build() {
            Ok(_) => Ok(filter),
            Err(error) => Err(format!("{error}; a filter is like info or warn,onair=debug")),
        }
    }
}

/// A domain for which a certificate can be issued; in lower case.
///
/// # Errors
///
/// One line for a person.
pub fn domain(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let is_name = rustls::pki_types::DnsName::try_from(lower.as_str()).is_ok();
    let last = lower.rsplit('.').next().unwrap_or_default();
    // A name without a dot, an address or a wildcard is proven in no way that we know.
    if is_name && lower.contains('.') && last.bytes().any(|b| b.is_ascii_alphabetic()) {
        Ok(lower)
    } else {
        Err("not a domain like live.example.org".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("17B", 17),
            ("17 b", 17),
            ("500M", 500_000_000),
            ("1GiB", 1 << 30),
            ("1gib", 1 << 30),
            ("1.5 GiB", 3 << 29),
            ("0.25k", 250),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text}");
        }
        for text in
            ["", "-1", "17", "GiB", "1..5G", "1.G", "1.5.5", "12 parsecs", "99999999999999999999", "99999999TiB"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("90 min", 5_400), ("1.5w", 907_200), ("5s", 5)] {
            assert_eq!(text.parse::<Span>().map(Span::duration), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!("0.5s".parse::<Span>().map(Span::duration), Ok(Duration::from_millis(500)));
        for text in ["", "30", "0", "0d", "-1d", "1 month", "d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_answered_with_what_to_write() {
        let size = "100".parse::<Size>().unwrap_err();
        assert_eq!(size, "100 has no unit: write 100M, 100MiB or 100G");
        let rate = " 2500 ".parse::<Rate>().unwrap_err();
        assert_eq!(rate, "2500 has no unit: write 2500k or 2500M");
        for error in [
            "1.5".parse::<Span>().unwrap_err(),
            segment("1.5").unwrap_err(),
            webhook_timeout("1.5").unwrap_err(),
            "1.5".parse::<KeyframeInterval>().unwrap_err(),
        ] {
            assert_eq!(error, "1.5 has no unit: write 1.5s, 1.5m, 1.5h or 1.5d");
        }
        assert!(max_size("100").unwrap_err().contains("no unit"));
    }

    #[test]
    fn nothing_is_taken_only_where_it_means_something() {
        assert_eq!("0".parse::<Size>().map(Size::bytes), Ok(0));
        assert_eq!("0".parse::<Rate>().map(Rate::bps), Ok(0));
        for never in ["0", "0s"] {
            assert_eq!(never.parse::<KeyframeInterval>().map(KeyframeInterval::duration), Ok(None));
        }
        assert!(max_size("0").is_err() && segment("0").is_err() && webhook_timeout("0").is_err());
    }

    #[test]
    fn files_and_keyframes_keep_their_bounds() {
        for (text, seconds) in [("1s", 1), ("6h", 21_600), ("24h", 86_400)] {
            assert_eq!(segment(text).map(Span::duration), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(segment("0.9s").is_err() && segment("25h").is_err());
        let interval = |text: &str| text.parse::<KeyframeInterval>().map(KeyframeInterval::duration);
        assert_eq!(interval("5s"), Ok(Some(Duration::from_secs(5))));
        assert!(interval("0.2s").is_err() && interval("often").is_err());
    }

    #[test]
    fn rates_are_decimal_and_a_forgotten_unit_is_found() {
        for (text, bps) in [("0", 0), ("2500k", 2_500_000), ("4M", 4_000_000), ("1.2Mbps", 1_200_000)] {
            assert_eq!(text.parse::<Rate>().map(Rate::bps), Ok(bps), "{text}");
        }
        for text in ["2500", "fast", "2G", "-4M", "4 Mi"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn codecs_are_named_once_and_in_order() {
        let codecs: VideoCodecs = "VP8, h264".parse().unwrap();
        assert_eq!(codecs.as_slice(), [Codec::Vp8, Codec::H264]);
        for text in ["", ",", "vp8,vp8", "opus", "theora"] {
            assert!(text.parse::<VideoCodecs>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_filter_must_parse() {
        assert!("info,onair=trace".parse::<LogFilter>().is_ok());
        assert!("onair=loud".parse::<LogFilter>().is_err());
    }
}
