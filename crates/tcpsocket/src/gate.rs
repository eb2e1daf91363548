//! Gates, their meters and controls, and resolvers.

use std::any::Any;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use async_trait::async_trait;

use crate::{Error, Host};

/// Decides what a socket may do, and watches it afterwards. A request carries any number of gates, and all must agree.
///
/// For `open`, the order is (GATE-2): `name` of every gate, before any lookup; one lookup, or none for a literal; `connect`
/// of every gate, with all the answers in canonical form; then a dial of those addresses only that every gate returned. For
/// `listen`: `bind` before the bind, and again with the real port if the port was automatic; only then does the server
/// listen; then `accept` for every peer. Nothing is resolved twice, and no packet is sent to an address before every gate
/// has admitted it.
///
/// A gate may take its time, for instance to ask a human: `close()` drops its future, and connect timeouts do not run
/// meanwhile. A refusal is usually an [`Error`] named `NotAllowedError`.
///
/// A gate that refuses port 25 and admits everything else:
///
/// ```
/// use std::net::SocketAddr;
/// use std::sync::{Arc, Weak};
/// use tcpsocket::{async_trait, Control, Error, ErrorName, Gate, Host, Meter, NoMeter};
///
/// #[derive(Debug)]
/// struct NoMail;
///
/// #[async_trait]
/// impl Gate for NoMail {
///     async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
///         match port {
///             25 => Err(Error::new(ErrorName::NotAllowed, format!("mail to {host} is not allowed"))),
///             _ => Ok(()),
///         }
///     }
///     async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
///         Ok(all.to_vec())
///     }
///     async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
///         Ok(())
///     }
///     async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
///         Ok(())
///     }
///     fn watch(&self, _control: Weak<dyn Control>) -> Arc<dyn Meter> {
///         Arc::new(NoMeter)
///     }
/// }
/// ```
#[async_trait]
pub trait Gate: Any + Debug + Send + Sync {
    /// May the program open this host and port? Asked before any lookup.
    ///
    /// A refusal at the first poll becomes the error of `open_with`; a later one arrives as an event (GATE-4).
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error>;

    /// Which of these addresses may be dialled? `all` contains every answer of the lookup, or the literal. Addresses outside
    /// `all` are ignored; an empty list is a refusal.
    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error>;

    /// May a server be bound here? Port 0 means an automatic port; the gate is asked again with the real one.
    async fn bind(&self, at: SocketAddr) -> Result<(), Error>;

    /// May this peer be accepted? A refused peer receives a reset and no bytes (GATE-8).
    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error>;

    /// Called once for every opened socket, accepted socket and server, unless the call itself refused it: before any bytes
    /// move, and before the program receives the handle (GATE-10). The gate may keep the control as long as it likes. The
    /// returned meter is told about all bytes that move.
    ///
    /// The socket or server may still be under construction: inside `watch`, the `Weak` need not upgrade yet. It does from
    /// the moment the program has the handle. A gate that wants to end the socket at once remembers that, and does it from
    /// the meter, or as soon as the `Weak` upgrades.
    fn watch(&self, control: Weak<dyn Control>) -> Arc<dyn Meter>;
}

/// Ends a socket or a server from outside, to revoke it. Outlives the app's handle.
pub trait Control: Send + Sync {
    /// Ends the socket with this error: queued bytes are dropped, the connection is reset, and the app receives
    /// `Error(why)`, then `Close` (GATE-11). A server stops listening and reports `Error(why)`; its accepted sockets each
    /// have a control of their own.
    fn abort(&self, why: Error);
}

/// Counts the bytes of one socket as they move. The drop of the meter is the last report: by then nothing of the socket is
/// left.
///
/// The implementation calls it from whichever thread moves the bytes, with no lock held. It should be quick.
pub trait Meter: Debug + Send + Sync {
    /// `send` is about to queue this many bytes. A quota may refuse: then nothing is queued, and `send` returns the error,
    /// which should be a `QuotaExceededError`.
    fn queue(&self, bytes: usize) -> Result<(), Error>;

    /// `written` bytes went to the kernel, `read` bytes came from it and were delivered, and `dropped` queued bytes will
    /// never leave. At the end, all queued bytes have been reported as written or dropped (ACC-1).
    fn moved(&self, written: usize, read: usize, dropped: usize);
}

/// A meter that counts nothing and refuses nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {
    fn queue(&self, _bytes: usize) -> Result<(), Error> {
        Ok(())
    }

    fn moved(&self, _written: usize, _read: usize, _dropped: usize) {}
}

/// Looks up the addresses of a name.
///
/// ```
/// use std::net::SocketAddr;
/// use tcpsocket::{async_trait, Error, ErrorName, Host, Resolver};
///
/// /// Knows one name.
/// #[derive(Debug)]
/// struct OneName;
///
/// #[async_trait]
/// impl Resolver for OneName {
///     async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
///         match name.as_str() {
///             "db.internal" => Ok(vec![SocketAddr::from(([10, 0, 0, 7], port))]),
///             _ => Err(Error::new(ErrorName::DomainNotFound, format!("{name} is unknown"))),
///         }
///     }
/// }
/// ```
#[async_trait]
pub trait Resolver: Debug + Send + Sync + 'static {
    /// Returns all addresses of `name`, each with `port`, the preferred one first. Called once per open, and never for a
    /// literal. An answer with another port makes the open fail, because the gates admitted this one (GATE-18).
    ///
    /// Dropping the future cancels the lookup.
    ///
    /// # Errors
    ///
    /// `DomainNotFoundError` if the name does not exist or has no address, `NetworkError` or `NetworkTimeoutError` if the
    /// lookup itself failed.
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error>;
}
