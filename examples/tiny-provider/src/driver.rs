//! The one thread, which waits: for readiness, and for deadlines.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token};

use crate::lock;

/// What the thread looks after.
pub(crate) trait Source: Send + Sync {
    /// Something may have happened, or the deadline has come. A hint: who is stirred tries, and believes the system call.
    fn stir(&self);

    /// When to be stirred at the latest.
    fn deadline(&self) -> Option<Instant>;

    /// Whether `idle` has to wait for it.
    fn is_busy(&self) -> bool;
}

pub(crate) struct Driver {
    registry: Registry,
    bell: mio::Waker,
    tokens: AtomicUsize,
    /// Held here, a source outlives its handles until it has nothing left to do.
    sources: Mutex<HashMap<Token, Arc<dyn Source>>>,
    idle: Mutex<Vec<Waker>>,
}

const BELL: Token = Token(0);

impl Driver {
    pub(crate) fn start() -> io::Result<Arc<Driver>> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let driver = Arc::new(Driver {
            bell: mio::Waker::new(&registry, BELL)?,
            registry,
            tokens: AtomicUsize::new(BELL.0 + 1),
            sources: Mutex::default(),
            idle: Mutex::default(),
        });
        let weak = Arc::downgrade(&driver);
        let thread = thread::Builder::new().name("tiny-provider".into());
        thread.spawn(move || run(poll, &weak))?;
        Ok(driver)
    }

    pub(crate) fn new_token(&self) -> Token {
        Token(self.tokens.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn adopt(&self, token: Token, source: Arc<dyn Source>) {
        lock(&self.sources).insert(token, source);
    }

    pub(crate) fn forget(&self, token: Token) {
        let source = lock(&self.sources).remove(&token);
        drop(source); // outside of the lock, which its drop may need
    }

    /// Interrupts the wait: there is another deadline than the thread knows.
    pub(crate) fn ring(&self) {
        // Fails only if nobody waits any more.
        let _ = self.bell.wake();
    }

    /// One turn of the thread. Returns how long it may wait.
    fn turn(&self, events: &Events) -> Option<Duration> {
        for event in events {
            let source = lock(&self.sources).get(&event.token()).cloned();
            if let Some(source) = source {
                contained(|| source.stir());
            }
        }
        let now = Instant::now();
        let mut next = None;
        for source in self.sources() {
            if source.deadline().is_some_and(|at| at <= now) {
                contained(|| source.stir());
            }
            next = next.into_iter().chain(source.deadline()).min();
        }
        next.map(|at: Instant| at.saturating_duration_since(Instant::now()))
    }

    fn sources(&self) -> Vec<Arc<dyn Source>> {
        lock(&self.sources).values().cloned().collect()
    }

    /// Whether nothing is busy; if something is, `task` is woken when that may have changed.
    pub(crate) fn is_idle(&self, task: &Waker) -> bool {
        let idle = || self.sources().iter().all(|it| !it.is_busy());
        if idle() {
            return true;
        }
        let task = task.clone();
        lock(&self.idle).push(task);
        idle() // it may have become so before it knew whom to wake
    }

    /// A source is no longer busy.
    pub(crate) fn settled(&self) {
        let waiting = std::mem::take(&mut *lock(&self.idle));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A waker that panics costs its own socket, and not this thread (LIFE-9).
fn contained(stir: impl FnOnce()) {
    // The panic hook has reported it.
    let _ = panic::catch_unwind(AssertUnwindSafe(stir));
}

fn run(mut poll: Poll, driver: &Weak<Driver>) {
    let mut events = Events::with_capacity(256);
    let mut timeout = None;
    loop {
        // At worst it was interrupted: then there are no events, and none is lost.
        let _ = poll.poll(&mut events, timeout);
        match driver.upgrade() {
            Some(driver) => timeout = driver.turn(&events),
            None => return,
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.ring();
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

/// A descriptor in the hands of the thread, for both directions, until it is dropped.
pub(crate) struct Watched<T: mio::event::Source> {
    pub(crate) io: T,
    driver: Arc<Driver>,
}

impl<T: mio::event::Source> Watched<T> {
    pub(crate) fn new(driver: &Arc<Driver>, token: Token, mut io: T) -> io::Result<Watched<T>> {
        let both = Interest::READABLE | Interest::WRITABLE;
        driver.registry.register(&mut io, token, both)?;
        Ok(Watched {
            io,
            driver: driver.clone(),
        })
    }
}

impl<T: mio::event::Source> Drop for Watched<T> {
    fn drop(&mut self) {
        // Fails only if it is not registered, and then all is well.
        let _ = self.driver.registry.deregister(&mut self.io);
    }
}
