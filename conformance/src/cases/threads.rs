//! Many threads at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::prelude::*;
use crate::cx::same_bytes;
use crate::socket::merged;
use crate::sync::lock;
use tcpsocket::TcpSocket;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "threads/close-elsewhere",
        clauses: &["IF-2", "EVT-5"],
        requirement: "A close from another thread wakes the waiting task.",
        run: |cx| Box::pin(close_elsewhere(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/abort-elsewhere",
        clauses: &["IF-2", "EVT-5", "CL-18"],
        requirement: "An abort from another thread wakes the waiting task.",
        run: |cx| Box::pin(abort_elsewhere(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/control-elsewhere",
        clauses: &["GATE-11", "EVT-5"],
        needs: &[Capability::Gates],
        requirement: "Control::abort from another thread wakes the waiting task.",
        run: |cx| Box::pin(control_elsewhere(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/many-senders",
        clauses: &["IF-2", "TX-1", "EVT-7"],
        requirement: "Bytes sent by many threads on one socket arrive complete, each thread's in order.",
        run: |cx| Box::pin(many_senders(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/two-waiters",
        clauses: &["EVT-6", "EVT-2"],
        requirement: "Two threads waiting for one socket lose and repeat nothing.",
        run: |cx| Box::pin(two_waiters(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/stale-waits-given-up",
        clauses: &["EVT-16", "EVT-6"],
        requirement: "Stale waits given up by one thread never disturb another thread's wait, whatever the timing.",
        run: |cx| Box::pin(stale_waits_given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/moving-wait",
        clauses: &["EVT-2", "EVT-5"],
        requirement: "Threads can poll a socket one after another.",
        run: |cx| Box::pin(moving_wait(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/many-wait-for-idle",
        clauses: &["ACT-6"],
        requirement: "Every task waiting for idle is woken, even if others wait or have given up.",
        run: |cx| Box::pin(many_wait_for_idle(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/many-sockets",
        clauses: &["IF-2", "ACT-8"],
        requirement: "Sockets opened by many threads at once all work.",
        run: |cx| Box::pin(many_sockets(cx)),
        ..Case::MUST
    },
    Case {
        id: "threads/everything-at-once",
        clauses: &["IF-2", "EVT-7", "ST-7"],
        requirement: "Calls of every method from many threads at once end in exactly one Close.",
        run: |cx| Box::pin(everything_at_once(cx)),
        ..Case::MUST
    },
];

async fn close_elsewhere(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    let count = Arc::new(Count::default());
    let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    let other = a.raw().clone();
    cx.thread(async move { other.close() }).join().await?;
    a.is(ReadyState::Closing)?;
    cx.until_woken(&count).await?;
    a.expect("close clean").await?;
    peer.gets(b"", End::Fin).await
}

async fn abort_elsewhere(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    let count = Arc::new(Count::default());
    let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    let other = a.raw().clone();
    cx.thread(async move { other.abort(Some(told())) })
        .join()
        .await?;
    cx.until_woken(&count).await?;
    a.expect("error NotAllowedError, close failed").await?;
    peer.gets(b"", End::Reset).await
}

async fn control_elsewhere(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(reader())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let count = Arc::new(Count::default());
    let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    let watched = warden.watch_of(0)?;
    cx.thread(async move { watched.abort(told()) })
        .join()
        .await?;
    cx.until_woken(&count).await?;
    a.expect("error NotAllowedError, close failed").await?;
    peer.gets(b"", End::Reset).await
}

async fn many_senders(cx: Cx) -> Outcome {
    const THREADS: u8 = 8;
    const SENDS: u8 = 100;
    const BLOCK: usize = 64;
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    let mut running = Vec::new();
    for thread in 0..THREADS {
        let socket = a.raw().clone();
        running.push(cx.thread(async move {
            for n in 0..SENDS {
                let mut block = vec![thread; BLOCK];
                block[1] = n;
                socket.send(block.into())?;
            }
            Ok::<(), Error>(())
        }));
    }
    for it in running {
        it.join().await??;
    }
    let total = usize::from(THREADS) * usize::from(SENDS) * BLOCK;
    a.buffers(total as u64)?;
    a.close();
    // The mark may have been reached.
    let armed = if total >= 65_536 {
        "drain, close clean"
    } else {
        "close clean"
    };
    a.expect(armed).await?;
    peer.ends(End::Fin).await?;
    let received = peer.received();
    cx.check("bytes at the peer", received.len(), total)?;
    let mut next = [0; THREADS as usize];
    for block in received.chunks(BLOCK) {
        let [thread, n, ..] = *block else { continue };
        let whole = block[2..].iter().all(|b| *b == thread);
        cx.check_that("a block is whole", whole && thread < THREADS)?;
        cx.check("a thread's order", n, next[usize::from(thread)])?;
        next[usize::from(thread)] += 1;
    }
    Ok(())
}

/// Takes events until Close, with whoever else does.
async fn take_all(socket: Arc<dyn TcpSocket>, taken: Arc<Mutex<Vec<Event>>>) {
    loop {
        // Poll and note under one lock, or what two threads note would be in another order than it was returned.
        let event = poll_fn(|context| {
            let mut taken = lock(&taken);
            let polled = socket.poll_event(context);
            if let Poll::Ready(Some(event)) = &polled {
                taken.push(event.clone());
            }
            polled
        });
        if event.await.is_none() {
            return;
        }
    }
}

async fn two_waiters(cx: Cx) -> Outcome {
    let bytes = cx.bytes(300_000);
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        WritePieces {
            bytes: bytes.clone(),
            piece: 1000,
        },
        Fin,
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    let taken = Arc::<Mutex<Vec<Event>>>::default();
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(cx.thread(take_all(a.raw().clone(), taken.clone())));
    }
    cx.signal("write");
    peer.until("the end came back", |it| it.end.is_some())
        .await?;
    cx.until("Close is returned", || {
        matches!(lock(&taken).last(), Some(Event::Close(_)))
    })
    .await?;
    // Only one of them is sure to be woken; the other learns of the end by being asked to look once more.
    drop(running);
    let taken = lock(&taken);
    cx.check(
        "the events",
        merged(&*taken).as_str(),
        "data 300000, close clean",
    )?;
    let data = taken.iter().filter_map(|it| match it {
        Event::Data(data) => Some(&**data),
        _ => None,
    });
    same_bytes(
        "what was delivered",
        &data.collect::<Vec<_>>().concat(),
        &bytes,
    )
}

async fn stale_waits_given_up(cx: Cx) -> Outcome {
    const ROUNDS: usize = 1000;
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = Arc::new(cx.open(&peer).await?);
    // Once in each round, or the next one would make good what the last has spoilt.
    let round = Arc::new(AtomicUsize::new(0));
    let (socket, begun) = (a.raw().clone(), round.clone());
    let giving_up = cx.thread(async move {
        let stale = Waker::from(Arc::new(Count::default()));
        let mut last = 0;
        while last < ROUNDS {
            let now = begun.load(Ordering::SeqCst);
            if now == last {
                std::thread::yield_now();
                continue;
            }
            // At another moment of each.
            (0..now % 64 * 16).for_each(|_| std::hint::spin_loop());
            socket.cancel_poll(&stale.clone());
            last = now;
        }
    });
    let it = a.clone();
    let talking = cx.thread(async move {
        let outcome = async {
            for n in 1..=ROUNDS {
                it.sends(10, true)?;
                round.store(n, Ordering::SeqCst);
                it.expect("data 10").await?;
            }
            Ok::<(), Failure>(())
        };
        let outcome = outcome.await;
        round.store(ROUNDS, Ordering::SeqCst);
        outcome
    });
    talking.join().await??;
    giving_up.join().await?;
    a.check_received(&a.sent())
}

async fn moving_wait(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = Arc::new(cx.open(&peer).await?);
    for _ in 0..8 {
        let it = a.clone();
        let thread = cx.thread(async move {
            it.sends(1000, true)?;
            it.expect("data 1000").await
        });
        thread.join().await??;
        a.sends(10, true)?;
        a.expect("data 10").await?;
    }
    a.check_received(&a.sent())
}

async fn many_wait_for_idle(cx: Cx) -> Outcome {
    for signal in ["first", "second"] {
        let peer = cx.peer(holder_until(signal))?;
        let a = cx.open(&peer).await?;
        a.sends(STUCK, false)?;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let provider = cx.provider().clone();
            let idle = cx.waiter(async move { provider.idle().await });
            idle.is_parked().await?;
            waiting.push(idle);
            // And one that gives up, before the next and behind it.
            let mut given_up = pin!(cx.provider().idle());
            let pending = poll_once(given_up.as_mut()).is_pending();
            cx.check_that("idle waits", pending)?;
        }
        cx.signal(signal);
        for idle in waiting {
            idle.join().await?;
        }
        a.expect("drain").await?;
    }
    Ok(())
}

async fn many_sockets(cx: Cx) -> Outcome {
    let mut running = Vec::new();
    for _ in 0..16 {
        let it = cx.clone();
        running.push(cx.thread(async move {
            for _ in 0..4 {
                let peer = it.peer(Script::listen([Accept, Echo]))?;
                let a = it.open(&peer).await?;
                for _ in 0..5 {
                    a.sends(3000, true)?;
                    a.expect("data 3000").await?;
                }
                a.close();
                a.expect("close clean").await?;
                peer.gets(&a.sent(), End::Fin).await?;
            }
            Ok::<(), Failure>(())
        }));
    }
    for it in running {
        it.join().await??;
    }
    Ok(())
}

async fn everything_at_once(cx: Cx) -> Outcome {
    for round in 0..10u64 {
        let peer = cx.peer(Script::listen([Accept, Echo]))?;
        let a = cx.opening(&peer)?;
        let mut running = Vec::new();
        for thread in 0..6u64 {
            let socket = a.raw().clone();
            let mut dice = crate::pattern::mix(cx.seed() ^ (round << 8) ^ thread);
            running.push(cx.thread(async move {
                for _ in 0..200 {
                    dice = crate::pattern::mix(dice);
                    // Errors are answers here; it is only required that there is one.
                    match dice % 64 {
                        0..30 => _ = socket.send(Bytes::from_static(&[1; 700])),
                        30..40 => socket.suspend(),
                        40..50 => _ = socket.resume(),
                        50..55 => socket.cancel_poll(&Waker::noop().clone()),
                        55..63 => _ = (socket.ready_state(), socket.buffered_amount()),
                        _ if round % 2 == 0 => socket.close(),
                        _ => socket.abort(None),
                    }
                }
            }));
        }
        for it in running {
            it.join().await?;
        }
        a.close();
        a.is(ReadyState::Closing)?;
        // What was given up before it was open has no Open, and no Drain.
        a.ends(&["close clean", "drain, close clean"]).await?;
    }
    Ok(())
}
