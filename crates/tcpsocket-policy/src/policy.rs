//! The rules.

use std::net::{IpAddr, Ipv4Addr};

use crate::app::Standing;
use crate::decision::Judged;
use crate::{App, Ask, Decision, Level, Rule, Verdict};

/// Only certified apps listen below this port.
const LOW_PORTS_END: u16 = 1024;

/// The rules for apps: a pure function from an app and an [`Ask`] to a [`Decision`].
///
/// Rules apply in a fixed order, and the first that applies decides: the grant, the level, the manifest, the low-port rule,
/// and then the policy's default, which denies. [`Policy::firefox_os`] has the other default.
///
/// ```
/// use tcpsocket_policy::{App, Ask, Level, Manifest, Policy};
///
/// let manifest = Manifest::new(Level::Certified).requesting_tcp_socket();
/// let app = App::new("mail.example", Level::Certified, manifest);
/// let ask = Ask::open("imap.example.org", 993)?;
///
/// assert!(!Policy::new().explain(&app, &ask).is_allowed());
/// assert!(Policy::firefox_os().explain(&app, &ask).is_allowed());
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    default: Verdict,
    server_address: Option<IpAddr>,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            default: Verdict::Denied,
            server_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }
}

impl Policy {
    /// The policy that denies everything to everybody.
    pub fn new() -> Policy {
        Policy::default()
    }

    /// The rules Firefox OS intended: levels, the manifest's permission and the low-port rule decide, and everything else is
    /// allowed, loopback and private networks included (PERM-8, PERM-10). To narrow that for half-trusted code, add a gate
    /// with [`Guarded::with_gate`](crate::Guarded::with_gate).
    ///
    /// One thing is stricter: under any policy, a server without an address is bound to loopback, because nothing should be
    /// reachable from a network by oversight. Programs written for Firefox OS could not give an address;
    /// [`with_server_address`](Policy::with_server_address)`(None)` restores the reach they had.
    pub fn firefox_os() -> Policy {
        Policy {
            default: Verdict::Allowed,
            ..Policy::default()
        }
    }

    /// The same policy with another default address for servers; `None` means every interface. Without this call it is
    /// 127.0.0.1.
    ///
    /// ```
    /// use std::net::{IpAddr, Ipv4Addr};
    /// use tcpsocket_policy::Policy;
    ///
    /// let policy = Policy::firefox_os();
    /// assert_eq!(policy.server_address(), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    /// assert_eq!(policy.with_server_address(None).server_address(), None);
    /// ```
    pub fn with_server_address(mut self, address: Option<IpAddr>) -> Policy {
        self.server_address = address;
        self
    }

    /// The default address for servers; `None` means every interface.
    pub fn server_address(&self) -> Option<IpAddr> {
        self.server_address
    }

    /// Decides as a guard would decide now, and gives the reason. Nothing is looked up, opened or recorded.
    ///
    /// `Allowed` is no promise: a later step of the same call may be denied, such as an automatic port that turns out to be
    /// a low one.
    pub fn explain(&self, app: &App, ask: &Ask) -> Decision {
        let standing = app.standing();
        Decision::new(app, standing, ask.clone(), self.judge(standing, ask))
    }

    pub(crate) fn judge(&self, app: Standing, ask: &Ask) -> Judged {
        let denied = |rule| Judged {
            verdict: Verdict::Denied,
            rule,
        };
        let Some(level) = app.level() else {
            return denied(Rule::Grant);
        };
        if level < Level::Privileged {
            return denied(Rule::Level);
        }
        if !app.requested {
            return denied(Rule::Manifest);
        }
        let low = |port| (1..LOW_PORTS_END).contains(&port);
        if level < Level::Certified && ask.listening_port().is_some_and(low) {
            return denied(Rule::LowPort);
        }
        Judged {
            verdict: self.default,
            rule: Rule::Default,
        }
    }
}
