//! Certificates from PEM text (RFC 7468), in the variants that tools and people write.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

use crate::x509;

/// The label of a certificate's section.
const CERTIFICATE: &str = "CERTIFICATE";
/// The label of old tools.
const X509: &str = "X509 CERTIFICATE";
/// The label of `openssl x509 -trustout`: a certificate with OpenSSL's trust settings.
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// All certificates in the text. `Err` is the rest of a sentence that begins with "the PEM text".
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = match text {
        // A byte order mark, as some editors write it.
        [0xef, 0xbb, 0xbf, text @ ..] => text,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err("is UTF-16; save it as ASCII or UTF-8".into());
        }
        text => text,
    };
    let mut found = Vec::new();
    let mut section: Option<Section> = None;
    for line in text.split(|it| matches!(it, b'\n' | b'\r')) {
        let line = line.trim_ascii();
        if let Some(label) = marker(line, b"-----BEGIN ") {
            if let Some(cut) = section {
                return Err(cut.cut_off());
            }
            let number = found.len() + 1;
            section = Some(Section {
                label,
                number,
                body: Vec::new(),
            });
        } else if marker(line, b"-----END ").is_some() {
            if let Some(whole) = section.take() {
                found.extend(whole.certificate()?);
            }
        } else if let Some(section) = &mut section {
            section.body.extend_from_slice(line);
        }
    }
    match section {
        Some(cut) => Err(cut.cut_off()),
        None if found.is_empty() => Err(format!("holds no certificate{}", hint(text))),
        None => Ok(found),
    }
}

struct Section {
    label: String,
    /// Counts from 1, for messages.
    number: usize,
    body: Vec<u8>,
}

impl Section {
    /// `None` for anything but a certificate.
    fn certificate(self) -> Result<Option<CertificateDer<'static>>, String> {
        let number = self.number;
        if ![CERTIFICATE, X509, TRUSTED].contains(&self.label.as_str()) {
            return Ok(None);
        }
        let mut text = b"-----BEGIN CERTIFICATE-----\n".to_vec();
        text.extend_from_slice(&self.body);
        text.extend_from_slice(b"\n-----END CERTIFICATE-----\n");
        let der = match CertificateDer::from_pem_slice(&text) {
            Ok(der) => der,
            Err(pem::Error::SectionTooLarge) => {
                return Err(format!("cannot be read: certificate {number} is too large"));
            }
            Err(_) => {
                return Err(format!(
                    "cannot be read: certificate {number} has something between its lines BEGIN and END that is not base64"
                ));
            }
        };
        if self.label != TRUSTED {
            return Ok(Some(der));
        }
        let not_read =
            || format!("cannot be read: certificate {number}, a {TRUSTED}, is malformed");
        let len = x509::first_len(&der).ok_or_else(not_read)?;
        let (certificate, settings) = der.split_at(len);
        // Without settings, it is trusted for everything.
        let trusted =
            settings.is_empty() || x509::settings_trust_servers(settings).ok_or_else(not_read)?;
        match trusted {
            true => Ok(Some(CertificateDer::from(certificate.to_vec()))),
            false => Err(format!(
                "cannot be used: OpenSSL's settings for certificate {number}, a {TRUSTED}, do not trust it for servers; `openssl x509` \
                 makes one without settings of it"
            )),
        }
    }

    fn cut_off(&self) -> String {
        let label = x509::printable(self.label.as_bytes());
        format!("cannot be read: a line \"-----END {label}-----\" is missing")
    }
}

/// The label in a line that begins or ends a section.
fn marker(line: &[u8], begins: &[u8]) -> Option<String> {
    let label = line.strip_prefix(begins)?.strip_suffix(b"-----")?;
    Some(String::from_utf8_lossy(label).into_owned())
}

/// A guess at what the text is instead.
fn hint(text: &[u8]) -> &'static str {
    let has = |words: &[u8]| text.windows(words.len()).any(|it| it == words);
    match text {
        // A sequence whose length takes two bytes, as every certificate is.
        [0x30, 0x82, ..] => "; it looks like DER, which `openssl x509 -inform DER` makes PEM of",
        _ if has(b"-----BEGIN ") && has(b"\\n") => {
            "; its lines end with the two characters \\n, and have to end with line breaks, which `printf '%b'` makes of them"
        }
        _ if has(b"PRIVATE KEY-----") => "; it is a private key, which belongs to the server alone",
        _ if has(b"CERTIFICATE REQUEST-----") => {
            "; it is a request for a certificate, which an authority has yet to sign"
        }
        _ if has(b"PKCS7-----") => {
            "; it is PKCS #7, which `openssl pkcs7 -print_certs` makes PEM of"
        }
        _ if has(b"PUBLIC KEY-----") => {
            "; it is a public key, and the certificate around it is needed"
        }
        _ => "",
    }
}
