//! Counters of the doors, and the Prometheus text that tells them with everyone else's.
//!
//! **Invariant:** label values come from fixed sets, so that no client can make the series grow.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

pub use super::sample::{Sample, Value};
use super::webhook::WebhookMetrics;
use crate::hub::io::HubMetrics;

/// Asked at each scrape; must not wait.
pub type Source = Arc<dyn Fn() -> Vec<Sample> + Send + Sync>;

/// With which the server closes a WebSocket.
const CLOSE_CODES: [u16; 5] = [1001, 1003, 1008, 1009, 1013];

type Labels = [(&'static str, String); 1];

/// What the doors count.
pub struct HttpMetrics {
    registry: Registry,
    connections: Gauge,
    connections_refused: Counter,
    handshakes: Family<Labels, Counter>,
    responses: Family<Labels, Counter>,
    event_streams: Gauge,
    event_streams_cut: Counter,
    websockets: Gauge,
    websocket_messages: Family<Labels, Counter>,
    websocket_closes: Family<Labels, Counter>,
    unauthorized: Counter,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self::new(&WebhookMetrics::default())
    }
}

impl HttpMetrics {
    /// Shows those of the webhook among its own.
    #[must_use]
    pub fn new(webhook: &WebhookMetrics) -> Self {
        let metrics = Self {
            registry: Registry::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            handshakes: Family::default(),
            responses: Family::default(),
            event_streams: Gauge::default(),
            event_streams_cut: Counter::default(),
            websockets: Gauge::default(),
            websocket_messages: Family::default(),
            websocket_closes: Family::default(),
            unauthorized: Counter::default(),
        };
        let mut registry = Registry::default();
        let build = Family::<Labels, Gauge>::default();
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        registry.register("onair_build_info", "The version that runs", build);
        registry.register("onair_http_connections", "Open TCP connections", metrics.connections.clone());
        registry.register(
            "onair_http_connections_refused",
            "TCP connections refused at a cap",
            metrics.connections_refused.clone(),
        );
        registry.register("onair_tls_handshakes", "TLS handshakes by how they ended", metrics.handshakes.clone());
        registry.register("onair_http_responses", "Responses by status", metrics.responses.clone());
        registry.register("onair_event_streams", "Open streams of events", metrics.event_streams.clone());
        registry.register(
            "onair_event_streams_cut",
            "Streams of events ended because their listener did not keep up",
            metrics.event_streams_cut.clone(),
        );
        registry.register("onair_websockets", "Open WebSockets", metrics.websockets.clone());
        registry.register(
            "onair_websocket_messages",
            "WebSocket messages by direction",
            metrics.websocket_messages.clone(),
        );
        registry.register(
            "onair_websocket_closes",
            "WebSockets closed by the server, by close code",
            metrics.websocket_closes.clone(),
        );
        registry.register(
            "onair_unauthorized",
            "Requests with a token that is not known here, and messages refused as unauthorized",
            metrics.unauthorized.clone(),
        );
        // A series that begins with its first event hides that event from `rate`.
        webhook.register(&mut registry);
        for direction in [Direction::In, Direction::Out] {
            drop(metrics.websocket_messages.get_or_create(&direction.labels()));
        }
        for outcome in [Handshake::Done, Handshake::Failed, Handshake::TimedOut, Handshake::Plaintext] {
            drop(metrics.handshakes.get_or_create(&outcome.labels()));
        }
        for code in CLOSE_CODES {
            drop(metrics.websocket_closes.get_or_create(&[("code", code.to_string())]));
        }
        Self { registry, ..metrics }
    }
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy)]
pub enum Handshake {
    /// With a connection.
    Done,
    /// With an error, or the client hung up.
    Failed,
    /// Not in time.
    TimedOut,
    /// The client did not speak TLS.
    Plaintext,
}

impl Handshake {
    fn labels(self) -> Labels {
        let outcome = match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Plaintext => "plaintext",
        };
        [("outcome", outcome.to_owned())]
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy)]
pub enum Direction {
    /// From a client.
    In,
    /// To a client.
    Out,
}

impl Direction {
    fn labels(self) -> Labels {
        let direction = match self {
            Direction::In => "in",
            Direction::Out => "out",
        };
        [("direction", direction.to_owned())]
    }
}

/// Counts itself in a gauge for as long as it lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn counted(gauge: &Gauge) -> Counted {
    gauge.inc();
    Counted(gauge.clone())
}

impl HttpMetrics {
    /// A connection is open for as long as the returned value lives.
    #[must_use]
    pub fn connection(&self) -> Counted {
        counted(&self.connections)
    }

    /// A connection was refused at a cap.
    pub fn connection_refused(&self) {
        self.connections_refused.inc();
    }

    /// A TLS handshake has ended.
    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes.get_or_create(&outcome.labels()).inc();
    }

    /// A response was given.
    pub fn response(&self, status: u16) {
        self.responses.get_or_create(&[("status", status.to_string())]).inc();
    }

    /// A stream of events is open for as long as the returned value lives.
    #[must_use]
    pub fn event_stream(&self) -> Counted {
        counted(&self.event_streams)
    }

    /// A stream of events was ended, for its listener did not keep up.
    pub fn event_stream_cut(&self) {
        self.event_streams_cut.inc();
    }

    /// A WebSocket is open for as long as the returned value lives.
    #[must_use]
    pub fn websocket(&self) -> Counted {
        counted(&self.websockets)
    }

    /// A message passed a WebSocket.
    pub fn websocket_message(&self, direction: Direction) {
        self.websocket_messages.get_or_create(&direction.labels()).inc();
    }

    /// A token was not known, or did not do.
    pub fn unauthorized(&self) {
        self.unauthorized.inc();
    }

    /// The server closed a WebSocket.
    pub fn websocket_close(&self, code: u16) {
        self.websocket_closes.get_or_create(&[("code", code.to_string())]).inc();
    }

    /// Everything as OpenMetrics text.
    ///
    /// # Errors
    ///
    /// None in practice: a `String` takes everything.
    pub fn open_metrics(&self, samples: Vec<Sample>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        for Sample { name, help, value } in samples {
            match value {
                Value::Counter(value) => {
                    let counter = Counter::<u64>::default();
                    counter.inc_by(value);
                    registry.register(name, help, counter);
                }
                Value::CounterOf(value) => {
                    let counter = Counter::<f64, AtomicU64>::default();
                    counter.inc_by(value);
                    registry.register(name, help, counter);
                }
                Value::Counters(label, values) => {
                    let family = Family::<[(&str, &str); 1], Counter>::default();
                    for (value, count) in values {
                        family.get_or_create(&[(label, value)]).inc_by(count);
                    }
                    registry.register(name, help, family);
                }
                Value::Gauge(value) => {
                    let gauge = Gauge::<f64, AtomicU64>::default();
                    gauge.set(value);
                    registry.register(name, help, gauge);
                }
                Value::Gauges(label, values) => {
                    let family = Family::<[(&str, &str); 1], Gauge<u64, AtomicU64>>::default();
                    for (value, level) in values {
                        family.get_or_create(&[(label, value)]).set(level);
                    }
                    registry.register(name, help, family);
                }
                Value::Histogram(buckets) => registry.register(name, help, buckets),
            }
        }
        let mut out = String::new();
        text::encode_registry(&mut out, &self.registry)?;
        text::encode_registry(&mut out, &registry)?;
        text::encode_eof(&mut out)?;
        Ok(out)
    }
}

/// The hub's counters as samples.
#[must_use]
pub fn hub_samples(metrics: &HubMetrics) -> Vec<Sample> {
    vec![
        Sample::gauge("onair_broadcasts", "Live broadcasts", metrics.broadcasts),
        Sample::gauge("onair_sessions", "Sessions attached by every door", metrics.sessions),
        Sample::gauge("onair_viewers", "Connected viewers", metrics.viewers),
        Sample::gauge("onair_peers", "Peer connections, connected or not", metrics.peers),
        Sample::counter("onair_rtp_received_packets", "RTP packets from broadcasters", metrics.rtp_packets_in),
        Sample::counter("onair_rtp_received_bytes", "RTP payload bytes from broadcasters", metrics.rtp_bytes_in),
        Sample::counter(
            "onair_rtp_skipped_packets",
            "RTP packets of broadcasters that had not come when a later one did; those that come late are lost no longer",
            metrics.rtp_packets_skipped,
        ),
        Sample::counter(
            "onair_rtp_late_packets",
            "RTP packets of broadcasters that came after a later one: overtaken, or sent again",
            metrics.rtp_packets_late,
        ),
        Sample::counter("onair_rtp_sent_packets", "RTP packets to viewers", metrics.rtp_packets_out),
        Sample::counter("onair_rtp_sent_bytes", "RTP payload bytes to viewers", metrics.rtp_bytes_out),
        Sample::counter("onair_rtx_sent_packets", "RTP packets sent again to viewers", metrics.rtx_packets_out),
        Sample::counter("onair_nack_received", "NACKs from viewers", metrics.nacks_received),
        Sample::counter(
            "onair_repair_missed_packets",
            "Packets asked for again and not at hand",
            metrics.repairs_missed,
        ),
        Sample::counter("onair_repair_capped", "NACKs beyond their viewer's share", metrics.repairs_capped),
        Sample::counter("onair_sender_reports_sent", "RTCP sender reports to viewers", metrics.sender_reports_out),
        Sample::counter("onair_rtcp_received", "RTCP compounds from viewers", metrics.rtcp_in),
        Sample::counter(
            "onair_rtcp_refused",
            "Datagrams from viewers that are no RTCP of theirs",
            metrics.rtcp_refused,
        ),
        Sample::counter("onair_pli_sent", "Keyframe requests to broadcasters", metrics.pli_sent),
        Sample::counter("onair_pli_received", "Keyframe requests from viewers", metrics.pli_received),
        Sample::counter(
            "onair_kept_starts",
            "Times that a viewer's video began with a keyframe of the past, because the broadcaster ignores requests",
            metrics.kept_starts,
        ),
        Sample::counter("onair_datagrams_unknown", "Datagrams that belong to no peer", metrics.datagrams_unknown),
        Sample::counter("onair_refusals", "Commands refused with an error", metrics.refusals),
        Sample::counter("onair_peer_timeouts", "Peers ended by silence or a missed deadline", metrics.timeouts),
        Sample::counter("onair_peer_panics", "Peers ended by a panic inside them", metrics.panics),
        Sample::histogram(
            "onair_viewer_loss_ratio",
            "Share of a track's packets that a viewer still missed between two of its reports",
            &metrics.loss,
        ),
        Sample::histogram(
            "onair_viewer_jitter_seconds",
            "Interarrival jitter that viewers report of a track",
            &metrics.jitter,
        ),
        Sample::histogram(
            "onair_viewer_round_trip_seconds",
            "Round-trip times measured by the reports of viewers",
            &metrics.round_trip,
        ),
    ]
}

/// OpenMetrics text as the older Prometheus text format 0.0.4, where a counter is declared under its full name and
/// neither units nor an end are written.
#[must_use]
pub fn prometheus_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        let declares_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        let is_counter = declares_counter(line)
            || (line.starts_with("# HELP ") && lines.peek().is_some_and(|next| declares_counter(next)));
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(keyword), Some(name), Some(rest)) if is_counter => {
                out.push_str(&format!("# {keyword} {name}_total {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::histogram::{Histogram, Loss};
    use std::time::Duration;

    #[test]
    fn both_formats_tell_the_same() {
        let metrics = HttpMetrics::default();
        metrics.response(200);
        let open = metrics
            .open_metrics(vec![
                Sample::counter("onair_a", "What a is", 7),
                Sample::gauge("onair_b", "What b is", 3),
                Sample::counters("onair_c", "What c is", "cause", vec![("one", 1), ("two", 2)]),
                Sample::seconds("onair_d_seconds", "What d is", Duration::from_millis(1_500)),
            ])
            .unwrap();
        assert!(open.contains("# TYPE onair_a counter\nonair_a_total 7\n"), "{open}");
        assert!(open.ends_with("# EOF\n"));
        let text = prometheus_text(&open);
        for lines in [
            "# HELP onair_a_total What a is.\n# TYPE onair_a_total counter\nonair_a_total 7\n",
            "# TYPE onair_b gauge\nonair_b 3.0\n",
            "# TYPE onair_c_total counter\n",
            "onair_c_total{cause=\"two\"} 2\n",
            "# TYPE onair_d_seconds_total counter\nonair_d_seconds_total 1.5\n",
            "onair_http_responses_total{status=\"200\"} 1\n",
            &format!("onair_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION")),
        ] {
            assert!(text.contains(lines), "{lines} in {text}");
        }
        assert!(!text.contains("EOF"));
    }

    #[test]
    fn a_histogram_is_told_by_cumulative_buckets() {
        let mut loss = Histogram::<Loss>::default();
        for value in [0, 0, 26, 200] {
            loss.observe(value);
        }
        let open = HttpMetrics::default().open_metrics(vec![Sample::histogram("onair_loss", "What is lost", &loss)]);
        let text = prometheus_text(&open.unwrap());
        for lines in [
            "# TYPE onair_loss histogram\nonair_loss_sum 0.8828125\nonair_loss_count 4\n",
            "onair_loss_bucket{le=\"0.0\"} 2\n",
            "onair_loss_bucket{le=\"0.1015625\"} 3\n",
            "onair_loss_bucket{le=\"+Inf\"} 4\n",
        ] {
            assert!(text.contains(lines), "{lines} in {text}");
        }
    }

    #[test]
    fn what_is_counted_for_its_life_is_uncounted_after() {
        let metrics = HttpMetrics::default();
        let open = metrics.websocket();
        assert_eq!(metrics.websockets.get(), 1);
        drop(open);
        assert_eq!(metrics.websockets.get(), 0);
    }
}
