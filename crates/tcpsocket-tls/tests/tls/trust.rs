//! Whom a client believes: stores that are there, and those that are not.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyUsagePurpose, date_time_ymd,
};
use rustls::RootCertStore;
use tcpsocket::{ErrorName, Host};
use tcpsocket_tls::{CertificateDer, Client, Trust, rustls};

use crate::support::*;

/// Whether a client with this trust accepts a server of this authority; `Err` is the name of the failure to load.
fn accepts(trust: Trust, authority: &Authority) -> Result<bool, &'static str> {
    let client = Client::new(trust);
    let session = client.session(&Host::parse(HOST).unwrap(), &[]);
    let mut session = session.map_err(|error| error.name().as_str())?;
    let identity = Identity::issued(authority, &params(&[HOST]));
    settle(
        &mut session,
        &mut Server::new(server_config(&identity, BOTH)),
    );
    Ok(!session.is_handshaking())
}

#[test]
fn only_those_that_were_named() {
    let (ours, theirs) = (authority(), authority());
    let trust = || Trust::nobody().and([ours.der().clone()]).unwrap();
    assert_eq!(accepts(trust(), &ours), Ok(true));
    assert_eq!(accepts(trust(), &theirs), Ok(false));
    let both = trust().and_pem(theirs.pem().as_bytes()).unwrap();
    assert_eq!(accepts(both.clone(), &ours), Ok(true));
    assert_eq!(accepts(both, &theirs), Ok(true));
}

#[test]
fn nobody_is_an_error_and_not_an_empty_store() {
    assert_eq!(accepts(Trust::nobody(), &authority()), Err("SecurityError"));
    let client = Client::new(Trust::nobody());
    assert_eq!(client.config().unwrap_err().name(), ErrorName::Security);
}

#[test]
fn roots_that_cannot_be_read_are_refused_at_once() {
    let nonsense = CertificateDer::from(b"nonsense".to_vec());
    let pem = |body: &str| {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
    };
    let errors = [
        Trust::nobody().and([nonsense]),
        Trust::nobody().and_pem(b""),
        Trust::nobody().and_pem(b"-----BEGIN CERTIFICATE-----\nAAAA"),
        Trust::nobody().and_pem(&pem("AAAA")),
        Trust::nobody().and_pem(&pem("!!!!")),
        Trust::nobody().and_pem(key().serialize_pem().as_bytes()),
    ];
    for refused in errors {
        assert_eq!(refused.unwrap_err().name(), ErrorName::InvalidAccess);
    }
}

#[test]
fn a_given_configuration_is_used_as_it_is() {
    let authority = authority();
    let config = Arc::new(believing_config(&authority));
    let client = Client::with_config(config.clone());
    assert!(Arc::ptr_eq(&client.config().unwrap(), &config));
}

#[test]
fn a_store_is_loaded_once() {
    let client = believer(&authority());
    let again = client.clone();
    assert!(Arc::ptr_eq(
        &client.config().unwrap(),
        &again.config().unwrap()
    ));
}

#[test]
fn debug_shows_no_certificates() {
    let trust = Trust::nobody().and([authority().der().clone()]).unwrap();
    assert_eq!(
        format!("{trust:?}"),
        "Trust { store: Nobody, added: 1, exactly: 0 }"
    );
    let client = Client::new(trust);
    assert!(format!("{client:?}").contains("loaded: false"));
    assert!(format!("{:?}", session(&client)).len() < 300);
}

/// What `SSL_CERT_FILE` names is read by the process that has it: this test, run once more as a child.
const CHILD: &str = "TCPSOCKET_TLS_TEST_STORE";

/// Every trust that reads the platform's store, and the same with an authority added.
fn platforms(added: &Authority) -> Vec<(&'static str, Trust, Trust)> {
    let and = |trust: Trust| trust.and([added.der().clone()]).unwrap();
    vec![
        ("platform", Trust::platform(), and(Trust::platform())),
        #[cfg(feature = "platform-verifier")]
        (
            "platform_verifier",
            Trust::platform_verifier(),
            and(Trust::platform_verifier()),
        ),
    ]
}

#[cfg(all(unix, not(target_vendor = "apple")))]
#[test]
fn the_store_of_the_platform() {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    match std::env::var(CHILD).as_deref() {
        Ok("bad") => {
            let ours = authority();
            for (name, plain, added) in platforms(&ours) {
                assert_eq!(accepts(plain, &ours), Err("SecurityError"), "{name}");
                assert_eq!(accepts(added, &ours), Err("SecurityError"), "{name}");
            }
        }
        Ok("good") => {
            let (in_store, ours) = (stored(&dir), authority());
            for (name, plain, added) in platforms(&ours) {
                assert_eq!(accepts(plain.clone(), &in_store), Ok(true), "{name}");
                assert_eq!(accepts(plain, &ours), Ok(false), "{name}");
                assert_eq!(accepts(added.clone(), &in_store), Ok(true), "{name}");
                assert_eq!(accepts(added, &ours), Ok(true), "{name}");
            }
        }
        _ => {
            let in_store = authority();
            std::fs::write(dir.join("store.pem"), in_store.pem()).unwrap();
            std::fs::write(dir.join("store.key"), in_store.key().serialize_pem()).unwrap();
            std::fs::write(dir.join("empty.pem"), "").unwrap();
            std::fs::write(dir.join("nonsense.pem"), "nonsense").unwrap();
            for (kind, file) in [
                ("good", "store.pem"),
                ("bad", "empty.pem"),
                ("bad", "nonsense.pem"),
                ("bad", "not-there.pem"),
            ] {
                let child = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "trust::the_store_of_the_platform"])
                    .env(CHILD, kind)
                    .env("SSL_CERT_FILE", dir.join(file))
                    .env_remove("SSL_CERT_DIR")
                    .output()
                    .unwrap();
                let said = String::from_utf8_lossy(&child.stdout);
                assert!(child.status.success(), "{kind} {file}: {said}");
                assert!(said.contains("1 passed"), "{kind} {file}: {said}");
            }
        }
    }
}

#[cfg(all(unix, not(target_vendor = "apple")))]
fn stored(dir: &std::path::Path) -> Authority {
    let key = std::fs::read_to_string(dir.join("store.key")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key).unwrap();
    // The same name and key, which is all that makes an authority.
    rcgen::CertifiedIssuer::self_signed(authority_params("Test Authority"), key).unwrap()
}

#[test]
fn an_empty_configuration_of_rustls_believes_nobody() {
    // What the errors above are there to prevent: rustls itself takes an empty store without a word.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let authority = authority();
    let mut session = session(&Client::with_config(Arc::new(config)));
    let identity = Identity::issued(&authority, &params(&[HOST]));
    settle(
        &mut session,
        &mut Server::new(server_config(&identity, BOTH)),
    );
    let name = failure_name(&mut session);
    assert_eq!(name, "SecurityUntrustedCertificateIssuerError");
}

#[cfg(feature = "webpki-roots")]
#[test]
fn the_roots_of_mozilla() {
    let ours = authority();
    let config = Client::new(Trust::webpki_roots()).config();
    assert!(config.is_ok());
    assert_eq!(accepts(Trust::webpki_roots(), &ours), Ok(false));
    let added = Trust::webpki_roots().and([ours.der().clone()]).unwrap();
    assert_eq!(accepts(added, &ours), Ok(true));
}

#[cfg(feature = "platform-verifier")]
#[test]
fn the_verifier_of_the_platform_has_the_same_names() {
    let ours = authority();
    let trust = Trust::platform_verifier()
        .and([ours.der().clone()])
        .unwrap();
    let client = Client::new(trust);
    if client.config().is_err() {
        return; // no roots on this machine, which the_store_of_the_platform is about
    }
    let mut expired = params(&[HOST]);
    expired.not_after = date_time_ymd(2024, 3, 2);
    let mut purpose = params(&[HOST]);
    purpose.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for (params, name) in [
        (expired, "SecurityExpiredCertificateError"),
        (purpose, "SecurityInadequateKeyUsageError"),
        (
            params(&["pop.example.org"]),
            "SecurityCertificateDomainMismatchError",
        ),
    ] {
        let identity = Identity::issued(&ours, &params);
        let mut session = session(&client);
        settle(
            &mut session,
            &mut Server::new(server_config(&identity, BOTH)),
        );
        assert_eq!(failure_name(&mut session), name);
    }
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn another_provider_of_cryptography() {
    let ours = authority();
    let trust = Trust::nobody().and([ours.der().clone()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = Client::with_provider(trust, provider);
    let identity = Identity::issued(&ours, &params(&[HOST]));
    for versions in [TLS12, TLS13] {
        let mut session = session(&client);
        let mut server = Server::new(server_config(&identity, versions));
        settle(&mut session, &mut server);
        send(&mut session, &mut server, b"hello");
        assert_eq!(server.received, b"hello");
    }
}

/// What `openssl req -x509` makes by default: self-signed, with CA:TRUE and no usages.
fn made_by_openssl(names: &[&str]) -> Authority {
    let mut params = params(names);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages.clear();
    CertifiedIssuer::self_signed(params, key()).unwrap()
}

/// `Ok` if the client accepts a server that shows this, under both versions; otherwise the name of the failure.
fn judged(trust: &Trust, host: &str, shown: &Identity) -> Result<(), &'static str> {
    let outcomes = [TLS12, TLS13].map(|versions| {
        let client = Client::new(trust.clone());
        let mut session = client.session(&Host::parse(host).unwrap(), &[]).unwrap();
        let mut server = Server::new(server_config(shown, versions));
        settle(&mut session, &mut server);
        match session.is_handshaking() {
            true => Err(failure_name(&mut session)),
            false => Ok(()),
        }
    });
    assert_eq!(outcomes[0], outcomes[1]);
    outcomes[0]
}

fn itself(of: &Authority) -> Identity {
    Identity::new(vec![of.der().clone()], of.key())
}

const MISMATCH: &str = "SecurityCertificateDomainMismatchError";
const UNTRUSTED: &str = "SecurityUntrustedCertificateIssuerError";

#[test]
fn a_certificate_is_trusted_itself() {
    let own = made_by_openssl(&[HOST, "192.0.2.7"]);
    let added = Trust::nobody().and([own.der().clone()]).unwrap();
    let exactly = Trust::nobody().and_exactly([own.der().clone()]).unwrap();
    for trust in [&added, &exactly] {
        assert_eq!(judged(trust, HOST, &itself(&own)), Ok(()));
        assert_eq!(judged(trust, "192.0.2.7", &itself(&own)), Ok(()));
        // Its host counts as ever.
        assert_eq!(
            judged(trust, "pop.example.org", &itself(&own)),
            Err(MISMATCH)
        );
        assert_eq!(judged(trust, "192.0.2.8", &itself(&own)), Err(MISMATCH));
        // Another one with the same words in it is another one.
        let twin = itself(&made_by_openssl(&[HOST]));
        assert!(judged(trust, HOST, &twin).is_err());
        // And so does its key: whoever has only the certificate is nobody.
        let mut thief = itself(&own);
        thief.key = twin.key;
        assert_eq!(
            judged(trust, HOST, &thief),
            Err("SecurityBadCertificateError")
        );
    }
    // Who issued it does not matter.
    let root = authority();
    let issued = Identity::issued(&root, &params(&[HOST]));
    let exactly = Trust::nobody().and_exactly(issued.chain.clone()).unwrap();
    assert_eq!(judged(&exactly, HOST, &issued), Ok(()));
    assert_eq!(
        judged(&exactly, HOST, &Identity::issued(&root, &params(&[HOST]))),
        Err(UNTRUSTED)
    );
    // Not without being trusted.
    assert_eq!(
        judged(&believed(&root), HOST, &itself(&own)),
        Err(UNTRUSTED)
    );
}

fn believed(of: &Authority) -> Trust {
    Trust::nobody().and([of.der().clone()]).unwrap()
}

#[test]
fn dates_and_usages_of_a_certificate_that_is_trusted_itself_count() {
    let table: [(fn(&mut CertificateParams), _); 4] = [
        (
            |it| it.not_after = date_time_ymd(2020, 1, 1),
            "SecurityExpiredCertificateError",
        ),
        (
            |it| it.not_before = date_time_ymd(3020, 1, 1),
            "SecurityExpiredCertificateError",
        ),
        (
            |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "SecurityInadequateKeyUsageError",
        ),
        // An authority's, which may sign certificates only: no server's, however much it is trusted.
        (
            |it| it.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            UNTRUSTED,
        ),
    ];
    for (change, name) in table {
        let mut params = params(&[HOST]);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        change(&mut params);
        let own = CertifiedIssuer::self_signed(params, key()).unwrap();
        for trust in [
            believed(&own),
            Trust::nobody().and_exactly([own.der().clone()]).unwrap(),
        ] {
            assert_eq!(judged(&trust, HOST, &itself(&own)), Err(name));
        }
    }
}

/// Trusting a server's certificate makes nobody an authority who did not say to be one.
#[test]
fn what_is_no_authority_does_not_become_one() {
    let other = params(&["pop.example.org"]);
    let mut silent = params(&[HOST]);
    silent.is_ca = rcgen::IsCa::NoCa;
    let mut explicit = params(&[HOST]);
    explicit.is_ca = rcgen::IsCa::ExplicitNoCa;
    for params in [silent, explicit] {
        let own = CertifiedIssuer::self_signed(params, key()).unwrap();
        assert_eq!(judged(&believed(&own), HOST, &itself(&own)), Ok(()));
        let issued = Identity::issued(&own, &other);
        assert_eq!(
            judged(&believed(&own), "pop.example.org", &issued),
            Err(UNTRUSTED)
        );
    }
    // One that says so is one, unless it is to be trusted exactly.
    let own = made_by_openssl(&[HOST]);
    let issued = Identity::issued(&own, &other);
    assert_eq!(judged(&believed(&own), "pop.example.org", &issued), Ok(()));
    let exactly = Trust::nobody().and_exactly([own.der().clone()]).unwrap();
    assert_eq!(judged(&exactly, "pop.example.org", &issued), Err(UNTRUSTED));
}

/// A PEM section of this name.
fn section(label: &str, pem: &str) -> String {
    let (from, to) = ("CERTIFICATE-----", format!("{label}-----"));
    pem.replace(from, &to)
}

#[test]
fn pem_is_read_as_other_tools_write_it() {
    let (ours, theirs) = (authority(), authority());
    let pem = ours.pem();
    let texts = [
        pem.clone(),
        format!("\u{feff}{pem}"),
        section("X509 CERTIFICATE", &pem),
        section("TRUSTED CERTIFICATE", &pem),
        pem.replace('\n', "\r\n"),
        pem.replace('\n', "\r"),
        pem.replace('\n', " \n\t "),
        pem.trim_end().to_owned(),
        format!("what goes before\n{pem}and after\n"),
        format!("{}{}", ours.key().serialize_pem(), pem),
        format!("{}{pem}", section("X509 CERTIFICATE", &theirs.pem())),
    ];
    for text in texts {
        let trust = Trust::nobody().and_pem(text.as_bytes());
        assert_eq!(accepts(trust.unwrap(), &ours), Ok(true), "{text}");
    }
}

#[test]
fn openssl_settings_in_a_trusted_certificate_count() {
    for (pem, fine) in [
        (&include_bytes!("../data/trusted.pem")[..], true),
        (include_bytes!("../data/trusted-servers.pem"), true),
        (include_bytes!("../data/trusted-clients.pem"), false),
        (include_bytes!("../data/trusted-not-servers.pem"), false),
    ] {
        match Trust::nobody().and_pem(pem) {
            Ok(_) => assert!(fine),
            Err(error) => {
                assert!(!fine, "{error}");
                let says = "do not trust it for servers";
                assert!(error.message().contains(says), "{error}");
            }
        }
    }
}

#[test]
fn a_pem_that_cannot_be_read_is_explained() {
    let pem = authority().pem();
    let utf16: Vec<u8> = [0xfeff]
        .into_iter()
        .chain(pem.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let lines: Vec<&str> = pem.lines().collect();
    let cut = lines[..lines.len() - 1].join("\n");
    let broken = format!("{pem}{}", pem.replace("MII", "!!!"));
    let trusted = section("TRUSTED CERTIFICATE", &pem).replace("MII", "AAA");
    let table: [(Vec<u8>, &str); 12] = [
        (pem.replace('\n', "\\n").into(), "the two characters \\n"),
        (utf16, "is UTF-16"),
        (
            cut.clone().into(),
            "a line \"-----END CERTIFICATE-----\" is missing",
        ),
        (format!("{cut}\n{pem}").into(), "is missing"),
        (broken.into(), "certificate 2 has something between"),
        (
            trusted.into(),
            "certificate 1, a TRUSTED CERTIFICATE, is malformed",
        ),
        (authority().der().to_vec(), "looks like DER"),
        (key().serialize_pem().into(), "a private key"),
        (
            section("CERTIFICATE REQUEST", &pem).into(),
            "a request for a certificate",
        ),
        (section("PKCS7", &pem).into(), "PKCS #7"),
        (section("PUBLIC KEY", &pem).into(), "a public key"),
        (Vec::new(), "holds no certificate"),
    ];
    for (text, says) in table {
        let error = Trust::nobody().and_pem(&text).unwrap_err();
        assert_eq!(error.name(), ErrorName::InvalidAccess);
        assert!(error.message().contains(says), "{error}, not {says}");
        assert!(
            !error.message().contains("76, 61") && error.message().len() < 300,
            "{error}"
        );
    }
}
