//! Waiting, always with a deadline on the world's clock, and never by polling a clock.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::World;
use crate::sync::lock;

/// How long a case waits for one thing before it fails; well below the deadline of a case, so that a failure has a trace.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// Wakes the waiters for a fact of the kit itself, such as a gate's call or a thread's end.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Vec<Waker>>);

impl Bell {
    pub(crate) fn ring(&self) {
        let waiting = std::mem::take(&mut *lock(&self.0));
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn watch(&self, waker: &Waker) {
        let mut waiting = lock(&self.0);
        if !waiting.iter().any(|it| it.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }
}

/// Waits until `fact` is true of the world or the kit; false after the deadline.
pub(crate) async fn until(
    world: &dyn World,
    bell: &Bell,
    patience: Duration,
    mut fact: impl FnMut() -> bool,
) -> bool {
    let end = world.now() + patience;
    poll_fn(|cx| {
        world.watch(cx.waker());
        bell.watch(cx.waker());
        if fact() {
            return Poll::Ready(true);
        }
        if world.now() >= end {
            return Poll::Ready(false);
        }
        world.alarm(end, cx.waker());
        Poll::Pending
    })
    .await
}

/// The output of `future`, or `None` after the deadline.
pub(crate) async fn within<T>(
    world: &dyn World,
    patience: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    let end = world.now() + patience;
    let mut future = pin!(future);
    let flag = Flag::new();
    poll_fn(|cx| {
        flag.watch(cx.waker());
        // Polled only when it was woken itself: another wake must not hide a forgotten one.
        if flag.take()
            && let Poll::Ready(output) = future
                .as_mut()
                .poll(&mut Context::from_waker(&flag.waker()))
        {
            return Poll::Ready(Some(output));
        }
        if world.now() >= end {
            return Poll::Ready(None);
        }
        world.alarm(end, cx.waker());
        if flag.is_set() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}

/// Lets all other ready tasks run first.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// A waker that records and forwards its wakes. Set at first, so that the first poll takes place.
#[derive(Debug)]
pub(crate) struct Flag {
    set: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Flag {
    pub(crate) fn new() -> Arc<Flag> {
        Arc::new(Flag {
            set: AtomicBool::new(true),
            task: Mutex::new(None),
        })
    }

    pub(crate) fn watch(&self, task: &Waker) {
        let mut slot = lock(&self.task);
        if !slot.as_ref().is_some_and(|it| it.will_wake(task)) {
            *slot = Some(task.clone());
        }
    }

    pub(crate) fn waker(self: &Arc<Flag>) -> Waker {
        Waker::from(self.clone())
    }

    pub(crate) fn take(&self) -> bool {
        self.set.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.set.store(true, Ordering::SeqCst);
        let task = lock(&self.task).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A waker that counts its wakes.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Count>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// One poll with a waker that does nothing.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
