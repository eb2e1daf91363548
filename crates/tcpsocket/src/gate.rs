//! Who decides: gates, the meters they hand out, the control they keep, and resolvers.

use std::any::Any;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use async_trait::async_trait;

use crate::{Error, Host};

/// Decides what a socket may do, and watches it afterwards. A request carries any number; all must agree.
///
/// The order for `open` (GATE-2): `name` of every gate, before any lookup; one lookup, or none for a literal; all answers,
/// canonicalised, to `connect` of every gate; then only what every gate returned is dialled. For `listen`: `bind` before
/// the bind, once more with the real port if the port was automatic, and only then the server listens; then `accept`
/// for every peer. Nothing is resolved twice, and nothing that can send a packet to an address happens before that
/// address is admitted.
///
/// A gate may take its time, for a human to answer say: its future is dropped by `close()`, and connect timeouts do not
/// run meanwhile. A refusal is usually an [`Error`] named `NotAllowedError`.
///
/// A gate that lets everything pass but port 25:
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
///     fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
///         Arc::new(NoMeter)
///     }
/// }
/// ```
#[async_trait]
pub trait Gate: Any + Debug + Send + Sync {
    /// May this host be named at this port? Asked before any lookup.
    ///
    /// What is refused at the first poll is what `open_with` returns; a later refusal arrives as an event (GATE-4).
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error>;

    /// Which of these addresses may be dialled? `all` is every answer of the lookup, or the literal. An address that was not
    /// in `all` is ignored; an empty answer is a refusal.
    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error>;

    /// May a server be bound here? Port 0 is an automatic port; it is asked again with the real one.
    async fn bind(&self, at: SocketAddr) -> Result<(), Error>;

    /// May this peer be accepted? A refused peer receives no byte and a reset (GATE-8).
    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error>;

    /// Called once for every opened socket, accepted socket and server that was not refused at the call, before anything moves and
    /// before the program has it (GATE-10). The control may be kept for as long as the gate likes; the meter is told what
    /// moves.
    ///
    /// What is watched may still be under construction: inside `watch` the `Weak` need not upgrade yet. It does from the
    /// moment that the program has the socket or server, so a gate that wants to end it at once remembers that, and does it in the
    /// meter, or as soon as it upgrades.
    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter>;
}

/// Ends a socket or a server from outside: revocation. Outlives the app's handle.
pub trait Control: Send + Sync {
    /// Ends it with this error: what is queued is dropped, the connection is reset, and the app is told `Error(why)`, then
    /// `Close` (GATE-11). A server stops listening and reports `Error(why)`; sockets that it accepted have a control each.
    fn abort(&self, why: Error);
}

/// Told, live, what moves through one socket. Its drop is the last report: nothing of the socket is left then.
///
/// Called without any lock of the implementation held, from whichever thread moves the bytes, so it should be quick.
pub trait Meter: Debug + Send + Sync {
    /// `bytes` are about to be queued by `send`. A quota may refuse: then nothing is queued, and `send` returns the error,
    /// which should be a `QuotaExceededError`.
    fn queue(&self, bytes: usize) -> Result<(), Error>;

    /// `written` bytes went to the kernel, `read` bytes came from it and were delivered, `dropped` bytes that had been queued will
    /// never leave. `queue`d = written + dropped in the end (ACC-1).
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

/// Finds the addresses of a name.
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
    /// All addresses of `name`, each with `port`, in the order of preference. Never called with a literal, and once per open. An
    /// answer with another port is a failure: gates have admitted this one (GATE-18).
    ///
    /// Dropping the future gives the lookup up.
    ///
    /// # Errors
    ///
    /// `DomainNotFoundError` if the name does not exist or has no address, `NetworkError` or `NetworkTimeoutError` if that could not be
    /// found out.
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error>;
}
