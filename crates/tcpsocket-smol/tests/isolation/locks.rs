//! Foreign code may call any method of any socket, wherever it runs: no lock is held then (EVT-7, LIFE-10).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future;
use tcpsocket::{
    Control, Error, Event, Gate, Host, Meter, NoMeter, SocketProvider, TcpSocket, TcpSocketExt,
    async_trait,
};
use tcpsocket_smol::{Smol, Task};

use crate::support::{DEADLINE, connected, every_way, local, or_late};

/// A body that calls back under a lock never comes back.
fn in_time(way: &str, what: &str, body: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    let body = thread::spawn(move || {
        body();
        let _ = done.send(()); // an error: it was late, and nobody waits any more
    });
    match is_done.recv_timeout(DEADLINE) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{way}: {what} calls back under a lock"),
        _ => body.join().unwrap(),
    }
}

/// Calls a socket when it is dropped, cloned or woken.
#[derive(Clone, Default)]
struct CallsBack(Arc<Calls>);

#[derive(Default)]
struct Calls {
    socket: OnceLock<Weak<dyn TcpSocket>>,
    count: AtomicUsize,
}

impl CallsBack {
    fn on(socket: &Arc<dyn TcpSocket>) -> CallsBack {
        let back = CallsBack::default();
        assert!(back.0.socket.set(Arc::downgrade(socket)).is_ok());
        back
    }

    fn call(&self) {
        self.0.count.fetch_add(1, SeqCst);
        if let Some(socket) = self.0.socket.get().and_then(Weak::upgrade) {
            let _ = (socket.buffered_amount(), socket.ready_state(), socket.ssl());
            socket.suspend();
            let _ = socket.resume(); // an error once it closes
            let _ = socket.send("from a drop".into()); // the same
        }
    }

    /// Waits for so many calls: another thread may be about to drop what it has written.
    fn comes_to(&self, expected: usize) {
        let begun = Instant::now();
        loop {
            let count = self.0.count.load(SeqCst);
            if count == expected {
                return;
            }
            let late = begun.elapsed() > DEADLINE / 2;
            assert!(count < expected && !late, "{count} drops, not {expected}");
            thread::yield_now();
        }
    }
}

/// Payload whose owner calls back.
struct Owner(CallsBack, usize);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        static BYTES: [u8; 1 << 20] = [7; 1 << 20];
        &BYTES[..self.1]
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.call();
    }
}

fn payload(back: &CallsBack, len: usize) -> Bytes {
    Bytes::from_owner(Owner(back.clone(), len))
}

#[test]
fn payload_is_dropped_without_a_lock() {
    for (way, net) in every_way() {
        let run = |what: &'static str, body: fn(Smol)| {
            let net = net.clone();
            in_time(way, what, move || body(net));
        };
        run("a send that is written", |net| {
            let (socket, mut peer) = connected(&net);
            let back = CallsBack::on(&socket);
            for _ in 0..3 {
                socket.send(payload(&back, 1000)).unwrap();
            }
            peer.set_read_timeout(Some(DEADLINE)).unwrap();
            peer.read_exact(&mut [0; 3000]).unwrap();
            drop(peer);
            future::block_on(or_late(async {
                while socket.next_event().await.is_some() {}
            }));
            back.comes_to(3);
        });
        run("an output that is dropped by abort", |net| {
            let (socket, _peer) = connected(&net);
            let back = CallsBack::on(&socket);
            for _ in 0..16 {
                socket.send(payload(&back, 1 << 20)).unwrap();
            }
            socket.abort(None);
            back.comes_to(16);
        });
        run("a send in closing", |net| {
            let (socket, _peer) = connected(&net);
            let back = CallsBack::on(&socket);
            socket.close();
            socket.send(payload(&back, 1000)).unwrap_err();
            back.comes_to(1);
        });
        run("a send after the peer's reset", |net| {
            let (socket, peer) = connected(&net);
            let back = CallsBack::on(&socket);
            for _ in 0..16 {
                socket.send(payload(&back, 1 << 20)).unwrap();
            }
            drop(peer); // with unread input: a reset
            let mut sent = 16;
            future::block_on(or_late(async {
                while let Some(event) = socket.next_event().await {
                    if matches!(event, Event::Error(_)) {
                        socket.send(payload(&back, 10)).unwrap_err();
                        sent += 1;
                    }
                }
            }));
            back.comes_to(sent);
        });
        run("an empty send", |net| {
            let (socket, _peer) = connected(&net);
            let back = CallsBack::on(&socket);
            socket.send(payload(&back, 0)).unwrap();
            back.comes_to(1);
        });
        run("a drop with output queued", |net| {
            let (socket, peer) = connected(&net);
            let back = CallsBack::on(&socket);
            for _ in 0..16 {
                socket.send(payload(&back, 1 << 20)).unwrap();
            }
            drop(socket);
            drop(peer);
            future::block_on(or_late(net.idle()));
        });
    }
}

impl Wake for CallsBack {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.get().and_then(Weak::upgrade) {
            let _ = (socket.buffered_amount(), socket.ready_state());
        }
    }
}

/// A waker that calls back when it is woken, and when the last of its clones is dropped.
fn waker(socket: &Arc<dyn TcpSocket>) -> Waker {
    Waker::from(Arc::new(CallsBack::on(socket)))
}

#[test]
fn wakers_of_waits_are_dropped_without_a_lock() {
    for (way, net) in every_way() {
        let run = |what: &'static str, body: fn(Smol)| {
            let net = net.clone();
            in_time(way, what, move || body(net));
        };
        run("a wait that replaces another", |net| {
            let (socket, _peer) = connected(&net);
            for _ in 0..3 {
                let waker = waker(&socket);
                let polled = socket.poll_event(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
        });
        run("a wait that is given up", |net| {
            let (socket, _peer) = connected(&net);
            let waker = waker(&socket);
            let polled = socket.poll_event(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            socket.cancel_poll(&waker);
            drop(waker);
        });
        run("a wait that is woken", |net| {
            let (socket, mut peer) = connected(&net);
            let waker = waker(&socket);
            let polled = socket.poll_event(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            drop(waker);
            peer.write_all(b"x").unwrap();
            let event = future::block_on(or_late(socket.next_event()));
            assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
        });
        run("idle", |net| {
            let (socket, peer) = connected(&net);
            for _ in 0..16 {
                socket.send(Bytes::from(vec![0; 1 << 20])).unwrap();
            }
            for _ in 0..3 {
                let waker = waker(&socket);
                let polled = net.idle().as_mut().poll(&mut Context::from_waker(&waker));
                assert!(polled.is_pending());
            }
            socket.abort(None);
            drop((socket, peer));
            future::block_on(or_late(net.idle()));
        });
    }
}

/// A gate that waits until it is released, and then refuses or admits.
#[derive(Debug, Default)]
struct Waits {
    released: AtomicBool,
}

#[async_trait]
impl Gate for Waits {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        future::poll_fn(|_| match self.released.load(SeqCst) {
            true => std::task::Poll::Ready(Ok(())),
            false => std::task::Poll::Pending,
        })
        .await
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
        Arc::new(NoMeter)
    }
}

#[test]
fn wakers_of_an_admission_are_dropped_without_a_lock() {
    /// How the admission ends.
    #[derive(Clone, Copy, Debug)]
    enum End {
        Admitted,
        Closed,
        TaskDropped,
    }
    for end in [End::Admitted, End::Closed, End::TaskDropped] {
        in_time("spawner", "an admission", move || {
            let tasks: Arc<Mutex<Vec<Task>>> = Arc::default();
            let net = {
                let tasks = tasks.clone();
                Smol::with_spawner(move |task| tasks.lock().unwrap().push(task))
            };
            let gate = Arc::new(Waits::default());
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let request = local(listener.local_addr().unwrap().port());
            let socket = net.open_with(request.with_gate(gate.clone())).unwrap();
            let mut task = tasks.lock().unwrap().pop().unwrap();
            for _ in 0..3 {
                let waker = waker(&socket);
                assert!(
                    task.as_mut()
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                );
            }
            match end {
                End::Admitted => {
                    gate.released.store(true, SeqCst);
                    let waker = waker(&socket);
                    assert!(
                        task.as_mut()
                            .poll(&mut Context::from_waker(&waker))
                            .is_ready()
                    );
                }
                End::Closed => socket.close(),
                End::TaskDropped => drop(task),
            }
            let first = future::block_on(or_late(socket.next_event()));
            let as_expected = match end {
                End::Admitted => matches!(first, Some(Event::Open)),
                End::Closed => matches!(first, Some(Event::Close(_))),
                End::TaskDropped => matches!(first, Some(Event::Error(_))),
            };
            assert!(as_expected, "{end:?}: {first:?}");
        });
    }
}
