//! Who is asked for addresses, and how often.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use tcpsocket::{Error, ErrorName, Host, OpenRequest, Resolver, SocketProvider, async_trait};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, provider, sockets};
use crate::Capability;
use crate::sync::lock;

const NAMES: &[Capability] = &[Capability::Names, Capability::Resolver];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a-second-lookup",
        repeats: "DNS rebinding: one lookup for the check, another for the connect.",
        clauses: &["GATE-3"],
        what: "A name is looked up twice.",
        caught_by: &[
            "names/gates-before-and-after-the-lookup",
            "names/next-address-after-a-refusal",
            "names/resolver-of-the-request",
        ],
        needs: NAMES,
        wrap: provider::<Resolving<Twice>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "looked-up-before-it-is-allowed",
        repeats: "Sandboxes whose name server receives every name, allowed or not.",
        clauses: &["GATE-2", "GATE-3"],
        what: "A name is looked up before the gates are asked about it.",
        caught_by: &[
            "names/gates-before-and-after-the-lookup",
            "names/refused-names-are-not-looked-up",
        ],
        needs: NAMES,
        wrap: provider::<Early>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "literals-are-looked-up",
        repeats: "Callers that hand every host to a resolver, literals included.",
        clauses: &["GATE-3"],
        what: "The request's resolver is asked about addresses too.",
        caught_by: &["names/literals-are-not-looked-up"],
        needs: NAMES,
        wrap: provider::<Literals>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-first-address-and-no-other",
        repeats: "Deno where it does not race addresses, and every client before Happy Eyeballs.",
        clauses: &["GATE-16"],
        what: "Only the first address of an answer is dialled.",
        caught_by: &["names/next-address-after-a-refusal"],
        needs: NAMES,
        wrap: provider::<Resolving<FirstOnly>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "every-lookup-that-fails-found-nothing",
        repeats: "Resolvers that treat EAI_AGAIN as EAI_NONAME.",
        clauses: &["GATE-18"],
        what: "Every failure of a lookup is DomainNotFoundError.",
        caught_by: &["names/error-of-the-resolver"],
        needs: NAMES,
        wrap: provider::<Resolving<NotFound>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "host-is-not-what-was-given",
        repeats: "URLs, with hosts in lower case and addresses in one spelling.",
        clauses: &["IF-8"],
        what: "A socket's host is the canonical text.",
        caught_by: &[
            "names/resolver-of-the-request",
            "opening/host-letter-for-letter",
        ],
        wrap: sockets::<Canonical>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "ipv6-is-not-dialled",
        repeats: "Code made for AF_INET, such as Gecko's server sockets.",
        clauses: &["NAME-4"],
        what: "An open to an IPv6 literal fails.",
        caught_by: &[
            "opening/ipv6-literal",
            "opening/refused",
            "tls/address-is-not-sent",
        ],
        wrap: provider::<Ipv4Only>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-name-is-lost-with-the-lookup",
        repeats: "Programs that resolve first and connect to an address: the server never learns the name.",
        clauses: &["TLS-3"],
        what: "Under TLS a name is looked up, and then its address is opened as the host.",
        caught_by: &["tls/impossible-names", "tls/name-is-sent"],
        needs: &[Capability::Names, Capability::Resolver, Capability::Secure],
        wrap: provider::<ByAddress>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-empty-answer-hangs",
        repeats: "Races without candidates, which nobody wins.",
        clauses: &["GATE-18", "ERR-3", "IF-11"],
        what: "A name without an address leads to no event.",
        caught_by: &["names/empty-answer"],
        needs: NAMES,
        wrap: provider::<Resolving<EmptyHangs>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-final-dot-is-lost",
        repeats: "Browsers and proxies that strip the dot from a URL's host, and look up the rest with their search list.",
        clauses: &["NAME-7", "NAME-8"],
        what: "The request's resolver does not receive a name's final dot.",
        caught_by: &["names/final-dot", "permissions/absolute-names"],
        needs: NAMES,
        wrap: provider::<Resolving<Dotless>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "names-below-localhost-are-looked-up",
        repeats: "getaddrinfo with a hosts file that has only localhost.",
        clauses: &["NAME-9"],
        what: "Of this machine's names only localhost itself is found without a resolver.",
        caught_by: &["names/below-localhost"],
        needs: NAMES,
        wrap: provider::<LocalhostAlone>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "every-address-is-dialled",
        repeats: "Races without a bound, and names whose owner makes others dial three thousand hosts.",
        clauses: &["GATE-20"],
        what: "Every address of an answer is dialled.",
        caught_by: &["names/thousands-of-addresses"],
        needs: NAMES,
        wrap: provider::<Resolving<LastFirst>>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-address-has-many-zones",
        repeats: "Address lists for which ::1%7 differs from ::1.",
        clauses: &["NAME-12"],
        what: "Gates receive addresses with the answer's zones.",
        caught_by: &["names/answers-with-zones"],
        needs: &[Capability::Names, Capability::Resolver, Capability::Gates],
        wrap: super::gates::zoned,
        ..Mutant::SOUND
    },
    Mutant {
        name: "interfaces-are-told-before-gates",
        repeats: "Parsers that resolve a zone where they find it.",
        clauses: &["NAME-13"],
        what: "An open to a zone that does not exist on this machine is refused at the call.",
        caught_by: &["gates/unknown-interface"],
        needs: &[Capability::Gates],
        wrap: provider::<ZonesFirst>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "lookups-run-on",
        repeats: "getaddrinfo, which cannot be cancelled.",
        clauses: &["GATE-6"],
        what: "A resolver's future is not dropped when the socket is given up.",
        caught_by: &["names/lookup-given-up"],
        needs: NAMES,
        wrap: provider::<Resolving<RunOn>>,
        ..Mutant::SOUND
    },
];

/// What is wrong with how a resolver is asked.
#[async_trait]
trait ResolverFault: Default + Send + Sync + 'static {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error>;
}

struct BentResolver<F> {
    inner: Arc<dyn Resolver>,
    fault: F,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<F: ResolverFault> Resolver for BentResolver<F> {
    async fn lookup(&self, name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
        self.fault.lookup(&self.inner, name, port).await
    }
}

impl<F> fmt::Debug for BentResolver<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BentResolver").field(&self.inner).finish()
    }
}

fn resolving<F: ResolverFault>(request: OpenRequest, fault: F) -> OpenRequest {
    match request.resolver().cloned() {
        Some(inner) => request.with_resolver(Arc::new(BentResolver { inner, fault })),
        None => request,
    }
}

struct Resolving<F>(std::marker::PhantomData<fn() -> F>);

impl<F> Default for Resolving<F> {
    fn default() -> Resolving<F> {
        Resolving(std::marker::PhantomData)
    }
}

#[async_trait]
impl<F: ResolverFault> ProviderFault for Resolving<F> {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        it.open_with(resolving(request, F::default()))
    }
}

#[derive(Default)]
struct Twice;

#[async_trait]
impl ResolverFault for Twice {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        it.lookup(name, port).await?;
        it.lookup(name, port).await
    }
}

#[derive(Default)]
struct FirstOnly;

#[async_trait]
impl ResolverFault for FirstOnly {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut all = it.lookup(name, port).await?;
        all.truncate(1);
        Ok(all)
    }
}

#[derive(Default)]
struct NotFound;

#[async_trait]
impl ResolverFault for NotFound {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let all = it.lookup(name, port).await;
        all.map_err(|it| Error::new(ErrorName::DomainNotFound, it.message()))
    }
}

#[derive(Default)]
struct Dotless;

#[async_trait]
impl ResolverFault for Dotless {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        it.lookup(&Host::parse(name.as_str())?, port).await
    }
}

/// Where the end of a long answer is dialled, as it is if all of it is.
#[derive(Default)]
struct LastFirst;

#[async_trait]
impl ResolverFault for LastFirst {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let mut all = it.lookup(name, port).await?;
        if all.len() > 32 {
            all.rotate_right(1);
        }
        Ok(all)
    }
}

/// Knows no name.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Resolver for Nobody {
    async fn lookup(&self, name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
        Err(Error::new(
            ErrorName::DomainNotFound,
            format!("{name} is unknown"),
        ))
    }
}

#[derive(Default)]
struct LocalhostAlone;

#[async_trait]
impl ProviderFault for LocalhostAlone {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let below = request.host().as_str().ends_with(".localhost");
        match request.resolver() {
            None if below => it.open_with(request.with_resolver(Arc::new(Nobody))),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct ZonesFirst;

#[async_trait]
impl ProviderFault for ZonesFirst {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.host().zone() {
            Some(zone) if zone.parse::<u32>().is_err() => Err(Error::new(
                ErrorName::InvalidAccess,
                "there is no such interface",
            )),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct EmptyHangs;

#[async_trait]
impl ResolverFault for EmptyHangs {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        match it.lookup(name, port).await {
            Ok(none) if none.is_empty() => std::future::pending().await,
            answer => answer,
        }
    }
}

#[derive(Default)]
struct RunOn;

#[async_trait]
impl ResolverFault for RunOn {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let (it, name) = (it.clone(), name.clone());
        super::gates::kept(async move { it.lookup(&name, port).await }).await
    }
}

/// The answer to a question that was asked early, if there was one at once.
fn ask(it: &Arc<dyn Resolver>, host: &Host, port: u16) -> Option<Result<Vec<SocketAddr>, Error>> {
    let asking = pin!(it.lookup(host, port));
    match asking.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[derive(Default)]
struct Early;

#[async_trait]
impl ProviderFault for Early {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let named = request.host().literal().is_none();
        let resolver = request.resolver().filter(|_| named);
        let answer = resolver.and_then(|it| ask(it, request.host(), request.port()));
        match answer {
            Some(answer) => it.open_with(resolving(request, Known(Mutex::new(Some(answer))))),
            None => it.open_with(request),
        }
    }
}

/// What was answered already.
#[derive(Default)]
struct Known(Mutex<Option<Result<Vec<SocketAddr>, Error>>>);

#[async_trait]
impl ResolverFault for Known {
    async fn lookup(
        &self,
        it: &Arc<dyn Resolver>,
        name: &Host,
        port: u16,
    ) -> Result<Vec<SocketAddr>, Error> {
        let known = lock(&self.0).take();
        match known {
            Some(answer) => answer,
            None => it.lookup(name, port).await,
        }
    }
}

#[derive(Default)]
struct Literals;

#[async_trait]
impl ProviderFault for Literals {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let literal = request.host().literal().is_some();
        if let Some(resolver) = request.resolver().filter(|_| literal) {
            // Its address is known anyway.
            let _ = ask(resolver, request.host(), request.port());
        }
        it.open_with(request)
    }
}

#[derive(Default)]
struct Canonical(OnceLock<String>);

impl Fault for Canonical {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        self.0.get_or_init(|| request.host().as_str().to_owned());
        request
    }

    fn peer<'a>(&'a self, it: &'a Inner) -> (&'a str, u16) {
        (self.0.get().map_or(it.host(), String::as_str), it.port())
    }
}

#[derive(Default)]
struct Ipv4Only;

#[async_trait]
impl ProviderFault for Ipv4Only {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.host().literal() {
            Some(ip) if ip.is_ipv6() => Err(Error::new(
                ErrorName::Network,
                "address family not supported",
            )),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct ByAddress;

#[async_trait]
impl ProviderFault for ByAddress {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let named = request.host().literal().is_none() && request.options().use_secure_transport;
        let resolver = request.resolver().filter(|_| named);
        let answer = resolver.and_then(|it| ask(it, request.host(), request.port()));
        let Some(at) = answer.and_then(|it| it.ok()?.first().copied()) else {
            return it.open_with(request);
        };
        let gates = request.gates().iter().cloned();
        let bare = OpenRequest::new(at.ip().to_string(), at.port())?;
        let bare = bare.with_options(request.options().clone());
        it.open_with(gates.fold(bare, OpenRequest::with_gate))
    }
}
