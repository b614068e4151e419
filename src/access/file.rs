//! The file of `--auth`: TOML with `[[anonymous]]` and `[[token]]` entries.
//!
//! **Invariant:** a file with anything unknown, missing or malformed is refused as a whole, with one line that holds none
//! of its secrets.

use std::sync::Arc;

use serde::Deserialize;

use super::grant::{Grant, Right, Token, TokenHash};
use super::jwt::{Issuer, JwtKey, keys_of_jwks};
use super::pattern::Pattern;

/// The longest file that is read, in bytes.
const FILE_MAX_BYTES: usize = 1 << 20;

/// Shorter tokens are guessed.
const TOKEN_MIN_CHARACTERS: usize = 16;

/// What stands for a secret in the examples, which everyone knows.
const PLACEHOLDER: &str = "replace-me";

/// The most `[[jwt]]` entries: a token's signature is tried against each.
const ISSUERS_MAX: usize = 16;

/// What the file of `--auth` holds.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// To everyone.
    pub anonymous: Vec<Arc<Grant>>,
    /// To who shows a token.
    pub tokens: Vec<Token>,
    /// To who shows a JSON Web Token of one of these.
    pub issuers: Vec<Issuer>,
}

/// What is wrong with the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    anonymous: Vec<AnonymousEntry>,
    #[serde(default)]
    token: Vec<TokenEntry>,
    #[serde(default)]
    jwt: Vec<JwtEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousEntry {
    can: Vec<String>,
    rooms: Option<Vec<String>>,
    users: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    token: Option<String>,
    sha256: Option<String>,
    can: Vec<String>,
    rooms: Option<Vec<String>>,
    users: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JwtEntry {
    secret: Option<String>,
    public_key: Option<String>,
    jwks: Option<String>,
    audience: Option<String>,
}

/// Reads the text of a file; `beside` fetches another that it names.
///
/// # Errors
///
/// [`PolicyError`].
pub fn parse(text: &str, beside: &dyn Fn(&str) -> Result<String, String>) -> Result<Rules, PolicyError> {
    if text.len() > FILE_MAX_BYTES {
        return Err(PolicyError(format!("it has more than {FILE_MAX_BYTES} bytes")));
    }
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| text.get(..span.start).unwrap_or(text).matches('\n').count());
        // Of several lines, the first says what is wrong; none quotes the file.
        let message = error.message().lines().next().unwrap_or("malformed");
        PolicyError(format!("line {}: {message}", line + 1))
    })?;
    let mut rules = Rules::default();
    for (number, entry) in (1..).zip(file.anonymous) {
        let grant = grant(&entry.can, entry.rooms, entry.users);
        let grant = grant.map_err(|error| PolicyError(format!("[[anonymous]] number {number}: {error}")))?;
        rules.anonymous.push(Arc::new(grant));
    }
    for (number, entry) in (1..).zip(file.token) {
        let named = |error: String| PolicyError(format!("[[token]] number {number}: {error}"));
        let hash = hash(entry.token.as_deref(), entry.sha256.as_deref()).map_err(named)?;
        let grant = grant(&entry.can, entry.rooms, entry.users).map_err(named)?;
        rules.tokens.push(Token { hash, grant: Arc::new(grant) });
    }
    if file.jwt.len() > ISSUERS_MAX {
        return Err(PolicyError(format!("it has more than {ISSUERS_MAX} [[jwt]]")));
    }
    for (number, entry) in (1..).zip(file.jwt) {
        let keys = keys(&entry, beside);
        let keys = keys.map_err(|error| PolicyError(format!("[[jwt]] number {number}: {error}")))?;
        rules.issuers.push(Issuer { keys, audience: entry.audience });
    }
    Ok(rules)
}

fn keys(entry: &JwtEntry, beside: &dyn Fn(&str) -> Result<String, String>) -> Result<Vec<JwtKey>, String> {
    match (&entry.secret, &entry.public_key, &entry.jwks) {
        (Some(secret), None, None) => {
            JwtKey::of_secret(secret).map(|key| vec![key]).map_err(|error| format!("`secret`: {error}"))
        }
        (None, Some(pem), None) => {
            JwtKey::of_pem(pem).map(|key| vec![key]).map_err(|error| format!("`public-key`: {error}"))
        }
        (None, None, Some(name)) => {
            let text = beside(name).map_err(|error| format!("`jwks`: {error}"))?;
            keys_of_jwks(&text).map_err(|error| format!("`jwks`: {error}"))
        }
        _ => Err("give one of `secret`, `public-key` and `jwks`".to_owned()),
    }
}

fn hash(token: Option<&str>, sha256: Option<&str>) -> Result<TokenHash, String> {
    match (token, sha256) {
        (Some(token), None) if token.starts_with(PLACEHOLDER) => {
            Err("`token` is still the example's: make one with `openssl rand -hex 24`".to_owned())
        }
        (Some(token), None) if token.chars().count() >= TOKEN_MIN_CHARACTERS => Ok(TokenHash::of(token)),
        (Some(_), None) => Err(format!("a `token` has at least {TOKEN_MIN_CHARACTERS} characters, or it is guessed")),
        (None, Some(sha256)) => {
            let bytes = from_hex(sha256).ok_or("`sha256` is 64 hexadecimal digits: printf %s TOKEN | sha256sum")?;
            Ok(TokenHash::from_bytes(bytes))
        }
        _ => Err("give one of `token` and `sha256`".to_owned()),
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    bytes.try_into().ok()
}

fn grant(can: &[String], rooms: Option<Vec<String>>, users: Option<Vec<String>>) -> Result<Grant, String> {
    let right = |name: &String| {
        let known = Right::ALL.into_iter().find(|right| right.name() == name);
        known.ok_or_else(|| format!("`can` takes publish, watch, recordings, record and operate, not `{name}`"))
    };
    let patterns = |texts: Option<Vec<String>>, key: &str| {
        let texts = texts.unwrap_or_else(|| vec!["*".to_owned()]);
        let parsed: Result<Vec<_>, _> = texts.iter().map(|text| Pattern::parse(text)).collect();
        parsed.map_err(|error| format!("`{key}`: {error}"))
    };
    Ok(Grant {
        rights: can.iter().map(right).collect::<Result<_, _>>()?,
        rooms: patterns(rooms, "rooms")?,
        users: patterns(users, "users")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(name: &str) -> Result<String, String> {
        Err(format!("{name} is not there"))
    }

    #[test]
    fn an_empty_file_grants_nothing() {
        let rules = parse("# nobody\n", &alone).unwrap();
        assert!(rules.anonymous.is_empty() && rules.tokens.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_told() {
        for (text, named) in [
            ("[[token]]\ntoken = \"s3cret-s3cret-s3cret\"\ncan = [\"fly\"]", "not `fly`"),
            ("[[token]]\ntoken = \"s3cret\"\ncan = []", "at least 16"),
            ("[[token]]\ntoken = \"replace-me-s3cret-s3cret\"\ncan = []", "still the example's"),
            ("[[token]]\nsha256 = \"s3cret\"\ncan = []", "64 hexadecimal digits"),
            ("[[token]]\ncan = []", "give one of"),
            ("[[token]]\ntoken = \"s3cret-s3cret-s3cret\"\nsha256 = \"\"\ncan = []", "give one of"),
            ("[[token]]\ntoken = \"s3cret-s3cret-s3cret\"", "missing field `can`"),
            ("[[token]]\ntoken = \"s3cret-s3cret-s3cret\"\ncan = []\nroom = \"x\"", "unknown field `room`"),
            ("[[anonymous]]\ncan = [\"watch\"]\nrooms = [\"a/b\"]", "[[anonymous]] number 1: `rooms`"),
            ("\n\ntoken = [\"s3cret\"", "line 3"),
            ("[[token]]\ntoken = 7\ncan = []", "line 2"),
            ("[[jwt]]\nsecret = \"s3cret\"", "[[jwt]] number 1: `secret`: a secret for HS256 has at least 32"),
            ("[[jwt]]\npublic-key = \"s3cret\"", "BEGIN PUBLIC KEY"),
            ("[[jwt]]\njwks = \"keys.json\"", "keys.json is not there"),
            ("[[jwt]]\naudience = \"x\"", "give one of"),
            ("[[jwt]]\nalg = \"none\"", "unknown field `alg`"),
        ] {
            let error = parse(text, &alone).unwrap_err().to_string();
            assert!(error.contains(named), "{text:?}: {error}");
            assert!(!error.contains('\n') && !error.contains("s3cret"), "{error:?}");
        }
        assert!(parse("[[jwt]]\njwks = \"keys.json\"", &|_| Ok("{\"keys\": []}".to_owned())).is_err(), "no key");
        assert!(parse(&"[[jwt]]\n".repeat(ISSUERS_MAX + 1), &alone).is_err());
        assert!(parse(&"#".repeat(FILE_MAX_BYTES + 1), &alone).is_err());
    }
}
