//! WHIP and WHEP, requirement by requirement: each test is named by the section that it holds the server to, over real HTTP
//! and, where media matters, real UDP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;
#[allow(dead_code, reason = "each test binary uses a part")]
mod simulation;

#[path = "wish/wire.rs"]
mod wire;

#[path = "wish/families.rs"]
mod families;
#[path = "wish/whep.rs"]
mod whep;
#[path = "wish/whip.rs"]
mod whip;

const SDP: (&str, &str) = ("Content-Type", "application/sdp");
const FRAGMENT: (&str, &str) = ("Content-Type", "application/trickle-ice-sdpfrag");
const ANY: (&str, &str) = ("If-Match", "*");

/// The values of all lines that begin with `prefix`.
fn values<'a>(sdp: &'a str, prefix: &'a str) -> Vec<&'a str> {
    sdp.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

/// Checks that the links name the server's STUN and TURN servers, with a login that is good and of its own.
fn expect_ice_servers(response: &live::Response) -> String {
    let links = response.headers("link");
    let [stun, udp, tcp] = links[..] else { panic!("{response:?}") };
    assert_eq!(stun, "<stun:stun.example.net:3478>; rel=\"ice-server\"");
    let (udp, tcp) = (udp.split_once("; ").unwrap(), tcp.split_once("; ").unwrap());
    assert_eq!((udp.0, tcp.0), ("<turn:turn.example.net?transport=udp>", "<turns:[2001:db8::1]:443?transport=tcp>"));
    assert_eq!(udp.1, tcp.1);
    let attributes: Vec<(&str, &str)> = udp.1.split("; ").map(|attribute| attribute.split_once('=').unwrap()).collect();
    let value = |index: usize| attributes[index].1.trim_matches('"');
    let names: Vec<&str> = attributes.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["rel", "username", "credential", "credential-type"], "{udp:?}");
    assert_eq!((value(0), value(3)), ("ice-server", "password"));
    let secret: onair::http::turn_secret::TurnSecret = "north".parse().unwrap();
    let (expires, name) = value(1).split_once(':').unwrap();
    assert_eq!(secret.login(expires.parse().unwrap(), name).credential, value(2));
    value(1).to_owned()
}

const ICE_SERVERS: [&str; 8] = [
    "--stun",
    "stun:stun.example.net:3478",
    "--turn",
    "turn:turn.example.net?transport=udp",
    "--turn",
    "turns:[2001:db8::1]:443?transport=tcp",
    "--turn-secret",
    "north",
];

/// A fragment as a client sends it to restart ICE.
fn fragment(ufrag: &str, password: &str, candidates: &str) -> Vec<u8> {
    let head = "a=ice-options:trickle ice2\r\na=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
    format!("{head}a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n{candidates}").into_bytes()
}
