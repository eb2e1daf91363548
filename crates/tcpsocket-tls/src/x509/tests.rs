//! What is read is what was written; what is nonsense is nothing.

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use std::time::Duration;

use super::*;

fn made(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec!["imap.example.org".to_owned()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "A \"name\"\u{1b}[31m");
    change(&mut params);
    let certificate = params.self_signed(&KeyPair::generate().unwrap());
    certificate.unwrap().der().clone()
}

fn key_of(certificate: &Certificate<'_>) -> String {
    let mut key = Elements(certificate.key.whole).next().unwrap().inside();
    key_algorithm_of(key.next().unwrap().contents)
}

fn pem(text: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text).unwrap()
}

#[test]
fn every_part_is_read() {
    let der = made(|it| {
        it.not_before = date_time_ymd(1950, 1, 1);
        it.not_after = date_time_ymd(2049, 12, 31);
        it.subject_alt_names
            .push(SanType::IpAddress("192.0.2.7".parse().unwrap()));
        it.subject_alt_names
            .push(SanType::IpAddress("2001:db8::7".parse().unwrap()));
        let mail = "me@example.org".try_into().unwrap();
        it.subject_alt_names.push(SanType::Rfc822Name(mail));
        it.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::EmailProtection,
        ];
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    let read = Certificate::read(&der).unwrap();
    assert_eq!(read.version, 3);
    assert_eq!(read.not_before, -631_152_000);
    assert_eq!(read.not_after, 2_524_521_600);
    assert!(read.signs_itself() && !read.is_authority() && !read.is_for_servers());
    assert!(
        read.key_usage()
            .is_some_and(|it| it.signs && !it.signs_certificates)
    );
    assert_eq!(read.usages().unwrap(), ["clients", "e-mail"]);
    assert_eq!(algorithm(read.algorithm), "ECDSA and SHA-256");
    assert_eq!(key_of(&read), "ECDSA on P-256");
    assert_eq!(read.key.rsa_bits(), None);
    let text = |it: &str| it.to_owned();
    assert_eq!(
        read.alt_names(),
        [
            AltName::Dns(text("imap.example.org")),
            AltName::Address(text("192.0.2.7")),
            AltName::Address(text("2001:db8::7")),
            AltName::Other,
        ]
    );
    // Nothing that a terminal would obey, or that ends the quotation.
    assert_eq!(read.called(), "\"A 'name'?[31m\"");
    assert_eq!(read.unknown_extension(), None);
}

#[test]
fn authorities_are_those_that_say_so() {
    let is = |change: fn(&mut CertificateParams)| {
        Certificate::read(&made(change)).unwrap().is_authority()
    };
    assert!(!is(|_| {}));
    assert!(!is(|it| it.is_ca = IsCa::ExplicitNoCa));
    assert!(is(|it| it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)));
    assert!(is(|it| {
        it.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        it.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    }));
    assert!(!is(|it| {
        it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        it.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    }));
    // Without basicConstraints, as some private ones are.
    assert!(is(|it| it.key_usages = vec![KeyUsagePurpose::KeyCertSign]));
    let short = made(|it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(3)));
    assert_eq!(Certificate::read(&short).unwrap().path_length(), Some(3));
}

#[test]
fn what_openssl_makes_is_read() {
    let weak = pem(include_bytes!("../../tests/data/weak-root.pem"));
    let weak = Certificate::read(&weak).unwrap();
    assert_eq!(weak.key.rsa_bits(), Some(1024));
    assert_eq!(key_of(&weak), "RSA");
    assert_eq!(weak.called(), "\"Weak Root\"");
    assert!(weak.is_authority() && weak.key_usage().is_none());
    let sha1 = pem(include_bytes!("../../tests/data/sha1.pem"));
    assert_eq!(
        algorithm(Certificate::read(&sha1).unwrap().algorithm),
        "ECDSA and SHA-1"
    );
    let sha512 = pem(include_bytes!("../../tests/data/sha512.pem"));
    assert_eq!(
        algorithm(Certificate::read(&sha512).unwrap().algorithm),
        "ECDSA and SHA-512"
    );
    let p521 = pem(include_bytes!("../../tests/data/p521-root.pem"));
    assert_eq!(key_of(&Certificate::read(&p521).unwrap()), "ECDSA on P-521");
}

/// webpki judges dates for a chain and this crate for a certificate that is trusted itself; they must not differ by a second.
#[test]
fn dates_are_those_of_webpki() {
    let der = made(|it| {
        it.not_before = date_time_ymd(2024, 2, 29);
        it.not_after = date_time_ymd(2049, 12, 31);
    });
    let read = Certificate::read(&der).unwrap();
    let anchor = webpki::anchor_from_trusted_cert(&der).unwrap();
    let own = webpki::EndEntityCert::try_from(&der).unwrap();
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    for at in [read.not_before, read.not_after] {
        for seconds in [at - 1, at, at + 1] {
            let seconds = u64::try_from(seconds).unwrap();
            let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            let judged = own.verify_for_usage(
                algorithms.all,
                std::slice::from_ref(&anchor),
                &[],
                time,
                webpki::KeyUsage::server_auth(),
                None,
                None,
            );
            assert_eq!(read.is_valid_at(seconds), judged.is_ok(), "{seconds}");
        }
    }
}

#[test]
fn times_that_do_not_exist_are_none() {
    let read = |tag, text: &str| {
        time(Element {
            tag,
            contents: text.as_bytes(),
            whole: text.as_bytes(),
        })
    };
    for (tag, text, expected) in [
        (UTC_TIME, "700101000000Z", Some(0)),
        (UTC_TIME, "491231235959Z", Some(2_524_607_999)),
        (UTC_TIME, "500101000000Z", Some(-631_152_000)),
        (GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000)),
        (GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799)),
        (GENERALIZED_TIME, "20240229120000Z", Some(1_709_208_000)),
        (GENERALIZED_TIME, "20230229120000Z", None),
        (GENERALIZED_TIME, "21000229120000Z", None),
        (UTC_TIME, "991301000000Z", None),
        (UTC_TIME, "990001000000Z", None),
        (UTC_TIME, "990132000000Z", None),
        (UTC_TIME, "990101240000Z", None),
        (UTC_TIME, "990101006000Z", None),
        (UTC_TIME, "9901010000Z", None),
        (UTC_TIME, "990101000000", None),
        (UTC_TIME, "99010100000+Z", None),
        (OCTETS, "990101000000Z", None),
    ] {
        assert_eq!(read(tag, text), expected, "{text}");
    }
}

#[test]
fn lengths_are_in_the_shortest_form() {
    let len = |der: &[u8]| first_len(der);
    assert_eq!(len(&[0x30, 2, 5, 0]), Some(4));
    assert_eq!(len(&[0x30, 2, 5, 0, 9, 9]), Some(4));
    for der in [
        &[][..],
        &[0x30],
        &[0x30, 1],
        &[0x30, 0x81, 1, 0],
        &[0x30, 0x82, 0, 0x80],
        &[0x30, 0x80, 0, 0],
        &[0x30, 0x85, 1, 0, 0, 0, 0],
        &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x3f, 0x30, 0],
        &[0x31, 0],
    ] {
        assert_eq!(len(der), None, "{der:?}");
    }
}

#[test]
fn numbers_of_algorithms_have_names_or_are_shown() {
    assert_eq!(
        dotted(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4]),
        "1.2.840.10045.4.3.4"
    );
    assert_eq!(dotted(&[0x88, 0x37]), "2.999");
    assert_eq!(algorithm(&[6, 3, 0x88, 0x37, 1]), "the algorithm 2.999.1");
    assert_eq!(algorithm(&[9]), "an algorithm that cannot be read");
    assert_eq!(usage(&[0x88, 0x37]), "the usage 2.999");
    // Bounded, whatever the peer sends.
    assert!(dotted(&[0xff; 10_000]).len() < 64 && dotted(&[0x7f; 10_000]).len() < 200);
    assert!(printable(&[b'a'; 10_000]).len() < 80);
}

/// All that can be asked of a certificate.
fn ask(der: &[u8]) {
    let _ = first_len(der);
    let _ = settings_trust_servers(der);
    let _ = algorithm(der);
    let _ = key_algorithm_of(der);
    let _ = called(der);
    let _ = PublicKey::from_contents(der).map(|it| it.rsa_bits());
    let Some(read) = Certificate::read(der) else {
        return;
    };
    let _ = (read.is_authority(), read.path_length(), read.key_usage());
    let _ = (read.usages(), read.is_for_servers(), read.alt_names());
    let _ = (read.unknown_extension(), read.common_name(), read.called());
    let _ = (read.issued_by(), algorithm(read.algorithm), key_of(&read));
    let _ = (read.is_valid_at(0), read.is_valid_at(u64::MAX));
}

fn samples() -> Vec<CertificateDer<'static>> {
    vec![
        made(|_| {}),
        made(|it| it.is_ca = IsCa::Ca(BasicConstraints::Constrained(1))),
        pem(include_bytes!("../../tests/data/weak-root.pem")),
        pem(include_bytes!("../../tests/data/sha512.pem")),
    ]
}

#[test]
fn what_is_cut_off_or_followed_by_something_is_no_certificate() {
    for whole in samples() {
        assert!(Certificate::read(&whole).is_some());
        for len in 0..whole.len() {
            assert!(Certificate::read(&whole[..len]).is_none(), "{len}");
        }
        assert!(Certificate::read(&[&whole[..], &[0]].concat()).is_none());
    }
}

/// What webpki takes for a certificate, this crate reads, and the parts that both know are the same.
fn agrees(der: &[u8]) {
    let der = CertificateDer::from(der.to_vec());
    let (Ok(theirs), Some(ours)) = (
        webpki::EndEntityCert::try_from(&der),
        Certificate::read(&der),
    ) else {
        return;
    };
    assert_eq!(theirs.subject(), ours.subject);
    assert_eq!(theirs.issuer(), ours.issuer);
    let key = theirs.subject_public_key_info();
    assert_eq!(key.as_ref(), ours.key.whole);
}

proptest! {
    #[test]
    fn nonsense_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        ask(&bytes);
    }

    #[test]
    fn a_certificate_that_was_changed_is_survived(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut der = samples()[which].to_vec();
        for (at, to) in changes {
            let at = at.index(der.len());
            der[at] = to;
        }
        ask(&der);
        agrees(&der);
    }
}
