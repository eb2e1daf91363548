//! Guards around guards, and what an app might try between them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{
    Capabilities, Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter,
    OpenRequest, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};
use tcpsocket_policy::{App, Entry, Guarded, Level, Policy};

use Level::{Certified, Hosted, Privileged};

use crate::fake::Fake;
use crate::log::{
    Log, Spy, app_named, assert_ended, assert_refusal, assert_server_ended, listen, next, open,
    ready,
};

type Stack = Guarded<Guarded<Fake>>;

/// An app's guard around the system's, and who was told what, in one log.
fn stack(fake: &Fake, system: App, app: App) -> (Stack, Log) {
    let log = Log::default();
    let net = Guarded::new(fake.clone(), system, Policy::firefox_os()).with_audit(log.sink());
    let net = Guarded::new(net, app, Policy::firefox_os()).with_audit(log.sink());
    (net, log)
}

/// Everything but what only repeats that the other guard has denied something.
fn told(log: &Log) -> Vec<String> {
    let line = |it: Entry| match it {
        Entry::Decided(it) => Some(format!("{}: {} {}", it.app(), it.verdict(), it.asked())),
        Entry::Failed(it) if it.error().name() == ErrorName::NotAllowed => None,
        Entry::Failed(it) => Some(it.to_string()),
        other => panic!("{other}"),
    };
    log.take_all().into_iter().filter_map(line).collect()
}

#[test]
fn both_guards_decide_every_step_the_inner_one_first() {
    let fake = Fake::new();
    let (net, log) = stack(
        &fake,
        app_named("system", Certified),
        app_named("app", Privileged),
    );

    let socket = open(&net).unwrap();
    assert!(matches!(next(&*socket), Some(Event::Open)));
    assert_eq!(fake.opened.lock().unwrap()[0].gates().len(), 2);
    assert_eq!(
        told(&log),
        [
            "app: allowed open 192.0.2.1:993",
            "system: allowed open 192.0.2.1:993",
            "system: allowed dial 192.0.2.1:993 for 192.0.2.1",
            "app: allowed dial 192.0.2.1:993 for 192.0.2.1",
        ]
    );

    let server = listen(&net, 0).unwrap();
    ready(fake.peer(
        server.local_port(),
        SocketAddr::from(([192, 0, 2, 7], 5000)),
    ))
    .unwrap();
    assert_eq!(fake.listened.lock().unwrap()[0].gates().len(), 2);
    assert_eq!(
        told(&log),
        [
            "app: allowed listen on an automatic port",
            "system: allowed listen on an automatic port",
            "system: allowed bind 127.0.0.1:0",
            "app: allowed bind 127.0.0.1:0",
            "system: allowed bind 127.0.0.1:40000",
            "app: allowed bind 127.0.0.1:40000",
            "system: allowed accept 192.0.2.7:5000 at 127.0.0.1:40000",
            "app: allowed accept 192.0.2.7:5000 at 127.0.0.1:40000",
        ]
    );
}

/// The outer guard's gate is the only one that refuses this port, and it is asked from below the inner guard.
#[test]
fn the_outer_guards_gate_survives_the_inner_one() {
    let fake = Fake::new();
    *fake.automatic_port.lock().unwrap() = 80;
    let (net, log) = stack(
        &fake,
        app_named("system", Certified),
        app_named("app", Privileged),
    );
    assert_refusal(&listen(&net, 0).unwrap_err());
    assert!(!fake.listens_on(80));
    assert_eq!(told(&log).last().unwrap(), "app: denied bind 127.0.0.1:80");

    let net = Guarded::new(net, app_named("third", Certified), Policy::firefox_os());
    assert_refusal(&listen(&net, 0).unwrap_err());
    assert_eq!(
        fake.listened.lock().unwrap().last().unwrap().gates().len(),
        3
    );
    assert_eq!(told(&log).last().unwrap(), "app: denied bind 127.0.0.1:80");
}

#[test]
fn the_stricter_guard_decides() {
    for (system, app, opens, listens_low) in [
        (Certified, Certified, true, true),
        (Certified, Privileged, true, false),
        (Privileged, Certified, true, false),
        (Privileged, Hosted, false, false),
        (Hosted, Certified, false, false),
    ] {
        let fake = Fake::new();
        let (net, _) = stack(&fake, app_named("system", system), app_named("app", app));
        assert_eq!(open(&net).is_ok(), opens, "{system} {app}");
        assert_eq!(listen(&net, 80).is_ok(), listens_low, "{system} {app}");
        assert_eq!(fake.opened.lock().unwrap().len(), usize::from(opens));
        assert_eq!(
            fake.listened.lock().unwrap().len(),
            usize::from(listens_low)
        );
    }
}

#[test]
fn either_grant_ends_what_is_live() {
    for which in ["system", "app"] {
        let (system, app) = (app_named("system", Certified), app_named("app", Certified));
        let revoked = if which == "system" {
            system.clone()
        } else {
            app.clone()
        };
        let (net, log) = stack(&Fake::new(), system, app);
        let (socket, server) = (open(&net).unwrap(), listen(&net, 8080).unwrap());
        log.take();
        revoked.grant().revoke();
        assert_ended(&*socket);
        assert_server_ended(&*server);
        let other = if which == "system" { "app" } else { "system" };
        let lines: Vec<String> = log.take_all().iter().map(ToString::to_string).collect();
        let denied = |what| {
            format!("{which} may not {what}: the host has revoked what it granted (rule: grant)")
        };
        let met = |what| {
            format!(
                "{other}: {what} failed: NotAllowedError: this app is not allowed to do that; its host can tell why"
            )
        };
        assert_eq!(
            lines,
            [
                denied("open 192.0.2.1:993"),
                denied("listen on port 8080"),
                met("open 192.0.2.1:993"),
                met("listen on port 8080"),
            ]
        );
        assert_refusal(&open(&net).unwrap_err());
    }
}

#[test]
fn the_narrower_server_address_counts() {
    let loopback: Option<IpAddr> = Some([127, 0, 0, 1].into());
    for (system, app, expected) in [
        (loopback, None, loopback),
        (None, loopback, loopback),
        (None, None, None),
    ] {
        let fake = Fake::new();
        let policy = |address| Policy::firefox_os().with_server_address(address);
        let net = Guarded::new(fake.clone(), app_named("system", Certified), policy(system));
        let net = Guarded::new(net, app_named("app", Certified), policy(app));
        listen(&net, 8080).unwrap();
        assert_eq!(fake.listened.lock().unwrap()[0].options().address, expected);
    }
}

/// Looks in a log exactly like a guard's gate, and forwards to one in all it does.
struct Imitation(Arc<dyn Gate>, Spy);

impl std::fmt::Debug for Imitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl Gate for Imitation {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.1.name(host, port).await?;
        self.0.name(host, port).await
    }
    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.1.connect(host, all).await?;
        self.0.connect(host, all).await
    }
    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        self.1.bind(at).await?;
        self.0.bind(at).await
    }
    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        self.1.accept(local, peer).await?;
        self.0.accept(local, peer).await
    }
    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        drop(self.1.watch(it.clone()));
        self.0.watch(it)
    }
}

/// A gate without size: its address is no address of a value.
#[derive(Debug)]
struct Nothing;

#[async_trait]
impl Gate for Nothing {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        panic!("asked")
    }
    async fn connect(&self, _host: &Host, _all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        panic!("asked")
    }
    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        panic!("asked")
    }
    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        panic!("asked")
    }
    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

/// A provider of the app's own, which keeps the gates that a guard around it adds.
#[derive(Clone, Debug, Default)]
struct Catcher(Arc<Mutex<Vec<Arc<dyn Gate>>>>);

impl Catcher {
    /// A gate of a guard that the app made itself.
    fn caught(id: &str) -> (Arc<dyn Gate>, Log) {
        let (catcher, log) = (Catcher::default(), Log::default());
        let net = Guarded::new(
            catcher.clone(),
            app_named(id, Certified),
            Policy::firefox_os(),
        );
        let _ = open(&net.with_audit(log.sink()));
        log.take_all();
        let gate = catcher.0.lock().unwrap().pop().unwrap();
        (gate, log)
    }
}

#[async_trait]
impl SocketProvider for Catcher {
    fn capabilities(&self) -> Capabilities {
        let mut offers = Capabilities::NONE;
        offers.gates = true;
        offers
    }
    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.0.lock().unwrap().extend_from_slice(request.gates());
        Err(Error::new(ErrorName::Network, "caught"))
    }
    async fn listen_with(&self, _: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        Err(Error::new(ErrorName::NotSupported, "listen"))
    }
    async fn idle(&self) {}
}

#[test]
fn imitations_of_a_guards_gate_are_dropped() {
    let fake = Fake::new();
    let (net, _) = stack(
        &fake,
        app_named("system", Certified),
        app_named("app", Certified),
    );
    let (genuine, _) = Catcher::caught("mine");
    let imitation = Arc::new(Imitation(genuine, Spy::default()));
    let request = OpenRequest::new("192.0.2.1", 80).unwrap();
    let request = request
        .with_gate(imitation.clone())
        .with_gate(Arc::new(Nothing));
    net.open_with(request).unwrap();
    let request = ListenRequest::new(8080).unwrap();
    let request = request
        .with_gate(imitation.clone())
        .with_gate(Arc::new(Nothing));
    ready(net.listen_with(request)).unwrap();
    assert_eq!(fake.opened.lock().unwrap()[0].gates().len(), 2);
    assert_eq!(fake.listened.lock().unwrap()[0].gates().len(), 2);
    assert_eq!(imitation.1.asked.load(SeqCst), 0);
}

/// An app that makes a guard of its own gets what any outer guard gets: a say after the host's guard has had its say.
#[test]
fn a_guard_of_the_apps_own_is_shown_only_what_the_hosts_admitted() {
    let fake = Fake::new();
    *fake.automatic_port.lock().unwrap() = 80;
    let hosts = Log::default();
    let net = Guarded::new(fake, app_named("app", Privileged), Policy::firefox_os())
        .with_audit(hosts.sink());
    let (caught, mine) = Catcher::caught("mine");

    let request = ListenRequest::new(0).unwrap().with_gate(caught.clone());
    assert_refusal(&ready(net.listen_with(request)).unwrap_err());
    assert_eq!(
        told(&hosts).last().unwrap(),
        "app: denied bind 127.0.0.1:80"
    );
    assert_eq!(told(&mine), ["mine: allowed bind 127.0.0.1:0"]);

    let request = OpenRequest::new("192.0.2.1", 80).unwrap().with_gate(caught);
    net.open_with(request).unwrap();
    assert_eq!(
        told(&mine),
        ["mine: allowed dial 192.0.2.1:80 for 192.0.2.1"]
    );
}

/// It is the provider's own kind that counts, not how it is held: a guard behind other wrappers keeps its gate, too.
#[test]
fn a_wrapper_between_two_guards_does_no_harm() {
    #[derive(Debug)]
    struct Between<P>(P);

    #[async_trait]
    impl<P: SocketProvider> SocketProvider for Between<P> {
        fn capabilities(&self) -> Capabilities {
            self.0.capabilities()
        }
        fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
            self.0
                .open_with(request.with_gate(Arc::new(Spy::default())))
        }
        async fn listen_with(&self, it: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
            self.0.listen_with(it).await
        }
        async fn idle(&self) {
            self.0.idle().await;
        }
    }

    let fake = Fake::new();
    *fake.automatic_port.lock().unwrap() = 80;
    let net = Guarded::new(
        fake.clone(),
        app_named("system", Certified),
        Policy::firefox_os(),
    );
    let net = Guarded::new(
        Between(net),
        app_named("app", Privileged),
        Policy::firefox_os(),
    );
    assert_refusal(&listen(&net, 0).unwrap_err());
    open(&net).unwrap();
    assert_eq!(fake.opened.lock().unwrap()[0].gates().len(), 2);
}
