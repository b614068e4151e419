//! The binary from outside: where its settings come from, what it prints, how it fails and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

mod live;

use std::process::Stdio;
use std::time::{Duration, Instant};

use live::{PATIENCE, Scratch, Server, onair, script, written};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

const LOOPBACK: [&str; 6] = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off"];

/// Runs it to its end: status, standard output, standard error.
async fn run(scratch: &Scratch, args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = timeout(PATIENCE, onair(scratch, args, variables).output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_cleanly() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut server = Server::start(&[]).await;
        assert!(server.http.port() != 0 && server.udp.port() != 0);
        assert_eq!(server.lines[0], format!("listening http://127.0.0.1:{}", server.http.port()));
        assert_eq!(server.lines[1], format!("listening udp 127.0.0.1:{}", server.udp.port()));
        assert_eq!(server.get("/healthz").await.text(), "ok\n");
        let begun = Instant::now();
        server.signal(signal);
        server.logged("stopped").await;
        let (status, printed, _) = server.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(printed.is_empty(), "{printed:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn it_takes_as_many_file_descriptors_as_it_may_have() {
    let scratch = Scratch::new();
    // As a login leaves it: few, and the right to more.
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_onair")]).args(LOOPBACK);
    shell.current_dir(scratch.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.kill_on_drop(true);
    let server = Server::launch(scratch, shell).await;
    let metrics = server.get("/metrics").await;
    let most = metrics.text().lines().find_map(|line| line.strip_prefix("process_max_fds ")).unwrap().parse::<f64>();
    assert!(most.unwrap() > 256.0, "{}", metrics.text());
    server.stop().await;
}

#[tokio::test]
async fn connections_that_dawdle_do_not_hold_the_stop_up() {
    let server = Server::start(&[]).await;
    let mut idle = Vec::new();
    for head in [
        "",
        "GET / HTTP/1.1\r\n",
        "POST /whip/r/u HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\nv=0",
    ] {
        let mut stream = TcpStream::connect(server.http).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    // A response on a later connection says that the earlier ones were accepted.
    assert_eq!(server.get("/healthz").await.status, 200);
    let begun = Instant::now();
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_ffmpeg_that_hangs_at_the_start_does_not_hold_the_stop_up() {
    // It hangs at once, or at the first try to record.
    for version in ["", "test \"$1\" = -version && echo 'ffmpeg version 7.1' && exit\n"] {
        let scratch = Scratch::new();
        let began = scratch.path().join("began");
        let ffmpeg = script(&scratch, "ffmpeg", &format!("{version}echo $$ > {}\nexec sleep 100", began.display()));
        let args = ["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--ffmpeg", ffmpeg.to_str().unwrap()];
        let child = onair(&scratch, &args, &[]).spawn().unwrap();
        let sleeper = written(&began).await.trim().to_owned();
        let since = Instant::now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}: {log}", since.elapsed());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{log}");
        assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
        let status = std::fs::read_to_string(format!("/proc/{sleeper}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "the ffmpeg of a try runs on: {status}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&[]).await;
    // A request whose body never ends keeps the stop waiting for its connection.
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /whip/r/u HTTP/1.1\r\nHost: a\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(server.get("/healthz").await.status, 200);
    server.signal(Signal::SIGINT);
    server.logged("stopping").await;
    server.signal(Signal::SIGINT);
    let (status, ..) = server.ended().await;
    assert_eq!(status.code(), Some(130));
}

#[tokio::test]
async fn flag_beats_environment_beats_file() {
    let file = "http = '127.0.0.4:0'\nudp = '127.0.0.4:0'\nrecord = 'off'\n";
    for (args, variables, http, udp) in [
        (&[][..], &[][..], "127.0.0.4", "127.0.0.4"),
        (&[], &[("ONAIR_HTTP", "127.0.0.3:0")], "127.0.0.3", "127.0.0.4"),
        (&["--http", "127.0.0.2:0"], &[("ONAIR_HTTP", "127.0.0.3:0")], "127.0.0.2", "127.0.0.4"),
        (&["--http=127.0.0.2:0"], &[("ONAIR_UDP", "127.0.0.3:0")], "127.0.0.2", "127.0.0.3"),
        (&[], &[("ONAIR_HTTP", ""), ("ONAIR_PUBLIC_IP", "")], "127.0.0.4", "127.0.0.4"),
    ] {
        let scratch = Scratch::new();
        let path = scratch.write("onair.toml", file);
        // The file is named by flag or by variable.
        let mut all = args.to_vec();
        let mut environment = variables.to_vec();
        if args.is_empty() {
            environment.push(("ONAIR_CONFIG", path.to_str().unwrap()));
        } else {
            all.extend(["--config", path.to_str().unwrap()]);
        }
        let server = Server::start_with(scratch, &all, &environment).await;
        assert_eq!((server.http.ip().to_string(), server.udp.ip().to_string()), (http.to_owned(), udp.to_owned()));
        server.stop().await;
    }
}

#[tokio::test]
async fn lists_come_in_every_form() {
    let origins = ["https://a.example", "https://b.example"];
    let file = "allow-origin = ['https://a.example', 'https://b.example']";
    for (args, variables, file) in [
        (&["--allow-origin", "https://a.example", "--allow-origin", "https://b.example"][..], &[][..], ""),
        (&["--allow-origin", "https://a.example,https://b.example"], &[], ""),
        (&[], &[("ONAIR_ALLOW_ORIGIN", "https://a.example,https://b.example")], ""),
        (&[], &[], file),
    ] {
        let scratch = Scratch::new();
        let path = scratch.write("onair.toml", file);
        let all = [&LOOPBACK[..], args, &["--config", path.to_str().unwrap()]].concat();
        let server = Server::start_with(scratch, &all, variables).await;
        for origin in origins {
            let response = server.request("GET", "/api/broadcasts", &[("Origin", origin)], b"").await;
            assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{args:?} {variables:?} {file}");
        }
        let response = server.request("GET", "/api/broadcasts", &[("Origin", "https://c.example")], b"").await;
        assert_eq!(response.status, 403);
        server.stop().await;
    }
}

#[tokio::test]
async fn a_bad_value_is_one_line_that_names_it() {
    let scratch = Scratch::new();
    let file = |text: &str| scratch.write("bad.toml", text).to_str().unwrap().to_owned();
    let flags = [
        ("--http", "here"),
        ("--http", "127.0.0.1"),
        ("--udp", "127.0.0.1:65536"),
        ("--public-ip", "0.0.0.0"),
        ("--public-ip", "example.com"),
        ("--public-ip", "192.0.2.1:0"),
        ("--ice", "trickle"),
        ("--codecs", "h264,h264"),
        ("--codecs", "mp3"),
        ("--codecs", "opus"),
        ("--codecs", ","),
        ("--start-bitrate", "fast"),
        ("--start-bitrate", "2500"),
        ("--record", "some"),
        ("--record", "stage"),
        ("--record", "all,stage/*"),
        ("--record-min-free", "much"),
        ("--record-min-free", "100"),
        ("--record-max-size", "100"),
        ("--record-max-size", "0"),
        ("--record-keep", "30"),
        ("--record-keep", "0"),
        ("--record-segment", "25h"),
        ("--record-segment", "3600"),
        ("--record-keyframes", "5"),
        ("--record-audio", "mp3"),
        ("--webhook-timeout", "5"),
        ("--allow-origin", "example.com"),
        ("--allow-origin", "https://example.com/page"),
        ("--log", "onair=loud"),
        ("--log-format", "xml"),
        ("--auth", "tokens.toml"),
        ("--tls-acme", "localhost"),
        ("--tls-acme", "192.0.2.1"),
        ("--tls-acme", "*.example.org"),
        ("--tls-acme-directory", "http://authority.example"),
        ("--stun", "stun.example.org"),
        ("--stun", "turn:turn.example.org"),
        ("--turn", "turn:user:secret@turn.example.org"),
        ("--turn", "turn:turn.example.org?transport=sctp"),
        ("--turn", "turn:turn.example.org"),
        ("--turn-secret", "north"),
        ("--tls-cert", "cert.pem"),
        ("--tls-key", "key.pem"),
    ];
    for (flag, value) in flags {
        let variable = format!("ONAIR_{}", flag.trim_start_matches('-').to_uppercase().replace('-', "_"));
        let path = file(&format!("{} = '{value}'", flag.trim_start_matches('-')));
        let ways = [
            (vec![flag, value], vec![], flag.to_owned()),
            // What lacks another flag or stands in another file is named by its flag, wherever it came from.
            (vec![], vec![(variable.as_str(), value)], flag.to_owned()),
            (vec!["--config", &path], vec![], flag.to_owned()),
        ];
        for (args, variables, named) in ways {
            let (status, stdout, stderr) = run(&scratch, &args, &variables).await;
            assert_eq!((status, stdout.as_str()), (Some(2), ""), "{args:?} {variables:?}: {stderr}");
            let line = stderr.strip_prefix("onair: ").and_then(|rest| rest.strip_suffix('\n'));
            let line = line.unwrap_or_else(|| panic!("{args:?} {variables:?}: {stderr:?}"));
            assert!(!line.contains('\n') && line.contains(&named), "{args:?} {variables:?}: {stderr}");
        }
    }
    for (args, variables, content, named) in [
        (&["--nonsense"][..], &[][..], "", "--nonsense"),
        (&["stray"], &[], "", "stray"),
        (&["--http"], &[], "", "--http"),
        (&["--tls-acme", "a.example", "--tls-self-signed"], &[], "", "--tls-self-signed"),
        (&["--tls-acme", "a.example"], &[], "", "--tls-dir"),
        (&["--tls-acme", "a.example", "--tls-dir", "/proc/none"], &[], "", "/proc/none"),
        (&["--tls-self-signed", "--tls-cert", "a", "--tls-key", "b"], &[], "", "--tls-self-signed"),
        (&["--tls-cert", "absent.pem", "--tls-key", "absent.pem"], &[], "", "absent.pem"),
        (&[], &[("ONAIR_HTTP", "here")], "", "ONAIR_HTTP"),
        (&[], &[("ONAIR_TLS_SELF_SIGNED", "maybe")], "", "ONAIR_TLS_SELF_SIGNED"),
        (&["--config", "bad.toml"], &[], "check = true", "unknown key `check`"),
        (&["--config", "absent.toml"], &[], "", "absent.toml"),
        (&["--config", "bad.toml"], &[], "htpp = 'x'", "htpp"),
        (&["--config", "bad.toml"], &[], "udp = 'x'", "bad.toml"),
        (&["--config", "bad.toml"], &[], "http = = 1", "line 1"),
        (&["--config", "bad.toml"], &[], "record-dir = ['a', 'b']", "record-dir"),
    ] {
        file(content);
        let (status, stdout, stderr) = run(&scratch, args, variables).await;
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{args:?} {content}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{args:?} {content}: {stderr}");
        assert!(stderr.contains(named), "{args:?} {content}: {stderr}");
    }
}

#[tokio::test]
async fn a_check_tells_whether_it_would_start_and_starts_nothing() {
    let scratch = Scratch::new();
    let good = "http = '127.0.0.1:0'\ncodecs = ['vp8', 'h264']\ntls-self-signed = true\n";
    let path = scratch.write("good.toml", good).to_str().unwrap().to_owned();
    for (args, variables) in [
        (&["--check"][..], &[][..]),
        (&[], &[("ONAIR_CHECK", "1")]),
        (&["--check", "--config", &path], &[("XDG_STATE_HOME", scratch.path().to_str().unwrap())]),
    ] {
        let (status, stdout, stderr) = run(&scratch, args, variables).await;
        let expected = (Some(0), "the configuration is sound\n", "");
        assert_eq!((status, stdout.as_str(), stderr.as_str()), expected, "{args:?} {variables:?}");
    }
    assert!(!scratch.path().join("recordings").exists() && !scratch.path().join("onair").exists());
    let (status, stdout, stderr) = run(&scratch, &["--check", "--codecs", "mp3"], &[]).await;
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("--codecs") && stderr.lines().count() == 1, "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_the_way_out() {
    let scratch = Scratch::new();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let (status, stdout, stderr) = run(&scratch, &["--http", &address, "--udp", "127.0.0.1:0"], &[]).await;
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    let expected = format!(
        "onair: cannot listen on {address} (http): address in use: stop the other program or choose another with --http\n"
    );
    assert_eq!(stderr, expected);

    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = udp.local_addr().unwrap().to_string();
    let (status, stdout, stderr) = run(&scratch, &["--http", "127.0.0.1:0", "--udp", &address], &[]).await;
    assert_eq!((status, stdout.as_str()), (Some(1), ""));
    assert!(stderr.ends_with("address in use: stop the other program or choose another with --udp\n"), "{stderr}");

    let (status, _, stderr) = run(&scratch, &["--http", "192.0.2.1:0", "--udp", "127.0.0.1:0"], &[]).await;
    assert_eq!(status, Some(1));
    assert!(stderr.contains("this machine has no such address"), "{stderr}");
}

#[tokio::test]
async fn help_names_every_flag_and_variable() {
    let scratch = Scratch::new();
    let (status, help, stderr) = run(&scratch, &["--help"], &[]).await;
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    for flag in [
        "config",
        "http",
        "udp",
        "public-ip",
        "ice",
        "codecs",
        "start-bitrate",
        "record",
        "record-dir",
        "record-min-free",
        "record-segment",
        "record-keyframes",
        "record-audio",
        "on-recording",
        "ffmpeg",
        "tls-cert",
        "tls-key",
        "tls-self-signed",
        "tls-acme",
        "tls-acme-email",
        "tls-acme-directory",
        "tls-acme-ca",
        "tls-dir",
        "check",
        "auth",
        "allow-origin",
        "log",
        "log-format",
    ] {
        let variable = format!("[env: ONAIR_{}]", flag.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{flag}")) && help.contains(&variable), "{flag}");
    }
    let (status, version, _) = run(&scratch, &["--version"], &[]).await;
    assert_eq!((status, version), (Some(0), format!("onair {}\n", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn only_a_server_open_to_others_warns_and_only_once() {
    let warnings =
        |log: &[String]| log.iter().filter(|line| line.contains("WARN") && line.contains("everyone")).count();
    let log = Server::start(&[]).await.stop().await;
    assert_eq!(warnings(&log), 0, "{log:?}");
    let args = ["--http", "0.0.0.0:0", "--udp", "127.0.0.1:0", "--record", "off"];
    let log = Server::start_with(Scratch::new(), &args, &[]).await.stop().await;
    assert_eq!(warnings(&log), 1, "{log:?}");
}

#[tokio::test]
async fn the_log_takes_its_form_and_filter() {
    let log = Server::start(&["--log-format", "json"]).await.stop().await;
    assert!(!log.is_empty());
    for line in &log {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
    let log = Server::start(&["--log", "error"]).await.stop().await;
    assert!(log.is_empty(), "{log:?}");
}
