//! The provider: what it offers, and where sockets and servers come from.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};

use crate::driver::Driver;
use crate::terms::Terms;
use crate::{server, socket};

/// The first step of the guide: sockets to addresses, and nothing that is optional.
pub fn sockets() -> Capabilities {
    Capabilities::NONE
}

/// The second: what the machine has ready already.
pub fn options() -> Capabilities {
    let mut offers = sockets();
    offers.string_mode = true;
    offers.suspend = true;
    offers.no_delay = true;
    offers.keep_alive = true;
    offers.connect_timeout = true;
    offers.linger = true;
    offers
}

/// The third: servers.
pub fn servers() -> Capabilities {
    let mut offers = options();
    offers.listen = true;
    offers
}

/// An implementation on one thread. Cheap to clone; clones are the same provider.
///
/// ```
/// use tcpsocket::SocketProvider;
/// use tiny_provider::{Tiny, servers};
///
/// let net = Tiny::new(servers())?;
/// assert!(net.capabilities().listen);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tiny {
    driver: Arc<Driver>,
    offers: Capabilities,
}

impl Tiny {
    /// A provider that offers [`sockets`], [`options`] or [`servers`].
    ///
    /// # Errors
    ///
    /// Those of the operating system, when it has no descriptors or threads left.
    pub fn new(offers: Capabilities) -> io::Result<Tiny> {
        Ok(Tiny {
            driver: Driver::start()?,
            offers,
        })
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Tiny {
    fn capabilities(&self) -> Capabilities {
        self.offers
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.offers.missing_for_open(&request) {
            Some(what) => Err(not_offered(what)),
            None => {
                let terms = Terms::of_socket(self.offers, request.options());
                socket::open(&self.driver, terms, &request)
            }
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        match self.offers.missing_for_listen(&request) {
            Some(what) => Err(not_offered(what)),
            None => {
                let terms = Terms::of_server(self.offers, request.options());
                server::listen(&self.driver, terms, &request)
            }
        }
    }

    async fn idle(&self) {
        poll_fn(|cx| match self.driver.is_idle(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

pub(crate) fn not_offered(what: &str) -> Error {
    let message = format!("this provider does not offer {what}");
    Error::new(ErrorName::NotSupported, message)
}
