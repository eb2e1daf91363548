//! What the command does with its input and output, where they are no ordinary ones, or there is no connection for them.

use std::io::{Read, Write, pipe};
use std::net::{Shutdown, TcpStream};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use rustix::io::ioctl_fionbio;

use crate::support::{
    DEADLINE, MIB, Running, assert_same, echo, in_background, noise, peer, read_all, unused_port,
    within,
};

/// Writes without an end, until nobody reads any more.
fn pour(mut to: impl Write + Send + 'static) {
    thread::spawn(move || while to.write_all(&[b'x'; 65_536]).is_ok() {});
}

#[test]
fn input_that_the_peer_has_no_ear_for_is_5() {
    let (port, _served) = peer(|stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        read_all(stream)
    });
    let mut open = Running::open(port);
    pour(open.stdin());
    let ended = open.end();
    ended.assert_failed(
        5,
        "NetworkInterruptError",
        "before all of the input was sent",
    );
}

#[test]
fn the_same_for_a_listener_whose_client_half_closes() {
    let (mut listen, port) = Running::listen(&[]);
    pour(listen.stdin());
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let got = in_background(move || read_all(client));
    let ended = listen.end();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.stderr.contains("before all of the input was sent"));
    within(&got, "what was sent");
}

#[test]
fn without_a_connection_the_input_is_for_somebody_else() {
    let (mut input, mut to) = pipe().unwrap();
    to.write_all(b"for whoever is next").unwrap();
    drop(to);
    let ours = input.try_clone().unwrap();
    let arguments = ["open", "127.0.0.1", &unused_port().to_string()];
    let ended = Running::start_with(arguments, ours, Stdio::null()).end();
    ended.assert_failed(3, "ConnectionRefusedError", "127.0.0.1");
    let mut left = String::new();
    input.read_to_string(&mut left).unwrap();
    assert_eq!(left, "for whoever is next");
}

#[test]
fn an_input_and_an_output_that_do_not_block_are_waited_for() {
    let (input, mut to) = pipe().unwrap();
    let (mut from, output) = pipe().unwrap();
    ioctl_fionbio(&input, true).unwrap();
    ioctl_fionbio(&output, true).unwrap();
    let (port, _served) = peer(echo);
    let arguments = ["open", "127.0.0.1", &port.to_string()];
    let mut open = Running::start_with(arguments, input, output);
    let sent = noise(8 * MIB, 3);
    let (wanted, len) = (sent.clone(), sent.len());
    let (first, begun) = channel();
    let reading = in_background(move || {
        let mut all = vec![0; len];
        // One byte at first, so that the output is full for a while.
        from.read_exact(&mut all[..1]).unwrap();
        first.send(()).unwrap();
        from.read_exact(&mut all[1..]).unwrap();
        all
    });
    let writing = in_background(move || {
        to.write_all(&sent[..1]).unwrap();
        begun.recv_timeout(DEADLINE).unwrap();
        to.write_all(&sent[1..]).unwrap();
        to
    });
    assert_same(&within(&reading, "the echo"), &wanted);
    let to = within(&writing, "the input to be taken");
    open.stop();
    drop(to);
}

#[test]
fn an_output_that_is_gone_is_noticed_although_the_peer_is_quiet() {
    let (go, wait) = channel::<()>();
    let (port, served) = peer(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        // Not a byte more, and no end.
        let ended = stream.read(&mut [0]).unwrap();
        wait.recv_timeout(DEADLINE).unwrap();
        ended
    });
    let mut open = Running::open(port);
    let stdin = open.stdin();
    let mut stdout = open.stdout();
    stdout.read_exact(&mut [0; 5]).unwrap();
    drop(stdout);
    // The peer hears of it without having said anything.
    go.send(()).unwrap();
    assert_eq!(within(&served, "the end of the stream"), 0);
    open.end().assert_fine();
    drop(stdin);
}

#[test]
fn a_reader_of_the_demo_may_leave() {
    let mut demo = Running::start(["demo"]);
    let mut stdout = demo.stdout();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    demo.end().assert_fine();
}
