//! The messages that wait to be delivered.
//!
//! **Invariant:** of each broadcast the oldest message alone is under way or due, so they arrive in order; there are never
//! more than [`MESSAGES_MAX`], and each is tried [`TRIES_MAX`] times at most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::hook::Message;
use crate::signal::BroadcastId;

/// The most messages that wait.
pub const MESSAGES_MAX: usize = 1024;

/// How often a message is sent before it is given up.
pub const TRIES_MAX: usize = 5;

/// How long to wait after each try that failed: some two minutes in all.
const PAUSES: [Duration; TRIES_MAX - 1] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(35), Duration::from_secs(70)];

/// The same once the server stops, and there is no time for more.
const HURRIED_PAUSE: Duration = Duration::from_millis(250);

/// Names a message that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Waiting {
    broadcast: BroadcastId,
    message: Arc<Message>,
    /// `None` while it is under way.
    due: Option<Instant>,
    tries: usize,
}

/// The messages that wait, in the order of what they tell.
#[derive(Debug, Default)]
pub struct Queue {
    messages: BTreeMap<Ticket, Waiting>,
    last: u64,
    hurried: bool,
}

impl Queue {
    /// Adds a message, and returns the one that it displaces: the oldest that is not under way.
    pub fn push(&mut self, now: Instant, broadcast: BroadcastId, message: Message) -> Option<Arc<Message>> {
        let displaced = if self.messages.len() >= MESSAGES_MAX {
            let oldest = self.messages.iter().find(|(_, it)| it.due.is_some()).map(|(ticket, _)| *ticket);
            oldest.and_then(|ticket| self.messages.remove(&ticket)).map(|it| it.message)
        } else {
            None
        };
        self.last += 1;
        let waiting = Waiting { broadcast, message: Arc::new(message), due: Some(now), tries: 0 };
        self.messages.insert(Ticket(self.last), waiting);
        displaced
    }

    /// The next message that is to be sent now. It is under way until [`delivered`](Self::delivered) or
    /// [`failed`](Self::failed).
    pub fn next(&mut self, now: Instant) -> Option<(Ticket, Arc<Message>)> {
        let ticket = self.heads().find(|(_, due)| due.is_some_and(|due| due <= now)).map(|(ticket, _)| ticket)?;
        let waiting = self.messages.get_mut(&ticket)?;
        waiting.due = None;
        waiting.tries += 1;
        Some((ticket, Arc::clone(&waiting.message)))
    }

    /// It has arrived.
    pub fn delivered(&mut self, ticket: Ticket) {
        self.messages.remove(&ticket);
    }

    /// It has not. `jitter` is chance, from 0 to 1: many servers that begin to wait at once do not come back at once.
    /// Returns the message where that was the last try.
    pub fn failed(&mut self, ticket: Ticket, now: Instant, jitter: f64) -> Option<Arc<Message>> {
        let waiting = self.messages.get_mut(&ticket)?;
        match PAUSES.get(waiting.tries.saturating_sub(1)) {
            _ if self.hurried => waiting.due = Some(now + HURRIED_PAUSE),
            Some(pause) => waiting.due = Some(now + pause.mul_f64(0.8 + 0.4 * jitter)),
            None => return self.messages.remove(&ticket).map(|it| it.message),
        }
        None
    }

    /// The server stops: whatever waits is due now, and again soon after it has failed.
    pub fn hurry(&mut self, now: Instant) {
        self.hurried = true;
        for waiting in self.messages.values_mut() {
            waiting.due = waiting.due.map(|due| due.min(now));
        }
    }

    /// When [`next`](Self::next) may have something.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.heads().filter_map(|(_, due)| due).min()
    }

    /// How many wait or are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The oldest message of each broadcast, and when it is due.
    fn heads(&self) -> impl Iterator<Item = (Ticket, Option<Instant>)> {
        let mut seen = BTreeSet::new();
        self.messages.iter().filter(move |(_, it)| seen.insert(&it.broadcast)).map(|(ticket, it)| (*ticket, it.due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: usize) -> Message {
        Message { id: id.to_string(), kind: "test", body: bytes::Bytes::new() }
    }

    fn push(queue: &mut Queue, now: Instant, broadcast: &str, id: usize) -> Option<String> {
        queue.push(now, broadcast.parse().unwrap(), message(id)).map(|it| it.id.clone())
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<(Ticket, String)> {
        queue.next(now).map(|(ticket, it)| (ticket, it.id.clone()))
    }

    #[tokio::test]
    async fn a_broadcasts_messages_go_one_after_the_other_and_others_pass() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (id, broadcast) in ["r/a", "r/a", "r/b"].into_iter().enumerate() {
            assert_eq!(push(&mut queue, now, broadcast, id), None);
        }
        let (first, id) = next(&mut queue, now).unwrap();
        assert_eq!(id, "0");
        let (other, id) = next(&mut queue, now).unwrap();
        assert_eq!(id, "2");
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, None));
        queue.delivered(other);
        assert_eq!(queue.failed(first, now, 0.5), None);
        assert_eq!(queue.deadline(), Some(now + PAUSES[0]));
        assert_eq!(next(&mut queue, now), None, "the second of r/a waits for the first");
        let later = now + PAUSES[0];
        let (first, id) = next(&mut queue, later).unwrap();
        assert_eq!(id, "0");
        queue.delivered(first);
        let (second, id) = next(&mut queue, later).unwrap();
        assert_eq!(id, "1");
        queue.delivered(second);
        assert_eq!((queue.len(), queue.deadline()), (0, None));
    }

    #[tokio::test]
    async fn tries_end_after_some_two_minutes() {
        for (jitter, total_s) in [(0.0, 100.0), (0.5, 125.0), (1.0, 150.0)] {
            let (mut queue, begun) = (Queue::default(), Instant::now());
            let mut now = begun;
            push(&mut queue, now, "r/a", 0);
            for tried in 1..=TRIES_MAX {
                let (ticket, _) = next(&mut queue, now).unwrap();
                let given_up = queue.failed(ticket, now, jitter);
                assert_eq!(given_up.is_some(), tried == TRIES_MAX);
                now = queue.deadline().unwrap_or(now);
            }
            assert_eq!(queue.len(), 0);
            assert!((now.duration_since(begun).as_secs_f64() - total_s).abs() < 0.1);
        }
    }

    #[tokio::test]
    async fn the_oldest_that_is_not_under_way_makes_room() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for id in 0..MESSAGES_MAX {
            assert_eq!(push(&mut queue, now, "r/a", id), None);
        }
        let (ticket, _) = next(&mut queue, now).unwrap();
        assert_eq!(push(&mut queue, now, "r/a", MESSAGES_MAX).as_deref(), Some("1"));
        assert_eq!(queue.len(), MESSAGES_MAX);
        queue.delivered(ticket);
        assert_eq!(next(&mut queue, now).unwrap().1, "2");
    }

    #[tokio::test]
    async fn a_stop_leaves_no_time_for_pauses() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        push(&mut queue, now, "r/a", 0);
        for tried in 0..TRIES_MAX * 2 {
            let (ticket, _) = next(&mut queue, now + HURRIED_PAUSE * tried as u32).unwrap();
            queue.hurry(now);
            assert_eq!(queue.failed(ticket, now + HURRIED_PAUSE * tried as u32, 1.0), None);
        }
    }
}
