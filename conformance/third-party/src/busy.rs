//! How many sockets hold bytes or linger: what `idle` waits for.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use crate::lock;

/// Shared by a provider and all of its sockets.
#[derive(Debug, Default)]
pub(crate) struct Busy(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    sockets: usize,
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

impl Busy {
    pub(crate) fn enter(&self) {
        lock(&self.0).sockets += 1;
    }

    /// Returns whom to wake, which is the caller's to do: it may hold a lock now.
    #[must_use]
    pub(crate) fn leave(&self) -> Vec<Waker> {
        let mut count = lock(&self.0);
        count.sockets -= 1;
        match count.sockets {
            0 => std::mem::take(&mut count.waiting).into_values().collect(),
            _ => Vec::new(),
        }
    }

    pub(crate) fn idle(&self) -> Idle<'_> {
        Idle {
            busy: self,
            place: None,
        }
    }
}

/// Ready when no socket is busy.
#[derive(Debug)]
pub(crate) struct Idle<'a> {
    busy: &'a Busy,
    place: Option<u64>,
}

impl Future for Idle<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let _old;
        let mut count = lock(&self.busy.0);
        if count.sockets == 0 {
            return Poll::Ready(());
        }
        let place = self.place.unwrap_or(count.next);
        count.next = count.next.max(place + 1);
        _old = count.waiting.insert(place, waker);
        drop(count);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            // The guard is gone at the end of the statement, the waker at the end of the block.
            let _waker = lock(&self.busy.0).waiting.remove(&place);
        }
    }
}
