//! `cargo xtask conformance`: the kit against our implementations, each in every way of running it.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use smol::Executor;
use tcpsocket_conformance::{Runner, Setup, Started, Subject};
use tcpsocket_smol::{Loop, Smol};

/// Passes its arguments on to the kit's runner; `--help` lists them.
pub(crate) fn run(args: &[String]) -> ExitCode {
    Runner::new(vec![
        Box::new(OnSmol),
        Box::new(OnOurLoop),
        Box::new(OnSpawner),
    ])
    .prefix(["conformance"])
    .command("cargo xtask conformance")
    .expectations(crate::workspace_root().join("conformance/expectations"))
    .run(args)
}

/// No spawner: every send is written through.
struct OnSmol;

impl Subject for OnSmol {
    fn name(&self) -> &str {
        "smol"
    }

    fn start(&self, _setup: Setup) -> Started {
        Started::new(Arc::new(Smol::new()), smol::block_on)
    }
}

/// Our own loop on mio.
struct OnOurLoop;

impl Subject for OnOurLoop {
    fn name(&self) -> &str {
        "smol-loop"
    }

    fn start(&self, _setup: Setup) -> Started {
        let event_loop = Loop::new().expect("the system has a poller");
        let provider = Smol::on(&event_loop);
        Started::new(Arc::new(provider), move |case| event_loop.block_on(case))
    }
}

/// Tasks on a foreign executor with two threads.
struct OnSpawner;

impl Subject for OnSpawner {
    fn name(&self) -> &str {
        "smol-spawner"
    }

    fn start(&self, _setup: Setup) -> Started {
        let executor = Arc::new(Executor::new());
        for _ in 0..2 {
            let executor = executor.clone();
            thread::spawn(move || smol::block_on(executor.run(smol::future::pending::<()>())));
        }
        let spawner = executor.clone();
        let provider = Smol::with_spawner(move |task| spawner.spawn(task).detach());
        Started::new(Arc::new(provider), move |case| {
            smol::block_on(executor.spawn(case));
        })
    }
}
