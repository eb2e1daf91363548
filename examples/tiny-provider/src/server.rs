//! A listening socket.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mio::Token;
use socket2::{Domain, Protocol, Socket, Type};
use tcpsocket::{Error, ListenRequest, ServerEvent, TcpServerSocket, canonical_ip};
use tcpsocket_core::listen_failed;

use crate::driver::{Driver, Source, Watched};
use crate::lock;
use crate::socket;
use crate::terms::Terms;

/// The backlog where none is asked for (SRV-4).
const BACKLOG: u32 = 128;
/// The pause after `accept` failed for want of descriptors (SRV-18).
const PAUSE: Duration = Duration::from_millis(100);

struct Handle(Arc<Inner>);

struct Inner {
    local_port: u16,
    terms: Terms,
    driver: Arc<Driver>,
    token: Token,
    state: Mutex<State>,
}

struct State {
    listener: Option<Watched<mio::net::TcpListener>>,
    task: Option<Waker>,
    pause_until: Option<Instant>,
}

/// Binds and listens.
pub(crate) fn listen(
    driver: &Arc<Driver>,
    terms: Terms,
    request: &ListenRequest,
) -> Result<Arc<dyn TcpServerSocket>, Error> {
    let listener = bind(request)?;
    let failed = |error| listen_failed(request.port(), error);
    let local_port = listener.local_addr().map_err(failed)?.port();
    let token = driver.new_token();
    let listener = mio::net::TcpListener::from_std(listener);
    let listener = Watched::new(driver, token, listener).map_err(failed)?;
    let inner = Arc::new(Inner {
        local_port,
        terms,
        driver: driver.clone(),
        token,
        state: Mutex::new(State {
            listener: Some(listener),
            task: None,
            pause_until: None,
        }),
    });
    driver.adopt(token, inner.clone());
    Ok(Arc::new(Handle(inner)))
}

/// A listener at the address that was asked for, or everywhere (SRV-1).
fn bind(request: &ListenRequest) -> Result<TcpListener, Error> {
    let backlog = request.backlog_wanted().unwrap_or(BACKLOG);
    let at = |ip: IpAddr| {
        let at = SocketAddr::new(canonical_ip(ip), request.port());
        bind_at(at, backlog).map_err(|error| (error.kind(), listen_failed(at, error)))
    };
    let bound = match request.options().address {
        Some(ip) => at(ip),
        None => at(Ipv6Addr::UNSPECIFIED.into()).or_else(|failed| match failed.0 {
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied => Err(failed),
            // Perhaps there is no IPv6 here.
            _ => at(Ipv4Addr::UNSPECIFIED.into()),
        }),
    };
    bound.map_err(|(_, error)| error)
}

fn bind_at(at: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Elsewhere than on Unix this option means that a port can be stolen.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.bind(&at.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

impl Inner {
    fn poll_event(&self, waker: Waker) -> Poll<Option<ServerEvent>> {
        let mut state = lock(&self.state);
        while state.pause_until.is_none() {
            let Some(listener) = &state.listener else {
                return Poll::Ready(None);
            };
            match listener.io.accept() {
                Ok((stream, peer)) => {
                    let socket = socket::accepted(&self.driver, self.terms, stream, peer);
                    // What cannot be set up is a peer that is gone again (SRV-15).
                    if let Ok(socket) = socket {
                        return Poll::Ready(Some(ServerEvent::Connect(socket)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) => state.pause_until = Some(Instant::now() + PAUSE),
            }
        }
        let replaced = state.task.replace(waker);
        let paused = state.pause_until.is_some();
        drop(state);
        drop(replaced);
        if paused {
            self.driver.ring();
        }
        Poll::Pending
    }

    fn close(&self) {
        let (listener, task) = {
            let mut state = lock(&self.state);
            state.pause_until = None;
            (state.listener.take(), state.task.take())
        };
        drop(listener);
        self.driver.forget(self.token);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Of this task, if one is named; who else waits goes on.
    fn forget_waker(&self, of: Option<&Waker>) {
        let theirs = |task: &mut Waker| of.is_none_or(|waker| task.will_wake(waker));
        let forgotten = lock(&self.state).task.take_if(theirs);
        drop(forgotten); // not under the lock
    }
}

impl Source for Inner {
    fn stir(&self) {
        let task = {
            let mut state = lock(&self.state);
            if state.pause_until.is_some_and(|at| at <= Instant::now()) {
                state.pause_until = None;
            }
            state.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        lock(&self.state).pause_until
    }

    fn is_busy(&self) -> bool {
        false
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TinyServerSocket")
            .field("local_port", &self.0.local_port)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpServerSocket for Handle {
    fn local_port(&self) -> u16 {
        self.0.local_port
    }

    fn close(&self) {
        self.0.close();
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.0.poll_event(cx.waker().clone())
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.0.forget_waker(Some(waker));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.forget_waker(None);
        self.0.close();
    }
}
