//! One case in one process.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::record;
use crate::{Case, Failure};

/// What came of a case.
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
    /// It failed, as was said.
    Known {
        reason: String,
    },
    /// It was said to fail, and did not. An error.
    Stale {
        reason: String,
    },
}

/// What a process left behind, for people.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    pub(super) log: Vec<String>,
    pub(super) note: Option<String>,
    pub(super) stderr: String,
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
    let (told, out) = mpsc::channel();
    let stdout = reader(child.stdout.take(), Some(told));
    let stderr = reader(child.stderr.take(), None);
    // The end of its output is the end of a process.
    let ended = out.recv_timeout(deadline).is_ok();
    if !ended {
        // It may have ended in this moment; then there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait();
    let text = |it: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&it.join().unwrap_or_default()).into_owned()
    };
    let told = record::read(&text(stdout));
    let trail = Trail {
        log: told.log,
        note: told.note,
        stderr: text(stderr),
    };
    let verdict = match (told.verdict, ended, status) {
        (Some(verdict), true, _) => verdict,
        (_, false, _) => Verdict::Timeout,
        (None, true, Ok(status)) => {
            Verdict::Crash(format!("its process ended by itself, {status}"))
        }
        (None, true, Err(error)) => Verdict::Crash(format!("its process is lost: {error}")),
    };
    (verdict, trail)
}

fn reader(
    from: Option<impl Read + Send + 'static>,
    told: Option<mpsc::Sender<()>>,
) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // What was read until then is kept.
            let _ = from.read_to_end(&mut bytes);
        }
        if let Some(told) = told {
            // Nobody listens any more once the process was given up.
            let _ = told.send(());
        }
        bytes
    })
}
