//! A provider for one app.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tcpsocket::{
    Capabilities, Error, ErrorName, Gate, ListenRequest, OpenRequest, SocketProvider,
    TcpServerSocket, TcpSocket, async_trait,
};

use crate::app::Standing;
use crate::audit::Entry;
use crate::decision::Judged;
use crate::failure::{Mark, told};
use crate::request::Request;
use crate::server::Server;
use crate::socket::Socket;
use crate::{App, Ask, Audit, Decision, Failure, Level, Policy};

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
/// - Of whatever else fails, the app is told the name of the error and what it gave itself, and no address that a lookup
///   found. The sink is told all of it (PERM-22, PERM-24).
///
/// The app must hold it as a `dyn SocketProvider`, and never the [`App`] or its [`Grant`](crate::Grant).
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
/// fn restrict(
///     net: impl SocketProvider,
///     (system, rules): (App, Policy),
///     (app, narrower): (App, Policy),
/// ) -> impl SocketProvider {
///     let net = Guarded::new(net, system, rules);
///     Guarded::new(net, app, narrower)
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
                gates: Vec::new(),
                audit: None,
            }),
        }
    }

    /// Tells this sink everything from now on. By default nobody is told.
    pub fn with_audit(mut self, audit: Arc<dyn Audit>) -> Guarded<P> {
        Arc::make_mut(&mut self.guard).audit = Some(audit);
        self
    }

    /// Adds a gate of the host's, for rules of its own. It can only narrow what the policy allows.
    ///
    /// It is asked at every step that the policy has allowed (PERM-25), and like every gate it may take its time. What it refuses,
    /// the app is told as it is told any denial; what the gate says about it goes to the [`Audit`]. Its meters count and its
    /// controls end as those of a gate in the request do.
    ///
    /// Nothing that can be reached through the guard takes it out again: not an app, and not a guard below.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use std::sync::{Arc, Weak};
    ///
    /// use tcpsocket::{
    ///     Control, Error, ErrorName, Gate, Host, Meter, NoMeter, SocketProvider, async_trait, is_public,
    /// };
    /// use tcpsocket_policy::{App, Guarded, Policy};
    ///
    /// /// The internet, and neither this machine nor its network.
    /// #[derive(Debug)]
    /// struct PublicOnly;
    ///
    /// fn refuse<T>(why: &str) -> Result<T, Error> {
    ///     Err(Error::new(ErrorName::NotAllowed, why))
    /// }
    ///
    /// #[async_trait]
    /// impl Gate for PublicOnly {
    ///     async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
    ///         Ok(()) // its addresses are what counts
    ///     }
    ///     async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
    ///         match all.iter().all(|at| is_public(at.ip())) {
    ///             true => Ok(all.to_vec()),
    ///             false => refuse("that host is not on the internet"),
    ///         }
    ///     }
    ///     async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
    ///         refuse("this app may not listen")
    ///     }
    ///     async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
    ///         refuse("this app may not listen")
    ///     }
    ///     fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
    ///         Arc::new(NoMeter)
    ///     }
    /// }
    ///
    /// fn guard(net: impl SocketProvider, app: App) -> impl SocketProvider {
    ///     Guarded::new(net, app, Policy::firefox_os()).with_gate(Arc::new(PublicOnly))
    /// }
    /// ```
    pub fn with_gate(mut self, gate: Arc<dyn Gate>) -> Guarded<P> {
        Arc::make_mut(&mut self.guard).gates.push(gate);
        self
    }

    /// Revokes the app's grant: [`Grant::revoke`](crate::Grant::revoke).
    pub fn revoke(&self) {
        self.guard.app.grant().revoke();
    }

    /// Whether a guard can do its work on this provider.
    fn guardable(&self) -> Result<(), Error> {
        match self.inner.capabilities().gates {
            true => Ok(()),
            false => Err(Error::new(
                ErrorName::NotSupported,
                "the provider below the guard does not offer gates, without which nothing is opened for an app",
            )),
        }
    }

    fn open(&self, own: &Arc<Request>, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        own.decide()?;
        self.guardable()?;
        if request.resolver().is_some() {
            return Err(Error::new(
                ErrorName::NotSupported,
                "a guard takes no resolvers of an app's",
            ));
        }
        let around = marked(request.gates());
        let request = request.without_gates().with_gate(own.clone());
        // What was decided is this name, and none that a search list makes of it (NAME-8).
        let request = request.with_absolute_name();
        let request = around.into_iter().fold(request, OpenRequest::with_gate);
        let socket = self.inner.open_with(request)?;
        // What was revoked while it was being made, when its control could not be reached yet, is decided again.
        let allowed = own.is_watched().and_then(|()| own.decide_again(None));
        match allowed {
            Ok(()) => Ok(socket),
            Err(why) => {
                socket.abort(Some(why.clone()));
                Err(why)
            }
        }
    }

    async fn listen(
        &self,
        own: &Arc<Request>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        own.decide()?;
        self.guardable()?;
        let around = marked(request.gates());
        let mut options = request.options().clone();
        options.address = options.address.or(self.guard.policy.server_address());
        let request = request.with_options(options).without_gates();
        let request = request.with_gate(own.clone());
        let request = around.into_iter().fold(request, ListenRequest::with_gate);
        let server = self.inner.listen_with(request).await?;
        // As for a socket, and with the port that is bound, should nobody have asked about it.
        let bound = Some(server.local_port());
        let allowed = own.is_watched().and_then(|()| own.decide_again(bound));
        match allowed {
            Ok(()) => Ok(server),
            Err(why) => {
                server.close();
                Err(why)
            }
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
        let own = Request::open(&self.guard, &request);
        match self.open(&own, request) {
            Ok(socket) => Ok(Arc::new(Socket::new(socket, own))),
            Err(error) => Err(own.tell(error)),
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let own = Request::listen(&self.guard, &request);
        match self.listen(&own, request).await {
            Ok(server) => Ok(Arc::new(Server::new(server, own))),
            Err(error) => Err(own.tell(error)),
        }
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

/// Those of the gates that guards around this one have added. The type is private, so no app can make one.
fn marked(gates: &[Arc<dyn Gate>]) -> Vec<Arc<dyn Gate>> {
    let ours = |it: &&Arc<dyn Gate>| (&***it as &dyn Any).is::<Request>();
    gates.iter().filter(ours).cloned().collect()
}

/// One app under one policy.
#[derive(Clone)]
pub(crate) struct Guard {
    app: App,
    policy: Policy,
    gates: Vec<Arc<dyn Gate>>,
    audit: Option<Arc<dyn Audit>>,
}

impl Guard {
    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Those of the host's own.
    pub(crate) fn gates(&self) -> &[Arc<dyn Gate>] {
        &self.gates
    }

    /// What the policy says to `ask` under this grant.
    pub(crate) fn judge(&self, granted: Option<Level>, ask: &Ask) -> (Standing, Judged) {
        let standing = self.app.standing_with(granted);
        (standing, self.policy.judge(standing, ask))
    }

    pub(crate) fn record(&self, standing: Standing, ask: Ask, judged: Judged) {
        if let Some(audit) = &self.audit {
            let decision = Decision::new(&self.app, standing, ask, judged);
            audit.record(&Entry::Decided(decision));
        }
    }

    /// The error with the mark that says that this guard's audit has it.
    pub(crate) fn mark(self: &Arc<Guard>, error: &Error) -> Error {
        Mark::ToldBy(Arc::downgrade(self)).on(error)
    }

    /// Tells the audit that something came to nothing for another reason than the policy.
    pub(crate) fn fail(&self, asked: Ask, error: &Error) {
        if let Some(audit) = &self.audit {
            let failure = Failure::new(&self.app, asked, error.clone());
            audit.record(&Entry::Failed(failure));
        }
    }

    /// What the app is told of an error that has come of `asked`: the name of it, once the audit has the rest (PERM-22).
    pub(crate) fn tell(&self, error: Error, asked: impl FnOnce() -> Ask) -> Error {
        let mark = Mark::of(&error);
        if let Some(Mark::Apps(own)) = mark {
            return own.clone();
        }
        let asked = asked();
        if let Some(Mark::ToldBy(guard)) = mark
            && std::ptr::eq(guard.as_ptr(), self)
        {
            return told(error.name(), &asked);
        }
        self.fail(asked.clone(), &error);
        match mark {
            // A guard around this one knows its own refusal again, and tells its app nothing of it.
            Some(_) => error,
            None => told(error.name(), &asked),
        }
    }
}
