//! One case in one process.

use std::io::{ErrorKind, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{record, threads};
use crate::sync::lock;
use crate::{Case, Failure};

/// The verdict on a case.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Pass,
    Fail(Failure),
    /// Its process was killed at the deadline.
    Timeout,
    /// Its process ended by itself, or something in it panicked.
    Crash(String),
    /// It cannot run here. Not a pass.
    Precondition(String),
    /// It failed, as expected.
    Known {
        reason: String,
    },
    /// It was expected to fail, and did not. An error.
    Stale {
        reason: String,
    },
}

/// The output of a process, for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    pub(super) log: Vec<String>,
    pub(super) note: Option<String>,
    pub(super) stderr: String,
    /// The activity of its threads when it was killed.
    pub(super) threads: Vec<String>,
}

/// A case, a subject and the verdict.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    pub(super) subject: String,
    pub(super) case: &'static Case,
    pub(super) verdict: Verdict,
    pub(super) trail: Trail,
    pub(super) took: Duration,
    pub(super) rerun: String,
}

/// The interval of checks for a process that has ended although its output has not.
const GLANCE: Duration = Duration::from_millis(50);

/// How long to wait for the end of an ended process's output.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs this program with these arguments, and kills it at the deadline.
pub(super) fn run(args: &[String], deadline: Duration) -> (Verdict, Trail) {
    let crash = |why: String| (Verdict::Crash(why), Trail::default());
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(error) => return crash(format!("this program cannot find itself: {error}")),
    };
    let child = Command::new(exe)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return crash(format!("the process could not be started: {error}")),
    };
    let stdout = Printed::read(child.stdout.take());
    let stderr = Printed::read(child.stderr.take());
    let ended = ends(&mut child, &stdout, deadline);
    let mut seen = Vec::new();
    if !ended {
        seen = threads::of(child.id());
        // If it has just ended, there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait();
    let told = record::read(&stdout.text());
    let trail = Trail {
        log: told.log,
        note: told.note,
        stderr: stderr.text(),
        threads: seen,
    };
    let verdict = match (told.verdict, ended, status) {
        (Some(verdict), true, _) => verdict,
        (_, false, _) => Verdict::Timeout,
        (None, true, Ok(status)) => {
            Verdict::Crash(format!("the process ended by itself, {status}"))
        }
        (None, true, Err(error)) => Verdict::Crash(format!("the process is lost: {error}")),
    };
    (verdict, trail)
}

/// Whether it ends in time. A child process may hold its output open for longer.
fn ends(child: &mut Child, stdout: &Printed, deadline: Duration) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if stdout.is_all(GLANCE) || matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
    }
}

/// The output of a process, read on a thread.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Receives the end.
    end: mpsc::Receiver<()>,
}

impl Printed {
    fn read(from: Option<impl Read + Send + 'static>) -> Printed {
        let bytes = Arc::<Mutex<Vec<u8>>>::default();
        let sink = bytes.clone();
        let (told, end) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            let Some(mut from) = from else { return };
            loop {
                match from.read(&mut chunk) {
                    Ok(n @ 1..) => lock(&sink).extend_from_slice(&chunk[..n]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
            drop(told);
        });
        Printed { bytes, end }
    }

    /// Whether the output has ended; waits at most this long.
    fn is_all(&self, patience: Duration) -> bool {
        self.end.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Disconnected)
    }

    /// The whole output of an ended process.
    fn text(&self) -> String {
        self.is_all(LAST_WORDS);
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }
}
