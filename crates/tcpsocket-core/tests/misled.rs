//! Drivers that say what is not so, twice, too early or too late.
//!
//! Whatever a driver tells, in whatever state: nothing panics, no counter wraps, no byte passes the barrier of an upgrade, nothing that
//! came in the clear is delivered as if it were secret, and there is exactly one `Close`. The same in builds with and without debug
//! assertions, which is why the machine has none.

mod world;

use std::fmt;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tcpsocket::{BinaryType, Error, ErrorName, Event, ReadyState};
use tcpsocket_core::{DISCARD_LIMIT, Input, Machine, Reading, Release, Settings};

use world::error;

/// What is sent before TLS was asked for, and after.
const CLEAR: u8 = b'c';
const SECRET: u8 = b's';

/// A machine, and what must be true of it whatever it is told.
struct Watched {
    machine: Machine,
    now: Instant,
    /// What was accepted in all.
    accepted: u64,
    /// A handshake that was asked for was begun.
    shaking: bool,
    /// It succeeded: from here on, bytes are inside TLS.
    protected: bool,
    state: ReadyState,
    events: Vec<String>,
}

impl Watched {
    fn new(machine: Machine) -> Watched {
        Watched {
            state: machine.ready_state(),
            machine,
            now: Instant::now(),
            accepted: 0,
            shaking: false,
            protected: false,
            events: Vec::new(),
        }
    }

    fn tell(&mut self, input: Input) {
        let asked = self.machine.wants_tls();
        match &input {
            Input::TlsStarted { .. } if asked => self.shaking = true,
            Input::Secured if self.shaking => self.protected = true,
            _ => {}
        }
        self.machine.handle(input, self.now);
        self.holds();
    }

    fn send(&mut self, len: usize) {
        const MOST: usize = 65_539;
        let bytes = match self.machine.ssl() {
            true => Bytes::from_static(&[SECRET; MOST]),
            false => Bytes::from_static(&[CLEAR; MOST]),
        };
        if self.machine.send(bytes.slice(..len)).is_ok() {
            self.accepted += len as u64;
        }
        self.holds();
    }

    fn receive(&mut self, data: &'static [u8]) {
        let deliver = self.machine.reading() == Reading::Deliver && !data.is_empty();
        let event = self.machine.received(Bytes::from_static(data));
        assert_eq!(event.is_some(), deliver, "data that nobody asked for");
        self.holds();
    }

    fn poll(&mut self) {
        if self.machine.is_over() {
            assert!(self.machine.take_event().is_none(), "an event after Close");
            return;
        }
        self.machine.end_turn();
        // Twice, since the first may only want the own end of output sent.
        let event = self
            .machine
            .take_event()
            .or_else(|| self.machine.take_event());
        if let Some(event) = event {
            self.events.push(match event {
                Event::Error(error) => error.name().to_string(),
                Event::Close(close) if close.clean => "clean".into(),
                Event::Close(_) => "unclean".into(),
                other => format!("{other:?}"),
            });
        }
        self.holds();
    }

    fn count(&self, event: impl Fn(&str) -> bool) -> usize {
        self.events.iter().filter(|it| event(it)).count()
    }

    fn holds(&mut self) {
        let machine = &self.machine;
        let state = machine.ready_state();
        assert!(state >= self.state, "the state moved back");
        self.state = state;
        assert!(machine.writable_bytes() <= machine.held_bytes());
        assert!(machine.held_bytes() as u64 <= self.accepted, "it wrapped");
        assert!(machine.buffered_amount() <= self.accepted, "it wrapped");
        if machine.ssl() && !self.protected {
            let reading = machine.reading();
            assert_ne!(reading, Reading::Deliver, "clear text, as if secret");
        }
        let mut slices = [IoSlice::new(&[]); 16];
        let (filled, bytes) = machine.gather(usize::MAX, &mut slices);
        assert!(bytes <= machine.writable_bytes());
        let leaves = match self.protected {
            true => SECRET,
            false => CLEAR,
        };
        // A chunk is of one kind.
        let ends = |it: &IoSlice<'_>| [it[0], it[it.len() - 1]];
        let shown = slices[..filled].iter().flat_map(ends);
        assert!(shown.into_iter().all(|it| it == leaves), "past the barrier");
    }

    /// The caller closes, and from here on the driver is faithful.
    fn finish(&mut self) {
        self.machine.close(self.now);
        for _ in 0..64 {
            self.poll();
            if self.machine.wants_release().is_some() {
                self.tell(Input::Released);
            } else if self.machine.writable_bytes() > 0 {
                self.tell(Input::Wrote(self.machine.writable_bytes()));
            } else if self.machine.wants_shutdown() {
                self.tell(Input::ShutDown);
            } else if let Some(deadline) = self.machine.next_deadline() {
                self.now = self.now.max(deadline);
                self.tell(Input::Timer);
            }
        }
        let closes = self.count(|it| it.ends_with("clean"));
        assert_eq!(closes, 1, "{:?}", self.events);
        assert!(self.count(|it| it == "Open") <= 1, "{:?}", self.events);
        let errors = self.count(|it| it.ends_with("Error"));
        assert!(errors <= 1, "{:?}", self.events);
        assert!(self.machine.is_over());
        assert_eq!(self.machine.wants_release(), None, "it is never let go");
        assert_eq!(self.machine.next_deadline(), None);
        assert_eq!(self.machine.reading(), Reading::No);
        assert!(!self.machine.is_busy());
    }
}

fn connecting(secure: bool) -> Watched {
    let settings = Settings::new(BinaryType::ArrayBuffer, secure, None);
    Watched::new(Machine::connecting(settings))
}

fn open() -> Watched {
    let mut it = connecting(false);
    it.tell(Input::Connected);
    it.poll();
    it
}

fn holding() -> Watched {
    let mut it = open();
    it.send(9);
    it
}

/// With nine bytes in front of the barrier and five behind it.
fn upgrading() -> Watched {
    let mut it = holding();
    it.machine.upgrade().unwrap();
    it.send(5);
    it
}

fn handshaking() -> Watched {
    let mut it = upgrading();
    it.tell(Input::Wrote(9));
    it.tell(started(&it));
    it
}

fn started(it: &Watched) -> Input {
    let until = it.now + Duration::from_secs(5);
    Input::TlsStarted { until }
}

fn closed(mut it: Watched) -> Watched {
    it.machine.close(it.now);
    it
}

type Situation = fn() -> Watched;

/// Every situation that a machine can be in.
const SITUATIONS: &[(&str, Situation)] = &[
    ("connecting", || connecting(false)),
    ("connecting for TLS", || connecting(true)),
    ("connected, not told", || {
        let mut it = connecting(false);
        it.tell(Input::Connected);
        it
    }),
    ("connected for TLS", || {
        let mut it = connecting(true);
        it.tell(Input::Connected);
        it
    }),
    ("given up", || closed(connecting(false))),
    ("given up with TLS", || closed(connecting(true))),
    ("failed to connect", || {
        let mut it = connecting(false);
        it.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
        it
    }),
    ("open", open),
    ("accepted", || {
        let settings = Settings::new(BinaryType::ArrayBuffer, false, None);
        Watched::new(Machine::accepted(settings))
    }),
    ("open, holding", holding),
    ("open, over the mark", || {
        let mut it = open();
        it.send(65_539);
        it
    }),
    ("suspended", || {
        let mut it = holding();
        it.machine.suspend();
        it
    }),
    ("a write error is held", || {
        let mut it = holding();
        it.tell(Input::WriteFailed(error(ErrorName::Network)));
        it
    }),
    ("the peer has ended", || {
        let mut it = holding();
        it.tell(Input::Ended { clean: true });
        it
    }),
    ("upgrading", upgrading),
    ("handshaking", handshaking),
    ("secured", || {
        let mut it = handshaking();
        it.tell(Input::Secured);
        it
    }),
    ("closing, holding", || closed(holding())),
    ("closing, upgrading", || closed(upgrading())),
    ("closing, handshaking", || closed(handshaking())),
    ("closing, flushed", || closed(open())),
    ("discarding", || {
        let mut it = closed(open());
        it.tell(Input::ShutDown);
        it
    }),
    ("lingering after Close", || {
        let mut it = closed(open());
        it.tell(Input::ShutDown);
        it.poll();
        it
    }),
    ("failed, not told", || {
        let mut it = holding();
        it.tell(Input::ReadFailed(error(ErrorName::Network)));
        it
    }),
    ("failed, told", || {
        let mut it = holding();
        it.tell(Input::ReadFailed(error(ErrorName::Network)));
        it.poll();
        it
    }),
    ("aborted", || {
        let mut it = upgrading();
        it.machine.abort(None, it.now);
        it
    }),
    ("revoked and let go", || {
        let mut it = holding();
        it.machine.revoke(error(ErrorName::NotAllowed));
        it.tell(Input::Released);
        it
    }),
    ("over", || {
        let mut it = holding();
        it.machine.abort(Some(error(ErrorName::NotAllowed)), it.now);
        it.tell(Input::Released);
        it.poll();
        it.poll();
        it
    }),
];

/// Every input, with arguments at the edges.
const INPUTS: usize = 22;

fn input(n: usize, it: &Watched) -> Input {
    match n {
        0 => Input::Connected,
        1 => Input::ConnectFailed(error(ErrorName::ConnectionRefused)),
        2 => Input::Wrote(0),
        3 => Input::Wrote(1),
        4 => Input::Wrote(9),
        5 => Input::Wrote(14),
        6 => Input::Wrote(usize::MAX),
        7 => Input::WriteFailed(error(ErrorName::Network)),
        8 => Input::ReadDry,
        9 => Input::Ended { clean: true },
        10 => Input::Ended { clean: false },
        11 => Input::ReadFailed(error(ErrorName::Network)),
        12 => Input::Discarded(1),
        13 => Input::Discarded(usize::MAX),
        14 => started(it),
        15 => Input::TlsStarted { until: it.now },
        16 => Input::Secured,
        17 => Input::SecureFailed(error(ErrorName::Security)),
        18 => Input::ShutDown,
        19 => Input::ShutDownFailed(error(ErrorName::Network)),
        20 => Input::Released,
        _ => Input::Timer,
    }
}

#[test]
fn every_input_in_every_situation_and_after_every_other() {
    for (name, situation) in SITUATIONS {
        for first in 0..INPUTS {
            for second in 0..INPUTS {
                // A panic is to say where.
                println!("{name}: {first}, {second}");
                let mut it = situation();
                it.tell(input(first, &it));
                it.receive(b"unasked");
                it.send(7);
                it.tell(input(second, &it));
                it.poll();
                it.finish();
            }
        }
    }
}

#[test]
fn whatever_it_is_told_in_whatever_order() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 32) as usize % below
    };
    let (mut opened, mut failed, mut protected) = (0, 0, 0);
    for _ in 0..20_000 {
        let mut it = match next(3) {
            0 => Watched::new(Machine::accepted(Settings::new(
                BinaryType::ArrayBuffer,
                false,
                None,
            ))),
            n => connecting(n == 1),
        };
        for _ in 0..next(40) {
            match next(48) {
                0..=5 => it.poll(),
                6..=11 => it.send([0, 1, 9, 65_535, 65_536, 65_539][next(6)]),
                12 => it.machine.suspend(),
                13 => drop(it.machine.resume()),
                14 | 15 => drop(it.machine.upgrade()),
                16 => it.machine.begin_turn(),
                17 if next(4) == 0 => it.machine.close(it.now),
                18 if next(4) == 0 => it.machine.abort(None, it.now),
                19 if next(4) == 0 => it
                    .machine
                    .abort(Some(error(ErrorName::QuotaExceeded)), it.now),
                20 if next(4) == 0 => it.machine.revoke(error(ErrorName::NotAllowed)),
                21 if next(4) == 0 => it.machine.abandon(it.now),
                22 | 23 => it.receive([&b""[..], b"x"][next(2)]),
                24 => it.now += Duration::from_millis(next(20_000) as u64),
                25..=28 => it.tell(Input::Connected),
                29..=31 => it.tell(started(&it)),
                32..=34 => it.tell(Input::Secured),
                35..=37 => it.tell(Input::Wrote(it.machine.writable_bytes())),
                38 | 39 => it.tell(input(next(INPUTS), &it)),
                // Those that do not end it at once.
                _ => it.tell(input(
                    [0, 2, 3, 4, 5, 6, 8, 12, 13, 14, 16, 18][next(12)],
                    &it,
                )),
            }
            it.holds();
        }
        it.finish();
        opened += it.count(|event| event == "Open");
        failed += it.count(|event| event.ends_with("Error"));
        protected += usize::from(it.protected);
    }
    println!("{opened} opened, {failed} failed, {protected} protected");
    assert!(opened > 1_000 && failed > 1_000 && protected > 1_000);
}

// ----- what each means

#[test]
fn more_written_than_was_shown_moves_no_barrier_and_takes_no_byte_from_behind_it() {
    for claim in [10, 14, 1 << 20, usize::MAX] {
        let mut it = upgrading();
        it.tell(Input::Wrote(claim));
        assert!(it.machine.wants_tls(), "what was in front has left");
        assert_eq!(it.machine.held_bytes(), 5);
        assert_eq!(
            it.machine.writable_bytes(),
            0,
            "nothing until it is secured"
        );
        it.tell(Input::Wrote(claim));
        assert_eq!(it.machine.held_bytes(), 5, "while the barrier stands");
        it.tell(started(&it));
        it.tell(Input::Wrote(claim));
        assert_eq!(it.machine.held_bytes(), 5, "while hands are shaken");
        it.tell(Input::Secured);
        assert_eq!(it.machine.writable_bytes(), 5);
        it.tell(Input::Wrote(claim));
        assert_eq!(it.machine.held_bytes(), 0);
        it.send(3);
        assert_eq!(it.machine.buffered_amount(), 17, "a turn only grows");
        it.poll();
        assert_eq!(it.machine.buffered_amount(), 3);
    }
}

#[test]
fn data_that_nobody_asked_for_is_dropped() {
    for (name, situation) in SITUATIONS {
        let mut it = situation();
        let (reading, turn) = (it.machine.reading(), it.machine.in_turn());
        let event = it.machine.received(Bytes::from_static(b"in clear"));
        assert_eq!(event.is_some(), reading == Reading::Deliver, "{name}");
        assert!(event.is_some() || it.machine.in_turn() == turn, "{name}");
    }
}

#[test]
fn a_descriptor_that_is_let_go_unasked_is_a_connection_that_is_lost() {
    for (situation, expected) in [
        (open as Situation, "NetworkInterruptError"),
        (holding, "NetworkInterruptError"),
        (|| connecting(true), "NetworkInterruptError"),
        (handshaking, "NetworkInterruptError"),
        (|| closed(holding()), "NetworkInterruptError"),
        // Here an error waits already, and it was the first.
        (
            || {
                let mut it = holding();
                it.tell(Input::WriteFailed(error(ErrorName::QuotaExceeded)));
                it
            },
            "QuotaExceededError",
        ),
    ] {
        let mut it = situation();
        it.events.clear();
        it.tell(Input::Released);
        it.poll();
        it.poll();
        assert_eq!(it.events, [expected, "unclean"]);
        assert_eq!(it.machine.wants_release(), None);
    }
    // Nothing is lost any more.
    let mut it = closed(open());
    it.events.clear();
    it.tell(Input::ShutDown);
    it.tell(Input::Released);
    it.poll();
    assert_eq!(it.events, ["clean"]);
}

#[test]
fn what_comes_after_the_descriptor_is_gone_changes_nothing() {
    for n in 0..INPUTS {
        let mut it = holding();
        it.events.clear();
        it.tell(Input::ReadFailed(error(ErrorName::Network)));
        assert_eq!(it.machine.wants_release(), Some(Release::Close));
        it.tell(Input::Released);
        it.tell(input(n, &it));
        it.poll();
        it.tell(input(n, &it));
        it.poll();
        assert_eq!(it.events, ["NetworkError", "unclean"], "input {n}");
    }
}

#[test]
fn an_end_of_output_that_nobody_wanted_ends_nothing() {
    for failed in [false, true] {
        let told = || match failed {
            true => Input::ShutDownFailed(error(ErrorName::Network)),
            false => Input::ShutDown,
        };
        let mut it = closed(holding());
        it.events.clear();
        it.tell(told());
        assert_eq!(it.machine.writable_bytes(), 9, "what is held still leaves");
        it.poll();
        assert!(it.events.is_empty());
        it.tell(Input::Wrote(9));
        it.tell(Input::ShutDown);
        it.poll();
        assert_eq!(it.events, ["clean"]);
        // Once more.
        it.tell(told());
        assert_eq!(it.machine.reading(), Reading::Discard);
    }
}

/// A cause that tells when it is dropped.
#[derive(Debug)]
struct Cause(Arc<AtomicUsize>);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cause")
    }
}

impl std::error::Error for Cause {}

impl Drop for Cause {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn no_error_is_dropped_but_by_whoever_takes_what_is_spent() {
    let failures: [fn(Error) -> Input; 5] = [
        Input::ConnectFailed,
        Input::WriteFailed,
        Input::ReadFailed,
        Input::SecureFailed,
        Input::ShutDownFailed,
    ];
    for (name, situation) in SITUATIONS {
        for failure in failures {
            for first in 0..INPUTS {
                let drops = Arc::new(AtomicUsize::new(0));
                let mut it = situation();
                it.tell(input(first, &it));
                for _ in 0..2 {
                    let cause = Cause(drops.clone());
                    it.tell(failure(Error::with_source(
                        ErrorName::Network,
                        "failed",
                        cause,
                    )));
                }
                let spent = it.machine.take_spent();
                assert_eq!(drops.load(SeqCst), 0, "{name}, {first}");
                drop(spent);
            }
        }
    }
}

#[test]
fn a_stream_ends_once() {
    let mut it = holding();
    it.events.clear();
    it.tell(Input::Ended { clean: true });
    it.tell(Input::Ended { clean: false });
    it.tell(Input::ReadFailed(error(ErrorName::Network)));
    it.tell(Input::Wrote(9));
    it.poll();
    it.tell(Input::ShutDown);
    it.poll();
    assert_eq!(it.events, ["clean"]);
}

#[test]
fn a_session_that_cannot_be_made_ends_the_socket_before_it_was_begun() {
    for situation in [|| connecting(true), upgrading] as [Situation; 2] {
        let mut it = situation();
        it.events.clear();
        it.tell(Input::Connected);
        it.tell(Input::SecureFailed(error(ErrorName::Security)));
        it.poll();
        it.poll();
        assert_eq!(it.events, ["SecurityError", "unclean"]);
    }
}

#[test]
fn an_attempt_that_connects_when_it_was_given_up_is_closed_as_a_connection() {
    let mut it = closed(connecting(false));
    it.tell(Input::Connected);
    assert!(it.machine.wants_shutdown());
    it.tell(Input::ShutDown);
    it.poll();
    assert_eq!(it.events, ["clean"], "and never open");
}

#[test]
fn attempts_that_fail_beside_the_one_that_connected_are_nobodys_business() {
    let mut it = open();
    it.events.clear();
    it.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
    it.poll();
    assert!(it.events.is_empty());
    assert_eq!(it.machine.reading(), Reading::Deliver);
}

#[test]
fn what_is_discarded_beyond_all_counting_is_over_the_limit() {
    let mut it = closed(open());
    it.tell(Input::Discarded(usize::MAX));
    assert_eq!(
        it.machine.wants_release(),
        None,
        "it counts from the end of output on"
    );
    it.tell(Input::ShutDown);
    it.tell(Input::Discarded(usize::try_from(DISCARD_LIMIT).unwrap()));
    assert_eq!(it.machine.wants_release(), None);
    it.tell(Input::Discarded(usize::MAX));
    it.tell(Input::Discarded(usize::MAX));
    assert_eq!(it.machine.wants_release(), Some(Release::Close));
}
