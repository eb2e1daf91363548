//! Between handlers, which bring, and those who take when they like.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use tcpsocket::{Bytes, Error, ErrorName, Handlers, TcpSocket};

use crate::left;

/// With more than this, the socket is suspended; with half of it, it is resumed.
const FULL: usize = 1 << 20;

/// What a part costs beside its bytes, so that very many small ones fill the inbox too.
const PART: usize = 64;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    parts: VecDeque<Bytes>,
    filled: usize,
    suspended: bool,
    /// How the socket ended, once it has.
    end: Option<Result<(), Error>>,
    waiting: Option<Waker>,
}

impl Inbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|it| it.into_inner())
    }

    /// Puts a part in.
    fn put(&self, socket: &dyn TcpSocket, part: Bytes) {
        let waiting = {
            let mut state = self.state();
            state.filled += part.len() + PART;
            state.parts.push_back(part);
            if state.filled > FULL && !state.suspended {
                state.suspended = true;
                socket.suspend();
            }
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Nothing more will come. The first reason is the one that counts.
    fn end(&self, how: Result<(), Error>) {
        let waiting = {
            let mut state = self.state();
            state.end.get_or_insert(how);
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Takes the next part out; `None` at a good end. Cancel-safe.
    pub(super) async fn next(&self, socket: &dyn TcpSocket) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| {
            let mut state = self.state();
            let Some(part) = state.parts.pop_front() else {
                return match &state.end {
                    Some(Ok(())) => Poll::Ready(Ok(None)),
                    Some(Err(error)) => Poll::Ready(Err(error.clone())),
                    None => {
                        state.waiting = Some(cx.waker().clone());
                        Poll::Pending
                    }
                };
            };
            state.filled -= part.len() + PART;
            if state.suspended && state.filled <= FULL / 2 {
                state.suspended = false;
                // The suspend was ours, so there is one to take back.
                let _ = socket.resume();
            }
            Poll::Ready(Ok(Some(part)))
        })
        .await
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Inbox")
            .field("filled", &state.filled)
            .field("suspended", &state.suspended)
            .finish_non_exhaustive()
    }
}

/// Fills the inbox, until the socket has closed.
pub(super) fn driver(
    socket: Arc<dyn TcpSocket>,
    inbox: Arc<Inbox>,
) -> impl Future<Output = ()> + Send + use<> {
    let handlers = Handlers::new(socket);
    let (data, error, close) = (inbox.clone(), inbox.clone(), inbox.clone());
    handlers
        .on_data(move |it, part| data.put(&**it.socket(), part.into_bytes()))
        .on_error(move |_, it| error.end(Err(it)))
        .on_close(move |_, it| close.end(if it.clean { Ok(()) } else { Err(left()) }));
    let running = Running(inbox);
    async move {
        handlers.run().await;
        drop(running);
    }
}

/// Whoever waits must not wait for ever if the driver is dropped, or never runs.
struct Running(Arc<Inbox>);

impl Drop for Running {
    fn drop(&mut self) {
        let message = "the future that drives the connection was dropped";
        self.0
            .end(Err(Error::new(ErrorName::InvalidState, message)));
    }
}
