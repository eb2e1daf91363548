//! Closing: flushing, the peer's end, aborting, and lingering.

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "closing/flushes",
        clauses: &["CL-1", "CL-2", "CL-14", "ST-6", "ROW-13", "ROW-24"],
        requirement: "close moves the state to closing at once, flushes everything and sends FIN; then Close comes.",
        run: |cx| Box::pin(flushes(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/peer-that-writes-first",
        clauses: &["ACT-2", "ACT-3", "CL-1", "ROW-26"],
        requirement: "A close completes even if the peer writes all its data before it reads anything.",
        run: |cx| Box::pin(peer_that_writes_first(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/in-the-turn-of-open",
        clauses: &["CL-1", "CL-2", "ROW-12"],
        requirement: "A socket can be closed in the turn in which it opened.",
        run: |cx| Box::pin(in_the_turn_of_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/twice",
        clauses: &["CL-1", "ROW-22", "ROW-28"],
        requirement: "close in closing or closed does nothing, nor does abort in closed.",
        run: |cx| Box::pin(twice(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/no-data-after",
        clauses: &["ST-13", "ROW-26", "CL-1"],
        requirement: "After close no data is returned, even if it had arrived before.",
        run: |cx| Box::pin(no_data_after(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/while-suspended",
        clauses: &["RX-13"],
        needs: &[Capability::Suspend],
        requirement: "close completes while suspended, and discards undelivered data.",
        run: |cx| Box::pin(while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/waits-for-nobody",
        clauses: &["CL-14"],
        requirement: "Close waits neither for the peer's FIN nor for its reading.",
        run: |cx| Box::pin(waits_for_nobody(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/both-directions",
        clauses: &["CL-7", "ST-13"],
        requirement: "close ends both directions: the peer's answer is not delivered.",
        run: |cx| Box::pin(both_directions(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/by-the-peer",
        clauses: &["CL-5", "CL-6", "ROW-15", "ST-5"],
        requirement: "The peer's end is returned as a clean Close after all data, and our side ends too.",
        run: |cx| Box::pin(by_the_peer(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/by-the-peer-with-output-queued",
        clauses: &["CL-8", "ROW-16", "TX-6"],
        requirement: "After the peer's end the flush continues and send works; then drain and Close come.",
        run: |cx| Box::pin(by_the_peer_with_output_queued(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/by-the-peer-while-closing",
        clauses: &["CL-1", "RX-13"],
        requirement: "The end of the peer's stream does not cut the flush of a close short.",
        run: |cx| Box::pin(by_the_peer_while_closing(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/by-the-peer-and-more-to-say",
        clauses: &["CL-8"],
        requirement: "Bytes sent in the turn of that drain still leave before Close.",
        run: |cx| Box::pin(by_the_peer_and_more_to_say(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/with-unread-input",
        clauses: &["CL-13", "CL-14"],
        requirement: "A close with unread input destroys no data that the peer has yet to read.",
        run: |cx| Box::pin(with_unread_input(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/abort-drops-the-queue",
        clauses: &["CL-4", "CL-2", "ROW-14", "ST-6", "TURN-2"],
        requirement: "abort(None) drops held bytes and sends FIN; Close is the only event.",
        run: |cx| Box::pin(abort_drops_the_queue(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/abort-cuts-the-flush-short",
        clauses: &["CL-4", "ROW-23"],
        requirement: "abort(None) in closing ends a stuck flush.",
        run: |cx| Box::pin(abort_cuts_the_flush_short(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/abort-with-an-error",
        clauses: &["CL-18", "ST-6", "CL-6"],
        requirement: "abort with an error resets the connection; that error, then Close are the only events.",
        run: |cx| Box::pin(abort_with_an_error(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/linger-expires",
        clauses: &["CL-15", "CL-16", "OPT-5", "ERR-2"],
        needs: &[Capability::Linger],
        requirement: "When linger expires, a flush without progress ends in NetworkTimeoutError, Close and a reset.",
        run: |cx| Box::pin(linger_expires(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/linger-measures-time-without-progress",
        clauses: &["CL-15"],
        needs: &[Capability::Linger],
        requirement: "A slow flush that makes progress is not cut off.",
        run: |cx| Box::pin(linger_measures_time_without_progress(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/linger-bounds-the-discarding",
        clauses: &["CL-13", "ACT-6"],
        needs: &[Capability::Linger],
        requirement: "linger bounds the wait for a peer that never ends its stream.",
        run: |cx| Box::pin(linger_bounds_the_discarding(cx)),
        ..Case::MUST
    },
    Case {
        id: "closing/discards-so-much-and-no-more",
        clauses: &["CL-13"],
        requirement: "After a close at most 64 MiB are discarded; then the connection ends.",
        run: |cx| Box::pin(discards_so_much_and_no_more(cx)),
        ..Case::MUST
    },
];

async fn flushes(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.quiet().await?;
    a.is(ReadyState::Closing)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn in_the_turn_of_open(cx: Cx) -> Outcome {
    for len in [0, 10] {
        let peer = cx.peer(reader())?;
        let a = cx.open(&peer).await?;
        a.sends(len, true)?;
        a.close();
        a.is(ReadyState::Closing)?;
        a.expect("close clean").await?;
        a.is(ReadyState::Closed)?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn twice(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.close();
    a.is(ReadyState::Closing)?;
    a.buffers(STUCK as u64)?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.close();
    a.expect("close clean").await?;
    a.close();
    a.abort(None);
    a.abort(Some(told()));
    a.is(ReadyState::Closed)?;
    let over = matches!(a.poll(), Poll::Ready(None));
    cx.check_that("no event follows", over)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn no_data_after(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(1000)),
        Signal("written"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    cx.signalled("written").await?;
    cx.fence().await?;
    a.sends(5, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn while_suspended(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(1000)),
        Signal("written"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    a.suspend();
    cx.signalled("written").await?;
    a.quiet().await?;
    a.sends(5, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn waits_for_nobody(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(1000, true)?;
    a.close();
    a.expect("close clean").await?;
    cx.check("bytes that the peer has read", peer.report().received, 0)?;
    cx.signal("read on");
    peer.gets(&a.sent(), End::Fin).await
}

async fn both_directions(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        ReadToEnd,
        Write(cx.bytes(10)),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(5, true)?;
    a.close();
    cx.signalled("written").await?;
    cx.fence().await?;
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn by_the_peer(cx: Cx) -> Outcome {
    for len in [0, 10, 300_000] {
        let bytes = cx.bytes(len);
        let peer = cx.peer(Script::listen([
            Accept,
            Write(bytes.clone()),
            Fin,
            ReadToEnd,
        ]))?;
        let a = cx.open(&peer).await?;
        match len {
            0 => a.expect("close clean").await?,
            _ => a.expect(&format!("data {len}, close clean")).await?,
        }
        a.is(ReadyState::Closed)?;
        a.check_received(&bytes)?;
        peer.gets(b"", End::Fin).await?;
    }
    Ok(())
}

fn ends_first() -> Script {
    let steps = [Accept, Fin, Signal("ended"), Wait("read on"), ReadToEnd];
    Script::listen(steps).receive_buffer(32_768)
}

async fn by_the_peer_with_output_queued(cx: Cx) -> Outcome {
    let peer = cx.peer(ends_first())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.signalled("ended").await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    a.sends(10, false)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn by_the_peer_while_closing(cx: Cx) -> Outcome {
    let peer = cx.peer(
        Script::listen([
            Accept,
            Wait("end"),
            Write(cx.bytes(10)),
            Fin,
            Signal("ended"),
            Wait("read on"),
            ReadToEnd,
        ])
        .receive_buffer(32_768),
    )?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    cx.signal("end");
    cx.signalled("ended").await?;
    a.quiet().await?;
    a.is(ReadyState::Closing)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn by_the_peer_and_more_to_say(cx: Cx) -> Outcome {
    let peer = cx.peer(ends_first())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.signalled("ended").await?;
    a.quiet().await?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.is(ReadyState::Open)?;
    a.sends(10, true)?;
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn with_unread_input(cx: Cx) -> Outcome {
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
    a.close();
    cx.fence().await?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    drop(a);
    peer.ends(End::Fin).await?;
    cx.check("bytes at the peer", peer.report().received, STUCK)
}

async fn abort_drops_the_queue(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.abort(None);
    a.is(ReadyState::Closing)?;
    a.buffers(STUCK as u64)?;
    a.expect("close clean").await?;
    a.buffers(0)?;
    cx.signal("read on");
    peer.ends(End::Fin).await?;
    cx.check_that("less than all arrives", peer.report().received < STUCK)
}

async fn abort_cuts_the_flush_short(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.quiet().await?;
    a.abort(None);
    a.is(ReadyState::Closing)?;
    a.expect("close clean").await?;
    cx.signal("read on");
    peer.ends(End::Fin).await?;
    cx.check_that("less than all arrives", peer.report().received < STUCK)
}

async fn abort_with_an_error(cx: Cx) -> Outcome {
    for (close_first, len, read_on) in [
        (false, 0, "read on"),
        (false, STUCK, "read on, the second"),
        (true, STUCK, "read on, the third"),
    ] {
        let peer = cx.peer(holder_until(read_on))?;
        let a = cx.open(&peer).await?;
        a.sends(len, len == 0)?;
        if close_first {
            a.close();
        }
        a.abort(Some(told()));
        a.is(ReadyState::Closing)?;
        let Some(Event::Error(error)) = a.next().await? else {
            return Err(Failure::new("the error that was given did not come"));
        };
        cx.check("the message", error.message(), told().message())?;
        a.expect("error NotAllowedError, close failed").await?;
        cx.signal(read_on);
        peer.ends(End::Reset).await?;
    }
    Ok(())
}

async fn linger_expires(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let options = cx.options().linger(SHORT);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    let closed_at = cx.world().now();
    a.close();
    a.expect("error NetworkTimeoutError, close failed").await?;
    let took = cx.world().now() - closed_at;
    cx.check_that("it took as long as it may", took >= SHORT)?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn peer_that_writes_first(cx: Cx) -> Outcome {
    let speech = Write(cx.bytes(STUCK));
    let steps = [Accept, Wait("speak"), speech, ReadToEnd, Close];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    a.close();
    cx.signal("speak");
    // Neither side reads what the other says, unless this one does so while its own output is stuck.
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn linger_measures_time_without_progress(cx: Cx) -> Outcome {
    let mut steps = vec![Accept];
    let signals = ["1", "2", "3", "4", "5", "6"];
    for signal in signals {
        steps.extend([Wait(signal), Read(STUCK / 8)]);
    }
    steps.extend([Wait("read on"), ReadToEnd]);
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    // Long against a round trip on a machine that is busy; the steps together are longer.
    let linger = SHORT * 8;
    let options = cx.options().linger(linger);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    let closed_at = cx.world().now();
    a.close();
    for signal in signals {
        cx.passes(linger / 4).await;
        cx.signal(signal);
    }
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    let took = cx.world().now() - closed_at;
    cx.check_that("the flush took longer than linger", took > linger)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn linger_bounds_the_discarding(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Read(10), Wait("never")]))?;
    let options = cx.options().linger(SHORT);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(10, true)?;
    a.close();
    a.expect("close clean").await?;
    cx.within("idle", cx.provider().idle()).await?;
    cx.check("the peer's steps", peer.report().done, false)
}

async fn discards_so_much_and_no_more(cx: Cx) -> Outcome {
    const MORE: usize = 96 << 20;
    let peer = cx.peer(Script::listen([
        Accept,
        ReadToEnd,
        Write(Bytes::from(vec![0; MORE])),
    ]))?;
    let a = cx.open(&peer).await?;
    a.close();
    a.expect("close clean").await?;
    peer.until("it is stopped", |it| it.done || it.trouble.is_some())
        .await?;
    cx.check_that(
        "it was not read to the end",
        peer.report().trouble.is_some(),
    )?;
    cx.check_that("some of it was", peer.report().written < MORE)
}
