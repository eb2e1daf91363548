//! Who may use a socket, and for what; the page below is the README.
#![doc = include_str!("../README.md")]

mod app;
mod ask;
mod audit;
mod decision;
mod failure;
mod grant;
mod guard;
mod level;
mod manifest;
mod policy;
mod request;
mod server;
mod socket;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use crate::app::App;
pub use crate::ask::Ask;
pub use crate::audit::{Audit, Entry};
pub use crate::decision::{Decision, Rule, Verdict};
pub use crate::failure::Failure;
pub use crate::grant::Grant;
pub use crate::guard::Guarded;
pub use crate::level::{Level, UnknownLevel};
pub use crate::manifest::{Manifest, ManifestError};
pub use crate::policy::Policy;

/// Ignores poison: no panic here leaves a value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
