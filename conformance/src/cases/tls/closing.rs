//! How a stream inside TLS ends.

use super::prelude::*;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "tls/goodbye",
        clauses: &["CL-12", "CL-14", "CL-6"],
        needs: SECURE,
        requirement: "close flushes, then sends close_notify, then ends output.",
        run: |cx| Box::pin(goodbye(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/close-with-output-queued",
        clauses: &["CL-12", "CL-1", "ROW-13", "ST-11"],
        needs: SECURE,
        requirement: "A close under TLS waits for a slow reader, and sends close_notify after everything else.",
        run: |cx| Box::pin(close_with_output_queued(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/drop-flushes",
        clauses: &["ACT-5", "CL-12"],
        needs: SECURE,
        requirement: "Bytes sent before the last handle is dropped leave, followed by close_notify.",
        run: |cx| Box::pin(drop_flushes(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/goodbye-of-the-peer",
        clauses: &["CL-5", "CL-6", "ROW-15"],
        needs: SECURE,
        requirement: "A close_notify and an end are a clean Close, after all data; our side sends close_notify too.",
        run: |cx| Box::pin(goodbye_of_the_peer(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/goodbye-without-fin",
        clauses: &["CL-12", "CL-6"],
        needs: SECURE,
        requirement: "close_notify ends the peer's stream although no FIN follows.",
        run: |cx| Box::pin(goodbye_without_fin(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/close-after-the-peer-is-gone",
        clauses: &["CL-12", "CL-9"],
        needs: SECURE,
        requirement: "A close is clean even if its close_notify finds the peer gone after the peer's own, read or not.",
        run: |cx| Box::pin(close_after_the_peer_is_gone(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/goodbye-and-reset",
        clauses: &["CL-19", "CL-6"],
        needs: SECURE,
        requirement: "A close_notify followed by a reset is a clean end, after all data.",
        run: |cx| Box::pin(goodbye_and_reset(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/truncated",
        clauses: &["CL-12", "CL-6"],
        needs: SECURE,
        requirement: "An end without close_notify is Close with clean false after all data, and no Error.",
        run: |cx| Box::pin(truncated(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/truncated-in-a-record",
        clauses: &["CL-12"],
        needs: SECURE,
        requirement: "An end in the middle of a record is Close with clean false, after all complete records.",
        run: |cx| Box::pin(truncated_in_a_record(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/end-of-the-peer-with-output-queued",
        clauses: &["CL-8", "ROW-16"],
        needs: SECURE,
        requirement: "After its peer's end a socket continues until its output has left.",
        run: |cx| Box::pin(end_of_the_peer_with_output_queued(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/reset",
        clauses: &["ERR-4", "CL-9"],
        needs: SECURE,
        requirement: "A reset under TLS is NetworkError, not a TLS failure.",
        run: |cx| Box::pin(reset(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/abort",
        clauses: &["CL-4", "CL-18"],
        needs: SECURE,
        requirement: "Under TLS abort drops held bytes: without an error it ends cleanly, with one it resets.",
        run: |cx| Box::pin(abort(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/linger",
        clauses: &["CL-16", "CL-15"],
        needs: &[Capability::Secure, Capability::Linger],
        requirement: "A flush inside TLS without progress ends when linger expires.",
        run: |cx| Box::pin(linger(cx)),
        ..Case::MUST
    },
];

async fn goodbye(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let tls = Tls(server().only(version));
        let peer = cx.peer(Script::listen([Accept, tls, ReadToEnd]))?;
        let a = open(&cx, &peer).await?;
        a.sends(1000, true)?;
        a.close();
        a.is(ReadyState::Closing)?;
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("a goodbye", peer.tls().close_notify, true)?;
    }
    Ok(())
}

async fn close_with_output_queued(cx: Cx) -> Outcome {
    let steps = [Accept, Tls(server()), Wait("read on"), ReadToEnd];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = open(&cx, &peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.quiet().await?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    cx.check("a goodbye", peer.tls().close_notify, true)
}

async fn drop_flushes(cx: Cx) -> Outcome {
    let peer = cx.peer(secure_reader())?;
    let a = open(&cx, &peer).await?;
    a.sends(1 << 20, false)?;
    let sent = a.sent();
    drop(a);
    peer.gets(&sent, End::Fin).await?;
    cx.check("a goodbye", peer.tls().close_notify, true)?;
    cx.within("idle", cx.provider().idle()).await
}

async fn goodbye_of_the_peer(cx: Cx) -> Outcome {
    let bytes = cx.bytes(3000);
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Tls(server().only(version)),
            Write(bytes.clone()),
            CloseNotify,
            Fin,
            ReadToEnd,
        ]))?;
        let a = open(&cx, &peer).await?;
        a.expect("data 3000, close clean").await?;
        a.check_received(&bytes)?;
        peer.ends(End::Fin).await?;
        cx.check("a goodbye", peer.tls().close_notify, true)?;
    }
    Ok(())
}

async fn close_after_the_peer_is_gone(cx: Cx) -> Outcome {
    // Often, since the reset that answers the goodbye may come in between two calls or not.
    for round in ["gone 1", "gone 2", "gone 3", "gone 4", "gone 5"] {
        let steps = [
            Accept,
            Tls(server()),
            Write("bye".into()),
            CloseNotify,
            Close,
            Signal(round),
        ];
        let a = open(&cx, &cx.peer(Script::listen(steps))?).await?;
        cx.signalled(round).await?;
        a.close();
        a.ends(&["close clean"]).await?;
    }
    Ok(())
}

async fn goodbye_and_reset(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Tls(server().only(version)),
            Read(1),
            Write(cx.bytes(100)),
            CloseNotify,
            Reset,
        ]))?;
        let a = open(&cx, &peer).await?;
        a.sends(1, true)?;
        // All of it is there before anything is read.
        peer.done().await?;
        a.expect("data 100, close clean").await?;
    }
    Ok(())
}

async fn truncated(cx: Cx) -> Outcome {
    let bytes = cx.bytes(300_000);
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Tls(server().only(version)),
            Write(bytes.clone()),
            Fin,
            ReadToEnd,
        ]))?;
        let a = open(&cx, &peer).await?;
        a.expect("data 300000, close failed").await?;
        a.check_received(&bytes)?;
        peer.ends(End::Fin).await?;
    }
    Ok(())
}

async fn truncated_in_a_record(cx: Cx) -> Outcome {
    let begun = Bytes::from_static(&[23, 3, 3, 1, 0, 1, 2, 3]);
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Write(cx.bytes(10)),
        WriteBelow(begun),
        Fin,
        ReadToEnd,
    ]))?;
    let a = open(&cx, &peer).await?;
    a.expect("data 10, close failed").await
}

async fn goodbye_without_fin(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Tls(server()),
        Read(70_000),
        Write(cx.bytes(10)),
        CloseNotify,
        ReadToEnd,
        Close,
    ]))?;
    let a = open(&cx, &peer).await?;
    a.sends(70_000, false)?;
    a.expect("drain, data 10, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    cx.check_that("a goodbye", peer.tls().close_notify)
}

async fn end_of_the_peer_with_output_queued(cx: Cx) -> Outcome {
    for (ended, go_on, goodbye) in [
        ("ended with goodbye", "read on", true),
        ("ended without", "read on again", false),
    ] {
        let mut steps = vec![Accept, Tls(server()), Write(cx.bytes(10))];
        steps.extend(goodbye.then_some(CloseNotify));
        steps.extend([Fin, Signal(ended), Wait(go_on), ReadToEnd]);
        let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
        let a = open(&cx, &peer).await?;
        a.sends(STUCK, false)?;
        cx.signalled(ended).await?;
        a.expect("data 10").await?;
        a.quiet().await?;
        a.is(ReadyState::Open)?;
        cx.signal(go_on);
        let close = if goodbye {
            "close clean"
        } else {
            "close failed"
        };
        a.expect(&format!("drain, {close}")).await?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn reset(cx: Cx) -> Outcome {
    let steps = [Accept, Tls(server()), Wait("reset"), Reset];
    let peer = cx.peer(Script::listen(steps))?;
    let a = open(&cx, &peer).await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    protected(&cx, &a, "secure")
}

async fn abort(cx: Cx) -> Outcome {
    for (why, read_on, events, end) in [
        (None, "read on", "close clean", End::Fin),
        (
            Some(told()),
            "read on again",
            "error NotAllowedError, close failed",
            End::Reset,
        ),
    ] {
        let steps = [Accept, Tls(server()), Wait(read_on), ReadToEnd];
        let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
        let a = open(&cx, &peer).await?;
        a.sends(STUCK, false)?;
        // So that the end of a record waits for room, which there never is.
        stuck(&a).await?;
        a.abort(why);
        a.expect(events).await?;
        cx.signal(read_on);
        peer.ends(end).await?;
        let received = peer.received();
        cx.check_that("not all of it arrives", received.len() < STUCK)?;
        cx.check_that("a part of it", a.sent().starts_with(&received))?;
    }
    Ok(())
}

async fn linger(cx: Cx) -> Outcome {
    let steps = [Accept, Tls(server()), Wait("never")];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let options = secure(&cx).linger(SHORT);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    a.expect("error NetworkTimeoutError, close failed").await
}
