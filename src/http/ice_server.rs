//! STUN and TURN servers as WHIP and WHEP tell them: a `Link` for each (RFC 9725 §4.6).
//!
//! **Invariant:** a server that was made can be written into a header.

use axum::http::HeaderValue;
use axum::http::header::InvalidHeaderValue;

/// One server.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer(HeaderValue);

impl IceServer {
    /// `uri` as in RFC 7064 or RFC 7065; `login` is the user name and the password of a TURN server.
    ///
    /// # Errors
    ///
    /// What does not fit into a header.
    pub fn new(uri: &str, login: Option<(&str, &str)>) -> Result<Self, InvalidHeaderValue> {
        let mut link = format!("<{uri}>; rel=\"ice-server\"");
        if let Some((username, credential)) = login {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            link.push_str(&format!("; username=\"{}\"; credential=\"{}\"", escape(username), escape(credential)));
        }
        let mut link = HeaderValue::try_from(link)?;
        link.set_sensitive(login.is_some());
        Ok(Self(link))
    }

    /// The value of its `Link`.
    #[must_use]
    pub fn link(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Without the password.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IceServer").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_the_form_of_the_rfc() {
        let stun = IceServer::new("stun:stun.example.net", None).unwrap();
        assert_eq!(stun.link(), "<stun:stun.example.net>; rel=\"ice-server\"");
        let turn = IceServer::new("turn:turn.example.net?transport=udp", Some(("user", "my\"Pass\\word"))).unwrap();
        assert_eq!(
            turn.link(),
            "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; credential=\"my\\\"Pass\\\\word\""
        );
        assert!(!format!("{turn:?}").contains("Pass"));
        assert!(IceServer::new("stun:a\r\nb", None).is_err());
    }
}
