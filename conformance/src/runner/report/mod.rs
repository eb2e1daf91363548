//! Reports for people and for programs.

mod html;
mod json;
mod table;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::process::{Finding, Verdict};
use super::say::{self, say};
use crate::Case;
use crate::specification::page;

pub(super) use self::html::html;
pub(super) use self::json::json;

/// The number of last lines shown of a long output.
const TAIL: usize = 40;

pub(in crate::runner) fn list(cases: &[&Case]) {
    for case in cases {
        say!("{} [{} {}]", case.id, case.level, case.clauses.join(" "));
        say!("    {}", case.requirement);
    }
    say!("{} cases", cases.len());
}

pub(in crate::runner) fn heading(cases: usize, subject: &str, seed: u64) {
    say!("\nrunning {cases} cases against {subject}, seed {seed}");
}

/// Prints findings in the order of the table, each once its predecessors are complete; on a terminal also the progress.
pub(super) struct InOrder {
    waiting: Vec<Option<Finding>>,
    done: Vec<Finding>,
    /// The number of findings so far, in any order.
    came: usize,
    failed: usize,
    terminal: bool,
}

impl InOrder {
    pub(in crate::runner) fn new(cases: usize) -> InOrder {
        InOrder {
            waiting: (0..cases).map(|_| None).collect(),
            done: Vec::new(),
            came: 0,
            failed: 0,
            terminal: io::stdout().is_terminal(),
        }
    }

    pub(in crate::runner) fn add(&mut self, at: usize, finding: Finding) {
        self.came += 1;
        self.failed += usize::from(is_failure(&finding.verdict));
        self.waiting[at] = Some(finding);
        self.clear();
        while let Some(finding) = self.waiting.get_mut(self.done.len()).and_then(Option::take) {
            let note = finding.trail.note.as_ref();
            let note = note.map_or_else(String::new, |it| format!(" ({it})"));
            say!(
                "case {} ... {}{note}",
                finding.case.id,
                word(&finding.verdict)
            );
            self.done.push(finding);
        }
        self.show();
    }

    /// The line of the progress, which the next line replaces.
    fn show(&self) {
        let (came, failed, all) = (self.came, self.failed, self.waiting.len());
        if self.terminal && came < all {
            say::write(format_args!("{came} of {all}, {failed} failed"));
        }
    }

    fn clear(&self) {
        if self.terminal {
            say::write(format_args!("\r\x1b[K"));
        }
    }

    pub(in crate::runner) fn finish(self) -> Vec<Finding> {
        self.done
    }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "ok".to_owned(),
        Verdict::Fail(_) => "FAILED".to_owned(),
        Verdict::Timeout => "FAILED (timeout)".to_owned(),
        Verdict::Crash(_) => "FAILED (crash)".to_owned(),
        Verdict::Precondition(why) => format!("ignored, {why}"),
        Verdict::Known { reason } => format!("ignored, known failure: {reason}"),
        Verdict::Stale { .. } => "FAILED (stale)".to_owned(),
    }
}

fn status(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail(_) => "FAIL",
        Verdict::Timeout => "TIMEOUT",
        Verdict::Crash(_) => "CRASH",
        Verdict::Precondition(_) => "PRECONDITION_FAILED",
        Verdict::Known { .. } => "KNOWN_FAILURE",
        Verdict::Stale { .. } => "STALE",
    }
}

fn is_failure(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Fail(_) | Verdict::Timeout | Verdict::Crash(_) | Verdict::Stale { .. }
    )
}

/// A verdict with all its details.
pub(in crate::runner) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "passed".to_owned(),
        Verdict::Fail(it) if it.expected.is_empty() && it.actual.is_empty() => it.what.clone(),
        Verdict::Fail(it) => format!(
            "{}\n  expected: {}\n  actual:   {}",
            it.what, it.expected, it.actual
        ),
        Verdict::Timeout => "the process did not end in time and was killed".to_owned(),
        Verdict::Crash(why) => why.clone(),
        Verdict::Precondition(why) => why.clone(),
        Verdict::Known { reason } => format!("known failure: {reason}"),
        Verdict::Stale { reason } => {
            format!("listed as a known failure ({reason}), but it passes: remove the entry")
        }
    }
}

fn details(finding: &Finding) -> String {
    let case = finding.case;
    let mut out = format!("---- {} ({}) ----\n", case.id, finding.subject);
    let clauses = case.clauses.join(", ");
    let _ = writeln!(out, "{} {clauses}: {}", case.level, case.requirement);
    let mut pages: Vec<_> = case.clauses.iter().filter_map(|it| page(it)).collect();
    pages.dedup();
    let _ = writeln!(out, "see {}", pages.join(", "));
    let _ = writeln!(out, "{}", verdict(&finding.verdict));
    for (title, lines) in [
        (
            "trace",
            finding
                .trail
                .log
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>(),
        ),
        ("stderr", finding.trail.stderr.lines().collect()),
        (
            "threads at the kill",
            finding.trail.threads.iter().map(String::as_str).collect(),
        ),
    ] {
        if lines.is_empty() {
            continue;
        }
        let _ = writeln!(out, "{title}:");
        let from = lines.len().saturating_sub(TAIL);
        for line in &lines[from..] {
            let _ = writeln!(out, "  {line}");
        }
    }
    let _ = writeln!(out, "rerun: {}", finding.rerun);
    out
}

/// Prints the failures and the last line; returns whether there are no failures.
pub(in crate::runner) fn summary(
    all: &[Finding],
    complaints: &[String],
    filtered: usize,
    took: Duration,
) -> bool {
    let count = |which: fn(&Verdict) -> bool| all.iter().filter(|it| which(&it.verdict)).count();
    let failed = count(is_failure) + complaints.len();
    if failed > 0 {
        say!("\nfailures:\n");
    }
    for finding in all.iter().filter(|it| is_failure(&it.verdict)) {
        say!("{}", details(finding));
    }
    for complaint in complaints {
        say!("expectations: {complaint}");
    }
    say!("\n{}", table::areas(all));
    let precondition = count(|it| matches!(it, Verdict::Precondition(_)));
    let known = count(|it| matches!(it, Verdict::Known { .. }));
    say!("\nprecondition not met: {precondition}; known failures: {known}");
    say!(
        "test result: {}. {} passed; {failed} failed; {} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        count(|it| matches!(it, Verdict::Pass)),
        precondition + known,
        took.as_secs_f64(),
    );
    failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::process::Trail;

    static CASES: [Case; 2] = [
        Case {
            id: "first/a",
            clauses: &["TX-4"],
            requirement: "What is <sent> arrives.",
            ..Case::MUST
        },
        Case {
            id: "second/b",
            clauses: &["TX-4", "CL-8"],
            requirement: "What ends has ended.",
            ..Case::MUST
        },
    ];

    pub(super) fn finding(subject: &str, case: usize, verdict: Verdict) -> Finding {
        Finding {
            subject: subject.into(),
            case: &CASES[case],
            verdict,
            trail: Trail::default(),
            took: Duration::from_millis(7),
            rerun: "run it again".into(),
        }
    }

    #[test]
    fn a_failure_says_what_was_required_where_that_stands_and_how_to_see_it_again() {
        let told = details(&finding("one", 1, Verdict::Timeout));
        for part in [
            "second/b (one)",
            "MUST TX-4, CL-8: What ends has ended.",
            "see docs/spec/sending.md#tx-4-must, docs/spec/closing.md#cl-8-must",
            "did not end in time",
            "rerun: run it again",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }

    /// What every report is made of here: two cases, two subjects, one failure.
    fn findings() -> Vec<Finding> {
        let failed = Verdict::Fail(crate::Failure::compared(
            "the events of socket a",
            "open, close clean",
            "open",
        ));
        let mut failing = finding("one", 1, failed);
        failing.trail.log = vec!["open -> ok".into(), "a: event open".into()];
        failing.trail.stderr = "a warning\n".into();
        vec![
            finding("one", 0, Verdict::Pass),
            failing,
            finding("two", 0, Verdict::Pass),
            finding(
                "two",
                1,
                Verdict::Precondition("names is not declared".into()),
            ),
        ]
    }

    #[test]
    fn reports() {
        let all = findings();
        insta::assert_snapshot!("details", details(&all[1]));
        insta::assert_snapshot!("areas", table::areas(&all));
        let page = html(&all, 1, "docs/spec").replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let page = page.replace(std::env::consts::OS, "OS");
        // The list at its end is the specification's business.
        let (page, _) = page.split_once("<h2>Without a case").unwrap();
        insta::assert_snapshot!("page", page);
        let json = json(&all, 1).replace(env!("CARGO_PKG_VERSION"), "VERSION");
        let json = json.replace(std::env::consts::OS, "OS");
        insta::assert_snapshot!("json", json);
    }
}
