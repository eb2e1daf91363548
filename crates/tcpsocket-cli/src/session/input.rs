//! Standard input, read by a thread of its own.

use std::io::{self, ErrorKind, Read};
use std::thread;

use async_channel::{Receiver, Sender};
use tcpsocket::Bytes;

/// What one read may take: as much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// How many chunks are read ahead of the socket.
const AHEAD: usize = 2;

/// Starts reading. The channel is closed at the end of the input.
///
/// The thread is never joined: a read that waits for a human must not keep the process from ending.
pub(super) fn start(from: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Bytes>>> {
    let (to, chunks) = async_channel::bounded(AHEAD);
    thread::Builder::new()
        .name("input".into())
        .spawn(move || copy(from, &to))?;
    Ok(chunks)
}

fn copy(mut from: impl Read, to: &Sender<io::Result<Bytes>>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => Ok(Bytes::copy_from_slice(&buffer[..len])),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        if to.send_blocking(chunk).is_err() || failed {
            return;
        }
    }
}
