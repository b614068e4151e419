//! Where the webhook is.
//!
//! **Invariant:** one that exists can be connected to: it has a scheme that we speak and a host, and no login in it. What
//! stands in its path and query, which may be somebody's secret, is not shown.

use std::fmt;
use std::str::FromStr;

use hyper::Uri;

/// An `http` or `https` address.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Uri);

/// What is no address of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook is an address like https://example.org/onair, without a login")]
pub struct NotAWebhookUrl;

impl WebhookUrl {
    /// The address.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = NotAWebhookUrl;

    fn from_str(text: &str) -> Result<Self, NotAWebhookUrl> {
        let uri: Uri = text.parse().map_err(|_| NotAWebhookUrl)?;
        let has_scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let is_sound = uri.authority().is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'));
        if has_scheme && is_sound { Ok(Self(uri)) } else { Err(NotAWebhookUrl) }
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        write!(f, "{}://{authority}/…", self.0.scheme_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_and_name_a_host() {
        for text in ["http://127.0.0.1:9000", "https://example.org/hooks/onair?key=1", "http://[::1]:80/x"] {
            assert!(text.parse::<WebhookUrl>().is_ok(), "{text}");
        }
        for text in
            ["", "example.org", "/hook", "ftp://example.org/", "http://", "http://a:b@example.org/", "http:///x"]
        {
            assert!(text.parse::<WebhookUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_may_be_secret_in_it_is_not_shown() {
        let url: WebhookUrl = "https://example.org/s3cret?key=s3cret".parse().unwrap();
        assert_eq!(format!("{url:?}"), "https://example.org/…");
    }
}
