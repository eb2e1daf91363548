//! The judge: reads a log, and nothing else, and says what was as specified and what was not.

use std::error::Error as _;

use tcpsocket::{Error, ErrorName, MARK, ReadyState};
use tcpsocket_policy::{Level, Rule};

use crate::demo::log::{Attempt, Call, Log, Side, What};

/// One check and its outcome.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) check: &'static str,
    /// What was seen, in a word.
    pub(super) seen: String,
    /// What was wrong.
    pub(super) problem: Option<String>,
}

/// What a check answers: what was seen, or what was wrong.
type Outcome = Result<String, String>;

type Check = (&'static str, fn(&Log) -> Outcome);

/// Judges a log, check by check, in the order of [`CHECKS`].
pub(super) fn judge(log: &Log) -> Vec<Verdict> {
    let verdict = |(check, how): &Check| {
        let (seen, problem) = match how(log) {
            Ok(seen) => (seen, None),
            Err(problem) => (String::new(), Some(problem)),
        };
        Verdict {
            check,
            seen,
            problem,
        }
    };
    CHECKS.iter().map(verdict).collect()
}

const CHECKS: &[Check] = &[
    ("every act was played to its end", played_to_its_end),
    ("the server has what the client sent", |log| {
        arrived(log, Side::Client)
    }),
    ("the client has what the server sent", |log| {
        arrived(log, Side::Server)
    }),
    ("send answers false above the mark only", answers),
    ("one Drain for each arming, none early", drains),
    ("no Data while suspended", suspension),
    ("no Data is empty or over 256 KiB", chunks),
    ("Open first, Data and Drain, Close last", order),
    ("no Error", no_error),
    ("one clean Close on each side", closes),
    ("states move forward, to closed", states),
    ("a privileged app is refused port 80", low_port_refused),
    ("its host is told which rule refused it", host_told),
    ("the app is not told why", app_not_told),
    ("a certified app is admitted to port 80", low_port_admitted),
    ("connecting to port 80 is allowed", opening_free),
    ("the policy explains what the guard does", explained),
];

fn played_to_its_end(log: &Log) -> Outcome {
    match &log.cut_short {
        None => Ok(format!(
            "{} entries, {} calls of apps",
            log.entries.len(),
            log.attempts.len()
        )),
        Some(why) => Err(why.clone()),
    }
}

fn arrived(log: &Log, from: Side) -> Outcome {
    let (sent, received) = (log.sent(from), log.received(from.peer()));
    if sent.bytes == 0 {
        return Err("nothing was sent".into());
    }
    if sent.bytes != received.bytes {
        return Err(format!(
            "{} bytes of {} arrived",
            received.bytes, sent.bytes
        ));
    }
    let (wanted, digest) = (sent.digest(), received.digest());
    if wanted != digest {
        return Err(format!("SHA-256 {digest} arrived, {wanted} was sent"));
    }
    Ok(format!("{} B, SHA-256 {}", sent.bytes, &digest[..8]))
}

fn answers(log: &Log) -> Outcome {
    let (mut sends, mut refusals) = (0, 0);
    for entry in &log.entries {
        let What::Send {
            len,
            before,
            answer,
        } = entry.what
        else {
            continue;
        };
        let sum = before + len as u64;
        if answer != (sum <= MARK) {
            return Err(format!(
                "{answer} with {before} bytes buffered and {len} sent"
            ));
        }
        if entry.after.is_some_and(|(_, buffered)| buffered != sum) {
            return Err(format!(
                "{before} bytes buffered, {len} sent, and buffered_amount is not their sum"
            ));
        }
        sends += 1;
        refusals += usize::from(!answer);
    }
    Ok(format!("{sends} sends, {refusals} times false"))
}

fn drains(log: &Log) -> Outcome {
    let (mut armings, mut drains) = (0, 0);
    for side in Side::BOTH {
        let mut armed = false;
        for entry in log.of(side) {
            if entry.what.arms() {
                armings += usize::from(!armed);
                armed = true;
            }
            if !matches!(entry.what, What::Drain) {
                continue;
            }
            drains += 1;
            if !armed {
                return Err(format!("the {} got one that nothing armed", side.name()));
            }
            if let Some((_, held @ 1..)) = entry.after {
                return Err(format!(
                    "the {} got one with {held} bytes buffered",
                    side.name()
                ));
            }
            armed = false;
        }
        if armed {
            return Err(format!("the {} waited for one in vain", side.name()));
        }
    }
    Ok(format!("{drains} for {armings}"))
}

fn suspension(log: &Log) -> Outcome {
    let mut suspensions = 0;
    for side in Side::BOTH {
        let mut depth = 0_u32;
        for entry in log.of(side) {
            match entry.what {
                What::Suspend => {
                    depth += 1;
                    suspensions += 1;
                }
                What::Resume => depth = depth.saturating_sub(1),
                What::Data { len } if depth > 0 => {
                    return Err(format!("the {} got {len} bytes", side.name()));
                }
                _ => {}
            }
        }
    }
    match suspensions {
        0 => Err("nothing was suspended".into()),
        n => Ok(format!(
            "suspended {n} time{}",
            if n == 1 { "" } else { "s" }
        )),
    }
}

fn chunks(log: &Log) -> Outcome {
    let lens = log.entries.iter().filter_map(|it| match it.what {
        What::Data { len } => Some(len),
        _ => None,
    });
    let (mut count, mut largest) = (0, 0);
    for len in lens {
        if len == 0 || len > 256 * 1024 {
            return Err(format!("one had {len} bytes"));
        }
        count += 1;
        largest = largest.max(len);
    }
    Ok(format!("{count}, of {largest} B at most"))
}

fn order(log: &Log) -> Outcome {
    for side in Side::BOTH {
        let events = log
            .of(side)
            .filter(|it| it.what.is_event())
            .map(|it| &it.what);
        let (mut begun, mut ended) = (false, false);
        for event in events {
            let fits = match event {
                What::Opened | What::Accepted { .. } => !begun && !ended,
                What::Data { .. } | What::Drain => begun && !ended,
                // How often they come is for other checks to say.
                What::Failed(_) | What::Closed { .. } => true,
                _ => false,
            };
            if !fits {
                let when = if ended {
                    "after the end"
                } else if begun {
                    "too late"
                } else {
                    "too early"
                };
                return Err(format!(
                    "on the {}, {} came {when}",
                    side.name(),
                    event.name()
                ));
            }
            begun |= matches!(event, What::Opened | What::Accepted { .. });
            ended |= matches!(event, What::Failed(_) | What::Closed { .. });
        }
    }
    Ok("on both sides".into())
}

fn no_error(log: &Log) -> Outcome {
    for entry in &log.entries {
        if let What::Failed(error) = &entry.what {
            return Err(format!("on the {}: {error}", entry.side.name()));
        }
    }
    Ok("on either side".into())
}

fn closes(log: &Log) -> Outcome {
    for side in Side::BOTH {
        let mut closes = 0;
        for entry in log.of(side) {
            let What::Closed { clean } = entry.what else {
                continue;
            };
            if !clean {
                return Err(format!("that of the {} was not clean", side.name()));
            }
            closes += 1;
        }
        if closes != 1 {
            return Err(format!("the {} had {closes}", side.name()));
        }
    }
    Ok("client and server".into())
}

fn states(log: &Log) -> Outcome {
    for side in Side::BOTH {
        let mut last = None;
        for entry in log.of(side) {
            let Some((state, buffered)) = entry.after else {
                continue;
            };
            let wanted = match entry.what {
                What::Open { .. } => Some(ReadyState::Connecting),
                What::Opened | What::Accepted { .. } => Some(ReadyState::Open),
                What::Close => Some(ReadyState::Closing),
                What::Failed(_) | What::Closed { .. } => Some(ReadyState::Closed),
                _ => None,
            };
            let at = || format!("at {} of the {}", entry.what.name(), side.name());
            if wanted.is_some_and(|it| it != state) {
                return Err(format!("{state} {}", at()));
            }
            if last.is_some_and(|it| it > state) {
                return Err(format!("back to {state} {}", at()));
            }
            if state == ReadyState::Closed && buffered > 0 {
                return Err(format!("{buffered} bytes buffered {}", at()));
            }
            last = Some(state);
        }
        if last != Some(ReadyState::Closed) {
            return Err(format!("the {} did not end in closed", side.name()));
        }
    }
    Ok("client and server".into())
}

/// The call of the app of this level.
fn attempt(log: &Log, level: Level, call: Call) -> Result<&Attempt, String> {
    log.attempt(level, call)
        .ok_or_else(|| format!("the {level} app did not {}", call.name()))
}

/// The guard's answer to the privileged app's request for port 80. A refusal by the system has a cause, the guard's has none.
fn refusal(log: &Log) -> Result<&Error, String> {
    let asked = attempt(log, Level::Privileged, Call::Listen)?;
    match &asked.answer {
        Err(error) if error.source().is_some() => {
            Err(format!("refused, but not by its guard: {error}"))
        }
        Err(error) if error.name() == ErrorName::NotAllowed => Ok(error),
        Err(error) => Err(format!("it was told {error}")),
        Ok(()) => Err("it was not refused".into()),
    }
}

fn low_port_refused(log: &Log) -> Outcome {
    Ok(format!("by {}", refusal(log)?.name()))
}

fn host_told(log: &Log) -> Outcome {
    let asked = attempt(log, Level::Privileged, Call::Listen)?;
    match &asked.decisions().collect::<Vec<_>>()[..] {
        [it] if !it.is_allowed() && it.rule() == Rule::LowPort => Ok(format!("{}", it.rule())),
        [] => Err("the host was told nothing".into()),
        [it, ..] => Err(format!("the host was told: {it}")),
    }
}

fn app_not_told(log: &Log) -> Outcome {
    let told = refusal(log)?;
    let hints = ["80", "1024", "port", "certified", "privileged"];
    match hints.into_iter().find(|it| told.message().contains(it)) {
        Some(hint) => Err(format!(
            "the app's message says {hint:?}: {}",
            told.message()
        )),
        None => Ok("its host can tell".into()),
    }
}

/// Fails if the guard refused; otherwise tells who did, if anybody.
fn admitted(asked: &Attempt, other: &str) -> Outcome {
    if let Some(it) = asked.decisions().find(|it| !it.is_allowed()) {
        return Err(it.to_string());
    }
    if !asked.is_admitted() {
        return Err("the host was not told of the admission".into());
    }
    match (&asked.answer, asked.failure()) {
        (Ok(()), _) => Ok("nobody else refuses".into()),
        (Err(told), Some(met)) if told.name() == met.name() => {
            Ok(format!("{other}: {}", met.name()))
        }
        // A guard's denials all sound alike to the app, but its host is told of every refusal by others.
        (Err(_), _) => Err("the guard refused it, and told its host something else".into()),
    }
}

fn low_port_admitted(log: &Log) -> Outcome {
    let asked = attempt(log, Level::Certified, Call::Listen)?;
    admitted(asked, "system")
}

fn opening_free(log: &Log) -> Outcome {
    let asked = attempt(log, Level::Privileged, Call::Open)?;
    admitted(asked, "peer")
}

fn explained(log: &Log) -> Outcome {
    if log.attempts.is_empty() {
        return Err("no app asked for anything".into());
    }
    for asked in &log.attempts {
        if asked.decisions().next() != Some(&asked.explained) {
            return Err(format!(
                "it explained: {}; the guard decided otherwise",
                asked.explained
            ));
        }
    }
    Ok(format!("{} calls", log.attempts.len()))
}
