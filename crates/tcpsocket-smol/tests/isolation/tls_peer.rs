//! What a TLS server of a test needs.

use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, version};
use tcpsocket_tls::{Client, Trust};

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: Vec<u8>,
}

static IDENTITY: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        pem: certificate.pem(),
        key: key.serialize_der(),
    }
});

/// A client that believes the certificate.
pub(crate) fn client() -> Client {
    Client::new(Trust::nobody().and_pem(IDENTITY.pem.as_bytes()).unwrap())
}

/// A server of TLS 1.3 without session tickets, whose keys can be taken out of it.
pub(crate) fn config() -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivatePkcs8KeyDer::from(IDENTITY.key.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(IDENTITY.chain.clone(), key.into())
        .unwrap();
    config.enable_secret_extraction = true;
    config.send_tls13_tickets = 0;
    Arc::new(config)
}
