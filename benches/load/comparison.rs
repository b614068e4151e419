//! Two builds of the server against each other: both run all the time, with a crowd each, and take turns under load.
//!
//! A pair is one turn of each, and which goes first alternates, so that a machine that gets slower or faster favours neither.
//!
//! **Invariant:** both share one core, but only one is under load at a time, and each is charged by the clock of its own
//! process. A pair in which the load itself failed is measured again, not counted.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::cores::Cores;
use super::crowd::Crowd;
use super::interval::{Interval, Verdict, is_enough, median};
use super::plan::Plan;
use super::round::{Round, Setting, measure, rounded};
use super::schedule::Schedule;
use super::server::Server;

/// Pairs that may be measured again: a load that fails more often than this is too much for its core.
const REPEATS_MAX: usize = 10;

/// How long servers and crowds may take to come to rest.
const SETTLE: Duration = Duration::from_secs(2);

/// Names of the two, as they are printed: the build under test, and the one that it is compared with.
const NAMES: [&str; 2] = ["this", "other"];

/// Both servers with their crowds.
struct Comparison {
    servers: [Server; 2],
    /// One of them is away while it is kept connected by the other.
    crowds: [Option<Box<Crowd>>; 2],
    settings: [Setting; 2],
}

/// Compares the build under test with `other`, prints each pair and the verdict; succeeds if it is no slower.
pub fn compare(plan: &Plan, cores: Cores, other: &Path) -> ExitCode {
    let mut comparison = Comparison::start(plan, cores, other);
    let (mut ratios, mut repeats) = (Vec::new(), 0);
    while !is_enough(&ratios) && repeats <= REPEATS_MAX {
        let number = ratios.len() + 1;
        eprintln!("pair {number}");
        // Also when a pair is measured again: odd and even pairs stay in balance.
        let first = usize::from(number % 2 == 0);
        let one = comparison.turn(first);
        let another = comparison.turn(1 - first);
        if !(one.is_valid && another.is_valid) {
            eprintln!("pair {number} is measured again");
            repeats += 1;
            continue;
        }
        let [this, other] = if first == 0 { [one, another] } else { [another, one] };
        let [this_us, other_us] = [&this, &other].map(cost_us);
        ratios.push(this_us / other_us);
        let so_far = Interval::of(&ratios);
        println!(
            "{}",
            json!({
                "pair": number,
                "first": NAMES[first],
                "this": turn_figures(&this),
                "other": turn_figures(&other),
                "ratio": rounded(this_us / other_us),
                "mean_ratio": so_far.map(|interval| rounded(interval.ratio)),
                "interval": so_far.map(bounds),
            })
        );
    }
    conclude(plan, cores, &ratios, repeats)
}

/// Prints the summary.
fn conclude(plan: &Plan, cores: Cores, ratios: &[f64], repeats: usize) -> ExitCode {
    let is_valid = is_enough(ratios);
    if !is_valid {
        eprintln!(
            "INVALID: the load failed in {repeats} pairs: try fewer viewers, or a machine that does nothing else"
        );
    }
    let interval = Interval::of(ratios);
    let verdict = interval.filter(|_| is_valid).map(|interval| interval.verdict());
    println!(
        "{}",
        json!({
            "pairs": ratios.len(),
            "ratio": interval.map(|interval| rounded(interval.ratio)),
            "interval": interval.map(bounds),
            "half_width": interval.map(|interval| rounded(interval.half_width)),
            "median_ratio": median(ratios).map(rounded),
            "verdict": verdict.map(|verdict| verdict.to_string()),
            "repeated": repeats,
            "viewers": plan.viewers,
            "seconds": plan.seconds,
            "machine": cores.machine(),
        })
    );
    if verdict == Some(Verdict::NoSlower) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Comparison {
    fn start(plan: &Plan, cores: Cores, other: &Path) -> Self {
        let servers = [Path::new(env!("CARGO_BIN_EXE_onair")), other].map(|binary| Server::start(cores, binary));
        let mut waiting = None;
        let settings = [0, 1].map(|place| {
            let mut crowd = Box::new(Crowd::new(servers[place].http));
            if let Some(waiting) = waiting.take() {
                crowd.keep(waiting);
            }
            crowd.publish(Schedule::new(plan.bitrate_bps, plan.shape));
            let connect = crowd.admit(plan.viewers);
            eprintln!("{} viewers of {} after {connect:.1?}", plan.viewers, NAMES[place]);
            crowd.run_for(SETTLE);
            crowd.pause();
            waiting = Some(crowd);
            let memory_of_one_kib = servers[place].memory_kib();
            Setting { plan: plan.clone(), cores, connect, memory_of_one_kib }
        });
        let mut second = waiting.expect("the crowd that came last");
        let first = second.release();
        Self { servers, crowds: [first, Some(second)], settings }
    }

    /// Loads one of them for a while, and keeps the crowd of the other connected.
    fn turn(&mut self, place: usize) -> Round {
        let mut crowd = self.crowds[place].take().expect("its crowd");
        crowd.keep(self.crowds[1 - place].take().expect("the other's crowd"));
        let round = measure(&mut crowd, &self.servers[place], &self.settings[place]);
        self.crowds[1 - place] = crowd.release();
        self.crowds[place] = Some(crowd);
        round
    }
}

fn cost_us(round: &Round) -> f64 {
    round.json["cpu_us_per_packet"]["total"].as_f64().expect("a round has sent something")
}

/// What is printed of one turn. It is too short to split its time by ticks into user and system.
fn turn_figures(round: &Round) -> Value {
    json!({
        "cpu_us_per_packet": cost_us(round),
        "cpu_waited_percent": round.json["cpu_waited_percent"],
        "delivered_ratio": round.json["delivered_ratio"],
    })
}

fn bounds(interval: Interval) -> Value {
    json!([rounded(interval.low), rounded(interval.high)])
}
