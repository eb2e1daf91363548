//! What the kit does not look at: foreign code that panics when it is dropped, and gates that panic about a peer's `watch`.

use std::fmt;
use std::future::pending;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use futures_lite::future::{block_on, yield_now};
use tcpsocket::{
    Bytes, Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter,
    OpenRequest, Resolver, ServerEvent, ServerSocketOptions, SocketProvider, SocketProviderExt,
    TcpServerSocketExt, TcpSocket, TcpSocketExt, async_trait,
};
use third_party::ThirdParty;

const PATIENCE: Duration = Duration::from_secs(20);
/// More than the kernel takes at once.
const MUCH: usize = 16 << 20;

/// Runs a test within the deadline, on a thread of its own, which may be stuck.
fn run(test: impl Future<Output = ()> + Send + 'static) {
    let (finish, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        block_on(test);
        let _ = finish.send(());
    });
    if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
        panic!("the test did not end in time");
    }
    thread.join().expect("it has passed");
}

/// A panic of which the hook says nothing.
fn explode() -> ! {
    resume_unwind(Box::new("a panic of the test"))
}

/// Panics when it is dropped, with something that does so too, and counts the first.
#[derive(Debug)]
struct Mine(Arc<AtomicUsize>);

impl Drop for Mine {
    fn drop(&mut self) {
        struct Thrown;
        impl Drop for Thrown {
            fn drop(&mut self) {
                explode();
            }
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        resume_unwind(Box::new(Thrown));
    }
}

#[derive(Debug, Default)]
struct Mines(Arc<AtomicUsize>);

impl Mines {
    fn lay(&self) -> Mine {
        Mine(self.0.clone())
    }

    /// Waits until this many have gone off.
    async fn went_off(&self, expected: usize) {
        while self.0.load(Ordering::SeqCst) < expected {
            yield_now().await;
        }
        assert_eq!(self.0.load(Ordering::SeqCst), expected);
    }
}

/// A gate that admits what it is asked about, if it gets that far.
#[derive(Debug, Default)]
struct Guard {
    /// What the future of `name` holds while it waits, which is for ever.
    waits: Option<Mines>,
    meter: Option<Arc<dyn Meter>>,
    watched: AtomicUsize,
    /// The `watch` that panics, counted from 1.
    panics_at: usize,
    _mine: Option<Mine>,
}

#[async_trait]
impl Gate for Guard {
    async fn name(&self, _: &Host, _: u16) -> Result<(), Error> {
        if let Some(mines) = &self.waits {
            let _mine = mines.lay();
            pending::<()>().await;
        }
        Ok(())
    }

    async fn connect(&self, _: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Ok(all.to_vec())
    }

    async fn bind(&self, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _: SocketAddr, _: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, _: Weak<dyn Control>) -> Arc<dyn Meter> {
        if self.watched.fetch_add(1, Ordering::SeqCst) + 1 == self.panics_at {
            explode();
        }
        self.meter.clone().unwrap_or_else(|| Arc::new(NoMeter))
    }
}

/// A peer that listens.
fn peer() -> (TcpListener, u16) {
    let peers = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = peers.local_addr().expect("an address").port();
    (peers, port)
}

fn to(port: u16) -> OpenRequest {
    OpenRequest::new("127.0.0.1", port).expect("a literal")
}

/// Opens a socket, and accepts it.
async fn connected(provider: &ThirdParty, gates: Vec<Guard>) -> (Arc<dyn TcpSocket>, TcpStream) {
    let (peers, port) = peer();
    let guarded = |it: OpenRequest, gate| it.with_gate(Arc::new(gate));
    let request = gates.into_iter().fold(to(port), guarded);
    let socket = provider.open_with(request).expect("it is admitted");
    assert!(matches!(socket.next_event().await, Some(Event::Open)));
    (socket, peers.accept().expect("it connected").0)
}

/// Shows that bytes go both ways.
async fn works(socket: &dyn TcpSocket, peer: &mut TcpStream) {
    socket.send(Bytes::from_static(b"ping")).expect("it sends");
    let mut got = [0; 4];
    peer.read_exact(&mut got).expect("they come");
    peer.write_all(&got).expect("they go");
    match socket.next_event().await {
        Some(Event::Data(_)) => {}
        it => panic!("not data: {it:?}"),
    }
}

fn is_reset(peer: &mut TcpStream) -> bool {
    peer.read(&mut [0]).map_err(|it| it.kind()) == Err(ErrorKind::ConnectionReset)
}

#[test]
fn payload_that_panics_leaves_its_socket_usable() {
    struct Owned(
        Vec<u8>,
        #[expect(dead_code, reason = "held for its drop")] Mine,
    );
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    run(async {
        let (provider, mines) = (ThirdParty::new(), Mines::default());
        let (socket, mut peer) = connected(&provider, Vec::new()).await;
        let mut all = 0;
        for len in [10, 0, MUCH, 10] {
            let owned = Owned(vec![0; len], mines.lay());
            let _ = socket.send(Bytes::from_owner(owned)).expect("it is open");
            all += len as u64;
        }
        // The rest is the writer's.
        let read = std::io::copy(&mut (&mut peer).take(all), &mut std::io::sink());
        assert_eq!(read.ok(), Some(all));
        assert!(matches!(socket.next_event().await, Some(Event::Drain)));
        mines.went_off(4).await;
        works(&*socket, &mut peer).await;
    });
}

#[derive(Debug)]
struct Mined(#[expect(dead_code, reason = "held for its drop")] Mine);

impl Meter for Mined {
    fn queue(&self, _: usize) -> Result<(), Error> {
        Ok(())
    }

    fn moved(&self, _: usize, _: usize, _: usize) {}
}

#[test]
fn meters_that_panic_when_they_are_dropped_cost_nothing() {
    run(async {
        let (provider, mines) = (ThirdParty::new(), Mines::default());
        for round in 1..=20 {
            // Gates are dropped when the connection is up, meters when it has ended.
            let gate = || Guard {
                meter: Some(Arc::new(Mined(mines.lay()))),
                ..Guard::default()
            };
            let (socket, mut peer) = connected(&provider, vec![gate(), gate()]).await;
            works(&*socket, &mut peer).await;
            socket.close();
            drop(peer);
            let closed = socket.closed().await.expect("no error");
            assert!(closed.clean);
            provider.idle().await;
            mines.went_off(2 * round).await;
        }
    });
}

#[test]
fn gates_and_resolvers_that_panic_when_they_are_dropped_cost_nothing() {
    #[derive(Debug)]
    struct Nothing(#[expect(dead_code, reason = "held for its drop")] Mine);
    #[async_trait]
    impl Resolver for Nothing {
        async fn lookup(&self, _: &Host, _: u16) -> Result<Vec<SocketAddr>, Error> {
            Ok(Vec::new())
        }
    }
    run(async {
        let (provider, mines) = (ThirdParty::new(), Mines::default());
        let gate = || {
            Arc::new(Guard {
                _mine: Some(mines.lay()),
                ..Guard::default()
            })
        };
        let request = OpenRequest::new("db.internal", 1).expect("a name");
        let request = request.with_resolver(Arc::new(Nothing(mines.lay())));
        let socket = provider.open_with(request.with_gate(gate()).with_gate(gate()));
        let error = socket.expect("it is admitted").closed().await;
        let name = error.expect_err("there is no address").name();
        assert_eq!(name, ErrorName::DomainNotFound);
        mines.went_off(3).await;

        let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let request = ListenRequest::new(0).expect("a port").with_options(options);
        let request = request.with_gate(gate()).with_gate(gate());
        let server = provider.listen_with(request).await.expect("a port");
        let _peer = TcpStream::connect(("127.0.0.1", server.local_port())).expect("it listens");
        let event = server.next_event().await;
        assert!(matches!(event, Some(ServerEvent::Connect(_))));
        drop(server);
        mines.went_off(5).await;
    });
}

#[test]
fn a_question_that_panics_when_it_is_given_up_costs_nothing() {
    run(async {
        let (provider, (_peers, port), mines) = (ThirdParty::new(), peer(), Mines::default());
        let gate = Guard {
            waits: Some(Mines(mines.0.clone())),
            ..Guard::default()
        };
        let opened = provider.open_with(to(port).with_gate(Arc::new(gate)));
        let socket = opened.expect("it waits");
        socket.close();
        assert!(matches!(socket.next_event().await, Some(Event::Close(_))));
        mines.went_off(1).await;
        provider.idle().await;
    });
}

#[test]
fn a_gate_that_panics_when_it_is_to_watch_a_peer_has_refused_that_one() {
    run(async {
        // The first is the server.
        let gate = Guard {
            panics_at: 2,
            ..Guard::default()
        };
        let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let request = ListenRequest::new(0).expect("a port").with_options(options);
        let request = request.with_gate(Arc::new(gate));
        let server = ThirdParty::new().listen_with(request).await;
        let server = server.expect("a port");
        let dial = || TcpStream::connect(("127.0.0.1", server.local_port())).expect("it listens");
        let (mut first, mut second) = (dial(), dial());
        match server.next_event().await {
            Some(ServerEvent::Connect(socket)) => works(&*socket, &mut second).await,
            it => panic!("no connection: {it:?}"),
        }
        assert!(is_reset(&mut first));
    });
}

#[test]
fn a_meter_that_panics_when_it_is_asked_has_refused() {
    #[derive(Debug)]
    struct Asked(Arc<AtomicUsize>);
    impl Meter for Asked {
        fn queue(&self, bytes: usize) -> Result<(), Error> {
            self.0.fetch_add(bytes, Ordering::SeqCst);
            Ok(())
        }
        fn moved(&self, _: usize, _: usize, dropped: usize) {
            self.0.fetch_sub(dropped, Ordering::SeqCst);
        }
    }
    #[derive(Debug)]
    struct Panics;
    impl Meter for Panics {
        fn queue(&self, bytes: usize) -> Result<(), Error> {
            match bytes {
                10 => explode(),
                _ => Ok(()),
            }
        }
        fn moved(&self, _: usize, _: usize, _: usize) {}
    }
    run(async {
        let (provider, queued) = (ThirdParty::new(), Arc::<AtomicUsize>::default());
        let meters: [Arc<dyn Meter>; 2] = [Arc::new(Asked(queued.clone())), Arc::new(Panics)];
        let gate = |meter| Guard {
            meter: Some(meter),
            ..Guard::default()
        };
        let gates = meters.map(gate).into();
        let (socket, mut peer) = connected(&provider, gates).await;
        let refused = socket.send(Bytes::from_static(b"ten bytes.")).err();
        assert_eq!(refused.map(|it| it.name()), Some(ErrorName::NotAllowed));
        assert_eq!(queued.load(Ordering::SeqCst), 0);
        works(&*socket, &mut peer).await;
    });
}

#[test]
fn a_waker_that_panics_when_it_is_dropped_costs_no_event() {
    struct Mined(#[expect(dead_code, reason = "held for its drop")] Mine);
    impl Wake for Mined {
        fn wake(self: Arc<Mined>) {}
    }
    run(async {
        let (provider, mines) = (ThirdParty::new(), Mines::default());
        let (socket, mut peer) = connected(&provider, Vec::new()).await;
        let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = provider.listen(0, options, -1).await.expect("a port");
        let mined = || Waker::from(Arc::new(Mined(mines.lay())));
        // Two of each: one is replaced, one is woken.
        for _ in 0..2 {
            let wakers = [mined(), mined()];
            let of = |n: usize| Context::from_waker(&wakers[n]);
            assert!(socket.poll_event(&mut of(0)).is_pending());
            assert!(server.poll_event(&mut of(1)).is_pending());
        }
        let _caller = TcpStream::connect(("127.0.0.1", server.local_port())).expect("it listens");
        peer.write_all(b"data").expect("it goes");
        mines.went_off(4).await;
        assert!(matches!(socket.next_event().await, Some(Event::Data(_))));
        let event = server.next_event().await;
        assert!(matches!(event, Some(ServerEvent::Connect(_))));
        works(&*socket, &mut peer).await;
    });
}

/// The source of an error, which is dropped with it.
#[derive(Debug)]
struct Source(Weak<dyn TcpSocket>);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("of the test")
    }
}

impl std::error::Error for Source {}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(socket) = self.0.upgrade() {
            let _ = socket.ready_state();
        }
    }
}

#[test]
fn an_error_that_is_not_returned_may_call_the_socket_when_it_is_dropped() {
    run(async {
        let provider = ThirdParty::new();
        let (socket, mut peer) = connected(&provider, Vec::new()).await;
        let why = || {
            Error::with_source(
                ErrorName::NotAllowed,
                "why",
                Source(Arc::downgrade(&socket)),
            )
        };
        // The second is not the first, the third comes too late.
        socket.abort(Some(why()));
        socket.abort(Some(why()));
        assert!(socket.closed().await.is_err());
        socket.abort(Some(why()));
        assert!(is_reset(&mut peer));

        // One that waits to be returned when it is closed, which is told alone.
        let (_peers, port) = self::peer();
        let gate = Guard {
            waits: Some(Mines::default()),
            ..Guard::default()
        };
        let opened = provider.open_with(to(port).with_gate(Arc::new(gate)));
        let connecting = opened.expect("it waits");
        let own = Arc::downgrade(&connecting);
        connecting.abort(Some(Error::with_source(
            ErrorName::NotAllowed,
            "why",
            Source(own),
        )));
        connecting.close();
        let _ = connecting.closed().await;
        provider.idle().await;
    });
}
