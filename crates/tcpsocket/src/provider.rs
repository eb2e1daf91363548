//! The provider trait: the source of sockets.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Capabilities, Error, ListenRequest, OpenRequest, TcpServerSocket, TcpSocket};

/// Opens sockets and listens, as `navigator.mozTCPSocket` did.
///
/// Protocol code takes a `&dyn SocketProvider` and knows nothing of runtimes, policies or the operating system. Convenience
/// methods, such as `open(host, port, options)` and `listen(port, options, backlog)`, are in
/// [`SocketProviderExt`](crate::SocketProviderExt).
///
/// # For implementers
///
/// Any method added later will have a default that returns `NotSupportedError`. A provider that wraps another should put
/// `#[deny(clippy::missing_trait_methods)]` on its impl, so that no such method bypasses the wrapper.
#[async_trait]
pub trait SocketProvider: Debug + Send + Sync + 'static {
    /// This provider's capabilities. They never change.
    fn capabilities(&self) -> Capabilities;

    /// Opens a socket. Returns at once, in `connecting` (IF-4). Gates, lookup and connect run in the background and end in
    /// the event `Open` or `Error`.
    ///
    /// # Errors
    ///
    /// Everything known at the call: `NotSupportedError` for an undeclared capability (OPT-1), and a refusal by a gate's
    /// `name` that answers without waiting (GATE-4). After an error there is no socket and no event.
    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error>;

    /// Listens. The returned server is bound, and its `local_port()` is the real one (SRV-3).
    ///
    /// Unless a gate waits, the future is ready at its first poll. Cancel-safe: dropping it cancels the attempt and leaves
    /// nothing bound.
    ///
    /// # Errors
    ///
    /// `AddressInUseError`, `NotAllowedError` (a gate, or the operating system), `NotSupportedError`, or `NetworkError` for any other
    /// failure (SRV-14).
    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error>;

    /// Waits until no socket of this provider has anything left to flush or linger for (ACT-6). Output continues only while
    /// the process lives, so await this before you exit.
    ///
    /// Lingers bound the wait for closed and dropped sockets. An open socket with bytes queued for a peer that does not read
    /// has no such bound: close it first, or give this call a deadline.
    ///
    /// Cancel-safe.
    async fn idle(&self);
}

/// A shared provider is itself a provider, so wrappers can wrap an `Arc<dyn SocketProvider>`.
///
/// ```
/// use std::sync::Arc;
/// use tcpsocket::SocketProvider;
///
/// /// Any wrapper.
/// #[derive(Debug)]
/// struct Wrapped<P: SocketProvider>(P);
///
/// fn for_each_app(shared: &Arc<dyn SocketProvider>) -> Wrapped<Arc<dyn SocketProvider>> {
///     Wrapped(shared.clone())
/// }
/// ```
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: SocketProvider + ?Sized> SocketProvider for Arc<P> {
    fn capabilities(&self) -> Capabilities {
        (**self).capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        (**self).open_with(request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        (**self).listen_with(request).await
    }

    async fn idle(&self) {
        (**self).idle().await;
    }
}
