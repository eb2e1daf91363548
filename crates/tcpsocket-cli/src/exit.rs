//! How the command ends: its exit codes, and the failures behind them.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::process::ExitCode;

use tcpsocket::{Error, ErrorName};

/// The meaning of each code, in lines of at most 80 columns with the code.
pub(crate) const CODES: &[(Exit, &str)] = &[
    (
        Exit::Fine,
        "success; the operating system has all input, the peer perhaps not yet",
    ),
    (
        Exit::Other,
        "any other failure, such as a port in use (AddressInUseError)",
    ),
    (
        Exit::Usage,
        "bad usage: invalid arguments, or an invalid host (InvalidAccessError)",
    ),
    (
        Exit::Refused,
        "no connection: refused or unreachable (ConnectionRefusedError)",
    ),
    (Exit::Timeout, "no answer in time (NetworkTimeoutError)"),
    (
        Exit::Broken,
        "broken, cut short, or wrong protocol (NetworkError, NetworkInterruptError)",
    ),
    (Exit::NotAllowed, "not allowed (NotAllowedError)"),
    (Exit::NoSuchName, "no such name (DomainNotFoundError)"),
    (
        Exit::Security,
        "TLS or the certificate failed (error names that begin with Security)",
    ),
];

/// The codes, for `--help`.
pub(crate) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (exit, meaning) in CODES {
        text += &format!("\n  {}  {meaning}", *exit as u8);
    }
    text
}

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

/// Why the command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the socket reported.
    Socket(Error),
    /// A failure on this process's own side, for instance of writing its output.
    Local(&'static str, io::Error),
    /// This many checks of the demo failed.
    Checks(usize),
}

impl Failure {
    /// The connection ended without a sign that the peer meant it to end there.
    pub(crate) fn cut_off() -> Failure {
        let message = "the connection was cut off; the received data may be incomplete";
        Failure::Socket(Error::new(ErrorName::NetworkInterrupt, message))
    }

    /// The peer closed the connection before the end of the input.
    pub(crate) fn unsent() -> Failure {
        let message = "the peer closed the connection before all of the input was sent";
        Failure::Socket(Error::new(ErrorName::NetworkInterrupt, message))
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Failure::Socket(error) if is_no_address_of_ours(error) => Exit::Usage,
            Failure::Socket(error) => error.name().into(),
            Failure::Local(..) | Failure::Checks(_) => Exit::Other,
        }
    }
}

/// Whether `listen` was given an address of another machine. The name alone does not tell: other refusals of the system share it (SRV-14).
fn is_no_address_of_ours(error: &Error) -> bool {
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>());
    let kind = cause.map(io::Error::kind);
    error.name() == ErrorName::Network && kind == Some(io::ErrorKind::AddrNotAvailable)
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Socket(error) => error.fmt(f),
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
            let help = help();
            let line = help.lines().find(|it| it.contains(name.as_str()));
            match line {
                Some(line) => assert!(
                    line.starts_with(&format!("  {code}  ")),
                    "{name}: {code}, {line}"
                ),
                None if name.is_security() => assert_eq!(code, 8, "{name}"),
                None => assert_eq!(code, 1, "{name}"),
            }
        }
    }

    #[test]
    fn every_code_is_explained_once_and_in_order() {
        let codes: Vec<u8> = CODES.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, (0..=8).collect::<Vec<u8>>());
        for line in help().lines() {
            assert!(line.len() <= 80, "{line}");
        }
    }

    #[test]
    fn no_failure_ends_with_0() {
        let broken = || io::Error::from(io::ErrorKind::Other);
        let failures = [
            Failure::cut_off(),
            Failure::unsent(),
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
