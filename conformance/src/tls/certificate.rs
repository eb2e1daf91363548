//! Certificates of every kind, made once per process, and their roots.

use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tcpsocket::Bytes;

/// The name that the kit's certificates are for, beside `localhost`, `127.0.0.1` and `::1`.
pub(crate) const NAME: &str = "imap.example.org";

/// The certificate that a peer presents.
///
/// Unless stated otherwise it is issued by the kit's root, valid now, for servers, and for the names `localhost` and
/// `imap.example.org` and the addresses `127.0.0.1` and `::1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Certificate {
    /// Nothing is wrong with it.
    Good,
    /// Good, and issued by an authority between it and the root, which is sent along.
    Intermediate,
    /// Expired.
    Expired,
    /// Not yet valid.
    NotYetValid,
    /// Issued by an expired authority, which is sent along.
    ExpiredIssuer,
    /// For another name and another address.
    WrongHost,
    /// For the names, and for no address.
    NamesOnly,
    /// With the name only in its subject.
    CommonNameOnly,
    /// Self-signed.
    SelfSigned,
    /// Issued by itself and among the roots: an authority by what it says, for the same hosts as the others.
    TrustedItself,
    /// Issued by a server's certificate that is among the roots, and says that it is no authority.
    ByNoAuthority,
    /// Issued by an untrusted root.
    UnknownIssuer,
    /// An authority's own.
    Authority,
    /// Issued by an authority that may not issue for its names.
    OutsideConstraints,
    /// For clients only.
    WrongUsage,
    /// Signed with SHA-1, by a root that is trusted. For `imap.example.org` only.
    Sha1,
    /// Not DER.
    Malformed,
    /// With an unknown critical extension.
    UnknownExtension,
    /// Good, but the key belongs to another one.
    WrongKey,
    /// An empty list of certificates.
    Missing,
}

/// The roots of the peers' certificates, in DER.
pub fn roots() -> Vec<Bytes> {
    let sha1 = pem(include_bytes!("sha1-root.pem"));
    let itself = trusted_itself().der().clone();
    let server = trusted_server().der().clone();
    [root().der().clone(), sha1, itself, server]
        .map(|it| Bytes::copy_from_slice(&it))
        .into()
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Why a certificate cannot be made: something that rcgen or ring refuse.
type Result<T> = std::result::Result<T, rcgen::Error>;

pub(super) fn root() -> &'static Authority {
    static ROOT: OnceLock<Authority> = OnceLock::new();
    ROOT.get_or_init(|| {
        let params = authority("Conformance Root");
        CertifiedIssuer::self_signed(params, key()).expect("a root can be made")
    })
}

/// As `openssl req -x509` makes them.
fn trusted_itself() -> &'static Authority {
    static ITSELF: OnceLock<Authority> = OnceLock::new();
    ITSELF.get_or_init(|| {
        let made = params(&["localhost", NAME, "127.0.0.1", "::1"]).and_then(|mut it| {
            it.distinguished_name
                .push(DnType::CommonName, "Conformance Itself");
            it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            it.extended_key_usages.clear();
            CertifiedIssuer::self_signed(it, key())
        });
        made.expect("a certificate can be made")
    })
}

fn trusted_server() -> &'static Authority {
    static SERVER: OnceLock<Authority> = OnceLock::new();
    SERVER.get_or_init(|| {
        let made = params(&["server.example"]).and_then(|mut it| {
            it.distinguished_name
                .push(DnType::CommonName, "Conformance Server");
            it.is_ca = IsCa::ExplicitNoCa;
            CertifiedIssuer::self_signed(it, key())
        });
        made.expect("a certificate can be made")
    })
}

/// A chain, and a key for it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Certificate {
    pub(super) fn identity(self) -> Result<Identity> {
        let good = params(&["localhost", NAME, "127.0.0.1", "::1"])?;
        let changed = |change: fn(&mut CertificateParams)| {
            let mut params = good.clone();
            change(&mut params);
            issued(&params, root())
        };
        match self {
            Certificate::Good => issued(&good, root()),
            Certificate::Intermediate => below(authority("Conformance Intermediate"), &good),
            Certificate::Expired => changed(|it| it.not_after = date_time_ymd(2024, 3, 2)),
            Certificate::NotYetValid => changed(|it| it.not_before = date_time_ymd(4000, 1, 1)),
            Certificate::ExpiredIssuer => {
                let mut old = authority("Conformance Old Intermediate");
                old.not_after = date_time_ymd(2020, 1, 1);
                below(old, &good)
            }
            Certificate::WrongHost => issued(&params(&["pop.example.org", "192.0.2.7"])?, root()),
            Certificate::NamesOnly => issued(&params(&["localhost", NAME])?, root()),
            Certificate::CommonNameOnly => changed(|it| {
                it.subject_alt_names.clear();
                it.distinguished_name.push(DnType::CommonName, NAME);
            }),
            Certificate::SelfSigned => {
                let key = key();
                let certificate = good.self_signed(&key)?;
                Ok(Identity::new(vec![certificate.der().clone()], &key))
            }
            Certificate::TrustedItself => {
                let own = trusted_itself();
                Ok(Identity::new(vec![own.der().clone()], own.key()))
            }
            Certificate::ByNoAuthority => issued(&good, trusted_server()),
            Certificate::UnknownIssuer => {
                let stranger = CertifiedIssuer::self_signed(authority("Stranger"), key())?;
                issued(&good, &stranger)
            }
            Certificate::Authority => {
                let mut params = authority("Conformance Sub");
                params.subject_alt_names.clone_from(&good.subject_alt_names);
                issued(&params, root())
            }
            Certificate::OutsideConstraints => {
                let mut constrained = authority("Conformance Constrained");
                constrained.name_constraints = Some(NameConstraints {
                    permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
                    excluded_subtrees: Vec::new(),
                });
                below(constrained, &params(&["localhost", NAME])?)
            }
            Certificate::WrongUsage => {
                changed(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
            }
            // Made by OpenSSL, with a key that is lost; a chain is judged before the key.
            Certificate::Sha1 => {
                let leaf = pem(include_bytes!("sha1.pem"));
                Ok(Identity::new(vec![leaf], &key()))
            }
            Certificate::Malformed => {
                let nonsense = b"no certificate".to_vec().into();
                Ok(Identity::new(vec![nonsense], &key()))
            }
            Certificate::UnknownExtension => changed(|it| {
                let id = [1, 3, 6, 1, 4, 1, 99_999, 1];
                let mut extension = CustomExtension::from_oid_content(&id, vec![5, 0]);
                extension.set_criticality(true);
                it.custom_extensions.push(extension);
            }),
            Certificate::WrongKey => {
                let chain = issued(&good, root())?.chain;
                Ok(Identity::new(chain, &key()))
            }
            Certificate::Missing => Ok(Identity::new(Vec::new(), &key())),
        }
    }
}

impl Identity {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Identity {
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Identity { chain, key }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key can be made")
}

fn pem(text: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(text).expect("a certificate that came with the kit")
}

/// What a server's certificate usually says.
fn params(names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// What an authority's certificate usually says.
fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn issued(params: &CertificateParams, by: &Authority) -> Result<Identity> {
    let key = key();
    let certificate = params.signed_by(&key, by)?;
    Ok(Identity::new(vec![certificate.der().clone()], &key))
}

/// Issued by an intermediate authority of the root.
fn below(authority: CertificateParams, params: &CertificateParams) -> Result<Identity> {
    let between = CertifiedIssuer::signed_by(authority, key(), root())?;
    let mut identity = issued(params, &between)?;
    identity.chain.push(between.der().clone());
    Ok(identity)
}
