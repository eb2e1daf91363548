//! What an app is told, and what not.

use super::prelude::*;

pub(in crate::cases) const CASES: &[Case] = &[Case {
    id: "permissions/one-message",
    clauses: &["PERM-14", "PERM-7", "PERM-9"],
    needs: SERVERS,
    requirement: "Every denial is the same to the app, whatever was denied and why.",
    run: |cx| Box::pin(one_message(cx)),
    ..GUARDED
}];

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
