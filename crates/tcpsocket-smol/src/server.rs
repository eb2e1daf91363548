//! A listening socket.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Async;
use atomic_waker::AtomicWaker;
use mio::Interest;
use socket2::SockRef;
use tcpsocket::{
    Control, Error, ErrorName, Gate, ListenRequest, Meter, ServerEvent, TcpServerSocket, TcpSocket,
    canonical_ip,
};
use tcpsocket_core::{Settings, listen_failed};

use crate::admission;
use crate::event_loop::Registered;
use crate::lock;
use crate::provider::{Reactor, Shared};
use crate::socket;
use crate::source::{Deadline, Hooks, Ready, Source};
use crate::sys::{self, Tuning};

/// The backlog where none is asked for (SRV-4).
const BACKLOG: u32 = 128;
/// The pause after `accept` failed for want of descriptors: at most ten calls a second (SRV-15).
const PAUSE: Duration = Duration::from_millis(100);
/// Peers about which gates are being asked at the same time. The others wait in the kernel's backlog.
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
    task: AtomicWaker,
    readable: AtomicBool,
    state: Mutex<State>,
}

struct State {
    listener: Option<Listener>,
    failed: Option<Error>,
    /// Peers that gates are being asked about. Empty while they are being polled.
    asked: Vec<Asked>,
    pause: Deadline,
    connections_in_run: u32,
}

struct Asked {
    peer: Peer,
    answer: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
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
    let mut bound = sys::bind(at, tuning);
    if let (None, Err(error)) = (options.address, &bound)
        && sys::no_such_family(error)
    {
        at.set_ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        admission::bind(&gates, at).await?;
        bound = sys::bind(at, tuning);
    }
    let failed = |error: io::Error| listen_failed(at, error);
    let bound = bound.map_err(failed)?;
    let port = bound
        .local_addr()
        .map_err(failed)?
        .as_socket()
        .map_or(0, |it| it.port());
    if request.port() == 0 {
        admission::bind(&gates, SocketAddr::new(at.ip(), port)).await?;
    }
    let backlog = request.backlog_wanted().unwrap_or(BACKLOG);
    bound
        .listen(i32::try_from(backlog).unwrap_or(i32::MAX))
        .map_err(failed)?;

    let settings = Settings::new(options.binary_type, false, options.linger);
    let inner = Arc::new_cyclic(|me: &Weak<Inner>| Inner {
        local_port: port,
        me: me.clone(),
        shared: shared.clone(),
        hooks: shared.hooks(me),
        _meters: gates.iter().map(|gate| gate.watch(me.clone())).collect(),
        gates,
        settings,
        tuning,
        task: AtomicWaker::new(),
        readable: AtomicBool::new(false),
        state: Mutex::new(State {
            listener: None,
            failed: None,
            asked: Vec::new(),
            pause: Deadline::None,
            connections_in_run: 0,
        }),
    });
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
    lock(&inner.state).listener = Some(listener);
    Ok(Arc::new(Handle(inner)))
}

impl Listener {
    /// The next connection. It does not block.
    fn accept(&self) -> io::Result<Peer> {
        #[cfg(test)]
        tests::ACCEPT_CALLS.fetch_add(1, SeqCst);
        let (stream, address) = match self {
            Listener::AsyncIo(it) => {
                let (stream, address) = it.get_ref().accept()?;
                stream.set_nonblocking(true)?;
                (stream, address)
            }
            Listener::Loop(it, _) => {
                let (stream, address) = it.accept()?;
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
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl Inner {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        if let Some(event) = self.poll_asked(cx) {
            return Poll::Ready(Some(event));
        }
        let mut registered = false;
        loop {
            match self.accept_one() {
                Accepted::Peer(peer) if self.gates.is_empty() => {
                    if let Some(event) = self.connected(peer) {
                        return Poll::Ready(Some(event));
                    }
                }
                Accepted::Peer(peer) => {
                    self.ask(peer);
                    if let Some(event) = self.poll_asked(cx) {
                        return Poll::Ready(Some(event));
                    }
                }
                Accepted::Skipped => {}
                Accepted::Failed(error) => return Poll::Ready(Some(ServerEvent::Error(error))),
                Accepted::Over => return Poll::Ready(None),
                Accepted::Enough => {
                    self.task.register(cx.waker());
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Accepted::Nothing if registered => return Poll::Pending,
                Accepted::Nothing => {
                    self.task.register(cx.waker());
                    registered = true;
                }
            }
        }
    }

    fn accept_one(&self) -> Accepted {
        let mut state = lock(&self.state);
        if let Some(error) = state.failed.take() {
            state.listener = None;
            return Accepted::Failed(error);
        }
        let State {
            listener,
            asked,
            pause,
            connections_in_run,
            ..
        } = &mut *state;
        let Some(accepting) = listener else {
            return Accepted::Over;
        };
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

    fn ask(&self, peer: Peer) {
        let canonical = |it: SocketAddr| SocketAddr::new(canonical_ip(it.ip()), it.port());
        let Ok(local) = peer.stream.local_addr() else {
            return peer.refuse();
        };
        let gates = self.gates.clone();
        let answer = admission::accept(gates, canonical(local), canonical(peer.address));
        let asked = Asked {
            peer,
            answer: Box::pin(answer),
        };
        lock(&self.state).asked.push(asked);
    }

    /// Polls the gates, without any lock.
    fn poll_asked(&self, cx: &mut Context<'_>) -> Option<ServerEvent> {
        let mut asked = std::mem::take(&mut lock(&self.state).asked);
        let mut event = None;
        let mut at = 0;
        while at < asked.len() && event.is_none() {
            match asked[at].answer.as_mut().poll(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(answer) => {
                    let Asked { peer, .. } = asked.remove(at);
                    match answer {
                        Ok(()) => event = self.connected(peer),
                        Err(_) => peer.refuse(),
                    }
                }
            }
        }
        let mut state = lock(&self.state);
        if state.listener.is_some() {
            asked.append(&mut state.asked);
            state.asked = asked;
            return event;
        }
        // Closed meanwhile: what was not handed out is reset (SRV-12), as `end` does with what it finds.
        drop(state);
        refuse_all(asked);
        if let Some(ServerEvent::Connect(socket)) = event {
            socket.abort(Some(Error::new(
                ErrorName::NetworkInterrupt,
                "the server was closed",
            )));
        }
        None
    }

    fn connected(&self, peer: Peer) -> Option<ServerEvent> {
        let Peer { stream, address } = peer;
        sys::tune_accepted(&stream, self.tuning).ok()?;
        let socket: io::Result<Arc<dyn TcpSocket>> =
            socket::accepted(&self.shared, stream, address, self.settings, &self.gates);
        socket.ok().map(ServerEvent::Connect)
    }

    fn end(&self, failed: Option<Error>) {
        let (listener, asked) = {
            let mut state = lock(&self.state);
            let listener = state.listener.take();
            if listener.is_some() {
                state.failed = failed;
            }
            state.pause = Deadline::None;
            (listener, std::mem::take(&mut state.asked))
        };
        drop(listener);
        refuse_all(asked);
        self.task.wake();
    }
}

/// Nobody wants to know any more whether these are admitted.
fn refuse_all(asked: Vec<Asked>) {
    for Asked { peer, answer } in asked {
        drop(answer);
        peer.refuse();
    }
}

enum Accepted {
    Peer(Peer),
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
            self.task.wake();
        }
    }

    fn deadline(&self) {
        lock(&self.state).pause = Deadline::None;
        self.task.wake();
    }

    fn flush(&self) {}
}

impl Control for Inner {
    fn abort(&self, why: Error) {
        self.end(Some(why));
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

    fn cancel_poll(&self) {
        drop(self.0.task.take());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.0.task.take());
        self.0.end(None);
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
