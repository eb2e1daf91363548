//! Connecting to one of several addresses: RFC 8305's order and stagger, without I/O.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tcpsocket::{Error, ErrorName};

use crate::failure::reach;

/// The delay before the next address is tried while the last attempt is still undecided: RFC 8305's 250 milliseconds.
pub const STAGGER: Duration = Duration::from_millis(250);

/// How many addresses one open dials at most: 32 (GATE-20). What an answer has beyond them, in the order of dialling, is never dialled.
pub const MOST_ADDRESSES: usize = 32;

/// How long connecting may take, unless an option says otherwise: 30 seconds (OPT-3).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// `now + by`, or thirty years from now if that is more than the clock can say: options may be of any length.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tcpsocket_core::later;
///
/// let now = Instant::now();
/// assert_eq!(later(now, Duration::from_secs(1)), now + Duration::from_secs(1));
/// assert!(later(now, Duration::MAX) > now + Duration::from_secs(86_400));
/// ```
pub fn later(now: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(by).unwrap_or_else(|| now + FAR)
}

/// Decides which address is dialled when. Attempts are never cut off by a later one; the first to connect wins.
///
/// ```
/// use std::time::Instant;
/// use tcpsocket_core::{Connector, STAGGER};
///
/// let now = Instant::now();
/// let addresses = ["[2001:db8::1]:80", "192.0.2.1:80"].map(|it| it.parse().unwrap());
/// let mut connector = Connector::new(addresses, None, now);
///
/// assert_eq!(connector.next_dial(now), Some(addresses[0]));
/// assert_eq!(connector.next_dial(now), None); // not yet
/// assert_eq!(connector.next_dial(now + STAGGER), Some(addresses[1]));
/// ```
#[derive(Debug)]
pub struct Connector {
    /// For the message: the first address, and how many there are.
    first: Option<SocketAddr>,
    count: usize,
    waiting: VecDeque<SocketAddr>,
    running: usize,
    next_at: Instant,
    until: Instant,
    furthest: Option<Error>,
}

impl Connector {
    /// Begins at `now`, with these addresses in their order of preference, of which [`MOST_ADDRESSES`] are dialled at most.
    pub fn new(
        addresses: impl IntoIterator<Item = SocketAddr>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Connector {
        let mut waiting = interleave(addresses);
        waiting.truncate(MOST_ADDRESSES);
        Connector {
            first: waiting.front().copied(),
            count: waiting.len(),
            waiting,
            running: 0,
            next_at: now,
            until: later(now, timeout.unwrap_or(CONNECT_TIMEOUT)),
            furthest: None,
        }
    }

    /// The address to dial now, if one is due. Ask until there is none, and tell [`failed`](Connector::failed) of each attempt that comes to
    /// nothing; the first that connects ends it all.
    pub fn next_dial(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at || now >= self.until {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        self.next_at = now + STAGGER;
        Some(address)
    }

    /// An attempt failed: the next address is due at once.
    pub fn failed(&mut self, error: Error, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.next_at = now;
        let further = match &self.furthest {
            Some(known) => reach(&error) > reach(known),
            None => true,
        };
        if further {
            self.furthest = Some(error);
        }
    }

    /// The error that ends it all, once nothing is running or waiting, or the time is over. The one that got furthest;
    /// `DomainNotFoundError` if there was no address in the first place.
    pub fn verdict(&mut self, now: Instant) -> Option<Error> {
        let Some(first) = self.first else {
            let nowhere = "there is no address to connect to";
            return Some(Error::new(ErrorName::DomainNotFound, nowhere));
        };
        if self.running == 0 && self.waiting.is_empty() {
            return self.furthest.take();
        }
        (now >= self.until).then(|| Error::new(ErrorName::NetworkTimeout, self.silence(first)))
    }

    fn silence(&self, first: SocketAddr) -> String {
        match self.count {
            1 => format!("{first} did not answer within the connect timeout"),
            all => {
                format!(
                    "none of {all} addresses, {first} the first, answered within the connect timeout"
                )
            }
        }
    }

    /// When the connect timeout is over.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// When to ask [`next_dial`](Connector::next_dial) and [`verdict`](Connector::verdict) again, at the latest. As long as an address is due,
    /// and so in the beginning, that is in the past: a driver that arms timers looks after it has dialled.
    pub fn next_deadline(&self) -> Instant {
        // Without an address the verdict is due already.
        match self.waiting.is_empty() && self.first.is_some() {
            true => self.until,
            false => self.next_at.min(self.until),
        }
    }
}

/// RFC 8305, section 4: the families alternate, beginning with the family of the first address; within a family the
/// order stays.
fn interleave(addresses: impl IntoIterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let all: Vec<SocketAddr> = addresses.into_iter().collect();
    let Some(first) = all.first().map(SocketAddr::is_ipv6) else {
        return VecDeque::new();
    };
    let (preferred, other): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|it| it.is_ipv6() == first);
    let mut out = VecDeque::with_capacity(preferred.len() + other.len());
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    loop {
        let pair = (preferred.next(), other.next());
        if pair == (None, None) {
            return out;
        }
        out.extend(pair.0);
        out.extend(pair.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, ErrorKind};

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|it| it.parse().unwrap()).collect()
    }

    fn failure(kind: ErrorKind) -> Error {
        crate::connect_failed("somewhere", io::Error::from(kind))
    }

    #[test]
    fn families_alternate_and_keep_their_order() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let order: Vec<_> = interleave(given).into();
        let expected = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(order, expected);
    }

    #[test]
    fn a_failure_brings_the_next_at_once_and_the_furthest_error_is_reported() {
        let now = Instant::now();
        let mut it = Connector::new(addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1"]), None, now);
        assert!(it.next_dial(now).is_some());
        it.failed(failure(ErrorKind::NetworkUnreachable), now);
        assert!(it.next_dial(now).is_some());
        it.failed(failure(ErrorKind::ConnectionRefused), now);
        assert!(it.verdict(now).is_none());
        assert!(it.next_dial(now).is_some());
        it.failed(failure(ErrorKind::TimedOut), now);
        let error = it.verdict(now).expect("nothing is left");
        assert_eq!(error.name(), ErrorName::ConnectionRefused);
        assert!(error.message().contains("refused"), "{error}");

        // What was not even sent is no answer.
        let mut it = Connector::new(addresses(&["[fe80::1]:1", "1.1.1.1:1"]), None, now);
        for kind in [ErrorKind::InvalidInput, ErrorKind::ConnectionRefused] {
            assert!(it.next_dial(now).is_some());
            it.failed(failure(kind), now);
        }
        let error = it.verdict(now).expect("nothing is left");
        assert_eq!(error.name(), ErrorName::ConnectionRefused);
    }

    #[test]
    fn no_more_addresses_are_dialled_than_may_be() {
        let now = Instant::now();
        let port = |port| SocketAddr::from(([127, 0, 0, 1], port));
        // The other family has its share, wherever it stands in the answer.
        let other: SocketAddr = "[::1]:1".parse().unwrap();
        let all = (1..=3000).map(port).chain([other]);
        let mut it = Connector::new(all, None, now);
        let mut dialled = Vec::new();
        while let Some(to) = it.next_dial(now) {
            assert!(it.verdict(now).is_none());
            dialled.push(to);
            it.failed(failure(ErrorKind::ConnectionRefused), now);
        }
        let expected: Vec<_> = [port(1), other]
            .into_iter()
            .chain((2..32).map(port))
            .collect();
        assert_eq!(dialled, expected);
        assert_eq!(dialled.len(), MOST_ADDRESSES);
        let error = it.verdict(now).expect("nothing is left");
        assert_eq!(error.name(), ErrorName::ConnectionRefused);
    }

    #[test]
    fn without_an_address_the_verdict_is_there_at_once() {
        let now = Instant::now();
        let mut it = Connector::new([], None, now);
        assert_eq!(it.next_dial(now), None);
        assert!(it.next_deadline() <= now);
        let error = it.verdict(now).expect("nothing will ever connect");
        assert_eq!(error.name(), ErrorName::DomainNotFound);
        assert_eq!(error.message(), "there is no address to connect to");
        // At every time, so that nobody waits who missed it.
        let later = it.until() + STAGGER;
        assert_eq!(
            it.verdict(later).map(|it| it.name()),
            Some(ErrorName::DomainNotFound)
        );
    }

    #[test]
    fn the_timeout_covers_all_addresses_together() {
        let now = Instant::now();
        let limit = Duration::from_secs(1);
        let mut it = Connector::new(addresses(&["[::1]:1", "1.1.1.1:1"]), Some(limit), now);
        assert!(it.next_dial(now).is_some());
        assert_eq!(it.next_deadline(), now + STAGGER);
        assert!(it.next_dial(now + STAGGER).is_some());
        assert_eq!(it.next_deadline(), now + limit);
        assert!(it.verdict(now + STAGGER).is_none());
        let error = it.verdict(now + limit).expect("the time is over");
        assert_eq!(error.name(), ErrorName::NetworkTimeout);
        assert_eq!(
            error.message(),
            "none of 2 addresses, [::1]:1 the first, answered within the connect timeout"
        );
        let mut it = Connector::new(addresses(&["[::1]:1"]), Some(limit), now);
        let error = it.verdict(now + limit).expect("the time is over");
        assert_eq!(
            error.message(),
            "[::1]:1 did not answer within the connect timeout"
        );
    }
}
