//! Executes the two tables of `docs/spec/states.md` on the machine: every stimulus in every state.
//!
//! Nothing is written twice: what a cell expects is read from the page, and what this file knows is how to bring a socket into a
//! state and how to make a stimulus happen. A cell that says `impossible` is executed too: a faithful driver in that state must
//! find no occasion for the stimulus.

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tcpsocket::{BinaryType, ErrorName, Event, MARK, ReadyState};
use tcpsocket_core::{Input, Machine, Reading, Settings};

use world::{Arrival, HANDSHAKE, World, error};

const STATES: [&str; 4] = ["connecting", "open", "closing", "closed"];
const LINGER: Duration = Settings::LINGER;
const ENOUGH: usize = 64 << 20;

/// Stands for whatever is said to be impossible.
const ANY: &str = "";

// ----- the page

/// What a row or a cell says must come of it.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    to: String,
    events: Vec<String>,
    result: String,
}

#[derive(Debug)]
struct Row {
    from: String,
    stimulus: String,
    outcome: Outcome,
}

impl Row {
    /// The alternatives of `a, then b or c, with d`: the stimuli, and what they presuppose.
    fn alternatives(&self) -> impl Iterator<Item = (Vec<&str>, Vec<&str>)> {
        self.stimulus.split(" or ").map(|alternative| {
            let mut parts = alternative.split(", ");
            let mut stimuli: Vec<&str> = parts.next().into_iter().collect();
            let mut given = Vec::new();
            for part in parts {
                match part.strip_prefix("then ") {
                    Some(next) => stimuli.push(next),
                    None => given.push(part),
                }
            }
            (stimuli, given)
        })
    }
}

#[derive(Debug, Default)]
struct Page {
    rows: BTreeMap<String, Row>,
    /// Stimulus, state, cell.
    cells: Vec<(String, &'static str, String)>,
}

fn outcome(to: &str, events: &str, result: &str) -> Result<Outcome, String> {
    if !STATES.contains(&to) {
        return Err(format!("{to:?} is no state"));
    }
    if result.is_empty() {
        return Err("there is no result".into());
    }
    let events: Vec<String> = match events {
        "none" => Vec::new(),
        list => list.split(", ").map(str::to_owned).collect(),
    };
    let known = |it: &String| {
        matches!(it.as_str(), "Open" | "Data" | "Drain" | "Drain?" | "Close")
            || it.starts_with("Error(") && it.ends_with(')')
    };
    match events.iter().find(|it| !known(it)) {
        Some(event) => Err(format!("{event:?} is no event")),
        None => Ok(Outcome {
            to: to.into(),
            events,
            result: result.into(),
        }),
    }
}

fn read_page(text: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut head = Vec::new();
    for line in text.lines() {
        let Some(line) = line.trim().strip_prefix('|') else {
            head.clear();
            continue;
        };
        let line = line.strip_suffix('|').unwrap_or(line);
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if head.is_empty() {
            head = cells;
        } else if cells.iter().all(|it| it.bytes().all(|b| b == b'-')) && !cells.concat().is_empty()
        {
            continue;
        } else if head == ["row", "from", "stimulus", "to", "events", "result"] {
            let &[id, from, stimulus, to, events, result] = &cells[..] else {
                return Err(format!("{:?} does not have six columns", cells[0]));
            };
            let outcome = outcome(to, events, result).map_err(|why| format!("{id}: {why}"))?;
            let row = Row {
                from: from.into(),
                stimulus: stimulus.into(),
                outcome,
            };
            if page.rows.insert(id.into(), row).is_some() {
                return Err(format!("{id} stands twice"));
            }
        } else if head.first() == Some(&"stimulus") {
            if head[1..] != STATES {
                return Err(format!("the states of the matrix are {:?}", &head[1..]));
            }
            if cells.len() != 5 {
                return Err(format!("{:?} does not have five columns", cells[0]));
            }
            for (state, cell) in STATES.into_iter().zip(&cells[1..]) {
                page.cells
                    .push((cells[0].into(), state, (*cell).to_owned()));
            }
        }
    }
    Ok(page)
}

// ----- bringing a socket into a state

/// A socket to try a cell on.
struct Subject {
    is: &'static str,
    world: World,
    armed: bool,
}

fn settings(secure: bool) -> Settings {
    Settings::new(BinaryType::ArrayBuffer, secure, None)
}

fn dialling() -> World {
    World::dialling(Machine::connecting(settings(false)))
}

fn dialling_secure() -> World {
    World::dialling(Machine::connecting(settings(true)))
}

fn accepted() -> World {
    World::connected(Machine::accepted(settings(false)))
}

fn handshaking() -> World {
    let mut world = dialling_secure();
    world.tell(Input::Connected);
    assert!(world.handshaking);
    world
}

fn open() -> World {
    let mut world = dialling();
    world.tell(Input::Connected);
    assert!(matches!(world.poll(), Poll::Ready(Some(Event::Open))));
    world
}

fn open_secure() -> World {
    let mut world = handshaking();
    world.tell(Input::Secured);
    assert!(matches!(world.poll(), Poll::Ready(Some(Event::Open))));
    world
}

/// An open socket in the midst of an upgrade.
fn upgrading() -> World {
    let mut world = open();
    assert_eq!(world.upgrade().ok(), Some(true));
    assert!(world.handshaking);
    world
}

/// Output that the kernel has no room for.
fn queue(world: &mut World, armed: bool) {
    let bytes = if armed { MARK as usize } else { 5 };
    world
        .send(Bytes::from(vec![7; bytes]))
        .expect("it is open and takes output");
}

type Setup = fn() -> World;

/// The sockets that a cell is tried on: all that are in `state` and fit what the page presupposes.
fn subjects(state: &str, stimulus: &str, given: &[&str]) -> Vec<Subject> {
    let tls_asked = given.contains(&"TLS asked");
    let in_handshake = match stimulus {
        "handshake done" | "handshake fails" | "handshake stalls" => true,
        "peer FIN" | "read error" | "write error" => state == "connecting",
        _ => false,
    };
    let ways: &[(&'static str, Setup)] = match state {
        "connecting" if stimulus == ANY => &[
            ("dialling", dialling),
            ("in the handshake", handshaking),
            ("connected, and not told", || {
                let mut world = dialling();
                world.tell(Input::Connected);
                world
            }),
            ("secure, and not told", || {
                let mut world = handshaking();
                world.tell(Input::Secured);
                world
            }),
        ],
        "open" if stimulus == ANY => &[
            ("open", open),
            ("accepted", accepted),
            ("secure", open_secure),
        ],
        "closing" if stimulus == ANY => &[
            ("open", open),
            ("given up while dialling", dialling),
            ("given up in the handshake", handshaking),
        ],
        "connecting" if in_handshake => &[("in the handshake", handshaking)],
        "connecting" if tls_asked => &[("dialling for TLS", dialling_secure)],
        "connecting" if stimulus == "TCP connected" => &[("dialling", dialling)],
        "connecting" if matches!(stimulus, "creation" | "connect fails") => &[
            ("dialling", dialling),
            ("dialling for TLS", dialling_secure),
        ],
        "connecting" => &[
            ("dialling", dialling),
            ("dialling for TLS", dialling_secure),
            ("in the handshake", handshaking),
        ],
        "open" if stimulus == "creation" => &[("accepted", accepted)],
        "open" | "closing" if in_handshake => &[("upgrading", upgrading)],
        "open" if tls_asked => &[("secure", open_secure), ("upgrading", upgrading)],
        // An accepted socket has no TLS to turn on.
        "open" if stimulus == "upgrade_to_secure()" => &[("open", open)],
        "open" | "closing" => &[("open", open), ("accepted", accepted)],
        _ => &[
            ("closed by close()", || {
                let mut world = open();
                world.close();
                world.poll_all();
                world
            }),
            ("closed by the peer", || {
                let mut world = accepted();
                world.arrives(Arrival::End { clean: true });
                world.poll_all();
                world
            }),
            ("closed by an error", || {
                let mut world = open();
                world.arrives(Arrival::Failure(ErrorName::Network));
                world.poll_all();
                world
            }),
            ("never connected", || {
                let mut world = dialling();
                world.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
                world.poll_all();
                world
            }),
        ],
    };
    let lingering = ["data", "peer FIN", "read error", "linger expires"];
    let ways = match state == "closed" && lingering.contains(&stimulus) {
        true => &ways[..1],
        false => ways,
    };
    let queued = given.contains(&"output queued")
        || stimulus == "flush completes"
        || (state == "open" && stimulus == "write error")
        || (state == "closing" && stimulus != ANY);
    let arming: &[bool] = match queued {
        _ if given.contains(&"drain armed") => &[true],
        true => &[false, true],
        false => &[false],
    };
    let mut subjects = Vec::new();
    for (is, way) in ways {
        for armed in arming {
            let mut world = way();
            if queued && matches!(state, "open" | "closing") {
                queue(&mut world, *armed);
            }
            if state == "closing" {
                world.close();
            }
            subjects.push(Subject {
                is,
                world,
                armed: *armed,
            });
        }
    }
    subjects
}

// ----- making a stimulus happen

/// Whether a driver that does what the machine wants could meet the stimulus now.
fn occasion(world: &World, stimulus: &str) -> Option<bool> {
    let machine = &world.machine;
    Some(match stimulus {
        "creation" => matches!(
            machine.ready_state(),
            ReadyState::Connecting | ReadyState::Open
        ),
        "TCP connected" | "connect fails" => world.dialling,
        "handshake done" | "handshake fails" | "handshake stalls" => world.handshaking,
        "data" => matches!(machine.reading(), Reading::Deliver | Reading::Discard),
        "peer FIN" | "read error" => machine.reading() != Reading::No,
        "write error" => {
            machine.writable_bytes() > 0 || world.handshaking || machine.wants_shutdown()
        }
        "flush completes" => machine.writable_bytes() > 0,
        "linger expires" => machine
            .next_deadline()
            .is_some_and(|at| at <= world.now + LINGER),
        "send()"
        | "suspend()"
        | "resume()"
        | "close()"
        | "abort(None)"
        | "abort(Some)"
        | "upgrade_to_secure()"
        | "Control::abort"
        | "handle dropped" => true,
        _ => return None,
    })
}

const GIVEN: ErrorName = ErrorName::QuotaExceeded;

/// Makes it happen; returns the result of the call, `nothing` if it is none.
fn act(world: &mut World, stimulus: &str) -> String {
    fn answer<T: ToString>(it: Result<T, tcpsocket::Error>) -> String {
        it.map_or_else(|it| it.name().to_string(), |it| it.to_string())
    }
    let calls = match stimulus {
        "creation" => return "nothing".into(),
        "TCP connected" => {
            world.tell(Input::Connected);
            return "nothing".into();
        }
        "connect fails" => {
            world.tell(Input::ConnectFailed(error(ErrorName::ConnectionRefused)));
            return "nothing".into();
        }
        "handshake done" => {
            world.tell(Input::Secured);
            return "nothing".into();
        }
        "handshake fails" => {
            world.tell(Input::SecureFailed(error(
                ErrorName::SecurityBadCertificate,
            )));
            return "nothing".into();
        }
        "handshake stalls" => {
            world.wait(HANDSHAKE);
            return "nothing".into();
        }
        "data" => {
            world.arrives(Arrival::Clear(Bytes::from_static(b"data")));
            return "nothing".into();
        }
        "peer FIN" => {
            world.arrives(Arrival::End { clean: true });
            return "nothing".into();
        }
        "read error" => {
            world.arrives(Arrival::Failure(ErrorName::Network));
            return "nothing".into();
        }
        "write error" => {
            world.broken = true;
            world.work();
            return "nothing".into();
        }
        "flush completes" => {
            world.room = ENOUGH;
            world.work();
            return "nothing".into();
        }
        "linger expires" => {
            world.wait(LINGER);
            return "nothing".into();
        }
        "handle dropped" => {
            world.drop_handle();
            return "nothing".into();
        }
        "send()" => return answer(world.send(Bytes::from_static(b"x"))),
        "upgrade_to_secure()" => world.upgrade().map(drop),
        "resume()" => world.resume().map(drop),
        "suspend()" => {
            world.suspend();
            Ok(())
        }
        "close()" => {
            world.close();
            Ok(())
        }
        "abort(None)" => {
            world.abort(None);
            Ok(())
        }
        "abort(Some)" => {
            world.abort(Some(error(GIVEN)));
            Ok(())
        }
        "Control::abort" => {
            world.revoke(error(GIVEN));
            Ok(())
        }
        other => panic!("{other:?} is no stimulus that is known here"),
    };
    answer(calls.map(|()| "ok"))
}

fn matches_event(expected: &str, event: &Event) -> bool {
    let name = match event {
        Event::Open => return expected == "Open",
        Event::Data(_) => return expected == "Data",
        Event::Drain => return expected == "Drain",
        Event::Close(_) => return expected == "Close",
        Event::Error(error) => error.name(),
        _ => return false,
    };
    let Some(pattern) = expected
        .strip_prefix("Error(")
        .and_then(|it| it.strip_suffix(')'))
    else {
        return false;
    };
    match pattern.strip_suffix('*') {
        Some(prefix) => name.as_str().starts_with(prefix),
        None if pattern == "given" => name == GIVEN,
        None => name.as_str() == pattern,
    }
}

/// Executes one cell on one socket.
fn execute(
    mut it: Subject,
    state: &str,
    stimulus: &str,
    sequel: &[&str],
    given: &[&str],
    expected: &Outcome,
) -> Result<(), String> {
    let world = &mut it.world;
    let before = world.machine.ready_state();
    if before.as_str() != state {
        return Err(format!("it is {before} before the stimulus"));
    }
    if state != "closed" && world.machine.event_due() && stimulus != "creation" {
        return Err("an event is due before the stimulus".into());
    }
    // What `resume()` takes back.
    if stimulus == "resume()" && !sequel.contains(&"resume()") {
        world.suspend();
    }
    if occasion(world, stimulus) != Some(true) {
        return Err("there is no occasion for it".into());
    }

    let mut result = act(world, stimulus);
    let between = world.machine.ready_state();
    for next in sequel {
        result = act(world, next);
    }
    let right = match expected.result.as_str() {
        "true/false" => result == "true",
        other => result == other,
    };
    if !right {
        return Err(format!("the result is {result}, not {}", expected.result));
    }
    if expected.result == "true/false" {
        let over = act_send(world, MARK as usize);
        if over != "false" {
            return Err(format!("a send over the mark answers {over}"));
        }
    }
    // The caller's own calls move the state at once, everything else when the caller is told (TURN-5).
    let closes = matches!(stimulus, "close()" | "abort(None)" | "abort(Some)") && state != "closed";
    if stimulus != "handle dropped" {
        let at_once = if closes { "closing" } else { state };
        if between.as_str() != at_once {
            return Err(format!("it is {between} at once, not {at_once}"));
        }
    }

    if stimulus == "handle dropped" {
        return finish_alone(world, expected);
    }
    if given.contains(&"output queued") {
        let early = world.poll_all();
        if !early.is_empty() {
            return Err(format!("{early:?} comes before the flush"));
        }
        act(world, "flush completes");
    }
    let events = world.poll_all();
    let wanted: Vec<&str> = expected
        .events
        .iter()
        .filter(|event| it.armed || *event != "Drain?")
        .map(|event| event.trim_end_matches('?'))
        .collect();
    let same = events.len() == wanted.len()
        && (events.iter().zip(&wanted)).all(|(event, wanted)| matches_event(wanted, event));
    if !same {
        return Err(format!("the events are {events:?}, not {wanted:?}"));
    }
    let failed = events.iter().any(|it| matches!(it, Event::Error(_)));
    let clean = events.iter().find_map(|it| match it {
        Event::Close(close) => Some(close.clean),
        _ => None,
    });
    if clean.is_some_and(|clean| clean == failed) {
        return Err(format!("the close is not rightly clean: {events:?}"));
    }
    let after = world.machine.ready_state();
    match after.as_str() == expected.to {
        true => Ok(()),
        false => Err(format!("it is {after} afterwards, not {}", expected.to)),
    }
}

fn act_send(world: &mut World, bytes: usize) -> String {
    match world.send(Bytes::from(vec![7; bytes])) {
        Ok(answer) => answer.to_string(),
        Err(error) => error.name().to_string(),
    }
}

/// Nobody is there to see a state or an event: closed is what has let its descriptor go, once the peer has read and finished.
fn finish_alone(world: &mut World, expected: &Outcome) -> Result<(), String> {
    if expected.to != "closed" || !expected.events.is_empty() {
        return Err("without a handle there is nothing but an end".into());
    }
    world.room = ENOUGH;
    world.arrives(Arrival::End { clean: true });
    match world.released {
        Some(_) => Ok(()),
        None => Err("it is not let go".into()),
    }
}

// ----- everything

#[derive(Default)]
struct Report {
    failures: Vec<String>,
    named: BTreeSet<String>,
    executed: usize,
}

impl Report {
    fn cell(&mut self, page: &Page, stimulus: &str, state: &'static str, cell: &str) {
        let place = format!("{stimulus} in {state}");
        let mut fail = |why: String| self.failures.push(format!("{place}: {why}"));
        if cell.is_empty() {
            return fail("the cell is empty".into());
        }
        if let Some(reason) = cell.strip_prefix("impossible:") {
            if reason.trim().is_empty() {
                fail("impossible, but why?".into());
            }
            for it in subjects(state, ANY, &[]) {
                match occasion(&it.world, stimulus) {
                    _ if it.world.machine.ready_state().as_str() != state => {
                        fail(format!("{}: it is not {state}", it.is));
                    }
                    Some(false) => {}
                    Some(true) => fail(format!("{}: it is not impossible", it.is)),
                    None => fail("the stimulus is not known".into()),
                }
                self.executed += 1;
            }
            return;
        }
        if occasion(&dialling(), stimulus).is_none() {
            return fail("the stimulus is not known".into());
        }
        let mut plans = Vec::new();
        if cell.starts_with("ROW-") {
            for id in cell.split(", ") {
                self.named.insert(id.to_owned());
                let Some(row) = page.rows.get(id) else {
                    fail(format!("{id} does not exist"));
                    continue;
                };
                let born = row.from == "accepted" && state == "open" && stimulus == "creation";
                if row.from != state && row.from != "any" && !born {
                    fail(format!("{id} is about {}", row.from));
                }
                let fits = row
                    .alternatives()
                    .find(|(stimuli, _)| stimuli.contains(&stimulus));
                match fits {
                    // A sequence is executed whole, wherever its row is named.
                    Some((stimuli, given)) => plans.push((id, stimuli, given, row.outcome.clone())),
                    None => fail(format!("{id} is about {:?}", row.stimulus)),
                }
            }
        } else {
            let parts: Vec<&str> = cell.split("; ").collect();
            let &[to, events, result] = &parts[..] else {
                return fail(format!("{cell:?} is neither rows nor `to; events; result`"));
            };
            match outcome(to, events, result) {
                Ok(outcome) => plans.push((cell, vec![stimulus], Vec::new(), outcome)),
                Err(why) => return fail(why),
            }
        }
        for (source, stimuli, given, outcome) in plans {
            let all = subjects(state, stimulus, &given);
            if all.is_empty() {
                fail(format!("{source}: nothing is executed"));
            }
            for it in all {
                let is = match it.armed {
                    true => format!("{}, armed", it.is),
                    false => it.is.to_owned(),
                };
                self.executed += 1;
                let done = execute(it, state, stimuli[0], &stimuli[1..], &given, &outcome);
                if let Err(why) = done {
                    fail(format!("{source}, {is}: {why}"));
                }
            }
        }
    }
}

#[test]
fn every_cell_of_the_tables_is_what_the_machine_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/states.md");
    let text = std::fs::read_to_string(&path).expect("docs/spec/states.md can be read");
    let report = judge(&text);
    println!("{} executions", report.executed);
    assert!(
        report.failures.is_empty(),
        "\n{}",
        report.failures.join("\n")
    );
}

fn judge(text: &str) -> Report {
    let mut report = Report::default();
    let page = match read_page(text) {
        Ok(page) => page,
        Err(why) => {
            report.failures.push(why);
            return report;
        }
    };
    let mut seen = BTreeSet::new();
    for (stimulus, state, cell) in &page.cells {
        if !seen.insert((stimulus, state)) {
            let place = format!("{stimulus} in {state}: it stands twice");
            report.failures.push(place);
        }
        report.cell(&page, stimulus, state, cell);
    }
    let known = [
        "creation",
        "TCP connected",
        "connect fails",
        "handshake done",
        "handshake fails",
        "handshake stalls",
        "data",
        "peer FIN",
        "read error",
        "write error",
        "flush completes",
        "linger expires",
        "send()",
        "suspend()",
        "resume()",
        "close()",
        "abort(None)",
        "abort(Some)",
        "upgrade_to_secure()",
        "Control::abort",
        "handle dropped",
    ];
    for stimulus in known {
        if !page.cells.iter().any(|(it, ..)| it == stimulus) {
            let why = format!("{stimulus}: the matrix does not have it");
            report.failures.push(why);
        }
    }
    for id in (1..=32).map(|it| format!("ROW-{it}")) {
        if !page.rows.contains_key(&id) {
            report.failures.push(format!("{id} is missing"));
        }
    }
    for id in page.rows.keys() {
        if !report.named.contains(id) {
            report.failures.push(format!("{id}: no cell names it"));
        }
    }
    report
}

/// The judge itself: a page that is wrong is found out, and the place is named.
#[test]
fn a_page_that_is_wrong_is_found_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/spec/states.md");
    let right = std::fs::read_to_string(path).expect("docs/spec/states.md can be read");
    for (from, to, complaint) in [
        (
            "| closing; none; ok | ROW-29 |",
            "| | ROW-29 |",
            "suspend() in closing: the cell is empty",
        ),
        (
            "| data | impossible: nothing is delivered before Open |",
            "| data | connecting; none; nothing |",
            "data in connecting: connecting; none; nothing, dialling: there is no occasion",
        ),
        (
            "| resume() | ROW-8 |",
            "| resume() twice | ROW-8 |",
            "resume() twice in connecting: the stimulus is not known",
        ),
        (
            "| ROW-12, ROW-13 |",
            "| ROW-12 |",
            "ROW-13: no cell names it",
        ),
        (
            "| ROW-9 | open | data | open | Data |",
            "| ROW-9 | open | data | open | none |",
            "data in open: ROW-9, open: the events are",
        ),
        (
            "| ROW-22 | closing | close() | closing |",
            "| ROW-22 | closing | close() | closed |",
            "close() in closing: ROW-22, open: it is closing afterwards, not closed",
        ),
        (
            "| ROW-6 | connecting | send() | connecting | none | InvalidStateError |",
            "| ROW-6 | connecting | send() | connecting | none | ok |",
            "send() in connecting: ROW-6, dialling: the result is InvalidStateError, not ok",
        ),
        (
            "| closed | Drain?, Close | ok |",
            "| closed | Close | ok |",
            "close() in open: ROW-13, open, armed: the events are",
        ),
    ] {
        assert!(right.contains(from), "the page has no {from:?} any more");
        let report = judge(&right.replacen(from, to, 1));
        let found = report.failures.iter().any(|it| it.starts_with(complaint));
        assert!(found, "{complaint:?} is not in {:?}", report.failures);
    }
}
