//! A socket's current protection.

use bytes::Bytes;

/// A socket's current protection, as [`TcpSocket::security`](crate::TcpSocket::security) returns it.
///
/// `ssl()` tells what was requested; this tells what is in effect.
///
/// ```
/// use tcpsocket::Security;
///
/// assert!(!Security::Plain.is_secure());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Security {
    /// None: bytes leave in the clear.
    #[default]
    Plain,
    /// TLS was requested, and the handshake is not done. Bytes you send now wait for it.
    Handshaking,
    /// TLS, with the result of its handshake.
    Secure(Secure),
}

impl Security {
    /// Whether the handshake has succeeded.
    pub fn is_secure(&self) -> bool {
        matches!(self, Security::Secure(_))
    }
}

/// The result of a TLS handshake.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Secure {
    /// The protocol version, as `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The protocol negotiated by ALPN (RFC 7301), if any.
    pub alpn: Option<Bytes>,
    /// The peer's certificate chain in DER, its own certificate first.
    pub peer_chain: Vec<Bytes>,
}

impl Secure {
    /// For implementations: the result of a handshake.
    pub fn new(version: impl Into<String>, alpn: Option<Bytes>, peer_chain: Vec<Bytes>) -> Secure {
        Secure {
            version: version.into(),
            alpn,
            peer_chain,
        }
    }
}
