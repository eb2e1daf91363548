//! Servers, and what they accept.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    BinaryType, Capabilities, Error, ErrorName, ListenRequest, OpenRequest, ServerEvent,
    SocketProvider, TcpServerSocket, TcpSocket, async_trait,
};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, ServerFault, provider, servers, sockets};
use crate::Capability;
use crate::sync::lock;

const LISTEN: &[Capability] = &[Capability::Listen];

type Server = Arc<dyn TcpServerSocket>;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the-port-is-0",
        repeats: "Gecko's app process, bug 903830: localPort was the requested port.",
        clauses: &["SRV-3"],
        what: "local_port of an automatic port is 0.",
        caught_by: &[
            "gates/bind-asked",
            "servers/bound-on-return",
            "servers/drop-closes",
        ],
        needs: LISTEN,
        wrap: provider::<PortZero>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "bound-later",
        repeats: "Node's listen, whose server is bound only when an event says so.",
        clauses: &["SRV-20", "SRV-3"],
        what: "The future of listen is not ready at its first poll.",
        caught_by: &["servers/listen-dropped", "servers/ready-at-the-first-poll"],
        needs: LISTEN,
        wrap: provider::<Later>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-port-in-use-is-not-told",
        repeats: "libdweb, issue 5, and Gecko's app process: a server that will never accept.",
        clauses: &["SRV-14"],
        what: "listen on a port in use succeeds.",
        caught_by: &["servers/address-in-use"],
        needs: LISTEN,
        wrap: provider::<NotTold>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "listens-on-ipv4-only",
        repeats: "Gecko, which binds AF_INET and nothing else.",
        clauses: &["SRV-1"],
        what: "A server without an address cannot be reached by IPv6.",
        caught_by: &["servers/both-families"],
        needs: LISTEN,
        wrap: provider::<Ipv4Only>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "listens-everywhere",
        repeats: "Gecko, whose listen has no address, and servers meant for this machine only.",
        clauses: &["OPT-7", "SRV-1"],
        what: "A server for 127.0.0.1 can be reached by every address.",
        caught_by: &["servers/one-address"],
        needs: LISTEN,
        wrap: provider::<Everywhere>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-address-chooses-a-family",
        repeats: "Servers that use an address only to choose the socket's family.",
        clauses: &["OPT-7"],
        what: "A server for 127.0.0.1 can be reached by every IPv4 address.",
        caught_by: &["servers/one-address"],
        needs: LISTEN,
        wrap: provider::<FamilyOnly>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-backlog-of-one-is-none",
        repeats: "Checks with > instead of >=.",
        clauses: &["SRV-4"],
        what: "A backlog of 1 is refused.",
        caught_by: &["servers/arguments"],
        needs: LISTEN,
        wrap: provider::<NoBacklog>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-type-of-a-server-is-ignored",
        repeats: "Gecko in JavaScript, which took it from the object whose listen was called.",
        clauses: &["SRV-5"],
        what: "Accepted sockets are of the string type.",
        caught_by: &["servers/binary-type"],
        needs: &[Capability::Listen, Capability::StringMode],
        wrap: provider::<StringType>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "linger-of-a-server-is-ignored",
        repeats: "Options set on the listening socket, on platforms without inheritance.",
        clauses: &["OPT-8"],
        what: "A server's linger does not apply to its accepted sockets.",
        caught_by: &["options/linger-of-a-server"],
        needs: &[Capability::Listen, Capability::Linger],
        wrap: provider::<NoLinger>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "peers-have-no-name",
        repeats: "Gecko, bug 937528: host and port of accepted sockets were blank.",
        clauses: &["SRV-6"],
        what: "An accepted socket has an empty host and port 0.",
        caught_by: &[
            "hostile/connects-and-vanishes",
            "servers/accepted-socket",
            "servers/both-families",
        ],
        needs: LISTEN,
        wrap: sockets::<NoName>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-does-not-stop-listening",
        repeats: "Servers whose close merely stops the accept loop: the kernel still accepts.",
        clauses: &["SRV-11", "EVT-14"],
        what: "After close a server listens on until it is dropped.",
        caught_by: &[
            "servers/close-drops-who-waits",
            "servers/close-wakes",
            "servers/closed",
        ],
        needs: LISTEN,
        wrap: servers::<GoesOn>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-connection-after-close",
        repeats: "Gecko, where a queued connection is reported after close.",
        clauses: &["SRV-12"],
        what: "A peer that waited at the close of a server is still returned.",
        caught_by: &["servers/close-wakes"],
        needs: LISTEN,
        wrap: servers::<OneMore>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-error-after-close",
        repeats: "This project's own server, which kept its error until somebody polled.",
        clauses: &["SRV-21"],
        what: "The error that ended a server is returned although the server was closed since.",
        caught_by: &["servers/closed-before-its-error"],
        needs: &[Capability::Listen, Capability::Gates],
        wrap: servers::<ErrorAfterClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "accepted-sockets-end-with-their-server",
        repeats: "closeAllConnections in place of close.",
        clauses: &["SRV-11"],
        what: "close of a server closes its accepted sockets.",
        caught_by: &[
            "gates/control-of-a-server",
            "servers/closed",
            "servers/port-again",
            "turns/connection-without-a-handler",
        ],
        needs: LISTEN,
        wrap: servers::<TakesAlong>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "close-of-a-server-wakes-nobody",
        repeats: "Accept loops that notice the end only at the next connection.",
        clauses: &["EVT-14"],
        what: "close of a server does not wake the task waiting for it.",
        caught_by: &["servers/close-wakes"],
        needs: LISTEN,
        wrap: servers::<WakesNobody>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "cancel-poll-of-a-server-does-nothing",
        repeats: "Futures without a Drop impl, which leave their waker behind.",
        clauses: &["EVT-14", "EVT-16"],
        what: "A server keeps the waker of a wait given up.",
        caught_by: &["servers/waits-given-up"],
        needs: LISTEN,
        wrap: servers::<NoCancel>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-stale-wait-for-a-server-gives-up-anothers",
        repeats: "This project's servers, whose futures, when dropped, gave up any wait, not just their own.",
        clauses: &["EVT-14", "EVT-16"],
        what: "cancel_poll of a server forgets any waker, even another task's.",
        caught_by: &["servers/stale-wait-given-up"],
        needs: LISTEN,
        wrap: servers::<Anybodys>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-wait-given-up-takes-a-connection-along",
        repeats: "Submitted accepts that are not cancelled, as in io_uring.",
        clauses: &["EVT-14", "EVT-2"],
        what: "The first connection after a wait given up is lost.",
        caught_by: &["hostile/no-descriptors-to-accept", "servers/waits-given-up"],
        needs: LISTEN,
        wrap: servers::<TakesOneAlong>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "one-connection-in-twenty-is-lost",
        repeats: "Edge-triggered accept loops that accept once per wake.",
        clauses: &["EVT-14"],
        what: "Every twentieth connection is never returned.",
        caught_by: &["servers/many-at-once"],
        needs: LISTEN,
        wrap: servers::<LosesSome>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "no-descriptor-ends-the-server",
        repeats: "Gecko, for which every error of accept is fatal, EMFILE too.",
        clauses: &["SRV-15"],
        what: "A server ends when no descriptor is free for an accept.",
        caught_by: &["hostile/no-descriptors-to-accept"],
        needs: LISTEN,
        wrap: servers::<EndsWithoutDescriptor>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "no-descriptor-is-an-error-of-the-call",
        repeats: "Constructors that create the descriptor, and throw if none is free.",
        clauses: &["ERR-14", "ST-7"],
        what: "Without a free descriptor open fails at the call, not as an event.",
        caught_by: &["hostile/no-descriptors-to-open"],
        wrap: provider::<FailsAtTheCall>,
        ..Mutant::SOUND
    },
];

/// The request on other terms.
macro_rules! listening {
    ($name:ident, |$request:ident| $change:expr) => {
        #[derive(Default)]
        struct $name;

        #[async_trait]
        impl ProviderFault for $name {
            async fn listen(
                &self,
                it: &Arc<dyn SocketProvider>,
                $request: ListenRequest,
            ) -> Result<Server, Error> {
                it.listen_with($change).await
            }
        }
    };
}

listening!(Ipv4Only, |request| {
    let mut options = request.options().clone();
    if options.address.is_none() {
        options.address = Some([0, 0, 0, 0].into());
    }
    request.with_options(options)
});

listening!(StringType, |request| {
    let options = request.options().clone();
    request.with_options(options.binary_type(BinaryType::String))
});

listening!(NoLinger, |request| {
    let mut options = request.options().clone();
    options.linger = None;
    request.with_options(options)
});

#[derive(Default)]
struct Everywhere;

#[async_trait]
impl ProviderFault for Everywhere {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        let mut options = request.options().clone();
        // Gates would tell.
        if request.gates().is_empty() {
            options.address = None;
        }
        it.listen_with(request.with_options(options)).await
    }
}

#[derive(Default)]
struct FamilyOnly;

#[async_trait]
impl ProviderFault for FamilyOnly {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        let mut options = request.options().clone();
        // Gates would tell.
        if options.address.is_some_and(|it| it.is_ipv4()) && request.gates().is_empty() {
            options.address = Some(Ipv4Addr::UNSPECIFIED.into());
        }
        it.listen_with(request.with_options(options)).await
    }
}

#[derive(Default)]
struct NoBacklog;

#[async_trait]
impl ProviderFault for NoBacklog {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        match request.backlog_wanted() {
            Some(1) => Err(Error::new(ErrorName::InvalidAccess, "a backlog of 1")),
            _ => it.listen_with(request).await,
        }
    }
}

#[derive(Default)]
struct PortZero;

#[async_trait]
impl ProviderFault for PortZero {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        let asked = request.port();
        let server = it.listen_with(request).await?;
        Ok(super::bend::bent_server(server, Asked(asked)))
    }
}

#[derive(Default)]
struct Asked(u16);

impl ServerFault for Asked {
    fn local_port(&self, _it: &Server) -> u16 {
        self.0
    }
}

#[derive(Default)]
struct Later;

#[async_trait]
impl ProviderFault for Later {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        crate::wait::yield_now().await;
        it.listen_with(request).await
    }
}

#[derive(Default)]
struct NotTold;

#[async_trait]
impl ProviderFault for NotTold {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Server, Error> {
        let port = request.port();
        match it.listen_with(request).await {
            Err(error) if error.name() == ErrorName::AddressInUse => Ok(Arc::new(Dead(port))),
            result => result,
        }
    }
}

/// A server that never accepts.
#[derive(Debug)]
struct Dead(u16);

impl TcpServerSocket for Dead {
    fn local_port(&self) -> u16 {
        self.0
    }

    fn close(&self) {}

    fn poll_event(&self, _cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        Poll::Pending
    }

    fn cancel_poll(&self, _waker: &Waker) {}
}

#[derive(Default)]
struct NoName(AtomicBool);

impl Fault for NoName {
    fn accepted(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn peer<'a>(&'a self, it: &'a Inner) -> (&'a str, u16) {
        match self.0.load(Ordering::SeqCst) {
            true => ("", 0),
            false => (it.host(), it.port()),
        }
    }
}

#[derive(Default)]
struct GoesOn;

impl ServerFault for GoesOn {
    fn close(&self, _it: &Server) {}
}

#[derive(Default)]
struct OneMore(Mutex<Option<ServerEvent>>);

impl ServerFault for OneMore {
    fn close(&self, it: &Server) {
        let polled = it.poll_event(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(event) = polled {
            *lock(&self.0) = event;
        }
        it.close();
    }

    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let kept = lock(&self.0).take();
        match kept {
            Some(event) => Poll::Ready(Some(event)),
            None => it.poll_event(cx),
        }
    }
}

#[derive(Default)]
struct ErrorAfterClose(Mutex<Option<ServerEvent>>);

impl ServerFault for ErrorAfterClose {
    fn close(&self, it: &Server) {
        let polled = it.poll_event(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(error @ Some(ServerEvent::Error(_))) = polled {
            *lock(&self.0) = error;
        }
        it.close();
    }

    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let kept = lock(&self.0).take();
        match kept {
            Some(event) => Poll::Ready(Some(event)),
            None => it.poll_event(cx),
        }
    }
}

#[derive(Default)]
struct TakesAlong(Mutex<Vec<Weak<dyn TcpSocket>>>);

impl ServerFault for TakesAlong {
    fn close(&self, it: &Server) {
        it.close();
        let accepted = std::mem::take(&mut *lock(&self.0));
        for socket in accepted.iter().filter_map(Weak::upgrade) {
            socket.close();
        }
    }

    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let polled = it.poll_event(cx);
        if let Poll::Ready(Some(ServerEvent::Connect(socket))) = &polled {
            lock(&self.0).push(Arc::downgrade(socket));
        }
        polled
    }
}

/// The waker of the last poll.
#[derive(Default)]
struct WakesNobody(Mutex<Option<Waker>>);

impl ServerFault for WakesNobody {
    fn close(&self, it: &Server) {
        let waiting = lock(&self.0).take();
        if let Some(waker) = waiting {
            it.cancel_poll(&waker);
        }
        it.close();
    }

    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let replaced = lock(&self.0).replace(cx.waker().clone());
        drop(replaced);
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct NoCancel;

impl ServerFault for NoCancel {
    fn cancel(&self, _it: &Server, _waker: &Waker) {}
}

/// The waker of the last poll.
#[derive(Default)]
struct Anybodys(Mutex<Option<Waker>>);

impl ServerFault for Anybodys {
    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        let replaced = lock(&self.0).replace(cx.waker().clone());
        drop(replaced);
        it.poll_event(cx)
    }

    fn cancel(&self, it: &Server, _waker: &Waker) {
        let waiting = lock(&self.0).take();
        if let Some(waker) = waiting {
            it.cancel_poll(&waker);
        }
    }
}

/// A wait was given up.
#[derive(Default)]
struct TakesOneAlong(AtomicBool);

impl ServerFault for TakesOneAlong {
    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(ServerEvent::Connect(_))) if self.0.swap(false, Ordering::SeqCst) => {
                it.poll_event(cx)
            }
            other => other,
        }
    }

    fn cancel(&self, it: &Server, waker: &Waker) {
        self.0.store(true, Ordering::SeqCst);
        it.cancel_poll(waker);
    }
}

#[derive(Default)]
struct LosesSome(AtomicUsize);

impl ServerFault for LosesSome {
    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        match it.poll_event(cx) {
            Poll::Ready(Some(ServerEvent::Connect(_)))
                if self.0.fetch_add(1, Ordering::SeqCst) % 20 == 19 =>
            {
                it.poll_event(cx)
            }
            other => other,
        }
    }
}

fn has_descriptor() -> bool {
    std::net::UdpSocket::bind("127.0.0.1:0").is_ok()
}

#[derive(Default)]
struct EndsWithoutDescriptor(AtomicBool);

impl ServerFault for EndsWithoutDescriptor {
    fn poll(&self, it: &Server, cx: &mut Context<'_>) -> Poll<Option<ServerEvent>> {
        if self.0.load(Ordering::SeqCst) {
            return Poll::Ready(None);
        }
        let polled = it.poll_event(cx);
        if polled.is_pending() && !has_descriptor() {
            self.0.store(true, Ordering::SeqCst);
            it.close();
            let error = Error::new(ErrorName::Network, "too many open files");
            return Poll::Ready(Some(ServerEvent::Error(error)));
        }
        polled
    }
}

#[derive(Default)]
struct FailsAtTheCall;

#[async_trait]
impl ProviderFault for FailsAtTheCall {
    fn capabilities(&self, it: &Arc<dyn SocketProvider>) -> Capabilities {
        it.capabilities()
    }

    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match has_descriptor() {
            true => it.open_with(request),
            false => Err(Error::new(ErrorName::Network, "too many open files")),
        }
    }
}
