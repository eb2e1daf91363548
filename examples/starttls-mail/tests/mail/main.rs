//! Everything that the guide quotes, run against servers that speak TLS, and some that misbehave.

mod guide;
mod server;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use smol::Timer;
use smol::future::or;
use starttls_mail::{ask, ask_by_hand, protection};
use tcpsocket::{
    Error, ErrorName, Event, ReadyState, SocketOptions, SocketProvider, SocketProviderExt,
    StartTls, TcpSocket, TcpSocketExt,
};
use tcpsocket_smol::Smol;
use tcpsocket_tls::{Client, Trust};

use crate::server::{DEADLINE, Does, Identity, OTHER_NAME, RIGHT, Seen, serve};

/// A provider that believes the certificates in this PEM text, and nobody else's.
fn believing(pem: &[u8]) -> Result<Smol, Error> {
    let trust = Trust::nobody().and_pem(pem)?;
    Ok(Smol::new().with_tls(Client::new(trust)))
}

/// What `asked` comes to, or an error when it takes too long. Dropped in the middle, it leaves nothing open.
async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = async {
        Timer::after(limit).await;
        let message = format!("there was no answer in {limit:?}");
        Err(Error::new(ErrorName::NetworkTimeout, message))
    };
    or(asked, late).await
}

/// Runs a client, within the deadline, and waits until all it sent has left.
fn run<T>(
    net: &Smol,
    client: impl AsyncFnOnce(&dyn SocketProvider) -> Result<T, Error>,
) -> Result<T, Error> {
    smol::block_on(async {
        let outcome = within(DEADLINE, client(net)).await;
        let settled = async {
            net.idle().await;
            Ok(())
        };
        within(DEADLINE, settled).await.unwrap();
        outcome
    })
}

fn seen(thread: JoinHandle<Seen>) -> Seen {
    thread.join().unwrap()
}

fn in_clear(protocol: StartTls) -> &'static [&'static str] {
    match protocol {
        StartTls::Smtp => &["EHLO [127.0.0.1]", "STARTTLS"],
        StartTls::Imap => &["A1 CAPABILITY", "A2 STARTTLS"],
        _ => &["STLS"],
    }
}

#[test]
fn each_protocol_is_asked_under_tls() {
    for (protocol, answer, secure) in [
        (
            StartTls::Smtp,
            "250 AUTH PLAIN",
            ["EHLO client.example", "QUIT"],
        ),
        (
            StartTls::Imap,
            "* CAPABILITY IMAP4rev1 AUTH=PLAIN",
            ["A1 CAPABILITY", "A2 LOGOUT"],
        ),
        (StartTls::Pop3, "UIDL", ["CAPA", "QUIT"]),
    ] {
        let net = believing(&RIGHT.pem()).unwrap();
        let (port, served) = serve(protocol, &RIGHT, Does::Right);
        let lines = run(&net, async |net| {
            ask(net, "127.0.0.1", port, protocol).await
        })
        .unwrap();
        assert!(lines.iter().any(|it| it == answer), "{lines:?}");
        let seen = seen(served);
        assert_eq!(seen.clear, in_clear(protocol));
        assert_eq!(seen.secure, secure);
    }
}

#[test]
fn by_hand_it_is_the_same() {
    let net = believing(&RIGHT.pem()).unwrap();
    let (port, served) = serve(StartTls::Smtp, &RIGHT, Does::Right);
    let lines = run(&net, async |net| ask_by_hand(net, "127.0.0.1", port).await).unwrap();
    assert_eq!(
        lines,
        ["250-mail.example", "250-8BITMIME", "250 AUTH PLAIN"]
    );
    let seen = seen(served);
    assert_eq!(seen.clear, ["EHLO client.example", "STARTTLS"]);
    assert_eq!(seen.secure, ["EHLO client.example", "QUIT"]);
}

#[test]
fn security_and_events_tell_how_far_it_is() {
    let net = believing(&RIGHT.pem()).unwrap();
    let (port, served) = serve(StartTls::Pop3, &RIGHT, Does::Right);
    run(&net, async |net| {
        let socket = net.connect("127.0.0.1", port, SocketOptions::new()).await?;
        assert_eq!(
            (protection(&*socket).as_str(), socket.ssl()),
            ("nothing", false)
        );
        socket.starttls(StartTls::Pop3).await?;
        assert!(socket.ssl());
        assert_ne!(protection(&*socket), "nothing");
        socket.send_string("CAPA\r\n")?;
        let first = socket.next_event().await;
        assert!(matches!(first, Some(Event::Data(_))), "{first:?}");
        assert_eq!(protection(&*socket), "TLSv1.3 (1 certificates)");
        socket.send_string("QUIT\r\n")?;
        assert!(socket.closed().await?.clean, "the server said goodbye");
        Ok(())
    })
    .unwrap();
    assert_eq!(seen(served).secure, ["CAPA", "QUIT"]);
}

/// What goes wrong, with the name that the guide gives it. Nothing is said under TLS then, and nothing more in the clear.
#[test]
fn what_goes_wrong_has_a_name() {
    let early = "* BYE\r\n250 welcome\r\n";
    let table: &[(&Identity, Does, ErrorName)] = &[
        (&RIGHT, Does::NoTls, ErrorName::Security),
        (&RIGHT, Does::SaysEarly(early), ErrorName::Security),
        (
            &RIGHT,
            Does::SaysInsteadOfTls("250 welcome\r\n"),
            ErrorName::Security,
        ),
        (
            &RIGHT,
            Does::LeavesInsteadOfTls,
            ErrorName::NetworkInterrupt,
        ),
        (&RIGHT, Does::LeavesInTheMiddle, ErrorName::NetworkInterrupt),
        (
            &OTHER_NAME,
            Does::Right,
            ErrorName::SecurityCertificateDomainMismatch,
        ),
    ];
    for (identity, does, name) in table {
        for protocol in StartTls::ALL {
            let net = believing(&identity.pem()).unwrap();
            let (port, served) = serve(*protocol, identity, *does);
            let error = run(&net, async |net| {
                ask(net, "127.0.0.1", port, *protocol).await
            });
            let error = error.unwrap_err();
            assert_eq!(error.name(), *name, "{protocol} {does:?}: {error}");
            let seen = seen(served);
            let expected = in_clear(*protocol);
            assert!(
                expected.starts_with(&seen.clear.iter().map(String::as_str).collect::<Vec<_>>())
            );
            assert_eq!(seen.secure.is_empty(), *does != Does::LeavesInTheMiddle);
        }
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let net = believing(&OTHER_NAME.pem()).unwrap();
    for by_hand in [false, true] {
        let (port, served) = serve(StartTls::Smtp, &RIGHT, Does::Right);
        let error = run(&net, async |net| match by_hand {
            false => ask(net, "127.0.0.1", port, StartTls::Smtp).await,
            true => ask_by_hand(net, "127.0.0.1", port).await,
        });
        let error = error.unwrap_err();
        assert_eq!(
            error.name(),
            ErrorName::SecurityUntrustedCertificateIssuer,
            "{error}"
        );
        assert_eq!(seen(served).secure, [""; 0]);
    }
}

#[test]
fn by_hand_early_bytes_and_refusals_are_caught_too() {
    let net = believing(&RIGHT.pem()).unwrap();
    for does in [
        Does::NoTls,
        Does::SaysEarly("250-mail.example\r\n250 AUTH PLAIN\r\n"),
        Does::SaysInsteadOfTls("250 AUTH PLAIN\r\n"),
    ] {
        let (port, served) = serve(StartTls::Smtp, &RIGHT, does);
        let error = run(&net, async |net| ask_by_hand(net, "127.0.0.1", port).await);
        let error = error.unwrap_err();
        assert!(error.name().is_security(), "{does:?}: {error}");
        assert_eq!(seen(served).secure, [""; 0]);
    }
}

/// The caller keeps the socket, and cannot go on with it.
#[test]
fn after_a_refusal_the_socket_is_closed() {
    let net = believing(&RIGHT.pem()).unwrap();
    let (port, served) = serve(StartTls::Imap, &RIGHT, Does::NoTls);
    run(&net, async |net| {
        let socket = net.connect("127.0.0.1", port, SocketOptions::new()).await?;
        let error = socket.starttls(StartTls::Imap).await.unwrap_err();
        let refused = socket.send_string("A2 LOGIN user secret\r\n").unwrap_err();
        assert_eq!(refused.name(), ErrorName::InvalidState);
        let ended = socket.closed().await.unwrap_err();
        assert_eq!(
            (ended.name(), ended.message()),
            (error.name(), error.message())
        );
        assert_eq!(socket.ready_state(), ReadyState::Closed);
        Ok(())
    })
    .unwrap();
    assert_eq!(seen(served).clear, ["A1 CAPABILITY"]);
}

#[test]
fn giving_up_in_the_middle_closes_the_socket() {
    let net = believing(&RIGHT.pem()).unwrap();
    // A server that says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket: Arc<dyn TcpSocket> = run(&net, async |net| {
        let socket = net.connect("127.0.0.1", port, SocketOptions::new()).await?;
        let limit = Duration::from_millis(20);
        let error = within(limit, socket.starttls(StartTls::Smtp))
            .await
            .unwrap_err();
        assert_eq!(error.name(), ErrorName::NetworkTimeout);
        assert!(socket.send_string("EHLO client.example\r\n").is_err());
        assert!(socket.closed().await?.clean);
        // The server leaves too, and nothing of the socket lingers.
        drop(listener);
        Ok(socket)
    })
    .unwrap();
    assert_eq!(socket.ready_state(), ReadyState::Closed);
}

#[test]
fn a_server_that_is_not_there_is_no_matter_of_tls() {
    let net = believing(&RIGHT.pem()).unwrap();
    // Bound and dropped: a port where nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = run(&net, async |net| {
        ask(net, "127.0.0.1", port, StartTls::Smtp).await
    });
    assert_eq!(error.unwrap_err().name(), ErrorName::ConnectionRefused);
}
