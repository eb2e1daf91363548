//! Peers as data, and the world that runs them.

use std::any::Any;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tcpsocket::Bytes;

use crate::{TlsClient, TlsReport, TlsServer};

/// Where peers live: their network, their clock, and the signals by which scripts and cases wait for each other.
///
/// A case names nothing but this, so one that passes on the loopback of a machine can run in a simulated network too.
/// A world must pass [`selftest`](crate::selftest) before cases run in it.
pub trait World: Debug + Send + Sync + 'static {
    /// Starts a peer. When this returns, a peer that listens can be connected to.
    ///
    /// # Errors
    ///
    /// Why it could not be started, for people.
    fn peer(&self, script: Script) -> Result<Arc<dyn Peer>, String>;

    /// Raises a signal, for good. Raising it again is a mistake of the case, and panics.
    fn signal(&self, name: &'static str);

    /// Whether a signal was raised, by a script or by [`signal`](World::signal).
    fn signalled(&self, name: &'static str) -> bool;

    /// Wakes once, when a signal is raised or a report changes.
    fn watch(&self, waker: &Waker);

    /// The time since this world began. A world with a clock of its own must not move it ahead of threads of the case that run: some
    /// cases have real ones.
    fn now(&self) -> Duration;

    /// Wakes once, when the clock has come to `at`.
    fn alarm(&self, at: Duration, waker: &Waker);

    /// Takes every descriptor that this process may still have, until the value that is returned is dropped. `None` if this
    /// world cannot do that.
    fn starve(&self) -> Option<Box<dyn Any + Send>> {
        None
    }

    /// The root certificates, in DER, that the certificates of its peers lead to. None, the default, if its peers do not speak
    /// TLS; then no case about TLS can run in it.
    fn roots(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// Ends all peers, and returns when nothing is left of them. The clock goes on.
    fn clear(&self);
}

/// A peer that was started.
pub trait Peer: Debug + Send + Sync + 'static {
    /// Where it listens or, if it connects, where it connects from; that may be unspecified until it is connected.
    fn address(&self) -> SocketAddr;

    /// What it has seen so far.
    fn report(&self) -> Report;

    /// Everything it has received so far, what came inside TLS as plaintext.
    fn received(&self) -> Vec<u8>;

    /// Everything that has arrived since a [`Step::Tls`], as it was on the wire.
    fn wire(&self) -> Vec<u8>;
}

/// What a peer is, and what it does.
///
/// When its steps are done it keeps the connection, without reading, until the world is cleared.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Script {
    /// What it is.
    pub role: Role,
    /// The loopback address that it is bound to.
    pub at: IpAddr,
    /// The port that it is bound to; 0 for any that is free.
    pub port: u16,
    /// The size of its receive buffer, if it is to be small. Set before there is a connection, for it bounds the window.
    pub receive_buffer: Option<usize>,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

impl Script {
    /// A peer that listens on 127.0.0.1.
    pub fn listen(steps: impl IntoIterator<Item = Step>) -> Script {
        Script::new(Role::Listen, steps)
    }

    /// A peer that connects from 127.0.0.1, when it comes to a [`Step::Connect`].
    pub fn dial(steps: impl IntoIterator<Item = Step>) -> Script {
        Script::new(Role::Dial, steps)
    }

    /// An address of 127.0.0.1 that refuses connections.
    pub fn refuse() -> Script {
        Script::new(Role::Refuse, [])
    }

    /// An address of 127.0.0.1 that does not answer.
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

    /// The same at this port, so that it can be another address of the same name.
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
    /// It listens from the start and accepts when it comes to [`Step::Accept`].
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
/// A peer has one connection at a time; [`Accept`](Step::Accept) and [`Connect`](Step::Connect) replace it. A step that fails
/// ends the script and is told in [`Report::trouble`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Step {
    /// Waits for a connection and takes it.
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
        /// How much at once.
        piece: usize,
    },
    /// Writes all of it, and raises a signal when, for a while, nothing more can be written, or at its end.
    WriteUntilFull(Bytes, &'static str),
    /// Writes back what it reads, until the stream ends.
    Echo,
    /// Takes this many connections, and when all are there serves one after the other as [`Echo`](Step::Echo) does, and closes it.
    Crowd(usize),
    /// Writes this again and again, and reads meanwhile, until the stream ends. Refusals to write do not end it.
    Talk(Bytes),
    /// Shakes hands as the server. From here on, what is read and written goes inside TLS.
    Tls(TlsServer),
    /// The same as the client.
    TlsClient(TlsClient),
    /// Says inside TLS that its stream ends. [`Fin`](Step::Fin) ends it.
    CloseNotify,
    /// Changes the keys of TLS 1.3, and asks the other to do the same.
    KeyUpdate,
    /// Writes all of it below TLS.
    WriteBelow(Bytes),
    /// Sends FIN, and can still read.
    Fin,
    /// Resets the connection.
    Reset,
    /// Closes the descriptor. What was not read makes that a reset.
    Close,
    /// Waits for a signal.
    Wait(&'static str),
    /// Raises a signal.
    Signal(&'static str),
}

/// What a peer has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many connections it has had.
    pub connections: usize,
    /// Its own address in the last connection.
    pub local: Option<SocketAddr>,
    /// The other's address in the last connection.
    pub remote: Option<SocketAddr>,
    /// Bytes received, inside TLS or in the clear.
    pub received: usize,
    /// Bytes written.
    pub written: usize,
    /// How the other's stream ended, as far as it was read.
    pub end: Option<End>,
    /// What it has seen of TLS, from [`Step::Tls`] on.
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
