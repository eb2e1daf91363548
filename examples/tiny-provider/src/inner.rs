//! The inside of a socket: what a driver owes the machine.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use mio::Token;
use mio::net::TcpStream;
use socket2::SockRef;
use tcpsocket::{Bytes, Error, Event};
use tcpsocket_core::{Connector, Input, Machine, Reading, Release, connect_failed, stream_failed};

use crate::driver::{Driver, Source, Watched};
use crate::lock;
use crate::terms::Terms;

/// One socket.
pub(crate) struct Inner {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) terms: Terms,
    driver: Arc<Driver>,
    token: Token,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) machine: Machine,
    link: Link,
    /// Who waits for an event.
    pub(crate) task: Option<Waker>,
    /// There was more to do than one pass does.
    again: Option<Instant>,
    events_in_a_row: u32,
}

pub(crate) enum Link {
    Dialing(Connector, Option<Watched<TcpStream>>),
    Up(Watched<TcpStream>),
    Down,
}

/// Steps of one pass, so that no socket keeps the thread for long.
const STEPS: usize = 64;
/// The most that one read takes.
const CHUNK: usize = 16 * 1024;
/// After so many data events without a pause, other tasks of the caller's thread get their turn.
const EVENTS_IN_A_ROW: u32 = 64;

impl Inner {
    pub(crate) fn new(
        driver: &Arc<Driver>,
        token: Token,
        (host, port): (String, u16),
        terms: Terms,
        machine: Machine,
        link: Link,
    ) -> Arc<Inner> {
        let inner = Arc::new(Inner {
            host,
            port,
            terms,
            driver: driver.clone(),
            token,
            state: Mutex::new(State {
                machine,
                link,
                task: None,
                again: None,
                events_in_a_row: 0,
            }),
        });
        driver.adopt(token, inner.clone());
        inner
    }

    /// One critical section, and then what must not be done inside it.
    pub(crate) fn locked<T>(&self, body: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let (deadline, busy) = (state.deadline(), state.machine.is_busy());
        let value = body(&mut state);
        let another = state.deadline() != deadline;
        let settled = busy && !state.machine.is_busy();
        let due = state.machine.event_due() || state.machine.holds_error();
        let task = if due { state.parked() } else { None };
        let spent = state.machine.take_spent();
        drop(state);
        if another {
            self.driver.ring();
        }
        if settled {
            self.driver.settled();
        }
        if let Some(task) = task {
            task.wake();
        }
        drop(spent); // the owner of payload may call this socket
        value
    }

    /// Does what can be done without waiting, and tells the machine of it.
    pub(crate) fn drive(&self, state: &mut State) {
        state.again = None;
        for _ in 0..STEPS {
            match self.step(state) {
                Some(input) => state.machine.handle(input, Instant::now()),
                None => {
                    if let Link::Down = state.link {
                        self.driver.forget(self.token);
                    }
                    return;
                }
            }
        }
        state.again = Some(Instant::now());
    }

    /// The next thing that the machine wants, if the kernel does it now.
    fn step(&self, state: &mut State) -> Option<Input> {
        let State { machine, link, .. } = state;
        let now = Instant::now();
        if let Some(how) = machine.wants_release() {
            if let (Link::Up(stream), Release::Reset) = (&*link, how) {
                // Without lingering, the descriptor's close is a reset.
                let _ = SockRef::from(&stream.io).set_linger(Some(Duration::ZERO));
            }
            *link = Link::Down;
            return Some(Input::Released);
        }
        if machine.next_deadline().is_some_and(|at| at <= now) {
            return Some(Input::Timer);
        }
        match link {
            Link::Dialing(connector, attempt) => match self.dial(connector, attempt, now)? {
                Ok(stream) => {
                    *link = Link::Up(stream);
                    Some(Input::Connected)
                }
                Err(error) => {
                    *link = Link::Down;
                    Some(Input::ConnectFailed(error))
                }
            },
            Link::Up(stream) => transfer(machine, &mut stream.io),
            Link::Down => None,
        }
    }

    /// One connection, or the reason why there is none, or `None` while that is open.
    fn dial(
        &self,
        connector: &mut Connector,
        attempt: &mut Option<Watched<TcpStream>>,
        now: Instant,
    ) -> Option<Result<Watched<TcpStream>, Error>> {
        let failed = |error| connect_failed(format_args!("{}:{}", self.host, self.port), error);
        if let Some(stream) = attempt.take() {
            match is_connected(&stream.io) {
                Ok(true) => return Some(Ok(stream)),
                Ok(false) => *attempt = Some(stream),
                Err(error) => connector.failed(failed(error), now),
            }
        }
        if let Some(to) = connector.next_dial(now) {
            match self.start(to) {
                Ok(stream) => *attempt = Some(stream),
                Err(error) => connector.failed(failed(error), now),
            }
        }
        connector.verdict(now).map(Err)
    }

    fn start(&self, to: SocketAddr) -> io::Result<Watched<TcpStream>> {
        let stream = TcpStream::connect(to)?;
        self.terms.apply(&stream)?;
        Watched::new(&self.driver, self.token, stream)
    }

    pub(crate) fn poll_event(&self, waker: Waker) -> Poll<Option<Event>> {
        let mut waker = Some(waker);
        let mut rests = false;
        let polled = self.locked(|state| {
            if state.machine.is_over() {
                return Poll::Ready(None);
            }
            state.machine.end_turn();
            loop {
                self.drive(state);
                // Events before data. Asking may also start the socket's own end of output: work, and ask again.
                while state.machine.event_due() {
                    let event = state.machine.take_event();
                    self.drive(state);
                    if event.is_some() {
                        return Poll::Ready(event);
                    }
                }
                if state.machine.reading() != Reading::Deliver {
                    break;
                }
                if state.events_in_a_row >= EVENTS_IN_A_ROW {
                    state.events_in_a_row = 0;
                    rests = true;
                    return Poll::Pending;
                }
                match state.read() {
                    Ok(data) => return Poll::Ready(Some(data)),
                    Err(input) => {
                        let dry = matches!(input, Input::ReadDry);
                        state.machine.handle(input, Instant::now());
                        if dry && !state.machine.event_due() {
                            break;
                        }
                    }
                }
            }
            std::mem::swap(&mut state.task, &mut waker);
            Poll::Pending
        });
        match waker {
            Some(waker) if rests => waker.wake(),
            replaced => drop(replaced), // not under the lock
        }
        polled
    }
}

/// The first thing that is due on a connection, and what came of it.
fn transfer(machine: &Machine, stream: &mut TcpStream) -> Option<Input> {
    if machine.writable_bytes() > 0 {
        let mut slices = [IoSlice::new(&[]); 16];
        let (filled, _) = machine.gather(usize::MAX, &mut slices);
        match stream.write_vectored(&slices[..filled]) {
            Ok(count) => return Some(Input::Wrote(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Some(Input::WriteFailed(stream_failed(error))),
        }
    }
    if machine.wants_shutdown() {
        return Some(match stream.shutdown(Shutdown::Write) {
            Ok(()) => Input::ShutDown,
            Err(error) => Input::ShutDownFailed(stream_failed(error)),
        });
    }
    if machine.reading() == Reading::Discard {
        return match stream.read(&mut [0; CHUNK]) {
            Ok(0) => Some(Input::Ended { clean: true }),
            Ok(count) => Some(Input::Discarded(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => Some(Input::ReadFailed(stream_failed(error))),
        };
    }
    None
}

fn is_connected(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // The system chose the port that it dials for the socket itself.
        Ok(peer) if peer == stream.local_addr()? => Err(ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

impl State {
    /// Reads once: an event, or what to tell the machine.
    fn read(&mut self) -> Result<Event, Input> {
        let Link::Up(stream) = &mut self.link else {
            return Err(Input::ReadDry);
        };
        let mut chunk = [0; CHUNK];
        match stream.io.read(&mut chunk) {
            Ok(0) => Err(Input::Ended { clean: true }),
            Ok(count) => {
                self.events_in_a_row += 1;
                let data = Bytes::copy_from_slice(&chunk[..count]);
                self.machine.received(data).ok_or(Input::ReadDry)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.events_in_a_row = 0;
                Err(Input::ReadDry)
            }
            Err(error) => Err(Input::ReadFailed(stream_failed(error))),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let dialing = match &self.link {
            Link::Dialing(connector, _) => Some(connector.next_deadline()),
            _ => None,
        };
        let all = [self.again, self.machine.next_deadline(), dialing];
        all.into_iter().flatten().min()
    }

    /// The task that waits, for being woken.
    pub(crate) fn parked(&mut self) -> Option<Waker> {
        match self.machine.in_turn() {
            true => None,
            false => self.task.take(),
        }
    }
}

impl Source for Inner {
    fn stir(&self) {
        let task = self.locked(|state| {
            self.drive(state);
            // There may be something to read. Whoever polls finds out.
            match state.machine.reading() {
                Reading::Deliver => state.parked(),
                _ => None,
            }
        });
        if let Some(task) = task {
            task.wake();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        lock(&self.state).deadline()
    }

    fn is_busy(&self) -> bool {
        lock(&self.state).machine.is_busy()
    }
}
