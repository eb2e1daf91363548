//! Grants that change while the app runs: what is live ends, and nothing slips through in between.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use tcpsocket::{Bytes, Event, ReadyState, ServerEvent, TcpServerSocket, TcpSocket};
use tcpsocket_policy::{Entry, Grant, Guarded, Level, Policy};

use Level::{Certified, Hosted, Privileged};

use crate::fake::{Fake, Moment};
use crate::log::{
    Log, app, assert_denied, assert_ended, assert_ended_below, assert_refusal, assert_server_ended,
    listen, next, next_of, open, ready,
};

fn guarded(fake: &Fake, level: Level) -> (Guarded<Fake>, Grant, Log) {
    let log = Log::default();
    let app = app(level);
    let grant = app.grant().clone();
    let net = Guarded::new(fake.clone(), app, Policy::firefox_os()).with_audit(log.sink());
    (net, grant, log)
}

const PEER: ([u8; 4], u16) = ([192, 0, 2, 7], 5000);

fn accept(fake: &Fake, server: &dyn TcpServerSocket) -> Arc<dyn TcpSocket> {
    ready(fake.peer(server.local_port(), SocketAddr::from(PEER))).unwrap();
    match next_of(server) {
        Poll::Ready(Some(ServerEvent::Connect(socket))) => socket,
        other => panic!("{other:?}"),
    }
}

fn is_alive(socket: &dyn TcpSocket) -> bool {
    socket.ready_state() == ReadyState::Open && socket.send(Bytes::from_static(b"x")).is_ok()
}

/// How many live sockets and servers a grant knows, from its debug output.
fn live(grant: &Grant) -> String {
    format!("{grant:?}")
}

#[test]
fn revocation_ends_sockets_servers_and_what_servers_accepted() {
    let fake = Fake::new();
    let (net, grant, log) = guarded(&fake, Privileged);
    let opened = open(&net).unwrap();
    let server = listen(&net, 8080).unwrap();
    let accepted = accept(&fake, &*server);
    assert!(is_alive(&*opened) && is_alive(&*accepted));
    assert!(matches!(next(&*opened), Some(Event::Open)));
    log.take();

    net.revoke();
    assert_eq!(grant.level(), None);
    assert_ended(&*opened);
    assert_ended(&*accepted);
    assert_server_ended(&*server);
    assert_eq!(
        log.lines(),
        [
            "denied open 192.0.2.1:993 (grant)",
            "denied listen on port 8080 (grant)",
            "denied listen on port 8080 (grant)",
        ]
    );

    // The app still holds them; revoking once more has nothing to end, and nothing to tell.
    net.revoke();
    assert!(log.take().is_empty());
    assert_refusal(&opened.send(Bytes::from_static(b"x")).unwrap_err());
}

#[test]
fn every_call_is_decided_anew() {
    let fake = Fake::new();
    let (net, grant, log) = guarded(&fake, Privileged);
    let first = open(&net).unwrap();
    grant.revoke();
    log.take();
    assert_refusal(&open(&net).unwrap_err());
    assert_refusal(&listen(&net, 8080).unwrap_err());
    assert_eq!(
        log.lines(),
        [
            "denied open 192.0.2.1:993 (grant)",
            "denied listen on port 8080 (grant)",
        ]
    );

    // Granted again: the next call works, and what was ended stays ended.
    grant.set_level(Privileged);
    let second = open(&net).unwrap();
    assert!(is_alive(&*second) && !is_alive(&*first));
}

#[test]
fn a_lower_level_ends_what_it_does_not_allow_and_nothing_else() {
    let fake = Fake::new();
    let (net, grant, log) = guarded(&fake, Certified);
    let low = listen(&net, 80).unwrap();
    *fake.automatic_port.lock().unwrap() = 81;
    let automatic = listen(&net, 0).unwrap();
    let high = listen(&net, 8080).unwrap();
    let (by_low, by_high) = (accept(&fake, &*low), accept(&fake, &*high));
    let opened = open(&net).unwrap();
    log.take();

    grant.set_level(Privileged);
    assert_server_ended(&*low);
    assert_server_ended(&*automatic);
    assert_ended(&*by_low);
    assert!(is_alive(&*by_high) && is_alive(&*opened) && next_of(&*high).is_pending());
    assert_eq!(
        log.lines(),
        [
            "denied listen on port 80 (low-port)",
            "denied listen on port 81 (low-port)",
            "denied listen on port 80 (low-port)",
        ]
    );

    grant.set_level(Certified);
    assert!(is_alive(&*by_high) && is_alive(&*opened) && next_of(&*high).is_pending());
    assert!(log.take().is_empty());

    grant.set_level(Hosted);
    assert_server_ended(&*high);
    assert_ended(&*by_high);
    assert!(!is_alive(&*opened));
}

/// At whatever moment of the call the grant goes: the app gets the refusal, and nothing is left alive.
#[test]
fn a_call_that_is_under_way_does_not_outlive_the_grant() {
    const CALL: &str = "allowed open 192.0.2.1:993 (default)";
    const GONE: &str = "denied open 192.0.2.1:993 (grant)";
    const DIAL: &str = "allowed dial 192.0.2.1:993 for 192.0.2.1 (default)";
    const NO_DIAL: &str = "denied dial 192.0.2.1:993 for 192.0.2.1 (grant)";
    let table: [(Moment, &[&str], u32); 4] = [
        // The name is refused, so there is not even a socket.
        (Moment::Called, &[CALL, GONE], 0),
        (Moment::NameAdmitted, &[CALL, GONE, NO_DIAL, GONE], 1),
        (Moment::Watched, &[CALL, GONE, NO_DIAL, GONE], 1),
        (Moment::Connected, &[CALL, DIAL, GONE, GONE], 1),
    ];
    for (moment, lines, aborted) in table {
        let fake = Fake::new();
        let (net, grant, log) = guarded(&fake, Privileged);
        let revoked = grant.clone();
        fake.at(moment, move || revoked.revoke());
        assert_refusal(&open(&net).expect_err(&format!("{moment:?}")));
        assert_eq!(log.lines(), lines, "{moment:?}");
        assert_eq!(fake.ended.load(SeqCst), aborted, "{moment:?}");
        assert_eq!(live(&grant), "Grant { level: None, live: 0 }", "{moment:?}");
    }
    for moment in [Moment::Bound, Moment::Listening] {
        let fake = Fake::new();
        let (net, grant, _) = guarded(&fake, Privileged);
        let revoked = grant.clone();
        fake.at(moment, move || revoked.revoke());
        assert_refusal(&listen(&net, 8080).expect_err(&format!("{moment:?}")));
        assert_eq!(fake.ended.load(SeqCst), 1, "{moment:?}");
        assert!(!fake.listens_on(8080), "{moment:?}");
        assert_eq!(live(&grant), "Grant { level: None, live: 0 }", "{moment:?}");
    }
}

/// A server that was not reached by its control admits nobody: each peer is decided anew.
#[test]
fn peers_are_decided_anew_too() {
    let fake = Fake::new();
    fake.controls_fail.store(true, SeqCst);
    let (net, grant, log) = guarded(&fake, Privileged);
    let server = listen(&net, 8080).unwrap();
    ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap();
    grant.revoke();
    assert!(fake.listens_on(8080));
    log.take();
    assert_denied(&ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap_err());
    assert_eq!(
        log.lines(),
        ["denied accept 192.0.2.7:5000 at 127.0.0.1:8080 (grant)"]
    );
    drop(server);
}

/// A socket that is accepted while the grant goes cannot be reached by its control yet: no byte gets through it.
#[test]
fn an_accepted_socket_that_was_on_its_way_moves_nothing() {
    for sends in [true, false] {
        let fake = Fake::new();
        let (net, grant, log) = guarded(&fake, Privileged);
        let server = listen(&net, 8080).unwrap();
        let revoked = grant.clone();
        log.take();
        fake.at(Moment::PeerAdmitted, move || revoked.revoke());
        ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap();
        assert_server_ended(&*server);
        assert_eq!(
            log.lines(),
            [
                "allowed accept 192.0.2.7:5000 at 127.0.0.1:8080 (default)",
                "denied listen on port 8080 (grant)",
                "denied listen on port 8080 (grant)",
            ]
        );
        let socket = fake.pending(8080);
        match sends {
            true => assert_denied(&socket.send(Bytes::from_static(b"x")).unwrap_err()),
            false => socket.resume().unwrap(),
        }
        assert_ended_below(&*socket);
    }
}

/// The same when the app gets to see it: it is ended before anything of it moves.
#[test]
fn an_accepted_socket_that_was_on_its_way_has_ended_when_the_app_gets_it() {
    let fake = Fake::new();
    fake.controls_fail.store(true, SeqCst);
    let (net, grant, log) = guarded(&fake, Privileged);
    let server = listen(&net, 8080).unwrap();
    log.take();
    fake.at(Moment::PeerAdmitted, move || grant.revoke());
    ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap();
    let Poll::Ready(Some(ServerEvent::Connect(socket))) = next_of(&*server) else {
        panic!("no connection");
    };
    assert_ended(&*socket);
    let told = log.lines();
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_grant_forgets_what_is_gone() {
    let fake = Fake::new();
    let (net, grant, _) = guarded(&fake, Privileged);
    let server = listen(&net, 8080).unwrap();
    for _ in 0..100 {
        drop(open(&net).unwrap());
        drop(accept(&fake, &*server));
    }
    assert_eq!(live(&grant), "Grant { level: Some(Privileged), live: 1 }");
    drop(server);
    assert_eq!(live(&grant), "Grant { level: Some(Privileged), live: 0 }");
}

/// Clones of an app are one app: its guards share the grant.
#[test]
fn all_guards_of_an_app_lose_the_grant() {
    let (one, two, other) = (app(Privileged), Fake::new(), Fake::new());
    let first = Guarded::new(two, one.clone(), Policy::firefox_os());
    let second = Guarded::new(other, one.clone(), Policy::firefox_os());
    let stranger = Guarded::new(Fake::new(), app(Privileged), Policy::firefox_os());
    let sockets = [open(&first).unwrap(), open(&second).unwrap()];
    let strangers = open(&stranger).unwrap();
    first.revoke();
    for socket in sockets {
        assert_ended(&*socket);
    }
    assert!(is_alive(&*strangers) && !one.has_permission());
    assert_refusal(&open(&second).unwrap_err());
}

/// A sink may do what it likes: it is called with no lock held, and after what was to be ended has been.
#[test]
fn a_sink_may_call_back_and_even_panic() {
    let app = app(Privileged);
    let grant = app.grant().clone();
    let panics = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = {
        let (grant, panics, seen) = (grant.clone(), panics.clone(), seen.clone());
        move |entry: &Entry| {
            if entry.is_bad() {
                grant.revoke();
            }
            seen.lock().unwrap().push(grant.level());
            assert!(!panics.load(SeqCst), "on purpose");
        }
    };
    let net = Guarded::new(Fake::new(), app, Policy::firefox_os()).with_audit(Arc::new(sink));
    let sockets: Vec<_> = (0..5).map(|_| open(&net).unwrap()).collect();
    panics.store(true, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| grant.revoke())).is_err());
    for socket in &sockets {
        assert_ended(&**socket);
    }
    assert_eq!(seen.lock().unwrap().last(), Some(&None));
    // Of a call, too: the sink is told first, and then there is no socket.
    grant.set_level(Privileged);
    assert!(catch_unwind(AssertUnwindSafe(|| open(&net))).is_err());
    panics.store(false, SeqCst);
    assert!(open(&net).is_ok());
}

/// Many threads open and listen while one revokes: afterwards there is nothing that lives.
#[test]
fn no_race_leaves_anything_alive() {
    for round in 0..50 {
        let fake = Fake::new();
        let (net, grant, _) = guarded(&fake, Privileged);
        let net = &net;
        let (sockets, servers) = thread::scope(|scope| {
            let openers: Vec<_> = (0..3u16)
                .map(|worker| {
                    scope.spawn(move || {
                        let (mut sockets, mut servers) = (Vec::new(), Vec::new());
                        for port in 2000..2020 {
                            sockets.extend(open(net));
                            servers.extend(listen(net, port + 100 * worker));
                        }
                        (sockets, servers)
                    })
                })
                .collect();
            scope.spawn(|| {
                for _ in 0..round {
                    thread::yield_now();
                }
                grant.revoke();
            });
            let results = openers.into_iter().map(|it| it.join().unwrap());
            results.fold((Vec::new(), Vec::new()), |mut all, it| {
                all.0.extend(it.0);
                all.1.extend(it.1);
                all
            })
        });
        assert!(sockets.iter().all(|it| !is_alive(&**it)), "round {round}");
        assert!(
            servers.iter().all(|it| next_of(&**it).is_ready()),
            "round {round}"
        );
        assert!(open(net).is_err());
    }
}
