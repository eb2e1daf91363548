//! One socket: every rule of its life, and no I/O.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tcpsocket::{BinaryType, Close, Data, Error, ErrorName, Event, MARK, ReadyState};

use crate::connector::later;
use crate::queue::{Queue, Spent};

/// How many bytes of unwanted input are read away after a close before the descriptor is given up: 64 MiB (CL-13).
pub const DISCARD_LIMIT: u64 = 64 << 20;

/// What is fixed when a socket is made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How received bytes are meant.
    pub binary_type: BinaryType,
    /// TLS from the first byte.
    pub secure: bool,
    /// How long a close may take without progress.
    pub linger: Duration,
    /// The same when nobody holds the socket any more and nobody had closed it.
    pub linger_after_drop: Duration,
}

impl Settings {
    /// The linger of a close, unless an option says otherwise: 30 seconds (OPT-5).
    pub const LINGER: Duration = Duration::from_secs(30);
    /// The linger after a drop, unless the option is shorter: 5 seconds (LIFE-3).
    pub const LINGER_AFTER_DROP: Duration = Duration::from_secs(5);

    /// The settings that follow from the options of a request.
    pub fn new(binary_type: BinaryType, secure: bool, linger: Option<Duration>) -> Settings {
        let linger = linger.unwrap_or(Settings::LINGER);
        Settings {
            binary_type,
            secure,
            linger,
            linger_after_drop: linger.min(Settings::LINGER_AFTER_DROP),
        }
    }
}

/// What the driver tells the machine, in the order in which it happened.
#[derive(Debug)]
pub enum Input {
    /// TCP is connected.
    Connected,
    /// No connection came about.
    ConnectFailed(Error),
    /// So many bytes of what [`Machine::gather`] showed are with the kernel; under TLS, encrypted and flushed. None, if the kernel took
    /// ciphertext that completes no byte yet: that is progress too.
    Wrote(usize),
    /// A write failed; nothing can be written any more.
    WriteFailed(Error),
    /// Nothing is there to be read at the moment.
    ReadDry,
    /// The peer's stream ended; `clean` is false if TLS had not said goodbye.
    Ended {
        /// Whether the end was announced by the layer that carries the data.
        clean: bool,
    },
    /// A read failed; nothing can be read any more.
    ReadFailed(Error),
    /// So many bytes were read and thrown away.
    Discarded(usize),
    /// The TLS handshake that [`Machine::wants_tls`] asked for has begun.
    TlsStarted {
        /// When it must have succeeded (OPT-3, TLS-27).
        until: Instant,
    },
    /// It succeeded.
    Secured,
    /// It failed.
    SecureFailed(Error),
    /// `shutdown(Write)` is done.
    ShutDown,
    /// `shutdown(Write)` failed: the connection is gone already.
    ShutDownFailed(Error),
    /// The descriptor that [`Machine::wants_release`] asked for is gone.
    Released,
    /// A deadline has come, perhaps.
    Timer,
}

impl Input {
    fn into_error(self) -> Option<Error> {
        match self {
            Input::ConnectFailed(error)
            | Input::WriteFailed(error)
            | Input::ReadFailed(error)
            | Input::SecureFailed(error)
            | Input::ShutDownFailed(error) => Some(error),
            _ => None,
        }
    }
}

/// What the driver should do with input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Do not read.
    No,
    /// Read when polled, and hand what came to [`Machine::received`].
    Deliver,
    /// Read and throw away, polled or not.
    Discard,
    /// Read for the handshake, polled or not.
    Handshake,
}

/// How the driver should let the descriptor go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// `close(2)`.
    Close,
    /// `close(2)` with a reset.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Connecting,
    Up,
    Down,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    Off,
    /// Asked for; so many bytes leave in the clear first.
    Pending(usize),
    Handshaking {
        until: Instant,
    },
    On,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Live,
    Ended { clean: bool },
    Failed,
}

/// Errors that nobody will be told. Most sockets never have one, so it is small.
#[derive(Debug, Default)]
#[expect(clippy::box_collection, reason = "16 bytes less in every socket")]
struct Late(Option<Box<Vec<Error>>>);

impl Late {
    fn push(&mut self, error: Error) {
        self.0.get_or_insert_default().push(error);
    }

    fn extend(&mut self, errors: impl IntoIterator<Item = Error>) {
        errors.into_iter().for_each(|error| self.push(error));
    }

    fn take(&mut self) -> Vec<Error> {
        self.0.take().map(|errors| *errors).unwrap_or_default()
    }
}

/// The event that is due, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    Open,
    Drain,
    Error,
    Close,
    /// The peer has finished and nothing is queued: finish as well, and then it is `Close`.
    Finish,
}

/// One socket: states, buffer accounting, turns, drain, suspend, TLS order, linger.
///
/// True state, which the driver feeds at any time by [`handle`](Machine::handle), is kept apart from shown state, which moves only in the
/// caller's calls and in [`take_event`](Machine::take_event). Nothing here does I/O, reads a clock, locks, or copies payload.
///
/// ```
/// use std::time::Instant;
/// use tcpsocket::{BinaryType, Event};
/// use tcpsocket_core::{Input, Machine, Settings};
///
/// let now = Instant::now();
/// let settings = Settings::new(BinaryType::ArrayBuffer, false, None);
/// let mut machine = Machine::connecting(settings);
///
/// machine.handle(Input::Connected, now);
/// machine.end_turn();
/// assert!(matches!(machine.take_event(), Some(Event::Open)));
///
/// assert_eq!(machine.send(vec![0; 65_536].into()).unwrap(), true);
/// assert_eq!(machine.send(vec![0; 3].into()).unwrap(), false);
/// machine.handle(Input::Wrote(65_539), now);
/// machine.end_turn();
/// assert!(matches!(machine.take_event(), Some(Event::Drain)));
/// ```
#[derive(Debug)]
pub struct Machine {
    settings: Settings,
    accepted: bool,

    // Shown: moves in the caller's calls and in `take_event`.
    state: ReadyState,
    turn: bool,
    shown: u64,
    over: bool,

    // True: moves whenever the driver knows.
    link: Link,
    tls: Tls,
    ssl: bool,
    queue: Queue,
    dropped: usize,
    armed: bool,
    suspended: u32,
    inbound: Inbound,
    open_due: bool,
    /// Whether the caller ever saw it open.
    opened: bool,
    finishing: bool,
    cut_short: bool,
    shut_down: bool,
    /// A write error, kept until the reader has reached the end of what arrived (D10's order; CL-9).
    held: Option<Error>,
    fault: Option<Error>,
    /// Errors that came too late to be told.
    late: Late,
    failed: bool,
    reset: bool,
    linger: Duration,
    linger_until: Option<Instant>,
    discarded: u64,
}

impl Machine {
    /// A socket that is being opened.
    pub fn connecting(settings: Settings) -> Machine {
        Machine {
            settings,
            accepted: false,
            state: ReadyState::Connecting,
            turn: true,
            shown: 0,
            over: false,
            link: Link::Connecting,
            tls: if settings.secure {
                Tls::Pending(0)
            } else {
                Tls::Off
            },
            ssl: settings.secure,
            queue: Queue::default(),
            dropped: 0,
            armed: false,
            suspended: 0,
            inbound: Inbound::Live,
            open_due: false,
            opened: false,
            finishing: false,
            cut_short: false,
            shut_down: false,
            held: None,
            fault: None,
            late: Late::default(),
            failed: false,
            reset: false,
            linger: settings.linger,
            linger_until: None,
            discarded: 0,
        }
    }

    /// A socket that was accepted: born open, without an event of it (ROW-32, SRV-6).
    pub fn accepted(settings: Settings) -> Machine {
        Machine {
            accepted: true,
            state: ReadyState::Open,
            opened: true,
            link: Link::Up,
            tls: Tls::Off,
            ssl: false,
            ..Machine::connecting(settings)
        }
    }

    // ----- what the caller sees

    /// The state as shown.
    pub fn ready_state(&self) -> ReadyState {
        self.state
    }

    /// Bytes buffered: as shown within a turn, live while a wait is parked (TURN-3).
    pub fn buffered_amount(&self) -> u64 {
        match (self.state, self.turn) {
            (ReadyState::Closed, _) => 0,
            (_, true) => self.shown,
            (_, false) => self.queue.len() as u64,
        }
    }

    /// Whether TLS was asked for.
    pub fn ssl(&self) -> bool {
        self.ssl
    }

    /// Whether a turn is open, that is, no wait is parked.
    pub fn in_turn(&self) -> bool {
        self.turn
    }

    /// Whether `Close` was returned.
    pub fn is_over(&self) -> bool {
        self.over
    }

    // ----- the caller's calls

    /// Whether `send` would be accepted now.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless the state is `open` (TX-2).
    pub fn may_send(&self) -> Result<(), Error> {
        match self.state {
            ReadyState::Open => Ok(()),
            state => Err(Error::new(
                ErrorName::InvalidState,
                format!("the socket is {state}; send works only while it is open"),
            )),
        }
    }

    /// `send`: queues, arms, answers (TX-3, TX-4).
    ///
    /// # Errors
    ///
    /// As [`may_send`](Machine::may_send).
    pub fn send(&mut self, data: Bytes) -> Result<bool, Error> {
        if let Err(refused) = self.may_send() {
            self.queue.give_up(data);
            return Err(refused);
        }
        let sum = self.buffered_amount() + data.len() as u64;
        self.shown = sum;
        if self.takes_output() {
            self.armed |= sum >= MARK;
            self.queue.push(data);
        } else {
            // It has ended and the caller has not been told yet: the same answer, and nowhere to go (TX-23).
            self.dropped = self.dropped.saturating_add(data.len());
            self.queue.give_up(data);
        }
        Ok(sum <= MARK)
    }

    /// `suspend` (RX-6). Counted only while it can matter (ROW-29).
    pub fn suspend(&mut self) {
        if self.state < ReadyState::Closing {
            self.suspended = self.suspended.saturating_add(1);
            self.release_held();
        }
    }

    /// `resume`; true if data may flow again by it.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if nothing is suspended, while connecting or open (RX-8).
    pub fn resume(&mut self) -> Result<bool, Error> {
        if self.state >= ReadyState::Closing {
            return Ok(false);
        }
        match self.suspended.checked_sub(1) {
            Some(left) => {
                self.suspended = left;
                Ok(left == 0)
            }
            None => Err(Error::new(
                ErrorName::InvalidState,
                "resume without a suspend to take back",
            )),
        }
    }

    /// `upgrade_to_secure`: puts a barrier behind what is queued. False if TLS was asked for already.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless open, `NotSupportedError` on an accepted socket.
    pub fn upgrade(&mut self) -> Result<bool, Error> {
        if !self.may_upgrade()? {
            return Ok(false);
        }
        self.ssl = true;
        if self.takes_output() {
            self.tls = Tls::Pending(self.queue.len());
        }
        // Nothing in the clear is delivered any more, so that an error has nothing to wait for.
        self.release_held();
        Ok(true)
    }

    /// Whether [`upgrade`](Machine::upgrade) would begin one; false if TLS was asked for already.
    ///
    /// # Errors
    ///
    /// As `upgrade`.
    pub fn may_upgrade(&self) -> Result<bool, Error> {
        if self.state != ReadyState::Open {
            return Err(Error::new(
                ErrorName::InvalidState,
                format!(
                    "the socket is {}; only an open one can be upgraded",
                    self.state
                ),
            ));
        }
        if self.accepted {
            return Err(Error::new(
                ErrorName::NotSupported,
                "an accepted socket cannot be upgraded to TLS",
            ));
        }
        Ok(!self.ssl)
    }

    /// `close` (CL-1, CL-3). Starts the linger clock.
    pub fn close(&mut self, now: Instant) {
        if self.state >= ReadyState::Closing {
            return;
        }
        self.state = ReadyState::Closing;
        self.open_due = false;
        self.finishing = true;
        self.linger_until = Some(later(now, self.linger));
        self.release_held();
        if !self.opened {
            // An attempt that is given up ends in `Close` alone, even if it has failed unseen (CL-3).
            self.late.extend(self.fault.take());
        }
    }

    /// The last handle is gone: `close`, with the shorter linger (LIFE-3). Nobody will take events any more.
    pub fn abandon(&mut self, now: Instant) {
        if self.state < ReadyState::Closing {
            self.linger = self.settings.linger_after_drop;
            self.close(now);
        }
    }

    /// `abort` by the caller: drops what is queued and closes; with an error, resets (CL-4).
    pub fn abort(&mut self, why: Option<Error>, now: Instant) {
        if self.state == ReadyState::Closed {
            self.late.extend(why);
            return;
        }
        match why {
            None => {
                self.close(now);
                self.cut_short = true;
                self.drop_output();
                if !matches!(self.tls, Tls::Off | Tls::On) {
                    self.reset = true;
                }
            }
            Some(why) => {
                self.state = ReadyState::Closing;
                self.finishing = true;
                self.end_by_force(why);
            }
        }
    }

    /// The end from outside: as `abort` with an error, but the shown state moves only when the caller is told (GATE-11).
    pub fn revoke(&mut self, why: Error) {
        if self.over {
            self.drop_output();
            self.reset = true;
            self.late.push(why);
        } else if self.state != ReadyState::Closed {
            self.end_by_force(why);
        } else {
            self.late.push(why);
        }
    }

    /// The end of a turn: `poll_event` was called, and what is shown is live from here on.
    pub fn end_turn(&mut self) {
        self.turn = false;
    }

    /// The beginning of a turn: an event is returned, or a wait was given up (TURN-1).
    pub fn begin_turn(&mut self) {
        if !self.turn {
            self.turn = true;
            self.shown = self.queue.len() as u64;
        }
    }

    /// Takes the event that is due, if one is, and begins a turn with it. Data comes by [`received`](Machine::received); asking here
    /// first keeps the order.
    pub fn take_event(&mut self) -> Option<Event> {
        let event = match self.due() {
            Due::Nothing => return None,
            Due::Finish => {
                self.finishing = true;
                return None;
            }
            Due::Open => {
                self.open_due = false;
                self.opened = true;
                self.state = ReadyState::Open;
                Event::Open
            }
            Due::Drain => {
                self.armed = false;
                Event::Drain
            }
            Due::Error => {
                self.state = ReadyState::Closed;
                self.failed = true;
                Event::Error(self.fault.take()?)
            }
            Due::Close => {
                self.state = ReadyState::Closed;
                self.over = true;
                // An attempt that was given up has failed at nothing (CL-3).
                let unclean = self.opened && self.inbound == Inbound::Ended { clean: false };
                Event::Close(Close::new(!self.failed && !unclean))
            }
        };
        self.begin_turn();
        Some(event)
    }

    /// The event for bytes that were read under [`Reading::Deliver`]. `None` if there are none, or nobody asked for them any more: what
    /// came in the clear must not pass for something that came inside TLS.
    pub fn received(&mut self, data: Bytes) -> Option<Event> {
        if data.is_empty() || self.reading() != Reading::Deliver {
            return None;
        }
        self.begin_turn();
        Some(Event::Data(Data::new(data, self.settings.binary_type)))
    }

    /// Whether [`take_event`](Machine::take_event) has something to return or to do: the moment to wake a parked wait.
    pub fn event_due(&self) -> bool {
        self.due() != Due::Nothing
    }

    // ----- what the driver asks

    /// Bytes truly held, as against those shown.
    pub fn held_bytes(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that may be written now: all that is held, or as much as stands in front of a TLS upgrade.
    pub fn writable_bytes(&self) -> usize {
        match (self.link, self.tls) {
            (Link::Up, Tls::Off | Tls::On) => self.queue.len(),
            (Link::Up, Tls::Pending(clear)) => clear,
            _ => 0,
        }
    }

    /// Fills `out` with what may be written now, `limit` bytes at most; returns how many slices and bytes.
    pub fn gather<'a>(&'a self, limit: usize, out: &mut [IoSlice<'a>]) -> (usize, usize) {
        self.queue.gather(self.writable_bytes().min(limit), out)
    }

    /// Whether a TLS handshake should be started now, in the clear no longer.
    pub fn wants_tls(&self) -> bool {
        self.link == Link::Up && self.tls == Tls::Pending(0)
    }

    /// Whether `shutdown(Write)` is due.
    pub fn wants_shutdown(&self) -> bool {
        self.finishing
            && !self.shut_down
            && self.link == Link::Up
            && self.queue.is_empty()
            && matches!(self.tls, Tls::Off | Tls::On)
            && self.wants_release().is_none()
    }

    /// Whether `abort` has cut the output short: what a layer above TCP still has to say does not have to be said, if that would take
    /// time.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short
    }

    /// What to do with input.
    pub fn reading(&self) -> Reading {
        if self.link != Link::Up || self.inbound != Inbound::Live || self.ends_by_error() {
            return Reading::No;
        }
        match self.tls {
            Tls::Pending(_) => Reading::No,
            Tls::Handshaking { .. } => Reading::Handshake,
            Tls::Off | Tls::On if self.state >= ReadyState::Closing => Reading::Discard,
            Tls::Off | Tls::On if self.suspended > 0 || self.state != ReadyState::Open => {
                Reading::No
            }
            Tls::Off | Tls::On => Reading::Deliver,
        }
    }

    /// Whether the descriptor, or the attempt to get one, should be let go, and how.
    pub fn wants_release(&self) -> Option<Release> {
        if self.link == Link::Down {
            return None;
        }
        if self.reset {
            return Some(Release::Reset);
        }
        let given_up = self.state >= ReadyState::Closing
            && (self.link == Link::Connecting || (self.tls != Tls::Off && !self.opened));
        let finished =
            self.shut_down && (self.inbound != Inbound::Live || self.discarded > DISCARD_LIMIT);
        (given_up || finished || self.ends_by_error()).then_some(Release::Close)
    }

    /// Whether a write error waits for the reader to reach the end of what arrived: read on until [`Input::ReadDry`],
    /// whatever readiness says.
    pub fn holds_error(&self) -> bool {
        self.held.is_some()
    }

    /// Whether the driver still has work with this socket although nobody may be polling it: output to write, a close to
    /// complete, input to discard.
    pub fn is_busy(&self) -> bool {
        self.link != Link::Down && (self.finishing || !self.queue.is_empty())
    }

    /// When [`Input::Timer`] is due, if at all.
    pub fn next_deadline(&self) -> Option<Instant> {
        // The end of output in the clear takes no time, so nothing expires before it.
        if self.link == Link::Down || (self.wants_shutdown() && self.tls == Tls::Off) {
            return None;
        }
        match self.tls {
            Tls::Handshaking { until } => Some(self.linger_until.map_or(until, |it| it.min(until))),
            _ => self.linger_until,
        }
    }

    /// Takes the count of bytes that were accepted and will never leave, for meters.
    pub fn take_dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    /// Takes payload and errors that are not needed any more, to be dropped when no lock is held. The machine itself drops neither:
    /// that could run foreign code, which may call this socket (LIFE-10). To be called after every other call.
    pub fn take_spent(&mut self) -> Spent {
        let mut spent = self.queue.take_spent();
        spent.errors = self.late.take();
        spent
    }

    // ----- what the driver tells

    /// Something happened at `now`.
    ///
    /// Any input is defined at any time. What was not asked for, is said twice or comes when the descriptor is gone changes nothing, and
    /// a count is believed up to what was shown. A descriptor that is let go unasked is a connection that was lost.
    pub fn handle(&mut self, input: Input, now: Instant) {
        if self.link == Link::Down {
            self.late.extend(input.into_error());
            return; // it can have nothing to tell
        }
        match input {
            Input::Connected => {
                if self.link == Link::Connecting {
                    self.link = Link::Up;
                    self.open_due = self.tls == Tls::Off && self.state == ReadyState::Connecting;
                }
            }
            Input::ConnectFailed(error) => match self.link {
                Link::Connecting => {
                    self.link = Link::Down;
                    self.fail(error);
                }
                _ => self.late.push(error),
            },
            Input::Wrote(count) => {
                // Never more than was shown, or the barrier would be behind bytes that wait for TLS (TLS-7).
                let count = count.min(self.writable_bytes());
                self.queue.advance(count);
                if let Tls::Pending(clear) = &mut self.tls {
                    *clear -= count;
                }
                self.made_progress(now);
            }
            Input::WriteFailed(error) => match self.inbound {
                // What could not be written is our own goodbye, to a peer that has said its own (CL-19).
                Inbound::Ended { .. } if self.finishing && self.queue.is_empty() => {
                    self.shut_down = true;
                    self.late.push(error);
                }
                _ => self.write_failed(error),
            },
            Input::ReadDry => self.release_held(),
            Input::Ended { .. } if self.inbound != Inbound::Live => {}
            Input::Ended { clean } => self.ended(clean),
            Input::ReadFailed(error) if self.inbound != Inbound::Live => self.late.push(error),
            Input::ReadFailed(error) => {
                self.inbound = Inbound::Failed;
                match self.held.take() {
                    // An alert says why the connection could not be written to.
                    Some(held) if error.name().is_security() => self.late.push(held),
                    Some(held) => {
                        self.late.push(error);
                        return self.fail(held);
                    }
                    None => {}
                }
                self.fail(error);
            }
            Input::Discarded(count) => {
                // Before the end of output the flush is what it waits for (CL-13).
                if self.shut_down {
                    self.discarded = self.discarded.saturating_add(count as u64);
                }
            }
            Input::TlsStarted { until } => {
                if self.wants_tls() {
                    self.tls = Tls::Handshaking { until };
                    if let Inbound::Ended { clean } = self.inbound {
                        self.ended(clean); // nobody is there to shake hands with
                    }
                }
            }
            Input::Secured => {
                if matches!(self.tls, Tls::Handshaking { .. }) {
                    self.tls = Tls::On;
                    self.open_due = self.state == ReadyState::Connecting;
                    self.made_progress(now);
                }
            }
            Input::SecureFailed(error) => self.fail(error),
            // Output that is held must not be forgotten.
            Input::ShutDown | Input::ShutDownFailed(_) if !self.wants_shutdown() => {
                self.late.extend(input.into_error());
            }
            Input::ShutDown => {
                self.shut_down = true;
                self.made_progress(now);
            }
            Input::ShutDownFailed(error) => match self.inbound {
                // The peer had finished too, and there was nothing left to say; or under TLS it was said already, and a peer that is gone
                // has answered it by a reset (CL-12).
                inbound if matches!(inbound, Inbound::Ended { .. }) || self.tls == Tls::On => {
                    self.shut_down = true;
                    self.late.push(error);
                }
                _ => self.write_failed(error),
            },
            Input::Released => {
                let asked = self.wants_release().is_some();
                self.link = Link::Down;
                if !asked {
                    self.release_held();
                    self.fail(Error::new(
                        ErrorName::NetworkInterrupt,
                        "the connection was given up below",
                    ));
                }
            }
            Input::Timer => self.timer(now),
        }
    }

    fn write_failed(&mut self, error: Error) {
        if self.shut_down || self.fault.is_some() {
            self.late.push(error);
            return;
        }
        self.drop_output();
        match self.held {
            None => self.held = Some(error),
            Some(_) => self.late.push(error),
        }
        // While the reader may still find the peer's last words, it goes first.
        if self.reading() != Reading::Deliver {
            self.release_held();
        }
    }

    fn ended(&mut self, clean: bool) {
        self.inbound = Inbound::Ended { clean };
        if matches!(self.tls, Tls::Pending(_) | Tls::Handshaking { .. }) {
            self.fail(Error::new(
                ErrorName::NetworkInterrupt,
                "the peer ended the connection during the TLS handshake",
            ));
        }
        self.release_held();
    }

    fn timer(&mut self, now: Instant) {
        if matches!(self.tls, Tls::Handshaking { until } if until <= now) {
            self.fail(Error::new(
                ErrorName::NetworkTimeout,
                "the TLS handshake was not complete within the connect timeout",
            ));
        }
        if self.linger_until.is_none_or(|until| now < until) || self.link == Link::Down {
            return;
        }
        if self.wants_shutdown() && self.tls == Tls::Off {
            return; // it is not what is late (OPT-12)
        }
        self.linger_until = None;
        if self.shut_down {
            self.discarded = u64::MAX; // the peer had its time to finish
        } else if !self.queue.is_empty() {
            let unsent = self.queue.len();
            self.end_by_force(Error::new(
                ErrorName::NetworkTimeout,
                format!("closing made no progress in time; {unsent} bytes were not sent"),
            ));
        } else {
            self.reset = true;
        }
    }

    fn made_progress(&mut self, now: Instant) {
        if let Some(until) = &mut self.linger_until {
            *until = later(now, self.linger);
        }
    }

    /// A fatal error, due at once. What is queued will never leave.
    fn fail(&mut self, error: Error) {
        let given_up = self.state == ReadyState::Closing && !self.opened;
        let flushed = self.shut_down;
        self.reset |= given_up; // nobody is told, but it must be let go
        if self.over || self.failed || given_up || flushed {
            self.late.push(error);
            return; // nothing is lost by it, an armed drain neither
        }
        self.drop_output();
        self.set_fault(error);
    }

    /// Of several errors the first is told (GATE-13).
    fn set_fault(&mut self, error: Error) {
        match self.fault {
            None => self.fault = Some(error),
            Some(_) => self.late.push(error),
        }
    }

    fn end_by_force(&mut self, why: Error) {
        self.drop_output();
        self.open_due = false;
        self.reset = true;
        let held = self.held.take();
        for error in held.into_iter().chain([why]) {
            match self.over || self.failed {
                true => self.late.push(error),
                false => self.set_fault(error),
            }
        }
    }

    fn release_held(&mut self) {
        if let Some(error) = self.held.take() {
            self.fail(error);
        }
    }

    fn drop_output(&mut self) {
        self.dropped = self.dropped.saturating_add(self.queue.clear());
        self.armed = false;
        if let Tls::Pending(clear) = &mut self.tls {
            *clear = 0;
        }
    }

    // ----- derived

    fn due(&self) -> Due {
        if self.over {
            Due::Nothing
        } else if self.fault.is_some() {
            Due::Error
        } else if self.failed {
            Due::Close
        } else if self.open_due {
            Due::Open
        } else if self.armed && self.queue.is_empty() && self.state >= ReadyState::Open {
            Due::Drain
        } else if self.state == ReadyState::Closing {
            // Closed is what is with the kernel and shut down, or what never came to be.
            if self.shut_down || self.link != Link::Up || self.wants_release().is_some() {
                Due::Close
            } else {
                Due::Nothing
            }
        } else if matches!(self.inbound, Inbound::Ended { .. })
            && self.queue.is_empty()
            && self.held.is_none()
            && self.suspended == 0
        {
            match (self.shut_down, self.finishing) {
                (true, _) => Due::Close,
                (false, false) => Due::Finish,
                // It is said already, and under TLS saying it may take a while.
                (false, true) => Due::Nothing,
            }
        } else {
            Due::Nothing
        }
    }

    fn takes_output(&self) -> bool {
        self.link == Link::Up
            && !self.finishing
            && !self.shut_down
            && self.held.is_none()
            && !self.ends_by_error()
    }

    /// An error ended it, told or not.
    fn ends_by_error(&self) -> bool {
        self.fault.is_some() || self.failed
    }
}
