//! Errors of the network, and errors of calls.

use super::prelude::*;
use tcpsocket::ErrorClass;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "errors/reset",
        clauses: &["ERR-4", "CL-9", "ROW-17", "ST-4", "ST-8", "ST-10"],
        requirement: "A reset by the peer is NetworkError, then Close, and not a clean end.",
        run: |cx| Box::pin(reset(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/reset-before-close",
        clauses: &["CL-9", "GATE-13", "RX-13"],
        requirement: "A reset that arrived before close and was not yet returned is returned after it.",
        run: |cx| Box::pin(reset_before_close(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/reset-that-waits-before-close",
        clauses: &["CL-9", "GATE-13", "RX-13"],
        needs: &[Capability::Suspend],
        requirement: "A reset that waits for resume is returned after close, without the preceding data.",
        run: |cx| Box::pin(reset_that_waits_before_close(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/class-and-name",
        clauses: &["ERR-1", "ERR-2", "ERR-8"],
        requirement: "Network failures have class Network, and names that do not begin with Security.",
        run: |cx| Box::pin(class_and_name(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/last-words-first",
        clauses: &["CL-17", "ERR-4"],
        requirement: "A write error waits until the peer's last data has been delivered.",
        run: |cx| Box::pin(last_words_first(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/last-words-before-a-stuck-flush",
        clauses: &["CL-17", "CL-9", "TX-25"],
        requirement: "The peer's last data comes before the error of a stuck flush, and no drain comes.",
        run: |cx| Box::pin(last_words_before_a_stuck_flush(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/write-error-while-closing",
        clauses: &["ROW-25", "CL-17", "CL-9"],
        requirement: "A write error while closing is NetworkError, then Close, without delay.",
        run: |cx| Box::pin(write_error_while_closing(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/of-calls-change-nothing",
        clauses: &["ERR-11", "ERR-14"],
        requirement: "An error returned by a call changes neither state nor queue, and causes no event.",
        run: |cx| Box::pin(of_calls_change_nothing(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/messages",
        clauses: &["ERR-16"],
        level: Level::Should,
        requirement: "The message of an error, from a call or an event, says more than its name and class.",
        run: |cx| Box::pin(messages(cx)),
        ..Case::MUST
    },
    Case {
        id: "errors/as-io-error",
        clauses: &["ERR-15"],
        requirement: "An error converts into an io::Error of the nearest kind, with itself inside.",
        run: |cx| Box::pin(as_io_error(cx)),
        ..Case::MUST
    },
];

async fn reset(cx: Cx) -> Outcome {
    let peer = cx.peer(resetter())?;
    let a = cx.open(&peer).await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    a.is(ReadyState::Closed)?;
    a.send_fails("InvalidStateError")
}

async fn reset_before_close(cx: Cx) -> Outcome {
    for abort in [false, true] {
        let peer = cx.peer(Script::listen([Accept, Read(10), Reset]))?;
        let a = cx.open(&peer).await?;
        a.sends(10, true)?;
        peer.done().await?;
        cx.fence().await?;
        match abort {
            false => a.close(),
            true => a.abort(None),
        }
        a.is(ReadyState::Closing)?;
        a.expect("error NetworkError, close failed").await?;
    }
    Ok(())
}

async fn reset_that_waits_before_close(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("reset"),
        Write(cx.bytes(10)),
        Reset,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("reset");
    peer.done().await?;
    a.quiet().await?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.expect("error NetworkError, close failed").await
}

async fn class_and_name(cx: Cx) -> Outcome {
    let nobody = cx.peer(Script::refuse())?;
    let gone = cx.peer(Script::listen([Accept, Reset]))?;
    for peer in [nobody, gone] {
        let a = cx.opening(&peer)?;
        let error = loop {
            match a.next().await? {
                Some(Event::Open) => {}
                Some(Event::Error(error)) => break error,
                other => return Err(Failure::new(format!("an error, not {other:?}"))),
            }
        };
        cx.check("class", error.class(), Some(ErrorClass::Network))?;
        cx.check("is_security", error.name().is_security(), false)?;
        let closed = a.next().await?;
        cx.check_that("Close", matches!(closed, Some(Event::Close(_))))?;
    }
    Ok(())
}

async fn messages(cx: Cx) -> Outcome {
    let nobody = cx.peer(Script::refuse())?;
    let gone = cx.peer(Script::listen([Accept, Reset]))?;
    let mut errors = Vec::new();
    for peer in [&nobody, &gone] {
        let a = cx.opening(peer)?;
        errors.extend(a.raw().send_string("\u{20ac}").err());
        errors.extend(a.raw().send(Bytes::from_static(b"early")).err());
        loop {
            match a.next().await? {
                Some(Event::Error(error)) => errors.push(error),
                Some(Event::Close(_)) => break,
                _ => {}
            }
        }
        errors.extend(a.raw().send(Bytes::from_static(b"late")).err());
    }
    cx.check("errors", errors.len(), 8)?;
    for error in errors {
        let said = error.message().trim().trim_end_matches('.');
        let name = error.name().to_string();
        let class = error.class().map(|it| it.to_string());
        let more = !said.is_empty() && said != name && Some(said) != class.as_deref();
        cx.check_that(&format!("{error:?} says what happened"), more)?;
    }
    Ok(())
}

async fn last_words_first(cx: Cx) -> Outcome {
    let words = Bytes::from_static(b"that was all");
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("reset"),
        Write(words.clone()),
        Reset,
    ]))?;
    let a = cx.open(&peer).await?;
    cx.signal("reset");
    peer.done().await?;
    cx.fence().await?;
    a.sends(10, true)?;
    // The bytes meet the reset although nobody polls.
    cx.fence().await?;
    a.expect("data 12, error NetworkError, close failed")
        .await?;
    a.check_received(&words)
}

async fn last_words_before_a_stuck_flush(cx: Cx) -> Outcome {
    let words = Bytes::from_static(b"that was all");
    let steps = [Accept, Wait("reset"), Write(words.clone()), Reset];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    cx.fence().await?;
    cx.signal("reset");
    peer.done().await?;
    cx.fence().await?;
    a.expect("data 12, error NetworkError, close failed")
        .await?;
    a.check_received(&words)
}

async fn write_error_while_closing(cx: Cx) -> Outcome {
    let steps = [Accept, Write(cx.bytes(10)), Wait("reset"), Reset];
    let peer = cx.peer(Script::listen(steps).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.sends(STUCK, false)?;
    a.close();
    a.quiet().await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await
}

async fn of_calls_change_nothing(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.open(&peer).await?;
    a.sends(100, true)?;
    let mistakes = || -> Outcome {
        cx.check_error("send_string", a.raw().send_string("\u{20ac}"), "TypeError")?;
        let resumed = if cx.declares(Capability::Suspend) {
            "InvalidStateError"
        } else {
            "NotSupportedError"
        };
        a.resume_fails(resumed)
    };
    mistakes()?;
    a.is(ReadyState::Open)?;
    a.buffers(100)?;
    a.expect("data 100").await?;
    mistakes()?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    a.sends(5, true)?;
    a.expect("data 5").await
}

async fn as_io_error(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::refuse())?;
    let a = cx.opening(&peer)?;
    let Some(Event::Error(error)) = a.next().await? else {
        return Err(Failure::new("an error"));
    };
    let io = std::io::Error::from(error);
    cx.check("kind", io.kind(), std::io::ErrorKind::ConnectionRefused)?;
    let inside = io.get_ref().and_then(|it| it.downcast_ref::<Error>());
    cx.check(
        "inside",
        inside.map(Error::name),
        Some(ErrorName::ConnectionRefused),
    )
}
