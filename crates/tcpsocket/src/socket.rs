//! One connection.

use std::fmt::Debug;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::{BinaryType, Error, Event, ReadyState, Security};

/// One TCP connection, modelled on Firefox OS's `TCPSocket`.
///
/// Every method takes `&self` and returns at once, so an `Arc<dyn TcpSocket>` can be shared: one task waits for events while
/// others send. Convenience methods are in [`TcpSocketExt`](crate::TcpSocketExt).
///
/// # Active in output, passive in input
///
/// Output works in the background: accepted bytes leave, a connect proceeds and a [`close`](TcpSocket::close) completes even
/// if nobody polls. Input does not: while nobody polls a socket, nothing reads it, and TCP holds the peer back (ACT-1,
/// ACT-3).
///
/// # Turns
///
/// A *turn* begins when the socket is created, when [`poll_event`](TcpSocket::poll_event) returns an event, and when a wait
/// is cancelled; it ends at the next `poll_event`. Within a turn [`buffered_amount`](TcpSocket::buffered_amount) only grows,
/// by the bytes you send. So `send(65536)` returns `true` and then `send(3)` returns `false`, on every machine (TURN-1 to
/// TURN-4).
///
/// # Dropping
///
/// Dropping the last handle is a `close()`: accepted bytes still leave, for as long as no five seconds pass without progress
/// (LIFE-3).
pub trait TcpSocket: Debug + Send + Sync + 'static {
    /// The host as the caller wrote it; for an accepted socket, the peer's address (IF-8, SRV-6).
    fn host(&self) -> &str;

    /// The port; for an accepted socket, the peer's source port.
    fn port(&self) -> u16;

    /// Whether TLS was requested, at open or by a successful `upgrade_to_secure` (IF-12). For the current protection, see
    /// [`security`](TcpSocket::security).
    fn ssl(&self) -> bool;

    /// The current protection.
    fn security(&self) -> Security;

    /// The bytes accepted by `send` that are not yet with the kernel, as of this turn (TX-11). 0 when closed.
    fn buffered_amount(&self) -> u64;

    /// The type of received data; fixed at open.
    fn binary_type(&self) -> BinaryType;

    /// The state. It changes only at certain calls: see [`ReadyState`].
    fn ready_state(&self) -> ReadyState;

    /// Queues all of `data` and returns whether to continue: `true`, keep sending; `false`, better wait for
    /// [`Event::Drain`]. The data is accepted either way (TX-1, TX-3).
    ///
    /// Returns `false` iff `buffered_amount() + data.len()` exceeds 65536 bytes; `Drain` follows iff that sum is at least
    /// 65536 (TX-4). Never blocks and never copies.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless the state is `open` (TX-2), `QuotaExceededError` at a limit (TX-22). After an error
    /// nothing is queued, and the state is unchanged.
    fn send(&self, data: Bytes) -> Result<bool, Error>;

    /// Holds data back until `resume`. Calls are counted: each `suspend` needs a `resume` of its own (RX-6). After it
    /// returns, no new `Data` is delivered (RX-10), and the peer's end waits too (RX-12). Allowed in every state.
    fn suspend(&self);

    /// Undoes one `suspend`.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` if there is no `suspend` to undo, while connecting or open. When closing or closed, the call does
    /// nothing (RX-8).
    fn resume(&self) -> Result<(), Error>;

    /// Starts TLS on this connection: bytes sent before leave in the clear, bytes sent from now on leave only inside TLS.
    /// Data means success; a failure is an `Error` with a name that begins with `Security`. Does nothing if TLS was already
    /// requested.
    ///
    /// # Errors
    ///
    /// `InvalidStateError` unless the state is `open`; `NotSupportedError` on an accepted socket and where TLS is not
    /// offered. After an error the socket stays in the clear, and [`ssl`](TcpSocket::ssl) and
    /// [`security`](TcpSocket::security) say so.
    fn upgrade_to_secure(&self) -> Result<(), Error>;

    /// `close` flushes: everything you sent reaches the peer, and then `Close` follows (CL-1). The state is
    /// `closing` at once, and no more data is delivered. While connecting, it cancels the attempt, and only `Close` follows
    /// (CL-3). Does nothing if the socket is already closing or closed.
    fn close(&self);

    /// Closes at once and drops all queued bytes (CL-4). `None` is the original's `closeImmediately`: `Close` follows. With
    /// an error the connection is reset, and `Error`, `Close` follow. Works while closing, too (ROW-23).
    fn abort(&self, why: Option<Error>);

    /// The next event, or `Pending`; always `None` after a returned `Close`. This is the one primitive for events, with no
    /// boxed future and no queue behind it.
    ///
    /// The socket stores one waker, the latest, and drops the previous one without waking it (EVT-1). Two tasks may wait at
    /// once, but only one of them is woken. Whichever poll takes an event, none is lost or duplicated (EVT-2).
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>>;

    /// Cancels the wait of this waker: the socket forgets it and begins a turn (EVT-16). Does nothing if the stored waker is
    /// another task's, that is, if it does not [`will_wake`](Waker::will_wake) the same task.
    ///
    /// Pass a clone of the waker from a `poll_event` that returned `Pending`. It must be a clone: the socket stores one, and
    /// `will_wake` may not recognise the original. Dropping the future of [`next_event`](crate::TcpSocketExt::next_event)
    /// does all this. Two waits of one task share a waker, so after cancelling one of them, poll the other again.
    fn cancel_poll(&self, waker: &Waker);
}
