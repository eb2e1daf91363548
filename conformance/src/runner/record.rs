//! The records that a child process writes for its runner, on its standard output among any other text.

use std::fmt::Display;
use std::io::Write as _;

use super::process::Verdict;
use crate::Failure;

/// The beginning of a record, which ends at the end of the line.
const MARK: char = '\u{1e}';

/// Writes a record at once, so that even a killed process has told how far it came.
pub(crate) fn emit(kind: &str, fields: &[&dyn Display]) {
    let mut line = format!("{MARK}{kind}");
    for field in fields {
        line.push('\t');
        line.push_str(&escape(&field.to_string()));
    }
    line.push('\n');
    let mut out = std::io::stdout().lock();
    // A runner that is gone needs no records.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

pub(super) fn emit_verdict(verdict: &Verdict) {
    match verdict {
        Verdict::Pass => emit("pass", &[]),
        Verdict::Fail(it) => emit("fail", &[&it.what, &it.expected, &it.actual]),
        Verdict::Precondition(why) => emit("precondition", &[why]),
        Verdict::Crash(why) => emit("crash", &[why]),
        // Only the runner gives the others.
        Verdict::Timeout | Verdict::Known { .. } | Verdict::Stale { .. } => {}
    }
}

/// The records of a process.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) log: Vec<String>,
    /// A remark of a passing case.
    pub(super) note: Option<String>,
    pub(super) verdict: Option<Verdict>,
}

/// Finds the records in a process's output.
pub(super) fn read(output: &str) -> Told {
    let mut told = Told::default();
    for record in output.split(MARK).skip(1) {
        let line = record.lines().next().unwrap_or_default();
        let mut fields = line.split('\t');
        let kind = fields.next().unwrap_or_default();
        let mut next = || unescape(fields.next().unwrap_or_default());
        match kind {
            "log" => told.log.push(next()),
            "note" => told.note = Some(next()),
            "pass" => told.verdict = Some(Verdict::Pass),
            "fail" => {
                let failure = Failure::compared(next(), next(), next());
                told.verdict = Some(Verdict::Fail(failure));
            }
            "precondition" => told.verdict = Some(Verdict::Precondition(next())),
            "crash" => told.verdict = Some(Verdict::Crash(next())),
            _ => {}
        }
    }
    told
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            MARK => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some(c) => out.push(c),
                None => {}
            },
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_between_other_output() {
        let output =
            "noise\n\u{1e}log\tone\nmore noise \u{1e}log\tt\\twö\n\u{1e}fail\ta\tb\\nc\t\n";
        let told = read(output);
        assert_eq!(told.log, ["one", "t\twö"]);
        assert_eq!(told.note, None);
        let expected = Failure::compared("a", "b\nc", "");
        assert!(matches!(told.verdict, Some(Verdict::Fail(it)) if it == expected));
        assert!(read("nothing at all").verdict.is_none());
    }

    #[test]
    fn escaping_is_undone() {
        for text in ["", "a\tb\nc\r\\n\\", "ü"] {
            assert_eq!(unescape(&escape(text)), text);
            assert!(!escape(text).contains(['\n', '\t']));
        }
    }
}
