//! How much memory a long transfer to a slow reader takes: no more in the end than at the beginning.
//!
//! The environment variable `TCPSOCKET_TRANSFER_MIB` makes it longer than a debug build likes.

use std::env;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::pressure::STALL;
use crate::secure::{RIGHT, TempFile, secure_peer};
use crate::support::{DEADLINE, MIB, Running, in_background, noise, peak_memory, peer};

/// After so many MiB, everything that buffers is in use.
const SETTLED: usize = 64;
/// What they may come to, in KiB, with the command itself.
const MOST: usize = 24 * 1024;
/// What may come on top of it, in KiB.
const GROWTH: usize = 4 * 1024;

#[test]
fn receiving_takes_no_more_in_the_end_than_at_the_beginning() {
    receives(false);
}

#[test]
fn receiving_under_tls_takes_no_more_in_the_end_than_at_the_beginning() {
    receives(true);
}

#[test]
fn sending_takes_no_more_in_the_end_than_at_the_beginning() {
    sends(false);
}

#[test]
fn sending_under_tls_takes_no_more_in_the_end_than_at_the_beginning() {
    sends(true);
}

/// From a fast peer to a slow output.
fn receives(secure: bool) {
    let (tell, sent) = channel();
    let (stay, wait) = channel::<()>();
    let (mut open, _ca) = open(secure, move |mut stream| {
        send(&mut stream, &tell);
        // Not before the memory was looked at.
        let _ = wait.recv();
    });
    let (stdout, pid) = (open.stdout(), open.id());
    let received = background(move |tell| receive(stdout, &sent, pid, &tell));
    assert_flat("receiving", secure, &received);
    drop(stay);
}

/// From a fast input to a slow peer.
fn sends(secure: bool) {
    let (tell, sent) = channel();
    let (give_pid, pid) = channel();
    let (tell_received, received) = channel();
    let (mut open, _ca) = open(secure, move |stream| {
        let pid = pid.recv().unwrap();
        receive(stream, &sent, pid, &tell_received);
    });
    give_pid.send(open.id()).unwrap();
    let mut stdin = open.stdin();
    let _stdin = in_background(move || {
        send(&mut stdin, &tell);
        stdin
    });
    assert_flat("sending", secure, &received);
}

trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// The command, with a peer. The file is what it trusts.
fn open(
    secure: bool,
    script: impl FnOnce(Box<dyn Stream>) + Send + 'static,
) -> (Running, TempFile) {
    let ca = TempFile::new(&RIGHT.pem());
    let (port, _) = match secure {
        true => secure_peer(&RIGHT, |stream| script(Box::new(stream))),
        false => peer(|stream| script(Box::new(stream))),
    };
    let port = port.to_string();
    let tls = ["--tls", "--ca", ca.path()];
    let options = if secure { &tls[..] } else { &[] };
    let arguments = ["open", "127.0.0.1", &port];
    (Running::start(arguments.iter().chain(options)), ca)
}

fn transfer_mib() -> usize {
    let mib = env::var("TCPSOCKET_TRANSFER_MIB");
    mib.map_or(192, |it| it.parse().expect("TCPSOCKET_TRANSFER_MIB"))
}

fn block() -> Vec<u8> {
    noise(MIB, 8)
}

/// Writes one block after the other, and tells after each.
fn send(to: &mut dyn Write, tell: &Sender<()>) {
    let block = block();
    for _ in 0..transfer_mib() {
        to.write_all(&block).unwrap();
        let _ = tell.send(());
    }
    to.flush().unwrap();
}

enum Step {
    Another,
    /// The peaks of memory, in KiB: after the first rest, and at the end.
    Peaks(usize, usize),
}

/// Reads and compares, and rests often, until the sender is held back.
fn receive(mut from: impl Read, sent: &Receiver<()>, pid: u32, tell: &Sender<Step>) {
    let block = block();
    let mut received = vec![0; MIB];
    let peak = || peak_memory(pid).unwrap_or_default();
    let mut settled = None;
    for mib in 1..=transfer_mib() {
        from.read_exact(&mut received).unwrap();
        assert!(received == block, "MiB {mib} is not what was sent");
        if mib % SETTLED == 0 {
            while sent.recv_timeout(STALL).is_ok() {}
            settled = settled.or_else(|| Some(peak()));
        }
        tell.send(Step::Another).unwrap();
    }
    let settled = settled.expect("the transfer is too short");
    tell.send(Step::Peaks(settled, peak())).unwrap();
}

fn background(work: impl FnOnce(Sender<Step>) + Send + 'static) -> Receiver<Step> {
    let (tell, told) = channel();
    let _ = in_background(move || work(tell));
    told
}

#[track_caller]
fn assert_flat(what: &str, secure: bool, steps: &Receiver<Step>) {
    let (settled, end) = loop {
        match steps.recv_timeout(DEADLINE).expect("the transfer goes on") {
            Step::Another => {}
            Step::Peaks(settled, end) => break (settled, end),
        }
    };
    let (mib, secure) = (transfer_mib(), if secure { " under TLS" } else { "" });
    let told =
        format!("{what}{secure}: {settled} KiB after {SETTLED} MiB, {end} KiB after {mib} MiB");
    println!("{told}");
    assert!(settled <= MOST && end <= settled + GROWTH, "{told}");
}
