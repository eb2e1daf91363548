//! One peer: a thread that follows its script.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::Shared;
use super::link::{self, Link};
use crate::sync::lock;
use crate::{CutBy, End, Peer, Report, Role, Script, Step, TlsAcceptor, TlsServer};

/// How often a blocked read or write looks whether the world is being cleared.
const GLANCE: Duration = Duration::from_millis(20);

/// For how long nothing may leave before a buffer counts as full.
const FULL_AFTER: Duration = Duration::from_millis(60);

#[derive(Debug)]
pub(super) struct StdPeer {
    address: SocketAddr,
    role: Role,
    pub(super) seen: Mutex<Seen>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) report: Report,
    received: Vec<u8>,
    pub(super) wire: Vec<u8>,
}

impl StdPeer {
    pub(super) fn start(script: Script, shared: &Arc<Shared>) -> io::Result<Arc<StdPeer>> {
        let socket = bound((script.at, script.port).into(), script.receive_buffer)?;
        let address = local(&socket)?;
        let mut in_the_way = Vec::new();
        match script.role {
            Role::Listen => socket.listen(128)?,
            Role::Silent => {
                socket.listen(1)?;
                in_the_way = fill(&socket, address)?;
            }
            Role::Dial | Role::Refuse => {}
        }
        let peer = Arc::new(StdPeer {
            address,
            role: script.role,
            seen: Mutex::default(),
            thread: Mutex::new(None),
        });
        let mut actor = Actor {
            peer: peer.clone(),
            shared: shared.clone(),
            socket: Some(socket),
            link: None,
            acceptor: None,
        };
        let thread = thread::spawn(move || {
            actor.play(&script.steps);
            actor.shared.wait_for_the_end();
            drop(in_the_way);
        });
        *lock(&peer.thread) = Some(thread);
        Ok(peer)
    }

    /// Waits for the thread; the world is being cleared.
    pub(super) fn end(&self) {
        if self.role == Role::Listen {
            // An `accept` may be waiting; there is no other portable way to end it.
            drop(TcpStream::connect_timeout(&self.address, GLANCE));
        }
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread was printed already, and its report says that the script was not done.
            let _ = thread.join();
        }
    }
}

impl Peer for StdPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn report(&self) -> Report {
        lock(&self.seen).report.clone()
    }

    fn received(&self) -> Vec<u8> {
        lock(&self.seen).received.clone()
    }

    fn wire(&self) -> Vec<u8> {
        lock(&self.seen).wire.clone()
    }
}

fn bound(address: SocketAddr, receive_buffer: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("a socket without an IP address"))
}

/// Fills the queue of connections that nobody accepts, until the kernel ignores the next one.
fn fill(listener: &Socket, address: SocketAddr) -> io::Result<Vec<Socket>> {
    let mut clients = Vec::new();
    let _ = listener;
    for _ in 0..16 {
        let client = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let connected = client.connect_timeout(&address.into(), GLANCE);
        clients.push(client);
        match connected {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(clients),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "this kernel answers connections beyond the backlog",
    ))
}

/// Why a script ended early.
enum Stop {
    /// The world is being cleared.
    Cleared,
    /// The connection was cut, as the script wants it.
    Cut(CutBy),
    Trouble(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        match link::cut(&error) {
            Some(by) => Stop::Cut(by),
            None => Stop::Trouble(error.to_string()),
        }
    }
}

struct Actor {
    peer: Arc<StdPeer>,
    shared: Arc<Shared>,
    /// Listens, or waits to connect, or only occupies the address.
    socket: Option<Socket>,
    link: Option<Link>,
    /// Kept from one connection to the next, so that sessions can be resumed.
    acceptor: Option<(TlsServer, TlsAcceptor)>,
}

impl Actor {
    fn play(&mut self, steps: &[Step]) {
        for (at, step) in steps.iter().enumerate() {
            match self.step(step) {
                Ok(()) => {}
                Err(Stop::Cleared) => return,
                Err(Stop::Cut(by)) => match self.after_the_cut(by) {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Err(Stop::Trouble(why)) => {
                    let why = format!("step {at}: {why}");
                    return self.note(|it| it.trouble = Some(why));
                }
            }
        }
        self.note(|it| it.done = true);
    }

    fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut lock(&self.peer.seen).report);
        self.shared.notify();
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Accept => self.accept(),
            Step::Connect(to) => {
                self.link = None;
                let socket = match self.socket.take() {
                    Some(socket) => socket,
                    None => bound((self.peer.address.ip(), 0).into(), None)?,
                };
                socket.connect(&(*to).into())?;
                self.connected(socket)
            }
            Step::Read(bytes) => self.read(*bytes),
            Step::ReadToEnd => self.read_to_end(),
            Step::Write(bytes) => self.write(bytes, bytes.len(), None).map(drop),
            Step::WriteBelow(bytes) => self.write_below(bytes),
            Step::WritePieces { bytes, piece } => self.write(bytes, *piece, None).map(drop),
            Step::WriteUntilFull(bytes, signal) => {
                let done = self.write(bytes, bytes.len(), Some(FULL_AFTER))?;
                self.shared.signal(signal);
                self.write(&bytes[done..], bytes.len(), None).map(drop)
            }
            Step::Echo => self.echo(),
            Step::Crowd(connections) => self.crowd(*connections),
            Step::Talk(bytes) => self.talk(bytes),
            Step::Tls(server) => {
                let acceptor = self.acceptor(server)?;
                self.link()?
                    .begin_tls(|clear| acceptor.session(clear), server.cut)?;
                self.shake_hands()
            }
            Step::TlsClient(client) => {
                self.link()?
                    .begin_tls(|clear| client.session(clear), None)?;
                self.shake_hands()
            }
            Step::CloseNotify => {
                self.link()?.close_notify()?;
                self.flush()
            }
            Step::KeyUpdate => {
                self.link()?.change_keys()?;
                self.flush()
            }
            Step::Fin => Ok(self.link()?.stream().shutdown(Shutdown::Write)?),
            Step::Reset => {
                let link = self.link.take().ok_or_else(|| no("connection"))?;
                Ok(SockRef::from(link.stream()).set_linger(Some(Duration::ZERO))?)
            }
            Step::Close => {
                self.link = None;
                Ok(())
            }
            Step::Wait(signal) if self.shared.wait(signal) => Ok(()),
            Step::Wait(_) => Err(Stop::Cleared),
            Step::Signal(signal) => {
                self.shared.signal(signal);
                Ok(())
            }
        }
    }

    fn link(&mut self) -> Result<&mut Link, Stop> {
        self.link.as_mut().ok_or_else(|| no("connection"))
    }

    fn accept(&mut self) -> Result<(), Stop> {
        self.link = None;
        let socket = self.socket.as_ref().ok_or_else(|| no("listener"))?;
        let (stream, _) = socket.accept()?;
        if self.shared.clearing() {
            return Err(Stop::Cleared);
        }
        self.connected(stream)
    }

    fn connected(&mut self, socket: Socket) -> Result<(), Stop> {
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        stream.set_write_timeout(Some(GLANCE))?;
        let (local, remote) = (stream.local_addr()?, stream.peer_addr().ok());
        self.link = Some(Link::new(stream, self.peer.clone(), self.shared.clone()));
        self.note(|it| {
            it.connections += 1;
            it.local = Some(local);
            it.remote = remote;
        });
        Ok(())
    }

    /// One `read`: how many bytes, `None` at the end of the stream.
    fn take(&mut self, most: usize) -> Result<Option<usize>, Stop> {
        let mut buffer = vec![0; most.min(65_536)];
        loop {
            match self.take_now(&mut buffer)? {
                Some(Taken::Bytes(n)) => return Ok(Some(n)),
                Some(Taken::End) => return Ok(None),
                None if self.shared.clearing() => return Err(Stop::Cleared),
                None => {}
            }
        }
    }

    /// The same, but `None` if nothing came in time.
    fn take_now(&mut self, buffer: &mut [u8]) -> Result<Option<Taken>, Stop> {
        let end = match self.link()?.read(buffer) {
            Ok(0) => End::Fin,
            Ok(n) => {
                let mut seen = lock(&self.peer.seen);
                seen.received.extend_from_slice(&buffer[..n]);
                seen.report.received += n;
                drop(seen);
                self.shared.notify();
                return Ok(Some(Taken::Bytes(n)));
            }
            Err(error) if is_waiting(&error) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => return Err(error.into()),
        };
        self.note(|it| it.end = Some(end));
        Ok(Some(Taken::End))
    }

    fn read(&mut self, bytes: usize) -> Result<(), Stop> {
        let mut left = bytes;
        while left > 0 {
            let Some(n) = self.take(left)? else {
                return Err(Stop::Trouble(format!(
                    "the stream ended {left} bytes early"
                )));
            };
            left -= n;
        }
        Ok(())
    }

    fn read_to_end(&mut self) -> Result<(), Stop> {
        while self.take(65_536)?.is_some() {}
        Ok(())
    }

    /// Writes in pieces; with `patience`, gives up when nothing left for so long. Returns how much was written.
    fn write(
        &mut self,
        bytes: &[u8],
        piece: usize,
        patience: Option<Duration>,
    ) -> Result<usize, Stop> {
        let mut done = 0;
        let mut moved = Instant::now();
        while done < bytes.len() {
            let to = bytes.len().min(done + piece.max(1));
            match self.link()?.write(&bytes[done..to]) {
                Ok(n) => {
                    done += n;
                    moved = Instant::now();
                    self.note(|it| it.written += n);
                }
                Err(error) if is_waiting(&error) => {
                    if self.shared.clearing() {
                        return Err(Stop::Cleared);
                    }
                    if patience.is_some_and(|it| moved.elapsed() >= it) {
                        return Ok(done); // what is encrypted leaves with the rest
                    }
                }
                Err(error) => {
                    if is_reset(&error) {
                        self.note(|it| it.end = Some(End::Reset));
                    }
                    return Err(error.into());
                }
            }
        }
        self.flush()?;
        Ok(done)
    }

    /// Tries until the kernel does not let it wait.
    fn patiently<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Link) -> io::Result<T>,
    ) -> Result<io::Result<T>, Stop> {
        loop {
            match attempt(self.link()?) {
                Err(error) if is_waiting(&error) && !self.shared.clearing() => {}
                Err(error) if is_waiting(&error) => return Err(Stop::Cleared),
                result => return Ok(result),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        Ok(self.patiently(Link::flush)??)
    }

    fn write_below(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let n = self.patiently(|it| it.write_below(bytes))??;
            bytes = &bytes[n..];
            self.note(|it| it.written += n);
        }
        Ok(())
    }

    /// That of the last connection, if it was of the same kind.
    fn acceptor(&mut self, server: &TlsServer) -> Result<TlsAcceptor, Stop> {
        let kind = TlsServer {
            cut: None,
            ..server.clone()
        };
        if let Some((_, kept)) = self.acceptor.as_ref().filter(|(of, _)| *of == kind) {
            return Ok(kept.clone());
        }
        let made = TlsAcceptor::new(&kind).map_err(Stop::Trouble)?;
        self.acceptor = Some((kind, made.clone()));
        Ok(made)
    }

    fn shake_hands(&mut self) -> Result<(), Stop> {
        self.flush()?;
        while self.link()?.is_handshaking() {
            let end = match self.patiently(Link::pump)? {
                Ok(true) => continue,
                Ok(false) => End::Fin,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
                Err(error) => return Err(error.into()),
            };
            self.note(|it| it.end = Some(end));
            return Err(Stop::Trouble("the stream ended in the handshake".into()));
        }
        self.flush()
    }

    /// What is left of a script whose connection was cut.
    fn after_the_cut(&mut self, by: CutBy) -> Result<(), Stop> {
        if by == CutBy::Reset {
            self.link = None;
            return Ok(());
        }
        self.read_to_end()
    }

    fn echo(&mut self) -> Result<(), Stop> {
        let mut from = lock(&self.peer.seen).received.len();
        while self.take(65_536)?.is_some() {
            let bytes = lock(&self.peer.seen).received[from..].to_vec();
            from += bytes.len();
            self.write(&bytes, bytes.len(), None)?;
        }
        Ok(())
    }

    fn crowd(&mut self, connections: usize) -> Result<(), Stop> {
        let mut all = Vec::new();
        for _ in 0..connections {
            self.accept()?;
            all.extend(self.link.take());
        }
        for link in all {
            self.link = Some(link);
            self.echo()?;
        }
        self.link = None;
        Ok(())
    }

    fn talk(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let mut buffer = vec![0; 65_536];
        let brief = Some(Duration::from_millis(1));
        self.link()?.stream().set_read_timeout(brief)?;
        self.link()?.stream().set_write_timeout(brief)?;
        let mut refused = false;
        loop {
            if !refused {
                match self.link()?.write(bytes) {
                    Ok(n) => self.note(|it| it.written += n),
                    Err(error) if is_waiting(&error) => {}
                    Err(_) => refused = true,
                }
            }
            match self.take_now(&mut buffer)? {
                Some(Taken::End) => return Ok(()),
                Some(Taken::Bytes(_)) => {}
                None if self.shared.clearing() => return Err(Stop::Cleared),
                None => {}
            }
        }
    }
}

enum Taken {
    Bytes(usize),
    End,
}

fn no(what: &str) -> Stop {
    Stop::Trouble(format!("there is no {what}"))
}

fn is_waiting(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}

pub(super) fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}
