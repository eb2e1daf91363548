//! Prints the log as a timeline, the verdicts and the summary.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::demo::judge::Verdict;
use crate::demo::log::{Attempt, Call, Entry, Log, Side, What};

/// A scene with more lines than this is printed in part.
const LONG: usize = 14;

/// The number of lines of a long scene printed before the summed-up part, and after it.
const KEPT: usize = 5;

/// The width of text beside the columns of time and side.
const TEXT: usize = 62;

pub(super) fn header(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        Row {
            at: "ms",
            side: "side",
            what: "call or Event",
            state: "state",
            buffered: "buffered"
        }
    )
}

pub(super) fn title(out: &mut dyn Write, title: &str) -> io::Result<()> {
    writeln!(out, "\n{title}")
}

/// Prints a scene. Repetitions are merged.
pub(super) fn scene(out: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    let lines = merge(entries);
    if lines.len() <= LONG {
        return print(out, &lines, When::Known);
    }
    let (head, rest) = lines.split_at(KEPT);
    let (middle, tail) = rest.split_at(rest.len() - KEPT);
    print(out, head, When::Known)?;
    print(out, &sum_up(middle), When::Mixed)?;
    print(out, tail, When::Known)
}

/// Prints an app's call, what its host was told of it, and what the app was told.
pub(super) fn attempt(out: &mut dyn Write, attempt: &Attempt) -> io::Result<()> {
    let Attempt {
        began, ended, port, ..
    } = attempt;
    let call = format!("{} 127.0.0.1:{port}", attempt.call.name());
    text(out, *began, "app", &call)?;
    for entry in &attempt.told {
        text(out, *began, "host", &entry.to_string())?;
    }
    let Err(error) = &attempt.answer else {
        let went = match attempt.call {
            Call::Listen => "listening",
            Call::Open => "Open",
        };
        return text(out, *ended, "app", went);
    };
    text(out, *ended, "app", &error.to_string())?;
    match (attempt.is_admitted(), attempt.call) {
        (false, _) => Ok(()),
        (true, Call::Listen) => text(
            out,
            *ended,
            "",
            "(the guard admitted it; this is the operating system's answer)",
        ),
        (true, Call::Open) => text(
            out,
            *ended,
            "",
            "(the guard admitted it; this is how the connection ended)",
        ),
    }
}

pub(super) fn verdicts(out: &mut dyn Write, verdicts: &[Verdict]) -> io::Result<()> {
    title(out, "Checks")?;
    let width = verdicts.iter().map(|it| it.check.len()).max().unwrap_or(0);
    for Verdict {
        check,
        seen,
        problem,
    } in verdicts
    {
        match problem {
            None => writeln!(out, "  ok      {check:width$}  {seen}")?,
            Some(problem) => writeln!(out, "  FAILED  {check:width$}  {problem}")?,
        }
    }
    Ok(())
}

/// The last lines. With the verdicts they fit a screen of 24 lines of 80 columns.
pub(super) fn summary(out: &mut dyn Write, log: &Log, verdicts: &[Verdict]) -> io::Result<()> {
    writeln!(out)?;
    if let Some((bytes, took)) = log.bulk {
        let count =
            |wanted: fn(&What) -> bool| log.of(Side::Client).filter(|it| wanted(&it.what)).count();
        let refusals = count(|it| matches!(it, What::Send { answer: false, .. }));
        let drains = count(|it| matches!(it, What::Drain));
        writeln!(
            out,
            "{} in {:.0} ms; send returned false {refusals} times, and Drain came {drains} times.",
            Size(bytes),
            millis(took),
        )?;
        match log.stuck {
            Some(taken) => writeln!(
                out,
                "The kernel took {} before the server read; then the client waited.",
                Size(taken),
            )?,
            None => writeln!(out, "The kernel took all of it before the server read.")?,
        }
    }
    let all = verdicts.len();
    match verdicts
        .iter()
        .filter(|verdict| verdict.problem.is_some())
        .count()
    {
        0 => writeln!(out, "All {all} checks passed."),
        failed => writeln!(out, "{failed} of {all} checks failed."),
    }
}

/// Entries of one kind that follow one another on one side, or one entry.
#[derive(Clone, Debug)]
struct Line<'a> {
    /// The last of them.
    entry: &'a Entry,
    times: usize,
    bytes: usize,
}

impl Line<'_> {
    fn same_kind(&self, other: &Entry) -> bool {
        let kind = |it: &Entry| {
            let answer = match it.what {
                What::Send { answer, .. } => Some(answer),
                _ => None,
            };
            (it.side, it.what.name(), answer)
        };
        kind(self.entry) == kind(other)
    }
}

fn bytes_of(entry: &Entry) -> usize {
    match entry.what {
        What::Send { len, .. } | What::Data { len } => len,
        _ => 0,
    }
}

fn merge(entries: &[Entry]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for entry in entries {
        match lines.last_mut() {
            Some(line) if line.same_kind(entry) => add(line, entry, 1, bytes_of(entry)),
            _ => lines.push(Line {
                entry,
                times: 1,
                bytes: bytes_of(entry),
            }),
        }
    }
    lines
}

/// One line for each kind, in the order in which they came first.
fn sum_up<'a>(lines: &[Line<'a>]) -> Vec<Line<'a>> {
    let mut sums: Vec<Line<'a>> = Vec::new();
    for line in lines {
        match sums.iter_mut().find(|it| it.same_kind(line.entry)) {
            Some(sum) => add(sum, line.entry, line.times, line.bytes),
            None => sums.push(line.clone()),
        }
    }
    sums
}

fn add<'a>(line: &mut Line<'a>, entry: &'a Entry, times: usize, bytes: usize) {
    line.entry = entry;
    line.times += times;
    line.bytes += bytes;
}

/// Whether a line stands for one moment.
#[derive(Clone, Copy)]
enum When {
    Known,
    Mixed,
}

fn print(out: &mut dyn Write, lines: &[Line<'_>], when: When) -> io::Result<()> {
    for line in lines {
        let entry = line.entry;
        let (state, buffered) = match entry.after {
            Some((state, buffered)) => (state.as_str(), buffered.to_string()),
            None => ("", String::new()),
        };
        let at = match when {
            When::Known => format!("{:.1}", millis(entry.at)),
            When::Mixed => "...".into(),
        };
        let row = Row {
            at: &at,
            side: entry.side.name(),
            what: &line.to_string(),
            state,
            buffered: &buffered,
        };
        writeln!(out, "{row}")?;
    }
    Ok(())
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.entry.what.name())?;
        if self.times > 1 {
            write!(f, " x {}", self.times)?;
        }
        match &self.entry.what {
            What::Listen { port } | What::Open { port } => write!(f, " 127.0.0.1:{port}"),
            What::Accepted { port } => write!(f, " from 127.0.0.1:{port}"),
            What::Send { answer, .. } => write!(f, ", {}: {answer}", Size(self.bytes as u64)),
            What::Data { .. } => write!(f, ", {}", Size(self.bytes as u64)),
            What::Refused { error, .. } => write!(f, " failed: {error}"),
            What::Failed(error) => write!(f, ": {error}"),
            What::Closed { clean } => f.write_str(if *clean { ", clean" } else { ", not clean" }),
            What::Suspend
            | What::Resume
            | What::Close
            | What::Opened
            | What::Drain
            | What::Unknown => Ok(()),
        }
    }
}

/// Prints text beside the columns of time and side, in as many lines as it takes. Without a side it is a remark.
fn text(out: &mut dyn Write, at: Duration, side: &str, text: &str) -> io::Result<()> {
    let mut at = match side {
        "" => String::new(),
        _ => format!("{:.1}", millis(at)),
    };
    let mut side = side;
    for line in wrapped(text, TEXT) {
        let line = format!("{at:>8}  {side:6}  {line}");
        writeln!(out, "{}", line.trim_end())?;
        at.clear();
        side = "";
    }
    Ok(())
}

/// The words of a text, in lines of at most `width` characters where words allow it.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// One line of the timeline, in columns.
struct Row<'a> {
    at: &'a str,
    side: &'a str,
    what: &'a str,
    state: &'a str,
    buffered: &'a str,
}

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            at,
            side,
            what,
            state,
            buffered,
        } = self;
        let row = format!("{at:>8}  {side:6}  {what:32}  {state:10}  {buffered:>8}");
        f.write_str(row.trim_end())
    }
}

/// A number of bytes, for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1024 => write!(f, "{bytes} B"),
            bytes @ 1024..0x10_0000 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            bytes => write!(f, "{:.2} MiB", bytes as f64 / 1_048_576.0),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcpsocket::ReadyState;

    fn entry(ms: u64, side: Side, what: What) -> Entry {
        Entry {
            at: Duration::from_millis(ms),
            side,
            what,
            after: Some((ReadyState::Open, 7)),
        }
    }

    fn printed(entries: &[Entry]) -> Vec<String> {
        let mut out = Vec::new();
        scene(&mut out, entries).unwrap();
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn columns_stay_in_line() {
        let lines = printed(&[
            entry(0, Side::Server, What::Drain),
            entry(
                12_345,
                Side::Client,
                What::Send {
                    len: 65_536,
                    before: 7,
                    answer: false,
                },
            ),
        ]);
        assert_eq!(
            lines,
            [
                "     0.0  server  Drain                             open               7",
                " 12345.0  client  send, 64.0 KiB: false             open               7",
            ]
        );
    }

    #[test]
    fn text_is_wrapped_between_words() {
        assert_eq!(wrapped("", 5), Vec::<String>::new());
        assert_eq!(wrapped("ab cd ef", 5), ["ab cd", "ef"]);
        assert_eq!(wrapped("ab  cdefghij k", 5), ["ab", "cdefghij", "k"]);
        let mut out = Vec::new();
        text(
            &mut out,
            Duration::from_millis(7),
            "host",
            &"word ".repeat(20),
        )
        .unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines[0].starts_with("     7.0  host    word word"), "{out}");
        assert!(lines[1].starts_with("                  word word"), "{out}");
        assert_eq!(lines.len(), 2, "{out}");
    }

    #[test]
    fn what_repeats_is_one_line() {
        let data = |len| entry(1, Side::Server, What::Data { len });
        let lines = printed(&[
            data(1000),
            data(24),
            data(1),
            entry(2, Side::Client, What::Drain),
            data(1),
        ]);
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("Data x 3, 1.0 KiB"), "{}", lines[0]);
        assert!(lines[2].contains("Data, 1 B"), "{}", lines[2]);
    }

    #[test]
    fn a_long_scene_is_summed_up_and_loses_nothing() {
        let mut entries = Vec::new();
        for at in 0..100 {
            entries.push(entry(
                at,
                Side::Client,
                What::Send {
                    len: 1024,
                    before: 0,
                    answer: true,
                },
            ));
            entries.push(entry(at, Side::Client, What::Drain));
        }
        let lines = printed(&entries);
        assert_eq!(lines.len(), 2 * KEPT + 2);
        assert!(lines[KEPT].contains("Drain x 95"), "{}", lines[KEPT]);
        assert!(
            lines[KEPT + 1].contains("send x 95, 95.0 KiB: true"),
            "{}",
            lines[KEPT + 1]
        );
    }
}
