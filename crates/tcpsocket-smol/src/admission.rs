//! Asking the gates of a request (GATE-1, GATE-2), and questions that go on behind the call that asked them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tcpsocket::{Control, Error, ErrorName, Gate, Host, Meter, OpenRequest};

use crate::{foreign, sys};

/// The address that the host is, or `None` for a name.
pub(crate) fn literal(request: &OpenRequest) -> Option<Result<SocketAddr, NoInterface>> {
    let host = request.host();
    let (ip, port) = (host.literal()?, request.port());
    Some(match (ip, host.zone()) {
        (IpAddr::V6(ip), Some(zone)) => match sys::interface(zone) {
            Some(scope) => Ok(SocketAddrV6::new(ip, port, 0, scope).into()),
            None => Err(NoInterface(SocketAddr::new(ip.into(), port))),
        },
        (ip, _) => Ok(SocketAddr::new(ip, port)),
    })
}

/// The zone of a literal is none of this machine's. The gates are asked all the same, about the address without it: a program that
/// may not go there is not told which interfaces there are (NAME-13).
#[derive(Debug)]
pub(crate) struct NoInterface(SocketAddr);

impl NoInterface {
    /// Never admits.
    pub(crate) async fn admit<T>(self, gates: &[Arc<dyn Gate>], host: &Host) -> Result<T, Error> {
        connect(gates, host, vec![self.0]).await?;
        Err(Error::new(
            ErrorName::ConnectionRefused,
            format!("cannot connect to {host}: this machine has no such network interface"),
        ))
    }
}

/// Asks every gate for the name.
pub(crate) async fn name(gates: &[Arc<dyn Gate>], host: &Host, port: u16) -> Result<(), Error> {
    for gate in gates {
        foreign::gate(async { gate.name(host, port).await }, "a name").await?;
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
        let answer = foreign::gate(async { gate.connect(host, &all).await }, "addresses");
        let allowed = answer.await?;
        admitted.retain(|address| allowed.contains(address));
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
        foreign::gate(async { gate.bind(at).await }, "a bind").await?;
    }
    Ok(())
}

/// Asks every gate whether a peer may be accepted.
pub(crate) async fn accept(
    gates: Arc<[Arc<dyn Gate>]>,
    local: SocketAddr,
    peer: SocketAddr,
) -> Result<(), Error> {
    for gate in &*gates {
        foreign::gate(async { gate.accept(local, peer).await }, "a peer").await?;
    }
    Ok(())
}

/// Shows the control to every gate; the meters that they return (GATE-10).
pub(crate) fn watch(
    gates: &[Arc<dyn Gate>],
    control: &Weak<dyn Control>,
) -> Result<Vec<Arc<dyn Meter>>, Error> {
    let watch = |gate: &Arc<dyn Gate>| {
        foreign::call(|| gate.watch(control.clone())).map_err(|panic| {
            foreign::forget(panic);
            foreign::gate_panicked("a socket to watch")
        })
    };
    gates.iter().map(watch).collect()
}

/// The future of a question.
pub(crate) type Question<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A question that a task polls, and that anybody may give up. No lock is held while foreign code runs.
pub(crate) struct Asking<T>(Mutex<Slot<T>>);

struct Slot<T> {
    /// `None` while it is being polled, and in the end.
    question: Option<Question<T>>,
    task: Option<Waker>,
    over: bool,
}

impl<T> Asking<T> {
    pub(crate) fn new(question: Question<T>) -> Asking<T> {
        Asking(Mutex::new(Slot {
            question: Some(question),
            task: None,
            over: false,
        }))
    }

    /// The answer, or `None` once the question was given up.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, Error>>> {
        let task = cx.waker().clone();
        let (question, former) = {
            let mut slot = self.0.lock();
            match slot.over {
                true => (None, Some(task)),
                false => (slot.question.take(), slot.task.replace(task)),
            }
        };
        drop(former);
        let Some(mut question) = question else {
            return Poll::Ready(None);
        };
        // What panics here is the drop of a future that has answered: gates and resolvers are contained by themselves.
        let answer = foreign::call(|| question.as_mut().poll(cx)).unwrap_or_else(|panic| {
            foreign::forget(panic);
            Poll::Ready(Err(foreign::gate_panicked("a question")))
        });
        let mut slot = self.0.lock();
        if answer.is_pending() && !slot.over {
            slot.question = Some(question);
            return Poll::Pending;
        }
        let given_up = std::mem::replace(&mut slot.over, true);
        let task = slot.task.take();
        drop(slot);
        foreign::contain(|| drop(task));
        foreign::contain(|| drop(question));
        match answer {
            Poll::Ready(answer) if !given_up => Poll::Ready(Some(answer)),
            _ => Poll::Ready(None),
        }
    }

    /// Nobody wants to know any more (GATE-6).
    pub(crate) fn give_up(&self) {
        let (question, task) = {
            let mut slot = self.0.lock();
            slot.over = true;
            (slot.question.take(), slot.task.take())
        };
        foreign::contain(|| drop(question));
        if let Some(task) = task {
            foreign::contain(|| task.wake());
        }
    }
}
