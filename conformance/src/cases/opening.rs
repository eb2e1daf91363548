//! Opening a socket: what `open` returns, what it refuses, and how an attempt ends.

use super::prelude::*;
use crate::descriptors::Descriptors;
use std::pin::pin;
use tcpsocket::{Security, SocketOptions, SocketProviderExt};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "opening/returns-connecting",
        clauses: &["IF-4", "IF-8", "IF-12", "IF-17", "ST-1", "ST-2"],
        requirement: "A socket returned by open is connecting, and echoes the request.",
        run: |cx| Box::pin(returns_connecting(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/open-is-an-event",
        clauses: &["ROW-1", "ST-9", "TURN-5", "EVT-3"],
        requirement: "The state stays connecting until the poll that returns Open, and Open comes once.",
        run: |cx| Box::pin(open_is_an_event(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/ipv6-literal",
        clauses: &["NAME-4", "IF-8"],
        requirement: "An IPv6 literal without brackets can be opened.",
        run: |cx| Box::pin(ipv6_literal(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/host-letter-for-letter",
        clauses: &["IF-8", "NAME-1"],
        requirement: "host() returns the given spelling, and a literal in any spelling is dialled.",
        run: |cx| Box::pin(host_letter_for_letter(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/ports-out-of-range",
        clauses: &["IF-9", "IF-10", "ERR-14"],
        requirement: "A port outside 1 to 65535 is InvalidAccessError at the call.",
        run: |cx| Box::pin(ports_out_of_range(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/hosts-that-are-none",
        clauses: &["IF-11", "NAME-2", "NAME-3", "NAME-4", "NAME-5", "NAME-11"],
        requirement: "A host that is neither a name nor an address is InvalidAccessError at the call.",
        run: |cx| Box::pin(hosts_that_are_none(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/refused",
        clauses: &[
            "ROW-3", "CL-10", "ST-3", "ST-4", "ST-5", "ST-10", "ERR-2", "ERR-3",
        ],
        requirement: "A refused connect is ConnectionRefusedError, then Close, both in state closed.",
        run: |cx| Box::pin(refused(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/times-out",
        clauses: &["OPT-3", "ERR-2", "ROW-3", "CL-10"],
        needs: &[Capability::ConnectTimeout],
        requirement: "A connect without an answer is NetworkTimeoutError when connect_timeout expires.",
        run: |cx| Box::pin(times_out(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/proceeds-unpolled",
        clauses: &["ACT-2"],
        requirement: "A connect proceeds although nobody polls.",
        run: |cx| Box::pin(proceeds_unpolled(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/send-before-open",
        clauses: &["TX-2", "ROW-6", "ERR-11"],
        requirement: "send while connecting is InvalidStateError, and none of its bytes is ever sent.",
        run: |cx| Box::pin(send_before_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/close-at-once",
        clauses: &["IF-4", "CL-1", "CL-2", "CL-3", "ROW-5", "ST-6"],
        requirement: "close in the turn of open gives the attempt up: the state is closing, and a clean Close is the only event.",
        run: |cx| Box::pin(close_at_once(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/close-before-the-news",
        clauses: &["CL-3"],
        requirement: "close while the state shows connecting leads to Close only, whatever the attempt's outcome.",
        run: |cx| Box::pin(close_before_the_news(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/close-toward-silence",
        clauses: &["CL-3", "ROW-5"],
        requirement: "An attempt without an answer can be given up.",
        run: |cx| Box::pin(close_toward_silence(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/abort-while-connecting",
        clauses: &["CL-3", "CL-4", "CL-18", "ST-6"],
        requirement: "abort while connecting leads to a clean Close, or to the given error and Close.",
        run: |cx| Box::pin(abort_while_connecting(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/connect-waits-for-open",
        clauses: &["IF-18"],
        requirement: "connect returns an open socket, or the error that ended the attempt.",
        run: |cx| Box::pin(connect_waits_for_open(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/connect-dropped",
        clauses: &["IF-18"],
        requirement: "Dropping the future of connect closes the socket: its descriptor is gone.",
        run: |cx| Box::pin(connect_dropped(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/upgrade-while-connecting",
        clauses: &["ROW-7", "IF-12"],
        needs: &[Capability::Upgrade],
        requirement: "upgrade_to_secure while connecting is InvalidStateError, and ssl stays false.",
        run: |cx| Box::pin(upgrade_while_connecting(cx)),
        ..Case::MUST
    },
    Case {
        id: "opening/defaults",
        clauses: &["IF-5", "IF-7"],
        needs: &[Capability::StringMode],
        requirement: "Without options a socket is in the clear and of the string type.",
        run: |cx| Box::pin(defaults(cx)),
        ..Case::MUST
    },
];

async fn returns_connecting(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    a.is(ReadyState::Connecting)?;
    a.buffers(0)?;
    cx.check("host", a.raw().host(), peer.host().as_str())?;
    cx.check("port", a.raw().port(), peer.port())?;
    cx.check("ssl", a.raw().ssl(), false)?;
    cx.check(
        "binary_type",
        a.raw().binary_type(),
        BinaryType::ArrayBuffer,
    )?;
    let plain = matches!(a.raw().security(), Security::Plain);
    cx.check_that("security is Plain", plain)
}

async fn open_is_an_event(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    peer.until("the peer has accepted", |it| it.connections == 1)
        .await?;
    cx.fence().await?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await?;
    a.is(ReadyState::Open)?;
    a.quiet().await?;
    a.is(ReadyState::Open)
}

async fn ipv6_literal(cx: Cx) -> Outcome {
    let peer = cx.peer(reader().v6())?;
    let a = cx.open(&peer).await?;
    cx.check("host", a.raw().host(), "::1")?;
    a.sends(5, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn host_letter_for_letter(cx: Cx) -> Outcome {
    for host in ["127.0.0.1.", "::FFFF:127.0.0.1", "::ffff:7f00:1"] {
        let peer = cx.peer(reader())?;
        let request = OpenRequest::new(host, peer.port())?.with_options(cx.options());
        let a = cx.open_with(request)?;
        cx.check("host", a.raw().host(), host)?;
        a.expect("open").await?;
        cx.check("host", a.raw().host(), host)?;
        a.close();
        a.expect("close clean").await?;
        cx.check("host", a.raw().host(), host)?;
        cx.check("port", a.raw().port(), peer.port())?;
    }
    Ok(())
}

async fn ports_out_of_range(cx: Cx) -> Outcome {
    for port in [0i64, -1, 65_536, 65_616, i64::MAX, i64::MIN] {
        let opened = cx.provider().open("127.0.0.1", port, cx.options());
        cx.check_error(
            &format!("open to port {port}"),
            opened,
            "InvalidAccessError",
        )?;
    }
    Ok(())
}

async fn hosts_that_are_none(cx: Cx) -> Outcome {
    let long_label = "a".repeat(64);
    let long_name = format!("{}b", "a.".repeat(127));
    let hosts = [
        "",
        ".",
        "a..b",
        "[::1]",
        "127.1",
        "0x7f.1",
        "2130706433",
        "256.1.1.1",
        "01.2.3.4",
        "1.2.3.4.5",
        "x.0x",
        "user@host",
        "a b",
        "http://a/",
        "host:80",
        "b\u{fc}cher.de",
        "::1%",
        "fe80::1%",
        "fe80::1%+7",
        "fe80::1%07",
        "fe80::1%0",
        "fe80::1%4294967296",
        "::1%1",
        "::1%lo",
        "2001:db8::1%1",
        "::ffff:127.0.0.1%1",
        &long_label,
        &long_name,
    ];
    for host in hosts {
        let opened = cx.provider().open(host, 80, cx.options());
        cx.check_error(&format!("open of {host:?}"), opened, "InvalidAccessError")?;
    }
    Ok(())
}

async fn refused(cx: Cx) -> Outcome {
    for script in [Script::refuse(), Script::refuse().v6()] {
        let peer = cx.peer(script)?;
        let a = cx.opening(&peer)?;
        a.expect("error ConnectionRefusedError, close failed")
            .await?;
        a.is(ReadyState::Closed)?;
        a.buffers(0)?;
    }
    Ok(())
}

async fn times_out(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::silent())?;
    let options = cx.options().connect_timeout(SHORT);
    let began = cx.world().now();
    let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
    a.expect("error NetworkTimeoutError, close failed").await?;
    cx.check_that(
        "it took as long as it may",
        cx.world().now() >= began + SHORT,
    )
}

async fn proceeds_unpolled(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    peer.until("the peer has accepted", |it| it.connections == 1)
        .await?;
    a.is(ReadyState::Connecting)?;
    a.expect("open").await
}

async fn send_before_open(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    a.send_fails("InvalidStateError")?;
    a.buffers(0)?;
    a.is(ReadyState::Connecting)?;
    peer.until("the peer has accepted", |it| it.connections == 1)
        .await?;
    a.send_fails("InvalidStateError")?;
    a.expect("open").await?;
    a.sends(3, true)?;
    a.close();
    a.expect("close clean").await?;
    peer.gets(&a.sent(), End::Fin).await
}

async fn close_at_once(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.send_fails("InvalidStateError")?;
    a.expect("close clean").await
}

async fn close_before_the_news(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    peer.until("the peer has accepted", |it| it.connections == 1)
        .await?;
    cx.fence().await?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.expect("close clean").await?;

    let nobody = cx.peer(Script::refuse())?;
    let b = cx.opening(&nobody)?;
    cx.fence().await?;
    b.close();
    b.is(ReadyState::Closing)?;
    b.expect("close clean").await
}

async fn close_toward_silence(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::silent())?;
    let a = cx.opening(&peer)?;
    a.quiet().await?;
    a.close();
    a.is(ReadyState::Closing)?;
    a.expect("close clean").await
}

async fn abort_while_connecting(cx: Cx) -> Outcome {
    for script in [Script::silent(), reader()] {
        let peer = cx.peer(script)?;
        let a = cx.opening(&peer)?;
        a.abort(None);
        a.is(ReadyState::Closing)?;
        a.expect("close clean").await?;

        let b = cx.opening(&peer)?;
        b.abort(Some(told()));
        b.is(ReadyState::Closing)?;
        b.expect("error NotAllowedError, close failed").await?;
    }
    Ok(())
}

async fn connect_waits_for_open(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let connecting = cx
        .provider()
        .connect(peer.host(), peer.port(), cx.options());
    let socket = cx.within("connect", connecting).await??;
    cx.check("ready_state", socket.ready_state(), ReadyState::Open)?;
    drop(socket);

    let nobody = cx.peer(Script::refuse())?;
    let connecting = cx
        .provider()
        .connect(nobody.host(), nobody.port(), cx.options());
    let result = cx.within("connect", connecting).await?;
    cx.check_error("connect", result, "ConnectionRefusedError")
}

async fn connect_dropped(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::silent())?;
    cx.fence().await?;
    let before = Descriptors::now();
    {
        let connecting = cx
            .provider()
            .connect(peer.host(), peer.port(), cx.options());
        let mut connecting = pin!(connecting);
        let pending = poll_once(connecting.as_mut()).is_pending();
        cx.check_that("connect waits", pending)?;
    }
    // While nobody answers yet: later the attempt would end by itself.
    let left = || match (&before, Descriptors::now()) {
        (Some(before), Some(now)) => now.beyond(before).len(),
        _ => 0,
    };
    for _ in 0..100 {
        if left() == 0 {
            break;
        }
        cx.passes(SHORT / 12).await;
    }
    cx.check("descriptors that are left", left(), 0)
}

async fn upgrade_while_connecting(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let a = cx.opening(&peer)?;
    cx.check_error("upgrade", a.raw().upgrade_to_secure(), "InvalidStateError")?;
    cx.check("ssl", a.raw().ssl(), false)?;
    a.expect("open").await
}

async fn defaults(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let opened = cx
        .provider()
        .open(peer.host(), peer.port(), SocketOptions::new())?;
    cx.check("binary_type", opened.binary_type(), BinaryType::String)?;
    cx.check("ssl", opened.ssl(), false)?;
    let a = cx.socket(opened, false);
    a.expect("open").await?;
    cx.check("binary_type", a.raw().binary_type(), BinaryType::String)
}
