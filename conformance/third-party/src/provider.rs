//! The provider: requests in, handles out.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, ReadyState, Resolver,
    SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use crate::attempt::Attempt;
use crate::busy::Busy;
use crate::foreign::Foreign;
use crate::names::Platform;
use crate::shared::{Facts, Shared};
use crate::socket::Socket;
use crate::state::{Link, State};
use crate::{dial, net, reader, server, writer};

/// Opens sockets that have two threads each.
#[derive(Debug)]
pub struct ThirdParty {
    resolver: Arc<dyn Resolver>,
    busy: Arc<Busy>,
}

impl ThirdParty {
    /// Looks names up by the platform's resolver.
    pub fn new() -> ThirdParty {
        ThirdParty::with_resolver(Arc::new(Platform))
    }

    /// Looks names up by another one.
    pub fn with_resolver(resolver: Arc<dyn Resolver>) -> ThirdParty {
        ThirdParty {
            resolver,
            busy: Arc::default(),
        }
    }
}

impl Default for ThirdParty {
    fn default() -> ThirdParty {
        ThirdParty::new()
    }
}

fn offers() -> Capabilities {
    let mut offers = Capabilities::NONE;
    offers.listen = true;
    offers.names = true;
    offers.string_mode = true;
    offers.suspend = true;
    offers.gates = true;
    offers.resolver = true;
    offers.no_delay = true;
    offers.keep_alive = true;
    offers.connect_timeout = true;
    offers.linger = true;
    offers
}

fn not_offered(what: &str) -> Error {
    let why = format!("this provider does not offer `{what}`");
    Error::new(ErrorName::NotSupported, why)
}

#[async_trait]
impl SocketProvider for ThirdParty {
    fn capabilities(&self) -> Capabilities {
        offers()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        let gates = Foreign::from(request.gates());
        let resolver = request.resolver().unwrap_or(&self.resolver);
        let resolver = Foreign::from(std::slice::from_ref(resolver));
        // Dropped in this order, so that of gates and resolver the request never holds the last.
        let asked = (request, gates, resolver);
        let (request, gates, _) = &asked;
        if let Some(what) = offers().missing_for_open(request) {
            return Err(not_offered(what));
        }
        // What the gates say without waiting is the answer of this call (GATE-4). Otherwise the thread asks on.
        let mut admission = dial::admission(request);
        let mut context = Context::from_waker(Waker::noop());
        let admission = match admission.as_mut().poll(&mut context) {
            Poll::Ready(verdict) => {
                verdict?;
                None
            }
            Poll::Pending => Some(admission),
        };
        let facts = Facts {
            host: request.host().given().to_owned(),
            port: request.port(),
            binary_type: request.options().binary_type,
            linger: request.options().linger,
        };
        let attempt = Arc::<Attempt>::default();
        let link = Link::Attempt(attempt.clone());
        let shared = Shared::new(facts, ReadyState::Connecting, link, self.busy.clone());
        shared.watch(gates)?;
        let handle = Socket::new(shared.clone());
        let its = Attempting(shared.clone());
        let work = move || {
            let shared = &its.0;
            let (request, _, resolver) = &asked;
            let stream = dial::connect(&attempt, admission, request, &*resolver[0]);
            // Gates and resolver are no longer of use, and may know of the socket.
            drop(asked);
            if shared.with(|it| it.connected(stream.map(Arc::new))) {
                match reader::start(shared) {
                    Ok(()) => writer::run(shared),
                    Err(it) => shared.with(|state| state.broke(net::no_thread(it))),
                }
            }
        };
        let name = format!("writer {}", shared.port);
        // If there is no thread, `work` is dropped, and with it what ends the socket.
        let _ = thread::Builder::new().name(name).spawn(work);
        Ok(handle)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        if let Some(what) = offers().missing_for_listen(&request) {
            return Err(not_offered(what));
        }
        server::listen(request, self.busy.clone()).await
    }

    async fn idle(&self) {
        self.busy.idle().await;
    }
}

/// Held by the thread of an attempt, so that its socket ends in any case.
struct Attempting(Arc<Shared>);

impl Drop for Attempting {
    fn drop(&mut self) {
        self.0.with(State::abandoned);
    }
}
