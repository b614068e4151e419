//! JSON Web Tokens (RFC 7519) signed by HS256, EdDSA (Ed25519) or RS256, and the keys that prove them.
//!
//! **Invariant:** a key knows its algorithm, and a token that names another is none of its; what is not proven is not
//! looked at, but for the header.
//!
//! Our own, on the cryptography that is here for TLS: the usual crate brings a second one, and a process-wide choice of it.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

use super::grant::{Grant, Right};
use super::pattern::Pattern;

/// How far the issuer's clock may be off.
const LEEWAY_S: f64 = 60.0;

/// The shortest secret for HS256 (RFC 7518 §3.2).
const SECRET_MIN_BYTES: usize = 32;

/// The most keys of one JWKS file.
const KEYS_MAX: usize = 32;

/// RSA keys between these lengths are taken.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// SubjectPublicKeyInfo of an Ed25519 key, up to the key itself (RFC 8410 §4).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// The object identifier of rsaEncryption (RFC 8017 §A.1), as it stands in a SubjectPublicKeyInfo.
const RSA_OID: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Whose tokens are taken: one `[[jwt]]` of the file of `--auth`.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The keys that may have signed.
    pub keys: Vec<JwtKey>,
    /// Whom its tokens must be meant for.
    pub audience: Option<String>,
}

/// A key that proves tokens.
#[derive(Clone)]
pub struct JwtKey {
    kid: Option<String>,
    verifier: Verifier,
}

#[derive(Clone)]
enum Verifier {
    // By far the largest of them.
    Hs256(Box<hmac::Key>),
    EdDsa(Vec<u8>),
    Rs256Der(Vec<u8>),
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwtKey({})", self.algorithm())
    }
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A shared secret that is too short.
    #[error("a secret for HS256 has at least {SECRET_MIN_BYTES} bytes: make one with `openssl rand -hex 32`")]
    ShortSecret,
    /// What should be a public key.
    #[error("a public key is Ed25519 or RSA of 2048 to 8192 bits, from -----BEGIN PUBLIC KEY----- to its END line")]
    NotAKey,
    /// What should be a JWKS file.
    #[error("not a JSON Web Key Set with an Ed25519 or RSA key, and at most {KEYS_MAX} of them")]
    NotAKeySet,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    can: OneOrMany,
    #[serde(default)]
    room: Option<OneOrMany>,
    #[serde(default)]
    user: Option<OneOrMany>,
    exp: f64,
    nbf: Option<f64>,
    aud: Option<OneOrMany>,
}

/// What may be written as a string or as a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Claims {
    /// What they grant; none where a right or a pattern is none.
    fn grant(&self) -> Option<Grant> {
        let right = |name: &String| Right::ALL.into_iter().find(|right| right.name() == name);
        let patterns = |texts: &Option<OneOrMany>| match texts {
            Some(texts) => texts.as_slice().iter().map(|text| Pattern::parse(text).ok()).collect(),
            None => Some(vec![Pattern::any()]),
        };
        Some(Grant {
            rights: self.can.as_slice().iter().map(right).collect::<Option<_>>()?,
            rooms: patterns(&self.room)?,
            users: patterns(&self.user)?,
        })
    }
}

impl Issuer {
    /// What `token` grants at `unix_s`; none where this issuer has not signed it, or it is not for now or not for us.
    #[must_use]
    pub fn grant(&self, token: &str, unix_s: u64) -> Option<Grant> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.as_bytes()).ok();
        let header: Header = object(&decode(header)?)?;
        // RFC 7515 §4.1.11: what must be understood and is not refuses the token; we understand no extension.
        if header.crit.is_some() {
            return None;
        }
        let signature = decode(signature)?;
        if !self.keys.iter().any(|key| key.proves(&header, signed.as_bytes(), &signature)) {
            return None;
        }
        let claims: Claims = object(&decode(claims)?)?;
        let now_s = unix_s as f64;
        let in_time = claims.exp + LEEWAY_S > now_s && claims.nbf.is_none_or(|nbf| nbf - LEEWAY_S <= now_s);
        let for_us = match (&self.audience, &claims.aud) {
            (None, None) => true,
            (Some(own), Some(named)) => named.as_slice().contains(own),
            // RFC 7519 §4.1.3: whom the token does not mean refuses it.
            (None, Some(_)) | (Some(_), None) => false,
        };
        if in_time && for_us { claims.grant() } else { None }
    }
}

/// Header and claims are JSON objects (RFC 7519 §7.2); the library would take a list of their values, too.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    let is_object = json.trim_ascii_start().first() == Some(&b'{');
    if is_object { serde_json::from_slice(json).ok() } else { None }
}

impl JwtKey {
    /// A shared secret, for HS256.
    ///
    /// # Errors
    ///
    /// [`KeyError::ShortSecret`].
    pub fn of_secret(secret: &str) -> Result<Self, KeyError> {
        if secret.len() < SECRET_MIN_BYTES {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self {
            kid: None,
            verifier: Verifier::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))),
        })
    }

    /// A public key in PEM (RFC 7468 §13), for EdDSA or RS256.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotAKey`].
    pub fn of_pem(pem: &str) -> Result<Self, KeyError> {
        let body = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----");
        let body = body.and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----")).ok_or(KeyError::NotAKey)?;
        let digits: String = body.split_ascii_whitespace().collect();
        let der = STANDARD.decode(digits.as_bytes()).map_err(|_| KeyError::NotAKey)?;
        if let Some(key) = der.strip_prefix(&ED25519_SPKI).filter(|key| key.len() == 32) {
            return Ok(Self { kid: None, verifier: Verifier::EdDsa(key.to_vec()) });
        }
        // The algorithm stands in the first bytes, the modulus makes up nearly all of the rest.
        let is_rsa = der.get(..32).is_some_and(|start| start.windows(RSA_OID.len()).any(|bytes| bytes == RSA_OID));
        if is_rsa && RSA_BYTES.contains(&der.len().saturating_sub(38)) {
            return Ok(Self { kid: None, verifier: Verifier::Rs256Der(der) });
        }
        Err(KeyError::NotAKey)
    }

    fn algorithm(&self) -> &'static str {
        match self.verifier {
            Verifier::Hs256(_) => "HS256",
            Verifier::EdDsa(_) => "EdDSA",
            Verifier::Rs256Der(_) | Verifier::Rs256 { .. } => "RS256",
        }
    }

    fn proves(&self, header: &Header, signed: &[u8], signature: &[u8]) -> bool {
        if header.alg != self.algorithm() {
            return false;
        }
        if let (Some(own), Some(named)) = (&self.kid, &header.kid)
            && own != named
        {
            return false;
        }
        match &self.verifier {
            Verifier::Hs256(key) => hmac::verify(key, signed, signature).is_ok(),
            Verifier::EdDsa(key) => UnparsedPublicKey::new(&ED25519, key).verify(signed, signature).is_ok(),
            Verifier::Rs256Der(der) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(signed, signature).is_ok()
            }
            Verifier::Rs256 { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
                .is_ok(),
        }
    }
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// The keys of a JSON Web Key Set (RFC 7517 §5), without those of kinds that sign nothing here. Shared secrets are none of
/// them: they stand in the file of `--auth`.
///
/// # Errors
///
/// [`KeyError::NotAKeySet`].
pub fn keys_of_jwks(text: &str) -> Result<Vec<JwtKey>, KeyError> {
    let set: KeySet = serde_json::from_str(text).map_err(|_| KeyError::NotAKeySet)?;
    let keys: Vec<JwtKey> = set.keys.into_iter().filter_map(Jwk::into_key).collect();
    if keys.is_empty() || keys.len() > KEYS_MAX { Err(KeyError::NotAKeySet) } else { Ok(keys) }
}

impl Jwk {
    fn into_key(self) -> Option<JwtKey> {
        let decode = |digits: Option<String>| URL_SAFE_NO_PAD.decode(digits?.as_bytes()).ok();
        if self.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let verifier = match (self.kty.as_str(), self.crv.as_deref(), self.alg.as_deref()) {
            ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => {
                Verifier::EdDsa(decode(self.x).filter(|key| key.len() == 32)?)
            }
            ("RSA", _, None | Some("RS256")) => Verifier::Rs256 {
                modulus: decode(self.n).filter(|modulus| RSA_BYTES.contains(&modulus.len()))?,
                exponent: decode(self.e)?,
            },
            _ => return None,
        };
        Some(JwtKey { kid: self.kid, verifier })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW_S: u64 = 1_800_000_000;

    fn unsigned(header: &Value, claims: &Value) -> String {
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string().as_bytes());
        format!("{}.{}", encode(header), encode(claims))
    }

    fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let text = unsigned(header, claims);
        let signature = URL_SAFE_NO_PAD.encode(sign(text.as_bytes()));
        format!("{text}.{signature}")
    }

    fn hs256(header: &Value, claims: &Value) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        signed(header, claims, |text| hmac::sign(&key, text).as_ref().to_vec())
    }

    fn issuer(keys: Vec<JwtKey>) -> Issuer {
        Issuer { keys, audience: None }
    }

    fn shared() -> Issuer {
        issuer(vec![JwtKey::of_secret(SECRET).unwrap()])
    }

    fn claims() -> Value {
        json!({"can": "watch", "room": "lab", "exp": NOW_S + 10})
    }

    #[test]
    fn claims_become_a_grant() {
        let token = hs256(&json!({"alg": "HS256"}), &claims());
        let grant = shared().grant(&token, NOW_S).unwrap();
        let broadcast = |id: &str| id.parse().unwrap();
        assert!(grant.covers(Right::Watch, &broadcast("lab/x")) && !grant.covers(Right::Watch, &broadcast("lob/x")));
        assert!(!grant.covers(Right::Publish, &broadcast("lab/x")));
        let lists = json!({"can": ["publish"], "room": ["a*", "b"], "user": "u", "exp": NOW_S, "nbf": NOW_S, "x": 1});
        let grant = shared().grant(&hs256(&json!({"alg": "HS256", "typ": "JWT"}), &lists), NOW_S).unwrap();
        assert!(["ab/u", "b/u"].iter().all(|id| grant.covers(Right::Publish, &broadcast(id))));
        assert!(!grant.covers(Right::Publish, &broadcast("b/v")));
    }

    #[test]
    fn time_counts_with_a_minutes_leeway() {
        let at = |exp: i64, nbf: i64| {
            let seconds = |offset: i64| NOW_S as i64 + offset;
            let claims = json!({"can": "watch", "exp": seconds(exp), "nbf": seconds(nbf)});
            shared().grant(&hs256(&json!({"alg": "HS256"}), &claims), NOW_S).is_some()
        };
        assert!(at(1, 0) && at(-59, 0) && at(1, 60));
        assert!(!at(-60, 0) && !at(-3600, 0) && !at(100, 61));
    }

    #[test]
    fn what_is_not_right_is_wrong() {
        let header = json!({"alg": "HS256"});
        let good = hs256(&header, &claims());
        let (text, _) = good.rsplit_once('.').unwrap();
        let none = unsigned(&json!({"alg": "none"}), &claims());
        let mut other = claims();
        other["aud"] = json!("someone-else");
        let without = |key: &str| {
            let mut claims = claims();
            claims.as_object_mut().unwrap().remove(key);
            hs256(&header, &claims)
        };
        let with = |key: &str, value: Value| {
            let mut claims = claims();
            claims[key] = value;
            hs256(&header, &claims)
        };
        for token in [
            String::new(),
            "..".to_owned(),
            text.to_owned(),
            format!("{text}."),
            format!("{good}A"),
            format!("{good}="),
            format!("{good}.{good}"),
            format!("{none}."),
            hs256(&json!({"alg": "none"}), &claims()),
            hs256(&json!({"alg": "hs256"}), &claims()),
            hs256(&json!({"alg": "HS512"}), &claims()),
            hs256(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims()),
            hs256(&json!({"alg": "HS256", "crit": []}), &claims()),
            hs256(&json!({}), &claims()),
            hs256(&json!(["HS256", null, null]), &claims()),
            hs256(&header, &other),
            without("can"),
            without("exp"),
            with("exp", json!("2099-01-01")),
            with("exp", Value::Null),
            with("can", json!("everything")),
            with("room", json!("a/b")),
            with("user", json!(7)),
        ] {
            assert!(shared().grant(&token, NOW_S).is_none(), "{token}");
        }
        assert!(shared().grant(&good, NOW_S).is_some());
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let public = pair.public_key().as_ref();
        let x = URL_SAFE_NO_PAD.encode(public);
        let set =
            json!({"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one"}]});
        let keys = || keys_of_jwks(&set.to_string()).unwrap();
        let sign = |text: &[u8]| pair.sign(text).as_ref().to_vec();
        let token = |header: Value| signed(&header, &claims(), sign);
        let takes = |token: &str| issuer(keys()).grant(token, NOW_S).is_some();
        assert_eq!(keys().len(), 1);
        assert!(takes(&token(json!({"alg": "EdDSA"}))) && takes(&token(json!({"alg": "EdDSA", "kid": "one"}))));
        assert!(!takes(&token(json!({"alg": "EdDSA", "kid": "two"}))));
        assert!(!takes(&token(json!({"alg": "RS256"}))));
        // The classic: HS256 with the public key, which everyone has, as the secret.
        let public_as_secret = hmac::Key::new(hmac::HMAC_SHA256, public);
        let forged = |text: &[u8]| hmac::sign(&public_as_secret, text).as_ref().to_vec();
        assert!(!takes(&signed(&json!({"alg": "HS256"}), &claims(), forged)));
        assert!(!takes(&signed(&json!({"alg": "EdDSA"}), &claims(), forged)));

        let pem_body = STANDARD.encode([&ED25519_SPKI[..], public].concat());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{pem_body}\n-----END PUBLIC KEY-----\n");
        let by_pem = issuer(vec![JwtKey::of_pem(&pem).unwrap()]);
        assert!(by_pem.grant(&token(json!({"alg": "EdDSA", "kid": "any"})), NOW_S).is_some());
    }

    #[test]
    fn rsa_keys_prove_by_pem_and_by_jwks() {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let sign = |text: &[u8]| {
            let mut signature = vec![0; pair.public_modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        let token = signed(&json!({"alg": "RS256"}), &claims(), sign);
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        // It ends with the modulus and the exponent 65537 in its five bytes of DER.
        let modulus = der.as_ref().get(der.as_ref().len() - 261..der.as_ref().len() - 5).unwrap();
        let jwk = json!({"keys": [{"kty": "RSA", "use": "sig", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"}]});
        let by_jwks = issuer(keys_of_jwks(&jwk.to_string()).unwrap());
        assert!(by_jwks.grant(&token, NOW_S).is_some());
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der.as_ref()));
        let by_pem = issuer(vec![JwtKey::of_pem(&pem).unwrap()]);
        assert!(by_pem.grant(&token, NOW_S).is_some());
        assert!(by_pem.grant(&token.replace('A', "B"), NOW_S).is_none());
    }

    #[test]
    fn an_audience_must_be_met() {
        let ours = Issuer { audience: Some("onair".to_owned()), ..shared() };
        for (aud, taken) in
            [(json!("onair"), true), (json!(["x", "onair"]), true), (json!("x"), false), (json!([]), false)]
        {
            let mut claims = claims();
            claims["aud"] = aud.clone();
            assert_eq!(ours.grant(&hs256(&json!({"alg": "HS256"}), &claims), NOW_S).is_some(), taken, "{aud}");
        }
        assert!(ours.grant(&hs256(&json!({"alg": "HS256"}), &claims()), NOW_S).is_none(), "none named");
    }

    /// RFC 7515 §A.1: proven by its key, and without our claims it allows nothing.
    #[test]
    fn the_rfcs_own_example_is_proven() {
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt\
                     cGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let bytes = URL_SAFE_NO_PAD.decode(secret.as_bytes()).unwrap();
        let key = JwtKey { kid: None, verifier: Verifier::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes))) };
        let (text, signature) = token.rsplit_once('.').unwrap();
        let header = Header { alg: "HS256".to_owned(), kid: None, crit: None };
        let signature = URL_SAFE_NO_PAD.decode(signature.as_bytes()).unwrap();
        assert!(key.proves(&header, text.as_bytes(), &signature));
        assert_eq!(issuer(vec![key]).grant(token, 1_300_819_000), None);
    }
}
