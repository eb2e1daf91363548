//! From rustls's errors to the names of the interface (ERR-5), and to words for people.

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
use tcpsocket::{Error, ErrorName, Host};

/// TLS with `host` failed. The cause is the error's [`source`](std::error::Error::source).
///
/// The names of certificates are about the certificates that `host` showed, as they were judged here. An alert by which `host`
/// refuses a certificate of ours is a `SecurityError`, like most alerts, unless it wants one and there is none.
///
/// Every name begins with `Security` (ERR-8), but for one: `close_notify` in the middle of the handshake is the end of the
/// connection, a `NetworkInterruptError`.
///
/// ```
/// use tcpsocket::Host;
/// use tcpsocket_tls::{rustls, tls_failed};
///
/// let host = Host::parse("imap.example.org")?;
/// let error = tls_failed(&host, rustls::CertificateError::UnknownIssuer.into());
/// assert_eq!(error.name().as_str(), "SecurityUntrustedCertificateIssuerError");
/// # Ok::<(), tcpsocket::Error>(())
/// ```
pub fn tls_failed(host: &Host, cause: rustls::Error) -> Error {
    Error::with_source(name(&cause), message(host, &cause), cause)
}

/// The table.
fn name(cause: &rustls::Error) -> ErrorName {
    use AlertDescription as Alert;
    use PeerIncompatible as Peer;
    use rustls::Error as Tls;

    match cause {
        Tls::InvalidCertificate(why) => certificate(why),
        Tls::NoCertificatesPresented
        | Tls::AlertReceived(Alert::NoCertificate | Alert::CertificateRequired) => {
            ErrorName::SecurityNoCertificate
        }
        Tls::PeerIncompatible(
            Peer::ServerDoesNotSupportTls12Or13
            | Peer::ServerTlsVersionIsDisabledByOurConfig
            | Peer::SupportedVersionsExtensionRequired
            | Peer::Tls12NotOffered
            | Peer::Tls12NotOfferedOrEnabled
            | Peer::Tls13RequiredForQuic,
        )
        | Tls::AlertReceived(Alert::ProtocolVersion) => ErrorName::SecurityUnsupportedTlsVersion,
        Tls::PeerIncompatible(
            Peer::IncorrectCertificateTypeExtension | Peer::UnsolicitedCertificateTypeExtension,
        ) => ErrorName::SecurityUnsupportedCertificateType,
        Tls::AlertReceived(Alert::CloseNotify) => ErrorName::NetworkInterrupt,
        // Another alert, a bad record, what does not speak TLS, and whatever rustls may come to know.
        _ => ErrorName::Security,
    }
}

#[allow(deprecated)] // a verifier that was given may still use the variants without a context
fn certificate(why: &CertificateError) -> ErrorName {
    use CertificateError as Cert;

    match why {
        Cert::Expired
        | Cert::ExpiredContext { .. }
        | Cert::NotValidYet
        | Cert::NotValidYetContext { .. } => ErrorName::SecurityExpiredCertificate,
        Cert::Revoked => ErrorName::SecurityRevokedCertificate,
        Cert::UnknownIssuer => ErrorName::SecurityUntrustedCertificateIssuer,
        Cert::InvalidPurpose | Cert::InvalidPurposeContext { .. } => {
            ErrorName::SecurityInadequateKeyUsage
        }
        Cert::UnsupportedSignatureAlgorithm
        | Cert::UnsupportedSignatureAlgorithmContext { .. }
        | Cert::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            ErrorName::SecurityCertificateSignatureAlgorithmDisabled
        }
        Cert::NotValidForName | Cert::NotValidForNameContext { .. } => {
            ErrorName::SecurityCertificateDomainMismatch
        }
        Cert::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(why) => chain(why),
            None if is_key_usage_of_the_platform(&other.0) => ErrorName::SecurityInadequateKeyUsage,
            None => ErrorName::SecurityBadCertificate,
        },
        // Its encoding, its signature, a critical extension, an unknown status, what a verifier of the caller's says.
        _ => ErrorName::SecurityBadCertificate,
    }
}

/// What webpki says and rustls has no variant for. The others are here for verifiers that wrap webpki themselves.
#[allow(deprecated)]
fn chain(why: &webpki::Error) -> ErrorName {
    use webpki::Error as Chain;

    match why {
        Chain::CaUsedAsEndEntity
        | Chain::CertDistrusted
        | Chain::EndEntityUsedAsCa
        | Chain::NameConstraintViolation
        | Chain::PathLenConstraintViolated
        | Chain::MaximumNameConstraintComparisonsExceeded
        | Chain::MaximumPathBuildCallsExceeded
        | Chain::MaximumPathDepthExceeded
        | Chain::MaximumSignatureChecksExceeded
        | Chain::UnknownIssuer => ErrorName::SecurityUntrustedCertificateIssuer,
        Chain::CertExpired { .. } | Chain::CertNotValidYet { .. } | Chain::InvalidCertValidity => {
            ErrorName::SecurityExpiredCertificate
        }
        Chain::CertRevoked => ErrorName::SecurityRevokedCertificate,
        Chain::CertNotValidForName(_) => ErrorName::SecurityCertificateDomainMismatch,
        Chain::EmptyEkuExtension
        | Chain::RequiredEkuNotFound
        | Chain::RequiredEkuNotFoundContext(_) => ErrorName::SecurityInadequateKeyUsage,
        Chain::UnsupportedSignatureAlgorithm
        | Chain::UnsupportedSignatureAlgorithmContext(_)
        | Chain::UnsupportedSignatureAlgorithmForPublicKey
        | Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            ErrorName::SecurityCertificateSignatureAlgorithmDisabled
        }
        _ => ErrorName::SecurityBadCertificate,
    }
}

/// rustls-platform-verifier hides rustls's `InvalidPurpose` in an error whose type it keeps to itself.
fn is_key_usage_of_the_platform(why: &dyn std::error::Error) -> bool {
    cfg!(feature = "platform-verifier") && why.to_string() == "certificate had invalid extensions"
}

/// What happened, and where there is something that can be done about it, what.
#[allow(deprecated)]
fn message(host: &Host, cause: &rustls::Error) -> String {
    use AlertDescription as Alert;
    use CertificateError as Cert;
    use rustls::Error as Tls;

    let of_host = format!("the certificate of {host}");
    match cause {
        Tls::InvalidCertificate(Cert::ExpiredContext { time, not_after }) => format!(
            "{of_host} expired on {}; it is {} now, if the clock here is right",
            date(*not_after),
            date(*time)
        ),
        Tls::InvalidCertificate(Cert::Expired) => format!("{of_host} is expired"),
        Tls::InvalidCertificate(Cert::NotValidYetContext { time, not_before }) => format!(
            "{of_host} is not valid before {}; it is {} now, if the clock here is right",
            date(*not_before),
            date(*time)
        ),
        Tls::InvalidCertificate(Cert::NotValidYet) => format!("{of_host} is not valid yet"),
        Tls::InvalidCertificate(Cert::Revoked) => {
            format!("{of_host}, or that of its issuer, was revoked")
        }
        Tls::InvalidCertificate(Cert::UnknownIssuer) => format!(
            "{of_host} was issued by nobody who is trusted here; if it is self-signed or comes from a private \
             authority, that has to be among what is trusted"
        ),
        Tls::InvalidCertificate(Cert::NotValidForNameContext { presented, .. }) => {
            format!("{of_host} is for {}, not for {host}", names(presented))
        }
        Tls::InvalidCertificate(Cert::NotValidForName) => format!("{of_host} is for another name"),
        Tls::InvalidCertificate(Cert::InvalidPurpose | Cert::InvalidPurposeContext { .. }) => {
            format!("{of_host} may not be used by a server: {}", said(cause))
        }
        Tls::InvalidCertificate(
            Cert::UnsupportedSignatureAlgorithm
            | Cert::UnsupportedSignatureAlgorithmContext { .. }
            | Cert::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => format!(
            "{of_host}, or that of its issuer, is signed by an algorithm that is not accepted, such as SHA-1"
        ),
        Tls::InvalidCertificate(Cert::BadSignature) => {
            format!("{of_host} is not signed by the key that should have signed it")
        }
        Tls::InvalidCertificate(Cert::Other(other)) => {
            match other.0.downcast_ref::<webpki::Error>() {
                Some(webpki::Error::CaUsedAsEndEntity) => format!(
                    "{host} shows the certificate of an authority as its own; it needs one that was issued to it, or \
                     if it is self-signed one with basicConstraints CA:FALSE"
                ),
                Some(webpki::Error::UnsupportedCertVersion) => format!(
                    "{of_host} is of X.509 version 1 or 2; it must be of version 3, with subjectAltName"
                ),
                _ => format!("{of_host} is not accepted: {}", other.0),
            }
        }
        Tls::InvalidCertificate(_) => format!("{of_host} is not accepted: {}", said(cause)),
        Tls::NoCertificatesPresented => format!("{host} showed no certificate"),
        Tls::AlertReceived(Alert::NoCertificate | Alert::CertificateRequired) => {
            format!("{host} wants a certificate from this side, and there is none to show")
        }
        Tls::AlertReceived(Alert::NoApplicationProtocol) => {
            format!("{host} speaks none of the protocols that were offered by ALPN")
        }
        Tls::AlertReceived(Alert::CloseNotify) => {
            format!("{host} ended the connection during the TLS handshake")
        }
        _ if name(cause) == ErrorName::SecurityUnsupportedTlsVersion => {
            format!("{host} speaks no version of TLS that is accepted here")
        }
        Tls::AlertReceived(alert) => format!("{host} ended TLS with the alert {alert:?}"),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType) => format!(
            "what {host} sent is not TLS; does this port speak TLS at all, or only after STARTTLS?"
        ),
        _ => format!("TLS with {host} failed: {cause}"),
    }
}

/// rustls's own words, without its prefix.
fn said(cause: &rustls::Error) -> String {
    match cause {
        rustls::Error::InvalidCertificate(why) => why.to_string(),
        other => other.to_string(),
    }
}

/// The names in a certificate, which webpki gives as `DnsName("example.org")` and the like.
fn names(presented: &[String]) -> String {
    const MOST: usize = 4;
    let bare = |it: &String| {
        let inner = it.split_once('(').and_then(|(_, it)| it.strip_suffix(')'));
        inner.unwrap_or(it).trim_matches('"').to_owned()
    };
    let shown: Vec<String> = presented.iter().take(MOST).map(bare).collect();
    match (shown.len(), presented.len()) {
        (0, _) => "no name at all".to_owned(),
        (shown_count, count) if count > shown_count => {
            format!("{} and {} more", shown.join(", "), count - shown_count)
        }
        _ => shown.join(", "),
    }
}

/// The day in UTC, as 2026-11-23.
fn date(at: UnixTime) -> String {
    // Days since 0000-03-01 in eras of 400 years; years begin in March, so that the leap day is their last.
    let days = at.as_secs() / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests;
