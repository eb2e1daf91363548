//! How far an app is trusted.

use std::error::Error as StdError;
use std::fmt;
use std::str::FromStr;

/// An app's level of trust; Firefox OS called it the app's type. Ordered, the least trusted first.
///
/// ```
/// use tcpsocket_policy::Level;
///
/// assert!(Level::Hosted < Level::Privileged && Level::Privileged < Level::Certified);
/// assert_eq!("web".parse(), Ok(Level::Hosted));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `web`: unreviewed code from anywhere. It never gets a socket (PERM-2).
    Hosted,
    /// `privileged`: packaged, reviewed and signed. It gets sockets if its manifest requests them (PERM-3).
    Privileged,
    /// `certified`: part of the system. It may also listen on ports below 1024 (PERM-7).
    Certified,
}

impl Level {
    /// Every level, the least trusted first.
    pub const ALL: [Level; 3] = [Level::Hosted, Level::Privileged, Level::Certified];

    /// The level's name in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Hosted => "web",
            Level::Privileged => "privileged",
            Level::Certified => "certified",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Level, UnknownLevel> {
        let found = Level::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or(UnknownLevel(()))
    }
}

/// The error of parsing a text that is not a [`Level`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLevel(());

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the levels are \"web\", \"privileged\" and \"certified\"")
    }
}

impl StdError for UnknownLevel {}
