//! Upgrades: when they are possible, and what they change.

use super::prelude::*;

const ALPN: &[Capability] = &[Capability::Upgrade, Capability::Alpn];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "upgrade/exchange",
        clauses: &["TLS-1", "TLS-6", "TLS-7", "ROW-19", "IF-12", "IF-17"],
        needs: UPGRADE,
        requirement: "After upgrade_to_secure everything travels inside TLS, in either version; no event reports it.",
        run: |cx| Box::pin(exchange(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/returns-at-once",
        clauses: &["TLS-6", "IF-12", "IF-17", "EVT-7"],
        needs: UPGRADE,
        requirement: "upgrade_to_secure returns without waiting; ssl is true from then on, and security shows the handshake.",
        run: |cx| Box::pin(returns_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/unpolled",
        clauses: &["TLS-11", "ACT-2", "ACT-1"],
        needs: UPGRADE,
        requirement: "An upgrade, and the bytes sent after it, proceed although nobody polls.",
        run: |cx| Box::pin(unpolled(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/suspended",
        clauses: &["TLS-11", "RX-9", "RX-10"],
        needs: &[Capability::Upgrade, Capability::Suspend],
        requirement: "An upgrade proceeds while the socket is suspended; only data is held back.",
        run: |cx| Box::pin(suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/twice",
        clauses: &["TLS-5"],
        needs: UPGRADE,
        requirement: "A second upgrade_to_secure does nothing, during the handshake and after it.",
        run: |cx| Box::pin(twice(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/other-states",
        clauses: &["TLS-4", "ROW-7", "ROW-21", "ROW-27", "ERR-11"],
        needs: UPGRADE,
        requirement: "upgrade_to_secure in any state but open is InvalidStateError and changes nothing.",
        run: |cx| Box::pin(other_states(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/accepted",
        clauses: &["TLS-12", "ERR-11", "IF-12"],
        needs: &[Capability::Upgrade, Capability::Listen],
        requirement: "upgrade_to_secure on an accepted socket is NotSupportedError, and the connection continues in the clear.",
        run: |cx| Box::pin(accepted(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/impossible-names",
        clauses: &["TLS-19", "ERR-11"],
        needs: &[Capability::Upgrade, Capability::Names, Capability::Resolver],
        requirement: "upgrade_to_secure with a host that no certificate can have is InvalidAccessError, and changes nothing.",
        run: |cx| Box::pin(impossible_names(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/name-is-sent",
        clauses: &["TLS-3", "NAME-1"],
        needs: &[Capability::Upgrade, Capability::Names, Capability::Resolver],
        requirement: "An upgrade is for the request's host, which is sent as SNI.",
        run: |cx| Box::pin(name_is_sent(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/alpn",
        clauses: &["OPT-6", "TLS-18"],
        needs: ALPN,
        requirement: "An upgrade offers the protocols of alpn.",
        run: |cx| Box::pin(alpn(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/ends",
        clauses: &["CL-6", "CL-12"],
        needs: UPGRADE,
        requirement: "After an upgrade an end with close_notify is clean, one without is not.",
        run: |cx| Box::pin(ends(cx)),
        ..Case::MUST
    },
];

async fn exchange(cx: Cx) -> Outcome {
    let answer = cx.bytes(300_000);
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Write(answer.slice(..20)),
            Read(7),
            Write(answer.slice(20..30)),
            Tls(server().only(version)),
            Read(50_000),
            Write(answer.slice(30..)),
            ReadToEnd,
            CloseNotify,
            Fin,
        ]))?;
        let a = cx.open(&peer).await?;
        a.expect("data 20").await?;
        a.sends(7, true)?;
        a.expect("data 10").await?;
        protected(&cx, &a, "plain")?;
        a.upgrade()?;
        a.sends(50_000, true)?;
        // Data is the first event after it: nothing tells that the upgrade has succeeded.
        a.expect("data 299970").await?;
        protected(&cx, &a, "secure")?;
        cx.check("version", agreed(&a)?.version.as_str(), version.as_str())?;
        a.check_received(&answer)?;
        a.sends(3, true)?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("what came in the clear", peer.tls().clear, 7)?;
        cx.check("a goodbye", peer.tls().close_notify, true)?;
        not_in_clear(&cx, &peer, &a.sent()[7..])?;
    }
    Ok(())
}

async fn returns_at_once(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("shake hands"),
        Tls(server()),
        Echo,
    ]))?;
    let a = cx.open(&peer).await?;
    protected(&cx, &a, "plain")?;
    a.upgrade()?;
    protected(&cx, &a, "handshaking")?;
    a.is(ReadyState::Open)?;
    a.quiet().await?;
    protected(&cx, &a, "handshaking")?;
    cx.signal("shake hands");
    cx.until("security tells of it", || a.raw().security().is_secure())
        .await?;
    a.quiet().await?;
    protected(&cx, &a, "secure")?;
    a.sends(5, true)?;
    a.expect("data 5").await
}

async fn unpolled(cx: Cx) -> Outcome {
    let peer = cx.peer(upgrader(10))?;
    let a = cx.open(&peer).await?;
    a.sends(10, true)?;
    a.upgrade()?;
    a.sends(5000, true)?;
    peer.begins(&a.sent()).await?;
    cx.check("what came in the clear", peer.tls().clear, 10)
}

async fn suspended(cx: Cx) -> Outcome {
    let bytes = cx.bytes(1000);
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Write(bytes.clone()),
        Read(5000),
        Signal("read"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    a.upgrade()?;
    a.sends(5000, true)?;
    cx.signalled("read").await?;
    a.quiet().await?;
    protected(&cx, &a, "secure")?;
    a.resume()?;
    a.expect("data 1000").await?;
    a.check_received(&bytes)
}

async fn twice(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("shake hands"),
        Tls(server()),
        Echo,
    ]))?;
    let a = cx.open(&peer).await?;
    a.upgrade()?;
    a.sends(5, true)?;
    a.upgrade()?;
    a.sends(5, true)?;
    protected(&cx, &a, "handshaking")?;
    cx.signal("shake hands");
    a.expect("data 10").await?;
    a.upgrade()?;
    protected(&cx, &a, "secure")?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.check_received(&a.sent())?;
    cx.check("what came in the clear", peer.tls().clear, 0)
}

async fn other_states(cx: Cx) -> Outcome {
    let steps = [Accept, Wait("read on"), ReadToEnd, Close];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.opening(&peer)?;
    let refused = |state| -> Outcome {
        a.is(state)?;
        a.upgrade_fails("InvalidStateError")?;
        protected(&cx, &a, "plain")?;
        a.is(state)
    };
    refused(ReadyState::Connecting)?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    refused(ReadyState::Closing)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    refused(ReadyState::Closed)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn accepted(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    let a = server.accept().await?;
    a.upgrade_fails("NotSupportedError")?;
    protected(&cx, &a, "plain")?;
    a.is(ReadyState::Open)?;
    a.sends(100, true)?;
    a.expect("data 100").await?;
    peer.begins(&a.sent()).await?;
    a.upgrade_fails("NotSupportedError")?;
    protected(&cx, &a, "plain")
}

async fn impossible_names(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.open_with(named(&cx, "imap-.example.org", &peer)?)?;
    a.expect("open").await?;
    a.upgrade_fails("InvalidAccessError")?;
    protected(&cx, &a, "plain")?;
    a.sends(100, true)?;
    a.expect("data 100").await
}

async fn name_is_sent(cx: Cx) -> Outcome {
    let peer = cx.peer(upgrader(0))?;
    let a = cx.open_with(named(&cx, "IMAP.example.org", &peer)?)?;
    a.expect("open").await?;
    a.upgrade()?;
    a.close();
    a.expect("close clean").await?;
    peer.ends(End::Fin).await?;
    let sent = peer.tls().server_name;
    cx.check("SNI", sent.as_deref(), Some(NAME))
}

async fn alpn(cx: Cx) -> Outcome {
    let tls = Tls(server().alpn(["imap"]));
    let peer = cx.peer(Script::listen([Accept, tls, Echo]))?;
    let options = cx.options().alpn(["smtp", "imap"]);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.upgrade()?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    let offered = [b"smtp".to_vec(), b"imap".to_vec()];
    cx.check("offered", peer.tls().offered.as_slice(), &offered[..])?;
    let alpn = agreed(&a)?.alpn;
    cx.check("alpn", alpn.as_deref(), Some(&b"imap"[..]))
}

async fn ends(cx: Cx) -> Outcome {
    for goodbye in [true, false] {
        let mut steps = vec![Accept, Tls(server()), Write(cx.bytes(10))];
        steps.extend(goodbye.then_some(CloseNotify));
        steps.extend([Fin, ReadToEnd]);
        let peer = cx.peer(Script::listen(steps))?;
        let a = cx.open(&peer).await?;
        a.upgrade()?;
        a.expect(match goodbye {
            true => "data 10, close clean",
            false => "data 10, close failed",
        })
        .await?;
        peer.ends(End::Fin).await?;
    }
    Ok(())
}
