//! Guards that are broken: what becomes of levels, manifests and revocations.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    TcpSocket, async_trait,
};

use super::Mutant;
use super::bend::{Inner, ProviderFault, provider};
use crate::sync::lock;
use crate::{App, Capability, Policy, Restricted, Subject, Trust};

const GATES: &[Capability] = &[Capability::Gates];
const SERVERS: &[Capability] = &[Capability::Gates, Capability::Listen];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "the-manifest-is-believed",
        repeats: "Rights that an app writes into its own description.",
        clauses: &["PERM-2"],
        what: "An app has the level that its manifest claims.",
        caught_by: &["permissions/levels"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let granted = App {
                granted: app.claimed,
                ..app
            };
            subject.restricted(provider, granted)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-request-is-not-read",
        repeats: "Levels that carry every permission with them, requested or not.",
        clauses: &["PERM-3"],
        what: "An app that does not request tcp-socket has it.",
        caught_by: &[
            "permissions/before-anything-else",
            "permissions/manifest",
            "permissions/one-message",
        ],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let requests = App {
                requests: true,
                ..app
            };
            subject.restricted(provider, requests)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "open-by-default",
        repeats: "wasmtime before tcp and udp were off by default.",
        clauses: &["PERM-8"],
        what: "A policy that says nothing allows everything.",
        caught_by: &[
            "permissions/before-anything-else",
            "permissions/one-message",
            "permissions/silent-policy",
        ],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let allowing = App {
                policy: Policy::FirefoxOs,
                ..app
            };
            subject.restricted(provider, allowing)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "decided-when-the-guard-is-made",
        repeats: "Firefox OS, whose app side asked for the permission when its window was made.",
        clauses: &["PERM-4"],
        what: "A grant that changes has no effect on later calls.",
        caught_by: &[
            "permissions/revoked-lingering",
            "permissions/revoked-sockets",
        ],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let made = subject.restricted(provider, app)?;
            Some(Restricted::new(made.provider.clone(), |_| {}))
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "apps-have-a-search-list",
        repeats: "Allowlists of names before a resolver that tries others: what is allowed is db, what is reached db.corp.example.",
        clauses: &["NAME-8"],
        what: "A guard passes names on as they were given.",
        caught_by: &["permissions/absolute-names"],
        needs: &[Capability::Gates, Capability::Names, Capability::Resolver],
        guard: |subject, provider, app| subject.restricted(provider_as_given(provider), app),
        ..Mutant::SOUND
    },
    Mutant {
        name: "what-is-open-stays-open",
        repeats: "Deno.permissions.revoke, which is about the next call.",
        clauses: &["PERM-4"],
        what: "A revocation refuses later calls, and ends nothing.",
        caught_by: &[
            "permissions/revoked-lingering",
            "permissions/revoked-servers",
            "permissions/revoked-sockets",
            "permissions/revoked-while-connecting",
        ],
        needs: SERVERS,
        guard: stays_open,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-lower-grant-ends-everything",
        repeats: "Settings that are taken off and put on again.",
        clauses: &["PERM-4", "PERM-2"],
        what: "Any change of the grant ends what is open.",
        caught_by: &["permissions/lowered", "permissions/revoked-under-way"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let made = subject.restricted(provider, app)?;
            let provider = made.provider.clone();
            let ends = move |level| {
                made.grant(None);
                made.grant(level);
            };
            Some(Restricted::new(provider, ends))
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-grant-lifts-above-the-manifest",
        repeats: "Two levels of which the newer one counts.",
        clauses: &["PERM-2", "PERM-4"],
        what: "A grant that changes is what the app has, whatever it claims.",
        caught_by: &["permissions/decided-anew"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let all = App {
                claimed: Trust::Certified,
                ..app
            };
            let least = App {
                granted: app.granted.min(app.claimed),
                ..all
            };
            subject.restricted(provider, least)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "low-ports-are-free",
        repeats: "Hosts that run as root, where nobody else says no.",
        clauses: &["PERM-7"],
        what: "A privileged app may listen below 1024 if it names the port.",
        caught_by: &["permissions/low-ports", "permissions/one-message"],
        needs: SERVERS,
        guard: |subject, provider, app| low_ports(subject, provider, app, true),
        ..Mutant::SOUND
    },
    Mutant {
        name: "automatic-low-ports-are-free",
        repeats: "Rules about what was asked for, where the system chooses.",
        clauses: &["PERM-7"],
        what: "A privileged app may listen below 1024 if the system chose that.",
        caught_by: &[
            "permissions/automatic-low-port",
            "permissions/guards-around-guards",
            "permissions/one-message",
        ],
        needs: SERVERS,
        guard: |subject, provider, app| low_ports(subject, provider, app, false),
        ..Mutant::SOUND
    },
    Mutant {
        name: "low-ports-cannot-be-opened",
        repeats: "Rules about a port that do not say whose.",
        clauses: &["PERM-7", "PERM-8"],
        what: "A privileged app may not open to a port below 1024.",
        caught_by: &[
            "permissions/one-message",
            "permissions/opening-to-low-ports",
            "permissions/resolver-of-the-app",
        ],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<LowOpens>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "loopback-is-denied",
        repeats: "Lists of addresses that no app needs.",
        clauses: &["PERM-10"],
        what: "firefox_os denies ::1.",
        caught_by: &["permissions/loopback"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<NoLoopback>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-denial-says-why",
        repeats: "Messages for developers, from which an app learns what is on a list.",
        clauses: &["PERM-14"],
        what: "The message of a denial names the host or the port.",
        caught_by: &["permissions/one-message"],
        needs: SERVERS,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<SaysWhy>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-app-asks-its-own-gates",
        repeats: "Wrappers that add to what they were given: an app with a control of its own.",
        clauses: &["PERM-16"],
        what: "Gates of the app are asked.",
        caught_by: &["permissions/gates-of-the-app"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<AppsGates>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-app-brings-a-resolver",
        repeats: "DNS options that a request may carry, in sandboxes whose rules are about names.",
        clauses: &["PERM-16"],
        what: "A resolver of the app is ignored, not refused.",
        caught_by: &["permissions/resolver-of-the-app"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<AppsResolver>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "guarded-by-the-outer-guard-only",
        repeats: "Sandboxes that find themselves in a sandbox, and take the first one's word.",
        clauses: &["PERM-17"],
        what: "The inner one of two guards is not asked.",
        caught_by: &[
            "permissions/guards-around-guards",
            "permissions/revoked-by-either",
        ],
        needs: SERVERS,
        guard: outer_only,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-guard-without-gates",
        repeats: "Wrappers that hope.",
        clauses: &["PERM-18"],
        what: "A provider that has no gates is used all the same.",
        caught_by: &["permissions/no-gates"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            subject.restricted(super::bend::provider::<SaysGates>(provider), app)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-app-listens-everywhere",
        repeats: "Gecko, where listen is on every interface.",
        clauses: &["PERM-19"],
        what: "A server of an app that names no address is bound to all.",
        caught_by: &["permissions/server-address"],
        needs: SERVERS,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<Everywhere>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "denied-when-it-is-dialled",
        repeats: "Checks in the process that connects, far behind the one that asked.",
        clauses: &["PERM-9"],
        what: "What is denied reaches the provider first.",
        caught_by: &["permissions/before-anything-else", "permissions/no-gates"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            let below = provider.clone();
            let made = subject.restricted(provider, app)?;
            let inner = made.provider.clone();
            Some(instead(made, Arc::new(Foretold { inner, below })))
        },
        ..Mutant::SOUND
    },
];

/// A sound guard with something around it.
fn around(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
    wrap: fn(Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider>,
) -> Option<Restricted> {
    let made = subject.restricted(provider, app)?;
    let wrapped = wrap(made.provider.clone());
    Some(instead(made, wrapped))
}

/// Another provider for the app; the host's side stays.
fn instead(made: Restricted, provider: Arc<dyn SocketProvider>) -> Restricted {
    Restricted::new(provider, move |level| made.grant(level))
}

fn wrapped<F: ProviderFault>(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<F>(it)
}

fn denied() -> Error {
    Error::new(ErrorName::NotAllowed, "denied")
}

/// A guard whose grant never changes, for what is open, and in front of it one that decides about calls.
fn stays_open(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
) -> Option<Restricted> {
    let made = subject.restricted(provider, app)?;
    let barred = Arc::new(AtomicBool::new(false));
    let inner = made.provider.clone();
    let provider = Arc::new(Barred {
        inner,
        barred: barred.clone(),
    });
    let grant = move |level: Option<Trust>| {
        let least = level.map(|it| it.min(app.claimed));
        barred.store(least.is_none_or(|it| it == Trust::Hosted), Ordering::SeqCst);
    };
    Some(Restricted::new(provider, grant))
}

#[derive(Debug)]
struct Barred {
    inner: Arc<dyn SocketProvider>,
    barred: Arc<AtomicBool>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Barred {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.barred.load(Ordering::SeqCst) {
            true => Err(denied()),
            false => self.inner.open_with(request),
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        match self.barred.load(Ordering::SeqCst) {
            true => Err(denied()),
            false => self.inner.listen_with(request).await,
        }
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

/// A guard that lets privileged apps listen below 1024, on ports that are named or on those that are chosen.
fn low_ports(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
    named: bool,
) -> Option<Restricted> {
    let made = subject.restricted(provider.clone(), app)?;
    let level = app.granted.min(app.claimed);
    if level != Trust::Privileged {
        return Some(made);
    }
    let lenient = App {
        granted: Trust::Certified,
        claimed: Trust::Certified,
        ..app
    };
    let lenient = subject.restricted(provider, lenient)?;
    let provider = Arc::new(LowPorts {
        strict: made.provider.clone(),
        lenient: lenient.provider.clone(),
        named,
    });
    let grant = move |level: Option<Trust>| {
        made.grant(level);
        lenient.grant(level);
    };
    Some(Restricted::new(provider, grant))
}

#[derive(Debug)]
struct LowPorts {
    strict: Arc<dyn SocketProvider>,
    lenient: Arc<dyn SocketProvider>,
    named: bool,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for LowPorts {
    fn capabilities(&self) -> Capabilities {
        self.strict.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        self.strict.open_with(request)
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        match (self.named, request.port()) {
            (true, 1..1024) | (false, 0) => self.lenient.listen_with(request).await,
            _ => self.strict.listen_with(request).await,
        }
    }

    async fn idle(&self) {
        self.strict.idle().await;
    }
}

#[derive(Default)]
struct LowOpens;

#[async_trait]
impl ProviderFault for LowOpens {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.port() {
            ..1024 => Err(denied()),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct NoLoopback;

#[async_trait]
impl ProviderFault for NoLoopback {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        match request.host().literal() {
            Some(ip) if ip.is_ipv6() && ip.is_loopback() => Err(denied()),
            _ => it.open_with(request),
        }
    }
}

#[derive(Default)]
struct SaysWhy;

#[async_trait]
impl ProviderFault for SaysWhy {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let why = format!("{} is not allowed", request.host());
        let opened = it.open_with(request);
        opened.map_err(|error| match error.name() {
            ErrorName::NotAllowed => Error::new(ErrorName::NotAllowed, why),
            _ => error,
        })
    }
}

#[derive(Default)]
struct AppsGates;

#[async_trait]
impl ProviderFault for AppsGates {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        for gate in request.gates() {
            let asked = gate.name(request.host(), request.port());
            crate::wait::poll_once(std::pin::pin!(asked)).is_ready();
        }
        it.open_with(request)
    }
}

#[derive(Default)]
struct AppsResolver;

#[async_trait]
impl ProviderFault for AppsResolver {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let Some(_) = request.resolver() else {
            return it.open_with(request);
        };
        let mut bare = OpenRequest::new(request.host().given(), request.port())?
            .with_options(request.options().clone());
        for gate in request.gates() {
            bare = bare.with_gate(gate.clone());
        }
        it.open_with(bare)
    }
}

#[derive(Default)]
struct Everywhere;

#[async_trait]
impl ProviderFault for Everywhere {
    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let mut options = request.options().clone();
        if options.address.is_none() {
            options.address = Some([0, 0, 0, 0].into());
        }
        it.listen_with(request.with_options(options)).await
    }
}

/// Declares gates, and drops those that there are.
#[derive(Default)]
struct SaysGates;

#[async_trait]
impl ProviderFault for SaysGates {
    fn capabilities(&self, it: &Arc<dyn SocketProvider>) -> Capabilities {
        let mut offers = it.capabilities();
        offers.gates = true;
        offers
    }
}

/// What was made as a guard, and what is below it.
type Made = Mutex<Vec<(std::sync::Weak<dyn SocketProvider>, Arc<dyn SocketProvider>)>>;

static MADE: Made = Mutex::new(Vec::new());

fn outer_only(
    subject: &dyn Subject,
    provider: Arc<dyn SocketProvider>,
    app: App,
) -> Option<Restricted> {
    let below = |it: &Arc<dyn SocketProvider>| {
        let made = lock(&MADE);
        let found = made
            .iter()
            .find(|(guard, _)| guard.upgrade().is_some_and(|guard| Arc::ptr_eq(&guard, it)));
        found.map(|(_, below)| below.clone())
    };
    let provider = below(&provider).unwrap_or(provider);
    let made = subject.restricted(provider.clone(), app)?;
    lock(&MADE).push((Arc::downgrade(&made.provider), provider));
    Some(made)
}

/// A guard that tells what is below it of every call before it decides.
struct Foretold {
    inner: Arc<dyn SocketProvider>,
    below: Arc<dyn SocketProvider>,
}

impl fmt::Debug for Foretold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Foretold").field(&self.inner).finish()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl SocketProvider for Foretold {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn open_with(&self, request: OpenRequest) -> Result<Arc<dyn TcpSocket>, Error> {
        match self.inner.open_with(request.clone()) {
            Err(error) if request.resolver().is_none() => {
                // It is not needed, and has been seen.
                drop(self.below.open_with(request.without_gates()));
                Err(error)
            }
            opened => opened,
        }
    }

    async fn listen_with(&self, request: ListenRequest) -> Result<Arc<dyn TcpServerSocket>, Error> {
        self.inner.listen_with(request).await
    }

    async fn idle(&self) {
        self.inner.idle().await;
    }
}

/// Undoes that a name is absolute, unless it was given so.
fn provider_as_given(it: Arc<dyn SocketProvider>) -> Arc<dyn SocketProvider> {
    provider::<AsGiven>(it)
}

#[derive(Default)]
struct AsGiven;

#[async_trait]
impl ProviderFault for AsGiven {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let given = OpenRequest::new(request.host().given(), request.port())?;
        let given = given.with_options(request.options().clone());
        let gates = request.gates().iter().cloned();
        it.open_with(gates.fold(given, OpenRequest::with_gate))
    }
}
