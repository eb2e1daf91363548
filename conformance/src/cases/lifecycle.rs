//! From the first handle to the last, in every state.

use std::time::Duration;

use super::prelude::*;
use crate::Step;
use crate::socket::Socket;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "lifecycle/every-method-in-every-state",
        clauses: &["IF-2", "LIFE-7", "ST-14"],
        requirement: "Every method can be called in every state, and answers as the state table says.",
        run: |cx| Box::pin(every_method_in_every_state(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/nothing-after-error",
        clauses: &["LIFE-7", "ST-10", "ROW-28"],
        requirement: "Between Error and Close, close and abort do nothing.",
        run: |cx| Box::pin(nothing_after_error(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/dropped-in-every-state",
        clauses: &["ROW-31", "ACT-5"],
        requirement: "A socket can be dropped in any state, and leaves nothing behind.",
        run: |cx| Box::pin(dropped_in_every_state(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/dropped-while-waiting",
        clauses: &["ACT-5", "ROW-31", "EVT-7"],
        requirement: "A socket can be dropped while a wait is parked, and its waker is dropped too.",
        run: |cx| Box::pin(dropped_while_waiting(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/dropped-with-unread-input",
        clauses: &["ACT-5", "CL-13"],
        requirement: "A drop with unread input destroys no data that the peer has yet to read.",
        run: |cx| Box::pin(dropped_with_unread_input(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/close-then-drop",
        clauses: &["LIFE-3", "CL-15"],
        needs: &[Capability::Linger],
        requirement: "The linger clock started by close continues after a drop.",
        run: |cx| Box::pin(close_then_drop(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/ended-with-handles-alive",
        clauses: &["LIFE-8"],
        level: Level::Should,
        requirement: "A socket that has ended holds no descriptor, even while handles are alive.",
        run: |cx| Box::pin(ended_with_handles_alive(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/thousands-at-once",
        clauses: &["ACT-8", "ST-3"],
        requirement: "Two thousand sockets of one provider are open at once; each has its own bytes and its own end.",
        deadline: Duration::from_secs(30),
        run: |cx| Box::pin(thousands_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "lifecycle/many-one-after-another",
        clauses: &["ST-3", "ST-7"],
        requirement: "A hundred successive connections leave nothing behind.",
        run: |cx| Box::pin(many_one_after_another(cx)),
        ..Case::MUST
    },
];

async fn every_method_in_every_state(cx: Cx) -> Outcome {
    let peer = cx.peer(
        Script::listen([Accept, Read(2), Wait("read on"), ReadToEnd]).receive_buffer(32_768),
    )?;
    let a = cx.opening(&peer)?;
    let all = |state: ReadyState, send: &str| -> Outcome {
        a.is(state)?;
        let raw = a.raw();
        cx.check("host", raw.host(), "127.0.0.1")?;
        cx.check("port", raw.port(), peer.port())?;
        cx.check("ssl", raw.ssl(), false)?;
        cx.check("secure", raw.security().is_secure(), false)?;
        cx.check("binary_type", raw.binary_type(), BinaryType::ArrayBuffer)?;
        let sent = match a.send(Bytes::from_static(b"!")) {
            Ok(_) => "ok",
            Err(error) => error.name().as_str(),
        };
        cx.check("send", sent, send)?;
        a.suspend();
        let resumed = raw.resume().err().map(|it| it.name());
        let expected = (!cx.declares(Capability::Suspend)).then_some(ErrorName::NotSupported);
        cx.check("resume", resumed, expected)?;
        if state != ReadyState::Open || !cx.declares(Capability::Upgrade) {
            let expected = match cx.declares(Capability::Upgrade) {
                true => "InvalidStateError",
                false => "NotSupportedError",
            };
            cx.check_error("upgrade", raw.upgrade_to_secure(), expected)?;
        }
        raw.cancel_poll(&Waker::noop().clone());
        a.is(state)
    };
    all(ReadyState::Connecting, "InvalidStateError")?;
    a.expect("open").await?;
    all(ReadyState::Open, "ok")?;
    all(ReadyState::Open, "ok")?;
    a.sends(STUCK, false)?;
    a.close();
    a.close();
    all(ReadyState::Closing, "InvalidStateError")?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    a.close();
    a.abort(None);
    all(ReadyState::Closed, "InvalidStateError")?;
    a.buffers(0)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn nothing_after_error(cx: Cx) -> Outcome {
    for how in 0..4 {
        let peer = cx.peer(Script::refuse())?;
        let a = cx.opening(&peer)?;
        a.expect("error ConnectionRefusedError").await?;
        match how {
            0 => a.close(),
            1 => a.abort(None),
            2 => a.abort(Some(told())),
            _ => {
                a.suspend();
                // Balanced, and of no effect in closed.
                let _ = a.raw().resume();
                a.raw().cancel_poll(&Waker::noop().clone());
            }
        }
        a.is(ReadyState::Closed)?;
        a.expect("close failed").await?;
    }
    Ok(())
}

async fn dropped_in_every_state(cx: Cx) -> Outcome {
    let silent = cx.peer(Script::silent())?;
    drop(cx.opening(&silent)?);

    let peer = cx.peer(reader())?;
    drop(cx.opening(&peer)?);

    let peer = cx.peer(reader())?;
    let unpolled = cx.opening(&peer)?;
    peer.until("it is connected", |it| it.connections == 1)
        .await?;
    drop(unpolled);
    // Its state shows connecting, so that it is given up (CL-3).
    peer.until("it has ended", |it| it.end.is_some()).await?;

    let peer = cx.peer(reader())?;
    let open = cx.open(&peer).await?;
    drop(open);
    peer.gets(b"", End::Fin).await?;

    let peer = cx.peer(reader())?;
    let closing = cx.open(&peer).await?;
    closing.sends(100_000, false)?;
    let sent = closing.sent();
    closing.close();
    drop(closing);
    peer.gets(&sent, End::Fin).await?;

    let peer = cx.peer(reader())?;
    let closed = cx.open(&peer).await?;
    closed.close();
    closed.expect("close clean").await?;
    drop(closed);
    peer.gets(b"", End::Fin).await?;

    let peer = cx.peer(Script::refuse())?;
    let told = cx.opening(&peer)?;
    told.expect("error ConnectionRefusedError").await?;
    drop(told);

    let peer = cx.peer(Script::refuse())?;
    let untold = cx.opening(&peer)?;
    cx.fence().await?;
    drop(untold);
    cx.within("idle", cx.provider().idle()).await
}

async fn dropped_while_waiting(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    let count = Arc::new(Count::default());
    let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    drop(a);
    peer.gets(b"", End::Fin).await?;
    cx.until("the waker is let go", || Arc::strong_count(&count) == 1)
        .await
}

async fn dropped_with_unread_input(cx: Cx) -> Outcome {
    let steps = [
        Accept,
        Write(cx.bytes(100_000)),
        Signal("written"),
        Wait("read on"),
        ReadToEnd,
    ];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    cx.signalled("written").await?;
    a.sends(STUCK, false)?;
    let sent = a.sent();
    drop(a);
    cx.fence().await?;
    cx.signal("read on");
    peer.gets(&sent, End::Fin).await
}

async fn close_then_drop(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let request = cx.request(&peer)?.with_options(cx.options().linger(SHORT));
    let a = cx.open_with(request)?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.close();
    drop(a);
    cx.within("idle", cx.provider().idle()).await?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn ended_with_handles_alive(cx: Cx) -> Outcome {
    cx.fence().await?;
    let before = crate::descriptors::Descriptors::now();
    let mut handles = Vec::new();
    for how in 0..3 {
        let peer = cx.peer(match how {
            0 => Script::listen([Accept, ReadToEnd, Close]),
            1 => Script::listen([Accept, Fin, ReadToEnd, Close]),
            _ => Script::listen([Accept, Read(3), Reset]),
        })?;
        let a = cx.open(&peer).await?;
        a.sends(3, true)?;
        if how == 0 {
            a.close();
        }
        a.ends(&["close clean", "error NetworkError, close failed"])
            .await?;
        handles.push(a);
    }
    cx.within("idle", cx.provider().idle()).await?;
    cx.world().clear();
    // The kit's own connection went with its peer.
    cx.finish();
    let Some(before) = before else { return Ok(()) };
    let left = || {
        let now = crate::descriptors::Descriptors::now();
        now.map_or_else(Vec::new, |it| it.beyond(&before))
    };
    let end = cx.world().now() + crate::wait::PATIENCE / 4;
    while !left().is_empty() && cx.world().now() < end {
        cx.passes(std::time::Duration::from_millis(2)).await;
    }
    cx.check(
        "descriptors of sockets that have ended",
        left(),
        Vec::<String>::new(),
    )
}

async fn thousands_at_once(cx: Cx) -> Outcome {
    const SOCKETS: usize = 2000;
    let peer = cx.peer(Script::listen([Step::Crowd(SOCKETS)]))?;
    let mut sockets = Vec::new();
    for n in 0..SOCKETS as u32 {
        let raw = cx.provider().open_with(cx.request(&peer)?)?;
        let a = Socket::unlogged(cx.clone(), raw);
        a.expect("open").await?;
        cx.check("send", a.send(n.to_be_bytes().to_vec())?, true)?;
        sockets.push(a);
    }
    peer.until("all are there", |it| it.connections == SOCKETS)
        .await?;
    for a in &sockets {
        a.expect("data 4").await?;
        a.check_received(&a.sent())?;
        a.close();
        a.expect("close clean").await?;
    }
    cx.within("idle", cx.provider().idle()).await
}

async fn many_one_after_another(cx: Cx) -> Outcome {
    for n in 0..100usize {
        let peer = cx.peer(Script::listen([Accept, Read(3), Write(cx.bytes(2)), Fin]))?;
        let a = cx.open(&peer).await?;
        a.sends(3, true)?;
        match n % 3 {
            0 => a.expect("data 2, close clean").await?,
            1 => a.close(),
            _ => {}
        }
    }
    cx.within("idle", cx.provider().idle()).await
}
