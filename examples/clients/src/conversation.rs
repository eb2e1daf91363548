//! Protocols in which one side speaks at a time.

use std::sync::Arc;

use tcpsocket::{
    Bytes, Error, SocketOptions, SocketProvider, SocketProviderExt, StartTls, TcpSocket,
    TcpSocketExt,
};

use crate::{Received, left, next_data};

/// The beginning of TLS. There is no variant without TLS: both protocols here carry passwords and letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// With the first byte.
    Tls,
    /// By STARTTLS, after a short dialogue in the clear.
    StartTls,
}

/// Two sides that take turns, as in IMAP and SMTP.
///
/// Each side waits until the other has taken its words ([`send`](Conversation::send)). Nothing is read ahead, because an
/// unpolled socket is not read.
#[derive(Debug)]
pub struct Conversation {
    socket: Arc<dyn TcpSocket>,
    received: Received,
}

impl Conversation {
    /// A conversation over this open socket.
    pub fn over(socket: Arc<dyn TcpSocket>) -> Conversation {
        Conversation {
            socket,
            received: Received::new(),
        }
    }

    /// Connects, with this protection. After STARTTLS the greeting has been read; with TLS from the first byte, it is still to come.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](SocketProviderExt::connect) and [`starttls`](TcpSocketExt::starttls).
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
        protection: Protection,
        protocol: StartTls,
    ) -> Result<Conversation, Error> {
        let implicit = protection == Protection::Tls;
        let options = SocketOptions::new().use_secure_transport(implicit);
        let socket = net.connect(host, port, options).await?;
        if !implicit {
            socket.starttls(protocol).await?;
        }
        Ok(Conversation::over(socket))
    }

    /// Sends, and if it is better to wait, waits until everything is with the kernel.
    ///
    /// If the server answers before it has read everything, its answer is held back meanwhile. It must not send more than fits
    /// into the connection before it reads again: the two sides take turns.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn send(&self, data: impl Into<Bytes>) -> Result<(), Error> {
        if !self.socket.send(data.into())? {
            self.socket.writable().await?;
        }
        Ok(())
    }

    /// The next line, without its end.
    ///
    /// # Errors
    ///
    /// Those of [`Received::line`]; `NetworkInterruptError` if the server leaves.
    pub async fn line(&mut self, longest: usize) -> Result<String, Error> {
        loop {
            match self.received.line(longest)? {
                Some(line) => return Ok(line),
                None => self.more().await?,
            }
        }
    }

    /// The next `len` bytes, handed over as they arrive.
    ///
    /// # Errors
    ///
    /// Those of the socket; `NetworkInterruptError` if the server leaves.
    pub async fn exactly(
        &mut self,
        len: u64,
        take: &mut (dyn FnMut(Bytes) + Send),
    ) -> Result<(), Error> {
        let mut left = len;
        while left > 0 {
            match self.received.part(left) {
                Some(part) => {
                    left -= part.len() as u64;
                    take(part);
                }
                None => self.more().await?,
            }
        }
        Ok(())
    }

    async fn more(&mut self) -> Result<(), Error> {
        let data = next_data(&*self.socket).await?.ok_or_else(left)?;
        self.received.push(data);
        Ok(())
    }

    /// Aborts: the server sees a reset, and does not take a part for the whole.
    pub fn abort(&self, why: Error) {
        self.socket.abort(Some(why));
    }

    /// Closes: returns when everything sent has left, and the connection is closed.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if there was one.
    pub async fn close(self) -> Result<(), Error> {
        self.socket.close();
        self.socket.closed().await.map(drop)
    }
}
