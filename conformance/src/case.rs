//! Cases, and their failures.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tcpsocket::Capabilities;

use crate::{Capability, Cx};

/// A future that a subject's runtime runs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How the body of a case ends.
pub type Outcome = Result<(), Failure>;

/// How binding a clause is (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every implementation must comply.
    Must,
    /// An implementation needs a reason not to comply.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        })
    }
}

/// One row of the table: the requirement, its clauses, and the code that shows it.
///
/// Lists of known failures rely on ids: `area/words`, never reused.
#[derive(Clone, Copy)]
pub struct Case {
    /// `area/words-of-the-fact`.
    pub id: &'static str,
    /// The clauses of the specification that it shows, such as `TX-4`.
    pub clauses: &'static [&'static str],
    /// The level of the most binding one.
    pub level: Level,
    /// The capabilities that it needs.
    pub needs: &'static [Capability],
    /// Capabilities with which it cannot run: it shows that undeclared capabilities are refused.
    pub lacks: &'static [Capability],
    /// Whether it needs guards: [`Subject::restricted`](crate::Subject::restricted).
    pub guarded: bool,
    /// The requirement in one sentence, printed when the case fails.
    pub requirement: &'static str,
    /// The time after which its process is killed.
    pub deadline: Duration,
    /// The body.
    pub run: fn(Cx) -> BoxFuture<Outcome>,
}

impl Case {
    /// A MUST that needs no capabilities, for use as `..Case::MUST`.
    pub const MUST: Case = Case {
        id: "",
        clauses: &[],
        level: Level::Must,
        needs: &[],
        lacks: &[],
        guarded: false,
        requirement: "",
        deadline: Duration::from_secs(10),
        run: |_| Box::pin(async { Err(Failure::new("the case has no body")) }),
    };

    /// Why this case cannot run against an implementation with these capabilities, if it cannot.
    pub fn precondition(&self, offers: &Capabilities) -> Option<String> {
        let missing = self.needs.iter().find(|it| !it.declared(offers));
        let present = self.lacks.iter().find(|it| it.declared(offers));
        missing
            .map(|it| format!("{it} is not declared"))
            .or_else(|| present.map(|it| format!("{it} is declared")))
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("id", &self.id)
            .field("clauses", &self.clauses)
            .finish_non_exhaustive()
    }
}

/// Why a case failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failure {
    /// The thing observed.
    pub what: String,
    /// The expected value.
    pub expected: String,
    /// The actual value.
    pub actual: String,
    /// Whether this is no fault: the case cannot bring its situation about here.
    pub not_here: bool,
}

impl Failure {
    /// A failure without a comparison.
    pub fn new(what: impl Into<String>) -> Failure {
        Failure::compared(what, "", "")
    }

    /// A failure with the expected and the actual value.
    pub fn compared(
        what: impl Into<String>,
        expected: impl Into<String>,
        actual: impl Into<String>,
    ) -> Failure {
        Failure {
            what: what.into(),
            expected: expected.into(),
            actual: actual.into(),
            not_here: false,
        }
    }

    /// Not a failure, but an unmet precondition found only while the case runs.
    pub fn not_here(why: impl Into<String>) -> Failure {
        Failure {
            not_here: true,
            ..Failure::new(why)
        }
    }
}

impl From<tcpsocket::Error> for Failure {
    fn from(error: tcpsocket::Error) -> Failure {
        Failure::compared("a call", "no error", error.to_string())
    }
}
