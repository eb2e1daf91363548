//! A naive model of one socket: lists of bytes, and the words of the specification. It shares no code with the machine.

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::Bytes;
use tcpsocket::ErrorName;
use tcpsocket::ReadyState::{self, Closed, Closing, Connecting, Open};

use crate::world::{Arrival, WRITE_ERROR};

pub(crate) const KIB64: usize = 65_536;
pub(crate) const LINGER: u64 = 30_000;
pub(crate) const LINGER_AFTER_DROP: u64 = 5_000;
pub(crate) const HANDSHAKE: u64 = 45_000;

/// Payload is cut from here, so that no test makes bytes one by one.
pub(crate) static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    std::iter::repeat_with(next).take(3 << 20).collect()
});

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Plain,
    Tls,
    Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    // The caller.
    Send(usize),
    Suspend,
    Resume,
    Upgrade,
    Close,
    Abort,
    AbortWith,
    Poll,
    GiveUp,
    DropHandle,
    // Somebody outside.
    Revoke,
    // The network.
    Connected,
    ConnectFails,
    HandshakeDone,
    HandshakeFails,
    Room(usize),
    WritesFail,
    Goodbye { blocked: bool },
    PeerSends(usize),
    PeerEnds { clean: bool },
    PeerResets,
    Wait(u64),
    IdleTimer,
}

/// What a step answers, as far as the caller can tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Nothing,
    Pending,
    Over,
    Sent(bool),
    Done(bool),
    Refused(ErrorName),
    Open,
    Data(Bytes),
    Drain,
    Error(ErrorName),
    Close { clean: bool },
}

#[derive(Debug)]
pub(crate) struct Model {
    accepted_socket: bool,

    // What the caller sees.
    pub(crate) state: ReadyState,
    pub(crate) turn: bool,
    shown: usize,
    pub(crate) ssl: bool,
    pub(crate) suspends: usize,
    pub(crate) was_open: bool,
    error_told: bool,
    pub(crate) over: bool,
    pub(crate) handle: bool,

    // Output.
    /// Everything that `send` queued, ever.
    pub(crate) queued: Vec<u8>,
    /// So much of it is with the kernel.
    pub(crate) sent: usize,
    /// What is not will never be.
    pub(crate) cut: bool,
    /// Bytes that `send` took when it was too late.
    pub(crate) late: usize,
    /// From here on `queued` leaves inside TLS only.
    pub(crate) barrier: Option<usize>,
    armed: bool,
    /// The peer has finished, and a poll has found nothing left to do but to finish as well.
    finishing: bool,
    output_ended: bool,
    /// And the peer was told.
    pub(crate) fin_sent: bool,

    // Input.
    pub(crate) unread: VecDeque<Arrival>,
    /// The peer's end was read, and whether it was announced.
    pub(crate) peer_end: Option<bool>,
    input_failed: bool,

    // The connection.
    dialling: bool,
    connected: bool,
    open_untold: bool,
    pub(crate) shaking: bool,
    /// When a handshake that was started must be done.
    shaken_by: u64,
    pub(crate) secured: bool,
    /// Waits until the reader has seen what arrived before it.
    pub(crate) waiting_error: Option<ErrorName>,
    error: Option<ErrorName>,
    /// The descriptor is to be let go without further ado.
    give_up: bool,
    reset: bool,
    pub(crate) released: bool,
    /// The peer must see an error and no end.
    pub(crate) by_reset: bool,
    linger: u64,
    pub(crate) expires: Option<u64>,
    pub(crate) expired: bool,

    // The kernel, the peer, the clock.
    room: usize,
    broken: bool,
    goodbye_blocked: bool,
    aborted: bool,
    peer_finished: bool,
    now: u64,
}

impl Model {
    pub(crate) fn new(start: Start) -> Model {
        let accepted = start == Start::Accepted;
        Model {
            accepted_socket: accepted,
            state: if accepted { Open } else { Connecting },
            turn: true,
            shown: 0,
            ssl: start == Start::Tls,
            suspends: 0,
            was_open: accepted,
            error_told: false,
            over: false,
            handle: true,
            queued: Vec::new(),
            sent: 0,
            cut: false,
            late: 0,
            barrier: (start == Start::Tls).then_some(0),
            armed: false,
            finishing: false,
            output_ended: false,
            fin_sent: false,
            unread: VecDeque::new(),
            peer_end: None,
            input_failed: false,
            dialling: !accepted,
            connected: accepted,
            open_untold: false,
            shaking: false,
            shaken_by: 0,
            secured: false,
            waiting_error: None,
            error: None,
            give_up: false,
            reset: false,
            released: false,
            by_reset: false,
            linger: LINGER,
            expires: None,
            expired: false,
            room: 0,
            broken: false,
            goodbye_blocked: false,
            aborted: false,
            peer_finished: false,
            now: 0,
        }
    }

    /// Whether the step can happen at all.
    pub(crate) fn allows(&self, step: Step) -> bool {
        let peer = self.connected && !self.released && !self.peer_finished;
        match step {
            Step::Send(_)
            | Step::Suspend
            | Step::Resume
            | Step::Upgrade
            | Step::Close
            | Step::Abort
            | Step::AbortWith
            | Step::Poll
            | Step::GiveUp
            | Step::DropHandle => self.handle,
            Step::Connected | Step::ConnectFails => self.dialling,
            Step::HandshakeDone | Step::HandshakeFails => self.shaking && !self.released,
            Step::PeerSends(_) | Step::PeerEnds { .. } | Step::PeerResets => peer,
            Step::Revoke
            | Step::Room(_)
            | Step::WritesFail
            | Step::Goodbye { .. }
            | Step::Wait(_)
            | Step::IdleTimer => true,
        }
    }

    pub(crate) fn held(&self) -> usize {
        match self.cut {
            true => 0,
            false => self.queued.len() - self.sent,
        }
    }

    pub(crate) fn dropped(&self) -> usize {
        let cut = if self.cut {
            self.queued.len() - self.sent
        } else {
            0
        };
        cut + self.late
    }

    pub(crate) fn buffered_amount(&self) -> usize {
        match (self.state, self.turn) {
            (Closed, _) => 0,
            (_, true) => self.shown,
            (_, false) => self.held(),
        }
    }

    fn begin_turn(&mut self) {
        if !self.turn {
            self.turn = true;
            self.shown = self.held();
        }
    }

    pub(crate) fn step(&mut self, step: Step) -> Answer {
        let mut answer = Answer::Nothing;
        match step {
            Step::Send(len) => answer = self.send(len),
            Step::Suspend => {
                if self.state < Closing {
                    self.suspends += 1;
                    self.error_waits_no_longer();
                }
            }
            Step::Resume => {
                answer = match self.state {
                    Closing | Closed => Answer::Done(false),
                    _ if self.suspends == 0 => Answer::Refused(ErrorName::InvalidState),
                    _ => {
                        self.suspends -= 1;
                        Answer::Done(self.suspends == 0)
                    }
                }
            }
            Step::Upgrade => answer = self.upgrade(),
            Step::Close => self.close(),
            Step::Abort => self.abort(),
            Step::AbortWith => {
                if self.state != Closed {
                    self.state = Closing;
                    self.end_by_force(ErrorName::QuotaExceeded);
                }
            }
            Step::Revoke => {
                if self.over {
                    (self.give_up, self.reset) = (true, true);
                } else if self.state != Closed {
                    self.end_by_force(ErrorName::NotAllowed);
                }
            }
            Step::Poll => return self.poll(),
            Step::GiveUp => self.begin_turn(),
            Step::DropHandle => {
                self.handle = false;
                if self.state < Closing {
                    self.linger = LINGER_AFTER_DROP;
                    self.close();
                }
            }
            Step::Connected => {
                (self.dialling, self.connected) = (false, true);
                self.open_untold = !self.ssl && self.state == Connecting;
            }
            Step::ConnectFails => {
                self.dialling = false;
                self.give_up = true;
                self.fails(ErrorName::ConnectionRefused);
            }
            Step::HandshakeDone => {
                (self.shaking, self.secured) = (false, true);
                self.open_untold = self.state == Connecting;
                self.progress();
            }
            Step::HandshakeFails => {
                self.shaking = false;
                self.fails(ErrorName::SecurityBadCertificate);
            }
            Step::Room(bytes) => self.room += bytes,
            Step::WritesFail => self.broken = true,
            Step::Goodbye { blocked } => self.goodbye_blocked = blocked,
            Step::PeerSends(len) => {
                let data = PATTERN.slice(..len);
                self.unread.push_back(match self.secured {
                    true => Arrival::Secret(data),
                    false => Arrival::Clear(data),
                });
            }
            Step::PeerEnds { clean } => {
                self.peer_finished = true;
                // In clear there is nothing above TCP that could be missing.
                let clean = clean || !self.ssl;
                self.unread.push_back(Arrival::End { clean });
            }
            Step::PeerResets => {
                self.peer_finished = true;
                let reset = Arrival::Failure(ErrorName::Network);
                self.unread.push_back(reset);
            }
            Step::Wait(time) => {
                let until = self.now + time;
                while let Some(at) = self.deadline().filter(|at| *at <= until) {
                    self.now = self.now.max(at);
                    if self.shaking && self.shaken_by <= self.now {
                        self.fails(ErrorName::NetworkTimeout);
                    }
                    if self.expires.is_some_and(|at| at <= self.now) {
                        self.linger_expires();
                    }
                    self.settle();
                }
                self.now = until;
            }
            Step::IdleTimer => {}
        }
        self.settle();
        answer
    }

    fn send(&mut self, len: usize) -> Answer {
        if self.state != Open {
            return Answer::Refused(ErrorName::InvalidState);
        }
        let sum = self.buffered_amount() + len;
        if self.turn {
            self.shown = sum;
        }
        if self.has_ended() || self.output_ended || self.finishing {
            self.late += len;
        } else {
            let from = self.queued.len() % (1 << 20);
            self.queued.extend_from_slice(&PATTERN[from..from + len]);
            self.armed |= sum >= KIB64;
        }
        Answer::Sent(sum <= KIB64)
    }

    fn upgrade(&mut self) -> Answer {
        if self.state != Open {
            return Answer::Refused(ErrorName::InvalidState);
        }
        if self.accepted_socket {
            return Answer::Refused(ErrorName::NotSupported);
        }
        if self.ssl {
            return Answer::Done(false);
        }
        self.ssl = true;
        if !self.has_ended() && !self.output_ended {
            self.barrier = Some(self.queued.len());
        }
        // Nothing in the clear is read any more.
        self.error_waits_no_longer();
        Answer::Done(true)
    }

    fn close(&mut self) {
        if self.state >= Closing {
            return;
        }
        self.state = Closing;
        self.open_untold = false;
        self.expires = Some(self.now + self.linger);
        self.error_waits_no_longer();
        if !self.was_open {
            self.error = None;
        }
    }

    fn abort(&mut self) {
        if self.state == Closed {
            return;
        }
        self.close();
        self.aborted = true;
        self.drop_output();
        if self.barrier.is_some() && !self.secured {
            self.give_up = true;
        }
    }

    fn end_by_force(&mut self, why: ErrorName) {
        self.open_untold = false;
        self.error_waits_no_longer();
        self.drop_output();
        self.reset = true;
        self.error.get_or_insert(why);
    }

    /// An error that ends it, unless there was one before or it can be no loss any more.
    fn fails(&mut self, name: ErrorName) {
        let given_up = self.state == Closing && !self.was_open;
        if given_up {
            self.give_up = true;
        } else if !self.output_ended && !self.error_told && !self.over {
            self.drop_output();
            self.error.get_or_insert(name);
        }
    }

    fn write_fails(&mut self, name: ErrorName) {
        self.drop_output();
        if self.reads() {
            self.waiting_error.get_or_insert(name);
        } else {
            self.fails(name);
        }
    }

    fn error_waits_no_longer(&mut self) {
        if let Some(name) = self.waiting_error.take() {
            self.fails(name);
        }
    }

    fn drop_output(&mut self) {
        self.cut |= self.queued.len() > self.sent;
        self.armed = false;
    }

    /// When something happens by itself.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let handshake = self.shaking.then_some(self.shaken_by);
        let first = self.expires.into_iter().chain(handshake).min();
        first.filter(|_| !self.released)
    }

    fn linger_expires(&mut self) {
        self.expires = None;
        if self.output_ended {
            self.expired = true;
        } else if self.held() > 0 {
            self.end_by_force(ErrorName::NetworkTimeout);
        } else {
            (self.give_up, self.reset) = (true, true);
        }
    }

    fn progress(&mut self) {
        if self.expires.is_some() {
            self.expires = Some(self.now + self.linger);
        }
    }

    fn has_ended(&self) -> bool {
        self.error.is_some()
            || self.error_told
            || self.waiting_error.is_some()
            || self.give_up
            || self.released
    }

    /// Whether a poll would read now.
    fn reads(&self) -> bool {
        self.state == Open
            && self.suspends == 0
            && self.peer_end.is_none()
            && !self.input_failed
            && (self.barrier.is_none() || self.secured)
    }

    /// What happens by itself, in the order in which a driver does it.
    fn settle(&mut self) {
        loop {
            if self.released {
                return;
            }
            let closing = self.state >= Closing;
            let unprotected = self.barrier.is_none() || self.secured;
            if self.error.is_some()
                || self.error_told
                || self.give_up
                || self.reset
                || (closing && self.dialling)
                || (closing && !self.was_open && self.ssl)
                || (self.output_ended
                    && (self.peer_end.is_some() || self.input_failed || self.expired))
            {
                self.released = true;
                self.by_reset = self.reset && self.connected;
                self.dialling = false;
                return;
            }
            if !self.connected {
                return;
            }
            let leaves = match self.barrier {
                _ if self.cut => 0,
                Some(barrier) if !self.secured => barrier - self.sent,
                _ => self.held(),
            };
            if self.broken && (leaves > 0 || self.shaking) {
                self.write_fails(WRITE_ERROR);
                continue;
            }
            let taken = leaves.min(self.room);
            if taken > 0 {
                self.sent += taken;
                self.room -= taken;
                self.progress();
                continue;
            }
            if self.barrier == Some(self.sent) && !self.shaking && !self.secured {
                (self.shaking, self.shaken_by) = (true, self.now + HANDSHAKE);
                if self.peer_end.is_some() {
                    // Nobody is there to shake hands with.
                    self.fails(ErrorName::NetworkInterrupt);
                }
                continue;
            }
            let blocked = self.secured && self.goodbye_blocked && !self.aborted;
            if (self.finishing || closing)
                && self.held() == 0
                && unprotected
                && !self.output_ended
                && !blocked
            {
                match (self.broken, self.peer_end) {
                    (true, None) if !self.secured => self.write_fails(WRITE_ERROR),
                    // If both have finished, it does not matter that this could not be said.
                    _ => {
                        self.output_ended = true;
                        if !self.broken {
                            self.fin_sent = true;
                            self.progress();
                        }
                    }
                }
                continue;
            }
            let discards = closing && unprotected && self.peer_end.is_none() && !self.input_failed;
            if !self.shaking && !discards {
                return;
            }
            match self.unread.pop_front() {
                None => return,
                Some(Arrival::End { clean }) => {
                    self.peer_end = Some(clean);
                    if self.shaking {
                        self.fails(ErrorName::NetworkInterrupt);
                    }
                }
                Some(Arrival::Failure(name)) => {
                    self.input_failed = true;
                    self.fails(name);
                }
                Some(Arrival::Clear(_)) if self.shaking => self.fails(ErrorName::Security),
                Some(Arrival::Clear(_) | Arrival::Secret(_)) => {}
            }
        }
    }

    fn poll(&mut self) -> Answer {
        if self.over {
            return Answer::Over;
        }
        self.turn = false;
        self.settle();
        let answer = self.next_event();
        if answer != Answer::Pending {
            self.begin_turn();
        }
        self.settle();
        answer
    }

    fn next_event(&mut self) -> Answer {
        loop {
            if let Some(name) = self.error.take() {
                self.state = Closed;
                self.error_told = true;
                return Answer::Error(name);
            }
            if self.error_told {
                self.over = true;
                return Answer::Close { clean: false };
            }
            if self.open_untold {
                self.open_untold = false;
                self.was_open = true;
                self.state = Open;
                return Answer::Open;
            }
            if self.armed && self.held() == 0 {
                self.armed = false;
                return Answer::Drain;
            }
            let finished = self.state == Open
                && self.suspends == 0
                && self.peer_end.is_some()
                && self.held() == 0
                && self.waiting_error.is_none();
            if finished && !self.finishing {
                self.finishing = true;
                self.settle();
                continue;
            }
            let ended = match self.state {
                Closing => self.output_ended || self.released,
                _ => finished && self.output_ended,
            };
            if ended {
                self.state = Closed;
                self.over = true;
                let clean = !self.was_open || self.peer_end != Some(false);
                return Answer::Close { clean };
            }
            if !self.reads() {
                return Answer::Pending;
            }
            match self.unread.pop_front() {
                Some(Arrival::Clear(data) | Arrival::Secret(data)) => return Answer::Data(data),
                Some(Arrival::End { clean }) => {
                    self.peer_end = Some(clean);
                    self.error_waits_no_longer();
                }
                Some(Arrival::Failure(name)) => {
                    self.input_failed = true;
                    self.error_waits_no_longer();
                    self.fails(name);
                }
                None if self.waiting_error.is_some() => self.error_waits_no_longer(),
                None => return Answer::Pending,
            }
            self.settle();
        }
    }
}
