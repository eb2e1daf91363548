//! The second act: two apps behind the guards of their host ask for a port below 1024.
//!
//! The guard decides the same everywhere. The operating system does not: it may refuse such ports to this user, or another
//! program may hold the port. The act accepts either, and says whose answer it was.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tcpsocket::{
    Error, Event, ServerSocketOptions, SocketOptions, SocketProvider, SocketProviderExt,
    TcpServerSocket, TcpSocketExt,
};
use tcpsocket_policy::{App, Ask, Audit, Entry, Guarded, Level, Manifest, Policy};

use crate::demo::Plan;
use crate::demo::log::{Attempt, Call};
use crate::demo::stage::{CutShort, Stage};

/// The port that the apps ask for.
const PORT: u16 = 80;

/// How long a connection to it may take: the program there may be too busy to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How a host guards an app: from its own provider it makes the app's, with an audit that hears the decisions.
pub(super) type Admit = fn(Arc<dyn SocketProvider>, App, Arc<dyn Audit>) -> Arc<dyn SocketProvider>;

/// The usual guard, for apps that may connect anywhere, this machine included. A host that minds registers a gate.
pub(super) fn guarded(
    net: Arc<dyn SocketProvider>,
    app: App,
    audit: Arc<dyn Audit>,
) -> Arc<dyn SocketProvider> {
    Arc::new(Guarded::new(net, app, Policy::firefox_os()).with_audit(audit))
}

pub(super) async fn play(stage: &mut Stage<'_>, plan: Plan) -> Result<(), CutShort> {
    let radio = Tenant::new(stage, plan, "radio", Level::Privileged);
    let phone = Tenant::new(stage, plan, "phone", Level::Certified);

    stage.scene("A privileged app asks to listen on port 80: its guard refuses");
    radio.listen(stage).await?;

    stage.scene("A certified app asks for the same: its guard admits it, and the system decides");
    let server = phone.listen(stage).await?;

    stage.scene("The privileged app connects to port 80: that is allowed, on this machine too");
    radio.open(stage).await?;
    drop(server);
    Ok(())
}

/// An app, its provider, and what its host hears about it.
struct Tenant {
    app: App,
    net: Arc<dyn SocketProvider>,
    told: Arc<Mutex<Vec<Entry>>>,
}

impl Tenant {
    fn new(stage: &Stage<'_>, plan: Plan, id: &str, level: Level) -> Tenant {
        let app = App::new(id, level, Manifest::new(level).requesting_tcp_socket());
        let told = Arc::<Mutex<Vec<Entry>>>::default();
        let sink = told.clone();
        let audit = move |it: &Entry| {
            let mut told = sink.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(it.clone());
        };
        let net = (plan.admit)(stage.net().clone(), app.clone(), Arc::new(audit));
        Tenant { app, net, told }
    }

    /// Listens on loopback; the server, if there is one, lives as long as the app keeps it.
    async fn listen(
        &self,
        stage: &mut Stage<'_>,
    ) -> Result<Option<Arc<dyn TcpServerSocket>>, CutShort> {
        stage.awaits("an app's listen");
        let options = ServerSocketOptions::new().address(Ipv4Addr::LOCALHOST);
        let listen = async { self.net.listen(PORT, options, -1).await };
        self.attempt(stage, Call::Listen, Ask::listen(PORT), listen)
            .await
    }

    /// Opens, and closes as soon as it is open.
    async fn open(&self, stage: &mut Stage<'_>) -> Result<(), CutShort> {
        stage.awaits("an app's connection, or its failure");
        let host = Ipv4Addr::LOCALHOST.to_string();
        let ask = Ask::open(&host, PORT);
        let open = async {
            let options = SocketOptions::new().connect_timeout(CONNECT_TIMEOUT);
            let socket = self.net.open(&host, PORT, options)?;
            match socket.next_event().await {
                Some(Event::Error(error)) => Err(error),
                _ => {
                    socket.abort(None);
                    Ok(())
                }
            }
        };
        self.attempt(stage, Call::Open, ask, open).await?;
        Ok(())
    }

    /// Makes a call, and notes what the app and its host are told.
    async fn attempt<T>(
        &self,
        stage: &mut Stage<'_>,
        call: Call,
        ask: Result<Ask, Error>,
        made: impl Future<Output = Result<T, Error>>,
    ) -> Result<Option<T>, CutShort> {
        let ask = ask.map_err(|error| CutShort::new(format!("an app asked nonsense: {error}")))?;
        let explained = Policy::firefox_os().explain(&self.app, &ask);
        let began = stage.now();
        let answer = made.await;
        let told = &mut *self.told.lock().unwrap_or_else(PoisonError::into_inner);
        stage.attempt(Attempt {
            began,
            ended: stage.now(),
            level: self.app.manifest().level(),
            call,
            port: PORT,
            explained,
            told: std::mem::take(told),
            answer: answer.as_ref().map(drop).map_err(Error::clone),
        });
        Ok(answer.ok())
    }
}
