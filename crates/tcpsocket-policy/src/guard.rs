//! A provider for one app.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Weak};

use tcpsocket::{
    Capabilities, Control, Error, ErrorName, Gate, Host, ListenRequest, Meter, OpenRequest,
    SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use crate::app::Standing;
use crate::decision::Judged;
use crate::server::Server;
use crate::{App, Ask, Audit, Decision, Grant, Level, Policy};

/// Wraps any provider for one app: everything that the app asks for goes by the policy.
///
/// - What is known at the call, the grant, level, manifest and port, is decided before anything else is done, and a refusal is
///   the call's own `NotAllowedError` (PERM-9). Decisions are taken anew on every call (PERM-4).
/// - The guard's gate is in every request, so names, addresses, binds and accepted peers are decided too, as they become known.
///   Gates that the app put there are dropped: they would be asked before the guard's, and shown addresses.
/// - Who resolves is not for the app to choose. A request with a resolver is refused with `NotSupportedError`, and
///   [`capabilities`](SocketProvider::capabilities) says so. It is not ignored, because the app would then ask somebody whom it did
///   not mean to ask.
/// - A server of an app that names no address gets the policy's, by default loopback.
/// - The app is told the same thing whatever was refused. The [`Audit`] sink is told which rule, and why.
///
/// The app must hold it as a `dyn SocketProvider`, and never the [`App`] or its [`Grant`].
///
/// # Guards around guards
///
/// A guard can be wrapped by another, a system's by an app's say, and both decide. An inner guard keeps the gates of the outer one,
/// which it knows by what they are and not by what they say, and has its own asked first. So an app that makes a guard
/// of its own, for code that it runs itself, can only narrow what it has, and is shown nothing that a guard below has not admitted.
///
/// Gates that another wrapper between two guards adds are dropped like an app's; such a wrapper belongs below the guards. There it
/// adds its gate to those of the request and leaves them in: a guard whose gate was left out ends what was made (PERM-21). Its gate
/// is asked after theirs, so they see addresses that it refuses then. Both guards must be of one version of this crate, or they do not
/// know each other's gates.
///
/// ```
/// use tcpsocket::SocketProvider;
/// use tcpsocket_policy::{App, Guarded, Policy};
///
/// fn restrict(net: impl SocketProvider, system: App, app: App) -> impl SocketProvider {
///     let net = Guarded::new(net, system, Policy::firefox_os());
///     Guarded::new(net, app, Policy::firefox_os())
/// }
/// ```
pub struct Guarded<P> {
    inner: P,
    guard: Arc<Guard>,
}

impl<P: SocketProvider> Guarded<P> {
    /// A provider for this app.
    ///
    /// `inner` must offer gates: what a provider cannot show to a gate, a guard cannot decide, and refuses with
    /// `NotSupportedError`.
    pub fn new(inner: P, app: App, policy: Policy) -> Guarded<P> {
        Guarded {
            inner,
            guard: Arc::new(Guard {
                app,
                policy,
                audit: None,
            }),
        }
    }

    /// Tells this sink every decision from now on. By default nobody is told.
    pub fn with_audit(mut self, audit: Arc<dyn Audit>) -> Guarded<P> {
        self.guard = Arc::new(Guard {
            app: self.guard.app.clone(),
            policy: self.guard.policy.clone(),
            audit: Some(audit),
        });
        self
    }

    /// Revokes the app's grant: [`Grant::revoke`].
    pub fn revoke(&self) {
        self.guard.app.grant().revoke();
    }

    /// Whether a guard can do its work on this provider.
    fn guardable(&self) -> Result<(), Error> {
        match self.inner.capabilities().gates {
            true => Ok(()),
            false => Err(not_supported(
                "gates, and without them nothing is opened for an app",
            )),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: SocketProvider> SocketProvider for Guarded<P> {
    /// What the inner provider offers, but for resolvers.
    fn capabilities(&self) -> Capabilities {
        let mut offers = self.inner.capabilities();
        offers.resolver = false;
        offers
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        let ask = Ask::from(&request);
        self.guard.decide(ask.clone())?;
        self.guardable()?;
        if request.resolver().is_some() {
            return Err(not_supported("resolvers in the request of an app"));
        }
        let around = marked(request.gates());
        let asked = Asked::Open {
            host: request.host().clone(),
            port: request.port(),
        };
        let gate = RequestGate::issue(&self.guard, asked);
        let request = request.without_gates().with_gate(gate.clone());
        // What was decided is this name, and none that a search list makes of it (NAME-8).
        let request = request.with_absolute_name();
        let request = around.into_iter().fold(request, OpenRequest::with_gate);
        let socket = self.inner.open_with(request)?;
        if let Err(unwatched) = gate.watches() {
            socket.abort(Some(unwatched.clone()));
            return Err(unwatched);
        }
        // Revoked while it was being made, when its control could not be reached yet.
        if let Err(refused) = self.guard.decide_again(ask) {
            socket.abort(Some(refused.clone()));
            return Err(refused);
        }
        Ok(socket)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.guard.decide(Ask::from(&request))?;
        self.guardable()?;
        let around = marked(request.gates());
        let mut options = request.options().clone();
        options.address = options.address.or(self.guard.policy.server_address());
        let asked = Asked::Listen(AtomicU16::new(request.port()));
        let gate = RequestGate::issue(&self.guard, asked);
        let request = request.with_options(options).without_gates();
        let request = request.with_gate(gate.clone());
        let request = around.into_iter().fold(request, ListenRequest::with_gate);
        let server = self.inner.listen_with(request).await?;
        if let Err(unwatched) = gate.watches() {
            server.close();
            return Err(unwatched);
        }
        // As for a socket, and with the port that is bound, should nobody have asked about it.
        let port = server.local_port();
        if let Err(refused) = self.guard.decide_again(Ask::Listen { port }) {
            server.close();
            return Err(refused);
        }
        Ok(Arc::new(Server::new(server, self.guard.clone())))
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

impl<P> fmt::Debug for Guarded<P> {
    /// Shows no more than the app may know.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("app", &self.guard.app.id())
            .finish_non_exhaustive()
    }
}

fn not_supported(what: &str) -> Error {
    Error::new(
        ErrorName::NotSupported,
        format!("this provider does not take {what}"),
    )
}

/// Those of the gates that guards around this one have added. The type is private, so no app can make one.
fn marked(gates: &[Arc<dyn Gate>]) -> Vec<Arc<dyn Gate>> {
    let ours = |it: &&Arc<dyn Gate>| (&***it as &dyn Any).is::<RequestGate>();
    gates.iter().filter(ours).cloned().collect()
}

/// One app under one policy.
pub(crate) struct Guard {
    pub(crate) app: App,
    policy: Policy,
    audit: Option<Arc<dyn Audit>>,
}

impl Guard {
    /// All that an app is told. What it was and which rule refused it is for the host to know.
    pub(crate) fn refusal() -> Error {
        Error::new(
            ErrorName::NotAllowed,
            "this app is not allowed to do that; its host can tell why",
        )
    }

    /// Decides, and tells the audit sink.
    fn decide(&self, ask: Ask) -> Result<(), Error> {
        let (standing, judged) = self.judge(self.app.grant().level(), &ask);
        self.record(standing, ask, judged);
        judged.answer()
    }

    /// Decides once more about what was allowed before. Only a change of mind is news.
    fn decide_again(&self, ask: Ask) -> Result<(), Error> {
        let (standing, judged) = self.judge(self.app.grant().level(), &ask);
        if judged.is_denied() {
            self.record(standing, ask, judged);
        }
        judged.answer()
    }

    /// Whether it is denied now, for those who need not tell.
    pub(crate) fn denies(&self, ask: &Ask) -> bool {
        self.judge(self.app.grant().level(), ask).1.is_denied()
    }

    /// What the policy says to `ask` under this grant.
    pub(crate) fn judge(&self, granted: Option<Level>, ask: &Ask) -> (Standing, Judged) {
        let standing = self.app.standing_with(granted);
        (standing, self.policy.judge(standing, ask))
    }

    pub(crate) fn record(&self, standing: Standing, ask: Ask, judged: Judged) {
        if let Some(audit) = &self.audit {
            audit.record(&Decision::new(&self.app, standing, ask, judged));
        }
    }
}

impl Judged {
    fn answer(self) -> Result<(), Error> {
        match self.is_denied() {
            true => Err(Guard::refusal()),
            false => Ok(()),
        }
    }
}

/// The gate of one request.
struct RequestGate {
    guard: Arc<Guard>,
    asked: Asked,
    /// It was given a control, without which nothing could be taken back.
    watches: AtomicBool,
}

/// What the request is for.
enum Asked {
    Open {
        host: Host,
        port: u16,
    },
    /// The port, 0 until an automatic one is chosen.
    Listen(AtomicU16),
}

impl RequestGate {
    fn issue(guard: &Arc<Guard>, asked: Asked) -> Arc<RequestGate> {
        Arc::new(RequestGate {
            guard: guard.clone(),
            asked,
            watches: AtomicBool::new(false),
        })
    }

    /// Fails if something below the guard has left this gate out of the request (PERM-21).
    fn watches(&self) -> Result<(), Error> {
        match self.watches.load(SeqCst) {
            true => Ok(()),
            false => Err(not_supported(
                "the gates of a request with it, as it should",
            )),
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Gate for RequestGate {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        let host = host.clone();
        self.guard.decide_again(Ask::Open { host, port })
    }

    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        for address in all {
            self.guard.decide(Ask::connect(host, *address))?;
        }
        Ok(all.to_vec())
    }

    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        self.guard.decide(Ask::bind(at))?;
        if let Asked::Listen(port) = &self.asked {
            port.store(at.port(), SeqCst);
        }
        Ok(())
    }

    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        self.guard.decide(Ask::accept(local, peer))
    }

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.watches.store(true, SeqCst);
        let ask = match &self.asked {
            Asked::Open { host, port } => Ask::Open {
                host: host.clone(),
                port: *port,
            },
            Asked::Listen(port) => Ask::Listen {
                port: port.load(SeqCst),
            },
        };
        Grant::watch(&self.guard, ask, it)
    }
}

impl fmt::Debug for RequestGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
