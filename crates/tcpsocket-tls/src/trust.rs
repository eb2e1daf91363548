//! Whose certificates are believed.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tcpsocket::{Error, ErrorName};

/// Whose certificates are believed: a store of root certificates, and those that are added to it.
///
/// Making one reads nothing; a [`Client`](crate::Client) loads the store before its first session. A store that cannot be
/// loaded, or is empty, is an error then. It never counts as one that believes nobody, and never as one that believes
/// everybody.
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
    added: Vec<CertificateDer<'static>>,
}

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
    /// If the environment has `SSL_CERT_FILE` or `SSL_CERT_DIR`, those are read instead of the system's. Certificates of the
    /// store that cannot be read are left out, as long as one can.
    pub fn platform() -> Trust {
        Store::Platform.into()
    }

    /// The verifier of the operating system, by `rustls-platform-verifier`: on Windows, macOS, iOS and Android the system itself
    /// judges, with what its administrator has set and, where it does so, with revocation. Elsewhere this is
    /// [`platform`](Trust::platform).
    #[cfg(feature = "platform-verifier")]
    pub fn platform_verifier() -> Trust {
        Store::PlatformVerifier.into()
    }

    /// Mozilla's root certificates as they were when `webpki-roots` was built: for places without a store of their own. They
    /// age with the program.
    #[cfg(feature = "webpki-roots")]
    pub fn webpki_roots() -> Trust {
        Store::WebPki.into()
    }

    /// Nobody, until certificates are added: for a private authority, and for tests.
    pub fn nobody() -> Trust {
        Store::Nobody.into()
    }

    /// And these root certificates.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if one of them cannot be read.
    pub fn and(
        mut self,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Trust, Error> {
        for root in roots {
            let read = RootCertStore::empty().add(root.clone());
            read.map_err(|cause| {
                let message = "a root certificate that was given cannot be read";
                Error::with_source(ErrorName::InvalidAccess, message, cause)
            })?;
            self.added.push(root);
        }
        Ok(self)
    }

    /// And the root certificates in this PEM text, of which there must be one at least.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if there is none, or one that cannot be read.
    pub fn and_pem(self, pem: &[u8]) -> Result<Trust, Error> {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match roots {
            Ok(roots) if roots.is_empty() => Err(Error::new(
                ErrorName::InvalidAccess,
                format!(
                    "the PEM text that was given holds no certificate{}",
                    hint(pem)
                ),
            )),
            Ok(roots) => self.and(roots),
            Err(cause) => Err(Error::with_source(
                ErrorName::InvalidAccess,
                format!("the PEM text that was given cannot be read: {cause}"),
                cause,
            )),
        }
    }

    /// Loads what is to be believed.
    pub(crate) fn load(&self, provider: Arc<CryptoProvider>) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|cause| unusable("no version of TLS can be had", cause))?;
        let believing = match self.store {
            Store::Nobody => builder.with_root_certificates(self.roots(RootCertStore::empty())?),
            Store::Platform => builder.with_root_certificates(self.roots(platform()?)?),
            #[cfg(feature = "platform-verifier")]
            Store::PlatformVerifier => self.verifier(builder)?,
            #[cfg(feature = "webpki-roots")]
            Store::WebPki => builder.with_root_certificates(
                self.roots(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect())?,
            ),
        };
        Ok(believing.with_no_client_auth())
    }

    fn roots(&self, mut store: RootCertStore) -> Result<RootCertStore, Error> {
        for root in &self.added {
            store
                .add(root.clone())
                .map_err(|cause| unusable("a root certificate cannot be read", cause))?;
        }
        if store.is_empty() {
            return Err(Error::new(
                ErrorName::Security,
                "nobody is trusted; add root certificates",
            ));
        }
        Ok(store)
    }

    #[cfg(feature = "platform-verifier")]
    fn verifier(
        &self,
        builder: rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, Error> {
        use rustls_platform_verifier::Verifier;

        let provider = builder.crypto_provider();
        let unusable = |cause| unusable("the platform's trust cannot be used", cause);
        // Made even if certificates are added: with those, it would overlook that the platform's cannot be loaded.
        let mut verifier = Verifier::new(provider.clone()).map_err(unusable)?;
        if !self.added.is_empty() {
            #[cfg(target_os = "android")]
            return Err(Error::new(
                ErrorName::Security,
                "on Android, certificates cannot be added to the platform's verifier",
            ));
            #[cfg(not(target_os = "android"))]
            {
                verifier = Verifier::new_with_extra_roots(self.added.clone(), provider.clone())
                    .map_err(unusable)?;
            }
        }
        Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier)))
    }
}

fn platform() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    let (_, ignored) = store.add_parsable_certificates(found.certs);
    if !store.is_empty() {
        return Ok(store);
    }
    Err(match found.errors.into_iter().next() {
        Some(cause) => unusable("the platform's root certificates cannot be loaded", cause),
        None => Error::new(
            ErrorName::Security,
            format!(
                "the platform has no root certificates that can be used ({ignored} cannot be read); install \
                 them (the package ca-certificates), or name others"
            ),
        ),
    })
}

fn unusable(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::with_source(ErrorName::Security, format!("{what}: {cause}"), cause)
}

impl From<Store> for Trust {
    fn from(store: Store) -> Trust {
        let added = Vec::new();
        Trust { store, added }
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
            .finish()
    }
}

/// What somebody may have given instead.
fn hint(bytes: &[u8]) -> &'static str {
    let has = |words: &[u8]| bytes.windows(words.len()).any(|it| it == words);
    match bytes {
        // A sequence whose length takes two bytes, as every certificate is.
        [0x30, 0x82, ..] => "; it looks like DER, which `openssl x509 -inform DER` makes PEM of",
        _ if has(b"PRIVATE KEY-----") => "; it is a private key, which belongs to the server alone",
        _ => "",
    }
}
