//! A listening socket.

use std::fmt::Debug;
use std::task::{Context, Poll, Waker};

use crate::ServerEvent;

/// A listening socket, as Firefox OS's `TCPServerSocket`.
///
/// Connections arrive as [`ServerEvent::Connect`]. A server that nobody polls accepts nothing; the kernel's backlog is the
/// bound (ACT-4). There is no state, no suspend, and no event of its closing (SRV-16).
///
/// Dropping the last handle is `close()`.
pub trait TcpServerSocket: Debug + Send + Sync + 'static {
    /// The port that is listened on, never 0 (SRV-3).
    fn local_port(&self) -> u16;

    /// Stops listening. No event follows, not even an `Error` that was due; connections that were not handed out are dropped, and
    /// accepted sockets live on (SRV-11, SRV-12, SRV-21). Repeating it does nothing.
    fn close(&self);

    /// The next event, or `Pending`; `None` for ever after `close()` or after an `Error` was returned.
    ///
    /// Keeps one waker, the latest, and does not wake the one that it replaces, but for `close()`, which wakes the one kept.
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>>;

    /// Gives up the wait of this waker: forgets it. Nothing happens if the wait is another task's; see
    /// [`TcpSocket::cancel_poll`](crate::TcpSocket::cancel_poll).
    fn cancel_poll(&self, waker: &Waker);
}
