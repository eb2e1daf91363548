//! Back-pressure in `tcpsocket open`: what one side does not take, the other is not asked for.

use std::io::Write;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::{
    DEADLINE, MIB, Running, assert_same, in_background, noise, peak_memory, peer, read_all, within,
};

/// How long the other side does not move until it counts as held back. Only a wait that is too short could do harm, and then it
/// weakens the test, it does not fail it.
pub(crate) const STALL: Duration = Duration::from_millis(300);

#[test]
fn a_peer_that_reads_late_gets_everything_and_the_input_is_held_back() {
    const LEN: usize = 32 * MIB;
    let (go, wait) = channel::<()>();
    let (port, served) = peer(move |stream| {
        wait.recv_timeout(DEADLINE).unwrap();
        read_all(stream)
    });
    let mut open = Running::open_and_close_on_eof(port);
    let mut stdin = open.stdin();
    let sent = noise(LEN, 3);
    let wanted = sent.clone();
    let (tell, taken) = channel();
    let writing = in_background(move || {
        for chunk in sent.chunks(MIB) {
            stdin.write_all(chunk).unwrap();
            let _ = tell.send(());
        }
    });
    // Until no more is taken: the kernel's buffers are full, and so are ours.
    let mut mibs = 0;
    while taken.recv_timeout(STALL).is_ok() {
        mibs += 1;
    }
    assert!(
        mibs < LEN / MIB,
        "all the input was taken, and nobody read it"
    );
    open_used_little_memory(&open);
    go.send(()).unwrap();
    within(&writing, "the input to be taken");
    assert_same(&within(&served, "the peer"), &wanted);
    open.end().assert_fine();
}

#[test]
fn output_that_nobody_reads_holds_the_peer_back() {
    const LEN: usize = 64 * MIB;
    let sent = noise(LEN, 4);
    let wanted = sent.clone();
    let (tell, taken) = channel();
    let (port, served) = peer(move |mut stream| {
        for chunk in sent.chunks(MIB) {
            stream.write_all(chunk).unwrap();
            let _ = tell.send(());
        }
    });
    let mut open = Running::open(port);
    let mut mibs = 0;
    while taken.recv_timeout(STALL).is_ok() {
        mibs += 1;
    }
    assert!(
        mibs < LEN / MIB,
        "the peer sent everything, and nobody read it"
    );
    open_used_little_memory(&open);
    let output = open.all_output();
    assert_same(&within(&output, "the output"), &wanted);
    within(&served, "the peer");
    open.end().assert_fine();
}

/// Far less than what passed through.
#[track_caller]
fn open_used_little_memory(open: &Running) {
    if let Some(kib) = peak_memory(open.id()) {
        assert!(kib < 24 * 1024, "{kib} KiB at the peak");
    }
}
