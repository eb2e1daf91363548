//! Names, several addresses, and every way in which a connect fails, each from its real cause.
//!
//! The network of these tests is a namespace of their own: the test binary runs itself again under `unshare`, as an
//! unprivileged user too. An interface without address resolution is the black hole: it takes packets, and
//! at its other end nobody answers.
#![cfg(target_os = "linux")]

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tcpsocket::{
    Error, ErrorName, Event, Host, OpenRequest, ReadyState, Resolver, SocketOptions,
    SocketProvider, TcpSocket, TcpSocketExt, async_trait,
};
use tcpsocket_smol::{Loop, Smol};

/// Set in the child that has the namespace.
const INSIDE: &str = "TCPSOCKET_NAMESPACE";

/// What a shell does in the namespace before the test.
const NETWORK: &str = r#"set -e
ip link set lo up
ip link add hole type veth peer name bottom
ip link set hole arp off
ip link set hole up
ip link set bottom up
ip addr add 192.0.2.1/24 dev hole
ip addr add 2001:db8::1/64 dev hole nodad
ip route add unreachable 198.51.100.0/24
echo "hosts: $SOURCES" > "$DIRECTORY/nsswitch.conf"
echo '127.0.0.1 one.test' > "$DIRECTORY/hosts"
printf 'nameserver %s\noptions timeout:2 attempts:1\n' "$SERVER" > "$DIRECTORY/resolv.conf"
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
            until(begun + Duration::from_secs(20), || lookups() >= 16).await;
            // One is still being looked up, another still in line.
            for given_up in [&all[0], &all[39]] {
                given_up.close();
                let event = given_up.next_event().await;
                assert!(matches!(event, Some(Event::Close(close)) if close.clean));
            }
            assert!(lookups() <= 16);
            for socket in &all[1..39] {
                assert_eq!(fails(&**socket).await, ErrorName::NetworkTimeout);
                assert!(lookups() <= 16);
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
    names.filter(|it| it.starts_with("blocking")).count()
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
