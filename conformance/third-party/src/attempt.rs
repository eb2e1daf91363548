//! A thread that waits for futures, and can be told to give up.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::{lock, sleep};

/// One attempt to connect, as seen by those who may end it.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    news: Mutex<News>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct News {
    given_up: bool,
    woken: bool,
}

/// Why a future was dropped before it was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    GivenUp,
    TimedOut,
}

impl Attempt {
    pub(crate) fn give_up(&self) {
        lock(&self.news).given_up = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        lock(&self.news).given_up
    }

    /// Runs a future on this thread until it is ready, the attempt is given up, or `end` has come.
    pub(crate) fn run<T>(
        self: &Arc<Attempt>,
        future: impl Future<Output = T>,
        end: Option<Instant>,
    ) -> Result<T, Stopped> {
        let mut future = pin!(future);
        let waker = Waker::from(self.clone());
        loop {
            if self.is_given_up() {
                return Err(Stopped::GivenUp);
            }
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(output);
            }
            let mut news = lock(&self.news);
            while !std::mem::take(&mut news.woken) && !news.given_up {
                if end.is_some_and(|it| it <= Instant::now()) {
                    return Err(Stopped::TimedOut);
                }
                news = sleep(&self.changed, news, end);
            }
        }
    }
}

impl Wake for Attempt {
    fn wake(self: Arc<Attempt>) {
        lock(&self.news).woken = true;
        self.changed.notify_all();
    }
}
