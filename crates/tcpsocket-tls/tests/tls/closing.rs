//! How it ends: `close_notify`, without it, and what comes after.

use std::io::IoSlice;

use tcpsocket_tls::Incoming;

use crate::support::*;

#[test]
fn close_notify_of_the_peer_is_a_clean_end() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        server.says(b"bye");
        server.conn.send_close_notify();
        let mut wire = server.gives();
        wire.extend(b"whatever comes behind it does not count");
        assert!(!session.peer_closed());
        session.read_tls(&wire);
        assert!(session.peer_closed());
        let (plain, then) = drain(&mut session);
        assert_eq!(plain, b"bye");
        assert!(matches!(then, Incoming::Ended { clean: true }));
        session.read_eof();
        let (_, then) = drain(&mut session);
        assert!(matches!(then, Incoming::Ended { clean: true }));
    }
}

#[test]
fn output_goes_on_after_the_peer_has_ended_its_own() {
    let (mut session, mut server) = secured(TLS13);
    server.conn.send_close_notify();
    session.read_tls(&server.gives());
    send(&mut session, &mut server, b"what was queued");
    assert_eq!(session.take_flushed(), 15);
    assert_eq!(server.received, b"what was queued");
    session.close_notify();
    settle(&mut session, &mut server);
    assert!(server.was_told_goodbye());
}

#[test]
fn an_end_without_close_notify_is_not_clean() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        server.says(b"all of this");
        session.read_tls(&server.gives());
        session.read_eof();
        let (plain, then) = drain(&mut session);
        assert_eq!(plain, b"all of this");
        assert!(matches!(then, Incoming::Ended { clean: false }));
        assert!(!session.peer_closed());
    }
}

#[test]
fn an_end_in_the_middle_of_a_record_is_not_clean() {
    let (mut session, mut server) = secured(TLS13);
    server.says(b"whole");
    let mut wire = server.gives();
    server.says(b"cut off");
    let cut = server.gives();
    wire.extend(&cut[..cut.len() - 1]);
    session.read_tls(&wire);
    session.read_eof();
    let (plain, then) = drain(&mut session);
    assert_eq!(plain, b"whole");
    assert!(matches!(then, Incoming::Ended { clean: false }));
}

#[test]
fn our_close_notify_goes_behind_what_was_written() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        let more = [IoSlice::new(b"the rest")];
        assert_eq!(session.write_plaintext(&more).unwrap(), 8);
        session.close_notify();
        session.close_notify();
        assert_eq!(session.write_plaintext(&more).unwrap(), 0);
        server.takes(&written(&mut session));
        assert_eq!(session.take_flushed(), 8);
        assert_eq!(server.received, b"the rest");
        assert!(server.was_told_goodbye());
        assert!(server.failed.is_none());
        // Only one was sent, and nothing comes after it.
        session.close_notify();
        assert_eq!(session.write_plaintext(&more).unwrap(), 0);
        assert!(!session.wants_write());
    }
}

#[test]
fn after_our_close_notify_input_is_not_looked_at() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        server.says(b"before");
        session.read_tls(&server.gives());
        session.close_notify();
        server.says(b"after");
        session.read_tls(&server.gives());
        session.read_tls(&[0xff; 1000]);
        let (plain, then) = drain(&mut session);
        assert_eq!(plain, b"before");
        assert!(matches!(then, Incoming::Dry));
        session.read_eof();
        let (_, then) = drain(&mut session);
        assert!(matches!(then, Incoming::Ended { clean: true }));
        assert!(!session.peer_closed());
    }
}

#[test]
fn close_notify_during_the_handshake_is_a_network_interrupt() {
    // In clear, where it cannot be told from a forgery: it is the end of the connection that counts.
    let (mut session, _) = pair(BOTH);
    session.read_tls(&[21, 3, 3, 0, 2, 1, 0]);
    assert!(!session.has_incoming());
    session.read_eof();
    assert_eq!(failure_name(&mut session), "NetworkInterruptError");

    // After the ServerHello of TLS 1.3.
    let (mut session, mut server) = pair(TLS13);
    server.takes(&written(&mut session));
    let flight = server.gives();
    let hello = 5 + usize::from(u16::from_be_bytes([flight[3], flight[4]]));
    session.read_tls(&flight[..hello]);
    session.read_tls(&[21, 3, 3, 0, 2, 1, 0]);
    assert_eq!(failure_name(&mut session), "NetworkInterruptError");
}

#[test]
fn our_close_notify_during_the_handshake() {
    let (mut session, mut server) = pair(BOTH);
    session.close_notify();
    server.takes(&written(&mut session));
    session.read_tls(&server.gives());
    session.read_eof();
    assert!(matches!(
        session.next_incoming(),
        Incoming::Ended { clean: true }
    ));
}
