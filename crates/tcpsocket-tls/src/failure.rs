//! From rustls's errors to the names of the interface (ERR-5), and to words for people.

use rustls::pki_types::UnixTime;
use rustls::{
    AlertDescription, CertRevocationListError, CertificateError, InvalidMessage, PeerIncompatible,
    PeerMisbehaved,
};
use tcpsocket::{Error, ErrorName, Host};

use crate::chain::{Chain, Evidence};
use crate::x509::{self, AltName, Certificate};

/// TLS with `host` failed. The cause is the error's [`source`](std::error::Error::source).
///
/// The names about certificates concern the certificates of `host`, as judged here. If `host` refuses a client certificate,
/// its alert is a `SecurityError`, like most alerts; only a missing client certificate has a name of its own.
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
    failed(host, cause, During::Unknown, None)
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

/// webpki's errors without a variant in rustls. The rest is for verifiers that wrap webpki themselves.
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

/// When TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Handshake,
    /// After it, in the middle of the stream.
    Stream,
    /// Not known.
    Unknown,
}

/// [`tls_failed`] with all that the session knows.
pub(crate) fn failed(
    host: &Host,
    cause: rustls::Error,
    during: During,
    evidence: Option<&Evidence>,
) -> Error {
    let chain = evidence.map(Evidence::chain);
    let said = Said {
        host,
        during,
        chain: chain.as_ref(),
    };
    Error::with_source(name(&cause), said.message(&cause), cause)
}

/// Words for people: what happened, in which certificate, and what to do about it. Library messages stay in the source.
struct Said<'a> {
    host: &'a Host,
    during: During,
    chain: Option<&'a Chain<'a>>,
}

impl Said<'_> {
    fn message(&self, cause: &rustls::Error) -> String {
        use AlertDescription as Alert;
        use rustls::Error as Tls;

        let host = self.host;
        match cause {
            Tls::InvalidCertificate(why) => self.certificate(why),
            Tls::InvalidCertRevocationList(why) => format!(
                "the list of revoked certificates for {host} cannot be used: {}",
                revocation_list(why)
            ),
            Tls::NoCertificatesPresented => {
                format!("{host} showed no certificate; a server needs one")
            }
            Tls::AlertReceived(Alert::NoCertificate | Alert::CertificateRequired) => {
                format!("{host} asks for a client certificate, and there is none")
            }
            Tls::AlertReceived(Alert::NoApplicationProtocol) => {
                format!("{host} speaks none of the protocols that were offered by ALPN")
            }
            Tls::AlertReceived(Alert::CloseNotify) => {
                format!("{host} ended the connection during the TLS handshake")
            }
            _ if name(cause) == ErrorName::SecurityUnsupportedTlsVersion => {
                format!("{host} speaks none of the TLS versions accepted here (1.2 and 1.3)")
            }
            Tls::AlertReceived(alert) => {
                format!("{host} ended TLS with the alert {}", alerted(*alert))
            }
            Tls::InvalidMessage(why) => self.invalid_message(*why),
            Tls::PeerSentOversizedRecord => {
                self.broke("it sent a record that is longer than TLS allows")
            }
            Tls::InappropriateMessage { .. } | Tls::InappropriateHandshakeMessage { .. } => {
                self.broke("it sent a message in the wrong place")
            }
            Tls::DecryptError => format!(
                "what {host} sent cannot be decrypted: it was changed on the way, or the two sides do not have the same keys"
            ),
            Tls::PeerIncompatible(why) => {
                format!(
                    "{host} and this side have no TLS parameters in common: {}",
                    incompatible(why)
                )
            }
            Tls::PeerMisbehaved(why) => self.broke(misbehaved(why)),
            Tls::NoApplicationProtocol => {
                format!("{host} speaks none of the protocols that were offered by ALPN")
            }
            Tls::FailedToGetCurrentTime => format!(
                "the clock of this machine cannot be read, so the certificate of {host} cannot be judged"
            ),
            Tls::FailedToGetRandomBytes => {
                format!("TLS with {host} needs random bytes, and this machine gives none")
            }
            Tls::UnsupportedNameType => {
                format!(
                    "the certificate of {host} cannot be judged: the verifier knows no names of this kind"
                )
            }
            Tls::EncryptError => format!("what was to be sent to {host} could not be encrypted"),
            Tls::HandshakeNotComplete => {
                format!("the handshake with {host} was used before it was complete")
            }
            Tls::BadMaxFragmentSize => format!(
                "TLS with {host} cannot begin: the fragment size of the given configuration is out of range"
            ),
            Tls::InconsistentKeys(_) => format!(
                "TLS with {host} cannot begin: the certificate and the key of the given configuration do not belong together"
            ),
            Tls::InvalidEncryptedClientHello(_) => format!(
                "TLS with {host} cannot begin: the given configuration of Encrypted Client Hello cannot be used"
            ),
            // Errors of a cryptographic provider, and whatever rustls may come to know.
            _ => format!(
                "TLS with {host} failed within the TLS library; the source of this error has its reason"
            ),
        }
    }

    fn broke(&self, how: &str) -> String {
        format!("{} breaks the rules of TLS: {how}", self.host)
    }

    fn invalid_message(&self, why: InvalidMessage) -> String {
        let host = self.host;
        match why {
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion => {
                match self.during {
                    During::Stream => format!(
                        "what {host} sent in the middle of the stream is not TLS any more; somebody on the way may have put it there"
                    ),
                    _ => format!(
                        "what {host} sent is not TLS; does this port speak TLS at all, or only after STARTTLS?"
                    ),
                }
            }
            InvalidMessage::MessageTooLarge => {
                self.broke("it sent a record that is longer than TLS allows")
            }
            InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::CertificatePayloadTooLarge => too_large(host, self.during),
            InvalidMessage::DuplicateExtension(_) => {
                self.broke("it sent the same extension twice in one message")
            }
            InvalidMessage::UnsupportedCompression => {
                self.broke("it wants compression, which is not supported")
            }
            InvalidMessage::UnknownHelloRetryRequestExtension
            | InvalidMessage::UnknownCertificateExtension => {
                self.broke("it sent an extension that it was not asked for")
            }
            _ => self.broke("it sent a message that is malformed"),
        }
    }

    // ----- certificates

    /// The certificate that satisfies `holds`, or without evidence all that may.
    fn which(&self, holds: impl Fn(&Certificate<'_>) -> bool) -> String {
        let host = self.host;
        match self
            .chain
            .and_then(|it| Some(it.name(host, it.find(holds)?)))
        {
            Some(name) => name,
            None => self.one_of_them(),
        }
    }

    fn one_of_them(&self) -> String {
        format!(
            "a certificate that {} showed, its own or that of an authority,",
            self.host
        )
    }

    #[allow(deprecated)] // a verifier that was given may still use the variants without a context
    fn certificate(&self, why: &CertificateError) -> String {
        use CertificateError as Cert;

        let host = self.host;
        let of_host = format!("the certificate of {host}");
        match why {
            Cert::ExpiredContext { time, not_after } => {
                let after = i64::try_from(not_after.as_secs()).ok();
                let which = self.which(|it| Some(it.not_after) == after);
                format!(
                    "{which} expired on {}; it is {} now, if the clock here is right",
                    date(*not_after),
                    date(*time)
                )
            }
            Cert::NotValidYetContext { time, not_before } => {
                let before = i64::try_from(not_before.as_secs()).ok();
                let which = self.which(|it| Some(it.not_before) == before);
                format!(
                    "{which} is not valid before {}; it is {} now, if the clock here is right",
                    date(*not_before),
                    date(*time)
                )
            }
            Cert::Expired => match self.chain.and_then(|it| it.find(never_valid)) {
                Some(_) => format!(
                    "{} says that it ends before it begins, so it is never valid",
                    self.which(never_valid)
                ),
                None => format!("{} is expired", self.one_of_them()),
            },
            Cert::NotValidYet => format!("{} is not valid yet", self.one_of_them()),
            Cert::Revoked => format!(
                "{of_host}, or that of an authority above it, was revoked; it needs a new one"
            ),
            Cert::UnknownIssuer => self.unknown_issuer(),
            Cert::NotValidForNameContext { presented, .. } => {
                let own = self.chain.and_then(Chain::own);
                match own {
                    Some(own) => self.mismatch(&own.alt_names(), own.common_name()),
                    None => {
                        let names: Vec<AltName> =
                            presented.iter().map(|it| presented_name(it)).collect();
                        self.mismatch(&names, None)
                    }
                }
            }
            Cert::NotValidForName => format!("{of_host} is for another name"),
            Cert::InvalidPurpose | Cert::InvalidPurposeContext { .. } => self.purpose(),
            Cert::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                supported_algorithms,
            } => {
                let which = self.which(|it| it.algorithm == signature_algorithm_id);
                let mut accepted: Vec<String> = supported_algorithms
                    .iter()
                    .map(|it| x509::algorithm(it))
                    .collect();
                accepted.sort();
                accepted.dedup();
                let instead = match accepted.len() {
                    0 => String::new(),
                    _ => format!("; accepted are {}", accepted.join(", ")),
                };
                format!(
                    "{which} is signed with {}, which is not accepted here{instead}; it has to be issued anew",
                    x509::algorithm(signature_algorithm_id)
                )
            }
            Cert::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id,
            } => {
                let with = x509::algorithm(signature_algorithm_id);
                let key = x509::key_algorithm_of(public_key_algorithm_id);
                match self.chain {
                    Some(chain) if chain.is_about_the_handshake() => format!(
                        "{of_host} has a key for {key}, with which {host} cannot sign a handshake that is accepted here"
                    ),
                    _ => format!(
                        "{} is signed with {with} by a key for {key}, which do not go together here; it has to be issued anew, \
                         by an authority with another key",
                        self.which(|it| it.algorithm == signature_algorithm_id)
                    ),
                }
            }
            Cert::UnsupportedSignatureAlgorithm => format!(
                "{} is signed with an algorithm that is not accepted here; it has to be issued anew",
                self.one_of_them()
            ),
            Cert::BadSignature => self.bad_signature(),
            Cert::BadEncoding => self.malformed(),
            Cert::UnhandledCriticalExtension => self.unknown_extension(),
            Cert::UnknownRevocationStatus => format!(
                "it is not known whether {of_host}, or that of an authority above it, was revoked: there is no list of revoked \
                 certificates for it"
            ),
            Cert::ExpiredRevocationList => format!(
                "it is not known whether {of_host}, or that of an authority above it, was revoked: the list of revoked certificates \
                 is out of date"
            ),
            Cert::ExpiredRevocationListContext { time, next_update } => format!(
                "it is not known whether {of_host}, or that of an authority above it, was revoked: the list of revoked certificates \
                 is out of date since {}; it is {} now, if the clock here is right",
                date(*next_update),
                date(*time)
            ),
            Cert::InvalidOcspResponse => format!(
                "{host} sent a proof that its certificate was not revoked (OCSP), and that is not valid"
            ),
            Cert::ApplicationVerificationFailure => {
                format!("{of_host} is refused by the verifier that this program uses")
            }
            Cert::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
                Some(why) => self.other(why),
                None if is_key_usage_of_the_platform(&other.0) => self.purpose(),
                None => format!(
                    "{of_host} is refused by the verifier that this program uses; the source of this error has its reason"
                ),
            },
            _ => format!("{of_host} is not accepted; the source of this error has the reason"),
        }
    }

    fn unknown_issuer(&self) -> String {
        let host = self.host;
        let known = self.chain.and_then(|chain| {
            let top = chain.top()?;
            Some((chain, top, chain.at(top)?))
        });
        let Some((chain, at, top)) = known else {
            return format!(
                "the certificate of {host} has no trusted issuer; if it is self-signed or comes from a private authority, add that \
                 to the trust roots"
            );
        };
        match (at, top.signs_itself()) {
            (0, true) => format!(
                "the certificate of {host} is self-signed, and not among what is trusted here; if it is the right one, it can be \
                 trusted itself"
            ),
            (_, true) => format!(
                "the certificate of {host} leads to the authority {}, which is not trusted here; if that is a private authority \
                 of yours, it has to be among what is trusted",
                top.called()
            ),
            (_, false) => format!(
                "{} was issued by {}, which is not trusted here, and whose certificate {host} did not send; either the server has \
                 to send that along, or if it is a private authority of yours, it has to be among what is trusted",
                chain.name(host, at),
                top.issued_by()
            ),
        }
    }

    fn mismatch(&self, names: &[AltName], common_name: Option<String>) -> String {
        const MOST: usize = 4;
        let host = self.host;
        let text = host.as_str();
        let bare = text.split('%').next().unwrap_or(text);
        let is_host = |it: &str| match host.literal() {
            Some(ip) => it.parse() == Ok(ip) || it == bare,
            None => it.eq_ignore_ascii_case(text),
        };
        let of_host = format!("the certificate of {host}");
        let as_dns = |it: &AltName| matches!(it, AltName::Dns(name) if is_host(name));
        if let Some(ip) = host.literal()
            && names.iter().any(as_dns)
        {
            return format!(
                "{of_host} has this address as a DNS name, which does not count; it has to be an address (IP:{ip}) in \
                 subjectAltName"
            );
        }
        let shown: Vec<&str> = names
            .iter()
            .filter_map(|it| match it {
                AltName::Dns(name) | AltName::Address(name) => Some(name.as_str()),
                AltName::Other => None,
            })
            .collect();
        if shown.is_empty() {
            let kind = match host.literal() {
                Some(_) => "IP",
                None => "DNS",
            };
            let also = match common_name.is_some_and(|it| is_host(&it)) {
                true => " The name in its subject (CN) does not count.",
                false => "",
            };
            return format!(
                "{of_host} is for no host at all, and so not for {host}; it has to have the host ({kind}:{bare}) in \
                 subjectAltName.{also}"
            )
            .trim_end_matches('.')
            .to_owned();
        }
        let more = match shown.len().checked_sub(MOST) {
            None | Some(0) => String::new(),
            Some(more) => format!(" and {more} more"),
        };
        let listed = shown[..shown.len().min(MOST)].join(", ");
        format!("{of_host} is for {listed}{more}, not for {host}")
    }

    fn purpose(&self) -> String {
        let unfit = |it: &Certificate<'_>| !it.is_for_servers();
        let found = self.chain.and_then(|it| it.at(it.find(unfit)?)?.usages());
        match found {
            Some(usages) if usages.is_empty() => format!(
                "{} may be used for nothing (extKeyUsage is empty); a server needs one for servers (serverAuth)",
                self.which(unfit)
            ),
            Some(usages) => format!(
                "{} is for {} only (extKeyUsage); a server needs one for servers (serverAuth)",
                self.which(unfit),
                usages.join(", ")
            ),
            None => format!(
                "{} is not for servers (extKeyUsage); a server needs one for servers (serverAuth)",
                self.one_of_them()
            ),
        }
    }

    fn bad_signature(&self) -> String {
        let host = self.host;
        match self.chain {
            Some(chain) if chain.is_about_the_handshake() => match chain.weak_key() {
                Some(bits) => format!(
                    "the certificate of {host} has an RSA key of {bits} bits, and 2048 to 8192 are accepted; it needs a new key"
                ),
                None => format!(
                    "{host} does not have the key that belongs to the certificate that it shows: the signature of the handshake is \
                     wrong"
                ),
            },
            Some(chain) => chain
                .bad_signature(host)
                .unwrap_or_else(|| format!("{} has a wrong signature", self.one_of_them())),
            None => format!(
                "a signature that {host} showed is wrong: that of a certificate, or of the handshake"
            ),
        }
    }

    fn malformed(&self) -> String {
        let host = self.host;
        match self.chain.and_then(|it| Some((it, it.unreadable()?))) {
            Some((chain, (at, why))) => format!("{} {}", chain.name(host, at), fault(&why)),
            None => format!("{} is malformed", self.one_of_them()),
        }
    }

    fn unknown_extension(&self) -> String {
        let unknown = |it: &Certificate<'_>| it.unknown_extension().is_some();
        let found = self
            .chain
            .and_then(|it| it.at(it.find(unknown)?)?.unknown_extension());
        match found {
            Some(number) => format!(
                "{} has a critical extension that is not known here ({number}), so it may not be accepted",
                self.which(unknown)
            ),
            None => format!(
                "{} has a critical extension that is not known here, so it may not be accepted",
                self.one_of_them()
            ),
        }
    }

    /// What webpki says and rustls has no variant for.
    #[allow(deprecated)]
    fn other(&self, why: &webpki::Error) -> String {
        use webpki::Error as Chain;

        let host = self.host;
        let sent = |holds: fn(&Certificate<'_>) -> bool| {
            let found = self
                .chain
                .and_then(|it| Some(it.name(host, it.find_authority(holds)?)));
            found.unwrap_or_else(|| format!("an authority above the certificate of {host}"))
        };
        match why {
            Chain::CaUsedAsEndEntity => {
                let own = self.chain.and_then(|it| it.own());
                let only_signs = own
                    .and_then(Certificate::key_usage)
                    .is_some_and(|it| !it.signs);
                let instead = match only_signs {
                    true => {
                        "its key may sign certificates only (keyUsage), so it needs one that was issued to it"
                    }
                    false => {
                        "it needs one that was issued to it, or if it has made this one for itself, this certificate has to be \
                         among what is trusted"
                    }
                };
                format!("{host} shows the certificate of an authority as its own; {instead}")
            }
            Chain::EndEntityUsedAsCa => format!(
                "{} issued another one, which it may not: it is no authority (basicConstraints)",
                sent(|it| !it.is_authority())
            ),
            Chain::NameConstraintViolation => format!(
                "{} may not issue certificates for the names in that of {host} (nameConstraints)",
                sent(|it| it.constrains_names())
            ),
            Chain::PathLenConstraintViolated => format!(
                "{} may not have so many authorities below it (pathLenConstraint)",
                sent(|it| it.path_length().is_some())
            ),
            Chain::MaximumNameConstraintComparisonsExceeded
            | Chain::MaximumPathBuildCallsExceeded
            | Chain::MaximumPathDepthExceeded
            | Chain::MaximumSignatureChecksExceeded => format!(
                "the certificates that {host} sent are too many, or too tangled, to be judged; at most 6 authorities may stand \
                 between it and one that is trusted"
            ),
            Chain::CertDistrusted => {
                format!("{} is not to be trusted any more", self.one_of_them())
            }
            Chain::UnsupportedCriticalExtension => self.unknown_extension(),
            Chain::EmptyEkuExtension => self.purpose(),
            Chain::CrlExpired { time, next_update } => {
                self.certificate(&CertificateError::ExpiredRevocationListContext {
                    time: *time,
                    next_update: *next_update,
                })
            }
            Chain::InvalidCrlNumber
            | Chain::InvalidCrlSignatureForPublicKey
            | Chain::IssuerNotCrlSigner
            | Chain::UnsupportedCrlIssuingDistributionPoint
            | Chain::UnsupportedCrlVersion
            | Chain::UnsupportedDeltaCrl
            | Chain::UnsupportedIndirectCrl
            | Chain::UnsupportedRevocationReason
            | Chain::UnsupportedRevocationReasonsPartitioning
            | Chain::UnsupportedCrlSignatureAlgorithm
            | Chain::UnsupportedCrlSignatureAlgorithmContext(_)
            | Chain::UnsupportedCrlSignatureAlgorithmForPublicKey
            | Chain::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => format!(
                "it is not known whether the certificate of {host} was revoked: the list of revoked certificates that was given cannot \
                 be used"
            ),
            Chain::CertRevoked => self.certificate(&CertificateError::Revoked),
            Chain::UnknownRevocationStatus => {
                self.certificate(&CertificateError::UnknownRevocationStatus)
            }
            Chain::UnknownIssuer => self.unknown_issuer(),
            Chain::InvalidSignatureForPublicKey => self.bad_signature(),
            Chain::RequiredEkuNotFound | Chain::RequiredEkuNotFoundContext(_) => self.purpose(),
            Chain::CertExpired { time, not_after } => {
                self.certificate(&CertificateError::ExpiredContext {
                    time: *time,
                    not_after: *not_after,
                })
            }
            Chain::CertNotValidYet { time, not_before } => {
                self.certificate(&CertificateError::NotValidYetContext {
                    time: *time,
                    not_before: *not_before,
                })
            }
            Chain::InvalidCertValidity => self.certificate(&CertificateError::Expired),
            Chain::CertNotValidForName(it) => {
                let names: Vec<AltName> =
                    it.presented.iter().map(|it| presented_name(it)).collect();
                self.mismatch(&names, None)
            }
            Chain::UnsupportedSignatureAlgorithm
            | Chain::UnsupportedSignatureAlgorithmForPublicKey => {
                self.certificate(&CertificateError::UnsupportedSignatureAlgorithm)
            }
            Chain::UnsupportedSignatureAlgorithmContext(it) => {
                self.certificate(&CertificateError::UnsupportedSignatureAlgorithmContext {
                    signature_algorithm_id: it.signature_algorithm_id.clone(),
                    supported_algorithms: it.supported_algorithms.clone(),
                })
            }
            Chain::UnsupportedSignatureAlgorithmForPublicKeyContext(it) => self.certificate(
                &CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                    signature_algorithm_id: it.signature_algorithm_id.clone(),
                    public_key_algorithm_id: it.public_key_algorithm_id.clone(),
                },
            ),
            Chain::UnsupportedNameType => format!(
                "the certificate of {host} cannot be judged: the verifier knows no names of this kind"
            ),
            // Malformed in one way or another.
            other => match self.chain.and_then(|it| Some((it, it.unreadable()?))) {
                Some((chain, (at, why))) => format!("{} {}", chain.name(host, at), fault(&why)),
                None => format!("{} {}", self.one_of_them(), fault(other)),
            },
        }
    }
}

fn never_valid(it: &Certificate<'_>) -> bool {
    it.not_after < it.not_before
}

/// Handshake messages that do not fit into what is kept of them: 64 KiB, with what there is of records.
pub(crate) fn too_large(host: &Host, during: During) -> String {
    let why = match during {
        During::Stream => "",
        _ => "; does it send far too many certificates?",
    };
    format!(
        "{host} sent 64 KiB or more of handshake messages in one piece, which is more than is read here{why}"
    )
}

/// What is wrong with a certificate that webpki cannot read.
fn fault(why: &webpki::Error) -> String {
    use webpki::Error as Chain;

    match why {
        Chain::UnsupportedCertVersion => {
            "is of X.509 version 1 or 2; it has to be of version 3, with subjectAltName"
        }
        Chain::SignatureAlgorithmMismatch => {
            "names two different algorithms for its signature, so it is malformed"
        }
        Chain::BadDerTime => "has a date that is malformed",
        Chain::InvalidSerialNumber => "has a serial number that is malformed",
        Chain::MalformedExtensions | Chain::ExtensionValueInvalid => {
            "has an extension that is malformed, or twice the same"
        }
        Chain::MalformedDnsIdentifier => "has a DNS name that is malformed",
        Chain::MalformedNameConstraint | Chain::InvalidNetworkMaskConstraint => {
            "has nameConstraints that are malformed"
        }
        Chain::UnsupportedCriticalExtension => {
            "has a critical extension that is not known here, so it may not be accepted"
        }
        _ => "is malformed: it is no certificate in DER",
    }
    .to_owned()
}

/// A name of a certificate as webpki writes it, `DnsName("example.org")` and the like.
fn presented_name(text: &str) -> AltName {
    let inside = |kind: &str| text.strip_prefix(kind)?.strip_suffix(')');
    let safe = |it: &str| x509::printable(it.trim_matches('"').as_bytes());
    match (inside("DnsName("), inside("IpAddress(")) {
        (Some(name), _) => AltName::Dns(safe(name)),
        (_, Some(address)) => AltName::Address(safe(address)),
        _ => AltName::Other,
    }
}

#[allow(deprecated)]
fn revocation_list(why: &CertRevocationListError) -> &'static str {
    use CertRevocationListError as List;

    match why {
        List::BadSignature => "its signature is wrong",
        List::UnsupportedSignatureAlgorithm
        | List::UnsupportedSignatureAlgorithmContext { .. }
        | List::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not accepted"
        }
        List::IssuerInvalidForCrl => "who signed it may not sign such lists (keyUsage)",
        List::ParseError | List::InvalidCrlNumber | List::InvalidRevokedCertSerialNumber => {
            "it is malformed"
        }
        List::UnsupportedCrlVersion
        | List::UnsupportedCriticalExtension
        | List::UnsupportedDeltaCrl
        | List::UnsupportedIndirectCrl
        | List::UnsupportedRevocationReason => "it is of a kind that is not supported",
        _ => "the source of this error has the reason",
    }
}

/// An alert by the name that RFC 8446 gives it, and what it means where that helps.
fn alerted(alert: AlertDescription) -> String {
    use AlertDescription as Alert;

    let (name, means) = match alert {
        Alert::CloseNotify => ("close_notify", ""),
        Alert::UnexpectedMessage => ("unexpected_message", ""),
        Alert::BadRecordMac => (
            "bad_record_mac",
            "what it received was changed on the way, or the two sides do not have the same keys",
        ),
        Alert::DecryptionFailed => ("decryption_failed", ""),
        Alert::RecordOverflow => ("record_overflow", ""),
        Alert::DecompressionFailure => ("decompression_failure", ""),
        Alert::HandshakeFailure => (
            "handshake_failure",
            "it accepts nothing of what was offered, such as a cipher suite, or wants more",
        ),
        Alert::NoCertificate => ("no_certificate", ""),
        Alert::BadCertificate => ("bad_certificate", "it refuses the certificate of this side"),
        Alert::UnsupportedCertificate => (
            "unsupported_certificate",
            "it refuses the certificate of this side",
        ),
        Alert::CertificateRevoked => (
            "certificate_revoked",
            "it refuses the certificate of this side",
        ),
        Alert::CertificateExpired => (
            "certificate_expired",
            "it refuses the certificate of this side",
        ),
        Alert::CertificateUnknown => (
            "certificate_unknown",
            "it refuses the certificate of this side",
        ),
        Alert::IllegalParameter => ("illegal_parameter", ""),
        Alert::UnknownCA => (
            "unknown_ca",
            "it does not know who issued the certificate of this side",
        ),
        Alert::AccessDenied => ("access_denied", "it does not let this side in"),
        Alert::DecodeError => ("decode_error", ""),
        Alert::DecryptError => ("decrypt_error", "a signature or a secret was wrong for it"),
        Alert::ExportRestriction => ("export_restriction", ""),
        Alert::ProtocolVersion => ("protocol_version", ""),
        Alert::InsufficientSecurity => (
            "insufficient_security",
            "what was offered is not strong enough for it",
        ),
        Alert::InternalError => ("internal_error", "it failed by itself"),
        Alert::InappropriateFallback => ("inappropriate_fallback", ""),
        Alert::UserCanceled => ("user_canceled", ""),
        Alert::NoRenegotiation => ("no_renegotiation", ""),
        Alert::MissingExtension => ("missing_extension", ""),
        Alert::UnsupportedExtension => ("unsupported_extension", ""),
        Alert::CertificateUnobtainable => ("certificate_unobtainable", ""),
        Alert::UnrecognisedName => ("unrecognized_name", "it serves no host of this name"),
        Alert::BadCertificateStatusResponse => ("bad_certificate_status_response", ""),
        Alert::BadCertificateHashValue => ("bad_certificate_hash_value", ""),
        Alert::UnknownPSKIdentity => ("unknown_psk_identity", ""),
        Alert::CertificateRequired => ("certificate_required", ""),
        Alert::NoApplicationProtocol => ("no_application_protocol", ""),
        Alert::EncryptedClientHelloRequired => ("ech_required", ""),
        _ => ("unknown", ""),
    };
    let number = u8::from(alert);
    match means {
        "" => format!("{name} ({number})"),
        _ => format!("{name} ({number}): {means}"),
    }
}

fn incompatible(why: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as Peer;

    match why {
        Peer::NoCipherSuitesInCommon => "no cipher suite",
        Peer::NoKxGroupsInCommon
        | Peer::NamedGroupsExtensionRequired
        | Peer::KeyShareExtensionRequired => "no group for the exchange of keys",
        Peer::NoSignatureSchemesInCommon
        | Peer::NoCertificateRequestSignatureSchemesInCommon
        | Peer::SignatureAlgorithmsExtensionRequired => "no signature scheme",
        Peer::EcPointsExtensionRequired
        | Peer::NoEcPointFormatsInCommon
        | Peer::UncompressedEcPointsRequired => "no form of points on curves",
        Peer::NullCompressionRequired => "it wants compression, which is not supported",
        Peer::ExtendedMasterSecretExtensionRequired => {
            "it cannot do the extended master secret (RFC 7627), which is required"
        }
        Peer::IncorrectCertificateTypeExtension | Peer::UnsolicitedCertificateTypeExtension => {
            "its certificate is of another type than X.509"
        }
        Peer::ServerRejectedEncryptedClientHello(_) => "it refuses Encrypted Client Hello",
        Peer::ServerSentHelloRetryRequestWithUnknownExtension => {
            "it asks for something that is not known here"
        }
        _ => "the source of this error has the reason",
    }
}

fn misbehaved(why: &PeerMisbehaved) -> &'static str {
    use PeerMisbehaved as Peer;

    match why {
        Peer::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            "it knows TLS 1.3 and agreed to 1.2; somebody on the way may have changed what was offered"
        }
        Peer::SelectedUnofferedApplicationProtocol => {
            "it chose a protocol that was not offered by ALPN"
        }
        Peer::SelectedUnofferedCertCompression
        | Peer::SelectedUnofferedCipherSuite
        | Peer::SelectedUnofferedCompression
        | Peer::SelectedUnofferedKxGroup
        | Peer::SelectedUnofferedPsk
        | Peer::SelectedInvalidPsk
        | Peer::SelectedUnusableCipherSuiteForVersion
        | Peer::SelectedTls12UsingTls13VersionExtension
        | Peer::SelectedDifferentCipherSuiteAfterRetry
        | Peer::WrongGroupForKeyShare
        | Peer::SignedKxWithWrongAlgorithm
        | Peer::SignedHandshakeWithUnadvertisedSigScheme => {
            "it chose something that was not offered"
        }
        Peer::UnexpectedCleartextExtension
        | Peer::UnsolicitedCertExtension
        | Peer::UnsolicitedEncryptedExtension
        | Peer::UnsolicitedSctList
        | Peer::UnsolicitedServerHelloExtension
        | Peer::UnsolicitedEchExtension
        | Peer::DisallowedEncryptedExtension => "it sent an extension that it was not asked for",
        Peer::DuplicateEncryptedExtensions
        | Peer::DuplicateHelloRetryRequestExtensions
        | Peer::DuplicateNewSessionTicketExtensions
        | Peer::DuplicateServerHelloExtensions
        | Peer::BadCertChainExtensions => {
            "it sent extensions that are malformed, or twice the same"
        }
        Peer::TooManyEmptyFragments
        | Peer::TooManyKeyUpdateRequests
        | Peer::TooManyRenegotiationRequests
        | Peer::TooManyWarningAlertsReceived => "it sent too many messages that say nothing",
        Peer::MessageInterleavedWithHandshakeMessage | Peer::KeyEpochWithPendingFragment => {
            "it cut a handshake message and sent something else in between"
        }
        Peer::InvalidKeyShare | Peer::MissingKeyShare => {
            "its share of the keys is missing or not valid"
        }
        Peer::ResumptionAttemptedWithVariedEms
        | Peer::ResumptionOfferedWithVariedCipherSuite
        | Peer::ResumptionOfferedWithVariedEms
        | Peer::ResumptionOfferedWithIncompatibleCipherSuite => {
            "it resumed a session with other parameters than it began with"
        }
        _ => "its handshake makes no sense",
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
