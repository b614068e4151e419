//! Access: who may publish, watch, see recordings and operate.
//!
//! Look at [`Policy`] first: it is read from the file of `--auth` and makes a [`Permit`] of a token, which the doors ask.
//!
//! **Invariant:** what is not granted is refused; a secret is compared in constant time and never shown.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod address;
pub mod attempts;
mod file;
mod grant;
mod jwt;
mod pattern;
mod permit;

pub use file::PolicyError;
pub use grant::Right;
pub use pattern::Pattern;
pub use permit::{BadToken, Permit, Policy};
