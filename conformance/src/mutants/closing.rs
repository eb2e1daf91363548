//! How a socket ends.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tcpsocket::{Bytes, Close, Error, ErrorName, Event, ReadyState, Security};

use super::Mutant;
use super::bend::{Fault, Inner, PutOff, Stash, sockets};
use crate::Capability;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "close-drops-the-queue",
        repeats: "libdweb, whose port of close inverts Gecko's condition.",
        clauses: &["CL-1", "ROW-13"],
        what: "close drops the held bytes if they are more than a few megabytes.",
        caught_by: &[
            "activity/close-completes",
            "closing/flushes",
            "closing/with-unread-input",
            "tls/close-with-output-queued",
        ],
        wrap: sockets::<DropsTheQueue>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-in-closing-aborts",
        repeats: "Sockets that treat a second close as impatience, like a second Ctrl-C.",
        clauses: &["ROW-22"],
        what: "A second close drops the bytes that the first one flushes.",
        caught_by: &["closing/twice", "lifecycle/every-method-in-every-state"],
        wrap: sockets::<SecondCloseAborts>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-resets-unread-input",
        repeats: "The kernel's own close, as hyper and many others found: a reset destroys the data that the peer has not read yet.",
        clauses: &["CL-13", "CL-14"],
        what: "close with unread input resets the connection.",
        caught_by: &["gates/first-error-wins", "threads/close-elsewhere"],
        wrap: sockets::<ResetsUnread>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "data-after-close",
        repeats: "Gecko's app process, where data in flight arrives after close, and sets the state back to open.",
        clauses: &["ST-13", "CL-1", "ROW-26"],
        what: "Data available at the call of close is delivered after it.",
        caught_by: &["closing/both-directions", "closing/no-data-after"],
        wrap: sockets::<DataAfterClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-while-connecting-is-a-refusal",
        repeats: "Gecko in every version: the closed stream looks like a refused one.",
        clauses: &["CL-3", "ROW-5"],
        what: "close while connecting is ConnectionRefusedError, then Close.",
        caught_by: &[
            "opening/close-at-once",
            "opening/close-before-the-news",
            "opening/close-toward-silence",
            "tls/given-up-in-the-handshake",
        ],
        wrap: sockets::<LooksRefused>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "abort-while-connecting-forgets-why",
        repeats: "Cancellation reasons kept for running work, and lost before it begins.",
        clauses: &["CL-18", "GATE-6"],
        what: "abort with an error while connecting leads to a clean Close only.",
        caught_by: &["gates/given-up", "opening/abort-while-connecting"],
        wrap: sockets::<ForgetsWhy>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "abort-flushes",
        repeats: "The C++ of Firefox 52, whose closeImmediately leaves the queue alone.",
        clauses: &["CL-4", "ROW-14"],
        what: "abort(None) flushes as close does.",
        caught_by: &["closing/abort-drops-the-queue", "upgrade/aborted"],
        wrap: sockets::<AbortFlushes>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "abort-in-closing-does-nothing",
        repeats: "Gecko, whose closeImmediately returns early in closing.",
        clauses: &["CL-4", "ROW-23"],
        what: "abort cannot cut short a flush started by close.",
        caught_by: &[
            "closing/abort-cuts-the-flush-short",
            "closing/abort-with-an-error",
            "properties/ending",
        ],
        wrap: sockets::<NotInClosing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "abort-with-an-error-is-a-fin",
        repeats: "destroy(error) of Node's sockets, which reports the error and closes as usual.",
        clauses: &["CL-18"],
        what: "abort with an error ends the connection by FIN.",
        caught_by: &[
            "gates/first-error-wins",
            "threads/abort-elsewhere",
            "tls/abort",
        ],
        wrap: sockets::<NoReset>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "stuck-after-the-end-of-the-peer",
        repeats: "Gecko, where a peer's FIN during a flush leaves the socket open for ever.",
        clauses: &["CL-8", "ROW-16"],
        what: "After a flush that outlives the peer's stream, no Close comes.",
        caught_by: &[
            "closing/by-the-peer-with-output-queued",
            "hostile/fin-and-a-slow-reader",
            "tls/end-of-the-peer-with-output-queued",
            "turns/every-event-wakes",
            "turns/handlers",
        ],
        wrap: sockets::<Stuck>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-end-of-the-peer-drops-the-queue",
        repeats: "Code that closes at the first read of 0, without a look at unwritten output.",
        clauses: &["CL-8", "ROW-16"],
        what: "Bytes sent in the turn after the end of the peer's stream are lost.",
        caught_by: &["closing/by-the-peer-and-more-to-say"],
        wrap: sockets::<LostAfterTheEnd>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-drops-what-waits-for-tls",
        repeats: "Gecko, whose close skips a pending upgrade and forgets the bytes parked behind it.",
        clauses: &["CL-11", "TLS-7"],
        what: "close during the handshake of an upgrade drops the bytes that wait for it.",
        caught_by: &[
            "upgrade/close-right-behind",
            "upgrade/linger",
            "upgrade/stalls-while-closing",
        ],
        needs: &[Capability::Upgrade],
        wrap: sockets::<DropsParked>,
        ..Mutant::SOUND
    },
];

#[derive(Default)]
struct DropsTheQueue;

impl Fault for DropsTheQueue {
    fn close(&self, it: &Inner) {
        match it.buffered_amount() > 4 << 20 {
            true => it.abort(None),
            false => it.close(),
        }
    }
}

#[derive(Default)]
struct SecondCloseAborts;

impl Fault for SecondCloseAborts {
    fn close(&self, it: &Inner) {
        match it.ready_state() {
            ReadyState::Closing => it.abort(None),
            _ => it.close(),
        }
    }
}

fn is_data(event: &Event) -> bool {
    matches!(event, Event::Data(_))
}

#[derive(Default)]
struct ResetsUnread {
    reset: AtomicBool,
    stash: Stash,
}

impl ResetsUnread {
    fn end(&self, it: &Inner) {
        if it.ready_state() != ReadyState::Open {
            return it.close();
        }
        self.stash.look(it);
        if !self.stash.any(is_data) {
            return it.close();
        }
        self.stash.take();
        self.reset.store(true, Ordering::SeqCst);
        it.abort(Some(Error::new(ErrorName::Network, "reset by close")));
    }
}

impl Fault for ResetsUnread {
    fn close(&self, it: &Inner) {
        self.end(it);
    }

    fn dropped(&self, it: &Inner) {
        self.end(it);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        if !self.reset.load(Ordering::SeqCst) {
            return polled;
        }
        match polled {
            Poll::Ready(Some(Event::Error(_))) => it.poll_event(cx).map(|_| clean_close()),
            other => other,
        }
    }
}

fn clean_close() -> Option<Event> {
    Some(Event::Close(Close::new(true)))
}

/// A close is due.
#[derive(Default)]
struct DataAfterClose(PutOff);

impl Fault for DataAfterClose {
    fn ready_state(&self, it: &Inner) -> ReadyState {
        match it.ready_state() {
            ReadyState::Open if self.0.is_on() => ReadyState::Closing,
            state => state,
        }
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        match self.0.is_on() {
            true => Err(Error::new(ErrorName::InvalidState, "it is closing")),
            false => it.send(data),
        }
    }

    fn close(&self, it: &Inner) {
        // What takes long to flush has to begin, and what waits for a handshake is another matter.
        let delay = it.ready_state() == ReadyState::Open && it.buffered_amount() < 10 && !it.ssl();
        match delay {
            true => self.0.begin(),
            false => it.close(),
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if polled.is_ready() || !self.0.is_on() || self.0.goes_on(cx) {
            return polled;
        }
        self.0.end();
        it.close();
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct LooksRefused {
    refused: AtomicBool,
    stash: Stash,
}

impl Fault for LooksRefused {
    fn close(&self, it: &Inner) {
        let connecting = it.ready_state() == ReadyState::Connecting;
        self.refused.store(connecting, Ordering::SeqCst);
        it.close();
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.stash.poll(it, cx) {
            Poll::Ready(Some(Event::Close(_))) if self.refused.swap(false, Ordering::SeqCst) => {
                self.stash.put(Event::Close(Close::new(false)));
                let error = Error::new(ErrorName::ConnectionRefused, "connection refused");
                Poll::Ready(Some(Event::Error(error)))
            }
            other => other,
        }
    }
}

#[derive(Default)]
struct ForgetsWhy;

impl Fault for ForgetsWhy {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        match it.ready_state() {
            ReadyState::Connecting => it.close(),
            _ => it.abort(why),
        }
    }
}

#[derive(Default)]
struct AbortFlushes;

impl Fault for AbortFlushes {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        match why {
            None => it.close(),
            why => it.abort(why),
        }
    }
}

#[derive(Default)]
struct NotInClosing;

impl Fault for NotInClosing {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        if it.ready_state() != ReadyState::Closing {
            it.abort(why);
        }
    }
}

#[derive(Default)]
struct NoReset(Stash);

impl Fault for NoReset {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        let live = matches!(
            it.ready_state(),
            ReadyState::Connecting | ReadyState::Open | ReadyState::Closing
        );
        if let Some(why) = why.filter(|_| live && !self.0.any(|_| true)) {
            self.0.put(Event::Error(why));
        }
        it.abort(None);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(Event::Close(close))) => {
                let close = Event::Close(close);
                let Some(error) = self.0.take() else {
                    return Poll::Ready(Some(close));
                };
                if matches!(error, Event::Error(_)) {
                    self.0.put(Event::Close(Close::new(false)));
                }
                Poll::Ready(Some(error))
            }
            Poll::Ready(None) => Poll::Ready(self.0.take()),
            other => other,
        }
    }
}

#[derive(Default)]
struct Stuck {
    /// The last event was a drain.
    drained: AtomicBool,
    closed: AtomicBool,
}

impl Fault for Stuck {
    fn close(&self, it: &Inner) {
        self.closed.store(true, Ordering::SeqCst);
        it.close();
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let ours = self.closed.load(Ordering::SeqCst);
        match polled {
            Poll::Pending => return polled,
            Poll::Ready(Some(Event::Close(_))) if !ours && self.drained.load(Ordering::SeqCst) => {
                return Poll::Pending;
            }
            _ => {}
        }
        let drained = matches!(polled, Poll::Ready(Some(Event::Drain)));
        self.drained.store(drained, Ordering::SeqCst);
        polled
    }
}

#[derive(Default)]
struct LostAfterTheEnd {
    stash: Stash,
    drained: AtomicBool,
}

impl Fault for LostAfterTheEnd {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        match self.drained.load(Ordering::SeqCst) && it.buffered_amount() == 0 {
            true => {
                self.stash.look(it);
                if self.stash.any(|it| matches!(it, Event::Close(_))) {
                    return Ok(true);
                }
                it.send(data)
            }
            false => it.send(data),
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        let drained = matches!(polled, Poll::Ready(Some(Event::Drain)));
        self.drained.store(drained, Ordering::SeqCst);
        polled
    }
}

#[derive(Default)]
struct DropsParked;

impl Fault for DropsParked {
    fn close(&self, it: &Inner) {
        let upgrading =
            it.ready_state() == ReadyState::Open && matches!(it.security(), Security::Handshaking);
        match upgrading && it.buffered_amount() > 0 {
            true => it.abort(None),
            false => it.close(),
        }
    }
}
