//! Peers as data, and the world that runs them.

use std::any::Any;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tcpsocket::Bytes;

use crate::{TlsClient, TlsReport, TlsServer};

/// The environment of peers: their network, their clock, and the signals by which scripts and cases wait for each other.
///
/// A case uses nothing else, so a case for a machine's loopback can also run in a simulated network.
/// A world must pass [`selftest`](crate::selftest) before cases run in it.
pub trait World: Debug + Send + Sync + 'static {
    /// Starts a peer. When this returns, a listening peer accepts connections.
    ///
    /// # Errors
    ///
    /// Why it could not be started, for people.
    fn peer(&self, script: Script) -> Result<Arc<dyn Peer>, String>;

    /// Raises a signal, for good. Raising it twice is a mistake of the case, and panics.
    fn signal(&self, name: &'static str);

    /// Whether a signal was raised, by a script or by [`signal`](World::signal).
    fn signalled(&self, name: &'static str) -> bool;

    /// Wakes once, when a signal is raised or a report changes.
    fn watch(&self, waker: &Waker);

    /// The time since this world began. A world with a clock of its own must not move it ahead of threads of the case that run: some
    /// cases have real ones.
    fn now(&self) -> Duration;

    /// Wakes once, when the clock reaches `at`.
    fn alarm(&self, at: Duration, waker: &Waker);

    /// Takes all free descriptors of this process, until the returned value is dropped. `None` if this world cannot do
    /// that.
    fn starve(&self) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// The root certificates of its peers, in DER. None, the default, if its peers have no TLS; then no case about TLS can
    /// run in it.
    fn roots(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Ends all peers, and returns when nothing is left of them. The clock continues.
    fn clear(&self);
}

/// A started peer.
pub trait Peer: Debug + Send + Sync + 'static {
    /// The address that it listens on or connects from; the latter may be unspecified until it is connected.
    fn address(&self) -> SocketAddr;

    /// Its report so far.
    fn report(&self) -> Report;

    /// All bytes received so far, decrypted if they came inside TLS.
    fn received(&self) -> Vec<u8>;

    /// All bytes that have arrived since a [`Step::Tls`], as on the wire.
    fn wire(&self) -> Vec<u8>;
}

/// The kind of a peer, and its script.
///
/// After its last step it keeps the connection, without reading, until the world is cleared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Script {
    /// What it is.
    pub role: Role,
    /// The loopback address that it is bound to.
    pub at: IpAddr,
    /// The port that it is bound to; 0 for an automatic one.
    pub port: u16,
    /// The size of a small receive buffer, in bytes. Set before the connection, because it bounds the window.
    pub receive_buffer: Option<usize>,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

impl Script {
    /// A peer that listens on 127.0.0.1.
    pub fn listen(steps: impl IntoIterator<Item = Step>) -> Script {
        Script::new(Role::Listen, steps)
    }

    /// A peer that connects from 127.0.0.1 at a [`Step::Connect`].
    pub fn dial(steps: impl IntoIterator<Item = Step>) -> Script {
        Script::new(Role::Dial, steps)
    }

    /// An address on 127.0.0.1 that refuses connections.
    pub fn refuse() -> Script {
        Script::new(Role::Refuse, [])
    }

    /// An address on 127.0.0.1 that does not answer.
    pub fn silent() -> Script {
        Script::new(Role::Silent, [])
    }

    fn new(role: Role, steps: impl IntoIterator<Item = Step>) -> Script {
        Script {
            role,
            at: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            receive_buffer: None,
            steps: steps.into_iter().collect(),
        }
    }

    /// The same on `::1`.
    pub fn v6(mut self) -> Script {
        self.at = IpAddr::V6(Ipv6Addr::LOCALHOST);
        self
    }

    /// The same on this port, so that it can be another address of the same name.
    pub fn port(mut self, port: u16) -> Script {
        self.port = port;
        self
    }

    /// The same with a receive buffer of about this many bytes.
    pub fn receive_buffer(mut self, bytes: usize) -> Script {
        self.receive_buffer = Some(bytes);
        self
    }
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// It listens from the start and accepts at [`Step::Accept`].
    Listen,
    /// It connects.
    Dial,
    /// Its address refuses every connection.
    Refuse,
    /// Its address answers nothing.
    Silent,
}

/// One step of a script.
///
/// A peer has one connection at a time; [`Accept`](Step::Accept) and [`Connect`](Step::Connect) replace it. A failed step
/// ends the script and is reported in [`Report::trouble`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Accepts a connection.
    Accept,
    /// Connects.
    Connect(SocketAddr),
    /// Reads exactly this many bytes.
    Read(usize),
    /// Reads until the stream ends, by FIN or by reset.
    ReadToEnd,
    /// Writes all of it.
    Write(Bytes),
    /// Writes it in pieces, each a segment of its own.
    WritePieces {
        /// What to write.
        bytes: Bytes,
        /// The length of a piece, in bytes.
        piece: usize,
    },
    /// Writes all of it, and raises a signal at its end, or earlier if for a while nothing more can be written.
    WriteUntilFull(Bytes, &'static str),
    /// Echoes what it reads, until the stream ends.
    Echo,
    /// Accepts this many connections; then serves one after another like [`Echo`](Step::Echo), and closes it.
    Crowd(usize),
    /// Writes this again and again, and reads meanwhile, until the stream ends. Refusals to write do not end it.
    Talk(Bytes),
    /// Performs the handshake as the server. From here on, reads and writes go inside TLS.
    Tls(TlsServer),
    /// The same as the client.
    TlsClient(TlsClient),
    /// Sends `close_notify`. [`Fin`](Step::Fin) ends the stream.
    CloseNotify,
    /// Updates the keys of TLS 1.3, and requests the same of the other side.
    KeyUpdate,
    /// Writes all of it below TLS.
    WriteBelow(Bytes),
    /// Sends FIN; it can still read.
    Fin,
    /// Resets the connection.
    Reset,
    /// Closes the descriptor. Unread input makes that a reset.
    Close,
    /// Waits for a signal.
    Wait(&'static str),
    /// Raises a signal.
    Signal(&'static str),
}

/// A peer's report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The number of its connections.
    pub connections: usize,
    /// Its own address in the last connection.
    pub local: Option<SocketAddr>,
    /// The other's address in the last connection.
    pub remote: Option<SocketAddr>,
    /// Bytes received, inside TLS or in the clear.
    pub received: usize,
    /// Bytes written.
    pub written: usize,
    /// The end of the other side's stream, if it was read that far.
    pub end: Option<End>,
    /// Its view of TLS, from [`Step::Tls`] on.
    pub tls: Option<TlsReport>,
    /// Whether all steps are done.
    pub done: bool,
    /// Why the script ended before its last step.
    pub trouble: Option<String>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// By FIN.
    Fin,
    /// By reset.
    Reset,
}
