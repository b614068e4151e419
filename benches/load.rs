//! The real server under load: what one forwarded packet costs, how late it comes, and what a viewer takes of memory.
//!
//! `cargo bench --bench load -- --viewers 100 --bitrate 2500k --seconds 10`; anything it does not know makes it list what it
//! does. The program runs as a child on one core; one broadcaster and all viewers, each with its own ICE, DTLS and SRTP over
//! loopback, run in one thread on another. Each round prints one line of JSON on standard output. With `--floor` a bare
//! sender of ready-made packets takes turns with the server, and `ratio` says how much dearer the server is than that and
//! the cipher. With `--compare BINARY` two builds take turns, and the bench fails unless this one is no slower.
//! benches/RESULTS.md tells the method.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot measure must fail, and tells what it measured"
)]

#[path = "load/cipher.rs"]
mod cipher;
#[path = "load/comparison.rs"]
mod comparison;
#[path = "load/cores.rs"]
mod cores;
#[path = "load/crowd.rs"]
mod crowd;
#[path = "load/drops.rs"]
mod drops;
#[path = "load/endpoint.rs"]
mod endpoint;
#[path = "load/floor.rs"]
mod floor;
#[path = "load/interval.rs"]
mod interval;
#[path = "load/plan.rs"]
mod plan;
#[path = "load/publisher.rs"]
mod publisher;
#[path = "load/round.rs"]
mod round;
#[path = "load/schedule.rs"]
mod schedule;
#[path = "load/server.rs"]
mod server;
#[allow(dead_code, reason = "the whole simulation is used by the tests of the hub")]
#[path = "../tests/simulation/mod.rs"]
mod simulation;
#[path = "load/stamp.rs"]
mod stamp;
#[path = "load/viewer.rs"]
mod viewer;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use comparison::compare;
use cores::{Cores, allow_many_files};
use crowd::Crowd;
use plan::Plan;
use round::{Round, Setting, measure, measure_idle};
use schedule::Schedule;
use server::Server;

/// How long the server may take to come to rest.
const SETTLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    str0m::crypto::from_feature_flags().install_process_default();
    allow_many_files();
    let cores = Cores::pick();
    if let Some(other) = &plan.other {
        return compare(&plan, cores, other);
    }
    let server = Server::start(cores, Path::new(env!("CARGO_BIN_EXE_onair")));
    let mut crowd = Crowd::new(server.http);
    if !plan.is_idle {
        crowd.publish(Schedule::new(plan.bitrate_bps, plan.shape));
    }
    let first = crowd.admit(1);
    crowd.run_for(SETTLE);
    let memory_of_one_kib = server.memory_kib();
    let others = crowd.admit(plan.viewers);
    let connect = if plan.viewers == 1 { first } else { others };
    eprintln!("{} viewers after {connect:.1?}", plan.viewers);
    crowd.run_for(SETTLE);
    let setting = Setting { plan, cores, connect, memory_of_one_kib };
    let Plan { rounds: count, is_idle, .. } = setting.plan;
    let measure = if is_idle { measure_idle } else { measure };
    let mut rounds = Vec::new();
    for number in 1..=count {
        eprintln!("round {number} of {count}");
        let mut round = measure(&mut crowd, &server, &setting);
        round.json["round"] = json!(number);
        println!("{}", round.json);
        rounds.push(round);
    }
    if rounds.len() > 1 {
        println!("{}", json!({"rounds": rounds.len(), "median": median(&rounds)}));
    }
    if rounds.iter().all(|round| round.is_valid) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The median of each figure.
fn median(rounds: &[Round]) -> Value {
    const FIGURES: [&[&str]; 12] = [
        &["cpu_us_per_packet", "user"],
        &["cpu_us_per_packet", "system"],
        &["cpu_us_per_packet", "total"],
        &["floor_us_per_packet"],
        &["cipher_us_per_packet", "aes_256_gcm"],
        &["ratio"],
        &["packets_per_syscall"],
        &["delivered_ratio"],
        &["delay_ms", "p50"],
        &["delay_ms", "p99"],
        &["memory_per_viewer_kib"],
        &["idle_cpu_percent"],
    ];
    let mut medians = Map::new();
    for path in FIGURES {
        let mut values: Vec<f64> = rounds
            .iter()
            .filter_map(|round| path.iter().fold(&round.json, |value, name| &value[name]).as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        if let Some(value) = values.get(values.len() / 2) {
            medians.insert(path.join("."), json!(value));
        }
    }
    Value::Object(medians)
}
