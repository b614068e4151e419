//! The process as Prometheus' own libraries tell of one: CPU time, memory, file descriptors.
//!
//! **Invariant:** what the kernel does not tell is left out, never told as zero.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;

use crate::http::metrics::Sample;

/// More file descriptors than are ever open.
const DESCRIPTORS_MAX: u64 = 65_536;

/// This process.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    started: SystemTime,
}

impl Process {
    /// One that started at `started`.
    pub fn new(started: SystemTime) -> Self {
        Self { started }
    }

    /// How it stands. What ffmpeg takes, which is a process of its own, is not in it.
    pub fn samples(&self) -> Vec<Sample> {
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let samples = [
            cpu().map(|time| Sample::seconds("process_cpu_seconds", "CPU time of all threads", time)),
            resident_bytes()
                .map(|bytes| Sample::gauge("process_resident_memory_bytes", "Memory that is resident", bytes)),
            open_descriptors().map(|count| Sample::gauge("process_open_fds", "Open file descriptors", count)),
            getrlimit(Resource::RLIMIT_NOFILE)
                .ok()
                .map(|(soft, _)| Sample::gauge("process_max_fds", "The most file descriptors that it may open", soft)),
            Some(Sample::gauge("process_start_time_seconds", "When it started, in Unix time", started.as_secs())),
        ];
        samples.into_iter().flatten().collect()
    }
}

/// Takes as many file descriptors as it may have: a login leaves 1,024, and some hundreds of viewers with WebSockets take
/// them all.
pub fn raise_descriptors() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(DESCRIPTORS_MAX);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::warn!(%error, soft, "the limit of file descriptors stays as it is");
    }
}

fn cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(us).ok().map(Duration::from_micros)
}

fn resident_bytes() -> Option<u64> {
    resident_in(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS:     1234 kB`.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

fn open_descriptors() -> Option<u64> {
    // The one that reads the directory is none of ours.
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u64::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_this_process() {
        let samples = Process::new(SystemTime::now()).samples();
        let names: Vec<_> = samples.iter().map(|sample| sample.name).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds",
                "process_resident_memory_bytes",
                "process_open_fds",
                "process_max_fds",
                "process_start_time_seconds"
            ]
        );
        assert!(cpu().unwrap() > Duration::ZERO);
        assert!((1 << 20..1 << 40).contains(&resident_bytes().unwrap()));
        let before = open_descriptors().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(before > 2 && open_descriptors().unwrap() > 2);
        drop(file);
    }

    #[test]
    fn memory_is_read_in_the_kernels_form_alone() {
        assert_eq!(resident_in("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n"), Some(12 * 1_024));
        for status in ["", "VmRSS:", "VmRSS: 1 MB", "VmRSS: -1 kB", "VmRSS: 18446744073709551615 kB"] {
            assert_eq!(resident_in(status), None, "{status}");
        }
    }
}
