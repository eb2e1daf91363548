//! The ends that neither the table nor the model reaches: limits, options, and a driver that is late.

mod world;

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tcpsocket::{BinaryType, ErrorName, Event, ReadyState};
use tcpsocket_core::{DISCARD_LIMIT, Input, Machine, Reading, Release, Settings};

use world::{Arrival, HANDSHAKE, World, error};

fn settings(linger: Option<Duration>) -> Settings {
    Settings::new(BinaryType::ArrayBuffer, false, linger)
}

fn accepted(linger: Option<Duration>) -> World {
    World::connected(Machine::accepted(settings(linger)))
}

/// Open, with this many bytes that the kernel has no room for.
fn holding(bytes: usize, linger: Option<Duration>) -> World {
    let mut world = accepted(linger);
    world
        .send(Bytes::from(vec![7; bytes]))
        .expect("it is open and takes output");
    world
}

/// The names of all events that are left, for comparing.
fn rest(world: &mut World) -> Vec<String> {
    let events = world.poll_all();
    let name = |event: &Event| match event {
        Event::Error(error) => error.name().to_string(),
        Event::Close(close) if close.clean => "clean".into(),
        Event::Close(_) => "unclean".into(),
        other => format!("{other:?}"),
    };
    events.iter().map(name).collect()
}

#[test]
fn so_much_is_discarded_and_no_more() {
    const STEP: usize = 1 << 20;
    let flood = Bytes::from(vec![0; STEP]);
    let mut world = holding(9, None);
    world.close();
    // What comes while output is still held does not count: the end of output is what the limit is about (CL-13).
    for _ in 0..=DISCARD_LIMIT / STEP as u64 {
        world.arrives(Arrival::Clear(flood.clone()));
    }
    world.room = 9;
    world.work();
    assert!(world.shut_down);
    assert_eq!(rest(&mut world), ["clean"]);

    for _ in 0..DISCARD_LIMIT / STEP as u64 {
        world.arrives(Arrival::Clear(flood.clone()));
    }
    assert_eq!(world.released, None, "64 MiB are still within the limit");
    world.arrives(Arrival::Clear(Bytes::from_static(b"x")));
    assert_eq!(world.released, Some(Release::Close));
}

#[test]
fn a_read_that_was_under_way_when_the_time_was_over_is_harmless() {
    let mut world = accepted(None);
    world.close();
    let late = world.now + Settings::LINGER;
    world.machine.handle(Input::Timer, late);
    assert_eq!(world.machine.wants_release(), Some(Release::Close));
    world.machine.handle(Input::Discarded(4096), late);
    assert_eq!(world.machine.wants_release(), Some(Release::Close));
}

#[test]
fn the_clock_expires_after_the_linger_that_was_asked_for() {
    let seconds = Duration::from_secs;
    for (option, dropped, expected) in [
        (None, false, 30),
        (None, true, 5),
        (Some(seconds(2)), false, 2),
        (Some(seconds(2)), true, 2),
        (Some(seconds(60)), false, 60),
        (Some(seconds(60)), true, 5),
        (Some(Duration::ZERO), false, 0),
    ] {
        let case = format!("linger {option:?}, dropped: {dropped}");
        let mut world = holding(2, option);
        match dropped {
            true => world.drop_handle(),
            false => world.close(),
        }
        let begun = world.now;
        let deadline = |world: &World| world.machine.next_deadline().map(|it| it - begun);
        assert_eq!(deadline(&world), Some(seconds(expected)), "{case}");
        if expected == 0 {
            world.wait(Duration::ZERO);
            assert_eq!(world.released, Some(Release::Reset), "{case}");
            continue;
        }

        // A byte that leaves sets it back; input does not.
        let almost = seconds(expected) - Duration::from_nanos(1);
        world.wait(almost);
        world.arrives(Arrival::Clear(Bytes::from_static(b"much ado")));
        world.room = 1;
        world.work();
        assert_eq!(deadline(&world), Some(almost + seconds(expected)), "{case}");
        world.tell(Input::Timer);
        assert_eq!(world.released, None, "a timer that is early, {case}");
        world.wait(almost);
        assert_eq!(world.released, None, "{case}");
        world.wait(Duration::from_nanos(1));
        assert_eq!(world.released, Some(Release::Reset), "{case}");
        assert_eq!(world.dropped, 1, "{case}");
        if !dropped {
            assert_eq!(rest(&mut world), ["NetworkTimeoutError", "unclean"]);
        }
    }
}

#[test]
fn a_linger_of_zero_with_nothing_held_ends_the_output_first() {
    let mut world = accepted(Some(Duration::ZERO));
    // A driver that looks at the clock before it does anything else.
    world.machine.close(world.now);
    assert_eq!(
        world.machine.next_deadline(),
        None,
        "or it would see no more"
    );
    world.machine.handle(Input::Timer, world.now);
    assert_eq!(world.machine.wants_release(), None, "no reset");
    world.work();
    assert!(world.shut_down);
    assert_eq!(rest(&mut world), ["clean"]);
    assert_eq!(world.machine.next_deadline(), Some(world.now));
    world.wait(Duration::ZERO);
    assert_eq!(world.released, Some(Release::Close), "nothing is discarded");
}

#[test]
fn a_drop_after_close_leaves_the_clock_as_it_is() {
    let mut world = holding(1, None);
    world.close();
    let deadline = world.machine.next_deadline();
    world.wait(Duration::from_secs(3));
    world.drop_handle();
    assert_eq!(world.machine.next_deadline(), deadline);
}

#[test]
fn after_the_end_of_output_the_peer_has_the_linger_time_to_finish() {
    let mut world = holding(1, None);
    world.close();
    world.wait(Duration::from_secs(20));
    world.room = 1;
    world.work();
    assert_eq!(rest(&mut world), ["clean"]);
    world.wait(Settings::LINGER - Duration::from_nanos(1));
    assert_eq!(world.machine.reading(), Reading::Discard);
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.released, Some(Release::Close), "and no reset");
    assert!(!world.machine.is_busy());
}

#[test]
fn a_handshake_that_never_ends_cannot_hold_a_close_up() {
    let mut world = World::dialling(Machine::connecting(settings(None)));
    world.tell(Input::Connected);
    assert!(matches!(world.poll(), Poll::Ready(Some(Event::Open))));
    world.upgrade().expect("it is open");
    world.close();
    assert!(world.handshaking && world.poll().is_pending());
    world.wait(Settings::LINGER);
    assert_eq!(world.released, Some(Release::Reset));
    // Nothing was held, so that nothing is lost.
    assert_eq!(rest(&mut world), ["clean"]);
}

#[test]
fn an_abort_while_closing_drops_what_is_held_and_says_goodbye() {
    let mut world = holding(1 << 16, None);
    world.close();
    world.room = 100;
    world.work();
    world.abort(None);
    assert_eq!((world.clear.len(), world.dropped), (100, (1 << 16) - 100));
    assert!(world.shut_down, "with a FIN");
    assert_eq!(world.released, None, "and no reset");
    // Neither the drain that was armed nor an error.
    assert_eq!(rest(&mut world), ["clean"]);
}

#[test]
fn a_control_works_as_long_as_anything_is_there() {
    // It lingers after its Close.
    let mut world = accepted(None);
    world.close();
    assert_eq!(rest(&mut world), ["clean"]);
    world.revoke(error(ErrorName::NotAllowed));
    assert_eq!(world.released, Some(Release::Reset));
    assert!(matches!(world.poll(), Poll::Ready(None)));

    // The last handle was dropped, and it is flushing.
    let mut world = holding(9, None);
    world.drop_handle();
    assert!(world.machine.is_busy());
    world.revoke(error(ErrorName::NotAllowed));
    assert_eq!((world.released, world.dropped), (Some(Release::Reset), 9));
    assert!(!world.machine.is_busy());

    // Nothing is left.
    world.revoke(error(ErrorName::NotAllowed));
    assert_eq!(world.machine.wants_release(), None);
}

#[test]
fn an_unseen_failure_goes_with_the_attempt_that_is_given_up() {
    type Failure = fn(&mut World);
    let failures: [(&str, Failure); 4] = [
        ("refused", |it| {
            it.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
        }),
        ("not admitted", |it| it.revoke(error(ErrorName::NotAllowed))),
        ("bad certificate", |it| {
            it.tell(Input::Connected);
            it.tell(Input::SecureFailed(error(
                ErrorName::SecurityBadCertificate,
            )));
        }),
        ("cut off in the handshake", |it| {
            it.tell(Input::Connected);
            it.arrives(Arrival::End { clean: false });
        }),
    ];
    for (name, fails) in failures {
        let settings = Settings::new(BinaryType::String, true, None);
        let mut world = World::dialling(Machine::connecting(settings));
        fails(&mut world);
        assert_eq!(world.machine.ready_state(), ReadyState::Connecting);
        assert!(world.machine.event_due(), "{name}");
        world.close();
        assert_eq!(rest(&mut world), ["clean"], "{name}");
    }
}

#[test]
fn of_several_errors_the_first_is_returned() {
    // A driver that learns of both before it can let go.
    let mut world = accepted(None);
    let (machine, now) = (&mut world.machine, world.now);
    machine.revoke(error(ErrorName::NotAllowed));
    machine.handle(Input::ReadFailed(error(ErrorName::Network)), now);
    machine.handle(Input::WriteFailed(error(ErrorName::Network)), now);
    machine.abort(Some(error(ErrorName::QuotaExceeded)), now);
    assert_eq!(rest(&mut world), ["NotAllowedError", "unclean"]);
}

#[test]
fn an_accepted_socket_stays_in_clear_and_says_so() {
    let mut world = accepted(None);
    let refused = world.upgrade().map_err(|it| it.name());
    assert_eq!(refused, Err(ErrorName::NotSupported));
    assert!(!world.machine.ssl());
    world.arrives(Arrival::Clear(Bytes::from_static(b"as before")));
    assert!(matches!(world.poll(), Poll::Ready(Some(Event::Data(_)))));
}

/// Open in the clear, with an upgrade whose handshake the peer does not answer.
fn stalled_upgrade() -> World {
    let mut world = World::connected(Machine::connecting(settings(None)));
    world.tell(Input::Connected);
    assert_eq!(rest(&mut world), ["Open"]);
    assert!(world.machine.upgrade().unwrap());
    world.work();
    assert!(world.handshaking);
    world
}

#[test]
fn a_handshake_that_stalls_ends_by_its_clock() {
    let mut world = stalled_upgrade();
    world.send(Bytes::from_static(b"never in clear")).unwrap();
    world.wait(HANDSHAKE - Duration::from_millis(1));
    assert!(rest(&mut world).is_empty(), "its time is not over");
    world.wait(Duration::from_millis(1));
    assert_eq!(rest(&mut world), ["NetworkTimeoutError", "unclean"]);
    assert!(world.clear.is_empty() && world.secret.is_empty());
    assert!(world.released.is_some());
}

#[test]
fn a_handshake_has_no_clock_once_it_has_succeeded() {
    let mut world = stalled_upgrade();
    world.tell(Input::Secured);
    assert_eq!(world.machine.next_deadline(), None);
    world.wait(HANDSHAKE * 2);
    assert!(rest(&mut world).is_empty());
}

#[test]
fn a_close_behind_a_stalled_handshake_ends_by_the_clock_that_is_over_first() {
    let mut world = stalled_upgrade();
    world.send(Bytes::from_static(b"never in clear")).unwrap();
    world.close();
    world.wait(Settings::LINGER);
    assert_eq!(rest(&mut world), ["NetworkTimeoutError", "unclean"]);

    let mut world = stalled_upgrade();
    world.wait(HANDSHAKE - Settings::LINGER / 2);
    world.close();
    world.wait(Settings::LINGER / 2);
    assert_eq!(rest(&mut world), ["NetworkTimeoutError", "unclean"]);
}

#[test]
fn an_alert_says_why_a_write_has_failed() {
    let mut world = stalled_upgrade();
    world.tell(Input::Secured);
    world.send(Bytes::from_static(b"x")).unwrap();
    world.tell(Input::WriteFailed(error(ErrorName::Network)));
    world.tell(Input::ReadFailed(error(ErrorName::SecurityNoCertificate)));
    assert_eq!(rest(&mut world), ["SecurityNoCertificateError", "unclean"]);
}
