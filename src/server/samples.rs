//! What the rooms count, as the samples of `/metrics`.
//!
//! **Invariant:** names follow the conventions of Prometheus: base units, and what only rises is a counter.

use crate::http::metrics::Sample;
use crate::http::tls::Tls;
use crate::net::metrics::NetMetrics;
use crate::net::thread_time::ThreadTime;
use crate::record::{DiskState, RecorderMetrics};

/// What happened on the sockets, and the time of the thread that all media goes through.
///
/// Causes of dropped datagrams: `send-video`, `send-audio` and `send-control`, because the kernel took no more;
/// `receive-buffer`, in the kernel, because we did not take them in time; `oversized`, longer than any that is sent;
/// `handshake`, because too many waited; `tcp`, because a connection was gone or did not take them in time.
pub fn net_samples(net: &NetMetrics) -> Vec<Sample> {
    let mut samples = vec![
        Sample::counter("onair_udp_received_datagrams", "Datagrams received", net.datagrams_received.get()),
        Sample::counter("onair_udp_received_bytes", "Bytes of the datagrams received", net.bytes_received.get()),
        Sample::counter("onair_udp_receive_calls", "System calls that received datagrams", net.receive_calls.get()),
        Sample::counter("onair_udp_sent_datagrams", "Datagrams sent", net.datagrams_sent.get()),
        Sample::counter(
            "onair_udp_sent_messages",
            "Messages that the datagrams sent left in: a run, which the kernel cuts into datagrams, is one",
            net.messages_sent.get(),
        ),
        Sample::counter("onair_udp_send_calls", "System calls that sent datagrams", net.send_calls.get()),
        Sample::gauge(
            "onair_udp_segmentation",
            "Whether the kernel cuts runs into datagrams (UDP GSO)",
            u64::from(net.segments_given_up.get() == 0),
        ),
        Sample::counter("onair_udp_send_errors", "Datagrams that the kernel refused", net.send_errors.get()),
        Sample::counter("onair_udp_send_blocked", "Times the kernel's send buffer was full", net.send_blocked.get()),
        Sample::counters("onair_dropped_datagrams", "Datagrams dropped, by cause", "cause", net.dropped()),
        Sample::gauge("onair_tcp_connections", "TCP connections for media", net.tcp_connections.get()),
        Sample::counter("onair_tcp_accepted", "TCP connections for media accepted", net.tcp_accepted.get()),
        Sample::counter(
            "onair_tcp_refused",
            "TCP connections for media refused because there were too many, of all or of one address",
            net.tcp_refused.get(),
        ),
        Sample::counter("onair_tcp_received_datagrams", "Datagrams received by TCP", net.tcp_datagrams_received.get()),
        Sample::counter("onair_tcp_received_bytes", "Bytes received by TCP", net.tcp_bytes_received.get()),
        Sample::counter("onair_tcp_sent_datagrams", "Datagrams sent by TCP", net.tcp_datagrams_sent.get()),
        Sample::histogram(
            "onair_forwarding_seconds",
            "From reading an RTP packet from the socket to handing it to the kernel, for each viewer it is forwarded to",
            &net.forwarding.get(),
        ),
    ];
    if let Some(times) = net.thread.get().and_then(ThreadTime::read) {
        samples.push(Sample::seconds(
            "onair_hub_cpu_seconds",
            "CPU time of the one thread that all media goes through",
            times.ran,
        ));
        samples.push(Sample::seconds(
            "onair_hub_waited_seconds",
            "Time for which that thread was ready to run, and others ran",
            times.waited,
        ));
    }
    samples
}

/// What the recorder has done, and what it still can.
pub fn recorder_samples(recorder: &RecorderMetrics) -> Vec<Sample> {
    vec![
        Sample::counter("onair_recordings_started", "Recordings begun", recorder.started),
        Sample::counter("onair_recordings_finished", "Recordings completed", recorder.finished),
        Sample::counter("onair_recordings_failed", "Recordings that failed", recorder.failed),
        Sample::gauge("onair_recordings_running", "Recordings being written", recorder.running),
        Sample::gauge(
            "onair_recordings_finishing",
            "Recordings whose ffmpeg has ended and whose file is being completed",
            recorder.finishing,
        ),
        Sample::gauge("onair_recording_free_bytes", "Free space where recordings go", recorder.free_bytes),
        Sample::gauge(
            "onair_recording_min_free_bytes",
            "Free space below which nothing is recorded",
            recorder.min_free_bytes,
        ),
        Sample::counter("onair_recording_packets", "Packets recorded", recorder.packets),
        Sample::counter(
            "onair_recording_dropped_packets",
            "Packets that are in no recording",
            recorder.packets_dropped,
        ),
        removed_sample(recorder),
        Sample::counter("onair_recording_commands", "Finished files that --on-recording has taken", recorder.handovers),
        Sample::counter(
            "onair_recording_commands_failed",
            "Runs of --on-recording that failed, and are repeated",
            recorder.handovers_failed,
        ),
        Sample::gauge(
            "onair_recording_disk_ready",
            "Whether recordings can be written",
            u64::from(recorder.disk_state == DiskState::READY),
        ),
        Sample::gauges(
            "onair_recording_disk_state",
            "The state of the recordings' disk: 1 for the one that holds",
            "state",
            DiskState::NAMES.map(|name| (name, u64::from(recorder.disk_state == name))),
        ),
    ]
}

/// What retention has removed, which it does without a recorder too.
pub fn removed_sample(recorder: &RecorderMetrics) -> Sample {
    Sample::counter(
        "onair_recordings_removed",
        "Recordings removed because they were not to be kept any longer",
        recorder.removed,
    )
}

/// The certificate's time.
pub fn tls_sample(tls: &Tls) -> Sample {
    let expires = u64::try_from(tls.expires().unix_timestamp()).unwrap_or(0);
    Sample::gauge("onair_tls_certificate_expires_seconds", "When the certificate expires, in Unix time", expires)
}
