//! Finding the addresses of a name.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use futures_lite::future;
use smol::lock::Semaphore;
use tcpsocket::{Error, ErrorName, Host, Resolver, canonical_ip};

/// Lookups of the system resolver that run at the same time, in the whole process (OPT-9).
const AT_ONCE: usize = 16;

/// The operating system's resolver: `getaddrinfo` on smol's pool of blocking threads.
///
/// It follows the system's configuration: `/etc/hosts`, and for a name that does not exist as it is, the search list of `resolv.conf`. At most 16 lookups run at the same time; the others wait
/// in line. A lookup that is given up goes on in its thread until the system answers, and nobody waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        static LINE: OnceLock<Arc<Semaphore>> = OnceLock::new();
        let line = LINE.get_or_init(|| Arc::new(Semaphore::new(AT_ONCE)));
        let turn = line.acquire_arc().await;
        let name = name.clone();
        smol::unblock(move || {
            let answer = ask(&name, port);
            drop(turn);
            answer
        })
        .await
    }
}

fn ask(name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let failed = |error: dns_lookup::LookupError| {
        let (called, why) = match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => (
                ErrorName::DomainNotFound,
                "the name is unknown or has no address",
            ),
            // What the resolver says when it cannot reach a server, or the server failed: not that the name is unknown.
            LookupErrorKind::Again => (ErrorName::Network, "the resolver got no answer"),
            _ => (ErrorName::Network, "the resolver failed"),
        };
        Error::with_source(
            called,
            format!("cannot look up {name}: {why}"),
            std::io::Error::from(error),
        )
    };
    let answers = getaddrinfo(Some(name.as_str()), None, Some(hints)).map_err(failed)?;
    let mut addresses = Vec::new();
    for answer in answers.flatten() {
        let mut address = answer.sockaddr;
        address.set_port(port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// One lookup, within `limit`; canonical addresses, and what is left of the limit.
pub(crate) async fn resolve(
    resolver: &dyn Resolver,
    name: &Host,
    port: u16,
    limit: Duration,
) -> Result<(Vec<SocketAddr>, Duration), Error> {
    let begun = Instant::now();
    let late = async {
        smol::Timer::after(limit).await;
        Err(Error::new(
            ErrorName::NetworkTimeout,
            format!("looking up {name} took longer than the connect timeout"),
        ))
    };
    let addresses = future::or(resolver.lookup(name, port), late).await?;
    let mut canonical = Vec::with_capacity(addresses.len());
    for address in addresses {
        if address.port() != port {
            // What the gates have admitted is this port (GATE-18).
            return Err(Error::new(
                ErrorName::Network,
                format!("asked for {name} at port {port}, the resolver answered with {address}"),
            ));
        }
        let address = match canonical_ip(address.ip()) {
            ip if ip == address.ip() => address,
            ip => SocketAddr::new(ip, address.port()),
        };
        if !canonical.contains(&address) {
            canonical.push(address);
        }
    }
    if canonical.is_empty() {
        return Err(Error::new(
            ErrorName::DomainNotFound,
            format!("{name} has no address"),
        ));
    }
    Ok((canonical, limit.saturating_sub(begun.elapsed())))
}
