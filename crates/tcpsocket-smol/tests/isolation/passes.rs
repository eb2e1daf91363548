//! No peer and no app makes a pass long: neighbours are served while one socket is kept busy without end (ACT-9).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};
use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, Meter, SocketOptions, SocketProvider, TcpSocket,
    TcpSocketExt, async_trait,
};
use tcpsocket_smol::{Loop, Smol};

use crate::support::{DEADLINE, connected, connected_past, every_way, local, or_late};
use crate::tls_peer;

/// The rounds of a neighbour, each a question and an answer.
const ROUNDS: usize = 50;

/// What a hostile server sends without end, inside TLS.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// As many session tickets as a record holds.
    Tickets,
    /// A ticket in each record.
    TicketEach,
    /// A byte of data in each record.
    Bytes,
}

impl Flood {
    const ALL: [Flood; 3] = [Flood::Tickets, Flood::TicketEach, Flood::Bytes];

    fn record(self) -> (ContentType, Vec<u8>) {
        // RFC 8446, section 4.6.1: the shortest there is.
        const TICKET: [u8; 18] = [4, 0, 0, 14, 0, 0, 14, 16, 0, 0, 0, 0, 0, 0, 1, 7, 0, 0];
        match self {
            Flood::Tickets => (ContentType::Handshake, TICKET.repeat((1 << 14) / 18)),
            Flood::TicketEach => (ContentType::Handshake, TICKET.to_vec()),
            Flood::Bytes => (ContentType::ApplicationData, vec![7]),
        }
    }
}

/// Shakes hands, and then floods until the connection is gone.
fn flood(mut stream: TcpStream, flood: Flood) -> io::Result<()> {
    let mut conn = ServerConnection::new(tls_peer::config()).unwrap();
    while conn.is_handshaking() {
        conn.complete_io(&mut stream)?;
    }
    let Some(SupportedCipherSuite::Tls13(suite)) = conn.negotiated_cipher_suite() else {
        panic!("not TLS 1.3");
    };
    let (mut seq, secrets) = conn.dangerous_extract_secrets().unwrap().tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("an unknown cipher");
    };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    let (typ, payload) = flood.record();
    let mut batch = Vec::new();
    loop {
        batch.clear();
        while batch.len() < (64 << 10) {
            let message = OutboundPlainMessage {
                typ,
                version: ProtocolVersion::TLSv1_2,
                payload: OutboundChunks::Single(&payload),
            };
            batch.extend(encrypter.encrypt(message, seq).unwrap().encode());
            seq += 1;
        }
        stream.write_all(&batch)?;
    }
}

/// A gate that keeps the control of its socket, and whose meter keeps the most that one pass has written.
#[derive(Debug, Default)]
struct Keeps {
    control: Mutex<Option<Weak<dyn Control>>>,
    most: Arc<Most>,
}

impl Keeps {
    fn abort(&self) {
        let control = self.control.lock().unwrap().take();
        let control = control.and_then(|control| control.upgrade()).unwrap();
        control.abort(Error::new(ErrorName::NotAllowed, "revoked"));
    }
}

#[derive(Debug, Default)]
struct Most(AtomicUsize);

impl Meter for Most {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }

    fn moved(&self, written: usize, _read: usize, _dropped: usize) {
        self.0.fetch_max(written, SeqCst);
    }
}

#[async_trait]
impl Gate for Keeps {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        Ok(())
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, socket: Weak<dyn Control>) -> Arc<dyn Meter> {
        *self.control.lock().unwrap() = Some(socket);
        self.most.clone()
    }
}

/// A socket that a hostile server floods, open, and the gate that can end it.
fn flooded(net: &Smol, how: Flood) -> (Arc<dyn TcpSocket>, Arc<Keeps>, thread::JoinHandle<()>) {
    let net = net.clone().with_tls(tls_peer::client());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        // Ends by an error: the client is gone.
        let _ = flood(listener.accept().unwrap().0, how);
    });
    let gate = Arc::new(Keeps::default());
    let options = SocketOptions::new().use_secure_transport(true);
    let request = local(port).with_options(options).with_gate(gate.clone());
    let socket = net.open_with(request).unwrap();
    let opened = future::block_on(or_late(socket.next_event()));
    assert!(matches!(opened, Some(Event::Open)), "{opened:?}");
    (socket, gate, server)
}

/// Takes what comes until the socket ends.
async fn drain(socket: &dyn TcpSocket) {
    while let Some(event) = socket.next_event().await {
        if let Event::Close(_) = event {
            return;
        }
    }
}

/// Another socket, whose peer echoes; its rounds, and the longest of them.
struct Neighbour {
    socket: Arc<dyn TcpSocket>,
}

impl Neighbour {
    fn new(net: &Smol) -> Neighbour {
        let (socket, mut peer) = connected(net);
        thread::spawn(move || {
            let mut byte = [0];
            while peer.read_exact(&mut byte).is_ok() && peer.write_all(&byte).is_ok() {}
        });
        Neighbour { socket }
    }

    async fn rounds(&self) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            self.socket.send("?".into()).unwrap();
            let event = self.socket.next_event().await;
            assert!(matches!(event, Some(Event::Data(_))), "{event:?}");
            longest = longest.max(begun.elapsed());
        }
        longest
    }
}

/// One thread polls both sockets.
#[test]
fn a_flood_in_tls_keeps_no_neighbour_of_its_thread_waiting() {
    for how in Flood::ALL {
        let event_loop = Loop::new().unwrap();
        let nets = [
            ("loop", Smol::on(&event_loop)),
            (
                "spawner",
                Smol::with_spawner(|task| smol::spawn(task).detach()),
            ),
            ("neither", Smol::new()),
        ];
        for (way, net) in nets {
            let (socket, gate, server) = flooded(&net, how);
            let neighbour = Neighbour::new(&net);
            let work = async {
                let served = async {
                    let longest = neighbour.rounds().await;
                    gate.abort();
                    longest
                };
                future::zip(drain(&*socket), served).await.1
            };
            let longest = match way {
                "loop" => event_loop.block_on(or_late(work)),
                _ => future::block_on(or_late(work)),
            };
            println!("{how:?}, {way}: the longest of {ROUNDS} rounds took {longest:?}");
            server.join().unwrap();
        }
    }
}

/// Another thread polls the flooded socket, the loop's drives both, and a third revokes.
#[test]
fn a_flood_on_another_thread_holds_up_neither_loop_nor_revocation() {
    for how in Flood::ALL {
        let event_loop = Loop::new().unwrap();
        let net = Smol::on(&event_loop);
        let (socket, gate, server) = flooded(&net, how);
        let neighbour = Neighbour::new(&net);
        let other = thread::spawn(move || future::block_on(or_late(drain(&*socket))));
        let longest = event_loop.block_on(or_late(neighbour.rounds()));
        let begun = Instant::now();
        gate.abort();
        let revoked = begun.elapsed();
        println!("{how:?}: the longest round took {longest:?}, to revoke {revoked:?}");
        assert!(revoked < DEADLINE);
        other.join().unwrap();
        server.join().unwrap();
    }
}

/// What an app sends byte by byte leaves in passes of at most 64 system calls, each of 64 slices.
#[test]
fn sends_of_a_byte_each_make_no_pass_long() {
    const HELD: usize = 1 << 18;
    for (way, net) in every_way() {
        let gate = Arc::new(Keeps::default());
        let gates: [Arc<dyn Gate>; 1] = [gate.clone()];
        let (socket, mut peer) = connected_past(&net, &gates);
        // Till the kernel takes no more, so that what follows is held.
        while socket.buffered_amount() < (16 << 20) {
            socket.send(vec![0; 1 << 20].into()).unwrap();
        }
        future::block_on(async {
            let _ = future::poll_once(socket.next_event()).await;
        });
        for _ in 0..HELD {
            socket.send(Bytes::from_static(b"x")).unwrap();
        }
        let before = socket.buffered_amount();
        assert!(before >= HELD as u64, "{way}: {before}");
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut left = before;
        let mut buffer = vec![0; 1 << 20];
        while left > HELD as u64 {
            peer.read_exact(&mut buffer[..1 << 16]).unwrap();
            left = held(&*socket);
        }
        gate.most.0.store(0, SeqCst);
        while held(&*socket) > 0 {
            let _ = peer.read(&mut buffer).unwrap();
        }
        let most = gate.most.0.load(SeqCst);
        assert!((1..=64 * 64).contains(&most), "{way}: {most} in one pass");
        socket.abort(None);
    }
}

/// What is truly held: what is shown at the beginning of a turn.
fn held(socket: &dyn TcpSocket) -> u64 {
    future::block_on(async {
        let _ = future::poll_once(socket.next_event()).await;
    });
    socket.buffered_amount()
}
