//! What gates are asked, and what their answers and controls lead to.

use std::collections::HashSet;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

use tcpsocket::{
    Control, Error, ErrorName, Event, Gate, Host, ListenRequest, Meter, NoMeter, OpenRequest,
    ServerEvent, SocketOptions, SocketProvider, TcpServerSocket, async_trait,
};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, ServerFault, bent_server, provider, sockets};
use super::waits::Slot;
use crate::Capability;
use crate::sync::lock;

const GATES: &[Capability] = &[Capability::Gates];
const SERVERS: &[Capability] = &[Capability::Gates, Capability::Listen];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "name-is-asked-twice",
        repeats: "Prompts that appear again for a second check of the same question.",
        clauses: &["GATE-1"],
        what: "Every gate is asked about the name twice.",
        caught_by: &[
            "gates/canonical",
            "gates/order",
            "names/gates-before-and-after-the-lookup",
        ],
        needs: GATES,
        wrap: gates::<NameTwice>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "literals-are-not-checked",
        repeats: "Checks inside name resolution, such as Deno's former check of resolved addresses, skipped where nothing is resolved.",
        clauses: &["GATE-1", "GATE-5"],
        what: "connect is not asked if the host is an address.",
        caught_by: &[
            "gates/asked-unpolled",
            "gates/no-address-remains",
            "gates/order",
        ],
        needs: GATES,
        wrap: gates::<NoLiterals>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "ports-are-lost",
        repeats: "Hooks that receive a host and must find the port elsewhere.",
        clauses: &["GATE-2"],
        what: "Gates are asked about a name with port 0.",
        caught_by: &["gates/ports"],
        needs: SERVERS,
        wrap: gates::<NoPorts>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-address-at-a-time",
        repeats: "Hooks in the dialling loop.",
        clauses: &["GATE-5"],
        what: "Gates are asked about one address at a time.",
        caught_by: &["names/every-gate-must-admit"],
        needs: GATES,
        wrap: gates::<OneByOne>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "mapped-addresses-are-shown",
        repeats: "hono's CVE-2026-39409 and many others: ::ffff:127.0.0.1 is not on the list of local addresses.",
        clauses: &["GATE-5", "NAME-6"],
        what: "Gates receive IPv4-mapped addresses if these come from a name or an IPv6 literal.",
        caught_by: &["gates/canonical", "names/gates-before-and-after-the-lookup"],
        needs: &[Capability::Gates, Capability::Names],
        wrap: gates::<Mapped>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-empty-answer-is-consent",
        repeats: "Filters that take an empty list for no list.",
        clauses: &["GATE-5", "GATE-15"],
        what: "A gate that returns no address admits all of them.",
        caught_by: &["gates/no-address-remains"],
        needs: GATES,
        wrap: gates::<EmptyIsConsent>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "invented-addresses-are-dialled",
        repeats: "Hooks that may return any address, such as the lookup option of Node's sockets.",
        clauses: &["GATE-5", "GATE-15"],
        what: "Every address returned by a gate is dialled, even one that it was not asked about.",
        caught_by: &["gates/invented-addresses-are-ignored"],
        needs: GATES,
        wrap: provider::<Invented>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-refusal-is-a-refused-connection",
        repeats: "Gecko, where a missing permission, an offline app and a network failure look alike.",
        clauses: &["GATE-15", "PERM-9"],
        what: "A refusal by a gate's connect is ConnectionRefusedError.",
        caught_by: &["gates/address-refused"],
        needs: GATES,
        wrap: gates::<LooksRefused>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-later-refusal-hangs",
        repeats: "Gecko's answer to a missing permission: an event without a slot, and connecting for ever.",
        clauses: &["ERR-9", "GATE-4", "ST-7"],
        what: "After a late refusal the socket stays connecting.",
        caught_by: &[
            "gates/name-refused-later",
            "names/refused-names-are-not-looked-up",
        ],
        needs: GATES,
        wrap: gates::<Hangs>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "refusals-come-as-events",
        repeats: "Checks in another process, which cannot refuse at the call.",
        clauses: &["GATE-4"],
        what: "An immediate refusal by a gate arrives as an event.",
        caught_by: &[
            "gates/refused-at-the-call",
            "names/refused-names-are-not-looked-up",
        ],
        needs: GATES,
        wrap: gates::<NeverAtOnce>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "gates-run-on",
        repeats: "Promises, which cannot be cancelled: the prompt stays on the screen.",
        clauses: &["GATE-6"],
        what: "A gate's future is not dropped when the socket is given up.",
        caught_by: &[
            "gates/accept-given-up",
            "gates/control-while-connecting",
            "gates/given-up",
        ],
        needs: GATES,
        wrap: gates::<RunOn>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-clock-runs-while-a-gate-decides",
        repeats: "Timeouts around all of connect, prompts included.",
        clauses: &["GATE-7"],
        what: "An open with a connect_timeout times out if a gate does not decide at once.",
        caught_by: &["gates/timeout-stands-still"],
        needs: &[Capability::Gates, Capability::ConnectTimeout],
        wrap: provider::<ClockRuns>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "bind-is-not-asked",
        repeats: "Deno's third forgotten sibling: connect was checked, bind was not.",
        clauses: &["GATE-1", "GATE-9"],
        what: "No gate is asked about a bind.",
        caught_by: &[
            "gates/bind-asked",
            "gates/bind-refused",
            "gates/listens-when-admitted",
        ],
        needs: SERVERS,
        wrap: gates::<NoBind>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-chosen-port-is-not-asked",
        repeats: "wasmtime's implicit binds, GHSA-r9vm-8mq9-73g9: the system's choice was not checked.",
        clauses: &["GATE-9"],
        what: "For an automatic port, bind is asked only with 0.",
        caught_by: &["gates/bind-asked", "gates/bind-refused"],
        needs: SERVERS,
        wrap: gates::<AutomaticOnly>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "peers-are-not-asked-about",
        repeats: "Servers with rules about binding only.",
        clauses: &["GATE-1", "GATE-8"],
        what: "No gate is asked about an accepted peer.",
        caught_by: &[
            "activity/server-accepts-nothing",
            "gates/accept-asked",
            "gates/accept-given-up",
        ],
        needs: SERVERS,
        wrap: gates::<NoAccept>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-refused-peer-gets-a-fin",
        repeats: "drop(stream) in every accept loop: to the peer it looks like a server with nothing to say.",
        clauses: &["GATE-8"],
        what: "A peer refused by a gate receives an end of stream.",
        caught_by: &["gates/accept-refused"],
        needs: SERVERS,
        wrap: provider::<RefusedGetsFin>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-waiting-peer-holds-up-the-others",
        repeats: "Loops that accept and then await the decision, in one task.",
        clauses: &["GATE-17"],
        what: "A server's gate is asked about one peer at a time.",
        caught_by: &["gates/a-waiting-peer-holds-up-nobody"],
        needs: SERVERS,
        wrap: gates::<OneAtATime>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "accepted-sockets-are-not-watched",
        repeats: "Firefox OS in JavaScript, where nobody was charged for the traffic of accepted sockets.",
        clauses: &["GATE-10", "ACC-3"],
        what: "A gate receives no control of an accepted socket, and the socket has no meter.",
        caught_by: &["gates/watch-once", "meters/accepted-sockets"],
        needs: SERVERS,
        wrap: gates::<NotWatched>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-control-does-nothing-before-connect",
        repeats: "Revocations by a list of connections, which is still empty.",
        clauses: &["GATE-11"],
        what: "Control::abort is lost while a gate decides on the name.",
        caught_by: &["gates/control-while-connecting"],
        needs: GATES,
        wrap: gates::<NotBeforeConnect>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-control-goes-with-the-handle",
        repeats: "Revocations by a weak handle to the app's own socket.",
        clauses: &["GATE-12"],
        what: "Control::abort is lost after the app has dropped its handle.",
        caught_by: &[
            "gates/control-ends-the-lingering",
            "gates/control-outlives-the-handle",
            "permissions/revoked-flush",
            "permissions/revoked-lingering",
        ],
        needs: GATES,
        wrap: sockets::<WithTheHandle>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-control-goes-with-close",
        repeats: "Lists that drop a connection once its close was reported.",
        clauses: &["GATE-12"],
        what: "Control::abort is lost after Close was returned.",
        caught_by: &[
            "gates/control-ends-the-lingering",
            "permissions/revoked-lingering",
        ],
        needs: GATES,
        wrap: sockets::<WithClose>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-control-of-a-server-takes-its-sockets-along",
        repeats: "Process trees: ending the parent ends the children.",
        clauses: &["GATE-14"],
        what: "When a control ends a server, the sockets that it accepted are aborted.",
        caught_by: &["gates/control-of-a-server"],
        needs: SERVERS,
        wrap: super::bend::servers::<TakesAlong>,
        ..Mutant::SOUND
    },
];

/// What is wrong with how gates are asked. There is one for each gate of each request.
#[async_trait]
pub(super) trait GateFault: Default + Send + Sync + 'static {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        it.name(host, port).await
    }

    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        it.connect(host, all).await
    }

    async fn bind(&self, it: &Arc<dyn Gate>, at: SocketAddr) -> Result<(), Error> {
        it.bind(at).await
    }

    async fn accept(
        &self,
        it: &Arc<dyn Gate>,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<(), Error> {
        it.accept(local, peer).await
    }

    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        it.watch(control)
    }
}

struct BentGate<F> {
    inner: Arc<dyn Gate>,
    fault: F,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: GateFault> Gate for BentGate<F> {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        self.fault.name(&self.inner, host, port).await
    }

    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        self.fault.connect(&self.inner, host, all).await
    }

    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        self.fault.bind(&self.inner, at).await
    }

    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        self.fault.accept(&self.inner, local, peer).await
    }

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        self.fault.watch(&self.inner, it)
    }
}

impl<F> fmt::Debug for BentGate<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BentGate").field(&self.inner).finish()
    }
}

/// The request with other gates in the place of its own.
pub(super) fn replace(
    request: OpenRequest,
    make: impl Fn(Arc<dyn Gate>) -> Arc<dyn Gate>,
) -> OpenRequest {
    let gates = request.gates().to_vec();
    let bare = request.without_gates();
    gates
        .into_iter()
        .fold(bare, |it, gate| it.with_gate(make(gate)))
}

/// The same for a server.
pub(super) fn replace_of_server(
    request: ListenRequest,
    make: impl Fn(Arc<dyn Gate>) -> Arc<dyn Gate>,
) -> ListenRequest {
    let gates = request.gates().to_vec();
    let bare = request.without_gates();
    gates
        .into_iter()
        .fold(bare, |it, gate| it.with_gate(make(gate)))
}

/// A provider whose gates have a fault each.
pub(super) fn gates<F: GateFault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<Gated<F>>(it)
}

struct Gated<F>(std::marker::PhantomData<fn() -> F>);

impl<F> Default for Gated<F> {
    fn default() -> Gated<F> {
        Gated(std::marker::PhantomData)
    }
}

fn bent_gate<F: GateFault>(inner: Arc<dyn Gate>) -> Arc<dyn Gate> {
    Arc::new(BentGate {
        inner,
        fault: F::default(),
    })
}

#[async_trait]
impl<F: GateFault> ProviderFault for Gated<F> {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        it.open_with(replace(request, bent_gate::<F>))
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        it.listen_with(replace_of_server(request, bent_gate::<F>))
            .await
    }
}

#[derive(Default)]
struct NameTwice;

#[async_trait]
impl GateFault for NameTwice {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        it.name(host, port).await?;
        it.name(host, port).await
    }
}

#[derive(Default)]
struct OneAtATime(Mutex<(bool, Vec<Waker>)>);

struct Leaves<'a>(&'a OneAtATime);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut *lock(&self.0.0)).1;
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[async_trait]
impl GateFault for OneAtATime {
    async fn accept(
        &self,
        it: &Arc<dyn Gate>,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<(), Error> {
        let enters = poll_fn(|cx| {
            let mut state = lock(&self.0);
            if !state.0 {
                state.0 = true;
                return Poll::Ready(Leaves(self));
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        });
        let _inside = enters.await;
        it.accept(local, peer).await
    }
}

#[derive(Default)]
struct NoPorts;

#[async_trait]
impl GateFault for NoPorts {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, _port: u16) -> Result<(), Error> {
        it.name(host, 0).await
    }
}

#[derive(Default)]
struct OneByOne;

#[async_trait]
impl GateFault for OneByOne {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut kept = Vec::new();
        for one in all {
            kept.extend(it.connect(host, &[*one]).await?);
        }
        Ok(kept)
    }
}

#[derive(Default)]
struct NoLiterals;

#[async_trait]
impl GateFault for NoLiterals {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        match host.literal() {
            Some(_) => Ok(all.to_vec()),
            None => it.connect(host, all).await,
        }
    }
}

#[derive(Default)]
struct Mapped;

#[async_trait]
impl GateFault for Mapped {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        if host.literal().is_some() && !host.given().contains(':') {
            return it.connect(host, all).await;
        }
        let shown: Vec<_> = all.iter().map(|it| mapped(*it)).collect();
        let admitted = it.connect(host, &shown).await?;
        let admitted = |at: &&SocketAddr| admitted.contains(&mapped(**at));
        Ok(all.iter().filter(admitted).copied().collect())
    }
}

fn mapped(it: SocketAddr) -> SocketAddr {
    match it.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), it.port()),
        IpAddr::V6(_) => it,
    }
}

#[derive(Default)]
struct EmptyIsConsent;

#[async_trait]
impl GateFault for EmptyIsConsent {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        let admitted = it.connect(host, all).await?;
        Ok(if admitted.is_empty() {
            all.to_vec()
        } else {
            admitted
        })
    }
}

#[derive(Default)]
struct Invented;

#[async_trait]
impl ProviderFault for Invented {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let options = request.options().clone();
        it.open_with(replace(request, |inner| {
            let fault = Dials {
                by: Some((it.clone(), options.clone())),
            };
            Arc::new(BentGate { inner, fault })
        }))
    }
}

#[derive(Default)]
struct Dials {
    by: Option<(Arc<dyn SocketProvider>, SocketOptions)>,
}

#[async_trait]
impl GateFault for Dials {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        let admitted = it.connect(host, all).await?;
        let Some((by, options)) = &self.by else {
            return Ok(admitted);
        };
        for at in admitted.iter().filter(|at| !all.contains(at)) {
            let request = OpenRequest::new(at.ip().to_string(), at.port())?;
            let other = by.open_with(request.with_options(options.clone()))?;
            // It goes on, although the gate is done.
            std::mem::forget(other);
        }
        Ok(admitted)
    }
}

#[derive(Default)]
struct LooksRefused;

#[async_trait]
impl GateFault for LooksRefused {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        let admitted = it.connect(host, all).await;
        admitted.map_err(|it| Error::new(ErrorName::ConnectionRefused, it.message()))
    }
}

/// The answer, and whether it came at once.
async fn answer<T>(future: impl Future<Output = T>) -> (T, bool) {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx).map(|it| (it, polls == 1))
    })
    .await
}

#[derive(Default)]
struct Hangs;

#[async_trait]
impl GateFault for Hangs {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        match answer(it.name(host, port)).await {
            (Err(_), false) => std::future::pending().await,
            (answer, _) => answer,
        }
    }
}

#[derive(Default)]
struct NeverAtOnce;

#[async_trait]
impl GateFault for NeverAtOnce {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        let answer = it.name(host, port).await;
        if answer.is_err() {
            crate::wait::yield_now().await;
        }
        answer
    }
}

/// A future that its drop does not end.
struct Kept<T: Future>(Option<Pin<Box<T>>>);

impl<T: Future> Future for Kept<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let polled = match &mut self.0 {
            Some(it) => it.as_mut().poll(cx),
            None => Poll::Pending,
        };
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Future> Drop for Kept<T> {
    fn drop(&mut self) {
        std::mem::forget(self.0.take());
    }
}

/// The same future, which goes on existing when it is dropped.
pub(super) fn kept<T: Future>(it: T) -> impl Future<Output = T::Output> {
    Kept(Some(Box::pin(it)))
}

/// Shows every address with a zone.
pub(super) fn zoned(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    gates::<Zoned>(it)
}

#[derive(Default)]
struct Zoned;

#[async_trait]
impl GateFault for Zoned {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        let zoned = |at: SocketAddr| match at {
            SocketAddr::V6(at) => SocketAddrV6::new(*at.ip(), at.port(), 0, 7).into(),
            at => at,
        };
        let shown: Vec<SocketAddr> = all.iter().copied().map(zoned).collect();
        let kept = it.connect(host, &shown).await?;
        Ok(all
            .iter()
            .copied()
            .filter(|it| kept.contains(&zoned(*it)))
            .collect())
    }
}

#[derive(Default)]
struct RunOn;

#[async_trait]
impl GateFault for RunOn {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        let (it, host) = (it.clone(), host.clone());
        kept(async move { it.name(&host, port).await }).await
    }

    async fn accept(
        &self,
        it: &Arc<dyn Gate>,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<(), Error> {
        let it = it.clone();
        kept(async move { it.accept(local, peer).await }).await
    }
}

#[derive(Default)]
struct ClockRuns;

#[async_trait]
impl ProviderFault for ClockRuns {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.options().connect_timeout {
            Some(_) => it.open_with(replace(request, bent_gate::<TimesOut>)),
            None => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct TimesOut;

#[async_trait]
impl GateFault for TimesOut {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        match answer(it.name(host, port)).await {
            (Ok(()), false) => Err(Error::new(ErrorName::NetworkTimeout, "too late")),
            (answer, _) => answer,
        }
    }
}

#[derive(Default)]
struct NoBind;

#[async_trait]
impl GateFault for NoBind {
    async fn bind(&self, _it: &Arc<dyn Gate>, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Default)]
struct AutomaticOnly(AtomicBool);

#[async_trait]
impl GateFault for AutomaticOnly {
    async fn bind(&self, it: &Arc<dyn Gate>, at: SocketAddr) -> Result<(), Error> {
        if self.0.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.0.store(at.port() == 0, Ordering::SeqCst);
        it.bind(at).await
    }
}

#[derive(Default)]
struct NoAccept;

#[async_trait]
impl GateFault for NoAccept {
    async fn accept(
        &self,
        _it: &Arc<dyn Gate>,
        _local: SocketAddr,
        _peer: SocketAddr,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// The peers that were refused.
type Refused = Arc<Mutex<HashSet<SocketAddr>>>;

#[derive(Default)]
struct RefusedGetsFin;

#[async_trait]
impl ProviderFault for RefusedGetsFin {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let refused = Refused::default();
        let request = replace_of_server(request, |inner| {
            let fault = Admits(refused.clone());
            Arc::new(BentGate { inner, fault })
        });
        let server = it.listen_with(request).await?;
        Ok(bent_server(server, Drops(refused)))
    }
}

#[derive(Default)]
struct Admits(Refused);

#[async_trait]
impl GateFault for Admits {
    async fn accept(
        &self,
        it: &Arc<dyn Gate>,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<(), Error> {
        if it.accept(local, peer).await.is_err() {
            lock(&self.0).insert(peer);
        }
        Ok(())
    }

    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        it.watch(control)
    }
}

#[derive(Default)]
struct Drops(Refused);

impl ServerFault for Drops {
    fn poll(
        &self,
        it: &Arc<dyn TcpServerSocket>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServerEvent>> {
        loop {
            let polled = it.poll_event(cx);
            let Poll::Ready(Some(ServerEvent::Connect(socket))) = &polled else {
                return polled;
            };
            let peer = socket
                .host()
                .parse()
                .map(|ip| SocketAddr::new(ip, socket.port()));
            match peer {
                Ok(peer) if lock(&self.0).remove(&peer) => {}
                _ => return polled,
            }
        }
    }
}

#[derive(Default)]
struct NotWatched(AtomicBool);

#[async_trait]
impl GateFault for NotWatched {
    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        match self.0.swap(true, Ordering::SeqCst) {
            true => Arc::new(NoMeter),
            false => it.watch(control),
        }
    }
}

/// A control that works as long as it may. It lives as long as its meter.
struct While {
    inner: Weak<dyn Control>,
    may: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Control for While {
    fn abort(&self, why: Error) {
        let inner = self.inner.upgrade().filter(|_| (self.may)());
        if let Some(inner) = inner {
            inner.abort(why);
        }
    }
}

struct Keeping {
    inner: Arc<dyn Meter>,
    _control: Arc<While>,
}

#[deny(clippy::missing_trait_methods)]
impl Meter for Keeping {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        self.inner.queue(bytes)
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        self.inner.moved(written, read, dropped);
    }
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keeping").field(&self.inner).finish()
    }
}

fn watch_while(
    gate: &Arc<dyn Gate>,
    inner: Weak<dyn Control>,
    may: impl Fn() -> bool + Send + Sync + 'static,
) -> Arc<dyn Meter> {
    let control = Arc::new(While {
        inner,
        may: Arc::new(may),
    });
    let weak = Arc::downgrade(&control);
    Arc::new(Keeping {
        inner: gate.watch(weak),
        _control: control,
    })
}

/// Whether connect was asked.
#[derive(Default)]
struct NotBeforeConnect(Arc<AtomicBool>);

#[async_trait]
impl GateFault for NotBeforeConnect {
    async fn connect(
        &self,
        it: &Arc<dyn Gate>,
        host: &Host,
        all: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, Error> {
        self.0.store(true, Ordering::SeqCst);
        it.connect(host, all).await
    }

    async fn bind(&self, it: &Arc<dyn Gate>, at: SocketAddr) -> Result<(), Error> {
        self.0.store(true, Ordering::SeqCst);
        it.bind(at).await
    }

    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        let asked = self.0.clone();
        watch_while(it, control, move || asked.load(Ordering::SeqCst))
    }
}

/// A gate whose control works until a socket says that it is over.
#[derive(Default)]
struct Until(Arc<AtomicBool>);

#[async_trait]
impl GateFault for Until {
    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        let over = self.0.clone();
        watch_while(it, control, move || !over.load(Ordering::SeqCst))
    }
}

impl Until {
    fn request(over: &Arc<AtomicBool>, request: OpenRequest) -> OpenRequest {
        replace(request, |inner| {
            let fault = Until(over.clone());
            Arc::new(BentGate { inner, fault })
        })
    }
}

#[derive(Default)]
struct WithTheHandle(Arc<AtomicBool>);

impl Fault for WithTheHandle {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        Until::request(&self.0, request)
    }

    fn dropped(&self, _it: &Inner) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct WithClose(Arc<AtomicBool>);

impl Fault for WithClose {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        Until::request(&self.0, request)
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if matches!(polled, Poll::Ready(Some(Event::Close(_)))) {
            self.0.store(true, Ordering::SeqCst);
        }
        polled
    }
}

/// What a server has accepted.
#[derive(Default)]
struct TakesAlong(Mutex<Vec<Weak<dyn tcpsocket::TcpSocket>>>);

impl ServerFault for TakesAlong {
    fn poll(
        &self,
        it: &Arc<dyn TcpServerSocket>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ServerEvent>> {
        let polled = it.poll_event(cx);
        match &polled {
            Poll::Ready(Some(ServerEvent::Connect(socket))) => {
                lock(&self.0).push(Arc::downgrade(socket));
            }
            Poll::Ready(Some(ServerEvent::Error(_))) => {
                let accepted = std::mem::take(&mut *lock(&self.0));
                for socket in accepted.iter().filter_map(Weak::upgrade) {
                    socket.abort(None);
                }
            }
            _ => {}
        }
        polled
    }
}

/// Takes the waker of a socket away before its control is used.
pub(super) fn control_wakes_nobody(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    sockets::<Deaf>(it)
}

#[derive(Default)]
struct Deaf(Arc<Slot>);

impl Fault for Deaf {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        replace(request, |inner| {
            let fault = Deafens(self.0.clone());
            Arc::new(BentGate { inner, fault })
        })
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.poll(it, cx.waker())
    }

    fn cancel(&self, it: &Inner, waker: &Waker) {
        self.0.cancel(it, waker);
    }
}

#[derive(Default)]
struct Deafens(Arc<Slot>);

#[async_trait]
impl GateFault for Deafens {
    fn watch(&self, it: &Arc<dyn Gate>, control: Weak<dyn Control>) -> Arc<dyn Meter> {
        let slot = self.0.clone();
        watch_while(it, control, move || {
            drop(slot.take());
            true
        })
    }
}

/// Asks before every open whether one of four places is free.
pub(super) fn four_at_once(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<FourAtOnce>(it)
}

#[derive(Default)]
struct Pool {
    waiting: AtomicUsize,
    tasks: Mutex<Vec<Waker>>,
}

impl Pool {
    fn leave(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        let tasks = std::mem::take(&mut *lock(&self.tasks));
        tasks.into_iter().for_each(Waker::wake);
    }
}

#[derive(Default)]
struct FourAtOnce(Arc<Pool>);

#[async_trait]
impl ProviderFault for FourAtOnce {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let gates = request.gates().to_vec();
        let first: Arc<dyn Gate> = Arc::new(Queue(self.0.clone()));
        let request = request.without_gates().with_gate(first);
        let pooled = |inner| -> Arc<dyn Gate> {
            let fault = Pooled(self.0.clone());
            Arc::new(BentGate { inner, fault })
        };
        let request = gates
            .into_iter()
            .fold(request, |it, gate| it.with_gate(pooled(gate)));
        it.open_with(request)
    }
}

/// A gate that waits for a place, and says yes.
#[derive(Default)]
struct Queue(Arc<Pool>);

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue")
    }
}

#[async_trait]
impl Gate for Queue {
    async fn name(&self, _host: &Host, _port: u16) -> Result<(), Error> {
        poll_fn(|cx| {
            if self.0.waiting.load(Ordering::SeqCst) < 4 {
                return Poll::Ready(Ok(()));
            }
            lock(&self.0.tasks).push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    async fn connect(&self, _host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        Ok(all.to_vec())
    }

    async fn bind(&self, _at: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    async fn accept(&self, _local: SocketAddr, _peer: SocketAddr) -> Result<(), Error> {
        Ok(())
    }

    fn watch(&self, _it: Weak<dyn Control>) -> Arc<dyn Meter> {
        Arc::new(NoMeter)
    }
}

#[derive(Default)]
struct Pooled(Arc<Pool>);

/// A place that is taken.
struct Place<'a>(&'a Pool);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[async_trait]
impl GateFault for Pooled {
    async fn name(&self, it: &Arc<dyn Gate>, host: &Host, port: u16) -> Result<(), Error> {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        let _place = Place(&self.0);
        it.name(host, port).await
    }
}
