//! The server as a process: started on its core, watched from outside.
//!
//! **Invariant:** its CPU time is the kernel's clock of the process, exact to the nanosecond and of all threads; only the
//! shares of user and system are taken from the coarser ticks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::cores::Cores;

/// The running server, ended when this is dropped.
pub struct Server {
    child: Child,
    /// Where it speaks HTTP.
    pub http: SocketAddr,
    /// Where it takes media.
    pub udp: SocketAddr,
}

/// What the kernel knows of a process's running, from its start on.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// CPU time.
    pub cpu: Duration,
    /// How long threads that could run had to wait for their core.
    pub waited: Duration,
    user_ticks: u64,
    system_ticks: u64,
}

impl Usage {
    /// What came since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu - before.cpu,
            waited: self.waited.saturating_sub(before.waited),
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }

    /// The share of CPU time spent in user mode.
    pub fn user_share(self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }
}

impl Server {
    /// Starts `binary` on its core.
    pub fn start(cores: Cores, binary: &Path) -> Self {
        Cores::bind_to(cores.server);
        let mut child = Command::new(binary)
            .args(["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off", "--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        Cores::bind_to(cores.load);
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut listening = |prefix| lines.find_map(|line| line.ok()?.strip_prefix(prefix)?.parse().ok());
        let http = listening("listening http://").expect("the server says where it speaks HTTP");
        let udp = listening("listening udp ").expect("the server says where it takes media");
        Self { child, http, udp }
    }

    /// Every metric without labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(self.http).expect("the server listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.http).expect("it reads");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("it answers");
        let lines = response.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        let clock = clock_getcpuclockid(Pid::from_raw(self.child.id() as i32)).expect("the server runs");
        let cpu = clock_gettime(clock).expect("its clock runs").into();
        let stat = self.proc("stat");
        // The name, in brackets, may hold blanks; user time is the 14th field, the 12th after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).expect("a number");
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the server runs");
        let waited_ns = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        let waited = Duration::from_nanos(waited_ns.sum());
        Usage { cpu, waited, user_ticks: ticks(11), system_ticks: ticks(12) }
    }

    /// Its memory, shared pages by their share.
    pub fn memory_kib(&self) -> u64 {
        let rollup = self.proc("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a proportional set size");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the server runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
