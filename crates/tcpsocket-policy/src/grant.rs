//! What a host grants an app, changeable while the app runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{Control, Error, Meter};

use crate::app::Standing;
use crate::decision::Judged;
use crate::guard::Guard;
use crate::{Ask, Level, lock};

/// What a host grants an app, as a handle that changes it while the app runs (PERM-4).
///
/// Each change takes every decision about what the app has live once more, and ends what the policy denies now: its sockets and
/// servers get a `NotAllowedError`, whatever they were doing, also those that the app has dropped and that only flush.
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
    next: u64,
    /// In the order of their creation, so that a server is ended before what it accepted.
    live: BTreeMap<u64, Weak<Watch>>,
}

impl Grant {
    pub(crate) fn new(level: Level) -> Grant {
        Grant {
            state: Arc::new(Mutex::new(State {
                level: Some(level),
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
    pub fn set_level(&self, level: Level) {
        self.change(Some(level));
    }

    /// Grants nothing any more: every call is denied, and every live socket and server of the app ends.
    ///
    /// When it returns, all of them have been told to; the app sees it in its next poll.
    pub fn revoke(&self) {
        self.change(None);
    }

    fn change(&self, level: Option<Level>) {
        let live: Vec<Arc<Watch>> = {
            let mut state = lock(&self.state);
            state.level = level;
            state.live.values().filter_map(Weak::upgrade).collect()
        };
        // First everything ends, whatever the audit sinks may do then.
        let ended: Vec<_> = live
            .iter()
            .filter_map(|watch| Some((watch, watch.reconsider(level)?)))
            .collect();
        for (watch, (standing, judged)) in ended {
            watch.guard.record(standing, watch.ask.clone(), judged);
        }
    }

    /// Keeps the control of something that has come to life for `ask`, until nothing of it is left.
    pub(crate) fn watch(guard: &Arc<Guard>, ask: Ask, control: Weak<dyn Control>) -> Arc<Watch> {
        let mut state = lock(&guard.app.grant().state);
        let id = state.next;
        state.next += 1;
        let watch = Arc::new(Watch {
            id,
            guard: guard.clone(),
            ask,
            control,
            denied: AtomicBool::new(false),
            told: AtomicBool::new(false),
        });
        state.live.insert(id, Arc::downgrade(&watch));
        let level = state.level;
        drop(state);
        // The grant may have been revoked since this was decided. A change from here on finds it among the live.
        if let Some((standing, judged)) = watch.reconsider(level) {
            guard.record(standing, watch.ask.clone(), judged);
        }
        watch
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

/// One live socket or server. It is its meter, too, and so lives exactly as long as anything of it moves.
pub(crate) struct Watch {
    id: u64,
    guard: Arc<Guard>,
    ask: Ask,
    control: Weak<dyn Control>,
    denied: AtomicBool,
    /// Whether the control was told.
    told: AtomicBool,
}

impl Watch {
    /// Ends it if it is not allowed any more; the first time, that is to be recorded.
    fn reconsider(&self, granted: Option<Level>) -> Option<(Standing, Judged)> {
        let (standing, judged) = self.guard.judge(granted, &self.ask);
        if !judged.is_denied() {
            return None;
        }
        let first = !self.denied.swap(true, SeqCst);
        self.end();
        first.then_some((standing, judged))
    }

    /// A control can be reached once the socket is there entirely. If it was not when the grant went, the first byte that
    /// moves catches up on it.
    fn end(&self) {
        let Some(control) = self.control.upgrade() else {
            return;
        };
        if !self.told.swap(true, SeqCst) {
            control.abort(Guard::refusal());
        }
    }
}

impl Meter for Watch {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        if self.denied.load(SeqCst) {
            self.end();
            return Err(Guard::refusal());
        }
        Ok(())
    }

    fn moved(&self, _written: usize, _read: usize, _dropped: usize) {
        if self.denied.load(SeqCst) {
            self.end();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.guard.app.grant().state).live.remove(&self.id);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}
