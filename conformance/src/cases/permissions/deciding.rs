//! What an app may do: levels, manifests, low ports and the policies that every guard has.

use super::prelude::*;

pub(in crate::cases) const CASES: &[Case] = &[
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
        requirement: "A denial at the call is its NotAllowedError, and nothing of the call reaches the provider.",
        run: |cx| Box::pin(before_anything_else(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/low-ports",
        clauses: &["PERM-7", "PERM-9"],
        needs: SERVERS,
        requirement: "Listening below 1024 is denied to a privileged app; for a certified one the system decides.",
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
        requirement: "A policy without rules denies everything to everybody.",
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
        requirement: "Every call is decided by the current grant, which never lifts an app above its claim.",
        run: |cx| Box::pin(decided_anew(cx)),
        ..GUARDED
    },
    Case {
        id: "permissions/server-address",
        clauses: &["PERM-19"],
        needs: SERVERS,
        requirement: "A server without an address is bound to 127.0.0.1; a given address is kept.",
        run: |cx| Box::pin(server_address(cx)),
        ..GUARDED
    },
];

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
    for port in [1, 80, 1023] {
        let listening = listen_on(&app, port).await?;
        cx.check_error("listen", listening, "NotAllowedError")?;
    }
    under.was_asked(&cx, &[])?;

    // What comes of it is for the system to say: it may refuse, and the ports may be in use.
    let _ = listen_on(&app, 1024).await?;
    under.was_asked(&cx, &["listen 1024 at 127.0.0.1"])?;
    let app = guard_over(&cx, &under, certified())?;
    for port in [1, 80, 1023] {
        let error = listen_on(&app, port).await?.err();
        cx.log(format_args!("the system says to {port}: {error:?}"));
        // The guard has admitted it: it came down.
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
