//! The table of cases, one module for each area.

mod activity;
mod closing;
mod errors;
mod foreign;
mod gates;
mod hostile;
mod lifecycle;
mod meters;
mod names;
mod opening;
mod options;
mod permissions;
mod properties;
mod receiving;
mod sending;
mod servers;
mod threads;
mod tls;
mod turns;

use crate::Case;

/// Every case, by area.
pub const CASES: &[&[Case]] = &[
    opening::CASES,
    sending::CASES,
    receiving::CASES,
    closing::CASES,
    errors::CASES,
    servers::CASES,
    turns::CASES,
    activity::CASES,
    gates::CASES,
    meters::CASES,
    names::CASES,
    options::CASES,
    tls::opening::CASES,
    tls::certificates::CASES,
    tls::stream::CASES,
    tls::closing::CASES,
    tls::failing::CASES,
    tls::upgrade::CASES,
    tls::upgrade_order::CASES,
    tls::upgrade_failing::CASES,
    tls::upgrade_stalling::CASES,
    tls::cuts::CASES,
    permissions::deciding::CASES,
    permissions::revoking::CASES,
    permissions::telling::CASES,
    permissions::standing::CASES,
    lifecycle::CASES,
    foreign::CASES,
    threads::CASES,
    hostile::CASES,
    properties::CASES,
];

/// Common items of the areas.
mod prelude {
    pub(super) use std::sync::Arc;
    pub(super) use std::task::{Poll, Waker};

    pub(super) use tcpsocket::{
        BinaryType, Bytes, Error, ErrorName, Event, OpenRequest, ReadyState, TcpSocketExt,
    };

    pub(super) use crate::Step::{
        Accept, Close, Connect, Echo, Fin, Read, ReadToEnd, Reset, Signal, Talk, Wait, Write,
        WritePieces, WriteUntilFull,
    };
    pub(super) use crate::cx::{SHORT, STUCK};
    pub(super) use crate::wait::{Count, poll_once};
    pub(super) use crate::warden::{Answer, Answers, Warden, refusal};
    pub(super) use crate::{Capability, Case, Cx, End, Failure, Level, Outcome, Script};

    /// A peer that reads to the end, and then ends its stream.
    pub(super) fn reader() -> Script {
        Script::listen([Accept, ReadToEnd, Close])
    }

    /// A peer that reads nothing until the signal `read on`, in a small window: output toward it is stuck.
    pub(super) fn holder() -> Script {
        holder_until("read on")
    }

    /// The same until another signal.
    pub(super) fn holder_until(signal: &'static str) -> Script {
        Script::listen([Accept, Wait(signal), ReadToEnd, Close]).receive_buffer(32_768)
    }

    /// A peer that resets at the signal `reset`, and has read nothing until then.
    pub(super) fn resetter() -> Script {
        resetter_at("reset")
    }

    /// The same at another signal.
    pub(super) fn resetter_at(signal: &'static str) -> Script {
        Script::listen([Accept, Wait(signal), Reset]).receive_buffer(32_768)
    }

    /// An error without any other cause.
    pub(super) fn told() -> Error {
        Error::new(ErrorName::NotAllowed, "told to end by the case")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::CASES;

    #[test]
    fn ids_are_distinct_and_say_where_they_belong() {
        let mut seen = HashSet::new();
        for case in CASES.iter().flat_map(|area| area.iter()) {
            assert!(seen.insert(case.id), "{} occurs twice", case.id);
            let (area, words) = case.id.split_once('/').unwrap_or_default();
            let fits = |it: &str| {
                !it.is_empty()
                    && it
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            };
            assert!(fits(area) && fits(words), "{}", case.id);
            assert!(!case.clauses.is_empty(), "{} shows no clause", case.id);
            assert!(case.requirement.ends_with('.'), "{}", case.id);
        }
    }
}
