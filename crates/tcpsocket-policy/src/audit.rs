//! Where everything is told.

use std::fmt;

use crate::{Ask, Decision, Failure};

/// One entry of an audit: something that was decided, or something that failed.
///
/// Not exhaustive; [`Display`](fmt::Display) writes any entry as one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// The guard has decided.
    Decided(Decision),
    /// What the app asked for came to nothing, or ended, for a reason that the app is not told.
    Failed(Failure),
}

impl Entry {
    /// The id of the app that it is about.
    pub fn app(&self) -> &str {
        match self {
            Entry::Decided(decision) => decision.app(),
            Entry::Failed(failure) => failure.app(),
        }
    }

    /// What the app asked for.
    pub fn asked(&self) -> &Ask {
        match self {
            Entry::Decided(decision) => decision.asked(),
            Entry::Failed(failure) => failure.asked(),
        }
    }

    /// The decision, if it is one.
    pub fn decision(&self) -> Option<&Decision> {
        match self {
            Entry::Decided(decision) => Some(decision),
            Entry::Failed(_) => None,
        }
    }

    /// The failure, if it is one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Entry::Decided(_) => None,
            Entry::Failed(failure) => Some(failure),
        }
    }

    /// Whether it says no: a denial, or a failure.
    pub fn is_bad(&self) -> bool {
        !self.decision().is_some_and(Decision::is_allowed)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Decided(decision) => decision.fmt(f),
            Entry::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Told everything about an app that the app is not told, as it happens (PERM-15, PERM-24).
///
/// - Each call, with its verdict, before the app gets the answer.
/// - Each address, bind and peer that is decided about.
/// - Each live socket and server that a change of the grant has ended, after the fact.
/// - Each error whose name alone the app is told, with its message, its cause and every address in it, before the app
///   gets it.
///
/// Called in whatever thread decides or polls, with no lock of a guard held, so it should be quick. Any `Fn(&Entry)` is one.
///
/// ```
/// use std::sync::Arc;
/// use tcpsocket_policy::{Audit, Entry};
///
/// let log: Arc<dyn Audit> = Arc::new(|entry: &Entry| {
///     if entry.is_bad() {
///         eprintln!("{entry}");
///     }
/// });
/// ```
pub trait Audit: Send + Sync + 'static {
    /// This happened.
    fn record(&self, entry: &Entry);
}

impl<F: Fn(&Entry) + Send + Sync + 'static> Audit for F {
    fn record(&self, entry: &Entry) {
        self(entry);
    }
}
