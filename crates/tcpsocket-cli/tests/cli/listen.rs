//! `tcpsocket listen` from outside, with clients of the standard library.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;

use crate::pressure::STALL;
use crate::support::{DEADLINE, MIB, Running, assert_same, in_background, noise, read_all, within};

/// A client, whose reads and writes have a deadline.
fn client(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The next bytes of the output.
fn expect<R: Read + Send + 'static>(mut from: R, wanted: &[u8]) -> R {
    let mut seen = vec![0; wanted.len()];
    let reading = in_background(move || {
        from.read_exact(&mut seen).unwrap();
        (from, seen)
    });
    let (from, seen) = within(&reading, "the output");
    assert_eq!(seen, wanted);
    from
}

#[test]
fn it_copies_both_ways_and_ends_with_the_one_peer() {
    let (mut listen, port) = Running::listen(&[]);
    let (mut stdin, mut stdout) = (listen.stdin(), listen.stdout());
    let mut peer = client(port);
    peer.write_all(b"question\0").unwrap();
    stdout = expect(stdout, b"question\0");
    stdin.write_all(b"answer\xff").unwrap();
    peer = expect(peer, b"answer\xff");
    let late = TcpStream::connect(("127.0.0.1", port));
    assert!(late.is_err(), "it takes a second peer");

    drop(peer);
    let ended = listen.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let said = format!("tcpsocket: listening on 127.0.0.1:{port}\n");
    assert_eq!(ended.stderr, said);
    assert_eq!(read_all(stdout), b"");
}

#[test]
fn the_end_of_the_input_is_not_the_end_of_the_connection() {
    let (mut listen, port) = Running::listen(&["--address", "0.0.0.0"]);
    drop(listen.stdin());
    let output = listen.all_output();
    let mut peer = client(port);
    peer.write_all(b"late").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(peer), b"");
    let ended = listen.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains(" on 0.0.0.0:"), "{ended:?}");
    assert_eq!(within(&output, "the output"), b"late");
}

#[test]
fn a_peer_that_reads_late_gets_everything_and_the_input_is_held_back() {
    const LEN: usize = 32 * MIB;
    let (mut listen, port) = Running::listen(&[]);
    let mut stdin = listen.stdin();
    let mut peer = client(port);
    let sent = noise(LEN, 10);
    let wanted = sent.clone();
    let (tell, taken) = channel();
    let writing = in_background(move || {
        for chunk in sent.chunks(MIB) {
            stdin.write_all(chunk).unwrap();
            let _ = tell.send(());
        }
    });
    let mut mibs = 0;
    while taken.recv_timeout(STALL).is_ok() {
        mibs += 1;
    }
    assert!(mibs < LEN / MIB, "all was taken, and nobody reads it");
    let reading = in_background(move || {
        let mut received = vec![0; LEN];
        peer.read_exact(&mut received).unwrap();
        received
    });
    assert_same(&within(&reading, "the peer"), &wanted);
    within(&writing, "the input to be taken");
    assert_eq!(listen.end().code, Some(0));
}

#[test]
fn with_keep_a_peer_that_resets_is_reported_and_the_next_is_served() {
    let (mut listen, port) = Running::listen(&["--keep"]);
    let (mut stdin, mut stdout) = (listen.stdin(), listen.stdout());
    client(port).write_all(b"one").unwrap();
    stdout = expect(stdout, b"one");

    let mut resets = client(port);
    resets.write_all(b"two").unwrap();
    stdout = expect(stdout, b"two");
    stdin.write_all(b"unread").unwrap();
    // Closing with unread input resets the connection.
    resets.peek(&mut [0]).unwrap();
    let peer = format!("(127.0.0.1 port {})\n", resets.local_addr().unwrap().port());
    drop(resets);
    let said = listen.next_said();
    assert!(said.starts_with("tcpsocket: NetworkError: "), "{said}");
    assert!(said.ends_with(&peer), "{said}");

    drop(stdin);
    for word in [b"three", b"four."] {
        client(port).write_all(word).unwrap();
        stdout = expect(stdout, word);
    }
    interrupt(listen);
}

/// Ends it as Ctrl-C does.
#[track_caller]
fn interrupt(running: Running) {
    let kill = format!("kill -INT {}", running.id());
    let killed = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(running.end().code, None);
}

/// Waits for a line with these words on standard error.
#[track_caller]
fn says(running: &mut Running, words: &str) {
    while !running.next_said().contains(words) {}
}

/// The output is noticed to be gone when nobody is connected any more.
#[test]
fn with_keep_an_output_that_goes_between_two_peers_is_the_end() {
    let (mut listen, port) = Running::listen(&["--keep", "--trace"]);
    // More than a pipe takes, and less than is held for it.
    client(port).write_all(&noise(256 * 1024, 9)).unwrap();
    says(&mut listen, "Close, clean");
    drop(listen.stdout());
    let ended = listen.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn with_keep_an_output_that_is_gone_is_the_end() {
    let (mut listen, port) = Running::listen(&["--keep"]);
    drop(listen.stdout());
    client(port).write_all(b"nobody reads this").unwrap();
    let ended = listen.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
}

/// The first peer leaves more than the output takes, and fails. Nothing of it is lost, and the second waits for its turn.
#[test]
fn with_keep_what_one_peer_left_in_a_full_output_comes_before_the_next_ones() {
    let (mut listen, port) = Running::listen(&["--keep", "--trace"]);
    let mut stdin = listen.stdin();
    let mut first = client(port);
    let sent = noise(64 * MIB, 5);
    let wanted = sent.clone();
    first.set_write_timeout(Some(STALL)).unwrap();
    let held_back = first.write_all(&sent);
    assert!(held_back.is_err(), "all was taken, and nobody reads it");
    stdin.write_all(b"unread").unwrap();
    first.peek(&mut [0]).unwrap();
    drop(first);
    // The failure is noticed when more is sent.
    stdin.write_all(b"more").unwrap();
    says(&mut listen, "tcpsocket: NetworkError: ");

    let mut second = client(port);
    second.write_all(b"second").unwrap();
    second.shutdown(Shutdown::Write).unwrap();
    says(&mut listen, "accepted from");
    let said = listen.next_said();
    assert!(said.ends_with("  suspend\n"), "{said}");
    let mut stdout = listen.stdout();
    let reading = in_background(move || {
        let mut seen = vec![0; 64 * 1024];
        let mut all = Vec::new();
        while !all.ends_with(b"second") {
            match stdout.read(&mut seen).unwrap() {
                0 => break,
                len => all.extend_from_slice(&seen[..len]),
            }
        }
        all
    });
    let all = within(&reading, "the output");
    let of_first = all.strip_suffix(b"second").unwrap();
    assert!(of_first.len() > MIB, "{} bytes", of_first.len());
    assert_same(of_first, &wanted[..of_first.len()]);
}

#[test]
fn a_port_that_is_taken_is_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = Running::start(["listen", &port]).end();
    ended.assert_failed(1, "AddressInUseError", &port);
}
