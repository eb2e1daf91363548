//! A lock that survives a panic elsewhere.

use std::sync::{Mutex, MutexGuard};

pub(crate) fn lock<T: ?Sized>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
