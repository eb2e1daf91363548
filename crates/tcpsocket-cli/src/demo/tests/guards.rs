//! Guards that break one promise each.

use std::sync::Arc;

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};
use tcpsocket_policy::{App, Ask, Audit, Entry, Guarded, Level, Policy};

use crate::demo::permissions::guarded;

type Net = Arc<dyn SocketProvider>;

/// Lets everything pass.
pub(super) fn none(net: Net, _app: App, _audit: Arc<dyn Audit>) -> Net {
    net
}

/// Guards, and tells nobody.
pub(super) fn silent(net: Net, app: App, _audit: Arc<dyn Audit>) -> Net {
    Arc::new(Guarded::new(net, app, Policy::firefox_os()))
}

/// Tells the host of a decision that was not taken.
pub(super) fn misleading(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    let policy = Policy::new();
    let own = app.clone();
    let sink = move |it: &Entry| audit.record(&Entry::Decided(policy.explain(&own, it.asked())));
    guarded(net, app, Arc::new(sink))
}

/// Guards as if every app were a privileged one.
pub(super) fn strict(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    let demoted = App::new(app.id(), Level::Privileged, app.manifest().clone());
    guarded(net, demoted, audit)
}

/// Tells the app which rule it was.
pub(super) fn talkative(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    let fault = Fault::Talkative(app.clone());
    Faulty::around(guarded(net, app, audit), fault)
}

/// Tells the host that a server is admitted, and the app that it is not.
pub(super) fn two_faced(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    Faulty::around(guarded(net, app, audit), Fault::NoServers)
}

/// The same for connections to low ports.
pub(super) fn against_clients(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    Faulty::around(guarded(net, app, audit), Fault::NoLowPorts)
}

/// Opens sockets that stay where they are.
pub(super) fn stuck(net: Net, app: App, audit: Arc<dyn Audit>) -> Net {
    guarded(Faulty::around(net, Fault::Stuck), app, audit)
}

#[derive(Debug)]
enum Fault {
    Talkative(App),
    NoServers,
    NoLowPorts,
    Stuck,
}

#[derive(Debug)]
struct Faulty {
    inner: Net,
    fault: Fault,
}

impl Faulty {
    fn around(inner: Net, fault: Fault) -> Net {
        Arc::new(Faulty { inner, fault })
    }
}

/// What a guard of `tcpsocket-policy` says.
fn refusal() -> Error {
    Error::new(
        ErrorName::NotAllowed,
        "this app is not allowed to do that; its host can tell why",
    )
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.fault {
            Fault::NoLowPorts if request.port() < 1024 => {
                self.inner.open_with(request)?.abort(None);
                Err(refusal())
            }
            Fault::Stuck => self
                .inner
                .open_with(request.with_gate(Arc::new(stuck::Never))),
            _ => self.inner.open_with(request),
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let ask = Ask::from(&request);
        let listening = self.inner.listen_with(request).await;
        match &self.fault {
            Fault::Talkative(app) => listening.map_err(|it| {
                let why = Policy::firefox_os().explain(app, &ask);
                Error::new(it.name(), why.to_string())
            }),
            Fault::NoServers => Err(refusal()),
            _ => listening,
        }
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

mod stuck {
    //! A gate that never answers.

    use std::net::SocketAddr;
    use std::sync::{Arc, Weak};

    use tcpsocket::{Control, Error, Gate, Host, Meter, NoMeter, async_trait};

    #[derive(Debug)]
    pub(super) struct Never;

    #[async_trait]
    impl Gate for Never {
        async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
            Ok(())
        }
        async fn connect(
            &self,
            _host: &Host,
            _all: &[SocketAddr],
        ) -> Result<Vec<SocketAddr>, Error> {
            std::future::pending().await
        }
        async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
            Ok(())
        }
        async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
            Ok(())
        }
        fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
            Arc::new(NoMeter)
        }
    }
}
