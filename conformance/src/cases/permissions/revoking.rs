//! What becomes of what an app has when its host changes its mind.

use super::prelude::*;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "permissions/revoked-sockets",
        clauses: &["PERM-4", "PERM-9", "GATE-11"],
        needs: GATES,
        requirement: "A revocation resets the app's sockets, and touches no other app's.",
        run: |cx| Box::pin(revoked_sockets(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-while-connecting",
        clauses: &["PERM-4", "PERM-9"],
        needs: GATES,
        requirement: "A revocation ends an attempt under way.",
        run: |cx| Box::pin(revoked_while_connecting(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-flush",
        clauses: &["PERM-4", "GATE-12"],
        needs: GATES,
        requirement: "A revocation ends the flush of a socket after the app has dropped it.",
        run: |cx| Box::pin(revoked_flush(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-lingering",
        clauses: &["PERM-4", "GATE-12"],
        needs: GATES,
        requirement: "A revocation ends the lingering of a socket after its Close.",
        run: |cx| Box::pin(revoked_lingering(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-servers",
        clauses: &["PERM-4", "PERM-6", "GATE-14"],
        needs: SERVERS,
        requirement: "A revocation ends servers, their accepted sockets, and the connections in their backlog.",
        run: |cx| Box::pin(revoked_servers(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/lowered",
        clauses: &["PERM-4", "PERM-2"],
        needs: SERVERS,
        requirement: "A lowered grant ends whatever is denied at the lower level, and nothing else.",
        run: |cx| Box::pin(lowered(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-while-opening",
        clauses: &["PERM-4"],
        needs: GATES,
        requirement: "Every socket opened during a revocation by another thread has ended when the app looks.",
        run: |cx| Box::pin(revoked_while_opening(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-under-way",
        clauses: &["PERM-4"],
        needs: SERVERS,
        requirement: "An open, bind or accept under way during a revocation is refused, or ends.",
        run: |cx| Box::pin(revoked_under_way(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/granted-again",
        clauses: &["PERM-23", "PERM-4"],
        needs: SERVERS,
        requirement: "A call under way at a revocation ends, even if the grant returns before the call is over.",
        run: |cx| Box::pin(granted_again(cx)),
        ..GUARDED
    },
];

async fn revoked_sockets(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    let (other, _) = guard(&cx, privileged())?;
    let (peer, others) = (cx.peer(reader())?, cx.peer(echo())?);
    let a = app.open(&peer).await?;
    let b = other.open(&others).await?;
    a.sends(10, true)?;
    peer.until("it has arrived", |it| it.received == 10).await?;
    host.grant(None);
    a.is(ReadyState::Open)?;
    a.send_fails("NotAllowedError")?;
    a.expect(REVOKED).await?;
    peer.ends(End::Reset).await?;
    b.sends(10, true)?;
    b.expect("data 10").await
}

async fn revoked_while_connecting(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    let a = app.opening(&cx.peer(Script::silent())?)?;
    a.quiet().await?;
    host.grant(None);
    a.is(ReadyState::Connecting)?;
    a.expect(REVOKED).await?;

    // At once: nothing was waited for since the call.
    let (app, host) = guard(&cx, privileged())?;
    let peer = cx.peer(reader())?;
    let b = app.opening(&peer)?;
    host.grant(None);
    b.expect(REVOKED).await
}

async fn revoked_flush(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    let peer = cx.peer(holder())?;
    let a = app.open(&peer).await?;
    a.sends(STUCK, false)?;
    drop(a);
    cx.fence().await?;
    host.grant(None);
    cx.within("idle", app.provider().idle()).await?;
    cx.signal("read on");
    peer.ends(End::Reset).await
}

async fn revoked_lingering(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    let peer = cx.peer(Script::listen([
        Accept,
        ReadToEnd,
        Signal("read"),
        Wait("never"),
    ]))?;
    let a = app.open(&peer).await?;
    a.close();
    a.expect("close clean").await?;
    drop(a);
    cx.signalled("read").await?;
    cx.fence().await?;
    host.grant(None);
    cx.within("idle", app.provider().idle()).await
}

async fn revoked_servers(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    let server = app.listen().await?;
    let first = cx.peer(guest(&server))?;
    let a = server.accept().await?;
    let second = cx.peer(Script::dial([
        Connect(server.address()),
        Signal("connected"),
        ReadToEnd,
    ]))?;
    cx.signalled("connected").await?;
    host.grant(None);
    server.expect("error NotAllowedError").await?;
    server.expect("none").await?;
    a.expect(REVOKED).await?;
    first.ends(End::Reset).await?;
    second.ends(End::Reset).await?;
    let late = cx.peer(Script::dial([Connect(server.address())]))?;
    late.until("it is refused", |it| it.trouble.is_some()).await
}

async fn lowered(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, certified())?;
    let peer = cx.peer(echo())?;
    let a = app.open(&peer).await?;
    let server = app.listen().await?;
    host.grant(Some(Trust::Privileged));
    a.sends(3, true)?;
    a.expect("data 3").await?;
    let guest = cx.peer(guest(&server))?;
    let b = server.accept().await?;
    b.quiet().await?;
    host.grant(Some(Trust::Hosted));
    a.expect(REVOKED).await?;
    server.expect("error NotAllowedError").await?;
    b.expect(REVOKED).await?;
    guest.ends(End::Reset).await
}

async fn revoked_while_opening(cx: Cx) -> Outcome {
    for wanted in [0, 1, 10, 40] {
        let (app, host) = guard(&cx, privileged())?;
        let peer = cx.peer(reader())?;
        let request = cx.request(&peer)?;
        let opened = Arc::new(Count::default());
        let opener = cx.thread({
            let (net, opened) = (app.provider().clone(), opened.clone());
            async move {
                let mut sockets = Vec::new();
                while sockets.len() < 100 {
                    match net.open_with(request.clone()) {
                        Ok(socket) => sockets.push(socket),
                        Err(refused) => return (sockets, Some(refused)),
                    }
                    Waker::from(opened.clone()).wake();
                }
                (sockets, None)
            }
        });
        let revoker = cx.thread(async move {
            while opened.get() < wanted {
                std::thread::yield_now();
            }
            host.grant(None);
        });
        let (sockets, refused) = opener.join().await?;
        revoker.join().await?;
        cx.log(format_args!("{} opened, then {refused:?}", sockets.len()));
        if let Some(refused) = refused {
            cx.check_error("open", Err::<(), _>(refused), "NotAllowedError")?;
        }
        for raw in sockets {
            let a = app.socket(raw, false);
            a.ends(&[REVOKED, &format!("open, {REVOKED}")]).await?;
        }
        refuses(&app, "NotAllowedError").await?;
    }
    Ok(())
}

async fn revoked_under_way(cx: Cx) -> Outcome {
    under_way(&cx, &[None]).await
}

async fn granted_again(cx: Cx) -> Outcome {
    for away in [None, Some(Trust::Hosted)] {
        under_way(&cx, &[away, Some(Trust::Privileged)]).await?;
    }
    Ok(())
}

/// Changes the grant like this in the middle of an open, a listen and an accept: nothing of them is left, and not a byte is
/// delivered.
async fn under_way(cx: &Cx, changes: &[Option<Trust>]) -> Outcome {
    let under = Arc::new(Underlay::new(cx));
    let (app, host) = guard(&cx.with(under.clone()), privileged())?;
    let host = Arc::new(host);
    let change_meanwhile = || {
        host.grant(Some(Trust::Privileged));
        let (host, changes) = (host.clone(), changes.to_vec());
        under.trip(move || changes.iter().for_each(|level| host.grant(*level)));
    };

    change_meanwhile();
    let peer = cx.peer(Script::listen([Accept, Write(cx.bytes(10)), ReadToEnd]))?;
    match app.provider().open_with(cx.request(&peer)?) {
        Ok(raw) => {
            let a = app.socket(raw, false);
            a.ends(&[REVOKED, &format!("open, {REVOKED}")]).await?;
        }
        refused => cx.check_error("open", refused, "NotAllowedError")?,
    }

    change_meanwhile();
    match listen_on(&app, 0).await? {
        Ok(raw) => {
            let server = Server::new(app.clone(), raw, [127, 0, 0, 1].into());
            server.expect("error NotAllowedError").await?;
        }
        refused => cx.check_error("listen", refused, "NotAllowedError")?,
    }

    host.grant(Some(Trust::Privileged));
    let server = app.listen().await?;
    change_meanwhile();
    let guest = cx.peer(Script::dial([
        Connect(server.address()),
        Write(cx.bytes(10)),
        ReadToEnd,
    ]))?;
    match server.next().await? {
        Some(ServerEvent::Connect(raw)) => {
            app.socket(raw, true).expect(REVOKED).await?;
            server.expect("error NotAllowedError").await?;
            guest.ends(End::Reset).await?;
        }
        Some(ServerEvent::Error(error)) => {
            cx.check("the error", error.name(), ErrorName::NotAllowed)?;
            // The app never had it, so its end is the implementation's.
            guest
                .until("its stream ends", |it| it.end.is_some())
                .await?;
        }
        _ => return Err(Failure::new("the end of the server")),
    }

    // What is asked for afterwards is a new matter.
    host.grant(Some(Trust::Privileged));
    allows(&app).await
}
