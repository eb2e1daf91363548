//! `tcpsocket open --tls` against servers on rustls.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustls::version::{TLS12, TLS13};

use crate::secure::{EXPIRED, Identity, OTHER_NAME, RIGHT, TempFile, accept, part, secure_peer};
use crate::support::{MIB, Running, assert_same, in_background, noise, peer, within};

fn open_tls(port: u16, ca: &TempFile, more: &[&str]) -> Running {
    let port = port.to_string();
    let fixed = ["open", "--tls", "--ca", ca.path(), "127.0.0.1", &port];
    Running::start(fixed.iter().chain(more))
}

#[test]
fn binary_data_makes_the_round_trip_under_both_versions() {
    const LEN: usize = 2 * MIB + 1;
    for version in [&TLS12, &TLS13] {
        let config = RIGHT.config(version);
        let (port, served) = peer(move |stream| {
            let mut stream = accept(config, stream);
            let mut received = vec![0; LEN];
            stream.read_exact(&mut received).unwrap();
            stream.write_all(&received).unwrap();
            part(stream);
        });
        // One of two that are trusted.
        let ca = TempFile::new(&(OTHER_NAME.pem() + &RIGHT.pem()));
        let mut open = open_tls(port, &ca, &[]);
        let mut stdin = open.stdin();
        let output = open.all_output();
        let sent = noise(LEN, 6);
        let wanted = sent.clone();
        let writing = in_background(move || {
            stdin.write_all(&sent).unwrap();
            stdin
        });
        assert_same(&within(&output, "the echo"), &wanted);
        open.end().assert_fine();
        within(&served, "the peer");
        drop(within(&writing, "the input to be taken"));
    }
}

#[test]
fn close_on_eof_says_goodbye_under_tls() {
    let (port, served) = secure_peer(&RIGHT, |mut stream| {
        let mut all = Vec::new();
        // Without a goodbye this would be an error.
        stream.read_to_end(&mut all).map(|_| all)
    });
    let ca = TempFile::new(&RIGHT.pem());
    let mut open = open_tls(port, &ca, &["--close-on-eof"]);
    open.stdin().write_all(b"the end").unwrap();
    assert_eq!(within(&served, "the peer").unwrap(), b"the end");
    open.end().assert_fine();
}

#[test]
fn a_stream_that_is_cut_off_is_5_and_what_came_is_written() {
    let sent = noise(MIB, 7);
    let wanted = sent.clone();
    let (port, served) = secure_peer(&RIGHT, move |mut stream| {
        stream.write_all(&sent).unwrap();
        // No goodbye.
    });
    let ca = TempFile::new(&RIGHT.pem());
    let mut open = open_tls(port, &ca, &[]);
    let output = open.all_output();
    within(&served, "the peer");
    open.end()
        .assert_failed(5, "NetworkInterruptError", "may be incomplete");
    assert_same(&within(&output, "the output"), &wanted);
}

#[test]
fn alpn_is_agreed_or_refused() {
    let offers_h2 = || {
        let mut config = RIGHT.config(&TLS13);
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    };
    let ca = TempFile::new(&RIGHT.pem());

    let config = offers_h2();
    let (port, served) = peer(move |stream| {
        let mut stream = accept(config, stream);
        stream.conn.complete_io(&mut stream.sock).unwrap();
        part(stream);
    });
    let two = ["--alpn", "mine", "--alpn", "h2", "--trace"];
    let ended = open_tls(port, &ca, &two).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let agreed = "  secure by TLSv1.3, ALPN h2, 1 certificate\n";
    assert!(ended.stderr.contains(agreed), "{ended:?}");
    within(&served, "the peer");

    let config = offers_h2();
    let (port, _served) = peer(move |stream| {
        let mut stream = accept(config, stream);
        let _ = stream.conn.complete_io(&mut stream.sock);
    });
    let ended = open_tls(port, &ca, &["--alpn", "mine"]).end();
    ended.assert_failed(8, "SecurityError", "ALPN");
}

#[test]
fn a_certificate_that_does_not_do_is_8_and_nothing_is_sent() {
    let table: [(&Identity, &Identity, &str); 3] = [
        (
            &RIGHT,
            &OTHER_NAME,
            "SecurityUntrustedCertificateIssuerError",
        ),
        (
            &OTHER_NAME,
            &OTHER_NAME,
            "SecurityCertificateDomainMismatchError",
        ),
        (&EXPIRED, &EXPIRED, "SecurityExpiredCertificateError"),
    ];
    for (shown, trusted, name) in table {
        let (port, served) = secure_peer(shown, |mut stream| {
            let mut received = Vec::new();
            let _ = stream.read_to_end(&mut received);
            received
        });
        let ca = TempFile::new(&trusted.pem());
        let mut open = open_tls(port, &ca, &[]);
        open.stdin().write_all(b"secret").unwrap();
        open.end().assert_failed(8, name, "127.0.0.1");
        assert_eq!(within(&served, "the peer"), b"");
    }
}

/// `SSL_CERT_FILE` stands for the authorities of the operating system.
#[test]
fn the_file_of_ca_is_trusted_instead_of_the_system() {
    let system = TempFile::new(&RIGHT.pem());
    let other = TempFile::new(&OTHER_NAME.pem());
    let with_other = ["--ca", other.path()];
    for (options, code) in [(&[][..], 0), (&with_other, 8)] {
        let (port, _served) = secure_peer(&RIGHT, |mut stream| {
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let status = Command::new(env!("CARGO_BIN_EXE_tcpsocket"))
            .env("SSL_CERT_FILE", system.path())
            .env_remove("SSL_CERT_DIR")
            .args(["open", "--tls", "--close-on-eof", "127.0.0.1"])
            .arg(port.to_string())
            .args(options)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert_eq!(status.unwrap().code(), Some(code), "{options:?}");
    }
}

#[test]
fn a_file_that_holds_no_certificates_is_bad_usage() {
    let key = TempFile::new(&RIGHT.key_pem());
    let nothing = TempFile::new("");
    let broken = TempFile::new(&RIGHT.pem().replace("MII", "!!!"));
    let no_certificate =
        TempFile::new("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (file, says) in [
        ("/nosuch/file", "No such file"),
        ("/", "directory"),
        (key.path(), "it is a private key"),
        (nothing.path(), "holds no certificate"),
        (broken.path(), "cannot be read"),
        (no_certificate.path(), "cannot be read"),
    ] {
        let arguments = ["open", "--tls", "--ca", file, "127.0.0.1", "1"];
        let ended = Running::start(arguments).end();
        ended.assert_failed(2, "InvalidAccessError", says);
        assert!(ended.stderr.contains(file), "{ended:?}");
    }
}

#[test]
fn a_server_that_stalls_in_the_handshake_is_4() {
    let (port, served) = peer(|mut stream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).map(|_| received)
    });
    let ca = TempFile::new(&RIGHT.pem());
    let begun = Instant::now();
    let ended = open_tls(port, &ca, &["--connect-timeout", "0.3"]).end();
    ended.assert_failed(4, "NetworkTimeoutError", "TLS");
    // Well below the 30 seconds that hold otherwise.
    let time = begun.elapsed().as_secs_f64();
    assert!((0.3..20.0).contains(&time), "{time} s");
    drop(within(&served, "the peer"));
}

#[test]
fn a_server_in_clear_is_8() {
    let (port, _served) = peer(|mut stream| {
        let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ca = TempFile::new(&RIGHT.pem());
    let ended = open_tls(port, &ca, &[]).end();
    assert_eq!(ended.code, Some(8), "{ended:?}");
    assert!(ended.stderr.starts_with("tcpsocket: Security"), "{ended:?}");
}
