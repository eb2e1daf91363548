//! The clauses of the specification: each id exists once, every cited id exists, and every MUST and SHOULD has a case in
//! the kit, or a reason for having none.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, Report, Workspace};

/// The areas of the specification, reserved ones included. Only `AREA-n` with one of these is an id: UTF-8
/// and SHA-256 are not.
const AREAS: &[&str] = &[
    "ACC", "ACT", "CL", "ERR", "EVT", "GATE", "IF", "LIFE", "NAME", "OPT", "PERM", "ROW", "RX",
    "SRV", "ST", "TLS", "TURN", "TX",
];

pub(super) const LEVELS: &[&str] = &["MUST", "SHOULD", "MAY", "HOST"];

pub(super) const SPEC: &str = "docs/spec/";
const STATES: &str = "docs/spec/states.md";
pub(super) const UNOBSERVABLE: &str = "docs/spec/unobservable.md";
const KIT: &str = "conformance/src/";
/// Mutants name clauses too, but that judges nobody.
const MUTANTS: &str = "conformance/src/mutants/";

/// A clause, or a row of the table of states.
#[derive(Debug)]
struct Clause<'a> {
    /// A MUST or a SHOULD, for the kit to judge.
    binding: bool,
    path: &'a str,
    line: usize,
}

type Clauses<'a> = BTreeMap<String, Clause<'a>>;

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let mut clauses = Clauses::new();
    for file in &workspace.files {
        if file.path.starts_with(SPEC) && file.is("md") && file.path != UNOBSERVABLE {
            headings(file, &mut clauses, report);
        }
    }
    report.check(!clauses.is_empty(), SPEC, 1, || {
        "there is no clause: `### AREA-n (MUST)` and the like".into()
    });
    if let Some(states) = workspace.file(STATES) {
        rows(states, &mut clauses, report);
    }
    let areas: BTreeSet<&str> = clauses
        .keys()
        .filter_map(|id| id.split('-').next())
        .chain(AREAS.iter().copied())
        .collect();
    for file in &workspace.files {
        if file.is("rs") || file.is("md") {
            citations(file, &areas, &clauses, report);
        }
    }
    coverage(workspace, &clauses, report);
}

/// Takes the clauses from the headings `### TX-4 (MUST)`.
fn headings<'a>(file: &'a File, clauses: &mut Clauses<'a>, report: &mut Report) {
    for (number, line) in prose(file) {
        let Some(title) = line.strip_prefix("###").filter(|it| !it.starts_with('#')) else {
            continue;
        };
        let Some(id) = leading_id(title.trim_start()) else {
            continue;
        };
        let level = title
            .strip_prefix(&format!(" {id} ("))
            .and_then(|it| it.strip_suffix(')'))
            .filter(|it| LEVELS.contains(it));
        report.check(level.is_some(), &file.path, number, || {
            format!("the heading of {id} must read `### {id} (LEVEL)`, with {LEVELS:?}")
        });
        let binding = matches!(level, Some("MUST" | "SHOULD"));
        define(id, binding, file, number, clauses, report);
    }
}

/// Takes the rows of the table of states, numbered from 1 without a gap.
fn rows<'a>(file: &'a File, clauses: &mut Clauses<'a>, report: &mut Report) {
    let mut last = 0;
    for (line, cells) in table(file) {
        let Some(id) = leading_id(&cells[0]).filter(|it| it.starts_with("ROW-")) else {
            continue;
        };
        define(id, false, file, line, clauses, report);
        last = last.max(id[4..].parse().unwrap_or(0));
    }
    for number in 1..last {
        let id = format!("ROW-{number}");
        report.check(clauses.contains_key(&id), &file.path, 1, || {
            format!("{id} is missing from the table, which continues to ROW-{last}")
        });
    }
}

fn define<'a>(
    id: &str,
    binding: bool,
    file: &'a File,
    line: usize,
    clauses: &mut Clauses<'a>,
    report: &mut Report,
) {
    let first = clauses.get(id).map(|it| format!("{}:{}", it.path, it.line));
    report.check(first.is_none(), &file.path, line, || {
        format!("{id} already exists in {}", first.unwrap_or_default())
    });
    clauses.entry(id.to_owned()).or_insert(Clause {
        binding,
        path: &file.path,
        line,
    });
}

/// Every cited id must exist.
fn citations(file: &File, areas: &BTreeSet<&str>, clauses: &Clauses<'_>, report: &mut Report) {
    for (number, line) in file.lines() {
        for id in ids(line, areas) {
            report.check(clauses.contains_key(id), &file.path, number, || {
                format!("{id} does not exist in {SPEC}")
            });
        }
    }
}

/// Every MUST and SHOULD is judged by the kit, or listed as unobservable with a reason; never both.
fn coverage(workspace: &Workspace, clauses: &Clauses<'_>, report: &mut Report) {
    let mut judged = BTreeSet::new();
    for file in &workspace.files {
        let cases = file.path.starts_with(KIT) && !file.path.starts_with(MUTANTS);
        if cases && file.is("rs") {
            for (line, id) in case_clauses(file) {
                report.check(clauses.contains_key(id), &file.path, line, || {
                    format!("a case names {id:?}, which is not a clause")
                });
                judged.insert(id);
            }
        }
    }
    let mut excused = BTreeSet::new();
    if let Some(file) = workspace.file(UNOBSERVABLE) {
        let entries = table(file).filter(|(_, cells)| !cells[0].eq_ignore_ascii_case("clause"));
        for (line, cells) in entries {
            let id = cells[0].as_str();
            report.check(
                clauses.get(id).is_some_and(|it| it.binding),
                &file.path,
                line,
                || format!("{id:?} is not a binding clause: it needs no entry"),
            );
            report.check(
                cells.get(1).is_some_and(|it| !it.is_empty()),
                &file.path,
                line,
                || format!("{id} needs a reason why the kit cannot judge it"),
            );
            report.check(!judged.contains(id), &file.path, line, || {
                format!("{id} has a case in the kit: remove it from this list")
            });
            report.check(!excused.contains(id), &file.path, line, || {
                format!("{id} is listed twice")
            });
            excused.insert(id.to_owned());
        }
    }
    for (id, clause) in clauses.iter().filter(|(_, it)| it.binding) {
        let covered = judged.contains(id.as_str()) || excused.contains(id);
        report.check(covered, clause.path, clause.line, || {
            format!("{id} has no case in the kit and no reason in {UNOBSERVABLE}")
        });
    }
}

/// The strings of each `clauses: &["TX-4", "TX-5"]`, which may span lines.
fn case_clauses(file: &File) -> Vec<(usize, &str)> {
    const KEY: &str = "clauses: &[";
    let text = file.text.as_str();
    let line_at = |at: usize| text[..at].matches('\n').count() + 1;
    let mut found = Vec::new();
    for (at, _) in text.match_indices(KEY) {
        let line_start = text[..at].rfind('\n').map_or(0, |it| it + 1);
        if text[line_start..at].trim_start().starts_with("//") {
            continue;
        }
        let start = at + KEY.len();
        let list = text[start..].split(']').next().unwrap_or_default();
        let mut offset = start;
        for (index, piece) in list.split('"').enumerate() {
            if index % 2 == 1 {
                found.push((line_at(offset), piece));
            }
            offset += piece.len() + 1;
        }
    }
    found
}

/// The lines outside fenced code.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.lines().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The rows of a file's tables, but for the rules under their heads, as cells without decoration.
pub(super) fn table(file: &File) -> impl Iterator<Item = (usize, Vec<String>)> {
    prose(file).filter_map(|(number, line)| {
        let line = line.trim().strip_prefix('|')?;
        let line = line.strip_suffix('|').unwrap_or(line);
        let cells: Vec<String> = line
            .split('|')
            .map(|cell| cell.trim().trim_matches(['*', '`']).to_owned())
            .collect();
        let rule = cells
            .iter()
            .all(|it| it.bytes().all(|b| b"-: ".contains(&b)));
        (!rule).then_some((number, cells))
    })
}

/// The id with which a text begins: two to six capitals, a dash, digits.
pub(crate) fn leading_id(text: &str) -> Option<&str> {
    let area = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let number = text.get(area..)?.strip_prefix('-')?;
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    if !(2..=6).contains(&area) || digits == 0 {
        return None;
    }
    let rest = &number.as_bytes()[digits..];
    let goes_on = match rest {
        [next, ..] if next.is_ascii_alphanumeric() || *next == b'_' => true,
        // TLS-1.3 is a version.
        [b'.', next, ..] => next.is_ascii_digit(),
        _ => false,
    };
    (!goes_on).then(|| &text[..area + 1 + digits])
}

/// The ids of these areas that a line names.
fn ids<'a>(line: &'a str, areas: &BTreeSet<&str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut inside = false;
    for (at, byte) in line.bytes().enumerate() {
        let word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if word && !inside {
            let id = leading_id(&line[at..]);
            found.extend(id.filter(|it| areas.contains(it.split('-').next().unwrap_or(""))));
        }
        inside = word;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File {
            path: "it".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn only_ids_of_the_areas_are_ids() {
        let areas: BTreeSet<&str> = AREAS.iter().copied().collect();
        let table: [(&str, &[&str]); 6] = [
            ("see (TX-4, RX-6); ROW-1.", &["TX-4", "RX-6", "ROW-1"]),
            ("TX-1/TX-2 and [`TX-3`]", &["TX-1", "TX-2", "TX-3"]),
            ("UTF-8, SHA-256, RFC-8305, ISO-8859", &[]),
            ("TLS-1.3 and START-TLS-1 and xTX-1 and TX-1a", &[]),
            ("docs/TX-4", &["TX-4"]),
            ("tx-4 TX- TX-x é TX-5", &["TX-5"]),
        ];
        for (line, expected) in table {
            assert_eq!(ids(line, &areas), expected, "{line}");
        }
    }

    #[test]
    fn the_clauses_of_a_case_are_read_over_lines_and_not_in_comments() {
        let kit = file(
            "// clauses: &[\"TX-1\"]\nCase { clauses: &[\"TX-2\"] }\nCase {\n    clauses: &[\n        \
             \"TX-3\",\n        \"TX-4\",\n    ],\n}\nclauses: &[],\n",
        );
        assert_eq!(case_clauses(&kit), [(2, "TX-2"), (5, "TX-3"), (6, "TX-4")]);
    }

    #[test]
    fn a_table_is_read_without_its_rule_and_decoration() {
        let text = file("text\n\n| a | b |\n|---|:-:|\n| **ROW-1** | `x` |\n\n```\n| no |\n```\n");
        let rows: Vec<(usize, Vec<String>)> = table(&text).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1], (5, vec!["ROW-1".to_owned(), "x".to_owned()]));
    }
}
