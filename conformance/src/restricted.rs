//! Apps and the guards around them: a host's description of an app, and its means to change the grant.

use std::fmt;
use std::sync::Arc;

use tcpsocket::SocketProvider;

/// An app, as its host describes it for a new guard.
///
/// ```
/// use tcpsocket_conformance::{App, Trust, Policy};
///
/// let app = App::new(Trust::Privileged).claiming(Trust::Certified);
/// assert_eq!(app.granted, Trust::Privileged);
/// assert!(app.requests);
/// assert_eq!(app.policy, Policy::FirefoxOs);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct App {
    /// The level that its host grants.
    pub granted: Trust,
    /// The level that its manifest claims.
    pub claimed: Trust,
    /// Whether its manifest requests `tcp-socket`.
    pub requests: bool,
    /// The policy that it is under.
    pub policy: Policy,
}

impl App {
    /// An app of this level, granted and claimed, that requests `tcp-socket`, under the policy of Firefox OS.
    pub fn new(level: Trust) -> App {
        App {
            granted: level,
            claimed: level,
            requests: true,
            policy: Policy::FirefoxOs,
        }
    }

    /// The same with a manifest that claims this level.
    pub fn claiming(mut self, level: Trust) -> App {
        self.claimed = level;
        self
    }

    /// The same with a manifest that does not request `tcp-socket`.
    pub fn requesting_nothing(mut self) -> App {
        self.requests = false;
        self
    }

    /// The same under another policy.
    pub fn under(mut self, policy: Policy) -> App {
        self.policy = policy;
        self
    }
}

/// A level, which a host grants or a manifest claims (PERM-2). Ordered, the least trusted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// `web`.
    Hosted,
    /// `privileged`.
    Privileged,
    /// `certified`.
    Certified,
}

impl Trust {
    /// Every level, the least trusted first.
    pub const ALL: [Trust; 3] = [Trust::Hosted, Trust::Privileged, Trust::Certified];
}

/// The policies that every guard has (PERM-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// The policy without rules, which denies everything.
    Silent,
    /// `firefox_os`: whatever levels, manifest and the low-port rule do not deny.
    FirefoxOs,
}

/// A guard for an app, and its host's control of it.
pub struct Restricted {
    pub(crate) provider: Arc<dyn SocketProvider>,
    grant: Box<dyn Fn(Option<Trust>) + Send + Sync>,
}

impl Restricted {
    /// The app's provider, and the host's function to change the grant: to a level, or with `None` to nothing. When
    /// `grant` returns, the change has taken effect.
    pub fn new(
        provider: Arc<dyn SocketProvider>,
        grant: impl Fn(Option<Trust>) + Send + Sync + 'static,
    ) -> Restricted {
        Restricted {
            provider,
            grant: Box::new(grant),
        }
    }

    pub(crate) fn grant(&self, level: Option<Trust>) {
        (self.grant)(level);
    }
}

impl fmt::Debug for Restricted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restricted")
            .field("provider", &self.provider)
            .finish_non_exhaustive()
    }
}
