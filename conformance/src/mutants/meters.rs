//! What meters are told.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use tcpsocket::{
    Bytes, Control, Error, Event, Gate, Host, ListenRequest, Meter, OpenRequest, ReadyState,
    Security, SocketProvider, TcpServerSocket, async_trait,
};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, provider, sockets};
use super::gates::{replace, replace_of_server};
use crate::Capability;
use crate::sync::lock;

const GATES: &[Capability] = &[Capability::Gates];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "what-is-dropped-is-not-told",
        repeats: "Counters at send and at write, with none in between.",
        clauses: &["ACC-1"],
        what: "A meter is not told of dropped bytes.",
        caught_by: &[
            "meters/quota-of-the-second",
            "tls/meters-of-what-is-dropped",
            "upgrade/revoked",
        ],
        needs: GATES,
        wrap: meters::<NotDropped>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "what-is-dropped-counts-as-written",
        repeats: "Counters that take the queue's final length for written bytes.",
        clauses: &["ACC-1", "ACC-2"],
        what: "Dropped bytes are reported as written.",
        caught_by: &["meters/dropped-bytes", "meters/quota-of-the-second"],
        needs: GATES,
        wrap: meters::<DroppedIsWritten>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "written-when-it-is-queued",
        repeats: "Counters in send, which know the length of the bytes but not their fate.",
        clauses: &["ACC-2"],
        what: "Bytes are reported as written when send accepts them.",
        caught_by: &["meters/dropped-bytes", "upgrade/meters"],
        needs: GATES,
        wrap: meters::<WrittenAtOnce>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "told-in-the-end",
        repeats: "Firefox OS, which reported 64 KiB at a time, and the rest at the end of the connection.",
        clauses: &["ACC-2"],
        what: "A meter is told of moved bytes only after the socket's end.",
        caught_by: &["meters/live", "upgrade/meters"],
        needs: GATES,
        wrap: meters::<AtTheEnd>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "reading-does-not-count",
        repeats: "Quotas for upload.",
        clauses: &["ACC-1", "ACC-2"],
        what: "A meter is not told of read bytes.",
        caught_by: &["meters/what-moves", "tls/meters"],
        needs: GATES,
        wrap: meters::<NotRead>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "records-count",
        repeats: "Counters below TLS, which count records and the handshake.",
        clauses: &["ACC-1", "TLS-9"],
        what: "Under TLS every report of read bytes is five bytes too high.",
        caught_by: &["tls/meters", "upgrade/meters"],
        needs: &[Capability::Gates, Capability::Secure],
        wrap: sockets::<Records>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-refused-send-is-queued",
        repeats: "Quotas that are charged, found exceeded, and exceeded all the same.",
        clauses: &["ACC-5", "TX-22"],
        what: "A send refused by a meter is queued all the same, and returns the error.",
        caught_by: &["meters/quota", "meters/quota-of-the-second"],
        needs: GATES,
        wrap: sockets::<QueuedAnyway>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-refused-send-ends-the-socket",
        repeats: "The event-based W3C draft, which closes a connection whose buffer is full.",
        clauses: &["ACC-5", "TX-22", "ERR-11"],
        what: "When a meter refuses, the socket is aborted.",
        caught_by: &["meters/quota"],
        needs: GATES,
        wrap: sockets::<EndsAtQuota>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-meter-of-nothing-stays",
        repeats: "Entries added before connecting, and removed only after a connection.",
        clauses: &["ACC-4"],
        what: "The meter of a socket that moved nothing is never dropped.",
        caught_by: &["meters/refused-opens", "tls/revoked-in-the-handshake"],
        needs: GATES,
        wrap: meters::<Stays>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-meter-goes-with-the-handle",
        repeats: "Accounts closed when the app drops its handle, not when the kernel has everything.",
        clauses: &["ACC-4"],
        what: "The last report comes at the drop of the last handle, although bytes are held.",
        caught_by: &["tls/revoked-in-the-handshake", "upgrade/revoked"],
        needs: GATES,
        wrap: sockets::<GoesWithTheHandle>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-meter-stays-with-the-handle",
        repeats: "Accounts stored in a field of the socket.",
        clauses: &["ACC-4"],
        what: "A meter is dropped with the last handle, however long ago the socket ended.",
        caught_by: &[
            "meters/last-report-with-handles-alive",
            "tls/revoked-in-the-handshake",
            "upgrade/revoked",
        ],
        needs: GATES,
        wrap: sockets::<StaysWithTheHandle>,
        ..Mutant::SOUND
    },
];

/// What is wrong with a meter.
pub(super) trait MeterFault: Default + Send + Sync + 'static {
    fn queue(&self, it: &dyn Meter, bytes: usize) -> Result<(), Error> {
        it.queue(bytes)
    }

    fn moved(&self, it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        it.moved(written, read, dropped);
    }

    /// The socket is gone.
    fn end(&self, it: Arc<dyn Meter>) {
        drop(it);
    }
}

struct BentMeter<F: MeterFault> {
    inner: Option<Arc<dyn Meter>>,
    fault: F,
}

#[deny(clippy::missing_trait_methods)]
impl<F: MeterFault> Meter for BentMeter<F> {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        match &self.inner {
            Some(it) => self.fault.queue(&**it, bytes),
            None => Ok(()),
        }
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        if let Some(it) = &self.inner {
            self.fault.moved(&**it, written, read, dropped);
        }
    }
}

impl<F: MeterFault> Drop for BentMeter<F> {
    fn drop(&mut self) {
        if let Some(it) = self.inner.take() {
            self.fault.end(it);
        }
    }
}

impl<F: MeterFault> fmt::Debug for BentMeter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BentMeter").field(&self.inner).finish()
    }
}

type Bend = dyn Fn(Arc<dyn Meter>) -> Arc<dyn Meter> + Send + Sync;

/// A gate whose meters go through something.
struct Metered {
    inner: Arc<dyn Gate>,
    bend: Box<Bend>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Gate for Metered {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.inner.name(host, port).await
    }

    async fn connect(
        &self,
        host: &Host,
        all: &[std::net::SocketAddr],
    ) -> Result<Vec<std::net::SocketAddr>, Error> {
        self.inner.connect(host, all).await
    }

    async fn bind(&self, at: std::net::SocketAddr) -> Result<(), Error> {
        self.inner.bind(at).await
    }

    async fn accept(
        &self,
        local: std::net::SocketAddr,
        peer: std::net::SocketAddr,
    ) -> Result<(), Error> {
        self.inner.accept(local, peer).await
    }

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        (self.bend)(self.inner.watch(it))
    }
}

impl fmt::Debug for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metered").field(&self.inner).finish()
    }
}

fn bent<F: MeterFault>(inner: Arc<dyn Meter>, fault: F) -> Arc<dyn Meter> {
    let inner = Some(inner);
    Arc::new(BentMeter { inner, fault })
}

fn metered(
    inner: Arc<dyn Gate>,
    bend: impl Fn(Arc<dyn Meter>) -> Arc<dyn Meter> + Send + Sync + 'static,
) -> Arc<dyn Gate> {
    let bend = Box::new(bend);
    Arc::new(Metered { inner, bend })
}

pub(super) fn meters<F: MeterFault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<Meters<F>>(it)
}

struct Meters<F>(std::marker::PhantomData<fn() -> F>);

impl<F> Default for Meters<F> {
    fn default() -> Meters<F> {
        Meters(std::marker::PhantomData)
    }
}

#[async_trait]
impl<F: MeterFault> ProviderFault for Meters<F> {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let gate = |gate| metered(gate, |it| bent(it, F::default()));
        it.open_with(replace(request, gate))
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let gate = |gate| metered(gate, |it| bent(it, F::default()));
        it.listen_with(replace_of_server(request, gate)).await
    }
}

#[derive(Default)]
struct NotDropped;

impl MeterFault for NotDropped {
    fn moved(&self, it: &dyn Meter, written: usize, read: usize, _dropped: usize) {
        it.moved(written, read, 0);
    }
}

#[derive(Default)]
struct DroppedIsWritten;

impl MeterFault for DroppedIsWritten {
    fn moved(&self, it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        it.moved(written + dropped, read, 0);
    }
}

#[derive(Default)]
struct WrittenAtOnce;

impl MeterFault for WrittenAtOnce {
    fn queue(&self, it: &dyn Meter, bytes: usize) -> Result<(), Error> {
        it.queue(bytes)?;
        it.moved(bytes, 0, 0);
        Ok(())
    }

    fn moved(&self, it: &dyn Meter, _written: usize, read: usize, _dropped: usize) {
        it.moved(0, read, 0);
    }
}

#[derive(Default)]
struct AtTheEnd(Mutex<(usize, usize, usize)>);

impl MeterFault for AtTheEnd {
    fn moved(&self, _it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        let mut all = lock(&self.0);
        *all = (all.0 + written, all.1 + read, all.2 + dropped);
    }

    fn end(&self, it: Arc<dyn Meter>) {
        let (written, read, dropped) = *lock(&self.0);
        it.moved(written, read, dropped);
    }
}

#[derive(Default)]
struct NotRead;

impl MeterFault for NotRead {
    fn moved(&self, it: &dyn Meter, written: usize, _read: usize, dropped: usize) {
        it.moved(written, 0, dropped);
    }
}

/// Whether anything was counted.
#[derive(Default)]
struct Stays(AtomicBool);

impl MeterFault for Stays {
    fn queue(&self, it: &dyn Meter, bytes: usize) -> Result<(), Error> {
        self.0.store(true, Ordering::SeqCst);
        it.queue(bytes)
    }

    fn moved(&self, it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        self.0.store(true, Ordering::SeqCst);
        it.moved(written, read, dropped);
    }

    fn end(&self, it: Arc<dyn Meter>) {
        if !self.0.load(Ordering::SeqCst) {
            std::mem::forget(it);
        }
    }
}

/// How much is read beside what is delivered: shared between a socket and its meters.
#[derive(Default)]
struct Records(Arc<AtomicUsize>);

impl Fault for Records {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        replace(request, |gate| {
            let more = self.0.clone();
            metered(gate, move |it| bent(it, Headers(more.clone())))
        })
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if matches!(it.security(), Security::Secure(_)) {
            self.0.store(5, Ordering::SeqCst);
        }
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct Headers(Arc<AtomicUsize>);

impl MeterFault for Headers {
    fn moved(&self, it: &dyn Meter, written: usize, read: usize, dropped: usize) {
        let more = if read > 0 {
            self.0.load(Ordering::SeqCst)
        } else {
            0
        };
        it.moved(written, read + more, dropped);
    }
}

/// What a meter has refused.
type Refusal = Arc<Mutex<Option<Error>>>;

#[derive(Default)]
struct QueuedAnyway(Refusal);

impl Fault for QueuedAnyway {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        replace(request, |gate| {
            let refusal = self.0.clone();
            metered(gate, move |it| bent(it, Lenient(refusal.clone())))
        })
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let answer = it.send(data)?;
        match lock(&self.0).take() {
            Some(refusal) => Err(refusal),
            None => Ok(answer),
        }
    }
}

#[derive(Default)]
struct Lenient(Refusal);

impl MeterFault for Lenient {
    fn queue(&self, it: &dyn Meter, bytes: usize) -> Result<(), Error> {
        if let Err(refusal) = it.queue(bytes) {
            *lock(&self.0) = Some(refusal);
        }
        Ok(())
    }
}

#[derive(Default)]
struct EndsAtQuota;

impl Fault for EndsAtQuota {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let open = it.ready_state() == ReadyState::Open;
        let answer = it.send(data);
        if open && answer.is_err() {
            it.abort(None);
        }
        answer
    }
}

/// The meters of a socket that may be let go before their time.
type Loose = Arc<Mutex<Vec<Arc<dyn Meter>>>>;

#[derive(Default)]
struct GoesWithTheHandle(Loose);

impl Fault for GoesWithTheHandle {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        replace(request, |gate| {
            let loose = self.0.clone();
            metered(gate, move |it| {
                lock(&loose).push(it.clone());
                let weak = Arc::downgrade(&it);
                Arc::new(ByWeak(weak))
            })
        })
    }

    fn dropped(&self, it: &Inner) {
        if it.buffered_amount() > 0 {
            let meters = std::mem::take(&mut *lock(&self.0));
            drop(meters);
        }
    }
}

/// Reports as long as somebody listens.
#[derive(Debug)]
struct ByWeak(Weak<dyn Meter>);

#[deny(clippy::missing_trait_methods)]
impl Meter for ByWeak {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        self.0.upgrade().map_or(Ok(()), |it| it.queue(bytes))
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        if let Some(it) = self.0.upgrade() {
            it.moved(written, read, dropped);
        }
    }
}

#[derive(Default)]
struct StaysWithTheHandle(Loose);

impl Fault for StaysWithTheHandle {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        replace(request, |gate| {
            let kept = self.0.clone();
            metered(gate, move |it| {
                lock(&kept).push(it.clone());
                it
            })
        })
    }

    fn dropped(&self, _it: &Inner) {
        let meters = std::mem::take(&mut *lock(&self.0));
        drop(meters);
    }
}
