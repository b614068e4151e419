//! The webhook: an application of the operator's that is asked before a client publishes or plays, and told what befalls
//! broadcasts and recordings.
//!
//! [`Asker`] asks, [`Teller`] tells, and both do so by a [`Hook`], which signs each request (Standard Webhooks).
//!
//! **Invariant:** without a clear yes in time the answer is no; and an application that is slow or gone delays those who
//! wait for its word, and nobody else.

mod event;
mod hook;
mod metrics;
mod question;
mod queue;
mod secret;
mod teller;
mod url;

pub use hook::{Hook, HookConfig};
pub use metrics::WebhookMetrics;
pub use question::{Asker, Question, Refusal, Wanted};
pub use secret::{NotASecret, WebhookSecret};
pub use teller::Teller;
pub use url::{NotAWebhookUrl, WebhookUrl};
