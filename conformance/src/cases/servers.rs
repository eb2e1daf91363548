//! Servers and accepted sockets.

use std::pin::{Pin, pin};
use std::task::Context;

use futures_core::Stream as _;

use super::prelude::*;
use tcpsocket::{
    ListenRequest, ServerEvent, ServerSocketOptions, SocketProviderExt, TcpServerSocketExt,
};

const LISTEN: &[Capability] = &[Capability::Listen];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "servers/bound-on-return",
        clauses: &["SRV-2", "SRV-3", "SRV-16"],
        needs: LISTEN,
        requirement: "listen returns a server with its real local_port; 0 and -1 choose one automatically.",
        run: |cx| Box::pin(bound_on_return(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/ready-at-the-first-poll",
        clauses: &["SRV-20"],
        needs: LISTEN,
        requirement: "If no gate waits, the future of listen is ready at its first poll.",
        run: |cx| Box::pin(ready_at_the_first_poll(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/listen-dropped",
        clauses: &["SRV-20", "GATE-6"],
        needs: &[Capability::Listen, Capability::Gates],
        requirement: "Dropping the future of listen before it is ready leaves nothing bound.",
        run: |cx| Box::pin(listen_dropped(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/arguments",
        clauses: &["SRV-2", "SRV-4", "ERR-14"],
        needs: LISTEN,
        requirement: "Impossible ports and backlogs are InvalidAccessError; the special values mean the defaults.",
        run: |cx| Box::pin(arguments(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/accepted-socket",
        clauses: &["SRV-6", "ROW-32", "EVT-3", "TURN-1", "IF-17", "NAME-6"],
        needs: LISTEN,
        requirement: "An accepted socket is open and in the clear, knows its peer, and returns no Open.",
        run: |cx| Box::pin(accepted_socket(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/binary-type",
        clauses: &["SRV-5", "IF-7"],
        needs: &[Capability::Listen, Capability::StringMode],
        requirement: "Accepted sockets have their server's binary type, string by default.",
        run: |cx| Box::pin(binary_type(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/both-families",
        clauses: &["SRV-1", "SRV-6", "NAME-6"],
        needs: LISTEN,
        requirement: "Without an address a server is reached by IPv4 and IPv6 on one port.",
        run: |cx| Box::pin(both_families(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/one-address",
        clauses: &["OPT-7", "SRV-1"],
        needs: LISTEN,
        requirement: "With an address a server is reached by that address only.",
        run: |cx| Box::pin(one_address(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/polled-late",
        clauses: &["SRV-8", "CL-5"],
        needs: LISTEN,
        requirement: "A late first poll loses nothing of an accepted socket.",
        run: |cx| Box::pin(polled_late(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/exchange",
        clauses: &["SRV-6", "TX-4", "TX-6", "ST-12"],
        needs: LISTEN,
        requirement: "An accepted socket sends, drains and receives like an opened one.",
        run: |cx| Box::pin(exchange(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/closed",
        clauses: &["SRV-11", "SRV-16", "EVT-14"],
        needs: LISTEN,
        requirement: "A closed server refuses connects and returns None; accepted sockets live on.",
        run: |cx| Box::pin(closed(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/close-wakes",
        clauses: &["EVT-14"],
        needs: LISTEN,
        requirement: "close wakes the task waiting for the server.",
        run: |cx| Box::pin(close_wakes(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/closed-before-its-error",
        clauses: &["SRV-21", "SRV-13"],
        needs: &[Capability::Listen, Capability::Gates],
        requirement: "A server ended by an error, and closed before the error is returned, returns None.",
        run: |cx| Box::pin(closed_before_its_error(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/close-drops-who-waits",
        clauses: &["SRV-12"],
        needs: LISTEN,
        requirement: "After close no Connect is returned, and waiting peers are disconnected.",
        run: |cx| Box::pin(close_drops_who_waits(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/drop-closes",
        clauses: &["ACT-5", "SRV-11"],
        needs: LISTEN,
        requirement: "Dropping the last handle closes a server; until then it listens.",
        run: |cx| Box::pin(drop_closes(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/port-again",
        clauses: &["SRV-19"],
        needs: LISTEN,
        requirement: "A server can listen on a port again at once, while sockets accepted there are alive.",
        run: |cx| Box::pin(port_again(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/address-in-use",
        clauses: &["SRV-14", "ERR-14"],
        needs: LISTEN,
        requirement: "A port in use is AddressInUseError from listen.",
        run: |cx| Box::pin(address_in_use(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/many-at-once",
        clauses: &["EVT-14", "EVT-2"],
        needs: LISTEN,
        requirement: "Every connection is returned once, even if many come together.",
        run: |cx| Box::pin(many_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/waits-given-up",
        clauses: &["EVT-14", "EVT-16"],
        needs: LISTEN,
        requirement: "Giving a wait up loses no connection and forgets its waker.",
        run: |cx| Box::pin(waits_given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "servers/stale-wait-given-up",
        clauses: &["EVT-14", "EVT-16", "EVT-17"],
        needs: LISTEN,
        requirement: "Giving up one wait for a server cancels no other task's wait, nor does dropping a future that does not wait.",
        run: |cx| Box::pin(stale_wait_given_up(cx)),
        ..Case::MUST
    },
];

async fn bound_on_return(cx: Cx) -> Outcome {
    for port in [0, -1] {
        let listening = cx.provider().listen(port, cx.server_options(), -1);
        let server = cx.within("listen", listening).await??;
        cx.check_that("local_port is real", server.local_port() != 0)?;
        let at = ([127, 0, 0, 1], server.local_port()).into();
        let peer = cx.peer(Script::dial([Connect(at)]))?;
        peer.until("it is connected", |it| it.done).await?;
    }
    let server = cx.listen().await?;
    server.quiet().await
}

async fn ready_at_the_first_poll(cx: Cx) -> Outcome {
    let request = cx.listen_request()?;
    let mut listening = pin!(cx.provider().listen_with(request));
    let ready = poll_once(listening.as_mut()).is_ready();
    cx.check_that("listen is ready", ready)
}

async fn listen_dropped(cx: Cx) -> Outcome {
    let port = {
        let server = cx.listen().await?;
        server.close();
        server.address().port()
    };
    let warden = Warden::new(
        &cx,
        Answers {
            bind: Answer::AllowAt("never"),
            ..Answers::default()
        },
    );
    let request = ListenRequest::new(port)?.with_options(cx.server_options());
    {
        let mut listening = pin!(cx.provider().listen_with(warden.guards_server(request)));
        let pending = poll_once(listening.as_mut()).is_pending();
        cx.check_that("listen waits for the gate", pending)?;
    }
    warden.was_asked(&["bind 127.0.0.1 real", "bind dropped"])?;
    let again = ListenRequest::new(port)?.with_options(cx.server_options());
    let server = cx.listen_with(again).await?;
    cx.check("port", server.address().port(), port)
}

async fn arguments(cx: Cx) -> Outcome {
    for port in [-2i64, 65_536, i64::MAX, i64::MIN] {
        let listening = cx.provider().listen(port, cx.server_options(), 0);
        let result = cx.within("listen", listening).await?;
        cx.check_error(&format!("listen on {port}"), result, "InvalidAccessError")?;
    }
    let backlog = ListenRequest::new(0)?.backlog(-2);
    cx.check_error("backlog(-2)", backlog, "InvalidAccessError")?;
    for backlog in [-1i64, 0, 1, 5, 1 << 40] {
        let listening = cx.provider().listen(0, cx.server_options(), backlog);
        let server = cx.within("listen", listening).await??;
        let at = ([127, 0, 0, 1], server.local_port()).into();
        let peer = cx.peer(Script::dial([Connect(at)]))?;
        peer.done().await?;
        let event = cx.within("connect", server.next_event()).await?;
        cx.check_that("Connect", matches!(event, Some(ServerEvent::Connect(_))))?;
    }
    Ok(())
}

async fn accepted_socket(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([Connect(server.address()), ReadToEnd]))?;
    let a = server.accept().await?;
    a.is(ReadyState::Open)?;
    a.buffers(0)?;
    cx.check("ssl", a.raw().ssl(), false)?;
    let plain = matches!(a.raw().security(), tcpsocket::Security::Plain);
    cx.check_that("security is Plain", plain)?;
    cx.check("host", a.raw().host(), "127.0.0.1")?;
    peer.until("it is connected", |it| it.connections == 1)
        .await?;
    let port = peer.report().local.map(|it| it.port());
    cx.check("port", Some(a.raw().port()), port)?;
    a.sends(65_536, true)?;
    a.sends(3, false)?;
    a.expect("drain").await?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn binary_type(cx: Cx) -> Outcome {
    for (options, expected) in [
        (ServerSocketOptions::new(), BinaryType::String),
        (
            ServerSocketOptions::new().binary_type(BinaryType::ArrayBuffer),
            BinaryType::ArrayBuffer,
        ),
    ] {
        let options = options.address([127, 0, 0, 1]);
        let server = cx
            .listen_with(ListenRequest::new(0)?.with_options(options))
            .await?;
        cx.peer(Script::dial([
            Connect(server.address()),
            Write(cx.bytes(4)),
        ]))?;
        let a = server.accept().await?;
        cx.check("binary_type", a.raw().binary_type(), expected)?;
        let Some(Event::Data(data)) = a.next().await? else {
            return Err(Failure::new("data"));
        };
        cx.check("the type of data", data.binary_type(), expected)?;
    }
    Ok(())
}

async fn both_families(cx: Cx) -> Outcome {
    let options = ServerSocketOptions::new().binary_type(BinaryType::ArrayBuffer);
    let server = cx
        .listen_with(ListenRequest::new(0)?.with_options(options))
        .await?;
    let port = server.address().port();
    for (v6, host) in [(false, "127.0.0.1"), (true, "::1")] {
        let (script, at) = match v6 {
            false => (Script::dial([]), ([127, 0, 0, 1], port).into()),
            true => (
                Script::dial([]).v6(),
                ([0, 0, 0, 0, 0, 0, 0, 1], port).into(),
            ),
        };
        let peer = cx.peer(Script {
            steps: vec![Connect(at), Echo],
            ..script
        })?;
        let a = server.accept().await?;
        cx.check("host", a.raw().host(), host)?;
        a.sends(5, true)?;
        a.expect("data 5").await?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn one_address(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let port = server.address().port();
    // Another address of the same family too, where a loopback has more than one.
    for (elsewhere, v6) in [
        (([0, 0, 0, 0, 0, 0, 0, 1], port).into(), true),
        (([127, 0, 0, 2], port).into(), false),
    ] {
        let script = Script::dial([Connect(elsewhere)]);
        let stranger = cx.peer(if v6 { script.v6() } else { script })?;
        stranger
            .until("it is refused", |it| it.trouble.is_some())
            .await?;
    }
    let peer = cx.peer(Script::dial([Connect(server.address())]))?;
    peer.done().await?;
    server.accept().await?;
    server.quiet().await
}

async fn polled_late(cx: Cx) -> Outcome {
    let bytes = cx.bytes(100_000);
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([
        Connect(server.address()),
        Write(bytes.clone()),
        Fin,
        Signal("written"),
        ReadToEnd,
    ]))?;
    cx.signalled("written").await?;
    let a = server.accept().await?;
    cx.fence().await?;
    a.is(ReadyState::Open)?;
    a.expect("data 100000, close clean").await?;
    a.check_received(&bytes)?;
    peer.gets(b"", End::Fin).await
}

async fn exchange(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    let a = server.accept().await?;
    a.sends(65_539, false)?;
    // Where the drain comes among the data is not said.
    let mut drained = 0;
    while a.received().len() < 65_539 || drained == 0 {
        if let Some(Event::Drain) = a.next().await? {
            drained += 1;
        }
    }
    cx.check("drains", drained, 1)?;
    a.check_received(&a.sent())?;
    a.close();
    cx.check("the end", a.next().await?.is_some(), true)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn closed(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let at = server.address();
    let peer = cx.peer(Script::dial([Connect(at), Echo]))?;
    let a = server.accept().await?;
    server.close();
    server.close();
    let refused = cx.peer(Script::dial([Connect(at)]))?;
    refused
        .until("it is refused", |it| it.trouble.is_some())
        .await?;
    server.expect("none").await?;
    server.expect("none").await?;
    server.close();
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.quiet().await?;
    drop(server);
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn close_wakes(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let count = Arc::new(Count::default());
    let pending = server.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    server.close();
    cx.until_woken(&count).await?;
    server.expect("none").await
}

async fn closed_before_its_error(cx: Cx) -> Outcome {
    for parked in [false, true] {
        let warden = Warden::new(&cx, Answers::default());
        let request = warden.guards_server(cx.listen_request()?);
        let server = cx.listen_with(request).await?;
        let watched = warden.watch_of(0)?;
        let count = Arc::new(Count::default());
        if parked {
            let pending = server.poll_with(&Waker::from(count.clone())).is_pending();
            cx.check_that("the wait is parked", pending)?;
        }
        watched.abort(told());
        if parked {
            cx.until_woken(&count).await?;
        }
        server.close();
        server.expect("none").await?;
        // The control may be there as long as the server is.
        watched.abort(told());
        server.expect("none").await?;
    }
    Ok(())
}

async fn close_drops_who_waits(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([
        Connect(server.address()),
        Signal("connected"),
        ReadToEnd,
    ]))?;
    cx.signalled("connected").await?;
    cx.fence().await?;
    server.close();
    server.expect("none").await?;
    peer.until("it is disconnected", |it| it.end.is_some())
        .await?;
    cx.check("bytes at the peer", peer.report().received, 0)
}

async fn drop_closes(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let at = server.address();
    let other = server.raw().clone();
    drop(server);
    let peer = cx.peer(Script::dial([Connect(at)]))?;
    peer.done().await?;
    let event = cx.within("connect", other.next_event()).await?;
    cx.check_that("Connect", matches!(event, Some(ServerEvent::Connect(_))))?;
    drop(other);
    let refused = cx.peer(Script::dial([Connect(at)]))?;
    refused
        .until("it is refused", |it| it.trouble.is_some())
        .await
}

async fn port_again(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let port = server.address().port();
    let peer = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    let a = server.accept().await?;
    let other = cx.peer(Script::dial([Connect(server.address()), Wait("never")]))?;
    // One that lingers: it has ended its output, and its peer never ends.
    let b = server.accept().await?;
    b.close();
    b.expect("close clean").await?;
    server.close();
    let request = ListenRequest::new(port)?.with_options(cx.server_options());
    let again = cx.listen_with(request).await?;
    cx.check("port", again.address().port(), port)?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    let third = cx.peer(Script::dial([Connect(again.address())]))?;
    third.done().await?;
    again.accept().await?;
    cx.check("the lingering peer", other.report().done, false)?;
    cx.check("the talking peer", peer.report().received, 5)
}

async fn address_in_use(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let stranger = cx.peer(reader())?;
    for port in [server.address().port(), stranger.port()] {
        let request = ListenRequest::new(port)?.with_options(cx.server_options());
        let listening = cx.provider().listen_with(request);
        let result = cx.within("listen", listening).await?;
        cx.check_error("listen", result, "AddressInUseError")?;
    }
    let peer = cx.peer(Script::dial([Connect(server.address())]))?;
    peer.done().await?;
    server.accept().await?;
    Ok(())
}

async fn many_at_once(cx: Cx) -> Outcome {
    const PEERS: usize = 24;
    let server = cx.listen().await?;
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        peers.push(cx.peer(Script::dial([Wait("go"), Connect(server.address()), Echo]))?);
    }
    cx.signal("go");
    let mut accepted = Vec::new();
    let mut ports = std::collections::HashSet::new();
    for _ in 0..PEERS {
        let a = server.accept().await?;
        ports.insert(a.raw().port());
        a.sends(3, true)?;
        accepted.push(a);
    }
    cx.check("different peers", ports.len(), PEERS)?;
    for a in &accepted {
        a.expect("data 3").await?;
    }
    server.quiet().await
}

async fn waits_given_up(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let pending = server.poll_with(&waker).is_pending();
    cx.check_that("the wait is parked", pending)?;
    server.raw().cancel_poll(&waker.clone());
    drop(waker);
    let let_go = || Arc::strong_count(&count) == 1;
    cx.until("the waker is let go", let_go).await?;
    // Before it was given up it may have been woken for nothing.
    let before = count.get();
    let peer = cx.peer(Script::dial([Connect(server.address())]))?;
    peer.done().await?;
    cx.fence().await?;
    cx.check("wakes since", count.get(), before)?;
    for _ in 0..3 {
        let mut waiting = pin!(server.raw().next_event());
        let polled = poll_once(waiting.as_mut());
        if let Poll::Ready(event) = polled {
            return cx.check_that("Connect", matches!(event, Some(ServerEvent::Connect(_))));
        }
    }
    server.accept().await?;
    Ok(())
}

async fn stale_wait_given_up(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let stale = Waker::from(Arc::new(Count::default()));
    let context = || Context::from_waker(&stale);
    for way in 0..5 {
        let mut next = server.raw().next_event();
        let mut events = server.raw().events();
        let parked = match way {
            0 => server.poll_with(&stale).is_pending(),
            1 => Pin::new(&mut next).poll(&mut context()).is_pending(),
            2 => Pin::new(&mut events).poll_next(&mut context()).is_pending(),
            _ => true,
        };
        cx.check_that("the first wait is parked", parked)?;
        let other = server.raw().clone();
        let waiting = cx.waiter(async move { other.next_event().await });
        waiting.is_parked().await?;
        match way {
            0 => server.raw().cancel_poll(&stale.clone()),
            1 | 3 => drop(next),
            _ => drop(events),
        }
        let peer = cx.peer(Script::dial([Connect(server.address())]))?;
        let event = waiting.join().await?;
        cx.check_that("Connect", matches!(event, Some(ServerEvent::Connect(_))))?;
        peer.done().await?;
    }
    Ok(())
}
