//! Peers that do not shake hands as they should, or break the stream afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tcpsocket::{Host, Resolver, async_trait};

use super::prelude::*;

const NAMED: &[Capability] = &[
    Capability::Secure,
    Capability::ConnectTimeout,
    Capability::Names,
    Capability::Resolver,
];
const TIMEOUT: &[Capability] = &[Capability::Secure, Capability::ConnectTimeout];

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "tls/end-in-the-handshake",
        clauses: &["TLS-15", "ERR-2", "TLS-14"],
        needs: SECURE,
        requirement: "An end during the handshake, with a close_notify or without, is NetworkInterruptError.",
        run: |cx| Box::pin(end_in_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/reset-in-the-handshake",
        clauses: &["ERR-2", "ERR-8"],
        needs: SECURE,
        requirement: "A reset during the handshake is a network failure, and there is no Open.",
        run: |cx| Box::pin(reset_in_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/not-tls",
        clauses: &["ERR-5", "ERR-6", "ERR-8", "TLS-13"],
        needs: SECURE,
        requirement: "A peer that does not speak TLS is SecurityError.",
        run: |cx| Box::pin(not_tls(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/alerts",
        clauses: &["ERR-5", "ERR-6", "TLS-26"],
        needs: SECURE,
        requirement: "A fatal alert without a name of its own is SecurityError.",
        run: |cx| Box::pin(alerts(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/old-versions",
        clauses: &["TLS-16", "ERR-5", "ERR-7"],
        needs: SECURE,
        requirement: "A server of an older version, known by its alert or its answer, is SecurityUnsupportedTLSVersionError.",
        run: |cx| Box::pin(old_versions(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/forged-record",
        clauses: &["TLS-21", "ERR-5"],
        needs: SECURE,
        requirement: "Data before a broken record is returned, then SecurityError.",
        run: |cx| Box::pin(forged_record(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/stalls-in-the-handshake",
        clauses: &["OPT-3"],
        needs: TIMEOUT,
        requirement: "connect_timeout bounds the handshake of an open, wherever it stalls.",
        run: |cx| Box::pin(stalls_in_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/stalls-after-a-refused-address",
        clauses: &["OPT-3"],
        needs: NAMED,
        requirement: "connect_timeout bounds the handshake even after a refused first address.",
        run: |cx| Box::pin(stalls_after_a_refused_address(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/given-up-in-the-handshake",
        clauses: &["CL-3", "TLS-14", "ROW-5"],
        needs: SECURE,
        requirement: "close and abort(None) during the handshake of an open give it up: a clean Close is the only event.",
        run: |cx| Box::pin(given_up_in_the_handshake(cx)),
        ..Case::MUST
    },
    Case {
        id: "tls/dropped-in-the-handshake",
        clauses: &["ACT-5", "ACT-6", "LIFE-8"],
        needs: SECURE,
        requirement: "A socket dropped during the handshake of an open leaves nothing behind.",
        run: |cx| Box::pin(dropped_in_the_handshake(cx)),
        ..Case::MUST
    },
];

async fn end_in_the_handshake(cx: Cx) -> Outcome {
    let goodbye = Bytes::from_static(&[21, 3, 3, 0, 2, 1, 0]);
    let scripts = [
        vec![Accept, Fin, ReadToEnd],
        vec![Accept, Read(50), Fin, ReadToEnd],
        vec![Accept, Read(50), Write(goodbye), Fin, ReadToEnd],
        vec![Accept, Tls(server().cut(200, CutBy::Fin))],
        vec![
            Accept,
            Tls(server().only(TlsVersion::V1_2).cut(200, CutBy::Fin)),
        ],
    ];
    for script in scripts {
        let peer = cx.peer(Script::listen(script))?;
        let a = opening(&cx, &peer)?;
        a.expect("error NetworkInterruptError, close failed")
            .await?;
        protected(&cx, &a, "handshaking")?;
        peer.done().await?;
    }
    Ok(())
}

async fn reset_in_the_handshake(cx: Cx) -> Outcome {
    for script in [
        vec![Accept, Read(50), Reset],
        vec![Accept, Tls(server().cut(200, CutBy::Reset))],
    ] {
        let peer = cx.peer(Script::listen(script))?;
        let a = opening(&cx, &peer)?;
        a.expect("error NetworkError, close failed").await?;
        protected(&cx, &a, "handshaking")?;
    }
    Ok(())
}

async fn not_tls(cx: Cx) -> Outcome {
    for words in [
        &b"220 mail.example.org ESMTP\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        &[0; 100],
        &[22, 3, 3, 0, 4, 99, 0, 0, 0],
    ] {
        for reads in [0, 50] {
            let words = Bytes::copy_from_slice(words);
            let peer = cx.peer(Script::listen([Accept, Read(reads), Write(words)]))?;
            let a = opening(&cx, &peer)?;
            a.expect("error SecurityError, close failed").await?;
        }
    }
    Ok(())
}

async fn alerts(cx: Cx) -> Outcome {
    // handshake_failure, illegal_parameter, internal_error, unrecognized_name, no_application_protocol, and one of nobody's
    for number in [40, 47, 80, 112, 120, 255] {
        let alert = Bytes::from(vec![21, 3, 3, 0, 2, 2, number]);
        let peer = cx.peer(Script::listen([Accept, Read(50), Write(alert)]))?;
        let a = opening(&cx, &peer)?;
        a.expect("error SecurityError, close failed").await?;
    }
    Ok(())
}

/// A ServerHello of an old version, with a suite of TLS 1.0 and without extensions.
fn server_hello(minor: u8) -> Bytes {
    let mut wire = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, minor];
    wire.extend([7; 32]);
    wire.extend([0, 0xc0, 0x09, 0]);
    wire.into()
}

async fn old_versions(cx: Cx) -> Outcome {
    let alert = Bytes::from_static(&[21, 3, 1, 0, 2, 2, 70]);
    for answer in [alert, server_hello(0), server_hello(1), server_hello(2)] {
        let peer = cx.peer(Script::listen([Accept, Read(50), Write(answer)]))?;
        let a = opening(&cx, &peer)?;
        a.expect("error SecurityUnsupportedTLSVersionError, close failed")
            .await?;
    }
    Ok(())
}

async fn forged_record(cx: Cx) -> Outcome {
    let forged = Bytes::from([&[23, 3, 3, 0, 32][..], &[7; 32]].concat());
    for version in TlsVersion::ALL {
        for broken in [forged.clone(), Bytes::from_static(b"in clear\r\n")] {
            let peer = cx.peer(Script::listen([
                Accept,
                Tls(server().only(version)),
                Write(cx.bytes(100)),
                WriteBelow(broken),
            ]))?;
            let a = open(&cx, &peer).await?;
            a.expect("data 100, error SecurityError, close failed")
                .await?;
            protected(&cx, &a, "secure")?;
        }
    }
    Ok(())
}

async fn stalls_in_the_handshake(cx: Cx) -> Outcome {
    for script in [
        vec![Accept],
        vec![Accept, Read(50), Write(Bytes::from_static(&[22, 3, 3]))],
        vec![Accept, Tls(server().cut(200, CutBy::Silence))],
    ] {
        let peer = cx.peer(Script::listen(script))?;
        let options = secure(&cx).connect_timeout(SHORT);
        let began = cx.world().now();
        let a = cx.open_with(cx.request(&peer)?.with_options(options))?;
        a.expect("error NetworkTimeoutError, close failed").await?;
        let took = cx.world().now() - began;
        cx.check_that("it took as long as it may", took >= SHORT)?;
        protected(&cx, &a, "handshaking")?;
    }
    Ok(())
}

/// Every name has two addresses, and nobody listens at the first.
#[derive(Debug)]
struct Two;

#[async_trait]
impl Resolver for Two {
    async fn lookup(&self, _name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let both: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        Ok(both.map(|ip| SocketAddr::new(ip, port)).to_vec())
    }
}

async fn stalls_after_a_refused_address(cx: Cx) -> Outcome {
    // Whether the refusal is news before the connection is up, or after, is chance.
    for _ in 0..4 {
        let peer = cx.peer(Script::listen([Accept]))?;
        let request = OpenRequest::new("peer.example", peer.port())?
            .with_options(secure(&cx).connect_timeout(SHORT))
            .with_resolver(Arc::new(Two));
        let a = cx.open_with(request)?;
        a.expect("error NetworkTimeoutError, close failed").await?;
        protected(&cx, &a, "handshaking")?;
    }
    Ok(())
}

async fn given_up_in_the_handshake(cx: Cx) -> Outcome {
    for (closes, begun) in [(true, "begun"), (false, "begun again")] {
        let peer = cx.peer(Script::listen([Accept, Read(50), Signal(begun), ReadToEnd]))?;
        let a = opening(&cx, &peer)?;
        cx.signalled(begun).await?;
        match closes {
            true => a.close(),
            false => a.abort(None),
        }
        a.is(ReadyState::Closing)?;
        a.expect("close clean").await?;
        protected(&cx, &a, "handshaking")?;
        peer.until("it is left alone", |it| it.end.is_some())
            .await?;
    }
    Ok(())
}

async fn dropped_in_the_handshake(cx: Cx) -> Outcome {
    let peer = cx.peer(Script::listen([
        Accept,
        Read(50),
        Signal("begun"),
        ReadToEnd,
    ]))?;
    let a = opening(&cx, &peer)?;
    cx.signalled("begun").await?;
    drop(a);
    peer.until("it is left alone", |it| it.end.is_some())
        .await?;
    cx.within("idle", cx.provider().idle()).await
}
