//! A server of an app.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tcpsocket::{ServerEvent, TcpServerSocket};

use crate::request::Request;
use crate::socket::Socket;

/// Wraps the server below, with two changes. It decides anew about each socket before it hands it to the app: a revocation
/// could not reach the control while the socket was under construction. And the app learns only the names of errors.
pub(crate) struct Server {
    inner: Arc<dyn TcpServerSocket>,
    request: Arc<Request>,
}

impl Server {
    pub(crate) fn new(inner: Arc<dyn TcpServerSocket>, request: Arc<Request>) -> Server {
        Server { inner, request }
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
        match self.inner.poll_event(cx) {
            Poll::Ready(Some(ServerEvent::Connect(socket))) => {
                // The revocation is already in the audit.
                if self.request.is_denied() {
                    socket.abort(Some(self.request.refusal()));
                }
                let socket = Socket::new(socket, self.request.clone());
                Poll::Ready(Some(ServerEvent::Connect(Arc::new(socket))))
            }
            Poll::Ready(Some(ServerEvent::Error(error))) => {
                Poll::Ready(Some(ServerEvent::Error(self.request.tell(error))))
            }
            other => other,
        }
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

impl fmt::Debug for Server {
    /// Shows no more than the app may know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedServerSocket")
            .field("local_port", &self.local_port())
            .finish_non_exhaustive()
    }
}
