//! TLS over real TCP: a connection that is cut at every byte, and what only this implementation can show.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use common::{WAYS, Way, run};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion, version};
use smol::channel::{self, Receiver, Sender};
use socket2::SockRef;
use tcpsocket::{
    Error, ErrorName, Event, Security, SocketOptions, SocketProvider, SocketProviderExt,
    TcpSocketExt,
};
use tcpsocket_smol::Smol;
use tcpsocket_tls::{Client, Trust};

const GREETING: &[u8] = b"220 ready\r\n";
const IN_CLEAR: &[u8] = b"STARTTLS\r\n";
const SECRET: &[u8] = b"the secret of the client";
const ANSWER: &[u8] = b"the secret of the server";

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: key.serialize_der(),
    }
});

fn config(version: &'static SupportedProtocolVersion) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(IDENTITY.key.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(IDENTITY.chain.clone(), key.into());
    Arc::new(config.unwrap())
}

/// A client that believes the certificate above, and resumes nothing, so that all connections have the same length.
fn client() -> Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(IDENTITY.chain[0].clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Client::with_config(Arc::new(config))
}

/// Where the connection is cut.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Nowhere,
    /// After so many bytes that the server sent inside TLS.
    AfterSending(usize),
    /// After so many bytes that it received there.
    AfterReceiving(usize),
}

/// What the server has seen.
#[derive(Debug, Default)]
struct Seen {
    clear: Vec<u8>,
    raw: Vec<u8>,
    plain: Vec<u8>,
    sent: usize,
    /// It said everything, its goodbye too.
    complete: bool,
}

/// A stream that ends at the cut.
struct Wire<'a> {
    stream: &'a TcpStream,
    cut: Cut,
    seen: &'a mut Seen,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = match self.cut {
            Cut::AfterReceiving(at) => at - self.seen.raw.len(),
            _ => buffer.len(),
        };
        if room == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let room = room.min(buffer.len());
        let count = self.stream.read(&mut buffer[..room])?;
        self.seen.raw.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = match self.cut {
            Cut::AfterSending(at) => at - self.seen.sent,
            _ => bytes.len(),
        };
        if room == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let count = self.stream.write(&bytes[..room.min(bytes.len())])?;
        self.seen.sent += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One connection: greets in the clear, is asked for TLS, reads the secret, answers, says goodbye. Cut, it just ends.
fn serve(
    listener: &TcpListener,
    config: Arc<ServerConfig>,
    implicit: bool,
    cut: Cut,
    reset: bool,
) -> io::Result<Seen> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_nodelay(true)?;
    let mut seen = Seen::default();
    if !implicit {
        stream.write_all(GREETING)?;
        seen.clear = vec![0; IN_CLEAR.len()];
        stream.read_exact(&mut seen.clear)?;
        stream.write_all(b"220 go\r\n")?;
    }
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut wire = Wire {
        stream: &stream,
        cut,
        seen: &mut seen,
    };
    let mut talk = || -> io::Result<Vec<u8>> {
        let mut plain = vec![0; SECRET.len()];
        let mut tls = rustls::Stream::new(&mut session, &mut wire);
        tls.read_exact(&mut plain)?;
        tls.write_all(ANSWER)?;
        session.send_close_notify();
        while session.wants_write() {
            session.write_tls(&mut wire)?;
        }
        Ok(plain)
    };
    let uncut = talk();
    if let Ok(plain) = uncut {
        (seen.plain, seen.complete) = (plain, true);
    }
    if reset {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    } else {
        stream.shutdown(Shutdown::Write)?;
        // What else the client says, so that the close does not reset the connection.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        seen.raw.extend_from_slice(&rest);
    }
    Ok(seen)
}

/// What the client saw, in a word each.
#[derive(Debug, Default, PartialEq)]
struct Told {
    open: bool,
    data: Vec<u8>,
    error: Option<ErrorName>,
    clean: Option<bool>,
    secure: bool,
}

async fn talk(net: &Smol, to: SocketAddr, implicit: bool) -> Result<Told, Error> {
    let options = SocketOptions::new().use_secure_transport(implicit);
    let socket = net.open("127.0.0.1", to.port(), options)?;
    let mut told = Told::default();
    let mut clear = Vec::new();
    while let Some(event) = socket.next_event().await {
        assert!(told.clean.is_none(), "nothing comes after Close: {event:?}");
        match event {
            Event::Open => {
                told.open = true;
                if implicit {
                    assert!(socket.security().is_secure());
                    socket.send(SECRET.into())?;
                }
            }
            Event::Data(data) if implicit || socket.ssl() => told.data.extend_from_slice(&data),
            Event::Data(data) => {
                clear.extend_from_slice(&data);
                if clear == GREETING {
                    socket.send(IN_CLEAR.into())?;
                } else if clear.ends_with(b"go\r\n") {
                    socket.upgrade_to_secure()?;
                    socket.send(SECRET.into())?;
                }
            }
            Event::Error(error) => told.error = Some(error.name()),
            Event::Close(close) => told.clean = Some(close.clean),
            other => panic!("{other:?}"),
        }
    }
    told.secure = socket.security().is_secure();
    assert!(!matches!(socket.security(), Security::Plain));
    Ok(told)
}

fn check(cut: Cut, reset: bool, told: &Told, seen: &Seen, implicit: bool) {
    let place = format!("{cut:?}, reset {reset}: {told:?}");
    // Never in the clear: what came in behind the greeting is records, and the secret is not readable in them.
    assert_eq!(seen.clear, if implicit { b"" } else { IN_CLEAR });
    assert!(
        seen.raw.is_empty() || seen.raw[0] == 22 && seen.raw.get(1).is_none_or(|major| *major == 3),
        "{place}"
    );
    for secret in [SECRET, IN_CLEAR] {
        assert!(
            !seen.raw.windows(secret.len()).any(|it| it == secret),
            "{place}"
        );
    }
    // The right events: an error, or an end that does not claim to be whole.
    assert!(ANSWER.starts_with(&told.data), "{place}");
    match (told.error, told.clean) {
        (None, Some(true)) => assert!(seen.complete, "{place}"),
        (None, Some(false)) => assert!(!seen.complete && told.secure, "{place}"),
        (Some(name), Some(false)) if !told.secure => {
            let expected: &[ErrorName] = match reset {
                true => &[ErrorName::Network, ErrorName::NetworkInterrupt],
                false => &[ErrorName::NetworkInterrupt],
            };
            assert!(expected.contains(&name), "{place}");
            assert!(told.data.is_empty() && (!implicit || !told.open), "{place}");
        }
        (Some(name), Some(false)) => {
            assert!(name == ErrorName::Network && reset, "{place}");
        }
        _ => panic!("{place}"),
    }
}

/// A server on a thread of its own: takes a cut, serves one connection, tells what it has seen.
fn server(
    version: &'static SupportedProtocolVersion,
    implicit: bool,
) -> (SocketAddr, Sender<(Cut, bool)>, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (order, orders) = channel::unbounded();
    let (tell, told) = channel::unbounded();
    let config = config(version);
    thread::spawn(move || {
        while let Ok((cut, reset)) = orders.recv_blocking() {
            let seen = serve(&listener, config.clone(), implicit, cut, reset);
            if tell.send_blocking(seen.unwrap()).is_err() {
                break;
            }
        }
    });
    (at, order, told)
}

async fn cut_at_every_byte(net: Smol, version: &'static SupportedProtocolVersion, implicit: bool) {
    let net = net.with_tls(client());
    let (at, order, seen) = server(version, implicit);
    let once = async |cut: Cut, reset: bool| {
        order.send((cut, reset)).await.unwrap();
        let told = talk(&net, at, implicit).await.unwrap();
        (told, seen.recv().await.unwrap())
    };
    let (told, whole) = once(Cut::Nowhere, false).await;
    check(Cut::Nowhere, false, &told, &whole, implicit);
    assert_eq!((&*told.data, &*whole.plain), (ANSWER, SECRET));
    // Signatures differ in length by a byte or two.
    let sending = (0..whole.sent + 2).map(Cut::AfterSending);
    let receiving = (0..whole.raw.len()).map(Cut::AfterReceiving);
    for (number, cut) in sending.chain(receiving).enumerate() {
        let reset = number % 3 == 2;
        let (told, seen) = once(cut, reset).await;
        check(cut, reset, &told, &seen, implicit);
    }
    net.idle().await;
}

#[test]
fn a_cut_at_every_byte_is_told_and_nothing_leaves_in_clear() {
    let ways = [
        Way::OurLoop,
        Way::SmolBlockOn { spawner: false },
        Way::OurLoopElsewhere,
        Way::SmolSpawn { spawner: true },
    ];
    let kinds = [
        (&version::TLS13, false),
        (&version::TLS13, true),
        (&version::TLS12, false),
        (&version::TLS12, true),
    ];
    for (way, (version, implicit)) in ways.into_iter().zip(kinds) {
        run(way, |net| {
            Box::pin(cut_at_every_byte(net, version, implicit))
        });
    }
}

/// The server asks for nothing and reads until the end; returns all that came.
fn listen() -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let reading = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    });
    (at, reading)
}

async fn without_roots(net: Smol) {
    let net = net.with_tls(Client::new(Trust::nobody()));
    for implicit in [true, false] {
        let (at, reading) = listen();
        let options = SocketOptions::new().use_secure_transport(implicit);
        let socket = net.open("127.0.0.1", at.port(), options).unwrap();
        if !implicit {
            assert!(matches!(socket.next_event().await, Some(Event::Open)));
            socket.send(IN_CLEAR.into()).unwrap();
            socket.upgrade_to_secure().unwrap();
            socket.send(SECRET.into()).unwrap();
        }
        match socket.next_event().await {
            Some(Event::Error(error)) => {
                assert_eq!(error.name(), ErrorName::Security);
                assert!(error.message().contains("trust"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(socket.next_event().await, Some(Event::Close(_))));
        let came = smol::unblock(|| reading.join().unwrap()).await;
        assert_eq!(came, if implicit { b"" } else { IN_CLEAR });
    }
}

async fn a_peer_that_stalls(net: Smol) {
    let net = net.with_tls(client());
    for implicit in [true, false] {
        let (at, reading) = listen();
        let limit = Duration::from_millis(200);
        let options = SocketOptions::new()
            .use_secure_transport(implicit)
            .connect_timeout(limit);
        let begun = Instant::now();
        let socket = net.open("127.0.0.1", at.port(), options).unwrap();
        if !implicit {
            assert!(matches!(socket.next_event().await, Some(Event::Open)));
            socket.upgrade_to_secure().unwrap();
            socket.send(SECRET.into()).unwrap();
        }
        match socket.next_event().await {
            Some(Event::Error(error)) => assert_eq!(error.name(), ErrorName::NetworkTimeout),
            other => panic!("{other:?}"),
        }
        assert!(begun.elapsed() >= limit);
        assert!(matches!(socket.next_event().await, Some(Event::Close(_))));
        let came = smol::unblock(|| reading.join().unwrap()).await;
        assert!(!came.windows(SECRET.len()).any(|it| it == SECRET));
        assert_eq!(came[0], 22, "a handshake record");
    }
}

#[test]
fn every_way_of_running_fails_safely() {
    for way in WAYS {
        println!("{way:?}");
        run(*way, |net| Box::pin(without_roots(net)));
        run(*way, |net| Box::pin(a_peer_that_stalls(net)));
    }
}

/// Reading the platform's roots may take for ever, on a file system that is stuck. Here they are in a pipe that nobody writes to.
#[test]
fn roots_that_do_not_come_end_by_the_connect_timeout() {
    const INSIDE: &str = "TCPSOCKET_STUCK_ROOTS";
    let test = "roots_that_do_not_come_end_by_the_connect_timeout";
    if std::env::var_os(INSIDE).is_none() {
        let pipe = std::env::temp_dir().join(format!("tcpsocket-{}-roots", std::process::id()));
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let inside = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .env("SSL_CERT_FILE", &pipe)
            .env_remove("SSL_CERT_DIR")
            .output();
        let _ = std::fs::remove_file(&pipe);
        let inside = inside.unwrap();
        let said = String::from_utf8_lossy(&inside.stderr);
        assert!(inside.status.success(), "{said}");
        return;
    }
    for implicit in [true, false] {
        for way in [Way::OurLoop, Way::SmolBlockOn { spawner: false }] {
            run(way, move |net| Box::pin(stuck_roots(net, implicit)));
        }
    }
}

async fn stuck_roots(net: Smol, implicit: bool) {
    const LIMIT: Duration = Duration::from_millis(200);
    let net = net.with_tls(Client::new(Trust::platform()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let options = SocketOptions::new()
        .connect_timeout(LIMIT)
        .use_secure_transport(implicit);
    let begun = Instant::now();
    let socket = net.open("127.0.0.1", to.port(), options).unwrap();
    if !implicit {
        assert!(matches!(socket.next_event().await, Some(Event::Open)));
        socket.upgrade_to_secure().unwrap();
    }
    match socket.next_event().await {
        Some(Event::Error(error)) => {
            assert_eq!(error.name(), ErrorName::NetworkTimeout, "{error}");
            assert!(error.message().contains("authorities"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let took = begun.elapsed();
    assert!(took >= LIMIT && took < Duration::from_secs(10), "{took:?}");
    assert!(matches!(socket.next_event().await, Some(Event::Close(close)) if !close.clean));
    drop(listener);
}
