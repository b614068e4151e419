//! The webhook at each door: who is let in is its word, and nobody waits for it but who it is about.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hook::{Hook, SECRET};
use super::live::{Scratch, Server, onair};
use super::websocket::Client;

const OFFER: &str = include_str!("../data/sdp/publish/chromium-camera-mic-data.sdp");
const PLAYER_OFFER: &str = include_str!("../data/sdp/play/chromium.sdp");
const SDP: (&str, &str) = ("Content-Type", "application/sdp");

/// The status stands in the name of user or room.
fn by_name(content: &Value) -> Option<u16> {
    let name = content["user"].as_str().or(content["room"].as_str()).unwrap();
    name.strip_prefix("answer-").map(|status| status.parse().unwrap())
}

async fn server_with(scratch: Scratch, url: &str, args: &[&str]) -> Server {
    let all = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--webhook", url];
    let secret = ("ONAIR_WEBHOOK_SECRET", SECRET);
    Server::start_with(scratch, &[&all[..], args].concat(), &[secret]).await
}

async fn server(hook: &Hook, args: &[&str]) -> Server {
    server_with(Scratch::new(), &hook.url, args).await
}

fn register(user: &str) -> Value {
    json!({"type": "register", "room": "r", "user": user, "sdp": OFFER, "id": "1"})
}

#[tokio::test]
async fn a_2xx_lets_in_and_nothing_else_does() {
    let mut hook = Hook::start(by_name).await;
    let server = server(&hook, &[]).await;
    for (status, is_let_in) in
        [(200, true), (204, true), (302, false), (307, false), (401, false), (403, false), (404, false), (500, false)]
    {
        let user = format!("answer-{status}");
        let whip = server.request("POST", &format!("/whip/r/{user}"), &[SDP], OFFER.as_bytes()).await;
        let asked = [hook.next().await];
        let whep = server.request("POST", &format!("/whep/r/{user}"), &[SDP], PLAYER_OFFER.as_bytes()).await;
        let asked = [&asked[..], &[hook.next().await]].concat();
        if is_let_in {
            assert_eq!((whip.status, whep.status), (201, 409), "{status}: {whip:?} {whep:?}");
            assert_eq!(server.request("DELETE", whip.header("location").unwrap(), &[], b"").await.status, 200);
        } else {
            for refused in [&whip, &whep] {
                refused.problem(403);
                assert_eq!(refused.json()["code"], "unauthorized");
                assert!(!refused.text().contains("DETAILS") && !refused.text().contains("hook"), "{refused:?}");
            }
        }
        let mut messages = vec![(register(&user), "registered")];
        messages.push((json!({"type": "subscribe", "room": "r", "user": user, "id": "1"}), "subscribed"));
        messages.push((json!({"type": "subscribe", "room": user, "id": "1"}), "subscribed"));
        let mut by_message = Vec::new();
        for (message, yes) in messages {
            let mut client = Client::connect(&server).await;
            let answer = client.ask(message).await;
            by_message.push(hook.next().await);
            assert_eq!(answer["id"], "1");
            if is_let_in {
                assert_eq!(answer["type"], yes, "{status}: {answer}");
            } else {
                assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("unauthorized")), "{answer}");
                assert!(answer.get("fatal").is_none() && !answer.to_string().contains("DETAILS"), "{answer}");
                // Nothing has begun: the same WebSocket may ask for something else.
                assert_eq!(client.ask(json!({"type": "unregister"})).await["code"], "bad-state");
                let other = client.ask(json!({"type": "subscribe", "room": "answer-200"})).await;
                assert_eq!(other["type"], "subscribed", "{other}");
                hook.next().await;
            }
        }
        let told: Vec<_> = asked.iter().chain(&by_message).map(|asked| asked.content.clone()).collect();
        let expected = [
            json!({"type": "publish", "room": "r", "user": user, "door": "whip"}),
            json!({"type": "play", "room": "r", "user": user, "door": "whep"}),
            json!({"type": "publish", "room": "r", "user": user, "door": "ws"}),
            json!({"type": "play", "room": "r", "user": user, "door": "ws"}),
            json!({"type": "play", "room": user, "user": null, "door": "ws"}),
        ];
        for (mut told, expected) in told.into_iter().zip(expected) {
            let fields = told.as_object_mut().unwrap();
            assert_eq!(fields.remove("remote"), Some(json!("127.0.0.1")));
            assert!(fields.remove("timestamp").unwrap().as_str().unwrap().ends_with('Z'));
            assert_eq!(told, expected);
        }
    }
    let metrics = server.get("/metrics").await;
    for line in [
        "onair_webhook_requests_total{type=\"publish\",outcome=\"accepted\"} 4\n",
        "onair_webhook_requests_total{type=\"play\",outcome=\"refused\"} 18\n",
    ] {
        assert!(metrics.text().contains(line), "{line} in {}", metrics.text());
    }
    let log = server.stop().await;
    assert!(!log.iter().any(|line| line.contains("key=7") || line.contains("whsec")), "{log:?}");
}

#[tokio::test]
async fn tokens_come_first_and_the_webhook_is_asked_of_nobody_whom_they_refuse() {
    let mut hook = Hook::start(|_| Some(403)).await;
    let scratch = Scratch::new();
    scratch.write("auth.toml", "[[token]]\ntoken = \"watcher-0123456789\"\ncan = [\"watch\"]");
    let server = server_with(scratch, &hook.url, &["--auth", "auth.toml"]).await;
    let bearer = ("Authorization", "Bearer watcher-0123456789");
    server.request("POST", "/whip/r/u", &[SDP, bearer], OFFER.as_bytes()).await.problem(403);
    server.request("POST", "/whep/r/u", &[SDP], PLAYER_OFFER.as_bytes()).await.problem(401);
    let mut client = Client::connect(&server).await;
    assert_eq!(client.ask(register("u")).await["code"], "unauthorized");
    assert_eq!(hook.rest(), []);
    server.request("POST", "/whep/r/u", &[SDP, bearer], PLAYER_OFFER.as_bytes()).await.problem(403);
    assert_eq!(hook.rest().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn who_waits_for_the_webhook_waits_in_order_and_nobody_else_does() {
    let mut hook = Hook::start(by_name).await;
    let server = server(&hook, &["--webhook-timeout", "2s"]).await;
    let begun = Instant::now();
    let mut waiting = Client::connect(&server).await;
    waiting.send(register("never")).await;
    hook.next().await;
    for id in ["2", "3"] {
        waiting.send(json!({"type": "ping", "id": id})).await;
    }
    waiting.send(json!({"type": "subscribe", "room": "answer-200", "id": "4"})).await;
    // WebSocket pings are answered meanwhile, and what the others ask is.
    waiting.pong().await;
    let mut other = Client::connect(&server).await;
    assert_eq!(other.ask(register("answer-200")).await["type"], "registered");
    assert!(begun.elapsed() < Duration::from_millis(1_900), "{:?}", begun.elapsed());

    let refused = waiting.receive().await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("1"), &json!("unauthorized")), "{refused}");
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(2) && waited < Duration::from_secs(8), "{waited:?}");
    for id in ["2", "3"] {
        assert_eq!(waiting.receive().await, json!({"type": "pong", "id": id}));
    }
    assert_eq!(waiting.receive().await["type"], "subscribed");
    server.request("POST", "/whip/r/never", &[SDP], OFFER.as_bytes()).await.problem(403);
    let metrics = server.get("/metrics").await;
    assert!(metrics.text().contains("{type=\"publish\",outcome=\"timed-out\"} 2\n"), "{}", metrics.text());
    server.stop().await;
}

#[tokio::test]
async fn who_leaves_is_asked_about_no_longer_and_a_stop_waits_for_no_word() {
    let mut hook = Hook::start(by_name).await;
    let server = server(&hook, &["--webhook-timeout", "30s"]).await;
    for leaves in [true, false] {
        let mut client = Client::connect(&server).await;
        client.send(register("never")).await;
        hook.next().await;
        if leaves {
            client.leave().await;
        } else {
            // This one stays, and more than may wait comes after its question.
            for _ in 0..40 {
                client.send(json!({"type": "ping"})).await;
            }
            let begun = Instant::now();
            server.stop().await;
            assert!(begun.elapsed() < Duration::from_secs(8));
            return;
        }
    }
}

#[tokio::test]
async fn an_application_that_is_gone_lets_nobody_in() {
    let hook = Hook::start(|_| Some(200)).await;
    let url = hook.url.clone();
    drop(hook);
    let mut server = server_with(Scratch::new(), &url, &[]).await;
    server.request("POST", "/whip/r/u", &[SDP], OFFER.as_bytes()).await.problem(403);
    let mut client = Client::connect(&server).await;
    assert_eq!(client.ask(register("u")).await["code"], "unauthorized");
    let complaint = server.logged("the webhook does not answer").await;
    assert!(!complaint.contains("key=7"), "{complaint}");
    server.stop().await;
}

#[tokio::test]
async fn a_webhook_is_signed_and_answers_soon_or_the_server_does_not_start() {
    for (args, named) in [
        (&["--webhook", "http://127.0.0.1:1"][..], "--webhook-secret"),
        (&["--webhook-secret", SECRET], "--webhook"),
        (&["--webhook", "ftp://127.0.0.1", "--webhook-secret", SECRET], "a webhook is an address"),
        (&["--webhook", "http://127.0.0.1:1", "--webhook-secret", "s3cret"], "openssl rand"),
        (&["--webhook", "http://127.0.0.1:1", "--webhook-secret", SECRET, "--webhook-timeout", "1h"], "30s"),
    ] {
        let output = onair(&Scratch::new(), args, &[]).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(named) && error.lines().count() == 1, "{error}");
    }
}
