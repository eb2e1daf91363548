//! What goes on although nobody polls, and what does not.

use std::pin::pin;

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "activity/output-leaves",
        clauses: &["ACT-1", "TURN-6"],
        requirement: "Accepted bytes leave although nobody polls, including the end of a burst.",
        run: |cx| Box::pin(output_leaves(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/backlog-leaves",
        clauses: &["ACT-1", "ACT-2"],
        requirement: "Bytes that the kernel had no room for leave as soon as it has, although nobody polls.",
        run: |cx| Box::pin(backlog_leaves(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/close-completes",
        clauses: &["ACT-2", "CL-2"],
        requirement: "A close completes although nobody polls.",
        run: |cx| Box::pin(close_completes(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/server-accepts-nothing",
        clauses: &["ACT-4"],
        needs: &[Capability::Listen, Capability::Gates],
        requirement: "A server that nobody polls accepts nobody.",
        run: |cx| Box::pin(server_accepts_nothing(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/drop-flushes",
        clauses: &["ACT-5", "ROW-31"],
        requirement: "Dropping the last handle is a close: accepted bytes leave, then FIN.",
        run: |cx| Box::pin(drop_flushes(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/other-handles-keep-it-open",
        clauses: &["ACT-5"],
        requirement: "While any handle is alive, dropping others does nothing.",
        run: |cx| Box::pin(other_handles_keep_it_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/idle-at-once",
        clauses: &["ACT-6"],
        requirement: "idle is ready at its first poll while sockets are open and hold nothing.",
        run: |cx| Box::pin(idle_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/idle-waits-for-the-flush",
        clauses: &["ACT-6", "ACT-5"],
        requirement: "idle waits while bytes are held, with and without handles.",
        run: |cx| Box::pin(idle_waits_for_the_flush(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/idle-waits-for-the-lingering",
        clauses: &["ACT-6", "CL-13"],
        requirement: "idle waits while a socket discards its peer's remaining data.",
        run: |cx| Box::pin(idle_waits_for_the_lingering(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/a-stuck-peer-delays-nobody-else",
        clauses: &["ACT-8"],
        requirement: "A peer that does not read delays its own socket only.",
        run: |cx| Box::pin(a_stuck_peer_delays_nobody_else(cx)),
        ..Case::MUST
    },
    Case {
        id: "activity/a-waiting-gate-delays-nobody-else",
        clauses: &["ACT-8", "GATE-6"],
        needs: &[Capability::Gates],
        requirement: "A gate that waits delays its own socket only.",
        run: |cx| Box::pin(a_waiting_gate_delays_nobody_else(cx)),
        ..Case::MUST
    },
];

async fn output_leaves(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    for len in [1, 700, 65_536, 3] {
        let answer = a.raw().buffered_amount() + len as u64 <= 65_536;
        a.sends(len, answer)?;
        peer.begins(&a.sent()).await?;
    }
    // Again and again, so that what waits for a timer each time takes too long for all of it.
    let before = cx.world().now();
    for _ in 0..200 {
        a.sends(1, false)?;
        peer.begins(&a.sent()).await?;
    }
    let took = cx.world().now() - before;
    cx.check_that("20 ms or less for one, as a rule", took < SHORT * 67)?;
    // A burst in one turn.
    for _ in 0..50 {
        a.sends(10, false)?;
    }
    peer.begins(&a.sent()).await
}

async fn backlog_leaves(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.fence().await?;
    cx.signal("read on");
    peer.begins(&a.sent()).await?;
    a.buffers(STUCK as u64)?;
    a.expect("drain").await
}

async fn close_completes(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    cx.fence().await?;
    cx.signal("read on");
    peer.gets(&a.sent(), End::Fin).await?;
    a.is(ReadyState::Closing)?;
    a.expect("drain, close clean").await
}

async fn server_accepts_nothing(cx: Cx) -> Outcome {
    let warden = Warden::new(&cx, Answers::default());
    let server = cx
        .listen_with(warden.guards_server(cx.listen_request()?))
        .await?;
    let before = warden.asked().len();
    let peer = cx.peer(Script::dial([Connect(server.address()), Echo]))?;
    peer.until("it is in the backlog", |it| it.connections == 1)
        .await?;
    cx.fence().await?;
    cx.fence().await?;
    cx.check("questions about the peer", warden.asked().len(), before)?;
    let a = server.accept().await?;
    cx.check("questions about the peer", warden.asked().len(), before + 1)?;
    a.sends(3, true)?;
    a.expect("data 3").await
}

async fn drop_flushes(cx: Cx) -> Outcome {
    for (len, read_on) in [(0, "1"), (10, "2"), (STUCK, "3")] {
        let peer = cx.peer(holder_until(read_on))?;
        let a = cx.open(&peer).await?;
        a.sends(len, len < STUCK)?;
        let sent = a.sent();
        drop(a);
        cx.fence().await?;
        cx.signal(read_on);
        peer.gets(&sent, End::Fin).await?;
    }
    Ok(())
}

async fn other_handles_keep_it_open(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.open(&peer).await?;
    let other = a.raw().clone();
    drop(a);
    cx.fence().await?;
    let b = cx.socket(other, true);
    b.is(ReadyState::Open)?;
    b.sends(5, true)?;
    b.expect("data 5").await?;
    b.quiet().await
}

async fn idle_at_once(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.open(&peer).await?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    cx.check_that("idle is ready", is_idle(&cx))?;
    a.sends(5, true)?;
    a.expect("data 5").await?;
    cx.check_that("idle is ready", is_idle(&cx))
}

fn is_idle(cx: &Cx) -> bool {
    let mut idle = pin!(cx.provider().idle());
    poll_once(idle.as_mut()).is_ready()
}

async fn idle_waits_for_the_flush(cx: Cx) -> Outcome {
    for with_handle in [true, false] {
        let steps = [Accept, Wait("read on"), Read(STUCK), Wait("the end"), Close];
        let second = [Accept, Wait("read on again"), ReadToEnd, Close];
        let script = match with_handle {
            true => Script::listen(steps),
            false => Script::listen(second),
        };
        let peer = cx.peer(script.receive_buffer(32_768))?;
        let a = cx.open(&peer).await?;
        a.sends(STUCK, false)?;
        let a = match with_handle {
            true => Some(a),
            false => None,
        };
        let mut idle = pin!(cx.provider().idle());
        for _ in 0..8 {
            cx.fence().await?;
            let pending = poll_once(idle.as_mut()).is_pending();
            cx.check_that("idle waits", pending)?;
        }
        cx.signal(if with_handle {
            "read on"
        } else {
            "read on again"
        });
        cx.within("idle", idle).await?;
        cx.check_that("idle is ready", is_idle(&cx))?;
        if let Some(a) = a {
            a.expect("drain").await?;
            cx.signal("the end");
        }
    }
    Ok(())
}

async fn idle_waits_for_the_lingering(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        ReadToEnd,
        Signal("read"),
        Wait("write"),
        Write(cx.bytes(100_000)),
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(10, true)?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    cx.signalled("read").await?;
    let mut idle = pin!(cx.provider().idle());
    for _ in 0..8 {
        cx.fence().await?;
        let pending = poll_once(idle.as_mut()).is_pending();
        cx.check_that("idle waits", pending)?;
    }
    cx.signal("write");
    cx.within("idle", idle).await?;
    peer.done().await
}

async fn a_stuck_peer_delays_nobody_else(cx: Cx) -> Outcome {
    let stuck = cx.peer(holder())?;
    let a = cx.open(&stuck).await?;
    a.sends(STUCK, false)?;
    let echo = cx.peer(Script::listen([Accept, Echo]))?;
    let b = cx.open(&echo).await?;
    for _ in 0..10 {
        b.sends(100_000, false)?;
        // Its own peer reads, so its drain comes among the echoes.
        let from = b.received().len();
        while b.received().len() < from + 100_000 {
            b.next().await?;
        }
    }
    b.check_received(&b.sent())?;
    cx.signal("read on");
    a.expect("drain").await
}

async fn a_waiting_gate_delays_nobody_else(cx: Cx) -> Outcome {
    let answers = Answers {
        name: Answer::AllowAt("go"),
        ..Answers::default()
    };
    let warden = Warden::new(&cx, answers);
    let peer = cx.peer(reader())?;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(cx.open_with(warden.guards(cx.request(&peer)?))?);
    }
    let echo = cx.peer(Script::listen([Accept, Echo]))?;
    let b = cx.open(&echo).await?;
    b.sends(5, true)?;
    b.expect("data 5").await?;
    for a in &waiting {
        a.is(ReadyState::Connecting)?;
        a.close();
        a.expect("close clean").await?;
    }
    Ok(())
}
