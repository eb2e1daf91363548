//! Dropping, what goes on without a handle, and what is left behind.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tcpsocket::{
    Bytes, Error, ErrorName, Event, ListenRequest, OpenRequest, ReadyState, SocketProvider,
    TcpServerSocket, async_trait,
};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, Stash, bent, provider, sockets};
use crate::Capability;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a-drop-aborts",
        repeats: "Buffered writers, such as tokio's, whose drop forgets unflushed bytes.",
        clauses: &["ACT-5", "ROW-31"],
        what: "Dropping the last handle drops the held bytes if they are a megabyte or more.",
        caught_by: &[
            "activity/drop-flushes",
            "lifecycle/dropped-with-unread-input",
            "meters/last-report-after-the-flush",
        ],
        wrap: sockets::<DropAborts>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-drop-is-a-reset",
        repeats: "Sockets dropped with unread input, and drops that set linger to 0.",
        clauses: &["ACT-5", "CL-13"],
        what: "Dropping the last handle of an open socket that holds nothing, or is under TLS, resets the connection.",
        caught_by: &[
            "lifecycle/dropped-while-waiting",
            "tls/drop-flushes",
            "upgrade/drop-right-behind",
        ],
        wrap: sockets::<DropResets>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-attempt-outlives-its-handle",
        repeats: "Detached tasks: nobody tells them that nobody waits any more.",
        clauses: &["ACT-5", "IF-18"],
        what: "A socket given up while connecting, and no longer polled, continues to connect.",
        caught_by: &[
            "lifecycle/dropped-in-every-state",
            "opening/returns-connecting",
            "tls/dropped-in-the-handshake",
        ],
        wrap: sockets::<Outlives>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-descriptor-for-each-handle",
        repeats: "Sockets closed by their destructor, and kept alive by any handle.",
        clauses: &["LIFE-8"],
        what: "A socket that has ended keeps its descriptor as long as a handle is alive.",
        caught_by: &["lifecycle/ended-with-handles-alive"],
        wrap: sockets::<Descriptor>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "one-in-fifty-leaks",
        repeats: "Leaks in a rarely taken path.",
        clauses: &["ST-3"],
        what: "Every fiftieth socket leaves a descriptor behind.",
        caught_by: &[
            "lifecycle/many-one-after-another",
            "permissions/revoked-while-opening",
            "threads/many-sockets",
        ],
        wrap: provider::<Leaks>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-thousand-and-no-more",
        repeats: "select, whose sets have 1024 places.",
        clauses: &["ACT-8"],
        what: "The thousandth socket of a provider is the last one to open.",
        caught_by: &["lifecycle/thousands-at-once"],
        wrap: provider::<AThousand>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "idle-tells-one",
        repeats: "notify_one with several waiters: a condition variable, a slot for one waker.",
        clauses: &["ACT-6"],
        what: "While one task waits for idle, all others wait for ever.",
        caught_by: &["threads/many-wait-for-idle"],
        wrap: provider::<IdleTellsOne>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "idle-at-once",
        repeats: "Programs that exit right after close: libuv's loop would have continued, their exit did not wait.",
        clauses: &["ACT-6"],
        what: "idle returns although bytes are held.",
        caught_by: &[
            "activity/idle-waits-for-the-flush",
            "activity/idle-waits-for-the-lingering",
        ],
        wrap: provider::<IdleAtOnce>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "idle-waits-for-open-sockets",
        repeats: "The close of an HTTP server, which waits for keep-alive connections.",
        clauses: &["ACT-6"],
        what: "idle waits until every socket has been dropped.",
        caught_by: &[
            "activity/idle-at-once",
            "activity/idle-waits-for-the-lingering",
            "closing/linger-bounds-the-discarding",
        ],
        wrap: provider::<IdleWaits>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "one-stuck-socket-holds-all",
        repeats: "Proxies with a single loop that waits for each write.",
        clauses: &["ACT-8"],
        what: "While megabytes are stuck on one socket, every other gets at most a kilobyte.",
        caught_by: &["activity/a-stuck-peer-delays-nobody-else"],
        wrap: provider::<HoldsAll>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "four-waiting-gates-hold-all",
        repeats: "libuv's pool of four threads, where four slow lookups block every other.",
        clauses: &["ACT-8", "GATE-6"],
        what: "While four gates wait, no other open proceeds.",
        caught_by: &["activity/a-waiting-gate-delays-nobody-else"],
        needs: &[Capability::Gates],
        wrap: super::gates::four_at_once,
        ..Mutant::SOUND
    },
    Mutant {
        name: "output-waits-for-a-poll",
        repeats: "Futures, which do nothing unless polled, and sinks, which need a flush.",
        clauses: &["ACT-1", "TURN-6"],
        what: "Bytes sent after the first kilobytes of a turn leave only when the socket is polled.",
        caught_by: &[
            "activity/output-leaves",
            "sending/answers-around-the-mark",
            "turns/amount-stays",
        ],
        wrap: sockets::<WaitsForPoll>,
        ..Mutant::SOUND
    },
];

#[derive(Default)]
struct DropAborts;

impl Fault for DropAborts {
    fn dropped(&self, it: &Inner) {
        if it.buffered_amount() >= 1 << 20 {
            it.abort(None);
        }
    }
}

#[derive(Default)]
struct DropResets;

impl Fault for DropResets {
    fn dropped(&self, it: &Inner) {
        let flushed = it.buffered_amount() == 0 || it.ssl();
        if it.ready_state() == ReadyState::Open && flushed {
            let why = "dropped";
            it.abort(Some(Error::new(tcpsocket::ErrorName::Network, why)));
        }
    }
}

/// It was closed while connecting.
#[derive(Default)]
struct Outlives(AtomicBool);

impl Fault for Outlives {
    fn ready_state(&self, it: &Inner) -> ReadyState {
        match self.0.load(Ordering::SeqCst) {
            true => ReadyState::Closing,
            false => it.ready_state(),
        }
    }

    fn close(&self, it: &Inner) {
        match it.ready_state() {
            ReadyState::Connecting => self.0.store(true, Ordering::SeqCst),
            _ => it.close(),
        }
    }

    fn dropped(&self, it: &Inner) {
        if it.ready_state() == ReadyState::Connecting {
            std::mem::forget(it.clone());
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.0.swap(false, Ordering::SeqCst) {
            it.close();
        }
        it.poll_event(cx)
    }
}

/// Something that occupies a descriptor, where there is one.
fn descriptor() -> Option<UdpSocket> {
    UdpSocket::bind("127.0.0.1:0").ok()
}

struct Descriptor(Option<UdpSocket>);

impl Default for Descriptor {
    fn default() -> Descriptor {
        Descriptor(descriptor())
    }
}

impl Fault for Descriptor {
    fn dropped(&self, _it: &Inner) {
        // It goes with the fault.
        let _ = &self.0;
    }
}

#[derive(Default)]
struct Leaks(AtomicUsize);

#[async_trait]
impl ProviderFault for Leaks {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        if self.0.fetch_add(1, Ordering::SeqCst) % 50 == 49 {
            std::mem::forget(descriptor());
        }
        it.open_with(request)
    }
}

#[derive(Default)]
struct AThousand(AtomicUsize);

#[async_trait]
impl ProviderFault for AThousand {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        if self.0.fetch_add(1, Ordering::SeqCst) >= 1000 {
            return Err(Error::new(ErrorName::Network, "there is no place left"));
        }
        it.open_with(request)
    }
}

#[derive(Default)]
struct IdleAtOnce;

#[async_trait]
impl ProviderFault for IdleAtOnce {
    async fn idle(&self, _it: &Arc<dyn SocketProvider>) {}
}

/// Somebody waits.
#[derive(Default)]
struct IdleTellsOne(AtomicBool);

#[async_trait]
impl ProviderFault for IdleTellsOne {
    async fn idle(&self, it: &Arc<dyn SocketProvider>) {
        struct Waits<'a>(&'a AtomicBool);

        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::SeqCst);
            }
        }

        if self.0.swap(true, Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let _waits = Waits(&self.0);
        it.idle().await;
    }
}

/// One of those that are alive.
#[derive(Default)]
struct Alive {
    _one: Arc<()>,
}

impl Fault for Alive {}

#[derive(Default)]
struct IdleWaits(Arc<()>);

#[async_trait]
impl ProviderFault for IdleWaits {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let alive = Arc::new(Alive {
            _one: self.0.clone(),
        });
        Ok(bent(it.open_with(request)?, alive))
    }

    async fn idle(&self, it: &Arc<dyn SocketProvider>) {
        it.idle().await;
        if Arc::strong_count(&self.0) > 1 {
            std::future::pending::<()>().await;
        }
    }
}

/// How many sockets of a provider are stuck.
#[derive(Default)]
struct HoldsAll(Arc<AtomicUsize>);

#[async_trait]
impl ProviderFault for HoldsAll {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let fault = Held {
            stuck: self.0.clone(),
            ..Held::default()
        };
        Ok(bent(it.open_with(request)?, Arc::new(fault)))
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        it.listen_with(request).await
    }
}

#[derive(Default)]
struct Held {
    stuck: Arc<AtomicUsize>,
    /// It is one of them.
    is_stuck: AtomicBool,
    stash: Stash,
}

impl Fault for Held {
    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let len = data.len();
        let answer = it.send(data)?;
        if len > 1 << 20 && !self.is_stuck.swap(true, Ordering::SeqCst) {
            self.stuck.fetch_add(1, Ordering::SeqCst);
        }
        Ok(answer)
    }

    fn dropped(&self, _it: &Inner) {
        if self.is_stuck.load(Ordering::SeqCst) {
            self.stuck.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let others =
            self.stuck.load(Ordering::SeqCst) > usize::from(self.is_stuck.load(Ordering::SeqCst));
        if others && self.stash.any(|_| true) {
            return Poll::Pending;
        }
        let polled = self.stash.poll(it, cx);
        match polled {
            Poll::Ready(Some(Event::Data(data))) if others && data.len() > 1000 => {
                self.stash.put(Event::Data(data));
                Poll::Pending
            }
            Poll::Ready(Some(Event::Drain)) => {
                if self.is_stuck.swap(false, Ordering::SeqCst) {
                    self.stuck.fetch_sub(1, Ordering::SeqCst);
                }
                polled
            }
            other => other,
        }
    }
}

/// What waits for a poll.
#[derive(Default)]
struct WaitsForPoll(std::sync::Mutex<Vec<Bytes>>);

impl WaitsForPoll {
    fn len(&self) -> u64 {
        let waiting = crate::sync::lock(&self.0);
        waiting.iter().map(|it| it.len() as u64).sum()
    }

    fn flush(&self, it: &Inner) {
        for data in std::mem::take(&mut *crate::sync::lock(&self.0)) {
            // It was accepted, so this is open, unless the connection has failed.
            let _ = it.send(data);
        }
    }
}

impl Fault for WaitsForPoll {
    fn buffered_amount(&self, it: &Inner) -> u64 {
        it.buffered_amount() + self.len()
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        let before = it.buffered_amount();
        if before < 65_536 || it.ready_state() != ReadyState::Open || data.len() > 100 {
            self.flush(it);
            return it.send(data);
        }
        crate::sync::lock(&self.0).push(data);
        Ok(false)
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        self.flush(it);
        it.upgrade_to_secure()
    }

    fn close(&self, it: &Inner) {
        self.flush(it);
        it.close();
    }

    fn dropped(&self, it: &Inner) {
        self.flush(it);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.flush(it);
        it.poll_event(cx)
    }
}
