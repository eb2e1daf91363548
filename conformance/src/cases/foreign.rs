//! Foreign code: gates, resolvers, meters, wakers and owners of payload that panic, or call back.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake};
use std::time::Duration;

use tcpsocket::{Host, Resolver, TcpSocket, async_trait};

use super::prelude::*;
use crate::socket::Socket;
use crate::warden::explode;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "foreign/gate-panics",
        clauses: &["LIFE-9", "GATE-15"],
        needs: &[Capability::Gates],
        requirement: "If a gate panics on an open, the open is refused, nothing is dialled, and other sockets continue.",
        run: |cx| Box::pin(gate_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/gate-of-a-server-panics",
        clauses: &["LIFE-9"],
        needs: &[Capability::Gates, Capability::Listen],
        requirement: "If a gate panics on a bind, the bind is refused.",
        run: |cx| Box::pin(gate_of_a_server_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/accept-gate-panics",
        clauses: &["LIFE-9", "GATE-8"],
        needs: &[Capability::Gates, Capability::Listen],
        requirement: "If a gate panics on a peer, that peer is refused, and waiting peers keep waiting.",
        run: |cx| Box::pin(accept_gate_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/resolver-panics",
        clauses: &["LIFE-9"],
        needs: &[Capability::Resolver],
        requirement: "If a resolver panics, its lookup fails: the open ends in NetworkError.",
        run: |cx| Box::pin(resolver_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/meter-panics",
        clauses: &["LIFE-9"],
        needs: &[Capability::Gates],
        requirement: "A meter that panics ends its socket, and no other.",
        run: |cx| Box::pin(meter_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/quota-panics",
        clauses: &["LIFE-9", "ACC-5", "ACC-1"],
        needs: &[Capability::Gates],
        requirement: "A meter that panics about bytes to queue has refused them; those that had agreed are told.",
        run: |cx| Box::pin(quota_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/error-calls-back",
        clauses: &["LIFE-10", "GATE-13"],
        requirement: "The source of an error that comes too late may call the socket when it is dropped.",
        deadline: Duration::from_secs(5),
        run: |cx| Box::pin(error_calls_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/waker-panics",
        clauses: &["LIFE-9", "EVT-5"],
        requirement: "If a waker panics, every other waiter is still woken, and its socket still works.",
        run: |cx| Box::pin(waker_panics(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/payload-calls-back",
        clauses: &["LIFE-10"],
        requirement: "The owner of a payload may call the socket while the payload is dropped.",
        deadline: Duration::from_secs(5),
        run: |cx| Box::pin(payload_calls_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "foreign/waker-calls-back",
        clauses: &["LIFE-10", "EVT-7"],
        requirement: "A waker may call the socket while it is woken and while it is dropped.",
        deadline: Duration::from_secs(5),
        run: |cx| Box::pin(waker_calls_back(cx)),
        ..Case::MUST
    },
];

async fn gate_panics(cx: Cx) -> Outcome {
    let name = |name| Answers {
        name,
        ..Answers::default()
    };
    let connect = |connect| Answers {
        connect,
        ..Answers::default()
    };
    let watch = Answers {
        watch_panics: true,
        ..Answers::default()
    };
    let panics = [
        (name(Answer::Panic), None),
        (name(Answer::PanicAt("name")), Some("name")),
        (connect(Answer::Panic), None),
        (connect(Answer::PanicAt("connect")), Some("connect")),
        (watch, None),
    ];
    for (answers, signal) in panics {
        let warden = Warden::new(&cx, answers);
        let peer = cx.peer(Script::listen([Accept, ReadToEnd]))?;
        let opened = cx.provider().open_with(warden.guards(cx.request(&peer)?));
        match opened {
            Err(error) => cx.check("the error", error.name(), ErrorName::NotAllowed)?,
            Ok(raw) => {
                let a = cx.socket(raw, false);
                if let Some(signal) = signal {
                    a.quiet().await?;
                    cx.signal(signal);
                }
                a.expect("error NotAllowedError, close failed").await?;
            }
        }
        cx.fence().await?;
        cx.check("connections", peer.report().connections, 0)?;
    }
    Ok(())
}

async fn gate_of_a_server_panics(cx: Cx) -> Outcome {
    let panics = [
        Answers {
            bind: Answer::Panic,
            ..Answers::default()
        },
        Answers {
            rebind: Answer::Panic,
            ..Answers::default()
        },
        Answers {
            watch_panics: true,
            ..Answers::default()
        },
    ];
    for answers in panics {
        let warden = Warden::new(&cx, answers);
        let request = warden.guards_server(cx.listen_request()?);
        let listening = cx.provider().listen_with(request);
        let listening = cx.within("listen", listening).await?;
        cx.check_error("listen", listening, "NotAllowedError")?;
    }
    cx.fence().await
}

async fn accept_gate_panics(cx: Cx) -> Outcome {
    // The first peer waits, the second sets it off, and the third waits behind it.
    for (later, round) in [(Answer::Panic, 0), (Answer::PanicAt("panic"), 1)] {
        let warden = Warden::new(
            &cx,
            Answers {
                accept: Answer::AllowAt("allow"),
                later_accept: Some(later),
                ..Answers::default()
            },
        );
        let server = cx
            .listen_with(warden.guards_server(cx.listen_request()?))
            .await?;
        let steps = || Script::dial([Connect(server.address()), ReadToEnd]);
        let first = cx.peer(steps())?;
        let asked = |count| {
            let warden = &warden;
            move || warden.peers() == count
        };
        server
            .quiet_until("it is asked about one", asked(1))
            .await?;
        let second = cx.peer(steps())?;
        server
            .quiet_until("it is asked about two", asked(2))
            .await?;
        if round == 1 {
            cx.signal("panic");
        }
        let refused = || second.report().end.is_some();
        server.quiet_until("the second is refused", refused).await?;
        second.gets(b"", End::Reset).await?;
        if round == 1 {
            // Signals stay raised, so this is the round in which the first one is let in.
            cx.signal("allow");
            let a = server.accept().await?;
            a.close();
            first.gets(b"", End::Fin).await?;
        } else {
            server.quiet().await?;
            cx.check("the end of the first", first.report().end, None)?;
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Explodes;

#[async_trait]
impl Resolver for Explodes {
    async fn lookup(&self, _name: &Host, _port: u16) -> Result<Vec<std::net::SocketAddr>, Error> {
        explode();
    }
}

async fn resolver_panics(cx: Cx) -> Outcome {
    let request = OpenRequest::new("db.internal", 4000)?
        .with_options(cx.options())
        .with_resolver(Arc::new(Explodes));
    let a = cx.open_with(request)?;
    a.expect("error NetworkError, close failed").await?;
    cx.fence().await
}

/// The next event, past any panics of foreign code in the call.
async fn past_panics(cx: &Cx, a: &Socket) -> Result<Option<Event>, Failure> {
    let raw = a.raw();
    let event = std::future::poll_fn(|task| {
        let call = AssertUnwindSafe(|| raw.poll_event(task));
        panic::catch_unwind(call).unwrap_or_else(|_| {
            task.waker().wake_by_ref();
            Poll::Pending
        })
    });
    cx.within("an event", event).await
}

async fn meter_panics(cx: Cx) -> Outcome {
    // In the call of send or of a poll; and behind it, when the peer makes room.
    for held in [false, true] {
        let warden = Warden::new(
            &cx,
            Answers {
                meter_panics: true,
                ..Answers::default()
            },
        );
        let peer = cx.peer(holder_until(if held { "read 2" } else { "read 1" }))?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.expect("open").await?;
        let raw = a.raw();
        let bytes = cx.bytes(if held { STUCK } else { 10 });
        let send = AssertUnwindSafe(|| raw.send(bytes).map(drop));
        let _ = panic::catch_unwind(send); // unwinds if the kernel took some at once
        cx.signal(if held { "read 2" } else { "read 1" });
        let mut name = None;
        while let Some(event) = past_panics(&cx, &a).await? {
            match event {
                Event::Error(error) => name = Some(error.name()),
                Event::Close(close) => cx.check("clean", close.clean, false)?,
                _ => {}
            }
        }
        cx.check("the error", name, Some(ErrorName::NotAllowed))?;
        peer.ends(End::Reset).await?;
        cx.fence().await?;
    }
    Ok(())
}

async fn quota_panics(cx: Cx) -> Outcome {
    let counts = Warden::new(&cx, Answers::default());
    let panics = Warden::new(
        &cx,
        Answers {
            queue_panics: true,
            ..Answers::default()
        },
    );
    let peer = cx.peer(reader())?;
    let a = cx.open_with(panics.guards(counts.guards(cx.request(&peer)?)))?;
    a.expect("open").await?;
    let sent = a.raw().send(cx.bytes(100));
    cx.check_error("send", sent, "NotAllowedError")?;
    let tally = counts.watch_of(0)?.tally();
    cx.check("queued, dropped", (tally.queued, tally.dropped), (100, 100))?;
    // Nothing else has changed.
    a.is(ReadyState::Open)?;
    cx.check("buffered_amount", a.raw().buffered_amount(), 0)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(b"", End::Fin).await
}

/// The source of an error.
struct Cause(CallsBack);

impl std::fmt::Debug for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cause")
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a cause that has called back {} times", self.0.count())
    }
}

impl std::error::Error for Cause {}

async fn error_calls_back(cx: Cx) -> Outcome {
    let calls = Arc::new(AtomicUsize::new(0));
    let peer = cx.peer(holder_until("never"))?;
    let a = cx.open(&peer).await?;
    let error = || {
        let cause = Cause(CallsBack::new(&a, &calls));
        Error::with_source(ErrorName::NotAllowed, "told to end by the case", cause)
    };
    a.raw().abort(Some(error()));
    // The first is the one that is told, so the others are dropped.
    a.raw().abort(Some(error()));
    a.raw().abort(Some(error()));
    cx.until("the late ones are dropped", || {
        calls.load(Ordering::SeqCst) == 2
    })
    .await?;
    a.expect("error NotAllowedError, close failed").await?;
    a.raw().abort(Some(error()));
    cx.until("the last one is dropped", || {
        calls.load(Ordering::SeqCst) >= 3
    })
    .await
}

struct Bomb;

impl Wake for Bomb {
    fn wake(self: Arc<Bomb>) {
        explode();
    }
}

async fn waker_panics(cx: Cx) -> Outcome {
    const NEIGHBOURS: usize = 5;
    let mut peers = Vec::new();
    let mut sockets = Vec::new();
    for _ in 0..=NEIGHBOURS {
        let peer = cx.peer(Script::listen([
            Accept,
            Wait("write"),
            Write(cx.bytes(10)),
            ReadToEnd,
        ]))?;
        sockets.push(cx.open(&peer).await?);
        peers.push(peer);
    }
    let poll = |a: &Socket, waker: &Waker| {
        let polled = a.raw().poll_event(&mut Context::from_waker(waker));
        cx.check_that("a wait", polled.is_pending())
    };
    poll(&sockets[0], &Waker::from(Arc::new(Bomb)))?;
    let mut counts = Vec::new();
    for a in &sockets[1..] {
        let count = Arc::new(Count::default());
        poll(a, &Waker::from(count.clone()))?;
        counts.push(count);
    }
    cx.signal("write");
    for count in &counts {
        cx.until_woken(count).await?;
    }
    for a in &sockets {
        a.expect("data 10").await?;
    }
    cx.fence().await
}

/// Calls a socket whenever it is told to.
struct CallsBack {
    socket: Weak<dyn TcpSocket>,
    calls: Arc<AtomicUsize>,
}

impl CallsBack {
    fn new(a: &Socket, calls: &Arc<AtomicUsize>) -> CallsBack {
        CallsBack {
            socket: Arc::downgrade(a.raw()),
            calls: calls.clone(),
        }
    }

    fn count(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn call(&self) {
        if let Some(socket) = self.socket.upgrade() {
            let _ = (socket.buffered_amount(), socket.ready_state(), socket.ssl());
            let _ = socket.resume(); // an error, since nothing is suspended
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wake for CallsBack {
    fn wake(self: Arc<CallsBack>) {
        self.call();
    }
}

impl Drop for CallsBack {
    fn drop(&mut self) {
        self.call();
    }
}

/// Payload with an owner that calls back.
struct Owned(
    Bytes,
    #[expect(dead_code, reason = "held for its drop")] CallsBack,
);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

async fn payload_calls_back(cx: Cx) -> Outcome {
    let calls = Arc::new(AtomicUsize::new(0));
    let payload = |a: &Socket, len| {
        let owner = CallsBack::new(a, &calls);
        Bytes::from_owner(Owned(cx.bytes(len), owner))
    };
    // Written at once, written later, and dropped.
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    for len in [10, 0, STUCK, 10] {
        let _ = a.raw().send(payload(&a, len))?;
    }
    cx.signal("read on");
    a.expect("drain").await?;
    cx.until("all payload is dropped", || {
        calls.load(Ordering::SeqCst) == 4
    })
    .await?;
    let other = cx.peer(holder_until("never"))?;
    let b = cx.open(&other).await?;
    let _ = b.raw().send(payload(&b, STUCK))?;
    let _ = b.raw().send(payload(&b, 10))?;
    b.abort(None);
    cx.until("what abort drops is dropped", || {
        calls.load(Ordering::SeqCst) == 6
    })
    .await?;
    let refused = b.raw().send(payload(&b, 10));
    cx.check_error("send", refused, "InvalidStateError")?;
    cx.check("calls", calls.load(Ordering::SeqCst), 7)
}

async fn waker_calls_back(cx: Cx) -> Outcome {
    let calls = Arc::new(AtomicUsize::new(0));
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(10)),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    let poll = || {
        let waker = Waker::from(Arc::new(CallsBack::new(&a, &calls)));
        let polled = a.raw().poll_event(&mut Context::from_waker(&waker));
        cx.check_that("a wait", polled.is_pending())?;
        Ok::<_, Failure>(waker)
    };
    let count = |expected| cx.check("calls", calls.load(Ordering::SeqCst), expected);
    poll()?;
    let last = poll()?; // replaces it
    count(1)?;
    a.raw().cancel_poll(&last.clone());
    drop(last);
    count(2)?;
    poll()?;
    cx.signal("write");
    // Woken, and dropped.
    cx.until("the waker is woken", || calls.load(Ordering::SeqCst) == 4)
        .await?;
    a.expect("data 10").await
}
