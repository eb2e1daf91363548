//! The two small enumerations of the original: the state of a socket and the type of its data.

use std::fmt;

/// The state of a socket. It only ever moves forward, in this order (ST-1, ST-2).
///
/// It is never live: it moves in the caller's own calls (`close`, `abort`) and in the `poll_event` that returns
/// `Open`, `Error` or `Close` (TURN-5), so that what a program sees does not depend on when the network moved.
///
/// ```
/// use tcpsocket::ReadyState;
///
/// assert!(ReadyState::Connecting < ReadyState::Open);
/// assert_eq!(ReadyState::Closing.as_str(), "closing");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReadyState {
    /// Deciding, resolving, connecting, or shaking hands. Nothing can be sent yet.
    Connecting,
    /// Data flows both ways.
    Open,
    /// `close` was called; what was queued is being flushed and nothing is delivered any more.
    Closing,
    /// The end, permanently.
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

/// How received bytes are meant to be read (IF-5). Fixed when the socket is opened (IF-7).
///
/// In Rust both arrive as the same bytes; [`Data`](crate::Data) carries the type along so that a script host can hand
/// out an `ArrayBuffer` or a byte string.
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
