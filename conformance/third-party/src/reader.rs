//! The reader: a thread that reads when somebody waits for data, and after a close to discard.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::thread;

use crate::shared::Shared;
use crate::state::Read;

/// What is read at once; a quarter of what may wait undelivered (RX-15), of which there is never more than one.
const BUFFER: usize = 64 << 10;

/// Returns when the input is over.
fn run(shared: &Shared) {
    let mut buffer = vec![0; BUFFER];
    let mut entered = shared.enter();
    loop {
        match entered.read_job() {
            Read::Quit => return shared.leave(entered),
            Read::Wait => entered = shared.reader_sleeps(entered),
            Read::Now => {
                let Some(stream) = Shared::stream(&entered) else {
                    unreachable!("there is something to read, so there is a connection");
                };
                shared.leave(entered);
                let result = (&*stream).read(&mut buffer);
                drop(stream);
                entered = shared.enter();
                // What came after the connection was given up is nobody's.
                if entered.read_job() == Read::Quit {
                    continue;
                }
                match result {
                    Ok(0) => entered.fin(),
                    Ok(n) => entered.received(&buffer[..n]),
                    Err(it) if it.kind() == ErrorKind::Interrupted => {}
                    Err(it) => entered.read_failed(it),
                }
                shared.leave(entered);
                entered = shared.enter();
            }
        }
    }
}

/// Starts the reader of a connection. It returns when the connection is let go of.
pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<()> {
    let its = shared.clone();
    thread::Builder::new()
        .name(format!("reader {}", shared.port))
        .spawn(move || run(&its))
        .map(drop)
}
