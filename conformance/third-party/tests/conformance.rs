//! All that it takes to be judged: `cargo test`.

use std::sync::Arc;

use tcpsocket_conformance::{Setup, Started, Subject};
use third_party::ThirdParty;

struct OnThreads;

impl Subject for OnThreads {
    fn name(&self) -> &str {
        "third-party"
    }

    fn start(&self, setup: Setup) -> Started {
        let provider = match setup.resolver {
            Some(resolver) => ThirdParty::with_resolver(resolver),
            None => ThirdParty::new(),
        };
        Started::new(Arc::new(provider), futures_lite::future::block_on)
    }
}

tcpsocket_conformance::main!(OnThreads);
