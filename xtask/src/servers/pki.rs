//! Certificates: an authority for one run, and its certificates, good and bad.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use tcpsocket_tls::{Client, Trust};

/// An authority, and the folder with its certificates.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
    /// The file with its certificate, as an argument.
    pub(super) file: String,
}

/// Files with a certificate, its key, and both.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) both: PathBuf,
}

impl Authority {
    pub(super) fn new(folder: &Path, name: &str) -> Result<Authority, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(made)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(made)?;
        let file = folder.join(format!("{name}.pem"));
        write(&file, &issuer.pem())?;
        Ok(Authority {
            issuer,
            folder: folder.to_owned(),
            file: file.display().to_string(),
        })
    }

    /// Trust in this authority and no other.
    pub(super) fn client(&self) -> Result<Client, String> {
        let trust = Trust::nobody().and_pem(self.issuer.pem().as_bytes());
        Ok(Client::new(trust.map_err(|it| it.to_string())?))
    }

    /// A certificate for this machine, as a server should have it.
    pub(super) fn server(&self) -> Result<Identity, String> {
        self.signs("server", |_| {})
    }

    /// The same, with changes.
    pub(super) fn signs(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Identity, String> {
        let (params, key) = leaf(name, change)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(made)?;
        self.keep(name, &signed.pem(), &key)
    }

    /// A self-signed one.
    pub(super) fn self_signed(&self, name: &str) -> Result<Identity, String> {
        let (params, key) = leaf(name, |_| {})?;
        let signed = params.self_signed(&key).map_err(made)?;
        self.keep(name, &signed.pem(), &key)
    }

    /// One signed with SHA-1, which takes the openssl command.
    pub(super) fn weak(&self, name: &str, openssl: &Path) -> Result<Identity, String> {
        let (params, key) = leaf(name, |_| {})?;
        let request = self.folder.join("weak.csr");
        let made_pem = params
            .serialize_request(&key)
            .and_then(|it| it.pem())
            .map_err(made)?;
        write(&request, &made_pem)?;
        let authority_key = self.folder.join("authority.key");
        write(&authority_key, &self.issuer.key().serialize_pem())?;
        let extensions = self.folder.join("weak.ext");
        write(
            &extensions,
            "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
        )?;
        let output = Command::new(openssl)
            .args(["x509", "-req", "-sha1", "-days", "30", "-set_serial", "77"])
            .arg("-in")
            .arg(&request)
            .arg("-CA")
            .arg(&self.file)
            .arg("-CAkey")
            .arg(&authority_key)
            .arg("-extfile")
            .arg(&extensions)
            .output()
            .map_err(|error| format!("openssl: {error}"))?;
        let pem = String::from_utf8_lossy(&output.stdout);
        match output.status.success() {
            true => self.keep(name, &pem, &key),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    fn keep(&self, name: &str, pem: &str, key: &KeyPair) -> Result<Identity, String> {
        let at = |kind: &str| self.folder.join(format!("{name}.{kind}"));
        let identity = Identity {
            certificate: at("crt"),
            key: at("key"),
            both: at("both"),
        };
        write(&identity.certificate, pem)?;
        write(&identity.key, &key.serialize_pem())?;
        write(&identity.both, &format!("{pem}{}", key.serialize_pem()))?;
        Ok(identity)
    }
}

fn leaf(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<(CertificateParams, KeyPair), String> {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).map_err(made)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    Ok((params, KeyPair::generate().map_err(made)?))
}

fn made(error: rcgen::Error) -> String {
    format!("no certificate can be made: {error}")
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
