//! One socket: the driver around the machine.
//!
//! Whoever polls does the work. Where nobody polls, the reactor's hooks and the turn's tail do it, under the same lock
//! and through the same [`Inner::drive`]. `docs/architecture.md` tells the whole of it.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bytes::Bytes;
use tcpsocket::{
    BinaryType, Control, Error, ErrorName, Event, Gate, Host, Meter, OpenRequest, ReadyState,
    Security, TcpSocket,
};
use tcpsocket_core::{
    CONNECT_TIMEOUT, Connector, Input, Machine, Reading, Release, Settings, connect_failed,
    stream_failed,
};
use tcpsocket_tls::{Client, Incoming, MAX_WRITE};

use crate::admission::{self, Admission};
use crate::lock;
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
/// Slices of one gathered write.
const SLICES: usize = 64;
/// After so many data events, or bytes of them, without a pause, a poll yields to the other tasks of its thread.
const EVENTS_PER_RUN: u32 = 64;
const BYTES_PER_RUN: usize = 4 << 20;

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
    task: AtomicWaker,
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
    /// The last write was taken whole.
    writable: bool,
    put_off: bool,
    owed: bool,
    timer: Deadline,
    events_in_run: u32,
    bytes_in_run: usize,
}

#[derive(Default)]
enum Link {
    Admitting(Box<Admitting>),
    Dialing(Box<Dialing>),
    Up(Stream),
    #[default]
    Down,
}

/// The gates are being asked.
struct Admitting {
    /// Empty while it is being polled.
    future: Option<Admission>,
    task: Option<Waker>,
    plan: Plan,
}

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
    admitting: Option<Box<Admitting>>,
    written: usize,
    read: usize,
}

/// Opens a socket.
pub(crate) fn open(
    shared: &Arc<Shared>,
    request: OpenRequest,
) -> Result<Arc<dyn TcpSocket>, Error> {
    let literal = literal(&request)?;
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

    if let (Some(to), []) = (literal, request.gates()) {
        let inner = Inner::new(shared, identity, settings, machine, tls, &[]);
        inner.locked(|state, after| {
            state.link = plan.dial([to]);
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
    let known = match names.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Err(refused)) => return Err(refused),
        Poll::Ready(Ok(())) => true,
        Poll::Pending => false,
    };
    let inner = Inner::new(shared, identity, settings, machine, tls, request.gates());
    let future: Admission = Box::pin(async move {
        if !known {
            names.await?;
        }
        let host = request.host();
        let (all, left) = match (literal, request.resolver()) {
            (Some(to), _) => (vec![to], plan.timeout),
            (None, Some(own)) => resolve(&**own, host, request.port(), plan.timeout).await?,
            (None, None) => resolve(&SystemResolver, host, request.port(), plan.timeout).await?,
        };
        let admitted = admission::connect(request.gates(), host, all).await?;
        Ok((admitted, left))
    });
    inner.locked(|state, after| {
        state.link = Link::Admitting(Box::new(Admitting {
            future: Some(future),
            task: None,
            plan,
        }));
        inner.prepare_tls(state, after);
    });
    // Nothing to wait for, as a rule: then there is no task either.
    let at_once = known && literal.is_some();
    if at_once
        && inner
            .poll_admission(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    {
        return Ok(Arc::new(Handle(inner)));
    }
    let task = inner.clone();
    shared.spawn(Box::pin(std::future::poll_fn(move |cx| {
        task.poll_admission(cx)
    })));
    Ok(Arc::new(Handle(inner)))
}

/// The address that the host is, or `None` for a name.
fn literal(request: &OpenRequest) -> Result<Option<SocketAddr>, Error> {
    let host = request.host();
    Ok(Some(match (host.literal(), host.zone()) {
        (None, _) => return Ok(None),
        (Some(IpAddr::V6(ip)), Some(zone)) => {
            let scope = sys::interface(zone).ok_or_else(|| {
                Error::new(
                    ErrorName::InvalidAccess,
                    format!("{host}: this machine has no network interface {zone:?}"),
                )
            })?;
            SocketAddrV6::new(ip, request.port(), 0, scope).into()
        }
        (Some(ip), _) => SocketAddr::new(ip, request.port()),
    }))
}

/// A socket around a stream that was accepted. Open from birth.
pub(crate) fn accepted(
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    settings: Settings,
    gates: &[Arc<dyn Gate>],
) -> io::Result<Arc<dyn TcpSocket>> {
    let peer = SocketAddr::new(tcpsocket::canonical_ip(peer.ip()), peer.port());
    let identity = (peer.ip().to_string().into(), peer.port());
    let machine = Machine::accepted(settings);
    let inner = Inner::new(shared, identity, settings, machine, None, gates);
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
    ) -> Arc<Inner> {
        Arc::new_cyclic(|me: &Weak<Inner>| Inner {
            host,
            port,
            binary_type: settings.binary_type,
            me: me.clone(),
            shared: shared.clone(),
            hooks: shared.hooks(me),
            task: AtomicWaker::new(),
            readiness: Readiness::default(),
            state: Mutex::new(State {
                machine,
                link: Link::Down,
                tls,
                meters: match gates {
                    [] => None,
                    gates => Some(gates.iter().map(|gate| gate.watch(me.clone())).collect()),
                },
                writable: false,
                put_off: false,
                owed: false,
                timer: Deadline::None,
                events_in_run: 0,
                bytes_in_run: 0,
            }),
        })
    }

    fn source(&self) -> Weak<dyn Source> {
        self.me.clone()
    }

    /// One critical section, and then what it left to be done.
    fn locked<T>(&self, body: impl FnOnce(&mut State, &mut After) -> T) -> T {
        let mut after = After::default();
        let mut state = lock(&self.state);
        let value = body(&mut state, &mut after);
        after.wake |= !state.machine.in_turn() && (state.machine.event_due() || state.has_data());
        let dropped = state.machine.take_dropped();
        let moved = after.written | after.read | dropped != 0;
        // When nothing can move any more, their drop is the last report (ACC-4).
        let meters = match state.machine.is_over() && matches!(state.link, Link::Down) {
            true => state.meters.take(),
            false if moved => state.meters.clone(),
            false => None,
        };
        drop(state);
        if moved {
            for meter in meters.iter().flat_map(|it| it.iter()) {
                meter.moved(after.written, after.read, dropped);
            }
        }
        drop(meters);
        self.finish(after);
        value
    }

    fn finish(&self, after: After) {
        if let Some(admitting) = after.admitting {
            let task = admitting.task;
            drop(admitting.future);
            if let Some(task) = task {
                task.wake();
            }
        }
        if after.put_off
            && let Some(me) = self.me.upgrade()
        {
            self.shared.put_off(me);
        }
        if after.load_roots {
            self.load_roots();
        }
        if after.wake {
            self.task.wake();
        }
        if let Some(settled) = after.settled {
            settled.finish();
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
                ..
            } = state;
            if let Some(how) = machine.wants_release() {
                match (std::mem::take(link), how) {
                    (Link::Up(stream), Release::Reset) => stream.reset_on_close(),
                    (Link::Admitting(admitting), _) => after.admitting = Some(admitting),
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
                        to_write = to_write.saturating_sub(count);
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
                        to_write -= sent;
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
                let filled = self.readiness.read(|| tls::fill(session, stream));
                to_discard = to_discard.saturating_sub(*filled.as_ref().unwrap_or(&0));
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
                        to_discard = to_discard.saturating_sub(count);
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
        let state = lock(&self.state);
        let secure = state.tls.as_ref().and_then(|it| it.secure());
        match secure {
            _ if !state.machine.ssl() => Security::Plain,
            Some(secure) => Security::Secure(secure),
            None => Security::Handshaking,
        }
    }

    /// Polls the gates, without any lock. Ready when they have answered, or nobody wants to know any more.
    fn poll_admission(&self, cx: &mut Context<'_>) -> Poll<()> {
        let taken = self.locked(|state, _| match &mut state.link {
            Link::Admitting(admitting) => {
                admitting.task = Some(cx.waker().clone());
                admitting.future.take()
            }
            _ => None,
        });
        let Some(mut future) = taken else {
            return Poll::Ready(());
        };
        let polled = future.as_mut().poll(cx);
        let mut future = Some(future);
        self.locked(|state, after| {
            let Link::Admitting(admitting) = &mut state.link else {
                return Poll::Ready(()); // closed meanwhile; the future is dropped outside the lock
            };
            match polled {
                Poll::Pending => {
                    admitting.future = future.take();
                    Poll::Pending
                }
                Poll::Ready(Ok((addresses, timeout))) => {
                    let plan = Plan {
                        timeout,
                        ..admitting.plan
                    };
                    state.link = plan.dial(addresses);
                    self.drive(state, after);
                    Poll::Ready(())
                }
                Poll::Ready(Err(refused)) => {
                    state.link = Link::Down;
                    state
                        .machine
                        .handle(Input::ConnectFailed(refused), Instant::now());
                    Poll::Ready(())
                }
            }
        })
    }

    // ----- events

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut registered = false;
        loop {
            enum Step {
                Done(Poll<Option<Event>>),
                Yield,
                Register,
            }
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
                    if state.events_in_run >= EVENTS_PER_RUN || state.bytes_in_run >= BYTES_PER_RUN
                    {
                        state.rest();
                        return Step::Yield;
                    }
                    if let Some(event) = self.read(state, after) {
                        return Step::Done(Poll::Ready(Some(event)));
                    }
                }
                if !registered {
                    return Step::Register;
                }
                state.rest();
                if let (Link::Up(stream), Reading::Deliver) = (&state.link, state.machine.reading())
                {
                    stream.arm_read();
                }
                Step::Done(Poll::Pending)
            });
            match step {
                Step::Done(polled) => return polled,
                Step::Yield => {
                    self.task.register(cx.waker());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Step::Register => {
                    // Outside the lock: it drops the waker that it replaces. Then look once more.
                    self.task.register(cx.waker());
                    registered = true;
                }
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
                let filled = self.readiness.read(|| tls::fill(session, stream));
                filled.map(|_| session.next_incoming())
            }
        };
        let outcome = match read {
            Ok(Incoming::Data(bytes)) => {
                after.read += bytes.len();
                state.events_in_run += 1;
                state.bytes_in_run += bytes.len();
                return Some(state.machine.received(bytes));
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

    fn drop_waker(&self) {
        drop(self.task.take());
    }
}

impl State {
    /// The task pauses: it may run for the full length again.
    fn rest(&mut self) {
        self.events_in_run = 0;
        self.bytes_in_run = 0;
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
        self.locked(|state, after| {
            state.machine.revoke(why);
            self.drive(state, after);
        });
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
        lock(&self.0.state).machine.ssl()
    }

    fn security(&self) -> Security {
        self.0.security()
    }

    fn buffered_amount(&self) -> u64 {
        lock(&self.0.state).machine.buffered_amount()
    }

    fn binary_type(&self) -> BinaryType {
        self.0.binary_type
    }

    fn ready_state(&self) -> ReadyState {
        lock(&self.0.state).machine.ready_state()
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        let inner = &*self.0;
        let len = data.len();
        let charged = inner.charge(len)?;
        let answer = inner.locked(|state, after| {
            let answer = state.machine.send(data)?;
            let parked = !state.machine.in_turn();
            let small = (state.machine.held_bytes() as u64) < tcpsocket::MARK;
            if state.writable && small && inner.shared.gathers(parked) {
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
            refund(meters.iter(), len);
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

    fn cancel_poll(&self) {
        self.0.drop_waker();
        self.0.locked(|state, _| state.machine.begin_turn());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let inner = &*self.0;
        inner.drop_waker();
        inner.locked(|state, after| {
            state.machine.abandon(Instant::now());
            inner.drive(state, after);
        });
    }
}

impl Inner {
    /// Asks the meters whether so much may be queued; all of them, or none. Returns those that were told.
    fn charge(&self, len: usize) -> Result<Meters, Error> {
        let meters = {
            let state = lock(&self.state);
            if state.meters.is_some() {
                state.machine.may_send()?;
            }
            state.meters.clone()
        };
        for (at, meter) in meters.iter().flat_map(|it| it.iter()).enumerate() {
            if let Err(refused) = meter.queue(len) {
                refund(meters.iter().flat_map(|it| it.iter()).take(at), len);
                return Err(refused);
            }
        }
        Ok(meters)
    }
}

/// What was charged will not be queued after all.
fn refund<'a>(meters: impl IntoIterator<Item = &'a Arc<dyn Meter>>, len: usize) {
    if len > 0 {
        for meter in meters {
            meter.moved(0, 0, len);
        }
    }
}
