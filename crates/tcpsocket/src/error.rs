//! The interface's error type and its names.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What went wrong: a name for programs, a message for people, and the cause, if there is one.
///
/// The names are the original's (clauses ERR-2 and ERR-5 of the specification), so a program can test them as programs for
/// `navigator.mozTCPSocket` did. Later versions may add names. Every TLS failure has a name that begins with `Security`, and
/// no other name does (ERR-8).
///
/// Cheap to clone: an event, a log and a caller can each keep one.
///
/// ```
/// use tcpsocket::{Error, ErrorName};
///
/// let error = Error::new(ErrorName::ConnectionRefused, "127.0.0.1:993 refused the connection");
/// assert_eq!(error.name().as_str(), "ConnectionRefusedError");
/// assert_eq!(error.to_string(), "ConnectionRefusedError: 127.0.0.1:993 refused the connection");
/// assert!(!error.name().is_security());
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

struct Inner {
    name: ErrorName,
    message: Box<str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with this name and a message for people: what failed or was refused, and what to do about it.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Error {
        Error::build(name, message.into(), None)
    }

    /// The same, with a cause for [`source`](StdError::source).
    ///
    /// ```
    /// use std::{error::Error as _, io};
    /// use tcpsocket::{Error, ErrorName};
    ///
    /// let cause = io::Error::from(io::ErrorKind::ConnectionReset);
    /// let error = Error::with_source(ErrorName::Network, "the peer reset the connection", cause);
    /// assert!(error.source().is_some());
    /// ```
    pub fn with_source(
        name: ErrorName,
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        Error::build(name, message.into(), Some(source.into()))
    }

    fn build(
        name: ErrorName,
        message: String,
        source: Option<Box<dyn StdError + Send + Sync>>,
    ) -> Error {
        Error {
            inner: Arc::new(Inner {
                name,
                message: message.into_boxed_str(),
                source,
            }),
        }
    }

    /// The name, for programs to test.
    pub fn name(&self) -> ErrorName {
        self.inner.name
    }

    /// The name's class, or `None` if the original gives it none (ERR-1).
    pub fn class(&self) -> Option<ErrorClass> {
        self.inner.name.class()
    }

    /// The message, for people to read. Its wording is not part of the interface.
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("name", &self.inner.name)
            .field("message", &self.inner.message);
        if let Some(source) = &self.inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.inner.name, self.inner.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl From<Error> for io::Error {
    /// Chooses the nearest [`io::ErrorKind`] and wraps the error itself.
    fn from(error: Error) -> io::Error {
        io::Error::new(error.name().io_kind(), error)
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $kind:ident;)*) => {
        /// The error names. Later versions may add some, so match with a `_` arm.
        ///
        /// ```
        /// use tcpsocket::ErrorName;
        ///
        /// assert_eq!(ErrorName::NetworkTimeout.as_str(), "NetworkTimeoutError");
        /// assert_eq!("NetworkTimeoutError".parse(), Ok(ErrorName::NetworkTimeout));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorName {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorName {
            /// Every name, in the order of this page.
            pub const ALL: &'static [ErrorName] = &[$(ErrorName::$variant,)*];

            /// The original's spelling.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ErrorName::$variant => $text,)*
                }
            }

            fn io_kind(self) -> io::ErrorKind {
                match self {
                    $(ErrorName::$variant => io::ErrorKind::$kind,)*
                }
            }
        }
    };
}

names! {
    /// The connection could not be established: refused, unreachable, no route, no such address (ERR-2).
    ConnectionRefused = "ConnectionRefusedError", ConnectionRefused;
    /// Nothing answered in time: a connect, a handshake, or a flush after `close()` (ERR-2, LIFE-3).
    NetworkTimeout = "NetworkTimeoutError", TimedOut;
    /// The name is unknown (ERR-2).
    DomainNotFound = "DomainNotFoundError", NotFound;
    /// The connection ended too early, for example during a handshake (ERR-2).
    NetworkInterrupt = "NetworkInterruptError", UnexpectedEof;
    /// Any other network failure: a reset, no file descriptors left, no memory (ERR-2, ERR-4).
    Network = "NetworkError", ConnectionReset;

    /// The certificate is expired or not valid yet (ERR-5).
    SecurityExpiredCertificate = "SecurityExpiredCertificateError", InvalidData;
    /// The certificate was revoked (ERR-5).
    SecurityRevokedCertificate = "SecurityRevokedCertificateError", InvalidData;
    /// The issuer is unknown or not trusted, the certificate is self-signed, or a CA constraint is violated (ERR-5).
    SecurityUntrustedCertificateIssuer = "SecurityUntrustedCertificateIssuerError", InvalidData;
    /// The certificate's usages do not include server authentication (ERR-5).
    SecurityInadequateKeyUsage = "SecurityInadequateKeyUsageError", InvalidData;
    /// The certificate's signature algorithm is not accepted (ERR-5).
    SecurityCertificateSignatureAlgorithmDisabled = "SecurityCertificateSignatureAlgorithmDisabledError", InvalidData;
    /// A required certificate is missing (ERR-5).
    SecurityNoCertificate = "SecurityNoCertificateError", InvalidData;
    /// The certificate is malformed or was rejected (ERR-5).
    SecurityBadCertificate = "SecurityBadCertificateError", InvalidData;
    /// The certificate's type is not supported (ERR-5).
    SecurityUnsupportedCertificateType = "SecurityUnsupportedCertificateTypeError", InvalidData;
    /// The two sides have no TLS version in common (ERR-5).
    SecurityUnsupportedTlsVersion = "SecurityUnsupportedTLSVersionError", InvalidData;
    /// The certificate is for another name (ERR-5).
    SecurityCertificateDomainMismatch = "SecurityCertificateDomainMismatchError", InvalidData;
    /// Any other TLS failure: an alert, a bad record, a peer that does not speak TLS (ERR-5).
    Security = "SecurityError", InvalidData;

    /// A policy or the operating system forbids it.
    NotAllowed = "NotAllowedError", PermissionDenied;
    /// The call does not fit the socket's state (TX-2, RX-8).
    InvalidState = "InvalidStateError", NotConnected;
    /// An argument is invalid: a host, a port, a backlog (IF-9, IF-11).
    InvalidAccess = "InvalidAccessError", InvalidInput;
    /// This implementation does not support the request; see [`Capabilities`](crate::Capabilities).
    NotSupported = "NotSupportedError", Unsupported;
    /// The port is in use (SRV-14).
    AddressInUse = "AddressInUseError", AddrInUse;
    /// A limit on queued bytes or on sockets is reached; nothing was queued (TX-22).
    QuotaExceeded = "QuotaExceededError", OutOfMemory;
    /// A string contains a character above U+00FF (TX-19).
    Type = "TypeError", InvalidInput;
}

impl ErrorName {
    /// Whether this is a TLS failure: whether the name begins with `Security` (ERR-8).
    pub fn is_security(self) -> bool {
        self.as_str().starts_with("Security")
    }

    /// The original's class of this name (ERR-1), or `None` where it has none.
    pub fn class(self) -> Option<ErrorClass> {
        use ErrorName::*;
        match self {
            ConnectionRefused | NetworkTimeout | DomainNotFound | NetworkInterrupt | Network => {
                Some(ErrorClass::Network)
            }
            SecurityExpiredCertificate
            | SecurityRevokedCertificate
            | SecurityUntrustedCertificateIssuer
            | SecurityInadequateKeyUsage
            | SecurityCertificateSignatureAlgorithmDisabled
            | SecurityCertificateDomainMismatch
            | SecurityBadCertificate => Some(ErrorClass::SecurityCertificate),
            SecurityNoCertificate
            | SecurityUnsupportedCertificateType
            | SecurityUnsupportedTlsVersion
            | Security => Some(ErrorClass::SecurityProtocol),
            NotAllowed | InvalidState | InvalidAccess | NotSupported | AddressInUse
            | QuotaExceeded | Type => None,
        }
    }
}

impl fmt::Display for ErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for ErrorName {
    type Err = UnknownErrorName;

    fn from_str(text: &str) -> Result<ErrorName, UnknownErrorName> {
        let found = ErrorName::ALL.iter().find(|name| name.as_str() == text);
        found.copied().ok_or(UnknownErrorName(()))
    }
}

/// The error of parsing a text that is not an [`ErrorName`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownErrorName(());

impl fmt::Display for UnknownErrorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no error of this interface has that name")
    }
}

impl StdError for UnknownErrorName {}

/// The original's classes of errors (ERR-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The network failed.
    Network,
    /// TLS failed for a reason other than a certificate.
    SecurityProtocol,
    /// A certificate was not accepted.
    SecurityCertificate,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ErrorClass::Network => "Network",
            ErrorClass::SecurityProtocol => "SecurityProtocol",
            ErrorClass::SecurityCertificate => "SecurityCertificate",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_parse_back() {
        for (at, name) in ErrorName::ALL.iter().enumerate() {
            assert_eq!(name.as_str().parse(), Ok(*name));
            assert!(
                ErrorName::ALL[..at]
                    .iter()
                    .all(|it| it.as_str() != name.as_str())
            );
            assert!(name.as_str().ends_with("Error"));
        }
        assert_eq!("Error".parse::<ErrorName>(), Err(UnknownErrorName(())));
    }

    #[test]
    fn security_names_are_exactly_those_of_the_security_classes() {
        for name in ErrorName::ALL {
            let class = name.class();
            let security = matches!(
                class,
                Some(ErrorClass::SecurityCertificate | ErrorClass::SecurityProtocol)
            );
            assert_eq!(name.is_security(), security, "{name}");
        }
    }

    #[test]
    fn an_io_error_keeps_the_error_inside() {
        let io = io::Error::from(Error::new(ErrorName::NetworkTimeout, "no answer"));
        assert_eq!(io.kind(), io::ErrorKind::TimedOut);
        let inner = io.get_ref().and_then(|it| it.downcast_ref::<Error>());
        assert_eq!(inner.map(Error::name), Some(ErrorName::NetworkTimeout));
    }
}
