//! Events, and what they carry.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;

use crate::{BinaryType, Error, TcpSocket};

/// What happens to a socket.
///
/// They come in this order (EVT-3): `Open` first (an accepted socket is open from the start and has none), then `Data` and
/// `Drain` any number of times, then at most one `Error`, then exactly one `Close`. Nothing comes between `Error` and
/// `Close`, and nothing after `Close`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The connection is established, including the handshake if TLS was requested: `send` works from now on.
    Open,
    /// Bytes arrived. Chunk boundaries carry no meaning (RX-1).
    Data(Data),
    /// The buffer had reached the mark, and is now empty: the kernel has everything (TX-6).
    Drain,
    /// The socket failed. It is already closed, and `Close` follows at once.
    Error(Error),
    /// The end, exactly once.
    Close(Close),
}

/// Received bytes: at least 1, at most 256 KiB (RX-5).
///
/// Derefs to `[u8]` and clones without copying.
///
/// ```
/// use bytes::Bytes;
/// use tcpsocket::{BinaryType, Data};
///
/// let data = Data::new(Bytes::from_static(b"caf\xe9"), BinaryType::String);
/// assert_eq!(data.len(), 4);
/// assert_eq!(data.to_byte_string(), "café"); // one character for each byte
/// assert_eq!(data.into_bytes(), &b"caf\xe9"[..]);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Data {
    bytes: Bytes,
    binary_type: BinaryType,
}

impl Data {
    /// For implementations: the payload of an event.
    pub fn new(bytes: Bytes, binary_type: BinaryType) -> Data {
        Data { bytes, binary_type }
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The type requested when the socket was opened.
    pub fn binary_type(&self) -> BinaryType {
        self.binary_type
    }

    /// One character for each byte, U+0000 to U+00FF; no byte is lost (RX-3, RX-4). The inverse of
    /// [`send_string`](crate::TcpSocketExt::send_string).
    pub fn to_byte_string(&self) -> String {
        self.bytes.iter().map(|b| char::from(*b)).collect()
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Data> for Bytes {
    fn from(data: Data) -> Bytes {
        data.bytes
    }
}

impl fmt::Debug for Data {
    /// The length and the type. The bytes stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Data")
            .field("len", &self.bytes.len())
            .field("binary_type", &self.binary_type)
            .finish()
    }
}

/// How a socket ended.
///
/// ```
/// assert!(tcpsocket::Close::new(true).clean);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// There was no error, and under TLS the peer sent `close_notify` before its stream ended (CL-6).
    pub clean: bool,
}

impl Close {
    /// For implementations: the payload of the event.
    pub fn new(clean: bool) -> Close {
        Close { clean }
    }
}

/// What happens to a listening socket.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerEvent {
    /// A connection was accepted. The socket is open already (SRV-6), and its first turn begins with this event.
    Connect(Arc<dyn TcpSocket>),
    /// The server failed. It is closed, and no event follows (SRV-13).
    Error(Error),
}
