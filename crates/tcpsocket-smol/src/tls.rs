//! TLS on one socket: a session of `tcpsocket-tls`, driven by whoever drives the socket.

use std::io::{self, IoSlice, Write};
use std::time::{Duration, Instant};

use tcpsocket::{Error, ErrorName, Host, Secure};
use tcpsocket_core::{CONNECT_TIMEOUT, Input, later, stream_failed};
use tcpsocket_tls::{Client, Incoming, Session};

use crate::scratch;
use crate::stream::Stream;

/// So many reads look for what a peer said that took no more of our handshake.
const LAST_WORDS: usize = 64;

/// What a socket has that is, will be or was secure; and one in the clear whose options speak of it.
pub(crate) struct Tls {
    alpn: Vec<Vec<u8>>,
    /// The connect timeout, which bounds handshakes too (OPT-3, TLS-27).
    limit: Duration,
    /// When it is over, for TLS from the first byte. The clock of an upgrade starts with its handshake.
    until: Option<Instant>,
    roots: Roots,
    session: Option<Session>,
    /// What had been agreed, when the connection is gone.
    was: Option<Secure>,
}

/// The trusted roots are read from files, off the reactor's thread.
#[derive(Default)]
enum Roots {
    #[default]
    NotAsked,
    Loading,
    Loaded(Result<(), Error>),
}

impl Default for Tls {
    fn default() -> Tls {
        Tls {
            alpn: Vec::new(),
            limit: CONNECT_TIMEOUT,
            until: None,
            roots: Roots::default(),
            session: None,
            was: None,
        }
    }
}

impl Tls {
    pub(crate) fn new(alpn: &[Vec<u8>], limit: Option<Duration>) -> Tls {
        Tls {
            alpn: alpn.to_vec(),
            limit: limit.unwrap_or(CONNECT_TIMEOUT),
            ..Tls::default()
        }
    }

    // ----- before the handshake

    /// True if the roots have to be loaded, which is said once.
    pub(crate) fn must_load(&mut self, client: &Client) -> bool {
        if !matches!(self.roots, Roots::NotAsked) {
            return false;
        }
        let loaded = client.is_loaded();
        self.roots = match loaded {
            true => Roots::Loaded(Ok(())),
            false => Roots::Loading,
        };
        !loaded
    }

    pub(crate) fn loaded(&mut self, outcome: Result<(), Error>) {
        self.roots = Roots::Loaded(outcome);
    }

    /// TCP is connected for TLS from the first byte, and this is when the connect timeout is over.
    pub(crate) fn connected(&mut self, until: Instant) {
        self.until = Some(until);
    }

    /// Begins the handshake. `None` while the roots are being loaded.
    pub(crate) fn start(&mut self, client: &Client, host: &str, now: Instant) -> Option<Input> {
        let until = *self.until.get_or_insert_with(|| later(now, self.limit));
        let ready = match &self.roots {
            Roots::Loaded(outcome) => outcome.clone(),
            Roots::Loading if until <= now => Err(Error::new(
                ErrorName::NetworkTimeout,
                "the authorities to trust were not loaded within the connect timeout",
            )),
            Roots::NotAsked | Roots::Loading => return None,
        };
        let begun = ready
            .and_then(|()| Host::parse(host))
            .and_then(|host| client.session(&host, &self.alpn));
        Some(match begun {
            Ok(session) => {
                self.session = Some(session);
                Input::TlsStarted { until }
            }
            Err(error) => Input::SecureFailed(error),
        })
    }

    /// When [`start`](Tls::start) is to be asked again at the latest, if it waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| matches!(self.roots, Roots::Loading))
    }

    // ----- while there is a connection

    pub(crate) fn session(&mut self) -> Option<&mut Session> {
        self.session.as_mut()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.session.as_ref().is_some_and(Session::wants_write)
    }

    /// Whether something came in that needs no reading.
    pub(crate) fn has_incoming(&self) -> bool {
        self.session.as_ref().is_some_and(Session::has_incoming)
    }

    pub(crate) fn secure(&self) -> Option<Secure> {
        match &self.session {
            Some(session) => session.secure(),
            None => self.was.clone(),
        }
    }

    /// The connection is gone.
    pub(crate) fn ended(&mut self) {
        if let Some(session) = self.session.take() {
            self.was = session.secure();
        }
    }
}

/// Writes ciphertext, once. Returns how many bytes left, and how many bytes of plaintext are all with the kernel by that.
pub(crate) fn flush(session: &mut Session, stream: &Stream) -> io::Result<(usize, usize)> {
    match session.write_tls(&mut Out(stream)) {
        Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
        Ok(count) => Ok((count, session.take_flushed())),
        Err(error) => Err(error),
    }
}

/// After a read for the handshake: how that is over, if it is.
pub(crate) fn shake(
    session: &mut Session,
    stream: &Stream,
    filled: io::Result<Filled>,
) -> Option<Input> {
    match filled {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            return Some(Input::ReadFailed(stream_failed(error)));
        }
        _ => {}
    }
    if !session.is_handshaking() {
        return Some(Input::Secured);
    }
    match session.next_incoming() {
        Incoming::Failed(error) => {
            say_why(session, stream);
            Some(Input::SecureFailed(error))
        }
        _ => None,
    }
}

/// A write failed during the handshake. If the peer has said why it went away, that is the failure.
pub(crate) fn shake_off(session: &mut Session, stream: &Stream, cause: io::Error) -> Input {
    let mut room = Room::default();
    for _ in 0..LAST_WORDS {
        if !session.is_handshaking() || session.has_incoming() {
            break;
        }
        match fill(session, stream, &mut room) {
            Ok((filled, _)) if filled.count > 0 => {}
            _ => break,
        }
    }
    match session.next_incoming() {
        Incoming::Failed(error) if error.name().is_security() => Input::SecureFailed(error),
        _ => Input::WriteFailed(stream_failed(cause)),
    }
}

/// What one read brought.
pub(crate) struct Filled {
    pub(crate) count: usize,
    /// As [`Session::take_work`] measures.
    pub(crate) work: usize,
}

/// How much one read may bring: little, until it is known that it carries plaintext rather than records without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room(u32);

impl Default for Room {
    fn default() -> Room {
        Room(Room::LEAST)
    }
}

impl Room {
    const LEAST: u32 = 8 << 10;
    const MOST: u32 = 256 << 10;
    /// The work for a byte that is still that of a bulk transfer.
    const DENSE: usize = 32;

    fn learn(&mut self, filled: &Filled, more: bool) {
        self.0 = match filled.work <= Room::DENSE * filled.count {
            true if more => (self.0 * 2).min(Room::MOST),
            true => self.0,
            false => Room::LEAST,
        };
    }
}

/// Hands the session what one read brings, or the end. Also says whether there may be more.
pub(crate) fn fill(
    session: &mut Session,
    stream: &Stream,
    room: &mut Room,
) -> io::Result<(Filled, bool)> {
    let recv = |block: &mut [u8]| {
        let room = block.len().min(room.0 as usize);
        stream.recv(&mut block[..room])
    };
    let asked = room.0 as usize;
    let (count, more) = scratch::read_with(recv, |bytes| session.read_tls(bytes))?;
    if count == 0 {
        session.read_eof();
    }
    let more = more || count == asked;
    let work = session.take_work();
    let filled = Filled { count, work };
    room.learn(&filled, more);
    Ok((filled, more))
}

/// Sends the alert of a failure, if the kernel takes it at once (TLS-24).
pub(crate) fn say_why(session: &mut Session, stream: &Stream) {
    while session.wants_write() && flush(session, stream).is_ok() {}
}

struct Out<'a>(&'a Stream);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
