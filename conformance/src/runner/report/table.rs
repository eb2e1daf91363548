//! The last table: areas by verdicts, a column for each subject.

use std::fmt::Write as _;

use super::is_failure;
use crate::runner::process::{Finding, Verdict};

/// The number of passes of the cases judged, and the rest: `12/12`, `11/12 1 failed`, `10/10 2 not met`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    unmet: usize,
    known: usize,
}

impl Count {
    fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Precondition(_) => self.unmet += 1,
            Verdict::Known { .. } => self.known += 1,
            it => self.failed += usize::from(is_failure(it)),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}/{}", self.passed, self.passed + self.failed + self.known);
        for (count, word) in [
            (self.failed, "failed"),
            (self.known, "known"),
            (self.unmet, "not met"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {count} {word}");
            }
        }
        text
    }
}

/// The first part of a case's id.
pub(super) fn area(finding: &Finding) -> &'static str {
    finding.case.id.split('/').next().unwrap_or_default()
}

pub(super) fn subjects(all: &[Finding]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for finding in all {
        if !names.contains(&&*finding.subject) {
            names.push(&finding.subject);
        }
    }
    names
}

pub(super) fn areas(all: &[Finding]) -> String {
    let subjects = subjects(all);
    let mut areas: Vec<&str> = Vec::new();
    for finding in all {
        if !areas.contains(&area(finding)) {
            areas.push(area(finding));
        }
    }
    let mut rows = vec![header(&subjects)];
    for name in areas.iter().copied().chain(["all"]) {
        let mut row = vec![name.to_owned()];
        for subject in &subjects {
            let mut count = Count::default();
            let these = all.iter().filter(|it| it.subject == *subject);
            for finding in these.filter(|it| name == "all" || area(it) == name) {
                count.add(&finding.verdict);
            }
            row.push(count.text());
        }
        rows.push(row);
    }
    align(&rows)
}

fn header(subjects: &[&str]) -> Vec<String> {
    let names = subjects.iter().map(|it| (*it).to_owned());
    std::iter::once("area".to_owned()).chain(names).collect()
}

fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::report::tests::finding;

    #[test]
    fn every_subject_has_a_column_and_every_area_a_row() {
        let unmet = || Verdict::Precondition("names is not declared".into());
        let all = [
            finding("one", 0, Verdict::Pass),
            finding("one", 1, Verdict::Timeout),
            finding("two", 0, Verdict::Pass),
            finding("two", 1, unmet()),
        ];
        let expected = "\
area     one            two
first    1/1            1/1
second   0/1, 1 failed  0/0, 1 not met
all      1/2, 1 failed  1/1, 1 not met
";
        let squeezed = |text: &str| -> Vec<String> {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            text.lines().map(words).collect()
        };
        assert_eq!(squeezed(&areas(&all)), squeezed(expected));
        let lines: Vec<_> = areas(&all).lines().map(|it| it.find("1/1")).collect();
        assert_eq!(lines[1], Some("second  ".len()), "columns are aligned");
    }
}
