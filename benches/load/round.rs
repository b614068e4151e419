//! One round: the server for a while and then, if asked, the bare sender for as long.
//!
//! **Invariant:** a round begins and ends in silence, with nothing under way, so that what was sent, what the server counted
//! and what arrived can be held against each other to the last packet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cipher::seal_us;
use super::cores::Cores;
use super::crowd::Crowd;
use super::drops::drops;
use super::floor::{Floor, FloorUsage, thread_cpu};
use super::plan::Plan;
use super::schedule::Schedule;
use super::server::{Server, Usage};

/// How long everything under way may take to arrive.
const SILENCE: Duration = Duration::from_millis(250);

/// Everything that counts up, at one moment.
struct Reading {
    at: Instant,
    metrics: BTreeMap<String, f64>,
    load_cpu: Duration,
    sent: u64,
    video_bytes: u64,
    arrived: Vec<[u64; 2]>,
    arrived_bytes: [u64; 2],
    own_drops: u64,
    server_drops: u64,
}

impl Reading {
    fn take(crowd: &Crowd, server: &Server) -> Self {
        let metrics = server.metrics();
        let ports: BTreeSet<u16> = addresses(crowd).iter().map(SocketAddr::port).collect();
        let arrived_bytes = |track: usize| crowd.viewers.iter().map(|viewer| viewer.tracks[track].bytes).sum();
        Self {
            own_drops: drops(&ports),
            server_drops: drops(&BTreeSet::from([server.udp.port()])),
            sent: crowd.publisher.as_ref().map_or(0, |publisher| publisher.sent),
            video_bytes: crowd.publisher.as_ref().map_or(0, |publisher| publisher.video_bytes),
            arrived: crowd.viewers.iter().map(|viewer| viewer.tracks.map(|track| track.packets)).collect(),
            arrived_bytes: [arrived_bytes(0), arrived_bytes(1)],
            load_cpu: thread_cpu(),
            at: Instant::now(),
            metrics,
        }
    }

    /// How much a counter of the server rose; `None` where it has none of that name.
    fn rise(&self, before: &Self, name: &str) -> Option<f64> {
        Some(self.metrics.get(name)? - before.metrics.get(name)?)
    }
}

/// What a round is told on, besides itself.
pub struct Setting {
    /// What was asked for.
    pub plan: Plan,
    /// Who runs where.
    pub cores: Cores,
    /// How long it took until all viewers had what they came for.
    pub connect: Duration,
    /// The server's memory with one viewer.
    pub memory_of_one_kib: u64,
}

/// What a round has shown.
pub struct Round {
    /// As it is printed.
    pub json: Value,
    /// Whether the load kept up, so that the figures are the server's.
    pub is_valid: bool,
}

/// Measures one round.
pub fn measure(crowd: &mut Crowd, server: &Server, setting: &Setting) -> Round {
    let Setting { plan, cores, .. } = setting;
    let schedule = || Schedule::new(plan.bitrate_bps, plan.shape);
    crowd.pause();
    crowd.run_for(SILENCE);
    forget_samples(crowd);
    let before = Reading::take(crowd, server);
    let usage_before = server.usage();
    crowd.resume(schedule());
    crowd.run_for(Duration::from_secs(plan.seconds));
    crowd.pause();
    let busy_until = Instant::now();
    crowd.run_for(SILENCE);
    let usage = server.usage().since(usage_before);
    let after = Reading::take(crowd, server);
    let mut json = figures(crowd, &before, &after, usage, busy_until - before.at);
    let own_drops = after.own_drops - before.own_drops;
    let load_busy_percent = percent(after.load_cpu - before.load_cpu, after.at - before.at);
    let bursts = crowd.publisher.as_ref().map_or(0, |publisher| publisher.lateness.len());
    let late_ms = quantile(crowd.publisher.iter_mut().flat_map(|it| it.lateness.drain(..)).collect(), 0.99);
    let undecrypted = undecrypted(crowd, &before);
    json["viewers"] = json!(crowd.viewers.len());
    json["seconds"] = json!(plan.seconds);
    json["packets_per_burst"] = rounded((after.sent - before.sent) as f64 / bursts as f64);
    json["memory_per_viewer_kib"] = memory_per_viewer_kib(crowd, server, setting);
    json["connect_s"] = rounded(setting.connect.as_secs_f64());
    json["drained"] = json!(own_drops == 0);
    json["load"] = json!({
        "drops": own_drops, "busy_percent": rounded(load_busy_percent), "burst_late_ms_p99": late_ms.map(rounded),
        "undecrypted": undecrypted,
    });
    json["machine"] = cores.machine();
    if plan.has_floor {
        let datagrams_bytes = json["datagram_bytes"].as_array().map(|sizes| sizes.iter().filter_map(Value::as_f64));
        let datagrams_bytes: Vec<usize> = datagrams_bytes.into_iter().flatten().map(|size| size as usize).collect();
        let (usage, seal_us, delivered) = bare(crowd, *cores, plan, [datagrams_bytes[0], datagrams_bytes[1]]);
        let floor_us = usage.cpu.as_secs_f64() * 1e6 / usage.packets as f64;
        let cost_us = json["cpu_us_per_packet"]["total"].as_f64().unwrap_or(f64::NAN);
        json["floor_us_per_packet"] = rounded(floor_us);
        json["floor_delivered_ratio"] = json!(delivered);
        json["cipher_us_per_packet"] = json!({"aes_128_gcm": rounded(seal_us[0]), "aes_256_gcm": rounded(seal_us[1])});
        json["ratio"] = rounded(cost_us / (floor_us + seal_us[1]));
    }
    if own_drops > 0 {
        eprintln!("INVALID: the load itself lost {own_drops} datagrams: its sockets were full");
    }
    if undecrypted > 0 {
        eprintln!("INVALID: {undecrypted} packets of sampled viewers were not decrypted");
    }
    Round { json, is_valid: own_drops == 0 && undecrypted == 0 }
}

/// The server's figures between two readings, between which its broadcaster sent for `window`.
fn figures(crowd: &Crowd, before: &Reading, after: &Reading, usage: Usage, window: Duration) -> Value {
    let sent = after.sent - before.sent;
    let arrived = |track: usize| -> u64 {
        after.arrived.iter().zip(&before.arrived).map(|(after, before)| after[track] - before[track]).sum()
    };
    let (sounds, pictures) = (arrived(0), arrived(1));
    let expected = sent * crowd.viewers.len() as u64;
    // Without the server's own count, what arrived must do.
    let packets_out = after.rise(before, "onair_rtp_sent_packets_total").unwrap_or((sounds + pictures) as f64);
    let calls = after.rise(before, "onair_udp_send_calls_total");
    let datagrams_out = after.rise(before, "onair_udp_sent_datagrams_total");
    let messages = after.rise(before, "onair_udp_sent_messages_total");
    let cost_us = usage.cpu.as_secs_f64() * 1e6 / packets_out;
    let datagram_bytes = |track: usize, packets: u64| {
        (after.arrived_bytes[track] - before.arrived_bytes[track]).checked_div(packets).unwrap_or(0)
    };
    let sampled = crowd.viewers.iter().filter(|viewer| viewer.is_sampled);
    let delays: Vec<Duration> = sampled.flat_map(|viewer| viewer.delays.iter().copied()).collect();
    json!({
        "packets_out": packets_out,
        "packets_per_second": rounded(packets_out / window.as_secs_f64()),
        "video_bps": rounded((after.video_bytes - before.video_bytes) as f64 * 8.0 / window.as_secs_f64()),
        "datagram_bytes": [datagram_bytes(0, sounds), datagram_bytes(1, pictures)],
        "cpu_us_per_packet": {
            "user": rounded(cost_us * usage.user_share()),
            "system": rounded(cost_us * (1.0 - usage.user_share())),
            "total": rounded(cost_us),
        },
        "cpu_percent": rounded(percent(usage.cpu, window)),
        "cpu_waited_percent": rounded(percent(usage.waited, window)),
        "packets_per_syscall": calls.map(|calls| rounded(packets_out / calls)),
        "packets_per_message": messages.and_then(|messages| Some(rounded(datagrams_out? / messages))),
        "delivered_ratio": (sounds + pictures) as f64 / expected as f64,
        "arrived_of_packets_out": (sounds + pictures) as f64 / packets_out,
        "delay_ms": {
            "p50": quantile(delays.clone(), 0.5).map(rounded),
            "p99": quantile(delays.clone(), 0.99).map(rounded),
            "max": quantile(delays, 1.0).map(rounded),
        },
        "server_drops": after.server_drops - before.server_drops,
    })
}

/// What the bare sender and the bare cipher cost on the server's core, and which share of the packets arrived.
fn bare(crowd: &mut Crowd, cores: Cores, plan: &Plan, datagrams_bytes: [usize; 2]) -> (FloorUsage, [f64; 2], f64) {
    let destinations = addresses(crowd);
    let (schedule, time) = (Schedule::new(plan.bitrate_bps, plan.shape), Duration::from_secs(plan.seconds));
    let sender = thread::spawn(move || {
        Cores::bind_to(cores.server);
        let usage = Floor::new(&destinations, datagrams_bytes).send_for(schedule, time);
        (usage, seal_us(datagrams_bytes[1]))
    });
    let arrived = |crowd: &Crowd| crowd.viewers.iter().map(|viewer| viewer.floor_packets).sum::<u64>();
    let before = arrived(crowd);
    crowd.run_while(|_| !sender.is_finished());
    crowd.run_for(SILENCE);
    let (usage, seal_us) = sender.join().expect("the bare sender does not fail");
    (usage, seal_us, (arrived(crowd) - before) as f64 / usage.packets as f64)
}

/// Viewers in an empty room: what they cost.
pub fn measure_idle(crowd: &mut Crowd, server: &Server, setting: &Setting) -> Round {
    let before = Reading::take(crowd, server);
    let usage_before = server.usage();
    crowd.run_for(Duration::from_secs(setting.plan.seconds));
    let usage = server.usage().since(usage_before);
    let after = Reading::take(crowd, server);
    let window = after.at - before.at;
    let json = json!({
        "viewers": crowd.viewers.len(),
        "seconds": setting.plan.seconds,
        "idle_cpu_percent": rounded(percent(usage.cpu, window)),
        "datagrams_in_per_second":
            after.rise(&before, "onair_udp_received_datagrams_total").map(|it| rounded(it / window.as_secs_f64())),
        "memory_per_viewer_kib": memory_per_viewer_kib(crowd, server, setting),
        "connect_s": rounded(setting.connect.as_secs_f64()),
        "machine": setting.cores.machine(),
    });
    Round { json, is_valid: true }
}

/// What a viewer adds to the server's memory; one alone has nothing to be held against.
fn memory_per_viewer_kib(crowd: &Crowd, server: &Server, setting: &Setting) -> Value {
    let others = (crowd.viewers.len() - 1) as f64;
    let added_kib = server.memory_kib().saturating_sub(setting.memory_of_one_kib) as f64;
    if others > 0.0 { rounded(added_kib / others) } else { Value::Null }
}

fn addresses(crowd: &Crowd) -> Vec<SocketAddr> {
    crowd.viewers.iter().map(|viewer| viewer.endpoint.client.address).collect()
}

fn forget_samples(crowd: &mut Crowd) {
    crowd.publisher.iter_mut().for_each(|publisher| publisher.lateness.clear());
    for viewer in &mut crowd.viewers {
        viewer.delays.clear();
        viewer.opened = 0;
    }
}

/// Packets that came to sampled viewers and that str0m did not open.
fn undecrypted(crowd: &Crowd, before: &Reading) -> u64 {
    let sampled = crowd.viewers.iter().zip(&before.arrived).filter(|(viewer, _)| viewer.is_sampled);
    sampled.map(|(viewer, before)| (viewer.packets() - before[0] - before[1]).saturating_sub(viewer.opened)).sum()
}

fn percent(part: Duration, whole: Duration) -> f64 {
    part.as_secs_f64() / whole.as_secs_f64() * 100.0
}

/// A quantile in milliseconds.
fn quantile(mut durations: Vec<Duration>, part: f64) -> Option<f64> {
    durations.sort_unstable();
    let last = durations.len().checked_sub(1)?;
    Some(durations[(last as f64 * part).round() as usize].as_secs_f64() * 1e3)
}

/// To three places, which is more than any of this is worth.
pub fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}
