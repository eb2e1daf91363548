//! What becomes of what is sent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use tcpsocket::{BinaryType, Bytes, Error, Event, MARK, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, sockets};
use crate::Capability;
use crate::sync::lock;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "false-at-the-mark",
        repeats: "Gecko in JavaScript (Firefox OS 1.0 to 2.2), which compared with >= instead of >.",
        clauses: &["TX-4"],
        what: "send answers false at exactly 65536 bytes.",
        caught_by: &["sending/exactly-the-mark", "tls/the-mark"],
        wrap: sockets::<FalseAtTheMark>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-answer-is-the-opposite",
        repeats: "browserbox, smtpclient and fxos-web-server, which misread the answer of send.",
        clauses: &["TX-3", "TX-4"],
        what: "send answers false to a large send that stays below the mark.",
        caught_by: &["properties/sending", "sending/answers-around-the-mark"],
        wrap: sockets::<Opposite>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "sends-before-open",
        repeats: "The samples of MDN and of the guide, which send without waiting for open.",
        clauses: &["TX-2", "ROW-6"],
        what: "A send while connecting is accepted, and lost.",
        caught_by: &[
            "lifecycle/every-method-in-every-state",
            "opening/send-before-open",
            "tls/open-after-the-handshake",
        ],
        wrap: sockets::<BeforeOpen>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "sends-after-close",
        repeats: "Gecko's app process, which forwards the call and swallows its failure.",
        clauses: &["TX-2", "ROW-21", "ROW-27"],
        what: "A send in closing or closed is accepted, and lost.",
        caught_by: &["errors/reset", "sending/not-open"],
        wrap: sockets::<AfterClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "strings-leave-as-utf-8",
        repeats: "The event-based W3C draft, which encodes strings as UTF-8.",
        clauses: &["TX-19"],
        what: "On sockets of the string type each byte from 0x80 on leaves as two.",
        caught_by: &["receiving/string-type", "sending/every-character"],
        needs: &[Capability::StringMode],
        wrap: sockets::<Utf8>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "strings-end-at-nul",
        repeats: "C strings everywhere, Firefox OS 1.0 included.",
        clauses: &["TX-20"],
        what: "A send that begins with a NUL sends nothing.",
        caught_by: &[
            "receiving/string-type",
            "sending/every-character",
            "threads/many-senders",
        ],
        wrap: sockets::<EndsAtNul>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "views-lose-their-offset",
        repeats: "Gecko's app process in C++, which took the wrong offset for the length of a view.",
        clauses: &["TX-1", "TX-5"],
        what: "A second slice of a buffer, sent in the same turn, is taken from the buffer's beginning.",
        caught_by: &["meters/quota", "sending/slices-of-one-buffer"],
        wrap: sockets::<Views>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-thousand-pieces-and-no-more",
        repeats: "Callers of writev that forget IOV_MAX.",
        clauses: &["TX-1"],
        what: "Within a turn all sends after the 1024th are lost.",
        caught_by: &["sending/many-pieces-in-order"],
        wrap: sockets::<IovMax>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "sends-are-torn",
        repeats: "Queues locked for each piece instead of for each send.",
        clauses: &["TX-1", "IF-2"],
        what: "Other sends may come between the halves of a short send.",
        caught_by: &["meters/quota", "threads/many-senders"],
        wrap: sockets::<Torn>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "pieces-change-places",
        repeats: "Partial writes queued again behind later sends.",
        clauses: &["TX-1"],
        what: "The halves of a send of several megabytes leave in the wrong order.",
        caught_by: &["sending/one-drain-for-many", "tls/megabytes-out"],
        wrap: sockets::<Swapped>,
        ..Mutant::SOUND
    },
];

#[derive(Default)]
struct FalseAtTheMark;

impl Fault for FalseAtTheMark {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let sum = it.buffered_amount() + data.len() as u64;
        Ok(it.send(data)? && sum < MARK)
    }
}

#[derive(Default)]
struct Opposite;

impl Fault for Opposite {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let large = data.len() > 60_000;
        Ok(it.send(data)? && !large)
    }
}

#[derive(Default)]
struct BeforeOpen;

impl Fault for BeforeOpen {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        match it.ready_state() {
            ReadyState::Connecting => Ok(true),
            _ => it.send(data),
        }
    }
}

#[derive(Default)]
struct AfterClose;

impl Fault for AfterClose {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        match it.ready_state() {
            ReadyState::Closing | ReadyState::Closed => Ok(true),
            _ => it.send(data),
        }
    }
}

#[derive(Default)]
struct Utf8;

impl Fault for Utf8 {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        if it.binary_type() != BinaryType::String {
            return it.send(data);
        }
        let text: String = data.iter().map(|b| char::from(*b)).collect();
        it.send(text.into())
    }
}

#[derive(Default)]
struct EndsAtNul;

impl Fault for EndsAtNul {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        // Random bytes have a NUL in some place or other, and a string rarely at its beginning.
        match data.starts_with(&[0, 1]) {
            true => it.send(Bytes::new()),
            false => it.send(data),
        }
    }
}

/// What was sent in this turn.
#[derive(Default)]
struct Views(Mutex<Vec<Bytes>>);

impl Fault for Views {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let mut sent = lock(&self.0);
        let inside = |of: &&Bytes| {
            let (all, part) = (of.as_ptr_range(), data.as_ptr_range());
            !data.is_empty() && all.start <= part.start && part.end <= all.end
        };
        if let Some(of) = sent.iter().find(inside) {
            return it.send(of.slice(..data.len()));
        }
        sent.push(data.clone());
        it.send(data)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        lock(&self.0).clear();
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct IovMax(AtomicUsize);

impl Fault for IovMax {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        if self.0.fetch_add(1, Ordering::SeqCst) < 1024 {
            return it.send(data);
        }
        Ok(it.buffered_amount() + data.len() as u64 <= MARK)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.store(0, Ordering::SeqCst);
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct Torn;

impl Fault for Torn {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        if !(32..128).contains(&data.len()) {
            return it.send(data);
        }
        it.send(data.slice(..data.len() / 2))?;
        thread::yield_now();
        it.send(data.slice(data.len() / 2..))
    }
}

#[derive(Default)]
struct Swapped;

impl Fault for Swapped {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        if !(2_000_000..5_000_000).contains(&data.len()) {
            return it.send(data);
        }
        it.send(data.slice(data.len() / 2..))?;
        it.send(data.slice(..data.len() / 2))
    }
}
