//! Finding the addresses of a name.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use dns_lookup::{AddrFamily, AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use futures_lite::future::{self, Boxed, FutureExt};
use smol::Timer;
use smol::lock::Semaphore;
use tcpsocket::{Error, ErrorName, Host, Resolver, canonical_address};

use crate::{hosts, order, sys};

/// Lookups of each family that run at the same time, in the whole process (OPT-9).
const AT_ONCE: usize = 16;

/// How long the answer of one family waits for that of the other: RFC 8305's 50 milliseconds (NAME-10).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// The operating system's resolver: `getaddrinfo`, for each family on a thread of its own.
///
/// It follows the system's configuration: `/etc/hosts`, and for a name that does not exist as it is, the search list of `resolv.conf`, unless
/// the name [is absolute](Host::is_absolute). Three things it settles itself:
///
/// - `localhost` and the names below it are this machine, in both families unless `/etc/hosts` names one only (RFC 6761, section 6.3).
/// - A name that `/etc/hosts` has, if `nsswitch.conf` names that source, is looked up nowhere else.
/// - The families are asked apart, and one that has answered waits 50 ms for the other (RFC 8305, section 3). What comes later is ignored, and so
///   is the later answer if it is for another canonical name: a search list may find the families at two hosts. Which family comes first says
///   RFC 6724, with the tables of `gai.conf`.
///
/// At most 16 lookups of each family run at the same time, on 32 threads; the others wait in line. A family whose line is held up does
/// not hold up the other. A lookup that is given up goes on in its threads until the system answers, and nobody waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        let asked = name.clone();
        let known = smol::unblock(move || hosts::known(&asked, port)).await?;
        let (v6, v4) = match known.is_empty() {
            true => both(name, port).await?,
            false => known.into_iter().partition(SocketAddr::is_ipv6),
        };
        match v6.is_empty() || v4.is_empty() {
            true => Ok([v6, v4].concat()),
            false => Ok(smol::unblock(move || order::merge(v6, v4)).await),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V6,
    V4,
}

/// What the system answers for one family.
#[derive(Debug)]
struct Answer {
    /// What the name is an alias for, in lower case; the name itself if it is none.
    canonical: Option<String>,
    addresses: Vec<SocketAddr>,
}

/// Asks for both families at once. The addresses of each: all that this lookup gives, whatever is answered later.
async fn both(name: &Host, port: u16) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Error> {
    let mut asking: [Boxed<Result<Answer, Error>>; 2] =
        [Family::V6, Family::V4].map(|family| ask_in_line(name.clone(), port, family).boxed());
    let mut answers = [None, None];
    let mut first = None;
    let mut delay: Option<Timer> = None;
    poll_fn(|cx| {
        for (at, asked) in asking.iter_mut().enumerate() {
            if answers[at].is_none()
                && let Poll::Ready(answer) = asked.poll(cx)
            {
                if answer.is_ok() {
                    first.get_or_insert(at);
                }
                answers[at] = Some(answer);
            }
        }
        if answers.iter().all(Option::is_some) {
            return Poll::Ready(());
        }
        match first {
            // That there is nothing in one family says nothing about the other.
            None => Poll::Pending,
            Some(_) => {
                let delay = delay.get_or_insert_with(|| Timer::after(RESOLUTION_DELAY));
                Pin::new(delay).poll(cx).map(drop)
            }
        }
    })
    .await;
    choose(answers, first)
}

/// What counts of the answers, of which `first` came first. Fails if none has an address.
fn choose(
    answers: [Option<Result<Answer, Error>>; 2],
    first: Option<usize>,
) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Error> {
    let mut found = [None, None];
    let mut failed: Option<Error> = None;
    for (at, answer) in answers.into_iter().enumerate() {
        match answer {
            Some(Ok(answer)) => found[at] = Some(answer),
            // That nothing could be found out outweighs that there is nothing: the name may exist.
            Some(Err(error)) if error.name() != ErrorName::DomainNotFound => failed = Some(error),
            Some(Err(error)) => failed = failed.or(Some(error)),
            None => {}
        }
    }
    let other = first.map(|it| 1 - it);
    if let [Some(v6), Some(v4)] = &found
        && let (Some(one), Some(two)) = (&v6.canonical, &v4.canonical)
        && one != two
        && let Some(other) = other
    {
        found[other] = None;
    }
    let addresses = |it: Option<Answer>| it.map(|it| it.addresses).unwrap_or_default();
    match (found, failed) {
        ([None, None], Some(error)) => Err(error),
        ([v6, v4], _) => Ok((addresses(v6), addresses(v4))),
    }
}

/// One family's lookup, when its turn has come. A line for each, so that servers which never answer for one family leave the other alone.
async fn ask_in_line(name: Host, port: u16, family: Family) -> Result<Answer, Error> {
    static LINES: [OnceLock<Arc<Semaphore>>; 2] = [OnceLock::new(), OnceLock::new()];
    let line = LINES[family as usize].get_or_init(|| Arc::new(Semaphore::new(AT_ONCE)));
    let turn = line.acquire_arc().await;
    let failed = |cause: &str| {
        Error::new(
            ErrorName::Network,
            format!("cannot look up {name}: {cause}"),
        )
    };
    let (answer, answered) = smol::channel::bounded(1);
    let asked = name.clone();
    let asking = move || {
        let outcome = ask(&asked, port, family);
        drop(turn);
        // Fails if nobody waits any more.
        let _ = answer.try_send(outcome);
    };
    thread::Builder::new()
        .name("lookup".to_owned())
        .spawn(asking)
        .map_err(|cause| failed(&format!("no thread for it: {cause}")))?;
    let unanswered = |_| Err(failed("the resolver failed"));
    answered.recv().await.unwrap_or_else(unanswered)
}

/// Asks the system, on a thread that is there for this alone.
fn ask(name: &Host, port: u16, family: Family) -> Result<Answer, Error> {
    let hints = AddrInfoHints {
        flags: AI_CANONNAME,
        address: match family {
            Family::V6 => AddrFamily::Inet6.into(),
            Family::V4 => AddrFamily::Inet.into(),
        },
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let failed = |error: dns_lookup::LookupError, cause: io::Error| {
        let (called, why) = match error.kind() {
            // The C library takes it for an unknown name that it could open no file and no socket. The error of its last system call is still
            // there, and on a thread that has made none before nothing else has left it.
            LookupErrorKind::NoName | LookupErrorKind::NoData
                if sys::out_of_descriptors(&cause) =>
            {
                let message = format!("cannot look up {name}: {cause}");
                return Error::with_source(ErrorName::Network, message, cause);
            }
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
            io::Error::from(error),
        )
    };
    let answers = getaddrinfo(Some(&name.lookup_name()), None, Some(hints))
        .map_err(|error| failed(error, io::Error::last_os_error()))?;
    let mut found = Answer {
        canonical: None,
        addresses: Vec::new(),
    };
    for answer in answers.flatten() {
        if let Some(canonical) = answer.canonname {
            let plain = canonical.strip_suffix('.').unwrap_or(&canonical);
            found.canonical = Some(plain.to_ascii_lowercase());
        }
        let mut address = answer.sockaddr;
        address.set_port(port);
        if !found.addresses.contains(&address) {
            found.addresses.push(address);
        }
    }
    Ok(found)
}

#[cfg(unix)]
const AI_CANONNAME: i32 = libc::AI_CANONNAME;
#[cfg(not(unix))]
const AI_CANONNAME: i32 = 2;

/// One lookup, within `limit`; canonical addresses, and what is left of the limit.
pub(crate) async fn resolve(
    resolver: &dyn Resolver,
    name: &Host,
    port: u16,
    limit: Duration,
) -> Result<(Vec<SocketAddr>, Duration), Error> {
    let begun = Instant::now();
    let late = async {
        Timer::after(limit).await;
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
        let address = canonical_address(address);
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
