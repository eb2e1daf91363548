//! Decisions, with their rules and reasons.

use std::fmt;
use std::sync::Arc;

use crate::app::Standing;
use crate::{App, Ask};

/// The decision about one [`Ask`] of one app, with its rule and reason.
///
/// For hosts and their logs. The app learns only the verdict.
///
/// ```
/// use tcpsocket_policy::{App, Ask, Level, Manifest, Policy, Rule};
///
/// let manifest = Manifest::new(Level::Privileged).requesting_tcp_socket();
/// let app = App::new("httpd.example", Level::Privileged, manifest);
///
/// let decision = Policy::firefox_os().explain(&app, &Ask::listen(80)?);
/// assert!(!decision.is_allowed());
/// assert_eq!(decision.rule(), Rule::LowPort);
/// assert_eq!(
///     decision.to_string(),
///     "httpd.example may not listen on port 80: listening below 1024 takes a certified app; this one is privileged, \
///      granted privileged and claiming privileged (rule: low-port)",
/// );
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    app: Arc<str>,
    asked: Ask,
    verdict: Verdict,
    rule: Rule,
    reason: String,
}

impl Decision {
    pub(crate) fn new(app: &App, standing: Standing, asked: Ask, judged: Judged) -> Decision {
        Decision {
            app: app.shared_id(),
            asked,
            verdict: judged.verdict,
            rule: judged.rule,
            reason: judged.reason(standing),
        }
    }

    /// The app's id.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The app's request.
    pub fn asked(&self) -> &Ask {
        &self.asked
    }

    /// The verdict.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether the verdict is [`Verdict::Allowed`].
    pub fn is_allowed(&self) -> bool {
        self.verdict == Verdict::Allowed
    }

    /// The deciding rule.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The reason, for people. Its wording is not part of the interface.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decision {
            app,
            asked,
            rule,
            reason,
            ..
        } = self;
        let may = match self.verdict {
            Verdict::Allowed => "may",
            Verdict::Denied => "may not",
        };
        write!(f, "{app} {may} {asked}: {reason} (rule: {rule})")
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may go on.
    Allowed,
    /// It may not.
    Denied,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
        })
    }
}

/// The rules, in order. The first that applies decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// `grant`: the host revoked the grant (PERM-4).
    Grant,
    /// `level`: hosted apps get no sockets (PERM-2).
    Level,
    /// `manifest`: the manifest must request the permission (PERM-3).
    Manifest,
    /// `low-port`: only certified apps listen below port 1024 (PERM-7).
    LowPort,
    /// `default`: the policy's verdict where no other rule applies.
    Default,
}

impl Rule {
    /// The rule's name in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Rule::Grant => "grant",
            Rule::Level => "level",
            Rule::Manifest => "manifest",
            Rule::LowPort => "low-port",
            Rule::Default => "default",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A decision without the text for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    pub(crate) rule: Rule,
}

impl Judged {
    pub(crate) fn is_denied(self) -> bool {
        self.verdict == Verdict::Denied
    }

    fn reason(self, standing: Standing) -> String {
        let Standing {
            granted, claimed, ..
        } = standing;
        let (Some(granted), Some(level)) = (granted, standing.level()) else {
            return "the host has revoked what it granted".to_owned();
        };
        let levels = format!("this one is {level}, granted {granted} and claiming {claimed}");
        match (self.rule, self.verdict) {
            (Rule::Grant, _) => "the host has revoked what it granted".to_owned(),
            (Rule::Level, _) => format!("sockets take a privileged app; {levels}"),
            (Rule::Manifest, _) => "its manifest does not request tcp-socket".to_owned(),
            (Rule::LowPort, _) => format!("listening below 1024 takes a certified app; {levels}"),
            (Rule::Default, Verdict::Allowed) => "no rule denies it".to_owned(),
            (Rule::Default, Verdict::Denied) => "no rule allows it".to_owned(),
        }
    }
}
