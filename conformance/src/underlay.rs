//! A provider that stands under a guard and notes what comes down to it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{
    Capabilities, Control, Error, Gate, Host, ListenRequest, Meter, NoMeter, OpenRequest, Resolver,
    SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use crate::sync::lock;
use crate::{Cx, Outcome};

/// Passes everything on to the provider under judgement.
#[derive(Debug)]
pub(crate) struct Underlay {
    inner: Arc<dyn SocketProvider>,
    gates: bool,
    leaves_out: bool,
    automatic: Option<u16>,
    resolver: Option<Arc<dyn Resolver>>,
    seen: Mutex<Vec<String>>,
    trip: Arc<Trip>,
}

impl Underlay {
    pub(crate) fn new(cx: &Cx) -> Underlay {
        Underlay {
            inner: cx.provider().clone(),
            gates: true,
            leaves_out: false,
            automatic: None,
            resolver: None,
            seen: Mutex::default(),
            trip: Arc::default(),
        }
    }

    /// The same, but it declares no gates.
    pub(crate) fn without_gates(mut self) -> Underlay {
        self.gates = false;
        self
    }

    /// The same, but it asks no gate of a request, although it declares them.
    pub(crate) fn leaving_gates_out(mut self) -> Underlay {
        self.leaves_out = true;
        self
    }

    /// The same on a system whose automatic ports are all this one: gates are asked about it, before a real one is bound.
    pub(crate) fn choosing(mut self, port: u16) -> Underlay {
        self.automatic = Some(port);
        self
    }

    /// The same with a resolver of its own, which the provider is told to ask.
    pub(crate) fn resolving_by(mut self, resolver: Arc<dyn Resolver>) -> Underlay {
        self.resolver = Some(resolver);
        self
    }

    /// Does this, once, in the middle of the next thing that comes to life: when its gates are to watch it.
    pub(crate) fn trip(&self, act: impl FnOnce() + Send + 'static) {
        *lock(&self.trip.0) = Some(Box::new(act));
    }

    /// Fails unless exactly this came down since the last time: `open HOST PORT`, `listen PORT at ADDRESS`, and `bound` where
    /// gates have admitted the port of [`choosing`](Underlay::choosing).
    pub(crate) fn was_asked(&self, cx: &Cx, expected: &[&str]) -> Outcome {
        let seen = std::mem::take(&mut *lock(&self.seen));
        let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
        cx.check("what came down to the provider", seen.as_slice(), expected)
    }

    fn note(&self, what: String) {
        lock(&self.seen).push(what);
    }
}

#[async_trait]
impl SocketProvider for Underlay {
    fn capabilities(&self) -> Capabilities {
        let mut offers = self.inner.capabilities();
        offers.gates &= self.gates;
        offers
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.note(format!("open {} {}", request.host(), request.port()));
        if self.leaves_out {
            return self.inner.open_with(request.without_gates());
        }
        let request = match &self.resolver {
            Some(own) => request.with_resolver(own.clone()),
            None => request,
        };
        self.inner.open_with(request.with_gate(self.trip.clone()))
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let address = request.options().address;
        let at = address.map_or("every interface".to_owned(), |it| it.to_string());
        self.note(format!("listen {} at {at}", request.port()));
        if self.leaves_out {
            return self.inner.listen_with(request.without_gates()).await;
        }
        if let Some(port) = self.automatic {
            let at = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            for port in [0, port] {
                for gate in request.gates() {
                    gate.bind(SocketAddr::new(at, port)).await?;
                }
            }
            self.note("bound".to_owned());
        }
        let request = request.with_gate(self.trip.clone());
        self.inner.listen_with(request).await
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

/// A gate that allows everything, and does something else meanwhile.
#[derive(Default)]
struct Trip(Mutex<Option<Box<dyn FnOnce() + Send>>>);

#[async_trait]
impl Gate for Trip {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        let act = lock(&self.0).take();
        if let Some(act) = act {
            act();
        }
        Arc::new(NoMeter)
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trip")
    }
}
