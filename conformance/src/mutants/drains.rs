//! When `Drain` comes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tcpsocket::{Bytes, Error, Event, MARK, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, PutOff, Stash, sockets};
use crate::sync::lock;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "drain-armed-over-the-mark-only",
        repeats: "Gecko in C++ and libdweb, where fxos-web-server stalls after its first 64 KiB.",
        clauses: &["TX-4", "TX-6"],
        what: "Exactly 65536 bytes cause no drain.",
        caught_by: &[
            "receiving/drain-while-suspended",
            "sending/armed-from-the-mark-on",
            "sending/drain-before-data",
            "sending/exactly-the-mark",
        ],
        wrap: sockets::<OverTheMarkOnly>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-at-every-flush",
        repeats: "MDN's description of ondrain, and emailjs-tcp-socket, which fires it after every write.",
        clauses: &["TX-6"],
        what: "A flush of a kilobyte causes a drain, armed or not.",
        caught_by: &["sending/no-drain-unarmed", "tls/the-mark"],
        wrap: sockets::<EveryFlush>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-before-the-flush",
        repeats: "KaiOS and late Gecko, whose count omits the bytes being copied.",
        clauses: &["TX-6", "TX-10"],
        what: "The drain of several megabytes comes while most of them are still held.",
        caught_by: &[
            "closing/peer-that-writes-first",
            "sending/drain-waits-for-the-kernel",
            "tls/held-while-the-peer-does-not-read",
        ],
        wrap: sockets::<BeforeTheFlush>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-although-more-was-sent",
        repeats: "The bug that the sequence numbers of Gecko's app process prevent.",
        clauses: &["TX-13", "TX-7"],
        what: "The drain of a send comes although a large send followed.",
        caught_by: &["sending/amount-is-exact", "sending/drain-delayed-by-more"],
        wrap: sockets::<AlthoughMore>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-drain-for-each-send",
        repeats: "Write callbacks, one for each write, as in Node's streams.",
        clauses: &["TX-6", "TX-8"],
        what: "Two sends that reach the mark cause two drains.",
        caught_by: &["sending/one-drain-for-many"],
        wrap: sockets::<OneEach>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "one-drain-in-a-life",
        repeats: "Flags set only once, such as a stream's needDrain without its reset.",
        clauses: &["TX-6"],
        what: "The first drain is the last.",
        caught_by: &["sending/drains-again", "tls/the-mark"],
        wrap: sockets::<OneInALife>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "no-drain-in-closing",
        repeats: "Node's streams, where end() cancels the need for a drain.",
        clauses: &["TX-9", "ST-11", "ROW-24"],
        what: "In closing, a drain armed by 65536 bytes or a little more is swallowed.",
        caught_by: &[
            "properties/sending",
            "sending/answers-around-the-mark",
            "sending/drain-while-closing",
        ],
        wrap: sockets::<NotInClosing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "nothing-arms-the-drain",
        repeats: "Streams that treat an empty write like any other.",
        clauses: &["TX-21", "TX-6"],
        what: "A send of no bytes causes a drain.",
        caught_by: &["properties/sending", "sending/nothing"],
        wrap: sockets::<OfNothing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-after-data",
        repeats: "Event loops that check for readability first.",
        clauses: &["TX-6"],
        what: "Available data overtakes a drain.",
        caught_by: &["closing/by-the-peer-and-more-to-say"],
        wrap: sockets::<AfterData>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-in-spite-of-a-failure",
        repeats: "Queues whose clearing looks like a flush.",
        clauses: &["TX-25", "CL-9"],
        what: "A connection that fails with an armed drain returns the drain before the error.",
        caught_by: &[
            "errors/last-words-before-a-stuck-flush",
            "gates/control-aborts",
            "sending/after-an-end-not-told",
            "sending/failure-disarms",
            "upgrade/late-plaintext",
            "upgrade/refused-certificate",
        ],
        wrap: sockets::<InSpiteOfAFailure>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "drain-in-spite-of-abort",
        repeats: "Queues whose clearing looks like a flush.",
        clauses: &["TX-25"],
        what: "abort(None) with a drain armed by 65536 bytes returns the drain before Close.",
        caught_by: &["sending/abort-disarms"],
        wrap: sockets::<InSpiteOfAbort>,
        ..Mutant::SOUND
    },
];

/// What the sends since the last drain came to.
#[derive(Default)]
struct Armed {
    /// The largest sum.
    sum: u64,
    /// How many sends reached the mark.
    times: usize,
}

#[derive(Default)]
struct Arming(Mutex<Armed>);

impl Arming {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let sum = it.buffered_amount() + data.len() as u64;
        let answer = it.send(data)?;
        let mut armed = lock(&self.0);
        armed.sum = armed.sum.max(sum);
        armed.times += usize::from(sum >= MARK);
        Ok(answer)
    }

    fn take(&self) -> Armed {
        std::mem::take(&mut *lock(&self.0))
    }

    fn sum(&self) -> u64 {
        lock(&self.0).sum
    }
}

fn is_drain(polled: &Poll<Option<Event>>) -> bool {
    matches!(polled, Poll::Ready(Some(Event::Drain)))
}

fn drain() -> Poll<Option<Event>> {
    Poll::Ready(Some(Event::Drain))
}

#[derive(Default)]
struct OverTheMarkOnly(Arming);

impl Fault for OverTheMarkOnly {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        self.0.send(it, data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        match is_drain(&polled) && self.0.take().sum == MARK {
            true => it.poll_event(cx),
            false => polled,
        }
    }
}

#[derive(Default)]
struct EveryFlush(Arming);

impl Fault for EveryFlush {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        self.0.send(it, data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if is_drain(&polled) {
            self.0.take();
        }
        let flushed = it.buffered_amount() == 0 && it.ready_state() == ReadyState::Open;
        if polled.is_pending() && flushed && self.0.take().sum >= 1000 {
            it.cancel_poll(&cx.waker().clone());
            return drain();
        }
        polled
    }
}

/// Something large was sent.
#[derive(Default)]
struct BeforeTheFlush(AtomicBool);

impl Fault for BeforeTheFlush {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let large = data.len() > 8 << 20;
        let answer = it.send(data)?;
        self.0.fetch_or(large, Ordering::SeqCst);
        Ok(answer)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if polled.is_pending() && self.0.swap(false, Ordering::SeqCst) {
            it.cancel_poll(&cx.waker().clone());
            return drain();
        }
        polled
    }
}

#[derive(Default)]
struct AlthoughMore {
    /// A send of this turn has reached the mark.
    armed: AtomicBool,
    /// Another, large one came after it.
    more: AtomicBool,
}

impl Fault for AlthoughMore {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let (sum, len) = (it.buffered_amount() + data.len() as u64, data.len());
        let answer = it.send(data)?;
        if len > 1 << 20 && self.armed.load(Ordering::SeqCst) {
            self.more.store(true, Ordering::SeqCst);
        }
        self.armed.fetch_or(sum >= MARK, Ordering::SeqCst);
        Ok(answer)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        self.armed.store(false, Ordering::SeqCst);
        if self.more.swap(false, Ordering::SeqCst) && polled.is_pending() {
            it.cancel_poll(&cx.waker().clone());
            return drain();
        }
        polled
    }
}

#[derive(Default)]
struct OneEach {
    arming: Arming,
    left: AtomicUsize,
}

impl Fault for OneEach {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        // Which of a hundred sends have an echo of their own is not the point.
        match data.len() >= 1 << 20 {
            true => self.arming.send(it, data),
            false => it.send(data),
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.left.load(Ordering::SeqCst) > 0 {
            self.left.fetch_sub(1, Ordering::SeqCst);
            return drain();
        }
        let polled = it.poll_event(cx);
        if is_drain(&polled) {
            let times = self.arming.take().times;
            self.left.store(times.saturating_sub(1), Ordering::SeqCst);
        }
        polled
    }
}

#[derive(Default)]
struct OneInALife(AtomicBool);

impl Fault for OneInALife {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        match is_drain(&polled) && self.0.swap(true, Ordering::SeqCst) {
            true => it.poll_event(cx),
            false => polled,
        }
    }
}

#[derive(Default)]
struct NotInClosing(Arming);

impl Fault for NotInClosing {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        self.0.send(it, data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let closing = it.ready_state() == ReadyState::Closing;
        match is_drain(&polled) && self.0.take().sum < MARK + 100 && closing {
            true => it.poll_event(cx),
            false => polled,
        }
    }
}

#[derive(Default)]
struct OfNothing(AtomicBool);

impl Fault for OfNothing {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let empty = data.is_empty() && it.buffered_amount() == 0;
        let answer = it.send(data)?;
        self.0.fetch_or(empty, Ordering::SeqCst);
        Ok(answer)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.0.swap(false, Ordering::SeqCst) && it.buffered_amount() == 0 {
            true => drain(),
            false => it.poll_event(cx),
        }
    }
}

#[derive(Default)]
struct AfterData {
    stash: Stash,
    drain: PutOff,
}

impl Fault for AfterData {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let due = self.drain.is_on();
        let polled = match due {
            true => it.poll_event(cx),
            false => self.stash.poll(it, cx),
        };
        match polled {
            Poll::Ready(Some(Event::Drain)) => self.drain.begin(),
            Poll::Pending if due => {}
            Poll::Ready(Some(event)) if due && !matches!(event, Event::Data(_)) => {
                self.drain.end();
                self.stash.put(event);
                return drain();
            }
            other => return other,
        }
        if self.drain.goes_on(cx) {
            return Poll::Pending;
        }
        self.drain.end();
        it.cancel_poll(&cx.waker().clone());
        drain()
    }
}

#[derive(Default)]
struct InSpiteOfAFailure {
    arming: Arming,
    stash: Stash,
}

impl Fault for InSpiteOfAFailure {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        self.arming.send(it, data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        match polled {
            Poll::Ready(Some(Event::Drain)) => _ = self.arming.take(),
            Poll::Ready(Some(error @ Event::Error(_))) if self.arming.take().sum >= MARK => {
                self.stash.put(error);
                return drain();
            }
            _ => {}
        }
        polled
    }
}

#[derive(Default)]
struct InSpiteOfAbort {
    arming: Arming,
    due: AtomicBool,
}

impl Fault for InSpiteOfAbort {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        self.arming.send(it, data)
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        let due = why.is_none() && self.arming.sum() == MARK;
        self.due.store(due, Ordering::SeqCst);
        it.abort(why);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = match self.due.load(Ordering::SeqCst) {
            true => Poll::Pending,
            false => it.poll_event(cx),
        };
        if is_drain(&polled) {
            self.arming.take();
        }
        match self.due.swap(false, Ordering::SeqCst) {
            true => drain(),
            false => polled,
        }
    }
}
