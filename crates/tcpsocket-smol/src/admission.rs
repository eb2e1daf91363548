//! Asking the gates of a request (GATE-1, GATE-2).

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tcpsocket::{Error, ErrorName, Gate, Host};

/// What was asked of gates and resolver, on its way: the addresses that may be dialled, and the time that is left for it.
pub(crate) type Admission =
    Pin<Box<dyn Future<Output = Result<(Vec<SocketAddr>, Duration), Error>> + Send>>;

/// Asks every gate for the name.
pub(crate) async fn name(gates: &[Arc<dyn Gate>], host: &Host, port: u16) -> Result<(), Error> {
    for gate in gates {
        gate.name(host, port).await?;
    }
    Ok(())
}

/// Shows `all` to every gate; what all of them returned is admitted.
pub(crate) async fn connect(
    gates: &[Arc<dyn Gate>],
    host: &Host,
    all: Vec<SocketAddr>,
) -> Result<Vec<SocketAddr>, Error> {
    let mut admitted = all.clone();
    for gate in gates {
        let allowed = gate.connect(host, &all).await?;
        admitted.retain(|it| allowed.contains(it));
    }
    match admitted.is_empty() {
        true => Err(Error::new(
            ErrorName::NotAllowed,
            format!("no address of {host} may be dialled"),
        )),
        false => Ok(admitted),
    }
}

/// Asks every gate whether a server may be bound.
pub(crate) async fn bind(gates: &[Arc<dyn Gate>], at: SocketAddr) -> Result<(), Error> {
    for gate in gates {
        gate.bind(at).await?;
    }
    Ok(())
}

/// Asks every gate whether a peer may be accepted.
pub(crate) async fn accept(
    gates: Arc<[Arc<dyn Gate>]>,
    local: SocketAddr,
    peer: SocketAddr,
) -> Result<(), Error> {
    for gate in gates.iter() {
        gate.accept(local, peer).await?;
    }
    Ok(())
}
