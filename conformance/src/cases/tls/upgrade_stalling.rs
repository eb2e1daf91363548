//! Upgrades that stall: all of them end in time.

use super::prelude::*;

const TIMEOUT: &[Capability] = &[Capability::Upgrade, Capability::ConnectTimeout];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "upgrade/stalls",
        clauses: &["TLS-27", "TLS-13", "TLS-14"],
        needs: TIMEOUT,
        requirement: "connect_timeout bounds the handshake of an upgrade, wherever it stalls.",
        run: |cx| Box::pin(stalls(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/stalls-while-closing",
        clauses: &["TLS-27", "CL-11"],
        needs: TIMEOUT,
        requirement: "connect_timeout bounds the handshake of an upgrade after close as well.",
        run: |cx| Box::pin(stalls_while_closing(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/stalls-after-a-drop",
        clauses: &["TLS-27", "ACT-6", "LIFE-8"],
        needs: TIMEOUT,
        requirement: "An upgrade that stalls after the last handle is dropped leaves nothing behind.",
        run: |cx| Box::pin(stalls_after_a_drop(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/linger",
        clauses: &["CL-16", "CL-11"],
        needs: &[Capability::Upgrade, Capability::Linger],
        requirement: "linger bounds the handshake after close: NetworkTimeoutError if bytes wait for it, otherwise only Close.",
        run: |cx| Box::pin(linger(cx)),
        ..Case::MUST
    },
    Case {
        id: "upgrade/time-begins-with-the-handshake",
        clauses: &["TLS-27"],
        needs: TIMEOUT,
        requirement: "The time for output before the upgrade does not count as the handshake's.",
        run: |cx| Box::pin(time_begins_with_the_handshake(cx)),
        ..Case::MUST
    },
];

/// Scripts of peers that stall in the handshake of an upgrade behind ten bytes.
fn stalling() -> [Script; 3] {
    let begun = Bytes::from_static(&[22, 3, 3]);
    [
        Script::listen([Accept]),
        Script::listen([Accept, Read(60), Write(begun)]),
        Script::listen([Accept, Read(10), Tls(server().cut(200, CutBy::Silence))]),
    ]
}

async fn briefly_upgraded(cx: &Cx, peer: &Partner) -> Result<Socket, Failure> {
    let options = cx.options().connect_timeout(SHORT);
    let a = cx.open_with(cx.request(peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(10, true)?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    Ok(a)
}

async fn stalls(cx: Cx) -> Outcome {
    for script in stalling() {
        let peer = cx.peer(script)?;
        let began = cx.world().now();
        let a = briefly_upgraded(&cx, &peer).await?;
        a.expect("error NetworkTimeoutError, close failed").await?;
        let took = cx.world().now() - began;
        cx.check_that("it took as long as it may", took >= SHORT)?;
        protected(&cx, &a, "handshaking")?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn stalls_while_closing(cx: Cx) -> Outcome {
    for script in stalling() {
        let peer = cx.peer(script)?;
        let a = briefly_upgraded(&cx, &peer).await?;
        a.close();
        a.expect("error NetworkTimeoutError, close failed").await?;
        kept(&cx, &a, &peer)?;
    }
    Ok(())
}

async fn stalls_after_a_drop(cx: Cx) -> Outcome {
    for script in stalling() {
        let peer = cx.peer(script)?;
        let a = briefly_upgraded(&cx, &peer).await?;
        let secret = a.sent().split_off(10);
        drop(a);
        cx.within("idle", cx.provider().idle()).await?;
        not_in_clear(&cx, &peer, &secret)?;
    }
    Ok(())
}

async fn linger(cx: Cx) -> Outcome {
    let alone: &[&str] = &["close clean"];
    let timeout: &[&str] = &["error NetworkTimeoutError, close failed"];
    for (secret, events) in [(0, alone), (SECRET, timeout)] {
        let peer = cx.peer(Script::listen([Accept, Read(60), ReadToEnd]))?;
        let options = cx.options().linger(SHORT);
        let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
        a.expect("open").await?;
        a.sends(10, true)?;
        a.upgrade()?;
        a.sends(secret, secret < SECRET)?;
        let closed_at = cx.world().now();
        a.close();
        a.ends(events).await?;
        let took = cx.world().now() - closed_at;
        cx.check_that("it took as long as it may", took >= SHORT)?;
        peer.ends(End::Reset).await?;
        not_in_clear(&cx, &peer, &a.sent()[10..])?;
    }
    Ok(())
}

async fn time_begins_with_the_handshake(cx: Cx) -> Outcome {
    // Long against what the kernels still have between them when the handshake may start.
    let limit = SHORT * 10;
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
    let options = cx.options().connect_timeout(limit);
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("open").await?;
    a.sends(STUCK, false)?;
    a.upgrade()?;
    a.sends(SECRET, false)?;
    cx.passes(limit + SHORT).await;
    a.quiet().await?;
    cx.signal("read on");
    a.expect("drain").await?;
    protected(&cx, &a, "secure")
}
