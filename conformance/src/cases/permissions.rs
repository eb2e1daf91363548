//! Guards: what an app may do, what it is told, and what becomes of what it has when its host changes its mind.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Mutex;

use super::prelude::*;
use crate::cx::Partner;
use crate::server::Server;
use crate::sync::lock;
use crate::underlay::Underlay;
use crate::{App, Policy, Restricted, Trust};
use tcpsocket::{
    Host, ListenRequest, Resolver, ServerEvent, ServerSocketOptions, SocketProvider,
    TcpServerSocket, TcpSocket, async_trait,
};

const GATES: &[Capability] = &[Capability::Gates];
const SERVERS: &[Capability] = &[Capability::Gates, Capability::Listen];

/// What a socket tells whose app has lost its grant.
const REVOKED: &str = "error NotAllowedError, close failed";

/// A case that needs guards.
const GUARDED: Case = Case {
    guarded: true,
    ..Case::MUST
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "permissions/levels",
        clauses: &["PERM-2", "PERM-6"],
        needs: SERVERS,
        requirement: "The lower of the level granted and the level claimed counts; a hosted app is denied everything.",
        run: |cx| Box::pin(levels(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/manifest",
        clauses: &["PERM-3", "PERM-6"],
        needs: SERVERS,
        requirement: "An app of any level whose manifest does not request tcp-socket is denied everything.",
        run: |cx| Box::pin(manifest(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/before-anything-else",
        clauses: &["PERM-9"],
        needs: SERVERS,
        requirement: "What is denied at the call is its NotAllowedError, and nothing of it reaches the provider.",
        run: |cx| Box::pin(before_anything_else(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/low-ports",
        clauses: &["PERM-7", "PERM-9"],
        needs: SERVERS,
        requirement: "Listening below 1024 is denied to a privileged app, and a certified one may ask the system.",
        run: |cx| Box::pin(low_ports(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/automatic-low-port",
        clauses: &["PERM-7"],
        needs: SERVERS,
        requirement: "An automatic port below 1024 is refused to a privileged app before the server listens.",
        run: |cx| Box::pin(automatic_low_port(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/opening-to-low-ports",
        clauses: &["PERM-7", "PERM-8"],
        needs: GATES,
        requirement: "A privileged app may open to any port.",
        run: |cx| Box::pin(opening_to_low_ports(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/silent-policy",
        clauses: &["PERM-8"],
        needs: SERVERS,
        requirement: "A policy that says nothing denies everything to everybody.",
        run: |cx| Box::pin(silent_policy(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/loopback",
        clauses: &["PERM-10", "PERM-8"],
        needs: GATES,
        requirement: "Under firefox_os loopback is reached like any other address, by IPv4 and IPv6.",
        run: |cx| Box::pin(loopback(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/decided-anew",
        clauses: &["PERM-4", "PERM-2"],
        needs: SERVERS,
        requirement: "Every call is decided by the grant as it is then, which never lifts an app above what it claims.",
        run: |cx| Box::pin(decided_anew(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-sockets",
        clauses: &["PERM-4", "PERM-9", "GATE-11"],
        needs: GATES,
        requirement: "A revocation resets what an app has opened, and touches no other app's.",
        run: |cx| Box::pin(revoked_sockets(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-while-connecting",
        clauses: &["PERM-4", "PERM-9"],
        needs: GATES,
        requirement: "A revocation ends an attempt that is under way.",
        run: |cx| Box::pin(revoked_while_connecting(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-flush",
        clauses: &["PERM-4", "GATE-12"],
        needs: GATES,
        requirement: "A revocation ends the flush of a socket that the app has dropped.",
        run: |cx| Box::pin(revoked_flush(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-lingering",
        clauses: &["PERM-4", "GATE-12"],
        needs: GATES,
        requirement: "A revocation ends the lingering of a socket that has returned Close.",
        run: |cx| Box::pin(revoked_lingering(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-servers",
        clauses: &["PERM-4", "PERM-6", "GATE-14"],
        needs: SERVERS,
        requirement: "A revocation ends servers, what they have accepted, and what waits in their backlog.",
        run: |cx| Box::pin(revoked_servers(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/lowered",
        clauses: &["PERM-4", "PERM-2"],
        needs: SERVERS,
        requirement: "A lowered grant ends what is denied at the lower level, and nothing else.",
        run: |cx| Box::pin(lowered(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-while-opening",
        clauses: &["PERM-4"],
        needs: GATES,
        requirement: "Whatever was opened while another thread revoked has ended when the app looks.",
        run: |cx| Box::pin(revoked_while_opening(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-under-way",
        clauses: &["PERM-4"],
        needs: SERVERS,
        requirement: "What was being opened, bound or accepted while the grant went is refused, or ends.",
        run: |cx| Box::pin(revoked_under_way(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/one-message",
        clauses: &["PERM-14", "PERM-7", "PERM-9"],
        needs: SERVERS,
        requirement: "Every denial is the same to the app, whatever was denied and why.",
        run: |cx| Box::pin(one_message(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/gates-of-the-app",
        clauses: &["PERM-16"],
        needs: SERVERS,
        requirement: "Gates of the app are not asked, and are given no control.",
        run: |cx| Box::pin(gates_of_the_app(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/absolute-names",
        clauses: &["NAME-8", "NAME-7", "IF-8"],
        needs: &[Capability::Gates, Capability::Names, Capability::Resolver],
        requirement: "A name that an app opens is looked up as an absolute one, and host echoes what was given.",
        run: |cx| Box::pin(absolute_names(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/resolver-of-the-app",
        clauses: &["PERM-16"],
        needs: GATES,
        requirement: "A resolver of the app is NotSupportedError, and the guard does not declare them.",
        run: |cx| Box::pin(resolver_of_the_app(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/guards-around-guards",
        clauses: &["PERM-17"],
        needs: SERVERS,
        requirement: "Of two guards both decide about calls and about automatic ports.",
        run: |cx| Box::pin(guards_around_guards(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/revoked-by-either",
        clauses: &["PERM-17", "PERM-4"],
        needs: SERVERS,
        requirement: "Of two guards either ends what is live.",
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
        requirement: "What was made without the guard's gate is ended, and refused.",
        run: |cx| Box::pin(gates_left_out(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/server-address",
        clauses: &["PERM-19"],
        needs: SERVERS,
        requirement: "A server that names no address is bound to 127.0.0.1; an address that is named is kept.",
        run: |cx| Box::pin(server_address(cx)),
        ..GUARDED
    },
];

/// A guard around the provider of `cx`: the app's side of it, and the host's.
fn guard(cx: &Cx, app: App) -> Result<(Cx, Restricted), Failure> {
    let host = cx.restricted(app)?;
    Ok((cx.with(host.provider.clone()), host))
}

/// The same around a provider that notes what comes down.
fn guard_over(cx: &Cx, under: &Arc<Underlay>, app: App) -> Result<Cx, Failure> {
    let (app, _) = guard(&cx.with(under.clone()), app)?;
    Ok(app)
}

fn privileged() -> App {
    App::new(Trust::Privileged)
}

fn certified() -> App {
    App::new(Trust::Certified)
}

fn echo() -> Script {
    Script::listen([Accept, Echo])
}

/// A script that connects to a server, and reads to the end.
fn guest(server: &Server) -> Script {
    Script::dial([Connect(server.address()), ReadToEnd])
}

/// `open` and `listen`, as an app calls them.
async fn both(
    app: &Cx,
    peer: &Partner,
) -> Result<
    (
        Result<Arc<dyn TcpSocket>, Error>,
        Result<Arc<dyn TcpServerSocket>, Error>,
    ),
    Failure,
> {
    let opened = app.provider().open_with(app.request(peer)?);
    Ok((opened, listen_on(app, 0).await?))
}

async fn listen_on(
    app: &Cx,
    port: u16,
) -> Result<Result<Arc<dyn TcpServerSocket>, Error>, Failure> {
    let request = ListenRequest::new(port)?.with_options(app.server_options());
    let listening = app.provider().listen_with(request);
    app.within("listen", listening).await
}

/// Fails unless both calls are allowed, and do what they are for.
async fn allows(app: &Cx) -> Outcome {
    let peer = app.peer(echo())?;
    let (opened, listening) = both(app, &peer).await?;
    let a = app.socket(opened?, false);
    listening?;
    a.expect("open").await?;
    a.sends(3, true)?;
    a.expect("data 3").await
}

/// Fails unless both calls are refused with this error, and nobody is dialled.
async fn refuses(app: &Cx, error: &str) -> Outcome {
    let peer = app.peer(reader())?;
    let (opened, listening) = both(app, &peer).await?;
    app.check_error("open", opened, error)?;
    app.check_error("listen", listening, error)?;
    app.fence().await?;
    app.check("connections", peer.report().connections, 0)
}

async fn levels(cx: Cx) -> Outcome {
    for granted in Trust::ALL {
        for claimed in Trust::ALL {
            let (app, _) = guard(&cx, App::new(granted).claiming(claimed))?;
            match granted.min(claimed) {
                Trust::Hosted => refuses(&app, "NotAllowedError").await?,
                _ => allows(&app).await?,
            }
        }
    }
    Ok(())
}

async fn manifest(cx: Cx) -> Outcome {
    for level in Trust::ALL {
        let (app, _) = guard(&cx, App::new(level).requesting_nothing())?;
        refuses(&app, "NotAllowedError").await?;
    }
    Ok(())
}

async fn before_anything_else(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx));
    for app in [
        App::new(Trust::Hosted),
        privileged().requesting_nothing(),
        certified().under(Policy::Silent),
    ] {
        let app = guard_over(&cx, &under, app)?;
        refuses(&app, "NotAllowedError").await?;
        let request = OpenRequest::new("app.example", 993)?.with_resolver(Arc::new(Unasked));
        let opened = app.provider().open_with(request);
        cx.check_error("open with a resolver", opened, "NotAllowedError")?;
    }
    under.was_asked(&cx, &[])?;

    let app = guard_over(&cx, &under, privileged())?;
    allows(&app).await?;
    cx.check_that(
        "what is allowed comes down",
        under.was_asked(&cx, &[]).is_err(),
    )
}

async fn low_ports(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx));
    let app = guard_over(&cx, &under, privileged())?;
    let mut refusal = None;
    for port in [1, 80, 1023] {
        let error = listen_on(&app, port).await?.err();
        let error = error.ok_or_else(|| Failure::new(format!("listening on {port}")))?;
        cx.check_error("listen", Err::<(), _>(error.clone()), "NotAllowedError")?;
        refusal = Some(error);
    }
    under.was_asked(&cx, &[])?;

    // What comes of it is for the system to say: it may refuse, and the ports may be in use.
    let _ = listen_on(&app, 1024).await?;
    under.was_asked(&cx, &["listen 1024 at 127.0.0.1"])?;
    let app = guard_over(&cx, &under, certified())?;
    for port in [1, 80, 1023] {
        let error = listen_on(&app, port).await?.err();
        cx.log(format_args!("the system says to {port}: {error:?}"));
        let ours = |it: &Error| {
            refusal
                .as_ref()
                .is_some_and(|its| its.message() == it.message())
        };
        cx.check_that("the guard admits it", !error.as_ref().is_some_and(ours))?;
        under.was_asked(&cx, &[&format!("listen {port} at 127.0.0.1")])?;
    }
    Ok(())
}

async fn automatic_low_port(cx: Cx) -> Outcome {
    for (app, port, admitted) in [
        (privileged(), 1, false),
        (privileged(), 1023, false),
        (privileged(), 1024, true),
        (certified(), 1023, true),
    ] {
        let under = Arc::new(Underlay::new(&cx).choosing(port));
        let app = guard_over(&cx, &under, app)?;
        let listening = listen_on(&app, 0).await?;
        match admitted {
            true => {
                listening?;
                under.was_asked(&cx, &["listen 0 at 127.0.0.1", "bound"])?;
            }
            false => {
                cx.check_error("listen", listening, "NotAllowedError")?;
                under.was_asked(&cx, &["listen 0 at 127.0.0.1"])?;
            }
        }
    }
    Ok(())
}

async fn opening_to_low_ports(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx));
    let app = guard_over(&cx, &under, privileged())?;
    // Who is there, if anybody, is not known.
    for port in [1, 80, 1023] {
        let a = app.open_with(OpenRequest::new("127.0.0.1", port)?)?;
        let event = a.next().await?;
        let denied = matches!(&event, Some(Event::Error(it)) if it.name() == ErrorName::NotAllowed);
        cx.check_that("it is not denied", !denied)?;
        under.was_asked(&cx, &[&format!("open 127.0.0.1 {port}")])?;
    }
    Ok(())
}

async fn silent_policy(cx: Cx) -> Outcome {
    for level in Trust::ALL {
        let (app, _) = guard(&cx, App::new(level).under(Policy::Silent))?;
        refuses(&app, "NotAllowedError").await?;
    }
    Ok(())
}

async fn loopback(cx: Cx) -> Outcome {
    let (app, _) = guard(&cx, privileged())?;
    for script in [echo(), echo().v6()] {
        let a = app.open(&cx.peer(script)?).await?;
        a.sends(3, true)?;
        a.expect("data 3").await?;
    }
    Ok(())
}

async fn decided_anew(cx: Cx) -> Outcome {
    let (app, host) = guard(&cx, privileged())?;
    allows(&app).await?;
    for (granted, allowed) in [
        (None, false),
        (Some(Trust::Privileged), true),
        (Some(Trust::Hosted), false),
        (Some(Trust::Certified), true),
    ] {
        cx.log(format_args!("granted: {granted:?}"));
        host.grant(granted);
        match allowed {
            true => allows(&app).await?,
            false => refuses(&app, "NotAllowedError").await?,
        }
    }
    let low = listen_on(&app, 80).await?;
    cx.check_error("listen, granted more than claimed", low, "NotAllowedError")
}

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
    let under = Arc::new(Underlay::new(&cx));
    let (app, host) = guard(&cx.with(under.clone()), privileged())?;
    let host = Arc::new(host);
    let revoke_meanwhile = || {
        host.grant(Some(Trust::Privileged));
        let host = host.clone();
        under.trip(move || host.grant(None));
    };

    revoke_meanwhile();
    let peer = cx.peer(reader())?;
    match app.provider().open_with(cx.request(&peer)?) {
        Ok(raw) => {
            let a = app.socket(raw, false);
            a.ends(&[REVOKED, &format!("open, {REVOKED}")]).await?;
        }
        refused => cx.check_error("open", refused, "NotAllowedError")?,
    }

    revoke_meanwhile();
    match listen_on(&app, 0).await? {
        Ok(raw) => {
            let server = Server::new(app.clone(), raw, [127, 0, 0, 1].into());
            server.expect("error NotAllowedError").await?;
        }
        refused => cx.check_error("listen", refused, "NotAllowedError")?,
    }

    host.grant(Some(Trust::Privileged));
    let server = app.listen().await?;
    revoke_meanwhile();
    let guest = cx.peer(guest(&server))?;
    match server.next().await? {
        Some(ServerEvent::Connect(raw)) => {
            app.socket(raw, true).expect(REVOKED).await?;
            server.expect("error NotAllowedError").await?;
            guest.ends(End::Reset).await
        }
        Some(ServerEvent::Error(error)) => {
            cx.check("the error", error.name(), ErrorName::NotAllowed)?;
            // The app never had it, so its end is the implementation's.
            guest.until("its stream ends", |it| it.end.is_some()).await
        }
        _ => Err(Failure::new("the end of the server")),
    }
}

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

/// Whom nobody asks.
#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Resolver for Unasked {
    async fn lookup(&self, _name: &Host, _port: u16) -> Result<Vec<std::net::SocketAddr>, Error> {
        panic!("a resolver of the app was asked")
    }
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

async fn server_address(cx: Cx) -> Outcome {
    let under = Arc::new(Underlay::new(&cx));
    for app in [privileged(), certified()] {
        let app = guard_over(&cx, &under, app)?;
        for (address, expected) in [
            (None, "listen 0 at 127.0.0.1"),
            (Some("127.0.0.1"), "listen 0 at 127.0.0.1"),
            (Some("::1"), "listen 0 at ::1"),
            (Some("0.0.0.0"), "listen 0 at 0.0.0.0"),
        ] {
            let mut options = ServerSocketOptions::new().binary_type(BinaryType::ArrayBuffer);
            options.address = address.and_then(|it| it.parse().ok());
            let request = ListenRequest::new(0)?.with_options(options);
            app.listen_with(request).await?;
            under.was_asked(&cx, &[expected])?;
        }
    }
    Ok(())
}
