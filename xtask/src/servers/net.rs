//! The example clients, on each way of running the sockets.

use std::fmt;
use std::time::Duration;

use clients::http::Http;
use smol::Timer;
use smol::future::or;
use tcpsocket::{Error, ErrorName, SocketProvider};
use tcpsocket_smol::{Loop, Smol};
use tcpsocket_tls::Client;

/// The provider, and its way of running.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Loop,
    Plain,
}

impl Way {
    pub(super) const ALL: [Way; 2] = [Way::Loop, Way::Plain];

    /// Runs a client with this trust, within the limit, and waits until everything sent has left.
    pub(super) fn run<T>(
        self,
        believes: &Client,
        limit: Duration,
        client: impl AsyncFnOnce(&dyn SocketProvider) -> Result<T, Error>,
    ) -> Result<T, String> {
        match self {
            Way::Loop => {
                let event_loop = Loop::new().map_err(|it| format!("no loop: {it}"))?;
                let net = Smol::on(&event_loop).with_tls(believes.clone());
                event_loop.block_on(driven(&net, limit, client))
            }
            Way::Plain => {
                let net = Smol::new().with_tls(believes.clone());
                smol::block_on(driven(&net, limit, client))
            }
        }
        .map_err(|it| it.to_string())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Loop => "on our loop",
            Way::Plain => "without a loop",
        })
    }
}

async fn driven<T>(
    net: &dyn SocketProvider,
    limit: Duration,
    client: impl AsyncFnOnce(&dyn SocketProvider) -> Result<T, Error>,
) -> Result<T, Error> {
    let late = async {
        Timer::after(limit).await;
        let message = format!("no end within {limit:?}");
        Err(Error::new(ErrorName::NetworkTimeout, message))
    };
    let all = async {
        let outcome = client(net).await;
        net.idle().await;
        outcome
    };
    or(all, late).await
}

/// Runs the user of an HTTP connection, beside its driver.
pub(super) async fn with_http<T>(
    net: &dyn SocketProvider,
    port: u16,
    tls: bool,
    client: impl AsyncFnOnce(&mut Http) -> Result<T, Error>,
) -> Result<T, Error> {
    let (mut http, driver) = Http::connect(net, "127.0.0.1", port, tls).await?;
    let driven = async {
        driver.await;
        std::future::pending().await
    };
    or(client(&mut http), driven).await
}

/// An error of a check inside a client.
pub(super) fn wrong(what: impl Into<String>) -> Error {
    Error::new(ErrorName::Network, what)
}
