//! The real binary as a child process, and a small HTTP client to talk to it.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on must fail")]

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than anything here takes; whoever waits so long waits in vain.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// A directory that goes with its owner.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let name = format!("onair-test-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// A shell script in `scratch`, which an absolute path names.
pub fn script(scratch: &Scratch, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = scratch.write(name, format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Waits until a file is there and holds something.
pub async fn written(path: &Path) -> String {
    let waiting = async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{} was not written", path.display()))
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with nothing in its environment but what is given, in a directory of its own.
pub fn onair(scratch: &Scratch, args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onair"));
    command.args(args).env_clear().envs(variables.iter().copied()).current_dir(scratch.path());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A server that listens.
pub struct Server {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    log: Lines<BufReader<ChildStderr>>,
    /// What was printed at the start.
    pub lines: [String; 2],
    pub http: SocketAddr,
    pub udp: SocketAddr,
    pub scratch: Scratch,
}

impl Server {
    /// On loopback, without recording, with `args` besides.
    pub async fn start(args: &[&str]) -> Self {
        let mut all = vec!["--http", "127.0.0.1:0", "--udp", "127.0.0.1:0", "--record", "off"];
        all.extend(args);
        Self::start_with(Scratch::new(), &all, &[]).await
    }

    pub async fn start_with(scratch: Scratch, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let command = onair(&scratch, args, variables);
        Self::launch(scratch, command).await
    }

    /// By a command as [`onair`] makes it.
    pub async fn launch(scratch: Scratch, mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        for _ in 0..2 {
            match timeout(PATIENCE, stdout.next_line()).await.expect("the server starts").unwrap() {
                Some(line) => lines.push(line),
                None => panic!("the server did not start: {:?}", rest(&mut log).await),
            }
        }
        let http = ["listening http://", "listening https://"].iter().find_map(|start| lines[0].strip_prefix(start));
        let http = http.unwrap_or_else(|| panic!("{lines:?}")).parse().unwrap();
        let udp = lines[1].strip_prefix("listening udp ").unwrap_or_else(|| panic!("{lines:?}")).parse().unwrap();
        let lines = lines.try_into().unwrap();
        Self { child, stdout, log, lines, http, udp, scratch }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for a line of the log that contains `words`.
    pub async fn logged(&mut self, words: &str) -> String {
        let found = async {
            while let Some(line) = self.log.next_line().await.unwrap() {
                if line.contains(words) {
                    return line;
                }
            }
            panic!("the log ended without {words:?}");
        };
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{words:?} was not logged"))
    }

    /// Waits for the end: the status, what was printed since, and the rest of the log.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let end = async { (rest(&mut self.stdout).await, rest(&mut self.log).await, self.child.wait().await.unwrap()) };
        let (printed, log, status) = timeout(PATIENCE, end).await.expect("the server ends");
        (status, printed, log)
    }

    /// Stops it as an operator does; the status must be 0.
    pub async fn stop(self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let (status, printed, log) = self.ended().await;
        assert_eq!((status.code(), printed), (Some(0), Vec::new()), "{log:?}");
        log
    }

    pub async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"").await
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        request(self.http, method, path, headers, body).await
    }
}

async fn rest<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut Lines<R>) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        all.push(line);
    }
    all
}

/// A response as it came, header names in lower case.
pub struct Response {
    pub status: u16,
    pub head: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.body.get(..self.body.len().min(400)).unwrap_or_default();
        write!(f, "{}\n\n{}", self.head, String::from_utf8_lossy(start))
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The values of all headers of that name.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that it is a whole problem (RFC 9457) of `status`, and returns its `code`.
    pub fn problem(&self, status: u16) -> Option<String> {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self:?}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} of {self:?}");
        }
        problem["code"].as_str().map(str::to_owned)
    }
}

/// One request on a connection of its own.
pub async fn request(server: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let stream = TcpStream::connect(server).await.unwrap();
    request_over(stream, server, method, path, headers, body).await
}

/// One request on `stream`, which ends with it.
pub async fn request_over<S>(
    mut stream: S,
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {server}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = Vec::new();
    let exchange = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a long body may hang up before it has read all of it.
        let _ = stream.write_all(body).await;
        let mut chunk = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut chunk).await {
            bytes.extend_from_slice(&chunk[..len]);
        }
    };
    timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("{method} {path} is not answered"));
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}"));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Response { status, headers, body: bytes[end + 4..].to_vec(), head }
}
