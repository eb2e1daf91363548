//! What protects a socket at the moment.

use bytes::Bytes;

/// What protects the bytes of a socket: the answer of [`TcpSocket::security`](crate::TcpSocket::security).
///
/// `ssl()` says what was asked for; this says what is.
///
/// ```
/// use tcpsocket::Security;
///
/// assert!(!Security::Plain.is_secure());
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Security {
    /// Nothing: what is sent now leaves in clear.
    #[default]
    Plain,
    /// TLS was asked for and is not there yet; what is sent now waits for it.
    Handshaking,
    /// TLS, with what was agreed.
    Secure(Secure),
}

impl Security {
    /// Whether a handshake has succeeded.
    pub fn is_secure(&self) -> bool {
        matches!(self, Security::Secure(_))
    }
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Secure {
    /// The protocol version, as `TLSv1.2` or `TLSv1.3`.
    pub version: String,
    /// The protocol agreed by ALPN (RFC 7301), if any was.
    pub alpn: Option<Bytes>,
    /// The peer's certificates in DER, the peer's own first.
    pub peer_chain: Vec<Bytes>,
}

impl Secure {
    /// For implementations: what the handshake agreed on.
    pub fn new(version: impl Into<String>, alpn: Option<Bytes>, peer_chain: Vec<Bytes>) -> Secure {
        Secure {
            version: version.into(),
            alpn,
            peer_chain,
        }
    }
}
