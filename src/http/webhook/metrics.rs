//! What is counted of the webhook.
//!
//! **Invariant:** label values come from fixed sets.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

type Labels = [(&'static str, &'static str); 2];

/// Counters of the webhook. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct WebhookMetrics {
    requests: Family<Labels, Counter>,
    lost: Counter,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// With a 2xx.
    Accepted,
    /// With another status.
    Refused,
    /// Without an answer.
    Failed,
    /// Without an answer in time.
    TimedOut,
    /// It was not sent, for too many are under way.
    TooMany,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::TooMany => "too-many",
        }
    }
}

impl WebhookMetrics {
    /// A request has ended; `kind` is the `type` of its message.
    pub fn request(&self, kind: &'static str, outcome: Outcome) {
        self.requests.get_or_create(&[("type", kind), ("outcome", outcome.name())]).inc();
    }

    /// A message will never be delivered.
    pub fn lost(&self, messages: u64) {
        self.lost.inc_by(messages);
    }

    /// Has them shown. Those by which one sees that nobody is let in stand at nought from the beginning: a rate has nothing to
    /// say of a counter's first appearance.
    pub fn register(&self, registry: &mut Registry) {
        for kind in ["publish", "play"] {
            for outcome in [Outcome::Accepted, Outcome::Refused, Outcome::Failed, Outcome::TimedOut] {
                drop(self.requests.get_or_create(&[("type", kind), ("outcome", outcome.name())]));
            }
        }
        registry.register(
            "onair_webhook_requests",
            "Requests to the webhook by type of message and by outcome",
            self.requests.clone(),
        );
        registry.register(
            "onair_webhook_lost",
            "Messages that the webhook never took: given up after all tries, or dropped because too many waited",
            self.lost.clone(),
        );
    }
}
