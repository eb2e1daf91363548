//! What a socket is: what its caller was shown, and what is true.
//!
//! Nothing here waits, and nothing of the caller's runs here. What has to happen outside of the lock is noted in `after`.

mod calls;
mod events;
mod wire;

use std::collections::VecDeque;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tcpsocket::{Bytes, Error, ReadyState};

use crate::attempt::Attempt;
use crate::foreign::Foreign;
use crate::meters::{Meters, Moved};
use crate::net;

#[derive(Debug)]
pub(crate) struct State {
    // What the caller was shown.
    pub(crate) shown: ReadyState,
    pub(crate) told: Told,
    /// `buffered_amount` in this turn, `None` while a wait is parked.
    pub(crate) turn: Option<u64>,
    /// Whoever waits.
    pub(crate) waker: Option<Waker>,
    pub(crate) suspended: u64,
    armed: bool,

    // What is true.
    pub(crate) link: Link,
    pub(crate) input: Input,
    pub(crate) output: Output,
    failure: Option<Failure>,
    /// Received, not delivered.
    pub(crate) inbox: Option<Bytes>,
    queue: VecDeque<Bytes>,
    /// Bytes in `queue`, and the one that the writer waits with.
    pub(crate) held: u64,
    /// Whether the writer waits in the kernel, with one byte.
    in_flight: bool,
    /// Of the linger clock: when something last moved.
    progress: Option<Instant>,
    pub(crate) linger: Duration,
    discarded: usize,

    // What the lock is not to be held for.
    pub(crate) meters: Option<Meters>,
    pub(crate) after: After,
}

/// The ends that were returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Error,
    Close,
}

#[derive(Debug)]
pub(crate) enum Link {
    /// Gates, lookup, dialling.
    Attempt(Arc<Attempt>),
    Up(Arc<TcpStream>),
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Flowing,
    Fin,
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    Flowing,
    Ended,
    Broken,
}

/// The first error, which is the one that is returned (GATE-13).
#[derive(Debug)]
struct Failure {
    error: Error,
    comes: Comes,
}

/// When an error may be returned while the socket is open.
#[derive(Clone, Copy, Debug)]
enum Comes {
    AtOnce,
    /// A read failed: after the data, like all input.
    AsInput,
    /// A write failed: after the peer's last words, unless nobody wants them (CL-17, RX-12).
    AfterInput,
}

/// The event that a poll would return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Open,
    Drain,
    Data,
    Error,
    Close,
    Over,
}

/// What happens when the lock is given back.
#[derive(Debug, Default)]
pub(crate) struct After {
    pub(crate) moved: Moved,
    pub(crate) wakes: Vec<Waker>,
    /// To be dropped: this may run code of the caller's, or close a descriptor.
    pub(crate) wakers: Foreign<Waker>,
    pub(crate) bytes: Foreign<Bytes>,
    errors: Foreign<Error>,
    links: Vec<Link>,
}

/// What the writer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Quit,
    /// There is a backlog.
    Stuck,
    /// Nothing, until the linger clock expires if that is running.
    Wait(Option<Instant>),
}

/// What the reader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Quit,
    Now,
    Wait,
}

impl State {
    pub(crate) fn new(shown: ReadyState, link: Link, linger: Duration) -> State {
        State {
            shown,
            told: Told::Nothing,
            turn: Some(0),
            waker: None,
            suspended: 0,
            armed: false,
            link,
            input: Input::Flowing,
            output: Output::Flowing,
            failure: None,
            inbox: None,
            queue: VecDeque::new(),
            held: 0,
            in_flight: false,
            progress: None,
            linger,
            discarded: 0,
            meters: None,
            after: After::default(),
        }
    }

    // The transitions that calls, polls and threads have in common.

    fn moved_on(&mut self) {
        if self.progress.is_some() {
            self.progress = Some(Instant::now());
        }
    }

    /// The rest of a flush that is complete.
    fn flushed(&mut self) {
        if self.held == 0 && self.shown == ReadyState::Closing && self.can_write() {
            self.end_output();
        }
    }

    fn end_output(&mut self) {
        if self.output != Output::Flowing {
            return;
        }
        self.output = Output::Ended;
        if let Link::Up(stream) = &self.link {
            let ended = stream.shutdown(Shutdown::Write);
            if let (Err(error), Input::Flowing) = (ended, self.input) {
                // The peer has reset the connection, and nobody has read that yet (CL-9).
                self.output = Output::Broken;
                self.fail(net::broken(error), Comes::AtOnce);
                self.hang_up();
            } else if self.input != Input::Flowing {
                self.hang_up();
            }
        }
    }

    fn fail(&mut self, error: Error, comes: Comes) {
        if self.told == Told::Nothing && self.failure.is_none() {
            self.failure = Some(Failure { error, comes });
            self.drop_held();
        } else {
            self.after.errors.push(error);
        }
    }

    /// What is held will never leave, and the drain not come (TX-25).
    fn drop_held(&mut self) {
        self.armed = false;
        let in_flight = u64::from(self.in_flight);
        let gone = self.held - in_flight;
        self.held = in_flight;
        self.after.moved.dropped += usize::try_from(gone).unwrap_or(usize::MAX);
        self.after.bytes.extend(self.queue.drain(..));
    }

    /// What was received is not delivered any more.
    fn discard(&mut self) {
        self.after.bytes.extend(self.inbox.take());
    }

    fn reset(&mut self) {
        match &self.link {
            Link::Attempt(attempt) => attempt.give_up(),
            Link::Up(stream) => net::reset_on_close(stream),
            Link::Down => {}
        }
        self.hang_up();
    }

    /// Lets go of the connection. The descriptor is closed when the threads have let go as well: the reader is woken here,
    /// the writer looks up by itself.
    fn hang_up(&mut self) {
        if let Link::Up(stream) = &self.link {
            let _ = stream.shutdown(Shutdown::Read);
            if self.input == Input::Flowing {
                self.input = Input::Broken;
            }
            let link = std::mem::replace(&mut self.link, Link::Down);
            self.after.links.push(link);
        }
    }

    // Facts about all of it.

    /// Whether `idle` has to wait.
    pub(crate) fn is_busy(&self) -> bool {
        let lingers = self.shown >= ReadyState::Closing && matches!(self.link, Link::Up(_));
        self.held > 0 || lingers
    }

    /// Whether nothing will move any more.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.link, Link::Down)
            && self.held == 0
            && self.inbox.is_none()
            && self.shown != ReadyState::Open
    }
}
