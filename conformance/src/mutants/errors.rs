//! What errors are called, and what follows them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tcpsocket::{Close, Error, ErrorClass, ErrorName, Event, MARK, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, Stash, sockets};
use crate::Capability;
use crate::sync::lock;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "every-failure-is-a-refusal",
        repeats: "Gecko in every version: before open only ConnectionRefusedError can appear.",
        clauses: &["ERR-3"],
        what: "Every network failure before Open is ConnectionRefusedError.",
        caught_by: &[
            "names/empty-answer",
            "names/error-of-the-resolver",
            "tls/reset-in-the-handshake",
        ],
        wrap: sockets::<AllRefused>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-refusal-is-a-network-error",
        repeats: "Runtimes with a single error name: Direct Sockets, and the event-based W3C draft.",
        clauses: &["ERR-2", "ERR-3"],
        what: "A refused connect is NetworkError.",
        caught_by: &[
            "errors/as-io-error",
            "opening/connect-waits-for-open",
            "opening/refused",
            "turns/closed-discards",
        ],
        wrap: sockets::<RefusedIsNetwork>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-timeout-is-a-network-error",
        repeats: "Errors derived from errno alone, although the timer is not the kernel's.",
        clauses: &["ERR-2", "OPT-3", "CL-16"],
        what: "A timeout is NetworkError.",
        caught_by: &["closing/linger-expires", "opening/times-out"],
        needs: &[Capability::ConnectTimeout],
        wrap: sockets::<TimeoutIsNetwork>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-reset-is-a-clean-end",
        repeats: "emailjs-tcp-socket on Node, which swallows ECONNRESET.",
        clauses: &["ERR-4", "CL-9"],
        what: "A reset by the peer is a clean Close, without an error.",
        caught_by: &[
            "cuts/open-by-reset",
            "cuts/upgrade-by-reset",
            "errors/reset",
            "errors/write-error-while-closing",
            "hostile/fin-then-reset",
            "hostile/reset-before-open-is-told",
            "hostile/reset-before-the-first-byte",
            "hostile/reset-during-the-flush",
            "hostile/reset-in-mid-stream",
            "hostile/reset-while-closing",
            "receiving/reset-waits-for-resume",
            "tls/reset",
        ],
        wrap: sockets::<ResetIsClean>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-reset-before-close-is-a-clean-end",
        repeats: "A provider on threads that ignored a failed shutdown.",
        clauses: &["CL-9", "GATE-13", "RX-13"],
        what: "A reset before close, with less than the mark sent in the turn, is a clean Close, without an error.",
        caught_by: &[
            "errors/reset-before-close",
            "errors/reset-that-waits-before-close",
        ],
        wrap: sockets::<ForgetsTheReset>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "no-close-after-a-refusal",
        repeats: "The descriptions of a failed connect by MDN and by Gecko's own interfaces.",
        clauses: &["CL-10", "ROW-3"],
        what: "After a refused connect no Close comes.",
        caught_by: &[
            "errors/class-and-name",
            "lifecycle/nothing-after-error",
            "opening/refused",
        ],
        wrap: sockets::<NoClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-before-the-error",
        repeats: "Relays in which close overtakes error on its way to the app.",
        clauses: &["EVT-3", "ST-10"],
        what: "After a reset Close comes before the error.",
        caught_by: &["errors/class-and-name", "errors/reset"],
        wrap: sockets::<CloseFirst>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-message-is-the-class",
        repeats: "Gecko in C++, whose error events have the class as their message.",
        clauses: &["CL-18", "GATE-15"],
        what: "The message of an error that comes as an event is \"Network\" or the like.",
        caught_by: &[
            "closing/abort-with-an-error",
            "errors/messages",
            "gates/address-refused",
        ],
        wrap: sockets::<ClassAsMessage>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-last-error-wins",
        repeats: "Error slots that are overwritten instead of filled once.",
        clauses: &["GATE-13"],
        what: "Of several errors the one given last to abort is returned.",
        caught_by: &["gates/first-error-wins"],
        wrap: sockets::<LastWins>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-write-error-does-not-wait",
        repeats: "Code that closes at EPIPE and leaves the peer's last data in the kernel.",
        clauses: &["CL-17"],
        what: "The error of a failed write comes before earlier data.",
        caught_by: &[
            "errors/last-words-before-a-stuck-flush",
            "errors/last-words-first",
        ],
        wrap: sockets::<DoesNotWait>,
        ..Mutant::SOUND
    },
];

/// The same event with another name for its error.
fn renamed(event: Event, name: impl Fn(ErrorName) -> ErrorName) -> Event {
    match event {
        Event::Error(error) if name(error.name()) != error.name() => {
            Event::Error(Error::new(name(error.name()), error.message()))
        }
        other => other,
    }
}

fn poll_renamed(
    it: &Inner,
    cx: &mut Context<'_>,
    name: impl Fn(ErrorName) -> ErrorName,
) -> Poll<Option<Event>> {
    it.poll_event(cx)
        .map(|event| event.map(|it| renamed(it, name)))
}

#[derive(Default)]
struct AllRefused;

impl Fault for AllRefused {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let connecting = it.ready_state() == ReadyState::Connecting;
        poll_renamed(it, cx, |name| match name.class() {
            Some(ErrorClass::Network) if connecting => ErrorName::ConnectionRefused,
            _ => name,
        })
    }
}

#[derive(Default)]
struct RefusedIsNetwork;

impl Fault for RefusedIsNetwork {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        poll_renamed(it, cx, |name| match name {
            ErrorName::ConnectionRefused => ErrorName::Network,
            other => other,
        })
    }
}

#[derive(Default)]
struct TimeoutIsNetwork;

impl Fault for TimeoutIsNetwork {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        poll_renamed(it, cx, |name| match name {
            ErrorName::NetworkTimeout => ErrorName::Network,
            other => other,
        })
    }
}

#[derive(Default)]
struct ResetIsClean;

impl Fault for ResetIsClean {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(Event::Error(error))) if error.name() == ErrorName::Network => it
                .poll_event(cx)
                .map(|_| Some(Event::Close(Close::new(true)))),
            other => other,
        }
    }
}

/// It was closed, with little to flush.
#[derive(Default)]
struct ForgetsTheReset(AtomicBool);

impl ForgetsTheReset {
    fn closes(&self, it: &Inner) {
        let open = it.ready_state() == ReadyState::Open;
        // In its turn, what was sent counts although it has left.
        if open && it.buffered_amount() < MARK {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl Fault for ForgetsTheReset {
    fn close(&self, it: &Inner) {
        self.closes(it);
        it.close();
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        if why.is_none() {
            self.closes(it);
        }
        it.abort(why);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.0.load(Ordering::SeqCst) {
            true => ResetIsClean.poll(it, cx),
            false => it.poll_event(cx),
        }
    }
}

/// It was refused.
#[derive(Default)]
struct NoClose(AtomicBool);

impl Fault for NoClose {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.0.load(Ordering::SeqCst) {
            return Poll::Ready(None);
        }
        let polled = it.poll_event(cx);
        if let Poll::Ready(Some(Event::Error(error))) = &polled {
            let refused = error.name() == ErrorName::ConnectionRefused;
            self.0.store(refused, Ordering::SeqCst);
        }
        polled
    }
}

#[derive(Default)]
struct CloseFirst(Stash);

impl Fault for CloseFirst {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(Event::Error(error))) if error.name() == ErrorName::Network => {
                self.0.put(Event::Error(error));
                it.poll_event(cx)
            }
            Poll::Ready(None) => Poll::Ready(self.0.take()),
            other => other,
        }
    }
}

#[derive(Default)]
struct ClassAsMessage;

impl Fault for ClassAsMessage {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        it.poll_event(cx).map(|event| match event {
            Some(Event::Error(error)) => {
                let class = error
                    .class()
                    .map_or("Other".to_owned(), |it| it.to_string());
                Some(Event::Error(Error::new(error.name(), class)))
            }
            other => other,
        })
    }
}

#[derive(Default)]
struct LastWins(Mutex<Option<Error>>);

impl Fault for LastWins {
    fn abort(&self, it: &Inner, why: Option<Error>) {
        if let Some(why) = &why {
            *lock(&self.0) = Some(why.clone());
        }
        it.abort(why);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        it.poll_event(cx).map(|event| match event {
            Some(Event::Error(error)) => Some(Event::Error(lock(&self.0).take().unwrap_or(error))),
            other => other,
        })
    }
}

#[derive(Default)]
struct DoesNotWait {
    stash: Stash,
    sent: AtomicBool,
}

impl Fault for DoesNotWait {
    fn send(&self, it: &Inner, data: tcpsocket::Bytes) -> Result<bool, Error> {
        self.sent.store(true, Ordering::SeqCst);
        it.send(data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let sent = self.sent.swap(false, Ordering::SeqCst);
        let polled = self.stash.poll(it, cx);
        if !sent || !matches!(polled, Poll::Ready(Some(Event::Data(_)))) {
            return polled;
        }
        for _ in 0..2 {
            self.stash.look(it);
        }
        match self.stash.any(|it| matches!(it, Event::Error(_))) {
            // What came before it is gone with the connection.
            true => self.stash.poll(it, cx),
            false => polled,
        }
    }
}
