//! Names, several addresses, and every way in which a connect fails, each from its real cause.
//!
//! The network of these tests is a namespace of their own: the test binary runs itself again under `unshare`, as an
//! unprivileged user too. An interface without address resolution is the black hole: it takes packets, and
//! at its other end nobody answers.
#![cfg(target_os = "linux")]

mod name_server;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter, OpenRequest,
    ReadyState, Resolver, ServerEvent, ServerSocketOptions, SocketOptions, SocketProvider,
    TcpServerSocketExt, TcpSocket, TcpSocketExt, async_trait,
};
use tcpsocket_smol::{Loop, Smol};

use crate::name_server::{NameServer, Reply};

/// Set in the child that has the namespace.
const INSIDE: &str = "TCPSOCKET_NAMESPACE";

/// What a shell does in the namespace before the test.
const NETWORK: &str = r#"set -e
ulimit -n 256
ip link set lo up
ip link add hole type veth peer name bottom
ip link set hole arp off
ip link set hole up
ip link set bottom up
ip addr add 192.0.2.1/24 dev hole
ip addr add 2001:db8::1/64 dev hole nodad
ip route add unreachable 198.51.100.0/24
echo "hosts: $SOURCES" > "$DIRECTORY/nsswitch.conf"
printf '127.0.0.1 one.test box\n192.0.2.9 far.localhost\n127.0.0.1 near.localhost\n' > "$DIRECTORY/hosts"
printf 'search corp.test\nnameserver %s\noptions timeout:2 attempts:1\n' "$SERVER" > "$DIRECTORY/resolv.conf"
[ "$SOURCES" = files ] || mount --bind "$DIRECTORY/resolv.conf" "$(readlink -f /etc/resolv.conf)"
mount --bind "$DIRECTORY/nsswitch.conf" /etc/nsswitch.conf
mount --bind "$DIRECTORY/hosts" /etc/hosts
exec "$0" "$@"
"#;

/// Where names are looked up.
#[derive(Clone, Copy)]
enum Names {
    /// In a file.
    File,
    /// At this name server.
    Server(&'static str),
    /// In a file, and then at a name server of the test's own.
    FileAndServer,
}

/// Runs this very test again in a namespace, unless it is there already.
fn in_namespace(test: &str, body: impl FnOnce()) {
    in_namespace_with(Names::File, test, body);
}

fn in_namespace_with(names: Names, test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let directory = std::env::temp_dir().join(format!("tcpsocket-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (sources, server) = match names {
        Names::File => ("files", "127.0.0.1"),
        Names::Server(server) => ("dns", server),
        Names::FileAndServer => ("files dns", "127.0.0.1"),
    };
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-c", NETWORK])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .env("DIRECTORY", &directory)
        .env("SOURCES", sources)
        .env("SERVER", server)
        .output()
        .expect("unshare, of util-linux, makes the namespace");
    let _ = std::fs::remove_dir_all(&directory);
    assert!(
        output.status.success(),
        "in the namespace (this needs user namespaces and iproute2):\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}

/// Answers any name with these addresses, and counts.
#[derive(Debug)]
struct Fixed {
    addresses: Vec<SocketAddr>,
    asked: Mutex<Vec<String>>,
}

impl Fixed {
    fn new(addresses: &[SocketAddr]) -> Arc<Fixed> {
        Arc::new(Fixed {
            addresses: addresses.to_vec(),
            asked: Mutex::default(),
        })
    }
}

#[async_trait]
impl Resolver for Fixed {
    async fn lookup(&self, name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
        self.asked.lock().unwrap().push(name.to_string());
        Ok(self.addresses.clone())
    }
}

fn open(net: &Smol, host: &str, port: u16, resolver: Option<Arc<Fixed>>) -> Arc<dyn TcpSocket> {
    let options = SocketOptions::new().connect_timeout(Duration::from_secs(1));
    let mut request = OpenRequest::new(host, port).unwrap().with_options(options);
    if let Some(resolver) = resolver {
        request = request.with_resolver(resolver);
    }
    net.open_with(request).unwrap()
}

fn sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let targets = descriptors.flat_map(|it| std::fs::read_link(it.path()));
    targets
        .filter(|it| it.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Every provider that reacts differently to a connect.
fn providers(mut body: impl FnMut(&Smol, &dyn Fn(&mut dyn FnMut() -> smol::future::Boxed<()>))) {
    let event_loop = Loop::new().unwrap();
    body(&Smol::on(&event_loop), &|work| event_loop.block_on(work()));
    body(&Smol::new(), &|work| smol::block_on(work()));
}

#[test]
fn the_second_address_is_tried_after_the_stagger_and_the_loser_is_closed() {
    in_namespace(
        "the_second_address_is_tried_after_the_stagger_and_the_loser_is_closed",
        || {
            providers(|net, run| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let peer = listener.local_addr().unwrap();
                let port = peer.port();
                let hole = SocketAddr::new("2001:db8::9".parse().unwrap(), port);
                let resolver = Fixed::new(&[hole, peer]);
                run(&mut || {
                    let (net, resolver) = (net.clone(), resolver.clone());
                    Box::pin(async move {
                        let before = sockets();
                        let begun = Instant::now();
                        let socket = open(&net, "two.test", port, Some(resolver.clone()));
                        assert!(matches!(socket.next_event().await, Some(Event::Open)));
                        let took = begun.elapsed();
                        assert!(took >= Duration::from_millis(250), "{took:?}");
                        assert!(took < Duration::from_secs(1), "{took:?}");
                        assert_eq!(sockets(), before + 1);
                        assert_eq!(*resolver.asked.lock().unwrap(), ["two.test"]);
                        socket.abort(Some(Error::new(ErrorName::Network, "enough")));
                        net.idle().await;
                        assert_eq!(sockets(), before);
                    })
                });
            });
        },
    );
}

#[test]
fn all_addresses_black_holed_is_one_timeout() {
    in_namespace("all_addresses_black_holed_is_one_timeout", || {
        providers(|net, run| {
            let hole = ["2001:db8::9", "192.0.2.9", "192.0.2.10"];
            let hole = hole.map(|it| SocketAddr::new(it.parse().unwrap(), 80));
            run(&mut || {
                let (net, resolver) = (net.clone(), Fixed::new(&hole));
                Box::pin(async move {
                    let (before, begun) = (sockets(), Instant::now());
                    let socket = open(&net, "hole.test", 80, Some(resolver));
                    // No attempt is cut off by a later one, nor any before the timeout.
                    let end = begun + Duration::from_millis(990);
                    until(end, || sockets() >= before + 3).await;
                    assert_eq!(fails(&*socket).await, ErrorName::NetworkTimeout);
                    assert!(begun.elapsed() >= Duration::from_secs(1));
                })
            });
        });
    });
}

#[test]
fn every_name_of_a_failed_open_has_its_cause() {
    in_namespace("every_name_of_a_failed_open_has_its_cause", || {
        let closed = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let table = [
            ("127.0.0.1", closed, ErrorName::ConnectionRefused, "refused"),
            (
                "198.51.100.1",
                80,
                ErrorName::ConnectionRefused,
                "No route to host",
            ),
            (
                "203.0.113.1",
                80,
                ErrorName::ConnectionRefused,
                "unreachable",
            ),
            ("192.0.2.9", 80, ErrorName::NetworkTimeout, "timeout"),
            (
                "no-such-name.test",
                80,
                ErrorName::DomainNotFound,
                "unknown",
            ),
            ("one.test", closed, ErrorName::ConnectionRefused, "refused"),
        ];
        providers(|net, run| {
            for (host, port, name, words) in table {
                run(&mut || {
                    let net = net.clone();
                    Box::pin(async move {
                        let socket = open(&net, host, port, None);
                        let error = failure(&*socket).await;
                        assert_eq!(error.name(), name, "{host}: {error}");
                        assert!(error.message().contains(words), "{host}: {error}");
                        assert_eq!(socket.host(), host);
                    })
                });
            }
        });
    });
}

#[test]
fn a_resolver_without_an_answer_is_a_failure_of_the_network() {
    // Nobody serves names there.
    let names = Names::Server("127.0.0.1");
    let test = "a_resolver_without_an_answer_is_a_failure_of_the_network";
    in_namespace_with(names, test, || {
        providers(|net, run| {
            run(&mut || {
                let net = net.clone();
                Box::pin(async move {
                    let socket = open(&net, "one.test", 80, None);
                    let error = failure(&*socket).await;
                    assert_eq!(error.name(), ErrorName::Network, "{error}");
                    assert!(error.message().contains("no answer"), "{error}");
                })
            });
        });
    });
}

#[test]
fn lookups_are_bounded_and_nobody_waits_for_one_that_was_given_up() {
    let names = Names::Server("192.0.2.9");
    let test = "lookups_are_bounded_and_nobody_waits_for_one_that_was_given_up";
    in_namespace_with(names, test, || {
        let net = Smol::new();
        smol::block_on(async {
            let begun = Instant::now();
            let all: Vec<_> = (0..40)
                .map(|n| open(&net, &format!("n{n}.test"), 80, None))
                .collect();
            // Sixteen of each family.
            until(begun + Duration::from_secs(20), || lookups() >= 32).await;
            // One is still being looked up, another still in line.
            for given_up in [&all[0], &all[39]] {
                given_up.close();
                let event = given_up.next_event().await;
                assert!(matches!(event, Some(Event::Close(close)) if close.clean));
            }
            assert!(lookups() <= 32);
            for socket in &all[1..39] {
                assert_eq!(fails(&**socket).await, ErrorName::NetworkTimeout);
                assert!(lookups() <= 32);
            }
            net.idle().await;
        });
    });
}

/// Waits for a fact about this process, of which nobody is told, while everything else goes on.
async fn until(end: Instant, fact: impl Fn() -> bool) {
    while !fact() {
        assert!(Instant::now() < end, "waited in vain");
        smol::future::yield_now().await;
    }
}

/// The threads in which the system looks something up.
fn lookups() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.flat_map(|it| std::fs::read_to_string(it.path().join("comm")));
    names.filter(|it| it.trim_end() == "lookup").count()
}

async fn fails(socket: &dyn TcpSocket) -> ErrorName {
    failure(socket).await.name()
}

/// The socket must end in `Error`, `Close`, and be closed at both.
async fn failure(socket: &dyn TcpSocket) -> Error {
    let error = match socket.next_event().await {
        Some(Event::Error(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(socket.ready_state(), ReadyState::Closed);
    assert!(matches!(socket.next_event().await, Some(Event::Close(close)) if !close.clean));
    assert!(socket.next_event().await.is_none());
    error
}

/// A gate that allows everything, and notes which addresses it was shown.
#[derive(Debug, Default)]
struct Shown(Mutex<Vec<Vec<IpAddr>>>);

impl Shown {
    fn take(&self) -> Vec<Vec<IpAddr>> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[async_trait]
impl Gate for Shown {
    async fn name(&self, host: &Host, _port: u16) -> Result<(), Error> {
        assert!(!host.as_str().ends_with('.'));
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        let ips = all.iter().map(SocketAddr::ip).collect();
        self.0.lock().unwrap().push(ips);
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        for at in [local, peer] {
            assert!(matches!(at, SocketAddr::V6(at) if at.scope_id() == LOOPBACK_ZONE));
        }
        Ok(())
    }

    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A listener at the same port of both families.
fn listeners() -> (TcpListener, TcpListener, u16) {
    let v4 = TcpListener::bind((V4, 0)).unwrap();
    let port = v4.local_addr().unwrap().port();
    let v6 = TcpListener::bind((V6, port)).unwrap();
    (v4, v6, port)
}

fn request(host: &str, port: u16, gate: &Arc<Shown>) -> OpenRequest {
    let options = SocketOptions::new().connect_timeout(Duration::from_secs(20));
    let request = OpenRequest::new(host, port).unwrap().with_options(options);
    request.with_gate(gate.clone())
}

async fn opens(net: &Smol, request: OpenRequest) {
    let host = request.host().to_string();
    let socket = net.open_with(request).unwrap();
    let event = socket.next_event().await;
    assert!(matches!(event, Some(Event::Open)), "{host}: {event:?}");
    socket.abort(None);
}

/// Opens until both families have answered in time, which they may miss on a machine that is busy. Until then one is shown.
async fn shows_both(net: &Smol, host: &str, port: u16, gate: &Arc<Shown>, both: [IpAddr; 2]) {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let socket = net.open_with(request(host, port, gate)).unwrap();
        assert!(socket.next_event().await.is_some());
        socket.abort(None);
        let shown = gate.take();
        if shown == [both] {
            return;
        }
        let one = matches!(&shown[..], [only] if only.len() == 1 && both.contains(&only[0]));
        assert!(one && Instant::now() < end, "{host}: {shown:?}");
    }
}

#[test]
fn a_final_dot_is_kept_for_the_lookup() {
    let test = "a_final_dot_is_kept_for_the_lookup";
    in_namespace_with(Names::FileAndServer, test, || {
        let server = NameServer::start(|name, family| match (name, family) {
            ("db.corp.test", 4) => Reply::Addresses(vec![V4]),
            ("db.corp.test", _) => Reply::Addresses(Vec::new()),
            _ => Reply::Unknown,
        });
        let (_v4, _v6, port) = listeners();
        providers(|net, run| {
            run(&mut || {
                let (net, server, gate) = (net.clone(), server.clone(), Arc::default());
                Box::pin(async move {
                    // Where the search list leads, and to which name it leads.
                    opens(&net, request("db", port, &gate)).await;
                    assert!(server.take().iter().any(|it| it == "db.corp.test"));
                    for absolute in [
                        request("db.", port, &gate),
                        request("db", port, &gate).with_absolute_name(),
                    ] {
                        let socket = net.open_with(absolute).unwrap();
                        assert_eq!(fails(&*socket).await, ErrorName::DomainNotFound);
                        let asked = server.take();
                        assert!(!asked.is_empty());
                        assert!(asked.iter().all(|it| it == "db"), "{asked:?}");
                    }
                    // The system's own reading of the file of hosts knows no dots.
                    for known in [
                        request("box", port, &gate),
                        request("box.", port, &gate),
                        request("box", port, &gate).with_absolute_name(),
                        request("localhost", port, &gate).with_absolute_name(),
                    ] {
                        opens(&net, known).await;
                    }
                    assert!(server.take().is_empty());
                })
            });
        });
    });
}

#[test]
fn localhost_never_leaves_the_machine() {
    let test = "localhost_never_leaves_the_machine";
    in_namespace_with(Names::FileAndServer, test, || {
        let far = IpAddr::from([192, 0, 2, 9]);
        let server = NameServer::start(move |_, _| Reply::Addresses(vec![far]));
        let (_v4, _v6, port) = listeners();
        providers(|net, run| {
            run(&mut || {
                let (net, server, gate) = (net.clone(), server.clone(), Arc::default());
                Box::pin(async move {
                    for (host, addresses) in [
                        ("LocalHost", vec![V6, V4]),
                        ("localhost.", vec![V6, V4]),
                        ("x.localhost", vec![V6, V4]),
                        ("a.b.localhost.", vec![V6, V4]),
                        // The file of hosts may choose among them, and choose nothing else.
                        ("near.localhost", vec![V4]),
                        ("far.localhost", vec![V6, V4]),
                    ] {
                        opens(&net, request(host, port, &gate)).await;
                        assert_eq!(gate.take(), [addresses], "{host}");
                    }
                    assert_eq!(server.take(), [""; 0]);
                })
            });
        });
    });
}

#[test]
fn a_family_that_does_not_answer_is_not_waited_for() {
    let test = "a_family_that_does_not_answer_is_not_waited_for";
    in_namespace_with(Names::FileAndServer, test, || {
        let server = NameServer::start(|name, family| match (name, family) {
            (it, _) if it.ends_with(".corp.test") => Reply::Unknown,
            ("six.test", 4) => Reply::Held(Vec::new()),
            (_, 4) => Reply::Addresses(vec![V4]),
            ("six.test", 6) => Reply::Addresses(vec![V6]),
            ("late.test", 6) => Reply::Held(vec![V6]),
            _ => Reply::Held(Vec::new()),
        });
        let (v4, v6, port) = listeners();
        for listener in [&v4, &v6] {
            listener.set_nonblocking(true).unwrap();
        }
        providers(|net, run| {
            run(&mut || {
                let (net, server, gate) = (net.clone(), server.clone(), Arc::default());
                let (v4, v6) = (v4.try_clone().unwrap(), v6.try_clone().unwrap());
                Box::pin(async move {
                    for (host, found) in [("four.test", V4), ("six.test", V6)] {
                        let begun = Instant::now();
                        opens(&net, request(host, port, &gate)).await;
                        assert!(begun.elapsed() >= Duration::from_millis(50), "{host}");
                        // The resolver still waits.
                        assert!(lookups() > 0, "{host}");
                        assert_eq!(gate.take(), [[found]]);
                    }
                    while v4.accept().is_ok() || v6.accept().is_ok() {}

                    // What is answered later is shown to nobody and dialled by nobody.
                    let socket = net.open_with(request("late.test", port, &gate)).unwrap();
                    assert!(matches!(socket.next_event().await, Some(Event::Open)));
                    let end = Instant::now() + Duration::from_secs(20);
                    server.release();
                    until(end, || lookups() == 0).await;
                    assert_eq!(gate.take(), [[V4]]);
                    let nobody = v6.accept().expect_err("a connection to the late address");
                    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
                    socket.abort(None);

                    // More at once than one family's line has places.
                    let names = (0..40).map(|n| format!("n{n}.test"));
                    let all: Vec<_> = names.map(|it| open(&net, &it, port, None)).collect();
                    for socket in all {
                        let event = socket.next_event().await;
                        assert!(matches!(event, Some(Event::Open)), "{event:?}");
                        socket.abort(None);
                    }
                    assert!(lookups() <= 16);
                    let end = Instant::now() + Duration::from_secs(20);
                    server.release();
                    until(end, || lookups() == 0).await;
                })
            });
        });
    });
}

#[test]
fn families_that_lead_to_different_hosts_are_not_mixed() {
    let test = "families_that_lead_to_different_hosts_are_not_mixed";
    in_namespace_with(Names::FileAndServer, test, || {
        let server = NameServer::start(|name, family| match (name, family) {
            ("split.test", 4) => Reply::Alias("a.test", vec![V4]),
            ("split.test", _) => Reply::Alias("B.test", vec![V6]),
            ("whole.test", 4) => Reply::Alias("a.test", vec![V4]),
            ("whole.test", _) => Reply::Alias("A.test", vec![V6]),
            // What the file of hosts says of a name in one family holds for both.
            (_, 6) => Reply::Addresses(vec![V6]),
            _ => Reply::Unknown,
        });
        let (_v4, _v6, port) = listeners();
        providers(|net, run| {
            run(&mut || {
                let (net, server, gate) = (net.clone(), server.clone(), Arc::<Shown>::default());
                Box::pin(async move {
                    opens(&net, request("split.test", port, &gate)).await;
                    let shown = gate.take();
                    assert!(shown == [[V4]] || shown == [[V6]], "{shown:?}");
                    shows_both(&net, "whole.test", port, &gate, [V6, V4]).await;
                    server.take();
                    opens(&net, request("one.test", port, &gate)).await;
                    assert_eq!(gate.take(), [[V4]]);
                    assert_eq!(server.take(), [""; 0]);
                    // In one family only, and in none of the files.
                    opens(&net, request("six.test", port, &gate)).await;
                    assert_eq!(gate.take(), [[V6]]);
                })
            });
        });
    });
}

#[test]
fn the_family_that_can_be_reached_comes_first() {
    let test = "the_family_that_can_be_reached_comes_first";
    in_namespace_with(Names::FileAndServer, test, || {
        let nowhere: IpAddr = "2001:db8:ffff::1".parse().unwrap();
        let _server = NameServer::start(move |name, family| match (name, family) {
            (_, 4) => Reply::Addresses(vec![V4]),
            ("far.test", _) => Reply::Addresses(vec![nowhere]),
            _ => Reply::Addresses(vec![V6]),
        });
        let (_v4, _v6, port) = listeners();
        providers(|net, run| {
            run(&mut || {
                let (net, gate) = (net.clone(), Arc::<Shown>::default());
                Box::pin(async move {
                    shows_both(&net, "near.test", port, &gate, [V6, V4]).await;
                    shows_both(&net, "far.test", port, &gate, [V4, nowhere]).await;
                })
            });
        });
    });
}

/// The system chooses the port that is dialled, which is free, for the socket that dials it.
#[test]
fn a_connection_with_itself_is_refused() {
    let test = "a_connection_with_itself_is_refused";
    in_namespace(test, || {
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        std::fs::write(range, "41000 41001").unwrap();
        // It does happen, in this network.
        let mut oneself = TcpStream::connect((V4, 41_000)).unwrap();
        assert_eq!(oneself.local_addr().unwrap(), oneself.peer_addr().unwrap());
        oneself.write_all(b"x").unwrap();
        assert_eq!(oneself.read(&mut [0; 9]).unwrap(), 1);
        socket2::SockRef::from(&oneself)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(oneself);
        providers(|net, run| {
            for host in ["127.0.0.1", "::1", "localhost"] {
                run(&mut || {
                    let net = net.clone();
                    Box::pin(async move {
                        let before = sockets();
                        let socket = open(&net, host, 41_000, None);
                        let error = failure(&*socket).await;
                        assert_eq!(error.name(), ErrorName::ConnectionRefused, "{error}");
                        assert!(error.message().contains("nobody listens"), "{error}");
                        net.idle().await;
                        assert_eq!(sockets(), before);
                        let there = std::fs::read_to_string("/proc/net/tcp").unwrap();
                        let there = there + &std::fs::read_to_string("/proc/net/tcp6").unwrap();
                        assert!(
                            !there.contains(":A028"),
                            "reset, so nothing is left:\n{there}"
                        );
                    })
                });
            }
        });
    });
}

/// The number of `lo` in a namespace of its own.
const LOOPBACK_ZONE: u32 = 1;

#[test]
fn the_zone_of_a_peer_is_kept() {
    let test = "the_zone_of_a_peer_is_kept";
    in_namespace(test, || {
        let added = Command::new("ip")
            .args(["addr", "add", "fe80::1/64", "dev", "lo", "nodad"])
            .status()
            .unwrap();
        assert!(added.success());
        // The kernel adds what belongs to an address when it finds the time, and until then packets to it are lost.
        let there = SocketAddrV6::new("fe80::1".parse().unwrap(), 0, 0, LOOPBACK_ZONE);
        let listener = TcpListener::bind(there).unwrap();
        let there = listener.local_addr().unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect_timeout(&there, Duration::from_millis(200)).is_err() {
            assert!(Instant::now() < end, "no way to {there}");
        }
        providers(|net, run| {
            run(&mut || {
                let (net, gate) = (net.clone(), Arc::<Shown>::default());
                Box::pin(async move {
                    let everywhere = ServerSocketOptions::new().address(Ipv6Addr::UNSPECIFIED);
                    let listening = ListenRequest::new(0).unwrap().with_options(everywhere);
                    let listening = listening.with_gate(gate.clone());
                    let server = net.listen_with(listening).await.unwrap();
                    let port = server.local_port();
                    for zone in ["1", "lo"] {
                        let host = format!("fe80::1%{zone}");
                        let a = open(&net, &host, port, None);
                        let event = a.next_event().await;
                        assert!(matches!(event, Some(Event::Open)), "{event:?}");
                        let Some(ServerEvent::Connect(b)) = server.next_event().await else {
                            panic!("no connection");
                        };
                        assert_eq!(a.host(), host);
                        assert_eq!(b.host(), "fe80::1%1");
                        // Where it came from can be opened.
                        let back = open(&net, b.host(), port, None);
                        assert!(matches!(back.next_event().await, Some(Event::Open)));
                        let again = server.next_event().await;
                        assert!(matches!(again, Some(ServerEvent::Connect(_))));
                        for socket in [a, b, back] {
                            socket.abort(None);
                        }
                    }
                    // No such interface, by name and by number: said after the gates, as of any address that cannot be dialled.
                    for host in ["fe80::1%nothing", "fe80::1%99"] {
                        let socket = net.open_with(request(host, port, &gate)).unwrap();
                        let error = failure(&*socket).await;
                        assert_eq!(error.name(), ErrorName::ConnectionRefused, "{error}");
                        assert_eq!(gate.take(), [["fe80::1".parse::<IpAddr>().unwrap()]]);
                    }
                })
            });
        });
    });
}

#[test]
fn what_lacks_ipv6_is_told_so() {
    let test = "what_lacks_ipv6_is_told_so";
    in_namespace(test, || {
        for interface in ["all", "lo"] {
            let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            std::fs::write(path, "1").unwrap();
        }
        let net = Smol::new();
        smol::block_on(async {
            let local = ServerSocketOptions::new().address(Ipv6Addr::LOCALHOST);
            let listening = ListenRequest::new(0).unwrap().with_options(local);
            let error = net.listen_with(listening).await.unwrap_err();
            assert_eq!(error.name(), ErrorName::Network);
            let message = error.message();
            assert!(message.contains("cannot listen at [::1]:0"), "{error}");
            assert!(message.contains("no such address"), "{error}");
            // Without an address there is what the machine has.
            let server = net
                .listen_with(ListenRequest::new(0).unwrap())
                .await
                .unwrap();
            let socket = open(&net, "localhost", server.local_port(), None);
            assert!(matches!(socket.next_event().await, Some(Event::Open)));
        });
    });
}

/// It says nothing about the name that the system had no descriptors to look it up with.
#[test]
fn without_descriptors_no_name_is_unknown() {
    let test = "without_descriptors_no_name_is_unknown";
    in_namespace(test, || {
        providers(|net, run| {
            run(&mut || {
                let net = net.clone();
                Box::pin(async move {
                    let unknown = || open(&net, "no-such-name.test", 80, None);
                    assert_eq!(fails(&*unknown()).await, ErrorName::DomainNotFound);
                    let hoard = exhaust();
                    let error = failure(&*unknown()).await;
                    assert_eq!(error.name(), ErrorName::Network, "{error}");
                    drop(hoard);
                    assert_eq!(fails(&*unknown()).await, ErrorName::DomainNotFound);
                })
            });
        });
    });
}

/// All the descriptors that this process may have.
fn exhaust() -> Vec<std::fs::File> {
    let more = || std::fs::File::open("/dev/null");
    std::iter::from_fn(|| more().ok()).collect()
}
