//! Turns and events: what a caller sees, and when it is woken.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};

use futures_core::Stream as _;

use super::prelude::*;
use crate::runner::INTENDED;
use crate::sync::lock;
use tcpsocket::{Handlers, ServerHandlers, TcpSocket};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "turns/amount-stays",
        clauses: &["TURN-2", "TURN-6", "TURN-4", "ACT-1"],
        requirement: "Within a turn buffered_amount only grows, although sent bytes have left.",
        run: |cx| Box::pin(amount_stays(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/amount-is-live-while-parked",
        clauses: &["TURN-3", "TURN-1"],
        requirement: "While a wait is parked, buffered_amount is live: the bytes held at that moment.",
        run: |cx| Box::pin(amount_is_live_while_parked(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/begin-with-an-event",
        clauses: &["TURN-1", "TURN-2"],
        requirement: "A turn begins when an event is returned, with the bytes held then.",
        run: |cx| Box::pin(begin_with_an_event(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/begin-when-a-wait-is-given-up",
        clauses: &["TURN-1", "EVT-16", "EVT-17"],
        requirement: "A turn begins when a wait is given up, by cancel_poll or by dropping next_event.",
        run: |cx| Box::pin(begin_when_a_wait_is_given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/begin-with-an-accepted-socket",
        clauses: &["TURN-1", "TURN-4"],
        needs: &[Capability::Listen],
        requirement: "An accepted socket's first turn begins when the server returns it.",
        run: |cx| Box::pin(begin_with_an_accepted_socket(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/cancel-without-a-wait",
        clauses: &["EVT-16"],
        requirement: "cancel_poll without a wait does nothing.",
        run: |cx| Box::pin(cancel_without_a_wait(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/state-is-not-live",
        clauses: &["TURN-5", "CL-5"],
        requirement: "ready_state moves only in the caller's calls, and in the poll that returns the event.",
        run: |cx| Box::pin(state_is_not_live(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/abort-keeps-the-amount",
        clauses: &["TURN-2", "TX-11"],
        requirement: "abort does not lower buffered_amount; the poll that returns the end does.",
        run: |cx| Box::pin(abort_keeps_the_amount(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/latest-waker",
        clauses: &["EVT-1", "EVT-5"],
        requirement: "The latest waker is woken, and a replaced one is not.",
        run: |cx| Box::pin(latest_waker(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/forgotten-waker",
        clauses: &["EVT-16"],
        requirement: "cancel_poll forgets the waker.",
        run: |cx| Box::pin(forgotten_waker(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/stale-wait-given-up",
        clauses: &["EVT-16", "EVT-17", "EVT-6"],
        requirement: "Giving up one wait cancels no other task's wait, nor does dropping a future that does not wait.",
        run: |cx| Box::pin(stale_wait_given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/every-event-wakes",
        clauses: &["EVT-5"],
        requirement: "Open, data, drain, an error and the end each wake a parked wait.",
        run: |cx| Box::pin(every_event_wakes(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/waits-given-up-lose-nothing",
        clauses: &["EVT-2", "EVT-17"],
        requirement: "However many waits are given up, every byte and every event is returned once.",
        run: |cx| Box::pin(waits_given_up_lose_nothing(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/waker-may-call-anything",
        clauses: &["EVT-7", "IF-2"],
        requirement: "A waker may call any method of its socket while it is woken and while it is dropped.",
        run: |cx| Box::pin(waker_may_call_anything(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/stream-of-events",
        clauses: &["EVT-17", "EVT-3"],
        requirement: "The stream of events returns the same events as polling, and ends after Close.",
        run: |cx| Box::pin(stream_of_events(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/handlers",
        clauses: &["EVT-9", "EVT-10", "EVT-11"],
        requirement: "Handlers see every event, can clear themselves, and run ends after Close.",
        run: |cx| Box::pin(handlers(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/handlers-go-on",
        clauses: &["EVT-11"],
        requirement: "After run is dropped, or a handler panics, a later run continues.",
        run: |cx| Box::pin(handlers_go_on(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/connection-without-a-handler",
        clauses: &["EVT-10", "EVT-9"],
        needs: &[Capability::Listen],
        requirement: "A connection without an on_connect handler is closed.",
        run: |cx| Box::pin(connection_without_a_handler(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/closed-discards",
        clauses: &["EVT-12"],
        requirement: "closed consumes all events, and returns the Close or the error before it.",
        run: |cx| Box::pin(closed_discards(cx)),
        ..Case::MUST
    },
    Case {
        id: "turns/writable-waits-for-the-drain",
        clauses: &["EVT-13"],
        needs: &[Capability::Suspend],
        requirement: "writable returns when sending is worthwhile again, and loses no data.",
        run: |cx| Box::pin(writable_waits_for_the_drain(cx)),
        ..Case::MUST
    },
];

async fn amount_stays(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    a.sends(65_536, true)?;
    // Nobody polls, and it leaves.
    peer.begins(&a.sent()).await?;
    cx.fence().await?;
    a.buffers(65_536)?;
    a.sends(3, false)?;
    peer.begins(&a.sent()).await?;
    cx.fence().await?;
    a.buffers(65_539)
}

async fn amount_is_live_while_parked(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    let pending = a.poll().is_pending();
    cx.check_that("the wait is parked", pending)?;
    cx.fence().await?;
    let held = a.raw().buffered_amount();
    cx.check_that("the kernel has taken some", held > 0 && held < STUCK as u64)?;
    cx.signal("read on");
    cx.until("the amount falls to 0", || a.raw().buffered_amount() == 0)
        .await?;
    a.expect("drain").await
}

async fn begin_with_an_event(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(1000),
        Write(cx.bytes(3)),
        Signal("written"),
        Read(500),
        Signal("read"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(1000, true)?;
    cx.signalled("written").await?;
    a.buffers(1000)?;
    a.expect("data 3").await?;
    a.buffers(0)?;
    a.sends(500, true)?;
    cx.signalled("read").await?;
    cx.fence().await?;
    a.buffers(500)
}

async fn begin_when_a_wait_is_given_up(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    for by_drop in [false, true, false] {
        a.sends(1000, true)?;
        peer.begins(&a.sent()).await?;
        a.buffers(1000)?;
        if by_drop {
            let mut waiting = pin!(a.raw().next_event());
            let pending = poll_once(waiting.as_mut()).is_pending();
            cx.check_that("the wait is parked", pending)?;
        } else {
            cx.check_that("the wait is parked", a.poll().is_pending())?;
            a.raw().cancel_poll(&Waker::noop().clone());
        }
        a.buffers(0)?;
        a.sends(65_536, true)?;
        peer.begins(&a.sent()).await?;
        cx.fence().await?;
        a.sends(3, false)?;
        a.buffers(65_539)?;
        a.expect("drain").await?;
    }
    Ok(())
}

async fn begin_with_an_accepted_socket(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([Connect(server.address()), ReadToEnd]))?;
    let a = server.accept().await?;
    a.sends(65_536, true)?;
    peer.begins(&a.sent()).await?;
    cx.fence().await?;
    a.buffers(65_536)?;
    a.sends(3, false)?;
    a.expect("drain").await
}

async fn cancel_without_a_wait(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    a.raw().cancel_poll(&Waker::noop().clone());
    a.expect("open").await?;
    a.sends(1000, true)?;
    peer.begins(&a.sent()).await?;
    a.raw().cancel_poll(&Waker::noop().clone());
    a.buffers(1000)?;
    a.close();
    a.raw().cancel_poll(&Waker::noop().clone());
    a.expect("close clean").await?;
    a.raw().cancel_poll(&Waker::noop().clone());
    cx.check_that("None", matches!(a.poll(), Poll::Ready(None)))
}

async fn state_is_not_live(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Fin, Signal("ended"), ReadToEnd]))?;
    let a = cx.open(&peer).await?;
    cx.signalled("ended").await?;
    cx.fence().await?;
    a.is(ReadyState::Open)?;
    let pending = Arc::new(Count::default());
    // A poll may find the end at once, or park and be woken; the state moves with the event only.
    loop {
        match a.poll_with(&Waker::from(pending.clone())) {
            Poll::Ready(event) => {
                a.is(ReadyState::Closed)?;
                a.note(event.as_ref())?;
                return a.expect("close clean").await;
            }
            Poll::Pending => {
                a.is(ReadyState::Open)?;
                cx.until_woken(&pending).await?;
                a.is(ReadyState::Open)?;
            }
        }
    }
}

async fn abort_keeps_the_amount(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.abort(Some(told()));
    a.buffers(STUCK as u64)?;
    cx.fence().await?;
    a.buffers(STUCK as u64)?;
    a.expect("error NotAllowedError").await?;
    a.buffers(0)?;
    a.expect("close failed").await
}

async fn latest_waker(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Wait("write"), Write(cx.bytes(3))]))?;
    let a = cx.open(&peer).await?;
    let [first, second] = [Arc::new(Count::default()), Arc::new(Count::default())];
    // What an implementation had to wake itself for is over after the first polls.
    a.quiet().await?;
    let mut before = 0;
    for count in [&first, &second] {
        // While it was the latest, the first may have been woken for nothing.
        before = first.get();
        let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
        cx.check_that("the wait is parked", pending)?;
    }
    cx.check("wakes of the first, replaced", first.get(), before)?;
    cx.signal("write");
    cx.until_woken(&second).await?;
    cx.fence().await?;
    cx.check("wakes of the first in the end", first.get(), before)?;
    a.expect("data 3").await
}

async fn forgotten_waker(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(3)),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.quiet().await?;
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let pending = a.poll_with(&waker).is_pending();
    cx.check_that("the wait is parked", pending)?;
    a.raw().cancel_poll(&waker.clone());
    drop(waker);
    let let_go = || Arc::strong_count(&count) == 1;
    cx.until("the waker is let go", let_go).await?;
    // Before it was given up it may have been woken for nothing.
    let before = count.get();
    cx.signal("write");
    cx.signalled("written").await?;
    cx.fence().await?;
    cx.check("wakes since", count.get(), before)?;
    a.expect("data 3").await
}

async fn stale_wait_given_up(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("0"),
        Write(cx.bytes(3)),
        Wait("1"),
        Write(cx.bytes(3)),
        Wait("2"),
        Write(cx.bytes(3)),
        Wait("3"),
        Write(cx.bytes(3)),
        Wait("4"),
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    let stale = Waker::from(Arc::new(Count::default()));
    let context = || Context::from_waker(&stale);
    let expected = ["data 3", "data 3", "data 3", "data 3", "close clean"];
    for (signal, expected) in ["0", "1", "2", "3", "4"].into_iter().zip(expected) {
        let mut next = a.raw().next_event();
        let mut events = a.raw().events();
        let parked = match signal {
            "0" => a.poll_with(&stale).is_pending(),
            "1" => Pin::new(&mut next).poll(&mut context()).is_pending(),
            "2" => Pin::new(&mut events).poll_next(&mut context()).is_pending(),
            _ => true,
        };
        cx.check_that("the first wait is parked", parked)?;
        let other = a.raw().clone();
        let waiting = cx.waiter(async move { other.next_event().await });
        waiting.is_parked().await?;
        match signal {
            "0" => a.raw().cancel_poll(&stale.clone()),
            "1" | "3" => drop(next),
            _ => drop(events),
        }
        cx.signal(signal);
        let event = waiting.join().await?;
        a.note(event.as_ref())?;
        a.expect(expected).await?;
    }
    Ok(())
}

async fn every_event_wakes(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Wait("accept"),
        Accept,
        Wait("write"),
        Write(cx.bytes(3)),
        Wait("read"),
        Read(STUCK),
        Wait("end"),
        Fin,
    ]))?;
    let a = cx.opening(&peer)?;
    cx.signal("accept");
    // The recorder polls when it was woken and only then.
    a.expect("open").await?;
    for (signal, expected) in [
        ("write", "data 3"),
        ("read", "drain"),
        ("end", "close clean"),
    ] {
        if signal == "read" {
            a.sends(STUCK, false)?;
        }
        let count = Arc::new(Count::default());
        let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
        cx.check_that("the wait is parked", pending)?;
        cx.signal(signal);
        cx.until_woken(&count).await?;
        a.expect(expected).await?;
    }

    let peer = cx.peer(resetter())?;
    let b = cx.open(&peer).await?;
    let count = Arc::new(Count::default());
    let pending = b.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    cx.signal("reset");
    cx.until_woken(&count).await?;
    b.expect("error NetworkError, close failed").await
}

async fn waits_given_up_lose_nothing(cx: Cx) -> Outcome {
    let bytes = cx.bytes(300);
    let peer = cx.peer(Script::listen([
        Accept,
        WritePieces {
            bytes: bytes.clone(),
            piece: 1,
        },
        Fin,
    ]))?;
    let a = cx.opening(&peer)?;
    loop {
        let polled = {
            let mut waiting = pin!(a.raw().next_event());
            poll_once(waiting.as_mut())
        };
        match polled {
            Poll::Ready(Some(event)) => a.note(Some(&event))?,
            Poll::Ready(None) => break,
            Poll::Pending => cx.fence().await?,
        }
    }
    a.expect("open, data 300, close clean").await?;
    a.check_received(&bytes)
}

/// A waker that uses the socket in every way.
struct Meddler(Arc<dyn TcpSocket>, Arc<AtomicUsize>);

impl Meddler {
    fn meddle(&self) {
        let it = &self.0;
        it.suspend();
        // Balanced or not, it must return.
        let _ = it.resume();
        let _ = it.send(Bytes::from_static(b"!"));
        let _ = (it.buffered_amount(), it.ready_state(), it.security());
        let _ = (it.host().len(), it.port(), it.ssl(), it.binary_type());
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wake for Meddler {
    fn wake(self: Arc<Meddler>) {
        // Not when it is dropped: then the wait that it would give up is its successor's.
        self.0.cancel_poll(&Waker::from(self.clone()));
        self.meddle();
    }
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.meddle();
    }
}

async fn waker_may_call_anything(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(3)),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let meddler = || Waker::from(Arc::new(Meddler(a.raw().clone(), calls.clone())));
    // Dropped by being replaced, dropped by cancel_poll, dropped by its own wake.
    for _ in 0..2 {
        let pending = a.poll_with(&meddler()).is_pending();
        cx.check_that("the wait is parked", pending)?;
    }
    let last = meddler();
    let pending = a.poll_with(&last).is_pending();
    cx.check_that("the wait is parked", pending)?;
    a.raw().cancel_poll(&last.clone());
    drop(last);
    let pending = a.poll_with(&meddler()).is_pending();
    cx.check_that("the wait is parked", pending)?;
    let before = calls.load(Ordering::SeqCst);
    cx.signal("write");
    let end = cx.world().now() + crate::wait::PATIENCE;
    while calls.load(Ordering::SeqCst) == before && cx.world().now() < end {
        cx.passes(std::time::Duration::from_millis(1)).await;
    }
    a.expect("data 3").await?;
    // What is parked at the end is woken or dropped by the close, and may close as well.
    let pending = a.poll_with(&meddler()).is_pending();
    cx.check_that("the wait is parked", pending)?;
    a.close();
    a.expect("close clean").await
}

async fn stream_of_events(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Write(cx.bytes(10)), Fin]))?;
    let a = cx.opening(&peer)?;
    let mut events = a.raw().events();
    loop {
        let next = poll_fn(|context| Pin::new(&mut events).poll_next(context));
        let Some(event) = cx.within("an event", next).await? else {
            break;
        };
        a.note(Some(&event))?;
    }
    a.expect("open, data 10, close clean").await
}

async fn handlers(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(3)),
        Read(1),
        Write(cx.bytes(3)),
        Read(65_539),
        Fin,
    ]))?;
    let a = cx.opening(&peer)?;
    let told = Arc::<Mutex<Vec<&str>>>::default();
    let tell = |what: &'static str| {
        let told = told.clone();
        move || lock(&told).push(what)
    };
    let handlers = Handlers::new(a.raw().clone());
    let (open, data, later, drain, close) = (
        tell("open"),
        tell("data"),
        tell("later data"),
        tell("drain"),
        tell("close"),
    );
    handlers
        .on_open(move |_| open())
        .on_data(move |it, _| {
            data();
            let later = later.clone();
            // For the next event, in place of the handler that runs.
            it.on_data(move |it, _| {
                later();
                it.clear_data();
                let _ = it.socket().send(Bytes::from_static(&[7; 65_539]));
            });
            let _ = it.socket().send(Bytes::from_static(b"!"));
        })
        .on_drain(move |it| {
            drain();
            it.clear_drain();
        })
        .on_error(|_, error| panic!("{error}"))
        .on_close(move |_, _| close());
    cx.within("run", handlers.run()).await?;
    let told = lock(&told).clone();
    cx.check(
        "handlers that ran",
        told,
        vec!["open", "data", "later data", "drain", "close"],
    )
}

async fn handlers_go_on(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(3)),
        Signal("written"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    let handlers = Handlers::new(a.raw().clone());
    {
        let mut run = pin!(handlers.run());
        let pending = poll_once(run.as_mut()).is_pending();
        cx.check_that("run waits", pending)?;
    }
    cx.signal("write");
    cx.signalled("written").await?;
    handlers.on_data(|_, _| panic!("{INTENDED}"));
    let panicked = {
        let mut run = pin!(handlers.run());
        let polling = poll_fn(|context| {
            let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)));
            match polled {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(false),
                Err(_) => Poll::Ready(true),
            }
        });
        cx.within("a handler panics", polling).await?
    };
    cx.check_that("the panic came through", panicked)?;
    a.is(ReadyState::Open)?;
    a.sends(5, true)?;
    a.close();
    cx.within("run", handlers.run()).await?;
    a.is(ReadyState::Closed)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn connection_without_a_handler(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let handlers = ServerHandlers::new(server.raw().clone());
    let first = cx.peer(Script::dial([
        Connect(server.address()),
        ReadToEnd,
        Signal("ended"),
    ]))?;
    let run = handlers.clone();
    // `run` needs no runtime of its own: it is only woken.
    let running = cx.thread(async move { run.run().await });
    cx.signalled("ended").await?;
    cx.check("the end", first.report().end, Some(End::Fin))?;
    let accepted = Arc::<Mutex<Option<Arc<dyn TcpSocket>>>>::default();
    let (slot, bell) = (accepted.clone(), cx.bell().clone());
    handlers.on_connect(move |it, socket| {
        *lock(&slot) = Some(socket);
        it.server().close();
        bell.ring();
    });
    let second = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    cx.until("on_connect", || lock(&accepted).is_some()).await?;
    running.join().await?;
    handlers.clear_connect();
    let raw = lock(&accepted).take();
    let a = cx.socket(raw.ok_or_else(|| Failure::new("no socket"))?, true);
    a.sends(3, true)?;
    a.expect("data 3").await?;
    cx.check("the second peer", second.report().end, None)
}

async fn closed_discards(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Write(cx.bytes(100_000)), Fin]))?;
    let a = cx.open(&peer).await?;
    let close = cx.within("closed", a.raw().closed()).await??;
    cx.check("clean", close.clean, true)?;
    let again = cx.within("closed", a.raw().closed()).await??;
    cx.check("clean", again.clean, true)?;

    let peer = cx.peer(Script::refuse())?;
    let b = cx.opening(&peer)?;
    let result = cx.within("closed", b.raw().closed()).await?;
    cx.check_error("closed", result, "ConnectionRefusedError")
}

async fn writable_waits_for_the_drain(cx: Cx) -> Outcome {
    let bytes = cx.bytes(1000);
    let script = [Accept, Write(bytes.clone()), Wait("read on"), ReadToEnd];
    let peer = cx.peer(Script::listen(script).receive_buffer(32_768))?;
    let a = cx.opening(&peer)?;
    let early = cx.within("writable", a.raw().writable()).await?;
    cx.check_error("writable", early, "InvalidStateError")?;
    a.expect("open").await?;
    a.sends(65_536, true)?;
    cx.within("writable", a.raw().writable()).await??;
    a.sends(STUCK, false)?;
    {
        let mut waiting = pin!(a.raw().writable());
        for _ in 0..3 {
            cx.fence().await?;
            let pending = poll_once(waiting.as_mut()).is_pending();
            cx.check_that("writable waits", pending)?;
        }
    }
    cx.signal("read on");
    cx.within("writable", a.raw().writable()).await??;
    a.buffers(0)?;
    a.expect("data 1000").await?;
    a.check_received(&bytes)?;
    a.close();
    a.expect("close clean").await?;
    let late = cx.within("writable", a.raw().writable()).await?;
    cx.check_error("writable", late, "InvalidStateError")?;
    peer.gets(&a.sent(), End::Fin).await
}
