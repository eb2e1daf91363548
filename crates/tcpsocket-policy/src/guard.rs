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

/// Wraps any provider for one app, and applies the policy to every request.
///
/// - Everything known at the call (grant, level, manifest and port) is decided before anything else happens, and a refusal
///   is the call's own `NotAllowedError` (PERM-9). Every call is decided anew (PERM-4).
/// - The guard adds its gate to every request, so names, addresses, binds and accepted peers are decided too, as they become
///   known. The app's own gates are dropped: they would be asked before the guard's, and would see addresses.
/// - The app cannot choose a resolver. A request with a resolver is refused with `NotSupportedError`, and
///   [`capabilities`](SocketProvider::capabilities) says so. Ignoring the resolver would send the app's question to somebody
///   it did not mean to ask.
/// - A server without an address gets the policy's, by default loopback.
/// - The app sees the same refusal for every rule. The [`Audit`] sink receives the rule and the reason.
/// - Of any other failure the app learns the error's name and its own arguments, and no address from a lookup. The sink
///   receives the full error (PERM-22, PERM-24).
///
/// Give the app a `dyn SocketProvider`, and never the [`App`] or its [`Grant`](crate::Grant).
///
/// # Guards around guards
///
/// A guard can wrap another, for instance an app's around the system's, and both decide. An inner guard keeps the outer
/// one's gate, which it recognises by its type, and has its own asked first. So a guard that an app makes, for code it runs
/// itself, can only narrow the app's own rights, and sees nothing that a guard below has not admitted.
///
/// If a wrapper between two guards adds gates, they are dropped like an app's. Such a wrapper belongs below the guards, and
/// must keep the request's gates when it adds its own: a guard whose gate is missing ends the socket or server (PERM-21).
/// Such a gate is asked after the guards', so they see addresses that it then refuses. Both guards must come from the same
/// version of this crate, or they do not recognise each other's gates.
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
    /// `inner` must support gates: without them a guard cannot decide, and refuses every request with `NotSupportedError`.
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

    /// Sends all audit entries to this sink. By default there is none.
    pub fn with_audit(mut self, audit: Arc<dyn Audit>) -> Guarded<P> {
        Arc::make_mut(&mut self.guard).audit = Some(audit);
        self
    }

    /// Adds one of the host's gates, for rules that levels cannot express. It can only narrow what the policy allows.
    ///
    /// The guard asks it at every step the policy has allowed (PERM-25), and like every gate it may take its time. The app
    /// sees its refusals like any denial; the gate's own words go to the [`Audit`]. Its meters and controls work like those
    /// of a gate in the request.
    ///
    /// Nothing within reach of the guard can remove it: neither an app nor a guard below.
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
    ///     fn watch(&self, _control: Weak<dyn Control>) -> Arc<dyn Meter> {
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

    /// Whether the provider below supports what a guard needs.
    fn guardable(&self) -> Result<(), Error> {
        match self.inner.capabilities().gates {
            true => Ok(()),
            false => Err(Error::new(
                ErrorName::NotSupported,
                "the provider below the guard does not support gates, and a guard needs them",
            )),
        }
    }

    fn open(&self, own: &Arc<Request>, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        own.decide()?;
        self.guardable()?;
        if request.resolver().is_some() {
            return Err(Error::new(
                ErrorName::NotSupported,
                "apps cannot bring their own resolver",
            ));
        }
        let around = marked(request.gates());
        let request = request.without_gates().with_gate(own.clone());
        // The decision was about this name, not about one that a search list makes of it (NAME-8).
        let request = request.with_absolute_name();
        let request = around.into_iter().fold(request, OpenRequest::with_gate);
        let socket = self.inner.open_with(request)?;
        // Decide again: a revocation could not reach the control while the socket was under construction.
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
        // As for a socket, and with the bound port, in case no gate was asked about it.
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
    /// The inner provider's capabilities, without resolvers.
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

/// The gates added by guards around this one. Their type is private, so no app can make one.
fn marked(gates: &[Arc<dyn Gate>]) -> Vec<Arc<dyn Gate>> {
    let ours = |gate: &&Arc<dyn Gate>| (&***gate as &dyn Any).is::<Request>();
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

    /// The host's own gates.
    pub(crate) fn gates(&self) -> &[Arc<dyn Gate>] {
        &self.gates
    }

    /// The policy's verdict on `ask` under this grant.
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

    /// Marks an error as known to this guard's audit.
    pub(crate) fn mark(self: &Arc<Guard>, error: &Error) -> Error {
        Mark::ToldBy(Arc::downgrade(self)).on(error)
    }

    /// Records a failure with a cause other than the policy.
    pub(crate) fn fail(&self, asked: Ask, error: &Error) {
        if let Some(audit) = &self.audit {
            let failure = Failure::new(&self.app, asked, error.clone());
            audit.record(&Entry::Failed(failure));
        }
    }

    /// Converts an error of `asked` to the app's view, with the name only, and gives the rest to the audit first (PERM-22).
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
            // Leave it to the guard around this one to recognise its own refusal.
            Some(_) => error,
            None => told(error.name(), &asked),
        }
    }
}
