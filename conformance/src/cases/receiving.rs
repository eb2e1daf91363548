//! Receiving: bytes, suspend and resume, and holding the peer back.

use super::prelude::*;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "receiving/every-byte",
        clauses: &["RX-1", "RX-3", "ST-12", "ROW-9"],
        requirement: "Every byte value arrives unchanged, zero bytes included.",
        run: |cx| Box::pin(every_byte(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/megabytes",
        clauses: &["ST-12", "RX-5"],
        requirement: "A long stream arrives whole, in events of 1 byte to 256 KiB.",
        run: |cx| Box::pin(megabytes(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/string-type",
        clauses: &["IF-7", "RX-3", "RX-4"],
        needs: &[Capability::StringMode],
        requirement: "In the string type each byte is the character with its number, the inverse of send_string.",
        run: |cx| Box::pin(string_type(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspended",
        clauses: &["RX-6", "RX-10", "RX-11"],
        needs: &[Capability::Suspend],
        requirement: "Once suspend has returned, no data comes until resume; then all of it comes.",
        run: |cx| Box::pin(suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspended-in-mid-stream",
        clauses: &["RX-10", "RX-11", "ST-12"],
        needs: &[Capability::Suspend],
        requirement: "A suspend between two data events holds back the next one, even if it was already read.",
        run: |cx| Box::pin(suspended_in_mid_stream(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspends-count",
        clauses: &["RX-6"],
        needs: &[Capability::Suspend],
        requirement: "Data flows again once every suspend is matched by a resume.",
        run: |cx| Box::pin(suspends_count(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspended-before-open",
        clauses: &["RX-7", "ROW-8", "RX-12"],
        needs: &[Capability::Suspend],
        requirement: "A suspend while connecting counts, and does not delay Open.",
        run: |cx| Box::pin(suspended_before_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/resume-without-suspend",
        clauses: &["RX-8", "RX-9", "ROW-30", "ERR-11"],
        needs: &[Capability::Suspend],
        requirement: "A resume too many is InvalidStateError while connecting or open, and nothing later.",
        run: |cx| Box::pin(resume_without_suspend(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspend-in-every-state",
        clauses: &["RX-9", "ROW-8", "ROW-29", "ROW-30"],
        needs: &[Capability::Suspend],
        requirement: "suspend and resume can be called in every state, and never change it.",
        run: |cx| Box::pin(suspend_in_every_state(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/suspended-holds-the-peer-back",
        clauses: &["RX-11"],
        needs: &[Capability::Suspend],
        requirement: "While a socket is suspended its peer comes to a stop; after resume everything arrives.",
        run: |cx| Box::pin(suspended_holds_the_peer_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/unpolled-holds-the-peer-back",
        clauses: &["RX-11", "ACT-3"],
        requirement: "A socket that nobody polls is not read: its peer comes to a stop.",
        run: |cx| Box::pin(unpolled_holds_the_peer_back(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/end-waits-for-resume",
        clauses: &["RX-12", "CL-5"],
        needs: &[Capability::Suspend],
        requirement: "While suspended the end of the peer's stream is not returned; data comes before it.",
        run: |cx| Box::pin(end_waits_for_resume(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/reset-waits-for-resume",
        clauses: &["RX-12", "ERR-4"],
        needs: &[Capability::Suspend],
        requirement: "While suspended a reset is not returned; data that arrived earlier comes before it.",
        run: |cx| Box::pin(reset_waits_for_resume(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/drain-while-suspended",
        clauses: &["RX-12", "TX-6"],
        needs: &[Capability::Suspend],
        requirement: "A drain is returned while suspended.",
        run: |cx| Box::pin(drain_while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/write-error-while-suspended",
        clauses: &["RX-12", "CL-17", "TX-25"],
        needs: &[Capability::Suspend],
        requirement: "A write error is returned at once while suspended, and undelivered data is discarded.",
        run: |cx| Box::pin(write_error_while_suspended(cx)),
        ..Case::MUST
    },
    Case {
        id: "receiving/resume-wakes",
        clauses: &["RX-14", "EVT-5"],
        needs: &[Capability::Suspend],
        requirement: "A resume from another thread wakes the waiting task.",
        run: |cx| Box::pin(resume_wakes(cx)),
        ..Case::MUST
    },
];

async fn every_byte(cx: Cx) -> Outcome {
    let bytes: Bytes = (0..=255).chain(0..=255).collect();
    let zeros = Bytes::from_static(&[0; 100]);
    let peer = cx.peer(Script::listen([
        Accept,
        Write(zeros.clone()),
        Write(bytes.clone()),
    ]))?;
    let a = cx.open(&peer).await?;
    a.expect("data 612").await?;
    a.check_received(&[&zeros[..], &bytes[..]].concat())
}

async fn megabytes(cx: Cx) -> Outcome {
    let bytes = cx.bytes(5_000_001);
    let peer = cx.peer(Script::listen([Accept, Write(bytes.clone()), Fin]))?;
    let a = cx.open(&peer).await?;
    a.expect("data 5000001, close clean").await?;
    a.check_received(&bytes)
}

async fn string_type(cx: Cx) -> Outcome {
    let text: String = (0..=255u8).map(char::from).collect();
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let options = cx.options().binary_type(BinaryType::String);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    cx.check("binary_type", a.raw().binary_type(), BinaryType::String)?;
    a.raw().send_string(&text)?;
    let mut back = String::new();
    while back.chars().count() < 256 {
        let Some(Event::Data(data)) = a.next().await? else {
            return Err(Failure::new("the echo was cut short"));
        };
        cx.check("the type of data", data.binary_type(), BinaryType::String)?;
        back.push_str(&data.to_byte_string());
    }
    cx.check("the text", back, text)
}

async fn suspended(cx: Cx) -> Outcome {
    let bytes = cx.bytes(1000);
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(bytes.clone()),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("write");
    cx.signalled("written").await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    a.resume()?;
    a.expect("data 1000").await?;
    a.check_received(&bytes)?;
    a.quiet().await
}

async fn suspended_in_mid_stream(cx: Cx) -> Outcome {
    let bytes = cx.bytes(2 << 20);
    let peer = cx.peer(Script::listen([Accept, Write(bytes.clone()), Fin]))?;
    let a = cx.open(&peer).await?;
    for _ in 0..5 {
        if !matches!(a.next().await?, Some(Event::Data(_))) {
            return Err(Failure::new("no data although the peer writes"));
        }
        a.suspend();
        a.quiet().await?;
        a.resume()?;
        if a.received().len() == bytes.len() {
            break;
        }
    }
    a.ends(&["data 2097152, close clean"]).await?;
    a.check_received(&bytes)
}

async fn suspends_count(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(10)),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    for _ in 0..3 {
        a.suspend();
    }
    cx.signal("write");
    cx.signalled("written").await?;
    a.resume()?;
    a.resume()?;
    a.quiet().await?;
    a.suspend();
    a.resume()?;
    a.quiet().await?;
    a.resume()?;
    a.expect("data 10").await?;
    a.resume_fails("InvalidStateError")
}

async fn suspended_before_open(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(10)),
        Signal("written"),
    ]))?;
    let a = cx.opening(&peer)?;
    a.suspend();
    a.is(ReadyState::Connecting)?;
    cx.signalled("written").await?;
    a.expect("open").await?;
    a.quiet().await?;
    a.resume()?;
    a.expect("data 10").await
}

async fn resume_without_suspend(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([Accept, Echo]))?;
    let a = cx.opening(&peer)?;
    a.resume_fails("InvalidStateError")?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await?;
    a.resume_fails("InvalidStateError")?;
    a.is(ReadyState::Open)?;
    a.suspend();
    a.resume()?;
    a.resume_fails("InvalidStateError")?;
    a.sends(4, true)?;
    a.expect("data 4").await?;
    a.close();
    a.resume()?;
    a.is(ReadyState::Closing)?;
    a.expect("close clean").await?;
    a.resume()?;
    a.is(ReadyState::Closed)
}

async fn suspend_in_every_state(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    let both = |state| -> Outcome {
        a.is(state)?;
        a.suspend();
        a.is(state)?;
        a.resume()?;
        a.is(state)
    };
    both(ReadyState::Connecting)?;
    a.expect("open").await?;
    both(ReadyState::Open)?;
    a.close();
    both(ReadyState::Closing)?;
    a.expect("close clean").await?;
    both(ReadyState::Closed)
}

async fn suspended_holds_the_peer_back(cx: Cx) -> Outcome {
    let bytes = cx.bytes(STUCK);
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        WriteUntilFull(bytes.clone(), "full"),
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("write");
    cx.signalled("full").await?;
    a.quiet().await?;
    cx.check_that("the peer has stopped", peer.report().written < STUCK)?;
    a.resume()?;
    a.expect("data 16777216, close clean").await?;
    a.check_received(&bytes)
}

async fn unpolled_holds_the_peer_back(cx: Cx) -> Outcome {
    let bytes = cx.bytes(STUCK);
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        WriteUntilFull(bytes.clone(), "full"),
        Fin,
    ]))?;
    let a = cx.open(&peer).await?;
    cx.signal("write");
    cx.signalled("full").await?;
    cx.fence().await?;
    cx.check_that("the peer has stopped", peer.report().written < STUCK)?;
    a.expect("data 16777216, close clean").await?;
    a.check_received(&bytes)
}

async fn end_waits_for_resume(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(10)),
        Fin,
        Signal("ended"),
        ReadToEnd,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("write");
    cx.signalled("ended").await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    a.resume()?;
    a.expect("data 10, close clean").await?;
    peer.ends(End::Fin).await
}

async fn reset_waits_for_resume(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Wait("write"),
        Write(cx.bytes(10)),
        Reset,
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signal("write");
    peer.done().await?;
    a.quiet().await?;
    a.is(ReadyState::Open)?;
    a.resume()?;
    a.expect("data 10, error NetworkError, close failed").await
}

async fn drain_while_suspended(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(10)),
        Signal("written"),
        Read(65_536),
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signalled("written").await?;
    a.sends(65_536, true)?;
    a.expect("drain").await?;
    a.quiet().await?;
    a.resume()?;
    a.expect("data 10").await
}

async fn write_error_while_suspended(cx: Cx) -> Outcome {
    let script = [
        Accept,
        Write(cx.bytes(10)),
        Signal("written"),
        Wait("reset"),
        Reset,
    ];
    let peer = cx.peer(Script::listen(script).receive_buffer(32_768))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signalled("written").await?;
    a.sends(STUCK, false)?;
    a.quiet().await?;
    cx.signal("reset");
    a.expect("error NetworkError, close failed").await?;
    a.check_received(b"")
}

async fn resume_wakes(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Write(cx.bytes(10)),
        Signal("written"),
    ]))?;
    let a = cx.open(&peer).await?;
    a.suspend();
    cx.signalled("written").await?;
    let count = Arc::new(Count::default());
    let pending = a.poll_with(&Waker::from(count.clone())).is_pending();
    cx.check_that("the wait is parked", pending)?;
    let socket = a.raw().clone();
    cx.thread(async move { socket.resume() }).join().await??;
    // Woken by the resume, or by the data that it let in.
    cx.until_woken(&count).await?;
    a.expect("data 10").await
}
