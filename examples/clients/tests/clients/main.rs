//! The clients on SMOL. The same scripts are run on threads in `conformance/third-party`; against real servers the clients run
//! in `cargo xtask servers`, by TLS.

mod scripts;

use async_io::Timer;
use futures_lite::future::or;
use tcpsocket::SocketProvider;
use tcpsocket_smol::{Loop, Smol};

use crate::scripts::DEADLINE;

/// Runs a client, within the deadline, and waits until all it sent has left.
fn run<T>(client: impl AsyncFnOnce(&dyn SocketProvider) -> T) -> T {
    let own_loop = Loop::new().unwrap();
    let net = Smol::on(&own_loop);
    own_loop.block_on(or(
        async {
            let outcome = client(&net).await;
            net.idle().await;
            outcome
        },
        async {
            Timer::after(DEADLINE).await;
            panic!("the client did not finish in time")
        },
    ))
}
