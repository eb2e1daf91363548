//! The wrappers by which guards are broken.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};

use super::super::bend::{Inner, ProviderFault};
use crate::sync::lock;
use crate::{App, Restricted, Subject, Trust};

fn denied() -> Error {
    Error::new(ErrorName::NotAllowed, "denied")
}

/// A guard whose grant never changes, for what is open, and in front of it one that decides about calls.
pub(super) fn stays_open(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
) -> Option<Restricted> {
    let made = subject.restricted(provider, app)?;
    let barred = Arc::new(AtomicBool::new(false));
    let inner = made.provider.clone();
    let provider = Arc::new(Barred {
        inner,
        barred: barred.clone(),
    });
    let grant = move |level: Option<Trust>| {
        let least = level.map(|it| it.min(app.claimed));
        barred.store(least.is_none_or(|it| it == Trust::Hosted), Ordering::SeqCst);
    };
    Some(Restricted::new(provider, grant))
}

#[derive(Debug)]
struct Barred {
    inner: Arc<dyn SocketProvider>,
    barred: Arc<AtomicBool>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Barred {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.barred.load(Ordering::SeqCst) {
            true => Err(denied()),
            false => self.inner.open_with(request),
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        match self.barred.load(Ordering::SeqCst) {
            true => Err(denied()),
            false => self.inner.listen_with(request).await,
        }
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

/// A guard that lets privileged apps listen below 1024, on ports that are named or on those that are chosen.
pub(super) fn low_ports(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
    named: bool,
) -> Option<Restricted> {
    let made = subject.restricted(provider.clone(), app)?;
    let level = app.granted.min(app.claimed);
    if level != Trust::Privileged {
        return Some(made);
    }
    let lenient = App {
        granted: Trust::Certified,
        claimed: Trust::Certified,
        ..app
    };
    let lenient = subject.restricted(provider, lenient)?;
    let provider = Arc::new(LowPorts {
        strict: made.provider.clone(),
        lenient: lenient.provider.clone(),
        named,
    });
    let grant = move |level: Option<Trust>| {
        made.grant(level);
        lenient.grant(level);
    };
    Some(Restricted::new(provider, grant))
}

#[derive(Debug)]
struct LowPorts {
    strict: Arc<dyn SocketProvider>,
    lenient: Arc<dyn SocketProvider>,
    named: bool,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for LowPorts {
    fn capabilities(&self) -> Capabilities {
        self.strict.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.strict.open_with(request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        match (self.named, request.port()) {
            (true, 1..1024) | (false, 0) => self.lenient.listen_with(request).await,
            _ => self.strict.listen_with(request).await,
        }
    }

    async fn idle(&self) {
        self.strict.idle().await;
    }
}

#[derive(Default)]
pub(super) struct LowOpens;

#[async_trait]
impl ProviderFault for LowOpens {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.port() {
            ..1024 => Err(denied()),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
pub(super) struct NoLoopback;

#[async_trait]
impl ProviderFault for NoLoopback {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.host().literal() {
            Some(ip) if ip.is_ipv6() && ip.is_loopback() => Err(denied()),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
pub(super) struct SaysWhy;

#[async_trait]
impl ProviderFault for SaysWhy {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let why = format!("{} is not allowed", request.host());
        let opened = it.open_with(request);
        opened.map_err(|error| match error.name() {
            ErrorName::NotAllowed => Error::new(ErrorName::NotAllowed, why),
            _ => error,
        })
    }
}

#[derive(Default)]
pub(super) struct AppsGates;

#[async_trait]
impl ProviderFault for AppsGates {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        for gate in request.gates() {
            let asked = gate.name(request.host(), request.port());
            crate::wait::poll_once(std::pin::pin!(asked)).is_ready();
        }
        it.open_with(request)
    }
}

#[derive(Default)]
pub(super) struct AppsResolver;

#[async_trait]
impl ProviderFault for AppsResolver {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let Some(_) = request.resolver() else {
            return it.open_with(request);
        };
        let mut bare = OpenRequest::new(request.host().given(), request.port())?
            .with_options(request.options().clone());
        for gate in request.gates() {
            bare = bare.with_gate(gate.clone());
        }
        it.open_with(bare)
    }
}

#[derive(Default)]
pub(super) struct Everywhere;

#[async_trait]
impl ProviderFault for Everywhere {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let mut options = request.options().clone();
        if options.address.is_none() {
            options.address = Some([0, 0, 0, 0].into());
        }
        it.listen_with(request.with_options(options)).await
    }
}

/// Declares gates, and drops those that there are.
#[derive(Default)]
pub(super) struct SaysGates;

#[async_trait]
impl ProviderFault for SaysGates {
    fn capabilities(&self, it: &Arc<dyn SocketProvider>) -> Capabilities {
        let mut offers = it.capabilities();
        offers.gates = true;
        offers
    }
}

/// What was made as a guard, and what is below it.
type Made = Mutex<Vec<(std::sync::Weak<dyn SocketProvider>, Arc<dyn SocketProvider>)>>;

static MADE: Made = Mutex::new(Vec::new());

pub(super) fn outer_only(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
) -> Option<Restricted> {
    let below = |it: &Arc<dyn SocketProvider>| {
        let made = lock(&MADE);
        let found = made
            .iter()
            .find(|(guard, _)| guard.upgrade().is_some_and(|guard| Arc::ptr_eq(&guard, it)));
        found.map(|(_, below)| below.clone())
    };
    let provider = below(&provider).unwrap_or(provider);
    let made = subject.restricted(provider.clone(), app)?;
    lock(&MADE).push((Arc::downgrade(&made.provider), provider));
    Some(made)
}

/// A guard that tells what is below it of every call before it decides.
pub(super) struct Foretold {
    pub(super) inner: Arc<dyn SocketProvider>,
    pub(super) below: Arc<dyn SocketProvider>,
}

impl fmt::Debug for Foretold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Foretold").field(&self.inner).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Foretold {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.inner.open_with(request.clone()) {
            Err(error) if request.resolver().is_none() => {
                // It is not needed, and has been seen.
                drop(self.below.open_with(request.without_gates()));
                Err(error)
            }
            opened => opened,
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.inner.listen_with(request).await
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

/// Undoes that a name is absolute, unless it was given so.
#[derive(Default)]
pub(super) struct AsGiven;

#[async_trait]
impl ProviderFault for AsGiven {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let given = OpenRequest::new(request.host().given(), request.port())?;
        let given = given.with_options(request.options().clone());
        let gates = request.gates().iter().cloned();
        it.open_with(gates.fold(given, OpenRequest::with_gate))
    }
}
