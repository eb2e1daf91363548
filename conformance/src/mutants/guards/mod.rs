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
        repeats: "Rights that an app grants itself in its own description.",
        clauses: &["PERM-2"],
        what: "An app has the level claimed by its manifest.",
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
        repeats: "Levels that include every permission, requested or not.",
        clauses: &["PERM-3"],
        what: "An app has tcp-socket without requesting it.",
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
        repeats: "wasmtime, before TCP and UDP were off by default.",
        clauses: &["PERM-8"],
        what: "A policy without rules allows everything.",
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
        repeats: "Firefox OS, whose app side checked the permission when its window was created.",
        clauses: &["PERM-4"],
        what: "A changed grant has no effect on later calls.",
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
        repeats: "Allowlists of names before a resolver with a search list: the list allows db, the app reaches db.corp.example.",
        clauses: &["NAME-8"],
        what: "A guard passes names on unchanged.",
        caught_by: &["permissions/absolute-names"],
        needs: &[Capability::Gates, Capability::Names, Capability::Resolver],
        guard: |subject, under, app| subject.restricted(provider::<AsGiven>(under), app),
        ..Mutant::SOUND
    },
    Mutant {
        name: "what-is-open-stays-open",
        repeats: "Deno.permissions.revoke, which applies to the next call only.",
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
        repeats: "Settings that are removed and set again.",
        clauses: &["PERM-4", "PERM-2"],
        what: "Any change of the grant ends everything open.",
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
        repeats: "A guard that checked the grant only at the end of a call.",
        clauses: &["PERM-23"],
        what: "A revocation undone before the end of a call does not end that call.",
        caught_by: &["permissions/granted-again"],
        needs: SERVERS,
        guard: forgiving,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-grant-lifts-above-the-manifest",
        repeats: "Two levels, of which the newer one counts.",
        clauses: &["PERM-2", "PERM-4"],
        what: "A changed grant is the app's level, whatever the app claims.",
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
        repeats: "Hosts that run as root, where nobody else refuses.",
        clauses: &["PERM-7"],
        what: "A privileged app may listen below 1024 if it names the port.",
        caught_by: &["permissions/low-ports", "permissions/one-message"],
        needs: SERVERS,
        guard: |subject, provider, app| low_ports(subject, provider, app, true),
        ..Mutant::SOUND
    },
    Mutant {
        name: "automatic-low-ports-are-free",
        repeats: "Rules about the requested port, although the system chooses.",
        clauses: &["PERM-7"],
        what: "A privileged app may listen below 1024 if the system chose the port.",
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
        repeats: "Rules about a port that do not say whether it is the app's or the peer's.",
        clauses: &["PERM-7", "PERM-8"],
        what: "A privileged app may not connect to a port below 1024.",
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
        repeats: "Lists of addresses that no app should need.",
        clauses: &["PERM-10"],
        what: "firefox_os denies ::1.",
        caught_by: &["permissions/loopback"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<NoLoopback>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-denial-says-why",
        repeats: "Messages for developers that tell an app what is on a list.",
        clauses: &["PERM-14"],
        what: "The message of a denial names the host or the port.",
        caught_by: &["permissions/one-message"],
        needs: SERVERS,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<SaysWhy>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "failures-are-passed-on",
        repeats: "Error messages of connects, which tell sandboxed code what its names resolve to.",
        clauses: &["PERM-22"],
        what: "An app receives the failure messages from below its guard.",
        caught_by: &["permissions/failures"],
        needs: SERVERS,
        guard: |subject, provider, app| talking(subject, provider, app, |said| said),
        ..Mutant::SOUND
    },
    Mutant {
        name: "failures-keep-their-cause",
        repeats: "Wrappers with a message of their own that chain the wrapped error.",
        clauses: &["PERM-22"],
        what: "An app receives the guard's message for a failure, with the error from below as its source.",
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
        repeats: "Sanitizers that ignore an error's origin.",
        clauses: &["PERM-22", "GATE-13"],
        what: "An app that ends its socket with an error of its own receives another one.",
        caught_by: &["permissions/own-errors"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, sockets::<Strangers>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-app-asks-its-own-gates",
        repeats: "Wrappers that add to the given request: the app has a control of its own.",
        clauses: &["PERM-16"],
        what: "The app's gates are asked.",
        caught_by: &["permissions/gates-of-the-app"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<AppsGates>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-app-brings-a-resolver",
        repeats: "DNS options in requests, in sandboxes with rules about names.",
        clauses: &["PERM-16"],
        what: "The app's resolver is ignored instead of refused.",
        caught_by: &["permissions/resolver-of-the-app"],
        needs: GATES,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<AppsResolver>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "guarded-by-the-outer-guard-only",
        repeats: "Sandboxes that find themselves in a sandbox, and rely on the outer one.",
        clauses: &["PERM-17"],
        what: "The inner of two guards is not asked.",
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
        repeats: "Wrappers that hope for the best.",
        clauses: &["PERM-18"],
        what: "A provider without gates is used all the same.",
        caught_by: &["permissions/no-gates"],
        needs: SERVERS,
        guard: |subject, provider, app| {
            subject.restricted(super::bend::provider::<SaysGates>(provider), app)
        },
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-app-listens-everywhere",
        repeats: "Gecko, whose listen binds every interface.",
        clauses: &["PERM-19"],
        what: "An app's server without an address is bound to all of them.",
        caught_by: &["permissions/server-address"],
        needs: SERVERS,
        guard: |subject, provider, app| around(subject, provider, app, wrapped::<Everywhere>),
        ..Mutant::SOUND
    },
    Mutant {
        name: "denied-when-it-is-dialled",
        repeats: "Checks in the connecting process, far behind the asking one.",
        clauses: &["PERM-9"],
        what: "A denied call reaches the provider first.",
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
