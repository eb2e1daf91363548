//! A faithful driver of one machine, with a kernel and a peer that do what a test says. No I/O; time is a number.

#![allow(dead_code, reason = "every test uses its own part")]

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tcpsocket::{Error, ErrorName, Event};
use tcpsocket_core::{Input, Machine, Reading, Release};

/// More rounds of work than that without an end, and the machine asks for the same thing over and over.
const SPIN: usize = 2_000;

/// How long a handshake may take: longer than any linger, so that they are told apart.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(45);

/// What a write fails with; another name than a read's, to tell which of two was returned.
pub(crate) const WRITE_ERROR: ErrorName = ErrorName::NetworkTimeout;

/// What the peer's side of the connection holds for the reader.
#[derive(Clone)]
pub(crate) enum Arrival {
    /// Sent in the clear.
    Clear(Bytes),
    /// Sent inside TLS.
    Secret(Bytes),
    End {
        clean: bool,
    },
    Failure(ErrorName),
}

impl fmt::Debug for Arrival {
    /// Lengths, since nobody reads a mebibyte.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrival::Clear(data) => write!(f, "Clear({})", data.len()),
            Arrival::Secret(data) => write!(f, "Secret({})", data.len()),
            Arrival::End { clean } => write!(f, "End({clean})"),
            Arrival::Failure(name) => write!(f, "Failure({name})"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) machine: Machine,
    pub(crate) now: Instant,

    // The driver.
    pub(crate) dialling: bool,
    pub(crate) handshaking: bool,
    pub(crate) secured: bool,
    pub(crate) released: Option<Release>,

    // The kernel and the peer.
    /// How many bytes the kernel still takes.
    pub(crate) room: usize,
    /// Whatever is written or shut down from now on fails.
    pub(crate) broken: bool,
    /// `close_notify` cannot leave: under TLS `shutdown` is more than a call.
    pub(crate) goodbye_blocked: bool,
    pub(crate) arrived: VecDeque<Arrival>,

    // What came of it.
    pub(crate) clear: Vec<u8>,
    pub(crate) secret: Vec<u8>,
    pub(crate) shut_down: bool,
    pub(crate) dropped: usize,
    pub(crate) discarded: usize,
}

pub(crate) fn error(name: ErrorName) -> Error {
    Error::new(name, "as the test wants it")
}

impl World {
    /// Around a machine that is being connected.
    pub(crate) fn dialling(machine: Machine) -> World {
        World {
            machine,
            now: Instant::now(),
            dialling: true,
            handshaking: false,
            secured: false,
            released: None,
            room: 0,
            broken: false,
            goodbye_blocked: false,
            arrived: VecDeque::new(),
            clear: Vec::new(),
            secret: Vec::new(),
            shut_down: false,
            dropped: 0,
            discarded: 0,
        }
    }

    /// Around a machine that is connected already.
    pub(crate) fn connected(machine: Machine) -> World {
        World {
            dialling: false,
            ..World::dialling(machine)
        }
    }

    // ----- what happens to the driver

    pub(crate) fn tell(&mut self, input: Input) {
        match input {
            Input::Connected => self.dialling = false,
            // There never was a descriptor.
            Input::ConnectFailed(_) => {
                (self.dialling, self.released) = (false, Some(Release::Close));
            }
            Input::Secured => (self.handshaking, self.secured) = (false, true),
            Input::SecureFailed(_) => self.handshaking = false,
            _ => {}
        }
        self.machine.handle(input, self.now);
        self.work();
    }

    pub(crate) fn arrives(&mut self, it: Arrival) {
        self.arrived.push_back(it);
        self.work();
    }

    /// Time passes; the timer fires on time.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..SPIN {
            match self.machine.next_deadline() {
                Some(deadline) if deadline <= until => {
                    self.now = self.now.max(deadline);
                    self.tell(Input::Timer);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the timer fires for ever");
    }

    /// One `poll_event`.
    pub(crate) fn poll(&mut self) -> Poll<Option<Event>> {
        let polled = self.poll_on();
        // Or a driver that wakes whoever waits when something is due would do so for ever.
        let due = polled.is_pending() && self.machine.event_due();
        assert!(!due, "pending, although something is due: {self:?}");
        polled
    }

    fn poll_on(&mut self) -> Poll<Option<Event>> {
        for _ in 0..SPIN {
            if self.machine.is_over() {
                return Poll::Ready(None);
            }
            self.machine.end_turn();
            self.work();
            // Twice, since the first may only want the own end of output sent.
            for _ in 0..2 {
                let due = self.machine.event_due();
                let event = self.machine.take_event();
                assert!(due || event.is_none(), "{event:?} comes without a wake");
                self.work();
                if let Some(event) = event {
                    assert!(self.machine.in_turn(), "an event begins a turn");
                    return Poll::Ready(Some(event));
                }
            }
            if self.machine.reading() != Reading::Deliver {
                return Poll::Pending;
            }
            match self.arrived.pop_front() {
                Some(Arrival::Clear(data)) => {
                    assert!(!self.machine.ssl(), "clear text is delivered as if secret");
                    return Poll::Ready(self.machine.received(data));
                }
                Some(Arrival::Secret(data)) => {
                    return Poll::Ready(self.machine.received(data));
                }
                Some(Arrival::End { clean }) => self.tell(Input::Ended { clean }),
                Some(Arrival::Failure(name)) => self.tell(Input::ReadFailed(error(name))),
                None => {
                    self.tell(Input::ReadDry);
                    if !self.machine.event_due() {
                        return Poll::Pending;
                    }
                }
            }
        }
        panic!("the poll spins: {self:?}");
    }

    /// Does what the machine wants, until it wants nothing.
    pub(crate) fn work(&mut self) {
        for _ in 0..SPIN {
            if !self.work_once() {
                self.dropped += self.machine.take_dropped();
                return;
            }
        }
        panic!("the machine is never content: {self:?}");
    }

    fn work_once(&mut self) -> bool {
        let now = self.now;
        let machine = &mut self.machine;
        if self.released.is_some() {
            assert_eq!(
                machine.wants_release(),
                None,
                "nothing is left to be released"
            );
            assert_eq!(machine.next_deadline(), None, "nothing is left to expire");
            assert_eq!(machine.reading(), Reading::No, "nothing is left to read");
            return false;
        }
        if let Some(how) = machine.wants_release() {
            self.released = Some(how);
            (self.dialling, self.handshaking) = (false, false);
            machine.handle(Input::Released, now);
            return true;
        }
        let writable = machine.writable_bytes();
        if self.broken && (writable > 0 || self.handshaking) {
            machine.handle(Input::WriteFailed(error(WRITE_ERROR)), now);
            return true;
        }
        if writable > 0 && self.room > 0 {
            // Few slices, so that one write is seldom enough.
            let mut slices = [IoSlice::new(&[]); 3];
            let (filled, bytes) = machine.gather(self.room, &mut slices);
            let wire = match self.secured {
                true => &mut self.secret,
                false => &mut self.clear,
            };
            slices[..filled]
                .iter()
                .for_each(|it| wire.extend_from_slice(it));
            self.room -= bytes;
            machine.handle(Input::Wrote(bytes), now);
            return true;
        }
        if machine.wants_tls() {
            assert!(!self.handshaking && !self.secured, "TLS starts once");
            self.handshaking = true;
            let until = now + HANDSHAKE;
            machine.handle(Input::TlsStarted { until }, now);
            return true;
        }
        let waits = self.secured && self.goodbye_blocked && !machine.is_cut_short();
        if machine.wants_shutdown() && !waits {
            assert!(!self.shut_down, "the output ends once");
            if self.broken {
                machine.handle(Input::ShutDownFailed(error(WRITE_ERROR)), now);
            } else {
                self.shut_down = true;
                machine.handle(Input::ShutDown, now);
            }
            return true;
        }
        if !matches!(machine.reading(), Reading::Discard | Reading::Handshake) {
            return false;
        }
        let input = match (self.arrived.pop_front(), machine.reading()) {
            (None, _) => return false,
            (Some(Arrival::End { clean }), _) => Input::Ended { clean },
            (Some(Arrival::Failure(name)), _) => Input::ReadFailed(error(name)),
            (Some(Arrival::Clear(_)), Reading::Handshake) => {
                // What came in the clear is no TLS record.
                Input::SecureFailed(error(ErrorName::Security))
            }
            (Some(Arrival::Clear(data) | Arrival::Secret(data)), _) => {
                self.discarded += data.len();
                Input::Discarded(data.len())
            }
        };
        machine.handle(input, now);
        true
    }

    // ----- the caller's calls

    pub(crate) fn send(&mut self, data: Bytes) -> Result<bool, Error> {
        let answer = self.machine.send(data);
        self.work();
        answer
    }

    pub(crate) fn suspend(&mut self) {
        self.machine.suspend();
        self.work();
    }

    pub(crate) fn resume(&mut self) -> Result<bool, Error> {
        let answer = self.machine.resume();
        self.work();
        answer
    }

    pub(crate) fn upgrade(&mut self) -> Result<bool, Error> {
        let answer = self.machine.upgrade();
        self.work();
        answer
    }

    pub(crate) fn close(&mut self) {
        self.machine.close(self.now);
        self.work();
    }

    pub(crate) fn abort(&mut self, why: Option<Error>) {
        self.machine.abort(why, self.now);
        self.work();
    }

    pub(crate) fn revoke(&mut self, why: Error) {
        self.machine.revoke(why);
        self.work();
    }

    pub(crate) fn drop_handle(&mut self) {
        self.machine.abandon(self.now);
        self.work();
    }

    pub(crate) fn give_up(&mut self) {
        self.machine.begin_turn();
    }

    /// Polls until there is nothing more; the number of polls is bounded, as a machine's events are.
    pub(crate) fn poll_all(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Poll::Ready(Some(event)) = self.poll() {
            events.push(event);
            assert!(events.len() < SPIN, "events without end");
        }
        events
    }
}
