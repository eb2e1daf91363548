//! What `buffered_amount` says.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use tcpsocket::{Bytes, Error, Event, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, Stash, sockets};
use crate::sync::lock;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the-amount-falls-within-a-turn",
        repeats: "Gecko in one process, where bufferedAmount was the queue's current length.",
        clauses: &["TURN-2", "TURN-4"],
        what: "buffered_amount is live, so its next value depends on the kernel.",
        caught_by: &[
            "activity/backlog-leaves",
            "tls/the-mark",
            "turns/amount-stays",
            "turns/begin-with-an-accepted-socket",
            "turns/begin-with-an-event",
            "turns/cancel-without-a-wait",
        ],
        wrap: sockets::<Live>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-amount-is-that-of-the-last-message",
        repeats: "The app process of Firefox OS 1.0, which did not count its own sends.",
        clauses: &["TX-11", "TURN-2"],
        what: "Sent bytes count in buffered_amount only from the next turn on.",
        caught_by: &[
            "tls/exchange",
            "tls/the-mark",
            "upgrade/drain-of-what-waits",
            "upgrade/order",
        ],
        wrap: sockets::<Stale>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-amount-in-32-bits",
        repeats: "The first interfaces of Gecko: unsigned long.",
        clauses: &["IF-3"],
        what: "buffered_amount wraps at 4 GiB.",
        caught_by: &["sending/amount-past-four-gibibytes"],
        wrap: sockets::<ThirtyTwoBits>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-amount-stands-while-parked",
        repeats: "Gecko's app process, where it stayed high until everything had left, and then was 0.",
        clauses: &["TURN-3"],
        what: "While a wait is parked buffered_amount does not fall.",
        caught_by: &["turns/amount-is-live-while-parked"],
        wrap: sockets::<Frozen>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "abort-empties-the-amount",
        repeats: "Gecko in C++, whose closeImmediately clears the queue and its counter.",
        clauses: &["TURN-2"],
        what: "abort sets buffered_amount to 0 before any event.",
        caught_by: &[
            "closing/abort-drops-the-queue",
            "turns/abort-keeps-the-amount",
        ],
        wrap: sockets::<AbortEmpties>,
        ..Mutant::SOUND
    },
];

#[derive(Default)]
struct Live {
    parked: AtomicBool,
    stash: Stash,
}

impl Fault for Live {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        let parked = self.parked.load(Ordering::SeqCst);
        if !parked && it.ready_state() == ReadyState::Open && it.buffered_amount() > 0 {
            // A wait that is given up opens a turn, which begins with what is held.
            self.stash.look(it);
        }
        it.buffered_amount()
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        self.parked.store(polled.is_pending(), Ordering::SeqCst);
        polled
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        self.parked.store(false, Ordering::SeqCst);
        it.cancel_poll(waker);
    }
}

/// What was sent in this turn.
#[derive(Default)]
struct Stale(AtomicU64);

impl Fault for Stale {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        let sent = self.0.load(Ordering::SeqCst);
        it.buffered_amount().saturating_sub(sent)
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let len = data.len() as u64;
        let answer = it.send(data)?;
        self.0.fetch_add(len, Ordering::SeqCst);
        Ok(answer)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.store(0, Ordering::SeqCst);
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct ThirtyTwoBits;

impl Fault for ThirtyTwoBits {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        it.buffered_amount() & u64::from(u32::MAX)
    }
}

/// What the wait began with.
#[derive(Default)]
struct Frozen(Mutex<Option<u64>>);

impl Fault for Frozen {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        lock(&self.0).unwrap_or_else(|| it.buffered_amount())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let before = it.buffered_amount();
        let polled = it.poll_event(cx);
        *lock(&self.0) = polled.is_pending().then_some(before);
        polled
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        *lock(&self.0) = None;
        it.cancel_poll(waker);
    }
}

#[derive(Default)]
struct AbortEmpties(AtomicBool);

impl Fault for AbortEmpties {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        match self.0.load(Ordering::SeqCst) {
            true => 0,
            false => it.buffered_amount(),
        }
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        self.0.store(true, Ordering::SeqCst);
        it.abort(why);
    }
}
