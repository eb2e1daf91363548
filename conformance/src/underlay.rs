//! A provider below a guard that records the calls that reach it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{
    Capabilities, Control, Error, ErrorName, Gate, Host, ListenRequest, Meter, OpenRequest,
    Resolver, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use crate::sync::lock;
use crate::{Cx, Outcome};

/// An address unknown to every app, in all messages of an [`Underlay`].
pub(crate) const SECRET: &str = "10.11.12.13";

/// An error from below the guard, like those of providers and gates: with an address in its message and in its cause.
pub(crate) fn internal(name: ErrorName, words: &str) -> Error {
    let cause = std::io::Error::other(format!("{SECRET}: {words}"));
    Error::with_source(name, format!("{words} of {SECRET}:5432"), cause)
}

/// Forwards everything to the provider under judgement.
#[derive(Debug)]
pub(crate) struct Underlay {
    _secret: &'static str,
    inner: Arc<dyn SocketProvider>,
    gates: bool,
    leaves_out: bool,
    automatic: Option<u16>,
    resolver: Option<Arc<dyn Resolver>>,
    failing: Mutex<Option<Error>>,
    seen: Mutex<Vec<String>>,
    trip: Arc<Trip>,
}

impl Underlay {
    pub(crate) fn new(cx: &Cx) -> Underlay {
        Underlay {
            _secret: SECRET,
            failing: Mutex::default(),
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

    /// The same on a system whose automatic port is always this one: gates are asked about it, before a real one is bound.
    pub(crate) fn choosing(mut self, port: u16) -> Underlay {
        self.automatic = Some(port);
        self
    }

    /// The same with a resolver of its own for the provider.
    pub(crate) fn resolving_by(mut self, resolver: Arc<dyn Resolver>) -> Underlay {
        self.resolver = Some(resolver);
        self
    }

    /// Does this once, in the middle of the next open, bind or accept: when its gates are to watch it.
    pub(crate) fn trip(&self, act: impl FnOnce() + Send + 'static) {
        *lock(&self.trip.act) = Some(Box::new(act));
    }

    /// Fails every call from now on with this error, or forwards them again with `None`.
    pub(crate) fn fails(&self, why: Option<Error>) {
        *lock(&self.failing) = why;
    }

    /// Refuses every send from now on with this error, or none with `None`.
    pub(crate) fn refuses_bytes(&self, why: Option<Error>) {
        *lock(&self.trip.meter.0) = why;
    }

    /// Ends all sockets and servers made through it.
    pub(crate) fn ends(&self, why: &Error) {
        let controls = std::mem::take(&mut *lock(&self.trip.controls));
        for control in controls.iter().filter_map(Weak::upgrade) {
            control.abort(why.clone());
        }
    }

    fn passes(&self) -> Result<(), Error> {
        match &*lock(&self.failing) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    /// Fails unless exactly these calls came down since the last check: `open HOST PORT`, `listen PORT at ADDRESS`, and `bound`
    /// where gates have admitted the port of [`choosing`](Underlay::choosing).
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
        self.passes()?;
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
        self.passes()?;
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

/// A gate that allows everything, with a side effect.
#[derive(Default)]
struct Trip {
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    controls: Mutex<Vec<Weak<dyn Control>>>,
    meter: Arc<Refusing>,
}

/// A meter that refuses everything while an error is set.
#[derive(Debug, Default)]
struct Refusing(Mutex<Option<Error>>);

impl Meter for Refusing {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        match &*lock(&self.0) {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    fn moved(&self, _written: usize, _read: usize, _dropped: usize) {}
}

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

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        lock(&self.controls).push(it);
        let act = lock(&self.act).take();
        if let Some(act) = act {
            act();
        }
        self.meter.clone()
    }
}

impl fmt::Debug for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trip")
    }
}
