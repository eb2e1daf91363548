//! Guards: what an app may do, what it is told, and what becomes of what it has when its host changes its mind.

pub(super) mod deciding;
pub(super) mod revoking;
pub(super) mod standing;
pub(super) mod telling;

/// What these cases have in common.
mod prelude {
    pub(super) use std::error::Error as _;

    pub(super) use tcpsocket::{
        Host, ListenRequest, Resolver, ServerEvent, ServerSocketOptions, SocketProvider,
        TcpServerSocket, TcpSocket, async_trait,
    };

    pub(super) use super::super::prelude::*;
    pub(super) use crate::cx::Partner;
    pub(super) use crate::server::Server;
    pub(super) use crate::underlay::Underlay;
    pub(super) use crate::{App, Policy, Restricted, Trust};

    pub(super) const GATES: &[Capability] = &[Capability::Gates];
    pub(super) const SERVERS: &[Capability] = &[Capability::Gates, Capability::Listen];

    /// What a socket tells whose app has lost its grant.
    pub(super) const REVOKED: &str = "error NotAllowedError, close failed";

    /// A case that needs guards.
    pub(super) const GUARDED: Case = Case {
        guarded: true,
        ..Case::MUST
    };

    /// A guard around the provider of `cx`: the app's side of it, and the host's.
    pub(super) fn guard(cx: &Cx, app: App) -> Result<(Cx, Restricted), Failure> {
        let host = cx.restricted(app)?;
        Ok((cx.with(host.provider.clone()), host))
    }

    /// The same around a provider that notes what comes down.
    pub(super) fn guard_over(cx: &Cx, under: &Arc<Underlay>, app: App) -> Result<Cx, Failure> {
        let (app, _) = guard(&cx.with(under.clone()), app)?;
        Ok(app)
    }

    pub(super) fn privileged() -> App {
        App::new(Trust::Privileged)
    }

    pub(super) fn certified() -> App {
        App::new(Trust::Certified)
    }

    pub(super) fn echo() -> Script {
        Script::listen([Accept, Echo])
    }

    /// A script that connects to a server, and reads to the end.
    pub(super) fn guest(server: &Server) -> Script {
        Script::dial([Connect(server.address()), ReadToEnd])
    }

    /// `open` and `listen`, as an app calls them.
    pub(super) async fn both(
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

    pub(super) async fn listen_on(
        app: &Cx,
        port: u16,
    ) -> Result<Result<Arc<dyn TcpServerSocket>, Error>, Failure> {
        let request = ListenRequest::new(port)?.with_options(app.server_options());
        let listening = app.provider().listen_with(request);
        app.within("listen", listening).await
    }

    /// Fails unless both calls are allowed, and do what they are for.
    pub(super) async fn allows(app: &Cx) -> Outcome {
        let peer = app.peer(echo())?;
        let (opened, listening) = both(app, &peer).await?;
        let a = app.socket(opened?, false);
        listening?;
        a.expect("open").await?;
        a.sends(3, true)?;
        a.expect("data 3").await
    }

    /// Fails unless both calls are refused with this error, and nobody is dialled.
    pub(super) async fn refuses(app: &Cx, error: &str) -> Outcome {
        let peer = app.peer(reader())?;
        let (opened, listening) = both(app, &peer).await?;
        app.check_error("open", opened, error)?;
        app.check_error("listen", listening, error)?;
        app.fence().await?;
        app.check("connections", peer.report().connections, 0)
    }

    /// Whom nobody asks.
    #[derive(Debug)]
    pub(super) struct Unasked;

    #[async_trait]
    impl Resolver for Unasked {
        async fn lookup(
            &self,
            _name: &Host,
            _port: u16,
        ) -> Result<Vec<std::net::SocketAddr>, Error> {
            panic!("a resolver of the app was asked")
        }
    }
}
