//! Where the sockets of the command come from.

use std::io;
use std::sync::Arc;

use tcpsocket::SocketProvider;
use tcpsocket_smol::{Loop, Smol};
use tcpsocket_tls::Client;

use crate::exit::Failure;

/// Runs `story` on a loop of our own, with sockets from it, and then waits until everything that it sent has left.
pub(crate) fn run<T>(story: impl AsyncFnOnce(Arc<dyn SocketProvider>) -> T) -> Result<T, Failure> {
    run_with(Client::default(), story)
}

/// The same with TLS by this client.
pub(crate) fn run_with<T>(
    client: Client,
    story: impl AsyncFnOnce(Arc<dyn SocketProvider>) -> T,
) -> Result<T, Failure> {
    let own_loop = Loop::new().map_err(cannot_start)?;
    let net = Smol::on(&own_loop).with_tls(client);
    Ok(own_loop.block_on(async {
        let outcome = story(Arc::new(net.clone())).await;
        net.idle().await;
        outcome
    }))
}

fn cannot_start(error: io::Error) -> Failure {
    Failure::Local("cannot start an event loop", error)
}
