//! Guards that are broken: what becomes of levels, manifests and revocations.

mod forgiving;
mod talking;
mod wrappers;

use std::sync::Arc;

use tcpsocket::{Error, SocketProvider};

use self::forgiving::forgiving;
use self::talking::{Strangers, talking};
use self::wrappers::{
    AppsGates, AppsResolver, AsGiven, Everywhere, Foretold, LowOpens, NoLoopback, SaysGates,
    SaysWhy, low_ports, outer_only, stays_open,
};
use super::Mutant;
use super::bend::{ProviderFault, provider, sockets};
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
        guard: |subject, under, app| subject.restricted(provider::<AsGiven>(under), app),
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
        name: "a-grant-that-is-back-was-never-gone",
        repeats: "A guard that asked, when a call was over, what was granted by then.",
        clauses: &["PERM-23"],
        what: "A revocation that is taken back before a call is over ends nothing of it.",
        caught_by: &["permissions/granted-again"],
        needs: SERVERS,
        guard: forgiving,
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
        name: "failures-are-passed-on",
        repeats: "Error messages of connects, by which sandboxed code reads what its names resolve to.",
        clauses: &["PERM-22"],
        what: "An app is told of a failure in the words of those below its guard.",
        caught_by: &["permissions/failures"],
        needs: SERVERS,
        guard: |subject, provider, app| talking(subject, provider, app, |said| said),
        ..Mutant::SOUND
    },
    Mutant {
        name: "failures-keep-their-cause",
        repeats: "Wrappers that write a message of their own, and chain the error that they wrap.",
        clauses: &["PERM-22"],
        what: "An app is told of a failure in words of the guard's, with the error from below as its source.",
        caught_by: &["permissions/failures"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            talking(subject, provider, app, |said| {
                Error::with_source(said.name(), "it failed", said)
            })
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "own-errors-are-strangers",
        repeats: "Sanitizers that know no origin.",
        clauses: &["PERM-22", "GATE-13"],
        what: "An app that ends its socket with an error of its own is told another one.",
        caught_by: &["permissions/own-errors"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, sockets::<Strangers>),
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
