//! The subject under judgement: an implementation, and the runtime that it runs on.

use std::fmt;
use std::sync::Arc;

use tcpsocket::{Resolver, SocketProvider};

use crate::{App, BoxFuture, Restricted, StdWorld, World};

/// An implementation under judgement.
///
/// ```no_run
/// use std::sync::Arc;
/// use tcpsocket_conformance::{Setup, Started, Subject};
/// # use tcpsocket::{async_trait, *};
/// # #[derive(Debug)] struct MyProvider;
/// # impl MyProvider { fn new() -> MyProvider { MyProvider } }
/// # #[async_trait] impl SocketProvider for MyProvider {
/// #     fn capabilities(&self) -> Capabilities { Capabilities::NONE }
/// #     fn open_with(&self, _: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> { unreachable!() }
/// #     async fn listen_with(&self, _: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> { unreachable!() }
/// #     async fn idle(&self) {}
/// # }
/// # mod my_runtime { pub fn block_on(_: impl Future<Output = ()>) {} }
///
/// struct Mine;
///
/// impl Subject for Mine {
///     fn name(&self) -> &str {
///         "mine"
///     }
///
///     fn start(&self, _setup: Setup) -> Started {
///         Started::new(Arc::new(MyProvider::new()), |case| my_runtime::block_on(case))
///     }
/// }
///
/// tcpsocket_conformance::main!(Mine);
/// ```
pub trait Subject: Send + Sync {
    /// Its name in reports and in `expectations/<name>.toml`.
    fn name(&self) -> &str;

    /// A fresh provider, and its runtime. Called once in each process.
    fn start(&self, setup: Setup) -> Started;

    /// A guard around `provider` for an app: the means of the implementation, or of its host, to restrict half-trusted code.
    /// For area PERM. `None`, the default, if there is none.
    ///
    /// The provider comes from [`start`](Subject::start), or is the kit's wrapper around it, or another guard. A case may
    /// ask for any number of guards.
    fn restricted(&self, provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
        let _ = (provider, app);
        None
    }

    /// The world of the peers: this machine's loopback, unless the implementation brings a network of its own.
    fn world(&self) -> Arc<dyn World> {
        StdWorld::new()
    }
}

/// The settings for a provider.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Setup {
    /// The trusted certificates, in DER. If empty, the platform's.
    pub roots: Vec<tcpsocket::Bytes>,
    /// The resolver to use instead of the platform's.
    pub resolver: Option<Arc<dyn Resolver>>,
}

/// A running provider.
pub struct Started {
    pub(crate) provider: Arc<dyn SocketProvider>,
    block_on: Box<dyn Fn(BoxFuture<()>)>,
    pub(crate) tasks: Option<Arc<dyn Fn() -> usize + Send + Sync>>,
}

impl Started {
    /// `block_on` runs a future to its end on the provider's runtime, on this thread or another.
    pub fn new(
        provider: Arc<dyn SocketProvider>,
        block_on: impl Fn(BoxFuture<()>) + 'static,
    ) -> Started {
        Started {
            provider,
            block_on: Box::new(block_on),
            tasks: None,
        }
    }

    /// `count` returns the provider's current number of tasks, threads or the like. With it, a case also fails if there are
    /// more afterwards than before.
    pub fn counting(mut self, count: impl Fn() -> usize + Send + Sync + 'static) -> Started {
        self.tasks = Some(Arc::new(count));
        self
    }

    pub(crate) fn block_on(&self, future: BoxFuture<()>) {
        (self.block_on)(future);
    }
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}
