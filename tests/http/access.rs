//! Who may do what, at each door of the real server: nobody learns of what it may not see.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::live::{Response, Scratch, Server, onair};
use super::websocket::Client;

const OFFER: &str = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
const PLAYER_OFFER: &str = include_str!("../data/sdp/play/chromium.sdp");
const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FILE: &str = "/recordings/stage/ada/20260102-030405.mp4";
const NO_FILE: &str = "/recordings/stage/ada/20260102-030406.mp4";

const AUTH: &str = r#"
[[anonymous]]
can = ["watch", "recordings"]
rooms = ["open"]

[[token]]
token = "publisher-0123456789"
can = ["publish"]
rooms = ["stage"]

[[token]]
token = "recorder-0123456789"
can = ["publish", "record"]
rooms = ["stage"]

[[token]]
token = "watcher-0123456789"
can = ["watch"]
rooms = ["stage"]

[[token]]
token = "some-watcher-0123456789"
can = ["watch"]
rooms = ["stage"]
users = ["a*"]

[[token]]
token = "archivist-0123456789"
can = ["recordings"]
rooms = ["stage"]

[[token]]
# printf %s operator-0123456789 | sha256sum
sha256 = "OPERATOR"
can = ["operate"]

[[token]]
token = "elsewhere-0123456789"
can = ["publish", "watch", "recordings", "operate"]
rooms = ["other"]

[[jwt]]
secret = "shared-0123456789-0123456789-0123456789"

[[jwt]]
jwks = "keys.json"
audience = "onair"
"#;

/// The application's key for EdDSA; its public half lies beside the file.
static SIGNER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

fn base64url(bytes: impl AsRef<[u8]>) -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes.as_ref())
}

/// A JSON Web Token for the room stage, whose time ends in a minute, or does as `claims` say.
fn jwt(header: Value, claims: Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut all = json!({"room": "stage", "exp": now.as_secs() + 60});
    for (name, claim) in claims.as_object().unwrap() {
        all[name] = claim.clone();
    }
    let text = format!("{}.{}", base64url(header.to_string()), base64url(all.to_string()));
    let signature = sign(text.as_bytes());
    format!("{text}.{}", base64url(signature))
}

fn hs256(text: &[u8]) -> Vec<u8> {
    hs256_by(b"shared-0123456789-0123456789-0123456789")(text)
}

fn hs256_by(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    move |text| hmac::sign(&key, text).as_ref().to_vec()
}

fn eddsa(text: &[u8]) -> Vec<u8> {
    SIGNER.sign(text).as_ref().to_vec()
}

/// What one kind of caller may do with stage/ada.
#[derive(Debug, Default)]
struct Row {
    token: Option<String>,
    /// The server knows no such token.
    unknown: bool,
    publish: bool,
    watch: bool,
    watch_all: bool,
    recordings: bool,
    /// Which operators may, too.
    record: bool,
    operate: bool,
    /// It may do something, though not here.
    elsewhere: bool,
}

fn row(token: impl Into<String>) -> Row {
    Row { token: Some(token.into()), ..Row::default() }
}

fn unknown(token: impl Into<String>) -> Row {
    Row { unknown: true, ..row(token) }
}

const UNKNOWN: &str = "nobody-has-this-one-0123";

fn table() -> Vec<Row> {
    let (by_secret, by_key) = (|| json!({"alg": "HS256"}), || json!({"alg": "EdDSA", "kid": "one"}));
    let watch = || json!({"can": "watch"});
    let watch_us = || json!({"can": "watch", "aud": "onair"});
    let signed = jwt(by_secret(), watch(), hs256);
    let (header, rest) = signed.split_once('.').unwrap();
    let unsigned_header = format!("{}.{rest}", base64url(r#"{"alg":"none"}"#));
    assert_ne!(base64url(r#"{"alg":"none"}"#), header);
    let public = SIGNER.public_key().as_ref();
    vec![
        Row::default(),
        Row { publish: true, ..row("publisher-0123456789") },
        Row { publish: true, record: true, ..row("recorder-0123456789") },
        Row { watch: true, watch_all: true, ..row("watcher-0123456789") },
        Row { watch: true, ..row("some-watcher-0123456789") },
        Row { recordings: true, ..row("archivist-0123456789") },
        Row { record: true, operate: true, ..row("operator-0123456789") },
        Row { elsewhere: true, ..row("elsewhere-0123456789") },
        unknown(UNKNOWN),
        // JSON Web Tokens that are right.
        Row { publish: true, ..row(jwt(by_secret(), json!({"can": "publish"}), hs256)) },
        Row { watch: true, watch_all: true, ..row(signed.clone()) },
        Row { watch: true, ..row(jwt(by_secret(), json!({"can": "watch", "user": ["a*", "b"]}), hs256)) },
        Row { recordings: true, ..row(jwt(by_secret(), json!({"can": ["recordings"]}), hs256)) },
        Row { record: true, ..row(jwt(by_secret(), json!({"can": "record"}), hs256)) },
        Row { record: true, operate: true, ..row(jwt(by_secret(), json!({"can": "operate", "room": "*"}), hs256)) },
        Row { elsewhere: true, ..row(jwt(by_secret(), json!({"can": ["watch", "publish"], "room": "other"}), hs256)) },
        Row { watch: true, watch_all: true, ..row(jwt(by_key(), watch_us(), eddsa)) },
        // Those that are not.
        unknown(jwt(by_secret(), json!({"can": "watch", "exp": 1_700_000_000}), hs256)),
        unknown(jwt(by_secret(), json!({"can": "watch", "nbf": 9_000_000_000_u64}), hs256)),
        unknown(jwt(by_secret(), watch(), hs256_by(b"another-0123456789-0123456789-0123456789"))),
        unknown(jwt(json!({"alg": "none"}), watch(), hs256)),
        unknown(jwt(json!({"alg": "none"}), watch(), |_| vec![])),
        unknown(unsigned_header),
        unknown(signed.rsplit_once('.').unwrap().0.to_owned() + "."),
        unknown(jwt(json!({"alg": "HS256", "crit": ["x"], "x": 1}), watch(), hs256)),
        unknown(jwt(by_secret(), json!({"can": "watch", "user": vec!["x".repeat(60); 60]}), hs256)),
        unknown(jwt(json!({"alg": "EdDSA", "kid": "two"}), watch_us(), eddsa)),
        unknown(jwt(by_key(), watch(), eddsa)),
        // The classic: the public key, which everyone has, as a secret.
        unknown(jwt(json!({"alg": "HS256", "kid": "one"}), watch_us(), hs256_by(public))),
        unknown(jwt(by_key(), watch_us(), hs256_by(public))),
    ]
}

fn auth_file() -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    let hash = digest(&SHA256, b"operator-0123456789");
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    AUTH.replace("OPERATOR", &hash)
}

/// A directory with the file of tokens, `rules` and the keys that it names.
fn scratch_with(rules: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("auth.toml", rules);
    let x = base64url(SIGNER.public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "one", "x": x}]});
    scratch.write("keys.json", keys.to_string());
    scratch
}

async fn server() -> Server {
    let scratch = scratch_with(&auth_file());
    scratch.write("media/stage/ada/20260102-030405.mp4", "0123456789");
    scratch.write("media/open/eve/20260102-030405.mp4", "0123456789");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    Server::start_with(scratch, &[args.as_slice(), &["--auth", "auth.toml"]].concat(), &[]).await
}

/// How a caller is refused: without a token it is told to show one.
fn refused(row: &Row) -> u16 {
    if row.unknown || row.token.is_none() { 401 } else { 403 }
}

async fn ask(server: &Server, method: &str, path: &str, row: &Row, in_query: bool, body: &str) -> Response {
    let bearer = row.token.as_ref().map(|token| format!("Bearer {token}"));
    let mut headers = vec![];
    if !body.is_empty() {
        headers.push(SDP);
    }
    let mut path = path.to_owned();
    match (&row.token, &bearer) {
        (Some(token), _) if in_query => path.push_str(&format!("?token={token}")),
        (_, Some(bearer)) => headers.push(("Authorization", bearer)),
        _ => {}
    }
    let response = server.request(method, &path, &headers, body.as_bytes()).await;
    if response.status == 401 {
        assert_eq!(response.header("www-authenticate"), Some("Bearer"), "{path}");
    }
    response
}

#[tokio::test]
async fn each_token_opens_the_doors_it_is_for_and_no_other() {
    let server = server().await;
    for row in &table() {
        for in_query in [false, true] {
            let token = &row.token;
            let whip = ask(&server, "POST", "/whip/stage/ada", row, in_query, OFFER).await;
            assert_eq!(whip.status, if row.publish { 201 } else { refused(row) }, "{token:?}: {whip:?}");
            if let Some(resource) = whip.header("location") {
                // Whoever knows a session's name may end it.
                assert_eq!(server.request("DELETE", resource, &[], b"").await.status, 200);
            }
            let whep = ask(&server, "POST", "/whep/stage/ada", row, in_query, PLAYER_OFFER).await;
            assert_eq!(whep.status, if row.watch { 409 } else { refused(row) }, "{token:?}: {whep:?}");
            let (there, absent) = if row.recordings { (200, 404) } else { (refused(row), refused(row)) };
            for (path, status) in [(FILE, there), (NO_FILE, absent)] {
                let file = ask(&server, "GET", path, row, in_query, "").await;
                assert_eq!(file.status, status, "{token:?} {path}: {file:?}");
            }
            let metrics = ask(&server, "GET", "/metrics", row, in_query, "").await;
            assert_eq!(metrics.status, if row.operate { 200 } else { refused(row) }, "{token:?}");
            for (method, path, may) in [
                ("DELETE", "/api/broadcasts/stage/ada", row.operate),
                ("POST", "/api/broadcasts/stage/ada/recording", row.record),
                ("DELETE", "/api/broadcasts/stage/ada/recording", row.record),
                ("DELETE", "/api/recordings/stage/ada/20260102-030406.mp4", row.operate),
            ] {
                let done = ask(&server, method, path, row, in_query, "").await;
                assert_eq!(done.status, if may { 404 } else { refused(row) }, "{token:?} {method} {path}: {done:?}");
            }
            if !row.operate {
                let there = ask(&server, "DELETE", "/api/recordings/stage/ada/20260102-030405.mp4", row, in_query, "");
                assert_eq!(there.await.status, refused(row), "the same of what is there: {token:?}");
            }
            let list = ask(&server, "GET", "/api/recordings", row, in_query, "").await;
            assert_eq!(list.status, if row.unknown { 401 } else { 200 }, "{token:?}");
            assert_eq!(list.text().contains("stage/ada"), row.recordings, "{token:?}: {list:?}");
            if list.status == 200 {
                assert!(list.text().contains("open/eve"), "what everyone may see: {token:?}: {list:?}");
            }
            let servers = ask(&server, "GET", "/api/ice-servers", row, in_query, "").await;
            // Everyone may watch the room "open", and so may whoever has a token besides.
            assert_eq!(servers.status, if row.unknown { 401 } else { 200 }, "{token:?}: {servers:?}");
            // As GET, but that it ends.
            let events = ask(&server, "HEAD", "/api/events", row, in_query, "").await;
            assert_eq!(events.status, if row.unknown { 401 } else { 200 }, "{token:?}: {events:?}");
            let description = ask(&server, "GET", "/api/openapi.json", row, in_query, "").await;
            assert_eq!(description.status, 200, "for everyone, since it tells of no broadcast: {token:?}");
            let live = ask(&server, "GET", "/api/broadcasts", row, in_query, "").await;
            assert_eq!(live.status, if row.unknown { 401 } else { 200 }, "{token:?}");
        }
    }
    server.get("/healthz").await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200, "the page tells nothing and asks for a token");
    server.stop().await;
}

#[tokio::test]
async fn who_may_publish_or_watch_something_is_told_the_ice_servers_and_nobody_else() {
    // The same tokens, and nothing for everyone.
    let rules = auth_file();
    let scratch = scratch_with(&rules.split_once("[[token]]").map(|(_, tokens)| format!("[[token]]{tokens}")).unwrap());
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--auth", "auth.toml"];
    let turn = ["--stun", "stun:127.0.0.1", "--turn", "turn:127.0.0.1?transport=udp,turn:127.0.0.1?transport=tcp"];
    let server =
        Server::start_with(scratch, &[&args[..], &turn].concat(), &[("ONAIR_TURN_SECRET", "turn-secret-0123")]).await;
    for row in &table() {
        let told = ask(&server, "GET", "/api/ice-servers", row, false, "").await;
        let events = ask(&server, "HEAD", "/api/events", row, false, "").await;
        let may_hear = row.watch || row.recordings || row.elsewhere;
        assert_eq!(events.status, if may_hear { 200 } else { refused(row) }, "{:?}", row.token);
        if !(row.publish || row.watch || row.elsewhere) {
            told.problem(refused(row));
            assert!(!told.text().contains("turn:"), "{told:?}");
            continue;
        }
        assert_eq!((told.status, told.header("cache-control")), (200, Some("no-store")), "{told:?}");
        let servers = &told.json()["iceServers"];
        assert_eq!(servers[0], json!({"urls": ["stun:127.0.0.1"]}));
        assert_eq!(servers[1]["urls"], json!(["turn:127.0.0.1?transport=udp", "turn:127.0.0.1?transport=tcp"]));
        for field in ["username", "credential"] {
            assert!(servers[1][field].as_str().is_some_and(|text| !text.is_empty()), "{told:?}");
        }
        assert_eq!(servers.as_array().map(Vec::len), Some(2));
    }
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("turn-secret")), "{log:?}");
    let plain = Server::start(&[]).await;
    assert_eq!(plain.get("/api/ice-servers").await.json(), json!({"iceServers": []}));
    let foreign = plain.request("GET", "/api/ice-servers", &[("Origin", "https://elsewhere.example")], b"").await;
    foreign.problem(403);
    plain.stop().await;
}

#[tokio::test]
async fn messages_carry_tokens_of_their_own() {
    let server = server().await;
    for row in &table() {
        let with_token = |mut message: Value| {
            if let Some(token) = &row.token {
                message["token"] = json!(token);
            }
            message
        };
        for (message, allowed, reply) in [
            (json!({"type": "register", "room": "stage", "user": "ada", "sdp": OFFER}), row.publish, "registered"),
            (json!({"type": "subscribe", "room": "stage", "user": "ada"}), row.watch, "subscribed"),
            (json!({"type": "subscribe", "room": "stage"}), row.watch_all, "subscribed"),
        ] {
            let mut client = Client::connect(&server).await;
            let answer = client.ask(with_token(message.clone())).await;
            if allowed {
                assert_eq!(answer["type"], reply, "{:?}: {answer}", row.token);
            } else {
                assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("unauthorized")), "{answer}");
                assert_ne!(answer["fatal"], true);
                // Nothing began: the WebSocket may try again with another token.
                let open = client.ask(json!({"type": "subscribe", "room": "open"})).await;
                assert_eq!(open["type"], "subscribed", "{open}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn no_token_is_logged_not_even_at_the_finest_level() {
    let scratch = scratch_with(&auth_file());
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--auth", "auth.toml"];
    let server = Server::start_with(scratch, &[args.as_slice(), &["--log", "trace"]].concat(), &[]).await;
    for token in ["watcher-0123456789", UNKNOWN] {
        let bearer = format!("Bearer {token}");
        server.request("GET", "/api/recordings", &[("Authorization", &bearer)], b"").await;
        server.get(&format!("/api/recordings?token={token}")).await;
        let mut client = Client::connect(&server).await;
        client.ask(json!({"type": "subscribe", "room": "stage", "token": token})).await;
    }
    let log = server.stop().await;
    assert!(log.iter().any(|line| line.contains("TRACE")), "the finest level was not on");
    let leaks: Vec<_> = log.iter().filter(|line| line.contains("-0123")).collect();
    assert!(leaks.is_empty(), "{leaks:?}");
}

#[tokio::test]
async fn only_who_may_publish_takes_over() {
    let server = server().await;
    let register =
        |token: &str| json!({"type": "register", "room": "stage", "user": "ada", "sdp": OFFER, "token": token});
    let mut broadcaster = Client::connect(&server).await;
    assert_eq!(broadcaster.ask(register("publisher-0123456789")).await["type"], "registered");
    let mut thief = Client::connect(&server).await;
    assert_eq!(thief.ask(register("watcher-0123456789")).await["code"], "unauthorized");
    assert_eq!(broadcaster.ask(json!({"type": "ping"})).await["type"], "pong", "it was told nothing");
    server.stop().await;
}

#[tokio::test]
async fn a_hangup_reads_the_tokens_again_and_bad_ones_change_nothing() {
    let mut server = server().await;
    let archivist = [("Authorization", "Bearer archivist-0123456789")];
    assert_eq!(server.request("GET", FILE, &archivist, b"").await.status, 200);
    let mut watcher = Client::connect_with(&server, "?token=watcher-0123456789").await;
    let subscribe = json!({"type": "subscribe", "room": "stage"});
    server.scratch.write("auth.toml", "[[anonymous]]\ncan = [\"fly\"]");
    server.signal(Signal::SIGHUP);
    let said = server.logged("the tokens stay as they were").await;
    assert!(said.contains("not `fly`"), "{said}");
    assert_eq!(server.request("GET", FILE, &archivist, b"").await.status, 200);
    assert_eq!(watcher.ask(subscribe.clone()).await["type"], "subscribed");
    assert_eq!(watcher.receive().await["type"], "offer");
    assert_eq!(watcher.ask(json!({"type": "unsubscribe"})).await["type"], "unsubscribed");
    server.scratch.write("auth.toml", "[[token]]\ntoken = \"successor-0123456789\"\ncan = [\"recordings\"]");
    server.signal(Signal::SIGHUP);
    server.logged("the tokens were read again").await;
    server.request("GET", FILE, &archivist, b"").await.problem(401);
    assert_eq!(watcher.ask(subscribe).await["code"], "unauthorized");
    let successor = [("Authorization", "Bearer successor-0123456789")];
    assert_eq!(server.request("GET", FILE, &successor, b"").await.status, 200);
    server.request("GET", FILE, &[("Authorization", "Basic c3VjY2Vzc29y")], b"").await.problem(401);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_file_stops_the_start_with_one_line() {
    let scratch = Scratch::new();
    for (text, named) in [("[[token]]\ntoken = \"short\"\ncan = []", "at least 16"), ("= 1", "line 1")] {
        scratch.write("auth.toml", text);
        let output = onair(&scratch, &["--auth", "auth.toml"], &[]).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named) && said.contains("auth.toml") && said.lines().count() == 1, "{said}");
    }
    let output = onair(&scratch, &["--auth", "nowhere.toml"], &[]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
}
