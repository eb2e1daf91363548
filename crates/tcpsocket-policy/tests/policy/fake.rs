//! A provider that moves no bytes: it asks gates as the interface says, records requests, and lets a test act in between.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    BinaryType, Bytes, Capabilities, Close, Control, Error, ErrorName, Event, Gate, ListenRequest,
    Meter, OpenRequest, ReadyState, Security, ServerEvent, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait, canonical_ip,
};

/// An address that a name leads to. It is in whatever a provider likes to show of itself.
pub(crate) const SECRET: &str = "10.11.12.13";

/// A moment within `open_with` or `listen_with`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    Called,
    NameAdmitted,
    Watched,
    Connected,
    Bound,
    Listening,
    PeerAdmitted,
}

/// Where something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// `open_with` returns it.
    Open,
    /// An opened socket ends by it, before anything else.
    Opened,
    /// Its methods return it.
    Send,
    Resume,
    Upgrade,
    /// `listen_with` returns it.
    Listen,
    /// A server ends by it, at once.
    Server,
    /// An accepted socket ends by it.
    Accepted,
    /// Its `send` returns it.
    AcceptedSend,
}

type Act = Box<dyn FnOnce() + Send>;

/// The provider. Clones are the same.
#[derive(Clone)]
pub(crate) struct Fake(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) offers: Mutex<Capabilities>,
    /// The answers of every lookup; empty for a literal.
    pub(crate) answers: Mutex<Vec<IpAddr>>,
    /// The port that an automatic one turns out to be.
    pub(crate) automatic_port: Mutex<u16>,
    /// A provider that breaks GATE-9: it asks no gate about a bind.
    pub(crate) forgets_bind: Mutex<bool>,
    /// A provider whose servers ignore their controls.
    pub(crate) controls_fail: AtomicBool,
    /// A bind that takes its time: `listen_with` waits, before any gate is asked, until this is false.
    pub(crate) waits_to_bind: AtomicBool,
    /// A provider that gives gates no control, as if they were left out of the request.
    pub(crate) forgets_watch: AtomicBool,
    /// A gate of the provider's own, asked behind those of the request.
    pub(crate) own_gate: Mutex<Option<Arc<dyn Gate>>>,
    /// What fails, and how.
    pub(crate) trouble: Mutex<Option<(Trouble, Error)>>,
    pub(crate) opened: Mutex<Vec<OpenRequest>>,
    pub(crate) listened: Mutex<Vec<ListenRequest>>,
    pub(crate) idled: Mutex<u32>,
    /// How often a server was closed and a socket aborted with an error, by calls on their handles.
    pub(crate) ended: Arc<AtomicU32>,
    servers: Mutex<Vec<Weak<Server>>>,
    act: Mutex<Option<(Moment, Act)>>,
}

impl Fake {
    pub(crate) fn new() -> Fake {
        let mut offers = Capabilities::NONE;
        offers.listen = true;
        offers.names = true;
        offers.string_mode = true;
        offers.gates = true;
        offers.resolver = true;
        Fake(Arc::new(Shared {
            offers: Mutex::new(offers),
            answers: Mutex::default(),
            automatic_port: Mutex::new(40_000),
            forgets_bind: Mutex::new(false),
            controls_fail: AtomicBool::new(false),
            waits_to_bind: AtomicBool::new(false),
            forgets_watch: AtomicBool::new(false),
            own_gate: Mutex::default(),
            trouble: Mutex::default(),
            opened: Mutex::default(),
            listened: Mutex::default(),
            idled: Mutex::new(0),
            ended: Arc::default(),
            servers: Mutex::default(),
            act: Mutex::default(),
        }))
    }

    /// Runs this once, at that moment of the next call.
    pub(crate) fn at(&self, moment: Moment, act: impl FnOnce() + Send + 'static) {
        *self.0.act.lock().unwrap() = Some((moment, Box::new(act)));
    }

    fn now(&self, moment: Moment) {
        let due = {
            let mut act = self.0.act.lock().unwrap();
            act.take_if(|(at, _)| *at == moment)
        };
        if let Some((_, act)) = due {
            act();
        }
    }

    fn fails(&self, at: Trouble) -> Result<(), Error> {
        match &*self.trouble.lock().unwrap() {
            Some((trouble, error)) if *trouble == at => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// The gates of a request, and then the provider's own.
    fn gates(&self, requests: &[Arc<dyn Gate>]) -> Vec<Arc<dyn Gate>> {
        let own = self.own_gate.lock().unwrap();
        requests.iter().chain(&*own).cloned().collect()
    }

    fn watching<'a>(&self, gates: &'a [Arc<dyn Gate>]) -> &'a [Arc<dyn Gate>] {
        match self.forgets_watch.load(SeqCst) {
            true => &[],
            false => gates,
        }
    }

    /// A peer connects. Returns whether the gates admitted it; then it waits in the server on that port.
    pub(crate) async fn peer(&self, port: u16, peer: SocketAddr) -> Result<(), Error> {
        let server = self.server(port).expect("nobody listens there");
        for gate in &server.gates {
            gate.accept(server.at, peer).await?;
        }
        self.now(Moment::PeerAdmitted);
        let first = self.fails(Trouble::Accepted).err().map(Event::Error);
        let fails = [(Trouble::AcceptedSend, Trouble::Send)];
        let fails = fails.map(|(at, as_)| self.fails(at).err().map(|error| (as_, error)));
        let (host, port) = (peer.ip().to_string(), peer.port());
        let fails = fails.into_iter().flatten().collect();
        let socket = self.socket(&server.gates, host, port, first, fails);
        server.state.lock().unwrap().connections.push_back(socket);
        Ok(())
    }

    /// As in the implementation on smol: while the gates get the control, the socket is not there yet.
    fn socket(
        &self,
        gates: &[Arc<dyn Gate>],
        host: String,
        port: u16,
        first: Option<Event>,
        fails: Vec<(Trouble, Error)>,
    ) -> Arc<Socket> {
        let gates = self.watching(gates);
        Arc::new_cyclic(|me: &Weak<Socket>| Socket {
            host,
            port,
            fails,
            meters: gates.iter().map(|it| it.watch(me.clone())).collect(),
            aborted: self.ended.clone(),
            state: Mutex::new(State {
                ended: false,
                events: first.into_iter().collect(),
            }),
        })
    }

    /// The first connection that waits in the server on that port, which may have ended.
    pub(crate) fn pending(&self, port: u16) -> Arc<dyn TcpSocket> {
        let servers = self.0.servers.lock().unwrap();
        let mut live = servers.iter().filter_map(Weak::upgrade);
        let server = live.find(|it| it.at.port() == port).expect("no server");
        let mut state = server.state.lock().unwrap();
        state.connections.pop_front().expect("no connection")
    }

    pub(crate) fn listens_on(&self, port: u16) -> bool {
        self.server(port).is_some()
    }

    fn server(&self, port: u16) -> Option<Arc<Server>> {
        let servers = self.0.servers.lock().unwrap();
        let mut live = servers.iter().filter_map(Weak::upgrade);
        live.find(|it| it.at.port() == port && it.state.lock().unwrap().listening)
    }
}

impl std::ops::Deref for Fake {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fake at {SECRET}")
    }
}

#[async_trait]
impl SocketProvider for Fake {
    fn capabilities(&self) -> Capabilities {
        *self.offers.lock().unwrap()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.opened.lock().unwrap().push(request.clone());
        self.now(Moment::Called);
        self.fails(Trouble::Open)?;
        let (host, port) = (request.host(), request.port());
        let gates = self.gates(request.gates());
        for gate in &gates {
            crate::log::ready(gate.name(host, port))?;
        }
        self.now(Moment::NameAdmitted);
        let ips = match host.literal() {
            Some(ip) => vec![ip],
            None => self.answers.lock().unwrap().clone(),
        };
        let all: Vec<SocketAddr> = ips
            .into_iter()
            .map(|ip| SocketAddr::new(canonical_ip(ip), port))
            .collect();
        let first = self.fails(Trouble::Opened);
        let first = first.map_or_else(Event::Error, |()| Event::Open);
        let fails = [Trouble::Send, Trouble::Resume, Trouble::Upgrade]
            .into_iter()
            .filter_map(|at| Some((at, self.fails(at).err()?)));
        let given = host.given().to_owned();
        let socket = self.socket(&gates, given, port, Some(first), fails.collect());
        self.now(Moment::Watched);
        for gate in &gates {
            if let Err(refused) = crate::log::ready(gate.connect(host, &all)) {
                socket.fail(refused);
            }
        }
        self.now(Moment::Connected);
        Ok(socket)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.listened.lock().unwrap().push(request.clone());
        self.fails(Trouble::Listen)?;
        let gates = self.gates(request.gates());
        let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let mut at = SocketAddr::new(
            canonical_ip(request.options().address.unwrap_or(everywhere)),
            request.port(),
        );
        poll_fn(|_| match self.waits_to_bind.load(SeqCst) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
        let asked = !*self.forgets_bind.lock().unwrap();
        for gate in gates.iter().filter(|_| asked) {
            gate.bind(at).await?;
        }
        if at.port() == 0 {
            at.set_port(*self.automatic_port.lock().unwrap());
            for gate in gates.iter().filter(|_| asked) {
                gate.bind(at).await?;
            }
        }
        self.now(Moment::Bound);
        let failed = self.fails(Trouble::Server).err();
        let watching = self.watching(&gates);
        let server = Arc::new_cyclic(|me: &Weak<Server>| Server {
            at,
            _meters: watching.iter().map(|it| it.watch(me.clone())).collect(),
            gates: gates.clone(),
            deaf: self.controls_fail.load(SeqCst),
            closed: self.ended.clone(),
            state: Mutex::new(ServerState {
                listening: failed.is_none(),
                failed,
                connections: VecDeque::new(),
            }),
        });
        self.servers.lock().unwrap().push(Arc::downgrade(&server));
        self.now(Moment::Listening);
        Ok(server)
    }

    async fn idle(&self) {
        *self.idled.lock().unwrap() += 1;
    }
}

/// A socket that is open from birth, until somebody ends it.
pub(crate) struct Socket {
    host: String,
    port: u16,
    fails: Vec<(Trouble, Error)>,
    meters: Vec<Arc<dyn Meter>>,
    aborted: Arc<AtomicU32>,
    state: Mutex<State>,
}

struct State {
    ended: bool,
    events: VecDeque<Event>,
}

impl Socket {
    fn fails(&self, at: Trouble) -> Result<(), Error> {
        match self.fails.iter().find(|(trouble, _)| *trouble == at) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }

    fn fail(&self, why: Error) {
        let mut state = self.state.lock().unwrap();
        if !state.ended {
            state.ended = true;
            state.events = VecDeque::from([Event::Error(why), Event::Close(Close::new(false))]);
        }
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        for meter in &self.meters {
            meter.moved(written, read, dropped);
        }
    }
}

impl Control for Socket {
    fn abort(&self, why: Error) {
        self.fail(why);
        self.moved(0, 0, 1);
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({}, {}) at {SECRET}", self.host, self.port)
    }
}

impl TcpSocket for Socket {
    fn host(&self) -> &str {
        &self.host
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn ssl(&self) -> bool {
        false
    }

    fn security(&self) -> Security {
        Security::Plain
    }

    fn buffered_amount(&self) -> u64 {
        0
    }

    fn binary_type(&self) -> BinaryType {
        BinaryType::String
    }

    fn ready_state(&self) -> ReadyState {
        match self.state.lock().unwrap().ended {
            true => ReadyState::Closed,
            false => ReadyState::Open,
        }
    }

    /// Written at once, and echoed.
    fn send(&self, data: Bytes) -> Result<bool, Error> {
        self.fails(Trouble::Send)?;
        for meter in &self.meters {
            meter.queue(data.len())?;
        }
        self.moved(data.len(), data.len(), 0);
        Ok(true)
    }

    fn suspend(&self) {}

    /// Stands for bytes that arrive.
    fn resume(&self) -> Result<(), Error> {
        self.fails(Trouble::Resume)?;
        self.moved(0, 1, 0);
        Ok(())
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        self.fails(Trouble::Upgrade)?;
        Err(Error::new(ErrorName::NotSupported, "there is no TLS"))
    }

    fn close(&self) {
        TcpSocket::abort(self, None);
    }

    fn abort(&self, why: Option<Error>) {
        match why {
            Some(why) => {
                self.aborted.fetch_add(1, SeqCst);
                self.fail(why);
            }
            None => self.state.lock().unwrap().ended = true,
        }
    }

    fn poll_event(&self, _cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.state.lock().unwrap();
        match state.events.pop_front() {
            None if !state.ended => Poll::Pending,
            event => Poll::Ready(event),
        }
    }

    fn cancel_poll(&self, _waker: &Waker) {}
}

struct Server {
    at: SocketAddr,
    gates: Vec<Arc<dyn Gate>>,
    _meters: Vec<Arc<dyn Meter>>,
    deaf: bool,
    closed: Arc<AtomicU32>,
    state: Mutex<ServerState>,
}

struct ServerState {
    listening: bool,
    failed: Option<Error>,
    connections: VecDeque<Arc<Socket>>,
}

impl Control for Server {
    fn abort(&self, why: Error) {
        let mut state = self.state.lock().unwrap();
        if state.listening && !self.deaf {
            state.listening = false;
            state.failed = Some(why);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({}) at {SECRET}", self.at)
    }
}

impl TcpServerSocket for Server {
    fn local_port(&self) -> u16 {
        self.at.port()
    }

    fn close(&self) {
        self.closed.fetch_add(1, SeqCst);
        self.state.lock().unwrap().listening = false;
    }

    fn poll_event(&self, _cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let mut state = self.state.lock().unwrap();
        if let Some(why) = state.failed.take() {
            return Poll::Ready(Some(ServerEvent::Error(why)));
        }
        if !state.listening {
            return Poll::Ready(None);
        }
        match state.connections.pop_front() {
            Some(socket) => Poll::Ready(Some(ServerEvent::Connect(socket))),
            None => Poll::Pending,
        }
    }

    fn cancel_poll(&self, _waker: &Waker) {}
}
