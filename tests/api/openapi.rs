//! `GET /api/openapi.json`: what it says of answers is held against what the server really answers.

use serde_json::{Value, json};

use crate::events::Listener;
use crate::live::{Response, Scratch, Server};
use crate::wire::{self, Wire};
use crate::{ANY, FRAGMENT, SDP};

/// The server's description of itself.
struct Description(Value);

impl Description {
    async fn of(server: &Server) -> Self {
        let response = server.get("/api/openapi.json").await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{response:?}");
        Self(response.json())
    }

    /// Checks that an answer is one of those that are described for `operation`, as in `GET /api/broadcasts`.
    fn check(&self, operation: &str, response: &Response) {
        let faults = self.faults_of_response(operation, response);
        assert!(faults.is_empty(), "{operation}: {faults:#?}\n{response:?}");
    }

    fn faults_of_response(&self, operation: &str, response: &Response) -> Vec<String> {
        let (method, path) = operation.split_once(' ').unwrap();
        let described = &self.0["paths"][path][method.to_lowercase()]["responses"][response.status.to_string()];
        if described.is_null() {
            return vec![format!("{} is not described", response.status)];
        }
        let mut faults = Vec::new();
        let content = described["content"].as_object();
        let given = response.header("content-type").map(|value| value.split(';').next().unwrap());
        match (content, given) {
            (None, None) => {}
            (Some(content), Some(given)) => match content.get(given) {
                Some(media) if given.ends_with("json") => {
                    self.compare("$", &media["schema"], &response.json(), &mut faults);
                }
                Some(_) => {}
                None => faults.push(format!("{given} is not described")),
            },
            (described, given) => faults.push(format!("{given:?}, not {described:?}")),
        }
        faults
    }

    fn faults(&self, schema: &str, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        self.compare("$", &json!({"$ref": format!("#/components/schemas/{schema}")}), value, &mut faults);
        faults
    }

    /// A small validator of JSON Schema, stricter in one point: what is not described must not be there. A word that it does
    /// not know fails.
    fn compare(&self, at: &str, schema: &Value, value: &Value, faults: &mut Vec<String>) {
        for (word, wanted) in schema.as_object().unwrap_or_else(|| panic!("{at}: {schema}")) {
            let is_kept = match word.as_str() {
                "$ref" => {
                    let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                    let referred = self.0.pointer(pointer).unwrap_or_else(|| panic!("{wanted} leads nowhere"));
                    self.compare(at, referred, value, faults);
                    true
                }
                "type" => is_of_type(wanted.as_str().unwrap(), value),
                "enum" => wanted.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_some_and(|number| number >= wanted.as_f64().unwrap()),
                "format" => is_in_format(wanted.as_str().unwrap(), value),
                "required" => {
                    let lacks = |name: &&Value| value.get(name.as_str().unwrap()).is_none();
                    wanted.as_array().unwrap().iter().find(lacks).is_none_or(|name| {
                        faults.push(format!("{at} lacks {name}"));
                        false
                    })
                }
                "properties" => {
                    for (name, member) in value.as_object().into_iter().flatten() {
                        let at = format!("{at}.{name}");
                        match wanted.get(name) {
                            Some(schema) => self.compare(&at, schema, member, faults),
                            None => faults.push(format!("{at} is not described")),
                        }
                    }
                    true
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.compare(&format!("{at}[{index}]"), wanted, item, faults);
                    }
                    true
                }
                "description" | "example" => true,
                _ => panic!("{at}: {word} is not known to this test"),
            };
            if !is_kept {
                faults.push(format!("{at}: {value} breaks {word} {wanted}"));
            }
        }
    }
}

fn is_of_type(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        _ => panic!("{name} is no type that is known to this test"),
    }
}

fn is_in_format(name: &str, value: &Value) -> bool {
    match name {
        "date-time" => value.as_str().is_some_and(|text| {
            let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            form == "0000-00-00T00:00:00Z"
        }),
        "double" => value.is_number(),
        "int32" => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        "int64" => value.as_i64().is_some(),
        _ => panic!("{name} is no format that is known to this test"),
    }
}

const PLAYER_OFFER: &str = include_str!("../data/sdp/play/chromium.sdp");

const AUTH: &str = "[[anonymous]]\ncan = [\"publish\", \"watch\", \"recordings\"]\n\
    [[token]]\ntoken = \"operator-0123456789\"\ncan = [\"operate\"]\n\
    [[token]]\ntoken = \"elsewhere-0123456789\"\ncan = [\"operate\"]\nrooms = [\"elsewhere\"]\n";
const OPERATOR: (&str, &str) = ("Authorization", "Bearer operator-0123456789");

async fn server() -> Server {
    let scratch = Scratch::new();
    scratch.write("auth.toml", AUTH);
    scratch.write("media/r/u/20260102-030405.mp4", "0123456789");
    scratch.write("media/r/u/20260102-030406-2.part.mp4", "0123456789");
    let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--record-dir", "media"];
    let ice = ["--stun", "stun:127.0.0.1", "--turn", "turn:127.0.0.1?transport=udp", "--auth", "auth.toml"];
    let ffmpeg = ["--ffmpeg", "nowhere/ffmpeg"];
    Server::start_with(scratch, &[&args[..], &ice, &ffmpeg].concat(), &[("ONAIR_TURN_SECRET", "turn-secret-0123")])
        .await
}

/// Each change of `value` that a description which means something forbids.
fn mutants(value: &Value) -> Vec<(String, Value)> {
    let mut mutants = Vec::new();
    if let Some(members) = value.as_object() {
        let changed = |name: &str, member: Option<Value>| {
            let mut other = members.clone();
            match member {
                Some(member) => other.insert(name.to_owned(), member),
                None => other.remove(name),
            };
            Value::Object(other)
        };
        mutants.push(("one more".to_owned(), changed("x_new", Some(json!(1)))));
        for (name, member) in members {
            mutants.push((format!("no {name}"), changed(name, None)));
            let other = if member.is_string() { json!(7) } else { json!("seven") };
            mutants.push((format!("{name} of another type"), changed(name, Some(other))));
            mutants.push((format!("{name} null"), changed(name, Some(Value::Null))));
            let below = mutants_of_member(member);
            mutants.extend(
                below.into_iter().map(|(what, member)| (format!("{name}: {what}"), changed(name, Some(member)))),
            );
        }
    }
    mutants
}

fn mutants_of_member(member: &Value) -> Vec<(String, Value)> {
    match member.as_array() {
        Some(items) => {
            items.first().map(mutants).unwrap_or_default().into_iter().map(|(what, it)| (what, json!([it]))).collect()
        }
        None => mutants(member),
    }
}

/// What may be left out, by the documents.
const OPTIONAL: [&str; 5] = ["no b_frames", "no recording_error", "no code", "no username", "no credential"];

#[tokio::test]
async fn what_is_answered_is_what_is_described_and_nothing_else() {
    let server = server().await;
    let description = Description::of(&server).await;
    let _encoder = wire::live(&server, 1, "r/u").await;

    let live = server.get("/api/broadcasts").await;
    let recordings = server.get("/api/recordings").await;
    let servers = server.get("/api/ice-servers").await;
    let refused = server.request("DELETE", "/api/broadcasts/r/u", &[], b"").await;
    description.check("GET /api/broadcasts", &live);
    description.check("GET /api/recordings", &recordings);
    description.check("GET /api/ice-servers", &servers);
    description.check("DELETE /api/broadcasts/{room}/{user}", &refused);
    assert_eq!(refused.problem(401).as_deref(), Some("unauthorized"));
    let (name, beginning) = Listener::connect(&server, "").await.told().await;
    assert_eq!(name, "broadcasts");

    // Each of them has something in it, and the test would see each change of it.
    assert_eq!((live.json().as_array().unwrap().len(), recordings.json().as_array().unwrap().len()), (1, 2));
    for (schema, value) in [
        ("Broadcast", live.json()[0].clone()),
        ("Track", live.json()[0]["tracks"][0].clone()),
        ("RecordingFile", recordings.json()[0].clone()),
        ("RecordingFile", recordings.json()[1].clone()),
        ("Connectivity", servers.json()),
        ("IceServer", servers.json()["iceServers"][0].clone()),
        ("IceServer", servers.json()["iceServers"][1].clone()),
        ("Beginning", beginning.clone()),
        ("Problem", refused.json()),
    ] {
        assert_eq!(description.faults(schema, &value), Vec::<String>::new(), "{value}");
        let mutants = mutants(&value);
        assert!(mutants.len() > 3, "{value}");
        for (what, mutant) in mutants {
            let is_optional = OPTIONAL.iter().any(|optional| what.ends_with(optional));
            assert_eq!(description.faults(schema, &mutant).is_empty(), is_optional, "{schema}, {what}: {mutant}");
        }
    }
    // Names of codecs, kinds and errors are those that are described, too.
    for (schema, name) in [("Codec", "mp3"), ("TrackKind", "text"), ("ErrorCode", "oops"), ("BeginningType", "end")] {
        assert!(!description.faults(schema, &json!(name)).is_empty(), "{schema}");
    }
    // What may be left out is described with its type all the same.
    let with_b_frames = |b_frames: Value| {
        let mut live = live.json()[0].clone();
        live["b_frames"] = b_frames;
        description.faults("Broadcast", &live).is_empty()
    };
    assert!(with_b_frames(json!(true)) && !with_b_frames(json!("yes")));
    let with_error = |error: Value| {
        let mut live = live.json()[0].clone();
        live["recording_error"] = error;
        description.faults("Broadcast", &live).is_empty()
    };
    assert!(with_error(json!("the disk is full")) && !with_error(json!(7)) && !with_error(Value::Null));
    server.stop().await;
}

#[tokio::test]
async fn each_door_answers_with_what_is_described_for_it() {
    let server = server().await;
    let description = Description::of(&server).await;
    let mut encoder = wire::live(&server, 1, "r/u").await;
    let player = Wire::play(&server, 2, "r/u").await;
    let (location, player_location) = (encoder.location.clone(), player.location.clone());
    let resource = "/{room}/{user}/{resource}";
    let foreign = ("Origin", "https://elsewhere.example");
    let bearer = ("Authorization", "Bearer nobody-has-this-one-0123");
    let elsewhere = ("Authorization", "Bearer elsewhere-0123456789");
    let etag = encoder.created.header("etag").unwrap().to_owned();
    let file = "/recordings/r/u/20260102-030405.mp4";
    let whole = server.get(file).await;
    let file_etag = whole.header("etag").unwrap().to_owned();
    let long = vec![b'a'; 70_000];
    let key = ("Sec-WebSocket-Key", "short");
    let handshake = [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), key];
    let restarted = encoder.restart_ice(&server).await;
    let mut seen: Vec<(String, Response)> = vec![
        ("POST /whip/{room}/{user}".to_owned(), std::mem::replace(&mut encoder.created, restarted)),
        ("POST /whep/{room}/{user}".to_owned(), player.created),
    ];
    let mut asked = vec![];
    for (operation, path, headers, body, status) in [
        ("GET /api/broadcasts", "/api/broadcasts", &[bearer][..], &b""[..], 401),
        ("GET /api/broadcasts", "/api/broadcasts", &[foreign], b"", 403),
        ("GET /api/recordings", "/api/recordings", &[bearer], b"", 401),
        ("GET /api/ice-servers", "/api/ice-servers", &[foreign], b"", 403),
        ("GET /api/events", "/api/events", &[bearer], b"", 401),
        ("GET /api/openapi.json", "/api/openapi.json", &[bearer], b"", 200),
        ("GET /api/openapi.json", "/api/openapi.json", &[foreign], b"", 403),
        ("GET /healthz", "/healthz", &[foreign], b"", 200),
        ("GET /metrics", "/metrics", &[OPERATOR], b"", 200),
        ("GET /metrics", "/metrics", &[OPERATOR, ("Accept", "application/openmetrics-text")], b"", 200),
        ("GET /metrics", "/metrics", &[], b"", 401),
        ("GET /metrics", "/metrics", &[elsewhere], b"", 403),
        ("GET /ws", "/ws", &[], b"", 426),
        ("GET /ws", "/ws", &handshake, b"", 400),
        ("GET /ws", "/ws", &[foreign], b"", 403),
        ("GET /ws", "/ws", &[bearer], b"", 401),
        ("GET /recordings/{room}/{user}/{file}", file, &[], b"", 200),
        ("GET /recordings/{room}/{user}/{file}", file, &[("Range", "bytes=2-5")], b"", 206),
        ("GET /recordings/{room}/{user}/{file}", file, &[("If-None-Match", &file_etag)], b"", 304),
        ("GET /recordings/{room}/{user}/{file}", file, &[("If-Match", "\"other\"")], b"", 412),
        ("GET /recordings/{room}/{user}/{file}", file, &[("Range", "bytes=99-")], b"", 416),
        ("GET /recordings/{room}/{user}/{file}", file, &[bearer], b"", 401),
        ("GET /recordings/{room}/{user}/{file}", "/recordings/r/%ff/f.mp4", &[], b"", 400),
        ("GET /recordings/{room}/{user}/{file}", "/recordings/r/u/f.mp4", &[], b"", 404),
        ("DELETE /api/recordings/{room}/{user}/{file}", "/api/recordings/r/u/f.mp4", &[OPERATOR], b"", 404),
        ("DELETE /api/recordings/{room}/{user}/{file}", "/api/recordings/r/u/f.mp4", &[elsewhere], b"", 403),
        ("DELETE /api/recordings/{room}/{user}/{file}", "/api/recordings/%ff/u/f.mp4", &[OPERATOR], b"", 400),
        (
            "DELETE /api/recordings/{room}/{user}/{file}",
            "/api/recordings/r/u/20260102-030405.mp4",
            &[OPERATOR],
            b"",
            204,
        ),
        // Its ffmpeg is nowhere.
        ("POST /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/u/recording", &[OPERATOR], b"", 503),
        ("POST /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/u/recording", &[elsewhere], b"", 403),
        ("POST /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/u/recording", &[], b"", 401),
        ("POST /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/v/recording", &[OPERATOR], b"", 404),
        ("POST /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/-/recording", &[OPERATOR], b"", 400),
        ("DELETE /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/u/recording", &[OPERATOR], b"", 409),
        ("DELETE /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/v/recording", &[OPERATOR], b"", 404),
        ("DELETE /api/broadcasts/{room}/{user}/recording", "/api/broadcasts/r/-/recording", &[OPERATOR], b"", 400),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[SDP], b"v=0", 400),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[SDP, bearer], b"v=0", 401),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[SDP, foreign], b"v=0", 403),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[SDP, ("Accept", "text/html")], b"v=0", 406),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[SDP], &long, 413),
        ("POST /whip/{room}/{user}", "/whip/r/v", &[], b"v=0", 415),
        ("POST /whep/{room}/{user}", "/whep/r/v", &[SDP], PLAYER_OFFER.as_bytes(), 409),
        ("GET /whip/{room}/{user}", "/whip/r/u", &[], b"", 204),
        ("GET /whip/{room}/{user}", "/whip/r/u", &[foreign], b"", 403),
        ("OPTIONS /whep/{room}/{user}", "/whep/r/u", &[], b"", 200),
        ("OPTIONS /whip/{room}/{user}", "/whip/r/%ff", &[], b"", 400),
        ("OPTIONS /whip{resource}", &location, &[], b"", 200),
        ("GET /whip{resource}", &location, &[], b"", 204),
        ("GET /whip{resource}", "/whip/r/u/none", &[], b"", 404),
        ("GET /whip{resource}", "/whip/-/u/none", &[], b"", 400),
        ("PATCH /whip{resource}", &location, &[FRAGMENT, ("If-Match", &etag)], b"", 412),
        ("PATCH /whip{resource}", &location, &[FRAGMENT], b"", 428),
        ("PATCH /whip{resource}", &location, &[ANY], b"", 415),
        ("PATCH /whip{resource}", &location, &[FRAGMENT, ANY], b"\xff", 400),
        ("PATCH /whip{resource}", &location, &[FRAGMENT, ANY], &long, 413),
        ("PATCH /whip{resource}", &location, &[FRAGMENT, ANY], b"a=end-of-candidates\r\n", 204),
        ("PATCH /whip{resource}", "/whip/r/u/none", &[FRAGMENT, ANY], b"", 404),
        ("DELETE /whep{resource}", &player_location, &[foreign], b"", 403),
        ("DELETE /whep{resource}", &player_location, &[], b"", 200),
        ("DELETE /whep{resource}", &player_location, &[], b"", 404),
        ("DELETE /api/broadcasts/{room}/{user}", "/api/broadcasts/r/u", &[OPERATOR], b"", 204),
        ("DELETE /api/broadcasts/{room}/{user}", "/api/broadcasts/r/u", &[OPERATOR], b"", 404),
        ("DELETE /api/broadcasts/{room}/{user}", "/api/broadcasts/r/u", &[elsewhere], b"", 403),
    ] {
        let operation = operation.replace("{resource}", resource);
        let (method, _) = operation.split_once(' ').unwrap();
        let response = server.request(method, path, headers, body).await;
        assert_eq!(response.status, status, "{operation} at {path}: {response:?}");
        asked.push((operation, response));
    }
    seen.push((format!("PATCH /whip{resource}"), encoder.created));
    for (operation, response) in seen.into_iter().chain(asked) {
        description.check(&operation, &response);
        let (method, path) = operation.split_once(' ').unwrap();
        let described = &description.0["paths"][path][method.to_lowercase()]["responses"][response.status.to_string()];
        for name in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()) {
            assert!(response.header(&name).is_some(), "{operation}: {name} is not there: {response:?}");
        }
    }
    server.stop().await;
}
