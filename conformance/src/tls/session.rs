//! One end of TLS, without I/O.

use std::fmt;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore,
    ServerConfig, ServerConnection, SupportedProtocolVersion, version,
};

use super::certificate::root;
use super::{TlsClient, TlsReport, TlsServer, TlsVersion};
use crate::sync::lock;

/// The shared state of one peer's sessions: certificate, configuration, and tickets for resumption.
#[derive(Clone)]
pub struct TlsAcceptor {
    config: Arc<ServerConfig>,
    shows: Arc<Shows>,
}

impl TlsAcceptor {
    /// Makes the certificate, and all else that `server` asks for.
    ///
    /// # Errors
    ///
    /// The reason of the failure, for people.
    pub fn new(server: &TlsServer) -> Result<TlsAcceptor, String> {
        let identity = server
            .certificate
            .identity()
            .map_err(|it| format!("the certificate cannot be made: {it}"))?;
        let ring = Arc::new(ring::default_provider());
        let key = ring::sign::any_supported_type(&identity.key).map_err(unusable)?;
        let shows = Arc::new(Shows {
            key: Arc::new(CertifiedKey::new(identity.chain, key)),
            offered: Mutex::default(),
        });
        let builder = ServerConfig::builder_with_provider(ring.clone())
            .with_protocol_versions(versions(server.version))
            .map_err(unusable)?;
        let builder = match server.demands_certificate {
            true => builder.with_client_cert_verifier(some_client(ring)?),
            false => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(shows.clone());
        config.alpn_protocols.clone_from(&server.alpn);
        if server.takes_early_data {
            config.max_early_data_size = 65_536;
        }
        Ok(TlsAcceptor {
            config: Arc::new(config),
            shows,
        })
    }

    /// A session on a connection that has received `clear` bytes so far.
    ///
    /// # Errors
    ///
    /// The refusal by rustls, for people.
    pub fn session(&self, clear: usize) -> Result<TlsSession, String> {
        let mut conn = ServerConnection::new(self.config.clone()).map_err(unusable)?;
        conn.set_buffer_limit(None);
        Ok(TlsSession {
            conn: conn.into(),
            shows: Some(self.shows.clone()),
            plain: Vec::new(),
            report: TlsReport {
                clear,
                chain: self.shows.key.cert.iter().map(|it| it.to_vec()).collect(),
                ..TlsReport::default()
            },
        })
    }
}

impl TlsClient {
    /// A session on a connection that has received `clear` bytes so far. It trusts the kit's roots.
    ///
    /// # Errors
    ///
    /// The refusal by rustls, for people.
    pub fn session(&self, clear: usize) -> Result<TlsSession, String> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_root_certificates(kit_roots()?)
            .with_no_client_auth();
        config.alpn_protocols.clone_from(&self.alpn);
        let name = ServerName::try_from(self.name.clone()).map_err(|it| it.to_string())?;
        let mut conn = ClientConnection::new(Arc::new(config), name).map_err(unusable)?;
        conn.set_buffer_limit(None);
        Ok(TlsSession {
            conn: conn.into(),
            shows: None,
            plain: Vec::new(),
            report: TlsReport {
                clear,
                ..TlsReport::default()
            },
        })
    }
}

fn unusable(error: rustls::Error) -> String {
    format!("TLS cannot be set up: {error}")
}

fn versions(only: Option<TlsVersion>) -> &'static [&'static SupportedProtocolVersion] {
    match only {
        Some(TlsVersion::V1_2) => {
            static ONE: &[&SupportedProtocolVersion] = &[&version::TLS12];
            ONE
        }
        Some(TlsVersion::V1_3) => {
            static ONE: &[&SupportedProtocolVersion] = &[&version::TLS13];
            ONE
        }
        None => rustls::ALL_VERSIONS,
    }
}

/// Wants a certificate that the kit's root has issued, of which there is none.
fn some_client(
    ring: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(kit_roots()?), ring)
        .build()
        .map_err(|it| format!("TLS cannot be set up: {it}"))
}

fn kit_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add(root().der().clone()).map_err(unusable)?;
    Ok(roots)
}

impl fmt::Debug for TlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsAcceptor").finish_non_exhaustive()
    }
}

/// Shows what it has, without looking whether it makes sense.
#[derive(Debug)]
struct Shows {
    key: Arc<CertifiedKey>,
    /// What the last ClientHello offered by ALPN.
    offered: Mutex<Vec<Vec<u8>>>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let offered = hello.alpn().into_iter().flatten();
        *lock(&self.offered) = offered.map(<[u8]>::to_vec).collect();
        Some(self.key.clone())
    }
}

/// One end of TLS on one connection, without I/O: for worlds.
///
/// After each call there may be ciphertext to be carried over, which [`gives`](TlsSession::gives) returns.
pub struct TlsSession {
    conn: Connection,
    /// Of a server.
    shows: Option<Arc<Shows>>,
    /// Plaintext that has arrived: rustls takes no more ciphertext while it has much of it.
    plain: Vec<u8>,
    report: TlsReport,
}

impl TlsSession {
    /// Takes received ciphertext.
    ///
    /// # Errors
    ///
    /// Why TLS has failed, for people.
    pub fn takes(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() && !self.report.close_notify {
            let read = self.conn.read_tls(&mut bytes);
            let result = self.conn.process_new_packets();
            // What it says at the end, that this is one or that there is no more, shows elsewhere.
            let _ = self.conn.reader().read_to_end(&mut self.plain);
            let state = match (read, result) {
                (Ok(_), Ok(state)) => state,
                (_, Err(error)) => {
                    if let rustls::Error::AlertReceived(alert) = error {
                        self.report.alert = Some(u8::from(alert));
                    }
                    return Err(self.failed(error.to_string()));
                }
                (Err(error), Ok(_)) => return Err(self.failed(error.to_string())),
            };
            self.report.close_notify |= state.peer_has_closed();
            self.notice();
        }
        Ok(())
    }

    fn failed(&mut self, why: String) -> String {
        self.notice();
        let why = format!("TLS: {why}");
        self.report.failure = Some(why.clone());
        why
    }

    /// Records the results of the handshake.
    fn notice(&mut self) {
        let (conn, report) = (&mut self.conn, &mut self.report);
        report.complete = !conn.is_handshaking();
        report.resumed = conn.handshake_kind() == Some(HandshakeKind::Resumed);
        if let Some(shows) = &self.shows {
            report.offered.clone_from(&lock(&shows.offered));
        }
        report.alpn = conn.alpn_protocol().map(<[u8]>::to_vec);
        report.version = match conn.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => Some(TlsVersion::V1_2),
            Some(ProtocolVersion::TLSv1_3) => Some(TlsVersion::V1_3),
            _ => None,
        };
        let Connection::Server(conn) = conn else {
            return;
        };
        report.server_name = conn.server_name().map(ToOwned::to_owned);
        if let Some(mut early) = conn.early_data() {
            let mut one = [0];
            report.early_data |= early.read(&mut one).is_ok_and(|n| n > 0);
        }
    }

    /// Moves received plaintext into `buffer`, and returns its length.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let n = buffer.len().min(self.plain.len());
        buffer[..n].copy_from_slice(&self.plain[..n]);
        self.plain.drain(..n);
        n
    }

    /// Takes plaintext to send, all of it.
    pub fn says(&mut self, plain: &[u8]) {
        let taken = self.conn.writer().write(plain);
        debug_assert_eq!(taken.ok(), Some(plain.len()), "the buffer has no limit");
    }

    /// Sends `close_notify`.
    pub fn says_goodbye(&mut self) {
        self.conn.send_close_notify();
    }

    /// Updates the keys, and requests the same of the other end.
    ///
    /// # Errors
    ///
    /// Why not, for people: TLS 1.2 cannot.
    pub fn changes_keys(&mut self) -> Result<(), String> {
        let changed = match &mut self.conn {
            Connection::Client(conn) => conn.refresh_traffic_keys(),
            Connection::Server(conn) => conn.refresh_traffic_keys(),
        };
        changed.map_err(|error| format!("TLS: {error}"))
    }

    /// The ciphertext to send.
    pub fn gives(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.conn.wants_write() && self.conn.write_tls(&mut bytes).is_ok() {}
        self.report.written += bytes.len();
        bytes
    }

    /// Whether the handshake is still under way.
    pub fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    /// Its report so far. `written` is the length of the ciphertext given.
    pub fn report(&self) -> TlsReport {
        self.report.clone()
    }
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
