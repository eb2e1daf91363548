//! Gates and controls: who is asked, when, about what, and what a refusal leads to.

use std::collections::HashSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};

use super::prelude::*;
use crate::socket::Socket;
use crate::sync::lock;
use crate::wait::Bell;
use tcpsocket::{
    Control, Gate, Host, ListenRequest, Meter, NoMeter, ServerSocketOptions, async_trait,
};

const GATES: &[Capability] = &[Capability::Gates];
const SERVER_GATES: &[Capability] = &[Capability::Gates, Capability::Listen];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "gates/order",
        clauses: &["GATE-1", "GATE-2", "GATE-3", "GATE-5"],
        needs: GATES,
        requirement: "Every gate's name is called in order, then every gate's connect in order, each once.",
        run: |cx| Box::pin(order(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/canonical",
        clauses: &["GATE-5", "NAME-1", "NAME-6"],
        needs: GATES,
        requirement: "Gates receive hosts and addresses in canonical form.",
        run: |cx| Box::pin(canonical(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/refused-at-the-call",
        clauses: &["GATE-4", "GATE-1", "GATE-15", "ERR-14"],
        needs: GATES,
        requirement: "A refusal by name at its first poll is the call's error; no other gate is asked.",
        run: |cx| Box::pin(refused_at_the_call(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/name-refused-later",
        clauses: &["GATE-4", "GATE-15", "ERR-9", "ST-7"],
        needs: GATES,
        requirement: "A later refusal of the name is an Error, then Close, and nothing is dialled.",
        run: |cx| Box::pin(name_refused_later(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/address-refused",
        clauses: &["GATE-4", "GATE-15", "ERR-9", "ST-7"],
        needs: GATES,
        requirement: "A refusal of the address, a literal too, is an Error, then Close, and nothing is dialled.",
        run: |cx| Box::pin(address_refused(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/no-address-remains",
        clauses: &["GATE-5", "GATE-1", "GATE-15"],
        needs: GATES,
        requirement: "Addresses invented by a gate are ignored; if none remains, the result is NotAllowedError.",
        run: |cx| Box::pin(no_address_remains(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/invented-addresses-are-ignored",
        clauses: &["GATE-5", "GATE-15"],
        needs: GATES,
        requirement: "If a gate adds an invented address, the admitted one is still dialled.",
        run: |cx| Box::pin(invented_addresses_are_ignored(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/unknown-interface",
        clauses: &["NAME-13", "GATE-2", "GATE-4"],
        needs: GATES,
        requirement: "A missing interface is reported only after every gate has admitted the address.",
        run: |cx| Box::pin(unknown_interface(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/asked-unpolled",
        clauses: &["ACT-2", "GATE-15"],
        needs: GATES,
        requirement: "Gates are asked, and then the connection is made, although nobody polls.",
        run: |cx| Box::pin(asked_unpolled(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/given-up",
        clauses: &["GATE-6", "CL-3"],
        needs: GATES,
        requirement: "close, abort and dropping the handle drop the future of a waiting gate.",
        run: |cx| Box::pin(given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/timeout-stands-still",
        clauses: &["GATE-7", "OPT-3"],
        needs: &[Capability::Gates, Capability::ConnectTimeout],
        requirement: "The clock of connect_timeout stops while a gate decides.",
        run: |cx| Box::pin(timeout_stands_still(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/watch-once",
        clauses: &["GATE-10", "ACC-3"],
        needs: SERVER_GATES,
        requirement: "watch is called once for an opened socket, a server, and an accepted socket, before the program has it.",
        run: |cx| Box::pin(watch_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/bind-asked",
        clauses: &["GATE-9", "GATE-1"],
        needs: SERVER_GATES,
        requirement: "bind is asked once for a given port; for an automatic one, with 0 and then with the real port.",
        run: |cx| Box::pin(bind_asked(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/bind-refused",
        clauses: &["GATE-9", "SRV-14"],
        needs: SERVER_GATES,
        requirement: "A refusal of bind, the first or the second, is the error of listen.",
        run: |cx| Box::pin(bind_refused(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/listens-when-admitted",
        clauses: &["GATE-9"],
        needs: SERVER_GATES,
        requirement: "The server listens only after every bind has admitted the real port.",
        run: |cx| Box::pin(listens_when_admitted(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/accept-asked",
        clauses: &["GATE-1", "GATE-10", "NAME-6"],
        needs: SERVER_GATES,
        requirement: "Every gate is asked in order about every peer, with canonical addresses.",
        run: |cx| Box::pin(accept_asked(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/ports",
        clauses: &["GATE-2", "GATE-5", "GATE-9"],
        needs: SERVER_GATES,
        requirement: "Every question has the right port: the request's, the bound one or the peer's.",
        run: |cx| Box::pin(ports(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/accept-refused",
        clauses: &["GATE-8"],
        needs: SERVER_GATES,
        requirement: "A refused peer receives a reset and no byte, and causes no event.",
        run: |cx| Box::pin(accept_refused(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/a-waiting-peer-holds-up-nobody",
        clauses: &["GATE-17"],
        level: Level::Should,
        needs: SERVER_GATES,
        requirement: "A peer that waits for a gate's decision does not hold up those behind it.",
        run: |cx| Box::pin(a_waiting_peer_holds_up_nobody(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/waiting-peers-are-bounded",
        clauses: &["GATE-17"],
        level: Level::Should,
        needs: SERVER_GATES,
        requirement: "Of 300 waiting peers a gate is asked about a bounded number at a time, and none is forgotten.",
        run: |cx| Box::pin(waiting_peers_are_bounded(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/accept-given-up",
        clauses: &["SRV-12", "GATE-8"],
        needs: SERVER_GATES,
        requirement: "close of the server disconnects a peer that waits for a gate's decision.",
        run: |cx| Box::pin(accept_given_up(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/control-aborts",
        clauses: &["GATE-11", "TURN-5", "TX-25"],
        needs: GATES,
        requirement: "Control::abort resets; the state moves in the poll that returns the error.",
        run: |cx| Box::pin(control_aborts(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/control-while-connecting",
        clauses: &["GATE-11", "GATE-6"],
        needs: GATES,
        requirement: "Control::abort ends an attempt while a gate still decides.",
        run: |cx| Box::pin(control_while_connecting(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/control-outlives-the-handle",
        clauses: &["GATE-12", "ACT-6"],
        needs: GATES,
        requirement: "A control ends the flush of a socket after its last handle was dropped.",
        run: |cx| Box::pin(control_outlives_the_handle(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/control-ends-the-lingering",
        clauses: &["GATE-12"],
        needs: GATES,
        requirement: "A control ends the lingering of a socket after its Close.",
        run: |cx| Box::pin(control_ends_the_lingering(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/first-error-wins",
        clauses: &["GATE-13", "CL-4", "CL-18"],
        needs: GATES,
        requirement: "Of several errors the first is returned, and a close in between changes only the state.",
        run: |cx| Box::pin(first_error_wins(cx)),
        ..Case::MUST
    },
    Case {
        id: "gates/control-of-a-server",
        clauses: &["GATE-14", "SRV-13", "EVT-14"],
        needs: SERVER_GATES,
        requirement: "Control::abort ends a server with the given error; its accepted sockets live on.",
        run: |cx| Box::pin(control_of_a_server(cx)),
        ..Case::MUST
    },
];

async fn order(cx: Cx) -> Outcome {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let gates: Vec<_> = ["1 ", "2 ", "3 "]
        .into_iter()
        .map(|it| Warden::labelled(&cx, it, asked.clone(), Answers::default()))
        .collect();
    let peer = cx.peer(reader())?;
    let request = gates
        .iter()
        .fold(cx.request(&peer)?, |it, gate| gate.guards(it));
    let a = cx.open_with(request)?;
    a.expect("open").await?;
    gates[0].was_asked(&[
        "1 name 127.0.0.1",
        "2 name 127.0.0.1",
        "3 name 127.0.0.1",
        "1 connect 127.0.0.1",
        "2 connect 127.0.0.1",
        "3 connect 127.0.0.1",
    ])
}

async fn canonical(cx: Cx) -> Outcome {
    for (host, v6, shown) in [
        ("127.0.0.1.", false, "127.0.0.1"),
        ("::ffff:127.0.0.1", false, "127.0.0.1"),
        ("::FFFF:7F00:1", false, "127.0.0.1"),
        ("0:0:0:0:0:0:0:1", true, "::1"),
    ] {
        let warden = Warden::new(&cx, Answers::default());
        let peer = cx.peer(if v6 { reader().v6() } else { reader() })?;
        let request = OpenRequest::new(host, peer.port())?.with_options(cx.options());
        let a = cx.open_with(warden.guards(request))?;
        a.expect("open").await?;
        warden.was_asked(&[&format!("name {shown}"), &format!("connect {shown}")])?;
    }
    Ok(())
}

async fn refused_at_the_call(cx: Cx) -> Outcome {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let refuses = Answers {
        name: Answer::Refuse,
        ..Answers::default()
    };
    let first = Warden::labelled(&cx, "1 ", asked.clone(), refuses);
    let second = Warden::labelled(&cx, "2 ", asked, Answers::default());
    let peer = cx.peer(reader())?;
    let request = second.guards(first.guards(cx.request(&peer)?));
    let opened = cx.provider().open_with(request);
    cx.check_error("open", opened, "NotAllowedError")?;
    first.was_asked(&["1 name 127.0.0.1"])?;
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)
}

async fn name_refused_later(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            name: Answer::RefuseAt("refuse"),
            ..Answers::default()
        },
    );
    let peer = cx.peer(reader())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.quiet().await?;
    cx.signal("refuse");
    a.expect("error NotAllowedError, close failed").await?;
    warden.was_asked(&["name 127.0.0.1"])?;
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)
}

async fn address_refused(cx: Cx) -> Outcome {
    for (connect, later) in [(Answer::Refuse, false), (Answer::RefuseAt("refuse"), true)] {
        let warden = Warden::new(
            &cx,
            Answers {
                connect,
                ..Answers::default()
            },
        );
        let peer = cx.peer(reader())?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.is(ReadyState::Connecting)?;
        if later {
            a.quiet().await?;
            cx.signal("refuse");
        }
        let Some(Event::Error(error)) = a.next().await? else {
            return Err(Failure::new("the gate's error"));
        };
        cx.check("the gate's message", error.message(), refusal().message())?;
        a.expect("error NotAllowedError, close failed").await?;
        cx.fence().await?;
        cx.check("connections", peer.report().connections, 0)?;
    }
    Ok(())
}

async fn no_address_remains(cx: Cx) -> Outcome {
    let other = cx.peer(reader())?;
    let invented: SocketAddr = ([127, 0, 0, 1], other.port()).into();
    for addresses in [vec![], vec![invented]] {
        let inventive = Warden::new(
            &cx,
            Answers {
                addresses: Some(addresses),
                ..Answers::default()
            },
        );
        for first in [true, false] {
            let plain = Warden::new(&cx, Answers::default());
            let peer = cx.peer(reader())?;
            let request = cx.request(&peer)?;
            let request = match first {
                true => plain.guards(inventive.guards(request)),
                false => inventive.guards(plain.guards(request)),
            };
            let a = cx.open_with(request)?;
            a.expect("error NotAllowedError, close failed").await?;
            cx.fence().await?;
            cx.check("connections", peer.report().connections, 0)?;
        }
    }
    cx.check("connections", other.report().connections, 0)
}

async fn invented_addresses_are_ignored(cx: Cx) -> Outcome {
    let other = cx.peer(reader())?;
    let peer = cx.peer(reader())?;
    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let warden = Warden::new(
        &cx,
        Answers {
            addresses: Some(vec![address(other.port()), address(peer.port())]),
            ..Answers::default()
        },
    );
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    peer.until("it is connected", |it| it.connections == 1)
        .await?;
    cx.fence().await?;
    cx.check("connections", other.report().connections, 0)
}

async fn unknown_interface(cx: Cx) -> Outcome {
    let host = "fe80::1%no-such-if";
    let open = |answers| {
        let warden = Warden::new(&cx, answers);
        let request = OpenRequest::new(host, 80)?.with_options(cx.options());
        Ok::<_, Failure>((warden.guards(request), warden))
    };
    let questions = ["name fe80::1%no-such-if", "connect fe80::1"];
    let (request, warden) = open(Answers {
        name: Answer::Refuse,
        ..Answers::default()
    })?;
    let opened = cx.provider().open_with(request);
    cx.check_error("open", opened, "NotAllowedError")?;
    warden.was_asked(&questions[..1])?;
    for (answer, error) in [
        (Answer::Refuse, "NotAllowedError"),
        (Answer::Allow, "ConnectionRefusedError"),
    ] {
        let (request, warden) = open(Answers {
            connect: answer,
            ..Answers::default()
        })?;
        let a = cx.open_with(request)?;
        a.expect(&format!("error {error}, close failed")).await?;
        a.is(ReadyState::Closed)?;
        warden.was_asked(&questions)?;
    }
    Ok(())
}

async fn asked_unpolled(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            name: Answer::AllowAt("name"),
            connect: Answer::AllowAt("connect"),
            ..Answers::default()
        },
    );
    let peer = cx.peer(reader())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    cx.fence().await?;
    warden.was_asked(&["name 127.0.0.1"])?;
    cx.signal("name");
    warden.is_asked("connect 127.0.0.1").await?;
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)?;
    cx.signal("connect");
    peer.until("it is connected", |it| it.connections == 1)
        .await?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await
}

async fn given_up(cx: Cx) -> Outcome {
    let waits = [
        Answers {
            name: Answer::AllowAt("never"),
            ..Answers::default()
        },
        Answers {
            connect: Answer::AllowAt("never"),
            ..Answers::default()
        },
    ];
    for (answers, dropped) in waits.into_iter().zip(["name dropped", "connect dropped"]) {
        for how in 0..4 {
            let warden = Warden::new(&cx, answers.clone());
            let peer = cx.peer(reader())?;
            let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
            let question = dropped.replace("dropped", "127.0.0.1");
            warden.is_asked(&question).await?;
            match how {
                0 => a.close(),
                1 => a.abort(None),
                2 => a.abort(Some(told())),
                _ => {}
            }
            match how {
                0 | 1 => a.expect("close clean").await?,
                2 => a.expect("error NotAllowedError, close failed").await?,
                _ => drop(a),
            }
            warden.is_asked(dropped).await?;
            cx.fence().await?;
            cx.check("connections", peer.report().connections, 0)?;
        }
    }
    Ok(())
}

async fn timeout_stands_still(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            name: Answer::AllowAt("name"),
            connect: Answer::AllowAt("connect"),
            ..Answers::default()
        },
    );
    let peer = cx.peer(reader())?;
    // Long against a connect on a machine that is busy, shorter than the gates take together.
    let limit = SHORT * 6;
    let request = cx
        .request(&peer)?
        .with_options(cx.options().connect_timeout(limit));
    let a = cx.open_with(warden.guards(request))?;
    for signal in ["name", "connect"] {
        cx.passes(limit / 4 * 3).await;
        cx.signal(signal);
    }
    a.expect("open").await
}

async fn watch_once(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let reachable = |it: &Warden, n| -> Outcome {
        let control = it.watch_of(n)?.control;
        cx.check_that("the control is reachable", control.upgrade().is_some())
    };
    cx.check("watched with the server", warden.watched().len(), 1)?;
    reachable(&warden, 0)?;
    cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    let a = server.accept().await?;
    cx.check("watched with an accepted socket", warden.watched().len(), 2)?;
    reachable(&warden, 1)?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    cx.check("watched in the end", warden.watched().len(), 2)?;

    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let b = cx.open_with(warden.guards(cx.request(&peer)?))?;
    cx.check("watched with the socket", warden.watched().len(), 1)?;
    reachable(&warden, 0)?;
    b.expect("open").await?;
    b.sends(5, true)?;
    b.expect("data 5").await?;
    cx.check("watched", warden.watched().len(), 1)
}

async fn bind_asked(cx: Cx) -> Outcome {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let first = Warden::labelled(&cx, "1 ", asked.clone(), Answers::default());
    let second = Warden::labelled(&cx, "2 ", asked, Answers::default());
    let request = second.guards_server(first.guards_server(cx.listen_request()?));
    let server = cx.listen_with(request).await?;
    first.was_asked(&[
        "1 bind 127.0.0.1 0",
        "2 bind 127.0.0.1 0",
        "1 bind 127.0.0.1 real",
        "2 bind 127.0.0.1 real",
    ])?;
    let port = server.address().port();
    drop(server);

    let warden = Warden::new(&cx, Answers::default());
    let request = ListenRequest::new(port)?.with_options(cx.server_options());
    cx.listen_with(warden.guards_server(request)).await?;
    warden.was_asked(&["bind 127.0.0.1 real"])
}

async fn bind_refused(cx: Cx) -> Outcome {
    let allow = Answer::Allow;
    for (bind, rebind, later) in [
        (Answer::Refuse, allow, None),
        (allow, Answer::Refuse, None),
        (Answer::RefuseAt("1"), allow, Some("1")),
        (allow, Answer::RefuseAt("2"), Some("2")),
    ] {
        let warden = Warden::new(
            &cx,
            Answers {
                bind,
                rebind,
                ..Answers::default()
            },
        );
        let request = warden.guards_server(cx.listen_request()?);
        let mut listening = pin!(cx.provider().listen_with(request));
        if let Some(signal) = later {
            let pending = poll_once(listening.as_mut()).is_pending();
            cx.check_that("listen waits for the gate", pending)?;
            cx.signal(signal);
        }
        let result = cx.within("listen", listening).await?;
        cx.check_error("listen", result, "NotAllowedError")?;
    }
    Ok(())
}

async fn listens_when_admitted(cx: Cx) -> Outcome {
    let free = {
        let server = cx.listen().await?;
        server.address()
    };
    let warden = Warden::new(
        &cx,
        Answers {
            bind: Answer::AllowAt("bind"),
            ..Answers::default()
        },
    );
    let request = ListenRequest::new(free.port())?.with_options(cx.server_options());
    let provider = cx.provider().clone();
    let request = warden.guards_server(request);
    let listening = cx.thread(async move { provider.listen_with(request).await });
    warden.is_asked("bind 127.0.0.1 real").await?;
    let refused = cx.peer(Script::dial([Connect(free)]))?;
    refused
        .until("it is refused", |it| it.trouble.is_some())
        .await?;
    cx.signal("bind");
    let server = listening.join().await??;
    cx.check("port", server.local_port(), free.port())?;
    let peer = cx.peer(Script::dial([Connect(free)]))?;
    peer.done().await
}

async fn accept_asked(cx: Cx) -> Outcome {
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let first = Warden::labelled(&cx, "1 ", asked.clone(), Answers::default());
    let second = Warden::labelled(&cx, "2 ", asked, Answers::default());
    // Both families, so that an IPv4 peer may come as a mapped address.
    let everywhere = ServerSocketOptions::new().binary_type(BinaryType::ArrayBuffer);
    let request = ListenRequest::new(0)?.with_options(everywhere);
    let server = cx
        .listen_with(second.guards_server(first.guards_server(request)))
        .await?;
    let before = first.asked().len();
    cx.peer(Script::dial([Connect(server.address())]))?;
    let a = server.accept().await?;
    cx.check("host", a.raw().host(), "127.0.0.1")?;
    let asked = first.asked().split_off(before);
    let expected = [
        "1 accept 127.0.0.1 127.0.0.1",
        "2 accept 127.0.0.1 127.0.0.1",
    ];
    cx.check("the questions", asked, expected.map(str::to_owned).to_vec())
}

async fn ports(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(reader())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let mut expected = vec![
        format!("name {}", peer.port()),
        format!("connect {}", peer.port()),
    ];
    warden.had_ports(&expected)?;
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let bound = server.address().port();
    expected.extend(["bind 0".to_owned(), format!("bind {bound}")]);
    warden.had_ports(&expected)?;
    cx.peer(Script::dial([Connect(server.address())]))?;
    let b = server.accept().await?;
    expected.push(format!("accept {bound} {}", b.raw().port()));
    warden.had_ports(&expected)?;
    server.close();
    // A port that was chosen is asked about once.
    let request = ListenRequest::new(bound)?.with_options(cx.server_options());
    let server = cx.listen_with(warden.guards_server(request)).await?;
    cx.check("local_port", server.address().port(), bound)?;
    expected.push(format!("bind {bound}"));
    warden.had_ports(&expected)
}

async fn accept_refused(cx: Cx) -> Outcome {
    // A signal of its own for each round: they stay raised.
    for (accept, later, written) in [
        (Answer::Refuse, false, "written"),
        (Answer::RefuseAt("refuse"), true, "written again"),
    ] {
        let warden = Warden::new(
            &cx,
            Answers {
                accept,
                ..Answers::default()
            },
        );
        let question = "accept 127.0.0.1 127.0.0.1".to_owned();
        let asked = || warden.asked().contains(&question);
        let server = cx
            .listen_with(warden.guards_server(cx.listen_request()?))
            .await?;
        let peer = cx.peer(Script::dial([
            Connect(server.address()),
            Write(cx.bytes(100)),
            Signal(written),
            ReadToEnd,
        ]))?;
        cx.signalled(written).await?;
        if later {
            server.quiet_until("the gate is asked", asked).await?;
            cx.signal("refuse");
        }
        let ended = || peer.report().end.is_some();
        server.quiet_until("the peer is refused", ended).await?;
        peer.gets(b"", End::Reset).await?;
        server.quiet().await?;
    }
    Ok(())
}

async fn a_waiting_peer_holds_up_nobody(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            accept: Answer::AllowAt("allow"),
            later_accept: Some(Answer::Allow),
            ..Answers::default()
        },
    );
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let steps = |words| [Connect(server.address()), Write(words), ReadToEnd];
    cx.peer(Script::dial(steps(Bytes::from_static(b"the first"))))?;
    let asked = || warden.peers() == 1;
    server.quiet_until("the gate is asked", asked).await?;
    for _ in 0..3 {
        cx.peer(Script::dial(steps(Bytes::from_static(b"later"))))?;
        let a = server.accept().await?;
        a.expect("data 5").await?;
    }
    cx.signal("allow");
    let a = server.accept().await?;
    a.expect("data 9").await?;
    a.check_received(b"the first")
}

async fn waiting_peers_are_bounded(cx: Cx) -> Outcome {
    const PEERS: usize = 300;
    let door = Arc::new(Door {
        bell: cx.bell().clone(),
        ..Door::default()
    });
    // Room in the backlog for those that are not asked about.
    let request = cx.listen_request()?.backlog(PEERS as i64)?;
    let server = cx.listen_with(request.with_gate(door.clone())).await?;
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let request = OpenRequest::new("127.0.0.1", server.address().port())?;
        let request = request.with_options(cx.options());
        let peer = Socket::unlogged(cx.clone(), cx.provider().open_with(request)?);
        peer.expect("open").await?;
        peers.push(peer);
    }
    let asked = || door.asked() > 0;
    server.quiet_until("the gate is asked", asked).await?;
    server.quiet().await?;
    let fewer = door.asked() < PEERS;
    cx.check_that("fewer are asked about than wait", fewer)?;
    door.open();
    let mut ports = HashSet::new();
    let mut accepted = Vec::new();
    for _ in 0..PEERS {
        let a = server.accept().await?;
        ports.insert(a.raw().port());
        accepted.push(a);
    }
    cx.check("different peers", ports.len(), PEERS)?;
    cx.check("peers that were asked about", door.asked(), PEERS)
}

/// A gate that allows everything but peers of servers, and those when it is open. A [`Warden`] would be too busy with so many.
#[derive(Debug, Default)]
struct Door {
    bell: Arc<Bell>,
    /// How many peers it was asked about.
    asked: AtomicUsize,
    state: Mutex<(bool, Vec<Waker>)>,
}

impl Door {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn open(&self) {
        let mut state = lock(&self.state);
        state.0 = true;
        let waiting = std::mem::take(&mut state.1);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[async_trait]
impl Gate for Door {
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.bell.ring();
        poll_fn(|context| {
            let mut state = lock(&self.state);
            if state.0 {
                return Poll::Ready(Ok(()));
            }
            state.1.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

async fn accept_given_up(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            accept: Answer::AllowAt("never"),
            ..Answers::default()
        },
    );
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let peer = cx.peer(Script::dial([Connect(server.address()), ReadToEnd]))?;
    peer.until("it is in the backlog", |it| it.connections == 1)
        .await?;
    let question = "accept 127.0.0.1 127.0.0.1".to_owned();
    let asked = || warden.asked().contains(&question);
    server.quiet_until("the gate is asked", asked).await?;
    server.quiet().await?;
    server.close();
    server.expect("none").await?;
    peer.until("it is disconnected", |it| it.end.is_some())
        .await?;
    warden.is_asked("accept dropped").await?;
    cx.check("bytes at the peer", peer.report().received, 0)
}

async fn control_aborts(cx: Cx) -> Outcome {
    for (len, read_on) in [(0, "1"), (STUCK, "2")] {
        let warden = Warden::new(&cx, Answers::default());
        let peer = cx.peer(holder_until(read_on))?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.expect("open").await?;
        a.sends(len, len == 0)?;
        cx.check_that("the control is there", warden.watch_of(0)?.abort(told()))?;
        a.is(ReadyState::Open)?;
        cx.fence().await?;
        a.is(ReadyState::Open)?;
        a.buffers(len as u64)?;
        a.expect("error NotAllowedError, close failed").await?;
        cx.signal(read_on);
        peer.ends(End::Reset).await?;
    }
    Ok(())
}

async fn control_while_connecting(cx: Cx) -> Outcome {
    let warden = Warden::new(
        &cx,
        Answers {
            name: Answer::AllowAt("never"),
            ..Answers::default()
        },
    );
    let peer = cx.peer(reader())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    cx.check_that("the control is there", warden.watch_of(0)?.abort(told()))?;
    a.is(ReadyState::Connecting)?;
    a.expect("error NotAllowedError, close failed").await?;
    warden.is_asked("name dropped").await?;
    cx.check("connections", peer.report().connections, 0)
}

async fn control_outlives_the_handle(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(holder())?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    drop(a);
    cx.fence().await?;
    let watched = warden.watch_of(0)?;
    cx.check_that("the control is there", watched.abort(told()))?;
    watched.gone(&cx).await?;
    cx.within("idle", cx.provider().idle()).await?;
    // Afterwards it does nothing.
    watched.abort(told());
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn control_ends_the_lingering(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([
        Accept,
        ReadToEnd,
        Signal("read"),
        Wait("write"),
        Write(cx.bytes(1)),
        Wait("written"),
        ReadToEnd,
    ]))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    cx.signalled("read").await?;
    cx.fence().await?;
    let watched = warden.watch_of(0)?;
    cx.check("the meter is gone", watched.tally().gone, false)?;
    cx.check_that("the control is there", watched.abort(told()))?;
    watched.gone(&cx).await?;
    cx.within("idle", cx.provider().idle()).await
}

async fn first_error_wins(cx: Cx) -> Outcome {
    let other = || Error::new(ErrorName::QuotaExceeded, "a later error");
    let expected = "error NotAllowedError, close failed";
    let opened = async |script: Script| -> Result<_, Failure> {
        let warden = Warden::new(&cx, Answers::default());
        let peer = cx.peer(script)?;
        let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
        a.expect("open").await?;
        let control = warden.watch_of(0)?;
        Ok((a, control, peer))
    };

    let (a, control, _) = opened(holder()).await?;
    control.abort(told());
    control.abort(other());
    a.abort(Some(other()));
    a.is(ReadyState::Closing)?;
    a.expect(expected).await?;

    let (b, control, _) = opened(holder()).await?;
    b.sends(10, true)?;
    control.abort(told());
    b.close();
    b.is(ReadyState::Closing)?;
    b.expect(expected).await?;

    let (c, control, _) = opened(holder()).await?;
    control.abort(told());
    c.abort(None);
    c.is(ReadyState::Closing)?;
    c.expect(expected).await?;

    let (d, control, _) = opened(holder()).await?;
    d.abort(Some(told()));
    control.abort(other());
    d.expect(expected).await?;
    control.abort(other());
    d.is(ReadyState::Closed)
}

async fn control_of_a_server(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let at = server.address();
    cx.peer(Script::dial([Connect(at), Echo]))?;
    let a = server.accept().await?;
    cx.check_that("the control is there", warden.watch_of(0)?.abort(told()))?;
    server.expect("error NotAllowedError").await?;
    server.expect("none").await?;
    let refused = cx.peer(Script::dial([Connect(at)]))?;
    refused
        .until("it is refused", |it| it.trouble.is_some())
        .await?;
    server.close();
    server.expect("none").await?;
    a.sends(5, true)?;
    a.expect("data 5").await
}
