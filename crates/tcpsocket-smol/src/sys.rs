//! What differs between operating systems: the Linux way, and a portable one beside it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// Options that are set on every stream socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) no_delay: bool,
    pub(crate) keep_alive: Option<Duration>,
}

impl Tuning {
    fn apply(self, socket: SockRef<'_>) -> io::Result<()> {
        if self.no_delay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(idle) = self.keep_alive {
            // What Linux takes.
            let idle = idle.clamp(Duration::from_secs(1), Duration::from_secs(32_767));
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
        }
        Ok(())
    }
}

/// Begins a connect that does not block. The stream that is returned may or may not be connected yet.
pub(crate) fn start_connect(to: SocketAddr, tuning: Tuning) -> io::Result<TcpStream> {
    let socket = non_blocking(to)?;
    tuning.apply(SockRef::from(&socket))?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// A bound socket that does not listen yet.
pub(crate) fn bind(at: SocketAddr, tuning: Tuning) -> io::Result<Socket> {
    let socket = non_blocking(at)?;
    // Elsewhere than on Unix this option means that a port can be stolen.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified())?;
    }
    if INHERITS {
        tuning.apply(SockRef::from(&socket))?;
    }
    socket.bind(&SockAddr::from(at))?;
    Ok(socket)
}

/// Sets the options of an accepted stream, where it did not inherit them from the listener.
pub(crate) fn tune_accepted(stream: &TcpStream, tuning: Tuning) -> io::Result<()> {
    match INHERITS {
        true => Ok(()),
        false => tuning.apply(SockRef::from(stream)),
    }
}

/// The drop of this stream will reset the connection.
pub(crate) fn reset_on_close(stream: &TcpStream) {
    // Fails only for a descriptor that is gone.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// On Linux an accepted socket has the options of its listener.
const INHERITS: bool = cfg!(target_os = "linux");

fn non_blocking(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    #[cfg(target_os = "linux")]
    {
        Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// Flags of every send: a peer that is gone is an error, not a signal.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const SEND_FLAGS: libc::c_int = 0;

/// Whether `accept` failed because descriptors or memory have run out, which passes.
pub(crate) fn out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        let passing = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        error.raw_os_error().is_some_and(|it| passing.contains(&it))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
}

/// Whether `accept` failed in a way that no further call can mend.
pub(crate) fn listener_is_dead(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        let fatal = [
            libc::EBADF,
            libc::EINVAL,
            libc::ENOTSOCK,
            libc::EOPNOTSUPP,
            libc::EFAULT,
        ];
        error.raw_os_error().is_some_and(|it| fatal.contains(&it))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::InvalidInput
    }
}

/// Whether binding failed because the machine has no IPv6.
pub(crate) fn no_such_family(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        let missing = [
            libc::EAFNOSUPPORT,
            libc::EADDRNOTAVAIL,
            libc::EPROTONOSUPPORT,
        ];
        error.raw_os_error().is_some_and(|it| missing.contains(&it))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::AddrNotAvailable
    }
}

/// The number of the network interface that an IPv6 zone names, by number or, on Linux, by name.
pub(crate) fn interface(zone: &str) -> Option<u32> {
    if let Ok(number) = zone.parse() {
        return Some(number);
    }
    #[cfg(target_os = "linux")]
    {
        let text = std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex")).ok()?;
        text.trim().parse().ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}
