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
        Err(error) if no_such_interface(&error) => {
            let message = "this machine has no such network interface";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, message));
        }
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
    let kind = Type::STREAM;
    #[cfg(target_os = "linux")]
    let kind = kind.nonblocking();
    let created = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP));
    #[cfg(all(test, unix))]
    let created = tests::on_a_machine_like_this(address, created);
    let socket = created.map_err(|error| explain_family(address, error))?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// Whether a connect failed because there is no interface of the number that the address has for its zone.
fn no_such_interface(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        [Some(libc::ENODEV), Some(libc::ENXIO)].contains(&error.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
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

/// Whether binding failed because the machine has no IPv6, or no address of it.
pub(crate) fn no_such_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Says what a machine lacks that has no sockets of a family: what the kernel says speaks of the protocol, and names neither.
fn explain_family(address: SocketAddr, error: io::Error) -> io::Error {
    #[cfg(unix)]
    let missing = [Some(libc::EAFNOSUPPORT), Some(libc::EPROTONOSUPPORT)];
    #[cfg(not(unix))]
    let missing: [Option<i32>; 0] = [];
    if error.raw_os_error().is_none() || !missing.contains(&error.raw_os_error()) {
        return error;
    }
    let family = match address.is_ipv6() {
        true => "IPv6",
        false => "IPv4",
    };
    let message = format!("this machine has no {family} ({error})");
    io::Error::new(io::ErrorKind::AddrNotAvailable, message)
}

/// The number of the network interface that an IPv6 zone names, by number or, on Linux, by name.
pub(crate) fn interface(zone: &str) -> Option<u32> {
    if let Ok(number) = zone.parse() {
        return Some(number).filter(|it| *it != 0);
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

#[cfg(all(test, unix))]
mod tests {
    use std::cell::Cell;

    use futures_lite::future;
    use tcpsocket::{
        Error, ErrorName, Event, ListenRequest, ServerSocketOptions, SocketOptions, SocketProvider,
        SocketProviderExt, TcpServerSocket, TcpSocketExt,
    };

    use super::*;
    use crate::Smol;

    thread_local! {
        static HAS_IPV6: Cell<bool> = const { Cell::new(true) };
    }

    /// What a kernel without IPv6 says, if this thread's is to be one.
    pub(super) fn on_a_machine_like_this(
        address: SocketAddr,
        created: io::Result<Socket>,
    ) -> io::Result<Socket> {
        match address.is_ipv6() && !HAS_IPV6.get() {
            true => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
            false => created,
        }
    }

    type Listening = Result<std::sync::Arc<dyn TcpServerSocket>, Error>;

    /// As `listen --address ::` does, and as a program that names no address.
    #[test]
    fn a_machine_without_ipv6_is_told_what_was_tried() {
        HAS_IPV6.set(false);
        let net = Smol::new();
        let listen = |port: u16, options: ServerSocketOptions| -> Listening {
            let request = ListenRequest::new(port)?.with_options(options);
            future::block_on(net.listen_with(request))
        };
        let everywhere = ServerSocketOptions::new().address(std::net::Ipv6Addr::UNSPECIFIED);
        let error = listen(0, everywhere).unwrap_err();
        assert_eq!(error.name(), ErrorName::Network);
        let tried = "cannot listen at [::]:0: this machine has no IPv6 (";
        assert!(error.message().starts_with(tried), "{error}");

        let server = listen(0, ServerSocketOptions::new()).unwrap();
        let port = server.local_port();
        let error = listen(port, ServerSocketOptions::new()).unwrap_err();
        assert_eq!(error.name(), ErrorName::AddressInUse);
        let tried = format!(
            "cannot listen at 0.0.0.0:{port}, nor at [::]:{port} (this machine has no IPv6 ("
        );
        assert!(error.message().starts_with(&tried), "{error}");

        future::block_on(async {
            let socket = net.open("::1", port, SocketOptions::new()).unwrap();
            match socket.next_event().await {
                Some(Event::Error(error)) => {
                    assert_eq!(error.name(), ErrorName::ConnectionRefused, "{error}");
                    assert!(error.message().contains("has no IPv6"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        });
    }

    #[test]
    fn what_is_missing_is_named() {
        let at = |it: &str| it.parse().unwrap();
        let raw = io::Error::from_raw_os_error;
        let error = explain_family(at("[::]:9"), raw(libc::EAFNOSUPPORT));
        assert!(no_such_family(&error));
        assert!(
            error.to_string().starts_with("this machine has no IPv6 ("),
            "{error}"
        );
        let error = explain_family(at("127.0.0.1:9"), raw(libc::EPROTONOSUPPORT));
        assert!(
            error.to_string().starts_with("this machine has no IPv4 ("),
            "{error}"
        );
        let error = explain_family(at("[::]:9"), raw(libc::EMFILE));
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert!(out_of_descriptors(&error) && !no_such_family(&error));
        assert!(no_such_family(&raw(libc::EADDRNOTAVAIL)));
    }
}
