//! Meters: every byte is accounted for.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Weak};

use tcpsocket::{Control, Gate, Host, Meter, TcpSocket, async_trait};

use super::prelude::*;
use crate::sync::lock;
use crate::warden::Tally;

const GATES: &[Capability] = &[Capability::Gates];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "meters/what-moves",
        clauses: &["ACC-1", "ACC-2", "ACC-4"],
        needs: GATES,
        requirement: "A meter is told of bytes queued, written and read, and is dropped after the last report.",
        run: |cx| Box::pin(what_moves(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/live",
        clauses: &["ACC-2"],
        needs: GATES,
        requirement: "A meter is told at once: of written bytes when the kernel takes them, of read bytes on delivery.",
        run: |cx| Box::pin(live(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/dropped-bytes",
        clauses: &["ACC-1", "ACC-2", "ACC-4", "CL-9"],
        needs: GATES,
        requirement: "queued = written + dropped, however a socket ends.",
        run: |cx| Box::pin(dropped_bytes(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/last-report-after-the-flush",
        clauses: &["ACC-4", "ACT-5"],
        needs: GATES,
        requirement: "A meter outlives the handles until everything has been flushed.",
        run: |cx| Box::pin(last_report_after_the_flush(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/last-report-with-handles-alive",
        clauses: &["ACC-4"],
        needs: GATES,
        requirement: "A meter is dropped once nothing can move any more, even while handles are alive.",
        run: |cx| Box::pin(last_report_with_handles_alive(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/accepted-sockets",
        clauses: &["ACC-3", "ACC-1"],
        needs: &[Capability::Gates, Capability::Listen],
        requirement: "An accepted socket has a meter of its own.",
        run: |cx| Box::pin(accepted_sockets(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/quota",
        clauses: &["ACC-5", "TX-1", "ERR-11"],
        needs: GATES,
        requirement: "A send refused by a meter queues nothing and changes nothing.",
        run: |cx| Box::pin(quota(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/quota-of-the-second",
        clauses: &["ACC-5", "ACC-1"],
        needs: GATES,
        requirement: "If a later meter refuses, the earlier ones are told that the bytes were dropped.",
        run: |cx| Box::pin(quota_of_the_second(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/every-ending",
        clauses: &["ACC-1", "ACC-4"],
        needs: GATES,
        requirement: "However a socket ends, polled or not, its meter's sums are right and the meter is dropped.",
        run: |cx| Box::pin(every_ending(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/may-call-back",
        clauses: &["LIFE-10", "GATE-12"],
        needs: GATES,
        requirement: "A meter may call its socket and its control during a report and while it is dropped.",
        run: |cx| Box::pin(may_call_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "meters/refused-opens",
        clauses: &["ACC-4", "GATE-10"],
        needs: GATES,
        requirement: "The meter of a socket that never opened is dropped with it, with all counts zero.",
        run: |cx| Box::pin(refused_opens(cx)),
        ..Case::MUST
    },
];

fn totals(cx: &Cx, tally: &Tally, queued: usize, written: usize, read: usize) -> Outcome {
    let expected = Tally {
        queued,
        written,
        read,
        dropped: queued - written,
        gone: true,
        wrong: false,
    };
    cx.check("the meter", tally.clone(), expected)
}

async fn what_moves(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let bytes = cx.bytes(5000);
    let peer = cx.peer(Script::listen([
        Accept,
        Read(70_003),
        Write(bytes),
        ReadToEnd,
        Fin,
    ]))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    a.sends(70_000, false)?;
    a.sends(3, false)?;
    a.expect("drain, data 5000").await?;
    a.sends(7, true)?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    let tally = warden.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 70_010, 70_010, 5000)
}

async fn live(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([
        Accept,
        Read(10),
        Signal("read"),
        Write(cx.bytes(20)),
        Signal("written"),
        Wait("never"),
    ]))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let watched = warden.watch_of(0)?;
    let now = |queued, written, read| {
        let tally = watched.tally();
        cx.check(
            "the meter",
            (tally.queued, tally.written, tally.read),
            (queued, written, read),
        )
    };
    now(0, 0, 0)?;
    a.sends(10, true)?;
    cx.check("queued", watched.tally().queued, 10)?;
    cx.signalled("written").await?;
    cx.until("written is told", || watched.tally().written == 10)
        .await?;
    // Not read before it is delivered.
    cx.fence().await?;
    now(10, 10, 0)?;
    a.expect("data 20").await?;
    now(10, 10, 20)?;
    cx.check("gone", watched.tally().gone, false)
}

async fn dropped_bytes(cx: Cx) -> Outcome {
    for how in [
        "abort",
        "abort with an error",
        "control",
        "reset",
        "drop and control",
    ] {
        cx.log(how);
        let warden = Warden::new(&cx, Answers::default());
        let peer = cx.peer(resetter_at(how))?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.expect("open").await?;
        let watched = warden.watch_of(0)?;
        a.sends(STUCK, false)?;
        cx.fence().await?;
        match how {
            "abort" => a.abort(None),
            "abort with an error" => a.abort(Some(told())),
            "control" => _ = watched.abort(told()),
            "reset" => cx.signal(how),
            _ => {}
        }
        match how {
            "abort" => a.expect("close clean").await?,
            "drop and control" => {}
            "reset" => a.expect("error NetworkError, close failed").await?,
            _ => a.expect("error NotAllowedError, close failed").await?,
        }
        drop(a);
        if how == "drop and control" {
            watched.abort(told());
        }
        if how != "reset" {
            cx.signal(how);
        }
        let tally = watched.gone(&cx).await?;
        cx.check_that("some bytes were dropped", tally.dropped > 0)?;
        totals(&cx, &tally, STUCK, STUCK - tally.dropped, 0)?;
    }
    Ok(())
}

async fn last_report_after_the_flush(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer =
        cx.peer(Script::listen([Accept, Wait("read on"), ReadToEnd, Fin]).receive_buffer(32_768))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    let sent = a.sent();
    drop(a);
    cx.fence().await?;
    let watched = warden.watch_of(0)?;
    cx.check("gone", watched.tally().gone, false)?;
    cx.signal("read on");
    let tally = watched.gone(&cx).await?;
    totals(&cx, &tally, STUCK, STUCK, 0)?;
    // Reachable or not, there is nothing left that it could end.
    watched.abort(told());
    totals(&cx, &watched.tally(), STUCK, STUCK, 0)?;
    cx.within("idle", cx.provider().idle()).await?;
    peer.gets(&sent, End::Fin).await
}

async fn last_report_with_handles_alive(cx: Cx) -> Outcome {
    for how in ["close", "the peer's end", "reset", "abort"] {
        cx.log(how);
        let warden = Warden::new(&cx, Answers::default());
        let peer = cx.peer(match how {
            "the peer's end" => Script::listen([Accept, Read(10), Fin, ReadToEnd]),
            "reset" => Script::listen([Accept, Read(10), Reset]),
            _ => reader(),
        })?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.expect("open").await?;
        a.sends(10, true)?;
        match how {
            "close" => a.close(),
            "abort" => {
                peer.begins(&a.sent()).await?;
                a.abort(None);
            }
            _ => {}
        }
        a.ends(&["close clean", "error NetworkError, close failed"])
            .await?;
        let tally = warden.watch_of(0)?.gone(&cx).await?;
        totals(&cx, &tally, 10, 10, 0)?;
        a.is(ReadyState::Closed)?;
    }
    Ok(())
}

async fn accepted_sockets(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    cx.peer(Script::dial([Connect(server.address()), Echo, Fin]))?;
    let a = server.accept().await?;
    a.sends(500, true)?;
    a.expect("data 500").await?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    let tally = warden.watch_of(1)?.gone(&cx).await?;
    totals(&cx, &tally, 500, 500, 500)?;
    cx.check(
        "the server's meter is gone",
        warden.watch_of(0)?.tally().gone,
        false,
    )?;
    drop(server);
    let tally = warden.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 0, 0, 0)
}

async fn quota(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            quota: Some(100),
            ..Answers::default()
        },
    );
    let peer = cx.peer(Script::listen([Accept, ReadToEnd, Fin]))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    a.sends(60, true)?;
    let refused = a.send(cx.bytes(41));
    cx.check_error("send", refused, "QuotaExceededError")?;
    let refused = a.send(cx.bytes(70_000));
    cx.check_error("send", refused, "QuotaExceededError")?;
    a.buffers(60)?;
    a.is(ReadyState::Open)?;
    a.sends(40, true)?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    drop(a);
    let tally = warden.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 100, 100, 0)
}

async fn quota_of_the_second(cx: Cx) -> Outcome {
    let first = Warden::new(&cx, Answers::default());
    let second = Warden::new(
        &cx,
        Answers {
            quota: Some(100),
            ..Answers::default()
        },
    );
    let peer = cx.peer(Script::listen([Accept, ReadToEnd, Fin]))?;
    let a = cx.open_with(second.guards(first.guards(cx.request(&peer)?)))?;
    a.expect("open").await?;
    a.sends(100, true)?;
    let refused = a.send(cx.bytes(50));
    cx.check_error("send", refused, "QuotaExceededError")?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    drop(a);
    let tally = first.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 150, 100, 0)?;
    let tally = second.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 100, 100, 0)
}

async fn every_ending(cx: Cx) -> Outcome {
    const ENDINGS: &[&str] = &[
        "close",
        "close, with bytes held",
        "abort",
        "abort with an error",
        "control",
        "drop",
        "close and drop",
        "abort and drop",
        "the peer's end",
        "reset",
    ];
    // While it is being opened, and open; told, and untold.
    for (opened, told_of) in [(false, true), (false, false), (true, true), (true, false)] {
        for how in ENDINGS {
            if !opened && matches!(*how, "close, with bytes held" | "the peer's end" | "reset") {
                continue;
            }
            cx.log(format_args!("{how}, opened: {opened}, told: {told_of}"));
            let warden = Warden::new(&cx, Answers::default());
            let peer = cx.peer(match (opened, *how) {
                (false, _) => Script::silent(),
                (_, "the peer's end") => Script::listen([Accept, Read(10), Fin, ReadToEnd]),
                (_, "reset") => Script::listen([Accept, Read(10), Reset]),
                _ => reader(),
            })?;
            let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
            let watched = warden.watch_of(0)?;
            let mut queued = 0;
            if opened {
                a.expect("open").await?;
                queued = if *how == "close, with bytes held" {
                    1 << 20
                } else {
                    10
                };
                a.send(cx.bytes(queued))?;
                if !how.contains("held") {
                    peer.until("the bytes arrive", |it| it.received >= queued)
                        .await?;
                }
            }
            let mut handle = Some(a);
            if let Some(a) = &handle {
                match *how {
                    "close" | "close, with bytes held" | "close and drop" => a.close(),
                    "abort" | "abort and drop" => a.abort(None),
                    "abort with an error" => a.abort(Some(told())),
                    "control" => _ = watched.abort(told()),
                    _ => {}
                }
            }
            if how.contains("drop") {
                handle = None;
            }
            match &handle {
                Some(a) if told_of => while a.next().await?.is_some() {},
                // An end that nobody is told of is reached by the drop, and by nothing else if the peer brought it about.
                _ if !told_of => handle = None,
                _ => {}
            }
            let tally = watched.gone(&cx).await?;
            totals(&cx, &tally, queued, queued - tally.dropped, 0)?;
            cx.check("bytes that were dropped", tally.dropped, 0)?;
            drop(handle);
        }
    }
    Ok(())
}

/// A gate whose meter calls whatever it can reach, whenever it is called.
struct CallsBack {
    cx: Cx,
    /// Whether it ends the socket when bytes are written.
    ends: bool,
    /// At which signal it lets the socket connect.
    allows_at: &'static str,
    socket: Arc<Mutex<Option<Weak<dyn TcpSocket>>>>,
    /// How many calls came back.
    calls: Arc<Mutex<usize>>,
    /// The meter was dropped.
    gone: Arc<AtomicBool>,
}

struct CallingMeter {
    gate: Arc<CallsBack>,
    control: Weak<dyn Control>,
}

impl CallsBack {
    fn call(&self) {
        let socket = lock(&self.socket).clone().and_then(|it| it.upgrade());
        if let Some(socket) = socket {
            let _ = (socket.buffered_amount(), socket.ready_state(), socket.ssl());
            let _ = (socket.security(), socket.host().len());
            socket.suspend();
            // Balanced or not, it must return.
            let _ = socket.resume();
            socket.cancel_poll(&Waker::noop().clone());
        }
        *lock(&self.calls) += 1;
        self.cx.bell().ring();
    }
}

#[async_trait]
impl Gate for CallsBack {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        self.call();
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        // After `open` has returned, so that there is a socket to call.
        let world = self.cx.world();
        poll_fn(|context| {
            world.watch(context.waker());
            self.call();
            match world.signalled(self.allows_at) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        self.call();
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(CallingMeter {
            gate: Arc::new(CallsBack {
                cx: self.cx.clone(),
                ends: self.ends,
                allows_at: self.allows_at,
                socket: self.socket.clone(),
                calls: self.calls.clone(),
                gone: self.gone.clone(),
            }),
            control,
        })
    }
}

impl std::fmt::Debug for CallsBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallsBack")
    }
}

impl std::fmt::Debug for CallingMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallingMeter")
    }
}

impl Meter for CallingMeter {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        self.gate.call();
        Ok(())
    }

    fn moved(&self, written: usize, _read: usize, _dropped: usize) {
        self.gate.call();
        let control = self.control.upgrade();
        if let (true, true, Some(control)) = (written > 0, self.gate.ends, control) {
            control.abort(told());
        }
    }
}

impl Drop for CallingMeter {
    fn drop(&mut self) {
        if let Some(control) = self.control.upgrade() {
            control.abort(told());
        }
        self.gate.gone.store(true, Ordering::SeqCst);
        self.gate.call();
    }
}

async fn may_call_back(cx: Cx) -> Outcome {
    for (ends, allows_at) in [(false, "first"), (true, "second")] {
        let gate = Arc::new(CallsBack {
            cx: cx.clone(),
            ends,
            allows_at,
            socket: Arc::default(),
            calls: Arc::default(),
            gone: Arc::default(),
        });
        let calls = || *lock(&gate.calls);
        let peer = cx.peer(Script::listen([Accept, Echo, Fin]))?;
        let a = cx.open_with(cx.request(&peer)?.with_gate(gate.clone()))?;
        *lock(&gate.socket) = Some(Arc::downgrade(a.raw()));
        let before = calls();
        cx.signal(allows_at);
        a.expect("open").await?;
        cx.check_that("the gate has called its socket", calls() > before)?;
        let before = calls();
        a.send(cx.bytes(10))?;
        if ends {
            a.ends(&[
                "error NotAllowedError, close failed",
                "data *, error NotAllowedError, close failed",
            ])
            .await?;
        } else {
            a.expect("data 10").await?;
            cx.check_that("the meter has called its socket", calls() > before)?;
            a.close();
            a.expect("close clean").await?;
        }
        drop(a);
        let gone = || gate.gone.load(Ordering::SeqCst);
        cx.until("the meter is dropped", gone).await?;
    }
    Ok(())
}

async fn refused_opens(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::refuse())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("error ConnectionRefusedError, close failed")
        .await?;
    drop(a);
    let tally = warden.watch_of(0)?.gone(&cx).await?;
    totals(&cx, &tally, 0, 0, 0)
}
