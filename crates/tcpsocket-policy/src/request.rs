//! One request of an app, from its call to the end of what came of it.

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

/// A request that is being served, or was. It is its own gate, and all that came of it asks it.
///
/// It is decided by the least that was granted since it began: what is taken from the app while it is under way stays taken
/// (PERM-23). That goes for the peers of a server as well, since a server that was denied meanwhile should not be there.
pub(crate) struct Request {
    guard: Arc<Guard>,
    began: Moment,
    wants: Wants,
    /// It was given a control, without which nothing could be taken back.
    watched: AtomicBool,
}

enum Wants {
    Open {
        host: Host,
        port: u16,
    },
    Listen {
        port: u16,
        /// Where, as far as a gate was asked about it.
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

    /// The host and the port that the app gave; none if it listens.
    pub(crate) fn target(&self) -> Option<(&str, u16)> {
        match &self.wants {
            Wants::Open { host, port } => Some((host.given(), *port)),
            Wants::Listen { .. } => None,
        }
    }

    /// The call, with the port that an automatic one has become.
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

    /// Decides about the call, and tells the audit.
    pub(crate) fn decide(&self) -> Result<(), Error> {
        self.decide_about(self.ask())
    }

    /// Decides once more about the call, of a server with the port that it has. Only a change of mind is news.
    pub(crate) fn decide_again(&self, bound: Option<u16>) -> Result<(), Error> {
        let ask = bound.map_or_else(|| self.ask(), |port| Ask::Listen { port });
        let (standing, judged) = self.judge(&ask);
        if judged.is_denied() {
            self.guard.record(standing, ask, judged);
            return Err(self.refusal());
        }
        Ok(())
    }

    /// Whether the call is denied now, for those who need not tell.
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

    /// A denial that goes through the provider below, and is known again when it comes back.
    pub(crate) fn refusal(&self) -> Error {
        self.guard.mark(&refusal())
    }

    /// The same of what a gate of the host's has refused: the audit is told at once, whether or not the app will ever look.
    fn refused(&self, asked: Ask, error: &Error) -> Error {
        self.guard.fail(asked.clone(), error);
        self.guard.mark(&told(error.name(), &asked))
    }

    /// Fails if something below the guard has left this gate out of the request (PERM-21).
    pub(crate) fn is_watched(&self) -> Result<(), Error> {
        match self.watched.load(SeqCst) {
            true => Ok(()),
            false => Err(Error::new(
                ErrorName::NotSupported,
                "something below the guard has left its gate out of the request",
            )),
        }
    }

    /// What the app is told of an error of the call, or of the server that came of it.
    pub(crate) fn tell(&self, error: Error) -> Error {
        self.guard.tell(error, || self.ask())
    }

    /// What the app is told of an error of a socket that came of it.
    pub(crate) fn tell_of(&self, socket: &dyn TcpSocket, error: Error) -> Error {
        self.guard.tell(error, || {
            self.accepted(socket).unwrap_or_else(|| self.ask())
        })
    }

    /// That this peer was accepted, if it was.
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

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.watched.store(true, SeqCst);
        Watch::begin(&self.guard, self.ask(), self.began, it)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}
