//! Addresses of STUN and TURN servers (RFC 7064, RFC 7065).
//!
//! **Invariant:** one that exists is what a browser takes, and all of it is ASCII that stands in a header and in JSON as it is.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// `stun:HOST[:PORT]`, or `stuns:` over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StunUrl(String);

/// `turn:HOST[:PORT][?transport=udp|tcp]`, or `turns:` over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUrl(String);

/// What is no address of a STUN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a STUN server is stun:HOST or stun:HOST:PORT, like stun:stun.example.org:3478")]
pub struct NotAStunUrl;

/// What is no address of a TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a TURN server is turn:HOST or turn:HOST:PORT with or without ?transport=udp or tcp, like turns:turn.example.org:443?transport=tcp"
)]
pub struct NotATurnUrl;

impl FromStr for StunUrl {
    type Err = NotAStunUrl;

    fn from_str(text: &str) -> Result<Self, NotAStunUrl> {
        let authority = after_scheme(text, ["stun", "stuns"]).ok_or(NotAStunUrl)?;
        if is_host_with_port(authority) { Ok(Self(text.to_owned())) } else { Err(NotAStunUrl) }
    }
}

impl FromStr for TurnUrl {
    type Err = NotATurnUrl;

    fn from_str(text: &str) -> Result<Self, NotATurnUrl> {
        let rest = after_scheme(text, ["turn", "turns"]).ok_or(NotATurnUrl)?;
        let (authority, query) = rest.split_once('?').map_or((rest, None), |(before, after)| (before, Some(after)));
        // RFC 7065 leaves room for other transports, which browsers refuse.
        let transport_is_known = matches!(query, None | Some("transport=udp" | "transport=tcp"));
        if is_host_with_port(authority) && transport_is_known { Ok(Self(text.to_owned())) } else { Err(NotATurnUrl) }
    }
}

impl fmt::Display for StunUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TurnUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn after_scheme<'a>(text: &'a str, schemes: [&str; 2]) -> Option<&'a str> {
    let (scheme, rest) = text.split_once(':')?;
    schemes.contains(&scheme).then_some(rest)
}

fn is_host_with_port(authority: &str) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port_is_sound = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0));
    let host_is_sound = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        }
    };
    port_is_sound && host_is_sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_take_is_taken_as_it_is() {
        for text in ["stun:stun.example.org", "stun:192.0.2.1:3478", "stuns:[2001:db8::1]:5349", "stun:[::1]"] {
            assert_eq!(text.parse::<StunUrl>().map(|url| url.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "turn:turn.example.org",
            "turn:turn.example.org?transport=udp",
            "turns:turn.example.org:443?transport=tcp",
            "turn:[2001:db8::1]:3478",
        ] {
            assert_eq!(text.parse::<TurnUrl>().map(|url| url.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_they_refuse_is_refused() {
        for text in [
            "",
            "stun:",
            "stun.example.org",
            "stun://stun.example.org",
            "turn:stun.example.org",
            "STUN:a",
            "stun:a:0",
            "stun:a:70000",
            "stun:a:",
            "stun::3478",
            "stun:a b",
            "stun:a?transport=udp",
            "stun:[::g]",
            "stun:[]",
            "stun:ä",
            "stun:a\r\nb",
        ] {
            assert_eq!(text.parse::<StunUrl>(), Err(NotAStunUrl), "{text}");
        }
        for text in [
            "turn:",
            "turn://a",
            "stun:a",
            "turn:user:secret@a",
            "turn:a?transport=sctp",
            "turn:a?",
            "turn:a?b=c",
            "turn:a>b",
            "turn:a?transport=udp&x",
            "turn:2001:db8::1",
        ] {
            assert_eq!(text.parse::<TurnUrl>(), Err(NotATurnUrl), "{text}");
        }
    }
}
