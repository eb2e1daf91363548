//! Who is woken, and what becomes of a wait that is given up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use tcpsocket::{Error, Event};

use super::Mutant;
use super::bend::{Fault, Inner, sockets};
use crate::Capability;
use crate::sync::lock;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the-first-waker-stays",
        repeats: "Futures that keep the waker of their first poll, a classic mistake.",
        clauses: &["EVT-1"],
        what: "While a wait is parked, a later poll does not replace its waker.",
        caught_by: &["turns/latest-waker"],
        wrap: sockets::<FirstStays>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-replaced-waker-is-woken",
        repeats: "Wakers woken on replacement, so that two tasks wake each other for ever.",
        clauses: &["EVT-1"],
        what: "A replaced waker is woken.",
        caught_by: &["turns/latest-waker"],
        wrap: sockets::<ReplacedWoken>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "cancel-poll-does-nothing",
        repeats: "Futures without a Drop impl, which leave their waker behind.",
        clauses: &["EVT-16", "TURN-1"],
        what: "Giving a wait up keeps its waker and begins no turn.",
        caught_by: &[
            "turns/begin-when-a-wait-is-given-up",
            "turns/forgotten-waker",
        ],
        wrap: sockets::<NoCancel>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-stale-wait-gives-up-anothers",
        repeats: "This project's servers, whose futures, when dropped, gave up any wait, not just their own.",
        clauses: &["EVT-16", "EVT-6"],
        what: "cancel_poll forgets any waker, even another task's.",
        caught_by: &["turns/stale-wait-given-up"],
        wrap: sockets::<Anybodys>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-wait-given-up-takes-an-event-along",
        repeats: "Submitted reads that are not cancelled, as in io_uring: the dropped future had the data.",
        clauses: &["EVT-2", "EVT-16", "EVT-17"],
        what: "The first data after a wait given up at its first poll is lost.",
        caught_by: &[
            "turns/forgotten-waker",
            "turns/handlers-go-on",
            "turns/waits-given-up-lose-nothing",
        ],
        wrap: sockets::<TakesAlong>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-wakes-nobody",
        repeats: "close as a flag that the reader sees only when something else wakes it.",
        clauses: &["EVT-5", "IF-2"],
        what: "A waiting task is not woken by close, by abort, or by their consequences.",
        caught_by: &["threads/abort-elsewhere", "threads/close-elsewhere"],
        wrap: sockets::<CloseWakesNobody>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "wakes-under-a-lock",
        repeats: "Locks held across a wake, until a waker ran its task at once.",
        clauses: &["EVT-7"],
        what: "Wakers are woken under the lock that every call takes.",
        caught_by: &["turns/waker-may-call-anything"],
        wrap: sockets::<UnderALock>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "bound-to-a-thread",
        repeats: "Reactors in a thread-local, which wake only the thread that polled first.",
        clauses: &["EVT-2", "EVT-5"],
        what: "Only one thread can poll a socket; others wait for ever.",
        caught_by: &["threads/moving-wait", "threads/two-waiters"],
        wrap: sockets::<OneThread>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "two-tasks-take-the-same",
        repeats: "Queues whose head is read under one lock and removed under another.",
        clauses: &["EVT-2", "EVT-6"],
        what: "Two threads receive the same data.",
        caught_by: &["threads/moving-wait"],
        wrap: sockets::<SameTwice>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-control-wakes-nobody",
        repeats: "Revocations checked only at the next call.",
        clauses: &["GATE-11", "EVT-5"],
        what: "Control::abort does not wake a waiting task.",
        caught_by: &["threads/control-elsewhere"],
        needs: &[Capability::Gates],
        wrap: super::gates::control_wakes_nobody,
        ..Mutant::SOUND
    },
];

/// A waker in the place of the caller's.
#[derive(Default)]
pub(super) struct Slot(Mutex<Option<Waker>>);

impl Slot {
    fn set(&self, waker: &Waker) -> Option<Waker> {
        lock(&self.0).replace(waker.clone())
    }

    pub(super) fn take(&self) -> Option<Waker> {
        lock(&self.0).take()
    }

    /// A poll by the waker that is in here.
    fn poll_kept(self: &Arc<Slot>, it: &Inner) -> Poll<Option<Event>> {
        let polled = it.poll_event(&mut Context::from_waker(&Waker::from(self.clone())));
        if polled.is_ready() {
            drop(self.take());
        }
        polled
    }

    /// A poll by this waker, as long as it is in here.
    pub(super) fn poll(self: &Arc<Slot>, it: &Inner, waker: &Waker) -> Poll<Option<Event>> {
        drop(self.set(waker));
        self.poll_kept(it)
    }

    /// Gives the wait of this waker up, if it is in here.
    pub(super) fn cancel(self: &Arc<Slot>, it: &Inner, waker: &Waker) {
        let own = lock(&self.0).take_if(|kept| kept.will_wake(waker));
        let another = lock(&self.0).is_some();
        drop(own);
        if !another {
            it.cancel_poll(&Waker::from(self.clone()));
        }
    }
}

impl Wake for Slot {
    fn wake(self: Arc<Slot>) {
        let waker = self.take();
        waker.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct FirstStays(Arc<Slot>);

impl Fault for FirstStays {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let first = self.0.take();
        self.0.poll(it, first.as_ref().unwrap_or(cx.waker()))
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        self.0.cancel(it, waker);
    }
}

#[derive(Default)]
struct ReplacedWoken(Arc<Slot>);

impl Fault for ReplacedWoken {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let replaced = self.0.set(cx.waker());
        let others = replaced.filter(|it| !it.will_wake(cx.waker()));
        others.into_iter().for_each(Waker::wake);
        self.0.poll_kept(it)
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        self.0.cancel(it, waker);
    }
}

#[derive(Default)]
struct NoCancel;

impl Fault for NoCancel {
    fn cancel(&self, _it: &Inner, _waker: &Waker) {}
}

#[derive(Default)]
struct Anybodys(Arc<Slot>);

impl Fault for Anybodys {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(it, cx.waker())
    }

    fn cancel(&self, it: &Inner, _waker: &Waker) {
        drop(self.0.take());
        it.cancel_poll(&Waker::from(self.0.clone()));
    }
}

#[derive(Default)]
struct TakesAlong {
    /// Polls since the last wait was given up.
    polls: AtomicUsize,
    /// A wait was given up after one poll.
    given_up: AtomicBool,
}

impl Fault for TakesAlong {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        match polled.is_pending() {
            true => _ = self.polls.fetch_add(1, Ordering::SeqCst),
            false => self.polls.store(0, Ordering::SeqCst),
        }
        let data = matches!(polled, Poll::Ready(Some(Event::Data(_))));
        match data && self.given_up.swap(false, Ordering::SeqCst) {
            true => it.poll_event(cx),
            false => polled,
        }
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        if self.polls.swap(0, Ordering::SeqCst) == 1 {
            self.given_up.store(true, Ordering::SeqCst);
        }
        it.cancel_poll(waker);
    }
}

#[derive(Default)]
struct CloseWakesNobody(Arc<Slot>);

impl Fault for CloseWakesNobody {
    fn close(&self, it: &Inner) {
        drop(self.0.take());
        it.close();
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        drop(self.0.take());
        it.abort(why);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(it, cx.waker())
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        self.0.cancel(it, waker);
    }
}

#[derive(Default)]
struct Locked {
    slot: Slot,
    calls: Mutex<()>,
}

impl Wake for Locked {
    fn wake(self: Arc<Locked>) {
        let waker = self.slot.take();
        let _calls = lock(&self.calls);
        waker.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct UnderALock(Arc<Locked>);

impl Fault for UnderALock {
    fn suspend(&self, it: &Inner) {
        drop(lock(&self.0.calls));
        it.suspend();
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        drop(self.0.slot.set(cx.waker()));
        let polled = it.poll_event(&mut Context::from_waker(&Waker::from(self.0.clone())));
        if polled.is_ready() {
            drop(self.0.slot.take());
        }
        polled
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        let own = self.0.slot.take();
        drop(own);
        it.cancel_poll(waker);
    }
}

/// The thread that polled first.
#[derive(Default)]
struct OneThread(Mutex<Option<ThreadId>>);

impl Fault for OneThread {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let here = thread::current().id();
        match *lock(&self.0).get_or_insert(here) == here {
            true => it.poll_event(cx),
            false => Poll::Pending,
        }
    }
}

#[derive(Default)]
struct SameTwice {
    /// Who was given data, and which.
    given: Mutex<Option<(ThreadId, Event)>>,
    again: AtomicBool,
}

impl Fault for SameTwice {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let here = thread::current().id();
        let given = lock(&self.given).take_if(|(to, _)| *to != here);
        if let Some((_, event)) = given
            && !self.again.swap(true, Ordering::SeqCst)
        {
            return Poll::Ready(Some(event));
        }
        let polled = it.poll_event(cx);
        if let Poll::Ready(Some(data @ Event::Data(_))) = &polled {
            *lock(&self.given) = Some((here, data.clone()));
        }
        polled
    }
}
