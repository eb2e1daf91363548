//! The example clients, and what tests them, unchanged: they were written against the interface, and here is another provider.
//!
//! `examples/starttls-mail` is not among them, since there is no TLS here.

#[path = "../../../examples/clients/tests/clients/scripts/mod.rs"]
mod clients_scripts;
#[path = "../../../examples/echo-client/tests/echo/scripts.rs"]
mod echo_scripts;

use async_io::Timer;
use futures_lite::future::{block_on, or};
use tcpsocket::SocketProvider;
use third_party::ThirdParty;

/// Runs a client, within the deadline, and waits until all it sent has left.
fn run<T>(client: impl AsyncFnOnce(&dyn SocketProvider) -> T) -> T {
    let net = ThirdParty::new();
    block_on(or(
        async {
            let outcome = client(&net).await;
            net.idle().await;
            outcome
        },
        async {
            Timer::after(clients_scripts::DEADLINE.max(echo_scripts::DEADLINE)).await;
            panic!("the client did not finish in time")
        },
    ))
}
