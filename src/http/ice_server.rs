//! The STUN and TURN servers that clients are told, as `Link`s (RFC 9725 §4.6) and as browsers take them
//! (`RTCIceServer` of WebRTC 1.0).
//!
//! **Invariant:** each client is given a login of its own, which ends with its time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

use super::ice_url::{StunUrl, TurnUrl};
use super::turn_secret::TurnSecret;

/// How long a login is good: a day, as the scheme's draft recommends. A TURN server may look at it again whenever an
/// allocation is refreshed, so it has to outlive what is watched with it.
const LOGIN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// TURN servers that share a secret with this one.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Their addresses.
    pub urls: Vec<TurnUrl>,
    /// What their logins are made with.
    pub secret: TurnSecret,
}

/// All that are configured.
#[derive(Debug, Clone, Default)]
pub struct IceServers {
    /// STUN servers.
    pub stun: Vec<StunUrl>,
    /// TURN servers.
    pub turn: Option<Turn>,
}

/// One server, or several with one login, as one client is told.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IceServer {
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    credential: Option<String>,
}

impl IceServers {
    /// For one client, with a fresh login.
    #[must_use]
    pub fn for_client(&self) -> Vec<IceServer> {
        // A clock that stands before 1970 counts from there.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.with_login((now + LOGIN_LIFETIME).as_secs(), &format!("{:08x}", fastrand::u32(..)))
    }

    fn with_login(&self, expires_s: u64, name: &str) -> Vec<IceServer> {
        let mut servers = Vec::new();
        if !self.stun.is_empty() {
            let urls = self.stun.iter().map(ToString::to_string).collect();
            servers.push(IceServer { urls, username: None, credential: None });
        }
        if let Some(Turn { urls, secret }) = &self.turn {
            let urls = urls.iter().map(ToString::to_string).collect();
            let login = secret.login(expires_s, name);
            servers.push(IceServer { urls, username: Some(login.username), credential: Some(login.credential) });
        }
        servers
    }
}

impl IceServer {
    /// The value of a `Link` for each of its addresses.
    pub fn links(&self) -> impl Iterator<Item = HeaderValue> {
        self.urls.iter().filter_map(|url| {
            let mut link = format!("<{url}>; rel=\"ice-server\"");
            if let (Some(username), Some(credential)) = (&self.username, &self.credential) {
                // Digits, a colon and base64: nothing to be escaped.
                link.push_str(&format!(
                    "; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\""
                ));
            }
            // ASCII alone fits into a header.
            let mut link = HeaderValue::try_from(link).ok()?;
            link.set_sensitive(self.credential.is_some());
            Some(link)
        })
    }
}

/// Without the password.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServer").field("urls", &self.urls).field("username", &self.username).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> IceServers {
        let urls = ["turn:turn.example.net?transport=udp", "turns:turn.example.net:443?transport=tcp"];
        let turn = Turn { urls: urls.map(|url| url.parse().unwrap()).to_vec(), secret: "north".parse().unwrap() };
        IceServers { stun: vec!["stun:stun.example.net".parse().unwrap()], turn: Some(turn) }
    }

    #[test]
    fn links_have_the_form_of_the_rfc() {
        let told = servers().with_login(1_433_065_916, "ninefingers");
        let links: Vec<HeaderValue> = told.iter().flat_map(IceServer::links).collect();
        let login = "rel=\"ice-server\"; username=\"1433065916:ninefingers\"; credential=\"SDuA3OErhfGFaxmFHH7fTICexdg=\"; \
                     credential-type=\"password\"";
        assert_eq!(links[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        assert_eq!(links[1], format!("<turn:turn.example.net?transport=udp>; {login}"));
        assert_eq!(links[2], format!("<turns:turn.example.net:443?transport=tcp>; {login}"));
        assert_eq!(links.iter().map(HeaderValue::is_sensitive).collect::<Vec<_>>(), [false, true, true]);
        assert!(!format!("{told:?} {links:?}").contains("SDuA3OErhfGFaxmFHH7fTICexdg="));
    }

    #[test]
    fn browsers_are_told_what_they_take() {
        assert_eq!(
            serde_json::to_value(servers().with_login(1_433_065_916, "ninefingers")).unwrap(),
            serde_json::json!([
                {"urls": ["stun:stun.example.net"]},
                {"urls": ["turn:turn.example.net?transport=udp", "turns:turn.example.net:443?transport=tcp"],
                 "username": "1433065916:ninefingers", "credential": "SDuA3OErhfGFaxmFHH7fTICexdg="},
            ])
        );
        assert_eq!(IceServers::default().for_client(), []);
    }

    #[test]
    fn each_client_has_a_login_of_its_own() {
        let names: Vec<_> = (0..8).map(|_| servers().for_client()[1].username.clone().unwrap()).collect();
        let first = names.iter().filter(|name| **name == names[0]).count();
        assert!(first < names.len(), "{names:?}");
    }
}
