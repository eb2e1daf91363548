//! The platform's resolver: `getaddrinfo` by way of `std`, on a thread for each lookup.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use tcpsocket::{Error, ErrorName, Host, Resolver, async_trait};

use crate::lock;

/// A lookup cannot be interrupted: one that is given up leaves its thread behind until the platform has answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Platform;

#[derive(Default)]
struct Slot {
    answer: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

#[async_trait]
impl Resolver for Platform {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        if is_localhost(name.as_str()) {
            let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|ip: IpAddr| SocketAddr::new(ip, port)).into());
        }
        let slot = Arc::<Mutex<Slot>>::default();
        let (theirs, question) = (slot.clone(), name.lookup_name().into_owned());
        let asking = move || {
            let found = (question, port).to_socket_addrs();
            let waker = {
                let mut slot = lock(&theirs);
                slot.answer = Some(found.map(Iterator::collect));
                slot.waker.take()
            };
            waker.into_iter().for_each(Waker::wake);
        };
        thread::Builder::new()
            .name(format!("lookup {name}"))
            .spawn(asking)
            .map_err(|it| Error::with_source(ErrorName::Network, "no thread for a lookup", it))?;
        let answer = poll_fn(|cx| {
            let waker = cx.waker().clone();
            let _old;
            let mut slot = lock(&slot);
            if let Some(answer) = slot.answer.take() {
                return Poll::Ready(answer);
            }
            _old = slot.waker.replace(waker);
            drop(slot);
            Poll::Pending
        });
        answer.await.map_err(|it| explain(name, it))
    }
}

/// Names that are this machine, whatever anybody says (NAME-9).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

/// `std` drops the code of a lookup that failed, and keeps its text.
fn explain(name: &Host, it: io::Error) -> Error {
    let passing = it.to_string().contains("Temporary failure");
    match passing {
        true => Error::with_source(ErrorName::Network, format!("no answer about {name}"), it),
        false => Error::with_source(ErrorName::DomainNotFound, format!("{name} is unknown"), it),
    }
}
