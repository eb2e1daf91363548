//! Upgrades that fail, or are given up: what waited for them never leaves in the clear.

use super::prelude::*;

const GATES: &[Capability] = &[Capability::Upgrade, Capability::Gates];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "upgrade/refused-certificate",
        clauses: &["TLS-13", "TLS-14", "ROW-18", "TLS-6", "TX-25"],
        needs: UPGRADE,
        requirement: "A failed upgrade is Error and Close; the bytes that waited for it are dropped.",
        run: |cx| Box::pin(refused_certificate(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/close-and-a-refused-certificate",
        clauses: &["CL-11", "TLS-13"],
        needs: UPGRADE,
        requirement: "If the handshake fails after close, the bytes that waited for it are dropped, and the failure is returned.",
        run: |cx| Box::pin(close_and_a_refused_certificate(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/early-plaintext",
        clauses: &["TLS-10"],
        needs: UPGRADE,
        requirement: "Unread plaintext from before the upgrade is SecurityError, and never data.",
        run: |cx| Box::pin(early_plaintext(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/early-plaintext-while-suspended",
        clauses: &["TLS-10", "RX-12"],
        needs: &[Capability::Upgrade, Capability::Suspend],
        requirement: "Plaintext that arrived while suspended is SecurityError after an upgrade, and never data.",
        run: |cx| Box::pin(early_plaintext_while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/early-plaintext-behind-output",
        clauses: &["TLS-10", "TLS-7"],
        needs: UPGRADE,
        requirement: "Plaintext that arrives while an upgrade waits for output is SecurityError, and never data.",
        run: |cx| Box::pin(early_plaintext_behind_output(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/plaintext-with-the-go-ahead",
        clauses: &["TLS-10"],
        needs: UPGRADE,
        requirement: "Plaintext in one segment with the go-ahead is returned with it, or is SecurityError after the upgrade.",
        run: |cx| Box::pin(plaintext_with_the_go_ahead(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/late-plaintext",
        clauses: &["TLS-10", "ERR-5"],
        needs: UPGRADE,
        requirement: "Plaintext that arrives after the upgrade is SecurityError, and never data.",
        run: |cx| Box::pin(late_plaintext(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/early-tls",
        clauses: &["TLS-10"],
        needs: UPGRADE,
        requirement: "An unread fatal alert from before the upgrade fails the upgrade, and is never data.",
        run: |cx| Box::pin(early_tls(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/end-in-the-handshake",
        clauses: &["TLS-15", "TLS-13"],
        needs: UPGRADE,
        requirement: "An end during the handshake of an upgrade is NetworkInterruptError.",
        run: |cx| Box::pin(end_in_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/of-what-has-ended",
        clauses: &["TLS-15", "TLS-13", "ERR-4"],
        needs: UPGRADE,
        requirement: "An upgrade of a connection whose end was not yet returned fails, and leaks nothing.",
        run: |cx| Box::pin(of_what_has_ended(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/aborted",
        clauses: &["CL-4", "CL-18", "TLS-14", "TLS-7"],
        needs: UPGRADE,
        requirement: "abort during an upgrade resets, and drops the waiting bytes; none of them leaves in the clear.",
        run: |cx| Box::pin(aborted(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/revoked",
        clauses: &["TLS-14", "ACC-1", "ACC-4"],
        needs: GATES,
        requirement: "Control::abort during an upgrade ends it with the given error, and drops the waiting bytes.",
        run: |cx| Box::pin(revoked(cx)),
        ..Case::MUST
    },
];

/// Upgrades, with so many bytes in the clear before and [`SECRET`] ones behind it.
async fn upgraded(cx: &Cx, peer: &Partner, clear: usize) -> Result<Socket, Failure> {
    let a = cx.open(peer).await?;
    if clear > 0 {
        a.sends(clear, true)?;
    }
    a.upgrade()?;
    a.sends(SECRET, false)?;
    Ok(a)
}

async fn refused_certificate(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let shows = TlsServer::new(Certificate::WrongHost).only(version);
        let peer = cx.peer(Script::listen([Accept, Read(10), Tls(shows)]))?;
        let a = upgraded(&cx, &peer, 10).await?;
        a.expect("error SecurityCertificateDomainMismatchError, close failed")
            .await?;
        protected(&cx, &a, "handshaking")?;
        peer.until("it fails", |it| it.trouble.is_some()).await?;
        cx.check("received", peer.report().received, 10)?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn close_and_a_refused_certificate(cx: Cx) -> Outcome {
    let shows = TlsServer::new(Certificate::UnknownIssuer);
    let peer = cx.peer(Script::listen([Accept, Tls(shows)]))?;
    let a = upgraded(&cx, &peer, 0).await?;
    a.close();
    a.expect("error SecurityUntrustedCertificateIssuerError, close failed")
        .await?;
    protected(&cx, &a, "handshaking")?;
    peer.until("it fails", |it| it.trouble.is_some()).await?;
    kept(&cx, &a, &peer)
}

async fn early_plaintext(cx: Cx) -> Outcome {
    let evil = Bytes::from_static(b"250 whatever you like\r\n");
    for (go, written) in [("go on", "written"), ("go on again", "written again")] {
        let peer = cx.peer(Script::listen([
            Accept,
            Write(Bytes::from_static(b"go")),
            Wait(go),
            Write(evil.clone()),
            Signal(written),
            Tls(server()),
            Echo,
        ]))?;
        let a = cx.open(&peer).await?;
        a.expect("data 2").await?;
        cx.signal(go);
        cx.signalled(written).await?;
        cx.fence().await?;
        a.upgrade()?;
        a.sends(SECRET, false)?;
        a.ends(&["error SecurityError, close failed"]).await?;
        a.check_received(b"go")?;
        protected(&cx, &a, "handshaking")?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn early_plaintext_while_suspended(cx: Cx) -> Outcome {
    let evil = Bytes::from_static(b"250 whatever you like\r\n");
    let peer = cx.peer(Script::listen([
        Accept,
        Write(evil),
        Signal("written"),
        Tls(server()),
        Echo,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signalled("written").await?;
    a.quiet().await?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    a.resume()?;
    a.ends(&["error SecurityError, close failed"]).await?;
    a.check_received(b"")?;
    kept(&cx, &a, &peer)
}

async fn early_plaintext_behind_output(cx: Cx) -> Outcome {
    let evil = Bytes::from_static(b"250 whatever you like\r\n");
    let steps = [
        Accept,
        Wait("write"),
        Write(evil),
        Signal("written"),
        Wait("read on"),
        Read(STUCK),
        Tls(server()),
    ];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    cx.signal("write");
    cx.signalled("written").await?;
    a.quiet().await?;
    cx.signal("read on");
    a.ends(&["error SecurityError, close failed"]).await?;
    a.check_received(b"")?;
    kept(&cx, &a, &peer)
}

async fn plaintext_with_the_go_ahead(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(Bytes::from_static(b"go\r\nand more\r\n")),
        Signal("written"),
        Tls(server()),
        Read(SECRET),
        Write(cx.bytes(10)),
    ]))?;
    let a = cx.open(&peer).await?;
    cx.signalled("written").await?;
    cx.fence().await?;
    let first = a.next().await?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    match first {
        // The caller's to check; what follows is TLS.
        Some(Event::Data(data)) if data.len() == 14 => a.expect("data 14, drain, data 10").await,
        _ => {
            a.ends(&["data *, error SecurityError, close failed"])
                .await?;
            kept(&cx, &a, &peer)
        }
    }
}

async fn late_plaintext(cx: Cx) -> Outcome {
    for words in [&b"250 whatever you like\r\n"[..], &[0; 64]] {
        let peer = cx.peer(Script::listen([
            Accept,
            Read(60),
            Write(Bytes::copy_from_slice(words)),
        ]))?;
        let a = upgraded(&cx, &peer, 10).await?;
        a.expect("error SecurityError, close failed").await?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn early_tls(cx: Cx) -> Outcome {
    let alert = Bytes::from_static(&[21, 3, 3, 0, 2, 2, 40]);
    let peer = cx.peer(Script::listen([Accept, Write(alert), Signal("written")]))?;
    let a = cx.open(&peer).await?;
    cx.signalled("written").await?;
    cx.fence().await?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    a.ends(&["error SecurityError, close failed"]).await?;
    kept(&cx, &a, &peer)
}

async fn end_in_the_handshake(cx: Cx) -> Outcome {
    for script in [
        vec![Accept, Read(60), Fin, ReadToEnd],
        vec![
            Accept,
            Read(10),
            Tls(server().cut(200, CutBy::Fin)),
            ReadToEnd,
        ],
    ] {
        let peer = cx.peer(Script::listen(script))?;
        let a = upgraded(&cx, &peer, 10).await?;
        a.expect("error NetworkInterruptError, close failed")
            .await?;
        protected(&cx, &a, "handshaking")?;
        peer.done().await?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn of_what_has_ended(cx: Cx) -> Outcome {
    let reset = "error NetworkError, close failed";
    for (ends, name) in [
        (Fin, "error NetworkInterruptError, close failed"),
        (Reset, reset),
    ] {
        let peer = cx.peer(Script::listen([Accept, Read(10), ends]))?;
        let a = cx.open(&peer).await?;
        a.sends(10, true)?;
        peer.done().await?;
        cx.fence().await?;
        a.upgrade()?;
        a.sends(SECRET, false)?;
        // Whether a reset is met by reading or by writing is not said, and a stream that has ended resets who writes to it.
        a.ends(&[name, reset]).await?;
        protected(&cx, &a, "handshaking")?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn aborted(cx: Cx) -> Outcome {
    for (why, begun, events) in [
        (None, "begun", "close clean"),
        (
            Some(told()),
            "begun again",
            "error NotAllowedError, close failed",
        ),
    ] {
        let steps = [Accept, Read(60), Signal(begun), ReadToEnd];
        let peer = cx.peer(Script::listen(steps))?;
        let a = upgraded(&cx, &peer, 10).await?;
        cx.signalled(begun).await?;
        a.abort(why);
        a.expect(events).await?;
        protected(&cx, &a, "handshaking")?;
        peer.ends(End::Reset).await?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn revoked(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let steps = [Accept, Read(60), Signal("begun"), ReadToEnd];
    let peer = cx.peer(Script::listen(steps))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let watched = warden.watch_of(0)?;
    a.sends(10, true)?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    cx.signalled("begun").await?;
    cx.check("there is something to end", watched.abort(told()), true)?;
    a.expect("error NotAllowedError, close failed").await?;
    protected(&cx, &a, "handshaking")?;
    peer.ends(End::Reset).await?;
    kept(&cx, &a, &peer)?;
    let tally = watched.gone(&cx).await?;
    let told = (tally.queued, tally.written, tally.read, tally.dropped);
    cx.check("the meter", told, (SECRET + 10, 10, 0, SECRET))
}
