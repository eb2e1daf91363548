//! Judges a server's certificates, and keeps refused ones for the error message.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use crate::chain::Evidence;
use crate::x509::Certificate;

/// Accepts the exactly trusted certificates (TLS-28), and leaves all others to `judge`.
pub(crate) struct Verifier {
    pub(crate) exactly: Vec<CertificateDer<'static>>,
    pub(crate) judge: Judge,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

pub(crate) enum Judge {
    /// webpki, with these authorities.
    Authorities(Arc<RootCertStore>),
    /// The operating system.
    #[cfg(feature = "platform-verifier")]
    Platform(Arc<dyn ServerCertVerifier>),
}

impl Verifier {
    /// Checks host, dates and usages of a certificate that is trusted itself, whoever issued it.
    fn exactly(
        &self,
        shown: &CertificateDer<'_>,
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(shown)?;
        let read = Certificate::read(shown).ok_or(CertificateError::BadEncoding)?;
        if !read.is_valid_at(now.as_secs()) {
            let early = i64::try_from(now.as_secs()).is_ok_and(|it| it < read.not_before);
            let at = |seconds: i64| {
                let seconds = u64::try_from(seconds).unwrap_or(0);
                UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
            };
            return Err(match early {
                true => CertificateError::NotValidYetContext {
                    time: now,
                    not_before: at(read.not_before),
                },
                false => CertificateError::ExpiredContext {
                    time: now,
                    not_after: at(read.not_after),
                },
            }
            .into());
        }
        if !read.is_for_servers() {
            return Err(CertificateError::InvalidPurpose.into());
        }
        verify_server_name(&parsed, host)?;
        Ok(ServerCertVerified::assertion())
    }

    fn chain(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.judge {
            Judge::Authorities(authorities) => {
                let _ = ocsp; // revocation is not checked
                let parsed = ParsedCertificate::try_from(end_entity)?;
                verify_server_cert_signed_by_trust_anchor(
                    &parsed,
                    authorities,
                    intermediates,
                    now,
                    self.algorithms.all,
                )?;
                verify_server_name(&parsed, host)?;
                Ok(ServerCertVerified::assertion())
            }
            #[cfg(feature = "platform-verifier")]
            Judge::Platform(platform) => {
                platform.verify_server_cert(end_entity, intermediates, host, ocsp, now)
            }
        }
    }

    /// Whether the certificate is trusted itself and its key may sign handshakes. If the key may only sign certificates, it
    /// is an authority's, and `judge` decides.
    fn is_trusted_itself(&self, shown: &CertificateDer<'_>) -> bool {
        self.exactly.iter().any(|it| it == shown)
            && Certificate::read(shown)
                .is_none_or(|it| it.key_usage().is_none_or(|usage| usage.signs))
    }

    fn refused(
        &self,
        shown: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        time: Option<UnixTime>,
    ) {
        keep(|| Evidence {
            chain: std::iter::once(shown)
                .chain(more)
                .take(Evidence::MOST)
                .map(|it| it.clone().into_owned())
                .collect(),
            authorities: match &self.judge {
                Judge::Authorities(authorities) => Some(authorities.clone()),
                #[cfg(feature = "platform-verifier")]
                Judge::Platform(_) => None,
            },
            algorithms: self.algorithms.all,
            time,
        });
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judged = match self.is_trusted_itself(end_entity) {
            true => self.exactly(end_entity, server_name, now),
            false => self.chain(end_entity, intermediates, server_name, ocsp_response, now),
        };
        if judged.is_err() {
            self.refused(end_entity, intermediates, Some(now));
        }
        judged
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let judged = match &self.judge {
            Judge::Authorities(_) => verify_tls12_signature(message, cert, dss, &self.algorithms),
            #[cfg(feature = "platform-verifier")]
            Judge::Platform(platform) => platform.verify_tls12_signature(message, cert, dss),
        };
        if judged.is_err() {
            self.refused(cert, &[], None);
        }
        judged
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let judged = match &self.judge {
            Judge::Authorities(_) => verify_tls13_signature(message, cert, dss, &self.algorithms),
            #[cfg(feature = "platform-verifier")]
            Judge::Platform(platform) => platform.verify_tls13_signature(message, cert, dss),
        };
        if judged.is_err() {
            self.refused(cert, &[], None);
        }
        judged
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.judge {
            Judge::Authorities(_) => self.algorithms.supported_schemes(),
            #[cfg(feature = "platform-verifier")]
            Judge::Platform(platform) => platform.supported_verify_schemes(),
        }
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        match &self.judge {
            Judge::Authorities(_) => None,
            #[cfg(feature = "platform-verifier")]
            Judge::Platform(platform) => platform.root_hint_subjects(),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("exactly", &self.exactly.len())
            .finish_non_exhaustive()
    }
}

// All sessions share a verifier, and it can only answer with a rustls error. That has no room for a certificate, and its
// variant chooses the alert. So the verifier leaves the evidence on the thread, for the session that runs there.

thread_local! {
    /// `Some` while a session is watching.
    static KEPT: RefCell<Option<Option<Evidence>>> = const { RefCell::new(None) };
}

/// Runs a session, and returns the evidence of a refusal by a [`Verifier`] meanwhile.
pub(crate) fn watch<T>(run: impl FnOnce() -> T) -> (T, Option<Evidence>) {
    KEPT.set(Some(None));
    let outcome = run();
    (outcome, KEPT.take().flatten())
}

fn keep(evidence: impl FnOnce() -> Evidence) {
    KEPT.with_borrow_mut(|it| {
        if let Some(kept) = it {
            *kept = Some(evidence());
        }
    });
}
