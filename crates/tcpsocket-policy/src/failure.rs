//! Failures, and the app's view of them.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Weak};

use tcpsocket::{Error, ErrorName};

use crate::guard::Guard;
use crate::{App, Ask};

/// The full error behind one of which an app learned only the name (PERM-22).
///
/// For hosts and their logs: the message and the causes contain resolved addresses and the words of the host's gates.
///
/// ```
/// use tcpsocket_policy::{Entry, Failure};
///
/// /// Failures that should wake somebody up.
/// fn is_urgent(entry: &Entry) -> bool {
///     entry.failure().is_some_and(|failure| failure.error().name().is_security())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Failure {
    app: Arc<str>,
    asked: Ask,
    error: Error,
}

impl Failure {
    pub(crate) fn new(app: &App, asked: Ask, error: Error) -> Failure {
        Failure {
            app: app.shared_id(),
            asked,
            error,
        }
    }

    /// The app's id.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The app's request: a call or, for an accepted socket, the acceptance of its peer.
    pub fn asked(&self) -> &Ask {
        &self.asked
    }

    /// The full error.
    pub fn error(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} failed: {}", self.app, self.asked, self.error)
    }
}

/// The subject of an error, in the app's own words or words the app sees anyway.
struct About<'a>(&'a Ask);

/// The app's view of an error: the message depends on nothing but the name and the app's request (PERM-22).
pub(crate) fn told(name: ErrorName, asked: &Ask) -> Error {
    match name {
        ErrorName::NotAllowed => refusal(),
        _ => Error::new(name, About(asked).message(name)),
    }
}

impl About<'_> {
    fn message(&self, name: ErrorName) -> String {
        use ErrorName::*;
        match name {
            ConnectionRefused => format!("cannot connect to {self}"),
            NetworkTimeout => format!("{self} did not answer in time"),
            DomainNotFound => format!("there is no address for {self}"),
            NetworkInterrupt => format!("the connection with {self} ended too early"),
            Network => match self.0 {
                Ask::Listen { .. } | Ask::Bind { .. } => format!("{self} cannot listen"),
                _ => format!("the connection with {self} failed"),
            },
            SecurityExpiredCertificate => {
                format!("the certificate of {self} is expired or not valid yet")
            }
            SecurityRevokedCertificate => format!("the certificate of {self} was revoked"),
            SecurityUntrustedCertificateIssuer => {
                format!("the certificate of {self} has no trusted issuer")
            }
            SecurityInadequateKeyUsage => {
                format!("the certificate of {self} may not be used for a server")
            }
            SecurityCertificateSignatureAlgorithmDisabled => {
                format!("the signature algorithm of the certificate of {self} is not accepted")
            }
            SecurityNoCertificate => format!("TLS with {self} lacks a certificate"),
            SecurityBadCertificate => {
                format!("the certificate of {self} is malformed, or was rejected")
            }
            SecurityUnsupportedCertificateType => {
                format!("the type of the certificate of {self} is not supported")
            }
            SecurityUnsupportedTlsVersion => {
                format!("{self} and this side have no TLS version in common")
            }
            SecurityCertificateDomainMismatch => {
                format!("the certificate of {self} is for another name")
            }
            Security => format!("TLS with {self} failed"),
            InvalidState => "the socket is not in a state for this call".to_owned(),
            InvalidAccess => "an argument or option of this call cannot be used".to_owned(),
            NotSupported => "this is not offered here".to_owned(),
            AddressInUse => "the port is in use; choose another, or 0 for any".to_owned(),
            QuotaExceeded => "a limit of this app is reached".to_owned(),
            _ => "this call failed".to_owned(),
        }
    }
}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ask::Open { host, port } => named(f, host.given(), *port),
            Ask::Connect { host, address } => named(f, host.given(), address.port()),
            Ask::Listen { port: 0 } => f.write_str("a server on an automatic port"),
            Ask::Listen { port } => write!(f, "a server on port {port}"),
            Ask::Bind { address } => write!(f, "a server on port {}", address.port()),
            Ask::Accept { peer, .. } => peer.fmt(f),
        }
    }
}

fn named(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]:{port}"),
        false => write!(f, "{host}:{port}"),
    }
}

/// The app's view of a denial. Only the host learns which rule refused what (PERM-14).
pub(crate) fn refusal() -> Error {
    Error::new(ErrorName::NotAllowed, REFUSAL)
}

const REFUSAL: &str = "this app is not allowed to do that; its host can tell why";

/// The source of an error on its way through the provider below, for the guard to recognise it when it comes back.
///
/// The type is private, so nobody else can make one.
#[derive(Clone)]
pub(crate) enum Mark {
    /// This guard's audit already has the error.
    ToldBy(Weak<Guard>),
    /// The app's own error, from its call of `abort`.
    Apps(Error),
}

impl Mark {
    /// The same error with this mark.
    pub(crate) fn on(self, error: &Error) -> Error {
        Error::with_source(error.name(), error.message(), self)
    }

    pub(crate) fn of(error: &Error) -> Option<&Mark> {
        error.source()?.downcast_ref()
    }
}

impl StdError for Mark {}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mark").finish_non_exhaustive()
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mark::ToldBy(_) => f.write_str("a guard has refused it"),
            Mark::Apps(_) => f.write_str("the app has ended it"),
        }
    }
}
