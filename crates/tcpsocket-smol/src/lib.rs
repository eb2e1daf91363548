//! The implementation on smol; the page below is the README.
#![doc = include_str!("../README.md")]

mod admission;
mod event_loop;
mod provider;
mod resolver;
mod scratch;
mod server;
mod socket;
mod source;
mod stream;
mod sys;
mod tls;

use std::sync::{Mutex, MutexGuard};

pub use crate::event_loop::Loop;
pub use crate::provider::{Smol, Task};
pub use crate::resolver::SystemResolver;

/// A panic elsewhere leaves our state as it was before a call: every critical section is written so.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
