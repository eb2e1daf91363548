//! One connection.

use std::fmt::Debug;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::{BinaryType, Error, Event, ReadyState, Security};

/// One TCP connection, as Firefox OS's `TCPSocket`.
///
/// Every method takes `&self` and returns at once, so an `Arc<dyn TcpSocket>` can be shared: one task waits for events
/// while others send. The conveniences are in [`TcpSocketExt`](crate::TcpSocketExt).
///
/// # Active in output, passive in input
///
/// What [`send`](TcpSocket::send) accepted leaves, a connect proceeds and a [`close`](TcpSocket::close) completes although nobody
/// polls. Input is not active: a socket that nobody polls is not read, and TCP holds the peer back (ACT-1, ACT-3).
///
/// # Turns
///
/// A *turn* begins when the socket is created, when [`poll_event`](TcpSocket::poll_event) returns an event, and when a wait is
/// given up; it ends at the next `poll_event`. Within a turn [`buffered_amount`](TcpSocket::buffered_amount) only grows, by what is sent,
/// so `send(65536)` answers `true` and then `send(3)` answers `false`, on every machine (TURN-1 to TURN-4).
///
/// # Dropping
///
/// Dropping the last handle is `close()`: what was accepted still leaves, within five seconds without progress
/// (LIFE-3).
pub trait TcpSocket: Debug + Send + Sync + 'static {
    /// The host as the caller gave it; for an accepted socket the peer's address (IF-8, SRV-6).
    fn host(&self) -> &str;

    /// The port; for an accepted socket the peer's source port.
    fn port(&self) -> u16;

    /// Whether TLS was asked for, at open or by an accepted `upgrade_to_secure` (IF-12). What protects the bytes now, see
    /// [`security`](TcpSocket::security).
    fn ssl(&self) -> bool;

    /// What protects the bytes now.
    fn security(&self) -> Security;

    /// Bytes accepted by `send` and not yet with the kernel, as shown in this turn (TX-11). 0 when closed.
    fn buffered_amount(&self) -> u64;

    /// How received bytes are meant; fixed at open.
    fn binary_type(&self) -> BinaryType;

    /// The state. Never live: see [`ReadyState`].
    fn ready_state(&self) -> ReadyState;

    /// Queues all of `data`, and tells whether to go on: `true`, keep sending; `false`, better wait for
    /// [`Event::Drain`]. The data is accepted either way (TX-1, TX-3).
    ///
    /// `false` iff `buffered_amount() + data.len()` is over 65536 bytes; `Drain` will come iff it reaches 65536 (TX-4). Never
    /// blocks and never copies.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless the state is `open` (TX-2), `QuotaExceededError` at a limit (TX-22). Nothing is queued then, and
    /// the state does not change.
    fn send(&self, data: Bytes) -> Result<bool, Error>;

    /// Holds data back until `resume`. Counted: as many resumes as suspends (RX-6). Once it returned, no `Data` begins
    /// (RX-10), and the peer's end waits as well (RX-12). Legal in every state.
    fn suspend(&self);

    /// Takes one `suspend` back.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if there is none to take back, while connecting or open; nothing happens when closing or closed (RX-8).
    fn resume(&self) -> Result<(), Error>;

    /// Starts TLS on this connection: what was sent before leaves in clear, what is sent from now on leaves only inside
    /// TLS. Success shows in data, failure in an `Error` whose name begins with `Security`. Nothing happens if TLS was
    /// asked for already.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless the state is `open`; `NotSupportedError` on an accepted socket and where TLS is not offered. The
    /// socket is then in clear as before, and says so.
    fn upgrade_to_secure(&self) -> Result<(), Error>;

    /// Closes: no more data is delivered, what was queued is flushed, and then comes `Close` (CL-1). The state is `closing`
    /// at once. While connecting, the attempt is given up and only `Close` comes (CL-3). Nothing happens if it is
    /// closing or closed already.
    fn close(&self);

    /// Closes at once: what was queued is dropped (CL-4). `None` is the original's `closeImmediately`: `Close` follows. With an
    /// error the connection is reset, and `Error`, `Close` follow. Works while closing, too (ROW-23).
    fn abort(&self, why: Option<Error>);

    /// The next event, or `Pending`; `None` for ever after `Close` was returned. The one primitive for events: no box and no
    /// queue behind it.
    ///
    /// Keeps one waker, the latest, and does not wake the one that it replaces (EVT-1). Two tasks that wait at once are safe,
    /// but only one of them is woken. Events are never duplicated and never lost, whichever poll takes them (EVT-2).
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>>;

    /// Gives up the wait of this waker: forgets it and opens a turn (EVT-16). Nothing happens if the wait is another task's, that is, if
    /// the waker that is kept does not [`will_wake`](Waker::will_wake) the same.
    ///
    /// To be called with a clone of the waker of a `poll_event` that returned `Pending`: a clone, since that is what a socket keeps, and
    /// `will_wake` need not know the original from it. Dropping the future of
    /// [`next_event`](crate::TcpSocketExt::next_event) does all that. Two waits of one task have one waker, so whoever gives up one
    /// of them polls the other once more.
    fn cancel_poll(&self, waker: &Waker);
}
