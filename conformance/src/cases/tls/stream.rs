//! The stream inside TLS: volume, the mark, backpressure, what is counted.

use super::prelude::*;

const SUSPEND: &[Capability] = &[Capability::Secure, Capability::Suspend];
const GATES: &[Capability] = &[Capability::Secure, Capability::Gates];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "tls/megabytes-in",
        clauses: &["ST-12", "RX-5", "CL-6"],
        needs: SECURE,
        requirement: "Megabytes received inside TLS are delivered complete and in order.",
        run: |cx| Box::pin(megabytes_in(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/megabytes-out",
        clauses: &["TX-1", "TX-10", "CL-12"],
        needs: SECURE,
        requirement: "Megabytes sent inside TLS arrive complete and in order.",
        run: |cx| Box::pin(megabytes_out(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/megabytes-both-ways",
        clauses: &["ST-12", "TX-10"],
        needs: SECURE,
        requirement: "Inside TLS both directions move at once.",
        run: |cx| Box::pin(megabytes_both_ways(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/the-mark",
        clauses: &["TX-4", "TX-5", "TX-6", "TX-7", "TX-11", "TURN-2", "TURN-4"],
        needs: SECURE,
        requirement: "The mark, buffered_amount and Drain count plaintext, exactly as in the clear.",
        run: |cx| Box::pin(the_mark(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/held-while-the-peer-does-not-read",
        clauses: &["TX-6", "TX-11", "TURN-3"],
        needs: SECURE,
        requirement: "Plaintext is held until the kernel has it; no Drain comes before the kernel has all of it.",
        run: |cx| Box::pin(held_while_the_peer_does_not_read(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/suspended",
        clauses: &["RX-7", "RX-10", "RX-12", "TLS-11"],
        needs: SUSPEND,
        requirement: "A suspended socket completes the handshake, opens and sends; only data is held back.",
        run: |cx| Box::pin(suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/suspended-holds-the-peer-back",
        clauses: &["RX-11", "RX-10"],
        needs: SUSPEND,
        requirement: "While suspended TCP holds the peer back, and after resume everything arrives.",
        run: |cx| Box::pin(suspended_holds_the_peer_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/end-waits-for-resume",
        clauses: &["RX-12", "CL-12"],
        needs: SUSPEND,
        requirement: "An end that arrived while suspended, with close_notify or without, waits for resume.",
        run: |cx| Box::pin(end_waits_for_resume(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/small-records",
        clauses: &["ST-12", "RX-5"],
        needs: SECURE,
        requirement: "A stream in one-byte records, and in one-byte segments, arrives complete.",
        run: |cx| Box::pin(small_records(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/keys-are-changed",
        clauses: &["ST-12", "TX-10"],
        needs: SECURE,
        requirement: "A TLS 1.3 key update by the peer in mid-stream changes nothing else.",
        run: |cx| Box::pin(keys_are_changed(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/meters",
        clauses: &["ACC-1", "ACC-2", "ACC-4"],
        needs: GATES,
        requirement: "Meters count plaintext: no byte of a handshake, of record overhead or of close_notify.",
        run: |cx| Box::pin(meters(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/meters-of-what-is-dropped",
        clauses: &["ACC-1", "CL-9"],
        needs: GATES,
        requirement: "queued = written + dropped, however a socket under TLS ends.",
        run: |cx| Box::pin(meters_of_what_is_dropped(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/revoked-in-the-handshake",
        clauses: &["TLS-14", "ACC-4"],
        needs: GATES,
        requirement: "Control::abort during a handshake ends it with the given error.",
        run: |cx| Box::pin(revoked_in_the_handshake(cx)),
        ..Case::MUST
    },
];

async fn megabytes_in(cx: Cx) -> Outcome {
    let bytes = cx.bytes(5_000_001);
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Tls(server().only(version)),
            Write(bytes.clone()),
            CloseNotify,
            Fin,
        ]))?;
        let a = open(&cx, &peer).await?;
        a.expect("data 5000001, close clean").await?;
        a.check_received(&bytes)?;
    }
    Ok(())
}

async fn megabytes_out(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let tls = Tls(server().only(version));
        let peer = cx.peer(Script::listen([Accept, tls, ReadToEnd, CloseNotify, Fin]))?;
        let a = open(&cx, &peer).await?;
        a.sends(3_000_000, false)?;
        a.sends(7, false)?;
        a.expect("drain").await?;
        a.sends(60_000, true)?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("a goodbye", peer.tls().close_notify, true)?;
    }
    Ok(())
}

async fn megabytes_both_ways(cx: Cx) -> Outcome {
    const ALL: usize = 2 << 20;
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([Accept, Tls(server().only(version)), Echo]))?;
        let a = open(&cx, &peer).await?;
        let mut seen = 0;
        while a.received().len() < ALL {
            if a.raw().buffered_amount() == 0 && a.sent().len() < ALL {
                a.sends(ALL / 8, false)?;
            }
            match a.next().await? {
                Some(Event::Data(data)) => seen += data.len(),
                Some(Event::Drain) => {}
                other => return Err(Failure::new(format!("{other:?} after {seen} bytes"))),
            }
        }
        a.check_received(&a.sent())?;
        cx.check("received", peer.report().received, ALL)?;
    }
    Ok(())
}

async fn the_mark(cx: Cx) -> Outcome {
    let peer = cx.peer(secure_reader())?;
    let a = open(&cx, &peer).await?;
    a.sends(65_536, true)?;
    a.buffers(65_536)?;
    a.sends(3, false)?;
    a.buffers(65_539)?;
    a.expect("drain").await?;
    a.buffers(0)?;
    a.sends(65_535, true)?;
    a.quiet().await?;
    a.buffers(0)?;
    a.sends(65_537, false)?;
    a.expect("drain").await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn held_while_the_peer_does_not_read(cx: Cx) -> Outcome {
    let steps = [Accept, Tls(server()), Wait("read on"), ReadToEnd];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = open(&cx, &peer).await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    let held = a.raw().buffered_amount();
    cx.check_that("some of it left, and some is held", {
        held > 0 && held < STUCK as u64
    })?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.buffers(0)?;
    peer.begins(&a.sent()).await
}

async fn suspended(cx: Cx) -> Outcome {
    let bytes = cx.bytes(1000);
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Write(bytes.clone()),
        Read(70_000),
        Signal("read"),
    ]))?;
    let a = opening(&cx, &peer)?;
    a.suspend();
    a.expect("open").await?;
    a.sends(70_000, false)?;
    a.expect("drain").await?;
    cx.signalled("read").await?;
    a.quiet().await?;
    a.resume()?;
    a.expect("data 1000").await?;
    a.check_received(&bytes)
}

async fn suspended_holds_the_peer_back(cx: Cx) -> Outcome {
    let bytes = cx.bytes(STUCK);
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Wait("write"),
        WriteUntilFull(bytes.clone(), "full"),
        CloseNotify,
        Fin,
    ]))?;
    let a = open(&cx, &peer).await?;
    a.suspend();
    cx.signal("write");
    peer.until("it writes", |it| it.written > 1 << 20).await?;
    cx.signalled("full").await?;
    cx.check_that("it was stopped", peer.report().written < STUCK)?;
    a.quiet().await?;
    a.resume()?;
    a.expect(&format!("data {STUCK}, close clean")).await?;
    a.check_received(&bytes)
}

async fn end_waits_for_resume(cx: Cx) -> Outcome {
    for (goodbye, written, close) in [
        (true, "all with goodbye", "close clean"),
        (false, "all without", "close failed"),
    ] {
        let mut steps = vec![Accept, Tls(server()), Write(cx.bytes(10))];
        steps.extend(goodbye.then_some(CloseNotify));
        steps.extend([Fin, Signal(written), ReadToEnd]);
        let peer = cx.peer(Script::listen(steps))?;
        let a = opening(&cx, &peer)?;
        a.suspend();
        a.expect("open").await?;
        cx.signalled(written).await?;
        a.quiet().await?;
        a.is(ReadyState::Open)?;
        a.sends(10, true)?;
        a.resume()?;
        a.expect(&format!("data 10, {close}")).await?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn small_records(cx: Cx) -> Outcome {
    let bytes = cx.bytes(1000);
    let pieces = WritePieces {
        bytes: bytes.clone(),
        piece: 1,
    };
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        pieces,
        CloseNotify,
        Fin,
    ]))?;
    let a = open(&cx, &peer).await?;
    a.expect("data 1000, close clean").await?;
    a.check_received(&bytes)
}

async fn keys_are_changed(cx: Cx) -> Outcome {
    let bytes = cx.bytes(60_000);
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        KeyUpdate,
        Read(70_000),
        Write(bytes.slice(..20_000)),
        KeyUpdate,
        KeyUpdate,
        Write(bytes.slice(20_000..40_000)),
        KeyUpdate,
        Write(bytes.slice(40_000..)),
        ReadToEnd,
        CloseNotify,
        Fin,
    ]))?;
    let a = open(&cx, &peer).await?;
    a.sends(70_000, false)?;
    a.expect("drain, data 60000").await?;
    a.check_received(&bytes)?;
    a.sends(1000, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    cx.check_that("a goodbye", peer.tls().close_notify)
}

async fn meters(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Read(70_003),
        Write(cx.bytes(5000)),
        ReadToEnd,
        CloseNotify,
        Fin,
    ]))?;
    let request = cx.request(&peer)?.with_options(secure(&cx));
    let a = cx.open_with(warden.guards(request))?;
    a.expect("open").await?;
    let watched = warden.watch_of(0)?;
    let tally = watched.tally();
    cx.check("before the first send", (tally.written, tally.read), (0, 0))?;
    a.sends(70_000, false)?;
    a.sends(3, false)?;
    a.expect("drain, data 5000").await?;
    a.sends(7, true)?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    let tally = watched.gone(&cx).await?;
    let told = (tally.queued, tally.written, tally.read, tally.dropped);
    cx.check("the meter", told, (70_010, 70_010, 5000, 0))?;
    cx.check("nonsense", tally.wrong, false)
}

async fn meters_of_what_is_dropped(cx: Cx) -> Outcome {
    for how in ["abort", "abort with an error", "control", "reset"] {
        cx.log(how);
        let warden = Warden::new(&cx, Answers::default());
        let steps = [Accept, Tls(server()), Wait(how), Reset];
        let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
        let request = cx.request(&peer)?.with_options(secure(&cx));
        let a = cx.open_with(warden.guards(request))?;
        a.expect("open").await?;
        let watched = warden.watch_of(0)?;
        a.sends(STUCK, false)?;
        stuck(&a).await?;
        match how {
            "abort" => a.abort(None),
            "abort with an error" => a.abort(Some(told())),
            "control" => _ = watched.abort(told()),
            _ => {}
        }
        if how == "reset" {
            cx.signal(how);
        }
        a.expect(match how {
            "abort" => "close clean",
            "reset" => "error NetworkError, close failed",
            _ => "error NotAllowedError, close failed",
        })
        .await?;
        drop(a);
        if how != "reset" {
            cx.signal(how);
        }
        let tally = watched.gone(&cx).await?;
        cx.check_that("some bytes were dropped", tally.dropped > 0)?;
        cx.check("queued", tally.queued, STUCK)?;
        let both = tally.written + tally.dropped;
        cx.check("written and dropped", both, STUCK)?;
        cx.check("nonsense", tally.wrong, false)?;
    }
    Ok(())
}

async fn revoked_in_the_handshake(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([Accept, Read(50), Signal("begun")]))?;
    let request = cx.request(&peer)?.with_options(secure(&cx));
    let a = cx.open_with(warden.guards(request))?;
    cx.signalled("begun").await?;
    let watched = warden.watch_of(0)?;
    cx.check("there is something to end", watched.abort(told()), true)?;
    a.expect("error NotAllowedError, close failed").await?;
    protected(&cx, &a, "handshaking")?;
    let tally = watched.gone(&cx).await?;
    let told = (tally.queued, tally.written, tally.read, tally.dropped);
    cx.check("the meter", told, (0, 0, 0, 0))
}
