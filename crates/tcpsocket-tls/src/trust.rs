//! Trust roots.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tcpsocket::{Error, ErrorName};

use crate::pem;
use crate::verifier::{Judge, Verifier};
use crate::x509::Certificate;

/// Trust roots: a store of root certificates, and your own additions.
///
/// An added certificate is trusted in two ways. **Itself**: a server that presents this very certificate, byte for byte, and
/// has its key, is accepted if host, dates and usages are right, whoever issued it. That covers certificates made by
/// `openssl req -x509` (TLS-28). **As an authority** for the certificates it issues, if it says that it is one: by
/// `basicConstraints` with CA:TRUE or X.509 version 1, and without a `keyUsage` that forbids it (TLS-29).
///
/// Creating a `Trust` reads nothing; a [`Client`](crate::Client) loads the store before its first session. Then a store that
/// cannot be loaded, or is empty, is an error. It never means "trust nobody", and never "trust everybody".
///
/// ```
/// use tcpsocket_tls::Trust;
///
/// let everyday = Trust::platform();
/// let nonsense = everyday.and_pem(b"no certificate in here").unwrap_err();
/// assert_eq!(nonsense.name().as_str(), "InvalidAccessError");
/// ```
#[derive(Clone)]
pub struct Trust {
    store: Store,
    /// Trusted themselves, and as authorities if they are.
    added: Vec<CertificateDer<'static>>,
    /// Trusted themselves only.
    exactly: Vec<CertificateDer<'static>>,
}

/// The size of rustls's session store: for each of 16 hosts, 8 TLS 1.3 tickets and one TLS 1.2 session.
///
/// Servers choose the size of their tickets and certificates, up to 64 KiB each, so this bounds the memory they can make a
/// client use.
const TICKETS: usize = 128;

#[derive(Clone, Copy, Debug)]
enum Store {
    Nobody,
    Platform,
    #[cfg(feature = "platform-verifier")]
    PlatformVerifier,
    #[cfg(feature = "webpki-roots")]
    WebPki,
}

impl Trust {
    /// The root certificates of the operating system, read by `rustls-native-certs` and judged by webpki.
    ///
    /// If the environment sets `SSL_CERT_FILE` or `SSL_CERT_DIR`, those are read in place of the system's. Unreadable
    /// certificates are skipped, as long as at least one is readable.
    pub fn platform() -> Trust {
        Store::Platform.into()
    }

    /// The operating system's own verifier, by `rustls-platform-verifier`. On Windows, macOS, iOS and Android the system
    /// itself judges, with its administrator's settings and, where the system supports it, revocation. Elsewhere this is the
    /// same as [`platform`](Trust::platform).
    #[cfg(feature = "platform-verifier")]
    pub fn platform_verifier() -> Trust {
        Store::PlatformVerifier.into()
    }

    /// Mozilla's root certificates as of the build of `webpki-roots`, for systems without a store. They age with the
    /// program.
    #[cfg(feature = "webpki-roots")]
    pub fn webpki_roots() -> Trust {
        Store::WebPki.into()
    }

    /// No trust roots until you add certificates: for private authorities and for tests.
    pub fn nobody() -> Trust {
        Store::Nobody.into()
    }

    /// Adds these certificates: each is trusted itself, and as an authority if it says that it is one.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if one of them cannot be read.
    pub fn and(
        mut self,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Trust, Error> {
        for (at, certificate) in certificates.into_iter().enumerate() {
            readable(&certificate, at)?;
            self.added.push(certificate);
        }
        Ok(self)
    }

    /// Adds these server certificates, none of them as an authority, even if one says that it is one.
    ///
    /// The server must present this very certificate. Host, dates and usages are checked as always; the issuer is not.
    ///
    /// ```
    /// use tcpsocket_tls::{CertificateDer, Trust};
    ///
    /// let error = Trust::nobody().and_exactly([CertificateDer::from(vec![1, 2, 3])]).unwrap_err();
    /// assert_eq!(error.name().as_str(), "InvalidAccessError");
    /// ```
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if one of them cannot be read.
    pub fn and_exactly(
        mut self,
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Trust, Error> {
        for (at, certificate) in certificates.into_iter().enumerate() {
            readable(&certificate, at)?;
            self.exactly.push(certificate);
        }
        Ok(self)
    }

    /// Like [`and`](Trust::and), for the certificates in this PEM text. There must be at least one.
    ///
    /// Reads the sections `CERTIFICATE`, `X509 CERTIFICATE` and `TRUSTED CERTIFICATE`, and skips others. A byte order mark,
    /// blanks around lines and text between sections are fine. A `TRUSTED CERTIFICATE`, made by `openssl x509 -trustout`, is
    /// refused if OpenSSL's settings do not trust it for servers; other settings are ignored.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if there is no certificate, or one that cannot be read or used.
    pub fn and_pem(self, pem: &[u8]) -> Result<Trust, Error> {
        match pem::certificates(pem) {
            Ok(certificates) => self.and(certificates),
            Err(why) => Err(Error::new(
                ErrorName::InvalidAccess,
                format!("the PEM text {why}"),
            )),
        }
    }

    /// Loads the trust roots and builds the configuration.
    pub(crate) fn load(&self, provider: Arc<CryptoProvider>) -> Result<ClientConfig, Error> {
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| {
                unusable("the cryptographic provider supports no TLS version", cause)
            })?;
        let judge = match self.store {
            Store::Nobody => self.authorities(RootCertStore::empty())?,
            Store::Platform => self.authorities(platform()?)?,
            #[cfg(feature = "platform-verifier")]
            Store::PlatformVerifier => self.platform_judge(builder.crypto_provider().clone())?,
            #[cfg(feature = "webpki-roots")]
            Store::WebPki => {
                self.authorities(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())?
            }
        };
        let verifier = Verifier {
            exactly: self.added.iter().chain(&self.exactly).cloned().collect(),
            judge,
            algorithms,
        };
        let mut config = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(TICKETS);
        Ok(config)
    }

    fn authorities(&self, mut store: RootCertStore) -> Result<Judge, Error> {
        for root in self.added_authorities() {
            store
                .add(root.clone())
                .map_err(|cause| unusable("a root certificate cannot be read", cause))?;
        }
        if store.is_empty() && self.added.is_empty() && self.exactly.is_empty() {
            return Err(Error::new(
                ErrorName::Security,
                "there are no trust roots; add root certificates",
            ));
        }
        Ok(Judge::Authorities(Arc::new(store)))
    }

    fn added_authorities(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let says_so = |it: &&CertificateDer<'static>| {
            // A certificate that webpki can read and this crate cannot is never an authority.
            Certificate::read(it).is_some_and(|it| it.is_authority())
        };
        self.added.iter().filter(says_so)
    }

    #[cfg(feature = "platform-verifier")]
    fn platform_judge(&self, provider: Arc<CryptoProvider>) -> Result<Judge, Error> {
        use rustls_platform_verifier::Verifier;

        let unusable = |cause| unusable("the platform's trust cannot be used", cause);
        // Made even if certificates are added: with extra roots, it would not notice that the platform's cannot be loaded.
        let mut verifier = Verifier::new(provider.clone()).map_err(unusable)?;
        let added: Vec<_> = self.added_authorities().cloned().collect();
        if !added.is_empty() {
            #[cfg(target_os = "android")]
            return Err(Error::new(
                ErrorName::Security,
                "on Android, authorities cannot be added to the platform's verifier",
            ));
            #[cfg(not(target_os = "android"))]
            {
                verifier = Verifier::new_with_extra_roots(added, provider).map_err(unusable)?;
            }
        }
        Ok(Judge::Platform(Arc::new(verifier)))
    }
}

/// webpki judges the certificate later, so it must be able to read it.
fn readable(certificate: &CertificateDer<'static>, at: usize) -> Result<(), Error> {
    let read = RootCertStore::empty().add(certificate.clone());
    read.map_err(|cause| {
        let message = format!(
            "certificate {} cannot be read: it is malformed, or not an X.509 certificate in DER",
            at + 1
        );
        Error::with_source(ErrorName::InvalidAccess, message, cause)
    })
}

fn platform() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(found.certs);
    if !store.is_empty() {
        return Ok(store);
    }
    Err(match found.errors.into_iter().next() {
        Some(cause) => {
            let from = match &cause.kind {
                rustls_native_certs::ErrorKind::Io { inner, path } => {
                    format!("{} cannot be read ({inner})", path.display())
                }
                rustls_native_certs::ErrorKind::Pem(_) => "their file is no PEM text".to_owned(),
                _ => "the operating system does not give them".to_owned(),
            };
            let message = format!("the platform's root certificates cannot be loaded: {from}");
            Error::with_source(ErrorName::Security, message, cause)
        }
        None => Error::new(
            ErrorName::Security,
            format!(
                "the platform has no root certificates that can be used ({ignored} cannot be read); install \
                 them (the package ca-certificates), or name others"
            ),
        ),
    })
}

fn unusable(what: &'static str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::with_source(ErrorName::Security, what, cause)
}

impl From<Store> for Trust {
    fn from(store: Store) -> Trust {
        Trust {
            store,
            added: Vec::new(),
            exactly: Vec::new(),
        }
    }
}

impl Default for Trust {
    /// [`Trust::platform`].
    fn default() -> Trust {
        Trust::platform()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("store", &self.store)
            .field("added", &self.added.len())
            .field("exactly", &self.exactly.len())
            .finish()
    }
}
