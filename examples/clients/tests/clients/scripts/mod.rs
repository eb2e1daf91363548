//! The clients against scripted peers. Who runs them picks the implementation, and offers `run`.

mod http;
mod imap;
mod peer;
mod redis;
mod smtp;

use std::fmt::Debug;
use std::time::Duration;

use tcpsocket::{Error, ErrorName};

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The error that it must be, by its name.
#[track_caller]
fn fails<T: Debug>(outcome: Result<T, Error>, name: ErrorName) {
    match outcome {
        Ok(value) => panic!("{name} expected, {value:?} came"),
        Err(error) => assert_eq!(error.name(), name, "{error}"),
    }
}
