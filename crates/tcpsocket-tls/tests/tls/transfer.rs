//! Plaintext both ways, and what counts as written.

use std::io::IoSlice;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::{SupportedCipherSuite, Tls12CipherSuite};
use tcpsocket::{Error, ErrorName};
use tcpsocket_tls::{Client, Incoming, MAX_DATA, MAX_WRITE, rustls};

use crate::support::*;

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

#[test]
fn out_through_a_connection_that_takes_a_byte_at_a_time() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        let plain = pattern(3 * 65_536 + 7);
        let (mut accepted, mut flushed) = (0, 0);
        let mut connection = Narrow::new(1);
        while flushed < plain.len() {
            let taken = session
                .write_plaintext(&[IoSlice::new(&plain[accepted..])])
                .unwrap();
            assert!(taken <= MAX_WRITE);
            assert!(taken == 0 || session.wants_write());
            accepted += taken;
            while session.wants_write() {
                // Nothing counts and nothing more is taken before the last byte of ciphertext is written.
                assert_eq!(session.take_flushed(), 0);
                let more = [IoSlice::new(&plain[accepted..])];
                assert_eq!(session.write_plaintext(&more).unwrap(), 0);
                let _ = session.write_tls(&mut connection);
            }
            assert_eq!(session.take_flushed(), taken);
            assert_eq!(session.take_flushed(), 0);
            flushed += taken;
            assert_eq!(flushed, accepted);
            server.takes(&std::mem::take(&mut connection.taken));
        }
        assert!(server.received == plain);
    }
}

#[test]
fn in_through_a_connection_that_gives_a_byte_at_a_time() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        let plain = pattern(65_536 + 7);
        let mut got = Vec::new();
        for part in plain.chunks(20_000) {
            server.says(part);
            for byte in server.gives() {
                session.read_tls(&[byte]);
                let (more, then) = drain(&mut session);
                got.extend(more);
                assert!(matches!(then, Incoming::Dry));
            }
        }
        assert!(got == plain);
    }
}

#[test]
fn in_by_large_reads() {
    let (mut session, mut server) = secured(TLS13);
    let plain = pattern(1 << 20);
    let mut wire = Vec::new();
    for part in plain.chunks(16_384) {
        server.says(part);
        wire.extend(server.gives());
    }
    // Far more than one event holds, with nothing taken in between.
    session.read_tls(&wire);
    let Incoming::Data(first) = session.next_incoming() else {
        panic!()
    };
    assert_eq!(first.len(), MAX_DATA);
    assert!(first == plain[..MAX_DATA]);
    let (rest, then) = drain(&mut session);
    assert!(rest == plain[MAX_DATA..]);
    assert!(matches!(then, Incoming::Dry));
}

#[test]
fn both_ways_at_once() {
    let (mut session, mut server) = secured(TLS13);
    let plain = pattern(100_000);
    let (mut sent, mut got) = (0, Vec::new());
    for part in plain.chunks(1_000) {
        server.says(part);
        while sent < plain.len() {
            let taken = session
                .write_plaintext(&[IoSlice::new(&plain[sent..plain.len().min(sent + 777)])])
                .unwrap();
            if taken == 0 {
                break;
            }
            sent += taken;
        }
        settle(&mut session, &mut server);
        got.extend(drain(&mut session).0);
    }
    send(&mut session, &mut server, &plain[sent..]);
    assert!(got == plain && server.received == plain);
}

#[test]
fn nothing_is_taken_before_the_handshake_is_done() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = pair(versions);
        while session.is_handshaking() {
            server.takes(&written(&mut session));
            assert!(!session.wants_write());
            let early = [IoSlice::new(b"early")];
            assert_eq!(session.write_plaintext(&early).unwrap(), 0);
            session.read_tls(&server.gives());
        }
        settle(&mut session, &mut server);
        assert_eq!(server.received, b"");
        assert_eq!(session.take_flushed(), 0);
    }
}

#[test]
fn slices_are_gathered_into_one_record() {
    let (mut session, mut server) = secured(TLS13);
    let parts: Vec<Vec<u8>> = (0..100).map(|at| vec![at as u8; at % 7]).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|it| IoSlice::new(it)).collect();
    let taken = session.write_plaintext(&slices).unwrap();
    let wire = written(&mut session);
    let in_record = usize::from(u16::from_be_bytes([wire[3], wire[4]]));
    assert_eq!(wire.len(), 5 + in_record, "one record");
    assert_eq!(session.take_flushed(), taken);
    server.takes(&wire);
    let all: Vec<u8> = parts.concat();
    assert!(taken > 150 && server.received == all[..taken]);

    // A slice that crosses the limit is cut.
    let large = pattern(MAX_WRITE);
    let slices = [IoSlice::new(&large[..10]), IoSlice::new(&large)];
    assert_eq!(session.write_plaintext(&slices).unwrap(), MAX_WRITE);
    server.received.clear();
    settle(&mut session, &mut server);
    assert!(server.received == [&large[..10], &large[..MAX_WRITE - 10]].concat());

    // Of nothing, nothing is made.
    assert_eq!(session.write_plaintext(&[]).unwrap(), 0);
    assert_eq!(session.write_plaintext(&[IoSlice::new(b"")]).unwrap(), 0);
    assert!(!session.wants_write());
}

#[test]
fn small_data_does_not_keep_a_large_buffer() {
    let (mut session, mut server) = secured(TLS13);
    let mut wire = Vec::new();
    for _ in 0..50 {
        server.says(b"x");
        wire.extend(server.gives());
    }
    session.read_tls(&wire);
    let Incoming::Data(data) = session.next_incoming() else {
        panic!()
    };
    assert_eq!(data, [b'x'; 50].as_slice());
    let data = data.try_into_mut().unwrap();
    assert_eq!(data.capacity(), 50);
}

#[test]
fn a_change_of_keys_is_no_data() {
    let (mut session, mut server) = secured(TLS13);
    server.conn.refresh_traffic_keys().unwrap();
    let change = server.gives();
    assert!(!change.is_empty());
    session.read_tls(&change);
    assert!(!session.has_incoming());
    send(&mut session, &mut server, b"under new keys");
    server.says(b"under new keys");
    settle(&mut session, &mut server);
    assert_eq!(server.received, b"under new keys");
    assert_eq!(drain(&mut session).0, b"under new keys");
}

#[test]
fn data_comes_before_the_failure_behind_it() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = secured(versions);
        server.says(b"last words");
        let mut wire = server.gives();
        server.says(b"forged");
        let mut forged = server.gives();
        *forged.last_mut().unwrap() ^= 1;
        wire.extend(forged);
        session.read_tls(&wire);
        // Writing knows already; reading does not yet.
        let error = session.write_plaintext(&[IoSlice::new(b"no")]).unwrap_err();
        assert_eq!(error.name(), ErrorName::Security);
        let (plain, then) = drain(&mut session);
        assert_eq!(plain, b"last words");
        assert!(matches!(then, Incoming::Failed(_)));
        server.takes(&written(&mut session));
        assert_eq!(
            server.failed,
            Some(rustls::Error::AlertReceived(
                rustls::AlertDescription::BadRecordMac
            ))
        );
        assert_eq!(server.received, b"");
    }
}

#[test]
fn a_connection_of_tls12_ends_before_its_keys_are_used_up() {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let SupportedCipherSuite::Tls12(suite) =
        ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    else {
        panic!()
    };
    let short: &'static Tls12CipherSuite = Box::leak(Box::new(Tls12CipherSuite {
        common: rustls::crypto::CipherSuiteCommon {
            suite: suite.common.suite,
            hash_provider: suite.common.hash_provider,
            confidentiality_limit: 8,
        },
        prf_provider: suite.prf_provider,
        kx: suite.kx,
        sign: suite.sign,
        aead_alg: suite.aead_alg,
    }));
    let provider = CryptoProvider {
        cipher_suites: vec![SupportedCipherSuite::Tls12(short)],
        ..ring::default_provider()
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(TLS12)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut session = session(&Client::with_config(Arc::new(config)));
    let mut server = Server::new(server_config(&identity, TLS12));
    settle(&mut session, &mut server);
    let mut counted = 0;
    let mut write = || -> Result<usize, Error> {
        let taken = session.write_plaintext(&[IoSlice::new(b"ab")])?;
        settle(&mut session, &mut server);
        counted += session.take_flushed();
        Ok(taken)
    };
    let error = (0..10).find_map(|_| write().err()).unwrap();
    assert_eq!(error.name(), ErrorName::Security);
    assert!(matches!(session.next_incoming(), Incoming::Failed(_)));
    settle(&mut session, &mut server);
    assert_eq!(session.take_flushed(), 0);
    // Exactly what counts as written has arrived, and the end was announced.
    assert!(counted > 0 && server.received.len() == counted);
    assert!(server.was_told_goodbye());
    assert_eq!(
        session
            .write_plaintext(&[IoSlice::new(b"ab")])
            .unwrap_err()
            .name(),
        ErrorName::Security
    );
}
