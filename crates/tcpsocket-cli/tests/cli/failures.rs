//! Each exit code from its real cause; TLS and STARTTLS have theirs in their own files.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use crate::support::{Running, peer, unused_port, within};

/// What a user types, and what the message must say of it.
#[test]
fn bad_usage_is_2_and_says_what_is_wrong() {
    let long = "a".repeat(256);
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: tcpsocket <COMMAND>"),
        (&["nosuch"], "nosuch"),
        (&["open"], "<HOST>"),
        (&["open", "127.0.0.1"], "<PORT>"),
        (&["open", "127.0.0.1", "0"], "no peer can listen on port 0"),
        (&["open", "127.0.0.1", "65536"], "at most 65535"),
        (&["open", "127.0.0.1", "-1"], "a port is a number"),
        (&["open", "127.0.0.1", "http"], "a port is a number"),
        (&["open", "127.0.0.1", ""], "a port is a number"),
        (
            &["open", "127.0.0.1:80", "80"],
            "the port is a separate argument",
        ),
        (&["open", "http://example.org", "80"], "is not a host"),
        (&["open", "[::1]", "80"], "without brackets"),
        (&["open", "fe80::1%", "80"], "zone"),
        (&["open", "fe80::1%+1", "80"], "a zone has no sign"),
        (&["open", "::1%lo", "80"], "only a link-local address"),
        (&["open", "0x7f.1", "80"], "is not a host"),
        (&["open", "", "80"], "it is empty"),
        (&["open", "ex ample.org", "80"], "is not a host"),
        (
            &["open", "--tls", "--starttls", "imap", "127.0.0.1", "1"],
            "--starttls",
        ),
        (
            &["open", "--starttls", "ftp", "127.0.0.1", "1"],
            "smtp, imap, pop3",
        ),
        (&["open", "--ca", "roots.pem", "127.0.0.1", "1"], "--tls"),
        (&["open", "--alpn", "h2", "127.0.0.1", "1"], "--tls"),
        (
            &["open", "--tls", "--alpn", &long, "127.0.0.1", "1"],
            "1 to 255 bytes",
        ),
        (
            &["open", "--tls", "--alpn", "", "127.0.0.1", "1"],
            "1 to 255 bytes",
        ),
        (
            &["open", "--connect-timeout", "soon", "127.0.0.1", "1"],
            "not a number",
        ),
        (
            &["open", "--connect-timeout", "0", "127.0.0.1", "1"],
            "more than 0 and at most 86400",
        ),
        (&["listen"], "<PORT>"),
        (&["listen", "http"], "a port is a number"),
        (
            &["open", "--connect-timeout", "-1", "127.0.0.1", "1"],
            "more than 0 and at most 86400",
        ),
        (
            &["open", "--connect-timeout", "NaN", "127.0.0.1", "1"],
            "not a number",
        ),
        (
            &["listen", "--address", "localhost", "0"],
            "names are not looked up",
        ),
        (&["listen", "--address", "[::1]", "0"], "without brackets"),
        (&["listen", "--address", "fe80::1%lo", "0"], "with a zone"),
        (&["completions", "csh"], "bash"),
        (
            &[
                "open",
                "--starttls",
                "smtp",
                "--ehlo",
                "a b",
                "127.0.0.1",
                "1",
            ],
            "a domain or an address in brackets",
        ),
        (
            &[
                "open",
                "--starttls",
                "imap",
                "--ehlo",
                "me.example",
                "127.0.0.1",
                "1",
            ],
            "--ehlo needs --starttls smtp",
        ),
        // What those type who know netcat, curl or OpenSSL.
        (
            &["example.org", "80"],
            "tip: try: tcpsocket open example.org 80\n",
        ),
        (
            &["open", "example.org:80"],
            "tip: try: tcpsocket open example.org 80\n",
        ),
        (
            &["open", "-v", "example.org", "80"],
            "tip: try: tcpsocket open --trace example.org 80\n",
        ),
        (
            &["open", "-w", "5", "example.org", "80"],
            "tip: try: tcpsocket open --connect-timeout 5 example.org 80\n",
        ),
        (
            &["open", "-z", "example.org", "80"],
            "tip: try: tcpsocket open --close-on-eof example.org 80 < /dev/null\n",
        ),
        (
            &["open", "--tls", "--insecure", "example.org", "443"],
            "tip: there is no --insecure: an untrusted certificate is never accepted",
        ),
        (
            &["-lvp", "4000"],
            "tip: try: tcpsocket listen --trace 4000\n",
        ),
        (
            &["https://example.org/"],
            "tip: try: tcpsocket open --tls example.org 443\n",
        ),
        (
            &["open", "https://example.org/", "443"],
            "tip: try: tcpsocket open --tls example.org 443\n",
        ),
        (
            &["open", "[::1]", "80"],
            "tip: try: tcpsocket open ::1 80\n",
        ),
    ];
    for (case, says) in cases {
        let mut running = Running::start(*case);
        let output = running.all_output();
        let ended = running.end();
        assert_eq!(ended.code, Some(2), "{case:?}: {ended:?}");
        assert!(ended.stderr.contains(says), "{case:?}: {ended:?}");
        assert!(!ended.stderr.contains("as a value"), "{case:?}: {ended:?}");
        assert_eq!(within(&output, "the output"), b"", "{case:?}");
    }
}

/// The address is kept for documentation (RFC 5737).
#[test]
fn an_address_that_this_machine_has_not_is_2() {
    let ended = Running::start(["listen", "--address", "192.0.2.1", "0"]).end();
    ended.assert_failed(2, "NetworkError", "this machine has no such address");
}

/// Not bad usage: which interfaces there are is told after the gates (NAME-13).
#[test]
fn no_such_interface_is_3() {
    let ended = Running::start(["open", "fe80::1%nosuch", "80"]).end();
    let says = "this machine has no such network interface";
    ended.assert_failed(3, "ConnectionRefusedError", says);
}

#[test]
fn nobody_there_is_3() {
    let ended = Running::open(unused_port()).end();
    ended.assert_failed(3, "ConnectionRefusedError", "127.0.0.1");
}

/// A backlog of connections that nobody accepts: the kernel answers no more.
#[cfg(target_os = "linux")]
#[test]
fn nothing_that_answers_is_4() {
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let port = at.port().to_string();
    let arguments = ["open", "--connect-timeout", "0.3", "127.0.0.1", &port];
    let ended = Running::start(arguments).end();
    ended.assert_failed(4, "NetworkTimeoutError", &format!("127.0.0.1:{port}"));
}

/// `invalid` is reserved: no resolver knows a name in it (RFC 6761, 6.4).
#[test]
fn a_name_that_nobody_knows_is_7() {
    let ended = Running::start(["open", "tcpsocket.invalid", "80"]).end();
    ended.assert_failed(7, "DomainNotFoundError", "tcpsocket.invalid");
}

/// A port below 1024 is for root, unless the system is set up otherwise. What it says to us it says to the command.
#[test]
fn a_port_that_the_system_denies_is_6() {
    let denied = (1..1024).find_map(
        |port| match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => Some((port, false)),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                Some((port, true))
            }
            Err(_) => None,
        },
    );
    let (port, denied) = denied.expect("every low port is taken");
    let mut listen = Running::start(["listen", &port.to_string()]);
    if denied {
        let ended = listen.end();
        ended.assert_failed(6, "NotAllowedError", &port.to_string());
    } else {
        let said = listen.next_said();
        assert!(said.contains("listening on"), "{said}");
    }
}

#[test]
fn an_input_that_cannot_be_read_is_1_and_the_connection_ends() {
    let (port, served) = peer(crate::support::read_all);
    let directory = File::open("/").unwrap();
    let port = port.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_tcpsocket"))
        .args(["open", "127.0.0.1", &port])
        .stdin(directory)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("tcpsocket: cannot read the input: "),
        "{said}"
    );
    assert_eq!(within(&served, "the peer"), b"");
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_full_is_1() {
    let (port, _served) = peer(|mut stream| {
        let _ = stream.write_all(b"does not fit");
        let _ = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    });
    let port = port.to_string();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tcpsocket"))
        .args(["open", "127.0.0.1", &port])
        .stdin(Stdio::null())
        .stdout(full)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("tcpsocket: cannot write the output: "),
        "{said}"
    );
}

/// Whoever closes standard error wants to hear nothing, and still has the exit code.
#[test]
fn a_closed_standard_error_changes_nothing() {
    let (port, served) = peer(|mut stream| stream.write_all(b"fine").unwrap());
    let port = port.to_string();
    let run = |command: &str| {
        let line = format!("{} {command}", env!("CARGO_BIN_EXE_tcpsocket"));
        Command::new("sh").args(["-c", &line]).output().unwrap()
    };
    let output = run(&format!("open --trace 127.0.0.1 {port} 2>&- < /dev/null"));
    assert_eq!(
        (output.status.code(), &*output.stdout),
        (Some(0), &b"fine"[..])
    );
    within(&served, "the peer");
    let output = run(&format!("open 127.0.0.1 {} 2>&-", unused_port()));
    assert_eq!(output.status.code(), Some(3));
}
