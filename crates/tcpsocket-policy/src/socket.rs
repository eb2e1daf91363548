//! A socket of an app.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tcpsocket::{BinaryType, Bytes, Error, Event, ReadyState, Security, TcpSocket};

use crate::failure::Mark;
use crate::request::Request;

/// Wraps the socket below and its errors: the app learns their names, and the audit gets the rest (PERM-22).
///
/// This is the only handle of the socket below, so dropping the app's last handle drops that one too.
pub(crate) struct Socket {
    inner: Arc<dyn TcpSocket>,
    request: Arc<Request>,
}

impl Socket {
    pub(crate) fn new(inner: Arc<dyn TcpSocket>, request: Arc<Request>) -> Socket {
        Socket { inner, request }
    }

    fn tell(&self, error: Error) -> Error {
        self.request.tell_of(&*self.inner, error)
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpSocket for Socket {
    /// The app's own text, even if the provider changed it (IF-8).
    fn host(&self) -> &str {
        match self.request.target() {
            Some((host, _)) => host,
            None => self.inner.host(),
        }
    }

    fn port(&self) -> u16 {
        match self.request.target() {
            Some((_, port)) => port,
            None => self.inner.port(),
        }
    }

    fn ssl(&self) -> bool {
        self.inner.ssl()
    }

    /// Passed on: it contains only the peer's certificates and the result of the handshake.
    fn security(&self) -> Security {
        self.inner.security()
    }

    fn buffered_amount(&self) -> u64 {
        self.inner.buffered_amount()
    }

    fn binary_type(&self) -> BinaryType {
        self.inner.binary_type()
    }

    fn ready_state(&self) -> ReadyState {
        self.inner.ready_state()
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        self.inner.send(data).map_err(|error| self.tell(error))
    }

    fn suspend(&self) {
        self.inner.suspend();
    }

    fn resume(&self) -> Result<(), Error> {
        self.inner.resume().map_err(|error| self.tell(error))
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        let upgraded = self.inner.upgrade_to_secure();
        upgraded.map_err(|error| self.tell(error))
    }

    fn close(&self) {
        self.inner.close();
    }

    /// Marks the app's own error, so that it comes back unchanged.
    fn abort(&self, why: Option<Error>) {
        let why = why.map(|own| Mark::Apps(own.clone()).on(&own));
        self.inner.abort(why);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.inner.poll_event(cx) {
            Poll::Ready(Some(Event::Error(error))) => {
                Poll::Ready(Some(Event::Error(self.tell(error))))
            }
            other => other,
        }
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.inner.cancel_poll(waker);
    }
}

impl fmt::Debug for Socket {
    /// Shows no more than the app may know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedSocket")
            .field("host", &self.host())
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}
