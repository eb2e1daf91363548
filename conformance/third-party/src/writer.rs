//! The writer: a thread that waits until the kernel has room, and after a close until the peer has ended or linger is over.

use std::io::Write as _;
use std::sync::Arc;
use std::thread;

use crate::shared::Shared;
use crate::state::Write;

/// Returns when the connection is over.
pub(crate) fn run(shared: &Shared) {
    let mut entered = shared.enter();
    loop {
        entered.expire();
        match entered.write_job() {
            Write::Quit => return shared.leave(entered),
            Write::Stuck => {
                let stream = Shared::stream(&entered);
                let (Some(stream), Some(byte)) = (stream, entered.lend()) else {
                    unreachable!("there is a backlog, so there is a connection");
                };
                shared.leave(entered);
                // One byte waits for room, for as long as the write timeout says. The rest follows under the lock, where
                // what was taken is counted at once.
                let result = (&*stream).write(&byte);
                drop(stream);
                entered = shared.enter();
                entered.lent(byte, result);
                shared.leave(entered);
                entered = shared.enter();
            }
            it @ Write::Wait(until) => {
                shared.leave(entered);
                entered = shared.enter();
                if entered.write_job() == it {
                    entered = shared.writer_sleeps(entered, it, until);
                }
            }
        }
    }
}

/// Starts the writer of a connection that is up.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    let its = shared.clone();
    thread::Builder::new()
        .name(format!("writer {}", shared.port))
        .spawn(move || run(&its))
        .map(drop)
}
