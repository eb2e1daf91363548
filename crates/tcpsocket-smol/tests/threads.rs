//! Sockets that move between threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use tcpsocket::{
    BinaryType, Event, ServerEvent, ServerSocketOptions, SocketOptions, SocketProviderExt,
    TcpServerSocketExt, TcpSocket, TcpSocketExt,
};
use tcpsocket_smol::{Loop, Smol};

const SOCKETS: usize = 64;
const THREADS: usize = 4;
const OPERATIONS: usize = 100_000;

struct Pair {
    ends: [Arc<dyn TcpSocket>; 2],
    rounds: u32,
}

async fn pairs(net: &Smol, count: usize) -> Vec<Pair> {
    let options = ServerSocketOptions::new()
        .address([127, 0, 0, 1])
        .binary_type(BinaryType::ArrayBuffer);
    let server = net.listen(0, options, SOCKETS as i64).await.unwrap();
    let mut pairs = Vec::new();
    for _ in 0..count {
        let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
        let opened = net
            .connect("127.0.0.1", server.local_port(), options)
            .await
            .unwrap();
        match server.next_event().await {
            Some(ServerEvent::Connect(accepted)) => pairs.push(Pair {
                ends: [opened, accepted],
                rounds: 0,
            }),
            other => panic!("{other:?}"),
        }
    }
    pairs
}

/// One end says a number, the other must hear it. Then they change places.
async fn round(pair: &mut Pair) {
    let [from, to] = &pair.ends;
    let said = pair.rounds.to_be_bytes();
    from.send(said.to_vec().into()).unwrap();
    let mut heard = Vec::new();
    while heard.len() < said.len() {
        match to.next_event().await {
            Some(Event::Data(data)) => heard.extend_from_slice(&data),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, said);
    pair.rounds += 1;
    pair.ends.swap(0, 1);
}

/// Whichever thread takes a pair next does its next round: a wake-up that is lost is a round that never ends.
fn no_wake_up_is_lost(net: Smol, setup: impl FnOnce(future::Boxed<Vec<Pair>>) -> Vec<Pair>) {
    let made = setup(Box::pin(async move { pairs(&net, SOCKETS).await }));
    let (put, take) = smol::channel::unbounded();
    for pair in made {
        put.try_send(pair).unwrap();
    }
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while done.fetch_add(1, SeqCst) < OPERATIONS {
                    future::block_on(async {
                        let mut pair = take.recv().await.unwrap();
                        let late = async {
                            smol::Timer::after(Duration::from_secs(20)).await;
                            panic!("a wake-up was lost");
                        };
                        future::or(round(&mut pair), late).await;
                        put.send(pair).await.unwrap();
                    });
                }
            });
        }
    });
    assert_eq!(take.len(), SOCKETS);
}

#[test]
fn written_through() {
    no_wake_up_is_lost(Smol::new(), future::block_on);
}

#[test]
fn with_a_spawner() {
    let net = Smol::with_spawner(|task| smol::spawn(task).detach());
    no_wake_up_is_lost(net, future::block_on);
}

#[test]
fn on_our_loop_driven_by_its_own_thread() {
    let event_loop = Loop::new().unwrap();
    no_wake_up_is_lost(Smol::on(&event_loop), future::block_on);
}

#[test]
fn on_our_loop_with_block_ons_that_come_and_go() {
    let event_loop = Loop::new().unwrap();
    let net = Smol::on(&event_loop);
    let stop = Arc::new(AtomicUsize::new(0));
    let visitor = {
        let (event_loop, stop) = (event_loop.clone(), stop.clone());
        thread::spawn(move || {
            let mut visits = 0usize;
            while stop.load(SeqCst) == 0 {
                event_loop.block_on(future::yield_now());
                visits += 1;
                thread::yield_now();
            }
            visits
        })
    };
    no_wake_up_is_lost(net, |making| event_loop.block_on(making));
    stop.store(1, SeqCst);
    assert!(visitor.join().unwrap() > 0);
}
