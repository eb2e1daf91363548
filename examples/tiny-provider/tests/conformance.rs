//! The kit's verdict on each step of the guide.

use std::sync::Arc;

use futures_lite::future::block_on;
use tcpsocket::Capabilities;
use tcpsocket_conformance::{Setup, Started, Subject};
use tiny_provider::{Tiny, options, servers, sockets};

/// A step, by its name and what it offers.
struct Step(&'static str, fn() -> Capabilities);

impl Subject for Step {
    fn name(&self) -> &str {
        self.0
    }

    fn start(&self, _setup: Setup) -> Started {
        let net = Tiny::new((self.1)()).expect("the system has a poller and a thread");
        Started::new(Arc::new(net), block_on)
    }
}

tcpsocket_conformance::main!(
    Step("sockets", sockets),
    Step("options", options),
    Step("servers", servers),
);
