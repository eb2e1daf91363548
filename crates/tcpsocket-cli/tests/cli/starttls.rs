//! `tcpsocket open --starttls` against mail servers, each a script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rustls::version::TLS13;

use crate::secure::{OTHER_NAME, RIGHT, TempFile, accept, part};
use crate::support::{Ended, Running, peer, within};

/// What is said in the clear: first the server's greeting, then each line of the client with its answer. The last answer is the
/// go-ahead.
struct Dialogue {
    protocol: &'static str,
    greeting: &'static str,
    lines: &'static [(&'static str, &'static str)],
}

const SMTP: Dialogue = Dialogue {
    protocol: "smtp",
    greeting: "220 mail.example ESMTP\r\n",
    lines: &[
        ("EHLO [127.0.0.1]", "250-mail.example\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go ahead\r\n"),
    ],
};

const IMAP: Dialogue = Dialogue {
    protocol: "imap",
    greeting: "* OK ready\r\n",
    lines: &[
        (
            "A1 CAPABILITY",
            "* CAPABILITY IMAP4rev1 STARTTLS\r\nA1 OK done\r\n",
        ),
        ("A2 STARTTLS", "A2 OK go ahead\r\n"),
    ],
};

const POP3: Dialogue = Dialogue {
    protocol: "pop3",
    greeting: "+OK ready\r\n",
    lines: &[("STLS", "+OK go ahead\r\n")],
};

/// Says its part of a dialogue. Returns the lines of the client.
fn in_clear(stream: &TcpStream, dialogue: &Dialogue) -> Vec<String> {
    let (mut from, mut to) = (stream, stream);
    to.write_all(dialogue.greeting.as_bytes()).unwrap();
    let mut said = Vec::new();
    for (_, answer) in dialogue.lines {
        let mut line = Vec::new();
        // Byte by byte: whatever is behind the line belongs to TLS.
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        said.push(String::from_utf8(line).unwrap().trim_end().to_owned());
        to.write_all(answer.as_bytes()).unwrap();
    }
    said
}

/// The dialogue, and then one line under TLS, which is answered with another.
fn mail_server(dialogue: &'static Dialogue) -> (u16, Receiver<(Vec<String>, String)>) {
    let config = RIGHT.config(&TLS13);
    peer(move |stream| {
        let clear = in_clear(&stream, dialogue);
        let mut stream = BufReader::new(accept(config, stream));
        let mut line = String::new();
        // A client that refuses the certificate says nothing.
        if stream.read_line(&mut line).is_ok() {
            let mut stream = stream.into_inner();
            stream.write_all(b"under TLS\r\n").unwrap();
            part(stream);
        }
        (clear, line)
    })
}

fn start(protocol: &str, port: u16, ca: &TempFile, more: &[&str]) -> Running {
    let port = port.to_string();
    let fixed = [
        "open",
        "--starttls",
        protocol,
        "--ca",
        ca.path(),
        "127.0.0.1",
        &port,
    ];
    Running::start(fixed.iter().chain(more))
}

#[test]
fn what_is_said_in_clear_stays_out_of_the_output_and_is_in_the_trace() {
    let ca = TempFile::new(&RIGHT.pem());
    for dialogue in [&SMTP, &IMAP, &POP3] {
        let (port, served) = mail_server(dialogue);
        let mut open = start(dialogue.protocol, port, &ca, &["--trace"]);
        let output = open.all_output();
        open.stdin().write_all(b"greeted anew\r\n").unwrap();
        let ended = open.end();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(within(&output, "the output"), b"under TLS\r\n");
        let (clear, secure) = within(&served, "the server");
        let lines: Vec<&str> = dialogue.lines.iter().map(|(line, _)| *line).collect();
        assert_eq!(clear, lines);
        assert_eq!(secure, "greeted anew\r\n");

        let mut wanted = vec![format!("open 127.0.0.1 {port}"), "Open".into()];
        wanted.push(data(dialogue.greeting));
        for (line, answer) in dialogue.lines {
            wanted.push(format!("send, {} bytes: true", line.len() + 2));
            wanted.push(data(answer));
        }
        wanted.push("upgrade_to_secure".into());
        wanted.push("send, 14 bytes: true".into());
        wanted.push("Data, 11 bytes".into());
        wanted.push("Close, clean".into());
        let mut told = told(&ended);
        told.retain(|it| *it != "Drain");
        // Which comes first is up to the network: the end of the handshake, or our first word.
        let secure = told
            .iter()
            .position(|it| *it == "secure by TLSv1.3, 1 certificate");
        told.remove(secure.unwrap_or_else(|| panic!("{told:#?}")));
        assert_eq!(told, wanted);
    }
}

/// Each of the servers' answers is one write, and so one event.
fn data(text: &str) -> String {
    format!("Data, {} bytes", text.len())
}

/// What the trace says, without its columns.
fn told(ended: &Ended) -> Vec<&str> {
    let lines = ended.stderr.lines().skip(1);
    let lines = lines.filter(|it| !it.starts_with("tcpsocket: "));
    lines.filter_map(|it| it.get(33..)).collect()
}

const NAMED: Dialogue = Dialogue {
    lines: &[
        ("EHLO me.example", "250-mail.example\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go ahead\r\n"),
    ],
    ..SMTP
};

#[test]
fn the_name_in_ehlo_can_be_chosen() {
    let ca = TempFile::new(&RIGHT.pem());
    let (port, served) = mail_server(&NAMED);
    let mut open = start("smtp", port, &ca, &["--ehlo", "me.example"]);
    let output = open.all_output();
    open.stdin().write_all(b"greeted anew\r\n").unwrap();
    open.end().assert_fine();
    assert_eq!(within(&output, "the output"), b"under TLS\r\n");
    let (clear, _) = within(&served, "the server");
    assert_eq!(clear, ["EHLO me.example", "STARTTLS"]);
}

#[test]
fn a_certificate_that_does_not_do_is_8() {
    let (port, served) = mail_server(&SMTP);
    let ca = TempFile::new(&OTHER_NAME.pem());
    let mut open = start("smtp", port, &ca, &[]);
    open.stdin().write_all(b"secret\r\n").unwrap();
    open.end()
        .assert_failed(8, "SecurityUntrustedCertificateIssuerError", "127.0.0.1");
    let (_, secure) = within(&served, "the server");
    assert_eq!(secure, "");
}

/// Says this, and nothing more.
fn says(text: &'static str) -> (u16, Receiver<Vec<u8>>) {
    peer(move |mut stream| {
        stream.write_all(text.as_bytes()).unwrap();
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received);
        received
    })
}

#[test]
fn what_leads_to_no_tls_is_refused_and_the_trace_ends_as_the_socket_does() {
    let ca = TempFile::new(&RIGHT.pem());
    for (protocol, text, code, name, says_so) in [
        // It does not offer it, and the client has asked nothing yet.
        ("smtp", "554 go away\r\n", 5, "NetworkError", "go away"),
        (
            "imap",
            "* PREAUTH in already\r\n",
            8,
            "SecurityError",
            "PREAUTH",
        ),
        ("pop3", "-ERR busy\r\n", 5, "NetworkError", "busy"),
        (
            "smtp",
            "220 here\r\n250 STARTTLS\r\n",
            8,
            "SecurityError",
            "before they were requested",
        ),
        // A goodbye that came with the greeting is no attack.
        (
            "smtp",
            "220 here\r\n421 shutting down\r\n",
            5,
            "NetworkError",
            "421 shutting down",
        ),
        (
            "pop3",
            "HTTP/1.1 400 Bad Request\r\n",
            5,
            "NetworkError",
            "HTTP/1.1",
        ),
    ] {
        let (port, served) = says(text);
        let mut open = start(protocol, port, &ca, &["--trace"]);
        let output = open.all_output();
        let ended = open.end();
        ended.assert_failed(code, name, says_so);
        assert_eq!(within(&output, "the output"), b"");
        let told = told(&ended);
        let end = [
            format!("abort, {name}"),
            format!("Error, {name}"),
            "Close, not clean".into(),
        ];
        assert!(
            told.ends_with(&end.each_ref().map(String::as_str)),
            "{told:#?}"
        );
        drop(within(&served, "the server"));
    }
}

#[test]
fn a_server_that_leaves_in_the_middle_is_5() {
    let ca = TempFile::new(&RIGHT.pem());
    let (port, served) = peer(|mut stream| stream.write_all(b"220-mail").unwrap());
    let ended = start("smtp", port, &ca, &[]).end();
    ended.assert_failed(5, "NetworkInterruptError", "before TLS");
    within(&served, "the server");
}

/// What a server still does.
type Until = fn(&TcpStream);

#[test]
fn a_server_that_stalls_is_4_wherever_it_does() {
    let ca = TempFile::new(&RIGHT.pem());
    let silent = |_: &TcpStream| {};
    let greets = |stream: &TcpStream| {
        let mut to = stream;
        to.write_all(SMTP.greeting.as_bytes()).unwrap();
    };
    let agrees = |stream: &TcpStream| drop(in_clear(stream, &SMTP));
    let places: [(Until, &str); 3] = [
        (silent, "did not agree to TLS within 300ms"),
        (greets, "did not agree to TLS within 300ms"),
        (agrees, "handshake"),
    ];
    for (until, says) in places {
        let (port, served) = peer(move |mut stream| {
            until(&stream);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let begun = Instant::now();
        let ended = start("smtp", port, &ca, &["--connect-timeout", "0.3", "--trace"]).end();
        // Well below the 30 seconds that hold otherwise.
        let time = begun.elapsed().as_secs_f64();
        assert!((0.3..20.0).contains(&time), "{time} s");
        ended.assert_failed(4, "NetworkTimeoutError", says);
        let told = told(&ended);
        let end = ["Error, NetworkTimeoutError", "Close, not clean"];
        assert!(told.ends_with(&end), "{told:#?}");
        within(&served, "the server");
    }
}

#[test]
fn a_server_that_is_not_there_is_3() {
    let ca = TempFile::new(&RIGHT.pem());
    let ended = start("imap", crate::support::unused_port(), &ca, &["--trace"]).end();
    ended.assert_failed(3, "ConnectionRefusedError", "127.0.0.1");
    let end = ["Error, ConnectionRefusedError", "Close, not clean"];
    assert!(told(&ended).ends_with(&end), "{ended:?}");
}
