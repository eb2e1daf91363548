//! The process of one case.

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tcpsocket::{BinaryType, Bytes, OpenRequest, SocketOptions, SocketProvider, TcpSocketExt};

use super::process::Verdict;
use super::record;
use crate::descriptors::{self, Descriptors};
use crate::mutants::Mutated;
use crate::sync::lock;
use crate::wait::{self, Bell, PATIENCE};
use crate::warden::{Answer, Answers, Warden};
use crate::{
    Capability, Case, Cx, Failure, Mutant, Outcome, Script, Setup, Step, Subject, World, selftest,
};

/// The areas that need peers with TLS.
const TLS: &[Capability] = &[Capability::Secure, Capability::Upgrade, Capability::Alpn];

/// The message of a panic intended by a case.
pub(crate) const INTENDED: &str = "intended by the case";

/// Counts the tasks of a provider, if its subject can.
type Tasks = Option<Arc<dyn Fn() -> usize + Send + Sync>>;

/// `args`: subject, case, seed, and perhaps a mutant.
pub(super) fn run(
    subjects: &[Arc<dyn Subject>],
    cases: &[&'static Case],
    mutants: &[&'static Mutant],
    args: &[String],
) -> ExitCode {
    let ([subject, case, seed], mutant) = (match args {
        [all @ .., mutant] if args.len() == 4 => (all, Some(mutant)),
        all => (all, None),
    }) else {
        return ExitCode::from(2);
    };
    let Some(subject) = subjects.iter().find(|it| it.name() == subject) else {
        return ExitCode::from(2);
    };
    let mutant = match mutant {
        Some(name) => match mutants.iter().find(|it| it.name == name) {
            Some(mutant) => *mutant,
            None => return ExitCode::from(2),
        },
        None => &Mutant::SOUND,
    };
    let subject: Arc<dyn Subject> = Arc::new(Mutated {
        subject: subject.clone(),
        mutant,
    });
    descriptors::set_the_limit();
    let panics = note_panics();
    let judged = std::panic::catch_unwind(AssertUnwindSafe(|| {
        if case == "selftest" {
            return Some(alone(&*subject, |world, _, _| {
                Box::pin(selftest_verdict(world))
            }));
        }
        let case = cases.iter().find(|it| it.id == case)?;
        let seed = seed.parse().unwrap_or_default();
        let host = subject.clone();
        Some(alone(&*subject, move |world, provider, tasks| {
            if let Some(why) = mutant.precondition(&provider.capabilities()) {
                return Box::pin(async { Verdict::Precondition(why) });
            }
            let provider = (mutant.wrap)(provider);
            Box::pin(judge(host, provider, tasks, world, case, seed))
        }))
    }));
    let verdict = match judged {
        Ok(Some(verdict)) => verdict,
        Ok(None) => return ExitCode::from(2),
        Err(_) => None, // noted by the hook
    };
    let panicked = lock(&panics).first().cloned();
    let verdict = match (verdict, panicked) {
        (_, Some(message)) => Verdict::Crash(message),
        (Some(verdict), None) => verdict,
        (None, None) => Verdict::Crash("block_on returned before its future was ready".to_owned()),
    };
    record::emit_verdict(&verdict);
    // Without waiting for threads: what they do now is not judged.
    std::process::exit(0);
}

/// A panic counts in any thread, even one that nobody joins.
fn note_panics() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::<Mutex<Vec<String>>>::default();
    let slot = panics.clone();
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.to_string();
        if !message.contains(INTENDED) {
            lock(&slot).push(message);
            print(info);
        }
    }));
    panics
}

fn alone(
    subject: &dyn Subject,
    body: impl FnOnce(Arc<dyn World>, Arc<dyn SocketProvider>, Tasks) -> crate::BoxFuture<Verdict>,
) -> Option<Verdict> {
    let world = subject.world();
    let started = subject.start(Setup {
        roots: world.roots(),
        ..Setup::default()
    });
    let future = body(world, started.provider.clone(), started.tasks.clone());
    let verdict = Arc::new(Mutex::new(None));
    let slot = verdict.clone();
    started.block_on(Box::pin(async move {
        let it = future.await;
        *lock(&slot) = Some(it);
    }));
    lock(&verdict).take()
}

async fn selftest_verdict(world: Arc<dyn World>) -> Verdict {
    match selftest(world).await {
        Ok(()) => Verdict::Pass,
        Err(failure) => Verdict::Fail(failure),
    }
}

async fn judge(
    subject: Arc<dyn Subject>,
    provider: Arc<dyn SocketProvider>,
    tasks: Tasks,
    world: Arc<dyn World>,
    case: &'static Case,
    seed: u64,
) -> Verdict {
    if let Some(why) = case.precondition(&provider.capabilities()) {
        return Verdict::Precondition(why);
    }
    let about_tls = |it: &Capability| TLS.contains(it);
    if case.needs.iter().any(about_tls) && world.roots().is_empty() {
        return Verdict::Precondition("the peers of this world have no TLS".to_owned());
    }
    let cx = |seed| Cx::new(subject.clone(), provider.clone(), world.clone(), seed);
    if case.guarded && !cx(seed).has_guards() {
        return Verdict::Precondition("the subject has no guards".to_owned());
    }
    warm_up(cx(0)).await;
    let before = Left::now(&tasks);
    let cx = cx(seed);
    let outcome = (case.run)(cx.clone()).await;
    cx.finish();
    drop(cx);
    world.clear();
    let outcome = match outcome {
        Ok(()) => nothing_left(&*provider, &*world, &tasks, &before).await,
        failed => failed,
    };
    match outcome {
        Ok(()) => Verdict::Pass,
        Err(failure) if failure.not_here => Verdict::Precondition(failure.what),
        Err(failure) => Verdict::Fail(failure),
    }
}

/// Opens one connection, sends and closes, behind a gate that waits if there are gates, so that what an implementation makes once
/// and keeps is there before it is counted. Whether that works is for the cases to judge.
async fn warm_up(cx: Cx) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let (provider, world) = (cx.provider(), cx.world());
    let Ok(peer) = world.peer(Script::listen([Step::Accept, Step::ReadToEnd, Step::Close])) else {
        return;
    };
    let at = peer.address();
    let Ok(mut request) = OpenRequest::new(at.ip().to_string(), at.port()) else {
        return;
    };
    if provider.capabilities().gates {
        let answers = Answers {
            name: Answer::AllowAt("warm"),
            ..Answers::default()
        };
        request = Warden::quiet(&cx, answers).guards(request);
    }
    let options = SocketOptions::new().binary_type(BinaryType::ArrayBuffer);
    if let Ok(socket) = provider.open_with(request.with_options(options)) {
        world.signal("warm");
        wait::within(&**world, PATIENCE, socket.next_event()).await;
        let _ = socket.send(Bytes::from_static(b"warm"));
        socket.close();
        wait::within(&**world, PATIENCE, socket.next_event()).await;
    }
    wait::within(&**world, PATIENCE, provider.idle()).await;
    world.clear();
}

/// A provider's resources: descriptors where the system counts them, tasks where the subject does.
struct Left {
    descriptors: Option<Descriptors>,
    tasks: Option<usize>,
}

impl Left {
    fn now(tasks: &Tasks) -> Left {
        Left {
            descriptors: Descriptors::now(),
            tasks: tasks.as_ref().map(|count| count()),
        }
    }

    /// The additions since `before`, in words.
    fn beyond(&self, before: &Left) -> Option<String> {
        if let (Some(now), Some(before)) = (&self.descriptors, &before.descriptors) {
            let more = now.beyond(before);
            if !more.is_empty() {
                return Some(format!("descriptors: {}", more.join(", ")));
            }
        }
        let more = self.tasks.unwrap_or(0) - self.tasks.min(before.tasks).unwrap_or(0);
        (more > 0).then(|| format!("tasks: {more}"))
    }
}

/// The peers and all handles are gone, so everything of the provider has to go soon.
async fn nothing_left(
    provider: &dyn SocketProvider,
    world: &dyn World,
    tasks: &Tasks,
    before: &Left,
) -> Outcome {
    if wait::within(world, PATIENCE, provider.idle())
        .await
        .is_none()
    {
        return Err(Failure::new(
            "afterwards: idle() does not return, although no peer is left (ACT-6)",
        ));
    }
    let end = world.now() + PATIENCE;
    loop {
        match Left::now(tasks).beyond(before) {
            None => return Ok(()),
            Some(left) if world.now() >= end => {
                return Err(Failure::compared(
                    "afterwards: the provider's leftovers (LIFE-8)",
                    "nothing",
                    left,
                ));
            }
            // Nothing wakes us when a descriptor is closed.
            Some(_) => {
                let pause = Duration::from_millis(2);
                wait::until(world, &Bell::default(), pause, || false).await;
            }
        }
    }
}
