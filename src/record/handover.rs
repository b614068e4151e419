//! Hands finished files to the operator's command (`--on-recording`): to upload, to move, to notify.
//!
//! The command runs for each file, two at a time. It can run twice where the server crashes before it has noted the success. Where it fails it is tried again, a little later each time, for as
//! long as the file is there; also after a restart.
//!
//! **Invariant:** a file counts as handed over only when the command has ended with status 0.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::counters::Counters;
use super::ffmpeg::process::{Priority, Process};
use super::files::directory::DiskStatus;
use super::files::disk::{self, Disk, Turn};
use super::files::path::{FINAL, PART, began};
use super::files::{pending, reading};
use crate::hub::io::FileFacts;

/// Commands that run at a time.
const RUNNING_MAX: usize = 2;

/// How long one may run: an upload of many gigabytes takes hours.
const RUN_MAX: Duration = Duration::from_secs(12 * 3600);

/// The pause after the first failure. It doubles with each.
const PAUSE_MIN: Duration = Duration::from_secs(10);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How often the marks are looked through.
const SEARCH_INTERVAL: Duration = Duration::from_secs(300);

/// The pause before a file is looked for again that is not there yet, or whose disk is away.
const LOOK_PAUSE: Duration = Duration::from_secs(10);

/// Files that wait, at most. The marks of the others are found when those are done.
const WAITING_MAX: usize = 10_000;

/// Files that may be announced before they are taken.
const ANNOUNCED_MAX: usize = 1024;

/// What the task is told.
#[derive(Debug)]
enum Message {
    /// A file is finished: its path below the directory.
    File(String),
    /// No more come: run what has not run yet, and end.
    Last,
}

/// The way to the task that runs the command.
#[derive(Debug, Clone)]
pub struct Handover {
    messages: mpsc::Sender<Message>,
}

/// A file that waits for the command.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    failures: u32,
}

/// What became of one run.
#[derive(Debug)]
enum Outcome {
    Done,
    /// The file is gone: there is nothing to hand over.
    Gone,
    /// It is not finished yet, or its disk is away.
    NotYet,
    Failed(String),
}

/// Runs the command.
struct Runner {
    command: String,
    dir: PathBuf,
    disk: Disk,
    counters: Arc<Counters>,
    status: watch::Receiver<DiskStatus>,
    waiting: BTreeMap<String, Waiting>,
    running: JoinSet<(String, u32, Outcome)>,
    running_names: BTreeSet<String>,
    search_at: Instant,
    is_ending: bool,
}

impl Handover {
    /// Starts the task. `token` is held until it has ended.
    pub fn start(
        command: String,
        dir: PathBuf,
        status: watch::Receiver<DiskStatus>,
        counters: Arc<Counters>,
        token: impl Send + 'static,
    ) -> Self {
        let (messages, receiver) = mpsc::channel(ANNOUNCED_MAX);
        let runner = Runner {
            command,
            dir,
            disk: Disk::default(),
            counters,
            status,
            waiting: BTreeMap::new(),
            running: JoinSet::new(),
            running_names: BTreeSet::new(),
            search_at: Instant::now(),
            is_ending: false,
        };
        tokio::spawn(async move {
            runner.run(receiver).await;
            drop(token);
        });
        Self { messages }
    }

    /// Hands a finished file over.
    pub async fn file(&self, name: String) {
        // The task ends after all that announces files.
        let _ = self.messages.send(Message::File(name)).await;
    }

    /// No more files come.
    pub async fn last(&self) {
        let _ = self.messages.send(Message::Last).await;
    }
}

impl Runner {
    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut status = self.status.clone();
        loop {
            if Instant::now() >= self.search_at && !self.is_ending {
                self.find_marked().await;
            }
            self.start_due();
            if self.is_ending && self.running.is_empty() {
                return;
            }
            let next = self.next_due().map_or(self.search_at, |due| due.min(self.search_at));
            tokio::select! {
                message = messages.recv(), if !self.is_ending => match message {
                    Some(Message::File(name)) => self.take(name),
                    Some(Message::Last) | None => self.is_ending = true,
                },
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => match ended {
                    Ok((name, failures, outcome)) => self.settle(name, failures, outcome).await,
                    Err(error) => tracing::error!(%error, "a run of --on-recording was not seen to end"),
                },
                Ok(()) = status.changed() => {
                    if status.borrow_and_update().state.is_usable() {
                        self.search_at = Instant::now();
                    }
                }
                () = sleep_until(next), if !self.is_ending => {}
            }
        }
    }

    /// Finds the files that wait: those of earlier runs, and whatever was not announced.
    async fn find_marked(&mut self) {
        self.search_at = Instant::now() + SEARCH_INTERVAL;
        let dir = self.dir.clone();
        let find = move |turn: &Turn| pending::marked(turn, &dir);
        match self.disk.run("looking for recordings to hand over", disk::DEADLINE, find).await {
            Ok(names) => names.into_iter().for_each(|name| self.take(name)),
            Err(error) => tracing::warn!(%error, "recordings that wait for --on-recording cannot be looked for"),
        }
    }

    /// Takes a file that is marked. What is not taken is found by its mark.
    fn take(&mut self, name: String) {
        if !self.running_names.contains(&name) && self.waiting.len() < WAITING_MAX {
            self.waiting.entry(name).or_insert(Waiting { due: Instant::now(), failures: 0 });
        }
    }

    /// When the next file is due; none while as many run as may.
    fn next_due(&self) -> Option<Instant> {
        let may_start = self.running.len() < RUNNING_MAX && !self.is_ending;
        self.waiting.values().map(|waiting| waiting.due).min().filter(|_| may_start)
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        while self.running.len() < RUNNING_MAX {
            // At the end only what has not run yet.
            let is_due = |waiting: &Waiting| waiting.due <= now && (!self.is_ending || waiting.failures == 0);
            let Some(name) = self.waiting.iter().find(|(_, waiting)| is_due(waiting)).map(|(name, _)| name.clone())
            else {
                return;
            };
            let failures = self.waiting.remove(&name).map_or(0, |waiting| waiting.failures);
            self.running_names.insert(name.clone());
            let job = Job { command: self.command.clone(), dir: self.dir.clone(), disk: self.disk.clone(), name };
            self.running.spawn(async move {
                let outcome = job.run().await;
                (job.name, failures, outcome)
            });
        }
    }

    async fn settle(&mut self, name: String, failures: u32, outcome: Outcome) {
        self.running_names.remove(&name);
        match outcome {
            Outcome::NotYet => {
                self.waiting.insert(name, Waiting { due: Instant::now() + LOOK_PAUSE, failures });
                return;
            }
            Outcome::Failed(said) => {
                self.counters.handovers_failed.add(1);
                let pause = PAUSE_MAX.min(PAUSE_MIN.saturating_mul(1 << failures.min(16)));
                let again_s = pause.as_secs();
                tracing::error!(file = %name, error = %said, again_s, "--on-recording failed: it is run again");
                self.waiting
                    .insert(name, Waiting { due: Instant::now() + pause, failures: failures.saturating_add(1) });
                return;
            }
            Outcome::Done => {
                self.counters.handovers.add(1);
                tracing::info!(file = %name, "--on-recording has taken the file");
            }
            Outcome::Gone => tracing::info!(file = %name, "the file is gone: --on-recording is not run for it"),
        }
        let dir = self.dir.clone();
        let unmark = move |turn: &Turn| pending::unmark(turn, &dir, &name);
        if let Err(error) = self.disk.run("unmarking a recording", disk::DEADLINE, unmark).await {
            tracing::warn!(%error, "--on-recording will run for this file once more after a restart");
        }
    }
}

/// One run for one file.
struct Job {
    command: String,
    dir: PathBuf,
    disk: Disk,
    name: String,
}

impl Job {
    async fn run(&self) -> Outcome {
        let path = self.dir.join(&self.name);
        let (dir, name) = (self.dir.clone(), self.name.clone());
        let look = move |turn: &Turn| find(turn, &dir, &name);
        let facts = match self.disk.run("opening a recording", disk::DEADLINE, look).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(outcome)) => return outcome,
            Err(error) if error.is_silent() => return Outcome::NotYet,
            Err(error) => return Outcome::Failed(std::io::Error::from(error).to_string()),
        };
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &self.command]).stdin(Stdio::null());
        // The server's settings contain secrets. The command does not inherit them.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ONAIR_")) {
            command.env_remove(name);
        }
        command.env("ONAIR_FILE", std::path::absolute(&path).unwrap_or(path)).envs(self.variables(facts));
        let ended = match Process::start_command(&mut command, Priority::Yielding) {
            Ok(mut process) => process.ended_within(RUN_MAX).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok(exit) if exit.success => Outcome::Done,
            Ok(exit) => Outcome::Failed(exit.said),
            Err(error) => Outcome::Failed(error.to_string().replace("ffmpeg", "the command")),
        }
    }

    fn variables(&self, facts: FileFacts) -> Vec<(&'static str, String)> {
        let mut parts = self.name.split('/');
        let (room, user) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let began = parts.next().and_then(began).map(|(began, _)| began);
        let started = began.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default();
        vec![
            ("ONAIR_PATH", self.name.clone()),
            ("ONAIR_BROADCAST", format!("{room}/{user}")),
            ("ONAIR_ROOM", room.to_owned()),
            ("ONAIR_USER", user.to_owned()),
            ("ONAIR_STARTED", started),
            ("ONAIR_DURATION_S", format!("{:.3}", facts.duration.as_secs_f64())),
            ("ONAIR_SIZE_BYTES", facts.size_bytes.to_string()),
        ]
    }
}

/// What a file holds, or why it cannot be handed over.
fn find(turn: &Turn, dir: &Path, name: &str) -> std::io::Result<Result<FileFacts, Outcome>> {
    match reading::facts(turn, &dir.join(name)) {
        Ok(facts) => return Ok(Ok(facts)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let growing = name.replace(FINAL, PART);
    // Without its mark this is another directory: the disk is away.
    let is_away = !pending::is_marked(turn, dir, name);
    let is_growing = reading::metadata(turn, &dir.join(growing)).is_ok();
    Ok(Err(if is_away || is_growing { Outcome::NotYet } else { Outcome::Gone }))
}
