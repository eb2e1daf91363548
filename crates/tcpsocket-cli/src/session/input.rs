//! Standard input, read by a thread of its own.

use std::future;
use std::io::{self, ErrorKind, Read};
use std::thread;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_io::Timer;
use futures_lite::future::or;
use tcpsocket::Bytes;

use super::wait::{self, For};

/// The size of one read, in bytes: the capacity of a pipe.
const CHUNK: usize = 64 * 1024;

/// How many chunks are read ahead of the socket, besides the one being read.
const AHEAD: usize = 2;

/// How long a read of available bytes may take.
const MOMENT: Duration = Duration::from_millis(100);

/// The input. Nothing is read before the connection is open: the next command may want it.
pub(super) struct Input {
    chunks: Receiver<io::Result<Bytes>>,
    /// Until reading begins.
    to: Option<Sender<io::Result<Bytes>>>,
}

impl Input {
    pub(super) fn new() -> Input {
        let (to, chunks) = async_channel::bounded(AHEAD);
        Input {
            chunks,
            to: Some(to),
        }
    }

    /// Starts to read, unless it has started before.
    ///
    /// The thread is never joined: a read that waits for a human must not keep the process from ending.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if let Some(to) = self.to.take() {
            thread::Builder::new()
                .name("input".into())
                .spawn(move || copy(&to))?;
        }
        Ok(())
    }

    /// The next chunk; `None` at the end. Cancel-safe.
    pub(super) async fn next(&self) -> Option<io::Result<Bytes>> {
        match self.to {
            None => self.chunks.recv().await.ok(),
            Some(_) => future::pending().await,
        }
    }

    /// Whether unread input is available now. What may come later cannot be known.
    pub(super) async fn has_more(self) -> bool {
        let late = async {
            Timer::after(MOMENT).await;
            None
        };
        matches!(or(self.next(), late).await, Some(Ok(_)))
    }
}

fn copy(to: &Sender<io::Result<Bytes>>) {
    let mut from = io::stdin().lock();
    let mut buffer = vec![0; CHUNK];
    loop {
        let chunk = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => Ok(Bytes::copy_from_slice(&buffer[..len])),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match wait::wait(For::Input, io::stdin()) {
                    Ok(()) => continue,
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        let failed = chunk.is_err();
        if to.send_blocking(chunk).is_err() || failed {
            return;
        }
    }
}
