//! What people read when a certificate is refused: what was checked, in which certificate, and what to do.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tcpsocket::Host;
use tcpsocket_tls::{Client, Trust, rustls};

use crate::support::*;

/// The message under both versions, without the day of today.
fn message(client: &Client, host: &str, identity: &Identity) -> String {
    let messages = [TLS12, TLS13].map(|versions| {
        let mut session = client.session(&Host::parse(host).unwrap(), &[]).unwrap();
        let mut server = Server::new(server_config(identity, versions));
        settle(&mut session, &mut server);
        let message = failure(&mut session).message().to_owned();
        match message.split_once("; it is 20") {
            Some((before, _)) => before.to_owned(),
            None => message,
        }
    });
    assert_eq!(messages[0], messages[1]);
    messages[0].clone()
}

/// What is said of a server's own certificate that `change` has made.
fn own(host: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
    let root = authority();
    let mut params = params(&[HOST]);
    change(&mut params);
    message(&believer(&root), host, &Identity::issued(&root, &params))
}

/// The same of an authority between the root and the server, which is good.
fn between(change: impl FnOnce(&mut CertificateParams)) -> String {
    let root = authority();
    let mut params = authority_params("Middle");
    change(&mut params);
    let middle = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let mut identity = Identity::issued(&middle, &crate::support::params(&[HOST]));
    identity.chain.push(middle.der().clone());
    message(&believer(&root), HOST, &identity)
}

const OWN: &str = "the certificate of imap.example.org";
const MIDDLE: &str =
    "the certificate of the authority \"Middle\", which imap.example.org sent along,";

#[test]
fn dates() {
    let before = date_time_ymd(2020, 1, 1);
    let expired = own(HOST, |it| it.not_after = before);
    assert_eq!(expired, format!("{OWN} expired on 2020-01-01"));
    let expired = between(|it| it.not_after = before);
    assert_eq!(expired, format!("{MIDDLE} expired on 2020-01-01"));
    let after = date_time_ymd(3020, 1, 1);
    let early = own(HOST, |it| it.not_before = after);
    assert_eq!(early, format!("{OWN} is not valid before 3020-01-01"));
    let early = between(|it| it.not_before = after);
    assert_eq!(early, format!("{MIDDLE} is not valid before 3020-01-01"));
    let never = between(|it| {
        it.not_before = after;
        it.not_after = before;
    });
    assert_eq!(
        never,
        format!("{MIDDLE} says that it ends before it begins, so it is never valid")
    );
}

#[test]
fn an_expired_certificate_that_has_nothing_to_do_with_it_is_not_named() {
    let root = authority();
    let mut params = authority_params("Bystander");
    params.not_after = date_time_ymd(2020, 1, 1);
    let bystander = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let mut params = crate::support::params(&[HOST]);
    params.not_after = date_time_ymd(2020, 1, 1);
    let mut identity = Identity::issued(&root, &params);
    identity.chain.insert(1, bystander.der().clone());
    let expired = message(&believer(&root), HOST, &identity);
    assert_eq!(expired, format!("{OWN} expired on 2020-01-01"));
}

#[test]
fn usages() {
    let clients = |it: &mut CertificateParams| {
        it.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::CodeSigning,
        ];
    };
    let only = "is for clients, signing code only (extKeyUsage); a server needs one for servers (serverAuth)";
    assert_eq!(own(HOST, clients), format!("{OWN} {only}"));
    assert_eq!(between(clients), format!("{MIDDLE} {only}"));
}

#[test]
fn names() {
    let text = "192.0.2.7";
    let as_dns = own(text, |it| {
        let name = text.try_into().unwrap();
        it.subject_alt_names = vec![SanType::DnsName(name)];
    });
    assert_eq!(
        as_dns,
        "the certificate of 192.0.2.7 has this address as a DNS name, which does not count; it has to be an address \
         (IP:192.0.2.7) in subjectAltName"
    );
    let other = own(text, |it| {
        let address = "192.0.2.8".parse().unwrap();
        it.subject_alt_names.push(SanType::IpAddress(address));
    });
    assert_eq!(
        other,
        "the certificate of 192.0.2.7 is for imap.example.org, 192.0.2.8, not for 192.0.2.7"
    );
    let six = own("2001:db8::7", |it| {
        let address = "2001:db8::8".parse().unwrap();
        it.subject_alt_names = vec![SanType::IpAddress(address)];
    });
    assert_eq!(
        six,
        "the certificate of 2001:db8::7 is for 2001:db8::8, not for 2001:db8::7"
    );
    let in_subject = own(HOST, |it| {
        it.subject_alt_names.clear();
        it.distinguished_name.push(DnType::CommonName, HOST);
    });
    assert_eq!(
        in_subject,
        "the certificate of imap.example.org is for no host at all, and so not for imap.example.org; it has to have the host \
         (DNS:imap.example.org) in subjectAltName. The name in its subject (CN) does not count"
    );
}

#[test]
fn issuers() {
    let ours = believer(&authority());
    let alone = CertifiedIssuer::self_signed(params(&[HOST]), key()).unwrap();
    let identity = Identity::new(vec![alone.der().clone()], alone.key());
    assert_eq!(
        message(&ours, HOST, &identity),
        format!(
            "{OWN} is self-signed, and not among what is trusted here; if it is the right one, it can be trusted itself"
        )
    );
    let root = CertifiedIssuer::self_signed(authority_params("Their Root"), key()).unwrap();
    let mut identity = Identity::issued(&root, &params(&[HOST]));
    let not_sent = "was issued by \"Their Root\", which is not trusted here, and whose certificate imap.example.org did not \
        send; either the server has to send that along, or if it is a private authority of yours, it has to be among \
        what is trusted";
    assert_eq!(message(&ours, HOST, &identity), format!("{OWN} {not_sent}"));
    identity.chain.push(root.der().clone());
    assert_eq!(
        message(&ours, HOST, &identity),
        format!(
            "{OWN} leads to the authority \"Their Root\", which is not trusted here; if that is a private authority of \
             yours, it has to be among what is trusted"
        )
    );
    let middle = CertifiedIssuer::signed_by(authority_params("Middle"), key(), &root).unwrap();
    let mut identity = Identity::issued(&middle, &params(&[HOST]));
    identity.chain.push(middle.der().clone());
    assert_eq!(
        message(&ours, HOST, &identity),
        format!("{MIDDLE} {not_sent}")
    );
}

#[test]
fn constraints() {
    let named = between(|it| {
        it.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let may_not =
        "may not issue certificates for the names in that of imap.example.org (nameConstraints)";
    assert_eq!(named, format!("{MIDDLE} {may_not}"));
    let no_authority = between(|it| {
        it.is_ca = IsCa::ExplicitNoCa;
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    assert_eq!(
        no_authority,
        format!(
            "{MIDDLE} issued another one, which it may not: it is no authority (basicConstraints)"
        )
    );

    let root = authority();
    let mut short = authority_params("Middle");
    short.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let short = CertifiedIssuer::signed_by(short, key(), &root).unwrap();
    let below = CertifiedIssuer::signed_by(authority_params("Below"), key(), &short).unwrap();
    let mut identity = Identity::issued(&below, &params(&[HOST]));
    identity
        .chain
        .extend([below.der().clone(), short.der().clone()]);
    assert_eq!(
        message(&believer(&root), HOST, &identity),
        format!("{MIDDLE} may not have so many authorities below it (pathLenConstraint)")
    );
}

#[test]
fn extensions_and_malformed_ones() {
    let unknown = |it: &mut CertificateParams| {
        let mut extension =
            rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
        extension.set_criticality(true);
        it.custom_extensions.push(extension);
    };
    let has = "has a critical extension that is not known here (1.3.6.1.4.1.99999.1), so it may not be accepted";
    assert_eq!(own(HOST, unknown), format!("{OWN} {has}"));
    assert_eq!(between(unknown), format!("{MIDDLE} {has}"));

    let root = authority();
    let middle = CertifiedIssuer::signed_by(authority_params("Middle"), key(), &root).unwrap();
    let mut identity = Identity::issued(&middle, &params(&[HOST]));
    identity
        .chain
        .push(CertificateDer::from(b"nonsense".to_vec()));
    assert_eq!(
        message(&believer(&root), HOST, &identity),
        "certificate number 2 of those that imap.example.org sent is malformed: it is no certificate in DER"
    );
    let identity = Identity::new(vec![CertificateDer::from(b"nonsense".to_vec())], &key());
    assert_eq!(
        message(&believer(&root), HOST, &identity),
        format!("{OWN} is malformed: it is no certificate in DER")
    );
}

#[test]
fn signatures() {
    // Another authority of the same name.
    let identity = Identity::issued(&authority(), &params(&[HOST]));
    assert_eq!(
        message(&believer(&authority()), HOST, &identity),
        format!(
            "{OWN} says that the trusted authority \"Test Authority\" issued it, but is not signed by the key of that; \
             there may be an older or a newer authority of the same name, or the certificate was changed"
        )
    );
    // The key of another certificate.
    let root = authority();
    let mut identity = Identity::issued(&root, &params(&[HOST]));
    identity.key = Identity::issued(&root, &params(&[HOST])).key;
    assert_eq!(
        message(&believer(&root), HOST, &identity),
        "imap.example.org does not have the key that belongs to the certificate that it shows: the signature of the handshake \
         is wrong"
    );
}

/// Made by OpenSSL, valid for a hundred years. Their keys are lost, but certificates are judged before keys.
#[test]
fn algorithms() {
    let said = |root: &[u8], leaf: &[u8]| {
        let leaf = CertificateDer::from_pem_slice(leaf).unwrap();
        let client = Client::new(Trust::nobody().and_pem(root).unwrap());
        message(&client, HOST, &Identity::new(vec![leaf], &key()))
    };
    let weak = said(
        include_bytes!("../data/weak-root.pem"),
        include_bytes!("../data/weak.pem"),
    );
    assert_eq!(
        weak,
        format!(
            "{OWN} is signed by the trusted authority \"Weak Root\", whose RSA key has 1024 bits; 2048 to 8192 are accepted, so \
             that authority needs a new key"
        )
    );
    let accepted = "which is not accepted here; accepted are ECDSA and SHA-256, ECDSA and SHA-384, Ed25519, RSA and \
        SHA-256, RSA and SHA-384, RSA and SHA-512, RSA-PSS; it has to be issued anew";
    let sha512 = said(
        include_bytes!("../data/sha512-root.pem"),
        include_bytes!("../data/sha512.pem"),
    );
    assert_eq!(
        sha512,
        format!("{OWN} is signed with ECDSA and SHA-512, {accepted}")
    );
    let sha1 = said(
        include_bytes!("../data/sha1-root.pem"),
        include_bytes!("../data/sha1.pem"),
    );
    assert_eq!(
        sha1,
        format!("{OWN} is signed with ECDSA and SHA-1, {accepted}")
    );
    let p521 = said(
        include_bytes!("../data/p521-root.pem"),
        include_bytes!("../data/p521.pem"),
    );
    assert_eq!(
        p521,
        format!(
            "{OWN} is signed with ECDSA and SHA-256 by a key for ECDSA on P-521, which do not go together here; it has to be \
             issued anew, by an authority with another key"
        )
    );
}

/// A verifier that is not ours leaves no certificates behind, and neither does an earlier refusal on this thread.
#[test]
fn nothing_is_said_of_a_certificate_that_another_session_saw() {
    let root = authority();
    let mut old = params(&[HOST]);
    old.not_after = date_time_ymd(2020, 1, 1);
    let old = Identity::issued(&root, &old);
    assert!(message(&believer(&root), HOST, &old).starts_with(OWN));
    let given = Client::with_config(std::sync::Arc::new(believing_config(&root)));
    assert_eq!(
        message(&given, HOST, &old),
        "a certificate that imap.example.org showed, its own or that of an authority, expired on 2020-01-01"
    );
}

/// Whoever makes a certificate chooses the names in it.
#[test]
fn names_of_authorities_obey_no_terminal_and_end() {
    let root = authority();
    let mut params = authority_params("");
    params.distinguished_name = rcgen::DistinguishedName::new();
    let name = format!("\u{1b}]0;me\u{7}\n\"{}", "x".repeat(500));
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = date_time_ymd(2020, 1, 1);
    let middle = CertifiedIssuer::signed_by(params, key(), &root).unwrap();
    let mut identity = Identity::issued(&middle, &crate::support::params(&[HOST]));
    identity.chain.push(middle.der().clone());
    let said = message(&believer(&root), HOST, &identity);
    assert!(
        said.contains("\"?]0;me??'xxx") && said.contains("x...\""),
        "{said}"
    );
    assert!(
        !said.contains(char::is_control) && said.len() < 250,
        "{said}"
    );
}
