//! A handshake that is cut at every byte: by the end of the connection, and by garbage.

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use tcpsocket::ErrorName;
use tcpsocket_tls::{Incoming, Session, rustls};

use crate::support::*;

/// Cuts what the server says after 0, 1, 2, ... bytes, and hands the session over; until there is nothing more to cut.
fn cuts(versions: &[&'static SupportedProtocolVersion], mut check: impl FnMut(usize, Session)) {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut config = server_config(&identity, versions);
    config.send_tls13_tickets = 0;
    let config = Arc::new(config);
    for cut in 0.. {
        // Each time anew, or the second would be resumed.
        let mut session = session(&believer(&authority));
        let mut server = Server::new(config.clone());
        let mut left = cut;
        loop {
            server.takes(&written(&mut session));
            let mut flight = server.gives();
            if flight.is_empty() {
                break;
            }
            flight.truncate(left);
            left -= flight.len();
            session.read_tls(&flight);
            if left == 0 {
                break;
            }
        }
        if !session.is_handshaking() {
            assert!(cut > 500, "the whole handshake takes more than {cut} bytes");
            return;
        }
        check(cut, session);
    }
}

#[test]
fn the_end_of_the_connection_is_a_network_interrupt() {
    for versions in [TLS12, TLS13] {
        cuts(versions, |cut, mut session| {
            assert!(!session.has_incoming(), "{cut}");
            session.read_eof();
            let Incoming::Failed(error) = session.next_incoming() else {
                panic!("{cut}: no failure");
            };
            assert_eq!(error.name(), ErrorName::NetworkInterrupt, "{cut}");
            assert!(error.message().contains(HOST), "{error}");
            assert!(session.is_handshaking() && session.secure().is_none());
        });
    }
}

#[test]
fn garbage_is_a_failure_of_tls() {
    let kinds: [Box<dyn Fn(usize) -> u8>; 3] = [
        Box::new(|_| 0xff),
        Box::new(|_| 0),
        // Of no pattern, but the same every time.
        Box::new(|at| ((at as u32).wrapping_mul(2_654_435_761) >> 13) as u8),
    ];
    let kinds = kinds.map(|it| (0..40_000).map(it).collect::<Vec<u8>>());
    for versions in [TLS12, TLS13] {
        let mut round = 0;
        cuts(versions, |cut, mut session| {
            session.read_tls(&kinds[round % kinds.len()]);
            round += 1;
            let Incoming::Failed(error) = session.next_incoming() else {
                panic!("{cut}: no failure");
            };
            assert!(error.name().is_security(), "{cut}: {error}");
            // What comes later changes nothing any more.
            session.read_tls(&kinds[0]);
            session.read_eof();
            session.close_notify();
            let again = failure(&mut session);
            assert_eq!(again.message(), error.message(), "{cut}");
            written(&mut session);
        });
    }
}

#[test]
fn plaintext_in_front_of_the_handshake_is_a_failure_of_tls() {
    let banners: [&[u8]; 6] = [
        b"220 ready\r\n",
        b"* OK\r\n",
        b"\r\n\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"a1 OK begin TLS negotiation now\r\na2 OK injected\r\n",
    ];
    for banner in banners {
        let (mut session, mut server) = pair(BOTH);
        server.takes(&written(&mut session));
        let mut bytes = banner.to_vec();
        bytes.extend(server.gives());
        session.read_tls(&bytes);
        let error = failure(&mut session);
        assert_eq!(error.name(), ErrorName::Security, "{banner:?}");
        assert!(error.message().contains("STARTTLS"), "{error}");
        // The server is told, by a decode_error.
        server.takes(&written(&mut session));
        assert!(matches!(
            server.failed,
            Some(rustls::Error::AlertReceived(
                rustls::AlertDescription::DecodeError
            ))
        ));
    }
}
