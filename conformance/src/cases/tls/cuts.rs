//! Connections that are cut, at places spread over handshake and stream: the right events, and nothing in the clear.

use super::prelude::*;
use crate::socket::text;

/// At how many places.
const PLACES: usize = 24;

const LONG: Duration = Duration::from_secs(40);

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "cuts/open-by-fin",
        clauses: &["TLS-15", "CL-12", "CL-6", "ST-12", "TLS-22"],
        needs: SECURE,
        requirement: "Wherever the peer's stream ends: NetworkInterruptError in the handshake, Close with clean false after it.",
        deadline: LONG,
        run: |cx| Box::pin(cuts(cx, false, CutBy::Fin)),
        ..Case::MUST
    },
    Case {
        id: "cuts/open-by-reset",
        clauses: &["ERR-2", "ERR-4", "ST-12", "ST-7"],
        needs: SECURE,
        requirement: "Wherever the connection is reset: NetworkError, then Close.",
        deadline: LONG,
        run: |cx| Box::pin(cuts(cx, false, CutBy::Reset)),
        ..Case::MUST
    },
    Case {
        id: "cuts/upgrade-by-fin",
        clauses: &["TLS-15", "TLS-13", "CL-12", "CL-6", "TLS-7"],
        needs: UPGRADE,
        requirement: "Wherever the peer's stream ends, during an upgrade or after it, waiting bytes never leave in the clear.",
        deadline: LONG,
        run: |cx| Box::pin(cuts(cx, true, CutBy::Fin)),
        ..Case::MUST
    },
    Case {
        id: "cuts/upgrade-by-reset",
        clauses: &["ERR-4", "TLS-13", "TLS-7", "ST-7"],
        needs: UPGRADE,
        requirement: "Wherever the connection is reset, during an upgrade or after it, waiting bytes never leave in the clear.",
        deadline: LONG,
        run: |cx| Box::pin(cuts(cx, true, CutBy::Reset)),
        ..Case::MUST
    },
];

const CLEAR: usize = 10;
const BEHIND: usize = 5000;
const ANSWER: usize = 3000;

/// The peer answers before it has read, so that cuts in the stream meet output as well as input.
fn script(cx: &Cx, upgrade: bool, tls: TlsServer) -> Script {
    let mut steps = vec![Accept];
    steps.extend(upgrade.then_some(Read(CLEAR)));
    steps.extend([
        Tls(tls),
        Write(cx.bytes(ANSWER)),
        Read(BEHIND),
        CloseNotify,
        Fin,
        ReadToEnd,
    ]);
    Script::listen(steps)
}

async fn begin(cx: &Cx, upgrade: bool, peer: &Partner) -> Result<Socket, Failure> {
    if upgrade {
        let a = cx.open(peer).await?;
        a.sends(CLEAR, true)?;
        a.upgrade()?;
        a.sends(BEHIND, true)?;
        return Ok(a);
    }
    opening(cx, peer)
}

async fn cuts(cx: Cx, upgrade: bool, by: CutBy) -> Outcome {
    for version in TlsVersion::ALL {
        let whole = server().only(version);
        let peer = cx.peer(script(&cx, upgrade, whole.clone()))?;
        let a = begin(&cx, upgrade, &peer).await?;
        play(&cx, &a, upgrade).await?;
        let events = a.events();
        let clean = format!("open, data {ANSWER}, close clean");
        cx.check("the events without a cut", events, clean)?;
        peer.done().await?;
        let all = peer.tls().written;
        for place in 0..PLACES {
            // Signatures differ in length by a few bytes; the last places are in the goodbye or before it.
            let after = place * (all - 8) / (PLACES - 1);
            cx.log(format_args!("{version:?}, {by:?} after {after} of {all}"));
            let tls = whole.clone().cut(after, by);
            let peer = cx.peer(script(&cx, upgrade, tls))?;
            let a = begin(&cx, upgrade, &peer).await?;
            play(&cx, &a, upgrade).await?;
            judge(&cx, &a, &peer, upgrade, by).await?;
        }
    }
    Ok(())
}

/// Takes all events; sends when it is open, if that was not done before.
async fn play(cx: &Cx, a: &Socket, upgrade: bool) -> Outcome {
    while let Some(event) = a.next().await? {
        if matches!(event, Event::Open) && !upgrade {
            a.sends(BEHIND, true)?;
        }
        if matches!(event, Event::Close(_)) {
            cx.log(format_args!("ended by {}", text(&event)));
            return Ok(());
        }
    }
    Err(Failure::new("no Close"))
}

async fn judge(cx: &Cx, a: &Socket, peer: &Partner, upgrade: bool, by: CutBy) -> Outcome {
    peer.done().await?;
    let secure = a.raw().security().is_secure();
    let received = a.received();
    let data = match received.len() {
        0 => String::new(),
        n => format!("data {n}, "),
    };
    let opened = if upgrade || secure { "open, " } else { "" };
    let end = match (by, secure) {
        (CutBy::Reset, _) => "error NetworkError, close failed",
        (_, true) => "close failed",
        (_, false) => "error NetworkInterruptError, close failed",
    };
    let expected = format!("{opened}{data}{end}");
    let actual = a.events();
    // A reset may be seen before the Open that had fallen due.
    let unopened = by == CutBy::Reset && actual == end;
    if actual != expected && !unopened {
        return Err(Failure::compared("the events", expected, actual));
    }
    cx.check_that("a part of the answer", {
        cx.bytes(ANSWER).starts_with(&received) && (secure || received.is_empty())
    })?;
    if by == CutBy::Fin && secure {
        peer.ends(End::Fin).await?;
    }
    let clear = if upgrade { CLEAR } else { 0 };
    cx.check("what came in the clear", peer.tls().clear, clear)?;
    let sent = a.sent();
    not_in_clear(cx, peer, sent.get(clear..).unwrap_or_default())
}
