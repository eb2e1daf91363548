//! What becomes of the panics of foreign code, and of its calls back.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tcpsocket::{Bytes, Error, Event, Gate, Host, Meter, async_trait};

use super::Mutant;
use super::bend::{Fault, Inner, sockets};
use super::gates::{GateFault, gates};
use super::meters::{MeterFault, meters};
use crate::Capability;
use crate::sync::lock;

const GATES: &[Capability] = &[Capability::Gates];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a-panic-is-consent",
        repeats: "Hooks inside a catch-all that continues.",
        clauses: &["LIFE-9"],
        what: "A gate that panics on a name or on addresses counts as admitting them.",
        caught_by: &["foreign/gate-panics"],
        needs: GATES,
        wrap: gates::<Consents>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "nothing-is-counted-after-a-panic",
        repeats: "The same catch-all around counters.",
        clauses: &["LIFE-9"],
        what: "A socket whose meter panics continues uncounted.",
        caught_by: &["foreign/meter-panics"],
        needs: GATES,
        wrap: meters::<Uncounted>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "wakers-in-a-row",
        repeats: "Loops that wake the wakers of a wait one after another, until one panics.",
        clauses: &["LIFE-9", "EVT-5"],
        what: "A waker is not woken if the waker of an earlier wait panics first.",
        caught_by: &["foreign/waker-panics"],
        wrap: sockets::<InARow>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "payload-is-dropped-under-a-lock",
        repeats: "Queues inside a mutex that drop each buffer where they take it out.",
        clauses: &["LIFE-10"],
        what: "A payload is dropped while the socket is locked.",
        caught_by: &["foreign/error-calls-back", "foreign/payload-calls-back"],
        wrap: sockets::<Locked>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "wakers-are-dropped-under-a-lock",
        repeats: "async-io, which wakes and drops replaced wakers under its own lock.",
        clauses: &["LIFE-10", "EVT-7"],
        what: "The waker of a replaced wait is dropped while the socket is locked.",
        caught_by: &["foreign/waker-calls-back"],
        wrap: sockets::<LockedWait>,
        ..Mutant::SOUND
    },
];

/// The answer, or this one if it panics.
async fn or<T>(
    answer: impl Future<Output = Result<T, Error>>,
    otherwise: impl Fn() -> T,
) -> Result<T, Error> {
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        panic::catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx)))
            .unwrap_or_else(|_| Poll::Ready(Ok(otherwise())))
    })
    .await
}

#[derive(Default)]
struct Consents;

#[async_trait]
impl GateFault for Consents {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        or(it.name(host, port), || ()).await
    }

    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        or(it.connect(host, all), || all.to_vec()).await
    }
}

#[derive(Default)]
struct Uncounted;

impl MeterFault for Uncounted {
    fn moved(&self, it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        // Whatever comes of it.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| it.moved(written, read, dropped)));
    }
}

/// Those who wait, in the order in which they came, on all sockets.
static ROW: Mutex<Vec<Waker>> = Mutex::new(Vec::new());

#[derive(Default)]
struct InARow;

/// Wakes all that wait.
struct WakesTheRow;

impl Wake for WakesTheRow {
    fn wake(self: Arc<WakesTheRow>) {
        let row = lock(&ROW).clone();
        for waker in row {
            waker.wake();
        }
    }
}

impl Fault for InARow {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut row = lock(&ROW);
        if !row.iter().any(|known| known.will_wake(cx.waker())) {
            row.push(cx.waker().clone());
        }
        drop(row);
        let all = Waker::from(Arc::new(WakesTheRow));
        it.poll_event(&mut Context::from_waker(&all))
    }
}

#[derive(Default)]
struct Locked(Mutex<()>);

impl Fault for Locked {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        let _locked = lock(&self.0);
        it.buffered_amount()
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let _locked = lock(&self.0);
        it.send(data)
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        let _locked = lock(&self.0);
        it.abort(why);
    }
}

#[derive(Default)]
struct LockedWait(Mutex<()>);

impl Fault for LockedWait {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        let _locked = lock(&self.0);
        it.buffered_amount()
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let _locked = lock(&self.0);
        it.poll_event(cx)
    }
}
