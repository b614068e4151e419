//! What the client of a WebSocket may do: by the token of a message, or by that of the request that opened the WebSocket, and
//! by the webhook's word.
//!
//! **Invariant:** tokens are judged by the policy of the moment, and the webhook is asked about what they permit alone.

use std::pin::Pin;

use super::policy::{PolicyCell, Shown, TokenError};
use super::webhook::{Asker, Question, Refusal, Wanted};
use crate::access::Right;
use crate::hub::io::Door;
use crate::signal::{BroadcastId, ClientMessage, ErrorCode};

/// What a client may do.
pub struct Access {
    /// Who may do what.
    pub policy: PolicyCell,
    /// What the request that opened the WebSocket has shown.
    pub shown: Shown,
    /// Who has a say besides.
    pub asker: Option<Asker>,
}

/// Why a message is not passed on: what the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoLeave {
    /// The kind of refusal.
    pub code: ErrorCode,
    /// One line.
    pub reason: String,
}

/// The webhook's word, which is yet to come.
pub type Word = Pin<Box<dyn Future<Output = Result<(), NoLeave>> + Send>>;

impl Access {
    /// Whether tokens permit a message.
    ///
    /// # Errors
    ///
    /// [`NoLeave`].
    pub fn permits(&self, message: &ClientMessage) -> Result<(), NoLeave> {
        let (right, room, user, token) = match message {
            ClientMessage::Register { room, user, token, .. } => (Right::Publish, room, Some(user), token),
            ClientMessage::Subscribe { room, user, token } => (Right::Watch, room, user.as_ref(), token),
            // The others say something of what these two began.
            _ => return Ok(()),
        };
        let leave = self.shown.permit(&self.policy, token.as_deref())?;
        let what = right.name();
        let (may, whom) = match user {
            Some(user) => {
                let broadcast = BroadcastId::new(room.clone(), user.clone());
                (leave.may(right, &broadcast), broadcast.to_string())
            }
            None => (leave.may_in_all_of(right, room.as_str()), format!("all of {room}, only what is named")),
        };
        let reason = match leave.has_token() {
            _ if may => return Ok(()),
            true => format!("this token does not permit: {what} {whom}"),
            false => format!("a token is needed: {what} {whom}"),
        };
        Err(NoLeave { code: ErrorCode::Unauthorized, reason })
    }

    /// Asks the webhook about a message that tokens permit, if there is one and it has a say in it.
    pub fn ask(&self, message: &ClientMessage) -> Option<Word> {
        let asker = self.asker.clone()?;
        let wanted = match message {
            ClientMessage::Register { room, user, .. } => Wanted::Publish(BroadcastId::new(room.clone(), user.clone())),
            ClientMessage::Subscribe { room, user: Some(user), .. } => {
                Wanted::Play(BroadcastId::new(room.clone(), user.clone()))
            }
            ClientMessage::Subscribe { room, user: None, .. } => Wanted::PlayAll(room.clone()),
            _ => return None,
        };
        let question = Question { wanted, door: Door::WebSocket, remote: self.shown.address() };
        Some(Box::pin(async move { asker.ask(&question).await.map_err(NoLeave::from) }))
    }
}

impl From<TokenError> for NoLeave {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Bad(_) => ErrorCode::Unauthorized,
            TokenError::TooMany { .. } => ErrorCode::TooMany,
        };
        Self { code, reason: error.to_string() }
    }
}

impl From<Refusal> for NoLeave {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Denied(_) => ErrorCode::Unauthorized,
            Refusal::TooMany => ErrorCode::TooMany,
        };
        Self { code, reason: refusal.to_string() }
    }
}
