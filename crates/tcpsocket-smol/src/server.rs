//! A listening socket.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Async;
use mio::Interest;
use parking_lot::Mutex;
use tcpsocket::{
    Control, Error, ErrorName, Gate, ListenRequest, Meter, ServerEvent, TcpServerSocket, TcpSocket,
    canonical_address, canonical_ip,
};
use tcpsocket_core::{Settings, listen_failed};

use crate::admission::{self, Asking};
use crate::event_loop::Registered;
use crate::foreign;
use crate::provider::{Reactor, Shared};
use crate::socket;
use crate::source::{Deadline, Hooks, Ready, Source};
use crate::sys::{self, Tuning};

/// The backlog where none is asked for (SRV-4).
const BACKLOG: u32 = 128;
/// The pause after `accept` failed for want of descriptors: at most ten calls a second (SRV-15).
const PAUSE: Duration = Duration::from_millis(100);
/// Peers about which gates are being asked, or that wait to be taken, at the same time. The others wait in the kernel's backlog.
const ASKED_AT_ONCE: usize = 64;
/// After so many connections without a pause, a poll yields to the other tasks of its thread.
const CONNECTIONS_PER_RUN: u32 = 64;

struct Handle(Arc<Inner>);

struct Inner {
    local_port: u16,
    me: Weak<Inner>,
    shared: Arc<Shared>,
    hooks: Option<Hooks>,
    gates: Arc<[Arc<dyn Gate>]>,
    /// Held for their drop: the last report.
    _meters: Box<[Arc<dyn Meter>]>,
    settings: Settings,
    tuning: Tuning,
    readable: AtomicBool,
    state: Mutex<State>,
}

struct State {
    listener: Option<Listener>,
    failed: Option<Error>,
    /// The waiting task's.
    task: Option<Waker>,
    /// Peers that gates are being asked about.
    asked: Vec<Arc<Asked>>,
    /// Peers that gates have admitted behind a poll.
    admitted: VecDeque<Peer>,
    pause: Deadline,
    connections_in_run: u32,
}

/// A peer that a gate has not decided about at once.
struct Asked {
    /// `None` once it is decided, or nobody wants to know.
    peer: Mutex<Option<Peer>>,
    answer: Asking<()>,
}

struct Peer {
    stream: TcpStream,
    address: SocketAddr,
}

enum Listener {
    AsyncIo(Async<TcpListener>),
    Loop(mio::net::TcpListener, Registered),
}

/// Binds and listens, asking the gates before each (GATE-9).
pub(crate) async fn listen(
    shared: &Arc<Shared>,
    request: ListenRequest,
) -> Result<Arc<dyn TcpServerSocket>, Error> {
    let options = request.options();
    let tuning = Tuning {
        no_delay: options.no_delay,
        keep_alive: options.keep_alive,
    };
    let gates: Arc<[Arc<dyn Gate>]> = request.gates().into();
    let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let at = SocketAddr::new(
        canonical_ip(options.address.unwrap_or(everywhere)),
        request.port(),
    );

    admission::bind(&gates, at).await?;
    let mut at = at;
    let mut tried = at.to_string();
    let mut bound = sys::bind(at, tuning);
    if let (None, Err(error)) = (options.address, &bound)
        && sys::no_such_family(error)
    {
        at.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        tried = format!("{at}, nor at {tried} ({error})");
        admission::bind(&gates, at).await?;
        bound = sys::bind(at, tuning);
    }
    let failed = |error: io::Error| listen_failed(&tried, error);
    let bound = bound.map_err(failed)?;
    let port = bound
        .local_addr()
        .map_err(failed)?
        .as_socket()
        .map_or(0, |it| it.port());
    if request.port() == 0 {
        admission::bind(&gates, SocketAddr::new(at.ip(), port)).await?;
    }
    let settings = Settings::new(options.binary_type, false, options.linger);
    let mut watched = Ok(Vec::new());
    let inner = Arc::new_cyclic(|me: &Weak<Inner>| {
        let control: Weak<dyn Control> = me.clone();
        watched = admission::watch(&gates, &control);
        let meters = watched.as_mut().map(std::mem::take).unwrap_or_default();
        Inner {
            local_port: port,
            me: me.clone(),
            shared: shared.clone(),
            hooks: shared.hooks(me),
            _meters: meters.into(),
            gates,
            settings,
            tuning,
            readable: AtomicBool::new(false),
            state: Mutex::new(State {
                listener: None,
                failed: None,
                task: None,
                asked: Vec::new(),
                admitted: VecDeque::new(),
                pause: Deadline::None,
                connections_in_run: 0,
            }),
        }
    });
    watched?;
    let backlog = request.backlog_wanted().unwrap_or(BACKLOG);
    bound
        .listen(i32::try_from(backlog).unwrap_or(i32::MAX))
        .map_err(failed)?;
    let listener = match &shared.reactor {
        Reactor::AsyncIo => {
            Listener::AsyncIo(Async::new_nonblocking(bound.into()).map_err(failed)?)
        }
        Reactor::Loop(core) => {
            let mut listener = mio::net::TcpListener::from_std(bound.into());
            let registered = core
                .register(&mut listener, Interest::READABLE, inner.me.clone())
                .map_err(failed)?;
            Listener::Loop(listener, registered)
        }
    };
    inner.state.lock().listener = Some(listener);
    Ok(Arc::new(Handle(inner)))
}

impl Listener {
    /// The next connection. It does not block.
    fn accept(&self) -> io::Result<Peer> {
        #[cfg(test)]
        tests::ACCEPT_CALLS.fetch_add(1, SeqCst);
        let (stream, address) = match self {
            Listener::AsyncIo(listener) => {
                let (stream, address) = listener.get_ref().accept()?;
                stream.set_nonblocking(true)?;
                (stream, address)
            }
            Listener::Loop(listener, _) => {
                let (stream, address) = listener.accept()?;
                (stream.into(), address)
            }
        };
        Ok(Peer { stream, address })
    }

    fn arm(&self, hooks: Option<&Hooks>) {
        if let (Listener::AsyncIo(it), Some(hooks)) = (self, hooks) {
            let mut cx = Context::from_waker(&hooks.read);
            while it.poll_readable(&mut cx).is_ready() {}
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Loop(it, registered) = self {
            registered.deregister(it);
        }
    }
}

impl Peer {
    /// Not a byte, and a reset (GATE-8).
    fn refuse(self) {
        sys::reset_on_close(&self.stream);
    }
}

impl Inner {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let mut registered = false;
        loop {
            let admitted = match self.accept_one() {
                Accepted::Admitted(peer) => Some(peer),
                Accepted::Peer(peer) if self.gates.is_empty() => Some(peer),
                Accepted::Peer(peer) => self.ask(peer),
                Accepted::Skipped => None,
                Accepted::Failed(error) => return Poll::Ready(Some(ServerEvent::Error(error))),
                Accepted::Over => return Poll::Ready(None),
                Accepted::Enough => {
                    drop(self.state.lock().task.take());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Accepted::Nothing if registered => return Poll::Pending,
                Accepted::Nothing => {
                    self.register(cx);
                    registered = true;
                    None
                }
            };
            let Some(socket) = admitted.and_then(|peer| self.connected(peer)) else {
                continue;
            };
            if self.state.lock().listener.is_some() {
                return Poll::Ready(Some(ServerEvent::Connect(socket)));
            }
            // Closed meanwhile, perhaps by a gate: what was not handed out is reset (SRV-12).
            socket.abort(Some(Error::new(
                ErrorName::NetworkInterrupt,
                "the server was closed",
            )));
        }
    }

    /// Wakers are cloned, dropped and woken outside the lock: they are foreign code.
    fn register(&self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let former = self.state.lock().task.replace(waker);
        drop(former);
    }

    fn wake(&self) {
        let task = self.state.lock().task.take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Of this task, if one is named; who else waits goes on (EVT-16).
    fn forget_wait(&self, of: Option<&Waker>) {
        let theirs = |kept: &mut Waker| of.is_none_or(|waker| kept.will_wake(waker));
        let task = self.state.lock().task.take_if(theirs);
        drop(task);
    }

    fn accept_one(&self) -> Accepted {
        let mut state = self.state.lock();
        if let Some(error) = state.failed.take() {
            state.listener = None;
            return Accepted::Failed(error);
        }
        let State {
            listener,
            asked,
            admitted,
            pause,
            connections_in_run,
            ..
        } = &mut *state;
        let Some(accepting) = listener else {
            return Accepted::Over;
        };
        if let Some(peer) = admitted.pop_front() {
            return Accepted::Admitted(peer);
        }
        let full = asked.len() >= ASKED_AT_ONCE;
        if full || pause.at().is_some() {
            *connections_in_run = 0;
            return Accepted::Nothing;
        }
        if !self.readable.swap(false, SeqCst) {
            *connections_in_run = 0;
            accepting.arm(self.hooks.as_ref());
            return Accepted::Nothing;
        }
        if *connections_in_run >= CONNECTIONS_PER_RUN {
            *connections_in_run = 0;
            self.readable.store(true, SeqCst);
            return Accepted::Enough;
        }
        match accepting.accept() {
            Ok(peer) => {
                *connections_in_run += 1;
                self.readable.store(true, SeqCst);
                Accepted::Peer(peer)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Skipped,
            Err(error) if sys::out_of_descriptors(&error) => {
                self.readable.store(true, SeqCst);
                let until = Instant::now() + PAUSE;
                let source = || -> Weak<dyn Source> { self.me.clone() };
                let armed = self.shared.arm(until, self.hooks.as_ref(), source);
                *pause = armed.unwrap_or_default();
                Accepted::Skipped
            }
            Err(error) if sys::listener_is_dead(&error) => {
                *listener = None;
                Accepted::Failed(listen_failed(self.local_port, error))
            }
            // The peer went away while it waited, or the network below it did.
            Err(_) => {
                *connections_in_run += 1;
                self.readable.store(true, SeqCst);
                Accepted::Skipped
            }
        }
    }

    /// Asks the gates about a peer; returns it if they admit it at once. A gate that waits is polled by a task from here on, so that one
    /// which blocks holds up no loop.
    fn ask(&self, peer: Peer) -> Option<Peer> {
        let Ok(local) = peer.stream.local_addr() else {
            peer.refuse();
            return None;
        };
        let gates = self.gates.clone();
        let (local, address) = (canonical_address(local), canonical_address(peer.address));
        let answer = admission::accept(gates, local, address);
        let asked = Arc::new(Asked {
            peer: Mutex::new(Some(peer)),
            answer: Asking::new(Box::pin(answer)),
        });
        let first = asked.answer.poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(answer) = first {
            return asked.decided(answer);
        }
        let mut state = self.state.lock();
        if state.listener.is_none() {
            drop(state);
            asked.give_up(); // closed by the gate, or meanwhile
            return None;
        }
        state.asked.push(asked.clone());
        drop(state);
        if let Some(server) = self.me.upgrade() {
            self.shared.spawn(Box::pin(Admit { server, asked }));
        }
        None
    }

    /// A gate has answered behind a poll.
    fn answered(&self, asked: &Arc<Asked>, answer: Option<Result<(), Error>>) {
        let peer = asked.decided(answer);
        let (task, late) = {
            let mut state = self.state.lock();
            state.asked.retain(|other| !Arc::ptr_eq(other, asked));
            let late = match state.listener {
                Some(_) => {
                    state.admitted.extend(peer);
                    None
                }
                None => peer,
            };
            (state.task.take(), late)
        };
        if let Some(peer) = late {
            peer.refuse(); // the server was closed meanwhile (SRV-12)
        }
        if let Some(task) = task {
            task.wake();
        }
    }

    fn connected(&self, peer: Peer) -> Option<Arc<dyn TcpSocket>> {
        let Peer { stream, address } = peer;
        sys::tune_accepted(&stream, self.tuning).ok()?;
        socket::accepted(&self.shared, stream, address, self.settings, &self.gates).ok()
    }

    fn end(&self, failed: Option<Error>) {
        let (listener, asked, admitted, task, untold) = {
            let mut state = self.state.lock();
            let listener = state.listener.take();
            // Of several ends the first is told, and after a close none (SRV-21).
            let untold = match (&listener, failed) {
                (Some(_), failed) => std::mem::replace(&mut state.failed, failed),
                (None, None) => state.failed.take(),
                (None, late) => late,
            };
            state.pause = Deadline::None;
            (
                listener,
                std::mem::take(&mut state.asked),
                std::mem::take(&mut state.admitted),
                state.task.take(),
                untold,
            )
        };
        drop((listener, untold));
        for peer in admitted {
            peer.refuse();
        }
        for asked in asked {
            asked.give_up();
        }
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Asked {
    /// The peer, if it was admitted and somebody wants it; one that was not is reset (GATE-8).
    fn decided(&self, answer: Option<Result<(), Error>>) -> Option<Peer> {
        let peer = self.peer.lock().take()?;
        if let Some(Ok(())) = answer {
            return Some(peer);
        }
        peer.refuse();
        None
    }

    /// Nobody wants to know any more whether it is admitted.
    fn give_up(&self) {
        self.answer.give_up();
        self.decided(None);
    }
}

/// The task that has the gates asked about a peer.
struct Admit {
    server: Arc<Inner>,
    asked: Arc<Asked>,
}

impl Future for Admit {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Poll::Ready(answer) = self.asked.answer.poll(cx) else {
            return Poll::Pending;
        };
        self.server.answered(&self.asked, answer);
        Poll::Ready(())
    }
}

impl Drop for Admit {
    /// An executor that drops its tasks refuses their peers.
    fn drop(&mut self) {
        if self.asked.peer.lock().is_some() {
            self.asked.answer.give_up();
            foreign::contain(|| self.server.answered(&self.asked, None));
        }
    }
}

enum Accepted {
    Peer(Peer),
    /// One that gates have admitted since.
    Admitted(Peer),
    /// Something was done; look again.
    Skipped,
    Nothing,
    /// Let others run.
    Enough,
    Failed(Error),
    Over,
}

impl Source for Inner {
    fn ready(&self, ready: Ready) {
        if ready.readable || ready.read_closed {
            self.readable.store(true, SeqCst);
            self.wake();
        }
    }

    fn deadline(&self) {
        self.state.lock().pause = Deadline::None;
        self.wake();
    }

    fn flush(&self) {}
}

impl Control for Inner {
    fn abort(&self, why: Error) {
        foreign::contain(|| self.end(Some(why)));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmolServerSocket")
            .field("local_port", &self.0.local_port)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpServerSocket for Handle {
    fn local_port(&self) -> u16 {
        self.0.local_port
    }

    fn close(&self) {
        self.0.end(None);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.0.poll_event(cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.0.forget_wait(Some(waker));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.forget_wait(None);
        // A drop may be a part of unwinding, where a second panic would end the process.
        foreign::contain(|| self.0.end(None));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::process::{Command, Stdio};
    use std::sync::atomic::AtomicU64;

    use futures_lite::future;
    use tcpsocket::{
        ServerSocketOptions, SocketProvider, SocketProviderExt, TcpServerSocketExt, TcpSocketExt,
    };

    use super::*;
    use crate::{Loop, Smol};

    pub(super) static ACCEPT_CALLS: AtomicU64 = AtomicU64::new(0);

    /// Which way the child runs; the parent sets it.
    const CHILD: &str = "TCPSOCKET_EMFILE_CHILD";
    const PEERS: usize = 40;
    const DESCRIPTORS: usize = 32;

    /// Descriptors run out in a child whose limit is low: no error, few accept calls, and every queued peer comes once
    /// there are descriptors again (SRV-15, SRV-18).
    #[test]
    fn running_out_of_descriptors_passes() {
        for way in ["loop", "async-io"] {
            let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
            let mut child = Command::new("sh")
                .args(["-c", &script])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "server::tests::child", "--nocapture", "--quiet"])
                .env(CHILD, way)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            let port = output
                .by_ref()
                .map(Result::unwrap)
                .find_map(|line| {
                    line.strip_prefix("port ")
                        .map(|it| it.parse::<u16>().unwrap())
                })
                .unwrap();
            let mut peers: Vec<_> = (0..PEERS)
                .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
                .collect();
            for (peer, number) in peers.iter_mut().zip(0u8..) {
                peer.write_all(&[number]).unwrap();
            }
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
            // Each is closed when it was served: that is what frees the server's descriptors.
            for (mut peer, number) in peers.into_iter().zip(0u8..) {
                peer.set_read_timeout(Some(Duration::from_secs(30)))
                    .unwrap();
                let mut echoed = [0];
                peer.read_exact(&mut echoed).unwrap();
                assert_eq!(echoed, [number]);
            }
            let rest: Vec<String> = output.map(Result::unwrap).collect();
            assert!(child.wait().unwrap().success(), "{way}: {rest:?}");
        }
    }

    /// No test of its own: the body of the child.
    #[test]
    fn child() {
        match std::env::var(CHILD).as_deref() {
            Ok("loop") => {
                let event_loop = Loop::new().unwrap();
                event_loop.block_on(run_out(Smol::on(&event_loop)));
            }
            Ok(_) => smol::block_on(run_out(Smol::new())),
            Err(_) => {}
        }
    }

    async fn run_out(net: Smol) {
        let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = net.listen(0, options, PEERS as i64).await.unwrap();
        println!("\nport {}", server.local_port());
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).unwrap();

        let mut held = Vec::new();
        let mut served = 0;
        while served < PEERS {
            let before = (Instant::now(), ACCEPT_CALLS.load(SeqCst));
            let next = async { Some(server.next_event().await) };
            // Long enough to tell ten calls a second from a busy loop.
            let late = async {
                smol::Timer::after(Duration::from_millis(600)).await;
                None
            };
            match future::or(next, late).await {
                Some(Some(ServerEvent::Connect(socket))) => held.push(socket),
                Some(other) => panic!("{other:?}"),
                None => {
                    // All descriptors are in use. Serve the peers, which frees them.
                    let calls = ACCEPT_CALLS.load(SeqCst) - before.1;
                    let seconds = before.0.elapsed().as_secs_f64();
                    assert!(
                        calls >= 1 && (calls as f64) < 20.0 * seconds,
                        "{calls} in {seconds} s"
                    );
                    assert!(held.len() >= 4);
                    served += serve(&mut held).await;
                }
            }
            if served + held.len() == PEERS {
                served += serve(&mut held).await;
            }
        }
        net.idle().await;
    }

    async fn serve(held: &mut Vec<Arc<dyn TcpSocket>>) -> usize {
        let count = held.len();
        for socket in held.drain(..) {
            match socket.next_event().await {
                Some(tcpsocket::Event::Data(data)) => {
                    socket.send(data.into_bytes()).unwrap();
                    socket.close();
                }
                other => panic!("{other:?}"),
            }
        }
        count
    }
}
