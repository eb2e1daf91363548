//! How the command ends: its exit codes, and the failures behind them.

use std::fmt;
use std::io;
use std::process::ExitCode;

use tcpsocket::{Error, ErrorName};

/// The codes, for `--help`.
pub(crate) const EXIT_HELP: &str = "\
Exit codes:
  0  fine
  1  any other failure, a failed check of the demo included
  2  bad usage: arguments, or a host or port that cannot be one
  3  no connection: refused or unreachable (ConnectionRefusedError)
  4  nothing answered in time (NetworkTimeoutError)
  5  the connection broke: reset or cut off (NetworkError, NetworkInterruptError)
  6  not allowed (NotAllowedError)
  7  no such name (DomainNotFoundError)
  8  TLS failed (every name that begins with Security)";

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine = 0,
    Other = 1,
    Usage = 2,
    Refused = 3,
    Timeout = 4,
    Broken = 5,
    NotAllowed = 6,
    NoSuchName = 7,
    Security = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl From<ErrorName> for Exit {
    fn from(name: ErrorName) -> Exit {
        match name {
            ErrorName::ConnectionRefused => Exit::Refused,
            ErrorName::NetworkTimeout => Exit::Timeout,
            ErrorName::Network | ErrorName::NetworkInterrupt => Exit::Broken,
            ErrorName::NotAllowed => Exit::NotAllowed,
            ErrorName::DomainNotFound => Exit::NoSuchName,
            ErrorName::InvalidAccess => Exit::Usage,
            name if name.is_security() => Exit::Security,
            _ => Exit::Other,
        }
    }
}

/// Why the command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the socket reported.
    Socket(Error),
    /// The connection ended, and nothing says that the peer meant it to end there.
    Truncated,
    /// What this process could not do on its own side, for instance write its output.
    Local(&'static str, io::Error),
    /// The demo found something wrong; how many checks failed.
    Checks(usize),
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Socket(error) => error.name().into(),
            Failure::Truncated => Exit::Broken,
            Failure::Local(..) | Failure::Checks(_) => Exit::Other,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Socket(error) => error.fmt(f),
            Failure::Truncated => {
                f.write_str("the connection was cut off; the data may be incomplete")
            }
            Failure::Local(what, error) => write!(f, "{what}: {error}"),
            Failure::Checks(1) => f.write_str("1 check failed"),
            Failure::Checks(failed) => write!(f, "{failed} checks failed"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Socket(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_the_code_that_the_help_says() {
        for name in ErrorName::ALL {
            let code = Exit::from(*name) as u8;
            let line = EXIT_HELP.lines().find(|it| it.contains(name.as_str()));
            match line {
                Some(line) => assert!(
                    line.starts_with(&format!("  {code}  ")),
                    "{name}: {code}, {line}"
                ),
                None if name.is_security() => assert_eq!(code, 8, "{name}"),
                None if *name == ErrorName::InvalidAccess => assert_eq!(code, 2),
                None => assert_eq!(code, 1, "{name}"),
            }
        }
    }

    #[test]
    fn no_failure_ends_with_0() {
        let broken = || io::Error::from(io::ErrorKind::Other);
        let failures = [
            Failure::Truncated,
            Failure::Checks(1),
            Failure::Local("writing", broken()),
        ];
        for failure in failures {
            assert_ne!(failure.exit(), Exit::Fine, "{failure}");
        }
        for name in ErrorName::ALL {
            assert_ne!(Exit::from(*name), Exit::Fine, "{name}");
        }
    }
}
