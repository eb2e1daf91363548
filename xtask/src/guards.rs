//! The guards of `tcpsocket-policy`, for the kit.

use std::sync::Arc;

use tcpsocket::SocketProvider;
use tcpsocket_conformance::{App, Policy, Restricted, Trust};
use tcpsocket_policy as policy;

/// A guard around any provider, for an app as the kit describes it. `None` if there is no such policy.
pub(crate) fn restricted(provider: Arc<dyn SocketProvider>, app: App) -> Option<Restricted> {
    let rules = match app.policy {
        Policy::Silent => policy::Policy::new(),
        Policy::FirefoxOs => policy::Policy::firefox_os(),
        _ => return None,
    };
    let manifest = policy::Manifest::new(level(app.claimed));
    let manifest = match app.requests {
        true => manifest.requesting_tcp_socket(),
        false => manifest,
    };
    let app = policy::App::new("app.example", level(app.granted), manifest);
    let grant = app.grant().clone();
    let guarded = policy::Guarded::new(provider, app, rules);
    Some(Restricted::new(
        Arc::new(guarded),
        move |granted| match granted {
            Some(trust) => grant.set_level(level(trust)),
            None => grant.revoke(),
        },
    ))
}

fn level(trust: Trust) -> policy::Level {
    match trust {
        Trust::Hosted => policy::Level::Hosted,
        Trust::Privileged => policy::Level::Privileged,
        Trust::Certified => policy::Level::Certified,
    }
}
