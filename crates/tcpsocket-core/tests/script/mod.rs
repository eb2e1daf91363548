//! Any bytes are a script: steps of a caller, a kernel and a peer, and of a driver that repeats itself. Whatever they are, the
//! invariants of the machine hold. `tests/fuzz_script.rs` runs it on made-up bytes, `fuzz/` lets a fuzzer choose them.

use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tcpsocket::{BinaryType, ErrorName, Event, ReadyState};
use tcpsocket_core::{Input, Machine, Reading, Settings};

use crate::world::{Arrival, World, error};

const SIZES: [usize; 8] = [0, 1, 2, 65_535, 65_536, 65_537, 1 << 18, 1 << 20];

/// What a script led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) opens: usize,
    pub(crate) data: usize,
    pub(crate) drains: usize,
    pub(crate) errors: usize,
    pub(crate) closes: usize,
}

impl Seen {
    /// `Open (Data | Drain)* Error? Close`, and nothing after it; an end may come at any point (EVT-3).
    fn note(&mut self, event: &Event, world: &World, born_open: bool) {
        assert_eq!(self.closes, 0, "{event:?} comes after Close");
        let ended = self.errors > 0;
        let state = world.machine.ready_state();
        match event {
            Event::Open => {
                assert!(!born_open && *self == Seen::default(), "Open comes late");
                assert_eq!(state, ReadyState::Open);
                self.opens += 1;
            }
            Event::Data(_) => {
                assert!(born_open || self.opens == 1, "Data comes before Open");
                assert!(!ended, "Data comes after Error");
                assert_eq!(state, ReadyState::Open);
                self.data += 1;
            }
            Event::Drain => {
                assert!(born_open || self.opens == 1, "Drain comes before Open");
                assert!(!ended, "Drain comes after Error");
                assert_eq!(world.machine.buffered_amount(), 0, "Drain comes too early");
                self.drains += 1;
            }
            Event::Error(_) => {
                assert!(!ended, "a second Error");
                assert_eq!(state, ReadyState::Closed);
                self.errors += 1;
            }
            Event::Close(close) => {
                assert_eq!(state, ReadyState::Closed);
                assert!(!(close.clean && ended), "clean after an Error");
                self.closes += 1;
            }
            other => panic!("{other:?} is no event that is known here"),
        }
    }
}

/// Runs a script to its end, and the socket to its own.
///
/// # Panics
///
/// If an invariant does not hold.
pub(crate) fn run(script: &[u8]) -> Seen {
    let mut bytes = script.iter().copied();
    let mut next = || bytes.next();
    let start = next().unwrap_or(0);
    let settings = Settings::new(
        BinaryType::String,
        start & 1 != 0,
        (start & 2 != 0).then(|| Duration::from_secs(u64::from(start >> 3))),
    );
    let born_open = start & 4 != 0;
    let mut world = match born_open {
        true => World::connected(Machine::accepted(settings)),
        false => World::dialling(Machine::connecting(settings)),
    };
    let mut seen = Seen::default();
    let mut accepted = 0;
    let mut alive = true;
    let mut peer_finished = false;

    while let Some(step) = next() {
        let state = world.machine.ready_state();
        let operand = usize::from(step >> 5);
        let peer = !world.dialling && world.released.is_none() && !peer_finished;
        match step & 31 {
            // The caller, as long as there is one.
            0..=12 if !alive => {}
            0..=2 => {
                let before = world.machine.buffered_amount();
                let data = Bytes::from(vec![step; SIZES[operand]]);
                match world.send(data) {
                    Ok(go_on) => {
                        assert_eq!(state, ReadyState::Open);
                        accepted += SIZES[operand];
                        let sum = before + SIZES[operand] as u64;
                        assert_eq!(go_on, sum <= 65_536, "the wrong advice at {sum}");
                    }
                    Err(_) => assert_ne!(state, ReadyState::Open),
                }
            }
            3..=6 => match world.poll() {
                Poll::Ready(Some(event)) => seen.note(&event, &world, born_open),
                Poll::Ready(None) => assert_eq!(seen.closes, 1, "over without a Close"),
                Poll::Pending => assert_eq!(seen.closes, 0, "pending after Close"),
            },
            7 => world.give_up(),
            8 => world.suspend(),
            9 => drop(world.resume()),
            10 => drop(world.upgrade()),
            11 => match operand {
                0..=3 => world.close(),
                4 | 5 => world.abort(None),
                _ => world.abort(Some(error(ErrorName::QuotaExceeded))),
            },
            12 if operand == 0 => {
                alive = false;
                world.drop_handle();
            }
            13 if operand == 0 => world.revoke(error(ErrorName::NotAllowed)),
            // The network.
            14 if world.dialling => world.tell(match operand {
                0 => Input::ConnectFailed(error(ErrorName::ConnectionRefused)),
                _ => Input::Connected,
            }),
            15 if world.handshaking => world.tell(match operand {
                0 => Input::SecureFailed(error(ErrorName::Security)),
                _ => Input::Secured,
            }),
            16..=18 => {
                world.room += SIZES[operand];
                world.work();
            }
            19 => {
                world.broken |= operand == 0;
                world.work();
            }
            20 => {
                world.goodbye_blocked = operand == 0;
                world.work();
            }
            21..=23 if peer => {
                let data = Bytes::from(vec![step; SIZES[operand.clamp(1, 6)]]);
                world.arrives(match world.secured {
                    true => Arrival::Secret(data),
                    false => Arrival::Clear(data),
                });
            }
            24 if peer => {
                peer_finished = operand < 3;
                match operand {
                    0 | 1 => world.arrives(Arrival::End {
                        clean: operand == 0,
                    }),
                    2 => world.arrives(Arrival::Failure(ErrorName::Network)),
                    _ => {}
                }
            }
            25 => world.wait(Duration::from_millis(u64::from(next().unwrap_or(0)) * 200)),
            // A driver that says a thing twice, or too late.
            26 => world.tell(Input::Timer),
            27 => world.tell(Input::ReadDry),
            28 => world.tell(Input::Wrote(0)),
            29 if world.released.is_some() => world.tell(Input::Released),
            30 if !world.dialling => world.tell(Input::Connected),
            31 if world.machine.reading() == Reading::Discard => world.tell(Input::Discarded(1)),
            _ => {}
        }
        let after = world.machine.ready_state();
        assert!(
            after >= state,
            "the state went back from {after} to {state}"
        );
        if after == ReadyState::Closed {
            assert_eq!(world.machine.buffered_amount(), 0);
        }
    }

    // The end: a network that works, a caller that closes, a peer that finishes.
    if world.dialling {
        world.tell(Input::Connected);
    }
    world.room = usize::MAX;
    world.goodbye_blocked = false;
    world.work();
    if world.handshaking && world.released.is_none() {
        world.tell(Input::Secured);
    }
    world.drop_handle();
    for _ in 0..script.len() + 8 {
        if !alive || seen.closes > 0 {
            break;
        }
        match world.poll() {
            Poll::Ready(Some(event)) => seen.note(&event, &world, born_open),
            other => panic!("{other:?} instead of a Close"),
        }
    }
    assert!(!alive || seen.closes == 1, "events without end");
    if alive {
        assert!(matches!(world.poll(), Poll::Ready(None)));
    }
    world.arrives(Arrival::End { clean: true });
    world.wait(Settings::LINGER);
    assert!(world.released.is_some(), "it is never let go: {world:?}");
    assert_eq!(world.machine.next_deadline(), None);
    assert!(!world.machine.is_busy());
    let left = world.clear.len() + world.secret.len();
    assert_eq!(accepted, left + world.dropped, "bytes are lost or made up");
    seen
}
