//! The statement of each clause, one per line: a table of the kit, generated from the specification.

use std::path::{Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::clauses::{LEVELS, SPEC, UNOBSERVABLE, leading_id, table};
use super::{File, Report, Workspace};

/// The table. The kit is published without `docs`, so it carries a copy.
const TABLE: &str = "conformance/clauses.txt";

/// Writes the table anew.
pub(crate) fn write(root: &Path) -> Result<PathBuf, String> {
    let path = root.join(TABLE);
    let text = statements(&super::files(root)?);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Checks that the table matches its source. A workspace without it has nothing to compare.
pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let Ok(found) = std::fs::read_to_string(workspace.root.join(TABLE)) else {
        return;
    };
    let expected = statements(&workspace.files);
    let pairs = found.lines().zip(expected.lines());
    let line = pairs.take_while(|(found, expected)| found == expected);
    let line = line.count() + 1;
    report.check(found == expected, TABLE, line, || {
        "differs from docs/spec: run `cargo xtask clauses`".into()
    });
}

/// A line for each clause: id, level, statement, separated by tabs.
fn statements(files: &[File]) -> String {
    let mut out = String::new();
    for page in files {
        if page.path.starts_with(SPEC) && page.is("md") && page.path != UNOBSERVABLE {
            for (id, level, statement) in clauses(page) {
                out += &format!("{id}\t{level}\t{statement}\n");
            }
            for row in rows(page) {
                out += &row;
            }
        }
    }
    out
}

fn clauses(page: &File) -> Vec<(String, String, String)> {
    let mut clauses: Vec<(String, String, String)> = Vec::new();
    // Between a clause's heading and whatever ends its statement.
    let mut open = false;
    let mut heading: Option<String> = None;
    let (mut paragraph, mut table) = (String::new(), false);
    for event in Parser::new_ext(&page.text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => {
                open = false;
                heading = Some(String::new());
            }
            Event::End(TagEnd::Heading(_)) => {
                let title = heading.take().unwrap_or_default();
                if let Some((id, level)) = clause_of(&title) {
                    clauses.push((id.to_owned(), level.to_owned(), String::new()));
                    open = true;
                }
            }
            Event::Start(Tag::Table(_)) => {
                table = true;
                if let (true, Some((_, _, statement))) = (open, clauses.last_mut()) {
                    let told = statement.trim_end_matches(':').len();
                    statement.truncate(told);
                    *statement += " (see the table).";
                }
            }
            Event::End(TagEnd::Table) => table = false,
            Event::Start(Tag::Paragraph | Tag::Item) => paragraph.clear(),
            Event::End(TagEnd::Paragraph | TagEnd::Item) => {
                let text = std::mem::take(&mut paragraph);
                open &= !["Source:", "Chosen:"].iter().any(|it| text.starts_with(it));
                if let (true, false, Some((_, _, statement))) =
                    (open, text.is_empty(), clauses.last_mut())
                {
                    if !statement.is_empty() {
                        *statement += " ";
                    }
                    *statement += &text;
                }
            }
            Event::Text(text) => match &mut heading {
                Some(heading) => *heading += &text,
                None if !table => paragraph += &text,
                None => {}
            },
            Event::Code(code) => match &mut heading {
                Some(heading) => *heading += &code,
                None if !table => paragraph += &format!("`{code}`"),
                None => {}
            },
            Event::SoftBreak | Event::HardBreak => paragraph.push(' '),
            _ => {}
        }
    }
    clauses
}

/// The id and the level of `TX-4 (MUST)`.
fn clause_of(title: &str) -> Option<(&str, &str)> {
    let id = leading_id(title)?;
    let level = title[id.len()..].trim().strip_prefix('(')?;
    let level = level.strip_suffix(')')?;
    LEVELS.contains(&level).then_some((id, level))
}

/// The rows of the table of states, each as a sentence.
fn rows(page: &File) -> impl Iterator<Item = String> {
    table(page).filter_map(|(_, cells)| {
        let [id, from, stimulus, to, events, result] = &cells[..] else {
            return None;
        };
        leading_id(id).filter(|id| id.starts_with("ROW-"))?;
        let result = match result.as_str() {
            "nothing" => String::new(),
            result => format!(", result {result}"),
        };
        Some(format!(
            "{id}\tMUST\tIn {from}, {stimulus}: to {to}, events {events}{result}.\n"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_what_stands_before_source_and_chosen() {
        let text = "# Sending\n\n### TX-1 (MUST)\n\nOne `send`,\ntwo lines.\n\nMore:\n\n- a\n- *b*\n\n\
                    Source: somebody.\n\nMore of the source.\n\n### TX-2 (SHOULD)\n\nThese:\n\n\
                    | a | b |\n|---|---|\n| c | d |\n\nBehind it.\n\n## Words\n\nNo clause.\n\n\
                    | row | from | stimulus | to | events | result |\n|---|---|---|---|---|---|\n\
                    | ROW-1 | open | send() | open | none | ok |\n\
                    | ROW-2 | open | data | open | Data | nothing |\n";
        let page = File {
            path: "docs/spec/sending.md".into(),
            text: text.into(),
        };
        assert_eq!(
            statements(&[page]),
            "TX-1\tMUST\tOne `send`, two lines. More: a b\n\
             TX-2\tSHOULD\tThese (see the table). Behind it.\n\
             ROW-1\tMUST\tIn open, send(): to open, events none, result ok.\n\
             ROW-2\tMUST\tIn open, data: to open, events Data.\n"
        );
    }
}
