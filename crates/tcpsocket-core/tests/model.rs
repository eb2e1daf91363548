//! Random scripts against a naive model of one socket: lists of bytes and the words of the specification.
//!
//! The model shares no code with the machine. After every step both must show the same state, buffered amount, answer and events;
//! the wire must hold what was accepted, in order, in the clear before an upgrade and inside TLS after it; and the descriptor must be
//! let go at the same moment. Every script ends with a peer that reads and finishes, so every socket must end.
//!
//! The seed is fixed. For more: `PROPTEST_RNG_SEED=$RANDOM PROPTEST_CASES=100000 cargo test --release --test model`.

mod naive;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tcpsocket::ReadyState::{Closed, Closing, Connecting, Open};
use tcpsocket::{BinaryType, ErrorName, Event};
use tcpsocket_core::{Input, Machine, Release, Settings};

use naive::{Answer, KIB64, LINGER, LINGER_AFTER_DROP, Model, PATTERN, Start, Step};
use world::{Arrival, World, error};

const CASES: u32 = 1_500;
// ----- the same step on the machine

fn start(start: Start) -> World {
    let settings = Settings::new(BinaryType::ArrayBuffer, start == Start::Tls, None);
    match start {
        Start::Accepted => World::connected(Machine::accepted(settings)),
        _ => World::dialling(Machine::connecting(settings)),
    }
}

fn perform(world: &mut World, queued: usize, step: Step) -> Answer {
    fn done(answer: Result<bool, tcpsocket::Error>) -> Answer {
        answer.map_or_else(|it| Answer::Refused(it.name()), Answer::Done)
    }
    match step {
        Step::Send(len) => {
            let from = queued % (1 << 20);
            let answer = world.send(PATTERN.slice(from..from + len));
            return answer.map_or_else(|it| Answer::Refused(it.name()), Answer::Sent);
        }
        Step::Suspend => world.suspend(),
        Step::Resume => return done(world.resume()),
        Step::Upgrade => return done(world.upgrade()),
        Step::Close => world.close(),
        Step::Abort => world.abort(None),
        Step::AbortWith => world.abort(Some(error(ErrorName::QuotaExceeded))),
        Step::Revoke => world.revoke(error(ErrorName::NotAllowed)),
        Step::Poll => {
            return match world.poll() {
                Poll::Pending => Answer::Pending,
                Poll::Ready(None) => Answer::Over,
                Poll::Ready(Some(Event::Open)) => Answer::Open,
                Poll::Ready(Some(Event::Data(data))) => Answer::Data(data.into_bytes()),
                Poll::Ready(Some(Event::Drain)) => Answer::Drain,
                Poll::Ready(Some(Event::Error(error))) => Answer::Error(error.name()),
                Poll::Ready(Some(Event::Close(close))) => Answer::Close { clean: close.clean },
                Poll::Ready(Some(other)) => panic!("{other:?} is no event that is known here"),
            };
        }
        Step::GiveUp => world.give_up(),
        Step::DropHandle => world.drop_handle(),
        Step::Connected => world.tell(Input::Connected),
        Step::ConnectFails => {
            world.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
        }
        Step::HandshakeDone => world.tell(Input::Secured),
        Step::HandshakeFails => {
            world.tell(Input::SecureFailed(error(
                ErrorName::SecurityBadCertificate,
            )));
        }
        Step::Room(bytes) => {
            world.room += bytes;
            world.work();
        }
        Step::WritesFail => {
            world.broken = true;
            world.work();
        }
        Step::Goodbye { blocked } => {
            world.goodbye_blocked = blocked;
            world.work();
        }
        Step::PeerSends(len) => {
            let data = PATTERN.slice(..len);
            world.arrives(match world.secured {
                true => Arrival::Secret(data),
                false => Arrival::Clear(data),
            });
        }
        Step::PeerEnds { clean } => {
            let clean = clean || !world.machine.ssl();
            world.arrives(Arrival::End { clean });
        }
        Step::PeerResets => world.arrives(Arrival::Failure(ErrorName::Network)),
        Step::Wait(time) => world.wait(Duration::from_millis(time)),
        Step::IdleTimer => world.tell(Input::Timer),
    }
    Answer::Nothing
}

// ----- comparing

/// What happened in how many scripts.
type Tally = BTreeMap<&'static str, u32>;

fn run(start_as: Start, steps: &[Step]) -> Result<Tally, TestCaseError> {
    let mut model = Model::new(start_as);
    let mut world = start(start_as);
    let begun = world.now;
    let mut events = Vec::new();
    let mut seen = Tally::new();

    // In the end everything is easy, and the script must come to its end.
    let finale = [
        Step::Connected,
        Step::Room(usize::MAX / 2),
        Step::HandshakeDone,
        Step::Goodbye { blocked: false },
    ];
    let polls = [Step::Poll].repeat(steps.len() + 8);
    let last = [Step::Close, Step::PeerEnds { clean: true }];
    let all = steps.iter().chain(&finale).chain(&polls).chain(&last);
    let all = all.chain(&polls[..6]).chain(&[Step::Wait(2 * LINGER)]);

    let mut idle = false;
    for (at, step) in all.enumerate() {
        let again = at >= steps.len() && idle && *step == Step::Poll;
        if again || !model.allows(*step) {
            continue;
        }
        let before = world.machine.buffered_amount();
        tally(&mut seen, start_as, &model, *step);
        let got = perform(&mut world, model.queued.len(), *step);
        let expected = model.step(*step);
        idle = matches!(got, Answer::Pending | Answer::Over);
        let place = || format!("at step {at}, {step:?}, of {start_as:?} {steps:?}");
        prop_assert!(
            got == expected,
            "the answer is {got:?}, not {expected:?}, {}",
            place()
        );

        let machine = &world.machine;
        macro_rules! same {
            ($what:literal, $got:expr, $expected:expr) => {{
                let (got, expected) = ($got, $expected);
                prop_assert!(
                    got == expected,
                    "{} is {:?}, not {:?}, {}",
                    $what,
                    got,
                    expected,
                    place()
                );
            }};
        }
        same!("ready_state", machine.ready_state(), model.state);
        let buffered = model.buffered_amount() as u64;
        same!("buffered_amount", machine.buffered_amount(), buffered);
        same!("ssl", machine.ssl(), model.ssl);
        same!("the turn", machine.in_turn(), model.turn);
        same!("over", machine.is_over(), model.over);
        same!("held", machine.held_bytes(), model.held());
        same!("dropped", world.dropped, model.dropped());
        same!("unread", world.arrived.len(), model.unread.len());
        same!("released", world.released.is_some(), model.released);
        same!(
            "handshaking",
            world.handshaking,
            model.shaking && !model.released
        );
        same!("the end of output", world.shut_down, model.fin_sent);
        let wire = world.clear.len() + world.secret.len();
        same!("the length of the wire", wire, model.sent);
        let deadline = machine
            .next_deadline()
            .map(|it| (it - begun).as_millis() as u64);
        same!("the deadline", deadline, model.deadline());
        if model.by_reset {
            same!("the end", world.released, Some(Release::Reset));
        }

        match &got {
            // Whatever happens, a turn only adds.
            _ if *step != Step::Poll && model.turn && model.state != Closed => {
                let after = world.machine.buffered_amount();
                let gave_up = *step == Step::GiveUp;
                prop_assert!(after >= before || gave_up, "a turn only grows, {}", place());
            }
            Answer::Drain => same!("buffered at drain", world.machine.buffered_amount(), 0),
            _ => {}
        }
        if *step == Step::Poll && !matches!(got, Answer::Pending | Answer::Over) {
            if let Answer::Error(name) = &got {
                *seen.entry("error event").or_default() = 1;
                if *name == ErrorName::NetworkTimeout && model.by_reset {
                    *seen.entry("linger expires with bytes").or_default() = 1;
                }
            }
            if got == Answer::Drain {
                let when = if model.state == Closing {
                    "drain while closing"
                } else {
                    "drain"
                };
                *seen.entry(when).or_default() = 1;
            }
            events.push(got);
        }
    }

    // The wire, byte by byte: in order, and on its own side of the upgrade.
    let barrier = model.barrier.unwrap_or(usize::MAX).min(model.sent);
    prop_assert!(
        world.clear == model.queued[..barrier],
        "in clear went what should not"
    );
    prop_assert!(
        world.secret == model.queued[barrier..model.sent],
        "inside TLS went what should not"
    );
    prop_assert_eq!(
        model.queued.len() + model.late,
        model.sent + world.dropped + world.machine.held_bytes()
    );
    prop_assert!(world.released.is_some(), "it is never let go");
    prop_assert_eq!(world.machine.next_deadline(), None);
    if model.handle {
        grammar(start_as, &events).map_err(TestCaseError::fail)?;
    } else {
        *seen.entry("handle dropped").or_default() = 1;
    }
    Ok(seen)
}

/// `Open (Data | Drain)* Error? Close`, and an end may come at any point of it (EVT-3).
fn grammar(start_as: Start, events: &[Answer]) -> Result<(), String> {
    let bad = |why: &str| Err(format!("{why}: {events:?}"));
    let Some((Answer::Close { clean }, rest)) = events.split_last() else {
        return bad("the last event is no Close");
    };
    let (failed, rest) = match rest.split_last() {
        Some((Answer::Error(_), rest)) => (true, rest),
        _ => (false, rest),
    };
    if failed && *clean {
        return bad("clean after an error");
    }
    let rest = match (start_as, rest.split_first()) {
        (Start::Plain | Start::Tls, Some((Answer::Open, rest))) => rest,
        (Start::Plain | Start::Tls, Some(_)) => return bad("the first event is no Open"),
        _ => rest,
    };
    match rest
        .iter()
        .all(|it| matches!(it, Answer::Data(_) | Answer::Drain))
    {
        true => Ok(()),
        false => bad("out of order"),
    }
}

/// Notes what is about to happen.
fn tally(seen: &mut Tally, start: Start, model: &Model, step: Step) {
    let mut saw = |what, yes| {
        if yes {
            seen.insert(what, 1);
        }
    };
    let unread = |it: &Arrival| matches!(it, Arrival::Clear(_) | Arrival::Secret(_));
    let data_pending = model.unread.iter().any(unread);
    let sum = match step {
        Step::Send(len) if model.state == Open => model.buffered_amount() + len,
        _ => 0,
    };
    let ends = matches!(step, Step::Close | Step::Abort | Step::AbortWith);
    saw("accepted", start == Start::Accepted);
    saw("TLS from the start", start == Start::Tls);
    saw("opened", model.was_open);
    saw("mark reached exactly", sum == KIB64);
    saw("mark crossed", sum > KIB64);
    saw(
        "suspended with data pending",
        model.state == Open && data_pending && (step == Step::Suspend || model.suspends > 0),
    );
    saw("suspended twice", model.suspends > 1);
    saw(
        "upgrade",
        step == Step::Upgrade && !model.ssl && model.state == Open && start == Start::Plain,
    );
    saw("bytes wait behind an upgrade", {
        let barrier = model.barrier.unwrap_or(usize::MAX);
        !model.secured && !model.cut && model.queued.len() > barrier
    });
    saw("upgrade done", model.secured && model.barrier > Some(0));
    saw("write error waits", model.waiting_error.is_some());
    saw("ended with bytes held", ends && model.held() > 0);
    saw(
        "given up while connecting",
        ends && model.state == Connecting,
    );
    saw("ended while closing", ends && model.state == Closing);
    saw(
        "peer ended first",
        model.peer_end.is_some() && model.state == Open,
    );
    saw(
        "peer ended, bytes held",
        model.peer_end.is_some() && model.state == Open && model.held() > 0,
    );
    saw("send after the end", model.late > 0);
    saw(
        "sent while parked",
        matches!(step, Step::Send(_)) && model.state == Open && !model.turn,
    );
    saw("revoked", step == Step::Revoke && !model.over);
    saw("lingers after Close", model.over && !model.released);
    saw("expires after Close", model.over && model.expired);
}

// ----- scripts

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        3 => Just(0),
        3 => Just(1),
        3 => Just(KIB64 - 1),
        3 => Just(KIB64),
        3 => Just(KIB64 + 1),
        2 => Just(1 << 20),
        3 => 2..100_usize,
        3 => 1_000..100_000_usize,
    ]
}

/// One step, or a few that belong together and would seldom meet by chance.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || size().prop_map(|it| it.max(2));
    let one = prop_oneof![
        60 => size().prop_map(Step::Send),
        66 => Just(Step::Poll),
        36 => some().prop_map(Step::Room),
        30 => prop_oneof![1..5_000_usize, Just(256 << 10)].prop_map(Step::PeerSends),
        15 => Just(Step::Suspend),
        18 => Just(Step::Resume),
        9 => Just(Step::GiveUp),
        12 => prop_oneof![0..2_000_u64, Just(4_999), Just(5_000), Just(29_999), Just(30_000)]
            .prop_map(Step::Wait),
        9 => Just(Step::Connected),
        12 => Just(Step::HandshakeDone),
        3 => Just(Step::Upgrade),
        3 => any::<bool>().prop_map(|clean| Step::PeerEnds { clean }),
        6 => any::<bool>().prop_map(|blocked| Step::Goodbye { blocked }),
        3 => Just(Step::IdleTimer),
        3 => Just(Step::Close),
        2 => Just(Step::Abort),
        2 => Just(Step::AbortWith),
        1 => Just(Step::Revoke),
        1 => Just(Step::DropHandle),
        1 => Just(Step::ConnectFails),
        1 => Just(Step::HandshakeFails),
        2 => Just(Step::WritesFail),
        2 => Just(Step::PeerResets),
    ];
    let together = prop_oneof![
        4 => Just(vec![Step::PeerSends(70_000), Step::Suspend]),
        1 => Just(vec![Step::Send(9), Step::Upgrade, Step::Send(7), Step::Room(8 << 20), Step::HandshakeDone]),
        1 => Just(vec![Step::Send(KIB64), Step::PeerEnds { clean: true }, Step::Poll, Step::Suspend]),
        1 => Just(vec![Step::Send(KIB64), Step::PeerEnds { clean: false }, Step::Poll, Step::Upgrade]),
        1 => Just(vec![Step::Goodbye { blocked: true }, Step::PeerEnds { clean: true }, Step::Poll]),
        1 => Just(vec![Step::PeerSends(5), Step::WritesFail, Step::Send(3)]),
        1 => Just(vec![Step::Room(8 << 20), Step::Send(KIB64), Step::PeerResets, Step::Close]),
        1 => Just(vec![Step::Send(KIB64), Step::Close, Step::Wait(LINGER)]),
        1 => Just(vec![Step::Send(KIB64), Step::DropHandle, Step::Wait(LINGER_AFTER_DROP)]),
    ];
    prop_oneof![
        25 => one.prop_map(|it| vec![it]),
        1 => together,
    ]
}

/// Where things begin and end: seldom in the middle of a script, and at its edges all alike.
fn turning_point() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Connected),
        Just(Step::ConnectFails),
        Just(Step::HandshakeDone),
        Just(Step::HandshakeFails),
        Just(Step::WritesFail),
        Just(Step::Goodbye { blocked: true }),
        Just(Step::PeerSends(3)),
        any::<bool>().prop_map(|clean| Step::PeerEnds { clean }),
        Just(Step::PeerResets),
        Just(Step::Poll),
        Just(Step::Send(KIB64)),
        Just(Step::Room(2 * KIB64)),
        Just(Step::Suspend),
        Just(Step::Upgrade),
        Just(Step::Close),
        Just(Step::Abort),
        Just(Step::AbortWith),
        Just(Step::Revoke),
        Just(Step::DropHandle),
        Just(Step::Wait(LINGER)),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Opening {
    Any,
    Open,
    Upgraded,
}

fn script() -> impl Strategy<Value = (Start, Vec<Step>)> {
    let start = prop_oneof![
        5 => Just(Start::Plain),
        2 => Just(Start::Tls),
        2 => Just(Start::Accepted),
    ];
    // Most scripts are about open sockets.
    let opened = prop_oneof![
        2 => Just(Opening::Any),
        6 => Just(Opening::Open),
        2 => Just(Opening::Upgraded),
    ];
    let before = prop::collection::vec(turning_point(), 0..6);
    let steps = prop::collection::vec(steps(), 0..50);
    let after = prop::collection::vec(turning_point(), 0..9);
    (start, opened, before, steps, after).prop_map(|(start, opened, before, steps, after)| {
        let before = match (start, opened) {
            (_, Opening::Any) => &before[..],
            (Start::Accepted, _) => &[],
            (Start::Plain, Opening::Upgraded) => &[
                Step::Connected,
                Step::Poll,
                Step::Send(9),
                Step::Upgrade,
                Step::Send(KIB64),
                Step::Room(9),
                Step::HandshakeDone,
            ],
            (Start::Plain, _) => &[Step::Connected, Step::Poll],
            (Start::Tls, _) => &[Step::Connected, Step::HandshakeDone, Step::Poll],
        };
        (start, [before, &steps.concat(), &after].concat())
    })
}

#[test]
fn the_machine_does_what_the_model_says() {
    let mut config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    if let Ok(cases) = std::env::var("PROPTEST_CASES") {
        config.cases = cases.parse().expect("PROPTEST_CASES is a number");
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(0x7c95);
    }
    let total = RefCell::new((0, Tally::new()));
    let result = TestRunner::new(config).run(&script(), |(start, steps)| {
        let seen = run(start, &steps)?;
        let mut total = total.borrow_mut();
        total.0 += 1;
        for (what, times) in seen {
            *total.1.entry(what).or_default() += times;
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }

    let (scripts, total) = total.into_inner();
    println!("{scripts} scripts, of which so many per cent saw:");
    let share =
        |what: &str| 100.0 * f64::from(total.get(what).copied().unwrap_or(0)) / f64::from(scripts);
    for what in total.keys() {
        println!("{:6.1}  {what}", share(what));
    }
    for (what, least) in [
        ("mark crossed", 30.0),
        ("suspended with data pending", 20.0),
    ] {
        let got = share(what);
        assert!(got >= least, "only {got:.1} % of the scripts saw: {what}");
    }
}
