//! A gate that blocks its thread, once it has waited for the first time, blocks no loop.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, Weak};

use futures_lite::future;
use tcpsocket::{
    Control, Error, Event, Gate, Host, ListenRequest, Meter, NoMeter, ServerEvent,
    ServerSocketOptions, SocketProvider, TcpServerSocketExt, TcpSocket, TcpSocketExt, async_trait,
};
use tcpsocket_smol::{Loop, Smol};

use crate::support::{DEADLINE, connected, local, or_late};

/// Waits once, and then blocks until it is released.
#[derive(Debug)]
struct Blocks {
    blocked: Sender<()>,
    released: Mutex<Receiver<()>>,
}

impl Blocks {
    /// The gate, a signal that it blocks, and its release.
    fn new() -> (Arc<Blocks>, Receiver<()>, Sender<()>) {
        let (blocked, is_blocked) = channel();
        let (release, released) = channel();
        let gate = Blocks {
            blocked,
            released: Mutex::new(released),
        };
        (Arc::new(gate), is_blocked, release)
    }

    async fn block(&self) {
        future::yield_now().await;
        self.blocked.send(()).unwrap();
        let _ = self.released.lock().unwrap().recv_timeout(DEADLINE);
    }
}

#[async_trait]
impl Gate for Blocks {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.block().await;
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        self.block().await;
        Ok(())
    }

    fn watch(&self, _socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

/// Rounds of a neighbour on the loop, all while the gate blocks; then it is released, and `waiting` must end.
async fn meanwhile<T>(
    neighbour: &dyn TcpSocket,
    mut peer: TcpStream,
    is_blocked: Receiver<()>,
    release: Sender<()>,
    waiting: impl Future<Output = T>,
) -> T {
    let rounds = async {
        smol::unblock(move || is_blocked.recv_timeout(DEADLINE))
            .await
            .unwrap();
        let echo = smol::unblock(move || {
            let mut byte = [0];
            while peer.read_exact(&mut byte).is_ok() && peer.write_all(&byte).is_ok() {}
        });
        let asks = async {
            for _ in 0..10 {
                neighbour.send("?".into()).unwrap();
                let event = neighbour.next_event().await;
                assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
            }
            neighbour.close();
        };
        future::zip(echo, asks).await;
        release.send(()).unwrap();
    };
    future::zip(waiting, rounds).await.0
}

#[test]
fn a_gate_that_blocks_over_an_open_blocks_no_loop() {
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let (neighbour, peer) = connected(&net);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (gate, is_blocked, release) = Blocks::new();
    let event = event_loop.block_on(or_late(async {
        let socket = net.open_with(local(port).with_gate(gate)).unwrap();
        let opened = socket.next_event();
        meanwhile(&*neighbour, peer, is_blocked, release, opened).await
    }));
    assert!(matches!(event, Some(Event::Open)), "{event:?}");
}

#[test]
fn a_gate_that_blocks_over_a_peer_blocks_no_loop() {
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let (neighbour, peer) = connected(&net);
    let (gate, is_blocked, release) = Blocks::new();
    let options = ServerSocketOptions::new().address([127, 0, 0, 1]);
    let request = ListenRequest::new(0).unwrap().with_options(options);
    let event = event_loop.block_on(or_late(async {
        let server = net.listen_with(request.with_gate(gate)).await.unwrap();
        let _asks = TcpStream::connect(("127.0.0.1", server.local_port())).unwrap();
        let accepted = server.next_event();
        meanwhile(&*neighbour, peer, is_blocked, release, accepted).await
    }));
    assert!(matches!(event, Some(ServerEvent::Connect(_))), "{event:?}");
}
