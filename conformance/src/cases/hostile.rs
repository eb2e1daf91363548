//! Peers that do everything they should not, and a machine without descriptors.

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "hostile/reset-before-the-first-byte",
        clauses: &["ERR-4", "CL-9", "SRV-15"],
        needs: &[Capability::Listen],
        requirement: "A peer that resets at once causes one error, or no event if it was not yet accepted.",
        run: |cx| Box::pin(reset_before_the_first_byte(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-before-open-is-told",
        clauses: &["ERR-4", "CL-9", "CL-10", "ST-7"],
        requirement: "A reset before Open is returned is one NetworkError, then Close.",
        run: |cx| Box::pin(reset_before_open_is_told(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-in-mid-stream",
        clauses: &["ERR-4", "CL-17", "ST-12"],
        requirement: "Data that arrived before a reset is delivered, in order, then the error.",
        run: |cx| Box::pin(reset_in_mid_stream(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-during-the-flush",
        clauses: &["CL-9", "TX-25", "ROW-17"],
        requirement: "A reset during a flush is an error, without a drain.",
        run: |cx| Box::pin(reset_during_the_flush(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-while-closing",
        clauses: &["ROW-25", "CL-9"],
        requirement: "A reset while a close flushes is an error, then Close.",
        run: |cx| Box::pin(reset_while_closing(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-after-close",
        clauses: &["ST-7", "CL-14"],
        requirement: "A reset after Close was returned changes nothing.",
        run: |cx| Box::pin(reset_after_close(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/fin-and-a-slow-reader",
        clauses: &["CL-8", "ROW-16", "CL-13"],
        requirement: "A peer that has ended its stream and reads slowly gets every byte.",
        run: |cx| Box::pin(fin_and_a_slow_reader(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/fin-then-reset",
        clauses: &["CL-9", "ROW-17"],
        requirement: "A peer that ends its stream and then resets while bytes are held is an error.",
        run: |cx| Box::pin(fin_then_reset(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/data-and-fin-while-suspended",
        clauses: &["RX-12"],
        needs: &[Capability::Suspend],
        requirement: "Data and an end that arrived while suspended are returned after resume, in order.",
        run: |cx| Box::pin(data_and_fin_while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/reset-while-suspended",
        clauses: &["RX-12", "TX-23"],
        needs: &[Capability::Suspend],
        requirement: "A reset that arrived while suspended shows only after resume or a failed write.",
        run: |cx| Box::pin(reset_while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/never-reads",
        clauses: &["CL-16", "ACC-1", "ACT-6"],
        needs: &[Capability::Linger],
        requirement: "A peer that never reads delays a closed socket by at most linger.",
        run: |cx| Box::pin(never_reads(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/talks-while-we-close",
        clauses: &["CL-13", "CL-14"],
        requirement: "A peer that keeps sending while we close still gets everything, and a FIN.",
        run: |cx| Box::pin(talks_while_we_close(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/one-byte-segments",
        clauses: &["ST-12", "RX-1", "RX-5"],
        requirement: "A stream in one-byte segments arrives complete.",
        run: |cx| Box::pin(one_byte_segments(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/connects-and-vanishes",
        clauses: &["SRV-15", "SRV-13"],
        needs: &[Capability::Listen],
        requirement: "Peers that vanish before they are accepted do not end a server.",
        run: |cx| Box::pin(connects_and_vanishes(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/no-descriptors-to-open",
        clauses: &["ERR-2", "ST-7", "ERR-14"],
        requirement: "Without a free descriptor an open ends in NetworkError, then Close, and later opens work.",
        run: |cx| Box::pin(no_descriptors_to_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "hostile/no-descriptors-to-accept",
        clauses: &["SRV-15"],
        needs: &[Capability::Listen],
        requirement: "Without free descriptors a server waits, and delivers the peer once there are some.",
        run: |cx| Box::pin(no_descriptors_to_accept(cx)),
        ..Case::MUST
    },
];

async fn reset_before_the_first_byte(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    for _ in 0..10 {
        let peer = cx.peer(Script::dial([Connect(server.address()), Reset]))?;
        peer.done().await?;
    }
    // Whether a connection that is dead already is handed out is the kernel's to say.
    let last = cx.peer(Script::dial([
        Connect(server.address()),
        Write(cx.bytes(3)),
        Echo,
    ]))?;
    last.until("it is connected", |it| it.connections == 1)
        .await?;
    let port = last.report().local.map(|it| it.port());
    loop {
        let a = server.accept().await?;
        if Some(a.raw().port()) == port {
            a.expect("data 3").await?;
            return a.quiet().await;
        }
        a.ends(&["error NetworkError, close failed"]).await?;
    }
}

async fn reset_before_open_is_told(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Reset]))?;
    let a = cx.opening(&peer)?;
    peer.done().await?;
    cx.fence().await?;
    // The kernel tells of the reset alone, so whether the connection was there before cannot be required.
    a.ends(&[
        "open, error NetworkError, close failed",
        "error NetworkError, close failed",
    ])
    .await
}

async fn reset_in_mid_stream(cx: Cx) -> Outcome {
    let bytes = cx.bytes(50_000);
    let script = [Accept, Wait("write"), Write(bytes.clone()), Reset];
    let peer = cx.peer(Script::listen(script))?;
    let a = cx.open(&peer).await?;
    cx.signal("write");
    peer.done().await?;
    cx.fence().await?;
    if cfg!(target_os = "linux") {
        a.expect("data 50000").await?;
        a.check_received(&bytes)?;
        return a.expect("error NetworkError, close failed").await;
    }
    // Other kernels drop what nobody has read when a reset comes.
    while let Some(Event::Data(_)) = a.next().await? {}
    cx.check_that("a part of it", bytes.starts_with(&a.received()))?;
    cx.check_that("the error", a.events().ends_with("error NetworkError"))?;
    cx.check_that(
        "Close",
        matches!(a.next().await?, Some(Event::Close(it)) if !it.clean),
    )
}

async fn reset_during_the_flush(cx: Cx) -> Outcome {
    let script = [Accept, Read(100_000), Wait("reset"), Reset];
    let peer = cx.peer(Script::listen(script).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    peer.until("some of it arrives", |it| it.received == 100_000)
        .await?;
    a.quiet().await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    a.buffers(0)
}

async fn reset_while_closing(cx: Cx) -> Outcome {
    let script = [Accept, Read(100_000), Wait("reset"), Reset];
    let peer = cx.peer(Script::listen(script).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    peer.until("some of it arrives", |it| it.received == 100_000)
        .await?;
    a.quiet().await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    cx.within("idle", cx.provider().idle()).await
}

async fn reset_after_close(cx: Cx) -> Outcome {
    let peer = cx.peer(resetter())?;
    let a = cx.open(&peer).await?;
    a.sends(10, true)?;
    a.close();
    a.expect("close clean").await?;
    cx.signal("reset");
    peer.done().await?;
    cx.within("idle", cx.provider().idle()).await?;
    cx.check_that("None", matches!(a.poll(), Poll::Ready(None)))
}

async fn fin_and_a_slow_reader(cx: Cx) -> Outcome {
    let mut steps = vec![Accept, Write(cx.bytes(10)), Fin, Signal("ended")];
    for _ in 0..16 {
        steps.push(Read(STUCK / 32));
    }
    steps.extend([Wait("read on"), ReadToEnd]);
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.signalled("ended").await?;
    a.expect("data 10").await?;
    peer.until("half of it arrives", |it| it.received == STUCK / 2)
        .await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn fin_then_reset(cx: Cx) -> Outcome {
    let script = [Accept, Fin, Signal("ended"), Wait("reset"), Reset];
    let peer = cx.peer(Script::listen(script).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.signalled("ended").await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await
}

async fn data_and_fin_while_suspended(cx: Cx) -> Outcome {
    let bytes = cx.bytes(70_000);
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(bytes.clone()),
        Fin,
        Signal("ended"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("write");
    cx.signalled("ended").await?;
    a.quiet().await?;
    a.sends(10, true)?;
    a.is(ReadyState::Open)?;
    a.resume()?;
    a.expect("data 70000, close clean").await?;
    a.check_received(&bytes)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn reset_while_suspended(cx: Cx) -> Outcome {
    let peer = cx.peer(resetter())?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("reset");
    peer.done().await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    // This meets the reset: a write error, which does not wait for resume.
    a.sends(10, true)?;
    a.expect("error NetworkError, close failed").await
}

async fn never_reads(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept]).receive_buffer(32_768))?;
    let options = cx.options().linger(SHORT);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    a.expect("error NetworkTimeoutError, close failed").await?;
    drop(a);
    cx.within("idle", cx.provider().idle()).await
}

async fn talks_while_we_close(cx: Cx) -> Outcome {
    let words = cx.bytes(3000);
    let peer = cx.peer(Script::listen([Accept, Talk(words)]))?;
    let a = cx.open(&peer).await?;
    // So that there is unread input, and the talking has begun.
    if !matches!(a.next().await?, Some(Event::Data(_))) {
        return Err(Failure::new("data"));
    }
    a.sends(1 << 20, false)?;
    a.close();
    a.ends(&["data *, drain, close clean"]).await?;
    peer.gets(&a.sent(), End::Fin).await?;
    peer.done().await
}

async fn one_byte_segments(cx: Cx) -> Outcome {
    let bytes = cx.bytes(2000);
    let peer = cx.peer(Script::listen([
        Accept,
        WritePieces {
            bytes: bytes.clone(),
            piece: 1,
        },
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    a.expect("data 2000, close clean").await?;
    a.check_received(&bytes)
}

async fn connects_and_vanishes(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    for n in 0..20 {
        let end = if n % 2 == 0 { Reset } else { Close };
        let peer = cx.peer(Script::dial([Connect(server.address()), end]))?;
        peer.done().await?;
        if n % 5 == 0 {
            // It may or may not be handed out, and ends at once.
            if let Poll::Ready(Some(tcpsocket::ServerEvent::Connect(raw))) = server.poll() {
                let a = cx.socket(raw, true);
                a.ends(&["close clean", "error NetworkError, close failed"])
                    .await?;
            }
            server.raw().cancel_poll(&Waker::noop().clone());
        }
    }
    let last = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    last.until("it is connected", |it| it.connections == 1)
        .await?;
    let port = last.report().local.map(|it| it.port());
    loop {
        let a = server.accept().await?;
        if Some(a.raw().port()) == port {
            a.sends(3, true)?;
            return a.expect("data 3").await;
        }
        a.ends(&["close clean", "error NetworkError, close failed"])
            .await?;
    }
}

/// Takes every descriptor, until what is returned is dropped.
fn starved(cx: &Cx) -> Result<impl Sized + use<>, Failure> {
    let taken = cx.world().starve();
    taken.ok_or_else(|| Failure::not_here("this world cannot take every descriptor"))
}

async fn no_descriptors_to_open(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    cx.fence().await?;
    let taken = starved(&cx)?;
    let a = cx.opening(&peer)?;
    if matches!(a.next().await?, Some(Event::Open)) {
        let why = "its sockets are no descriptors of this process";
        return Err(Failure::not_here(why));
    }
    a.expect("error NetworkError, close failed").await?;
    drop(taken);
    let b = cx.open(&peer).await?;
    b.sends(3, true)?;
    b.expect("data 3").await
}

async fn no_descriptors_to_accept(cx: Cx) -> Outcome {
    let server = cx.listen().await?;
    let peer = cx.peer(Script::dial([Wait("go"), Connect(server.address()), Echo]))?;
    cx.fence().await?;
    let taken = starved(&cx)?;
    cx.signal("go");
    peer.until("it is in the backlog", |it| it.connections == 1)
        .await?;
    server.quiet().await?;
    drop(taken);
    let a = server.accept().await?;
    a.sends(3, true)?;
    a.expect("data 3").await
}
