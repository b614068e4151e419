//! What the webhook is asked before a client publishes or plays.
//!
//! **Invariant:** who is asked about is let in by a 2xx in time and by nothing else; at most [`QUESTIONS_MAX`] questions are
//! open at a time, and at most [`QUESTIONS_PER_ADDRESS_MAX`] about one address.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

use super::hook::{Hook, Message};
use super::metrics::Outcome;
use crate::http::gate::Gate;
use crate::hub::io::Door;
use crate::signal::{BroadcastId, RoomId, UserId};

/// The most questions that are open at a time, asked or waiting to be.
const QUESTIONS_MAX: u32 = 1024;
/// The most of them about one address, as [`Gate`] counts.
const QUESTIONS_PER_ADDRESS_MAX: usize = 64;

/// The most that are asked at once: each is a connection to the application.
const ASKED_AT_ONCE_MAX: usize = 64;

/// The `type` of a question about a broadcaster.
pub const PUBLISH: &str = "publish";
/// The `type` of a question about a viewer.
pub const PLAY: &str = "play";

/// What a client wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// To be the broadcaster.
    Publish(BroadcastId),
    /// To watch one broadcast.
    Play(BroadcastId),
    /// To watch a room.
    PlayAll(RoomId),
}

/// What the webhook is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What the client wants.
    pub wanted: Wanted,
    /// By which door.
    pub door: Door,
    /// From where.
    pub remote: IpAddr,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There was no clear yes. Why is the operator's business.
    #[error("this is not permitted here: {0}")]
    Denied(String),
    /// It was not asked.
    #[error("too many wait to be let in: try again in a moment")]
    TooMany,
}

#[derive(Serialize)]
struct Content<'a> {
    r#type: &'static str,
    timestamp: String,
    room: &'a str,
    user: Option<&'a str>,
    door: &'static str,
    remote: IpAddr,
}

/// Asks the webhook. Cheap to clone.
#[derive(Clone)]
pub struct Asker(Arc<Shared>);

struct Shared {
    hook: Hook,
    questions: Gate,
    lines: Semaphore,
}

impl Asker {
    /// Asks by `hook`.
    #[must_use]
    pub fn new(hook: Hook) -> Self {
        let questions = Gate::new(QUESTIONS_MAX, QUESTIONS_PER_ADDRESS_MAX);
        Self(Arc::new(Shared { hook, questions, lines: Semaphore::new(ASKED_AT_ONCE_MAX) }))
    }

    /// Waits for the webhook's word. Dropped, it is asked no longer.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn ask(&self, question: &Question) -> Result<(), Refusal> {
        let Shared { hook, questions, lines } = &*self.0;
        let content = question.content();
        let Some(_seat) = questions.admit(question.remote) else {
            hook.metrics().request(content.r#type, Outcome::TooMany);
            return Err(Refusal::TooMany);
        };
        let deadline = hook.deadline();
        let message = Message::new(content.r#type, &content).map_err(|error| {
            tracing::error!(%error, "the webhook cannot be asked");
            question.denied()
        })?;
        // Nobody closes it; time spent here is the question's.
        let Ok(_line) = timeout_at(deadline, lines.acquire()).await else {
            hook.metrics().request(content.r#type, Outcome::TooMany);
            return Err(Refusal::TooMany);
        };
        match hook.post(&message, deadline).await {
            Outcome::Accepted => Ok(()),
            Outcome::Refused | Outcome::Failed | Outcome::TimedOut | Outcome::TooMany => Err(question.denied()),
        }
    }
}

impl Question {
    fn content(&self) -> Content<'_> {
        let (kind, room, user) = match &self.wanted {
            Wanted::Publish(broadcast) => (PUBLISH, &broadcast.room, Some(&broadcast.user)),
            Wanted::Play(broadcast) => (PLAY, &broadcast.room, Some(&broadcast.user)),
            Wanted::PlayAll(room) => (PLAY, room, None),
        };
        Content {
            r#type: kind,
            timestamp: timestamp(),
            room: room.as_str(),
            user: user.map(UserId::as_str),
            door: match self.door {
                Door::WebSocket => "ws",
                Door::Whip => "whip",
                Door::Whep => "whep",
            },
            remote: self.remote.to_canonical(),
        }
    }

    fn denied(&self) -> Refusal {
        Refusal::Denied(match &self.wanted {
            Wanted::Publish(broadcast) => format!("publish {broadcast}"),
            Wanted::Play(broadcast) => format!("watch {broadcast}"),
            Wanted::PlayAll(room) => format!("watch all of {room}"),
        })
    }
}

/// Now, as messages write it (RFC 3339).
pub fn timestamp() -> String {
    // No year that a clock can have is out of the format's range.
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::http::webhook::{HookConfig, WebhookMetrics};

    #[tokio::test]
    async fn no_address_can_take_all_questions_and_all_together_no_more_than_there_are() {
        // It takes connections and never answers.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = HookConfig {
            url: format!("http://{}/", silent.local_addr().unwrap()).parse().unwrap(),
            secret: "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap(),
            timeout: Duration::from_secs(30),
        };
        let asker = Asker::new(Hook::new(config, WebhookMetrics::default()).unwrap());
        let ask = |remote: [u8; 4]| {
            let asker = asker.clone();
            let question =
                Question { wanted: Wanted::Play("r/u".parse().unwrap()), door: Door::WebSocket, remote: remote.into() };
            let mut asked = Box::pin(async move { asker.ask(&question).await });
            let answer = asked.as_mut().now_or_never();
            (asked, answer)
        };
        let mut open = Vec::new();
        for _ in 0..QUESTIONS_PER_ADDRESS_MAX {
            let (asked, answer) = ask([192, 0, 2, 1]);
            assert_eq!(answer, None);
            open.push(asked);
        }
        assert_eq!(ask([192, 0, 2, 1]).1, Some(Err(Refusal::TooMany)));
        for number in open.len()..QUESTIONS_MAX as usize {
            let [high, low] = (number as u16).to_be_bytes();
            let (asked, answer) = ask([10, 0, high, low]);
            assert_eq!(answer, None);
            open.push(asked);
        }
        assert_eq!(ask([192, 0, 2, 2]).1, Some(Err(Refusal::TooMany)));
        // Who gives up makes room.
        open.pop();
        assert_eq!(ask([192, 0, 2, 2]).1, None);
    }
}
