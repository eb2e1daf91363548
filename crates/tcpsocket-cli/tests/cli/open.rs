//! `tcpsocket open` from outside, against peers of the standard library.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::mpsc::channel;

use crate::support::{
    DEADLINE, MIB, Running, assert_same, echo, in_background, noise, peer, read_all, unused_port,
    within,
};

#[test]
fn binary_data_makes_the_round_trip() {
    let (port, _served) = peer(echo);
    let mut open = Running::open(port);
    let (mut stdin, mut stdout) = (open.stdin(), open.stdout());
    let sent = noise(3 * MIB + 1, 1);
    let wanted = sent.clone();
    let writing = in_background(move || {
        stdin.write_all(&sent).unwrap();
        stdin
    });
    let reading = in_background(move || {
        let mut echoed = vec![0; 3 * MIB + 1];
        stdout.read_exact(&mut echoed).unwrap();
        echoed
    });
    assert_same(&within(&reading, "the echo"), &wanted);
    drop(within(&writing, "the input to be taken"));
}

#[test]
fn every_byte_comes_back_at_once_although_the_input_stays_open() {
    let (port, _served) = peer(echo);
    let mut open = Running::open(port);
    let (mut stdin, mut stdout) = (open.stdin(), open.stdout());
    let session = in_background(move || {
        for byte in 0..=255 {
            stdin.write_all(&[byte]).unwrap();
            let mut echoed = [!byte];
            stdout.read_exact(&mut echoed).unwrap();
            assert_eq!(echoed, [byte]);
        }
    });
    within(&session, "256 round trips");
}

#[test]
fn the_command_ends_when_the_peer_closes_although_the_input_is_open() {
    let (port, served) = peer(|mut stream| stream.write_all(b"bye\n").unwrap());
    let mut open = Running::open(port);
    let stdin = open.stdin();
    let output = open.all_output();
    within(&served, "the peer");
    open.end().assert_fine();
    assert_eq!(within(&output, "the output"), b"bye\n");
    drop(stdin);
}

#[test]
fn after_the_end_of_the_input_answers_still_arrive() {
    let (go, wait) = channel::<()>();
    let (port, served) = peer(move |mut stream| {
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        // The input has ended by now, and the connection has not.
        wait.recv_timeout(DEADLINE).unwrap();
        stream.write_all(b"pong").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        (request, read_all(stream))
    });
    let mut open = Running::open(port);
    let output = open.all_output();
    let mut stdin = open.stdin();
    stdin.write_all(b"ping").unwrap();
    drop(stdin);
    go.send(()).unwrap();
    open.end().assert_fine();
    assert_eq!(within(&output, "the output"), b"pong");
    assert_eq!(within(&served, "the peer"), (*b"ping", vec![]));
}

#[test]
fn close_on_eof_sends_everything_and_closes() {
    let (port, served) = peer(read_all);
    let mut open = Running::open_and_close_on_eof(port);
    let mut stdin = open.stdin();
    let sent = noise(2 * MIB, 2);
    let wanted = sent.clone();
    let writing = in_background(move || stdin.write_all(&sent).unwrap());
    within(&writing, "the input to be taken");
    assert_same(&within(&served, "the peer"), &wanted);
    open.end().assert_fine();
}

#[test]
fn close_on_eof_with_no_input_closes_after_the_connection_is_there() {
    let (port, served) = peer(read_all);
    let mut open = Running::open_and_close_on_eof(port);
    drop(open.stdin());
    assert_eq!(within(&served, "the peer"), b"");
    open.end().assert_fine();
}

#[test]
fn a_refused_connection_has_its_code_and_name() {
    let refused = Running::open(unused_port()).end();
    assert_eq!(refused.code, Some(3));
    assert!(
        refused
            .stderr
            .starts_with("tcpsocket: ConnectionRefusedError: "),
        "{refused:?}"
    );
    assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
}

#[test]
fn a_reset_has_its_code_and_name_and_what_came_before_it_is_shown() {
    let (go, wait) = channel::<()>();
    let (port, served) = peer(move |mut stream| {
        stream.write_all(b"last words").unwrap();
        wait.recv_timeout(DEADLINE).unwrap();
        // Closing with unread input resets the connection.
        stream.peek(&mut [0]).unwrap();
    });
    let mut open = Running::open(port);
    let (mut stdin, mut stdout) = (open.stdin(), open.stdout());
    let reading = in_background(move || {
        let mut words = [0; 10];
        stdout.read_exact(&mut words).unwrap();
        (words, read_all(stdout))
    });
    stdin.write_all(b"unread").unwrap();
    go.send(()).unwrap();
    within(&served, "the peer");
    assert_eq!(within(&reading, "the output"), (*b"last words", vec![]));
    let ended = open.end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.stderr.starts_with("tcpsocket: NetworkError: "),
        "{ended:?}"
    );
}

#[test]
fn bad_usage_is_2() {
    let cases: [&[&str]; 8] = [
        &[],
        &["open"],
        &["open", "127.0.0.1"],
        &["open", "127.0.0.1", "0"],
        &["open", "127.0.0.1", "65536"],
        &["open", "127.0.0.1", "http"],
        &["open", "127.0.0.1:80", "80"],
        &["open", "0x7f.1", "80"],
    ];
    for case in cases {
        let ended = Running::start(case).end();
        assert_eq!(ended.code, Some(2), "{case:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{case:?}");
    }
}

#[test]
fn an_output_that_is_closed_early_ends_the_connection_quietly() {
    let (port, served) = peer(|mut stream| {
        let chunk = [b'x'; 64 * 1024];
        // Sends until the other side has had enough.
        let sending = stream
            .try_clone()
            .map(|mut it| while it.write_all(&chunk).is_ok() {});
        sending.unwrap();
        stream.read(&mut [0]).unwrap_or(0)
    });
    let mut open = Running::open(port);
    let stdin = open.stdin();
    let mut stdout = open.stdout();
    let reading = in_background(move || stdout.read_exact(&mut [0; 100]).unwrap());
    within(&reading, "some output");
    open.end().assert_fine();
    assert_eq!(within(&served, "the peer"), 0);
    drop(stdin);
}
