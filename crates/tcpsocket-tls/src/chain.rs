//! A server's certificates: which of them fails, and why.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use tcpsocket::Host;
use webpki::{RawPublicKeyEntity, spki_for_anchor};

use crate::x509::{self, Certificate, PublicKey};

/// A verifier's input when it refused.
pub(crate) struct Evidence {
    /// The server's own certificate and the rest of its chain; the first alone if the handshake's signature was refused.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// `None` if only the operating system knows.
    pub(crate) authorities: Option<Arc<RootCertStore>>,
    pub(crate) algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    /// `None` if it was the handshake's signature.
    pub(crate) time: Option<UnixTime>,
}

impl Evidence {
    /// How many certificates are looked at; webpki follows 6 authorities.
    pub(crate) const MOST: usize = 16;

    pub(crate) fn chain(&self) -> Chain<'_> {
        Chain {
            read: self.chain.iter().map(|it| Certificate::read(it)).collect(),
            evidence: self,
        }
    }
}

impl fmt::Debug for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Evidence")
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// The accepted sizes of RSA keys, in bits.
const RSA: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most signatures to check for one message.
const CHECKS: usize = 32;

pub(crate) struct Chain<'a> {
    read: Vec<Option<Certificate<'a>>>,
    evidence: &'a Evidence,
}

/// A possible signer of a certificate.
struct Signer<'a> {
    called: String,
    /// Among what is trusted here.
    trusted: bool,
    key: SubjectPublicKeyInfoDer<'a>,
    rsa_bits: Option<usize>,
}

impl<'a> Chain<'a> {
    /// The server's own, if it can be read.
    pub(crate) fn own(&self) -> Option<&Certificate<'a>> {
        self.read.first()?.as_ref()
    }

    /// Whether the handshake's signature was refused, and not the certificates.
    pub(crate) fn is_about_the_handshake(&self) -> bool {
        self.evidence.time.is_none()
    }

    /// A certificate's name in messages.
    pub(crate) fn name(&self, host: &Host, at: usize) -> String {
        match (at, &self.read[at]) {
            (0, _) => format!("the certificate of {host}"),
            (_, Some(it)) => format!(
                "the certificate of the authority {}, which {host} sent along,",
                it.called()
            ),
            (_, None) => format!("certificate number {} of those that {host} sent", at + 1),
        }
    }

    /// The path from the server's own certificate up to an authority: each certificate names the next as its issuer.
    fn path(&self) -> Vec<usize> {
        let mut path = vec![0];
        let mut next = 0;
        while let Some(at) = path.get(next).copied() {
            next += 1;
            let Some(below) = &self.read[at] else {
                continue;
            };
            for (other, it) in self.read.iter().enumerate() {
                let issues = it.as_ref().is_some_and(|it| it.subject == below.issuer);
                if issues && !path.contains(&other) {
                    path.push(other);
                }
            }
        }
        path
    }

    /// The first certificate on the path that satisfies `holds`.
    pub(crate) fn find(&self, holds: impl Fn(&Certificate<'a>) -> bool) -> Option<usize> {
        let holds = |at: &usize| self.read[*at].as_ref().is_some_and(&holds);
        self.path().into_iter().find(holds)
    }

    /// The same among the server's intermediate certificates.
    pub(crate) fn find_authority(&self, holds: impl Fn(&Certificate<'a>) -> bool) -> Option<usize> {
        let holds = |at: &usize| *at > 0 && self.read[*at].as_ref().is_some_and(&holds);
        self.path().into_iter().find(holds)
    }

    pub(crate) fn at(&self, at: usize) -> Option<&Certificate<'a>> {
        self.read[at].as_ref()
    }

    /// The first certificate that webpki cannot read, on the path or not.
    pub(crate) fn unreadable(&self) -> Option<(usize, webpki::Error)> {
        let all = self.evidence.chain.iter().enumerate();
        let mut faults = all.filter_map(|(at, it)| {
            let fault = webpki::EndEntityCert::try_from(it).err()?;
            Some((at, fault))
        });
        faults.next()
    }

    /// The last certificate of the path; of several paths, the first.
    pub(crate) fn top(&self) -> Option<usize> {
        let mut at = 0;
        let mut seen = vec![0];
        loop {
            let below = self.read[at].as_ref()?;
            let above = self.read.iter().position(|it| {
                let issues = |it: &Certificate<'_>| it.subject == below.issuer;
                it.as_ref().is_some_and(issues)
            });
            match above.filter(|it| !seen.contains(it)) {
                Some(above) => {
                    seen.push(above);
                    at = above;
                }
                None => return Some(at),
            }
        }
    }

    /// A sentence about the first bad signature on the path.
    pub(crate) fn bad_signature(&self, host: &Host) -> Option<String> {
        let mut checks = 0;
        for at in self.path() {
            let Some(signed) = &self.read[at] else {
                continue;
            };
            for signer in self.signers(signed) {
                let which = self.name(host, at);
                let of = match signer.trusted {
                    true => format!("the trusted authority {}", signer.called),
                    false => format!("the authority {}", signer.called),
                };
                if let Some(bits) = signer.rsa_bits.filter(|it| !RSA.contains(it)) {
                    return Some(format!(
                        "{which} is signed by {of}, whose RSA key has {bits} bits; {} to {} are accepted, so that authority \
                         needs a new key",
                        RSA.start(),
                        RSA.end()
                    ));
                }
                checks += 1;
                if checks > CHECKS {
                    return None;
                }
                if !self.verifies(signed, &signer) {
                    return Some(format!(
                        "{which} says that {of} issued it, but is not signed by the key of that; there may be an older or a \
                         newer authority of the same name, or the certificate was changed",
                    ));
                }
            }
        }
        None
    }

    fn signers(&self, of: &Certificate<'_>) -> Vec<Signer<'_>> {
        let mut signers = Vec::new();
        if let Some(authorities) = &self.evidence.authorities {
            let named = authorities
                .roots
                .iter()
                .filter(|it| it.subject.as_ref() == of.issuer);
            signers.extend(named.map(|it| {
                Signer {
                    called: x509::called(&it.subject),
                    trusted: true,
                    key: spki_for_anchor(it),
                    rsa_bits: PublicKey::from_contents(&it.subject_public_key_info)
                        .and_then(|it| it.rsa_bits()),
                }
            }));
        }
        let sent = self.read.iter().flatten();
        let named = sent.filter(|it| it.subject == of.issuer);
        signers.extend(named.map(|it| Signer {
            called: it.called(),
            trusted: false,
            key: SubjectPublicKeyInfoDer::from(it.key.whole),
            rsa_bits: it.key.rsa_bits(),
        }));
        signers
    }

    /// Whether this key made the signature; `true` also if that cannot be determined.
    fn verifies(&self, signed: &Certificate<'_>, by: &Signer<'_>) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(&by.key) else {
            return true;
        };
        let all = self.evidence.algorithms.iter();
        let fitting = all.filter(|it| it.signature_alg_id().as_ref() == signed.algorithm);
        let judged: Vec<_> = fitting
            .map(|it| key.verify_signature(*it, signed.signed, signed.signature))
            .collect();
        judged.iter().any(Result::is_ok)
            || !judged.contains(&Err(webpki::Error::InvalidSignatureForPublicKey))
    }

    /// The size of the server's RSA key, if it is not accepted.
    pub(crate) fn weak_key(&self) -> Option<usize> {
        let bits = self.own()?.key.rsa_bits()?;
        (!RSA.contains(&bits)).then_some(bits)
    }
}
