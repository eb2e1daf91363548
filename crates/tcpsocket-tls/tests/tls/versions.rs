//! Servers that speak no version of ours, and alerts, as bytes.

use rustls::AlertDescription as Alert;
use tcpsocket_tls::rustls;

use crate::support::*;

fn alert(level: u8, description: u8) -> [u8; 7] {
    [21, 3, 1, 0, 2, level, description]
}

/// A ServerHello of this version, with a suite of TLS 1.0 and without extensions.
fn server_hello(major: u8, minor: u8) -> Vec<u8> {
    let mut body = vec![major, minor];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0xc0, 0x09, 0]);
    let mut wire = vec![22, 3, 1, 0, body.len() as u8 + 4, 2, 0, 0, body.len() as u8];
    wire.extend(body);
    wire
}

#[test]
fn a_server_that_refuses_our_versions() {
    let (mut session, _) = pair(BOTH);
    session.read_tls(&alert(2, 70));
    let error = failure(&mut session);
    assert_eq!(error.name().as_str(), "SecurityUnsupportedTLSVersionError");
    assert!(error.message().contains("version"), "{error}");
}

#[test]
fn a_server_that_answers_in_an_old_version() {
    for (major, minor) in [(3, 0), (3, 1), (3, 2)] {
        let (mut session, mut server) = pair(BOTH);
        server.takes(&written(&mut session));
        session.read_tls(&server_hello(major, minor));
        let name = failure_name(&mut session);
        assert_eq!(
            name, "SecurityUnsupportedTLSVersionError",
            "{major}.{minor}"
        );
        let _ = server.gives();
        server.takes(&written(&mut session));
        assert_eq!(
            server.failed,
            Some(rustls::Error::AlertReceived(Alert::ProtocolVersion))
        );
    }
}

#[test]
fn a_client_of_one_version_and_a_server_of_the_other() {
    for (ours, theirs) in [(TLS12, TLS13), (TLS13, TLS12)] {
        let authority = authority();
        let identity = Identity::issued(&authority, &params(&[HOST]));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(ours)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = tcpsocket_tls::Client::with_config(std::sync::Arc::new(config));
        let mut session = session(&client);
        settle(
            &mut session,
            &mut Server::new(server_config(&identity, theirs)),
        );
        let name = failure_name(&mut session);
        assert_eq!(name, "SecurityUnsupportedTLSVersionError");
    }
}

#[test]
fn fatal_alerts_have_their_names() {
    let table = [
        (40, "SecurityError"),
        (41, "SecurityNoCertificateError"),
        (42, "SecurityError"),
        (48, "SecurityError"),
        (80, "SecurityError"),
        (112, "SecurityError"),
        (116, "SecurityNoCertificateError"),
        (120, "SecurityError"),
        (255, "SecurityError"),
    ];
    for (description, name) in table {
        let (mut session, _) = pair(BOTH);
        session.read_tls(&alert(2, description));
        assert_eq!(failure_name(&mut session), name, "{description}");
    }
}

#[test]
fn a_warning_before_the_handshake_changes_nothing() {
    let (mut session, mut server) = pair(TLS12);
    server.takes(&written(&mut session));
    session.read_tls(&alert(1, 112)); // unrecognized_name, which some servers send
    session.read_tls(&server.gives());
    settle(&mut session, &mut server);
    assert!(!session.is_handshaking());
}
