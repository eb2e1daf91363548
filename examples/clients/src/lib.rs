//! Four clients, as protocol authors write them. The page below is the README.
#![doc = include_str!("../README.md")]

mod conversation;
pub mod http;
pub mod imap;
mod received;
pub mod redis;
pub mod smtp;

use tcpsocket::{Bytes, Error, ErrorName, Event, TcpSocket, TcpSocketExt};

pub use crate::conversation::{Conversation, Protection};
pub use crate::received::Received;

/// The bytes of the next data event; `None` after a clean end.
///
/// Cancel-safe.
///
/// # Errors
///
/// The error that ended the socket; `NetworkInterruptError` if it was cut off, which under TLS is an end without `close_notify`.
pub async fn next_data(socket: &dyn TcpSocket) -> Result<Option<Bytes>, Error> {
    loop {
        match socket.next_event().await {
            Some(Event::Data(data)) => return Ok(Some(data.into_bytes())),
            Some(Event::Error(error)) => return Err(error),
            Some(Event::Close(close)) if !close.clean => return Err(left()),
            Some(Event::Close(_)) | None => return Ok(None),
            // Open has come before, and Drain matters only to a waiting sender.
            Some(_) => {}
        }
    }
}

/// The server closed the connection where its protocol does not allow it.
fn left() -> Error {
    Error::new(
        ErrorName::NetworkInterrupt,
        "the server left in the middle of what it was saying",
    )
}

/// The server violates its protocol, or sends too much.
fn broken(what: impl Into<String>) -> Error {
    Error::new(ErrorName::Network, what)
}

/// The caller's input does not fit the protocol.
fn unsendable(what: impl Into<String>) -> Error {
    Error::new(ErrorName::Type, what)
}

/// A server's text for a message: one line, shortened.
fn quoted(text: &str) -> String {
    const MOST: usize = 120;
    let shown: String = text
        .chars()
        .take(MOST)
        .flat_map(char::escape_debug)
        .collect();
    let more = if text.chars().count() > MOST {
        "..."
    } else {
        ""
    };
    format!("\"{shown}{more}\"")
}
