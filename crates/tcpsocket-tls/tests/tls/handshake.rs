//! Handshakes that succeed, and what they agree on.

use std::io::IoSlice;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme};
use tcpsocket::{ErrorName, Host};
use tcpsocket_tls::{Client, Incoming, rustls};

use crate::support::*;

#[test]
fn both_versions() {
    for (versions, text) in [(TLS12, "TLSv1.2"), (TLS13, "TLSv1.3"), (BOTH, "TLSv1.3")] {
        let authority = authority();
        let identity = Identity::issued(&authority, &params(&[HOST]));
        let mut session = session(&believer(&authority));
        let mut server = Server::new(server_config(&identity, versions));
        assert!(session.is_handshaking() && session.wants_write() && session.secure().is_none());

        settle(&mut session, &mut server);
        assert!(!session.is_handshaking());
        let secure = session.secure().unwrap();
        assert_eq!(secure.version, text);
        assert_eq!(secure.alpn, None);
        assert_eq!(secure.peer_chain.len(), 1);
        assert_eq!(secure.peer_chain[0], identity.chain[0].as_ref());

        send(&mut session, &mut server, b"hello");
        server.says(b"hello yourself");
        settle(&mut session, &mut server);
        assert_eq!(server.received, b"hello");
        let (plain, then) = drain(&mut session);
        assert_eq!(plain, b"hello yourself");
        assert!(matches!(then, Incoming::Dry));
    }
}

#[test]
fn byte_by_byte() {
    for versions in [TLS12, TLS13] {
        let (mut session, mut server) = pair(versions);
        while session.is_handshaking() || server.conn.is_handshaking() {
            let mut connection = Narrow::new(1);
            while session.wants_write() {
                // Half of the calls are answered by WouldBlock, and lose nothing.
                let _ = session.write_tls(&mut connection);
            }
            connection.taken.iter().for_each(|it| server.takes(&[*it]));
            for byte in server.gives() {
                assert!(!session.has_incoming());
                session.read_tls(&[byte]);
            }
        }
        send(&mut session, &mut server, b"hello");
        assert_eq!(server.received, b"hello");
    }
}

/// The protocol that was agreed, or the name of the failure.
fn alpn(ours: &[&str], theirs: &[&str]) -> Result<Option<String>, String> {
    let list = |it: &[&str]| -> Vec<Vec<u8>> { it.iter().map(|it| it.as_bytes().into()).collect() };
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut config = server_config(&identity, BOTH);
    config.alpn_protocols = list(theirs);
    let host = Host::parse(HOST).unwrap();
    let mut session = believer(&authority).session(&host, &list(ours)).unwrap();
    settle(&mut session, &mut Server::new(config));
    match session.secure() {
        Some(secure) => Ok(secure
            .alpn
            .map(|it| String::from_utf8(it.to_vec()).unwrap())),
        None => {
            let error = failure(&mut session);
            assert!(error.message().contains("ALPN"), "{error}");
            Err(error.name().as_str().to_owned())
        }
    }
}

#[test]
fn alpn_is_agreed_or_not_used_or_refused() {
    let agreed = |it: &str| Ok(Some(it.to_owned()));
    assert_eq!(alpn(&["imap"], &["pop3", "imap"]), agreed("imap"));
    assert_eq!(alpn(&["h2", "http/1.1"], &["http/1.1"]), agreed("http/1.1"));
    assert_eq!(alpn(&[], &["imap"]), Ok(None));
    assert_eq!(alpn(&["imap"], &[]), Ok(None));
    assert_eq!(alpn(&["imap"], &["pop3"]), Err("SecurityError".into()));
}

#[test]
fn a_given_configuration_may_bring_its_own_alpn() {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut config = believing_config(&authority);
    config.alpn_protocols = vec![b"imap".to_vec()];
    let client = Client::with_config(Arc::new(config));
    let host = Host::parse(HOST).unwrap();
    for (ours, expected) in [(vec![], "imap"), (vec![b"pop3".to_vec()], "pop3")] {
        let mut theirs = server_config(&identity, BOTH);
        theirs.alpn_protocols = vec![b"pop3".to_vec(), b"imap".to_vec()];
        let mut session = client.session(&host, &ours).unwrap();
        settle(&mut session, &mut Server::new(theirs));
        assert_eq!(session.secure().unwrap().alpn.unwrap(), expected);
    }
}

#[test]
fn alpn_names_that_cannot_be_sent_are_refused_at_once() {
    let host = Host::parse(HOST).unwrap();
    let refused: [Vec<Vec<u8>>; 3] = [
        vec![Vec::new()],
        vec![b"imap".to_vec(), vec![b'a'; 256]],
        vec![vec![b'a'; 255]; 256],
    ];
    for names in refused {
        let error = Client::check(&host, &names).unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidAccess);
        let error = Client::default().session(&host, &names).unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidAccess);
    }
    let most = vec![vec![b'a'; 255]; 255];
    Client::check(&host, &most).unwrap();
    // It does not fit a record, and goes out in several.
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut session = believer(&authority).session(&host, &most[..64]).unwrap();
    settle(
        &mut session,
        &mut Server::new(server_config(&identity, BOTH)),
    );
    assert!(!session.is_handshaking());
}

#[test]
fn hosts_that_no_certificate_can_be_for_are_refused_at_once() {
    for given in ["-imap.example.org", "imap-.example.org"] {
        let error = Client::check(&Host::parse(given).unwrap(), &[]).unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidAccess, "{given}");
    }
    for given in ["_imap.example.org", "xn--bcher-kva.de", "localhost", "::1"] {
        Client::check(&Host::parse(given).unwrap(), &[]).unwrap();
    }
}

#[test]
fn a_second_session_of_one_client_is_resumed() {
    for versions in [TLS12, TLS13] {
        let authority = authority();
        let identity = Identity::issued(&authority, &params(&[HOST]));
        let config = Arc::new(server_config(&identity, versions));
        let client = believer(&authority);
        let kinds = [client.clone(), client, believer(&authority)].map(|client| {
            let mut session = session(&client);
            let mut server = Server::new(config.clone());
            settle(&mut session, &mut server);
            let secure = session.secure().unwrap();
            assert_eq!(secure.peer_chain[0], identity.chain[0].as_ref());
            send(&mut session, &mut server, b"hello");
            assert_eq!(server.received, b"hello");
            server.conn.handshake_kind().unwrap()
        });
        assert_eq!(
            kinds,
            [
                HandshakeKind::Full,
                HandshakeKind::Resumed,
                HandshakeKind::Full
            ]
        );
    }
}

#[test]
fn early_data_is_never_sent() {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut config = server_config(&identity, TLS13);
    config.max_early_data_size = 16_384;
    let config = Arc::new(config);
    let client = believer(&authority);
    let mut first = session(&client);
    settle(&mut first, &mut Server::new(config.clone()));
    let mut again = session(&client);
    assert_eq!(again.write_plaintext(&[IoSlice::new(b"early")]).unwrap(), 0);
    let mut server = Server::new(config);
    server.takes(&written(&mut again));
    assert!(server.conn.early_data().is_none());
}

#[test]
fn what_the_server_says_first_comes_with_the_end_of_its_handshake() {
    let (mut session, mut server) = pair(TLS12);
    server.takes(&written(&mut session));
    session.read_tls(&server.gives());
    server.takes(&written(&mut session));
    server.says(b"* OK ready");
    session.read_tls(&server.gives());
    assert!(!session.is_handshaking());
    assert_eq!(drain(&mut session).0, b"* OK ready");

    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut config = server_config(&identity, TLS13);
    config.send_half_rtt_data = true;
    let (mut session, mut server) = (
        crate::support::session(&believer(&authority)),
        Server::new(config),
    );
    server.takes(&written(&mut session));
    server.says(b"* OK ready");
    session.read_tls(&server.gives());
    assert!(!session.is_handshaking() && session.wants_write());
    assert_eq!(drain(&mut session).0, b"* OK ready");
    settle(&mut session, &mut server);
    assert!(!server.conn.is_handshaking());
}

#[test]
fn a_server_that_wants_a_certificate_of_ours() {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    for versions in [TLS12, TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.key.clone_key())
            .unwrap();
        let mut session = session(&believer(&authority));
        settle(&mut session, &mut Server::new(config));
        // Under TLS 1.3 our side of the handshake is done when the server says no.
        assert_eq!(session.is_handshaking(), versions == TLS12);
        assert_eq!(failure_name(&mut session), "SecurityNoCertificateError");
    }
}

/// A record of the handshake in the clear.
fn record(payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[22, 3, 3, len[0], len[1]], payload].concat()
}

/// A handshake message that says it is so long, in records of 16 KiB, and as much of it as fits into 128 KiB.
fn long_message(kind: u8, len: usize) -> Vec<u8> {
    let size = u32::try_from(len).unwrap().to_be_bytes();
    let mut message = vec![kind, size[1], size[2], size[3]];
    message.resize((4 + len).min(128 * 1024), 0);
    message.chunks(16 * 1024).flat_map(record).collect()
}

const TOO_LARGE: &str = "imap.example.org sent 64 KiB or more of handshake messages in one piece";

#[test]
fn a_handshake_message_that_is_too_long_is_told_in_clear_before_there_are_keys() {
    // One below 64 KiB that does not fit with its records, one above, one of the most that can be said.
    for len in [65_530, 65_535, 65_536, 70_000, 0xff_ffff] {
        let (mut session, _) = pair(BOTH);
        let hello = written(&mut session);
        assert_eq!(hello[0], 22);
        for piece in long_message(2, len).chunks(1_000) {
            session.read_tls(piece);
        }
        let error = failure(&mut session);
        assert_eq!(error.name(), ErrorName::Security);
        assert!(error.message().starts_with(TOO_LARGE), "{len}: {error}");
        assert_eq!(written(&mut session), [21, 3, 3, 0, 2, 2, 50], "{len}");
        assert!(!session.wants_write());
    }
}

/// A chain of certificates that is longer than a client reads.
fn far_too_many(authority: &Authority) -> Identity {
    let mut identity = Identity::issued(authority, &params(&[HOST]));
    while identity.chain.iter().map(|it| it.len()).sum::<usize>() < 70_000 {
        identity.chain.push(authority.der().clone());
    }
    identity
}

#[test]
fn a_chain_that_is_too_long_is_told_to_the_server() {
    for versions in [TLS12, TLS13] {
        let authority = authority();
        let identity = far_too_many(&authority);
        let mut session = session(&believer(&authority));
        let mut server = Server::new(server_config(&identity, versions));
        settle(&mut session, &mut server);
        let error = failure(&mut session);
        assert_eq!(error.name(), ErrorName::Security);
        assert!(error.message().starts_with(TOO_LARGE), "{error}");
        let told = rustls::Error::AlertReceived(rustls::AlertDescription::DecodeError);
        assert_eq!(server.failed, Some(told));
        assert!(!session.wants_write() && session.is_handshaking());
    }
}

#[test]
fn a_message_in_the_middle_of_another_is_told_to_the_server() {
    let (mut session, _) = pair(BOTH);
    written(&mut session);
    session.read_tls(&record(&[2, 0, 0, 100, 3, 3]));
    session.read_tls(&[21, 3, 3, 0, 2, 1, 90]);
    let error = failure(&mut session);
    assert!(
        error.message().contains("cut a handshake message"),
        "{error}"
    );
    assert_eq!(written(&mut session), [21, 3, 3, 0, 2, 2, 10]);
}

/// Tickets as large as a server likes.
#[derive(Debug)]
struct Large;

impl rustls::server::ProducesTickets for Large {
    fn enabled(&self) -> bool {
        true
    }
    fn lifetime(&self) -> u32 {
        86_400
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut ticket = plain.to_vec();
        ticket.resize(plain.len() + 2_000, 0);
        Some(ticket)
    }
    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        Some(ticket[..ticket.len() - 2_000].to_vec())
    }
}

/// The session with the host of this number, and how its handshake went.
fn with_host(client: &Client, config: &Arc<rustls::ServerConfig>, number: usize) -> HandshakeKind {
    let host = Host::parse(&format!("h{number}.example.org")).unwrap();
    let mut session = client.session(&host, &[]).unwrap();
    let mut server = Server::new(config.clone());
    settle(&mut session, &mut server);
    assert!(!session.is_handshaking(), "{:?}", session.next_incoming());
    server.conn.handshake_kind().unwrap()
}

#[test]
fn tickets_are_kept_for_16_hosts() {
    const HOSTS: usize = 16;
    for versions in [TLS12, TLS13] {
        let authority = authority();
        let mut config = server_config(
            &Identity::issued(&authority, &params(&["*.example.org"])),
            versions,
        );
        config.ticketer = Arc::new(Large);
        config.send_tls13_tickets = 10;
        let config = Arc::new(config);
        let client = believer(&authority);
        for number in 0..=HOSTS {
            assert_eq!(with_host(&client, &config, number), HandshakeKind::Full);
        }
        // The last are known, the first had to make room.
        for number in 1..=HOSTS {
            assert_eq!(
                with_host(&client, &config, number),
                HandshakeKind::Resumed,
                "{number} {versions:?}"
            );
        }
        assert_eq!(with_host(&client, &config, 0), HandshakeKind::Full);
    }
}

/// A verifier of somebody else's, which panics.
#[derive(Debug)]
struct Explodes(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Explodes {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The panic hook says nothing of it.
        std::panic::resume_unwind(Box::new("a verifier"))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[test]
fn a_verifier_that_panics_ends_its_session_only() {
    let authority = authority();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Explodes(inner.build().unwrap())))
        .with_no_client_auth();
    let client = Client::with_config(Arc::new(config));
    let host = Host::parse(HOST).unwrap();
    let mut session = client.session(&host, &[]).unwrap();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let mut server = Server::new(server_config(&identity, BOTH));
    server.takes(&written(&mut session));
    session.read_tls(&server.gives());
    let Incoming::Failed(error) = session.next_incoming() else {
        panic!("no failure");
    };
    assert_eq!(error.name(), ErrorName::Security);
    assert!(error.message().contains("panicked"), "{error}");
    // Nothing is looked at any more, and nothing panics.
    session.read_tls(&server.gives());
    session.read_eof();
    assert!(session.write_plaintext(&[IoSlice::new(b"x")]).is_err());
}
