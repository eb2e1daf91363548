//! What a reactor can tell a socket or a server, and the hooks by which it does.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::Instant;

use async_io::Timer;

use crate::event_loop::{Core, TimerKey};
use crate::foreign;

/// Readiness, as a reactor reports it. A hint, never a promise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer has finished or the connection broke: readable for ever from here on.
    pub(crate) read_closed: bool,
}

/// Something that a reactor drives. None of these runs code of the application but for waking tasks.
pub(crate) trait Source: Send + Sync {
    fn ready(&self, ready: Ready);
    fn deadline(&self);
    /// Do now what a turn had put off.
    fn flush(&self);
}

/// The wakers that async-io holds for one source. One for each direction and never another: async-io wakes the one it
/// replaces.
#[derive(Clone, Debug)]
pub(crate) struct Hooks {
    pub(crate) read: Waker,
    pub(crate) write: Waker,
    pub(crate) timer: Waker,
}

impl Hooks {
    pub(crate) fn new(source: &Weak<impl Source + 'static>) -> Hooks {
        let hook = |call: fn(&dyn Source)| {
            let source: Weak<dyn Source> = source.clone();
            Waker::from(Arc::new(Hook { source, call }))
        };
        Hooks {
            read: hook(|source| {
                source.ready(Ready {
                    readable: true,
                    ..Ready::default()
                });
            }),
            write: hook(|source| {
                source.ready(Ready {
                    writable: true,
                    ..Ready::default()
                });
            }),
            timer: hook(|source| source.deadline()),
        }
    }
}

struct Hook {
    source: Weak<dyn Source>,
    call: fn(&dyn Source),
}

impl Wake for Hook {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The reactor that wakes us has other sources to serve.
        if let Some(source) = self.source.upgrade() {
            foreign::contain(move || (self.call)(&*source));
        }
    }
}

/// The one deadline that a source may have armed.
#[derive(Debug, Default)]
pub(crate) enum Deadline {
    #[default]
    None,
    AsyncIo {
        at: Instant,
        _timer: Timer,
    },
    Loop {
        core: Arc<Core>,
        key: TimerKey,
    },
}

impl Deadline {
    pub(crate) fn at(&self) -> Option<Instant> {
        match self {
            Deadline::None => None,
            Deadline::AsyncIo { at, .. } => Some(*at),
            Deadline::Loop { key, .. } => Some(key.at()),
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Deadline::Loop { core, key } = self {
            core.cancel_timer(*key);
        }
    }
}
