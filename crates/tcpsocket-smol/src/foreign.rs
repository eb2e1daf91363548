//! Foreign code, that is wakers, gates, meters, payload and spawners: it may panic, and that costs its own socket (LIFE-9).

use std::any::Any;
use std::future::Future;
use std::mem;
use std::panic::{self, AssertUnwindSafe};

use futures_lite::FutureExt;
use tcpsocket::{Error, ErrorName};

/// What foreign code panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

/// Calls foreign code, and returns its panic.
pub(crate) fn call<T>(code: impl FnOnce() -> T) -> Result<T, Panic> {
    panic::catch_unwind(AssertUnwindSafe(code))
}

/// Runs foreign code on a thread that has others to serve: its panic ends here. The panic hook has reported it.
pub(crate) fn contain(code: impl FnOnce()) {
    if let Err(panic) = call(code) {
        forget(panic);
    }
}

/// Drops what a panic was thrown with, which is foreign code once more.
pub(crate) fn forget(panic: Panic) {
    if let Err(worse) = call(|| drop(panic)) {
        mem::forget(worse);
    }
}

/// The answer of a gate; one that panics has refused.
pub(crate) async fn gate<T>(
    answer: impl Future<Output = Result<T, Error>>,
    about: &str,
) -> Result<T, Error> {
    answer_or(answer, || gate_panicked(about)).await
}

/// The answer of a resolver; one that panics has failed.
pub(crate) async fn resolver<T>(
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    answer_or(answer, || {
        Error::new(ErrorName::Network, "the resolver panicked")
    })
    .await
}

async fn answer_or<T>(
    answer: impl Future<Output = Result<T, Error>>,
    otherwise: impl FnOnce() -> Error,
) -> Result<T, Error> {
    AssertUnwindSafe(answer)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| {
            forget(panic);
            Err(otherwise())
        })
}

/// A gate that panicked while it was asked, or told, about this.
pub(crate) fn gate_panicked(about: &str) -> Error {
    Error::new(
        ErrorName::NotAllowed,
        format!("a gate panicked over {about}, which counts as a refusal"),
    )
}

/// Panics of several pieces of foreign code that all have to run: the first one is kept.
#[derive(Default)]
pub(crate) struct Panics(Option<Panic>);

impl Panics {
    /// Runs the code; false if it panicked.
    pub(crate) fn run(&mut self, code: impl FnOnce()) -> bool {
        match call(code) {
            Ok(()) => true,
            Err(panic) if self.0.is_none() => {
                self.0 = Some(panic);
                false
            }
            Err(panic) => {
                forget(panic);
                false
            }
        }
    }

    /// Lets the first one unwind into the caller.
    pub(crate) fn resume(self) {
        if let Some(panic) = self.0 {
            panic::resume_unwind(panic);
        }
    }

    /// Lets none of them go further.
    pub(crate) fn forget(self) {
        if let Some(panic) = self.0 {
            forget(panic);
        }
    }
}
