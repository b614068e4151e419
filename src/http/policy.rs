//! The policy in force.
//!
//! **Invariant:** each question is answered by one policy, the one before or the one after a change.

use std::sync::{Arc, PoisonError, RwLock};

use crate::access::{BadToken, Permit, Policy};

/// The policy in force, which can be replaced while the server runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct PolicyCell(Arc<RwLock<Arc<Policy>>>);

impl PolicyCell {
    /// A cell that holds `policy`.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// Puts another policy in force. What was begun under the one before goes on.
    pub fn replace(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What whoever shows `token`, or none, may do.
    ///
    /// # Errors
    ///
    /// [`BadToken`].
    pub fn permit(&self, token: Option<&str>) -> Result<Permit, BadToken> {
        let policy = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        policy.permit(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_replaced_for_all_who_hold_the_cell() {
        let cell = PolicyCell::default();
        let other = cell.clone();
        assert!(other.permit(Some("anything")).is_ok());
        cell.replace(Policy::parse("").unwrap());
        assert_eq!(other.permit(Some("anything")).unwrap_err(), BadToken);
    }
}
