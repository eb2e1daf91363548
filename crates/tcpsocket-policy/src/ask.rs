//! What an app may ask for.

use std::fmt;
use std::net::SocketAddr;

use tcpsocket::{Error, Host, ListenRequest, OpenRequest, canonical_address};

/// One thing that a policy decides about.
///
/// An `open` is asked about at the call, and then once for each address that the lookup found. A `listen` is asked about at
/// the call, once more with the address, again when an automatic port has become a real one, and then for each peer.
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
    /// `open(host, port)`, at the call: nothing has been looked up.
    #[non_exhaustive]
    Open {
        /// The host that the app names.
        host: Host,
        /// The port, 1 to 65535.
        port: u16,
    },
    /// Dialling one address of that host.
    #[non_exhaustive]
    Connect {
        /// The host that the app named.
        host: Host,
        /// What its lookup found, or the literal that it is. In canonical form.
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
        /// Where; an unspecified IP address is every interface, port 0 one that is not chosen yet. In canonical form.
        address: SocketAddr,
    },
    /// Accepting a peer.
    #[non_exhaustive]
    Accept {
        /// Where the server listens. In canonical form.
        local: SocketAddr,
        /// Who has connected. In canonical form.
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

    /// The port that is listened on, 0 if it is not chosen yet.
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
