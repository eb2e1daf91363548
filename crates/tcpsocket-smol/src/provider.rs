//! The provider: what its sockets share.

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, MARK, OpenRequest, SocketProvider,
    TcpServerSocket, TcpSocket,
};
use tcpsocket_tls::Client;

use crate::event_loop::{Core, Loop};
use crate::foreign::{self, Panics};
use crate::server;
use crate::socket::{self, Inner};
use crate::source::{Deadline, Hooks, Source};

/// The most that the thread of our loop holds back for the end of a turn: 1 MiB (CL-4).
const HELD_BACK: usize = 1 << 20;

/// A future that a spawner is given.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

type Spawner = Arc<dyn Fn(Task) + Send + Sync>;

/// Sockets and servers over real TCP, on smol. Cheap to clone; clones are the same provider.
///
/// There are three ways of running, which differ in who hands the last bytes of a turn to the kernel, and in speed only:
///
/// | | the turn's tail leaves | reactor |
/// |---|---|---|
/// | [`Smol::on`] a [`Loop`] | when the loop waits next | our own, on mio |
/// | [`Smol::with_spawner`] | by a task on your executor | async-io |
/// | [`Smol::new`] | at once, with every `send` | async-io |
///
/// All of them work wherever they are polled: under `smol::block_on`, on any executor, from any thread.
///
/// ```
/// use tcpsocket::{Event, SocketOptions, SocketProvider, SocketProviderExt, TcpSocketExt};
/// use tcpsocket_smol::Smol;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let peer = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let port = peer.local_addr()?.port();
/// # std::thread::spawn(move || peer.accept());
/// let net = Smol::new();
/// smol::block_on(async {
///     let socket = net.connect("127.0.0.1", port, SocketOptions::new()).await?;
///     socket.send("hello".into())?;
///     socket.close();
///     while let Some(event) = socket.next_event().await {
///         println!("{event:?}");
///     }
///     net.idle().await;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct Smol {
    shared: Arc<Shared>,
}

impl Smol {
    /// A provider that needs no help: every `send` outside a parked wait is written through.
    pub fn new() -> Smol {
        Smol::build(Reactor::AsyncIo, None)
    }

    /// A provider that flushes what a turn sent by a task, so several sends of a turn leave together. The executor behind
    /// `spawn` must go on running as long as its sockets are used; when it is dropped, sends are written through.
    ///
    /// ```
    /// use tcpsocket_smol::Smol;
    ///
    /// let net = Smol::with_spawner(|task| smol::spawn(task).detach());
    /// # drop(net);
    /// ```
    pub fn with_spawner(spawn: impl Fn(Task) + Send + Sync + 'static) -> Smol {
        Smol::build(Reactor::AsyncIo, Some(Arc::new(spawn)))
    }

    /// A provider on our own loop: the fastest, where you can choose your `block_on`.
    pub fn on(event_loop: &Loop) -> Smol {
        Smol::build(Reactor::Loop(event_loop.core.clone()), None)
    }

    /// The same with this client of TLS: with other roots than the platform's, another implementation of cryptography, or a
    /// configuration of rustls of your own. It is another provider than this one and its clones: what they have opened is theirs.
    ///
    /// ```
    /// use tcpsocket_smol::Smol;
    /// use tcpsocket_tls::{Client, Trust};
    ///
    /// # fn our_authority() -> Vec<u8> { b"-----BEGIN CERTIFICATE-----\n".to_vec() }
    /// # fn main() -> Result<(), tcpsocket::Error> {
    /// # let pem = our_authority();
    /// # let Ok(trust) = Trust::nobody().and_pem(&pem) else { return Ok(()) };
    /// let net = Smol::new().with_tls(Client::new(trust));
    /// # drop(net);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A verifier in such a configuration runs while its socket is locked, so it must not call that socket.
    #[must_use]
    pub fn with_tls(self, client: Client) -> Smol {
        let spawner = self.shared.spawner.clone();
        Smol::sharing(self.shared.reactor.clone(), spawner, client)
    }

    fn build(reactor: Reactor, spawner: Option<Spawner>) -> Smol {
        Smol::sharing(reactor, spawner, Client::default())
    }

    fn sharing(reactor: Reactor, spawner: Option<Spawner>, tls: Client) -> Smol {
        Smol {
            shared: Arc::new(Shared {
                reactor,
                spawner,
                tls,
                tail: Mutex::default(),
                owed: Mutex::default(),
            }),
        }
    }
}

impl Default for Smol {
    fn default() -> Smol {
        Smol::new()
    }
}

impl fmt::Debug for Smol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = match (&self.shared.reactor, &self.shared.spawner) {
            (Reactor::Loop(_), _) => "on a loop",
            (Reactor::AsyncIo, Some(_)) => "with a spawner",
            (Reactor::AsyncIo, None) => "written through",
        };
        f.debug_tuple("Smol").field(&way).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Smol {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        if let Some(missing) = CAPABILITIES.missing_for_open(&request) {
            return Err(not_supported(missing));
        }
        socket::open(&self.shared, request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        if let Some(missing) = CAPABILITIES.missing_for_listen(&request) {
            return Err(not_supported(missing));
        }
        server::listen(&self.shared, request).await
    }

    async fn idle(&self) {
        poll_fn(|cx| self.shared.poll_idle(cx)).await;
    }
}

const CAPABILITIES: Capabilities = {
    let mut offers = Capabilities::NONE;
    offers.listen = true;
    offers.string_mode = true;
    offers.suspend = true;
    offers.gates = true;
    offers.names = true;
    offers.resolver = true;
    offers.secure = true;
    offers.upgrade = true;
    offers.alpn = true;
    offers.no_delay = true;
    offers.keep_alive = true;
    offers.connect_timeout = true;
    offers.linger = true;
    offers
};

pub(crate) fn not_supported(what: &str) -> Error {
    Error::new(
        ErrorName::NotSupported,
        format!("tcpsocket-smol does not offer `{what}`"),
    )
}

/// Who tells us that a descriptor is ready.
#[derive(Clone, Debug)]
pub(crate) enum Reactor {
    AsyncIo,
    Loop(Arc<Core>),
}

/// What the sockets of a provider share.
pub(crate) struct Shared {
    pub(crate) reactor: Reactor,
    spawner: Option<Spawner>,
    pub(crate) tls: Client,
    tail: Mutex<Tail>,
    owed: Mutex<Owed>,
}

/// Sockets whose turn's tail waits for the flusher task.
#[derive(Default)]
struct Tail {
    sockets: Vec<Arc<Inner>>,
    flusher: Flusher,
}

#[derive(Default)]
enum Flusher {
    #[default]
    NotStarted,
    /// Spawned, and about to look at the list.
    Awake,
    Asleep(Waker),
    /// Its executor is gone.
    Dead,
}

/// Sockets that still flush or linger, kept alive until they are done.
#[derive(Default)]
struct Owed {
    sockets: HashMap<usize, Arc<Inner>>,
    waiting: Vec<Waker>,
}

impl Shared {
    pub(crate) fn hooks(&self, source: &Weak<impl Source + 'static>) -> Option<Hooks> {
        match self.reactor {
            Reactor::AsyncIo => Some(Hooks::new(source)),
            Reactor::Loop(_) => None,
        }
    }

    /// Arms a deadline; `None` if it is over already.
    pub(crate) fn arm(
        &self,
        at: Instant,
        hooks: Option<&Hooks>,
        source: impl FnOnce() -> Weak<dyn Source>,
    ) -> Option<Deadline> {
        match (&self.reactor, hooks) {
            (Reactor::Loop(core), _) => Some(Deadline::Loop {
                core: core.clone(),
                key: core.set_timer(at, source()),
            }),
            (Reactor::AsyncIo, hooks) => {
                let mut timer = async_io::Timer::at(at);
                let mut cx = Context::from_waker(match hooks {
                    Some(hooks) => &hooks.timer,
                    None => Waker::noop(),
                });
                match Pin::new(&mut timer).poll(&mut cx) {
                    Poll::Ready(_) => None,
                    Poll::Pending => Some(Deadline::AsyncIo { at, _timer: timer }),
                }
            }
        }
    }

    /// Spawns work that is not on any byte's path: on the given executor, else on smol's global one.
    pub(crate) fn spawn(&self, task: Task) {
        match &self.spawner {
            Some(spawner) => spawner(task),
            None => smol::spawn(task).detach(),
        }
    }

    // ----- the tail of a turn

    /// How many bytes may wait for the sends that follow in this turn. `parked` says that somebody waits for events.
    pub(crate) fn gathers(&self, parked: bool) -> usize {
        match &self.reactor {
            Reactor::Loop(core) if core.is_this_thread() => HELD_BACK,
            Reactor::AsyncIo
                if self.spawner.is_some()
                    && !parked
                    && !matches!(self.tail.lock().flusher, Flusher::Dead) =>
            {
                MARK as usize
            }
            _ => 0,
        }
    }

    /// Flushes the socket when the turn is over. Called without any lock.
    pub(crate) fn put_off(self: &Arc<Shared>, socket: Arc<Inner>) {
        if let Reactor::Loop(core) = &self.reactor {
            core.put_off(socket);
            return;
        }
        let mut tail = self.tail.lock();
        match std::mem::replace(&mut tail.flusher, Flusher::Awake) {
            Flusher::NotStarted => {
                tail.sockets.push(socket);
                drop(tail);
                let flush = Flush {
                    shared: Arc::downgrade(self),
                };
                self.spawn(Box::pin(flush));
            }
            Flusher::Awake => tail.sockets.push(socket),
            Flusher::Asleep(waker) => {
                tail.sockets.push(socket);
                drop(tail);
                waker.wake();
            }
            Flusher::Dead => {
                tail.flusher = Flusher::Dead;
                drop(tail);
                socket.flush();
            }
        }
    }

    fn flush_tail(&self) {
        match &self.reactor {
            Reactor::Loop(core) => core.flush(),
            Reactor::AsyncIo => {
                let sockets = std::mem::take(&mut self.tail.lock().sockets);
                flush_all(sockets);
            }
        }
    }

    // ----- what is still owed

    pub(crate) fn owe(&self, socket: Arc<Inner>) {
        let key = Arc::as_ptr(&socket).addr();
        self.owed.lock().sockets.insert(key, socket);
    }

    /// The socket owes nothing any more. Returns what is to be dropped and woken once no lock is held.
    pub(crate) fn settle(&self, socket: &Inner) -> Settled {
        let key = std::ptr::from_ref(socket).addr();
        let mut owed = self.owed.lock();
        let socket = owed.sockets.remove(&key);
        let waiting = match owed.sockets.is_empty() {
            true => std::mem::take(&mut owed.waiting),
            false => Vec::new(),
        };
        Settled { socket, waiting }
    }

    fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.flush_tail();
        if self.owed.lock().sockets.is_empty() {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        let mut owed = self.owed.lock();
        if owed.sockets.is_empty() {
            return Poll::Ready(());
        }
        if !owed.waiting.iter().any(|known| known.will_wake(&waker)) {
            owed.waiting.push(waker);
        }
        Poll::Pending
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Flusher::Asleep(flusher) = std::mem::take(&mut self.tail.get_mut().flusher) {
            foreign::contain(|| flusher.wake());
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("reactor", &self.reactor)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) struct Settled {
    socket: Option<Arc<Inner>>,
    waiting: Vec<Waker>,
}

impl Settled {
    pub(crate) fn finish(self, panics: &mut Panics) {
        panics.run(|| drop(self.socket));
        for waker in self.waiting {
            panics.run(|| waker.wake());
        }
    }
}

/// The task that flushes turns on a foreign executor. It lives as long as its provider.
struct Flush {
    shared: Weak<Shared>,
}

impl Future for Flush {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = self.shared.upgrade() else {
            return Poll::Ready(());
        };
        loop {
            // Wakers are cloned and dropped outside the lock.
            let waker = cx.waker().clone();
            let sockets = {
                let mut tail = shared.tail.lock();
                if tail.sockets.is_empty() {
                    let former = std::mem::replace(&mut tail.flusher, Flusher::Asleep(waker));
                    drop(tail);
                    drop(former);
                    return Poll::Pending;
                }
                std::mem::take(&mut tail.sockets)
            };
            flush_all(sockets);
        }
    }
}

/// Flushes each of them, whatever the meter of another does.
fn flush_all(sockets: Vec<Arc<Inner>>) {
    for socket in sockets {
        foreign::contain(move || socket.flush());
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else {
            return;
        };
        let former = std::mem::replace(&mut shared.tail.lock().flusher, Flusher::Dead);
        foreign::contain(|| drop(former));
        shared.flush_tail();
    }
}
