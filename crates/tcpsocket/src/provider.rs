//! Where sockets come from.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::{Capabilities, Error, ListenRequest, OpenRequest, TcpServerSocket, TcpSocket};

/// Opens sockets and listens: what was `navigator.mozTCPSocket`.
///
/// Protocol code takes a `&dyn SocketProvider` and knows nothing of runtimes, policies or the operating system. The
/// conveniences, `open(host, port, options)` and `listen(port, options, backlog)` among them, are in
/// [`SocketProviderExt`](crate::SocketProviderExt).
///
/// # For implementers
///
/// Methods added later will have a default that answers `NotSupportedError`. A provider that wraps another should
/// `#[deny(clippy::missing_trait_methods)]` on its impl, so that such a method cannot slip past it.
#[async_trait]
pub trait SocketProvider: Debug + Send + Sync + 'static {
    /// What this provider offers. The answer never changes.
    fn capabilities(&self) -> Capabilities;

    /// Opens a socket. Returns at once, in `connecting` (IF-4); deciding, resolving and connecting go on behind it, and
    /// their end is the event `Open` or `Error`.
    ///
    /// # Errors
    ///
    /// What is known at the call: `NotSupportedError` for what is not declared (OPT-1), and what a gate's `name` refuses
    /// without waiting (GATE-4). Then there is no socket and no event.
    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error>;

    /// Listens. The server that is returned is bound, its `local_port()` real (SRV-3).
    ///
    /// With no gate that waits, the future is ready at its first poll. Cancel-safe: dropping it gives up, and nothing stays
    /// bound.
    ///
    /// # Errors
    ///
    /// `AddressInUseError`, `NotAllowedError` (a gate, or the operating system), `NotSupportedError`, or `NetworkError` for any other
    /// failure (SRV-14).
    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error>;

    /// Waits until nothing of this provider flushes or lingers any more (ACT-6). Output is active only as long as the
    /// process lives, so a program awaits this before it leaves.
    ///
    /// Sockets that are closed or dropped are bounded by their lingers. One that is still open, holds bytes, and has a peer that does
    /// not read, is not: close it first, or give this a deadline.
    ///
    /// Cancel-safe.
    async fn idle(&self);
}

/// A shared provider is one, so that what wraps a provider can wrap an `Arc<dyn SocketProvider>`.
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
