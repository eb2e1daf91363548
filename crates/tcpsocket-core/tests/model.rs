//! Random scripts against a naive model of one socket: lists of bytes and the words of the specification.
//!
//! The model shares no code with the machine. After every step both must show the same state, buffered amount, answer and events;
//! the wire must hold what was accepted, in order, in clear before an upgrade and inside TLS after it; and the descriptor must be
//! let go at the same moment. Every script ends with a peer that reads and finishes, so every socket must end.
//!
//! The seed is fixed. For more: `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=100000 cargo test --release --test model`.

mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tcpsocket::ReadyState::{self, Closed, Closing, Connecting, Open};
use tcpsocket::{BinaryType, ErrorName, Event};
use tcpsocket_core::{Input, Machine, Release, Settings};

use world::{Arrival, World, error};

const CASES: u32 = 3_000;
const KIB64: usize = 65_536;
const LINGER: u64 = 30_000;
const LINGER_AFTER_DROP: u64 = 5_000;

/// Payload is cut from here, so that no test makes bytes one by one.
static PATTERN: LazyLock<Bytes> = LazyLock::new(|| {
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
enum Start {
    Plain,
    Tls,
    Accepted,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
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
enum Answer {
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

// ----- the model

#[derive(Debug)]
struct Model {
    accepted_socket: bool,

    // What the caller sees.
    state: ReadyState,
    turn: bool,
    shown: usize,
    ssl: bool,
    suspends: usize,
    was_open: bool,
    error_told: bool,
    over: bool,
    handle: bool,

    // Output.
    /// Everything that `send` queued, ever.
    queued: Vec<u8>,
    /// So much of it is with the kernel.
    sent: usize,
    /// What is not will never be.
    cut: bool,
    /// Bytes that `send` took when it was too late.
    late: usize,
    /// From here on `queued` leaves inside TLS only.
    barrier: Option<usize>,
    armed: bool,
    /// The peer has finished, and a poll has found nothing left to do but to finish as well.
    finishing: bool,
    output_ended: bool,
    /// And the peer was told.
    fin_sent: bool,

    // Input.
    unread: VecDeque<Arrival>,
    /// The peer's end was read, and whether it was announced.
    peer_end: Option<bool>,
    input_failed: bool,

    // The connection.
    dialling: bool,
    connected: bool,
    open_untold: bool,
    shaking: bool,
    secured: bool,
    /// Waits until the reader has seen what arrived before it.
    waiting_error: Option<ErrorName>,
    error: Option<ErrorName>,
    /// The descriptor is to be let go without further ado.
    give_up: bool,
    reset: bool,
    released: bool,
    /// The peer must see an error and no end.
    by_reset: bool,
    linger: u64,
    expires: Option<u64>,
    expired: bool,

    // The kernel, the peer, the clock.
    room: usize,
    broken: bool,
    goodbye_blocked: bool,
    peer_finished: bool,
    now: u64,
}

impl Model {
    fn new(start: Start) -> Model {
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
            peer_finished: false,
            now: 0,
        }
    }

    /// Whether the step can happen at all.
    fn allows(&self, step: Step) -> bool {
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

    fn held(&self) -> usize {
        match self.cut {
            true => 0,
            false => self.queued.len() - self.sent,
        }
    }

    fn dropped(&self) -> usize {
        let cut = if self.cut {
            self.queued.len() - self.sent
        } else {
            0
        };
        cut + self.late
    }

    fn buffered_amount(&self) -> usize {
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

    fn step(&mut self, step: Step) -> Answer {
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
                let clean = clean || !self.secured;
                self.unread.push_back(Arrival::End { clean });
            }
            Step::PeerResets => {
                self.peer_finished = true;
                let reset = Arrival::Failure(ErrorName::Network);
                self.unread.push_back(reset);
            }
            Step::Wait(time) => {
                let until = self.now + time;
                while let Some(at) = self.expires.filter(|at| *at <= until && !self.released) {
                    self.now = self.now.max(at);
                    self.linger_expires();
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
        if self.has_ended() || self.output_ended {
            self.late += len;
        } else {
            let from = self.queued.len() % (1 << 20);
            self.queued.extend_from_slice(&PATTERN[from..from + len]);
            self.armed |= sum >= KIB64;
            if len > 0 {
                self.finishing = false;
            }
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
        // Nothing in clear is read any more.
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
                self.write_fails(ErrorName::Network);
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
                self.shaking = true;
                if self.peer_end.is_some() {
                    // Nobody is there to shake hands with.
                    self.fails(ErrorName::NetworkInterrupt);
                }
                continue;
            }
            let blocked = self.secured && self.goodbye_blocked;
            if (self.finishing || closing)
                && self.held() == 0
                && unprotected
                && !self.output_ended
                && !blocked
            {
                match (self.broken, self.peer_end) {
                    (true, None) => self.write_fails(ErrorName::Network),
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

// ----- the same step on the machine

fn start(start: Start) -> World {
    let settings = Settings::new(BinaryType::ArrayBuffer, start == Start::Tls, None);
    match start {
        Start::Accepted => World::connected(Machine::accepted(settings)),
        _ => World::dialling(Machine::connecting(settings)),
    }
}

fn perform(world: &mut World, queued: usize, step: Step) -> Answer {
    fn done(answer: Result<bool, tcpsocket::Error>) -> Answer {
        answer.map_or_else(|it| Answer::Refused(it.name()), Answer::Done)
    }
    match step {
        Step::Send(len) => {
            let from = queued % (1 << 20);
            let answer = world.send(PATTERN.slice(from..from + len));
            return answer.map_or_else(|it| Answer::Refused(it.name()), Answer::Sent);
        }
        Step::Suspend => world.suspend(),
        Step::Resume => return done(world.resume()),
        Step::Upgrade => return done(world.upgrade()),
        Step::Close => world.close(),
        Step::Abort => world.abort(None),
        Step::AbortWith => world.abort(Some(error(ErrorName::QuotaExceeded))),
        Step::Revoke => world.revoke(error(ErrorName::NotAllowed)),
        Step::Poll => {
            return match world.poll() {
                Poll::Pending => Answer::Pending,
                Poll::Ready(None) => Answer::Over,
                Poll::Ready(Some(Event::Open)) => Answer::Open,
                Poll::Ready(Some(Event::Data(data))) => Answer::Data(data.into_bytes()),
                Poll::Ready(Some(Event::Drain)) => Answer::Drain,
                Poll::Ready(Some(Event::Error(error))) => Answer::Error(error.name()),
                Poll::Ready(Some(Event::Close(close))) => Answer::Close { clean: close.clean },
                Poll::Ready(Some(other)) => panic!("{other:?} is no event that is known here"),
            };
        }
        Step::GiveUp => world.give_up(),
        Step::DropHandle => world.drop_handle(),
        Step::Connected => world.tell(Input::Connected),
        Step::ConnectFails => {
            world.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
        }
        Step::HandshakeDone => world.tell(Input::Secured),
        Step::HandshakeFails => {
            world.tell(Input::SecureFailed(error(
                ErrorName::SecurityBadCertificate,
            )));
        }
        Step::Room(bytes) => {
            world.room += bytes;
            world.work();
        }
        Step::WritesFail => {
            world.broken = true;
            world.work();
        }
        Step::Goodbye { blocked } => {
            world.goodbye_blocked = blocked;
            world.work();
        }
        Step::PeerSends(len) => {
            let data = PATTERN.slice(..len);
            world.arrives(match world.secured {
                true => Arrival::Secret(data),
                false => Arrival::Clear(data),
            });
        }
        Step::PeerEnds { clean } => {
            let clean = clean || !world.secured;
            world.arrives(Arrival::End { clean });
        }
        Step::PeerResets => world.arrives(Arrival::Failure(ErrorName::Network)),
        Step::Wait(time) => world.wait(Duration::from_millis(time)),
        Step::IdleTimer => world.tell(Input::Timer),
    }
    Answer::Nothing
}

// ----- comparing

/// What happened in how many scripts.
type Tally = BTreeMap<&'static str, u32>;

fn run(start_as: Start, steps: &[Step]) -> Result<Tally, TestCaseError> {
    let mut model = Model::new(start_as);
    let mut world = start(start_as);
    let begun = world.now;
    let mut events = Vec::new();
    let mut seen = Tally::new();

    // In the end everything is easy, and the script must come to its end.
    let finale = [
        Step::Connected,
        Step::Room(usize::MAX / 2),
        Step::HandshakeDone,
        Step::Goodbye { blocked: false },
    ];
    let polls = [Step::Poll].repeat(steps.len() + 8);
    let last = [Step::Close, Step::PeerEnds { clean: true }];
    let all = steps.iter().chain(&finale).chain(&polls).chain(&last);
    let all = all.chain(&polls[..6]).chain(&[Step::Wait(2 * LINGER)]);

    for (at, step) in all.enumerate() {
        if !model.allows(*step) {
            continue;
        }
        let before = world.machine.buffered_amount();
        tally(&mut seen, start_as, &model, *step);
        let got = perform(&mut world, model.queued.len(), *step);
        let expected = model.step(*step);
        let place = format!("at step {at}, {step:?}, of {start_as:?} {steps:?}");
        prop_assert!(
            got == expected,
            "the answer is {got:?}, not {expected:?}, {place}"
        );

        let machine = &world.machine;
        macro_rules! same {
            ($what:literal, $got:expr, $expected:expr) => {{
                let (got, expected) = ($got, $expected);
                prop_assert!(
                    got == expected,
                    "{} is {:?}, not {:?}, {}",
                    $what,
                    got,
                    expected,
                    place
                );
            }};
        }
        same!("ready_state", machine.ready_state(), model.state);
        let buffered = model.buffered_amount() as u64;
        same!("buffered_amount", machine.buffered_amount(), buffered);
        same!("ssl", machine.ssl(), model.ssl);
        same!("the turn", machine.in_turn(), model.turn);
        same!("over", machine.is_over(), model.over);
        same!("held", machine.held_bytes(), model.held());
        same!("dropped", world.dropped, model.dropped());
        same!("unread", world.arrived.len(), model.unread.len());
        same!("released", world.released.is_some(), model.released);
        same!(
            "handshaking",
            world.handshaking,
            model.shaking && !model.released
        );
        same!("the end of output", world.shut_down, model.fin_sent);
        let wire = world.clear.len() + world.secret.len();
        same!("the length of the wire", wire, model.sent);
        let deadline = machine
            .next_deadline()
            .map(|it| (it - begun).as_millis() as u64);
        let expected_deadline = model.expires.filter(|_| !model.released);
        same!("the deadline", deadline, expected_deadline);
        if model.by_reset {
            same!("the end", world.released, Some(Release::Reset));
        }

        match &got {
            // Whatever happens, a turn only adds.
            _ if *step != Step::Poll && model.turn && model.state != Closed => {
                let after = world.machine.buffered_amount();
                let gave_up = *step == Step::GiveUp;
                prop_assert!(after >= before || gave_up, "a turn only grows, {place}");
            }
            Answer::Drain => same!("buffered at drain", world.machine.buffered_amount(), 0),
            _ => {}
        }
        if *step == Step::Poll && !matches!(got, Answer::Pending | Answer::Over) {
            if let Answer::Error(name) = &got {
                *seen.entry("error event").or_default() = 1;
                if *name == ErrorName::NetworkTimeout {
                    *seen.entry("linger expires with bytes").or_default() = 1;
                }
            }
            if got == Answer::Drain {
                let when = if model.state == Closing {
                    "drain while closing"
                } else {
                    "drain"
                };
                *seen.entry(when).or_default() = 1;
            }
            events.push(got);
        }
    }

    // The wire, byte by byte: in order, and on its own side of the upgrade.
    let barrier = model.barrier.unwrap_or(usize::MAX).min(model.sent);
    prop_assert!(
        world.clear == model.queued[..barrier],
        "in clear went what should not"
    );
    prop_assert!(
        world.secret == model.queued[barrier..model.sent],
        "inside TLS went what should not"
    );
    prop_assert_eq!(
        model.queued.len() + model.late,
        model.sent + world.dropped + world.machine.held_bytes()
    );
    prop_assert!(world.released.is_some(), "it is never let go");
    prop_assert_eq!(world.machine.next_deadline(), None);
    if model.handle {
        grammar(start_as, &events).map_err(TestCaseError::fail)?;
    } else {
        *seen.entry("handle dropped").or_default() = 1;
    }
    Ok(seen)
}

/// `Open (Data | Drain)* Error? Close`, and an end may come at any point of it (EVT-3).
fn grammar(start_as: Start, events: &[Answer]) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{why}: {events:?}"));
    let Some((Answer::Close { clean }, rest)) = events.split_last() else {
        return bad("the last event is no Close");
    };
    let (failed, rest) = match rest.split_last() {
        Some((Answer::Error(_), rest)) => (true, rest),
        _ => (false, rest),
    };
    if failed && *clean {
        return bad("clean after an error");
    }
    let rest = match (start_as, rest.split_first()) {
        (Start::Plain | Start::Tls, Some((Answer::Open, rest))) => rest,
        (Start::Plain | Start::Tls, Some(_)) => return bad("the first event is no Open"),
        _ => rest,
    };
    match rest
        .iter()
        .all(|it| matches!(it, Answer::Data(_) | Answer::Drain))
    {
        true => Ok(()),
        false => bad("out of order"),
    }
}

/// Notes what is about to happen.
fn tally(seen: &mut Tally, start: Start, model: &Model, step: Step) {
    let mut saw = |what, yes| {
        if yes {
            seen.insert(what, 1);
        }
    };
    let unread = |it: &Arrival| matches!(it, Arrival::Clear(_) | Arrival::Secret(_));
    let data_pending = model.unread.iter().any(unread);
    let sum = match step {
        Step::Send(len) if model.state == Open => model.buffered_amount() + len,
        _ => 0,
    };
    let ends = matches!(step, Step::Close | Step::Abort | Step::AbortWith);
    saw("accepted", start == Start::Accepted);
    saw("TLS from the start", start == Start::Tls);
    saw("opened", model.was_open);
    saw("mark reached exactly", sum == KIB64);
    saw("mark crossed", sum > KIB64);
    saw(
        "suspended with data pending",
        model.state == Open && data_pending && (step == Step::Suspend || model.suspends > 0),
    );
    saw("suspended twice", model.suspends > 1);
    saw(
        "upgrade",
        step == Step::Upgrade && !model.ssl && model.state == Open && start == Start::Plain,
    );
    saw("bytes wait behind an upgrade", {
        let barrier = model.barrier.unwrap_or(usize::MAX);
        !model.secured && !model.cut && model.queued.len() > barrier
    });
    saw("upgrade done", model.secured && model.barrier > Some(0));
    saw("write error waits", model.waiting_error.is_some());
    saw("ended with bytes held", ends && model.held() > 0);
    saw(
        "given up while connecting",
        ends && model.state == Connecting,
    );
    saw("ended while closing", ends && model.state == Closing);
    saw(
        "peer ended first",
        model.peer_end.is_some() && model.state == Open,
    );
    saw(
        "peer ended, bytes held",
        model.peer_end.is_some() && model.state == Open && model.held() > 0,
    );
    saw("send after the end", model.late > 0);
    saw(
        "sent while parked",
        matches!(step, Step::Send(_)) && model.state == Open && !model.turn,
    );
    saw("revoked", step == Step::Revoke && !model.over);
    saw("lingers after Close", model.over && !model.released);
    saw("expires after Close", model.over && model.expired);
}

// ----- scripts

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => Just(0),
        3 => Just(1),
        3 => Just(KIB64 - 1),
        3 => Just(KIB64),
        3 => Just(KIB64 + 1),
        2 => Just(1 << 20),
        3 => 2..100_usize,
        3 => 1_000..100_000_usize,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let some = || size().prop_filter("at least one byte", |it| *it > 0);
    prop_oneof![
        20 => size().prop_map(Step::Send),
        22 => Just(Step::Poll),
        12 => some().prop_map(Step::Room),
        10 => prop_oneof![1..5_000_usize, Just(256 << 10)].prop_map(Step::PeerSends),
        5 => Just(Step::Suspend),
        6 => Just(Step::Resume),
        3 => Just(Step::GiveUp),
        4 => prop_oneof![0..2_000_u64, Just(4_999), Just(5_000), Just(29_999), Just(30_000)].prop_map(Step::Wait),
        3 => Just(Step::Connected),
        4 => Just(Step::HandshakeDone),
        2 => Just(Step::Upgrade),
        2 => any::<bool>().prop_map(|clean| Step::PeerEnds { clean }),
        2 => Just(Step::Close),
        1 => Just(Step::Abort),
        1 => Just(Step::AbortWith),
        1 => Just(Step::Revoke),
        1 => Just(Step::DropHandle),
        1 => Just(Step::ConnectFails),
        1 => Just(Step::HandshakeFails),
        1 => Just(Step::WritesFail),
        1 => Just(Step::PeerResets),
        1 => any::<bool>().prop_map(|blocked| Step::Goodbye { blocked }),
        1 => Just(Step::IdleTimer),
    ]
}

fn script() -> impl Strategy<Value = (Start, Vec<Step>)> {
    let start = prop_oneof![
        5 => Just(Start::Plain),
        2 => Just(Start::Tls),
        2 => Just(Start::Accepted),
    ];
    // Most scripts are about open sockets.
    let opened = prop::bool::weighted(0.8);
    let steps = prop::collection::vec(step(), 0..60);
    (start, opened, steps).prop_map(|(start, opened, steps)| {
        let opening = match (start, opened) {
            (_, false) | (Start::Accepted, _) => &[][..],
            (Start::Plain, _) => &[Step::Connected, Step::Poll],
            (Start::Tls, _) => &[Step::Connected, Step::HandshakeDone, Step::Poll],
        };
        (start, [opening, &steps].concat())
    })
}

#[test]
fn the_machine_does_what_the_model_says() {
    let mut config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if let Ok(cases) = std::env::var("PROPTEST_CASES") {
        config.cases = cases.parse().expect("PROPTEST_CASES is a number");
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(0x7c95);
    }
    let total = RefCell::new((0, Tally::new()));
    let result = TestRunner::new(config).run(&script(), |(start, steps)| {
        let seen = run(start, &steps)?;
        let mut total = total.borrow_mut();
        total.0 += 1;
        for (what, times) in seen {
            *total.1.entry(what).or_default() += times;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }

    let (scripts, total) = total.into_inner();
    println!("{scripts} scripts, of which so many per cent saw:");
    let share =
        |what: &str| 100.0 * f64::from(total.get(what).copied().unwrap_or(0)) / f64::from(scripts);
    for what in total.keys() {
        println!("{:6.1}  {what}", share(what));
    }
    for (what, least) in [
        ("mark crossed", 30.0),
        ("suspended with data pending", 20.0),
    ] {
        let got = share(what);
        assert!(got >= least, "only {got:.1} % of the scripts saw: {what}");
    }
}
