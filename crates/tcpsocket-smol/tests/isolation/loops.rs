//! Several threads in one loop: who drives, who follows, and who is woken.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};

use futures_lite::future;
use tcpsocket::{Event, SocketProvider, TcpSocket, TcpSocketExt};
use tcpsocket_smol::{Loop, Smol};

use crate::support::{DEADLINE, connected, or_late};

/// A thread inside `block_on`, until it is told to leave.
struct Driver {
    stop: smol::channel::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Driver {
    /// Returns once the thread has its place.
    fn start(event_loop: &Loop) -> Driver {
        let event_loop = event_loop.clone();
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let (inside, is_inside) = mpsc::channel();
        let thread = thread::spawn(move || {
            event_loop.block_on(async {
                inside.send(()).unwrap();
                // An error: the sender is gone.
                let _ = stopped.recv().await;
            });
        });
        is_inside.recv_timeout(DEADLINE).unwrap();
        Driver { stop, thread }
    }

    fn leave(self) {
        drop(self.stop);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_follower_is_woken_while_another_thread_drives() {
    let event_loop = Loop::new().unwrap();
    let (socket, mut peer) = connected(&Smol::on(&event_loop));
    let driver = Driver::start(&event_loop);
    let (waits, does_wait) = mpsc::channel();
    let (heard, was_heard) = mpsc::channel();
    let follower = {
        thread::spawn(move || {
            event_loop.block_on(async {
                let event = future::poll_fn(|cx| {
                    let polled = socket.poll_event(cx);
                    if polled.is_pending() {
                        let _ = waits.send(()); // an error after the first time: the other has gone on
                    }
                    polled
                });
                heard.send(event.await).unwrap();
            });
        })
    };
    does_wait.recv_timeout(DEADLINE).unwrap();
    peer.write_all(b"hello").unwrap();
    // The driver is still inside, so only its wake can have reached the follower.
    let event = was_heard.recv_timeout(DEADLINE);
    driver.leave();
    follower.join().unwrap();
    assert!(matches!(event, Ok(Some(Event::Data(_)))), "{event:?}");
}

/// Tells on which thread it was woken, and wakes the task.
struct Informer {
    task: Waker,
    woken_on: Mutex<Option<ThreadId>>,
}

impl Wake for Informer {
    fn wake(self: Arc<Self>) {
        *self.woken_on.lock().unwrap() = Some(thread::current().id());
        self.task.wake_by_ref();
    }
}

/// The thread that woke a wait for the next event, `None` if it had not to wait.
async fn woken_on(socket: &dyn TcpSocket, waits: &mpsc::Sender<()>) -> Option<ThreadId> {
    let mut informer: Option<Arc<Informer>> = None;
    let event = future::poll_fn(|cx| {
        let informer = informer.get_or_insert_with(|| {
            Arc::new(Informer {
                task: cx.waker().clone(),
                woken_on: Mutex::default(),
            })
        });
        let waker = Waker::from(informer.clone());
        let polled = socket.poll_event(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            waits.send(()).unwrap();
        }
        polled
    })
    .await;
    assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
    informer.and_then(|informer| informer.woken_on.lock().unwrap().take())
}

#[test]
fn a_follower_takes_the_seat_before_the_keeper_does() {
    /// The follower waits for the seat a moment after its socket was polled, so the keeper may see the first of them.
    const EVENTS: usize = 100;
    for round in 0..40 {
        let event_loop = Loop::new().unwrap();
        // Nobody is in `block_on`, so the keeper lives already.
        let (socket, mut peer) = connected(&Smol::on(&event_loop));
        let driver = Driver::start(&event_loop);
        let (waits, does_wait) = mpsc::channel();
        let follower = {
            let event_loop = event_loop.clone();
            thread::spawn(move || {
                let drives = async {
                    for _ in 0..EVENTS {
                        if woken_on(&*socket, &waits).await == Some(thread::current().id()) {
                            return true;
                        }
                    }
                    false
                };
                event_loop.block_on(or_late(drives))
            })
        };
        does_wait.recv_timeout(DEADLINE).unwrap();
        driver.leave();
        peer.write_all(b"first").unwrap();
        // Ends when the follower does.
        while does_wait.recv_timeout(DEADLINE).is_ok() {
            peer.write_all(b"next").unwrap();
        }
        assert!(follower.join().unwrap(), "in round {round}");
    }
}

#[test]
fn a_follower_that_leaves_hands_the_seat_on() {
    // The driver leaves, the follower is done at the same moment: the keeper must come back.
    for _ in 0..40 {
        let event_loop = Loop::new().unwrap();
        let (socket, mut peer) = connected(&Smol::on(&event_loop));
        let driver = Driver::start(&event_loop);
        let follower = Driver::start(&event_loop);
        let leaving = thread::spawn(move || driver.leave());
        follower.leave();
        leaving.join().unwrap();
        peer.write_all(b"hello").unwrap();
        let event = future::block_on(or_late(socket.next_event()));
        assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
    }
}

#[test]
fn many_threads_follow_and_all_are_woken() {
    const THREADS: usize = 4;
    const ROUNDS: u32 = 500;
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let pairs: Vec<_> = (0..THREADS).map(|_| connected(&net)).collect();
    thread::scope(|scope| {
        for (socket, mut peer) in pairs {
            let event_loop = &event_loop;
            scope.spawn(move || {
                let mut byte = [0];
                for _ in 0..ROUNDS {
                    peer.write_all(b"?").unwrap();
                    peer.read_exact(&mut byte).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    let event = event_loop.block_on(or_late(socket.next_event()));
                    assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
                    socket.send("!".into()).unwrap();
                }
            });
        }
    });
    future::block_on(or_late(net.idle()));
}
