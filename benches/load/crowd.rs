//! The load: one thread that plays the broadcaster and all viewers.
//!
//! The broadcaster and the sampled viewers are served as soon as something comes; all others are swept every few
//! milliseconds, for what their sockets hold keeps. Where two servers are compared, the crowd of the one that is measured
//! keeps that of the other connected.
//!
//! **Invariant:** whoever is measured by the clock never waits for more than a slice of the sweep.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use onair::net::receive::ReceiveBatch;

use super::publisher::Publisher;
use super::schedule::Schedule;
use super::stamp::Stamp;
use super::viewer::Viewer;

/// Viewers that are swept before the broadcaster is looked after.
const SLICE: usize = 16;

/// How often all sockets are emptied.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// The same while viewers connect, which is a conversation.
const SWEEP_EVERY_WHEN_JOINING: Duration = Duration::from_millis(1);

/// The same while another crowd is measured: often enough for the server to see that everyone is still there.
const SWEEP_EVERY_WHEN_WAITING: Duration = Duration::from_millis(100);

/// Viewers that connect at a time.
const JOINING_MAX: usize = 16;

/// One viewer in so many is sampled.
const SAMPLED_EVERY: usize = 50;

const WAIT_MAX: Duration = Duration::from_secs(60);

const ROOM: &str = "load";
const USER: &str = "live";

/// Broadcaster and viewers.
pub struct Crowd {
    /// The broadcaster, if there is one.
    pub publisher: Option<Publisher>,
    /// The viewers.
    pub viewers: Vec<Viewer>,
    /// The crowd of another server, which is kept connected but gets no media.
    waiting: Option<Box<Self>>,
    http: SocketAddr,
    stamp: Stamp,
    inbox: ReceiveBatch,
    sweep_at: Instant,
    sweep_every: Duration,
    swept: usize,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(http: SocketAddr) -> Self {
        // What the batch sets up for its socket, joined runs among it, is not wanted on those of the viewers: they are to
        // cost the kernel what a network card would. So it gets a socket of its own.
        let inbox = ReceiveBatch::new(&UdpSocket::bind("127.0.0.1:0").expect("a socket")).expect("a batch");
        let now = Instant::now();
        Self {
            publisher: None,
            viewers: Vec::new(),
            waiting: None,
            http,
            stamp: Stamp::new(now),
            inbox,
            sweep_at: now,
            sweep_every: SWEEP_EVERY,
            swept: 0,
        }
    }

    /// Connects a broadcaster, and lets it begin.
    pub fn publish(&mut self, schedule: Schedule) {
        self.publisher = Some(Publisher::register(self.http, ROOM, USER, self.stamp, Instant::now()));
        self.wait_until("the broadcaster is connected", |crowd| {
            crowd.publisher.as_ref().is_some_and(|publisher| publisher.endpoint.is_connected())
        });
        self.resume(schedule);
    }

    /// Lets viewers come until there are `count`, a few at a time, and returns how long it took until all had what they
    /// came for: a connection, and sound and pictures where someone broadcasts.
    pub fn admit(&mut self, count: usize) -> Duration {
        let begun = Instant::now();
        self.sweep_every = SWEEP_EVERY_WHEN_JOINING;
        let first = self.viewers.len();
        while self.viewers.len() < count {
            self.wait_until("viewers are connected", |crowd| crowd.connecting() < JOINING_MAX);
            let number = self.viewers.len();
            let is_sampled = number % SAMPLED_EVERY == SAMPLED_EVERY - 1 || number + 1 == count;
            let viewer = Viewer::subscribe(self.http, number as u64 + 2, ROOM, USER, is_sampled, self.stamp);
            self.viewers.push(viewer);
        }
        let has_media = self.publisher.is_some();
        self.wait_until("all viewers have what they came for", |crowd| {
            let mut new = crowd.viewers.iter().skip(first);
            new.all(|viewer| if has_media { viewer.watches() } else { viewer.endpoint.is_connected() })
        });
        self.sweep_every = SWEEP_EVERY;
        begun.elapsed()
    }

    fn connecting(&self) -> usize {
        self.viewers.iter().filter(|viewer| !viewer.endpoint.is_connected()).count()
    }

    /// Lets the broadcaster go on.
    pub fn resume(&mut self, schedule: Schedule) {
        if let Some(publisher) = &mut self.publisher {
            publisher.resume(schedule, Instant::now());
        }
    }

    /// Silences the broadcaster.
    pub fn pause(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.pause();
        }
    }

    /// Keeps the crowd of another server connected from now on, besides playing.
    pub fn keep(&mut self, mut waiting: Box<Self>) {
        waiting.sweep_every = SWEEP_EVERY_WHEN_WAITING;
        self.waiting = Some(waiting);
    }

    /// Hands back the crowd that was kept.
    pub fn release(&mut self) -> Option<Box<Self>> {
        let mut waiting = self.waiting.take()?;
        waiting.sweep_every = SWEEP_EVERY;
        Some(waiting)
    }

    /// Plays on for so long.
    pub fn run_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(until);
        }
    }

    /// Plays on while `goes_on`.
    pub fn run_while(&mut self, goes_on: impl Fn(&Self) -> bool) {
        while goes_on(self) {
            self.turn(Instant::now() + SWEEP_EVERY);
        }
    }

    fn wait_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        self.run_while(|crowd| {
            assert!(begun.elapsed() < WAIT_MAX, "in vain: until {what} ({} are there)", crowd.viewers.len());
            !is_so(crowd)
        });
    }

    fn turn(&mut self, until: Instant) {
        self.serve_first();
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| Instant::now() >= waiting.sweep_at) {
            if waiting.swept == 0 {
                waiting.serve_first();
            }
            waiting.sweep();
        }
        if Instant::now() >= self.sweep_at {
            self.sweep();
        } else {
            self.sleep(until);
        }
    }

    /// Serves those that are measured by the clock.
    fn serve_first(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.send_due();
            publisher.drain(&mut self.inbox);
            publisher.endpoint.wake(Instant::now());
        }
        for viewer in self.viewers.iter_mut().filter(|viewer| viewer.is_sampled) {
            viewer.drain(&mut self.inbox);
            viewer.endpoint.wake(Instant::now());
        }
    }

    /// Empties the sockets of the next few viewers.
    fn sweep(&mut self) {
        let now = Instant::now();
        for viewer in self.viewers.iter_mut().skip(self.swept).take(SLICE).filter(|viewer| !viewer.is_sampled) {
            viewer.drain(&mut self.inbox);
            viewer.endpoint.wake(now);
        }
        self.swept += SLICE;
        if self.swept >= self.viewers.len() {
            self.swept = 0;
            self.sweep_at = now + self.sweep_every;
        }
    }

    /// Waits for the next burst or sweep, or for something to come to the broadcaster or a sampled viewer.
    fn sleep(&mut self, until: Instant) {
        let due_at = self.publisher.as_mut().and_then(Publisher::due_at);
        let until = until.min(self.sweep_at).min(due_at.unwrap_or(until));
        let timeout = until.saturating_duration_since(Instant::now());
        let sampled = self.viewers.iter().filter(|viewer| viewer.is_sampled).map(|viewer| &viewer.endpoint);
        let served = sampled.chain(self.publisher.as_ref().map(|publisher| &publisher.endpoint));
        let mut fds: Vec<_> = served.map(|it| PollFd::new(it.socket.as_fd(), PollFlags::POLLIN)).collect();
        // Interrupted or failed, the turn looks at everything anyway.
        let _ = ppoll(&mut fds, Some(TimeSpec::from_duration(timeout)), None);
    }
}
