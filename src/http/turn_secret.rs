//! The secret that is shared with a TURN server, and the logins that it makes: coturn's `use-auth-secret`, as
//! draft-uberti-behave-turn-rest-00 describes it.
//!
//! **Invariant:** the secret leaves only as a key: nothing shows it, and no login tells it.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands for the secret in the example.
const PLACEHOLDER: &str = "replace-me";

/// A secret shared with a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(String);

/// A user name and its password, good until the time in the name.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnLogin {
    /// `EXPIRY:NAME`, the expiry in Unix time.
    pub username: String,
    /// The base64 of the user name's HMAC-SHA1.
    pub credential: String,
}

/// What is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is one that nobody else knows: make one with `openssl rand -hex 32`")]
pub struct NotASecret;

impl TurnSecret {
    /// A login that a TURN server with the same secret takes until `expires_s`, in Unix time. By `name` it tells users apart,
    /// for its log and its quota.
    #[must_use]
    pub fn login(&self, expires_s: u64, name: &str) -> TurnLogin {
        let username = format!("{expires_s}:{name}");
        // SHA-1 is the scheme's: what is asked of it here is a key's, not a digest's.
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.as_bytes());
        let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
        TurnLogin { username, credential }
    }
}

impl FromStr for TurnSecret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        if text.is_empty() || text == PLACEHOLDER { Err(NotASecret) } else { Ok(Self(text.to_owned())) }
    }
}

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret")
    }
}

/// Without the password.
impl fmt::Debug for TurnLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TurnLogin").field(&self.username).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_what_a_turn_server_reckons() {
        let secret: TurnSecret = "north".parse().unwrap();
        let login = secret.login(1_433_065_916, "ninefingers");
        assert_eq!(login.username, "1433065916:ninefingers");
        // printf %s 1433065916:ninefingers | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(login.credential, "SDuA3OErhfGFaxmFHH7fTICexdg=");
    }

    #[test]
    fn neither_secret_nor_password_is_shown() {
        let secret: TurnSecret = "north".parse().unwrap();
        let login = secret.login(1, "x");
        let shown = format!("{secret:?} {login:?}");
        assert!(!shown.contains("north") && !shown.contains(&login.credential), "{shown}");
    }

    #[test]
    fn what_everyone_knows_is_no_secret() {
        for text in ["", "replace-me"] {
            assert_eq!(text.parse::<TurnSecret>(), Err(NotASecret), "{text}");
        }
    }
}
