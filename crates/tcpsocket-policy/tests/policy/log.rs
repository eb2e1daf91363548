//! What all tests share: an audit sink that remembers, a gate that tells it was asked, and short ways to do things.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter, OpenRequest,
    ServerEvent, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};
use tcpsocket_policy::{App, Audit, Decision, Entry, Level, Manifest};

/// Every entry, in order.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    pub(crate) fn sink(&self) -> Arc<dyn Audit> {
        Arc::new(self.clone())
    }

    /// What was recorded since the last call.
    pub(crate) fn take_all(&self) -> Vec<Entry> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// What was decided since the last call, where nothing should have failed.
    pub(crate) fn take(&self) -> Vec<Decision> {
        let entries = self.take_all().into_iter();
        let decision = |it: Entry| it.decision().cloned().unwrap_or_else(|| panic!("{it}"));
        entries.map(decision).collect()
    }

    /// The same, as `allowed open 192.0.2.1:80 (default)`.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |it: Decision| format!("{} {} ({})", it.verdict(), it.asked(), it.rule());
        self.take().into_iter().map(line).collect()
    }
}

impl Audit for Log {
    fn record(&self, entry: &Entry) {
        self.0.lock().unwrap().push(entry.clone());
    }
}

/// An app that may use sockets, as far as its level goes.
pub(crate) fn app(level: Level) -> App {
    app_named("app", level)
}

pub(crate) fn app_named(id: &str, level: Level) -> App {
    App::new(id, level, Manifest::new(level).requesting_tcp_socket())
}

/// The answer of a future that has nothing to wait for.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// What every app is told about every refusal.
pub(crate) fn assert_refusal(error: &Error) {
    assert_eq!(error.name(), ErrorName::NotAllowed);
    assert_eq!(
        error.message(),
        "this app is not allowed to do that; its host can tell why"
    );
    assert!(std::error::Error::source(error).is_none());
}

/// A refusal below the guard, where it is on its way to the app.
pub(crate) fn assert_denied(error: &Error) {
    assert_eq!(error.name(), ErrorName::NotAllowed);
}

/// The socket was ended by a control, as it is seen below the guard.
pub(crate) fn assert_ended_below(socket: &dyn TcpSocket) {
    match next(socket) {
        Some(Event::Error(why)) => assert_denied(&why),
        other => panic!("{socket:?}: {other:?}"),
    }
    assert!(matches!(next(socket), Some(Event::Close(_))), "{socket:?}");
}

/// A gate of an app's own. It takes no part in anything but to tell that it was asked.
#[derive(Debug, Default)]
pub(crate) struct Spy {
    pub(crate) asked: AtomicU32,
}

impl Spy {
    fn seen(&self) {
        self.asked.fetch_add(1, SeqCst);
    }
}

#[async_trait]
impl Gate for Spy {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        self.seen();
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.seen();
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        self.seen();
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        self.seen();
        Ok(())
    }

    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.seen();
        Arc::new(NoMeter)
    }
}

/// The next event, `None` if there is none yet or none any more.
pub(crate) fn next(socket: &dyn TcpSocket) -> Option<Event> {
    match socket.poll_event(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(event) => event,
        Poll::Pending => None,
    }
}

pub(crate) fn next_of(server: &dyn TcpServerSocket) -> Poll<Option<ServerEvent>> {
    server.poll_event(&mut Context::from_waker(Waker::noop()))
}

/// The socket was ended by a control, which is all that it has to tell.
pub(crate) fn assert_ended(socket: &dyn TcpSocket) {
    match next(socket) {
        Some(Event::Error(why)) => assert_refusal(&why),
        other => panic!("{socket:?}: {other:?}"),
    }
    assert!(matches!(next(socket), Some(Event::Close(_))), "{socket:?}");
}

/// The server was ended by a control.
pub(crate) fn assert_server_ended(server: &dyn TcpServerSocket) {
    match next_of(server) {
        Poll::Ready(Some(ServerEvent::Error(why))) => assert_refusal(&why),
        other => panic!("{server:?}: {other:?}"),
    }
    assert!(matches!(next_of(server), Poll::Ready(None)), "{server:?}");
}

/// Opens to an address of the documentation's network.
pub(crate) fn open(net: &dyn SocketProvider) -> Result<Arc<dyn TcpSocket>, Error> {
    net.open_with(OpenRequest::new("192.0.2.1", 993).unwrap())
}

pub(crate) fn listen(
    net: &dyn SocketProvider,
    port: u16,
) -> Result<Arc<dyn TcpServerSocket>, Error> {
    ready(net.listen_with(ListenRequest::new(port).unwrap()))
}
