//! Tells the webhook what befalls broadcasts and recordings.
//!
//! **Invariant:** it is never waited for: what the webhook does not take waits in a bounded [`Queue`]. It ends by itself
//! [`FAREWELL_MAX`] after the hub's thread at the latest.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::event::Event;
use super::hook::{Hook, Message};
use super::metrics::Outcome;
use super::queue::{Queue, TRIES_MAX, Ticket};
use crate::http::stop::stopped;
use crate::hub::io::Notice;

/// The most messages that are under way at a time.
const UNDER_WAY_MAX: usize = 8;

/// How long the last messages may take once nothing more can be told.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// Tells the webhook.
pub struct Teller {
    hook: Hook,
    queue: Queue,
    under_way: JoinSet<(Ticket, Outcome)>,
}

impl Teller {
    /// Tells by `hook`.
    #[must_use]
    pub fn new(hook: Hook) -> Self {
        Self { hook, queue: Queue::default(), under_way: JoinSet::new() }
    }

    /// Runs until the hub's thread has ended and all is told, or the time for that is over.
    pub async fn run(mut self, mut notices: Receiver<Arc<Notice>>, mut stopping: watch::Receiver<bool>) {
        let mut is_stopping = false;
        let mut end_by = None;
        loop {
            self.send_what_is_due();
            let due = self.queue.deadline().filter(|_| self.under_way.len() < UNDER_WAY_MAX);
            if end_by.is_some() && self.queue.len() == 0 {
                return;
            }
            tokio::select! {
                notice = notices.recv(), if end_by.is_none() => match notice {
                    Ok(notice) => self.take(&notice),
                    Err(RecvError::Lagged(missed)) => self.lose(missed, "notices came too fast"),
                    Err(RecvError::Closed) => {
                        self.queue.hurry(Instant::now());
                        end_by = Some(Instant::now() + FAREWELL_MAX);
                    }
                },
                Some(done) = self.under_way.join_next() => self.note(done),
                () = at(due) => {}
                () = stopped(&mut stopping), if !is_stopping => {
                    is_stopping = true;
                    self.queue.hurry(Instant::now());
                }
                () = at(end_by) => {
                    return self.lose(self.queue.len() as u64, "the server stops");
                }
            }
        }
    }

    fn take(&mut self, notice: &Notice) {
        let Some(event) = Event::of(notice) else { return };
        match Message::new(event.kind, &event) {
            Ok(message) => {
                if self.queue.push(Instant::now(), notice.broadcast.clone(), message).is_some() {
                    self.lose(1, "too many wait");
                }
            }
            Err(error) => {
                tracing::error!(%error, "a message to the webhook could not be made");
                self.lose(1, "it could not be made");
            }
        }
    }

    fn send_what_is_due(&mut self) {
        while self.under_way.len() < UNDER_WAY_MAX
            && let Some((ticket, message)) = self.queue.next(Instant::now())
        {
            let hook = self.hook.clone();
            self.under_way.spawn(async move { (ticket, hook.post(&message, hook.deadline()).await) });
        }
    }

    fn note(&mut self, done: Result<(Ticket, Outcome), tokio::task::JoinError>) {
        // A request that panicked has no ticket; nothing here panics.
        let Ok((ticket, outcome)) = done else { return };
        if outcome == Outcome::Accepted {
            self.queue.delivered(ticket);
        } else if let Some(message) = self.queue.failed(ticket, Instant::now(), fastrand::f64()) {
            tracing::warn!(id = message.id, kind = message.kind, tries = TRIES_MAX, "the webhook is not told");
            self.hook.metrics().lost(1);
        }
    }

    fn lose(&self, messages: u64, why: &'static str) {
        tracing::warn!(messages, why, "the webhook is not told of some events");
        self.hook.metrics().lost(messages);
    }
}

/// Comes back at `deadline`, and never where there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
