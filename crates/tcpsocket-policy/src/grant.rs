//! What a host grants an app, changeable while the app runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};

use crate::watch::Watch;
use crate::{Level, lock};

/// What a host grants an app, as a handle that changes it while the app runs (PERM-4).
///
/// Each change takes every decision about what the app has live once more, and ends what the policy denies now: its sockets and
/// servers get a `NotAllowedError`, whatever they were doing, also those that the app has dropped and that only flush.
///
/// What was asked for before a change and is still on its way ends too, even if the grant is given back meanwhile (PERM-23).
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
    /// In the order of their creation, so that a server is ended before what it accepted.
    live: BTreeMap<u64, Weak<Watch>>,
}

/// How often a grant had changed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// As much of the past as is needed to say what was the least granted since any moment.
struct History {
    now: Moment,
    /// For each of `STEPS`, the last change that granted it.
    last: [Option<Moment>; STEPS.len()],
}

/// What can be granted, the least first.
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

    /// The change that made the grant what it was at `moment` counts, too, and every later one.
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

    /// The level that is granted, or `None` once it is revoked.
    pub fn level(&self) -> Option<Level> {
        lock(&self.state).level
    }

    /// Grants this level from now on, also after it was revoked. A lower one ends what the policy denies at it.
    ///
    /// It is for calls from now on: nothing that a lower level has denied since it was asked for comes back.
    pub fn set_level(&self, level: Level) {
        self.change(Some(level));
    }

    /// Grants nothing any more: every call is denied, and every live socket and server of the app ends.
    ///
    /// When it returns, all of them have been told to; the app sees it in its next poll. Calls that are under way then end too,
    /// whatever is granted before they are over.
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
        // First everything ends, whatever the audit sinks may do then.
        let ended: Vec<_> = live
            .iter()
            .filter_map(|(watch, least)| Some((watch, watch.reconsider(*least)?)))
            .collect();
        for (watch, judged) in ended {
            watch.record(judged);
        }
    }

    /// What a request that begins now keeps.
    pub(crate) fn now(&self) -> Moment {
        lock(&self.state).history.now
    }

    /// The least that was granted at `moment` or since.
    pub(crate) fn least_since(&self, moment: Moment) -> Option<Level> {
        lock(&self.state).history.least_since(moment)
    }

    /// Keeps a watch until nothing of what it watches is left. Returns the least that was granted since that was asked for; a
    /// change from here on finds the watch.
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
