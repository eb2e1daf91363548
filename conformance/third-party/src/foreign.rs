//! Code that is not ours: gates, resolvers, meters, wakers, and whatever runs when something of theirs is dropped.
//!
//! A panic of theirs ends here, on the caller's threads as on ours (LIFE-9). That nothing of it runs under a lock
//! (LIFE-10) is up to those who call.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tcpsocket::{Error, ErrorName};

/// Makes a call that may panic: `None` if it did. The hook has reported that already, as it does for every panic.
pub(crate) fn contained<T>(call: impl FnOnce() -> T) -> Option<T> {
    // Such a call sees nothing of ours that could be left half changed.
    catch_unwind(AssertUnwindSafe(call))
        .map_err(|thrown| {
            // What was thrown is foreign as well. The second time it is not dropped at all.
            let dropped = catch_unwind(AssertUnwindSafe(|| drop(thrown)));
            dropped.unwrap_or_else(std::mem::forget);
        })
        .ok()
}

/// Wakes them all, whatever one of them does.
pub(crate) fn wake(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        contained(|| waker.wake());
    }
}

/// What a gate or a meter says that panics: no.
pub(crate) fn refusal(who: &str) -> Error {
    Error::new(ErrorName::NotAllowed, format!("a {who} has panicked"))
}

/// Things whose drop may run foreign code: they are dropped one by one, since a second panic during a first would end
/// the process.
#[derive(Clone, Debug)]
pub(crate) struct Foreign<T>(Vec<T>);

impl<T> Default for Foreign<T> {
    fn default() -> Foreign<T> {
        Foreign(Vec::new())
    }
}

impl<T: Clone> From<&[T]> for Foreign<T> {
    fn from(all: &[T]) -> Foreign<T> {
        Foreign(all.to_vec())
    }
}

impl<T> Deref for Foreign<T> {
    type Target = Vec<T>;

    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for Foreign<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        for it in self.0.drain(..) {
            contained(|| drop(it));
        }
    }
}

/// A question to foreign code. Its answer is `None` if they panic: when they are asked, later, or when their future is
/// dropped.
pub(crate) struct Question<F>(Option<F>);

pub(crate) fn ask<F: Future + Unpin>(question: impl FnOnce() -> F) -> Question<F> {
    Question(contained(question))
}

/// What a gate decides.
pub(crate) async fn ask_gate<T, F: Future<Output = Result<T, Error>> + Unpin>(
    question: impl FnOnce() -> F,
) -> Result<T, Error> {
    ask(question).await.unwrap_or_else(|| Err(refusal("gate")))
}

impl<F: Future + Unpin> Future for Question<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let asked = &mut self.0;
        let polled = contained(|| {
            let polled = Pin::new(asked.as_mut()?).poll(cx);
            if polled.is_ready() {
                *asked = None;
            }
            Some(polled)
        });
        polled
            .flatten()
            .map_or(Poll::Ready(None), |it| it.map(Some))
    }
}

impl<F> Drop for Question<F> {
    fn drop(&mut self) {
        let asked = self.0.take();
        contained(|| drop(asked));
    }
}
