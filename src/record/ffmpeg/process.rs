//! One ffmpeg process, and the socket that is its standard input.
//!
//! ffmpeg reads RTP packet by packet: each `read()` must yield one, so its input is a `SOCK_SEQPACKET` socket. It writes
//! receiver reports back into it; they are read and thrown away, or it would block ([`quirks`]).
//!
//! The process has a group of its own, so that a Ctrl-C in the server's terminal does not reach it. When the server dies
//! the socket closes, and ffmpeg completes its file by itself.
//!
//! **Invariant:** no call waits longer than its time limit, and a process that was killed is reaped.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram as StdUnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixDatagram;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::quirks;

/// What the kernel may hold between us and ffmpeg; it may grant less.
const SOCKET_BUFFER_BYTES: usize = 2 << 20;

/// How long ffmpeg may take nothing before it counts as stalled.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// How long a killed process may take to be gone. One that hangs in the kernel, on a disk that does not answer, stays.
const KILLED_MAX: Duration = Duration::from_secs(2);

/// How long the output of a process is still read when it has ended.
const LAST_READS: Duration = Duration::from_secs(1);

/// What is kept of the end of ffmpeg's messages.
const SAID_MAX_BYTES: usize = 2048;

/// What is kept of ffmpeg's standard output, where it is read.
const OUTPUT_MAX_BYTES: usize = 256 * 1024;

/// Why ffmpeg could not be fed.
#[derive(Debug, thiserror::Error)]
pub enum FfmpegError {
    /// The process could not be started.
    #[error("ffmpeg could not be started: {0}")]
    Start(#[source] io::Error),
    /// Its file could not be created.
    #[error("the recording could not be created: {0}")]
    File(#[source] io::Error),
    /// It took nothing for [`STALL_MAX`].
    #[error("ffmpeg took nothing for {} s", STALL_MAX.as_secs())]
    Stalled,
    /// It is gone.
    #[error("ffmpeg ended by itself: {0}")]
    Ended(String),
    /// It did not end in time when asked to.
    #[error("ffmpeg did not end within {} s", .0.as_secs())]
    Slow(Duration),
}

/// How much of a busy machine a process gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As much as the relay: it only copies what comes.
    Equal,
    /// What the relay and the copying leave: it encodes while it records.
    Yielding,
    /// What all others leave: nobody waits for it.
    Last,
}

impl Priority {
    /// The nice value.
    fn nice(self) -> i32 {
        match self {
            Self::Equal => 0,
            Self::Yielding => 10,
            Self::Last => 19,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone)]
pub struct Exit {
    /// Whether its status was 0.
    pub success: bool,
    /// Its status and the end of its messages, in one line.
    pub said: String,
    /// Its standard output, where it is read.
    pub output: Vec<u8>,
}

/// A running ffmpeg. Dropping it lets one that records run on; it is reaped all the same.
#[derive(Debug)]
pub struct Process {
    /// Its process id, for logs and for what watches it.
    pub pid: Option<u32>,
    exit: watch::Receiver<Option<Exit>>,
    kill: mpsc::Sender<()>,
}

impl Process {
    /// Starts ffmpeg with these arguments.
    ///
    /// # Errors
    ///
    /// [`FfmpegError::Start`].
    pub fn start(ffmpeg: &Path, arguments: &[OsString], stdin: Stdio, priority: Priority) -> Result<Self, FfmpegError> {
        Self::run(Command::new(ffmpeg).args(arguments).stdin(stdin).stdout(Stdio::null()), false, priority)
    }

    /// Starts an ffmpeg that is killed when this value is dropped or the runtime ends, and whose standard output is read.
    ///
    /// # Errors
    ///
    /// [`FfmpegError::Start`].
    pub fn start_leashed(
        ffmpeg: &Path,
        arguments: &[OsString],
        stdin: Stdio,
        priority: Priority,
    ) -> Result<Self, FfmpegError> {
        let mut command = Command::new(ffmpeg);
        Self::start_command(command.args(arguments).stdin(stdin), priority)
    }

    /// Starts another command on the same terms: it is killed when this value is dropped, and its standard output is read.
    ///
    /// # Errors
    ///
    /// [`FfmpegError::Start`].
    pub fn start_command(command: &mut Command, priority: Priority) -> Result<Self, FfmpegError> {
        Self::run(command.stdout(Stdio::piped()).kill_on_drop(true), true, priority)
    }

    fn run(command: &mut Command, is_leashed: bool, priority: Priority) -> Result<Self, FfmpegError> {
        let mut child = command.stderr(Stdio::piped()).process_group(0).spawn().map_err(FfmpegError::Start)?;
        lower(child.id(), priority);
        let (pid, stdout, stderr) = (child.id(), child.stdout.take(), child.stderr.take());
        let (exit_sender, exit) = watch::channel(None);
        let (kill, kill_receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let exit = attend(child, stdout, stderr, kill_receiver, is_leashed).await;
            let _ = exit_sender.send(Some(exit));
        });
        Ok(Self { pid, exit, kill })
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        self.exit.borrow().clone()
    }

    /// Waits for its end. Cancel safe.
    pub async fn ended(&mut self) -> Exit {
        match self.exit.wait_for(Option::is_some).await.map(|exit| exit.clone()) {
            Ok(Some(exit)) => exit,
            _ => Exit { success: false, said: "its end was not seen".to_owned(), output: Vec::new() },
        }
    }

    /// Waits for its end, and kills it when that takes longer than `limit`.
    ///
    /// # Errors
    ///
    /// [`FfmpegError::Slow`] where it had to be killed.
    pub async fn ended_within(&mut self, limit: Duration) -> Result<Exit, FfmpegError> {
        if let Ok(exit) = timeout(limit, self.ended()).await {
            return Ok(exit);
        }
        self.kill();
        // Its end is seen by the task that attends it, however late it comes.
        let _ = timeout(KILLED_MAX, self.ended()).await;
        Err(FfmpegError::Slow(limit))
    }

    /// Kills it.
    pub fn kill(&self) {
        // A full channel holds the same wish already; a closed one means that it has ended.
        let _ = self.kill.try_send(());
    }
}

/// Gives a process its place. Its threads inherit it, for they begin later.
fn lower(pid: Option<u32>, priority: Priority) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && priority != Priority::Equal
        && let Err(error) = rustix::process::setpriority_process(Some(pid), priority.nice())
    {
        tracing::debug!(%error, "the priority of ffmpeg stays as it is");
    }
}

/// Kills a process and all that it has started, unless it has ended before.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    /// The group of a leashed process. Others run on by themselves.
    fn of(child: &Child, is_leashed: bool) -> Self {
        Self(child.id().filter(|_| is_leashed).and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // It fails only where nothing of it is left.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn attend(
    mut child: Child,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    mut kill: mpsc::Receiver<()>,
    is_leashed: bool,
) -> Exit {
    let mut output = tokio::spawn(read_all(stdout, OUTPUT_MAX_BYTES, false));
    let mut said = tokio::spawn(read_all(stderr, SAID_MAX_BYTES, true));
    let mut group = Group::of(&child, is_leashed);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            wish = kill.recv() => {
                let is_free = wish.is_none() && !is_leashed;
                if !is_free {
                    group.kill();
                    // It fails only where the process has ended.
                    let _ = child.start_kill();
                }
                if wish.is_none() {
                    break child.wait().await;
                }
            }
        }
    };
    // What it has left in the background may stay, and its number may soon be another's.
    group.0 = None;
    // Such a child holds the pipes open; what the process itself has said is there.
    let (said, output) = tokio::join!(read_within(&mut said, LAST_READS), read_within(&mut output, LAST_READS));
    let said = one_line(&said);
    let (success, status) = match status {
        Ok(status) => (status.success(), status.to_string()),
        Err(error) => (false, error.to_string()),
    };
    Exit { success, said: if said.is_empty() { status } else { format!("{status}: {said}") }, output }
}

/// What a reader has read, unless that takes too long.
async fn read_within(reader: &mut JoinHandle<Vec<u8>>, limit: Duration) -> Vec<u8> {
    match timeout(limit, &mut *reader).await {
        Ok(read) => read.unwrap_or_default(),
        Err(_) => {
            reader.abort();
            Vec::new()
        }
    }
}

/// Reads to the end, and keeps so many bytes of the beginning or of the end.
async fn read_all(source: Option<impl AsyncRead + Unpin>, max_bytes: usize, keeps_end: bool) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut source) = source else {
        return kept;
    };
    let mut chunk = [0; 4096];
    while let Ok(count) = source.read(&mut chunk).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if kept.len() > max_bytes {
            if keeps_end {
                kept.drain(..kept.len().saturating_sub(max_bytes));
            } else {
                kept.truncate(max_bytes);
            }
        }
    }
    kept
}

/// The last lines of ffmpeg's messages as one line without control characters.
fn one_line(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begin = lines.len().saturating_sub(3);
    let line = lines.get(begin..).unwrap_or_default().join("; ");
    line.chars().filter(|c| !c.is_control()).take(400).collect()
}

/// Our end of ffmpeg's standard input. Dropping it ends the stream.
#[derive(Debug)]
pub struct Input {
    /// A `SOCK_SEQPACKET` socket: what the type does, `send` and `recv`, is the same for both kinds.
    socket: Arc<UnixDatagram>,
    _drains: oneshot::Sender<()>,
}

impl Input {
    /// A pair of our end and what is to be ffmpeg's standard input.
    ///
    /// # Errors
    ///
    /// Where the kernel grants no socket.
    pub fn pair() -> io::Result<(Self, Stdio)> {
        let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        // The kernel clamps it, silently.
        ours.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        ours.set_nonblocking(true)?;
        let socket = Arc::new(UnixDatagram::from_std(StdUnixDatagram::from(OwnedFd::from(ours)))?);
        let (drains, dropped) = oneshot::channel();
        tokio::spawn(drain(Arc::clone(&socket), dropped));
        Ok((Self { socket, _drains: drains }, Stdio::from(OwnedFd::from(theirs))))
    }

    /// Sends the SDP, so that packets can follow.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn begin(&self, sdp: &str) -> io::Result<()> {
        for datagram in quirks::sdp_datagrams(sdp) {
            self.send(&datagram).await?;
        }
        Ok(())
    }

    /// Sends one datagram.
    ///
    /// # Errors
    ///
    /// `TimedOut` where ffmpeg took nothing for [`STALL_MAX`]; anything else means that it is gone.
    pub async fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.try_send(datagram) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result.map(drop),
        }
        match timeout(STALL_MAX, self.socket.send(datagram)).await {
            Ok(result) => result.map(drop),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Tells ffmpeg that nothing more comes. What it still writes back is drained until this is dropped.
    pub fn end(&self) {
        // It fails only where ffmpeg is gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }
}

/// Throws away what ffmpeg writes back, until either end is gone.
async fn drain(socket: Arc<UnixDatagram>, mut dropped: oneshot::Receiver<()>) {
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            // An empty datagram is the end of the stream.
            result = socket.recv(&mut buffer) => if !result.is_ok_and(|count| count > 0) {
                return;
            },
            _ = &mut dropped => return,
        }
    }
}
