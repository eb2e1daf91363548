//! What the caller of a socket holds.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mio::net::TcpStream;
use tcpsocket::{
    BinaryType, Bytes, Error, ErrorName, Event, Host, OpenRequest, ReadyState, Security, TcpSocket,
};
use tcpsocket_core::{Connector, Machine};

use crate::driver::{Driver, Watched};
use crate::inner::{Inner, Link};
use crate::lock;
use crate::provider::not_offered;
use crate::terms::Terms;

/// The driver holds the inside, never this. So its drop is the drop of the last handle.
struct Handle(Arc<Inner>);

/// Opens a socket.
pub(crate) fn open(
    driver: &Arc<Driver>,
    terms: Terms,
    request: &OpenRequest,
) -> Result<Arc<dyn TcpSocket>, Error> {
    let to = address(request.host(), request.port())?;
    let named = (request.host().given().to_owned(), request.port());
    let connector = Connector::new([to], request.options().connect_timeout, Instant::now());
    let machine = Machine::connecting(terms.settings);
    let link = Link::Dialing(connector, None);
    let inner = Inner::new(driver, driver.new_token(), named, terms, machine, link);
    inner.locked(|state| inner.drive(state));
    Ok(Arc::new(Handle(inner)))
}

/// The address that the host is. Names are not offered, so it is one.
fn address(host: &Host, port: u16) -> Result<SocketAddr, Error> {
    match (host.literal(), host.zone()) {
        (Some(ip), None) => Ok(SocketAddr::new(ip, port)),
        (Some(IpAddr::V6(ip)), Some(zone)) => {
            let number = zone.parse().map_err(|_| {
                let message = format!("{host}: give the network interface by its number");
                Error::new(ErrorName::InvalidAccess, message)
            })?;
            Ok(SocketAddrV6::new(ip, port, 0, number).into())
        }
        _ => Err(not_offered("names")),
    }
}

/// A socket around a connection that was accepted: open from birth.
pub(crate) fn accepted(
    driver: &Arc<Driver>,
    terms: Terms,
    stream: TcpStream,
    peer: SocketAddr,
) -> io::Result<Arc<dyn TcpSocket>> {
    terms.apply(&stream)?;
    let token = driver.new_token();
    let named = (Host::from_address(peer).as_str().to_owned(), peer.port());
    let machine = Machine::accepted(terms.settings);
    let link = Link::Up(Watched::new(driver, token, stream)?);
    let inner = Inner::new(driver, token, named, terms, machine, link);
    Ok(Arc::new(Handle(inner)))
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TinySocket")
            .field("host", &self.0.host)
            .field("port", &self.0.port)
            .finish_non_exhaustive()
    }
}

#[deny(clippy::missing_trait_methods)]
impl TcpSocket for Handle {
    fn host(&self) -> &str {
        &self.0.host
    }

    fn port(&self) -> u16 {
        self.0.port
    }

    fn ssl(&self) -> bool {
        false
    }

    fn security(&self) -> Security {
        Security::Plain
    }

    fn buffered_amount(&self) -> u64 {
        lock(&self.0.state).machine.buffered_amount()
    }

    fn binary_type(&self) -> BinaryType {
        self.0.terms.settings.binary_type
    }

    fn ready_state(&self) -> ReadyState {
        lock(&self.0.state).machine.ready_state()
    }

    fn send(&self, data: Bytes) -> Result<bool, Error> {
        self.0.locked(|state| {
            let answer = state.machine.send(data)?;
            self.0.drive(state);
            Ok(answer)
        })
    }

    fn suspend(&self) {
        if self.0.terms.suspend {
            self.0.locked(|state| state.machine.suspend());
        }
    }

    fn resume(&self) -> Result<(), Error> {
        if !self.0.terms.suspend {
            return Err(not_offered("suspend"));
        }
        let task = self.0.locked(|state| {
            let flows = state.machine.resume()?;
            Ok(if flows { state.parked() } else { None })
        })?;
        if let Some(task) = task {
            task.wake();
        }
        Ok(())
    }

    fn upgrade_to_secure(&self) -> Result<(), Error> {
        Err(not_offered("upgrade"))
    }

    fn close(&self) {
        self.0.locked(|state| {
            state.machine.close(Instant::now());
            self.0.drive(state);
        });
    }

    fn abort(&self, why: Option<Error>) {
        self.0.locked(|state| {
            state.machine.abort(why, Instant::now());
            self.0.drive(state);
        });
    }

    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll_event(cx.waker().clone())
    }

    fn cancel_poll(&self, waker: &Waker) {
        let _forgotten = self.0.locked(|state| {
            let forgotten = state.task.take_if(|task| task.will_wake(waker));
            // The wait of another task goes on.
            if state.task.is_none() {
                state.machine.begin_turn();
            }
            forgotten
        });
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _forgotten = self.0.locked(|state| {
            state.machine.abandon(Instant::now());
            self.0.drive(state);
            state.task.take()
        });
    }
}
