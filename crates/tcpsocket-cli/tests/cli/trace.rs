//! `--trace`, line by line.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::channel;

use crate::support::{DEADLINE, Running, in_background, peer, read_all, unused_port, within};

/// A line of a trace.
#[derive(Debug)]
struct Told {
    at: f64,
    state: String,
    buffered: u64,
    what: String,
}

/// Reads a trace, whose columns are where its header has them.
#[track_caller]
fn parse(trace: &str) -> Vec<Told> {
    let mut lines = trace.lines();
    let header = lines.next().unwrap();
    let names: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(names, ["ms", "state", "buffered", "what"]);
    let (state, what) = (header.find("state").unwrap(), header.find("what").unwrap());
    let buffered = header.find("buffered").unwrap() + "buffered".len();
    let parse = |line: &str| Told {
        at: line[..state].trim().parse().unwrap(),
        state: line[state..].split(' ').next().unwrap().to_owned(),
        buffered: line[..buffered]
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap(),
        what: line[what..].to_owned(),
    };
    let told: Vec<Told> = lines.map(parse).collect();
    assert!(told.is_sorted_by_key(|it| it.at), "{told:#?}");
    told
}

/// State and text of each line, without those of `Drain`, which may come at several places.
fn story(told: &[Told]) -> Vec<(&str, &str)> {
    let lines = told.iter().filter(|it| it.what != "Drain");
    lines
        .map(|it| (it.state.as_str(), it.what.as_str()))
        .collect()
}

#[test]
fn every_call_and_event_is_a_line() {
    let (port, served) = peer(|mut stream| {
        let mut all = [0; 4];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(b"answer").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream)
    });
    let mut open = Running::start(["open", "--trace", "127.0.0.1", &port.to_string()]);
    let mut stdin = open.stdin();
    stdin.write_all(b"1234").unwrap();
    let ended = open.end();
    within(&served, "the peer");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = parse(&ended.stderr);
    let opened = format!("open 127.0.0.1 {port}");
    let wanted = [
        ("connecting", opened.as_str()),
        ("open", "Open"),
        ("open", "send, 4 bytes: true"),
        ("open", "Data, 6 bytes"),
        ("closed", "Close, clean"),
    ];
    assert_eq!(story(&told), wanted);
    let sent = told.iter().find(|it| it.what.starts_with("send")).unwrap();
    assert_eq!(sent.buffered, 4);
    assert_eq!(told.last().unwrap().buffered, 0);
}

#[test]
fn close_on_eof_and_back_pressure_show() {
    const LEN: usize = 1 << 20;
    let (port, served) = peer(read_all);
    let arguments = [
        "open",
        "--trace",
        "--close-on-eof",
        "127.0.0.1",
        &port.to_string(),
    ];
    let mut open = Running::start(arguments);
    let mut stdin = open.stdin();
    let writing = in_background(move || stdin.write_all(&[7; LEN]).unwrap());
    let ended = open.end();
    within(&writing, "the input to be taken");
    assert_eq!(within(&served, "the peer").len(), LEN);
    let told = parse(&ended.stderr);
    let sent: usize = told
        .iter()
        .filter_map(|it| it.what.strip_prefix("send, ")?.split(' ').next())
        .map(|it| it.parse::<usize>().unwrap())
        .sum();
    assert_eq!(sent, LEN);
    // After `false` comes no send before its `Drain`.
    let mut full = false;
    for it in &told {
        if it.what.starts_with("send") {
            assert!(!full, "{told:#?}");
            full = it.what.ends_with(": false");
        } else if it.what == "Drain" {
            full = false;
        }
    }
    let end: Vec<(&str, &str)> = story(&told).into_iter().rev().take(2).collect();
    assert_eq!(end, [("closed", "Close, clean"), ("closing", "close")]);
}

#[test]
fn a_wait_for_the_peer_to_close_is_told() {
    let (go, wait) = channel::<()>();
    let (port, served) = peer(move |mut stream| {
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        wait.recv_timeout(DEADLINE).unwrap();
    });
    let port = port.to_string();
    let arguments = ["open", "--trace", "--close-on-eof", "127.0.0.1", &port];
    let mut open = Running::start(arguments);
    drop(open.stdin());
    while !open
        .next_said()
        .contains("waiting up to 30 seconds for the peer")
    {}
    go.send(()).unwrap();
    within(&served, "the peer");
    assert_eq!(open.end().code, Some(0));
}

#[test]
fn a_failure_has_its_name_in_the_trace_and_its_message_at_the_end() {
    let port = unused_port().to_string();
    let ended = Running::start(["open", "--trace", "127.0.0.1", &port]).end();
    ended.assert_failed(3, "ConnectionRefusedError", &port);
    let (trace, _) = ended.stderr.split_once("tcpsocket: ").unwrap();
    let opened = format!("open 127.0.0.1 {port}");
    let wanted = [
        ("connecting", opened.as_str()),
        ("closed", "Error, ConnectionRefusedError"),
        ("closed", "Close, not clean"),
    ];
    assert_eq!(story(&parse(trace)), wanted);
}

#[test]
fn listen_tells_of_each_connection_anew() {
    let (mut listen, port) = Running::listen(&["--trace", "--keep"]);
    drop(listen.stdin());
    let mut trace = listen.next_said();
    for _ in 0..2 {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let from = stream.local_addr().unwrap().port();
        drop(stream);
        let mut lines = String::new();
        while !lines.contains("Close") {
            lines += &listen.next_said();
        }
        let accepted = format!("accepted from 127.0.0.1 {from}");
        let wanted = [("open", accepted.as_str()), ("closed", "Close, clean")];
        trace.truncate(trace.find('\n').unwrap() + 1);
        trace += &lines;
        assert_eq!(story(&parse(&trace)), wanted);
    }
}

#[test]
fn an_output_that_is_gone_is_told() {
    let (port, served) = peer(|mut stream| {
        let chunk = [b'x'; 64 * 1024];
        while stream.write_all(&chunk).is_ok() {}
    });
    let mut open = Running::start(["open", "--trace", "127.0.0.1", &port.to_string()]);
    let stdin = open.stdin();
    drop(open.stdout());
    let ended = open.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = parse(&ended.stderr);
    assert_eq!(told.last().unwrap().what, "drop", "{told:#?}");
    within(&served, "the peer");
    drop(stdin);
}
