//! Where decisions are told.

use crate::Decision;

/// Told every decision of a guard, as it is taken: what the app is not told.
///
/// That is: each call, with its verdict, before the app gets the answer; each address, bind and peer; and each live socket and server that a
/// change of the grant has ended, after the fact.
///
/// Called in whatever thread decides, with no lock of a guard held, so it should be quick. Any `Fn(&Decision)` is one.
///
/// ```
/// use std::sync::Arc;
/// use tcpsocket_policy::{Audit, Decision};
///
/// let log: Arc<dyn Audit> = Arc::new(|decision: &Decision| {
///     if !decision.is_allowed() {
///         eprintln!("{decision}");
///     }
/// });
/// ```
pub trait Audit: Send + Sync + 'static {
    /// This was decided.
    fn record(&self, decision: &Decision);
}

impl<F: Fn(&Decision) + Send + Sync + 'static> Audit for F {
    fn record(&self, decision: &Decision) {
        self(decision);
    }
}
