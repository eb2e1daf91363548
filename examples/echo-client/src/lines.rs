//! Lines over a socket: the framing that most text protocols share.

use std::sync::Arc;

use tcpsocket::{Error, ErrorName, Event, TcpSocket, TcpSocketExt};

/// The longest line, its end included. Without a bound, a peer that never ends its line would fill the memory.
pub const LONGEST: usize = 8192;

/// Lines in both directions over one socket. One character is one byte.
///
/// A line ends with `\n`, and a `\r` before it belongs to the end; lines are sent with `\r\n`.
#[derive(Debug)]
pub struct Lines {
    socket: Arc<dyn TcpSocket>,
    /// What arrived. Chunk boundaries mean nothing: a line may take several data events, and one may hold many lines.
    received: Vec<u8>,
    /// How much of it was handed out.
    taken: usize,
}

impl Lines {
    /// Lines over this socket, which is open.
    pub fn new(socket: Arc<dyn TcpSocket>) -> Lines {
        Lines {
            socket,
            received: Vec::new(),
            taken: 0,
        }
    }

    /// The socket, to close it. What arrived and was not handed out is dropped.
    pub fn into_socket(self) -> Arc<dyn TcpSocket> {
        self.socket
    }

    /// Sends a line. Waits only if more than the mark has not left yet; nothing is received meanwhile, so read answers
    /// rather than send a service very many lines in advance.
    ///
    /// # Errors
    ///
    /// `TypeError` for a text that is not one line of at most [`LONGEST`] bytes, before anything is sent, and those of the socket.
    pub async fn send(&self, line: &str) -> Result<(), Error> {
        let text = format!("{line}\r\n");
        if line.contains(['\r', '\n']) || text.chars().count() > LONGEST {
            return Err(Error::new(
                ErrorName::Type,
                format!("only a single line of at most {LONGEST} bytes can be sent"),
            ));
        }
        if !self.socket.send_string(&text)? {
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// The next line, without its end; `None` when the peer has closed.
    ///
    /// Cancel-safe: what arrived is kept for the next call.
    ///
    /// # Errors
    ///
    /// `NetworkError` for a line over [`LONGEST`], `NetworkInterruptError` if the stream ends inside a line, and the error that
    /// ended the socket.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            match self.socket.next_event().await {
                Some(Event::Data(data)) => {
                    self.received.drain(..self.taken);
                    self.taken = 0;
                    self.received.extend_from_slice(&data);
                }
                Some(Event::Error(error)) => return Err(error),
                Some(Event::Close(close)) if !close.clean => return Err(cut_off()),
                Some(Event::Close(_)) | None if self.rest().is_empty() => return Ok(None),
                Some(Event::Close(_)) | None => return Err(cut_off()),
                // Open has come before, and Drain is for those who wait for it.
                Some(_) => {}
            }
        }
    }

    fn rest(&self) -> &[u8] {
        &self.received[self.taken..]
    }

    fn take_line(&mut self) -> Result<Option<String>, Error> {
        let rest = self.rest();
        let Some(end) = rest.iter().take(LONGEST).position(|it| *it == b'\n') else {
            return match rest.len() < LONGEST {
                true => Ok(None),
                false => Err(Error::new(
                    ErrorName::Network,
                    format!("the peer sent a line of more than {LONGEST} bytes"),
                )),
            };
        };
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        let line = line.iter().copied().map(char::from).collect();
        self.taken += end + 1;
        Ok(Some(line))
    }
}

fn cut_off() -> Error {
    Error::new(
        ErrorName::NetworkInterrupt,
        "the connection ended in the middle of a line or of the stream",
    )
}
