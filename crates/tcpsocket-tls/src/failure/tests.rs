//! The table, variant by variant, those included that nothing causes in practice.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ContentType, EncryptedClientHelloError, HandshakeType, InconsistentKeys, OtherError};
use webpki::{DerTypeId, InvalidNameContext};

use super::*;

const BAD: &str = "SecurityBadCertificateError";
const DISABLED: &str = "SecurityCertificateSignatureAlgorithmDisabledError";
const EXPIRED: &str = "SecurityExpiredCertificateError";
const INTERRUPT: &str = "NetworkInterruptError";
const MISMATCH: &str = "SecurityCertificateDomainMismatchError";
const NONE: &str = "SecurityNoCertificateError";
const OTHER: &str = "SecurityError";
const REVOKED: &str = "SecurityRevokedCertificateError";
const TYPE: &str = "SecurityUnsupportedCertificateTypeError";
const UNTRUSTED: &str = "SecurityUntrustedCertificateIssuerError";
const USAGE: &str = "SecurityInadequateKeyUsageError";
const VERSION: &str = "SecurityUnsupportedTLSVersionError";

fn host() -> Host {
    Host::parse("imap.example.org").unwrap()
}

fn seconds(count: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(count))
}

/// Every cause has the name beside it, a message that names the host, and itself as the source.
fn check<C: Into<rustls::Error> + Clone + fmt::Debug>(table: &[(C, &str)]) {
    for (given, expected) in table {
        let cause: rustls::Error = given.clone().into();
        let error = tls_failed(&host(), cause.clone());
        assert_eq!(error.name().as_str(), *expected, "{given:?}");
        assert!(
            error.message().contains("imap.example.org"),
            "{given:?}: {error}"
        );
        // In our words: those of a library are its own, and the source keeps them.
        let debug = format!("{given:?}");
        for word in debug.split(|it: char| !it.is_alphanumeric()) {
            let theirs = word.chars().filter(char::is_ascii_uppercase).count() > 1;
            let ours = word.chars().all(|it| it.is_ascii_uppercase());
            assert!(
                ours || !theirs || !error.message().contains(word),
                "{error}"
            );
        }
        let words = cause.to_string();
        let theirs = words.rsplit(": ").next().unwrap();
        assert!(!error.message().contains(theirs), "{error}: {theirs}");
        let source = std::error::Error::source(&error).and_then(|it| it.downcast_ref());
        let kept = source.map(rustls::Error::to_string);
        assert_eq!(kept, Some(cause.to_string()), "{given:?}");
        let network = matches!(
            cause,
            rustls::Error::AlertReceived(AlertDescription::CloseNotify)
        );
        assert_eq!(error.name().is_security(), !network, "{given:?}");
    }
}

#[test]
fn errors() {
    use rustls::Error as Tls;
    let other = OtherError(Arc::new(fmt::Error));
    check(&[
        (
            Tls::InappropriateMessage {
                expect_types: vec![ContentType::Handshake],
                got_type: ContentType::ApplicationData,
            },
            OTHER,
        ),
        (
            Tls::InappropriateHandshakeMessage {
                expect_types: vec![HandshakeType::ServerHello],
                got_type: HandshakeType::Finished,
            },
            OTHER,
        ),
        (
            Tls::InvalidEncryptedClientHello(EncryptedClientHelloError::SniRequired),
            OTHER,
        ),
        (
            Tls::InvalidMessage(InvalidMessage::InvalidContentType),
            OTHER,
        ),
        (
            Tls::InvalidMessage(InvalidMessage::UnknownProtocolVersion),
            OTHER,
        ),
        (Tls::InvalidMessage(InvalidMessage::MessageTooLarge), OTHER),
        (Tls::NoCertificatesPresented, NONE),
        (Tls::UnsupportedNameType, OTHER),
        (Tls::DecryptError, OTHER),
        (Tls::EncryptError, OTHER),
        (
            Tls::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            OTHER,
        ),
        (
            Tls::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported),
            OTHER,
        ),
        (
            Tls::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol),
            OTHER,
        ),
        (Tls::AlertReceived(AlertDescription::InternalError), OTHER),
        (Tls::InvalidCertificate(CertificateError::BadEncoding), BAD),
        (
            Tls::InvalidCertRevocationList(CertRevocationListError::BadSignature),
            OTHER,
        ),
        (Tls::General("general".into()), OTHER),
        (Tls::FailedToGetCurrentTime, OTHER),
        (Tls::FailedToGetRandomBytes, OTHER),
        (Tls::HandshakeNotComplete, OTHER),
        (Tls::PeerSentOversizedRecord, OTHER),
        (Tls::NoApplicationProtocol, OTHER),
        (Tls::BadMaxFragmentSize, OTHER),
        (Tls::InconsistentKeys(InconsistentKeys::KeyMismatch), OTHER),
        (Tls::Other(other), OTHER),
    ]);
}

#[test]
#[allow(deprecated)]
fn certificates() {
    use CertificateError as Cert;
    let (time, then) = (seconds(2_000_000_000), seconds(1_000_000_000));
    let oid = || vec![6, 1];
    check(&[
        (Cert::BadEncoding, BAD),
        (Cert::Expired, EXPIRED),
        (
            Cert::ExpiredContext {
                time,
                not_after: then,
            },
            EXPIRED,
        ),
        (Cert::NotValidYet, EXPIRED),
        (
            Cert::NotValidYetContext {
                time: then,
                not_before: time,
            },
            EXPIRED,
        ),
        (Cert::Revoked, REVOKED),
        (Cert::UnhandledCriticalExtension, BAD),
        (Cert::UnknownIssuer, UNTRUSTED),
        (Cert::UnknownRevocationStatus, BAD),
        (Cert::ExpiredRevocationList, BAD),
        (
            Cert::ExpiredRevocationListContext {
                time,
                next_update: then,
            },
            BAD,
        ),
        (Cert::BadSignature, BAD),
        (Cert::UnsupportedSignatureAlgorithm, DISABLED),
        (
            Cert::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: oid(),
                supported_algorithms: Vec::new(),
            },
            DISABLED,
        ),
        (
            Cert::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: oid(),
                public_key_algorithm_id: oid(),
            },
            DISABLED,
        ),
        (Cert::NotValidForName, MISMATCH),
        (
            Cert::NotValidForNameContext {
                expected: ServerName::try_from("imap.example.org").unwrap(),
                presented: Vec::new(),
            },
            MISMATCH,
        ),
        (Cert::InvalidPurpose, USAGE),
        (
            Cert::InvalidPurposeContext {
                required: rustls::ExtendedKeyPurpose::ServerAuth,
                presented: vec![rustls::ExtendedKeyPurpose::ClientAuth],
            },
            USAGE,
        ),
        (Cert::InvalidOcspResponse, BAD),
        (Cert::ApplicationVerificationFailure, BAD),
        (Cert::Other(OtherError(Arc::new(fmt::Error))), BAD),
    ]);
}

#[test]
#[allow(deprecated)]
fn chains() {
    use webpki::Error as Chain;
    let (time, then) = (seconds(2), seconds(1));
    let algorithm = || webpki::UnsupportedSignatureAlgorithmContext {
        signature_algorithm_id: vec![6, 1],
        supported_algorithms: Vec::new(),
    };
    let for_key = || webpki::UnsupportedSignatureAlgorithmForPublicKeyContext {
        signature_algorithm_id: vec![6, 1],
        public_key_algorithm_id: vec![6, 2],
    };
    let name = InvalidNameContext {
        expected: ServerName::try_from("imap.example.org").unwrap(),
        presented: Vec::new(),
    };
    let table = [
        (Chain::BadDer, BAD),
        (Chain::BadDerTime, BAD),
        (Chain::CaUsedAsEndEntity, UNTRUSTED),
        (Chain::CertDistrusted, UNTRUSTED),
        (
            Chain::CertExpired {
                time,
                not_after: then,
            },
            EXPIRED,
        ),
        (Chain::CertNotValidForName(name), MISMATCH),
        (
            Chain::CertNotValidYet {
                time: then,
                not_before: time,
            },
            EXPIRED,
        ),
        (Chain::CertRevoked, REVOKED),
        (
            Chain::CrlExpired {
                time,
                next_update: then,
            },
            BAD,
        ),
        (Chain::EmptyEkuExtension, USAGE),
        (Chain::EndEntityUsedAsCa, UNTRUSTED),
        (Chain::ExtensionValueInvalid, BAD),
        (Chain::InvalidCertValidity, EXPIRED),
        (Chain::InvalidCrlNumber, BAD),
        (Chain::InvalidNetworkMaskConstraint, BAD),
        (Chain::InvalidSerialNumber, BAD),
        (Chain::InvalidCrlSignatureForPublicKey, BAD),
        (Chain::InvalidSignatureForPublicKey, BAD),
        (Chain::IssuerNotCrlSigner, BAD),
        (Chain::MalformedDnsIdentifier, BAD),
        (Chain::MalformedExtensions, BAD),
        (Chain::MalformedNameConstraint, BAD),
        (Chain::MaximumNameConstraintComparisonsExceeded, UNTRUSTED),
        (Chain::MaximumPathBuildCallsExceeded, UNTRUSTED),
        (Chain::MaximumPathDepthExceeded, UNTRUSTED),
        (Chain::MaximumSignatureChecksExceeded, UNTRUSTED),
        (Chain::NameConstraintViolation, UNTRUSTED),
        (Chain::PathLenConstraintViolated, UNTRUSTED),
        (Chain::RequiredEkuNotFound, USAGE),
        (
            Chain::RequiredEkuNotFoundContext(webpki::RequiredEkuNotFoundContext {
                required: webpki::KeyUsage::server_auth(),
                present: Vec::new(),
            }),
            USAGE,
        ),
        (Chain::SignatureAlgorithmMismatch, BAD),
        (Chain::TrailingData(DerTypeId::Certificate), BAD),
        (Chain::UnknownIssuer, UNTRUSTED),
        (Chain::UnknownRevocationStatus, BAD),
        (Chain::UnsupportedCertVersion, BAD),
        (Chain::UnsupportedCriticalExtension, BAD),
        (Chain::UnsupportedCrlIssuingDistributionPoint, BAD),
        (Chain::UnsupportedCrlVersion, BAD),
        (Chain::UnsupportedDeltaCrl, BAD),
        (Chain::UnsupportedIndirectCrl, BAD),
        (Chain::UnsupportedNameType, BAD),
        (Chain::UnsupportedRevocationReason, BAD),
        (Chain::UnsupportedRevocationReasonsPartitioning, BAD),
        (Chain::UnsupportedCrlSignatureAlgorithm, BAD),
        (
            Chain::UnsupportedCrlSignatureAlgorithmContext(algorithm()),
            BAD,
        ),
        (Chain::UnsupportedSignatureAlgorithm, DISABLED),
        (
            Chain::UnsupportedSignatureAlgorithmContext(algorithm()),
            DISABLED,
        ),
        (Chain::UnsupportedCrlSignatureAlgorithmForPublicKey, BAD),
        (
            Chain::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(for_key()),
            BAD,
        ),
        (Chain::UnsupportedSignatureAlgorithmForPublicKey, DISABLED),
        (
            Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(for_key()),
            DISABLED,
        ),
    ];
    let wrapped = table.map(|(why, name)| {
        let other = OtherError(Arc::new(why));
        (CertificateError::Other(other), name)
    });
    check(&wrapped);
}

#[test]
fn alerts() {
    use AlertDescription as Alert;
    let table = [
        (Alert::CloseNotify, INTERRUPT),
        (Alert::UnexpectedMessage, OTHER),
        (Alert::BadRecordMac, OTHER),
        (Alert::DecryptionFailed, OTHER),
        (Alert::RecordOverflow, OTHER),
        (Alert::DecompressionFailure, OTHER),
        (Alert::HandshakeFailure, OTHER),
        (Alert::NoCertificate, NONE),
        (Alert::BadCertificate, OTHER),
        (Alert::UnsupportedCertificate, OTHER),
        (Alert::CertificateRevoked, OTHER),
        (Alert::CertificateExpired, OTHER),
        (Alert::CertificateUnknown, OTHER),
        (Alert::IllegalParameter, OTHER),
        (Alert::UnknownCA, OTHER),
        (Alert::AccessDenied, OTHER),
        (Alert::DecodeError, OTHER),
        (Alert::DecryptError, OTHER),
        (Alert::ExportRestriction, OTHER),
        (Alert::ProtocolVersion, VERSION),
        (Alert::InsufficientSecurity, OTHER),
        (Alert::InternalError, OTHER),
        (Alert::InappropriateFallback, OTHER),
        (Alert::UserCanceled, OTHER),
        (Alert::NoRenegotiation, OTHER),
        (Alert::MissingExtension, OTHER),
        (Alert::UnsupportedExtension, OTHER),
        (Alert::CertificateUnobtainable, OTHER),
        (Alert::UnrecognisedName, OTHER),
        (Alert::BadCertificateStatusResponse, OTHER),
        (Alert::BadCertificateHashValue, OTHER),
        (Alert::UnknownPSKIdentity, OTHER),
        (Alert::CertificateRequired, NONE),
        (Alert::NoApplicationProtocol, OTHER),
        (Alert::EncryptedClientHelloRequired, OTHER),
        (Alert::Unknown(200), OTHER),
    ];
    check(&table.map(|(alert, name)| (rustls::Error::AlertReceived(alert), name)));
}

#[test]
fn incompatible_peers() {
    use PeerIncompatible as Peer;
    let table = [
        (Peer::EcPointsExtensionRequired, OTHER),
        (Peer::ExtendedMasterSecretExtensionRequired, OTHER),
        (Peer::IncorrectCertificateTypeExtension, TYPE),
        (Peer::KeyShareExtensionRequired, OTHER),
        (Peer::NamedGroupsExtensionRequired, OTHER),
        (Peer::NoCertificateRequestSignatureSchemesInCommon, OTHER),
        (Peer::NoCipherSuitesInCommon, OTHER),
        (Peer::NoEcPointFormatsInCommon, OTHER),
        (Peer::NoKxGroupsInCommon, OTHER),
        (Peer::NoSignatureSchemesInCommon, OTHER),
        (Peer::NullCompressionRequired, OTHER),
        (Peer::ServerDoesNotSupportTls12Or13, VERSION),
        (Peer::ServerSentHelloRetryRequestWithUnknownExtension, OTHER),
        (Peer::ServerTlsVersionIsDisabledByOurConfig, VERSION),
        (Peer::SignatureAlgorithmsExtensionRequired, OTHER),
        (Peer::SupportedVersionsExtensionRequired, VERSION),
        (Peer::Tls12NotOffered, VERSION),
        (Peer::Tls12NotOfferedOrEnabled, VERSION),
        (Peer::Tls13RequiredForQuic, VERSION),
        (Peer::UncompressedEcPointsRequired, OTHER),
        (Peer::UnsolicitedCertificateTypeExtension, TYPE),
        (Peer::ServerRejectedEncryptedClientHello(None), OTHER),
    ];
    check(&table.map(|(why, name)| (rustls::Error::PeerIncompatible(why), name)));
}

#[test]
fn peers_that_misbehave() {
    use PeerMisbehaved as Peer;
    let table = [
        Peer::AttemptedDowngradeToTls12WhenTls13IsSupported,
        Peer::BadCertChainExtensions,
        Peer::DisallowedEncryptedExtension,
        Peer::DuplicateServerHelloExtensions,
        Peer::IllegalHelloRetryRequestWithNoChanges,
        Peer::IllegalMiddleboxChangeCipherSpec,
        Peer::InvalidKeyShare,
        Peer::KeyEpochWithPendingFragment,
        Peer::MessageInterleavedWithHandshakeMessage,
        Peer::MissingKeyShare,
        Peer::ResumptionOfferedWithVariedEms,
        Peer::SelectedInvalidPsk,
        Peer::SelectedUnofferedApplicationProtocol,
        Peer::SelectedUnofferedCipherSuite,
        Peer::SignedHandshakeWithUnadvertisedSigScheme,
        Peer::TooManyEmptyFragments,
        Peer::TooManyKeyUpdateRequests,
        Peer::TooManyWarningAlertsReceived,
        Peer::UnsolicitedCertExtension,
        Peer::WrongGroupForKeyShare,
    ];
    check(&table.map(|why| (rustls::Error::PeerMisbehaved(why), OTHER)));
}

#[test]
#[allow(deprecated)]
fn messages_that_are_malformed_and_lists_of_revoked_certificates() {
    use CertRevocationListError as List;
    use InvalidMessage as Message;
    let messages = [
        Message::CertificatePayloadTooLarge,
        Message::HandshakePayloadTooLarge,
        Message::InvalidCcs,
        Message::InvalidContentType,
        Message::InvalidEmptyPayload,
        Message::MessageTooLarge,
        Message::MessageTooShort,
        Message::MissingData("ServerHelloPayload"),
        Message::MissingKeyExchange,
        Message::NoSignatureSchemes,
        Message::TrailingData("ServerHelloPayload"),
        Message::UnexpectedMessage("HelloRetryRequest"),
        Message::UnknownProtocolVersion,
        Message::UnsupportedCompression,
        Message::UnsupportedCurveType,
        Message::EmptyTicketValue,
        Message::IllegalEmptyList("ServerNames"),
        Message::IllegalEmptyValue,
        Message::DuplicateExtension(7),
        Message::UnknownHelloRetryRequestExtension,
        Message::UnknownCertificateExtension,
    ];
    check(&messages.map(|why| (rustls::Error::InvalidMessage(why), OTHER)));
    let lists = [
        List::BadSignature,
        List::UnsupportedSignatureAlgorithm,
        List::InvalidCrlNumber,
        List::InvalidRevokedCertSerialNumber,
        List::IssuerInvalidForCrl,
        List::ParseError,
        List::UnsupportedCrlVersion,
        List::UnsupportedCriticalExtension,
        List::UnsupportedDeltaCrl,
        List::UnsupportedIndirectCrl,
        List::UnsupportedRevocationReason,
        List::Other(OtherError(Arc::new(fmt::Error))),
    ];
    check(&lists.map(|why| (rustls::Error::InvalidCertRevocationList(why), OTHER)));
}

#[test]
fn after_the_handshake_what_is_not_tls_is_no_wrong_port() {
    let cause = || rustls::Error::from(InvalidMessage::InvalidContentType);
    let stream = failed(&host(), cause(), During::Stream, None);
    assert!(
        stream.message().contains("in the middle of the stream"),
        "{stream}"
    );
    let handshake = failed(&host(), cause(), During::Handshake, None);
    assert!(
        handshake.message().contains("does this port speak TLS"),
        "{handshake}"
    );
}

#[test]
fn every_name_of_tls_is_in_the_table() {
    let used = [
        BAD, DISABLED, EXPIRED, MISMATCH, NONE, OTHER, REVOKED, TYPE, UNTRUSTED, USAGE, VERSION,
    ];
    let names = ErrorName::ALL.iter().filter(|it| it.is_security());
    for name in names {
        assert!(used.contains(&name.as_str()), "nothing causes {name}");
    }
}

#[test]
fn messages_say_what_and_what_to_do() {
    let message = |cause: CertificateError| tls_failed(&host(), cause.into()).message().to_owned();
    let expired = message(CertificateError::ExpiredContext {
        time: seconds(1_795_392_000),
        not_after: seconds(1_709_337_600),
    });
    assert_eq!(
        expired,
        "a certificate that imap.example.org showed, its own or that of an authority, expired on 2024-03-02; it is 2026-11-23 \
         now, if the clock here is right"
    );
    let mismatch = |names: &[&str]| {
        message(CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("imap.example.org").unwrap(),
            presented: names.iter().map(|it| (*it).to_owned()).collect(),
        })
    };
    assert_eq!(
        mismatch(&[r#"DnsName("*.example.com")"#, "IpAddress(10.0.0.1)"]),
        "the certificate of imap.example.org is for *.example.com, 10.0.0.1, not for imap.example.org"
    );
    assert!(mismatch(&[]).contains("for no host at all"));
    // The name of a certificate may be anything.
    let hostile = mismatch(&["DnsName(\"a\u{1b}[31m\nb\")"]);
    assert!(hostile.contains("is for a?[31m?b, not"), "{hostile}");
    assert!(mismatch(&[r#"DnsName("a")"#; 9]).contains("a, a, a, a and 5 more"));
    let plain = tls_failed(&host(), InvalidMessage::InvalidContentType.into());
    assert!(plain.message().contains("STARTTLS"), "{plain}");
}

#[test]
fn dates_are_those_of_the_calendar() {
    let table = [
        (0, "1970-01-01"),
        (86_399, "1970-01-01"),
        (951_782_400, "2000-02-29"),
        (951_868_800, "2000-03-01"),
        (1_709_164_800, "2024-02-29"),
        (1_735_689_599, "2024-12-31"),
        (4_107_542_400, "2100-03-01"),
        (253_402_300_799, "9999-12-31"),
    ];
    for (at, expected) in table {
        assert_eq!(date(seconds(at)), expected, "{at}");
    }
}

/// What people read, a cause for each name and those that happen most.
#[test]
fn messages() {
    use CertificateError as Cert;
    use rustls::Error as Tls;
    let certificate = |it: Cert| Tls::InvalidCertificate(it);
    let alert = |it: AlertDescription| Tls::AlertReceived(it);
    let causes = [
        certificate(Cert::ExpiredContext {
            time: seconds(2_000_000_000),
            not_after: seconds(1_000_000_000),
        }),
        certificate(Cert::NotValidYetContext {
            time: seconds(1_000_000_000),
            not_before: seconds(2_000_000_000),
        }),
        certificate(Cert::UnknownIssuer),
        certificate(Cert::NotValidForNameContext {
            expected: ServerName::try_from("imap.example.org").unwrap(),
            presented: vec!["DnsName(\"mail.example.org\")".into()],
        }),
        certificate(Cert::InvalidPurpose),
        certificate(Cert::Revoked),
        certificate(Cert::BadEncoding),
        certificate(Cert::BadSignature),
        certificate(Cert::UnknownRevocationStatus),
        Tls::NoCertificatesPresented,
        alert(AlertDescription::CertificateRequired),
        alert(AlertDescription::ProtocolVersion),
        alert(AlertDescription::HandshakeFailure),
        alert(AlertDescription::NoApplicationProtocol),
        alert(AlertDescription::BadCertificate),
        Tls::InvalidMessage(InvalidMessage::InvalidContentType),
        Tls::DecryptError,
        Tls::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        Tls::PeerSentOversizedRecord,
    ];
    let lines: Vec<String> = causes
        .into_iter()
        .map(|it| tls_failed(&host(), it).to_string())
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}
