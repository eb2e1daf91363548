//! The clients against scripted peers, on an implementation that is picked here. Against real servers they run in
//! `cargo xtask servers`, by TLS.

mod http;
mod imap;
mod peer;
mod redis;
mod smtp;

use std::time::Duration;

use smol::Timer;
use smol::future::or;
use tcpsocket::{Error, ErrorName, SocketProvider};
use tcpsocket_smol::{Loop, Smol};

/// How long anything here may take.
const DEADLINE: Duration = Duration::from_secs(30);

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

/// The error that it must be, by its name.
#[track_caller]
fn fails<T: std::fmt::Debug>(outcome: Result<T, Error>, name: ErrorName) {
    match outcome {
        Ok(value) => panic!("{name} expected, {value:?} came"),
        Err(error) => assert_eq!(error.name(), name, "{error}"),
    }
}
