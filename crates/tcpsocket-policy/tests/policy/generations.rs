//! Grants that are taken and given again while something is under way: what began before ends all the same (PERM-23).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;

use tcpsocket::{Event, ListenRequest, ServerEvent, SocketProvider};
use tcpsocket_policy::{Grant, Guarded, Level, Policy};

use Level::{Certified, Hosted, Privileged};

use crate::fake::{Fake, Moment};
use crate::log::{
    Log, app, assert_denied, assert_ended, assert_ended_below, assert_refusal, assert_server_ended,
    listen, next, next_of, open, ready,
};

const PEER: ([u8; 4], u16) = ([192, 0, 2, 7], 5000);

fn guarded(fake: &Fake, level: Level) -> (Guarded<Fake>, Grant, Log) {
    let log = Log::default();
    let app = app(level);
    let grant = app.grant().clone();
    let net = Guarded::new(fake.clone(), app, Policy::firefox_os()).with_audit(log.sink());
    (net, grant, log)
}

/// Ways to take something away and to give it back: through nothing, or through a level that is too low.
const DETOURS: [Option<Level>; 2] = [None, Some(Hosted)];

fn detour(grant: &Grant, by: Option<Level>, back: Level) {
    match by {
        Some(level) => grant.set_level(level),
        None => grant.revoke(),
    }
    grant.set_level(back);
}

#[test]
fn a_call_under_way_is_refused_although_the_grant_is_back() {
    for by in DETOURS {
        for moment in [
            Moment::Called,
            Moment::NameAdmitted,
            Moment::Watched,
            Moment::Connected,
        ] {
            let fake = Fake::new();
            let (net, grant, log) = guarded(&fake, Privileged);
            let host = grant.clone();
            fake.at(moment, move || detour(&host, by, Privileged));
            assert_refusal(&open(&net).expect_err(&format!("{moment:?} {by:?}")));
            let told = log.lines();
            assert!(told.last().unwrap().starts_with("denied open"), "{told:?}");
            // The next call is a new one.
            assert!(matches!(next(&*open(&net).unwrap()), Some(Event::Open)));
        }
        for moment in [Moment::Bound, Moment::Listening] {
            let fake = Fake::new();
            let (net, grant, log) = guarded(&fake, Privileged);
            let host = grant.clone();
            fake.at(moment, move || detour(&host, by, Privileged));
            assert_refusal(&listen(&net, 8080).expect_err(&format!("{moment:?} {by:?}")));
            assert_eq!(fake.ended.load(SeqCst), 1, "{moment:?}");
            assert!(!fake.listens_on(8080), "{moment:?}");
            let told = log.lines();
            assert!(
                told.last().unwrap().starts_with("denied listen"),
                "{told:?}"
            );
            assert!(next_of(&*listen(&net, 8080).unwrap()).is_pending());
        }
    }
}

/// Lowered and raised again: what the lower level denies does not come to life, whatever the level is by then.
#[test]
fn a_low_port_that_is_being_bound_is_given_back_when_the_level_was_lower_meanwhile() {
    for moment in [Moment::Bound, Moment::Listening] {
        let fake = Fake::new();
        let (net, grant, _) = guarded(&fake, Certified);
        let host = grant.clone();
        fake.at(moment, move || detour(&host, Some(Privileged), Certified));
        assert_refusal(&listen(&net, 80).expect_err(&format!("{moment:?}")));
        assert!(!fake.listens_on(80), "{moment:?}");
        assert!(next_of(&*listen(&net, 80).unwrap()).is_pending());

        // What the lower level allows goes on.
        let host = grant.clone();
        fake.at(moment, move || detour(&host, Some(Privileged), Certified));
        assert!(next_of(&*listen(&net, 8080).unwrap()).is_pending());
        let host = grant.clone();
        fake.at(Moment::Watched, move || {
            detour(&host, Some(Privileged), Certified)
        });
        assert!(matches!(next(&*open(&net).unwrap()), Some(Event::Open)));
    }
}

/// A server that its control has not reached: neither a peer that is asked about meanwhile nor one that comes later gets in.
#[test]
fn a_peer_under_way_does_not_get_in_although_the_grant_is_back() {
    for by in DETOURS {
        let fake = Fake::new();
        fake.controls_fail.store(true, SeqCst);
        let (net, grant, log) = guarded(&fake, Privileged);
        let server = listen(&net, 8080).unwrap();
        log.take();
        let host = grant.clone();
        fake.at(Moment::PeerAdmitted, move || detour(&host, by, Privileged));
        ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap();
        let Poll::Ready(Some(ServerEvent::Connect(socket))) = next_of(&*server) else {
            panic!("no connection");
        };
        assert_ended(&*socket);
        assert_eq!(log.lines().len(), 3);

        let late = ready(fake.peer(8080, SocketAddr::from(PEER)));
        assert_denied(&late.unwrap_err());
    }
}

/// Nothing of it moves, not even once: neither out nor in.
#[test]
fn an_accepted_socket_that_nobody_has_seen_yet_moves_nothing() {
    for by in DETOURS {
        let fake = Fake::new();
        let (net, grant, _) = guarded(&fake, Privileged);
        let server = listen(&net, 8080).unwrap();
        let host = grant.clone();
        fake.at(Moment::PeerAdmitted, move || detour(&host, by, Privileged));
        ready(fake.peer(8080, SocketAddr::from(PEER))).unwrap();
        assert_server_ended(&*server);
        let socket = fake.pending(8080);
        let sent = socket.send(tcpsocket::Bytes::from_static(b"x"));
        assert_denied(&sent.unwrap_err());
        assert_ended_below(&*socket);
    }
}

/// A `listen` that waits for a gate of its host's while the grant goes and comes back.
#[test]
fn a_listen_that_waits_ends_in_a_refusal() {
    let fake = Fake::new();
    let (net, grant, _) = guarded(&fake, Privileged);
    let net = Arc::new(net);
    fake.waits_to_bind.store(true, SeqCst);
    let mut listening = net.listen_with(ListenRequest::new(8080).unwrap());
    let mut poll = || {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        listening.as_mut().poll(&mut cx)
    };
    assert!(poll().is_pending());
    detour(&grant, None, Privileged);
    fake.waits_to_bind.store(false, SeqCst);
    match poll() {
        Poll::Ready(Err(refused)) => assert_refusal(&refused),
        other => panic!("{other:?}"),
    }
    assert!(!fake.listens_on(8080));
}
