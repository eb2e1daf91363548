//! From the operating system's errors to the names of the interface (ERR-2).

use std::fmt::Display;
use std::io::{self, ErrorKind};

use tcpsocket::{Error, ErrorName};

/// A connect to `to` failed.
///
/// ```
/// use std::io;
/// use tcpsocket::ErrorName;
///
/// let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
/// let error = tcpsocket_core::connect_failed("127.0.0.1:1", refused);
/// assert_eq!(error.name(), ErrorName::ConnectionRefused);
/// ```
pub fn connect_failed(to: impl Display, cause: io::Error) -> Error {
    let name = match cause.kind() {
        ErrorKind::ConnectionRefused
        | ErrorKind::NetworkUnreachable
        | ErrorKind::HostUnreachable
        | ErrorKind::AddrNotAvailable
        | ErrorKind::PermissionDenied => ErrorName::ConnectionRefused,
        ErrorKind::TimedOut => ErrorName::NetworkTimeout,
        _ => ErrorName::Network,
    };
    let to = to.to_string();
    // What the kernel means by EINVAL.
    let hint = match cause.kind() {
        ErrorKind::InvalidInput if to.starts_with("[fe80:") && !to.contains('%') => {
            "; a link-local address needs a zone, as in fe80::1%eth0"
        }
        _ => "",
    };
    Error::with_source(
        name,
        format!("cannot connect to {to}: {cause}{hint}"),
        cause,
    )
}

/// Reading or writing failed on a connection that was up (ERR-4).
pub fn stream_failed(cause: io::Error) -> Error {
    let name = match cause.kind() {
        ErrorKind::TimedOut => ErrorName::NetworkTimeout,
        _ => ErrorName::Network,
    };
    Error::with_source(name, format!("the connection failed: {cause}"), cause)
}

/// Binding or listening at `at` failed (SRV-14).
pub fn listen_failed(at: impl Display, cause: io::Error) -> Error {
    let (name, hint) = match cause.kind() {
        ErrorKind::AddrInUse => (ErrorName::AddressInUse, "choose another port, or 0 for any"),
        ErrorKind::PermissionDenied => (
            ErrorName::NotAllowed,
            "the operating system does not let this process bind it",
        ),
        ErrorKind::AddrNotAvailable if cause.raw_os_error().is_none() => (
            ErrorName::Network,
            "choose another address, or none for all that the machine has",
        ),
        ErrorKind::AddrNotAvailable => (ErrorName::Network, "this machine has no such address"),
        _ => (ErrorName::Network, "the operating system refused"),
    };
    Error::with_source(
        name,
        format!("cannot listen at {at}: {cause}; {hint}"),
        cause,
    )
}

/// How far an attempt to connect got, for choosing the error to report: the furthest wins.
pub(crate) fn reach(error: &Error) -> u8 {
    let cause = std::error::Error::source(error).and_then(|it| it.downcast_ref::<io::Error>());
    match (error.name(), cause.map(io::Error::kind)) {
        (name, _) if name.is_security() => 4,
        // Somebody answered.
        (_, Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)) => 3,
        (_, Some(ErrorKind::ConnectionRefused)) => 3,
        (ErrorName::NetworkTimeout, _) => 2,
        (_, Some(ErrorKind::HostUnreachable)) => 1,
        // Nothing was sent.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_and_what_is_missing_are_told() {
        let cause = io::Error::new(ErrorKind::AddrNotAvailable, "this machine has no IPv6");
        let error = listen_failed("[::]:9", cause);
        assert_eq!(error.name(), ErrorName::Network);
        let expected = "cannot listen at [::]:9: this machine has no IPv6; choose another address, or none for all that the machine has";
        assert_eq!(error.message(), expected);
    }

    #[test]
    fn an_address_that_is_not_ours_is_told_so() {
        // The kernel's own.
        let nobodys = std::net::SocketAddr::from(([192, 0, 2, 1], 0));
        let cause = std::net::TcpListener::bind(nobodys).expect_err("documentation's address");
        let error = listen_failed("192.0.2.1:9", cause);
        assert_eq!(error.name(), ErrorName::Network);
        assert!(
            error.message().contains("this machine has no such address"),
            "{error}"
        );
    }

    #[test]
    fn a_link_local_address_without_a_zone_is_told_what_it_lacks() {
        let hint = "a link-local address needs a zone";
        for (to, kind, hinted) in [
            ("[fe80::1]:9", ErrorKind::InvalidInput, true),
            ("[fe80::1%2]:9", ErrorKind::InvalidInput, false),
            ("[fe80::1]:9", ErrorKind::ConnectionRefused, false),
            ("192.0.2.1:9", ErrorKind::InvalidInput, false),
        ] {
            let error = connect_failed(to, io::Error::from(kind));
            assert_eq!(error.message().contains(hint), hinted, "{error}");
        }
    }
}
