//! An implementation of the interface, small enough to be read at one sitting; the page below is the README.
#![doc = include_str!("../README.md")]

mod driver;
mod inner;
mod provider;
mod server;
mod socket;
mod terms;

use std::sync::{Mutex, MutexGuard};

pub use crate::provider::{Tiny, options, servers, sockets};

/// A panic elsewhere leaves our state as it was before a call.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
