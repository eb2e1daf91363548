//! The demo passes on the real implementation, and fails on every one that is broken on purpose, for the right reason.

mod faulty;
mod guards;

use std::sync::Arc;
use std::time::Duration;

use tcpsocket::SocketProvider;
use tcpsocket_smol::{Loop, Smol};

use self::faulty::{Fault, Faulty};
use super::judge::{Verdict, judge};
use super::log::Log;
use super::permissions::{Admit, guarded};
use super::{Plan, play, run};
use crate::exit::Exit;

/// Smaller and more patient than the usual one.
const PLAN: Plan = Plan {
    payload: 1 << 20,
    patience: Duration::from_millis(20),
    quiet: Duration::from_millis(20),
    deadline: Duration::from_secs(60),
    admit: guarded,
};

/// How many checks are of the first act alone; they stand behind the one that is of all acts.
const FIRST_ACT: usize = 10;

/// For faults that leave the act waiting for ever.
const HANGS: Plan = Plan {
    deadline: Duration::from_secs(3),
    ..PLAN
};

fn verdicts(plan: Plan, fault: Option<Fault>) -> Vec<Verdict> {
    let own_loop = Loop::new().unwrap();
    let net = Smol::on(&own_loop);
    let stage: Arc<dyn SocketProvider> = match fault {
        None => Arc::new(net.clone()),
        Some(fault) => Arc::new(Faulty::new(net.clone(), fault)),
    };
    own_loop.block_on(async {
        let log = play(stage, plan, &mut std::io::sink()).await.unwrap();
        net.idle().await;
        judge(&log)
    })
}

/// A fault, and the beginnings of the checks that have to fail for it, among others perhaps.
type Case = (Fault, &'static [&'static str]);

const DATA: &[Case] = &[
    (Fault::FlipByte, &["the server has"]),
    (Fault::FlipByteAtClient, &["the client has"]),
    (Fault::RepeatData, &["the server has"]),
    (Fault::LoseTail, &["the server has"]),
    (Fault::EmptyData, &["no Data is empty"]),
    (Fault::HugeData, &["no Data is empty"]),
    (Fault::IgnoreSuspend, &["no Data while suspended"]),
];

const SENDING: &[Case] = &[
    (Fault::NeverFalse, &["send answers"]),
    (Fault::FalseAtTheMark, &["send answers"]),
    (Fault::NothingBuffered, &["send answers"]),
    (Fault::RepeatDrain, &["one Drain for each arming"]),
    (Fault::EarlyDrain, &["one Drain for each arming"]),
    (Fault::DrainAfterClose, &["Open first"]),
];

const ORDER: &[Case] = &[
    (Fault::OpenTwice, &["Open first"]),
    (Fault::DataBeforeOpen, &["Open first"]),
    (Fault::DataAfterClose, &["Open first"]),
    (Fault::RepeatClose, &["one clean Close"]),
    (Fault::UncleanClose, &["one clean Close"]),
    (Fault::NoClose, &["one clean Close", "every act was played"]),
    (Fault::ErrorBeforeClose, &["no Error"]),
    (Fault::OpenAtOnce, &["states"]),
    (Fault::OpenForEver, &["states"]),
    (Fault::BackToConnecting, &["states"]),
];

const HANGING: &[Case] = &[
    (
        Fault::SwallowDrain,
        &["one Drain for each arming", "every act was played"],
    ),
    (Fault::LoseData, &["the server has", "every act was played"]),
];

/// A guard with a fault, and the beginnings of the checks that have to fail for it.
type GuardCase = (&'static str, Admit, &'static [&'static str]);

const GUARDS: &[GuardCase] = &[
    (
        "no guard",
        guards::none,
        &["a privileged app is refused", "its host is told"],
    ),
    (
        "no audit",
        guards::silent,
        &["its host is told", "a certified app", "the policy explains"],
    ),
    (
        "another policy to the host",
        guards::misleading,
        &["a certified app", "the policy explains"],
    ),
    (
        "a guard that tells why",
        guards::talkative,
        &["the app is not told"],
    ),
    (
        "a guard that takes certified apps for privileged ones",
        guards::strict,
        &["a certified app", "the policy explains"],
    ),
    (
        "a guard that refuses what it has admitted",
        guards::two_faced,
        &["a certified app"],
    ),
    (
        "a guard that denies low ports to clients",
        guards::against_clients,
        &["connecting to port 80"],
    ),
    (
        "a guard that never connects",
        guards::stuck,
        &["every act was played", "connecting to port 80"],
    ),
];

#[track_caller]
fn assert_failed(verdicts: &[Verdict], fault: &str, checks: &[&str]) {
    for check in checks {
        let failed = |it: &&Verdict| it.check.starts_with(check) && it.problem.is_some();
        assert_eq!(
            verdicts.iter().filter(failed).count(),
            1,
            "{fault} passed {check:?}: {verdicts:#?}"
        );
    }
}

#[track_caller]
fn assert_caught(plan: Plan, cases: &[Case]) {
    for (fault, checks) in cases {
        assert_failed(&verdicts(plan, Some(*fault)), &format!("{fault:?}"), checks);
    }
}

#[test]
fn the_real_one_passes_every_check() {
    for verdict in verdicts(PLAN, None) {
        assert!(verdict.problem.is_none(), "{verdict:?}");
    }
}

#[test]
fn a_wrapper_without_a_fault_passes_every_check() {
    for verdict in verdicts(PLAN, Some(Fault::None)) {
        assert!(verdict.problem.is_none(), "{verdict:?}");
    }
}

#[test]
fn faults_in_data_are_caught() {
    assert_caught(PLAN, DATA);
}

#[test]
fn faults_in_sending_are_caught() {
    assert_caught(PLAN, SENDING);
}

#[test]
fn faults_in_order_and_state_are_caught() {
    assert_caught(PLAN, ORDER);
}

#[test]
fn what_never_comes_is_caught() {
    assert_caught(HANGS, HANGING);
}

#[test]
fn faults_of_guards_are_caught() {
    for (fault, admit, checks) in GUARDS {
        let plan = Plan {
            admit: *admit,
            ..HANGS
        };
        let verdicts = verdicts(plan, None);
        assert_failed(&verdicts, fault, checks);
        // The first act knows nothing of guards.
        for verdict in verdicts.iter().skip(1).take(FIRST_ACT) {
            assert!(verdict.problem.is_none(), "{fault}: {verdict:?}");
        }
    }
}

#[test]
fn every_check_fails_for_some_fault() {
    let cases = [DATA, SENDING, ORDER, HANGING].concat();
    for Verdict { check, .. } in judge(&Log::default()) {
        let guards = GUARDS.iter().flat_map(|(_, _, checks)| *checks);
        let mut failing = cases.iter().flat_map(|(_, checks)| *checks).chain(guards);
        assert!(
            failing.any(|it| check.starts_with(it)),
            "{check:?} is never seen failing"
        );
    }
}

#[test]
fn a_failed_check_is_printed_and_fails_the_command() {
    let own_loop = Loop::new().unwrap();
    let net = Arc::new(Faulty::new(Smol::on(&own_loop), Fault::UncleanClose));
    let mut out = Vec::new();
    let failure = own_loop.block_on(run(net, &mut out)).unwrap_err();
    assert_eq!(failure.exit(), Exit::Other);
    assert_eq!(failure.to_string(), "1 check failed");
    let printed = String::from_utf8(out).unwrap();
    assert_eq!(
        printed.matches("  FAILED  one clean Close").count(),
        1,
        "{printed}"
    );
}
