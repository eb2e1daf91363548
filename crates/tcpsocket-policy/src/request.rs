//! One request of an app, from its call to the end of its sockets.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};

use tcpsocket::{
    Control, Error, ErrorName, Gate, Host, ListenRequest, Meter, OpenRequest, TcpSocket,
    async_trait,
};

use crate::app::Standing;
use crate::decision::Judged;
use crate::failure::{refusal, told};
use crate::grant::Moment;
use crate::guard::Guard;
use crate::watch::Watch;
use crate::{Ask, lock};

/// A request of an app. It is its own gate, and every socket and server it leads to asks it.
///
/// It is decided by the lowest grant since it began: rights taken from the app meanwhile stay taken (PERM-23). That goes for
/// a server's peers as well: a server that was denied meanwhile should not exist.
pub(crate) struct Request {
    guard: Arc<Guard>,
    began: Moment,
    wants: Wants,
    /// Whether `watch` was called. Without a control, nothing could be revoked.
    watched: AtomicBool,
}

enum Wants {
    Open {
        host: Host,
        port: u16,
    },
    Listen {
        port: u16,
        /// The last address in a call of `bind`.
        at: Mutex<Option<SocketAddr>>,
    },
}

impl Request {
    pub(crate) fn open(guard: &Arc<Guard>, request: &OpenRequest) -> Arc<Request> {
        Request::begin(
            guard,
            Wants::Open {
                host: request.host().clone(),
                port: request.port(),
            },
        )
    }

    pub(crate) fn listen(guard: &Arc<Guard>, request: &ListenRequest) -> Arc<Request> {
        Request::begin(
            guard,
            Wants::Listen {
                port: request.port(),
                at: Mutex::default(),
            },
        )
    }

    fn begin(guard: &Arc<Guard>, wants: Wants) -> Arc<Request> {
        Arc::new(Request {
            guard: guard.clone(),
            began: guard.app().grant().now(),
            wants,
            watched: AtomicBool::new(false),
        })
    }

    /// The app's host and port; `None` for a server.
    pub(crate) fn target(&self) -> Option<(&str, u16)> {
        match &self.wants {
            Wants::Open { host, port } => Some((host.given(), *port)),
            Wants::Listen { .. } => None,
        }
    }

    /// The call, with the real port in place of an automatic one once it is known.
    fn ask(&self) -> Ask {
        match &self.wants {
            Wants::Open { host, port } => Ask::Open {
                host: host.clone(),
                port: *port,
            },
            Wants::Listen { port, at } => Ask::Listen {
                port: lock(at).map_or(*port, |at| at.port()),
            },
        }
    }

    /// Decides about the call, and records it in the audit.
    pub(crate) fn decide(&self) -> Result<(), Error> {
        self.decide_about(self.ask())
    }

    /// Decides about the call again, for a server with its bound port. Only a denial is recorded.
    pub(crate) fn decide_again(&self, bound: Option<u16>) -> Result<(), Error> {
        let ask = bound.map_or_else(|| self.ask(), |port| Ask::Listen { port });
        let (standing, judged) = self.judge(&ask);
        if judged.is_denied() {
            self.guard.record(standing, ask, judged);
            return Err(self.refusal());
        }
        Ok(())
    }

    /// Whether the call is denied now; records nothing.
    pub(crate) fn is_denied(&self) -> bool {
        self.judge(&self.ask()).1.is_denied()
    }

    fn decide_about(&self, ask: Ask) -> Result<(), Error> {
        let (standing, judged) = self.judge(&ask);
        self.guard.record(standing, ask, judged);
        match judged.is_denied() {
            true => Err(self.refusal()),
            false => Ok(()),
        }
    }

    fn judge(&self, ask: &Ask) -> (Standing, Judged) {
        let granted = self.guard.app().grant().least_since(self.began);
        self.guard.judge(granted, ask)
    }

    /// A denial for the provider below, marked so that the guard recognises it when it comes back.
    pub(crate) fn refusal(&self) -> Error {
        self.guard.mark(&refusal())
    }

    /// The same for a refusal by one of the host's gates. The audit gets it at once, even if the app never polls.
    fn refused(&self, asked: Ask, error: &Error) -> Error {
        self.guard.fail(asked.clone(), error);
        self.guard.mark(&told(error.name(), &asked))
    }

    /// Fails if a provider below the guard removed this gate from the request (PERM-21).
    pub(crate) fn is_watched(&self) -> Result<(), Error> {
        match self.watched.load(SeqCst) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorName::NotSupported,
                "a provider below the guard removed the guard's gate from the request",
            )),
        }
    }

    /// The app's view of an error of the call or of its server.
    pub(crate) fn tell(&self, error: Error) -> Error {
        self.guard.tell(error, || self.ask())
    }

    /// The app's view of an error of one of the call's sockets.
    pub(crate) fn tell_of(&self, socket: &dyn TcpSocket, error: Error) -> Error {
        self.guard.tell(error, || {
            self.accepted(socket).unwrap_or_else(|| self.ask())
        })
    }

    /// The acceptance of this socket's peer, if it was accepted.
    fn accepted(&self, socket: &dyn TcpSocket) -> Option<Ask> {
        let Wants::Listen { at, .. } = &self.wants else {
            return None;
        };
        let local = (*lock(at))?;
        let address = socket.host().split('%').next()?;
        let peer: IpAddr = address.parse().ok()?;
        Some(Ask::accept(local, SocketAddr::new(peer, socket.port())))
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Gate for Request {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.decide_again(None)?;
        for gate in self.guard.gates() {
            let asked = gate.name(host, port).await;
            asked.map_err(|error| self.refused(self.ask(), &error))?;
        }
        Ok(())
    }

    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        for address in all {
            self.decide_about(Ask::connect(host, *address))?;
        }
        let mut admitted = all.to_vec();
        for gate in self.guard.gates() {
            let asked = gate.connect(host, all).await;
            let by_this = asked.map_err(|error| self.refused(self.ask(), &error))?;
            admitted.retain(|address| by_this.contains(address));
        }
        Ok(admitted)
    }

    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        self.decide_about(Ask::bind(at))?;
        if let Wants::Listen { at: known, .. } = &self.wants {
            *lock(known) = Some(at);
        }
        for gate in self.guard.gates() {
            let asked = gate.bind(at).await;
            asked.map_err(|error| self.refused(Ask::bind(at), &error))?;
        }
        Ok(())
    }

    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        self.decide_about(Ask::accept(local, peer))?;
        for gate in self.guard.gates() {
            let asked = gate.accept(local, peer).await;
            asked.map_err(|error| self.refused(Ask::accept(local, peer), &error))?;
        }
        Ok(())
    }

    fn watch(&self, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.watched.store(true, SeqCst);
        Watch::begin(&self.guard, self.ask(), self.began, control)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
