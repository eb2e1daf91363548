//! A server of an app.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tcpsocket::{ServerEvent, TcpServerSocket};

use crate::Ask;
use crate::guard::Guard;

/// Decides anew about each socket that it hands to the app: the grant may have gone while the socket was being made, when
/// its control could not be reached yet.
pub(crate) struct Server {
    inner: Arc<dyn TcpServerSocket>,
    guard: Arc<Guard>,
}

impl Server {
    pub(crate) fn new(inner: Arc<dyn TcpServerSocket>, guard: Arc<Guard>) -> Server {
        Server { inner, guard }
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpServerSocket for Server {
    fn local_port(&self) -> u16 {
        self.inner.local_port()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let event = self.inner.poll_event(cx);
        if let Poll::Ready(Some(ServerEvent::Connect(socket))) = &event {
            let port = self.local_port();
            // Whoever took the grant away has told the audit sink.
            if self.guard.denies(&Ask::Listen { port }) {
                socket.abort(Some(Guard::refusal()));
            }
        }
        event
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

impl fmt::Debug for Server {
    /// Shows no more than the app may know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
