//! The secret shared with the webhook's application, and the signatures that it makes: the Standard Webhooks scheme
//! (github.com/standard-webhooks/standard-webhooks, "Signature scheme").
//!
//! **Invariant:** nothing shows the secret, and it leaves only as a key.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// How long the key in a secret may be, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

const PREFIX: &str = "whsec_";

/// `whsec_` and the base64 of a key.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

/// What is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret is whsec_ and the base64 of 24 to 64 bytes: make one with `echo whsec_$(openssl rand -base64 32)`")]
pub struct NotASecret;

impl WebhookSecret {
    /// The value of `webhook-signature` for a message.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

impl FromStr for WebhookSecret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let key = text.strip_prefix(PREFIX).and_then(|digits| STANDARD.decode(digits).ok());
        key.filter(|key| KEY_BYTES.contains(&key.len())).map(Self).ok_or(NotASecret)
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the libraries of Standard Webhooks.
    #[test]
    fn messages_are_signed_as_others_verify_them() {
        let secret: WebhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_too_short_or_no_base64_is_no_secret() {
        let of = |key: &[u8]| format!("whsec_{}", STANDARD.encode(key));
        assert!(of(&[7; 24]).parse::<WebhookSecret>().is_ok() && of(&[7; 64]).parse::<WebhookSecret>().is_ok());
        for text in
            [of(&[7; 23]), of(&[7; 65]), of(&[7; 32]).replace("whsec_", ""), "whsec_!".to_owned(), String::new()]
        {
            assert_eq!(text.parse::<WebhookSecret>(), Err(NotASecret), "{text}");
        }
        assert_eq!(format!("{:?}", of(&[7; 24]).parse::<WebhookSecret>().unwrap()), "WebhookSecret");
    }
}
