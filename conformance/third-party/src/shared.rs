//! What a handle, two threads, a control and whoever waits have in common.

use std::fmt;
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tcpsocket::{BinaryType, Control, Error, Gate, ReadyState};

use crate::busy::Busy;
use crate::foreign::wake;
use crate::meters::Meters;
use crate::state::{Due, Link, Read, State, Write};
use crate::{lock, sleep};

/// A socket without its handle.
pub(crate) struct Shared {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) binary_type: BinaryType,
    busy: Arc<Busy>,
    cell: Mutex<Cell>,
    writer: Condvar,
    reader: Condvar,
}

/// What the lock protects.
struct Cell {
    state: State,
    counted_as_busy: bool,
    /// What each thread sleeps on, if it sleeps.
    writer_has: Option<Write>,
    reader_sleeps: bool,
}

/// The lock. Given back by [`Shared::leave`] and in no other way.
pub(crate) struct Entered<'a>(MutexGuard<'a, Cell>);

impl std::ops::Deref for Entered<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0.state
    }
}

impl std::ops::DerefMut for Entered<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0.state
    }
}

/// What a socket is made of.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) binary_type: BinaryType,
    pub(crate) linger: Option<Duration>,
}

/// How long a flush may take without progress (CL-15).
const LINGER: Duration = Duration::from_secs(30);
/// The same after the last handle was dropped (LIFE-3).
const LINGER_DROPPED: Duration = Duration::from_secs(5);

impl Shared {
    pub(crate) fn new(facts: Facts, shown: ReadyState, link: Link, busy: Arc<Busy>) -> Arc<Shared> {
        Arc::new(Shared {
            host: facts.host,
            port: facts.port,
            binary_type: facts.binary_type,
            busy,
            cell: Mutex::new(Cell {
                state: State::new(shown, link, facts.linger.unwrap_or(LINGER)),
                counted_as_busy: false,
                writer_has: None,
                reader_sleeps: false,
            }),
            writer: Condvar::new(),
            reader: Condvar::new(),
        })
    }

    /// Asks every gate for its meter.
    pub(crate) fn watch(self: &Arc<Shared>, gates: &[Arc<dyn Gate>]) -> Result<(), Error> {
        if !gates.is_empty() {
            let this: Weak<Shared> = Arc::downgrade(self);
            let meters = Meters::watch(gates, this as Weak<dyn Control>)?;
            self.with(|it| it.meters = Some(meters));
        }
        Ok(())
    }

    /// Changes something.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut entered = self.enter();
        let output = change(&mut entered);
        self.leave(entered);
        output
    }

    pub(crate) fn enter(&self) -> Entered<'_> {
        Entered(lock(&self.cell))
    }

    /// Gives the lock back, and then does what must not be done under it: tells meters, wakes and drops wakers, drops
    /// buffers, closes descriptors.
    pub(crate) fn leave(&self, entered: Entered<'_>) {
        let Entered(mut cell) = entered;
        let state = &mut cell.state;
        let mut after = std::mem::take(&mut state.after);
        if !matches!(state.due(), Due::Nothing) {
            after.wakes.extend(state.waker.take());
        }
        let meters = match state.is_settled() {
            true => state.meters.take(),
            false => state.meters.clone(),
        };
        let (busy, write, read) = (state.is_busy(), state.write_job(), state.read_job());
        match (cell.counted_as_busy, busy) {
            (false, true) => self.busy.enter(),
            (true, false) => after.wakes.extend(self.busy.leave()),
            _ => {}
        }
        cell.counted_as_busy = busy;
        if cell.writer_has.is_some_and(|it| it != write) {
            self.writer.notify_one();
        }
        if cell.reader_sleeps && read != Read::Wait {
            self.reader.notify_one();
        }
        drop(cell);
        if let Some(meters) = meters {
            meters.report(&after.moved);
        }
        wake(after.wakes);
    }

    /// The writer sleeps until it has something else to do than this.
    pub(crate) fn writer_sleeps<'a>(
        &self,
        entered: Entered<'a>,
        job: Write,
        until: Option<Instant>,
    ) -> Entered<'a> {
        let Entered(mut cell) = entered;
        cell.writer_has = Some(job);
        let mut cell = sleep(&self.writer, cell, until);
        cell.writer_has = None;
        Entered(cell)
    }

    /// The reader sleeps until it has something to do.
    pub(crate) fn reader_sleeps<'a>(&self, entered: Entered<'a>) -> Entered<'a> {
        let Entered(mut cell) = entered;
        cell.reader_sleeps = true;
        let mut cell = sleep(&self.reader, cell, None);
        cell.reader_sleeps = false;
        Entered(cell)
    }

    /// The connection, for a call that may wait.
    pub(crate) fn stream(entered: &Entered<'_>) -> Option<Arc<TcpStream>> {
        match &entered.link {
            Link::Up(stream) => Some(stream.clone()),
            Link::Attempt(_) | Link::Down => None,
        }
    }

    /// The last handle is gone (ACT-5).
    pub(crate) fn dropped(&self) {
        self.with(|it| {
            if it.shown < ReadyState::Closing {
                it.linger = it.linger.min(LINGER_DROPPED);
            }
            it.close();
            it.after.wakers.extend(it.waker.take());
        });
    }
}

impl Control for Shared {
    fn abort(&self, why: Error) {
        self.with(|it| it.abort(why, false));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}
