//! Web origins (RFC 6454), and how a request stands to the server's own.
//!
//! **Invariant:** an origin is the server's own by the request's `Host` alone; what a proxy claims in `X-Forwarded-…`
//! counts for nothing.

use std::fmt;
use std::str::FromStr;

use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue};

/// Scheme, host and port of a web page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` for the scheme's own port.
    port: Option<u16>,
}

/// What is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an origin is SCHEME://HOST or SCHEME://HOST:PORT, like https://example.com, or * for any")]
pub struct NotAnOrigin;

impl Origin {
    fn new(scheme: &str, authority: &str) -> Result<Self, NotAnOrigin> {
        let (host, port) = match authority.rsplit_once(':') {
            // A colon inside brackets belongs to an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| NotAnOrigin)?)),
            _ => (authority, None),
        };
        let scheme_is_sound = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_sound = !host.is_empty()
            && host.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_') || (bracketed && b"[]:".contains(&b))
            });
        if !scheme_is_sound || !host_is_sound {
            return Err(NotAnOrigin);
        }
        let scheme = scheme.to_ascii_lowercase();
        let own_port = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Ok(Self { port: port.filter(|port| Some(*port) != own_port), host: host.to_ascii_lowercase(), scheme })
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(NotAnOrigin)?;
        Self::new(scheme, authority)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// One value of `--allow-origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// `*`.
    Any,
    /// One origin.
    Only(Origin),
}

impl FromStr for AllowedOrigin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        if text == "*" {
            return Ok(Self::Any);
        }
        // People copy addresses with the slash at their end.
        text.strip_suffix('/').unwrap_or(text).parse().map(Self::Only)
    }
}

/// How a request stands to the origin rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// No `Origin`: an encoder, a player, a script; or the server's own page.
    Own,
    /// A page elsewhere that the operator allowed.
    Allowed(HeaderValue),
    /// A page elsewhere.
    Foreign(String),
}

/// How a request with `headers` stands to a server of `scheme` that allows `allowed` besides its own origin.
#[must_use]
pub fn standing(headers: &HeaderMap, scheme: &str, allowed: &[AllowedOrigin]) -> Standing {
    let mut values = headers.get_all(ORIGIN).iter();
    let Some(value) = values.next() else { return Standing::Own };
    let shown = || String::from_utf8_lossy(value.as_bytes()).into_owned();
    if values.next().is_some() {
        return Standing::Foreign(shown());
    }
    let origin: Option<Origin> = value.to_str().ok().and_then(|text| text.parse().ok());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let own = host.and_then(|host| Origin::new(scheme, host).ok());
    if origin.is_some() && origin == own {
        return Standing::Own;
    }
    let is_allowed = allowed.iter().any(|allowed| match allowed {
        AllowedOrigin::Any => true,
        AllowedOrigin::Only(only) => origin.as_ref() == Some(only),
    });
    if is_allowed { Standing::Allowed(value.clone()) } else { Standing::Foreign(shown()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(host: &str, origin: &str, allowed: &[&str]) -> Standing {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        headers.insert(ORIGIN, origin.parse().unwrap());
        let allowed: Vec<AllowedOrigin> = allowed.iter().map(|text| text.parse().unwrap()).collect();
        standing(&headers, "http", &allowed)
    }

    #[test]
    fn the_servers_own_origin_is_its_host() {
        for (host, origin) in [
            ("localhost:8080", "http://localhost:8080"),
            ("Example.com", "http://example.COM"),
            ("example.com:80", "http://example.com"),
            ("[::1]:8080", "http://[::1]:8080"),
        ] {
            assert_eq!(judge(host, origin, &[]), Standing::Own, "{origin} at {host}");
        }
        assert_eq!(standing(&HeaderMap::new(), "http", &[]), Standing::Own);
    }

    #[test]
    fn every_difference_is_foreign() {
        for origin in [
            "https://localhost:8080",
            "http://localhost:8081",
            "http://localhost",
            "http://evil.example",
            "http://localhost:8080.evil.example",
            "http://localhost:8080@evil.example",
            "null",
            "",
        ] {
            assert!(
                matches!(judge("localhost:8080", origin, &["https://a.example"]), Standing::Foreign(_)),
                "{origin}"
            );
        }
    }

    #[test]
    fn two_origins_are_foreign_though_one_is_own() {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "a.example".parse().unwrap());
        headers.append(ORIGIN, "http://a.example".parse().unwrap());
        headers.append(ORIGIN, "http://b.example".parse().unwrap());
        assert!(matches!(standing(&headers, "http", &[]), Standing::Foreign(_)));
    }

    #[test]
    fn allowed_origins_are_compared_in_full() {
        let allowed = ["https://a.example/", "http://b.example:81"];
        assert!(matches!(judge("h", "https://a.example", &allowed), Standing::Allowed(_)));
        assert!(matches!(judge("h", "https://A.example:443", &allowed), Standing::Allowed(_)));
        assert!(matches!(judge("h", "http://b.example:81", &allowed), Standing::Allowed(_)));
        assert!(matches!(judge("h", "http://b.example", &allowed), Standing::Foreign(_)));
        assert!(matches!(judge("h", "https://sub.a.example", &allowed), Standing::Foreign(_)));
        assert!(matches!(judge("h", "null", &["*"]), Standing::Allowed(_)));
    }

    #[test]
    fn what_is_no_origin_is_refused_at_the_start() {
        for text in ["example.com", "https://", "https://a/b", "https://a:b", "https://a b", "://a", "**"] {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
        assert_eq!("HTTPS://[2001:DB8::1]:443".parse::<Origin>().unwrap().to_string(), "https://[2001:db8::1]");
    }
}
