//! One guard around one provider: what it passes on, what it keeps to itself, and what it tells whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::Duration;

use tcpsocket::{
    BinaryType, Error, ErrorName, Event, Host, ListenRequest, OpenRequest, Resolver, ServerEvent,
    ServerSocketOptions, SocketOptions, SocketProvider, async_trait,
};
use tcpsocket_policy::{App, Guarded, Level, Manifest, Policy};

use Level::{Certified, Privileged};

use crate::fake::Fake;
use crate::log::{Log, Spy, app, assert_refusal, listen, next, next_of, open, ready};

fn guarded(fake: &Fake, level: Level) -> (Guarded<Fake>, Log) {
    let log = Log::default();
    let net = Guarded::new(fake.clone(), app(level), Policy::firefox_os());
    (net.with_audit(log.sink()), log)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn gates_of_the_app_are_dropped_unasked() {
    let fake = Fake::new();
    let (net, _) = guarded(&fake, Privileged);
    let spy = Arc::new(Spy::default());

    let request = OpenRequest::new("192.0.2.1", 80).unwrap();
    let request = request.with_gate(spy.clone()).with_gate(spy.clone());
    net.open_with(request).unwrap();
    assert_eq!(fake.opened.lock().unwrap()[0].gates().len(), 1);

    let request = ListenRequest::new(8080).unwrap().with_gate(spy.clone());
    let _server = ready(net.listen_with(request)).unwrap();
    assert_eq!(fake.listened.lock().unwrap()[0].gates().len(), 1);
    ready(fake.peer(8080, at("192.0.2.7:40000"))).unwrap();

    assert_eq!(spy.asked.load(SeqCst), 0);
    drop((net, fake));
    assert_eq!(Arc::strong_count(&spy), 1);
}

/// Answers every name with loopback, which is why no app may bring one.
#[derive(Debug)]
struct Loopback;

#[async_trait]
impl Resolver for Loopback {
    async fn lookup(&self, _name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
    }
}

#[test]
fn a_resolver_of_the_app_is_refused_and_not_offered() {
    let fake = Fake::new();
    let (net, _) = guarded(&fake, Privileged);
    assert!(fake.capabilities().resolver && !net.capabilities().resolver);
    let with_resolver = || {
        let request = OpenRequest::new("example.org", 443).unwrap();
        request.with_resolver(Arc::new(Loopback))
    };
    let error = net.open_with(with_resolver()).unwrap_err();
    assert_eq!(error.name(), ErrorName::NotSupported);
    assert!(fake.opened.lock().unwrap().is_empty());

    // Without the permission there is nothing to learn about what is supported.
    let app = App::new("app", Privileged, Manifest::new(Privileged));
    let net = Guarded::new(fake, app, Policy::firefox_os());
    assert_refusal(&net.open_with(with_resolver()).unwrap_err());
}

#[test]
fn capabilities_are_the_inner_providers_but_for_resolvers() {
    let fake = Fake::new();
    let mut offers = fake.capabilities();
    offers.alpn = true;
    *fake.offers.lock().unwrap() = offers;
    let (net, _) = guarded(&fake, Privileged);
    offers.resolver = false;
    assert_eq!(net.capabilities(), offers);
}

#[test]
fn a_provider_without_gates_cannot_be_guarded() {
    let fake = Fake::new();
    fake.offers.lock().unwrap().gates = false;
    let (net, _) = guarded(&fake, Certified);
    assert_eq!(open(&net).unwrap_err().name(), ErrorName::NotSupported);
    assert_eq!(
        listen(&net, 8080).unwrap_err().name(),
        ErrorName::NotSupported
    );
    assert!(fake.opened.lock().unwrap().is_empty() && fake.listened.lock().unwrap().is_empty());
}

#[test]
fn what_else_is_in_a_request_passes_through() {
    let fake = Fake::new();
    let (net, _) = guarded(&fake, Privileged);

    let options = SocketOptions::new()
        .use_secure_transport(true)
        .binary_type(BinaryType::ArrayBuffer)
        .no_delay(false)
        .connect_timeout(Duration::from_secs(3))
        .keep_alive(Duration::from_secs(4))
        .linger(Duration::from_secs(5))
        .alpn(["imap"]);
    let request = OpenRequest::new("IMAP.Example.ORG.", 993).unwrap();
    net.open_with(request.with_options(options.clone()))
        .unwrap();
    let seen = fake.opened.lock().unwrap().remove(0);
    assert_eq!(seen.host().given(), "IMAP.Example.ORG.");
    assert_eq!((seen.port(), seen.options()), (993, &options));

    let options = ServerSocketOptions::new()
        .binary_type(BinaryType::ArrayBuffer)
        .address(ip("192.0.2.9"))
        .no_delay(false)
        .keep_alive(Duration::from_secs(4))
        .linger(Duration::from_secs(5));
    let request = ListenRequest::new(8080).unwrap().backlog(7).unwrap();
    ready(net.listen_with(request.with_options(options.clone()))).unwrap();
    let seen = fake.listened.lock().unwrap().remove(0);
    assert_eq!((seen.port(), seen.backlog_wanted()), (8080, Some(7)));
    assert_eq!(seen.options(), &options);

    ready(net.idle());
    assert_eq!(*fake.idled.lock().unwrap(), 1);
}

#[test]
fn a_server_without_an_address_gets_the_policys() {
    let loopback = Some(ip("127.0.0.1"));
    let table = [
        (Policy::firefox_os(), None, loopback),
        (Policy::firefox_os(), Some("0.0.0.0"), Some(ip("0.0.0.0"))),
        (
            Policy::firefox_os(),
            Some("192.0.2.9"),
            Some(ip("192.0.2.9")),
        ),
        (Policy::firefox_os().with_server_address(None), None, None),
        (
            Policy::firefox_os().with_server_address(None),
            Some("::1"),
            Some(ip("::1")),
        ),
        (
            Policy::firefox_os().with_server_address(Some(ip("::1"))),
            None,
            Some(ip("::1")),
        ),
    ];
    for (policy, named, expected) in table {
        let fake = Fake::new();
        let net = Guarded::new(fake.clone(), app(Privileged), policy);
        let mut options = ServerSocketOptions::new();
        options.address = named.map(ip);
        let request = ListenRequest::new(8080).unwrap().with_options(options);
        ready(net.listen_with(request)).unwrap();
        assert_eq!(fake.listened.lock().unwrap()[0].options().address, expected);
    }
    assert_eq!(Policy::new().server_address(), loopback);
}

/// The sink is told every step: the call, then what became known behind it.
#[test]
fn an_open_is_audited_at_the_call_and_for_each_address() {
    let fake = Fake::new();
    *fake.answers.lock().unwrap() = vec![ip("2001:db8::1"), ip("::ffff:192.0.2.1")];
    let (net, log) = guarded(&fake, Privileged);
    let socket = net
        .open_with(OpenRequest::new("Mail.Example.ORG", 993).unwrap())
        .unwrap();
    assert!(matches!(next(&*socket), Some(Event::Open)));
    assert_eq!(
        log.lines(),
        [
            "allowed open mail.example.org:993 (default)",
            "allowed dial [2001:db8::1]:993 for mail.example.org (default)",
            "allowed dial 192.0.2.1:993 for mail.example.org (default)",
        ]
    );
}

#[test]
fn a_server_is_audited_at_the_call_for_each_bind_and_each_peer() {
    let fake = Fake::new();
    let (net, log) = guarded(&fake, Privileged);
    let server = listen(&net, 0).unwrap();
    assert_eq!(server.local_port(), 40_000);
    ready(fake.peer(40_000, at("192.0.2.7:5000"))).unwrap();
    match next_of(&*server) {
        Poll::Ready(Some(ServerEvent::Connect(socket))) => assert_eq!(socket.host(), "192.0.2.7"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        log.lines(),
        [
            "allowed listen on an automatic port (default)",
            "allowed bind 127.0.0.1:0 (default)",
            "allowed bind 127.0.0.1:40000 (default)",
            "allowed accept 192.0.2.7:5000 at 127.0.0.1:40000 (default)",
        ]
    );
}

/// `ip_local_port_range` may begin below 1024; root may bind there. Neither is an app's level.
#[test]
fn an_automatic_port_that_is_a_low_one_is_refused_before_anybody_can_connect() {
    let fake = Fake::new();
    *fake.automatic_port.lock().unwrap() = 80;
    let (net, log) = guarded(&fake, Privileged);
    assert_refusal(&listen(&net, 0).unwrap_err());
    assert!(!fake.listens_on(80));
    assert_eq!(
        log.lines(),
        [
            "allowed listen on an automatic port (default)",
            "allowed bind 127.0.0.1:0 (default)",
            "denied bind 127.0.0.1:80 (low-port)",
        ]
    );

    let (net, _) = guarded(&fake, Certified);
    let server = listen(&net, 0).unwrap();
    assert_eq!(server.local_port(), 80);
    assert!(fake.listens_on(80));
}

/// A guard looks at the port once more, should a provider have asked nobody.
#[test]
fn a_low_port_that_nobody_asked_about_is_given_back() {
    let fake = Fake::new();
    *fake.automatic_port.lock().unwrap() = 80;
    *fake.forgets_bind.lock().unwrap() = true;
    let (net, log) = guarded(&fake, Privileged);
    assert_refusal(&listen(&net, 0).unwrap_err());
    assert!(!fake.listens_on(80));
    assert_eq!(
        log.lines(),
        [
            "allowed listen on an automatic port (default)",
            "denied listen on port 80 (low-port)",
        ]
    );
}

/// The whole record of a refusal: for the host everything, for the app the same words as ever.
#[test]
fn the_host_is_told_why_and_the_app_is_not() {
    let fake = Fake::new();
    let log = Log::default();
    let hosted = App::new("game.example", Privileged, Manifest::new(Level::Hosted));
    let net = Guarded::new(fake.clone(), hosted, Policy::firefox_os()).with_audit(log.sink());
    let error = net
        .open_with(OpenRequest::new("intranet.example", 22).unwrap())
        .unwrap_err();
    assert_refusal(&error);
    let told: Vec<String> = log.take().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "game.example may not open intranet.example:22: sockets take a privileged app; this one is web, granted \
             privileged and claiming web (rule: level)"
        ]
    );
    assert!(fake.opened.lock().unwrap().is_empty());
}

#[test]
fn a_guard_shows_nothing_of_its_policy() {
    let (net, _) = guarded(&Fake::new(), Privileged);
    let net: Arc<dyn SocketProvider> = Arc::new(net);
    assert_eq!(format!("{net:?}"), "Guarded { app: \"app\", .. }");
}

/// Without a sink, decisions are the same and nobody is told.
#[test]
fn there_need_not_be_a_sink() {
    let net = Guarded::new(Fake::new(), app(Privileged), Policy::firefox_os());
    assert!(open(&net).is_ok());
    assert_refusal(&listen(&net, 80).unwrap_err());
}
