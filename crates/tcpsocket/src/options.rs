//! Options, and the requests that carry them to a provider.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::{BinaryType, Error, ErrorName, Gate, Host, Resolver};

/// Options for opening a socket. `Default` uses the original's defaults; options beyond the original document theirs.
///
/// ```
/// use std::time::Duration;
/// use tcpsocket::{BinaryType, SocketOptions};
///
/// let options = SocketOptions::new()
///     .binary_type(BinaryType::ArrayBuffer)
///     .connect_timeout(Duration::from_secs(5));
/// assert!(options.no_delay);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketOptions {
    /// TLS from the first byte. Default `false` (IF-5).
    pub use_secure_transport: bool,
    /// The type of received data. Default `String`, as in the original (IF-5).
    pub binary_type: BinaryType,
    /// Send small writes at once (`TCP_NODELAY`). Default `true` (OPT-2).
    pub no_delay: bool,
    /// The time limit for connecting, over all addresses; `None` is the implementation's default of 30 seconds. A gate's
    /// time to decide does not count (OPT-3).
    pub connect_timeout: Option<Duration>,
    /// Idle time before the kernel probes the peer (`SO_KEEPALIVE`), in whole seconds. Default off (OPT-4).
    pub keep_alive: Option<Duration>,
    /// The time limit for a close without progress; `None` is 30 seconds (OPT-5). After a drop the limit is this value or 5
    /// seconds, whichever is shorter.
    pub linger: Option<Duration>,
    /// Protocols to offer by ALPN, the preferred one first. Default none (OPT-6).
    pub alpn: Vec<Vec<u8>>,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            use_secure_transport: false,
            binary_type: BinaryType::String,
            no_delay: true,
            connect_timeout: None,
            keep_alive: None,
            linger: None,
            alpn: Vec::new(),
        }
    }
}

impl SocketOptions {
    /// The defaults.
    pub fn new() -> SocketOptions {
        SocketOptions::default()
    }

    /// TLS from the first byte, or not.
    pub fn use_secure_transport(mut self, yes: bool) -> SocketOptions {
        self.use_secure_transport = yes;
        self
    }

    /// The type of received data.
    pub fn binary_type(mut self, binary_type: BinaryType) -> SocketOptions {
        self.binary_type = binary_type;
        self
    }

    /// Whether to send small writes at once.
    pub fn no_delay(mut self, yes: bool) -> SocketOptions {
        self.no_delay = yes;
        self
    }

    /// The time limit for connecting.
    pub fn connect_timeout(mut self, limit: Duration) -> SocketOptions {
        self.connect_timeout = Some(limit);
        self
    }

    /// Idle time before the kernel probes the peer: at least a second, at most the kernel's limit (Linux: 32767 seconds).
    pub fn keep_alive(mut self, idle: Duration) -> SocketOptions {
        self.keep_alive = Some(idle);
        self
    }

    /// The time limit for a close without progress.
    pub fn linger(mut self, limit: Duration) -> SocketOptions {
        self.linger = Some(limit);
        self
    }

    /// Protocols to offer by ALPN, the preferred one first.
    pub fn alpn<T: Into<Vec<u8>>>(
        mut self,
        protocols: impl IntoIterator<Item = T>,
    ) -> SocketOptions {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }
}

/// Options of a server and of every socket it accepts (SRV-5).
///
/// ```
/// use std::net::Ipv4Addr;
/// use tcpsocket::ServerSocketOptions;
///
/// let local_only = ServerSocketOptions::new().address(Ipv4Addr::LOCALHOST);
/// assert!(local_only.address.is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSocketOptions {
    /// As in [`SocketOptions::binary_type`].
    pub binary_type: BinaryType,
    /// The address to listen on; `None` means every interface, IPv6 and IPv4 (SRV-1, OPT-7).
    pub address: Option<IpAddr>,
    /// As in [`SocketOptions::no_delay`].
    pub no_delay: bool,
    /// As in [`SocketOptions::keep_alive`].
    pub keep_alive: Option<Duration>,
    /// As in [`SocketOptions::linger`].
    pub linger: Option<Duration>,
}

impl Default for ServerSocketOptions {
    fn default() -> ServerSocketOptions {
        ServerSocketOptions {
            binary_type: BinaryType::String,
            address: None,
            no_delay: true,
            keep_alive: None,
            linger: None,
        }
    }
}

impl ServerSocketOptions {
    /// The defaults.
    pub fn new() -> ServerSocketOptions {
        ServerSocketOptions::default()
    }

    /// The type of received data.
    pub fn binary_type(mut self, binary_type: BinaryType) -> ServerSocketOptions {
        self.binary_type = binary_type;
        self
    }

    /// The address to listen on.
    pub fn address(mut self, at: impl Into<IpAddr>) -> ServerSocketOptions {
        self.address = Some(at.into());
        self
    }

    /// Whether to send small writes at once.
    pub fn no_delay(mut self, yes: bool) -> ServerSocketOptions {
        self.no_delay = yes;
        self
    }

    /// Idle time before the kernel probes the peer; at least a second.
    pub fn keep_alive(mut self, idle: Duration) -> ServerSocketOptions {
        self.keep_alive = Some(idle);
        self
    }

    /// The time limit for a close without progress.
    pub fn linger(mut self, limit: Duration) -> ServerSocketOptions {
        self.linger = Some(limit);
        self
    }
}

/// A request to open a socket: the host and port, the options, the gates, and perhaps a resolver.
///
/// The constructor parses the host and checks the port. So every request is well formed, and every wrapper judges the same
/// parsed [`Host`].
///
/// ```
/// use tcpsocket::{ErrorName, OpenRequest, SocketOptions};
///
/// let request = OpenRequest::new("imap.example.org", 993)?
///     .with_options(SocketOptions::new().use_secure_transport(true));
/// assert_eq!(request.port(), 993);
///
/// let error = OpenRequest::new("imap.example.org", 70_000).unwrap_err();
/// assert_eq!(error.name(), ErrorName::InvalidAccess);
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone)]
pub struct OpenRequest {
    host: Host,
    port: u16,
    options: SocketOptions,
    gates: Vec<Arc<dyn Gate>>,
    resolver: Option<Arc<dyn Resolver>>,
}

impl OpenRequest {
    /// A request with default options.
    ///
    /// # Errors
    ///
    /// Those of [`Host::parse`], and `InvalidAccessError` for a port outside 1 to 65535 (IF-9, IF-10).
    pub fn new(host: impl AsRef<str>, port: impl Into<i64>) -> Result<OpenRequest, Error> {
        let host = Host::parse(host.as_ref())?;
        let port = port.into();
        match u16::try_from(port) {
            Ok(port) if port != 0 => Ok(OpenRequest {
                host,
                port,
                options: SocketOptions::default(),
                gates: Vec::new(),
                resolver: None,
            }),
            _ => Err(Error::new(
                ErrorName::InvalidAccess,
                format!("cannot open port {port}; ports are 1 to 65535"),
            )),
        }
    }

    /// The same request with these options.
    pub fn with_options(mut self, options: SocketOptions) -> OpenRequest {
        self.options = options;
        self
    }

    /// Adds a gate, to be asked after the others. All must agree (GATE-1).
    pub fn with_gate(mut self, gate: Arc<dyn Gate>) -> OpenRequest {
        self.gates.push(gate);
        self
    }

    /// Removes every gate. For guards, which take no gates from their apps.
    pub fn without_gates(mut self) -> OpenRequest {
        self.gates.clear();
        self
    }

    /// Uses this resolver for the lookup, in place of the provider's.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> OpenRequest {
        self.resolver = Some(resolver);
        self
    }

    /// Makes the name absolute, as if written with a trailing dot. For guards: their rules are about this name, not about
    /// one that a search list makes of it (NAME-8).
    pub fn with_absolute_name(mut self) -> OpenRequest {
        self.host = self.host.into_absolute();
        self
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The options.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// The gates, in the order of asking.
    pub fn gates(&self) -> &[Arc<dyn Gate>] {
        &self.gates
    }

    /// The request's own resolver, if it has one.
    pub fn resolver(&self) -> Option<&Arc<dyn Resolver>> {
        self.resolver.as_ref()
    }
}

impl fmt::Debug for OpenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenRequest")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("options", &self.options)
            .field("gates", &self.gates.len())
            .field("resolver", &self.resolver)
            .finish()
    }
}

/// A request to listen.
///
/// ```
/// use tcpsocket::ListenRequest;
///
/// assert_eq!(ListenRequest::new(-1)?.port(), 0); // automatic, as 0 is
/// assert!(ListenRequest::new(65_536).is_err());
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone)]
pub struct ListenRequest {
    port: u16,
    backlog: Option<u32>,
    options: ServerSocketOptions,
    gates: Vec<Arc<dyn Gate>>,
}

impl ListenRequest {
    /// A request with default options. Ports 0 and -1 both mean any free port (SRV-2).
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for any other port outside 1 to 65535.
    pub fn new(port: impl Into<i64>) -> Result<ListenRequest, Error> {
        let given = port.into();
        let port = if given == -1 {
            Ok(0)
        } else {
            u16::try_from(given)
        };
        match port {
            Ok(port) => Ok(ListenRequest {
                port,
                backlog: None,
                options: ServerSocketOptions::default(),
                gates: Vec::new(),
            }),
            Err(_) => Err(Error::new(
                ErrorName::InvalidAccess,
                format!(
                    "cannot listen on port {given}; ports are 1 to 65535, or 0 or -1 for any free one"
                ),
            )),
        }
    }

    /// How many connections may wait for `accept`; 0 and -1 mean the implementation's default (SRV-4). The operating system
    /// lowers values above its limit.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` below -1.
    pub fn backlog(mut self, connections: impl Into<i64>) -> Result<ListenRequest, Error> {
        let given = connections.into();
        self.backlog = match given {
            -1 | 0 => None,
            1.. => Some(u32::try_from(given).unwrap_or(u32::MAX)),
            _ => {
                return Err(Error::new(
                    ErrorName::InvalidAccess,
                    format!(
                        "a backlog cannot be {given}; give 1 or more, or 0 or -1 for the default"
                    ),
                ));
            }
        };
        Ok(self)
    }

    /// The same request with these options.
    pub fn with_options(mut self, options: ServerSocketOptions) -> ListenRequest {
        self.options = options;
        self
    }

    /// Adds a gate, to be asked after the others. All must agree (GATE-1).
    pub fn with_gate(mut self, gate: Arc<dyn Gate>) -> ListenRequest {
        self.gates.push(gate);
        self
    }

    /// Removes every gate. For guards, which take no gates from their apps.
    pub fn without_gates(mut self) -> ListenRequest {
        self.gates.clear();
        self
    }

    /// The port; 0 means any free port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The requested backlog, or `None` for the implementation's default.
    pub fn backlog_wanted(&self) -> Option<u32> {
        self.backlog
    }

    /// The options.
    pub fn options(&self) -> &ServerSocketOptions {
        &self.options
    }

    /// The gates, in the order of asking.
    pub fn gates(&self) -> &[Arc<dyn Gate>] {
        &self.gates
    }
}

impl fmt::Debug for ListenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenRequest")
            .field("port", &self.port)
            .field("backlog", &self.backlog)
            .field("options", &self.options)
            .field("gates", &self.gates.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_outside_the_range_are_refused_not_wrapped() {
        for port in [-1i64, 0, 65_536, 65_536 + 80, i64::MAX, i64::MIN] {
            let error = OpenRequest::new("localhost", port).unwrap_err();
            assert_eq!(error.name(), ErrorName::InvalidAccess, "{port}");
        }
        assert_eq!(
            OpenRequest::new("localhost", 65_535).unwrap().port(),
            65_535
        );
        for port in [-2i64, 65_536, i64::MAX] {
            assert!(ListenRequest::new(port).is_err(), "{port}");
        }
        assert_eq!(ListenRequest::new(1u16).unwrap().port(), 1);
    }

    #[test]
    fn backlog_has_two_words_for_the_default() {
        let listen = |n: i64| ListenRequest::new(0).unwrap().backlog(n);
        assert_eq!(listen(-1).unwrap().backlog_wanted(), None);
        assert_eq!(listen(0).unwrap().backlog_wanted(), None);
        assert_eq!(listen(7).unwrap().backlog_wanted(), Some(7));
        assert_eq!(listen(i64::MAX).unwrap().backlog_wanted(), Some(u32::MAX));
        assert!(listen(-2).is_err());
    }
}
