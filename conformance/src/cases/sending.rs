//! Sending: the mark, the amount, and the drain.

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "sending/exactly-the-mark",
        clauses: &["TX-4", "TX-6", "TX-7"],
        requirement: "65536 bytes on an empty socket answer true and arm the drain.",
        run: |cx| Box::pin(exactly_the_mark(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/answers-around-the-mark",
        clauses: &["TX-3", "TX-4", "TX-5", "TURN-4", "ROW-10"],
        requirement: "Within a turn the answer is false if and only if the sum is over 65536.",
        run: |cx| Box::pin(answers_around_the_mark(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/armed-from-the-mark-on",
        clauses: &["TX-4", "TX-6", "ROW-11"],
        requirement: "The drain comes if and only if the sum reaches 65536.",
        run: |cx| Box::pin(armed_from_the_mark_on(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/amount-is-exact",
        clauses: &["TX-5", "TX-11", "TURN-2"],
        requirement: "buffered_amount grows by exactly the bytes that each send queues.",
        run: |cx| Box::pin(amount_is_exact(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/amount-past-four-gibibytes",
        clauses: &["IF-3", "TX-1"],
        requirement: "buffered_amount counts on beyond 32 bits.",
        run: |cx| Box::pin(amount_past_four_gibibytes(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/one-drain-for-many",
        clauses: &["TX-3", "TX-6", "TX-8"],
        requirement: "One drain answers all sends that armed it, and all their bytes arrive.",
        run: |cx| Box::pin(one_drain_for_many(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/drains-again",
        clauses: &["TX-6", "TX-7"],
        requirement: "A send that reaches the mark again after a drain leads to another drain.",
        run: |cx| Box::pin(drains_again(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/drain-waits-for-the-kernel",
        clauses: &["TX-1", "TX-6", "TX-10", "RX-11", "ROW-11"],
        requirement: "While the peer does not read, send still returns, nothing drains, and nothing is lost.",
        run: |cx| Box::pin(drain_waits_for_the_kernel(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/drain-before-data",
        clauses: &["TX-6"],
        requirement: "A due drain is returned before available data.",
        run: |cx| Box::pin(drain_before_data(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/drain-delayed-by-more",
        clauses: &["TX-13", "TX-7"],
        requirement: "A send between the flush and the poll delays the drain, and does not lose it.",
        run: |cx| Box::pin(drain_delayed_by_more(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/drain-while-closing",
        clauses: &["TX-9", "ST-11", "ROW-13", "ROW-24"],
        requirement: "An armed drain is returned in closing as well, before Close.",
        run: |cx| Box::pin(drain_while_closing(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/no-drain-unarmed",
        clauses: &["TX-6", "ROW-13"],
        requirement: "A flush without an armed drain is no event, not even in closing.",
        run: |cx| Box::pin(no_drain_unarmed(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/nothing",
        clauses: &["TX-21", "TX-4"],
        requirement: "A send of no bytes queues nothing, causes nothing, and answers like any other.",
        run: |cx| Box::pin(nothing(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/not-open",
        clauses: &["TX-2", "ROW-21", "ROW-27", "ERR-11"],
        requirement: "send in closing and closed is InvalidStateError and queues nothing.",
        run: |cx| Box::pin(not_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/every-character",
        clauses: &["TX-18", "TX-19", "TX-20"],
        requirement: "send_string sends U+0000 to U+00FF as the bytes with these numbers.",
        run: |cx| Box::pin(every_character(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/no-byte-string",
        clauses: &["TX-19", "ERR-11"],
        requirement: "A character above U+00FF is TypeError in every state, and nothing is queued.",
        run: |cx| Box::pin(no_byte_string(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/many-pieces-in-order",
        clauses: &["TX-1"],
        requirement: "The bytes of many sends arrive complete and in order.",
        run: |cx| Box::pin(many_pieces_in_order(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/slices-of-one-buffer",
        clauses: &["TX-1", "TX-5"],
        requirement: "Slices of one buffer are sent as the bytes that they show.",
        run: |cx| Box::pin(slices_of_one_buffer(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/after-an-end-not-told",
        clauses: &["TX-23", "TURN-5", "TX-25"],
        requirement: "Until the end is returned, send answers as usual, and the bytes are dropped.",
        run: |cx| Box::pin(after_an_end_not_told(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/failure-disarms",
        clauses: &["TX-25", "CL-9", "ROW-17"],
        requirement: "A failed connection returns no more drain.",
        run: |cx| Box::pin(failure_disarms(cx)),
        ..Case::MUST
    },
    Case {
        id: "sending/abort-disarms",
        clauses: &["TX-25"],
        requirement: "abort disarms a drain not yet returned, due or not.",
        run: |cx| Box::pin(abort_disarms(cx)),
        ..Case::MUST
    },
];

async fn exactly_the_mark(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    a.sends(65_536, true)?;
    a.buffers(65_536)?;
    a.expect("drain").await?;
    a.buffers(0)?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn answers_around_the_mark(cx: Cx) -> Outcome {
    let turns: &[&[(usize, bool)]] = &[
        &[(65_535, true), (0, true), (1, true), (1, false)],
        &[(65_535, true), (2, false)],
        &[(65_536, true), (0, true), (3, false), (0, false)],
        &[(65_537, false), (1, false)],
        &[(1, true), (65_535, true), (1, false)],
        &[(3, true), (65_536, false)],
        &[(1 << 20, false), (0, false)],
    ];
    for turn in turns {
        let peer = cx.peer(reader())?;
        let a = cx.open(&peer).await?;
        let mut amount = 0;
        for (len, answer) in *turn {
            a.sends(*len, *answer)?;
            amount += *len as u64;
            a.buffers(amount)?;
            // The kernel may take it all meanwhile; a turn does not see that.
            cx.fence().await?;
            a.buffers(amount)?;
        }
        a.close();
        a.expect("drain, close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn armed_from_the_mark_on(cx: Cx) -> Outcome {
    let turns: &[(&[usize], bool)] = &[
        (&[65_535], false),
        (&[65_536], true),
        (&[65_537], true),
        (&[65_000, 535], false),
        (&[65_000, 536], true),
        (&[65_535, 0], false),
    ];
    for (sends, armed) in turns {
        let peer = cx.peer(reader())?;
        let a = cx.open(&peer).await?;
        for len in *sends {
            a.sends(*len, a.raw().buffered_amount() + *len as u64 <= 65_536)?;
        }
        let sent = a.sent();
        peer.begins(&sent).await?;
        if *armed {
            a.expect("drain").await?;
        }
        a.quiet().await?;
        a.buffers(0)?;
    }
    Ok(())
}

async fn amount_is_exact(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    let mut amount = 0;
    for len in [1, 10, 0, 65_525, 65_536, 7, STUCK, 1] {
        a.send(cx.bytes(len))?;
        amount += len as u64;
        a.buffers(amount)?;
    }
    cx.fence().await?;
    a.buffers(amount)?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.buffers(0)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn amount_past_four_gibibytes(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    let piece = Bytes::from(vec![0; 64 << 20]);
    let times = 80;
    for n in 1..=times {
        // Not through the recorder, which keeps what was sent.
        match a.raw().send(piece.clone()) {
            // A limit is allowed (TX-22).
            Err(error) if error.name() == ErrorName::QuotaExceeded => {
                a.buffers((n - 1) * piece.len() as u64)?;
                a.is(ReadyState::Open)?;
                return Err(Failure::not_here("it does not hold five gibibytes"));
            }
            sent => sent?,
        };
        a.buffers(n * piece.len() as u64)?;
    }
    a.abort(None);
    a.expect("close clean").await
}

async fn one_drain_for_many(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    for _ in 0..4 {
        a.sends(STUCK / 4, false)?;
    }
    a.sends(3, false)?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn drains_again(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    for _ in 0..3 {
        a.sends(65_539, false)?;
        a.expect("drain").await?;
        a.buffers(0)?;
    }
    a.sends(3, true)?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn drain_waits_for_the_kernel(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    cx.check_that("bytes are held", a.raw().buffered_amount() > 0)?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn drain_before_data(cx: Cx) -> Outcome {
    let words = Bytes::from_static(b"hello");
    let peer = cx.peer(Script::listen([
        Accept,
        Read(65_536),
        Write(words),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(65_536, true)?;
    cx.signalled("written").await?;
    cx.fence().await?;
    a.expect("drain, data 5").await
}

async fn drain_delayed_by_more(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(65_536),
        Signal("read"),
        Wait("read on"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    a.sends(65_536, true)?;
    cx.signalled("read").await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    cx.signal("read on");
    a.expect("drain").await?;
    a.buffers(0)?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn drain_while_closing(cx: Cx) -> Outcome {
    for (script, len) in [(reader(), 65_536), (reader(), 65_539), (holder(), STUCK)] {
        let peer = cx.peer(script)?;
        let a = cx.open(&peer).await?;
        a.sends(len, len <= 65_536)?;
        a.close();
        if len == STUCK {
            a.quiet().await?;
            a.is(ReadyState::Closing)?;
            cx.signal("read on");
        }
        a.expect("drain, close clean").await?;
        peer.gets(&a.sent(), End::Fin).await?;
    }
    Ok(())
}

async fn no_drain_unarmed(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    a.sends(65_535, true)?;
    peer.begins(&a.sent()).await?;
    a.quiet().await?;
    a.sends(100, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn nothing(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    a.sends(0, true)?;
    a.buffers(0)?;
    a.quiet().await?;
    a.sends(65_537, false)?;
    a.sends(0, false)?;
    a.buffers(65_537)?;
    a.expect("drain").await?;
    a.sends(0, true)?;
    a.quiet().await?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn not_open(cx: Cx) -> Outcome {
    let peer = cx.peer(holder())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.buffers(STUCK as u64)?;
    a.send_fails("InvalidStateError")?;
    a.buffers(STUCK as u64)?;
    a.is(ReadyState::Closing)?;
    cx.signal("read on");
    a.expect("drain, close clean").await?;
    a.send_fails("InvalidStateError")?;
    a.buffers(0)?;
    a.is(ReadyState::Closed)?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn every_character(cx: Cx) -> Outcome {
    let mut types = vec![BinaryType::ArrayBuffer];
    if cx.declares(Capability::StringMode) {
        types.push(BinaryType::String);
    }
    let bytes: Vec<u8> = (0..=255).collect();
    let text: String = bytes.iter().map(|b| char::from(*b)).collect();
    for it in types {
        let peer = cx.peer(reader())?;
        let request = cx.request(&peer)?;
        let a = cx.open_with(request.with_options(cx.options().binary_type(it)))?;
        a.expect("open").await?;
        cx.check("the answer", a.raw().send_string(&text)?, true)?;
        a.buffers(256)?;
        cx.check("the answer", a.raw().send(bytes.clone().into())?, true)?;
        a.close();
        a.expect("close clean").await?;
        peer.gets(&[&bytes[..], &bytes[..]].concat(), End::Fin)
            .await?;
    }
    Ok(())
}

async fn no_byte_string(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    let refused = || cx.check_error("send_string", a.raw().send_string("ok\u{100}"), "TypeError");
    refused()?;
    a.expect("open").await?;
    refused()?;
    a.buffers(0)?;
    a.is(ReadyState::Open)?;
    a.sends(2, true)?;
    a.close();
    refused()?;
    a.expect("close clean").await?;
    refused()?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn many_pieces_in_order(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    for n in 0..2000usize {
        let at = a.raw().buffered_amount();
        let len = n % 97;
        a.sends(len, at + len as u64 <= 65_536)?;
        if n % 250 == 0 {
            cx.fence().await?;
        }
    }
    a.close();
    a.expect("drain, close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn slices_of_one_buffer(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.open(&peer).await?;
    let whole = cx.bytes(256);
    for (from, to) in [(0, 7), (7, 256), (100, 100), (3, 5)] {
        a.send(whole.slice(from..to))?;
    }
    a.buffers(258)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&[&whole[..], &whole[3..5]].concat(), End::Fin)
        .await
}

async fn after_an_end_not_told(cx: Cx) -> Outcome {
    let peer = cx.peer(resetter())?;
    let a = cx.open(&peer).await?;
    cx.signal("reset");
    peer.done().await?;
    cx.fence().await?;
    a.is(ReadyState::Open)?;
    a.sends(65_536, true)?;
    a.sends(3, false)?;
    a.buffers(65_539)?;
    cx.fence().await?;
    a.sends(1, false)?;
    a.is(ReadyState::Open)?;
    a.expect("error NetworkError, close failed").await
}

async fn failure_disarms(cx: Cx) -> Outcome {
    let peer = cx.peer(resetter())?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    peer.done().await
}

async fn abort_disarms(cx: Cx) -> Outcome {
    for why in [None, Some(told())] {
        let expected = match why {
            None => "close clean",
            Some(_) => "error NotAllowedError, close failed",
        };
        let peer = cx.peer(reader())?;
        let a = cx.open(&peer).await?;
        a.sends(65_536, true)?;
        peer.begins(&a.sent()).await?;
        a.abort(why.clone());
        a.expect(expected).await?;

        let stuck = cx.peer(holder())?;
        let b = cx.open(&stuck).await?;
        b.sends(STUCK, false)?;
        b.abort(why);
        b.expect(expected).await?;
    }
    Ok(())
}
