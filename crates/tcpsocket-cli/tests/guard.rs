//! A guard around the implementation on smol, seen from its host: what the app, and so the conformance kit, cannot see.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use tcpsocket::{
    Event, ServerEvent, ServerSocketOptions, SocketOptions, SocketProvider, SocketProviderExt,
    TcpServerSocketExt, TcpSocketExt,
};
use tcpsocket_policy::{App, Entry, Grant, Guarded, Level, Manifest, Policy};
use tcpsocket_smol::{Loop, Smol};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A privileged app, with what its host holds.
struct Hosted {
    net: Arc<dyn SocketProvider>,
    grant: Grant,
    told: Arc<Mutex<Vec<String>>>,
}

impl Hosted {
    fn new(net: &Smol) -> Hosted {
        let manifest = Manifest::new(Level::Privileged).requesting_tcp_socket();
        let app = App::new("app", Level::Privileged, manifest);
        let grant = app.grant().clone();
        let told = Arc::<Mutex<Vec<String>>>::default();
        let sink = told.clone();
        let audit = move |it: &Entry| sink.lock().unwrap().push(it.to_string());
        let net = Guarded::new(net.clone(), app, Policy::firefox_os()).with_audit(Arc::new(audit));
        Hosted {
            net: Arc::new(net),
            grant,
            told,
        }
    }

    /// What was told since the last time, without the reasons.
    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        let asked = |it: &String| it.split(": ").next().unwrap_or_default().to_owned();
        told.iter().map(asked).collect()
    }

    /// Waits until the grant keeps nothing more of what the app had.
    fn assert_forgotten(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !format!("{:?}", self.grant).contains("live: 0") {
            assert!(Instant::now() < deadline, "{:?}", self.grant);
            std::thread::yield_now();
        }
    }
}

/// With our own loop, and with another reactor.
fn everywhere(body: impl AsyncFn(Smol)) {
    let own_loop = Loop::new().unwrap();
    own_loop.block_on(body(Smol::on(&own_loop)));
    block_on(body(Smol::new()));
}

#[test]
fn a_host_is_told_of_every_step_of_a_server() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let server = app
            .net
            .listen(0, ServerSocketOptions::new(), -1)
            .await
            .unwrap();
        let port = server.local_port();
        let expected = [
            "app may listen on an automatic port".to_owned(),
            "app may bind 127.0.0.1:0".to_owned(),
            format!("app may bind 127.0.0.1:{port}"),
        ];
        assert_eq!(app.told(), expected);

        let client = net
            .connect("127.0.0.1", port, SocketOptions::new())
            .await
            .unwrap();
        let Some(ServerEvent::Connect(accepted)) = server.next_event().await else {
            panic!("no connection");
        };
        let peer = accepted.port();
        assert_eq!(
            app.told(),
            [format!(
                "app may accept 127.0.0.1:{peer} at 127.0.0.1:{port}"
            )]
        );

        app.grant.revoke();
        let ended = format!("app may not listen on port {port}");
        assert_eq!(app.told(), [ended.clone(), ended]);
        drop((client, accepted, server));
        app.net.idle().await;
        app.assert_forgotten();
    });
}

#[test]
fn a_host_is_told_of_every_step_of_a_socket() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let local = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = net.listen(0, local, -1).await.unwrap();
        let port = server.local_port();
        let socket = app
            .net
            .connect("localhost.", port, SocketOptions::new())
            .await
            .unwrap();
        let told = app.told();
        assert_eq!(told[0], format!("app may open localhost:{port}"));
        let dialled = format!("app may dial 127.0.0.1:{port} for localhost");
        assert!(told[1..].contains(&dialled), "{told:?}");

        app.grant.revoke();
        assert_eq!(app.told(), [format!("app may not open localhost:{port}")]);
        assert!(matches!(socket.next_event().await, Some(Event::Error(_))));
        assert!(matches!(socket.next_event().await, Some(Event::Close(_))));
        app.net.idle().await;
        app.assert_forgotten();
    });
}

/// The app has dropped the socket, and more is to be flushed than any kernel takes.
#[test]
fn what_only_flushes_is_kept_until_it_has_ended() {
    everywhere(async |net| {
        let app = Hosted::new(&net);
        let local = ServerSocketOptions::new().address([127, 0, 0, 1]);
        let server = net.listen(0, local, -1).await.unwrap();
        let port = server.local_port();
        let socket = app
            .net
            .connect("127.0.0.1", port, SocketOptions::new())
            .await
            .unwrap();
        let Some(ServerEvent::Connect(_peer)) = server.next_event().await else {
            panic!("no connection");
        };
        socket.send(vec![7; 16 << 20].into()).unwrap();
        drop(socket);
        assert!(format!("{:?}", app.grant).contains("live: 1"));
        app.grant.revoke();
        app.net.idle().await;
        app.assert_forgotten();
    });
}
