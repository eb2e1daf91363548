//! The host's audit log.

use std::fmt;

use crate::{Ask, Decision, Failure};

/// One entry of an audit: a decision or a failure.
///
/// Not exhaustive; [`Display`](fmt::Display) writes any entry as one line for a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry {
    /// A decision of the guard.
    Decided(Decision),
    /// A request that failed, or a socket or server that ended, for a reason the app does not learn.
    Failed(Failure),
}

impl Entry {
    /// The app's id.
    pub fn app(&self) -> &str {
        match self {
            Entry::Decided(decision) => decision.app(),
            Entry::Failed(failure) => failure.app(),
        }
    }

    /// The app's request.
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

    /// Whether this is a denial or a failure.
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

/// Receives everything that is kept from the app, as it happens (PERM-15, PERM-24):
///
/// - Each call with its verdict, before the app gets the answer.
/// - Each decision about an address, a bind or a peer.
/// - Each live socket and server ended by a change of the grant, after the fact.
/// - Each error of which the app learns only the name, with its message, cause and all addresses, before the app gets it.
///
/// Guards call it on whatever thread decides or polls, with no lock held, so it should be quick. Any `Fn(&Entry)` is an
/// `Audit`.
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
    /// Records an entry.
    fn record(&self, entry: &Entry);
}

impl<F: Fn(&Entry) + Send + Sync + 'static> Audit for F {
    fn record(&self, entry: &Entry) {
        self(entry);
    }
}
