//! Certificates that are refused: each under its own name, in both versions.

use super::prelude::*;
use tcpsocket::ErrorClass;

/// Whom the server is taken for.
#[derive(Clone, Copy)]
enum By {
    Address,
    Name,
}

macro_rules! refused {
    ($($id:literal: $certificate:ident by $by:ident is $name:ident, $requirement:literal;)*) => {
        pub(in crate::cases) const CASES: &[Case] = &[
            $(Case {
                id: concat!("certificates/", $id),
                clauses: &["ERR-5", "ERR-6", "ERR-7", "ERR-8", "TLS-3", "TLS-13", "TLS-14", "ROW-4"],
                needs: match By::$by {
                    By::Address => SECURE,
                    By::Name => &[Capability::Secure, Capability::Names, Capability::Resolver],
                },
                requirement: $requirement,
                run: |cx| Box::pin(refused(cx, Certificate::$certificate, By::$by, ErrorName::$name)),
                ..Case::MUST
            },)*
            Case {
                id: "certificates/trusted-itself",
                clauses: &["TLS-28"],
                level: Level::Should,
                needs: SECURE,
                requirement: "A server may present a certificate that is trusted itself, even one that says it is an authority's.",
                run: |cx| Box::pin(trusted_itself(cx)),
                ..Case::MUST
            },
            Case {
                id: "certificates/by-no-authority",
                clauses: &["TLS-29"],
                needs: SECURE,
                requirement: "A trusted certificate that says it is no authority vouches for no other.",
                run: |cx| {
                    let name = ErrorName::SecurityUntrustedCertificateIssuer;
                    Box::pin(refused(cx, Certificate::ByNoAuthority, By::Address, name))
                },
                ..Case::MUST
            },
            Case {
                id: "certificates/refusals-are-told",
                clauses: &["TLS-24"],
                level: Level::Should,
                needs: SECURE,
                requirement: "An alert tells a server that its certificate was refused.",
                run: |cx| Box::pin(refusals_are_told(cx)),
                ..Case::MUST
            },
            Case {
                id: "certificates/demanded-of-us",
                clauses: &["TLS-26", "TLS-3", "ERR-5"],
                needs: SECURE,
                requirement: "A server that demands a client certificate is SecurityNoCertificateError: there is none to present.",
                run: |cx| Box::pin(demanded_of_us(cx)),
                ..Case::MUST
            },
            Case {
                id: "certificates/refused-of-ours",
                clauses: &["TLS-26", "ERR-5", "ERR-6"],
                needs: SECURE,
                requirement: "A received alert about a certificate refers to ours, and is SecurityError.",
                run: |cx| Box::pin(refused_of_ours(cx)),
                ..Case::MUST
            },
        ];
    };
}

refused! {
    "expired": Expired by Address is SecurityExpiredCertificate,
        "A certificate whose time is over is SecurityExpiredCertificateError.";
    "not-valid-yet": NotYetValid by Address is SecurityExpiredCertificate,
        "A certificate whose time has not come is SecurityExpiredCertificateError.";
    "expired-issuer": ExpiredIssuer by Address is SecurityExpiredCertificate,
        "An issuer whose time is over is SecurityExpiredCertificateError.";
    "wrong-host": WrongHost by Address is SecurityCertificateDomainMismatch,
        "A certificate for another address is SecurityCertificateDomainMismatchError.";
    "wrong-name": WrongHost by Name is SecurityCertificateDomainMismatch,
        "A certificate for another name is SecurityCertificateDomainMismatchError.";
    "no-address": NamesOnly by Address is SecurityCertificateDomainMismatch,
        "A certificate without IP names is for no address, and SecurityCertificateDomainMismatchError.";
    "common-name-only": CommonNameOnly by Name is SecurityCertificateDomainMismatch,
        "A name that stands in the subject only is SecurityCertificateDomainMismatchError.";
    "self-signed": SelfSigned by Address is SecurityUntrustedCertificateIssuer,
        "A certificate that is self-signed is SecurityUntrustedCertificateIssuerError.";
    "unknown-issuer": UnknownIssuer by Address is SecurityUntrustedCertificateIssuer,
        "A certificate of an unknown issuer is SecurityUntrustedCertificateIssuerError.";
    "an-authority-itself": Authority by Address is SecurityUntrustedCertificateIssuer,
        "A server that shows an authority's own certificate is SecurityUntrustedCertificateIssuerError.";
    "outside-constraints": OutsideConstraints by Name is SecurityUntrustedCertificateIssuer,
        "An issuer that may not issue for this name is SecurityUntrustedCertificateIssuerError.";
    "wrong-usage": WrongUsage by Address is SecurityInadequateKeyUsage,
        "A certificate for clients is SecurityInadequateKeyUsageError.";
    "sha1": Sha1 by Name is SecurityCertificateSignatureAlgorithmDisabled,
        "A chain signed with SHA-1 is SecurityCertificateSignatureAlgorithmDisabledError.";
    "malformed": Malformed by Address is SecurityBadCertificate,
        "A certificate that is no DER is SecurityBadCertificateError.";
    "unknown-extension": UnknownExtension by Address is SecurityBadCertificate,
        "A critical extension that nobody knows is SecurityBadCertificateError.";
    "wrong-key": WrongKey by Address is SecurityBadCertificate,
        "A certificate whose key the server does not have is SecurityBadCertificateError.";
    "missing": Missing by Address is SecurityNoCertificate,
        "A server without a certificate is SecurityNoCertificateError.";
}

async fn refused(cx: Cx, certificate: Certificate, by: By, name: ErrorName) -> Outcome {
    for version in TlsVersion::ALL {
        let shows = TlsServer::new(certificate).only(version);
        let peer = cx.peer(Script::listen([Accept, Tls(shows), Echo]))?;
        let request = match by {
            By::Address => cx.request(&peer)?,
            By::Name => named(&cx, NAME, &peer)?,
        };
        let a = cx.open_with(request.with_options(secure(&cx)))?;
        let error = match a.next().await? {
            Some(Event::Error(error)) => error,
            other => {
                let other = format!("{other:?}");
                return Err(Failure::compared("the event", name.as_str(), other));
            }
        };
        cx.check("name", error.name(), name)?;
        let class = match name {
            ErrorName::SecurityNoCertificate => ErrorClass::SecurityProtocol,
            _ => ErrorClass::SecurityCertificate,
        };
        cx.check("class", error.class(), Some(class))?;
        cx.check_that("there is a message", !error.message().is_empty())?;
        a.ends(&[&format!("error {name}, close failed")]).await?;
        protected(&cx, &a, "handshaking")?;
        peer.until("it is told or left", |it| {
            it.trouble.is_some() || it.end.is_some()
        })
        .await?;
        cx.check("received", peer.report().received, 0)?;
    }
    Ok(())
}

async fn trusted_itself(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let shows = TlsServer::new(Certificate::TrustedItself).only(version);
        let peer = cx.peer(Script::listen([Accept, Tls(shows), Echo]))?;
        let a = opening(&cx, &peer)?;
        a.expect("open").await?;
        protected(&cx, &a, "secure")?;
        a.sends(3, true)?;
        a.expect("data 3").await?;
    }
    Ok(())
}

async fn refusals_are_told(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        for certificate in [
            Certificate::Expired,
            Certificate::WrongHost,
            Certificate::UnknownIssuer,
            Certificate::WrongUsage,
            Certificate::Malformed,
            Certificate::WrongKey,
        ] {
            let shows = TlsServer::new(certificate).only(version);
            let peer = cx.peer(Script::listen([Accept, Tls(shows)]))?;
            let a = opening(&cx, &peer)?;
            a.ends(&[
                "error SecurityExpiredCertificateError, close failed",
                "error SecurityCertificateDomainMismatchError, close failed",
                "error SecurityUntrustedCertificateIssuerError, close failed",
                "error SecurityInadequateKeyUsageError, close failed",
                "error SecurityBadCertificateError, close failed",
            ])
            .await?;
            peer.until("an alert", |it| {
                it.tls.as_ref().is_some_and(|it| it.alert.is_some())
            })
            .await?;
        }
    }
    Ok(())
}

async fn demanded_of_us(cx: Cx) -> Outcome {
    for version in TlsVersion::ALL {
        let server = server().only(version).demanding_certificate();
        let peer = cx.peer(Script::listen([Accept, Tls(server)]))?;
        let a = opening(&cx, &peer)?;
        // Under TLS 1.3 the refusal comes when the handshake is complete here.
        a.ends(match version {
            TlsVersion::V1_2 => &["error SecurityNoCertificateError, close failed"],
            TlsVersion::V1_3 => &["open, error SecurityNoCertificateError, close failed"],
        })
        .await?;
    }
    Ok(())
}

async fn refused_of_ours(cx: Cx) -> Outcome {
    // bad_certificate, unsupported_certificate, certificate_revoked, certificate_expired, certificate_unknown, unknown_ca
    for number in [42, 43, 44, 45, 46, 48] {
        let alert = Bytes::from(vec![21, 3, 3, 0, 2, 2, number]);
        let peer = cx.peer(Script::listen([Accept, Read(50), Write(alert)]))?;
        let a = opening(&cx, &peer)?;
        a.expect("error SecurityError, close failed").await?;
    }
    Ok(())
}
