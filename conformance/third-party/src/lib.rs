//! A provider on threads and blocking sockets; the page below is the README.

#![doc = include_str!("../README.md")]

mod attempt;
mod busy;
mod dial;
mod foreign;
mod meters;
mod names;
mod net;
mod provider;
mod reader;
mod server;
mod shared;
mod socket;
mod state;
mod writer;

pub use crate::provider::ThirdParty;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A lock that a panic elsewhere does not take from us: nothing of the caller's runs while one is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until it is told of a change, or until then. It may return early.
fn sleep<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    until: Option<Instant>,
) -> MutexGuard<'a, T> {
    match until.map(|it| it.saturating_duration_since(Instant::now())) {
        None => condvar.wait(guard).unwrap_or_else(PoisonError::into_inner),
        Some(left) => {
            let slept = condvar.wait_timeout(guard, left);
            slept.unwrap_or_else(PoisonError::into_inner).0
        }
    }
}
