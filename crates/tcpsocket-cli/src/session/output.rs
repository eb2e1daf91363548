//! Standard output, written by a thread of its own.

use std::future;
use std::io::{self, ErrorKind};
use std::thread;

use async_channel::{Receiver, Sender, TrySendError};
use futures_lite::future::or;
use tcpsocket::Bytes;

use super::wait::{self, For};

/// How many chunks, each of at most 256 KiB, may wait for the output.
const AHEAD: usize = 16;

/// The way to the output.
pub(super) struct Output {
    chunks: Sender<Bytes>,
    /// The chunk that did not fit into `chunks`.
    held: Option<Bytes>,
    ended: Receiver<io::Result<()>>,
}

/// The output takes no more: it failed, or its reader has left.
pub(super) struct Gone;

/// Starts the writing thread.
pub(super) fn start() -> io::Result<Output> {
    let (chunks, from) = async_channel::bounded(AHEAD);
    let (tell, ended) = async_channel::bounded(1);
    // A write would notice too, but there may be nothing to write for long.
    let watched = chunks.clone();
    thread::Builder::new()
        .name("output watch".into())
        .spawn(move || {
            if wait::wait(For::End, io::stdout()).is_ok() {
                watched.close();
            }
        })?;
    thread::Builder::new()
        .name("output".into())
        .spawn(move || {
            let written = copy(&from);
            // In this order, or the end could be seen before its cause.
            let _ = tell.try_send(written);
            from.close();
        })?;
    Ok(Output {
        chunks,
        held: None,
        ended,
    })
}

fn copy(from: &Receiver<Bytes>) -> io::Result<()> {
    while let Ok(chunk) = from.recv_blocking() {
        write_all(&chunk)?;
    }
    Ok(())
}

/// Not by `Stdout`, which does not tell how much it wrote before it would block.
#[cfg(unix)]
fn write_all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stdout(), bytes).map_err(io::Error::from) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                wait::wait(For::Room, io::stdout())?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn write_all(bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut to = io::stdout().lock();
    to.write_all(bytes)?;
    to.flush()
}

impl Output {
    /// Hands a chunk over. On `false` it is held, and no other may follow before [`room`](Output::room).
    pub(super) fn put(&mut self, chunk: Bytes) -> bool {
        debug_assert!(self.held.is_none(), "put before there was room");
        match self.chunks.try_send(chunk) {
            Ok(()) => true,
            Err(TrySendError::Full(chunk) | TrySendError::Closed(chunk)) => {
                self.held = Some(chunk);
                false
            }
        }
    }

    /// Waits until the held chunk is taken, for ever if there is none; then call [`has_room`](Output::has_room).
    /// Cancel-safe.
    pub(super) async fn room(&self) -> Result<(), Gone> {
        let taken = async {
            match &self.held {
                Some(chunk) => self.chunks.send(chunk.clone()).await.map_err(|_| Gone),
                None => future::pending().await,
            }
        };
        let gone = async {
            self.gone().await;
            Err(Gone)
        };
        or(taken, gone).await
    }

    /// Waits until the output takes no more. Cancel-safe.
    pub(super) async fn gone(&self) {
        self.chunks.closed().await;
    }

    /// Whether a chunk is held.
    pub(super) fn is_full(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn has_room(&mut self) {
        self.held = None;
    }

    /// Waits until everything is written. A reader that leaves early is no failure: it had what it wanted.
    pub(super) async fn finish(self) -> io::Result<()> {
        if let Some(chunk) = self.held {
            // If it is not taken, `ended` says why.
            let _ = self.chunks.send(chunk).await;
        }
        self.chunks.close();
        let ended = self.ended.recv().await;
        match ended.unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked"))) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}
