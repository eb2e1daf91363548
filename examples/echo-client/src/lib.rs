//! A client for line-based services, as a protocol author writes one. The page below is the README.
#![doc = include_str!("../README.md")]

mod lines;

use std::time::{Duration, Instant};

use tcpsocket::{
    BinaryType, Error, ErrorName, SocketOptions, SocketProvider, SocketProviderExt, TcpSocketExt,
};

pub use crate::lines::{LONGEST, Lines};

/// A connection to a service that answers each line with the same line, as the echo service of RFC 862 does.
#[derive(Debug)]
pub struct EchoClient {
    lines: Lines,
}

impl EchoClient {
    /// Connects.
    ///
    /// Cancel-safe: dropping the future gives the attempt up.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](SocketProviderExt::connect); `NotAllowedError` among them, if whoever made `net` has a policy.
    pub async fn connect(
        net: &dyn SocketProvider,
        host: &str,
        port: u16,
    ) -> Result<EchoClient, Error> {
        let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
        let socket = net.connect(host, port, options).await?;
        Ok(EchoClient {
            lines: Lines::new(socket),
        })
    }

    /// Sends a line, waits for the answer, and says how long that took.
    ///
    /// Not cancel-safe: an answer that nobody waited for would be taken for that of the next line.
    ///
    /// # Errors
    ///
    /// `NetworkInterruptError` if the service left, `NetworkError` if it answered something else, `TypeError` for a line that is
    /// not one, and those of the socket.
    pub async fn round_trip(&mut self, line: &str) -> Result<Duration, Error> {
        let sent = Instant::now();
        self.lines.send(line).await?;
        match self.lines.next().await? {
            Some(answer) if answer == line => Ok(sent.elapsed()),
            Some(answer) => Err(Error::new(
                ErrorName::Network,
                format!("the service answered {answer:?} to {line:?}: it is no echo service"),
            )),
            None => Err(Error::new(
                ErrorName::NetworkInterrupt,
                format!("the service left without an answer to {line:?}"),
            )),
        }
    }

    /// Says goodbye: returns when everything that was sent is on its way and the connection is closed.
    ///
    /// # Errors
    ///
    /// The error that ended the socket, if there was one.
    pub async fn close(self) -> Result<(), Error> {
        let socket = self.lines.into_socket();
        socket.close();
        socket.closed().await.map(drop)
    }
}

/// Connects, sends `count` lines one after the other, and returns how long each took.
///
/// # Errors
///
/// Those of [`EchoClient`].
///
/// ```
/// use tcpsocket::{Error, SocketProvider};
///
/// /// Any provider will do: the one on smol, one of your own, or either behind a policy.
/// async fn report(net: &dyn SocketProvider) -> Result<(), Error> {
///     for took in echo_client::ping(net, "echo.example.org", 7, 3).await? {
///         println!("{took:?}");
///     }
///     Ok(())
/// }
/// ```
pub async fn ping(
    net: &dyn SocketProvider,
    host: &str,
    port: u16,
    count: usize,
) -> Result<Vec<Duration>, Error> {
    let mut client = EchoClient::connect(net, host, port).await?;
    let mut times = Vec::with_capacity(count);
    for number in 1..=count {
        times.push(client.round_trip(&format!("ping {number}")).await?);
    }
    client.close().await?;
    Ok(times)
}
