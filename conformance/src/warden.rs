//! A gate that records its questions, and gives prescribed answers.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::Poll;

use tcpsocket::{
    Control, Error, ErrorName, Gate, Host, ListenRequest, Meter, OpenRequest, async_trait,
};

use crate::sync::lock;
use crate::{Cx, Failure, Outcome};

/// The answer to a question.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Answer {
    #[default]
    Allow,
    /// Allowed when the signal is raised.
    AllowAt(&'static str),
    Refuse,
    /// Refused when the signal is raised.
    RefuseAt(&'static str),
    /// No answer: a panic.
    Panic,
    /// A panic when the signal is raised.
    PanicAt(&'static str),
}

/// A panic like one of foreign code, but silent: it bypasses the panic hook.
pub(crate) fn explode() -> ! {
    panic::resume_unwind(Box::new("a panic of the case"))
}

/// The answers of a warden.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) name: Answer,
    pub(crate) connect: Answer,
    /// What `connect` returns instead of the given addresses.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    pub(crate) bind: Answer,
    /// For the second question of an automatic port.
    pub(crate) rebind: Answer,
    pub(crate) accept: Answer,
    /// For every peer but the first, if different.
    pub(crate) later_accept: Option<Answer>,
    /// The limit of queued bytes in all; `None` for no limit.
    pub(crate) quota: Option<usize>,
    /// `watch` panics.
    pub(crate) watch_panics: bool,
    /// The meter panics when it is asked about bytes to queue.
    pub(crate) queue_panics: bool,
    /// The meter panics when it is told of written bytes.
    pub(crate) meter_panics: bool,
}

pub(crate) struct Warden {
    cx: Cx,
    label: &'static str,
    /// Whether questions go to the log.
    logs: bool,
    answers: Answers,
    /// Shared between wardens, so that their order shows.
    asked: Arc<Mutex<Vec<String>>>,
    watched: Mutex<Vec<Watched>>,
    /// The questions with their ports.
    ports: Mutex<Vec<String>>,
    /// The peers of servers that it was asked about.
    peers: AtomicUsize,
}

/// One socket or server that a warden watches.
#[derive(Clone)]
pub(crate) struct Watched {
    pub(crate) control: Weak<dyn Control>,
    tally: Arc<Mutex<Tally>>,
}

/// A meter's sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) queued: usize,
    pub(crate) written: usize,
    pub(crate) read: usize,
    pub(crate) dropped: usize,
    /// The meter was dropped.
    pub(crate) gone: bool,
    /// It got a report after all bytes were accounted for, or before they were queued.
    pub(crate) wrong: bool,
}

impl Warden {
    pub(crate) fn new(cx: &Cx, answers: Answers) -> Arc<Warden> {
        Warden::labelled(cx, "", Arc::default(), answers)
    }

    /// One of several wardens that write into one record.
    pub(crate) fn labelled(
        cx: &Cx,
        label: &'static str,
        asked: Arc<Mutex<Vec<String>>>,
        answers: Answers,
    ) -> Arc<Warden> {
        Arc::new(Warden {
            cx: cx.clone(),
            label,
            logs: true,
            answers,
            asked,
            watched: Mutex::default(),
            ports: Mutex::default(),
            peers: AtomicUsize::new(0),
        })
    }

    /// One that leaves no trace in the log.
    pub(crate) fn quiet(cx: &Cx, answers: Answers) -> Arc<Warden> {
        Arc::new(Warden {
            cx: cx.clone(),
            label: "",
            logs: false,
            answers,
            asked: Arc::default(),
            watched: Mutex::default(),
            ports: Mutex::default(),
            peers: AtomicUsize::new(0),
        })
    }

    /// The number of servers' peers that it was asked about.
    pub(crate) fn peers(&self) -> usize {
        self.peers.load(Ordering::SeqCst)
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }

    /// Fails unless the questions had these ports, in this order.
    pub(crate) fn had_ports(&self, expected: &[String]) -> Outcome {
        let ports = lock(&self.ports).clone();
        self.cx
            .check("the ports in the questions", ports.as_slice(), expected)
    }

    /// Fails unless exactly this was asked, in this order. `watch` is left out: its time is the implementation's choice.
    pub(crate) fn was_asked(&self, expected: &[&str]) -> Outcome {
        let asked = self.asked();
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        self.cx
            .check("the questions to the gates", asked.as_slice(), expected)
    }

    pub(crate) async fn is_asked(&self, question: &str) -> Outcome {
        let asked = || lock(&self.asked).iter().any(|it| it == question);
        self.cx.until(question, asked).await
    }

    pub(crate) fn watched(&self) -> Vec<Watched> {
        lock(&self.watched).clone()
    }

    /// The `n`th socket or server that it watches.
    pub(crate) fn watch_of(&self, n: usize) -> Result<Watched, Failure> {
        let watched = lock(&self.watched).get(n).cloned();
        watched.ok_or_else(|| Failure::new(format!("watch was not called {} times", n + 1)))
    }

    pub(crate) fn guards(self: &Arc<Warden>, request: OpenRequest) -> OpenRequest {
        request.with_gate(self.clone())
    }

    pub(crate) fn guards_server(self: &Arc<Warden>, request: ListenRequest) -> ListenRequest {
        request.with_gate(self.clone())
    }

    fn log(&self, what: &str) {
        if self.logs {
            self.cx.log(format_args!("gate: {what}"));
        }
    }

    fn note(&self, question: String) {
        let question = format!("{}{question}", self.label);
        self.log(&question);
        lock(&self.asked).push(question);
        self.cx.bell().ring();
    }

    async fn answer(&self, question: &str, answer: Answer) -> Result<(), Error> {
        let signal = match answer {
            Answer::Allow => return Ok(()),
            Answer::Refuse => return Err(refusal()),
            Answer::Panic => explode(),
            Answer::AllowAt(signal) | Answer::RefuseAt(signal) | Answer::PanicAt(signal) => signal,
        };
        let dropped = Dropped(Some((self, question)));
        let world = self.cx.world();
        poll_fn(|cx| {
            world.watch(cx.waker());
            match world.signalled(signal) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        dropped.forget();
        match answer {
            Answer::PanicAt(_) => explode(),
            Answer::RefuseAt(_) => Err(refusal()),
            _ => Ok(()),
        }
    }
}

/// Notes that a question was dropped.
struct Dropped<'a>(Option<(&'a Warden, &'a str)>);

impl Dropped<'_> {
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Some((warden, question)) = self.0 {
            warden.note(format!("{question} dropped"));
        }
    }
}

/// The error of a warden's refusals.
pub(crate) fn refusal() -> Error {
    Error::new(ErrorName::NotAllowed, "the case does not allow it")
}

#[async_trait]
impl Gate for Warden {
    async fn name(&self, host: &Host, port: u16) -> Result<(), Error> {
        lock(&self.ports).push(format!("name {port}"));
        self.note(format!("name {host}"));
        self.answer("name", self.answers.name).await
    }

    async fn connect(&self, host: &Host, all: &[SocketAddr]) -> Result<Vec<SocketAddr>, Error> {
        let _ = host;
        let ports: Vec<String> = all.iter().map(|it| it.port().to_string()).collect();
        lock(&self.ports).push(format!("connect {}", ports.join(" ")));
        let ips: Vec<String> = all.iter().map(|it| it.ip().to_string()).collect();
        self.note(format!("connect {}", ips.join(" ")));
        self.answer("connect", self.answers.connect).await?;
        Ok(self
            .answers
            .addresses
            .clone()
            .unwrap_or_else(|| all.to_vec()))
    }

    async fn bind(&self, at: SocketAddr) -> Result<(), Error> {
        lock(&self.ports).push(format!("bind {}", at.port()));
        let port = if at.port() == 0 { "0" } else { "real" };
        self.note(format!("bind {} {port}", at.ip()));
        let first = lock(&self.asked)
            .iter()
            .filter(|it| it.starts_with(&format!("{}bind", self.label)) && !it.ends_with("dropped"))
            .count()
            < 2;
        let answer = if first {
            self.answers.bind
        } else {
            self.answers.rebind
        };
        self.answer("bind", answer).await
    }

    async fn accept(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Error> {
        let ports = format!("accept {} {}", local.port(), peer.port());
        lock(&self.ports).push(ports);
        self.note(format!("accept {} {}", local.ip(), peer.ip()));
        let first = self.peers.fetch_add(1, Ordering::SeqCst) == 0;
        let later = self.answers.later_accept.filter(|_| !first);
        self.answer("accept", later.unwrap_or(self.answers.accept))
            .await
    }

    fn watch(&self, it: Weak<dyn Control>) -> Arc<dyn Meter> {
        let tally = Arc::<Mutex<Tally>>::default();
        self.log("watch");
        if self.answers.watch_panics {
            explode();
        }
        lock(&self.watched).push(Watched {
            control: it,
            tally: tally.clone(),
        });
        self.cx.bell().ring();
        Arc::new(Recorder {
            cx: self.cx.clone(),
            quota: self.answers.quota,
            queue_panics: self.answers.queue_panics,
            panics: self.answers.meter_panics,
            tally,
        })
    }
}

impl fmt::Debug for Warden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warden")
            .field("label", &self.label)
            .field("answers", &self.answers)
            .finish_non_exhaustive()
    }
}

impl Watched {
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// Aborts the watched socket or server, if it is still alive.
    pub(crate) fn abort(&self, why: Error) -> bool {
        let control = self.control.upgrade();
        let there = control.is_some();
        if let Some(control) = control {
            control.abort(why);
        }
        there
    }

    /// Waits for the last report.
    pub(crate) async fn gone(&self, cx: &Cx) -> Result<Tally, Failure> {
        cx.until("the meter is dropped", || self.tally().gone)
            .await
            .map_err(|it| Failure::compared(it.what, "gone", format!("{:?}", self.tally())))?;
        Ok(self.tally())
    }
}

/// The meter of a warden.
struct Recorder {
    cx: Cx,
    quota: Option<usize>,
    queue_panics: bool,
    panics: bool,
    tally: Arc<Mutex<Tally>>,
}

impl Meter for Recorder {
    fn queue(&self, bytes: usize) -> Result<(), Error> {
        if self.queue_panics {
            explode();
        }
        let mut tally = lock(&self.tally);
        if self.quota.is_some_and(|it| tally.queued + bytes > it) {
            let why = "the case allows no more bytes";
            return Err(Error::new(ErrorName::QuotaExceeded, why));
        }
        tally.queued += bytes;
        Ok(())
    }

    fn moved(&self, written: usize, read: usize, dropped: usize) {
        let mut tally = lock(&self.tally);
        tally.written += written;
        tally.read += read;
        tally.dropped += dropped;
        tally.wrong |= tally.written + tally.dropped > tally.queued;
        drop(tally);
        self.cx.bell().ring();
        if self.panics && written > 0 {
            explode();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        lock(&self.tally).gone = true;
        self.cx.bell().ring();
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("tally", &self.tally)
            .finish()
    }
}
