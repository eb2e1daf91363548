//! Peers that speak TLS, with certificates made here, and the files that a client trusts.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion, version::TLS13,
};

use crate::support::peer;

/// A certificate that signs itself, and its key.
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// For the address that all peers here have.
pub(crate) static RIGHT: LazyLock<Identity> = LazyLock::new(|| Identity::new("127.0.0.1", 4000));
pub(crate) static OTHER_NAME: LazyLock<Identity> =
    LazyLock::new(|| Identity::new("other.example", 4000));
pub(crate) static EXPIRED: LazyLock<Identity> = LazyLock::new(|| Identity::new("127.0.0.1", 2001));

impl Identity {
    fn new(name: &str, until: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        // By default all are called the same, and a client would try the one's key on the other's signature.
        let called = format!("{name} until {until}");
        params.distinguished_name.push(DnType::CommonName, called);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        Identity { certificate, key }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn config(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain: Vec<CertificateDer<'static>> = vec![self.certificate.der().clone()];
        let key = PrivatePkcs8KeyDer::from(self.key.serialize_der());
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .unwrap()
    }
}

/// A file that is there as long as this.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn new(text: &str) -> TempFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cli-{}-{}", process::id(), COUNT.fetch_add(1, Relaxed));
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).unwrap();
        TempFile(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(crate) type Tls = StreamOwned<ServerConnection, TcpStream>;

pub(crate) fn accept(config: ServerConfig, stream: TcpStream) -> Tls {
    let session = ServerConnection::new(Arc::new(config)).unwrap();
    StreamOwned::new(session, stream)
}

/// A peer for one connection under TLS 1.3.
pub(crate) fn secure_peer<T: Send + 'static>(
    identity: &Identity,
    script: impl FnOnce(Tls) -> T + Send + 'static,
) -> (u16, Receiver<T>) {
    let config = identity.config(&TLS13);
    peer(move |stream| script(accept(config, stream)))
}

/// Says goodbye under TLS, and reads on until the other side does.
pub(crate) fn part(mut stream: Tls) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let _ = stream.sock.shutdown(std::net::Shutdown::Write);
    let _ = stream.sock.read_to_end(&mut Vec::new());
}
