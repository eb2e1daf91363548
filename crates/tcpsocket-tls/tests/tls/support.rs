//! A server, an authority, and what carries bytes between a session and a server.

use std::io::{self, BufRead, IoSlice, Write};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig, ServerConnection};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tcpsocket::{Error, Host};
use tcpsocket_tls::{Client, Incoming, Session, Trust, rustls};

pub(crate) const HOST: &str = "imap.example.org";
pub(crate) const BOTH: &[&SupportedProtocolVersion] =
    &[&rustls::version::TLS12, &rustls::version::TLS13];
pub(crate) const TLS12: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const TLS13: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    CertifiedIssuer::self_signed(authority_params("Test Authority"), key()).unwrap()
}

pub(crate) fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// What a server's certificate usually says.
pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

/// A chain and the key of its first certificate.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(crate) fn issued(by: &Authority, params: &CertificateParams) -> Identity {
        let key = key();
        let certificate = params.signed_by(&key, by).unwrap();
        Identity::new(vec![certificate.der().clone()], &key)
    }

    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Identity {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Identity { chain, key }
    }
}

/// Shows what it has, without looking whether it makes sense.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

pub(crate) fn server_config(
    identity: &Identity,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let key = ring::sign::any_supported_type(&identity.key).unwrap();
    let shows = Shows(Arc::new(CertifiedKey::new(identity.chain.clone(), key)));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shows))
}

/// A client that believes an authority and nobody else.
pub(crate) fn believer(of: &Authority) -> Client {
    Client::new(Trust::nobody().and([of.der().clone()]).unwrap())
}

/// A configuration that believes it, to be changed.
pub(crate) fn believing_config(of: &Authority) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(of.der().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(crate) fn session(client: &Client) -> Session {
    client.session(&Host::parse(HOST).unwrap(), &[]).unwrap()
}

/// A session and a server that believe each other, before the first byte.
pub(crate) fn pair(versions: &[&'static SupportedProtocolVersion]) -> (Session, Server) {
    let authority = authority();
    let identity = Identity::issued(&authority, &params(&[HOST]));
    let server = Server::new(server_config(&identity, versions));
    (session(&believer(&authority)), server)
}

/// The same, after the handshake.
pub(crate) fn secured(versions: &[&'static SupportedProtocolVersion]) -> (Session, Server) {
    let (mut session, mut server) = pair(versions);
    settle(&mut session, &mut server);
    assert!(!session.is_handshaking() && !server.conn.is_handshaking());
    assert!(matches!(session.next_incoming(), Incoming::Dry));
    (session, server)
}

/// The other side.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) conn: ServerConnection,
    pub(crate) received: Vec<u8>,
    pub(crate) failed: Option<rustls::Error>,
}

impl Server {
    pub(crate) fn new(config: impl Into<Arc<ServerConfig>>) -> Server {
        Server {
            conn: ServerConnection::new(config.into()).unwrap(),
            received: Vec::new(),
            failed: None,
        }
    }

    pub(crate) fn takes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            if self.conn.read_tls(&mut bytes).unwrap() == 0 {
                return; // it has seen a close_notify
            }
            self.failed = self.conn.process_new_packets().err();
            let mut reader = self.conn.reader();
            while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
                let len = chunk.len();
                self.received.extend_from_slice(chunk);
                reader.consume(len);
            }
        }
    }

    pub(crate) fn gives(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.conn.wants_write() {
            self.conn.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    pub(crate) fn says(&mut self, plain: &[u8]) {
        self.conn.writer().write_all(plain).unwrap();
    }

    /// Whether this side has said that it is finished.
    pub(crate) fn was_told_goodbye(&mut self) -> bool {
        matches!(self.conn.reader().fill_buf(), Ok([]))
    }
}

/// What a session has to write.
pub(crate) fn written(session: &mut Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Carries bytes both ways until there are none.
pub(crate) fn settle(session: &mut Session, server: &mut Server) {
    while session.wants_write() || server.conn.wants_write() {
        server.takes(&written(session));
        session.read_tls(&server.gives());
    }
}

/// Queues all of it, as room comes, and carries it over.
pub(crate) fn send(session: &mut Session, server: &mut Server, mut plain: &[u8]) {
    while !plain.is_empty() {
        let taken = session.write_plaintext(&[IoSlice::new(plain)]).unwrap();
        plain = &plain[taken..];
        settle(session, server);
    }
}

/// All plaintext that is there, and what comes after it.
pub(crate) fn drain(session: &mut Session) -> (Vec<u8>, Incoming) {
    let mut plain = Vec::new();
    loop {
        match session.next_incoming() {
            Incoming::Data(data) => {
                assert!((1..=tcpsocket_tls::MAX_DATA).contains(&data.len()));
                plain.extend_from_slice(&data);
            }
            other => {
                let told = !matches!(other, Incoming::Dry);
                assert_eq!(session.has_incoming(), told);
                return (plain, other);
            }
        }
    }
}

/// The failure that is next.
pub(crate) fn failure(session: &mut Session) -> Error {
    match drain(session) {
        (_, Incoming::Failed(error)) => error,
        (_, other) => panic!("no failure: {other:?}"),
    }
}

/// The name of the failure that is next.
pub(crate) fn failure_name(session: &mut Session) -> &'static str {
    failure(session).name().as_str()
}

/// A connection that takes so many bytes a call, and now and then none.
#[derive(Debug)]
pub(crate) struct Narrow {
    pub(crate) taken: Vec<u8>,
    pub(crate) width: usize,
    pub(crate) blocks: bool,
}

impl Narrow {
    pub(crate) fn new(width: usize) -> Narrow {
        Narrow {
            taken: Vec::new(),
            width,
            blocks: false,
        }
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.blocks = !self.blocks;
        if self.blocks {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(self.width);
        self.taken.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
