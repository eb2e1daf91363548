//! What an app is told, and what not.

use super::prelude::*;
use crate::underlay::{SECRET, internal};

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "permissions/one-message",
        clauses: &["PERM-14", "PERM-7", "PERM-9"],
        needs: SERVERS,
        requirement: "Every denial looks the same to the app, whatever was denied and why.",
        run: |cx| Box::pin(one_message(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/failures",
        clauses: &["PERM-22", "PERM-14"],
        needs: SERVERS,
        requirement: "About a failure an app learns the error's name and its own request, and nothing from below its guard.",
        run: |cx| Box::pin(failures(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/own-errors",
        clauses: &["PERM-22", "GATE-13"],
        needs: GATES,
        requirement: "An error with which an app ends its socket comes back unchanged.",
        run: |cx| Box::pin(own_errors(cx)),
        ..GUARDED
    },
];

async fn one_message(cx: Cx) -> Outcome {
    let mut told = Vec::new();
    let peer = cx.peer(reader())?;
    for app in [
        App::new(Trust::Hosted),
        certified().claiming(Trust::Hosted),
        certified().requesting_nothing(),
        certified().under(Policy::Silent),
    ] {
        let (app, _) = guard(&cx, app)?;
        let (opened, listening) = both(&app, &peer).await?;
        let other = OpenRequest::new("other.example", 143)?;
        told.extend([opened.err(), listening.err()]);
        told.push(app.provider().open_with(other).err());
    }
    let (app, host) = guard(&cx, privileged())?;
    told.push(listen_on(&app, 80).await?.err());
    told.push(listen_on(&app, 443).await?.err());
    let a = app.opening(&peer)?;
    host.grant(None);
    let Some(Event::Error(late)) = a.next().await? else {
        return Err(Failure::new("the revocation"));
    };
    told.push(Some(late));
    a.expect("error NotAllowedError, close failed").await?;
    told.push(app.provider().open_with(cx.request(&peer)?).err());

    let under = Arc::new(Underlay::new(&cx).choosing(80));
    let app = guard_over(&cx, &under, privileged())?;
    told.push(listen_on(&app, 0).await?.err());

    let told: Option<Vec<Error>> = told.into_iter().collect();
    let told = told.ok_or_else(|| Failure::new("each of them is denied"))?;
    for denial in &told {
        cx.check("the name", denial.name(), ErrorName::NotAllowed)?;
        cx.check("the message", denial.message(), told[0].message())?;
        cx.check_that("there is no source", denial.source().is_none())?;
    }
    Ok(())
}

const NAMES: &[ErrorName] = &[
    ErrorName::ConnectionRefused,
    ErrorName::NetworkTimeout,
    ErrorName::DomainNotFound,
    ErrorName::Network,
    ErrorName::SecurityCertificateDomainMismatch,
    ErrorName::Security,
    ErrorName::NotAllowed,
    ErrorName::InvalidAccess,
    ErrorName::NotSupported,
    ErrorName::AddressInUse,
    ErrorName::QuotaExceeded,
];

async fn failures(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    for name in NAMES {
        let first = told_of(&cx, &peer, &internal(*name, "the first failure")).await?;
        let second = told_of(&cx, &peer, &internal(*name, "another one")).await?;
        for error in first.iter().chain(&second) {
            cx.check("the name", error.name(), *name)?;
            cx.check_that("there is no source", error.source().is_none())?;
            let text = format!("{error} {error:?}");
            for secret in [SECRET, "the first failure", "another one"] {
                cx.check_that("nobody below is quoted", !text.contains(secret))?;
            }
        }
        // Of what has no port that is chosen anew.
        for (first, second) in first.iter().zip(&second).take(4) {
            cx.check("the message", first.message(), second.message())?;
        }
    }
    Ok(())
}

/// What an app is told that meets this error everywhere: from `open`, from `listen`, from `send`, as the end of a socket that
/// it has opened, of one that it has accepted, and of a server.
async fn told_of(cx: &Cx, peer: &Partner, met: &Error) -> Result<Vec<Error>, Failure> {
    let under = Arc::new(Underlay::new(cx));
    let app = guard_over(cx, &under, certified())?;
    under.fails(Some(met.clone()));
    let (opened, listening) = both(&app, peer).await?;
    under.fails(None);

    let a = app.open(peer).await?;
    under.refuses_bytes(Some(met.clone()));
    let sent = a.send(cx.bytes(3));
    under.refuses_bytes(None);

    let server = app.listen().await?;
    let guest = cx.peer(guest(&server))?;
    let b = server.accept().await?;
    let shown = format!("{:?} {:?} {:?}", app.provider(), a.raw(), server.raw());
    cx.check_that("nobody below is shown", !shown.contains(SECRET))?;
    under.ends(met);
    let mut told = vec![opened.err(), listening.err(), sent.err()];
    for socket in [&a, &b] {
        told.push(match socket.next().await? {
            Some(Event::Error(error)) => Some(error),
            _ => None,
        });
        let end = format!("error {}, close failed", met.name());
        socket.expect(&end).await?;
    }
    told.push(match server.next().await? {
        Some(ServerEvent::Error(error)) => Some(error),
        _ => None,
    });
    guest.ends(End::Reset).await?;
    let told: Option<Vec<Error>> = told.into_iter().collect();
    told.ok_or_else(|| Failure::new("each of them fails"))
}

async fn own_errors(cx: Cx) -> Outcome {
    let (app, _) = guard(&cx, privileged())?;
    let peer = cx.peer(reader())?;
    for name in [ErrorName::Network, ErrorName::NotAllowed] {
        let own = internal(name, "the app's own word");
        let a = app.open(&peer).await?;
        a.abort(Some(own.clone()));
        let Some(Event::Error(error)) = a.next().await? else {
            return Err(Failure::new("its own error"));
        };
        cx.check("the name", error.name(), name)?;
        cx.check("the message", error.message(), own.message())?;
        let cause = |it: &Error| it.source().map(ToString::to_string);
        cx.check("the cause", cause(&error), cause(&own))?;
    }
    Ok(())
}
