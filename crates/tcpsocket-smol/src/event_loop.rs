//! Our own loop: edge-triggered readiness on mio, one system call a wait.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Registry, Token};
use parking_lot::{Condvar, Mutex};
use slab::Slab;

use crate::foreign;
use crate::source::{Ready, Source};

/// An event loop for one thread, which runs one future and the sockets of every [`Smol::on`](crate::Smol::on) it.
///
/// The fastest way of running: what a turn sent leaves in one system call just before the loop waits, an echo costs three system
/// calls, and no other thread is involved. Run tasks on it with an executor of your choice, as
/// `event_loop.block_on(executor.run(future))`.
///
/// While no `block_on` is running and a socket still needs the loop, a thread of its own keeps it going, so accepted bytes leave and
/// closes complete all the same. Cheap to clone; clones are the same loop.
///
/// ```
/// use tcpsocket_smol::{Loop, Smol};
///
/// let event_loop = Loop::new()?;
/// let net = Smol::on(&event_loop);
/// event_loop.block_on(async {
///     // use net here
/// });
/// # drop(net);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Loop {
    pub(crate) core: Arc<Core>,
}

impl Loop {
    /// A new loop.
    ///
    /// # Errors
    ///
    /// Those of the operating system, when it has no descriptors left.
    pub fn new() -> io::Result<Loop> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKER)?;
        let events = Events::with_capacity(1024);
        Ok(Loop {
            core: Arc::new(Core {
                registry,
                waker,
                poll: Mutex::new((poll, events)),
                sources: Mutex::default(),
                put_off: Mutex::default(),
                due: Mutex::default(),
                timers: Mutex::default(),
                timer_ids: AtomicU64::new(0),
                thread: AtomicUsize::new(NO_THREAD),
                parked: AtomicBool::new(false),
                nudged: AtomicBool::new(false),
                seat: Mutex::new(Seat {
                    holder: Holder::Nobody,
                    wanted: 0,
                    keeper: false,
                }),
                seat_changed: Condvar::new(),
            }),
        })
    }

    /// Runs the future to its end, and meanwhile the sockets of this loop.
    ///
    /// If another thread is in `block_on` of the same loop, that thread drives the sockets and this one runs its future
    /// only; when that thread leaves, one of those that wait takes over.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let awake = Arc::new(Awake {
            woken: AtomicBool::new(true),
            thread: this_thread(),
            core: self.core.clone(),
        });
        let waker = Waker::from(awake.clone());
        let mut cx = Context::from_waker(&waker);
        let mut place = Place::take(&self.core);
        loop {
            if awake.woken.swap(false, SeqCst)
                && let Poll::Ready(value) = future.as_mut().poll(&mut cx)
            {
                self.core.flush();
                return value;
            }
            if place.drives {
                self.core.turn(&awake.woken);
            } else {
                place.wait_or_take(&awake.woken);
            }
        }
    }
}

impl fmt::Debug for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loop").finish_non_exhaustive()
    }
}

const WAKER: Token = Token(usize::MAX);
const NO_THREAD: usize = 0;

pub(crate) struct Core {
    registry: Registry,
    waker: mio::Waker,
    poll: Mutex<(mio::Poll, Events)>,
    sources: Mutex<Slab<Weak<dyn Source>>>,
    /// Touched in this turn, and to be flushed before the loop waits.
    put_off: Mutex<Vec<Arc<dyn Source>>>,
    /// What a wait brought, empty between turns: only its allocation is kept.
    due: Mutex<Vec<(Arc<dyn Source>, Ready)>>,
    timers: Mutex<BTreeMap<TimerKey, Weak<dyn Source>>>,
    timer_ids: AtomicU64,
    /// The thread that drives inside a `block_on`.
    thread: AtomicUsize,
    parked: AtomicBool,
    /// Something changed that a wait which is about to begin must not miss.
    nudged: AtomicBool,
    seat: Mutex<Seat>,
    seat_changed: Condvar,
}

/// When, and a number that makes it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Instant, u64);

impl TimerKey {
    pub(crate) fn at(self) -> Instant {
        self.0
    }
}

impl Core {
    /// Registers for both directions, edge-triggered, once for the life of the descriptor.
    pub(crate) fn register(
        self: &Arc<Core>,
        io: &mut impl mio::event::Source,
        interest: Interest,
        source: Weak<dyn Source>,
    ) -> io::Result<Registered> {
        let token = self.sources.lock().insert(source);
        if let Err(error) = self.registry.register(io, Token(token), interest) {
            self.sources.lock().remove(token);
            return Err(error);
        }
        self.ensure_driven();
        Ok(Registered {
            core: self.clone(),
            token,
        })
    }

    pub(crate) fn set_timer(self: &Arc<Core>, at: Instant, source: Weak<dyn Source>) -> TimerKey {
        let key = TimerKey(at, self.timer_ids.fetch_add(1, SeqCst));
        let first = {
            let mut timers = self.timers.lock();
            timers.insert(key, source);
            timers.first_key_value().map(|(key, _)| *key)
        };
        if first == Some(key) && !self.is_this_thread() {
            self.unpark();
        }
        self.ensure_driven();
        key
    }

    pub(crate) fn cancel_timer(&self, key: TimerKey) {
        self.timers.lock().remove(&key);
    }

    /// Whether this is the thread that flushes before it waits.
    pub(crate) fn is_this_thread(&self) -> bool {
        self.thread.load(SeqCst) == this_thread()
    }

    /// Flushes the source before the loop waits next.
    pub(crate) fn put_off(&self, source: Arc<dyn Source>) {
        self.put_off.lock().push(source);
        if !self.is_this_thread() {
            self.unpark();
        }
    }

    pub(crate) fn flush(&self) {
        let sources = std::mem::take(&mut *self.put_off.lock());
        // The allocation is kept for the next turn.
        let mut sources = sources;
        for source in sources.drain(..) {
            foreign::contain(move || source.flush());
        }
        let mut list = self.put_off.lock();
        if list.capacity() == 0 {
            *list = sources;
        }
    }

    /// One turn: flush, wait, dispatch.
    fn turn(&self, woken: &AtomicBool) {
        self.flush();
        let mut guard = self.poll.lock();
        let (poll, events) = &mut *guard;
        self.parked.store(true, SeqCst);
        let nudged = self.nudged.swap(false, SeqCst);
        let hurry = nudged || woken.load(SeqCst) || !self.put_off.lock().is_empty();
        let timeout = match hurry {
            true => Some(Duration::ZERO),
            false => self.until_timer(),
        };
        let waited = poll.poll(events, timeout);
        self.parked.store(false, SeqCst);
        if let Err(error) = waited {
            // Only an interrupted wait can happen here; whatever it was, nothing is lost by trying again.
            debug_assert_eq!(error.kind(), io::ErrorKind::Interrupted);
            return;
        }
        let mut due = std::mem::take(&mut *self.due.lock());
        {
            let sources = self.sources.lock();
            for event in events.iter().filter(|event| event.token() != WAKER) {
                let source = sources.get(event.token().0).and_then(Weak::upgrade);
                due.extend(source.map(|source| (source, ready(event))));
            }
        }
        drop(guard);
        for (source, ready) in due.drain(..) {
            foreign::contain(move || source.ready(ready));
        }
        *self.due.lock() = due;
        self.fire_timers();
    }

    fn until_timer(&self) -> Option<Duration> {
        let timers = self.timers.lock();
        let (key, _) = timers.first_key_value()?;
        // mio rounds down to milliseconds on some systems; one too early would spin.
        Some(key.0.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn fire_timers(&self) {
        loop {
            let source = {
                let mut timers = self.timers.lock();
                match timers.first_entry() {
                    Some(entry) if entry.key().0 <= Instant::now() => entry.remove(),
                    _ => return,
                }
            };
            if let Some(source) = source.upgrade() {
                foreign::contain(move || source.deadline());
            }
        }
    }

    fn unpark(&self) {
        self.nudged.store(true, SeqCst);
        if self.parked.load(SeqCst) {
            // Fails only if the loop is gone, and then nobody waits.
            let _ = self.waker.wake();
        }
    }

    fn is_needed(&self) -> bool {
        !self.sources.lock().is_empty()
            || !self.timers.lock().is_empty()
            || !self.put_off.lock().is_empty()
    }

    // ----- who drives

    /// The seat is free: a follower takes it, or the keeper.
    fn hand_on(self: &Arc<Core>) {
        self.seat_changed.notify_all();
        if self.is_needed() {
            self.ensure_driven();
        }
    }

    /// Makes sure that somebody drives: a thread of our own, if no `block_on` does.
    fn ensure_driven(self: &Arc<Core>) {
        let mut seat = self.seat.lock();
        if seat.keeper || seat.wanted > 0 || seat.holder != Holder::Nobody {
            return;
        }
        let core = self.clone();
        let thread = thread::Builder::new().name("tcpsocket-loop".into());
        seat.keeper = thread.spawn(move || core.keep()).is_ok();
    }

    /// The keeper's life: drive while nobody else wants to, leave when there is nothing to drive.
    fn keep(self: Arc<Core>) {
        let never = AtomicBool::new(false);
        loop {
            {
                let mut seat = self.seat.lock();
                while seat.wanted > 0 || seat.holder == Holder::BlockOn {
                    if seat.holder == Holder::Keeper {
                        seat.holder = Holder::Nobody;
                        self.seat_changed.notify_all();
                    }
                    self.seat_changed.wait(&mut seat);
                }
                if !self.is_needed() {
                    seat.holder = Holder::Nobody;
                    seat.keeper = false;
                    return;
                }
                seat.holder = Holder::Keeper;
            }
            self.turn(&never);
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").finish_non_exhaustive()
    }
}

fn ready(event: &mio::event::Event) -> Ready {
    let broken = event.is_error();
    Ready {
        readable: event.is_readable() || broken,
        writable: event.is_writable() || broken,
        read_closed: event.is_read_closed() || broken,
    }
}

/// A registration, undone by its drop.
#[derive(Debug)]
pub(crate) struct Registered {
    core: Arc<Core>,
    token: usize,
}

impl Registered {
    /// Takes the descriptor out of the loop; closing it alone would do on Linux only.
    pub(crate) fn deregister(&self, io: &mut impl mio::event::Source) {
        // Fails only if the descriptor is not registered, and then all is well.
        let _ = self.core.registry.deregister(io);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let source = self.core.sources.lock().try_remove(self.token);
        drop(source);
        // The keeper may be waiting for the last source to go.
        if self.core.seat.lock().holder == Holder::Keeper {
            self.core.unpark();
        }
    }
}

#[derive(Debug)]
struct Seat {
    holder: Holder,
    /// How many `block_on`s wait, and would rather drive: the keeper leaves the seat to them.
    wanted: usize,
    /// Whether the keeper's thread exists.
    keeper: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    BlockOn,
    Keeper,
}

/// A `block_on`'s place: it drives, or it follows another that does.
struct Place<'a> {
    core: &'a Arc<Core>,
    drives: bool,
    /// Inside a `block_on` of this same thread, which keeps the seat.
    nested: bool,
}

impl<'a> Place<'a> {
    fn take(core: &'a Arc<Core>) -> Place<'a> {
        let nested = core.is_this_thread();
        let mut place = Place {
            core,
            drives: nested,
            nested,
        };
        if !nested {
            let mut seat = core.seat.lock();
            if seat.holder == Holder::Keeper {
                seat.wanted += 1;
                core.unpark();
                while seat.holder == Holder::Keeper {
                    core.seat_changed.wait(&mut seat);
                }
                seat.wanted -= 1;
            }
            place.try_sit(&mut seat);
            core.seat_changed.notify_all();
        }
        place
    }

    fn try_sit(&mut self, seat: &mut Seat) {
        if seat.holder == Holder::Nobody {
            seat.holder = Holder::BlockOn;
            self.core.thread.store(this_thread(), SeqCst);
            self.drives = true;
        }
    }

    /// Waits until its future is woken, or the seat is free, and takes it then.
    fn wait_or_take(&mut self, woken: &AtomicBool) {
        let core = self.core;
        let mut seat = core.seat.lock();
        seat.wanted += 1;
        while !woken.load(SeqCst) {
            self.try_sit(&mut seat);
            if self.drives {
                break;
            }
            if seat.holder == Holder::Keeper {
                core.unpark();
            }
            core.seat_changed.wait(&mut seat);
        }
        seat.wanted -= 1;
        let nobody = seat.wanted == 0 && seat.holder == Holder::Nobody;
        drop(seat);
        if nobody {
            core.hand_on();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.nested || !self.drives {
            return;
        }
        self.core.thread.store(NO_THREAD, SeqCst);
        self.core.seat.lock().holder = Holder::Nobody;
        self.core.hand_on();
    }
}

/// Wakes a `block_on`.
struct Awake {
    woken: AtomicBool,
    /// Its thread.
    thread: usize,
    core: Arc<Core>,
}

impl Wake for Awake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Its own thread looks before it waits.
        if self.woken.swap(true, SeqCst) || self.thread == this_thread() {
            return;
        }
        if self.core.thread.load(SeqCst) == self.thread {
            self.core.unpark();
        } else {
            // It follows, and waits on the seat; taking its lock makes sure that it does already. If it takes the seat
            // instead, it looks once more before it waits for the kernel.
            drop(self.core.seat.lock());
            self.core.seat_changed.notify_all();
        }
    }
}

/// A number for this thread: the address of something that it alone has.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.try_with(|mark| std::ptr::from_ref(mark).addr())
        .unwrap_or(NO_THREAD)
}
