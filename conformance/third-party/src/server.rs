//! Servers: how one begins to listen, and its handle.

mod listening;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use socket2::SockRef;
use tcpsocket::{Error, Gate, ListenRequest, ServerEvent, TcpServerSocket, canonical_address};

use self::listening::Listening;
use crate::busy::Busy;
use crate::foreign::{Foreign, ask_gate};
use crate::net;

/// The backlog, if none is asked for.
const BACKLOG: i32 = 128;

/// Binds, asks, listens.
pub(crate) async fn listen(
    request: ListenRequest,
    busy: Arc<Busy>,
) -> Result<Arc<dyn TcpServerSocket>, Error> {
    let gates = Foreign::from(request.gates());
    // Dropped before them, so that it never holds the last of a gate.
    let request = request;
    let options = request.options();
    let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let at = SocketAddr::new(options.address.unwrap_or(everywhere), request.port());
    ask(&gates, at).await?;
    let socket = match net::bind(at) {
        // A machine without IPv6.
        Err(_) if options.address.is_none() && !has_v6() => {
            net::bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port()))
        }
        it => it,
    };
    let explain = |it| net::listen_error(at, it);
    let socket = socket.map_err(explain)?;
    let bound = socket.local_addr().map_err(explain)?.as_socket();
    let port = bound.map_or(at.port(), |it| it.port());
    if at.port() == 0 {
        ask(&gates, SocketAddr::new(at.ip(), port)).await?;
    }
    let backlog = request
        .backlog_wanted()
        .map_or(BACKLOG, |it| i32::try_from(it).unwrap_or(i32::MAX));
    let listener = Arc::new(TcpListener::from(socket));
    let listening = Listening::new(listener.clone(), gates.clone(), &request, port, busy)?;
    SockRef::from(&*listener).listen(backlog).map_err(explain)?;
    let handle = Arc::new(Server(listening.clone()));
    let accepting = thread::Builder::new().name(format!("accept {port}"));
    let spawned = accepting.spawn(move || listening.accept());
    spawned.map_err(net::no_thread)?;
    Ok(handle)
}

async fn ask(gates: &[Arc<dyn Gate>], at: SocketAddr) -> Result<(), Error> {
    for gate in gates {
        ask_gate(|| gate.bind(canonical_address(at))).await?;
    }
    Ok(())
}

fn has_v6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The handle.
#[derive(Debug)]
struct Server(Arc<Listening>);

impl TcpServerSocket for Server {
    fn local_port(&self) -> u16 {
        self.0.port
    }

    fn close(&self) {
        self.0.stop(None);
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        self.0.poll(cx)
    }

    fn cancel_poll(&self, waker: &Waker) {
        self.0.cancel_poll(waker);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.stop(None);
    }
}
