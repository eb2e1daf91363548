//! The configuration shared by a program's sessions: trust, cryptography, and resumption.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, OnceLock};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, crypto};
use tcpsocket::{Error, ErrorName, Host};

use crate::failure::tls_failed;
use crate::session::{Session, config_panicked};
use crate::trust::Trust;

/// The configuration shared by a program's sessions: trust, cryptography, and tickets for resumption. Cheap to clone.
///
/// Sessions use TLS 1.2 and 1.3 with rustls's safe cipher suites. Unless you supply a configuration that says otherwise,
/// they send no early data (0-RTT), log no keys, and present no client certificate.
///
/// ```
/// use tcpsocket::Host;
/// use tcpsocket_tls::{Client, Trust};
///
/// let client = Client::new(Trust::platform());
/// let host = Host::parse("imap.example.org")?;
/// match client.session(&host, &[b"imap".to_vec()]) {
///     Ok(session) => assert!(session.is_handshaking() && session.wants_write()),
///     Err(error) => assert!(error.name().is_security(), "the platform has no root certificates"),
/// }
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` if the caller supplied a configuration.
    recipe: Option<(Trust, Arc<CryptoProvider>)>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Client {
    /// A client with these trust roots and ring's cryptography. Loads nothing yet.
    pub fn new(trust: Trust) -> Client {
        Client::with_provider(trust, Arc::new(crypto::ring::default_provider()))
    }

    /// The same with another cryptographic provider, such as `rustls::crypto::aws_lc_rs::default_provider()` (feature
    /// `aws-lc-rs`).
    pub fn with_provider(trust: Trust, provider: Arc<CryptoProvider>) -> Client {
        Client {
            shared: Arc::new(Shared {
                recipe: Some((trust, provider)),
                config: OnceLock::new(),
            }),
        }
    }

    /// A client with exactly this configuration: for your own verifier, certificate revocation lists, or a client
    /// certificate.
    pub fn with_config(config: Arc<ClientConfig>) -> Client {
        Client {
            shared: Arc::new(Shared {
                recipe: None,
                config: OnceLock::from(config),
            }),
        }
    }

    /// The configuration of all sessions, loaded at the first call.
    ///
    /// Loading reads files and takes some milliseconds. If that is too long for your thread, call this once beforehand on
    /// another. A loaded configuration is kept; after a failure the next call tries again.
    ///
    /// # Errors
    ///
    /// `SecurityError` if the trust store cannot be loaded or is empty.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let shared = &*self.shared;
        match (shared.config.get(), &shared.recipe) {
            (Some(config), _) => Ok(config.clone()),
            (None, Some((trust, provider))) => {
                let loaded = Arc::new(trust.load(provider.clone())?);
                Ok(shared.config.get_or_init(|| loaded).clone())
            }
            (None, None) => unreachable!("a client is made with a recipe or with a configuration"),
        }
    }

    /// Whether the configuration is loaded, so that [`config`](Client::config) reads no files.
    pub fn is_loaded(&self) -> bool {
        self.shared.config.get().is_some()
    }

    /// Checks the arguments of [`session`](Client::session) without loading anything, for calls that must return at once.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for a name that no certificate can contain (one with a label that begins or ends with a hyphen),
    /// for ALPN names outside 1 to 255 bytes, and for too many of them (65535 bytes in all, counting one more for each).
    pub fn check(host: &Host, alpn: &[Vec<u8>]) -> Result<(), Error> {
        server_name(host)?;
        Client::check_alpn(alpn)
    }

    /// Checks the ALPN names only, for the options of a socket that may never use TLS.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError`, as `check`.
    pub fn check_alpn(alpn: &[Vec<u8>]) -> Result<(), Error> {
        check_alpn(alpn)
    }

    /// Starts a session with `host`. Its ClientHello is ready to be written.
    ///
    /// [`Host::as_str`] is the name for SNI and for the check of the certificate. For an address, no SNI is sent, and the
    /// certificate must contain the address as an IP name. The zone of an IPv6 address is ignored: it means something on
    /// this machine only, and certificates have none. `alpn` is offered in this order; if it is empty, the names of a
    /// supplied configuration are offered, or none.
    ///
    /// # Errors
    ///
    /// As [`check`](Client::check) and [`config`](Client::config).
    pub fn session(&self, host: &Host, alpn: &[Vec<u8>]) -> Result<Session, Error> {
        let name = server_name(host)?;
        check_alpn(alpn)?;
        let config = self.config()?;
        let make = || match alpn {
            [] => ClientConnection::new(config, name),
            _ => ClientConnection::new_with_alpn(config, name, alpn.to_vec()),
        };
        // A given configuration has code of its own, such as a store of sessions.
        match panic::catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(conn)) => Ok(Session::new(conn, host.clone())),
            Ok(Err(cause)) => Err(tls_failed(host, cause)),
            Err(_) => Err(config_panicked(host)),
        }
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host.literal() {
        Some(ip) => Ok(ServerName::from(ip)),
        None => ServerName::try_from(host.as_str().to_owned()).map_err(|cause| {
            Error::with_source(
                ErrorName::InvalidAccess,
                format!(
                    "{host} cannot be the name in a certificate, so TLS cannot be used with it"
                ),
                cause,
            )
        }),
    }
}

fn check_alpn(alpn: &[Vec<u8>]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorName::InvalidAccess, why));
    if let Some(name) = alpn.iter().find(|it| !(1..=255).contains(&it.len())) {
        return refuse(format!(
            "an ALPN name has 1 to 255 bytes, not {}",
            name.len()
        ));
    }
    let total: usize = alpn.iter().map(|it| it.len() + 1).sum();
    if total > usize::from(u16::MAX) - 2 {
        return refuse(format!(
            "{} ALPN names are too many: they take {total} bytes",
            alpn.len()
        ));
    }
    Ok(())
}

impl Default for Client {
    /// The platform's trust roots, and ring.
    fn default() -> Client {
        Client::new(Trust::default())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust = self.shared.recipe.as_ref().map(|(trust, _)| trust);
        f.debug_struct("Client")
            .field("trust", &trust)
            .field("loaded", &self.is_loaded())
            .finish_non_exhaustive()
    }
}
