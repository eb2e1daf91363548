//! Upgrades: what leaves in the clear, what inside TLS, and when.

use super::prelude::*;

const GATES: &[Capability] = &[Capability::Upgrade, Capability::Gates];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "upgrade/order",
        clauses: &["TLS-7", "TX-11", "TURN-2"],
        needs: UPGRADE,
        requirement: "All bytes before the upgrade leave in the clear, all after it inside TLS, in order.",
        run: |cx| Box::pin(order(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/order-with-output-stuck",
        clauses: &["TLS-7", "TX-11", "TX-13"],
        needs: UPGRADE,
        requirement: "An upgrade behind stuck output waits for all of it.",
        run: |cx| Box::pin(order_with_output_stuck(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/in-a-later-task",
        clauses: &["TLS-7", "TLS-10"],
        needs: UPGRADE,
        requirement: "An upgrade may start long after the go-ahead was returned, and from another thread.",
        run: |cx| Box::pin(in_a_later_task(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/two-at-once",
        clauses: &["TLS-8", "TLS-7", "ACT-8"],
        needs: UPGRADE,
        requirement: "During two upgrades at once, the bytes of one socket never leave by the other.",
        run: |cx| Box::pin(two_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/drain-of-what-came-before",
        clauses: &["TLS-9", "TX-6"],
        needs: UPGRADE,
        requirement: "A drain armed before the upgrade does not wait for the handshake.",
        run: |cx| Box::pin(drain_of_what_came_before(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/drain-of-what-waits",
        clauses: &["TLS-9", "TX-6", "TX-11", "TX-13"],
        needs: UPGRADE,
        requirement: "Bytes that wait for the handshake are held: they count, and no drain comes before they have left.",
        run: |cx| Box::pin(drain_of_what_waits(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/close-right-behind",
        clauses: &["CL-11", "CL-12", "TLS-7"],
        needs: UPGRADE,
        requirement: "close with a pending upgrade completes it, and flushes the bytes sent after it inside TLS.",
        run: |cx| Box::pin(close_right_behind(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/drop-right-behind",
        clauses: &["CL-11", "ACT-5", "ACT-6"],
        needs: UPGRADE,
        requirement: "A drop with a pending upgrade is a close: everything leaves, inside TLS.",
        run: |cx| Box::pin(drop_right_behind(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/meters",
        clauses: &["ACC-1", "ACC-2", "ACC-4", "TLS-9"],
        needs: GATES,
        requirement: "Meters count bytes that wait for a handshake when they have left, and count plaintext only.",
        run: |cx| Box::pin(meters(cx)),
        ..Case::MUST
    },
];

const BEFORE: usize = 100_000;
const AFTER: usize = 150_000;

async fn order(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let peer = cx.peer(Script::listen([
            Accept,
            Read(BEFORE),
            Tls(server().only(version)),
            ReadToEnd,
            CloseNotify,
            Fin,
        ]))?;
        let a = cx.open(&peer).await?;
        a.sends(BEFORE, false)?;
        a.upgrade()?;
        a.sends(AFTER, false)?;
        a.buffers((BEFORE + AFTER) as u64)?;
        a.expect("drain").await?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("what came in the clear", peer.tls().clear, BEFORE)?;
        not_in_clear(&cx, &peer, &a.sent()[BEFORE..])?;
    }
    Ok(())
}

async fn order_with_output_stuck(cx: Cx) -> Outcome {
    let peer = cx.peer(
        Script::listen([
            Accept,
            Wait("read on"),
            Read(STUCK),
            Tls(server()),
            ReadToEnd,
            CloseNotify,
            Fin,
        ])
        .receive_buffer(32_768),
    )?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.upgrade()?;
    a.sends(AFTER, false)?;
    a.quiet().await?;
    protected(&cx, &a, "handshaking")?;
    let held = a.raw().buffered_amount();
    cx.check_that("what waits is held", held > AFTER as u64)?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await?;
    cx.check("what came in the clear", peer.tls().clear, STUCK)?;
    not_in_clear(&cx, &peer, &a.sent()[STUCK..])
}

async fn in_a_later_task(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(10),
        Write(cx.bytes(10)),
        Tls(server()),
        Echo,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(10, true)?;
    a.expect("data 10").await?;
    a.quiet().await?;
    let (raw, secret) = (a.raw().clone(), cx.bytes(1000).slice(10..));
    let sent = secret.clone();
    let thread = cx.thread(async move {
        raw.upgrade_to_secure()?;
        raw.send(sent)
    });
    thread.join().await??;
    a.expect("data 990").await?;
    cx.check("what came in the clear", peer.tls().clear, 10)?;
    not_in_clear(&cx, &peer, &secret)
}

async fn two_at_once(cx: Cx) -> Outcome {
    let script = |signal| {
        Script::listen([
            Accept,
            Wait(signal),
            Read(10),
            Tls(server()),
            ReadToEnd,
            CloseNotify,
            Fin,
        ])
    };
    let first = cx.peer(script("the first"))?;
    let second = cx.peer(script("the second"))?;
    let (a, b) = (cx.open(&first).await?, cx.open(&second).await?);
    // The second sends what the first never does.
    let other = cx.bytes(400_000).slice(200_000..);
    a.sends(10, true)?;
    b.send(other.slice(..10))?;
    a.upgrade()?;
    b.upgrade()?;
    for at in 0..10 {
        a.sends(10_000, at < 6)?;
        b.send(other.slice(10 + at * 10_000..10 + (at + 1) * 10_000))?;
    }
    cx.signal("the second");
    b.expect("drain").await?;
    protected(&cx, &b, "secure")?;
    a.quiet().await?;
    protected(&cx, &a, "handshaking")?;
    b.close();
    b.expect("close clean").await?;
    second.gets(&b.sent(), End::Fin).await?;
    cx.signal("the first");
    a.expect("drain").await?;
    a.close();
    a.expect("close clean").await?;
    first.gets(&a.sent(), End::Fin).await?;
    for (peer, sent) in [(&first, a.sent()), (&second, b.sent())] {
        cx.check("what came in the clear", peer.tls().clear, 10)?;
        not_in_clear(&cx, peer, &sent[10..])?;
    }
    Ok(())
}

async fn drain_of_what_came_before(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(BEFORE),
        Wait("shake hands"),
        Tls(server()),
        Echo,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(BEFORE, false)?;
    a.upgrade()?;
    a.expect("drain").await?;
    a.buffers(0)?;
    protected(&cx, &a, "handshaking")?;
    a.quiet().await?;
    cx.signal("shake hands");
    a.sends(10, true)?;
    a.expect("data 10").await
}

async fn drain_of_what_waits(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(BEFORE),
        Wait("shake hands"),
        Tls(server()),
        Read(10),
        Wait("read on"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(BEFORE, false)?;
    a.upgrade()?;
    a.sends(10, false)?;
    peer.until("what came before has left", |it| it.received == BEFORE)
        .await?;
    a.quiet().await?;
    a.buffers(10)?;
    a.sends(65_526, true)?;
    a.buffers(65_536)?;
    a.quiet().await?;
    a.buffers(65_536)?;
    cx.signal("shake hands");
    a.expect("drain").await?;
    protected(&cx, &a, "secure")?;
    a.buffers(0)?;
    cx.signal("read on");
    peer.begins(&a.sent()).await
}

async fn close_right_behind(cx: Cx) -> Outcome {
    for (bytes, version) in [
        (0, TlsVersion::V1_3),
        (10, TlsVersion::V1_2),
        (10, TlsVersion::V1_3),
        (AFTER, TlsVersion::V1_3),
    ] {
        let peer = cx.peer(Script::listen([
            Accept,
            Read(10),
            Tls(server().only(version)),
            ReadToEnd,
            CloseNotify,
            Fin,
        ]))?;
        let a = cx.open(&peer).await?;
        a.sends(10, true)?;
        a.upgrade()?;
        if bytes > 0 {
            a.sends(bytes, bytes < 60_000)?;
        }
        a.close();
        a.is(ReadyState::Closing)?;
        a.expect(match bytes {
            AFTER => "drain, close clean",
            _ => "close clean",
        })
        .await?;
        peer.gets(&a.sent(), End::Fin).await?;
        cx.check("what came in the clear", peer.tls().clear, 10)?;
        cx.check("a goodbye", peer.tls().close_notify, true)?;
    }
    Ok(())
}

async fn drop_right_behind(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(10),
        Wait("shake hands"),
        Tls(server()),
        ReadToEnd,
        CloseNotify,
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(10, true)?;
    a.upgrade()?;
    a.sends(AFTER, false)?;
    let sent = a.sent();
    drop(a);
    cx.fence().await?;
    cx.signal("shake hands");
    peer.gets(&sent, End::Fin).await?;
    cx.check("what came in the clear", peer.tls().clear, 10)?;
    cx.check("a goodbye", peer.tls().close_notify, true)?;
    cx.within("idle", cx.provider().idle()).await
}

async fn meters(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let peer = cx.peer(Script::listen([
        Accept,
        Read(10),
        Signal("in the clear"),
        Wait("shake hands"),
        Tls(server()),
        Read(AFTER),
        Write(cx.bytes(5000)),
        ReadToEnd,
        CloseNotify,
        Fin,
    ]))?;
    let a = cx.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let watched = warden.watch_of(0)?;
    a.sends(10, true)?;
    a.upgrade()?;
    a.sends(AFTER, false)?;
    cx.signalled("in the clear").await?;
    a.quiet().await?;
    let tally = watched.tally();
    let told = (tally.queued, tally.written, tally.read);
    cx.check("in the handshake", told, (AFTER + 10, 10, 0))?;
    cx.signal("shake hands");
    a.expect("drain, data 5000").await?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    let tally = watched.gone(&cx).await?;
    let told = (tally.queued, tally.written, tally.read, tally.dropped);
    cx.check("the meter", told, (AFTER + 10, AFTER + 10, 5000, 0))?;
    cx.check("nonsense", tally.wrong, false)
}
