//! Random scripts of caller and peer against a model of the specification, which knows no implementation.
//!
//! Caller and peer run in step, so that the model need not guess: before a turn ends, the peer has read all sent bytes, and the
//! caller has taken the peer's data, unless the script holds it back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::{BoxedStrategy, Just, prop, prop_oneof};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tcpsocket::{Error, ErrorName, Event, ReadyState};

use crate::cx::{Partner, same_bytes};
use crate::runner::emit;
use crate::socket::Socket;
use crate::{Capability, Cx, End, Failure, Outcome, Script, Step};

/// The mark (TX-4).
const MARK: u64 = 65_536;
/// Scripts of one run.
const SCRIPTS: usize = 16;
/// The number of simpler scripts tried after a failure.
const SHRINKS: usize = 40;
/// The time limit for that, since each may wait in vain.
const SHRINKING: Duration = Duration::from_secs(30);

/// One action of the caller or of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Send(usize),
    /// The turn ends, everything due is taken, and the next turn begins.
    Take,
    PeerSends(usize),
    Suspend,
    Resume,
    PeerEnds,
    PeerResets,
    Close,
    Abort,
    AbortWith,
}

/// The subject of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Answers, amounts and drains.
    Sending,
    /// Data, suspended and not.
    Receiving,
    /// Every way to the end.
    Ending,
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0),
        2 => Just(1),
        2 => Just(65_535),
        3 => Just(65_536),
        2 => Just(65_537),
        4 => 1..70_000usize,
        2 => 100_000..300_000usize,
    ]
}

fn scripts(about: About, suspends: bool) -> BoxedStrategy<Vec<Op>> {
    let hold = u32::from(suspends);
    let often = |it: About| if about == it { 6 } else { 1 };
    let one = prop_oneof![
        2 * often(About::Sending) => sizes().prop_map(Op::Send),
        4 => Just(Op::Take),
        2 * often(About::Receiving) => (1..8_000usize).prop_map(Op::PeerSends),
        hold * often(About::Receiving) => Just(Op::Suspend),
        hold * often(About::Receiving) => Just(Op::Resume),
        often(About::Ending) => Just(Op::PeerEnds),
        often(About::Ending) / 3 => Just(Op::PeerResets),
        often(About::Ending) => Just(Op::Close),
        often(About::Ending) / 2 => Just(Op::Abort),
        often(About::Ending) / 3 => Just(Op::AbortWith),
    ];
    prop::collection::vec(one, 1..12).boxed()
}

/// Runs scripts until one fails, and then looks for a simpler one that fails too.
pub(crate) async fn holds(cx: Cx, about: About) -> Outcome {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&cx.seed().to_le_bytes());
    seed[8] = about as u8;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let scripts = generate(rng, scripts(about, cx.declares(Capability::Suspend)))?;
    let mut seen = Seen::default();
    for script in &scripts {
        seen.note(script);
        if let Err(failure) = play(&cx, script).await {
            return Err(simplest(&cx, script.clone(), failure).await);
        }
    }
    emit("note", &[&seen]);
    Ok(())
}

fn generate(
    rng: TestRng,
    strategy: impl Strategy<Value = Vec<Op>>,
) -> Result<Vec<Vec<Op>>, Failure> {
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let made = (0..SCRIPTS).map(|_| Ok(strategy.new_tree(&mut runner)?.current()));
    made.collect::<Result<_, proptest::test_runner::Reason>>()
        .map_err(|why| Failure::new(format!("no script could be made: {why}")))
}

/// Looks for a simpler script that fails too.
async fn simplest(cx: &Cx, mut script: Vec<Op>, mut failure: Failure) -> Failure {
    let mut left = SHRINKS;
    let end = cx.world().now() + SHRINKING;
    'simpler: while left > 0 {
        for candidate in simpler(&script) {
            if left == 0 || cx.world().now() >= end {
                break 'simpler;
            }
            left -= 1;
            if let Err(it) = play(cx, &candidate).await {
                (script, failure) = (candidate, it);
                continue 'simpler;
            }
        }
        break;
    }
    failure.what = format!("{script:?}: {}", failure.what);
    failure
}

/// Every script with one step less, or with a smaller one.
fn simpler(script: &[Op]) -> Vec<Vec<Op>> {
    let mut all = Vec::new();
    for at in 0..script.len() {
        let mut shorter = script.to_vec();
        shorter.remove(at);
        all.push(shorter);
    }
    for (at, op) in script.iter().enumerate() {
        let smaller = match *op {
            Op::Send(len) if len > 65_537 => Op::Send(65_537),
            Op::Send(len) if len > 1 && len != 65_536 => Op::Send(len.min(65_536) / 2),
            Op::PeerSends(len) if len > 1 => Op::PeerSends(1),
            _ => continue,
        };
        let mut lighter = script.to_vec();
        lighter[at] = smaller;
        all.push(lighter);
    }
    all
}

/// Statistics of the scripts, so that nobody mistakes easy ones for a proof.
#[derive(Default)]
struct Seen {
    scripts: usize,
    kinds: BTreeMap<&'static str, usize>,
}

impl Seen {
    fn note(&mut self, script: &[Op]) {
        self.scripts += 1;
        let mut model = Model::default();
        let mut kinds = std::collections::BTreeSet::new();
        for op in script {
            model.apply(*op);
            if model.turn > MARK {
                kinds.insert("cross the mark");
            }
            if model.suspends > 0 && model.pushed > model.delivered {
                kinds.insert("suspend with data pending");
            }
            match model.end {
                Some(Cause::Closed) => kinds.insert("close"),
                Some(Cause::PeerEnded) => kinds.insert("end by the peer"),
                Some(Cause::PeerReset) => kinds.insert("reset"),
                Some(Cause::Aborted | Cause::AbortedWith) => kinds.insert("abort"),
                None => false,
            };
            if matches!(op, Op::Take) {
                model.taken();
            }
        }
        for kind in kinds {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("{} scripts", self.scripts);
        for (kind, count) in &self.kinds {
            let _ = write!(text, ", {}% {kind}", count * 100 / self.scripts.max(1));
        }
        f.write_str(&text)
    }
}

/// The cause of the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Closed,
    PeerEnded,
    PeerReset,
    Aborted,
    AbortedWith,
}

/// The specification's view of one open socket whose peer reads everything before a turn ends.
#[derive(Debug, Default)]
struct Model {
    /// The value of `buffered_amount`.
    turn: u64,
    sent: usize,
    armed: bool,
    suspends: u32,
    pushed: usize,
    delivered: usize,
    end: Option<Cause>,
    /// The end of output was already due at the abort.
    closed_before: bool,
    over: bool,
}

impl Model {
    fn state(&self) -> ReadyState {
        match self.end {
            _ if self.over => ReadyState::Closed,
            // The caller sees it only as an event.
            None | Some(Cause::PeerEnded | Cause::PeerReset) => ReadyState::Open,
            Some(_) => ReadyState::Closing,
        }
    }

    fn is_open(&self) -> bool {
        self.state() == ReadyState::Open
    }

    /// Whether sent bytes are still predictable.
    fn loses(&self) -> bool {
        matches!(
            self.end,
            Some(Cause::PeerReset | Cause::Aborted | Cause::AbortedWith)
        )
    }

    /// Whether the script may do this now. Other steps are left out.
    fn allows(&self, op: Op) -> bool {
        match op {
            Op::PeerSends(_) | Op::PeerEnds => self.end.is_none(),
            // A reset behind a suspend may be noticed or not.
            Op::PeerResets => self.end.is_none() && self.suspends == 0,
            // The caller's reaction to a reset not yet returned may or may not come in time.
            Op::Suspend | Op::Close | Op::Abort | Op::AbortWith => {
                self.over || self.end != Some(Cause::PeerReset)
            }
            _ => true,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send(len) if self.is_open() => {
                self.turn += len as u64;
                self.sent += len;
                self.armed |= self.turn >= MARK;
            }
            Op::PeerSends(len) if self.allows(op) => self.pushed += len,
            Op::Suspend if self.allows(op) && self.is_open() => self.suspends += 1,
            Op::Resume if self.is_open() => self.suspends = self.suspends.saturating_sub(1),
            Op::PeerEnds if self.allows(op) => self.end = Some(Cause::PeerEnded),
            Op::PeerResets if self.allows(op) => self.end = Some(Cause::PeerReset),
            Op::Close if self.allows(op) && self.is_open() => self.end = Some(Cause::Closed),
            Op::Abort if self.allows(op) && !self.over && self.end != Some(Cause::AbortedWith) => {
                (self.end, self.armed) = (Some(Cause::Aborted), false);
            }
            Op::AbortWith if self.allows(op) && !self.over => {
                self.closed_before |= matches!(self.end, Some(Cause::Closed | Cause::Aborted));
                (self.end, self.armed) = (Some(Cause::AbortedWith), false);
            }
            _ => {}
        }
    }

    /// The number of bytes still to come before the end of the turn.
    fn data_due(&self) -> usize {
        match self.is_open() && self.suspends == 0 {
            true => self.pushed - self.delivered,
            false => 0,
        }
    }

    fn end_due(&self) -> bool {
        match self.end {
            None => false,
            Some(Cause::PeerEnded) => self.suspends == 0,
            Some(_) => !self.over,
        }
    }

    /// Everything due has been taken.
    fn taken(&mut self) {
        self.delivered += self.data_due();
        self.over |= self.end_due();
        (self.turn, self.armed) = (0, false);
    }
}

/// A signal of its own for each step; a process runs some hundreds.
fn signal(kind: &str, run: usize, step: usize) -> &'static str {
    Box::leak(format!("{kind} {run}.{step}").into_boxed_str())
}

/// The peer's part of the script.
struct Peer {
    steps: Vec<Step>,
    /// The signals that each step of the script raises and waits for.
    signals: Vec<(Option<&'static str>, Option<&'static str>)>,
}

impl Peer {
    fn new(cx: &Cx, script: &[Op], run: usize) -> Peer {
        let mut model = Model::default();
        let mut peer = Peer {
            steps: vec![Step::Accept],
            signals: Vec::new(),
        };
        let mut read = 0;
        for (at, op) in script.iter().copied().enumerate() {
            let (go, done) = (signal("go", run, at), signal("done", run, at));
            let allowed = model.allows(op) && !model.over;
            let from = model.pushed;
            model.apply(op);
            let mut does = |what: Option<Step>| {
                peer.steps.push(Step::Wait(go));
                peer.steps.extend(what);
                peer.steps.push(Step::Signal(done));
                (Some(go), Some(done))
            };
            let signals = match op {
                Op::PeerSends(_) if allowed => {
                    does(Some(Step::Write(cx.bytes(model.pushed).slice(from..))))
                }
                Op::PeerEnds if allowed => does(Some(Step::Fin)),
                Op::PeerResets if allowed => does(Some(Step::Reset)),
                Op::Take if !model.loses() && model.sent > read => {
                    let len = model.sent - read;
                    read = model.sent;
                    does(Some(Step::Read(len)))
                }
                _ => (None, None),
            };
            peer.signals.push(signals);
            if op == Op::Take {
                model.taken();
            }
        }
        if model.end != Some(Cause::PeerReset) {
            peer.steps.extend([Step::ReadToEnd, Step::Close]);
        }
        peer
    }
}

async fn play(cx: &Cx, script: &[Op]) -> Outcome {
    static RUNS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // Close what the script left open, and take everything due.
    let mut script = script.to_vec();
    script.extend([Op::Take, Op::Close, Op::Take]);
    cx.log(format_args!("script {script:?}"));
    let plan = Peer::new(cx, &script, run);
    let peer = cx.peer(Script::listen(plan.steps))?;
    let socket = cx.open(&peer).await?;
    let mut model = Model::default();
    for (op, (go, done)) in script.iter().copied().zip(plan.signals) {
        if let Some(go) = go {
            cx.world().signal(go);
        }
        if let Some(done) = done.filter(|_| op != Op::Take) {
            cx.signalled(done).await?;
        }
        step(cx, &socket, &mut model, op, done).await?;
        if !model.over {
            socket.is(model.state())?;
        }
    }
    at_the_end(cx, &socket, &peer, &model).await
}

async fn step(
    cx: &Cx,
    socket: &Socket,
    model: &mut Model,
    op: Op,
    read: Option<&'static str>,
) -> Outcome {
    if !model.allows(op) {
        return Ok(());
    }
    let was_open = model.is_open();
    let suspended = model.suspends;
    model.apply(op);
    match op {
        Op::Send(len) if was_open => {
            let data = cx.bytes(model.sent).slice(model.sent - len..);
            let answer = socket.send(data)?;
            cx.check("the answer of send", answer, model.turn <= MARK)?;
            socket.buffers(model.turn)?;
        }
        Op::Send(_) => socket.send_fails("InvalidStateError")?,
        Op::Suspend => socket.suspend(),
        Op::Resume if was_open && suspended == 0 => socket.resume_fails("InvalidStateError")?,
        Op::Resume => socket.resume()?,
        Op::Close => socket.close(),
        Op::Abort => socket.abort(None),
        Op::AbortWith => socket.abort(Some(Error::new(ErrorName::QuotaExceeded, "by the script"))),
        Op::Take => take(cx, socket, model, read).await?,
        Op::PeerSends(_) | Op::PeerEnds | Op::PeerResets => {}
    }
    Ok(())
}

async fn take(cx: &Cx, socket: &Socket, model: &mut Model, read: Option<&'static str>) -> Outcome {
    if model.over {
        return cx.check("an event after Close", socket.next().await?.is_none(), true);
    }
    let (mut data, mut drains) = (model.data_due(), usize::from(model.armed));
    let ends = model.end_due();
    // Nobody can say which bytes a reset destroys.
    let vague = model.end == Some(Cause::PeerReset);
    let failing = matches!(model.end, Some(Cause::PeerReset | Cause::AbortedWith));
    let mut failed = false;
    while ends || data > 0 || drains > 0 {
        let what = |event: &str| {
            Failure::compared(
                format!(
                    "the events of a turn with {data} bytes of data and {drains} drains to come"
                ),
                "the model's events",
                event.to_owned(),
            )
        };
        match socket.next().await? {
            Some(Event::Data(it)) if it.len() <= data => data -= it.len(),
            Some(Event::Drain) if drains > 0 => drains -= 1,
            Some(Event::Error(_)) if failing && ends => failed = true,
            Some(Event::Close(_)) if ends && failed == failing => {
                if !vague && (data > 0 || drains > 0) {
                    return Err(what("Close"));
                }
                break;
            }
            other => return Err(what(&format!("{other:?}"))),
        }
    }
    if !ends {
        if let Some(read) = read {
            cx.signalled(read).await?;
        }
        socket.quiet().await?;
        socket.buffers(0)?;
    }
    model.taken();
    Ok(())
}

async fn at_the_end(cx: &Cx, socket: &Socket, peer: &Partner, model: &Model) -> Outcome {
    socket.is(ReadyState::Closed)?;
    let pushed = cx.bytes(model.pushed);
    let received = socket.received();
    match model.end {
        Some(Cause::PeerReset) => {
            same_bytes("what was delivered", &received, &pushed[..received.len()])?;
        }
        _ => {
            same_bytes("what was delivered", &received, &pushed[..model.delivered])?;
            match (model.end, model.closed_before) {
                // The peer has seen the stream up to the end.
                (Some(Cause::AbortedWith), true) => {
                    peer.until("the stream ends", |it| it.end.is_some()).await?;
                }
                (Some(Cause::AbortedWith), false) => peer.ends(End::Reset).await?,
                _ => peer.ends(End::Fin).await?,
            }
        }
    }
    let (got, sent) = (peer.received(), socket.sent());
    match model.loses() {
        true => same_bytes(
            "what the peer received",
            &got,
            &sent[..got.len().min(sent.len())],
        ),
        false => same_bytes("what the peer received", &got, &sent),
    }
}

/// The time limit of a run: scripts are quick, but the search for simpler failures takes time.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
