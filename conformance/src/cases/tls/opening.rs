//! TLS from the first byte: the handshake, and what it agrees on.

use super::prelude::*;

const NAMED: &[Capability] = &[Capability::Secure, Capability::Names, Capability::Resolver];
const ALPN: &[Capability] = &[Capability::Secure, Capability::Alpn];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "tls/exchange",
        clauses: &["TLS-1", "TLS-22", "TX-11"],
        needs: SECURE,
        requirement: "With use_secure_transport everything travels inside TLS, in either version, from the first byte.",
        run: |cx| Box::pin(exchange(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/open-after-the-handshake",
        clauses: &["TLS-2", "ROW-2", "IF-12", "IF-17", "TX-2"],
        needs: SECURE,
        requirement: "Open is returned after the handshake succeeds, not when TCP connects.",
        run: |cx| Box::pin(open_after_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/handshake-unpolled",
        clauses: &["TLS-11", "ACT-2"],
        needs: SECURE,
        requirement: "The handshake of an open proceeds although nobody polls.",
        run: |cx| Box::pin(handshake_unpolled(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/name-is-sent",
        clauses: &["TLS-3", "NAME-1"],
        needs: NAMED,
        requirement: "The certificate is checked for the host in its canonical form, which is sent as SNI.",
        run: |cx| Box::pin(name_is_sent(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/address-is-not-sent",
        clauses: &["TLS-17", "TLS-3"],
        needs: SECURE,
        requirement: "The certificate's IP names are checked for an address, which is not sent as SNI.",
        run: |cx| Box::pin(address_is_not_sent(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/impossible-names",
        clauses: &["TLS-19", "ERR-11"],
        needs: NAMED,
        requirement: "A name that no certificate can have is InvalidAccessError at the call, and no gate is asked.",
        run: |cx| Box::pin(impossible_names(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/impossible-protocols",
        clauses: &["TLS-19"],
        needs: ALPN,
        requirement: "An ALPN name that is empty or longer than 255 bytes is InvalidAccessError at the call.",
        run: |cx| Box::pin(impossible_protocols(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/security",
        clauses: &["TLS-18", "IF-17"],
        needs: SECURE,
        requirement: "security returns the version, and the server's certificates as sent.",
        run: |cx| Box::pin(security(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/alpn-agreed",
        clauses: &["TLS-18", "OPT-6"],
        needs: ALPN,
        requirement: "The protocols of alpn are offered in order, and security returns the one agreed on.",
        run: |cx| Box::pin(alpn_agreed(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/alpn-ignored",
        clauses: &["TLS-18", "OPT-6"],
        needs: ALPN,
        requirement: "A server that ignores ALPN is no error; without the option nothing is offered.",
        run: |cx| Box::pin(alpn_ignored(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/alpn-refused",
        clauses: &["TLS-18"],
        needs: ALPN,
        requirement: "A server that refuses every offered protocol is SecurityError.",
        run: |cx| Box::pin(alpn_refused(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/no-early-data",
        clauses: &["TLS-22"],
        needs: SECURE,
        requirement: "No application data is sent before the handshake is complete, not even to a server that knows our session.",
        run: |cx| Box::pin(no_early_data(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/upgrade-of-a-secure-socket",
        clauses: &["TLS-5", "ROW-20"],
        needs: &[Capability::Secure, Capability::Upgrade],
        requirement: "upgrade_to_secure on a socket opened with TLS does nothing.",
        run: |cx| Box::pin(upgrade_of_a_secure_socket(cx)),
        ..Case::MUST
    },
];

async fn exchange(cx: Cx) -> Outcome {
    let answer = cx.bytes(5000);
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Tls(server().only(version)),
            Read(3000),
            Write(answer.clone()),
            ReadToEnd,
            CloseNotify,
            Fin,
        ]))?;
        let a = open(&cx, &peer).await?;
        protected(&cx, &a, "secure")?;
        a.sends(3000, true)?;
        a.buffers(3000)?;
        a.expect("data 5000").await?;
        a.check_received(&answer)?;
        a.buffers(0)?;
        a.sends(500, true)?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("what came in the clear", peer.tls().clear, 0)?;
        cx.check("version", peer.tls().version, Some(version))?;
        not_in_clear(&cx, &peer, &a.sent())?;
    }
    Ok(())
}

async fn open_after_the_handshake(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Signal("connected"),
        Wait("shake hands"),
        Tls(server()),
        Echo,
    ]))?;
    let a = opening(&cx, &peer)?;
    protected(&cx, &a, "handshaking")?;
    cx.signalled("connected").await?;
    a.quiet().await?;
    a.is(ReadyState::Connecting)?;
    a.send_fails("InvalidStateError")?;
    protected(&cx, &a, "handshaking")?;
    cx.signal("shake hands");
    a.expect("open").await?;
    a.is(ReadyState::Open)?;
    protected(&cx, &a, "secure")?;
    a.sends(3, true)?;
    a.expect("data 3").await
}

async fn handshake_unpolled(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Tls(server()), Echo]))?;
    let a = opening(&cx, &peer)?;
    peer.until("the handshake is complete", |it| {
        it.tls.as_ref().is_some_and(|it| it.complete)
    })
    .await?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await
}

async fn name_is_sent(cx: Cx) -> Outcome {
    let peer = cx.peer(secure_reader())?;
    let request = named(&cx, "IMAP.Example.Org.", &peer)?;
    let a = cx.open_with(request.with_options(secure(&cx)))?;
    a.expect("open").await?;
    a.close();
    a.expect("close clean").await?;
    peer.ends(End::Fin).await?;
    let sent = peer.tls().server_name;
    cx.check("SNI", sent.as_deref(), Some(NAME))
}

async fn address_is_not_sent(cx: Cx) -> Outcome {
    for script in [secure_reader(), secure_reader().v6()] {
        let peer = cx.peer(script)?;
        let a = open(&cx, &peer).await?;
        a.close();
        a.expect("close clean").await?;
        peer.ends(End::Fin).await?;
        cx.check("SNI", peer.tls().server_name, None)?;
    }
    Ok(())
}

async fn impossible_names(cx: Cx) -> Outcome {
    let peer = cx.peer(secure_reader())?;
    for name in [
        "-imap.example.org",
        "imap-.example.org",
        "imap.-example.org",
    ] {
        let request = named(&cx, name, &peer)?.with_options(secure(&cx));
        let opened = cx.provider().open_with(request);
        cx.check_error(name, opened, "InvalidAccessError")?;
    }
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)
}

async fn impossible_protocols(cx: Cx) -> Outcome {
    let peer = cx.peer(secure_reader())?;
    for name in [vec![], vec![b'a'; 256]] {
        let options = secure(&cx).alpn([b"imap".to_vec(), name]);
        let request = cx.request(&peer)?.with_options(options);
        let opened = cx.provider().open_with(request);
        cx.check_error("open", opened, "InvalidAccessError")?;
    }
    cx.fence().await?;
    cx.check("connections", peer.report().connections, 0)
}

async fn security(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let shows = TlsServer::new(Certificate::Intermediate).only(version);
        let peer = cx.peer(Script::listen([Accept, Tls(shows), Echo]))?;
        let a = open(&cx, &peer).await?;
        let told = agreed(&a)?;
        cx.check("version", told.version.as_str(), version.as_str())?;
        cx.check("alpn", told.alpn, None)?;
        let chain: Vec<_> = told.peer_chain.iter().map(|it| it.to_vec()).collect();
        cx.check("the number of certificates", chain.len(), 2)?;
        cx.check_that("the certificates", chain == peer.tls().chain)?;
    }
    Ok(())
}

async fn alpn_agreed(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let server = server().only(version).alpn(["pop3", "imap"]);
        let peer = cx.peer(Script::listen([Accept, Tls(server), Echo]))?;
        let options = secure(&cx).alpn(["smtp", "imap"]);
        let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
        a.expect("open").await?;
        let offered = [b"smtp".to_vec(), b"imap".to_vec()];
        cx.check("offered", peer.tls().offered.as_slice(), &offered[..])?;
        let alpn = agreed(&a)?.alpn;
        cx.check("alpn", alpn.as_deref(), Some(&b"imap"[..]))?;
    }
    Ok(())
}

async fn alpn_ignored(cx: Cx) -> Outcome {
    let script = || Script::listen([Accept, Tls(server()), Echo]);
    for offers in [vec!["imap"], vec![]] {
        let peer = cx.peer(script())?;
        let options = secure(&cx).alpn(offers.clone());
        let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
        a.expect("open").await?;
        cx.check("offered", peer.tls().offered.len(), offers.len())?;
        cx.check("alpn", agreed(&a)?.alpn, None)?;
        a.sends(3, true)?;
        a.expect("data 3").await?;
    }
    Ok(())
}

async fn alpn_refused(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let server = server().only(version).alpn(["pop3"]);
        let peer = cx.peer(Script::listen([Accept, Tls(server)]))?;
        let options = secure(&cx).alpn(["smtp", "imap"]);
        let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
        a.expect("error SecurityError, close failed").await?;
    }
    Ok(())
}

async fn no_early_data(cx: Cx) -> Outcome {
    let tls = || Tls(server().taking_early_data());
    let goodbye = || [ReadToEnd, CloseNotify, Fin];
    let mut steps = vec![Accept, tls(), Write(cx.bytes(10))];
    steps.extend(goodbye());
    steps.extend([Accept, tls()]);
    steps.extend(goodbye());
    let peer = cx.peer(Script::listen(steps))?;
    for first in [true, false] {
        let a = open(&cx, &peer).await?;
        a.sends(100, true)?;
        if first {
            // What is needed for a resumption comes before it.
            a.expect("data 10").await?;
        }
        a.close();
        a.expect("close clean").await?;
    }
    peer.done().await?;
    cx.log(format_args!("resumed: {}", peer.tls().resumed));
    cx.check("early data", peer.tls().early_data, false)?;
    cx.check("received", peer.report().received, 200)
}

async fn upgrade_of_a_secure_socket(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Tls(server()), Echo]))?;
    let a = open(&cx, &peer).await?;
    a.upgrade()?;
    a.is(ReadyState::Open)?;
    protected(&cx, &a, "secure")?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    a.upgrade()?;
    a.quiet().await?;
    a.sends(5, true)?;
    a.expect("data 5").await
}
