//! What fails: an app is told a name and what it gave itself, and the host's audit is told all of it (PERM-22, PERM-24).

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Weak};
use std::task::Poll;

use proptest::prelude::*;
use tcpsocket::{
    Bytes, Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, OpenRequest,
    ServerEvent, SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};
use tcpsocket_policy::{Entry, Guarded, Level, Policy};

use Level::Certified;

use crate::fake::{Fake, SECRET as MARK, Trouble};
use crate::log::{Log, app_named, assert_refusal, next, next_of, ready};

const TROUBLES: [Trouble; 9] = [
    Trouble::Open,
    Trouble::Opened,
    Trouble::Send,
    Trouble::Resume,
    Trouble::Upgrade,
    Trouble::Listen,
    Trouble::Server,
    Trouble::Accepted,
    Trouble::AcceptedSend,
];

/// An error with the mark in its message, its cause and the cause of that, as that of the operating system is.
fn marked(name: ErrorName) -> Error {
    #[derive(Debug)]
    struct Cause(std::io::Error);
    impl fmt::Display for Cause {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{MARK}:5432 says: {}", self.0)
        }
    }
    impl StdError for Cause {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }
    let cause = Cause(std::io::Error::other(format!("{MARK} again")));
    Error::with_source(name, format!("no luck with {MARK}:5432"), cause)
}

/// Everything that an app did and was told.
#[derive(Default)]
struct Seen {
    /// The text of everything that it was shown.
    text: Vec<String>,
    errors: Vec<Error>,
}

impl Seen {
    fn error(&mut self, error: &Error) {
        self.text
            .push(format!("{error} {error:?} {error:#?} {}", error.message()));
        let mut cause = error.source();
        while let Some(it) = cause {
            self.text.push(format!("{it} {it:?} {it:#?}"));
            cause = it.source();
        }
        let io = std::io::Error::from(error.clone());
        self.text.push(format!("{io} {io:?}"));
        self.errors.push(error.clone());
    }

    fn socket(&mut self, socket: &dyn TcpSocket) {
        if let Err(error) = socket.send(Bytes::from_static(b"x")) {
            self.error(&error);
        }
        if let Err(error) = socket.resume() {
            self.error(&error);
        }
        // The fake has no TLS at all, which is an error of its own.
        if let Err(error) = socket.upgrade_to_secure() {
            self.error(&error);
        }
        while let Some(event) = next(socket) {
            self.text.push(format!("{event:?}"));
            if let Event::Error(error) = event {
                self.error(&error);
            }
        }
        let state = (
            socket.ready_state(),
            socket.security(),
            socket.host().to_owned(),
        );
        self.text.push(format!("{socket:?} {socket:#?} {state:?}"));
    }

    fn server(&mut self, fake: &Fake, server: &dyn TcpServerSocket, peer: SocketAddr) {
        let port = server.local_port();
        if fake.listens_on(port) {
            // Whether it gets in is for the gates to say.
            let _ = ready(fake.peer(port, peer));
        }
        while let Poll::Ready(Some(event)) = next_of(server) {
            self.text.push(format!("{event:?}"));
            match event {
                ServerEvent::Connect(socket) => self.socket(&*socket),
                ServerEvent::Error(error) => self.error(&error),
                other => panic!("{other:?}"),
            }
        }
        self.text.push(format!("{server:?} {server:#?}"));
    }

    /// An app's whole life: it opens, it listens, it talks.
    fn life(net: &dyn SocketProvider, fake: &Fake, host: &str, port: u16) -> Seen {
        let mut seen = Seen::default();
        match net.open_with(OpenRequest::new(host, port).unwrap()) {
            Ok(socket) => seen.socket(&*socket),
            Err(error) => seen.error(&error),
        }
        match ready(net.listen_with(ListenRequest::new(port).unwrap())) {
            Ok(server) => seen.server(fake, &*server, SocketAddr::from(([192, 0, 2, 7], 5000))),
            Err(error) => seen.error(&error),
        }
        seen.text.push(format!("{net:?} {net:#?}"));
        seen
    }

    fn assert_unmarked(&self) {
        for text in &self.text {
            assert!(!text.contains(MARK), "{text}");
            assert!(!text.contains("no luck"), "{text}");
        }
        for error in &self.errors {
            assert!(error.source().is_none(), "{error:?}");
        }
    }
}

fn guarded(fake: &Fake) -> (Guarded<Fake>, Log) {
    let log = Log::default();
    let net = Guarded::new(
        fake.clone(),
        app_named("app", Certified),
        Policy::firefox_os(),
    );
    (net.with_audit(log.sink()), log)
}

fn failures(log: &Log) -> Vec<Entry> {
    let entries = log.take_all().into_iter();
    entries.filter(|it| it.failure().is_some()).collect()
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,10}\\.(example|test)\\.?",
        Just("192.0.2.1".to_owned()),
        Just("2001:db8::1".to_owned()),
        Just("::FFFF:192.0.2.1".to_owned()),
    ]
}

proptest! {
    /// Whatever fails and wherever: the app sees the name, and the host all of it, once.
    #[test]
    fn no_failure_tells_the_app_more_than_its_name(
        trouble in prop::sample::select(&TROUBLES[..]),
        name in prop::sample::select(ErrorName::ALL),
        host in hosts(),
        port in 1u16..,
        stacked in any::<bool>(),
    ) {
        let fake = Fake::new();
        *fake.answers.lock().unwrap() = vec![MARK.parse().unwrap()];
        *fake.trouble.lock().unwrap() = Some((trouble, marked(name)));
        let (net, log) = guarded(&fake);
        let outer = Log::default();
        let net: Arc<dyn SocketProvider> = match stacked {
            false => Arc::new(net),
            true => {
                let net = Guarded::new(net, app_named("outer", Certified), Policy::firefox_os());
                Arc::new(net.with_audit(outer.sink()))
            }
        };
        let seen = Seen::life(&*net, &fake, &host, port);
        seen.assert_unmarked();
        let names: Vec<ErrorName> = seen.errors.iter().map(Error::name).collect();
        prop_assert!(names.contains(&name), "{names:?}");

        let told = failures(&log);
        let all: Vec<String> = told.iter().map(ToString::to_string).collect();
        let marks = all.iter().filter(|it| it.contains("no luck with 10.11.12.13:5432")).count();
        prop_assert_eq!(marks, 1, "{:?}", all);
        prop_assert_eq!(told.len(), seen.errors.len(), "{:?}", all);
        let met = told.iter().filter_map(Entry::failure).find(|it| it.error().name() == name
            && it.error().message().contains(MARK));
        prop_assert!(met.is_some_and(|it| it.error().source().is_some()));
        // Between two guards there are words for apps only.
        for entry in outer.take_all() {
            let address = entry.asked().to_string().contains("dial");
            prop_assert!(address || !entry.to_string().contains(MARK), "{}", entry);
        }
    }

    /// What the app reads is made of the name and of what it gave: two failures that differ in nothing else are the same.
    #[test]
    fn equal_names_are_equal_words(
        trouble in prop::sample::select(&TROUBLES[..]),
        name in prop::sample::select(ErrorName::ALL),
    ) {
        let texts = [marked(name), Error::new(name, "something else")].map(|error| {
            let fake = Fake::new();
            *fake.trouble.lock().unwrap() = Some((trouble, error));
            Seen::life(&guarded(&fake).0, &fake, "db.example", 5432).text
        });
        prop_assert_eq!(&texts[0], &texts[1]);
    }
}

#[test]
fn the_words_are_for_people() {
    let table = [
        (
            ErrorName::ConnectionRefused,
            "cannot connect to DB.example.:5432",
        ),
        (
            ErrorName::NetworkTimeout,
            "DB.example.:5432 did not answer in time",
        ),
        (
            ErrorName::DomainNotFound,
            "there is no address for DB.example.:5432",
        ),
        (
            ErrorName::SecurityCertificateDomainMismatch,
            "the certificate of DB.example.:5432 is for another name",
        ),
    ];
    for (name, words) in table {
        let fake = Fake::new();
        *fake.trouble.lock().unwrap() = Some((Trouble::Opened, marked(name)));
        let (net, log) = guarded(&fake);
        let socket = net
            .open_with(OpenRequest::new("DB.example.", 5432).unwrap())
            .unwrap();
        assert!(matches!(next(&*socket), Some(Event::Error(it)) if it.message() == words));
        let told: Vec<String> = failures(&log).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [format!(
                "app: open db.example:5432 failed: {name}: no luck with 10.11.12.13:5432"
            )]
        );
    }
}

/// A connection that was accepted is told of by the peer's address, which the app is shown anyway.
#[test]
fn an_accepted_socket_fails_by_its_peers_name() {
    let fake = Fake::new();
    *fake.trouble.lock().unwrap() = Some((Trouble::Accepted, marked(ErrorName::Network)));
    let (net, log) = guarded(&fake);
    let server = ready(net.listen_with(ListenRequest::new(0).unwrap())).unwrap();
    ready(fake.peer(40_000, "[2001:db8::7]:5000".parse().unwrap())).unwrap();
    let Poll::Ready(Some(ServerEvent::Connect(socket))) = next_of(&*server) else {
        panic!("no connection");
    };
    let Some(Event::Error(error)) = next(&*socket) else {
        panic!("no error");
    };
    assert_eq!(
        error.message(),
        "the connection with [2001:db8::7]:5000 failed"
    );
    assert_eq!(
        failures(&log)[0].to_string(),
        "app: accept [2001:db8::7]:5000 at 127.0.0.1:40000 failed: NetworkError: no luck with 10.11.12.13:5432"
    );
}

/// Its own error comes back to the app as it was given, through any number of guards, and is nobody else's business.
#[test]
fn an_apps_own_error_is_its_own() {
    for name in [ErrorName::NotAllowed, ErrorName::Network] {
        let (net, log) = guarded(&Fake::new());
        let outer = Log::default();
        let net = Guarded::new(net, app_named("outer", Certified), Policy::firefox_os());
        let net = net.with_audit(outer.sink());
        let socket = net
            .open_with(OpenRequest::new("192.0.2.1", 80).unwrap())
            .unwrap();
        socket.abort(Some(marked(name)));
        let Some(Event::Error(error)) = next(&*socket) else {
            panic!("no error");
        };
        assert_eq!(
            (error.name(), error.message()),
            (name, "no luck with 10.11.12.13:5432")
        );
        let cause = error.source().expect("its own cause").to_string();
        assert_eq!(cause, "10.11.12.13:5432 says: 10.11.12.13 again");
        assert!(failures(&log).is_empty() && failures(&outer).is_empty());
    }
}

/// What cannot be guarded is for the host to know.
#[test]
fn a_provider_that_cannot_be_guarded_is_no_business_of_the_app() {
    for gates in [true, false] {
        let fake = Fake::new();
        fake.offers.lock().unwrap().gates = gates;
        fake.forgets_watch.store(true, SeqCst);
        let (net, log) = guarded(&fake);
        let seen = Seen::life(&net, &fake, "db.example", 5432);
        assert_eq!(seen.errors.len(), 2);
        for error in &seen.errors {
            assert_eq!(error.name(), ErrorName::NotSupported);
            assert_eq!(error.message(), "this is not offered here");
        }
        let told: Vec<String> = failures(&log).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|it| it.contains("gate")), "{told:?}");
    }
}

/// A gate of the host's that says what it knows, at one step.
#[derive(Debug)]
struct Says(&'static str, ErrorName);

impl Says {
    fn at(&self, step: &str) -> Result<(), Error> {
        match self.0 == step {
            true => Err(marked(self.1)),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Gate for Says {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        self.at("name")
    }
    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.at("connect").map(|()| all.to_vec())
    }
    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        self.at("bind")
    }
    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        self.at("accept")
    }
    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(Says(self.0, self.1))
    }
}

impl Meter for Says {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        self.at("queue")
    }
    fn moved(&self, _written: usize, _read: usize, _dropped: usize) {}
}

/// The words of a gate of the host's are for the host, whether it is registered with the guard or added below.
#[test]
fn the_hosts_gates_speak_to_the_host() {
    for below in [true, false] {
        for step in ["name", "connect", "bind", "queue"] {
            for name in [ErrorName::NotAllowed, ErrorName::QuotaExceeded] {
                let fake = Fake::new();
                let gate = Arc::new(Says(step, name));
                let (net, log) = guarded(&fake);
                let net = match below {
                    true => {
                        *fake.own_gate.lock().unwrap() = Some(gate);
                        net
                    }
                    false => net.with_gate(gate),
                };
                let seen = Seen::life(&net, &fake, "db.example", 5432);
                seen.assert_unmarked();
                let told = seen.errors.iter().find(|it| it.name() == name);
                let told = told.unwrap_or_else(|| panic!("{step}: {:?}", seen.errors));
                if name == ErrorName::NotAllowed {
                    assert_refusal(told);
                }
                let all: Vec<String> = failures(&log).iter().map(ToString::to_string).collect();
                assert!(
                    all.iter().any(|it| it.contains("no luck with")),
                    "{step}: {all:?}"
                );
            }
        }
    }
}

/// A life without a failure: where the name leads is in the audit, and nowhere else.
#[test]
fn an_app_that_is_open_is_shown_no_address() {
    let fake = Fake::new();
    *fake.answers.lock().unwrap() = vec![MARK.parse().unwrap()];
    let (net, log) = guarded(&fake);
    Seen::life(&net, &fake, "db.example", 5432).assert_unmarked();
    let told: Vec<String> = log.take_all().iter().map(ToString::to_string).collect();
    let dialled = "app may dial 10.11.12.13:5432 for db.example";
    assert!(told.iter().any(|it| it.starts_with(dialled)), "{told:?}");
}
