//! What people and programs read.

use std::fmt::Write as _;
use std::time::Duration;

use super::process::{Finding, Verdict};
use crate::Case;

/// How many lines of the end of a long output are shown.
const TAIL: usize = 40;

pub(super) fn list(cases: &[&Case]) {
    for case in cases {
        println!("{} [{} {}]", case.id, case.level, case.clauses.join(" "));
        println!("    {}", case.requirement);
    }
    println!("{} cases", cases.len());
}

pub(super) fn heading(cases: usize, subject: &str, seed: u64) {
    println!("\nrunning {cases} cases against {subject}, seed {seed}");
}

/// Prints findings in the order of the table, each as soon as those before it are there.
pub(super) struct InOrder {
    waiting: Vec<Option<Finding>>,
    done: Vec<Finding>,
}

impl InOrder {
    pub(super) fn new(cases: usize) -> InOrder {
        InOrder {
            waiting: (0..cases).map(|_| None).collect(),
            done: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, at: usize, finding: Finding) {
        self.waiting[at] = Some(finding);
        while let Some(finding) = self.waiting.get_mut(self.done.len()).and_then(Option::take) {
            println!("case {} ... {}", finding.case.id, word(&finding.verdict));
            self.done.push(finding);
        }
    }

    pub(super) fn finish(self) -> Vec<Finding> {
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

/// A verdict with all that is known about it.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "passed".to_owned(),
        Verdict::Fail(it) if it.expected.is_empty() && it.actual.is_empty() => it.what.clone(),
        Verdict::Fail(it) => format!(
            "{}\n  expected: {}\n  actual:   {}",
            it.what, it.expected, it.actual
        ),
        Verdict::Timeout => "its process did not end in time and was killed".to_owned(),
        Verdict::Crash(why) => why.clone(),
        Verdict::Precondition(why) => why.clone(),
        Verdict::Known { reason } => format!("known failure: {reason}"),
        Verdict::Stale { reason } => {
            format!(
                "it is listed as a known failure ({reason}) and does not fail: remove the entry"
            )
        }
    }
}

fn details(finding: &Finding) -> String {
    let case = finding.case;
    let mut out = format!("---- {} ({}) ----\n", case.id, finding.subject);
    let clauses = case.clauses.join(", ");
    let _ = writeln!(out, "{} {clauses}: {}", case.level, case.requirement);
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

/// Prints the failures and the last line; whether all is well.
pub(super) fn summary(
    all: &[Finding],
    complaints: &[String],
    filtered: usize,
    took: Duration,
) -> bool {
    let count = |which: fn(&Verdict) -> bool| all.iter().filter(|it| which(&it.verdict)).count();
    let failed = count(is_failure) + complaints.len();
    if failed > 0 {
        println!("\nfailures:\n");
    }
    for finding in all.iter().filter(|it| is_failure(&it.verdict)) {
        println!("{}", details(finding));
    }
    for complaint in complaints {
        println!("expectations: {complaint}");
    }
    let precondition = count(|it| matches!(it, Verdict::Precondition(_)));
    let known = count(|it| matches!(it, Verdict::Known { .. }));
    println!("\nprecondition not met: {precondition}; known failures: {known}");
    println!(
        "test result: {}. {} passed; {failed} failed; {} ignored; 0 measured; {filtered} filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        count(|it| matches!(it, Verdict::Pass)),
        precondition + known,
        took.as_secs_f64(),
    );
    failed == 0
}

/// The findings for programs; the shape is that of `wptreport.json`.
pub(super) fn json(all: &[Finding], seed: u64) -> String {
    let results: Vec<_> = all.iter().map(|it| format!("    {}", result(it))).collect();
    format!(
        "{{\n  \"run_info\": {{\"kit\": {}, \"os\": {}, \"seed\": {seed}}},\n  \"results\": [\n{}\n  ]\n}}\n",
        string(env!("CARGO_PKG_VERSION")),
        string(std::env::consts::OS),
        results.join(",\n"),
    )
}

fn result(finding: &Finding) -> String {
    let case = finding.case;
    let strings = |all: &mut dyn Iterator<Item = &str>| {
        let all: Vec<_> = all.map(string).collect();
        format!("[{}]", all.join(", "))
    };
    let mut fields = vec![
        ("subject", string(&finding.subject)),
        ("id", string(case.id)),
        ("clauses", strings(&mut case.clauses.iter().copied())),
        ("level", string(&case.level.to_string())),
        ("status", string(status(&finding.verdict))),
        ("duration_ms", finding.took.as_millis().to_string()),
    ];
    match &finding.verdict {
        Verdict::Pass => {}
        Verdict::Fail(it) => {
            fields.push(("message", string(&it.what)));
            fields.push(("expected", string(&it.expected)));
            fields.push(("actual", string(&it.actual)));
        }
        other => fields.push(("message", string(&verdict(other)))),
    }
    if !matches!(finding.verdict, Verdict::Pass) {
        let mut log = finding.trail.log.iter().map(String::as_str);
        fields.push(("trace", strings(&mut log)));
    }
    let fields: Vec<_> = fields
        .iter()
        .map(|(k, v)| format!("{}: {v}", string(k)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_for_json() {
        assert_eq!(string("a\"b\\c\nd\u{1}ü"), "\"a\\\"b\\\\c\\nd\\u0001ü\"");
    }
}
