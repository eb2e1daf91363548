//! The original's two small enumerations: a socket's state and the type of its data.

use std::fmt;

/// The state of a socket. It only moves forward, in this order (ST-1, ST-2).
///
/// It changes in the caller's own calls (`close`, `abort`) and in the `poll_event` that returns `Open`, `Error` or `Close`
/// (TURN-5), never in between. So a program sees the same whenever the network moves.
///
/// ```
/// use tcpsocket::ReadyState;
///
/// assert!(ReadyState::Connecting < ReadyState::Open);
/// assert_eq!(ReadyState::Closing.as_str(), "closing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadyState {
    /// Gates, lookup, connect, or TLS handshake in progress. Nothing can be sent yet.
    Connecting,
    /// Data flows both ways.
    Open,
    /// `close` was called: queued bytes are being flushed, and nothing more is delivered.
    Closing,
    /// Closed for good.
    Closed,
}

impl ReadyState {
    /// The original's spelling: `connecting`, `open`, `closing`, `closed`.
    pub fn as_str(self) -> &'static str {
        match self {
            ReadyState::Connecting => "connecting",
            ReadyState::Open => "open",
            ReadyState::Closing => "closing",
            ReadyState::Closed => "closed",
        }
    }
}

impl fmt::Display for ReadyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The type of received data (IF-5). Fixed when the socket is opened (IF-7).
///
/// In Rust both arrive as the same bytes. [`Data`](crate::Data) carries the type, so that a script host can hand out an
/// `ArrayBuffer` or a byte string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BinaryType {
    /// `"string"`, the original's default: one character for each byte (RX-3).
    #[default]
    String,
    /// `"arraybuffer"`: bytes.
    ArrayBuffer,
}

impl BinaryType {
    /// The original's spelling: `string`, `arraybuffer`.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryType::String => "string",
            BinaryType::ArrayBuffer => "arraybuffer",
        }
    }
}

impl fmt::Display for BinaryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
