//! A recorder around a socket: it notes every call and event, and checks the rules common to all.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use tcpsocket::{Bytes, Error, Event, ReadyState, TcpSocket, TcpSocketExt};

use crate::cx::same_bytes;
use crate::sync::lock;
use crate::wait::{self, Count, PATIENCE, yield_now};
use crate::{Cx, Failure, Outcome};

/// The number of polls of a socket that must be quiet.
const POLLS: usize = 64;

pub(crate) struct Socket {
    cx: Cx,
    name: String,
    raw: Arc<dyn TcpSocket>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Every event, data merged.
    events: Vec<Line>,
    /// How much of `events`, and of a data line there, a case has checked.
    looked: usize,
    looked_bytes: usize,
    received: Vec<u8>,
    sent: Vec<u8>,
    opened: bool,
    failed: bool,
    closed: bool,
    /// The furthest state seen.
    state: Option<ReadyState>,
}

#[derive(Clone, Debug, PartialEq)]
enum Line {
    Data(usize),
    Other(String),
}

impl Line {
    fn text(&self) -> String {
        match self {
            Line::Data(n) => format!("data {n}"),
            Line::Other(text) => text.clone(),
        }
    }
}

impl Socket {
    pub(crate) fn new(cx: Cx, raw: Arc<dyn TcpSocket>, born_open: bool) -> Socket {
        let name = cx.next_name();
        Socket::build(cx, raw, name, born_open)
    }

    /// One that leaves no trace in the log.
    pub(crate) fn unlogged(cx: Cx, raw: Arc<dyn TcpSocket>) -> Socket {
        Socket::build(cx, raw, String::new(), false)
    }

    fn build(cx: Cx, raw: Arc<dyn TcpSocket>, name: String, born_open: bool) -> Socket {
        Socket {
            cx,
            name,
            raw,
            seen: Mutex::new(Seen {
                opened: born_open,
                ..Seen::default()
            }),
        }
    }

    /// The socket itself.
    pub(crate) fn raw(&self) -> &Arc<dyn TcpSocket> {
        &self.raw
    }

    fn log(&self, what: impl std::fmt::Display) {
        if !self.name.is_empty() {
            self.cx.log(format_args!("{}: {what}", self.name));
        }
    }

    pub(crate) fn send(&self, data: impl Into<Bytes>) -> Result<bool, Error> {
        let data = data.into();
        let result = self.raw.send(data.clone());
        match &result {
            Ok(more) => self.log(format_args!("send {} -> {more}", data.len())),
            Err(error) => self.log(format_args!("send {} -> {}", data.len(), error.name())),
        }
        if result.is_ok() {
            lock(&self.seen).sent.extend_from_slice(&data);
        }
        result
    }

    /// Sends the next `len` bytes of the pattern, and checks the answer.
    pub(crate) fn sends(&self, len: usize, answer: bool) -> Outcome {
        let at = self.sent().len();
        let data = self.cx.bytes(at + len).slice(at..);
        let actual = self.send(data)?;
        self.cx
            .check(&format!("the answer to send({len})"), actual, answer)
    }

    /// Fails unless `send` returns this error.
    pub(crate) fn send_fails(&self, error: &str) -> Outcome {
        self.cx
            .check_error("send", self.send(Bytes::from_static(b"no")), error)
    }

    /// All accepted bytes.
    pub(crate) fn sent(&self) -> Vec<u8> {
        lock(&self.seen).sent.clone()
    }

    /// All delivered bytes.
    pub(crate) fn received(&self) -> Vec<u8> {
        lock(&self.seen).received.clone()
    }

    pub(crate) fn check_received(&self, expected: &[u8]) -> Outcome {
        same_bytes("what was delivered", &self.received(), expected)
    }

    pub(crate) fn close(&self) {
        self.log("close");
        self.raw.close();
    }

    pub(crate) fn abort(&self, why: Option<Error>) {
        self.log(format_args!("abort {}", why.is_some()));
        self.raw.abort(why);
    }

    pub(crate) fn suspend(&self) {
        self.log("suspend");
        self.raw.suspend();
    }

    pub(crate) fn resume(&self) -> Outcome {
        self.log("resume");
        Ok(self.raw.resume()?)
    }

    pub(crate) fn resume_fails(&self, error: &str) -> Outcome {
        self.cx.check_error("resume", self.raw.resume(), error)
    }

    pub(crate) fn upgrade(&self) -> Outcome {
        self.log("upgrade");
        Ok(self.raw.upgrade_to_secure()?)
    }

    pub(crate) fn upgrade_fails(&self, error: &str) -> Outcome {
        self.cx
            .check_error("upgrade", self.raw.upgrade_to_secure(), error)
    }

    pub(crate) fn is(&self, state: ReadyState) -> Outcome {
        self.cx.check("ready_state", self.raw.ready_state(), state)
    }

    pub(crate) fn buffers(&self, bytes: u64) -> Outcome {
        self.cx
            .check("buffered_amount", self.raw.buffered_amount(), bytes)
    }

    /// The next event.
    pub(crate) async fn next(&self) -> Result<Option<Event>, Failure> {
        let polled = wait::within(&**self.cx.world(), PATIENCE, self.raw.next_event()).await;
        let Some(event) = polled else {
            // After a wait in vain, tells whether nothing was due, or the waker was not woken.
            let missed = self.poll();
            let why = match &missed {
                Poll::Ready(Some(event)) => {
                    format!("{event:?} is due, but the waker was not woken")
                }
                Poll::Ready(None) => "the end is due, but the waker was not woken".to_owned(),
                Poll::Pending => "nothing".to_owned(),
            };
            let events = self.events();
            self.log(format_args!("no event: {why}"));
            return Err(Failure::compared(
                format!("an event of socket {} did not come", self.name),
                "an event",
                format!("{why}; so far: {events}"),
            ));
        };
        self.note(event.as_ref())?;
        Ok(event)
    }

    /// One poll with a counting waker.
    pub(crate) fn poll(&self) -> Poll<Option<Event>> {
        self.poll_with(Waker::noop())
    }

    pub(crate) fn poll_with(&self, waker: &Waker) -> Poll<Option<Event>> {
        self.raw.poll_event(&mut Context::from_waker(waker))
    }

    /// Records an event polled by the case itself, and checks the grammar.
    pub(crate) fn note(&self, event: Option<&Event>) -> Outcome {
        let text = event.map_or_else(|| "none".to_owned(), text);
        self.log(format_args!("event {text}"));
        let mut seen = lock(&self.seen);
        let Some(event) = event else {
            return match seen.closed {
                true => Ok(()),
                false => self.broken(seen, "None before Close"),
            };
        };
        if seen.closed {
            return self.broken(seen, "an event after Close");
        }
        if seen.failed && !matches!(event, Event::Close(_)) {
            return self.broken(seen, "an event between Error and Close");
        }
        let state = self.raw.ready_state();
        if seen.state > Some(state) {
            return self.broken(seen, "a state that moved back");
        }
        seen.state = Some(state);
        let at_the_end = matches!(event, Event::Error(_) | Event::Close(_));
        if at_the_end && state != ReadyState::Closed {
            return self.broken(seen, "an end in a state other than closed");
        }
        if at_the_end && self.raw.buffered_amount() != 0 {
            return self.broken(seen, "an end with buffered_amount above 0");
        }
        match event {
            Event::Open if seen.opened => return self.broken(seen, "a second Open"),
            Event::Open => seen.opened = true,
            Event::Data(_) | Event::Drain if !seen.opened => {
                return self.broken(seen, "an event before Open");
            }
            Event::Data(data) if data.is_empty() || data.len() > 256 * 1024 => {
                return self.broken(seen, "a Data of 0 or more than 256 KiB bytes");
            }
            Event::Data(_) if state != ReadyState::Open => {
                return self.broken(seen, "Data in a state that is not open");
            }
            Event::Drain if self.raw.buffered_amount() != 0 => {
                return self.broken(seen, "a Drain with buffered_amount above 0");
            }
            Event::Error(_) => seen.failed = true,
            // Under TLS a stream can also end without close_notify.
            Event::Close(close)
                if close.clean == seen.failed && (close.clean || !self.raw.ssl()) =>
            {
                return self.broken(
                    seen,
                    "a clean Close after an Error, or an unclean one without",
                );
            }
            Event::Close(_) => seen.closed = true,
            _ => {}
        }
        match (event, seen.events.last_mut()) {
            (Event::Data(data), Some(Line::Data(n))) => *n += data.len(),
            (Event::Data(data), _) => seen.events.push(Line::Data(data.len())),
            _ => seen.events.push(Line::Other(text)),
        }
        if let Event::Data(data) = event {
            seen.received.extend_from_slice(data);
        }
        if seen.closed {
            drop(seen);
            for _ in 0..2 {
                if !matches!(self.poll(), Poll::Ready(None)) {
                    let seen = lock(&self.seen);
                    return self.broken(seen, "not None after Close");
                }
            }
        }
        Ok(())
    }

    fn broken(&self, seen: std::sync::MutexGuard<'_, Seen>, what: &str) -> Outcome {
        drop(seen);
        Err(Failure::compared(
            format!("the events of socket {}: {what}", self.name),
            "open (not of an accepted socket), data and drain, error at most once, close, none",
            self.events(),
        ))
    }

    /// All events so far.
    pub(crate) fn events(&self) -> String {
        let lines: Vec<_> = lock(&self.seen).events.iter().map(Line::text).collect();
        lines.join(", ")
    }

    /// Waits for exactly these events: `open`, `data <n>` (in as many as it takes), `drain`, `error <name>`, `close clean`,
    /// `close failed`, separated by commas.
    pub(crate) async fn expect(&self, expected: &str) -> Outcome {
        let from = {
            let seen = lock(&self.seen);
            (seen.looked, seen.looked_bytes)
        };
        for line in expected.split(", ") {
            self.expect_one(line).await.map_err(|it| {
                let events = self.events_from(from.0, from.1);
                match it.actual.is_empty() {
                    true => Failure::compared(it.what, expected, events),
                    false => Failure::compared(it.what, expected, it.actual),
                }
            })?;
        }
        Ok(())
    }

    async fn expect_one(&self, line: &str) -> Outcome {
        let wanted = line.strip_prefix("data ").and_then(|n| n.parse().ok());
        let other = || Failure::new(format!("the events of socket {}", self.name));
        loop {
            let next = {
                let seen = lock(&self.seen);
                let next = seen.events.get(seen.looked).cloned();
                // A fully checked data line stays open for more.
                match next {
                    Some(Line::Data(n)) if n == seen.looked_bytes => seen
                        .events
                        .get(seen.looked + 1)
                        .cloned()
                        .map(|it| (it, 1, 0)),
                    Some(it) => Some((it, 0, seen.looked_bytes)),
                    None => None,
                }
            };
            match (next, wanted) {
                (None, _) => {
                    if self.next().await?.is_none() {
                        return Err(other());
                    }
                }
                (Some((Line::Data(n), skip, looked)), Some(wanted)) => {
                    let there = n - looked;
                    if there < wanted {
                        if !matches!(self.next().await?, Some(Event::Data(_))) {
                            return Err(other());
                        }
                        continue;
                    }
                    let mut seen = lock(&self.seen);
                    seen.looked += skip;
                    seen.looked_bytes = looked + wanted;
                    return match there == wanted {
                        true => Ok(()),
                        false => Err(other()),
                    };
                }
                (Some((Line::Other(text), skip, _)), None) => {
                    let mut seen = lock(&self.seen);
                    seen.looked += skip + 1;
                    seen.looked_bytes = 0;
                    return match text == line {
                        true => Ok(()),
                        false => Err(other()),
                    };
                }
                _ => return Err(other()),
            }
        }
    }

    fn events_from(&self, looked: usize, bytes: usize) -> String {
        let seen = lock(&self.seen);
        let mut lines = Vec::new();
        for (at, line) in seen.events.iter().enumerate().skip(looked) {
            match line {
                Line::Data(n) if at == looked && *n == bytes => {}
                Line::Data(n) if at == looked => lines.push(format!("data {}", n - bytes)),
                it => lines.push(it.text()),
            }
        }
        lines.join(", ")
    }

    /// Takes events until the end. All events not yet checked must be one of these traces, in which `data *` is any number
    /// of bytes.
    pub(crate) async fn ends(&self, allowed: &[&str]) -> Outcome {
        let from = {
            let seen = lock(&self.seen);
            (seen.looked, seen.looked_bytes)
        };
        while !lock(&self.seen).closed {
            self.next().await?;
        }
        let actual = self.events_from(from.0, from.1);
        {
            let mut seen = lock(&self.seen);
            seen.looked = seen.events.len();
            seen.looked_bytes = 0;
        }
        let fits = |trace: &str| {
            let (mut theirs, mut ours) = (trace.split(", "), actual.split(", "));
            loop {
                match (theirs.next(), ours.next()) {
                    (None, None) => return true,
                    (Some("data *"), Some(it)) if it.starts_with("data ") => {}
                    (Some(a), Some(b)) if a == b => {}
                    _ => return false,
                }
            }
        };
        match allowed.iter().any(|it| fits(it)) {
            true => Ok(()),
            false => Err(Failure::compared(
                format!("the events of socket {} up to its end", self.name),
                allowed.join(" | "),
                actual,
            )),
        }
    }

    /// Shows that there is no event: by round trips elsewhere, and by polls without progress.
    pub(crate) async fn quiet(&self) -> Outcome {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        for round in 0..2 {
            self.cx.fence().await?;
            for _ in 0..POLLS / 2 {
                if let Poll::Ready(event) = self.poll_with(&waker) {
                    self.note(event.as_ref())?;
                    return Err(Failure::compared(
                        format!("socket {} must have no event now", self.name),
                        "no event",
                        event.as_ref().map_or_else(|| "none".to_owned(), text),
                    ));
                }
                yield_now().await;
            }
            self.log(format_args!("quiet {round}"));
        }
        self.raw.cancel_poll(&waker.clone());
        Ok(())
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket")
            .field("name", &self.name)
            .field("raw", &self.raw)
            .finish_non_exhaustive()
    }
}

/// The canonical text of events, data merged.
pub(crate) fn merged<'a>(events: impl IntoIterator<Item = &'a Event>) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for event in events {
        match (event, lines.last_mut()) {
            (Event::Data(data), Some(Line::Data(n))) => *n += data.len(),
            (Event::Data(data), _) => lines.push(Line::Data(data.len())),
            _ => lines.push(Line::Other(text(event))),
        }
    }
    let lines: Vec<_> = lines.iter().map(Line::text).collect();
    lines.join(", ")
}

/// The canonical text of an event.
pub(crate) fn text(event: &Event) -> String {
    match event {
        Event::Open => "open".to_owned(),
        Event::Data(data) => format!("data {}", data.len()),
        Event::Drain => "drain".to_owned(),
        Event::Error(error) => format!("error {}", error.name()),
        Event::Close(close) if close.clean => "close clean".to_owned(),
        Event::Close(_) => "close failed".to_owned(),
        other => format!("{other:?}"),
    }
}
