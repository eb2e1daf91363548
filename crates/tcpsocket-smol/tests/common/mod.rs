//! Ways of running a test body, each with a deadline.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_executor::Executor;
use futures_lite::future;
use tcpsocket_smol::{Loop, Smol};

pub(crate) type Body<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// How a body is run, and by which of the three ways the provider runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// `Loop::block_on` and `Smol::on`.
    OurLoop,
    /// A provider on our loop, polled elsewhere: the loop's own thread drives.
    OurLoopElsewhere,
    /// `smol::block_on`.
    SmolBlockOn { spawner: bool },
    /// `smol::spawn`, smol's global executor.
    SmolSpawn { spawner: bool },
    /// `futures_lite::future::block_on`, which knows no reactor.
    FuturesLite { spawner: bool },
    /// An executor that four threads run.
    FourThreads { spawner: bool },
}

pub(crate) const WAYS: &[Way] = &[
    Way::OurLoop,
    Way::OurLoopElsewhere,
    Way::SmolBlockOn { spawner: false },
    Way::SmolBlockOn { spawner: true },
    Way::SmolSpawn { spawner: false },
    Way::SmolSpawn { spawner: true },
    Way::FuturesLite { spawner: false },
    Way::FuturesLite { spawner: true },
    Way::FourThreads { spawner: false },
    Way::FourThreads { spawner: true },
];

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the body in this way; panics if it takes longer than the deadline.
pub(crate) fn run(way: Way, body: impl FnOnce(Smol) -> Body<'static>) {
    let net = |spawner: bool| match spawner {
        true => Smol::with_spawner(|task| smol::spawn(task).detach()),
        false => Smol::new(),
    };
    match way {
        Way::OurLoop => {
            let event_loop = Loop::new().unwrap();
            let body = body(Smol::on(&event_loop));
            event_loop.block_on(within(way, body));
        }
        Way::OurLoopElsewhere => {
            let event_loop = Loop::new().unwrap();
            future::block_on(within(way, body(Smol::on(&event_loop))));
        }
        Way::SmolBlockOn { spawner } => smol::block_on(within(way, body(net(spawner)))),
        Way::SmolSpawn { spawner } => {
            future::block_on(smol::spawn(within(way, body(net(spawner)))));
        }
        Way::FuturesLite { spawner } => future::block_on(within(way, body(net(spawner)))),
        Way::FourThreads { spawner } => {
            let executor = Arc::new(Executor::new());
            let net = match spawner {
                true => {
                    let executor = executor.clone();
                    Smol::with_spawner(move |task| executor.spawn(task).detach())
                }
                false => Smol::new(),
            };
            let task = executor.spawn(within(way, body(net)));
            on_threads(4, &executor, task);
        }
    }
}

/// Runs the executor on so many threads until the future is done.
pub(crate) fn on_threads<T: Send>(
    count: usize,
    executor: &Executor<'_>,
    future: impl Future<Output = T> + Send,
) -> T {
    thread::scope(|scope| {
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        for _ in 0..count {
            let stopped = stopped.clone();
            scope.spawn(move || {
                // Ends with an error, when the sender is gone.
                let _ = future::block_on(executor.run(stopped.recv()));
            });
        }
        let value = future::block_on(future);
        drop(stop);
        value
    })
}

/// The body, or a panic at the deadline.
pub(crate) async fn within(way: Way, body: Body<'static>) {
    let late = async {
        smol::Timer::after(DEADLINE).await;
        panic!("{way:?}: not done within {DEADLINE:?}");
    };
    future::or(body, late).await;
}
