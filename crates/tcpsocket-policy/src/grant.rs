//! The host's grant to an app, changeable while the app runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use crate::watch::Watch;
use crate::{Level, lock};

/// The host's grant to an app: a handle to change it while the app runs (PERM-4).
///
/// Each change repeats every decision about the app's live sockets and servers, and ends those the policy now denies with a
/// `NotAllowedError`, whatever they are doing. That includes sockets the app has dropped that are only flushing.
///
/// Requests from before a change that are still under way end too, even if the grant is given back meanwhile (PERM-23).
///
/// Clones are the same grant. Never give one to the app.
///
/// ```
/// use tcpsocket_policy::{App, Level, Manifest};
///
/// let manifest = Manifest::new(Level::Certified).requesting_tcp_socket();
/// let app = App::new("mail.example", Level::Privileged, manifest);
/// let grant = app.grant().clone();
///
/// grant.revoke();
/// assert!(!app.has_permission());
/// grant.set_level(Level::Certified);
/// assert_eq!(app.level(), Some(Level::Certified));
/// ```
#[derive(Clone)]
pub struct Grant {
    state: Arc<Mutex<State>>,
}

struct State {
    level: Option<Level>,
    history: History,
    next: u64,
    /// In order of creation, so that a server ends before its accepted sockets.
    live: BTreeMap<u64, Weak<Watch>>,
}

/// A point in a grant's history: the number of changes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// Just enough of the past to tell the lowest grant since any moment.
struct History {
    now: Moment,
    /// For each of `STEPS`, the last change to it.
    last: [Option<Moment>; STEPS.len()],
}

/// The possible grants, the lowest first.
const STEPS: [Option<Level>; 4] = [
    None,
    Some(Level::Hosted),
    Some(Level::Privileged),
    Some(Level::Certified),
];

impl History {
    fn beginning_with(level: Option<Level>) -> History {
        let mut history = History {
            now: Moment(0),
            last: [None; STEPS.len()],
        };
        history.change_to(level);
        history
    }

    fn change_to(&mut self, level: Option<Level>) {
        self.now.0 += 1;
        for (step, last) in STEPS.iter().zip(&mut self.last) {
            if *step == level {
                *last = Some(self.now);
            }
        }
    }

    /// Counts the grant in effect at `moment` and every later one.
    fn least_since(&self, moment: Moment) -> Option<Level> {
        let mut steps = STEPS.iter().zip(&self.last);
        let found = steps.find(|(_, last)| last.is_some_and(|at| at >= moment));
        found.and_then(|(step, _)| *step)
    }
}

impl Grant {
    pub(crate) fn new(level: Level) -> Grant {
        Grant {
            state: Arc::new(Mutex::new(State {
                level: Some(level),
                history: History::beginning_with(Some(level)),
                next: 0,
                live: BTreeMap::new(),
            })),
        }
    }

    /// The granted level, or `None` once revoked.
    pub fn level(&self) -> Option<Level> {
        lock(&self.state).level
    }

    /// Grants this level from now on, even after a revocation. A lower level ends every socket and server that the policy
    /// denies at that level.
    ///
    /// A higher level applies to later calls only: requests denied by a lower level meanwhile do not come back.
    pub fn set_level(&self, level: Level) {
        self.change(Some(level));
    }

    /// Revokes the grant: every later call is denied, and every live socket and server of the app ends.
    ///
    /// By the time this returns, each of them has been told to end; the app sees it at its next poll. Calls under way end
    /// too, whatever you grant before they finish.
    pub fn revoke(&self) {
        self.change(None);
    }

    fn change(&self, level: Option<Level>) {
        let live: Vec<(Arc<Watch>, Option<Level>)> = {
            let mut state = lock(&self.state);
            state.level = level;
            state.history.change_to(level);
            let live = state.live.values().filter_map(Weak::upgrade);
            live.map(|watch| {
                let least = state.history.least_since(watch.began());
                (watch, least)
            })
            .collect()
        };
        // End everything first, whatever the audit sinks do afterwards.
        let ended: Vec<_> = live
            .iter()
            .filter_map(|(watch, least)| Some((watch, watch.reconsider(*least)?)))
            .collect();
        for (watch, judged) in ended {
            watch.record(judged);
        }
    }

    /// The moment for a request that begins now.
    pub(crate) fn now(&self) -> Moment {
        lock(&self.state).history.now
    }

    /// The lowest grant at `moment` or since.
    pub(crate) fn least_since(&self, moment: Moment) -> Option<Level> {
        lock(&self.state).history.least_since(moment)
    }

    /// Registers a watch for as long as it lives. Returns the lowest grant since the request began; later changes reach the
    /// watch.
    pub(crate) fn keep(&self, make: impl FnOnce(u64) -> Watch) -> (Arc<Watch>, Option<Level>) {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        let watch = Arc::new(make(id));
        state.live.insert(id, Arc::downgrade(&watch));
        let least = state.history.least_since(watch.began());
        (watch, least)
    }

    pub(crate) fn forget(&self, id: u64) {
        lock(&self.state).live.remove(&id);
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Grant")
            .field("level", &state.level)
            .field("live", &state.live.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Four moments tell as much as the whole past.
        #[test]
        fn the_least_since_any_moment_is_known(steps in prop::collection::vec(0..STEPS.len(), 1..40)) {
            let mut history = History::beginning_with(STEPS[steps[0]]);
            let mut moments = vec![history.now];
            for step in &steps[1..] {
                history.change_to(STEPS[*step]);
                moments.push(history.now);
            }
            for (at, moment) in moments.iter().enumerate() {
                let least = steps[at..].iter().min().and_then(|step| STEPS[*step]);
                prop_assert_eq!(history.least_since(*moment), least);
            }
        }
    }
}
