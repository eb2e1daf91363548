//! What stands around a guard: the app's gates, other guards, and a provider that is no good.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::prelude::*;
use crate::sync::lock;

pub(in crate::cases) const CASES: &[Case] = &[
    Case {
        id: "permissions/gates-of-the-app",
        clauses: &["PERM-16"],
        needs: SERVERS,
        requirement: "The app's gates are not asked, and receive no control.",
        run: |cx| Box::pin(gates_of_the_app(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/absolute-names",
        clauses: &["NAME-8", "NAME-7", "IF-8"],
        needs: &[Capability::Gates, Capability::Names, Capability::Resolver],
        requirement: "An app's host name is looked up as an absolute one, and host echoes the given name.",
        run: |cx| Box::pin(absolute_names(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/resolver-of-the-app",
        clauses: &["PERM-16"],
        needs: GATES,
        requirement: "A resolver from the app is NotSupportedError, and the guard does not declare resolvers.",
        run: |cx| Box::pin(resolver_of_the_app(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/guards-around-guards",
        clauses: &["PERM-17"],
        needs: SERVERS,
        requirement: "With two guards both decide, about calls and about automatic ports.",
        run: |cx| Box::pin(guards_around_guards(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-by-either",
        clauses: &["PERM-17", "PERM-4"],
        needs: SERVERS,
        requirement: "With two guards either can end live sockets and servers.",
        run: |cx| Box::pin(revoked_by_either(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/no-gates",
        clauses: &["PERM-18"],
        needs: SERVERS,
        requirement: "A provider without gates is not used.",
        run: |cx| Box::pin(no_gates(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/gates-left-out",
        clauses: &["PERM-21"],
        needs: SERVERS,
        requirement: "A socket or server made without the guard's gate is ended, and refused.",
        run: |cx| Box::pin(gates_left_out(cx)),
        ..GUARDED
    },
];

async fn gates_of_the_app(cx: Cx) -> Outcome {
    let (app, _) = guard(&cx, privileged())?;
    let refuses = Answers {
        name: Answer::Refuse,
        connect: Answer::Refuse,
        bind: Answer::Refuse,
        accept: Answer::Refuse,
        ..Answers::default()
    };
    let warden = Warden::new(&cx, refuses);
    let peer = cx.peer(reader())?;
    let a = app.open_with(warden.guards(cx.request(&peer)?))?;
    a.expect("open").await?;
    let request = warden.guards_server(cx.listen_request()?);
    let server = app.listen_with(request).await?;
    cx.peer(guest(&server))?;
    server.accept().await?;
    warden.was_asked(&[])?;
    cx.check("controls given", warden.watched().len(), 0)
}

/// Notes under which name it is asked, and answers with one address.
#[derive(Debug)]
struct Asked {
    answer: SocketAddr,
    names: Mutex<Vec<String>>,
}

#[async_trait]
impl Resolver for Asked {
    async fn lookup(&self, name: &Host, _port: u16) -> Result<Vec<SocketAddr>, Error> {
        lock(&self.names).push(name.lookup_name().into_owned());
        Ok(vec![self.answer])
    }
}

async fn absolute_names(cx: Cx) -> Outcome {
    let peer = cx.peer(reader())?;
    let answer = format!("{}:{}", peer.host(), peer.port());
    let resolver = Arc::new(Asked {
        answer: answer.parse().map_err(|_| Failure::new(answer))?,
        names: Mutex::default(),
    });
    let under = Arc::new(Underlay::new(&cx).resolving_by(resolver.clone()));
    let app = guard_over(&cx, &under, privileged())?;
    for host in ["db", "DB.Example", "db.example."] {
        let request = OpenRequest::new(host, peer.port())?.with_options(cx.options());
        let a = app.open_with(request)?;
        a.expect("open").await?;
        cx.check("host", a.raw().host(), host)?;
    }
    let names = lock(&resolver.names).clone();
    let absolute = ["db.", "db.example.", "db.example."].map(str::to_owned);
    cx.check("what is looked up", names, absolute.to_vec())
}

async fn resolver_of_the_app(cx: Cx) -> Outcome {
    let (app, _) = guard(&cx, privileged())?;
    let declared = app.declares(Capability::Resolver);
    cx.check("resolver is declared", declared, false)?;
    for host in ["127.0.0.1", "name.example"] {
        let request = OpenRequest::new(host, 993)?.with_resolver(Arc::new(Unasked));
        let opened = app.provider().open_with(request);
        cx.check_error("open", opened, "NotSupportedError")?;
    }
    Ok(())
}

async fn guards_around_guards(cx: Cx) -> Outcome {
    for inner in Trust::ALL {
        for outer in Trust::ALL {
            let (system, _) = guard(&cx, App::new(inner))?;
            let (app, _) = guard(&system, App::new(outer))?;
            match inner.min(outer) {
                Trust::Hosted => refuses(&app, "NotAllowedError").await?,
                _ => allows(&app).await?,
            }

            let under = Arc::new(Underlay::new(&cx).choosing(80));
            let system = guard_over(&cx, &under, App::new(inner))?;
            let (app, _) = guard(&system, App::new(outer))?;
            let given = listen_on(&app, 80).await?.is_ok();
            let automatic = listen_on(&app, 0).await?.is_ok();
            let both = inner.min(outer) == Trust::Certified;
            cx.check("an automatic port 80 is admitted", automatic, both)?;
            cx.check_that("port 80 is not admitted to less", both || !given)?;
        }
    }
    Ok(())
}

async fn revoked_by_either(cx: Cx) -> Outcome {
    for inner in [true, false] {
        let (system, systems_host) = guard(&cx, certified())?;
        let (app, apps_host) = guard(&system, privileged())?;
        let a = app.open(&cx.peer(reader())?).await?;
        let server = app.listen().await?;
        let guest = cx.peer(guest(&server))?;
        let b = server.accept().await?;
        match inner {
            true => systems_host.grant(None),
            false => apps_host.grant(None),
        }
        a.expect(REVOKED).await?;
        server.expect("error NotAllowedError").await?;
        b.expect(REVOKED).await?;
        guest.ends(End::Reset).await?;
        refuses(&app, "NotAllowedError").await?;
    }
    Ok(())
}

async fn no_gates(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx).without_gates());
    let app = guard_over(&cx, &under, certified())?;
    refuses(&app, "NotSupportedError").await?;
    under.was_asked(&cx, &[])
}

async fn gates_left_out(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx).leaving_gates_out());
    let app = guard_over(&cx, &under, certified())?;
    let peer = cx.peer(reader())?;
    let opened = app.provider().open_with(cx.request(&peer)?);
    cx.check_error("open", opened, "NotSupportedError")?;
    let port = {
        let server = cx.listen().await?;
        server.close();
        server.address().port()
    };
    let request = ListenRequest::new(port)?.with_options(cx.server_options());
    let listening = app.provider().listen_with(request);
    let listening = cx.within("listen", listening).await?;
    cx.check_error("listen", listening, "NotSupportedError")?;
    let refused = cx.peer(Script::dial([Connect(([127, 0, 0, 1], port).into())]))?;
    refused
        .until("it is refused", |it| it.trouble.is_some())
        .await?;
    cx.within("idle", cx.provider().idle()).await
}
