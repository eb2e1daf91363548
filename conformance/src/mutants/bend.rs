//! Wrappers that forward everything, except for the one behaviour that a fault replaces.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tcpsocket::{
    BinaryType, Bytes, Capabilities, Error, Event, ListenRequest, OpenRequest, ReadyState,
    Security, ServerEvent, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use crate::sync::lock;

/// What is below a fault.
pub(super) type Inner = Arc<dyn TcpSocket>;

/// The fault of a socket, one per socket; methods that it does not replace forward.
pub(super) trait Fault: Default + Send + Sync + 'static {
    /// The request by which it is opened.
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        request
    }

    /// It was accepted.
    fn accepted(&self) {}

    /// Its last handle is gone.
    fn dropped(&self, _it: &Inner) {}

    fn peer<'a>(&'a self, it: &'a Inner) -> (&'a str, u16) {
        (it.host(), it.port())
    }

    fn ssl(&self, it: &Inner) -> bool {
        it.ssl()
    }

    fn security(&self, it: &Inner) -> Security {
        it.security()
    }

    fn buffered_amount(&self, it: &Inner) -> u64 {
        it.buffered_amount()
    }

    fn ready_state(&self, it: &Inner) -> ReadyState {
        it.ready_state()
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        it.send(data)
    }

    fn suspend(&self, it: &Inner) {
        it.suspend();
    }

    fn resume(&self, it: &Inner) -> Result<(), Error> {
        it.resume()
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        it.upgrade_to_secure()
    }

    fn close(&self, it: &Inner) {
        it.close();
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        it.abort(why);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        it.poll_event(cx)
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        it.cancel_poll(waker);
    }
}

/// A socket with a fault.
struct Bent<F: Fault> {
    inner: Inner,
    fault: Arc<F>,
}

#[deny(clippy::missing_trait_methods)]
impl<F: Fault> TcpSocket for Bent<F> {
    fn host(&self) -> &str {
        self.fault.peer(&self.inner).0
    }

    fn port(&self) -> u16 {
        self.fault.peer(&self.inner).1
    }

    fn ssl(&self) -> bool {
        self.fault.ssl(&self.inner)
    }

    fn security(&self) -> Security {
        self.fault.security(&self.inner)
    }

    fn buffered_amount(&self) -> u64 {
        self.fault.buffered_amount(&self.inner)
    }

    fn binary_type(&self) -> BinaryType {
        self.inner.binary_type()
    }

    fn ready_state(&self) -> ReadyState {
        self.fault.ready_state(&self.inner)
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        self.fault.send(&self.inner, data)
    }

    fn suspend(&self) {
        self.fault.suspend(&self.inner);
    }

    fn resume(&self) -> Result<(), Error> {
        self.fault.resume(&self.inner)
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        self.fault.upgrade(&self.inner)
    }

    fn close(&self) {
        self.fault.close(&self.inner);
    }

    fn abort(&self, why: Option<Error>) {
        self.fault.abort(&self.inner, why);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.fault.poll(&self.inner, cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.fault.cancel(&self.inner, waker);
    }
}

impl<F: Fault> Drop for Bent<F> {
    fn drop(&mut self) {
        self.fault.dropped(&self.inner);
    }
}

impl<F: Fault> fmt::Debug for Bent<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bent").field(&self.inner).finish()
    }
}

/// The fault of a server.
pub(super) trait ServerFault: Default + Send + Sync + 'static {
    fn local_port(&self, it: &Arc<dyn TcpServerSocket>) -> u16 {
        it.local_port()
    }

    fn close(&self, it: &Arc<dyn TcpServerSocket>) {
        it.close();
    }

    fn poll(
        &self,
        it: &Arc<dyn TcpServerSocket>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServerEvent>> {
        it.poll_event(cx)
    }

    fn cancel(&self, it: &Arc<dyn TcpServerSocket>, waker: &Waker) {
        it.cancel_poll(waker);
    }
}

struct BentServer<F> {
    inner: Arc<dyn TcpServerSocket>,
    fault: F,
}

#[deny(clippy::missing_trait_methods)]
impl<F: ServerFault> TcpServerSocket for BentServer<F> {
    fn local_port(&self) -> u16 {
        self.fault.local_port(&self.inner)
    }

    fn close(&self) {
        self.fault.close(&self.inner);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.fault.poll(&self.inner, cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.fault.cancel(&self.inner, waker);
    }
}

impl<F> fmt::Debug for BentServer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BentServer").field(&self.inner).finish()
    }
}

/// The fault of a provider.
#[async_trait]
pub(super) trait ProviderFault: Default + Send + Sync + 'static {
    fn capabilities(&self, it: &Arc<dyn SocketProvider>) -> Capabilities {
        it.capabilities()
    }

    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        it.open_with(request)
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        it.listen_with(request).await
    }

    async fn idle(&self, it: &Arc<dyn SocketProvider>) {
        it.idle().await;
    }
}

struct BentProvider<F> {
    inner: Arc<dyn SocketProvider>,
    fault: F,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: ProviderFault> SocketProvider for BentProvider<F> {
    fn capabilities(&self) -> Capabilities {
        self.fault.capabilities(&self.inner)
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.fault.open(&self.inner, request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.fault.listen(&self.inner, request).await
    }

    async fn idle(&self) {
        self.fault.idle(&self.inner).await;
    }
}

impl<F> fmt::Debug for BentProvider<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BentProvider").field(&self.inner).finish()
    }
}

/// A provider with a fault.
pub(super) fn provider<F: ProviderFault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    Arc::new(BentProvider {
        inner: it,
        fault: F::default(),
    })
}

/// A provider whose sockets each have a fault, accepted ones included.
pub(super) fn sockets<F: Fault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<Sockets<F>>(it)
}

/// A provider whose servers each have a fault.
pub(super) fn servers<F: ServerFault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<Servers<F>>(it)
}

/// A socket with this fault.
pub(super) fn bent<F: Fault>(inner: Inner, fault: Arc<F>) -> Inner {
    Arc::new(Bent { inner, fault })
}

/// A server with this fault.
pub(super) fn bent_server<F: ServerFault>(
    inner: Arc<dyn TcpServerSocket>,
    fault: F,
) -> Arc<dyn TcpServerSocket> {
    Arc::new(BentServer { inner, fault })
}

struct Sockets<F>(PhantomData<fn() -> F>);

impl<F> Default for Sockets<F> {
    fn default() -> Sockets<F> {
        Sockets(PhantomData)
    }
}

#[async_trait]
impl<F: Fault> ProviderFault for Sockets<F> {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let fault = Arc::<F>::default();
        let inner = it.open_with(fault.request(request))?;
        Ok(bent(inner, fault))
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let server = it.listen_with(request).await?;
        Ok(bent_server(server, Accepts::<F>(PhantomData)))
    }
}

/// A server whose sockets each have a fault.
struct Accepts<F>(PhantomData<fn() -> F>);

impl<F> Default for Accepts<F> {
    fn default() -> Accepts<F> {
        Accepts(PhantomData)
    }
}

impl<F: Fault> ServerFault for Accepts<F> {
    fn poll(
        &self,
        it: &Arc<dyn TcpServerSocket>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServerEvent>> {
        it.poll_event(cx).map(|event| match event {
            Some(ServerEvent::Connect(inner)) => {
                let fault = Arc::<F>::default();
                fault.accepted();
                Some(ServerEvent::Connect(bent(inner, fault)))
            }
            other => other,
        })
    }
}

struct Servers<F>(PhantomData<fn() -> F>);

impl<F> Default for Servers<F> {
    fn default() -> Servers<F> {
        Servers(PhantomData)
    }
}

#[async_trait]
impl<F: ServerFault> ProviderFault for Servers<F> {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let server = it.listen_with(request).await?;
        Ok(bent_server(server, F::default()))
    }
}

/// How long something is put off, so that what is on its way arrives first: long for a loopback, short for a case.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is put off while the polls go on.
#[derive(Default)]
pub(super) struct PutOff(Mutex<Option<Instant>>);

impl PutOff {
    pub(super) fn begin(&self) {
        *lock(&self.0) = Some(Instant::now() + PAUSE);
    }

    pub(super) fn is_on(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Whether it was on. It is not any more.
    pub(super) fn end(&self) -> bool {
        lock(&self.0).take().is_some()
    }

    /// Whether it goes on; then the task is woken. This is for a poll that is pending.
    pub(super) fn goes_on(&self, cx: &mut Context<'_>) -> bool {
        let goes_on = lock(&self.0).is_some_and(|end| Instant::now() < end);
        if goes_on {
            thread::yield_now();
            cx.waker().wake_by_ref();
        }
        goes_on
    }
}

/// Events taken from below early.
#[derive(Default)]
pub(super) struct Stash(Mutex<VecDeque<Event>>);

impl Stash {
    /// Takes what can be taken without waiting. Only while no wait is parked: it would be given up.
    pub(super) fn look(&self, it: &Inner) {
        match it.poll_event(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(event)) => self.put(event),
            Poll::Ready(None) => {}
            Poll::Pending => it.cancel_poll(&Waker::noop().clone()),
        }
    }

    pub(super) fn put(&self, event: Event) {
        lock(&self.0).push_back(event);
    }

    pub(super) fn take(&self) -> Option<Event> {
        lock(&self.0).pop_front()
    }

    /// Whether an event in it is like this.
    pub(super) fn any(&self, like: impl Fn(&Event) -> bool) -> bool {
        lock(&self.0).iter().any(like)
    }

    /// What is in it, then what is below.
    pub(super) fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match self.take() {
            Some(event) => Poll::Ready(Some(event)),
            None => it.poll_event(cx),
        }
    }
}
