//! The event loop of the command, and its provider of sockets.

use std::future;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use tcpsocket::SocketProvider;
use tcpsocket_smol::{Loop, Smol};
use tcpsocket_tls::Client;

use crate::exit::Failure;
use crate::say;

/// Runs `story` on a loop of its own, with that loop's sockets, and then waits until everything sent has left.
pub(crate) fn run<T>(story: impl AsyncFnOnce(Arc<dyn SocketProvider>) -> T) -> Result<T, Failure> {
    run_with(Client::default(), false, story)
}

/// The same with TLS by this client. A long wait at the end is reported if it is `traced`, or on a terminal.
pub(crate) fn run_with<T>(
    client: Client,
    traced: bool,
    story: impl AsyncFnOnce(Arc<dyn SocketProvider>) -> T,
) -> Result<T, Failure> {
    let own_loop = Loop::new().map_err(cannot_start)?;
    let net = Smol::on(&own_loop).with_tls(client);
    Ok(own_loop.block_on(async {
        let outcome = story(Arc::new(net.clone())).await;
        or(net.idle(), say_if_it_takes_long(traced)).await;
        outcome
    }))
}

/// After a second: a silent wait looks like a hang.
async fn say_if_it_takes_long(traced: bool) {
    Timer::after(Duration::from_secs(1)).await;
    if traced || io::stderr().is_terminal() {
        say(&"closed; waiting up to 30 seconds for the peer to close");
    }
    future::pending().await
}

fn cannot_start(error: io::Error) -> Failure {
    Failure::Local("cannot start an event loop", error)
}
