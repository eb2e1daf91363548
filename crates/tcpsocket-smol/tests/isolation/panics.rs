//! Foreign code that panics costs its own socket, and nothing else (LIFE-9).

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter, ServerEvent,
    ServerSocketOptions, SocketProvider, TcpServerSocketExt, TcpSocket, TcpSocketExt, async_trait,
};
use tcpsocket_smol::{Loop, Smol};

use crate::support::{DEADLINE, connected, connected_past, every_way, local, or_late};

/// A panic that the panic hook does not print.
fn explode() -> ! {
    panic::resume_unwind(Box::new("foreign code"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Name,
    NameLate,
    Connect,
    ConnectLate,
    Bind,
    BindLate,
    Accept,
    AcceptLate,
    Watch,
    /// When it is to watch a second one: a peer of its server.
    WatchPeer,
}

/// A gate that panics at one of its questions.
#[derive(Debug)]
struct Bomb {
    at: At,
    /// About how many peers it was asked.
    asked: AtomicUsize,
    watched: AtomicUsize,
}

/// A peer waits for its admission until so many have asked.
const PEERS: usize = 5;

impl Bomb {
    fn new(at: At) -> Arc<Bomb> {
        Arc::new(Bomb {
            at,
            asked: AtomicUsize::new(0),
            watched: AtomicUsize::new(0),
        })
    }

    async fn pass(&self, now: At, late: At) {
        if self.at == now {
            explode();
        }
        if self.at == late {
            future::yield_now().await;
            explode();
        }
    }
}

#[async_trait]
impl Gate for Bomb {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        self.pass(At::Name, At::NameLate).await;
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.pass(At::Connect, At::ConnectLate).await;
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        self.pass(At::Bind, At::BindLate).await;
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        // Of all peers the third one sets it off.
        let third = self.asked.fetch_add(1, SeqCst) == 2;
        if third {
            self.pass(At::Accept, At::AcceptLate).await;
        }
        while self.asked.load(SeqCst) < PEERS {
            future::yield_now().await;
        }
        Ok(())
    }

    fn watch(&self, _socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        let first = self.watched.fetch_add(1, SeqCst) == 0;
        if self.at == At::Watch || (self.at == At::WatchPeer && !first) {
            explode();
        }
        Arc::new(NoMeter)
    }
}

/// A socket that foreign code has ended: `Error`, then `Close`.
fn ends(socket: &dyn TcpSocket) -> ErrorName {
    future::block_on(or_late(async {
        let name = loop {
            match socket.next_event().await {
                Some(Event::Error(error)) => break error.name(),
                Some(Event::Open | Event::Data(_) | Event::Drain) => {}
                other => panic!("{other:?}"),
            }
        };
        let close = socket.next_event().await;
        assert!(matches!(close, Some(Event::Close(_))), "{close:?}");
        name
    }))
}

/// A neighbour works.
fn echoes(socket: &dyn TcpSocket, peer: &mut TcpStream) {
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    future::block_on(or_late(async {
        socket.send("ping".into()).unwrap();
        let mut heard = [0; 4];
        peer.read_exact(&mut heard).unwrap();
        peer.write_all(b"pong").unwrap();
        loop {
            match socket.next_event().await {
                Some(Event::Data(data)) => break assert_eq!(&data[..], b"pong"),
                Some(Event::Drain) => {}
                other => panic!("{other:?}"),
            }
        }
    }));
}

#[test]
fn a_gate_that_panics_has_refused_to_open() {
    for (way, net) in every_way() {
        let (neighbour, mut peer) = connected(&net);
        for at in [
            At::Name,
            At::NameLate,
            At::Connect,
            At::ConnectLate,
            At::Watch,
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            let refused = match net.open_with(local(port).with_gate(Bomb::new(at))) {
                Ok(socket) => ends(&*socket),
                Err(error) => error.name(),
            };
            assert_eq!(refused, ErrorName::NotAllowed, "{way}, {at:?}");
            let dialled = listener.accept().map_err(|error| error.kind());
            assert!(matches!(dialled, Err(ErrorKind::WouldBlock)), "{dialled:?}");
            echoes(&*neighbour, &mut peer);
        }
    }
}

#[test]
fn a_gate_that_panics_has_refused_to_listen() {
    for (way, net) in every_way() {
        for at in [At::Bind, At::BindLate, At::Watch] {
            let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
            let request = ListenRequest::new(0)
                .unwrap()
                .with_options(options)
                .with_gate(Bomb::new(at));
            let refused = future::block_on(or_late(net.listen_with(request)));
            let refused = refused.map(|_| ()).map_err(|error| error.name());
            assert_eq!(refused, Err(ErrorName::NotAllowed), "{way}, {at:?}");
        }
    }
}

#[test]
fn an_accept_gate_that_panics_costs_its_own_peer() {
    for (way, net) in every_way() {
        for at in [At::Accept, At::AcceptLate] {
            let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
            let request = ListenRequest::new(0)
                .unwrap()
                .with_options(options)
                .with_gate(Bomb::new(at));
            let server = future::block_on(or_late(net.listen_with(request))).unwrap();
            let mut peers: Vec<_> = (0..PEERS)
                .map(|_| TcpStream::connect(("127.0.0.1", server.local_port())).unwrap())
                .collect();
            for _ in 1..PEERS {
                match future::block_on(or_late(server.next_event())) {
                    Some(ServerEvent::Connect(socket)) => socket.close(),
                    other => panic!("{way}, {at:?}: {other:?}"),
                }
            }
            let mut ends = Vec::new();
            for peer in &mut peers {
                peer.set_read_timeout(Some(DEADLINE)).unwrap();
                ends.push(peer.read(&mut [0]).map_err(|error| error.kind()));
            }
            let reset = ends
                .iter()
                .filter(|end| matches!(end, Err(ErrorKind::ConnectionReset)))
                .count();
            let finished = ends.iter().filter(|end| matches!(end, Ok(0))).count();
            assert_eq!((reset, finished), (1, PEERS - 1), "{way}, {at:?}: {ends:?}");
        }
    }
}

#[test]
fn a_gate_that_panics_over_an_accepted_socket_costs_its_peer() {
    for (way, net) in every_way() {
        let gate = Bomb::new(At::WatchPeer);
        gate.asked.store(PEERS, SeqCst); // no peer waits
        let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let request = ListenRequest::new(0)
            .unwrap()
            .with_options(options)
            .with_gate(gate);
        let server = future::block_on(or_late(net.listen_with(request))).unwrap();
        let mut peer = TcpStream::connect(("127.0.0.1", server.local_port())).unwrap();
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let ended = smol::unblock(move || peer.read(&mut [0]).map_err(|error| error.kind()));
        let served = async {
            let event = server.next_event().await;
            panic!("{way}: {event:?}")
        };
        let ended = future::block_on(or_late(future::or(ended, served)));
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{way}");
    }
}

/// Panics when it is told of bytes, once it is armed.
#[derive(Debug, Default)]
struct MeterBomb {
    armed: AtomicBool,
}

impl Meter for MeterBomb {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }

    fn moved(&self, _written: usize, _read: usize, _dropped: usize) {
        if self.armed.load(SeqCst) {
            explode();
        }
    }
}

/// A gate that admits all, and puts this meter on its socket.
#[derive(Debug, Default)]
struct Metered(Arc<MeterBomb>);

#[async_trait]
impl Gate for Metered {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, _socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.0.clone()
    }
}

/// A socket that is watched by a meter, which is told of its first bytes, and harmless as yet.
fn watched(net: &Smol) -> (Arc<dyn TcpSocket>, TcpStream, Arc<MeterBomb>) {
    let gate = Arc::new(Metered::default());
    let meter = gate.0.clone();
    let (socket, peer) = connected_past(net, &[gate]);
    (socket, peer, meter)
}

#[test]
fn a_meter_that_panics_in_a_call_unwinds_to_the_caller() {
    for (way, net) in every_way() {
        let (neighbour, mut neighbours_peer) = connected(&net);
        let (socket, mut peer, meter) = watched(&net);
        echoes(&*socket, &mut peer);
        meter.armed.store(true, SeqCst);
        peer.write_all(b"data").unwrap();
        let call = || future::block_on(or_late(socket.next_event()));
        let call = panic::catch_unwind(AssertUnwindSafe(call));
        assert!(call.is_err(), "{way}: {call:?}");
        assert_eq!(ends(&*socket), ErrorName::NotAllowed, "{way}");
        echoes(&*neighbour, &mut neighbours_peer);
    }
}

#[test]
fn a_meter_that_panics_behind_the_app_ends_its_socket() {
    for (way, net) in every_way() {
        let (neighbour, mut neighbours_peer) = connected(&net);
        let (socket, mut peer, meter) = watched(&net);
        // More than the kernel takes: the rest leaves when the reactor says so.
        while socket.buffered_amount() < (8 << 20) {
            socket.send(Bytes::from(vec![0; 1 << 20])).unwrap();
        }
        meter.armed.store(true, SeqCst);
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let end = loop {
            match peer.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error.kind()),
            }
        };
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{way}");
        assert_eq!(ends(&*socket), ErrorName::NotAllowed, "{way}");
        echoes(&*neighbour, &mut neighbours_peer);
    }
}

#[test]
fn a_loop_whose_keeper_met_a_panic_can_be_driven() {
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let (socket, mut peer, meter) = watched(&net);
    while socket.buffered_amount() < (8 << 20) {
        socket.send(Bytes::from(vec![0; 1 << 20])).unwrap();
    }
    meter.armed.store(true, SeqCst);
    peer.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while peer.read(&mut buffer).is_ok_and(|count| count > 0) {}
    let (done, is_done) = std::sync::mpsc::channel();
    let driver = thread::spawn(move || {
        event_loop.block_on(future::yield_now());
        done.send(()).unwrap();
    });
    is_done.recv_timeout(DEADLINE).unwrap();
    driver.join().unwrap();
}

#[test]
fn a_meter_that_panics_holds_back_no_neighbours_bytes() {
    const NEIGHBOURS: usize = 5;
    for (way, net) in every_way() {
        let (socket, _peer, meter) = watched(&net);
        let mut neighbours: Vec<_> = (0..NEIGHBOURS).map(|_| connected(&net)).collect();
        meter.armed.store(true, SeqCst);
        let turn = || {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| socket.send("bang".into())));
            for (neighbour, _) in &neighbours {
                neighbour.send("held?".into()).unwrap();
            }
        };
        // In one turn of whatever drives: on the loop inside of it, else in one task.
        future::block_on(async { turn() });
        for (_, peer) in &mut neighbours {
            let mut heard = [0; 5];
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            peer.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"held?", "{way}");
        }
        assert_eq!(ends(&*socket), ErrorName::NotAllowed, "{way}");
    }

    // The tails of a turn, which the loop flushes before it waits.
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let (socket, _peer, meter) = watched(&net);
    let mut neighbours: Vec<_> = (0..NEIGHBOURS).map(|_| connected(&net)).collect();
    meter.armed.store(true, SeqCst);
    let arrived = event_loop.block_on(or_late(async {
        socket.send("bang".into()).unwrap();
        for (neighbour, _) in &neighbours {
            neighbour.send("held?".into()).unwrap();
        }
        smol::unblock(move || {
            for (_, peer) in &mut neighbours {
                let mut heard = [0; 5];
                peer.set_read_timeout(Some(DEADLINE)).unwrap();
                peer.read_exact(&mut heard).unwrap();
            }
            NEIGHBOURS
        })
        .await
    }));
    assert_eq!(arrived, NEIGHBOURS);
    assert_eq!(ends(&*socket), ErrorName::NotAllowed);
}

/// Panics when it wakes.
struct WakerBomb;

impl Wake for WakerBomb {
    fn wake(self: Arc<Self>) {
        explode();
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_waker_that_panics_keeps_no_neighbour_asleep() {
    const NEIGHBOURS: usize = 5;
    let check = |way: &str, net: &Smol, write: &dyn Fn(&mut dyn FnMut())| {
        let mut all: Vec<_> = (0..=NEIGHBOURS).map(|_| connected(net)).collect();
        let bomb = Waker::from(Arc::new(WakerBomb));
        let (hurt, _) = &all[0];
        assert!(
            hurt.poll_event(&mut Context::from_waker(&bomb))
                .is_pending()
        );
        let flags: Vec<_> = all[1..]
            .iter()
            .map(|(neighbour, _)| {
                let flag = Arc::new(Flag(AtomicBool::new(false)));
                let waker = Waker::from(flag.clone());
                let polled = neighbour.poll_event(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
                flag
            })
            .collect();
        write(&mut || {
            for (_, peer) in &mut all {
                peer.write_all(b"data").unwrap();
            }
        });
        let begun = Instant::now();
        while !flags.iter().all(|flag| flag.0.load(SeqCst)) {
            assert!(begun.elapsed() < DEADLINE, "{way}: a neighbour sleeps on");
            thread::yield_now();
        }
        // The socket itself works, and so does what drives it.
        for (socket, _) in &all {
            let event = future::block_on(or_late(socket.next_event()));
            assert!(matches!(event, Some(Event::Data(_))), "{way}: {event:?}");
        }
    };
    for (way, net) in every_way() {
        check(way, &net, &|write| write());
    }
    // All of them in one wait of the loop.
    let event_loop = Loop::new().unwrap();
    check("in one wait", &Smol::on(&event_loop), &|write| {
        event_loop.block_on(async {
            write();
            // Till the kernel has told the loop of all.
            for _ in 0..3 {
                future::yield_now().await;
            }
        });
    });
}

#[test]
fn a_spawner_that_drops_its_tasks_is_a_failure() {
    let net = Smol::with_spawner(drop);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = local(listener.local_addr().unwrap().port());
    let socket = net
        .open_with(request.with_gate(Bomb::new(At::NameLate)))
        .unwrap();
    assert_eq!(ends(&*socket), ErrorName::Network);
}

#[test]
fn a_spawner_that_panics_costs_its_own_open() {
    let net = Smol::with_spawner(|_| explode());
    let (neighbour, mut peer) = connected(&net);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let request = local(listener.local_addr().unwrap().port());
    let open = || net.open_with(request.with_gate(Bomb::new(At::NameLate)));
    let open = panic::catch_unwind(AssertUnwindSafe(open));
    assert!(
        open.is_err()
            || open.is_ok_and(
                |opened| opened.is_ok_and(|socket| { ends(&*socket) == ErrorName::Network })
            )
    );
    let _ = panic::catch_unwind(AssertUnwindSafe(|| neighbour.send("x".into())));
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    peer.read_exact(&mut [0]).unwrap();
}
