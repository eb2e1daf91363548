//! Certificates that are refused, and those that are not: which name, which alert.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, NameConstraints, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{AlertDescription as Alert, CertificateError, ClientConfig, RootCertStore};
use tcpsocket::{ErrorClass, Host};
use tcpsocket_tls::{Client, Trust, rustls};

use crate::support::*;

/// The name of the failure that this certificate causes, under both versions, and the alert that the server gets.
fn refused(client: &Client, host: &str, identity: &Identity) -> (&'static str, Alert) {
    let outcomes = [TLS12, TLS13].map(|versions| {
        let mut session = client.session(&Host::parse(host).unwrap(), &[]).unwrap();
        let mut server = Server::new(server_config(identity, versions));
        settle(&mut session, &mut server);
        assert!(session.is_handshaking() && session.secure().is_none());
        let error = failure(&mut session);
        assert!(error.message().contains(host), "{error}");
        let Some(rustls::Error::AlertReceived(alert)) = server.failed else {
            panic!("the server was told {:?}", server.failed);
        };
        (error.name().as_str(), alert)
    });
    assert_eq!(outcomes[0], outcomes[1], "TLS 1.2 and 1.3");
    outcomes[0]
}

fn accepted(client: &Client, host: &str, identity: &Identity) {
    for versions in [TLS12, TLS13] {
        let mut session = client.session(&Host::parse(host).unwrap(), &[]).unwrap();
        let mut server = Server::new(server_config(identity, versions));
        settle(&mut session, &mut server);
        assert!(!session.is_handshaking(), "{:?}", session.next_incoming());
    }
}

/// Issues what `change` makes of a usual certificate, and tells what became of it.
fn changed(change: impl FnOnce(&mut CertificateParams)) -> (&'static str, Alert) {
    let authority = authority();
    let mut params = params(&[HOST]);
    change(&mut params);
    let identity = Identity::issued(&authority, &params);
    refused(&believer(&authority), HOST, &identity)
}

#[test]
fn expired() {
    let outcome = changed(|it| it.not_after = date_time_ymd(2024, 3, 2));
    let expected = ("SecurityExpiredCertificateError", Alert::CertificateExpired);
    assert_eq!(outcome, expected);
}

#[test]
fn not_valid_yet() {
    let outcome = changed(|it| it.not_before = date_time_ymd(4000, 1, 1));
    let expected = ("SecurityExpiredCertificateError", Alert::CertificateExpired);
    assert_eq!(outcome, expected);
}

#[test]
fn an_expired_issuer_counts_as_expired() {
    let root = authority();
    let mut params = authority_params("Old");
    params.not_after = date_time_ymd(2020, 1, 1);
    let old = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let mut identity = Identity::issued(&old, &crate::support::params(&[HOST]));
    identity.chain.push(old.der().clone());
    let (name, _) = refused(&believer(&root), HOST, &identity);
    assert_eq!(name, "SecurityExpiredCertificateError");
}

#[test]
fn for_another_name() {
    let expected = (
        "SecurityCertificateDomainMismatchError",
        Alert::BadCertificate,
    );
    let others: [&[&str]; 5] = [
        &["pop.example.org"],
        &["*.imap.example.org"],
        &["*.org"],
        &["imap.example.org.example.com"],
        &["192.0.2.7"],
    ];
    for names in others {
        let authority = authority();
        let identity = Identity::issued(&authority, &params(names));
        let outcome = refused(&believer(&authority), HOST, &identity);
        assert_eq!(outcome, expected, "{names:?}");
    }
    // The common name alone has not counted for a long time.
    let outcome = changed(|it| {
        it.subject_alt_names.clear();
        it.distinguished_name.push(rcgen::DnType::CommonName, HOST);
    });
    assert_eq!(outcome, expected);
}

#[test]
fn names_are_compared_as_hosts_are() {
    let authority = authority();
    let client = believer(&authority);
    let identity = Identity::issued(&authority, &params(&["*.example.org"]));
    for host in ["imap.example.org", "IMAP.Example.Org", "imap.example.org."] {
        let host = Host::parse(host).unwrap();
        let mut session = client.session(&host, &[]).unwrap();
        let mut server = Server::new(server_config(&identity, BOTH));
        settle(&mut session, &mut server);
        assert!(!session.is_handshaking(), "{host:?}");
        assert_eq!(server.conn.server_name(), Some(HOST), "SNI of {host:?}");
    }
    let (name, _) = refused(&client, "a.b.example.org", &identity);
    assert_eq!(name, "SecurityCertificateDomainMismatchError");
}

#[test]
fn addresses_need_an_ip_name() {
    let authority = authority();
    let client = believer(&authority);
    let by_ip = Identity::issued(
        &authority,
        &params(&["192.0.2.7", "2001:db8::7", "fe80::7"]),
    );
    // An IPv4 address mapped into IPv6 is the IPv4 address, and a zone is no part of what is certified.
    for host in [
        "192.0.2.7",
        "2001:db8::7",
        "2001:db8:0::0007",
        "::ffff:192.0.2.7",
        "fe80::7%eth0",
    ] {
        accepted(&client, host, &by_ip);
    }
    let (name, _) = refused(&client, "192.0.2.8", &by_ip);
    assert_eq!(name, "SecurityCertificateDomainMismatchError");

    let mut by_name = params(&[]);
    let text = "192.0.2.7".try_into().unwrap();
    by_name
        .subject_alt_names
        .push(rcgen::SanType::DnsName(text));
    let by_name = Identity::issued(&authority, &by_name);
    let mut session = client
        .session(&Host::parse("192.0.2.7").unwrap(), &[])
        .unwrap();
    let mut server = Server::new(server_config(&by_name, BOTH));
    settle(&mut session, &mut server);
    assert_eq!(server.conn.server_name(), None, "no SNI for an address");
    assert!(failure(&mut session).name().is_security());
}

#[test]
fn self_signed() {
    let key = key();
    let certificate = params(&[HOST]).self_signed(&key).unwrap();
    let identity = Identity::new(vec![certificate.der().clone()], &key);
    let outcome = refused(&believer(&authority()), HOST, &identity);
    let expected = ("SecurityUntrustedCertificateIssuerError", Alert::UnknownCA);
    assert_eq!(outcome, expected);
}

#[test]
fn from_an_unknown_authority() {
    let stranger = CertifiedIssuer::self_signed(authority_params("Stranger"), key()).unwrap();
    let mut identity = Identity::issued(&stranger, &params(&[HOST]));
    let expected = ("SecurityUntrustedCertificateIssuerError", Alert::UnknownCA);
    let client = believer(&authority());
    assert_eq!(refused(&client, HOST, &identity), expected);
    // It does not help to bring one's own root.
    identity.chain.push(stranger.der().clone());
    assert_eq!(refused(&client, HOST, &identity), expected);
}

#[test]
fn from_an_authority_that_only_has_the_same_name() {
    let impostor = authority();
    let identity = Identity::issued(&impostor, &params(&[HOST]));
    let (name, _) = refused(&believer(&authority()), HOST, &identity);
    assert_eq!(name, "SecurityBadCertificateError");
}

#[test]
fn an_authority_as_a_server() {
    let authority = authority();
    let mut params = authority_params("Sub");
    params.subject_alt_names = crate::support::params(&[HOST]).subject_alt_names;
    let identity = Identity::issued(&authority, &params);
    let outcome = refused(&believer(&authority), HOST, &identity);
    let expected = (
        "SecurityUntrustedCertificateIssuerError",
        Alert::CertificateUnknown,
    );
    assert_eq!(outcome, expected);
}

#[test]
fn a_server_as_an_authority() {
    let root = authority();
    let mut params = crate::support::params(&["leaf.example.org"]);
    params.is_ca = IsCa::ExplicitNoCa;
    let leaf = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let mut identity = Identity::issued(&leaf, &crate::support::params(&[HOST]));
    identity.chain.push(leaf.der().clone());
    let (name, _) = refused(&believer(&root), HOST, &identity);
    assert_eq!(name, "SecurityUntrustedCertificateIssuerError");
}

#[test]
fn beyond_the_constraints_of_its_authority() {
    let root = authority();
    let mut constrained = authority_params("Constrained");
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
        excluded_subtrees: Vec::new(),
    });
    let mut short = authority_params("Short");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let client = believer(&root);

    let issuer = CertifiedIssuer::signed_by(constrained, key(), &root).unwrap();
    let mut identity = Identity::issued(&issuer, &params(&[HOST]));
    identity.chain.push(issuer.der().clone());
    let (name, _) = refused(&client, HOST, &identity);
    assert_eq!(name, "SecurityUntrustedCertificateIssuerError", "names");

    let issuer = CertifiedIssuer::signed_by(short, key(), &root).unwrap();
    let below = CertifiedIssuer::signed_by(authority_params("Below"), key(), &issuer).unwrap();
    let mut identity = Identity::issued(&below, &params(&[HOST]));
    identity
        .chain
        .extend([below.der().clone(), issuer.der().clone()]);
    let (name, _) = refused(&client, HOST, &identity);
    assert_eq!(name, "SecurityUntrustedCertificateIssuerError", "length");
}

#[test]
fn for_another_purpose() {
    let outcome = changed(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let expected = (
        "SecurityInadequateKeyUsageError",
        Alert::UnsupportedCertificate,
    );
    assert_eq!(outcome, expected);
}

#[test]
fn signed_by_an_algorithm_that_is_not_accepted() {
    // Made by OpenSSL, valid for a hundred years; its key is lost, but the certificate is judged before the key.
    let root = include_bytes!("../data/sha1-root.pem");
    let leaf = CertificateDer::from_pem_slice(include_bytes!("../data/sha1.pem")).unwrap();
    let trust = Trust::nobody().and_pem(root).unwrap();
    let identity = Identity::new(vec![leaf], &key());
    let outcome = refused(&Client::new(trust), HOST, &identity);
    let expected = (
        "SecurityCertificateSignatureAlgorithmDisabledError",
        Alert::DecryptError,
    );
    assert_eq!(outcome, expected);
}

#[test]
fn malformed() {
    let identity = Identity::new(vec![b"no certificate".to_vec().into()], &key());
    let outcome = refused(&believer(&authority()), HOST, &identity);
    let expected = ("SecurityBadCertificateError", Alert::BadCertificate);
    assert_eq!(outcome, expected);
}

#[test]
fn with_a_critical_extension_that_nobody_knows() {
    let (name, _) = changed(|it| {
        let mut extension =
            rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        it.custom_extensions.push(extension);
    });
    assert_eq!(name, "SecurityBadCertificateError");
}

#[test]
fn without_the_key_that_belongs_to_it() {
    let authority = authority();
    let mut identity = Identity::issued(&authority, &params(&[HOST]));
    identity.key = Identity::issued(&authority, &params(&[HOST])).key;
    let (name, _) = refused(&believer(&authority), HOST, &identity);
    assert_eq!(name, "SecurityBadCertificateError");
}

#[test]
fn none_at_all() {
    let identity = Identity::new(Vec::new(), &key());
    for versions in [TLS12, TLS13] {
        let mut session = session(&believer(&authority()));
        let mut server = Server::new(server_config(&identity, versions));
        settle(&mut session, &mut server);
        let error = failure(&mut session);
        assert_eq!(error.name().as_str(), "SecurityNoCertificateError");
    }
}

#[test]
fn revoked_by_a_list_of_a_given_configuration() {
    let authority = authority();
    let mut params = params(&[HOST]);
    params.serial_number = Some(SerialNumber::from(7));
    let identity = Identity::issued(&authority, &params);
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4000, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(7),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .with_crls([list.der().clone()])
        .build()
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier)
        .with_no_client_auth();
    let outcome = refused(&Client::with_config(Arc::new(config)), HOST, &identity);
    let expected = ("SecurityRevokedCertificateError", Alert::CertificateRevoked);
    assert_eq!(outcome, expected);
}

#[test]
fn a_refusal_keeps_its_cause_and_its_class() {
    let authority = authority();
    let mut params = params(&[HOST]);
    params.not_after = date_time_ymd(2024, 3, 2);
    let identity = Identity::issued(&authority, &params);
    let mut session = session(&believer(&authority));
    settle(
        &mut session,
        &mut Server::new(server_config(&identity, BOTH)),
    );
    let error = failure(&mut session);
    assert_eq!(error.class(), Some(ErrorClass::SecurityCertificate));
    assert!(error.message().contains("expired on 2024-03-02"), "{error}");
    let cause = std::error::Error::source(&error).and_then(|it| it.downcast_ref());
    assert!(matches!(
        cause,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. }
        ))
    ));
}
