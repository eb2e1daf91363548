//! Options and capabilities. What is not declared is refused, in every state, and nothing else happens.

use std::time::Duration;

use super::prelude::*;
use tcpsocket::{ListenRequest, Resolver, ServerSocketOptions, SocketOptions, async_trait};

const UNDECLARED: &str = "What is not declared in Capabilities is NotSupportedError at the call.";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "options/capabilities-stay",
        clauses: &["OPT-1"],
        requirement: "A provider's capabilities do not change.",
        run: |cx| Box::pin(capabilities_stay(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/no-delay",
        clauses: &["OPT-8"],
        needs: &[Capability::NoDelay],
        requirement: "With no_delay off, small writes still arrive whole.",
        run: |cx| Box::pin(no_delay(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/keep-alive",
        clauses: &["OPT-8"],
        needs: &[Capability::KeepAlive],
        requirement: "A socket with keep_alive opens and exchanges bytes.",
        run: |cx| Box::pin(keep_alive(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/linger-of-a-server",
        clauses: &["OPT-8", "OPT-5", "CL-16"],
        needs: &[Capability::Linger, Capability::Listen],
        requirement: "linger of a server's options applies to the sockets that it accepts.",
        run: |cx| Box::pin(linger_of_a_server(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/linger-shortens-a-drop",
        clauses: &["OPT-5", "LIFE-3"],
        needs: &[Capability::Linger],
        requirement: "A short linger also bounds the flush after a drop, which then ends by reset.",
        run: |cx| Box::pin(linger_shortens_a_drop(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/longest-durations",
        clauses: &["OPT-10"],
        requirement: "Sockets with the longest possible durations open, exchange and close like any others.",
        run: |cx| Box::pin(longest_durations(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/connect-timeout-of-zero",
        clauses: &["OPT-11", "OPT-3"],
        needs: &[Capability::ConnectTimeout],
        requirement: "A connect_timeout of zero expires at once: nothing is dialled, although a server listens.",
        run: |cx| Box::pin(connect_timeout_of_zero(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/linger-of-zero",
        clauses: &["OPT-12", "CL-16"],
        needs: &[Capability::Linger],
        requirement: "A linger of zero never waits: a close with nothing held is clean, a stuck one ends at once.",
        run: |cx| Box::pin(linger_of_zero(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/keep-alive-of-zero",
        clauses: &["OPT-12"],
        needs: &[Capability::KeepAlive],
        requirement: "A socket with a keep_alive of zero opens and exchanges bytes.",
        run: |cx| Box::pin(keep_alive_of_zero(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-listen",
        clauses: &["OPT-1"],
        lacks: &[Capability::Listen],
        requirement: UNDECLARED,
        run: |cx| Box::pin(undeclared_listen(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-names",
        clauses: &["OPT-1"],
        lacks: &[Capability::Names],
        requirement: UNDECLARED,
        run: |cx| Box::pin(undeclared_names(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-string-mode",
        clauses: &["OPT-1"],
        lacks: &[Capability::StringMode],
        requirement: UNDECLARED,
        run: |cx| {
            let options = SocketOptions::new();
            let server = ServerSocketOptions::new();
            Box::pin(undeclared_options(cx, options, Some(server)))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-suspend",
        clauses: &["OPT-1"],
        lacks: &[Capability::Suspend],
        requirement: "Where suspend is not declared it does nothing, and resume is NotSupportedError.",
        run: |cx| Box::pin(undeclared_suspend(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-gates",
        clauses: &["OPT-1"],
        lacks: &[Capability::Gates],
        requirement: UNDECLARED,
        run: |cx| Box::pin(undeclared_gates(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-resolver",
        clauses: &["OPT-1"],
        lacks: &[Capability::Resolver],
        requirement: UNDECLARED,
        run: |cx| Box::pin(undeclared_resolver(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-secure",
        clauses: &["OPT-1", "IF-5"],
        lacks: &[Capability::Secure],
        requirement: "Where TLS is not declared, asking for it is refused and never answered in the clear.",
        run: |cx| {
            let options = cx.options().use_secure_transport(true);
            Box::pin(undeclared_options(cx, options, None))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-upgrade",
        clauses: &["OPT-1", "IF-12", "IF-17"],
        lacks: &[Capability::Upgrade],
        requirement: "Where upgrades are not declared they are refused in every state, and ssl stays false.",
        run: |cx| Box::pin(undeclared_upgrade(cx)),
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-alpn",
        clauses: &["OPT-1", "OPT-6"],
        lacks: &[Capability::Alpn],
        requirement: UNDECLARED,
        run: |cx| {
            let options = cx.options().alpn(["imap"]);
            Box::pin(undeclared_options(cx, options, None))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-no-delay",
        clauses: &["OPT-1"],
        lacks: &[Capability::NoDelay],
        requirement: UNDECLARED,
        run: |cx| {
            let options = cx.options().no_delay(false);
            let server = cx.server_options().no_delay(false);
            Box::pin(undeclared_options(cx, options, Some(server)))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-keep-alive",
        clauses: &["OPT-1"],
        lacks: &[Capability::KeepAlive],
        requirement: UNDECLARED,
        run: |cx| {
            let idle = Duration::from_secs(60);
            let options = cx.options().keep_alive(idle);
            let server = cx.server_options().keep_alive(idle);
            Box::pin(undeclared_options(cx, options, Some(server)))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-connect-timeout",
        clauses: &["OPT-1"],
        lacks: &[Capability::ConnectTimeout],
        requirement: UNDECLARED,
        run: |cx| {
            let options = cx.options().connect_timeout(Duration::from_secs(5));
            Box::pin(undeclared_options(cx, options, None))
        },
        ..Case::MUST
    },
    Case {
        id: "options/undeclared-linger",
        clauses: &["OPT-1"],
        lacks: &[Capability::Linger],
        requirement: UNDECLARED,
        run: |cx| {
            let options = cx.options().linger(Duration::from_secs(5));
            let server = cx.server_options().linger(Duration::from_secs(5));
            Box::pin(undeclared_options(cx, options, Some(server)))
        },
        ..Case::MUST
    },
];

async fn capabilities_stay(cx: Cx) -> Outcome {
    let before = cx.offers();
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    cx.check("capabilities", cx.offers(), before)?;
    a.close();
    a.expect("close clean").await?;
    cx.check("capabilities", cx.offers(), before)
}

async fn no_delay(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let request = cx
        .request(&peer)?
        .with_options(cx.options().no_delay(false));
    let a = cx.open_with(request)?;
    a.expect("open").await?;
    for _ in 0..10 {
        a.sends(3, true)?;
    }
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    if cx.declares(Capability::Listen) {
        let options = cx.server_options().no_delay(false);
        exchange_with_accepted(&cx, options).await?;
    }
    Ok(())
}

async fn keep_alive(cx: Cx) -> Outcome {
    let idle = Duration::from_secs(60);
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let request = cx
        .request(&peer)?
        .with_options(cx.options().keep_alive(idle));
    let a = cx.open_with(request)?;
    a.expect("open").await?;
    a.sends(3, true)?;
    a.expect("data 3").await?;
    if cx.declares(Capability::Listen) {
        exchange_with_accepted(&cx, cx.server_options().keep_alive(idle)).await?;
    }
    Ok(())
}

async fn exchange_with_accepted(cx: &Cx, options: ServerSocketOptions) -> Outcome {
    let server = cx
        .listen_with(ListenRequest::new(0)?.with_options(options))
        .await?;
    cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    let a = server.accept().await?;
    a.sends(3, true)?;
    a.expect("data 3").await
}

async fn longest_durations(cx: Cx) -> Outcome {
    let mut options = cx.options();
    if cx.declares(Capability::ConnectTimeout) {
        options = options.connect_timeout(Duration::MAX);
    }
    if cx.declares(Capability::KeepAlive) {
        options = options.keep_alive(Duration::MAX);
    }
    if cx.declares(Capability::Linger) {
        options = options.linger(Duration::MAX);
    }
    let silent = cx.peer(Script::silent())?;
    let waiting = cx.open_with(cx.request(&silent)?.with_options(options.clone()))?;
    waiting.quiet().await?;
    waiting.close();
    waiting.expect("close clean").await?;
    let peer = cx.peer(holder())?;
    let a = cx.open_with(cx.request(&peer)?.with_options(options.clone()))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    let peer = cx.peer(reader())?;
    let dropped = cx.open_with(cx.request(&peer)?.with_options(options))?;
    dropped.expect("open").await?;
    dropped.sends(10, true)?;
    let sent = dropped.sent();
    drop(dropped);
    peer.gets(&sent, End::Fin).await
}

async fn connect_timeout_of_zero(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let options = cx.options().connect_timeout(Duration::ZERO);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.is(ReadyState::Connecting)?;
    a.expect("error NetworkTimeoutError, close failed").await?;
    cx.fence().await?;
    cx.check("connections at the peer", peer.report().connections, 0)
}

async fn linger_of_zero(cx: Cx) -> Outcome {
    let options = || cx.options().linger(Duration::ZERO);
    for dropped in [false, true] {
        let peer = cx.peer(reader())?;
        let a = cx.open_with(cx.request(&peer)?.with_options(options()))?;
        a.expect("open").await?;
        a.sends(65_536, true)?;
        a.expect("drain").await?;
        let sent = a.sent();
        if dropped {
            drop(a);
        } else {
            a.close();
            a.expect("close clean").await?;
        }
        peer.gets(&sent, End::Fin).await?;
    }
    let peer = cx.peer(holder())?;
    let a = cx.open_with(cx.request(&peer)?.with_options(options()))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    a.expect("error NetworkTimeoutError, close failed").await?;
    cx.within("idle", cx.provider().idle()).await?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn keep_alive_of_zero(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let options = cx.options().keep_alive(Duration::ZERO);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(3, true)?;
    a.expect("data 3").await?;
    if !cx.declares(Capability::Listen) {
        return Ok(());
    }
    let options = cx.server_options().keep_alive(Duration::ZERO);
    exchange_with_accepted(&cx, options).await
}

async fn linger_of_a_server(cx: Cx) -> Outcome {
    let options = cx.server_options().linger(SHORT);
    let server = cx
        .listen_with(ListenRequest::new(0)?.with_options(options))
        .await?;
    let script = [Connect(server.address()), Wait("read on"), ReadToEnd];
    let peer = cx.peer(Script::dial(script).receive_buffer(32_768))?;
    let a = server.accept().await?;
    a.sends(STUCK, false)?;
    a.close();
    a.expect("error NetworkTimeoutError, close failed").await?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn linger_shortens_a_drop(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let request = cx.request(&peer)?.with_options(cx.options().linger(SHORT));
    let a = cx.open_with(request)?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    drop(a);
    cx.within("idle", cx.provider().idle()).await?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn undeclared_listen(cx: Cx) -> Outcome {
    let listening = cx.provider().listen_with(cx.listen_request()?);
    let result = cx.within("listen", listening).await?;
    cx.check_error("listen", result, "NotSupportedError")
}

async fn undeclared_names(cx: Cx) -> Outcome {
    let request = OpenRequest::new("localhost", 80)?.with_options(cx.options());
    let opened = cx.provider().open_with(request);
    cx.check_error("open", opened, "NotSupportedError")
}

async fn undeclared_options(
    cx: Cx,
    options: SocketOptions,
    server: Option<ServerSocketOptions>,
) -> Outcome {
    let peer = cx.peer(reader())?;
    let request = cx.request(&peer)?.with_options(options);
    let opened = cx.provider().open_with(request);
    cx.check_error("open", opened, "NotSupportedError")?;
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)?;
    let Some(server) = server.filter(|_| cx.declares(Capability::Listen)) else {
        return Ok(());
    };
    let request = ListenRequest::new(0)?.with_options(server);
    let result = cx
        .within("listen", cx.provider().listen_with(request))
        .await?;
    cx.check_error("listen", result, "NotSupportedError")
}

async fn undeclared_suspend(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.opening(&peer)?;
    a.suspend();
    a.resume_fails("NotSupportedError")?;
    a.expect("open").await?;
    a.suspend();
    a.resume_fails("NotSupportedError")?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.close();
    a.suspend();
    a.resume_fails("NotSupportedError")?;
    a.is(ReadyState::Closing)?;
    a.expect("close clean").await?;
    a.resume_fails("NotSupportedError")
}

async fn undeclared_gates(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(reader())?;
    let opened = cx.provider().open_with(warden.guards(cx.request(&peer)?));
    cx.check_error("open", opened, "NotSupportedError")?;
    if cx.declares(Capability::Listen) {
        let request = warden.guards_server(cx.listen_request()?);
        let result = cx
            .within("listen", cx.provider().listen_with(request))
            .await?;
        cx.check_error("listen", result, "NotSupportedError")?;
    }
    warden.was_asked(&[])?;
    cx.check("watched", warden.watched().len(), 0)
}

/// A resolver that must not be asked.
#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Resolver for Unasked {
    async fn lookup(
        &self,
        name: &tcpsocket::Host,
        _port: u16,
    ) -> Result<Vec<std::net::SocketAddr>, Error> {
        panic!("{name} was looked up by a resolver that is not supported");
    }
}

async fn undeclared_resolver(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let request = cx.request(&peer)?.with_resolver(Arc::new(Unasked));
    let opened = cx.provider().open_with(request);
    cx.check_error("open", opened, "NotSupportedError")
}

async fn undeclared_upgrade(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.opening(&peer)?;
    let refused = |state| -> Outcome {
        a.is(state)?;
        cx.check_error("upgrade", a.raw().upgrade_to_secure(), "NotSupportedError")?;
        cx.check("ssl", a.raw().ssl(), false)?;
        cx.check("secure", a.raw().security().is_secure(), false)?;
        a.is(state)
    };
    refused(ReadyState::Connecting)?;
    a.expect("open").await?;
    refused(ReadyState::Open)?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.close();
    refused(ReadyState::Closing)?;
    a.expect("close clean").await?;
    refused(ReadyState::Closed)
}
