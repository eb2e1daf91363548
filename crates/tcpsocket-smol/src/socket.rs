//! One socket: the driver around the machine.
//!
//! Whoever polls does the work. Where nobody polls, the reactor's hooks and the turn's tail do it, under the same lock
//! and through the same [`Inner::drive`]. `docs/architecture.md` tells the whole of it.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tcpsocket::{
    BinaryType, Control, Error, ErrorName, Event, Gate, Host, Meter, NoMeter, OpenRequest,
    ReadyState, Security, TcpSocket,
};
use tcpsocket_core::{
    CONNECT_TIMEOUT, Connector, Input, Machine, Reading, Release, Settings, Spent, connect_failed,
    stream_failed,
};
use tcpsocket_tls::{Client, Incoming, MAX_WRITE};

use crate::admission::{self, Asking};
use crate::foreign::{self, Panics};
use crate::provider::{Settled, Shared};
use crate::resolver::{SystemResolver, resolve};
use crate::scratch;
use crate::source::{Deadline, Hooks, Ready, Source};
use crate::stream::Stream;
use crate::sys::{self, Tuning};
use crate::tls::{self, Tls};

/// The most that one pass writes, so that no wake takes longer than some hundred microseconds: 1 MiB.
const WRITE_PASS: usize = 1 << 20;
/// The most that one pass discards, or reads for a handshake: 1 MiB.
const DISCARD_PASS: usize = 1 << 20;
/// What a system call takes from a pass at least, whatever it moves: 16 KiB, and so 64 calls a pass.
const CALL: usize = 16 << 10;
/// Slices of one gathered write.
const SLICES: usize = 64;
/// After so many reads, or so much work with what they brought, without a pause, a poll yields to the other tasks of its thread. The work
/// is bytes, those of TLS weighted by what they cost ([`tls::Filled::work`]).
const READS_PER_RUN: u32 = 64;
const WORK_PER_RUN: usize = 4 << 20;

/// Whether there may be something to read.
#[derive(Default)]
struct Readiness(AtomicU8);

impl Readiness {
    const READABLE: u8 = 1;
    /// The peer has finished, or the connection broke: readable for ever. Edge-triggered readiness says so only once.
    const READ_CLOSED: u8 = 2;

    fn is_readable(&self) -> bool {
        self.0.load(SeqCst) != 0
    }

    fn add(&self, ready: Ready) {
        if ready.readable || ready.read_closed {
            let closed = if ready.read_closed {
                Readiness::READ_CLOSED
            } else {
                0
            };
            self.0.fetch_or(Readiness::READABLE | closed, SeqCst);
        }
    }

    /// Reads once. `read` also says whether there may be more.
    ///
    /// What was known is forgotten before, so that what comes during the read is not missed. A stream that has ended never says that
    /// it would block: then it was another that ended, an attempt of the same socket that was refused before this one had its
    /// connection.
    fn read<T>(&self, read: impl FnOnce() -> io::Result<(T, bool)>) -> io::Result<T> {
        let closed = self.0.swap(0, SeqCst) & Readiness::READ_CLOSED;
        let result = read();
        let keep = match &result {
            Ok((_, true)) => closed | Readiness::READABLE,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            _ => closed,
        };
        self.0.fetch_or(keep, SeqCst);
        result.map(|(read, _)| read)
    }
}

/// What the app holds. Its drop is the drop of the last handle: hooks and lists hold the inside, never this.
struct Handle(Arc<Inner>);

pub(crate) struct Inner {
    host: Box<str>,
    port: u16,
    binary_type: BinaryType,
    me: Weak<Inner>,
    shared: Arc<Shared>,
    hooks: Option<Hooks>,
    readiness: Readiness,
    state: Mutex<State>,
}

/// The meters of a socket; `None` if there are none, or the last report was made.
type Meters = Option<Arc<[Arc<dyn Meter>]>>;

struct State {
    machine: Machine,
    link: Link,
    tls: Option<Box<Tls>>,
    meters: Meters,
    /// The waiting task's.
    task: Option<Waker>,
    /// The last write was taken whole.
    writable: bool,
    put_off: bool,
    owed: bool,
    timer: Deadline,
    room: tls::Room,
    reads_in_run: u32,
    work_in_run: usize,
}

#[derive(Default)]
enum Link {
    /// The gates are being asked, behind the call.
    Admitting(Arc<Admission>),
    Dialing(Box<Dialing>),
    Up(Stream),
    #[default]
    Down,
}

/// What gates and resolver are asked: the addresses that may be dialled, and the time that is left for it.
type Admission = Asking<(Vec<SocketAddr>, Duration)>;

struct Dialing {
    connector: Connector,
    attempts: Vec<(SocketAddr, Stream)>,
    tuning: Tuning,
}

#[derive(Clone, Copy)]
struct Plan {
    /// What is left of the connect timeout.
    timeout: Duration,
    tuning: Tuning,
}

impl Plan {
    fn dial(self, addresses: impl IntoIterator<Item = SocketAddr>) -> Link {
        Link::Dialing(Box::new(Dialing {
            connector: Connector::new(addresses, Some(self.timeout), Instant::now()),
            attempts: Vec::new(),
            tuning: self.tuning,
        }))
    }
}

/// What a critical section leaves to be done when no lock is held: everything that may run somebody else's code.
#[derive(Default)]
struct After {
    wake: bool,
    put_off: bool,
    load_roots: bool,
    settled: Option<Settled>,
    given_up: Option<Arc<Admission>>,
    spent: Spent,
    written: usize,
    read: usize,
}

/// Opens a socket.
pub(crate) fn open(
    shared: &Arc<Shared>,
    request: OpenRequest,
) -> Result<Arc<dyn TcpSocket>, Error> {
    let literal = admission::literal(&request);
    let options = request.options();
    match options.use_secure_transport {
        true => Client::check(request.host(), &options.alpn)?,
        false => Client::check_alpn(&options.alpn)?,
    }
    let plan = Plan {
        timeout: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        tuning: Tuning {
            no_delay: options.no_delay,
            keep_alive: options.keep_alive,
        },
    };
    let settings = Settings::new(
        options.binary_type,
        options.use_secure_transport,
        options.linger,
    );
    let machine = Machine::connecting(settings);
    let identity = (request.host().given().into(), request.port());
    let speaks_of_tls = options.use_secure_transport
        || !options.alpn.is_empty()
        || options.connect_timeout.is_some();
    let tls = speaks_of_tls.then(|| Box::new(Tls::new(&options.alpn, options.connect_timeout)));

    if let (Some(Ok(to)), []) = (&literal, request.gates()) {
        let inner = Inner::new(shared, identity, settings, machine, tls, &[])?;
        inner.locked(|state, after| {
            state.link = plan.dial([*to]);
            inner.prepare_tls(state, after);
            inner.drive(state, after);
        });
        return Ok(Arc::new(Handle(inner)));
    }

    let mut names = Box::pin({
        let request = request.clone();
        async move { admission::name(request.gates(), request.host(), request.port()).await }
    });
    // What a name rule knows without waiting is the call's own answer (GATE-4).
    let first = foreign::call(|| names.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    let first = first.unwrap_or_else(|panic| {
        foreign::forget(panic);
        Poll::Ready(Err(foreign::gate_panicked("a name")))
    });
    let known = match first {
        Poll::Ready(Err(refused)) => return Err(refused),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    let inner = Inner::new(shared, identity, settings, machine, tls, request.gates())?;
    // Nothing to wait for, as a rule: then there is no task either.
    let at_once = known && literal.is_some();
    let admission = Arc::new(Asking::new(Box::pin(async move {
        if !known {
            names.await?;
        }
        let host = request.host();
        let (all, left) = match (literal, request.resolver()) {
            (Some(Ok(to)), _) => (vec![to], plan.timeout),
            (Some(Err(missing)), _) => return missing.admit(request.gates(), host).await,
            (None, Some(own)) => {
                let lookup = resolve(&**own, host, request.port(), plan.timeout);
                foreign::resolver(lookup).await?
            }
            (None, None) => resolve(&SystemResolver, host, request.port(), plan.timeout).await?,
        };
        let admitted = admission::connect(request.gates(), host, all).await?;
        Ok((admitted, left))
    })));
    inner.locked(|state, after| {
        state.link = Link::Admitting(admission.clone());
        inner.prepare_tls(state, after);
    });
    let mut admit = Admit {
        socket: inner.clone(),
        admission,
        plan,
        done: false,
    };
    if !at_once || admit.poll_once().is_pending() {
        shared.spawn(Box::pin(admit));
    }
    Ok(Arc::new(Handle(inner)))
}

/// The task that has gates and resolver asked.
struct Admit {
    socket: Arc<Inner>,
    admission: Arc<Admission>,
    plan: Plan,
    done: bool,
}

impl Admit {
    fn poll_once(&mut self) -> Poll<()> {
        Pin::new(self).poll(&mut Context::from_waker(Waker::noop()))
    }
}

impl Future for Admit {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(answer) = self.admission.poll(cx) else {
            return Poll::Pending;
        };
        self.done = true;
        if let Some(answer) = answer {
            self.socket.admitted(&self.admission, self.plan, answer);
        }
        Poll::Ready(())
    }
}

impl Drop for Admit {
    /// An executor that drops its tasks must not leave a socket that connects for ever.
    fn drop(&mut self) {
        if !self.done {
            let dropped = Error::new(
                ErrorName::Network,
                "the executor dropped the task that was to open this socket",
            );
            self.admission.give_up();
            foreign::contain(|| {
                self.socket
                    .admitted(&self.admission, self.plan, Err(dropped))
            });
        }
    }
}

/// A socket around a stream that was accepted. Open from birth.
pub(crate) fn accepted(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: Settings,
    gates: &[Arc<dyn Gate>],
) -> io::Result<Arc<dyn TcpSocket>> {
    let identity = (Host::from_address(peer).as_str().into(), peer.port());
    let machine = Machine::accepted(settings);
    let inner = Inner::new(shared, identity, settings, machine, None, gates)
        .inspect_err(|_| sys::reset_on_close(&stream))
        .map_err(io::Error::other)?;
    let stream = Stream::new(
        &shared.reactor,
        stream,
        inner.hooks.as_ref(),
        inner.source(),
    )?;
    inner.locked(|state, _| {
        state.link = Link::Up(stream);
        state.writable = true;
    });
    Ok(Arc::new(Handle(inner)))
}

impl Inner {
    fn new(
        shared: &Arc<Shared>,
        (host, port): (Box<str>, u16),
        settings: Settings,
        machine: Machine,
        tls: Option<Box<Tls>>,
        gates: &[Arc<dyn Gate>],
    ) -> Result<Arc<Inner>, Error> {
        let mut watched = Ok(Vec::new());
        let inner = Arc::new_cyclic(|me: &Weak<Inner>| {
            let control: Weak<dyn Control> = me.clone();
            watched = admission::watch(gates, &control);
            let meters = watched.as_mut().map(std::mem::take).unwrap_or_default();
            Inner {
                host,
                port,
                binary_type: settings.binary_type,
                me: me.clone(),
                shared: shared.clone(),
                hooks: shared.hooks(me),
                readiness: Readiness::default(),
                state: Mutex::new(State {
                    machine,
                    link: Link::Down,
                    tls,
                    meters: match &*meters {
                        [] => None,
                        _ => Some(meters.into()),
                    },
                    task: None,
                    writable: false,
                    put_off: false,
                    owed: false,
                    timer: Deadline::None,
                    room: tls::Room::default(),
                    reads_in_run: 0,
                    work_in_run: 0,
                }),
            }
        });
        watched.map(|_| inner)
    }

    fn source(&self) -> Weak<dyn Source> {
        self.me.clone()
    }

    /// One critical section, and then what it left to be done. A panic of foreign code unwinds into the caller, when all else is done.
    fn locked<T>(&self, body: impl FnOnce(&mut State, &mut After) -> T) -> T {
        let (value, panics) = self.section(body);
        panics.resume();
        value
    }

    fn section<T>(&self, body: impl FnOnce(&mut State, &mut After) -> T) -> (T, Panics) {
        let mut after = After::default();
        let mut state = self.state.lock();
        let value = body(&mut state, &mut after);
        after.wake |= !state.machine.in_turn() && (state.machine.event_due() || state.has_data());
        after.spent = state.machine.take_spent();
        let task = match after.wake {
            true => state.task.take(),
            false => None,
        };
        let dropped = state.machine.take_dropped();
        let moved = after.written | after.read | dropped != 0;
        // When nothing can move any more, their drop is the last report (ACC-4).
        let meters = match state.machine.is_over() && matches!(state.link, Link::Down) {
            true => state.meters.take(),
            false if moved => state.meters.clone(),
            false => None,
        };
        drop(state);
        let mut panics = Panics::default();
        if meters.is_some() {
            self.report(meters, moved, &after, dropped, &mut panics);
        }
        self.finish(after, task, &mut panics);
        (value, panics)
    }

    /// Tells the meters what has moved. One that panics ends its socket: what is not counted must not go on.
    fn report(
        &self,
        meters: Meters,
        moved: bool,
        after: &After,
        dropped: usize,
        panics: &mut Panics,
    ) {
        let mut counted = true;
        if moved {
            for meter in meters.iter().flat_map(|meters| meters.iter()) {
                counted &= panics.run(|| meter.moved(after.written, after.read, dropped));
            }
        }
        counted &= drop_meters(meters, panics);
        if !counted {
            let why = Error::new(
                ErrorName::NotAllowed,
                "the meter of this socket panicked, and nothing may move uncounted",
            );
            let ((), worse) = self.section(|state, after| {
                state.machine.revoke(why);
                self.drive(state, after);
            });
            worse.forget();
        }
    }

    fn finish(&self, after: After, task: Option<Waker>, panics: &mut Panics) {
        if let Some(admission) = after.given_up {
            admission.give_up();
        }
        if after.put_off
            && let Some(me) = self.me.upgrade()
        {
            panics.run(|| self.shared.put_off(me));
        }
        if after.load_roots {
            self.load_roots();
        }
        if let Some(task) = task {
            panics.run(|| task.wake());
        }
        if let Some(settled) = after.settled {
            settled.finish(panics);
        }
        for spent in after.spent {
            panics.run(|| drop(spent));
        }
    }

    // ----- the work

    /// Does everything that can be done now without waiting: connects, writes, shuts down, discards, releases. Arms what it
    /// has to wait for.
    fn drive(&self, state: &mut State, after: &mut After) {
        loop {
            let now = Instant::now();
            if state.machine.next_deadline().is_some_and(|at| at <= now) {
                state.machine.handle(Input::Timer, now);
            }
            if matches!(state.link, Link::Dialing(_)) {
                self.dial(state, now);
            }
            self.transfer(state, after, now);
            if !self.arm(state, after) {
                break;
            }
        }
        if state.machine.is_busy() && !state.owed {
            if let Some(me) = self.me.upgrade() {
                state.owed = true;
                self.shared.owe(me);
            }
        } else if state.owed && !state.machine.is_busy() {
            state.owed = false;
            after.settled = Some(self.shared.settle(self));
        }
    }

    fn transfer(&self, state: &mut State, after: &mut After, now: Instant) {
        let (mut to_write, mut to_discard) = (WRITE_PASS, DISCARD_PASS);
        loop {
            let State {
                machine,
                link,
                tls,
                writable,
                room,
                ..
            } = state;
            if let Some(how) = machine.wants_release() {
                match (std::mem::take(link), how) {
                    (Link::Up(stream), Release::Reset) => stream.reset_on_close(),
                    (Link::Admitting(admission), _) => after.given_up = Some(admission),
                    _ => {}
                }
                if let Some(tls) = tls {
                    tls.ended();
                }
                machine.handle(Input::Released, now);
                continue;
            }
            let Link::Up(stream) = link else { return };
            if let (true, Some(tls)) = (machine.wants_tls(), &mut *tls) {
                match tls.start(&self.shared.tls, &self.host, now) {
                    Some(begun) => machine.handle(begun, now),
                    None => return,
                }
                continue;
            }
            let mut session = tls.as_mut().and_then(|it| it.session());
            if let (true, Some(session)) = (machine.wants_shutdown(), &mut session) {
                session.close_notify();
            }
            let ciphertext = session.as_ref().is_some_and(|it| it.wants_write());
            if let (true, Some(session)) = (ciphertext && *writable, &mut session) {
                if to_write == 0 || machine.holds_error() {
                    return;
                }
                match tls::flush(session, stream) {
                    Ok((count, flushed)) => {
                        to_write = to_write.saturating_sub(count.max(CALL));
                        // An abort may have dropped what was on its way.
                        let flushed = flushed.min(machine.held_bytes());
                        after.written += flushed;
                        machine.handle(Input::Wrote(flushed), now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
                    Err(error) => {
                        *writable = false;
                        let failed = match machine.reading() {
                            Reading::Handshake => tls::shake_off(session, stream, error),
                            _ => Input::WriteFailed(stream_failed(error)),
                        };
                        machine.handle(failed, now);
                    }
                }
            } else if *writable && to_write > 0 && machine.writable_bytes() > 0 {
                let mut slices = [IoSlice::new(&[]); SLICES];
                if let Some(session) = session {
                    let (count, _) = machine.gather(MAX_WRITE, &mut slices);
                    match session.write_plaintext(&slices[..count]) {
                        Ok(0) => return,
                        Ok(_) => {}
                        Err(error) => machine.handle(Input::WriteFailed(error), now),
                    }
                    continue;
                }
                let (count, bytes) = machine.gather(to_write, &mut slices);
                let sent = stream.send(&slices[..count]);
                match sent {
                    Ok(sent) => {
                        *writable = sent == bytes;
                        to_write = to_write.saturating_sub(sent.max(CALL));
                        after.written += sent;
                        machine.handle(Input::Wrote(sent), now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => *writable = false,
                    Err(error) => machine.handle(Input::WriteFailed(stream_failed(error)), now),
                }
            } else if machine.wants_shutdown() && (!ciphertext || machine.is_cut_short()) {
                if let (true, Some(tls)) = (ciphertext, tls) {
                    tls.ended(); // the goodbye would have to wait for the kernel (CL-4)
                }
                let done = match stream.finish() {
                    Ok(()) => Input::ShutDown,
                    Err(error) => Input::ShutDownFailed(stream_failed(error)),
                };
                machine.handle(done, now);
            } else if to_discard == 0 || !self.readiness.is_readable() {
                return;
            } else if let (Reading::Handshake, Some(session)) = (machine.reading(), session) {
                let filled = self.readiness.read(|| tls::fill(session, stream, room));
                let work = filled.as_ref().map_or(0, |filled| filled.work);
                to_discard = to_discard.saturating_sub(work.max(CALL));
                if let Some(how) = tls::shake(session, stream, filled) {
                    machine.handle(how, now);
                    // A wait that was parked during the handshake did not ask for data.
                    after.wake |= !machine.in_turn();
                }
            } else if machine.reading() == Reading::Discard {
                let discard = || scratch::read_with(|block| stream.recv(block), |_| {});
                match self.readiness.read(discard) {
                    Ok(0) => machine.handle(Input::Ended { clean: true }, now),
                    Ok(count) => {
                        to_discard = to_discard.saturating_sub(count.max(CALL));
                        machine.handle(Input::Discarded(count), now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => machine.handle(Input::ReadFailed(stream_failed(error)), now),
                }
            } else {
                return;
            }
        }
    }

    /// Asks the reactor for what is missing, and the clock. True if a deadline is over already.
    fn arm(&self, state: &mut State, after: &mut After) -> bool {
        let State {
            machine,
            link,
            tls,
            timer,
            ..
        } = state;
        let mut deadline = machine.next_deadline();
        match link {
            Link::Up(stream) => {
                let in_loop = matches!(stream, Stream::Loop(..));
                let mut again = false;
                let ciphertext = tls.as_ref().is_some_and(|it| it.wants_write());
                if let Some(roots) = tls.as_ref().and_then(|it| it.deadline()) {
                    deadline = Some(deadline.map_or(roots, |at| at.min(roots)));
                }
                if machine.writable_bytes() > 0 || (ciphertext && !machine.holds_error()) {
                    again |= state.writable;
                    stream.arm_write();
                }
                if matches!(machine.reading(), Reading::Discard | Reading::Handshake) {
                    again |= self.readiness.is_readable();
                    stream.arm_read();
                }
                // A pass that ended by its limit: async-io reports again what is still so, our loop does not.
                if again && in_loop && !state.put_off {
                    state.put_off = true;
                    after.put_off = true;
                }
            }
            Link::Dialing(dialing) => {
                for (_, attempt) in &dialing.attempts {
                    attempt.arm_write();
                }
                let next = dialing.connector.next_deadline();
                deadline = Some(deadline.map_or(next, |at| at.min(next)));
            }
            Link::Admitting(_) | Link::Down => {}
        }
        let Some(at) = deadline else {
            *timer = Deadline::None;
            return false;
        };
        // One that is too early comes for nothing and is armed anew; that is cheaper than moving it at every write.
        if timer.at().is_some_and(|armed| armed <= at) {
            return false;
        }
        match self.shared.arm(at, self.hooks.as_ref(), || self.source()) {
            Some(armed) => {
                *timer = armed;
                false
            }
            None => true,
        }
    }

    fn dial(&self, state: &mut State, now: Instant) {
        let State {
            machine,
            link,
            tls,
            writable,
            ..
        } = state;
        let Link::Dialing(dialing) = link else { return };
        let mut up = None;
        let mut at = 0;
        while at < dialing.attempts.len() && up.is_none() {
            let (to, stream) = &dialing.attempts[at];
            match stream.is_connected() {
                Ok(false) => at += 1,
                Ok(true) => up = Some(at),
                Err(error) => {
                    dialing.connector.failed(connect_failed(to, error), now);
                    dialing.attempts.swap_remove(at);
                }
            }
        }
        if let Some(at) = up {
            let (_, stream) = dialing.attempts.swap_remove(at);
            if let (true, Some(tls)) = (machine.ssl(), tls) {
                tls.connected(dialing.connector.until());
            }
            *link = Link::Up(stream);
            *writable = true;
            machine.handle(Input::Connected, now);
            return;
        }
        while let Some(to) = dialing.connector.next_dial(now) {
            let stream = sys::start_connect(to, dialing.tuning).and_then(|stream| {
                Stream::new(
                    &self.shared.reactor,
                    stream,
                    self.hooks.as_ref(),
                    self.source(),
                )
            });
            match stream {
                Ok(stream) => dialing.attempts.push((to, stream)),
                Err(error) => dialing.connector.failed(connect_failed(to, error), now),
            }
        }
        if let Some(error) = dialing.connector.verdict(now) {
            *link = Link::Down;
            machine.handle(Input::ConnectFailed(error), now);
        }
    }

    // ----- TLS

    /// TLS was asked for: the roots may have to be loaded first.
    fn prepare_tls(&self, state: &mut State, after: &mut After) {
        if state.machine.ssl() {
            let tls = state.tls.get_or_insert_default();
            after.load_roots = tls.must_load(&self.shared.tls);
        }
    }

    /// Reading files would hold up everything that the reactor's thread drives.
    fn load_roots(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let load = move || {
            let outcome = me.shared.tls.config().map(drop);
            me.locked(|state, after| {
                if let Some(tls) = &mut state.tls {
                    tls.loaded(outcome);
                }
                me.drive(state, after);
            });
        };
        smol::unblock(load).detach();
    }

    fn upgrade(&self) -> Result<(), Error> {
        self.locked(|state, after| {
            if state.machine.may_upgrade()? {
                let host = Host::parse(&self.host)?;
                Client::check(&host, &[])?;
                state.machine.upgrade()?;
                self.prepare_tls(state, after);
                self.drive(state, after);
            }
            Ok(())
        })
    }

    fn security(&self) -> Security {
        let state = self.state.lock();
        let secure = state.tls.as_ref().and_then(|it| it.secure());
        match secure {
            _ if !state.machine.ssl() => Security::Plain,
            Some(secure) => Security::Secure(secure),
            None => Security::Handshaking,
        }
    }

    /// Gates and resolver have answered, unless nobody wants to know any more.
    fn admitted(
        &self,
        admission: &Arc<Admission>,
        plan: Plan,
        answer: Result<(Vec<SocketAddr>, Duration), Error>,
    ) {
        self.locked(|state, after| {
            match &state.link {
                Link::Admitting(asked) if Arc::ptr_eq(asked, admission) => {}
                _ => return,
            }
            match answer {
                Ok((addresses, timeout)) => {
                    state.link = Plan { timeout, ..plan }.dial(addresses);
                    self.drive(state, after);
                }
                Err(refused) => {
                    state.link = Link::Down;
                    let failed = Input::ConnectFailed(refused);
                    state.machine.handle(failed, Instant::now());
                }
            }
        });
    }

    // ----- events

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        enum Step {
            Done(Poll<Option<Event>>),
            Yield(Option<Waker>),
            Register,
        }
        // Cloned only if there is something to wait for, and outside the lock: a waker is foreign code.
        let mut waker: Option<Waker> = None;
        loop {
            let mut former = None;
            let step = self.locked(|state, after| {
                if state.machine.is_over() {
                    return Step::Done(Poll::Ready(None));
                }
                state.machine.end_turn();
                loop {
                    self.drive(state, after);
                    let finishing = state.machine.wants_shutdown();
                    if let Some(event) = state.machine.take_event() {
                        self.drive(state, after);
                        return Step::Done(Poll::Ready(Some(event)));
                    }
                    if state.machine.wants_shutdown() && !finishing {
                        continue;
                    }
                    let probe = self.readiness.is_readable()
                        || state.machine.holds_error()
                        || state.has_data();
                    if state.machine.reading() != Reading::Deliver || !probe {
                        break;
                    }
                    if state.reads_in_run >= READS_PER_RUN || state.work_in_run >= WORK_PER_RUN {
                        state.rest();
                        return Step::Yield(state.task.take());
                    }
                    if let Some(event) = self.read(state, after) {
                        return Step::Done(Poll::Ready(Some(event)));
                    }
                }
                if !state.waits_for(cx) {
                    match waker.take() {
                        None => return Step::Register,
                        Some(waker) => former = state.task.replace(waker),
                    }
                }
                state.rest();
                if let (Link::Up(stream), Reading::Deliver) = (&state.link, state.machine.reading())
                {
                    stream.arm_read();
                }
                Step::Done(Poll::Pending)
            });
            drop(former);
            match step {
                Step::Done(polled) => return polled,
                Step::Yield(former) => {
                    drop(former);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Register => waker = Some(cx.waker().clone()),
            }
        }
    }

    /// Reads once. `None` if that brought no data.
    fn read(&self, state: &mut State, after: &mut After) -> Option<Event> {
        let Link::Up(stream) = &state.link else {
            return None;
        };
        let read = match state.tls.as_mut().and_then(|it| it.session()) {
            None => {
                let read = || scratch::read(|block| stream.recv(block));
                self.readiness
                    .read(read)
                    .map(|bytes| match bytes.is_empty() {
                        true => Incoming::Ended { clean: true },
                        false => Incoming::Data(bytes),
                    })
            }
            Some(session) if session.has_incoming() => Ok(session.next_incoming()),
            Some(session) => {
                let room = &mut state.room;
                let filled = self.readiness.read(|| tls::fill(session, stream, room));
                filled.map(|filled| {
                    state.work_in_run += filled.work;
                    session.next_incoming()
                })
            }
        };
        state.reads_in_run += 1;
        let outcome = match read {
            Ok(Incoming::Data(bytes)) => {
                after.read += bytes.len();
                state.work_in_run += bytes.len();
                return state.machine.received(bytes);
            }
            // Part of a record.
            Ok(Incoming::Dry) => return None,
            Ok(Incoming::Ended { clean }) => Input::Ended { clean },
            Ok(Incoming::Failed(error)) => {
                if let Some(session) = state.tls.as_mut().and_then(|it| it.session()) {
                    tls::say_why(session, stream);
                }
                Input::ReadFailed(error)
            }
            Ok(_) => return None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Input::ReadDry,
            Err(error) => Input::ReadFailed(stream_failed(error)),
        };
        state.machine.handle(outcome, Instant::now());
        None
    }

    /// Gives up the wait of this waker. Another task's goes on, and no turn begins under it (EVT-16).
    fn forget_wait(&self, waker: &Waker) {
        let task = self.locked(|state, _| {
            let own = state.task.take_if(|kept| kept.will_wake(waker));
            if state.task.is_none() {
                state.machine.begin_turn();
            }
            own
        });
        drop(task);
    }
}

impl State {
    /// The task pauses: it may run for the full length again.
    fn rest(&mut self) {
        self.reads_in_run = 0;
        self.work_in_run = 0;
    }

    /// Whether the task that would be woken is this one.
    fn waits_for(&self, cx: &Context<'_>) -> bool {
        self.task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
    }

    /// Whether data, or the end of it, is here already and may be delivered.
    fn has_data(&self) -> bool {
        self.tls.as_ref().is_some_and(|it| it.has_incoming())
            && self.machine.reading() == Reading::Deliver
    }
}

impl Source for Inner {
    fn ready(&self, ready: Ready) {
        self.readiness.add(ready);
        self.locked(|state, after| {
            state.writable |= ready.writable;
            let reading = state.machine.reading();
            if ready.writable || matches!(reading, Reading::Discard | Reading::Handshake) {
                self.drive(state, after);
            }
            after.wake |= ready.readable && reading == Reading::Deliver && !state.machine.in_turn();
        });
    }

    fn deadline(&self) {
        self.locked(|state, after| {
            state.timer = Deadline::None;
            self.drive(state, after);
        });
    }

    fn flush(&self) {
        self.locked(|state, after| {
            state.put_off = false;
            self.drive(state, after);
        });
    }
}

impl Control for Inner {
    fn abort(&self, why: Error) {
        // Whoever ends many sockets at once ends all of them, whatever the meter of one does.
        let ((), panics) = self.section(|state, after| {
            state.machine.revoke(why);
            self.drive(state, after);
        });
        panics.forget();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmolSocket")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpSocket for Handle {
    fn host(&self) -> &str {
        &self.0.host
    }

    fn port(&self) -> u16 {
        self.0.port
    }

    fn ssl(&self) -> bool {
        self.0.state.lock().machine.ssl()
    }

    fn security(&self) -> Security {
        self.0.security()
    }

    fn buffered_amount(&self) -> u64 {
        self.0.state.lock().machine.buffered_amount()
    }

    fn binary_type(&self) -> BinaryType {
        self.0.binary_type
    }

    fn ready_state(&self) -> ReadyState {
        self.0.state.lock().machine.ready_state()
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let inner = &*self.0;
        let len = data.len();
        let charged = inner.charge(len)?;
        let answer = inner.locked(|state, after| {
            let answer = state.machine.send(data)?;
            let parked = !state.machine.in_turn();
            let room = inner.shared.gathers(parked);
            if state.writable && state.machine.held_bytes() < room {
                if !state.put_off && state.machine.writable_bytes() > 0 {
                    state.put_off = true;
                    after.put_off = true;
                }
            } else {
                inner.drive(state, after);
            }
            Ok(answer)
        });
        if let (Err(_), Some(meters)) = (&answer, charged) {
            refund(meters.iter(), len).resume();
        }
        answer
    }

    fn suspend(&self) {
        self.0.locked(|state, _| state.machine.suspend());
    }

    fn resume(&self) -> Result<(), Error> {
        self.0.locked(|state, after| {
            let flows = state.machine.resume()?;
            after.wake |= flows && !state.machine.in_turn();
            Ok(())
        })
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        self.0.upgrade()
    }

    fn close(&self) {
        let inner = &*self.0;
        inner.locked(|state, after| {
            state.machine.close(Instant::now());
            inner.drive(state, after);
        });
    }

    fn abort(&self, why: Option<Error>) {
        let inner = &*self.0;
        inner.locked(|state, after| {
            state.machine.abort(why, Instant::now());
            inner.drive(state, after);
        });
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_event(cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.0.forget_wait(waker);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let inner = &*self.0;
        // A drop may be a part of unwinding, where a second panic would end the process.
        foreign::contain(|| {
            let task = inner.locked(|state, after| {
                state.machine.abandon(Instant::now());
                inner.drive(state, after);
                state.task.take()
            });
            drop(task);
        });
    }
}

impl Inner {
    /// Asks the meters whether so much may be queued; all of them, or none. Returns those that were told.
    fn charge(&self, len: usize) -> Result<Meters, Error> {
        let meters = {
            let state = self.state.lock();
            if state.meters.is_some() {
                state.machine.may_send()?;
            }
            state.meters.clone()
        };
        for (at, meter) in meters.iter().flat_map(|meters| meters.iter()).enumerate() {
            let answer = foreign::call(|| meter.queue(len)).unwrap_or_else(|panic| {
                foreign::forget(panic);
                Err(foreign::gate_panicked("bytes to queue"))
            });
            if let Err(refused) = answer {
                let agreed = meters.iter().flat_map(|meters| meters.iter()).take(at);
                refund(agreed, len).resume();
                return Err(refused);
            }
        }
        Ok(meters)
    }
}

/// What was charged will not be queued after all.
fn refund<'a>(meters: impl IntoIterator<Item = &'a Arc<dyn Meter>>, len: usize) -> Panics {
    let mut panics = Panics::default();
    if len > 0 {
        for meter in meters {
            panics.run(|| meter.moved(0, 0, len));
        }
    }
    panics
}

/// Each by itself, where it is the last report: a second panic in one drop would end the process. False if one panicked.
fn drop_meters(mut meters: Meters, panics: &mut Panics) -> bool {
    let mut quiet = true;
    if let Some(last) = meters.as_mut().and_then(Arc::get_mut) {
        let nobody: Arc<dyn Meter> = Arc::new(NoMeter);
        for meter in last {
            let meter = std::mem::replace(meter, nobody.clone());
            quiet &= panics.run(|| drop(meter));
        }
    }
    quiet
}
