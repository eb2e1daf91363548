//! What the operating system is asked for, and what its errors are called.

use std::io::{self, ErrorKind, IoSlice};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tcpsocket::{Bytes, Error, ErrorName};

/// How often a thread that waits for the kernel looks up to see whether it is still wanted. Connects and writes that are
/// stuck pay for it; reads are not, they are woken by `shutdown`.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(20);

/// More at once than any kernel takes for one message.
const SLICES: usize = 16;

/// What Linux takes for the idle time before the first probe.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32_767));

/// Whether a call should simply be made again.
pub(crate) fn again(it: &io::Error) -> bool {
    let raw = it.raw_os_error();
    matches!(it.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || raw == Some(libc::EINPROGRESS)
        || raw == Some(libc::EALREADY)
}

/// Hands over what the kernel has room for, and does not wait.
pub(crate) fn send_now<'a>(
    stream: &TcpStream,
    queue: impl Iterator<Item = &'a Bytes>,
) -> io::Result<usize> {
    let slices: Vec<IoSlice<'_>> = queue.take(SLICES).map(|it| IoSlice::new(it)).collect();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    SockRef::from(stream).send_vectored_with_flags(&slices, flags)
}

/// Has the connection reset when its descriptor is closed.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // It fails only if the peer was faster.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The options of every connection.
pub(crate) fn set_up(
    stream: &TcpStream,
    no_delay: bool,
    keep_alive: Option<Duration>,
) -> io::Result<()> {
    stream.set_nodelay(no_delay)?;
    stream.set_write_timeout(Some(LOOK_UP))?;
    if let Some(idle) = keep_alive {
        let idle = idle.clamp(KEEP_ALIVE.0, KEEP_ALIVE.1);
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    }
    Ok(())
}

/// A socket that is bound, and does not listen yet.
pub(crate) fn bind(at: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(at);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

/// Stops listening, although a thread may be in `accept`: it returns. That a shutdown does that to a listener is Linux.
pub(crate) fn stop_listening(listener: &TcpListener) {
    // It fails only if that was done before.
    let _ = SockRef::from(listener).shutdown(Shutdown::Both);
}

/// Whether a connection is one with itself, which the kernel makes when it chooses the port that is dialled for the socket that
/// dials it (GATE-19).
pub(crate) fn is_itself(socket: &Socket) -> io::Result<bool> {
    Ok(socket.local_addr()?.as_socket() == socket.peer_addr()?.as_socket())
}

/// Why there is no connection (ERR-2).
pub(crate) fn connect_error(to: SocketAddr, it: io::Error) -> Error {
    let name = match it.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::InvalidInput
        | ErrorKind::PermissionDenied => ErrorName::ConnectionRefused,
        ErrorKind::TimedOut => ErrorName::NetworkTimeout,
        // There is no interface of its zone's number.
        _ if it.raw_os_error() == Some(libc::ENODEV) => ErrorName::ConnectionRefused,
        _ => ErrorName::Network,
    };
    Error::with_source(name, format!("{to} cannot be reached: {it}"), it)
}

/// Why a connection broke.
pub(crate) fn broken(it: io::Error) -> Error {
    match it.kind() {
        ErrorKind::TimedOut => timed_out("the peer does not answer any more"),
        _ => Error::with_source(
            ErrorName::Network,
            format!("the connection broke: {it}"),
            it,
        ),
    }
}

pub(crate) fn timed_out(what: &str) -> Error {
    Error::new(ErrorName::NetworkTimeout, what)
}

/// Why there is no server (SRV-14).
pub(crate) fn listen_error(at: SocketAddr, it: io::Error) -> Error {
    let name = match it.kind() {
        ErrorKind::AddrInUse => ErrorName::AddressInUse,
        ErrorKind::PermissionDenied => ErrorName::NotAllowed,
        _ => ErrorName::Network,
    };
    Error::with_source(name, format!("{at} cannot be listened on: {it}"), it)
}

pub(crate) fn no_thread(it: io::Error) -> Error {
    Error::with_source(ErrorName::Network, "no thread for a connection", it)
}
