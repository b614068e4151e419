//! Who runs on which core, and what machine this is.
//!
//! **Invariant:** the server and the load never share a core where there are two.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// The cores of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The server's, and the bare sender's.
    pub server: usize,
    /// The broadcaster's and the viewers'.
    pub load: usize,
}

impl Cores {
    /// Picks the last core for the server and, for the load, the first that is no hyperthread of the same.
    pub fn pick() -> Self {
        let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the kernel tells our cores");
        let allowed: Vec<usize> = (0..CpuSet::count()).filter(|core| allowed.is_set(*core) == Ok(true)).collect();
        let server = *allowed.last().expect("we run on a core");
        let twins = siblings(server);
        let mut others = allowed.iter().copied().filter(|core| *core != server);
        let load = others.clone().find(|core| !twins.contains(core)).or_else(|| others.next());
        let load = load.unwrap_or_else(|| {
            eprintln!("WARNING: server and load share the only core: the figures say little");
            server
        });
        if twins.contains(&load) && load != server {
            eprintln!("WARNING: server and load run on two hyperthreads of one core, and slow each other down");
        }
        Self { server, load }
    }

    /// Binds the calling thread, and whatever it starts from now on, to a core.
    pub fn bind_to(core: usize) {
        let mut set = CpuSet::new();
        set.set(core).expect("a core that there is");
        sched_setaffinity(Pid::from_raw(0), &set).expect("a core that we may use");
    }

    /// The machine, for the record.
    pub fn machine(self) -> Value {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        json!({
            "cpu": model.map_or("unknown", |(_, model)| model),
            "cores": cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            "kernel": kernel.trim(),
            "server_core": self.server,
            "load_core": self.load,
        })
    }
}

/// The hyperthreads that share a core with `core`, itself among them.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let list = fs::read_to_string(path).unwrap_or_default();
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Lets this process, and the server that it starts, have as many open files as it may: each viewer has two here.
pub fn allow_many_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
