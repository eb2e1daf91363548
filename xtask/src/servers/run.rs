//! The checks of one run, with a watchdog for each.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::process;

/// The time limit of a check. Its own deadlines are shorter; this is for a client that never returns.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Run {
    /// The `tcpsocket` command.
    pub(super) tool: PathBuf,
    /// Missing features of the kernel are reported, and do not count.
    forgiving: bool,
    pub(super) passed: usize,
    pub(super) failed: usize,
    fixture: String,
    watched: Sender<Watched>,
}

/// Messages to the watchdog.
#[derive(Debug)]
enum Watched {
    Begins(String),
    Ended,
}

impl Run {
    pub(super) fn new(tool: PathBuf, forgiving: bool) -> Run {
        let (watched, told) = channel();
        thread::spawn(move || {
            while let Ok(Watched::Begins(what)) = told.recv() {
                if let Err(RecvTimeoutError::Timeout) = told.recv_timeout(LIMIT) {
                    println!(
                        "FAILED {what}: it hangs; no end within {LIMIT:?}. Nothing more is checked."
                    );
                    process::end_all();
                    std::process::exit(1);
                }
            }
        });
        Run {
            tool,
            forgiving,
            passed: 0,
            failed: 0,
            fixture: String::new(),
            watched,
        }
    }

    /// Names the fixture whose checks follow.
    pub(super) fn begin(&mut self, fixture: &str) {
        fixture.clone_into(&mut self.fixture);
    }

    /// Runs a check, which returns a remark for the output.
    pub(super) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<String, String>) {
        let begun = Instant::now();
        let what = format!("{}: {name}", self.fixture);
        // The watchdog lives as long as this.
        let _ = self.watched.send(Watched::Begins(what));
        let outcome = check();
        let _ = self.watched.send(Watched::Ended);
        match outcome {
            Ok(told) => {
                self.passed += 1;
                let comma = if told.is_empty() { "" } else { ", " };
                let seconds = begun.elapsed().as_secs_f64();
                println!("ok {}: {name} ({told}{comma}{seconds:.2} s)", self.fixture);
            }
            Err(message) => self.fail(name, &message),
        }
    }

    pub(super) fn fail(&mut self, name: &str, message: &str) {
        self.failed += 1;
        println!("FAILED {}: {name}: {message}", self.fixture);
    }

    /// A check that is impossible, because the kernel lacks a feature.
    pub(super) fn kernel_cannot(&mut self, name: &str, message: &str) {
        let message = format!("this kernel cannot: {message}");
        match self.forgiving {
            true => println!("not checked: {}: {name}: {message}", self.fixture),
            false => self.fail(name, &message),
        }
    }

    /// Adds the checks of another process.
    pub(super) fn add(&mut self, passed: usize, failed: usize) {
        self.passed += passed;
        self.failed += failed;
    }
}
