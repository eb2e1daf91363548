//! The requests of an app, for a policy to decide.

use std::fmt;
use std::net::SocketAddr;

use tcpsocket::{Error, Host, ListenRequest, OpenRequest, canonical_address};

/// One request for a policy to decide.
///
/// An `open` is decided at the call, and then once for each address from the lookup. A `listen` is decided at the call, then
/// with the address, again once an automatic port has become a real one, and then for each peer.
///
/// ```
/// use tcpsocket_policy::Ask;
///
/// assert_eq!(Ask::open("IMAP.example.org", 993)?.to_string(), "open imap.example.org:993");
/// assert_eq!(Ask::listen(0)?.to_string(), "listen on an automatic port");
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ask {
    /// `open(host, port)`, at the call, before any lookup.
    #[non_exhaustive]
    Open {
        /// The app's host.
        host: Host,
        /// The port, 1 to 65535.
        port: u16,
    },
    /// Dialling one address of that host.
    #[non_exhaustive]
    Connect {
        /// The app's host.
        host: Host,
        /// An address from the lookup, or the literal. In canonical form.
        address: SocketAddr,
    },
    /// `listen(port)`, at the call.
    #[non_exhaustive]
    Listen {
        /// The port, 0 for an automatic one.
        port: u16,
    },
    /// Binding a server.
    #[non_exhaustive]
    Bind {
        /// The address to bind; an unspecified IP address means every interface, port 0 a port not chosen yet. In canonical form.
        address: SocketAddr,
    },
    /// Accepting a peer.
    #[non_exhaustive]
    Accept {
        /// The server's address. In canonical form.
        local: SocketAddr,
        /// The peer's address. In canonical form.
        peer: SocketAddr,
    },
}

impl Ask {
    /// May `open(host, port)` be called?
    ///
    /// # Errors
    ///
    /// Those of [`OpenRequest::new`].
    pub fn open(host: impl AsRef<str>, port: impl Into<i64>) -> Result<Ask, Error> {
        Ok(Ask::from(&OpenRequest::new(host, port)?))
    }

    /// May this address of `host` be dialled?
    pub fn connect(host: &Host, address: SocketAddr) -> Ask {
        Ask::Connect {
            host: host.clone(),
            address: canonical_address(address),
        }
    }

    /// May `listen(port)` be called?
    ///
    /// # Errors
    ///
    /// Those of [`ListenRequest::new`].
    pub fn listen(port: impl Into<i64>) -> Result<Ask, Error> {
        Ok(Ask::from(&ListenRequest::new(port)?))
    }

    /// May a server be bound here?
    pub fn bind(address: SocketAddr) -> Ask {
        Ask::Bind {
            address: canonical_address(address),
        }
    }

    /// May this peer be accepted?
    pub fn accept(local: SocketAddr, peer: SocketAddr) -> Ask {
        Ask::Accept {
            local: canonical_address(local),
            peer: canonical_address(peer),
        }
    }

    /// The listening port, 0 if it is not chosen yet.
    pub(crate) fn listening_port(&self) -> Option<u16> {
        match self {
            Ask::Open { .. } | Ask::Connect { .. } => None,
            Ask::Listen { port } => Some(*port),
            Ask::Bind { address } => Some(address.port()),
            Ask::Accept { local, .. } => Some(local.port()),
        }
    }
}

impl From<&OpenRequest> for Ask {
    fn from(request: &OpenRequest) -> Ask {
        Ask::Open {
            host: request.host().clone(),
            port: request.port(),
        }
    }
}

impl From<&ListenRequest> for Ask {
    fn from(request: &ListenRequest) -> Ask {
        Ask::Listen {
            port: request.port(),
        }
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Open { host, port } if host.as_str().contains(':') => {
                write!(f, "open [{host}]:{port}")
            }
            Ask::Open { host, port } => write!(f, "open {host}:{port}"),
            Ask::Connect { host, address } => write!(f, "dial {address} for {host}"),
            Ask::Listen { port: 0 } => f.write_str("listen on an automatic port"),
            Ask::Listen { port } => write!(f, "listen on port {port}"),
            Ask::Bind { address } => write!(f, "bind {address}"),
            Ask::Accept { local, peer } => write!(f, "accept {peer} at {local}"),
        }
    }
}
