//! What the sessions of a program share: whom it trusts, how it encrypts, which sessions can be resumed.

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

/// What the sessions of a program share: trust, cryptography, and tickets for resumption. Cheap to clone.
///
/// TLS 1.2 and 1.3 are spoken, with the safe suites of rustls. Early data (0-RTT) is never sent, keys are never
/// logged, and no certificate of our own is shown, unless a given configuration does.
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
    /// `None` for a configuration that was given.
    recipe: Option<(Trust, Arc<CryptoProvider>)>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Client {
    /// A client that believes `trust` and encrypts with ring. Nothing is loaded yet.
    pub fn new(trust: Trust) -> Client {
        Client::with_provider(trust, Arc::new(crypto::ring::default_provider()))
    }

    /// The same with another implementation of cryptography, such as `rustls::crypto::aws_lc_rs::default_provider()`, for which there is the
    /// feature `aws-lc-rs`.
    pub fn with_provider(trust: Trust, provider: Arc<CryptoProvider>) -> Client {
        Client {
            shared: Arc::new(Shared {
                recipe: Some((trust, provider)),
                config: OnceLock::new(),
            }),
        }
    }

    /// A client that uses this configuration as it is: for a verifier of your own, certificate revocation lists, a
    /// certificate to show.
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
    /// Loading reads files, some milliseconds long. Where that would disturb, call this once beforehand, on another thread.
    /// What was loaded stays; a failure does not, the next call tries again.
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

    /// Whether [`config`](Client::config) would answer without loading anything.
    pub fn is_loaded(&self) -> bool {
        self.shared.config.get().is_some()
    }

    /// Whether [`session`](Client::session) would take these arguments, without loading anything: for calls that answer at
    /// once.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` for a name that no certificate can be for (a part of it begins or ends with a hyphen), and for ALPN
    /// names that are not 1 to 255 bytes long, or too many (65535 bytes in all, one more for each).
    pub fn check(host: &Host, alpn: &[Vec<u8>]) -> Result<(), Error> {
        server_name(host)?;
        Client::check_alpn(alpn)
    }

    /// The part of [`check`](Client::check) that is about ALPN, for options of a socket that may never be secure.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError`, as `check`.
    pub fn check_alpn(alpn: &[Vec<u8>]) -> Result<(), Error> {
        check_alpn(alpn)
    }

    /// A session with `host`, its ClientHello ready to be written.
    ///
    /// The name that is checked, and sent as SNI, is [`Host::as_str`]. For an address it is the address: the certificate
    /// must have it as an IP name, and no SNI is sent. The zone of an IPv6 address is left out: it means something on
    /// this machine only, and certificates have none. `alpn` is offered in this order; if it is empty, what a given configuration
    /// says is offered, and otherwise nothing.
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
                format!("no certificate can be for {host}, so TLS cannot be used with it"),
                cause,
            )
        }),
    }
}

fn check_alpn(alpn: &[Vec<u8>]) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorName::InvalidAccess, why));
    if let Some(name) = alpn.iter().find(|it| !(1..=255).contains(&it.len())) {
        return refuse(format!(
            "an ALPN name has 1 to 255 bytes, and one that was given has {}",
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
    /// The platform's trust, and ring.
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
