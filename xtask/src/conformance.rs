//! `cargo xtask conformance`: the kit against our implementations, each in every way of running it.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use smol::Executor;
use tcpsocket::SocketProvider;
use tcpsocket_conformance::{App, Restricted, Runner, Setup, Started, Subject};
use tcpsocket_smol::{Loop, Smol};
use tcpsocket_tls::rustls::pki_types::CertificateDer;
use tcpsocket_tls::{Client, Trust};

use crate::guards;

/// Forwards its arguments to the kit's runner; `--help` lists them.
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

/// Trusts the world's roots, or the platform's if it has none.
fn believer(setup: &Setup) -> Client {
    let roots = setup.roots.iter();
    let roots = roots.map(|it| CertificateDer::from(it.to_vec()));
    Client::new(match setup.roots.is_empty() {
        true => Trust::platform(),
        false => Trust::nobody().and(roots).expect("roots of the kit"),
    })
}

/// No spawner: every send is written through.
struct OnSmol;

impl Subject for OnSmol {
    fn name(&self) -> &str {
        "smol"
    }

    fn start(&self, setup: Setup) -> Started {
        Started::new(
            Arc::new(Smol::new().with_tls(believer(&setup))),
            smol::block_on,
        )
    }

    fn restricted(&self, provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
        guards::restricted(provider, app)
    }
}

/// Our own loop on mio.
struct OnOurLoop;

impl Subject for OnOurLoop {
    fn name(&self) -> &str {
        "smol-loop"
    }

    fn start(&self, setup: Setup) -> Started {
        let event_loop = Loop::new().expect("the system has a poller");
        let provider = Smol::on(&event_loop).with_tls(believer(&setup));
        Started::new(Arc::new(provider), move |case| event_loop.block_on(case))
    }

    fn restricted(&self, provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
        guards::restricted(provider, app)
    }
}

/// Tasks on a foreign executor with two threads.
struct OnSpawner;

impl Subject for OnSpawner {
    fn name(&self) -> &str {
        "smol-spawner"
    }

    fn start(&self, setup: Setup) -> Started {
        let executor = Arc::new(Executor::new());
        for _ in 0..2 {
            let executor = executor.clone();
            thread::spawn(move || smol::block_on(executor.run(smol::future::pending::<()>())));
        }
        let spawner = executor.clone();
        // Each task has one of these.
        let tasks = Arc::new(());
        let count = tasks.clone();
        let provider = Smol::with_spawner(move |task| {
            let one = tasks.clone();
            let task = async move {
                task.await;
                drop(one);
            };
            spawner.spawn(task).detach();
        });
        let run = move |case| smol::block_on(executor.spawn(case));
        // References of the provider's own closure and of this one are no tasks.
        Started::new(Arc::new(provider.with_tls(believer(&setup))), run)
            .counting(move || Arc::strong_count(&count) - 2)
    }

    fn restricted(&self, provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
        guards::restricted(provider, app)
    }
}
