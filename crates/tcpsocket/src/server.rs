//! A listening socket.

use std::fmt::Debug;
use std::task::{Context, Poll, Waker};

use crate::ServerEvent;

/// A listening socket, modelled on Firefox OS's `TCPServerSocket`.
///
/// Connections arrive as [`ServerEvent::Connect`]. A server accepts nothing while nobody polls it; the kernel's backlog
/// bounds the connections that wait (ACT-4). It has no state and no suspend, and its closing is no event (SRV-16).
///
/// Dropping the last handle is `close()`.
pub trait TcpServerSocket: Debug + Send + Sync + 'static {
    /// The listening port, never 0 (SRV-3).
    fn local_port(&self) -> u16;

    /// Stops listening. No event follows, not even a pending `Error`. Connections not yet handed out are dropped; accepted
    /// sockets live on (SRV-11, SRV-12, SRV-21). Further calls do nothing.
    fn close(&self);

    /// The next event, or `Pending`; always `None` after `close()` or a returned `Error`.
    ///
    /// The server stores one waker, the latest, and drops the previous one without waking it. `close()` wakes the stored
    /// one.
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>>;

    /// Cancels the wait of this waker: the server forgets it. Does nothing if the stored waker is another task's; see
    /// [`TcpSocket::cancel_poll`](crate::TcpSocket::cancel_poll).
    fn cancel_poll(&self, waker: &Waker);
}
