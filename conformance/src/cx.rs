//! The context of a case.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Display};
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use tcpsocket::{
    BinaryType, Bytes, Capabilities, ListenRequest, OpenRequest, ServerSocketOptions,
    SocketOptions, SocketProvider, TcpSocket,
};

use crate::pattern::pattern;
use crate::runner::emit;
use crate::server::Server;
use crate::socket::Socket;
use crate::sync::lock;
use crate::wait::{self, Bell, Count, PATIENCE};
use crate::{
    App, Capability, End, Failure, Outcome, Peer, Report, Restricted, Script, Step, Subject,
    TlsReport, Trust, World,
};

/// The context of one case: the provider under judgement, the world with its peers, and the log.
#[derive(Clone)]
pub struct Cx {
    inner: Arc<Inner>,
    /// The provider that this context uses: the one under judgement, or a guard around it.
    provider: Arc<dyn SocketProvider>,
}

struct Inner {
    subject: Arc<dyn Subject>,
    /// The provider under judgement.
    provider: Arc<dyn SocketProvider>,
    world: Arc<dyn World>,
    bell: Arc<Bell>,
    seed: u64,
    /// The longest pattern so far.
    bytes: Mutex<Bytes>,
    sockets: AtomicUsize,
    /// Kept between fences, so that a fence is a round trip and nothing else.
    fence: Mutex<Option<Socket>>,
}

impl Cx {
    pub(crate) fn new(
        subject: Arc<dyn Subject>,
        provider: Arc<dyn SocketProvider>,
        world: Arc<dyn World>,
        seed: u64,
    ) -> Cx {
        Cx {
            provider: provider.clone(),
            inner: Arc::new(Inner {
                subject,
                provider,
                world,
                bell: Arc::default(),
                seed,
                bytes: Mutex::default(),
                sockets: AtomicUsize::new(0),
                fence: Mutex::new(None),
            }),
        }
    }

    /// The provider under judgement, or the guard around it.
    pub fn provider(&self) -> &Arc<dyn SocketProvider> {
        &self.provider
    }

    /// The same context over another provider, a wrapper around the one under judgement.
    pub(crate) fn with(&self, provider: Arc<dyn SocketProvider>) -> Cx {
        Cx {
            inner: self.inner.clone(),
            provider,
        }
    }

    /// Whether the subject has guards.
    pub(crate) fn has_guards(&self) -> bool {
        let app = App::new(Trust::Privileged);
        let guard = self.inner.subject.restricted(self.provider.clone(), app);
        guard.is_some()
    }

    /// The subject's guard around this provider, for an app.
    pub(crate) fn restricted(&self, app: App) -> Result<Restricted, Failure> {
        self.log(format_args!("guard for {app:?}"));
        let guard = self.inner.subject.restricted(self.provider.clone(), app);
        guard.ok_or_else(|| Failure::new("the subject has guards, but made none"))
    }

    /// The world of its peers.
    pub fn world(&self) -> &Arc<dyn World> {
        &self.inner.world
    }

    /// The seed of this run.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    pub(crate) fn offers(&self) -> Capabilities {
        self.provider().capabilities()
    }

    pub(crate) fn declares(&self, it: Capability) -> bool {
        it.declared(&self.offers())
    }

    /// Adds a line to the log, which is printed when the case fails.
    pub fn log(&self, line: impl Display) {
        emit("log", &[&line]);
    }

    pub(crate) fn next_name(&self) -> String {
        let n = self.inner.sockets.fetch_add(1, Ordering::Relaxed);
        match u8::try_from(n) {
            Ok(n) if n < 26 => char::from(b'a' + n).to_string(),
            _ => format!("s{n}"),
        }
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.inner.bell
    }

    /// Bytes to send: the same for the same length and seed, and unlike their own shifts.
    pub(crate) fn bytes(&self, len: usize) -> Bytes {
        let mut made = lock(&self.inner.bytes);
        if made.len() < len {
            *made = pattern(self.inner.seed, len.next_power_of_two());
        }
        made.slice(..len)
    }

    /// Fails unless the two are equal.
    pub fn check<T: PartialEq + Debug>(&self, what: &str, actual: T, expected: T) -> Outcome {
        if actual == expected {
            return Ok(());
        }
        Err(Failure::compared(
            what,
            format!("{expected:?}"),
            format!("{actual:?}"),
        ))
    }

    pub(crate) fn check_that(&self, what: &str, holds: bool) -> Outcome {
        match holds {
            true => Ok(()),
            false => Err(Failure::compared(what, "true", "false")),
        }
    }

    /// Fails unless it is this error.
    pub(crate) fn check_error<T>(
        &self,
        what: &str,
        result: Result<T, tcpsocket::Error>,
        expected: &str,
    ) -> Outcome {
        let actual = match result {
            Ok(_) => "no error".to_owned(),
            Err(error) => error.name().to_string(),
        };
        self.log(format_args!("{what} -> {actual}"));
        self.check(what, actual.as_str(), expected)
    }

    /// Waits until it is true of the world or of the kit.
    pub(crate) async fn until(&self, what: &str, fact: impl FnMut() -> bool) -> Outcome {
        let world = &**self.world();
        match wait::until(world, self.bell(), PATIENCE, fact).await {
            true => Ok(()),
            false => Err(Failure::new(format!("waited in vain: {what}"))),
        }
    }

    /// Waits for a future, polled only when it is woken.
    pub(crate) async fn within<T>(
        &self,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        wait::within(&**self.world(), PATIENCE, future)
            .await
            .ok_or_else(|| Failure::new(format!("waited in vain: {what}")))
    }

    /// Waits until a counting waker is woken; that has no signal, so the clock drives the checks.
    pub(crate) async fn until_woken(&self, count: &Count) -> Outcome {
        let world = &**self.world();
        let end = world.now() + PATIENCE;
        while count.get() == 0 {
            if world.now() >= end {
                return Err(Failure::new("waited in vain: a waker is woken"));
            }
            wait::until(world, self.bell(), Duration::from_millis(1), || {
                count.get() > 0
            })
            .await;
        }
        Ok(())
    }

    /// Lets time pass on the world's clock: for clauses about time, never to wait for a fact.
    pub(crate) async fn passes(&self, time: Duration) {
        wait::until(&**self.world(), self.bell(), time, || false).await;
    }

    pub(crate) fn signal(&self, name: &'static str) {
        self.log(format_args!("signal {name}"));
        self.world().signal(name);
    }

    pub(crate) async fn signalled(&self, name: &'static str) -> Outcome {
        self.until(name, || self.world().signalled(name)).await
    }

    /// Starts a peer.
    pub(crate) fn peer(&self, script: Script) -> Result<Partner, Failure> {
        let peer = self.world().peer(script).map_err(Failure::new)?;
        Ok(Partner {
            cx: self.clone(),
            peer,
        })
    }

    /// Options without any capability.
    pub(crate) fn options(&self) -> SocketOptions {
        SocketOptions::new().binary_type(BinaryType::ArrayBuffer)
    }

    pub(crate) fn request(&self, to: &Partner) -> Result<OpenRequest, Failure> {
        let request = OpenRequest::new(to.host(), to.port())?;
        Ok(request.with_options(self.options()))
    }

    /// `open`, without waiting for anything.
    pub(crate) fn opening(&self, to: &Partner) -> Result<Socket, Failure> {
        self.open_with(self.request(to)?)
    }

    pub(crate) fn open_with(&self, request: OpenRequest) -> Result<Socket, Failure> {
        let opened = self.provider().open_with(request);
        self.log(format_args!(
            "open -> {}",
            opened
                .as_ref()
                .map_or_else(ToString::to_string, |_| "ok".to_owned())
        ));
        Ok(self.socket(opened?, false))
    }

    /// `open`, and the event `Open`.
    pub(crate) async fn open(&self, to: &Partner) -> Result<Socket, Failure> {
        let socket = self.opening(to)?;
        socket.expect("open").await?;
        Ok(socket)
    }

    /// A recorder around a socket. `born_open`: accepted.
    pub(crate) fn socket(&self, raw: Arc<dyn TcpSocket>, born_open: bool) -> Socket {
        Socket::new(self.clone(), raw, born_open)
    }

    /// Server options that need only the capability `listen`, and stay on the loopback.
    pub(crate) fn server_options(&self) -> ServerSocketOptions {
        ServerSocketOptions::new()
            .binary_type(BinaryType::ArrayBuffer)
            .address([127, 0, 0, 1])
    }

    pub(crate) fn listen_request(&self) -> Result<ListenRequest, Failure> {
        Ok(ListenRequest::new(0)?.with_options(self.server_options()))
    }

    /// `listen` on an automatic port of 127.0.0.1.
    pub(crate) async fn listen(&self) -> Result<Server, Failure> {
        self.listen_with(self.listen_request()?).await
    }

    pub(crate) async fn listen_with(&self, request: ListenRequest) -> Result<Server, Failure> {
        let at = request.options().address;
        let listening = self.provider().listen_with(request);
        let raw = self.within("listen", listening).await??;
        self.log(format_args!("listen -> ok"));
        let at = at.unwrap_or(IpAddr::from([127, 0, 0, 1]));
        Ok(Server::new(self.clone(), raw, at))
    }

    /// A full round trip on another connection: everything that was about to happen has happened by then.
    pub(crate) async fn fence(&self) -> Outcome {
        let kept = lock(&self.inner.fence).take();
        let socket = match kept {
            Some(socket) => socket,
            None => {
                let echo = self.peer(Script::listen([Step::Accept, Step::Echo]))?;
                let raw = self.inner.provider.open_with(self.request(&echo)?)?;
                let socket = Socket::unlogged(self.clone(), raw);
                socket.expect("open").await?;
                socket
            }
        };
        socket.send(Bytes::from_static(b"!"))?;
        socket.expect("data 1").await?;
        *lock(&self.inner.fence) = Some(socket);
        Ok(())
    }

    /// Runs a future on a thread of its own, without a runtime: it may wait only for wakers.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Running<T> {
        let done = Arc::new(Mutex::new(None));
        let (slot, bell) = (done.clone(), self.bell().clone());
        thread::spawn(move || {
            let output = block_on(future);
            *lock(&slot) = Some(output);
            bell.ring();
        });
        Running {
            cx: self.clone(),
            done,
        }
    }

    /// Runs a future on a thread of its own, like [`thread`](Cx::thread), and reports when it waits.
    pub(crate) fn waiter<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Waiter<T> {
        let parked = Arc::new(AtomicBool::new(false));
        let (flag, bell) = (parked.clone(), self.bell().clone());
        let running = self.thread(async move {
            let mut future = pin!(future);
            poll_fn(|context| {
                let polled = future.as_mut().poll(context);
                if polled.is_pending() && !flag.swap(true, Ordering::SeqCst) {
                    bell.ring();
                }
                polled
            })
            .await
        });
        Waiter { running, parked }
    }

    /// Releases the kit's own handles.
    pub(crate) fn finish(&self) {
        drop(lock(&self.inner.fence).take());
    }
}

impl Debug for Cx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cx")
            .field("provider", &self.provider)
            .field("seed", &self.inner.seed)
            .finish_non_exhaustive()
    }
}

/// Runs a future on this thread, which sleeps while it is pending.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Unpark>) {
            self.0.unpark();
        }
    }

    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        thread::park();
    }
}

/// A thread of [`Cx::thread`].
pub(crate) struct Running<T> {
    cx: Cx,
    done: Arc<Mutex<Option<T>>>,
}

impl<T: Send> Running<T> {
    /// Waits for its output.
    pub(crate) async fn join(self) -> Result<T, Failure> {
        let done = &self.done;
        self.cx
            .until("a thread ends", || lock(done).is_some())
            .await?;
        let output = lock(done).take();
        output.ok_or_else(|| Failure::new("a thread has no output"))
    }
}

/// A thread of [`Cx::waiter`].
pub(crate) struct Waiter<T> {
    running: Running<T>,
    parked: Arc<AtomicBool>,
}

impl<T: Send> Waiter<T> {
    /// Waits until its first poll has returned `Pending`.
    pub(crate) async fn is_parked(&self) -> Outcome {
        let parked = || self.parked.load(Ordering::SeqCst);
        self.running.cx.until("a thread waits", parked).await
    }

    /// Waits for its output.
    pub(crate) async fn join(self) -> Result<T, Failure> {
        self.running.join().await
    }
}

/// A peer, from the case's view.
#[derive(Clone, Debug)]
pub(crate) struct Partner {
    cx: Cx,
    peer: Arc<dyn Peer>,
}

impl Partner {
    pub(crate) fn host(&self) -> String {
        self.peer.address().ip().to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.peer.address().port()
    }

    pub(crate) fn report(&self) -> Report {
        self.peer.report()
    }

    pub(crate) fn received(&self) -> Vec<u8> {
        self.peer.received()
    }

    /// The bytes that have arrived since TLS began there, as on the wire.
    pub(crate) fn wire(&self) -> Vec<u8> {
        self.peer.wire()
    }

    /// Its view of TLS.
    pub(crate) fn tls(&self) -> TlsReport {
        self.report().tls.unwrap_or_default()
    }

    /// Waits until its report says so.
    pub(crate) async fn until(&self, what: &str, fact: impl Fn(&Report) -> bool) -> Outcome {
        let fact = || fact(&self.report());
        self.cx.until(what, fact).await.map_err(|it| {
            let report = format!("{:?}", self.report());
            Failure::compared(format!("a peer: {}", it.what), what, report)
        })
    }

    /// Waits until all steps are done.
    pub(crate) async fn done(&self) -> Outcome {
        self.until("the script is done", |it| it.done).await
    }

    /// Waits for this end of the stream, after exactly these bytes.
    pub(crate) async fn gets(&self, bytes: &[u8], end: End) -> Outcome {
        self.ends(end).await?;
        same_bytes("what the peer received", &self.peer.received(), bytes)
    }

    /// Waits for these bytes, the first ones received.
    pub(crate) async fn begins(&self, bytes: &[u8]) -> Outcome {
        self.until("the bytes arrive", |it| it.received >= bytes.len())
            .await?;
        let received = self.peer.received();
        same_bytes("what the peer received", &received, bytes)
    }

    /// Waits for this end of the stream.
    pub(crate) async fn ends(&self, end: End) -> Outcome {
        self.until("the stream ends", |it| it.end.is_some()).await?;
        let what = "how the stream ended at the peer";
        self.cx.check(what, self.report().end, Some(end))
    }
}

/// Compares bytes without printing megabytes of them.
pub(crate) fn same_bytes(what: &str, actual: &[u8], expected: &[u8]) -> Outcome {
    if actual == expected {
        return Ok(());
    }
    let same = actual.iter().zip(expected).take_while(|(a, b)| a == b);
    let at = same.count();
    let show = |it: &[u8]| {
        let next: VecDeque<_> = it[at..].iter().take(8).collect();
        format!("{} bytes, from byte {at} on {next:?}", it.len())
    };
    Err(Failure::compared(what, show(expected), show(actual)))
}

/// A short time limit: much longer than a round trip, much shorter than a case.
pub(crate) const SHORT: Duration = Duration::from_millis(60);

/// More bytes than any kernel takes while the peer does not read.
pub(crate) const STUCK: usize = 16 << 20;
