//! What is delivered, and what `suspend` holds back.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tcpsocket::{BinaryType, Bytes, Data, Error, Event, OpenRequest, ReadyState};

use super::Mutant;
use super::bend::{Fault, Inner, Stash, sockets};
use crate::Capability;
use crate::sync::lock;

const SUSPEND: &[Capability] = &[Capability::Suspend];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "data-ends-at-nul",
        repeats: "Firefox OS 1.0 to 2.2, which read strings with a method that stops at the first NUL.",
        clauses: &["RX-3"],
        what: "In the string type everything after a NUL is lost.",
        caught_by: &["receiving/string-type"],
        needs: &[Capability::StringMode],
        wrap: sockets::<EndsAtNul>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "zeros-are-padding",
        repeats: "Buffers trimmed by their content instead of the length read.",
        clauses: &["RX-1", "RX-3", "ST-12"],
        what: "Many zero bytes at the beginning of data are cut off.",
        caught_by: &["receiving/every-byte"],
        wrap: sockets::<Padding>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-type-is-forgotten",
        repeats: "Gecko in JavaScript, which took an accepted socket's type from the wrong object.",
        clauses: &["IF-7", "SRV-5"],
        what: "Data is of the string type, whatever type was requested.",
        caught_by: &["servers/binary-type"],
        wrap: sockets::<TypeForgotten>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "there-is-one-type",
        repeats: "emailjs-tcp-socket, which knows only arraybuffer.",
        clauses: &["IF-5", "IF-7"],
        what: "Opened sockets are always of the arraybuffer type.",
        caught_by: &["opening/defaults", "receiving/string-type"],
        needs: &[Capability::StringMode],
        wrap: sockets::<OneType>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "data-of-any-length",
        repeats: "Reads to the end of the available bytes, with a growing buffer.",
        clauses: &["RX-5"],
        what: "All available data is delivered at once, up to a megabyte in one event.",
        caught_by: &[
            "receiving/megabytes",
            "receiving/unpolled-holds-the-peer-back",
            "tls/goodbye-of-the-peer",
            "tls/megabytes-both-ways",
            "tls/megabytes-in",
        ],
        wrap: sockets::<AnyLength>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "data-in-flight-after-suspend",
        repeats: "Gecko's app process, where a message in flight arrives after suspend has returned.",
        clauses: &["RX-10"],
        what: "Data deliverable at the call of suspend is delivered after it.",
        caught_by: &[
            "properties/sending",
            "receiving/suspended-in-mid-stream",
            "turns/writable-waits-for-the-drain",
        ],
        needs: SUSPEND,
        wrap: sockets::<InFlight>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "suspend-is-a-switch",
        repeats: "MDN's description of suspend and resume, and pause of Node's streams.",
        clauses: &["RX-6"],
        what: "One resume undoes any number of suspends.",
        caught_by: &["properties/receiving", "receiving/suspends-count"],
        needs: SUSPEND,
        wrap: sockets::<Switch>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "resume-never-fails",
        repeats: "Gecko's app process, which forwards the call and swallows its exception.",
        clauses: &["RX-8", "ERR-11"],
        what: "A resume too many is no error.",
        caught_by: &[
            "errors/of-calls-change-nothing",
            "receiving/resume-without-suspend",
        ],
        needs: SUSPEND,
        wrap: sockets::<NeverFails>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "resume-fails-in-closed",
        repeats: "Gecko in C++, which throws whenever the suspend count is 0.",
        clauses: &["RX-8", "ROW-30"],
        what: "A resume too many is an error in closing and closed as well.",
        caught_by: &["properties/receiving", "receiving/resume-without-suspend"],
        needs: SUSPEND,
        wrap: sockets::<FailsInClosed>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "resume-delivers-twice",
        repeats: "Streams that put back the data read while paused, and keep it as well.",
        clauses: &["ST-12", "RX-11"],
        what: "The first data after resume is delivered again.",
        caught_by: &[
            "hostile/data-and-fin-while-suspended",
            "receiving/end-waits-for-resume",
            "receiving/suspended",
            "receiving/suspended-holds-the-peer-back",
            "receiving/suspended-in-mid-stream",
            "tls/suspended-holds-the-peer-back",
        ],
        needs: SUSPEND,
        wrap: sockets::<Twice>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "suspend-before-open-is-forgotten",
        repeats: "Streams that do not exist yet when they are paused.",
        clauses: &["RX-7", "ROW-8"],
        what: "A suspend while connecting counts, and holds nothing back.",
        caught_by: &[
            "receiving/suspended-before-open",
            "tls/end-waits-for-resume",
            "tls/suspended",
        ],
        needs: SUSPEND,
        wrap: sockets::<BeforeOpen>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "suspend-waits-for-open",
        repeats: "Streams that wait for a reader before they connect.",
        clauses: &["RX-7", "RX-12", "TLS-11"],
        what: "A suspended socket returns no Open.",
        caught_by: &["receiving/suspended-before-open", "tls/suspended"],
        needs: SUSPEND,
        wrap: sockets::<OpenWaits>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "nothing-happens-while-suspended",
        repeats: "Gecko, where suspend stops the very pump that reports drain and close.",
        clauses: &["RX-12", "RX-13"],
        what: "Drain, a write error and Close wait for resume.",
        caught_by: &[
            "closing/while-suspended",
            "hostile/reset-while-suspended",
            "receiving/write-error-while-suspended",
        ],
        needs: SUSPEND,
        wrap: sockets::<NothingHappens>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "suspended-and-reads-on",
        repeats: "Loops that continue to read while a flag blocks delivery.",
        clauses: &["RX-11", "RX-12"],
        what: "While suspended everything is read, and the end is returned before earlier data.",
        caught_by: &[
            "tls/end-waits-for-resume",
            "upgrade/early-plaintext-while-suspended",
        ],
        needs: SUSPEND,
        wrap: sockets::<ReadsOn>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "resume-wakes-nobody",
        repeats: "Flags that only a poll checks.",
        clauses: &["RX-14", "EVT-5"],
        what: "A task waiting while suspended is not woken, by a resume or by anything else.",
        caught_by: &["receiving/resume-wakes", "tls/end-waits-for-resume"],
        needs: SUSPEND,
        wrap: sockets::<WakesNobody>,
        ..Mutant::SOUND
    },
];

fn cut(data: &Data, to: Bytes) -> Poll<Option<Event>> {
    let data = Data::new(to, data.binary_type());
    Poll::Ready(Some(Event::Data(data)))
}

#[derive(Default)]
struct EndsAtNul;

impl Fault for EndsAtNul {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let Poll::Ready(Some(Event::Data(data))) = &polled else {
            return polled;
        };
        let nul = data.iter().position(|b| *b == 0);
        match (data.binary_type(), nul) {
            (BinaryType::String, Some(0)) => it.poll_event(cx),
            (BinaryType::String, Some(at)) => cut(data, data.clone().into_bytes().slice(..at)),
            _ => polled,
        }
    }
}

#[derive(Default)]
struct Padding;

impl Fault for Padding {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        let Poll::Ready(Some(Event::Data(data))) = &polled else {
            return polled;
        };
        match data.iter().take_while(|b| **b == 0).count() {
            zeros if zeros < 16 => polled,
            zeros if zeros == data.len() => it.poll_event(cx),
            zeros => cut(data, data.clone().into_bytes().slice(zeros..)),
        }
    }
}

#[derive(Default)]
struct TypeForgotten;

impl Fault for TypeForgotten {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        match polled {
            Poll::Ready(Some(Event::Data(data))) => {
                let data = Data::new(data.into_bytes(), BinaryType::String);
                Poll::Ready(Some(Event::Data(data)))
            }
            other => other,
        }
    }
}

#[derive(Default)]
struct OneType;

impl Fault for OneType {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        let options = request.options().clone();
        request.with_options(options.binary_type(BinaryType::ArrayBuffer))
    }
}

#[derive(Default)]
struct AnyLength(Stash);

impl Fault for AnyLength {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.0.poll(it, cx);
        let Poll::Ready(Some(Event::Data(first))) = &polled else {
            return polled;
        };
        let mut all = first.to_vec();
        while all.len() < 1 << 20 {
            match it.poll_event(cx) {
                Poll::Ready(Some(Event::Data(more))) => all.extend_from_slice(&more),
                Poll::Ready(Some(event)) => {
                    self.0.put(event);
                    break;
                }
                Poll::Ready(None) => break,
                Poll::Pending => {
                    it.cancel_poll(&cx.waker().clone());
                    break;
                }
            }
        }
        cut(first, all.into())
    }
}

#[derive(Default)]
struct InFlight(Stash);

impl Fault for InFlight {
    fn suspend(&self, it: &Inner) {
        if it.ready_state() == ReadyState::Open {
            self.0.look(it);
        }
        it.suspend();
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(it, cx)
    }
}

/// Whether it is suspended.
#[derive(Default)]
struct Switch(AtomicBool);

impl Fault for Switch {
    fn suspend(&self, it: &Inner) {
        if !self.0.swap(true, Ordering::SeqCst) {
            it.suspend();
        }
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        self.0.store(false, Ordering::SeqCst);
        it.resume()
    }
}

#[derive(Default)]
struct NeverFails;

impl Fault for NeverFails {
    fn resume(&self, it: &Inner) -> Result<(), Error> {
        // What Gecko throws here, the app does not see.
        let _ = it.resume();
        Ok(())
    }
}

#[derive(Default)]
struct FailsInClosed(AtomicUsize);

impl Fault for FailsInClosed {
    fn suspend(&self, it: &Inner) {
        self.0.fetch_add(1, Ordering::SeqCst);
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()?;
        let taken = |n: usize| n.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
        let too_many = || {
            let why = "there is no suspend to take back";
            Error::new(tcpsocket::ErrorName::InvalidState, why)
        };
        taken.map(drop).map_err(|_| too_many())
    }
}

#[derive(Default)]
struct Twice {
    resumed: AtomicBool,
    stash: Stash,
}

impl Fault for Twice {
    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()?;
        let open = it.ready_state() == ReadyState::Open;
        self.resumed.store(open, Ordering::SeqCst);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        if let Poll::Ready(Some(data @ Event::Data(_))) = &polled
            && self.resumed.swap(false, Ordering::SeqCst)
        {
            self.stash.put(data.clone());
        }
        polled
    }
}

/// How many suspends came while connecting.
#[derive(Default)]
struct BeforeOpen(AtomicUsize);

impl Fault for BeforeOpen {
    fn suspend(&self, it: &Inner) {
        match it.ready_state() {
            ReadyState::Connecting => _ = self.0.fetch_add(1, Ordering::SeqCst),
            _ => it.suspend(),
        }
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        let taken = |n: usize| n.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
        taken.map(drop).or_else(|_| it.resume())
    }
}

#[derive(Default)]
struct OpenWaits {
    suspends: AtomicUsize,
    stash: Stash,
    task: Mutex<Option<Waker>>,
}

impl Fault for OpenWaits {
    fn suspend(&self, it: &Inner) {
        self.suspends.fetch_add(1, Ordering::SeqCst);
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()?;
        self.suspends.fetch_sub(1, Ordering::SeqCst);
        let task = lock(&self.task).take();
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let suspended = self.suspends.load(Ordering::SeqCst) > 0;
        let polled = match suspended && self.stash.any(|_| true) {
            true => Poll::Pending,
            false => self.stash.poll(it, cx),
        };
        match polled {
            Poll::Ready(Some(Event::Open)) if suspended => self.stash.put(Event::Open),
            Poll::Pending => {}
            other => return other,
        }
        *lock(&self.task) = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
struct NothingHappens {
    suspends: AtomicUsize,
    stash: Stash,
    task: Mutex<Option<Waker>>,
}

impl Fault for NothingHappens {
    fn suspend(&self, it: &Inner) {
        if it.ready_state() == ReadyState::Open {
            self.suspends.fetch_add(1, Ordering::SeqCst);
        }
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()?;
        self.suspends.store(0, Ordering::SeqCst);
        let task = lock(&self.task).take();
        task.into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.suspends.load(Ordering::SeqCst) == 0 {
            return self.stash.poll(it, cx);
        }
        if let Poll::Ready(Some(event)) = it.poll_event(cx) {
            self.stash.put(event);
        }
        *lock(&self.task) = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[derive(Default)]
struct ReadsOn {
    suspends: AtomicUsize,
    stash: Stash,
}

impl ReadsOn {
    /// Lets data in for a moment.
    fn read(&self, it: &Inner) -> Option<Event> {
        let suspends = self.suspends.load(Ordering::SeqCst);
        for _ in 0..suspends {
            it.resume().ok()?;
        }
        let end = loop {
            match it.poll_event(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(data @ Event::Data(_))) => self.stash.put(data),
                Poll::Ready(other) => break other,
                Poll::Pending => {
                    it.cancel_poll(&Waker::noop().clone());
                    break None;
                }
            }
        };
        for _ in 0..suspends {
            it.suspend();
        }
        end
    }
}

impl Fault for ReadsOn {
    fn suspend(&self, it: &Inner) {
        self.suspends.fetch_add(1, Ordering::SeqCst);
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()?;
        let taken = |n: usize| n.checked_sub(1);
        // In closing there may be none to take back.
        let _ = self
            .suspends
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let suspended = self.suspends.load(Ordering::SeqCst) > 0;
        if !suspended {
            return self.stash.poll(it, cx);
        }
        if it.ready_state() == ReadyState::Open
            && let Some(end) = self.read(it)
        {
            return Poll::Ready(Some(end));
        }
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct WakesNobody(AtomicBool);

impl Fault for WakesNobody {
    fn suspend(&self, it: &Inner) {
        self.0.store(true, Ordering::SeqCst);
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        self.0.store(false, Ordering::SeqCst);
        it.resume()
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.0.load(Ordering::SeqCst) {
            true => it.poll_event(&mut Context::from_waker(Waker::noop())),
            false => it.poll_event(cx),
        }
    }
}
