//! The web page and its files, health, metrics, and the errors between them.

use super::live::Server;

#[tokio::test]
async fn the_page_and_its_files_come_with_types_tags_and_guards() {
    let server = Server::start(&[]).await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.text().starts_with("<!doctype html>"));
    assert_eq!(server.get("/index.html").await.body, page.body);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let asset = server.get(path).await;
        assert_eq!((asset.status, asset.header("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(asset.header("cache-control"), Some("no-cache"), "{path}");
        assert_eq!(asset.header("x-content-type-options"), Some("nosniff"), "{path}");
        let policy = asset.header("content-security-policy").unwrap();
        for directive in ["default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(directive), "{directive} in {policy}");
        }
        assert!(asset.header("permissions-policy").unwrap().contains("camera=(self)"));

        let tag = asset.header("etag").unwrap();
        let again = server.request("GET", path, &[("If-None-Match", tag)], b"").await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{path}");
        let other = server.request("GET", path, &[("If-None-Match", "\"other\"")], b"").await;
        assert_eq!((other.status, &other.body), (200, &asset.body), "{path}");
        let head = server.request("HEAD", path, &[], b"").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(asset.body.len().to_string().as_str()), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_error_is_a_problem() {
    let server = Server::start(&[]).await;
    for path in ["/nothing", "/web/index.html", "/../Cargo.toml", "/api/nothing", "/whip/r", "/recordings/r/u", "//"] {
        server.get(path).await.problem(404);
    }
    for (method, path, allow) in [
        ("POST", "/", "GET"),
        ("DELETE", "/app.js", "GET"),
        ("POST", "/api/broadcasts", "GET"),
        ("PUT", "/healthz", "GET"),
        ("POST", "/metrics", "GET"),
        ("POST", "/ws", "GET"),
        ("PUT", "/whip/r/u", "POST"),
        ("PUT", "/whep/r/u", "POST"),
        ("PUT", "/whip/r/u/0123456789abcdef0123456789abcdef", "DELETE"),
    ] {
        let refused = server.request(method, path, &[], b"").await;
        refused.problem(405);
        assert!(refused.header("allow").is_some_and(|allowed| allowed.contains(allow)), "{method} {path}: {refused:?}");
    }
    let long = server.request("GET", "/", &[("X-Long", &"x".repeat(64 * 1024))], b"").await;
    assert_eq!(long.status, 431);
    server.stop().await;
}

#[tokio::test]
async fn it_is_healthy_and_nothing_is_live() {
    let server = Server::start(&[]).await;
    let health = server.get("/healthz").await;
    assert_eq!((health.status, health.text()), (200, "ok\n"));
    let broadcasts = server.get("/api/broadcasts").await;
    assert_eq!((broadcasts.status, broadcasts.header("content-type")), (200, Some("application/json")));
    assert_eq!(broadcasts.header("cache-control"), Some("no-store"));
    assert_eq!(broadcasts.json(), serde_json::json!([]));
    server.stop().await;
}

/// The samples of a metrics page, after every line was checked: `name{labels}` → value.
fn samples(text: &str) -> std::collections::BTreeMap<String, f64> {
    let mut declared = std::collections::BTreeMap::new();
    let mut samples = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(declaration) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declaration.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(declared.insert(name, kind).is_none(), "declared twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            assert!(name.starts_with("onair_") || name.starts_with("process_"), "{line}");
            let of_histogram = ["_sum", "_count", "_bucket"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let histogram = of_histogram.filter(|family| declared.get(family) == Some(&"histogram"));
            let counter = name.strip_suffix("_total").filter(|family| declared.contains_key(family));
            assert!(declared.contains_key(histogram.or(counter).unwrap_or(name)), "not declared: {line}");
            assert!(samples.insert(series.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    samples
}

#[tokio::test]
async fn metrics_parse_in_both_formats_and_count() {
    let server = Server::start(&[]).await;
    server.get("/nothing").await.problem(404);
    let page = server.get("/metrics").await;
    assert_eq!(page.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(page.text().contains("# TYPE onair_http_responses_total counter\n"));
    let before = samples(page.text());
    assert_eq!(before["onair_http_responses_total{status=\"404\"}"], 1.0);
    assert_eq!(before["onair_up"], 1.0);
    for name in
        ["onair_broadcasts", "onair_viewers", "onair_rtp_received_packets_total", "onair_udp_sent_datagrams_total"]
    {
        assert_eq!(before[name], 0.0, "{name}");
    }
    for name in ["viewer_loss_ratio", "viewer_jitter_seconds", "viewer_round_trip_seconds", "forwarding_seconds"] {
        assert_eq!(before[&format!("onair_{name}_count")], 0.0, "{name}");
        assert_eq!(before[&format!("onair_{name}_bucket{{le=\"+Inf\"}}")], 0.0, "{name}");
    }
    for cause in ["send-video", "send-audio", "send-control", "oversized", "handshake", "tcp", "receive-buffer"] {
        assert_eq!(before[&format!("onair_dropped_datagrams_total{{cause=\"{cause}\"}}")], 0.0, "{cause}");
    }
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "onair_hub_cpu_seconds_total"] {
        assert!(before[name] > 0.0, "{name}");
    }
    server.get("/nothing").await.problem(404);
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let open = server.request("GET", "/metrics", &[("Accept", accept)], b"").await;
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text().ends_with("# EOF\n"));
    assert_eq!(samples(open.text())["onair_http_responses_total{status=\"404\"}"], 2.0);
    server.stop().await;
}
