//! What `ready_state` says, and the order of events.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tcpsocket::{Event, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, Stash, sockets};

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the-state-is-live",
        repeats: "Gecko's app process, where every message sets the state at once.",
        clauses: &["TURN-5", "ROW-1"],
        what: "ready_state shows the connection and its end before their events.",
        caught_by: &[
            "opening/open-is-an-event",
            "opening/proceeds-unpolled",
            "tls/handshake-unpolled",
            "turns/state-is-not-live",
        ],
        wrap: sockets::<Live>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-state-moves-back",
        repeats: "Gecko's app process, where a message sent before close sets the state back to open.",
        clauses: &["ST-2", "ST-6"],
        what: "While a close flushes, the state is open again.",
        caught_by: &[
            "closing/abort-cuts-the-flush-short",
            "closing/flushes",
            "sending/drain-while-closing",
        ],
        wrap: sockets::<MovesBack>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "closed-before-the-flush",
        repeats: "App-side objects whose socket closes in another process: closed at once, reported later.",
        clauses: &["ST-6", "CL-1"],
        what: "close moves the state to closed at once if nothing is held.",
        caught_by: &[
            "closing/in-the-turn-of-open",
            "properties/ending",
            "receiving/suspend-in-every-state",
        ],
        wrap: sockets::<ClosedAtOnce>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "closing-when-the-error-comes",
        repeats: "Handlers called before the state is set.",
        clauses: &["ST-4", "ROW-17"],
        what: "The state is closing, not closed, until Close has been returned.",
        caught_by: &["errors/reset", "opening/refused"],
        wrap: sockets::<ClosingAtError>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-second-close",
        repeats: "The fault that Gecko avoids by a check of the state: two streams, each of which reports its end.",
        clauses: &["ST-7", "EVT-3"],
        what: "After Close a second Close is returned.",
        caught_by: &[
            "closing/by-the-peer",
            "closing/discards-so-much-and-no-more",
            "closing/waits-for-nobody",
            "gates/address-refused",
            "hostile/one-byte-segments",
            "hostile/reset-after-close",
            "sending/no-byte-string",
            "servers/accepted-socket",
            "threads/everything-at-once",
            "tls/goodbye",
            "tls/no-early-data",
            "tls/small-records",
        ],
        wrap: sockets::<SecondClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "no-end-after-close",
        repeats: "Streams that return Pending when polled after their end.",
        clauses: &["EVT-3", "EVT-17"],
        what: "After Close poll_event returns Pending instead of None.",
        caught_by: &["servers/accepted-socket", "turns/stream-of-events"],
        wrap: sockets::<NoEnd>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-second-open",
        repeats: "State machines that enter open again when a write makes progress.",
        clauses: &["ST-9", "EVT-3"],
        what: "Open comes again with a drain.",
        caught_by: &[
            "hostile/talks-while-we-close",
            "properties/ending",
            "servers/accepted-socket",
        ],
        wrap: sockets::<SecondOpen>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "accepted-sockets-tell-open",
        repeats: "Libraries that use one constructor for opened and accepted sockets.",
        clauses: &["ROW-32", "SRV-6", "EVT-3"],
        what: "The first event of an accepted socket is Open.",
        caught_by: &[
            "servers/accepted-socket",
            "servers/both-families",
            "servers/exchange",
            "servers/polled-late",
        ],
        needs: &[crate::Capability::Listen],
        wrap: sockets::<AcceptedOpen>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-overtakes-data",
        repeats: "Sockets whose end is an event of the loop while their data waits in a stream.",
        clauses: &["CL-5", "ST-12"],
        what: "The end of the peer's stream is returned before its last data if both are available.",
        caught_by: &[
            "receiving/suspended-in-mid-stream",
            "tls/forged-record",
            "tls/megabytes-in",
        ],
        wrap: sockets::<CloseFirst>,
        ..Mutant::SOUND
    },
];

/// Whether a wait is parked.
#[derive(Default)]
struct Live {
    parked: AtomicBool,
    stash: Stash,
}

impl Fault for Live {
    fn ready_state(&self, it: &Inner) -> ReadyState {
        let quiet = !self.parked.load(Ordering::SeqCst) && it.buffered_amount() == 0;
        let may_move = matches!(it.ready_state(), ReadyState::Connecting | ReadyState::Open);
        if quiet && may_move && !self.stash.any(|_| true) {
            self.stash.look(it);
        }
        it.ready_state()
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

/// It was polled in closing.
#[derive(Default)]
struct MovesBack(AtomicBool);

impl Fault for MovesBack {
    fn ready_state(&self, it: &Inner) -> ReadyState {
        match it.ready_state() {
            ReadyState::Closing if self.0.load(Ordering::SeqCst) => ReadyState::Open,
            state => state,
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let flushing = polled.is_pending() && it.ready_state() == ReadyState::Closing;
        self.0
            .store(flushing && it.buffered_amount() > 0, Ordering::SeqCst);
        polled
    }
}

/// It was closed while nothing was held.
#[derive(Default)]
struct ClosedAtOnce(AtomicBool);

impl Fault for ClosedAtOnce {
    fn close(&self, it: &Inner) {
        let open = it.ready_state() == ReadyState::Open;
        self.0
            .store(open && it.buffered_amount() == 0, Ordering::SeqCst);
        it.close();
    }

    fn ready_state(&self, it: &Inner) -> ReadyState {
        match self.0.load(Ordering::SeqCst) {
            true => ReadyState::Closed,
            false => it.ready_state(),
        }
    }
}

/// The last event was an error.
#[derive(Default)]
struct ClosingAtError(AtomicBool);

impl Fault for ClosingAtError {
    fn ready_state(&self, it: &Inner) -> ReadyState {
        match self.0.load(Ordering::SeqCst) {
            true => ReadyState::Closing,
            false => it.ready_state(),
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let error = matches!(polled, Poll::Ready(Some(Event::Error(_))));
        self.0.store(error, Ordering::SeqCst);
        polled
    }
}

#[derive(Default)]
struct SecondClose(Stash);

impl Fault for SecondClose {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(Event::Close(close))) => {
                self.0.put(Event::Close(close));
                Poll::Ready(Some(Event::Close(close)))
            }
            Poll::Ready(None) => Poll::Ready(self.0.take()),
            other => other,
        }
    }
}

#[derive(Default)]
struct NoEnd;

impl Fault for NoEnd {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match it.poll_event(cx) {
            Poll::Ready(None) => Poll::Pending,
            other => other,
        }
    }
}

#[derive(Default)]
struct SecondOpen {
    told: AtomicBool,
    stash: Stash,
}

impl Fault for SecondOpen {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        let drain = matches!(polled, Poll::Ready(Some(Event::Drain)));
        if drain && !self.told.swap(true, Ordering::SeqCst) {
            self.stash.put(Event::Drain);
            return Poll::Ready(Some(Event::Open));
        }
        polled
    }
}

#[derive(Default)]
struct AcceptedOpen(AtomicBool);

impl Fault for AcceptedOpen {
    fn accepted(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.0.swap(false, Ordering::SeqCst) {
            true => Poll::Ready(Some(Event::Open)),
            false => it.poll_event(cx),
        }
    }
}

#[derive(Default)]
struct CloseFirst(Stash);

impl Fault for CloseFirst {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.0.poll(it, cx);
        if !matches!(polled, Poll::Ready(Some(Event::Data(_)))) {
            return polled;
        }
        // What a read has found may be told at the second look.
        for _ in 0..2 {
            self.0.look(it);
        }
        match self.0.any(|it| matches!(it, Event::Close(_))) {
            true => self.0.poll(it, cx),
            false => polled,
        }
    }
}
