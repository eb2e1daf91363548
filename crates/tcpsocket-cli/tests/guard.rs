//! A guard around the implementation on smol, seen from its host: what the app, and so the conformance kit, cannot see.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tcpsocket::{
    Capabilities, Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter,
    OpenRequest, Resolver, ServerEvent, ServerSocketOptions, SocketOptions, SocketProvider,
    SocketProviderExt, TcpServerSocket, TcpServerSocketExt, TcpSocket, TcpSocketExt, async_trait,
    is_public,
};
use tcpsocket_policy::{App, Entry, Grant, Guarded, Level, Manifest, Policy};
use tcpsocket_smol::{Loop, Smol};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A privileged app, with what its host holds.
struct Hosted {
    net: Arc<dyn SocketProvider>,
    grant: Grant,
    told: Arc<Mutex<Vec<String>>>,
}

impl Hosted {
    fn new(net: &(impl SocketProvider + Clone)) -> Hosted {
        Hosted::with(net, |guarded| guarded)
    }

    fn with<P: SocketProvider + Clone>(
        net: &P,
        narrow: impl FnOnce(Guarded<P>) -> Guarded<P>,
    ) -> Hosted {
        let manifest = Manifest::new(Level::Privileged).requesting_tcp_socket();
        let app = App::new("app", Level::Privileged, manifest);
        let grant = app.grant().clone();
        let told = Arc::<Mutex<Vec<String>>>::default();
        let sink = told.clone();
        let audit = move |it: &Entry| sink.lock().unwrap().push(it.to_string());
        let net = Guarded::new(net.clone(), app, Policy::firefox_os()).with_audit(Arc::new(audit));
        Hosted {
            net: Arc::new(narrow(net)),
            grant,
            told,
        }
    }

    /// What was told since the last time, without the reasons.
    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let asked = |it: &String| it.split(": ").next().unwrap_or_default().to_owned();
        told.iter().map(asked).collect()
    }

    /// The errors that the host is told of since the last time.
    fn failures(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        told.into_iter()
            .filter(|it| it.contains(" failed: "))
            .collect()
    }

    /// Waits until the grant keeps nothing more of what the app had.
    fn assert_forgotten(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !format!("{:?}", self.grant).contains("live: 0") {
            assert!(Instant::now() < deadline, "{:?}", self.grant);
            std::thread::yield_now();
        }
    }
}

/// With our own loop, and with another reactor.
fn everywhere(body: impl AsyncFn(Smol)) {
    let own_loop = Loop::new().unwrap();
    own_loop.block_on(body(Smol::on(&own_loop)));
    block_on(body(Smol::new()));
}

#[test]
fn a_host_is_told_of_every_step_of_a_server() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let server = app
            .net
            .listen(0, ServerSocketOptions::new(), -1)
            .await
            .unwrap();
        let port = server.local_port();
        let expected = [
            "app may listen on an automatic port".to_owned(),
            "app may bind 127.0.0.1:0".to_owned(),
            format!("app may bind 127.0.0.1:{port}"),
        ];
        assert_eq!(app.told(), expected);

        let client = net
            .connect("127.0.0.1", port, SocketOptions::new())
            .await
            .unwrap();
        let Some(ServerEvent::Connect(accepted)) = server.next_event().await else {
            panic!("no connection");
        };
        let peer = accepted.port();
        assert_eq!(
            app.told(),
            [format!(
                "app may accept 127.0.0.1:{peer} at 127.0.0.1:{port}"
            )]
        );

        app.grant.revoke();
        let ended = format!("app may not listen on port {port}");
        assert_eq!(app.told(), [ended.clone(), ended]);
        drop((client, accepted, server));
        app.net.idle().await;
        app.assert_forgotten();
    });
}

#[test]
fn a_host_is_told_of_every_step_of_a_socket() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let local = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = net.listen(0, local, -1).await.unwrap();
        let port = server.local_port();
        let socket = app
            .net
            .connect("localhost.", port, SocketOptions::new())
            .await
            .unwrap();
        let told = app.told();
        assert_eq!(told[0], format!("app may open localhost:{port}"));
        let dialled = format!("app may dial 127.0.0.1:{port} for localhost");
        assert!(told[1..].contains(&dialled), "{told:?}");

        app.grant.revoke();
        assert_eq!(app.told(), [format!("app may not open localhost:{port}")]);
        assert!(matches!(socket.next_event().await, Some(Event::Error(_))));
        assert!(matches!(socket.next_event().await, Some(Event::Close(_))));
        app.net.idle().await;
        app.assert_forgotten();
    });
}

/// The app has dropped the socket, and more is to be flushed than any kernel takes.
#[test]
fn what_only_flushes_is_kept_until_it_has_ended() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let local = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = net.listen(0, local, -1).await.unwrap();
        let port = server.local_port();
        let socket = app
            .net
            .connect("127.0.0.1", port, SocketOptions::new())
            .await
            .unwrap();
        let Some(ServerEvent::Connect(_peer)) = server.next_event().await else {
            panic!("no connection");
        };
        socket.send(vec![7; 16 << 20].into()).unwrap();
        drop(socket);
        assert!(format!("{:?}", app.grant).contains("live: 1"));
        app.grant.revoke();
        app.net.idle().await;
        app.assert_forgotten();
    });
}

/// Knows every name, and says that it is this machine.
#[derive(Clone, Debug)]
struct Here(Smol);

#[async_trait]
impl SocketProvider for Here {
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.0
            .open_with(request.with_resolver(Arc::new(Everything)))
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.0.listen_with(request).await
    }

    async fn idle(&self) {
        self.0.idle().await;
    }
}

#[derive(Debug)]
struct Everything;

#[async_trait]
impl Resolver for Everything {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        match name.as_str() {
            "nowhere.example" => Err(Error::new(
                ErrorName::DomainNotFound,
                "the server at 127.0.0.53 knows no nowhere.example",
            )),
            _ => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        }
    }
}

/// The app's error, checked for what it must not say.
fn check(error: &Error, name: ErrorName, words: &str) {
    assert_eq!((error.name(), error.message()), (name, words));
    let text = format!(
        "{error} {error:?} {:?}",
        std::io::Error::from(error.clone())
    );
    assert!(!text.contains("127.0.0"), "{text}");
    assert!(std::error::Error::source(error).is_none(), "{text}");
}

/// The app of real sockets: it has named a host, so it is told of that host; its own host is told of addresses.
#[test]
fn what_fails_is_told_without_addresses() {
    everywhere(async |net| {
        let app = Hosted::new(&Here(net.clone()));
        let open = async |host: &str, port: u16, options: SocketOptions| match app
            .net
            .connect(host, port, options)
            .await
        {
            Err(error) => error,
            Ok(socket) => panic!("{socket:?}"),
        };
        let quick = || SocketOptions::new().connect_timeout(Duration::from_millis(300));
        let local = || ServerSocketOptions::new().address([127, 0, 0, 1]);

        // Refused: the port was free a moment ago.
        let gone = net.listen(0, local(), -1).await.unwrap();
        let port = gone.local_port();
        drop(gone);
        let error = open("db.example", port, SocketOptions::new()).await;
        let words = format!("cannot connect to db.example:{port}");
        check(&error, ErrorName::ConnectionRefused, &words);
        let told = app.failures();
        assert!(told[0].contains(&format!("127.0.0.1:{port}")), "{told:?}");

        // Unknown.
        let error = open("nowhere.example", 25, SocketOptions::new()).await;
        check(
            &error,
            ErrorName::DomainNotFound,
            "there is no address for nowhere.example:25",
        );
        let told = app.failures();
        assert!(told[0].contains("127.0.0.53"), "{told:?}");

        // Silent: nobody takes peers out of this backlog.
        let full = net.listen(0, local(), 1).await.unwrap();
        let port = full.local_port();
        let mut waiting = Vec::new();
        while let Ok(socket) = net.connect("127.0.0.1", port, quick()).await {
            waiting.push(socket);
            assert!(waiting.len() < 100);
        }
        let error = open("db.example", port, quick()).await;
        let words = format!("db.example:{port} did not answer in time");
        check(&error, ErrorName::NetworkTimeout, &words);
        let told = app.failures();
        assert!(told[0].contains(&format!("127.0.0.1:{port}")), "{told:?}");

        // In use.
        let options = ServerSocketOptions::new();
        let error = app.net.listen(port, options, -1).await.unwrap_err();
        let words = "the port is in use; choose another, or 0 for any";
        check(&error, ErrorName::AddressInUse, words);
        let told = app.failures();
        assert!(told[0].contains(&format!("127.0.0.1:{port}")), "{told:?}");
        drop((full, waiting));

        // A reset, of a connection that was opened and of one that was accepted.
        let server = net.listen(0, local(), -1).await.unwrap();
        let port = server.local_port();
        let socket = app.net.connect("db.example", port, SocketOptions::new());
        let socket = socket.await.unwrap();
        let Some(ServerEvent::Connect(peer)) = server.next_event().await else {
            panic!("no connection");
        };
        peer.abort(Some(Error::new(ErrorName::Network, "on purpose")));
        let Some(Event::Error(error)) = socket.next_event().await else {
            panic!("no error");
        };
        let words = format!("the connection with db.example:{port} failed");
        check(&error, ErrorName::Network, &words);
        let shown = format!("{socket:?}");
        assert_eq!(
            shown,
            format!("GuardedSocket {{ host: \"db.example\", port: {port}, .. }}")
        );
        let told = app.failures();
        assert!(told[0].contains("the connection failed"), "{told:?}");
        drop((socket, peer));

        // TLS with somebody who does not speak it.
        let secure = SocketOptions::new().use_secure_transport(true);
        let opening = open("db.example", port, secure);
        let answering = async {
            let Some(ServerEvent::Connect(peer)) = server.next_event().await else {
                panic!("no connection");
            };
            peer.send_string("220 127.0.0.1 at your service\r\n")
                .unwrap();
            peer
        };
        let (error, peer) = futures_lite::future::zip(opening, answering).await;
        check(
            &error,
            ErrorName::Security,
            &format!("TLS with db.example:{port} failed"),
        );
        assert_eq!(app.failures().len(), 1);
        drop((peer, server));
        net.idle().await;
    });
}

/// The gate that the guide shows.
#[derive(Debug)]
struct PublicOnly;

fn refuse<T>(why: &str) -> Result<T, Error> {
    Err(Error::new(ErrorName::NotAllowed, why))
}

#[async_trait]
impl Gate for PublicOnly {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }
    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        match all.iter().all(|at| is_public(at.ip())) {
            true => Ok(all.to_vec()),
            false => refuse("that name leads into this network"),
        }
    }
    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        refuse("plugins do not listen")
    }
    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        refuse("plugins do not listen")
    }
    fn watch(&self, _socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

/// Neither by address nor by name, and nobody hears of the attempt.
#[test]
fn a_gate_of_the_hosts_keeps_an_app_from_this_machine_and_its_network() {
    everywhere(async |net| {
        let app = Hosted::with(&Here(net.clone()), |it| it.with_gate(Arc::new(PublicOnly)));
        let everywhere = ServerSocketOptions::new();
        let tripwire = net.listen(0, everywhere, -1).await.unwrap();
        let port = tripwire.local_port();
        let hosts = [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "localhost",
            "db.example",
            "10.1.2.3",
            "192.168.0.1",
            "169.254.169.254",
            "fd00::1",
        ];
        for host in hosts {
            let opened = app.net.connect(host, port, SocketOptions::new()).await;
            let words = "this app is not allowed to do that; its host can tell why";
            check(&opened.unwrap_err(), ErrorName::NotAllowed, words);
            let told = app.failures();
            let why = "that name leads into this network";
            assert!(
                told.len() == 1 && told[0].ends_with(why),
                "{host}: {told:?}"
            );
        }
        let listening = app.net.listen(0, ServerSocketOptions::new(), -1).await;
        assert_eq!(listening.unwrap_err().name(), ErrorName::NotAllowed);

        // The first one that comes is ours.
        let knock = net
            .connect("127.0.0.1", port, SocketOptions::new())
            .await
            .unwrap();
        knock.send_string("ours").unwrap();
        let Some(ServerEvent::Connect(first)) = tripwire.next_event().await else {
            panic!("no connection");
        };
        assert!(matches!(first.next_event().await, Some(Event::Data(it)) if *it == *b"ours"));
        drop((knock, first, tripwire));
        net.idle().await;
    });
}
