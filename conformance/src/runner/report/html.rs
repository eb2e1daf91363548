//! The findings as a page: a row for each clause with its statement, a column for each subject. It needs no scripts and no
//! other files.

use std::fmt::Write as _;

use super::details;
use super::table::subjects;
use crate::runner::process::{Finding, Verdict};
use crate::specification::{clause, clauses, order, page, subject};
use crate::{CASES, Case};

/// The text of a cell, the worst last: of several cases the worst counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Unmet,
    Pass,
    Known,
    Fail,
}

impl Word {
    fn of(verdict: &Verdict) -> Word {
        match verdict {
            Verdict::Pass => Word::Pass,
            Verdict::Precondition(_) => Word::Unmet,
            Verdict::Known { .. } => Word::Known,
            Verdict::Fail(_) | Verdict::Timeout | Verdict::Crash(_) | Verdict::Stale { .. } => {
                Word::Fail
            }
        }
    }

    fn text(self) -> &'static str {
        match self {
            Word::Pass => "pass",
            Word::Fail => "fail",
            Word::Known => "known failure",
            Word::Unmet => "not applicable",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Word::Pass => "pass",
            Word::Fail => "fail",
            Word::Known => "known",
            Word::Unmet => "unmet",
        }
    }
}

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #d0d4da; --soft: #f4f5f7; --text: #1c1e21; --dim: #5c636e; --paper: #fff;
  --pass: #12683a; --fail: #b3141d; --known: #855300; --unmet: #5c636e; --link: #0b57b0; }
@media (prefers-color-scheme: dark) { :root { --line: #3a3f47; --soft: #1e2126; --text: #e6e8eb; --dim: #9aa2ad;
  --paper: #14161a; --pass: #5fcf8e; --fail: #ff8086; --known: #f0b35a; --unmet: #9aa2ad; --link: #82b7ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper); }
h1 { font-size: 1.5rem; margin: .5rem 0; } h1 code { font-size: inherit; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } a { color: var(--link); } code { overflow-wrap: anywhere; }
.dim, .level, details { color: var(--dim); } .level { font-size: .75rem; font-weight: 400; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .6rem; border-bottom: 1px solid var(--line); }
thead th { white-space: nowrap; } .totals { width: auto; } .totals td { text-align: right; }
.clause { white-space: nowrap; font-weight: 600; width: 6.5rem; } .verdict { white-space: nowrap; width: 8rem; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 700; } .known { color: var(--known); } .unmet { color: var(--unmet); }
details { font-size: .875rem; } summary { cursor: pointer; } ul { margin: .25rem 0; padding-left: 1.1rem; }
code, pre { font: .85em/1.45 ui-monospace, monospace; } pre { overflow-x: auto; background: var(--soft); padding: .75rem; }
.pick { position: absolute; opacity: 0; }
nav { display: flex; flex-wrap: wrap; gap: .35rem; margin: 1rem 0 .35rem; } nav + nav { margin-top: 0; }
nav label { border: 1px solid var(--line); border-radius: 1rem; padding: .15rem .7rem; font-size: .875rem; cursor: pointer; }
nav label:hover { border-color: var(--link); }
.rest, #only-troubles:checked ~ main .fine { display: none; } #only-troubles:checked ~ main .rest { display: block; }
@media (min-width: 45.01rem) { .verdict::before { content: none; } }
@media (max-width: 45rem) {
  body { padding: .75rem; } .clauses thead { display: none; }
  .clauses tr { display: block; padding: .6rem 0; border-bottom: 1px solid var(--line); }
  .clauses td { display: block; width: auto; padding: .1rem 0; border: 0; }
  .clauses td.verdict { display: inline-block; margin-right: 1rem; font-size: .875rem; }
  .verdict::before { content: attr(data-subject) ' '; color: var(--dim); font-weight: 400; } }
";

/// The page. `specification` is the path or the address of the clauses.
pub(in crate::runner) fn html(all: &[Finding], seed: u64, specification: &str) -> String {
    let subjects = subjects(all);
    let mut ids: Vec<&str> = all
        .iter()
        .flat_map(|finding| finding.case.clauses)
        .copied()
        .collect();
    ids.sort_by_key(|id| order(id));
    ids.dedup();
    let mut areas: Vec<&str> = ids.iter().map(|id| area(id)).collect();
    areas.dedup();

    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tcpsocket conformance</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n\
         <h1>Conformance of <code>tcpsocket</code> implementations</h1>\n\
         <p class=\"dim\">Kit {}, specification {}, {}, seed {seed}.</p>\n",
        filters(&areas),
        escape(env!("CARGO_PKG_VERSION")),
        escape(crate::SPECIFICATION),
        escape(std::env::consts::OS),
    );
    totals(&mut out, all, &subjects);
    choices(&mut out, &areas);
    out.push_str("<main>\n");
    for area in &areas {
        let of_area = ids.iter().filter(|id| self::area(id) == *area);
        section(&mut out, area, of_area, all, &subjects, specification);
    }
    out.push_str("<p class=\"rest dim\">All other clauses pass for every subject.</p>\n</main>\n");
    failures(&mut out, all);
    unjudged(&mut out, specification);
    out.push_str("</body>\n</html>\n");
    out
}

fn area(id: &str) -> &str {
    id.split('-').next().unwrap_or_default()
}

/// The CSS rules by which a chosen area hides the others, without scripts.
fn filters(areas: &[&str]) -> String {
    let mut rules = String::new();
    for area in areas {
        let area = escape(area);
        let _ = writeln!(
            rules,
            "#only-{area}:checked ~ main section:not(#{area}) {{ display: none; }}"
        );
    }
    let chosen = |id: &str| {
        format!("#{id}:checked ~ nav label[for={id}], #{id}:focus-visible ~ nav label[for={id}]")
    };
    let ids = areas.iter().map(|area| format!("only-{}", escape(area)));
    let ids = ["any-area", "any-verdict", "only-troubles"]
        .map(str::to_owned)
        .into_iter()
        .chain(ids);
    let selectors: Vec<_> = ids.map(|id| chosen(&id)).collect();
    let _ = writeln!(
        rules,
        "{} {{ background: var(--link); border-color: var(--link); color: var(--paper); }}",
        selectors.join(",\n")
    );
    rules
}

/// The choices: an area, and whether to show the clauses that every subject keeps.
fn choices(out: &mut String, areas: &[&str]) {
    let mut labels = String::new();
    let mut radio = |labels: &mut String, group: &str, id: &str, text: &str, checked: bool| {
        let checked = if checked { " checked" } else { "" };
        let _ = writeln!(
            out,
            "<input class=\"pick\" type=\"radio\" name=\"{group}\" id=\"{id}\"{checked}>"
        );
        let _ = writeln!(labels, "<label for=\"{id}\">{text}</label>");
    };
    labels.push_str("<nav aria-label=\"Areas\">\n");
    radio(&mut labels, "area", "any-area", "All areas", true);
    for area in areas {
        let text = subject(area).map_or_else(|| escape(area), escape);
        let id = format!("only-{}", escape(area));
        radio(&mut labels, "area", &id, &text, false);
    }
    labels.push_str("</nav>\n<nav aria-label=\"Verdicts\">\n");
    radio(&mut labels, "verdict", "any-verdict", "All verdicts", true);
    let text = "Failed or not offered";
    radio(&mut labels, "verdict", "only-troubles", text, false);
    labels.push_str("</nav>\n");
    out.push_str(&labels);
}

fn totals(out: &mut String, all: &[Finding], subjects: &[&str]) {
    out.push_str("<div class=\"wide\"><table class=\"totals\">\n<thead><tr><th>cases</th>");
    for subject in subjects {
        let _ = write!(out, "<th>{}</th>", escape(subject));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for word in [Word::Pass, Word::Fail, Word::Known, Word::Unmet] {
        let _ = write!(
            out,
            "<tr><th class=\"{}\">{}</th>",
            word.class(),
            word.text()
        );
        for subject in subjects {
            let these = all.iter().filter(|finding| finding.subject == *subject);
            let count = these
                .filter(|finding| Word::of(&finding.verdict) == word)
                .count();
            let _ = write!(out, "<td>{count}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn section<'a>(
    out: &mut String,
    area: &str,
    ids: impl Iterator<Item = &'a &'a str>,
    all: &[Finding],
    subjects: &[&str],
    specification: &str,
) {
    let title = subject(area).unwrap_or(area);
    let ids: Vec<&str> = ids.copied().collect();
    let fine = ids.iter().all(|id| is_fine(id, all, subjects));
    let _ = write!(
        out,
        "<section id=\"{area}\"{}>\n<h2>{} <span class=\"level\">{area}</span></h2>\n\
         <table class=\"clauses\">\n<thead><tr><th>clause</th><th>what it says</th>",
        fine_class(fine),
        escape(title),
        area = escape(area),
    );
    for subject in subjects {
        let _ = write!(out, "<th>{}</th>", escape(subject));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for id in ids {
        row(out, id, all, subjects, specification);
    }
    out.push_str("</tbody></table>\n</section>\n");
}

/// Whether every subject keeps this clause.
fn is_fine(id: &str, all: &[Finding], subjects: &[&str]) -> bool {
    subjects
        .iter()
        .all(|subject| word(id, all, subject) == Some(Word::Pass))
}

fn fine_class(fine: bool) -> &'static str {
    if fine { " class=\"fine\"" } else { "" }
}

/// How a subject keeps a clause: of several cases the worst counts.
fn word(id: &str, all: &[Finding], subject: &str) -> Option<Word> {
    let of_clause = all
        .iter()
        .filter(|finding| finding.subject == subject && finding.case.clauses.contains(&id));
    of_clause.map(|finding| Word::of(&finding.verdict)).max()
}

fn row(out: &mut String, id: &str, all: &[Finding], subjects: &[&str], specification: &str) {
    let these = || {
        all.iter()
            .filter(|finding| finding.case.clauses.contains(&id))
    };
    let clause = clause(id);
    let level = clause.map_or("", |clause| clause.level);
    let statement = clause.map_or_else(String::new, |clause| code(clause.statement));
    let _ = write!(
        out,
        "<tr id=\"{}\"{}><td class=\"clause\">{} <span class=\"level\">{level}</span></td><td>{statement}",
        escape(id),
        fine_class(is_fine(id, all, subjects)),
        link(id, specification),
    );
    let first = these().next().map(|finding| finding.subject.as_str());
    let cases: Vec<&Case> = these()
        .filter(|finding| Some(finding.subject.as_str()) == first)
        .map(|finding| finding.case)
        .collect();
    let shown = match cases.len() {
        1 => "1 case".to_owned(),
        count => format!("{count} cases"),
    };
    let _ = write!(out, "<details><summary>{shown}</summary><ul>");
    for case in cases {
        let requirement = escape(case.requirement);
        let _ = write!(
            out,
            "<li>{requirement} <code>{}</code></li>",
            escape(case.id)
        );
    }
    out.push_str("</ul></details></td>");
    for subject in subjects {
        let (class, text) = match word(id, all, subject) {
            Some(word) => (word.class(), word.text()),
            None => ("unmet", "not judged"),
        };
        let _ = write!(
            out,
            "<td class=\"verdict {class}\" data-subject=\"{}\">{text}</td>",
            escape(subject)
        );
    }
    out.push_str("</tr>\n");
}

/// The id of a clause, with a link to it.
fn link(id: &str, specification: &str) -> String {
    match page(id) {
        Some(page) => {
            let page = page.replacen("docs/spec", specification, 1);
            format!("<a href=\"{}\">{}</a>", escape(&page), escape(id))
        }
        None => escape(id),
    }
}

/// The text, with code in place of backticks.
fn code(text: &str) -> String {
    let mut out = String::new();
    for (at, part) in text.split('`').enumerate() {
        match at % 2 {
            0 => out.push_str(&escape(part)),
            _ => {
                let _ = write!(out, "<code>{}</code>", escape(part));
            }
        }
    }
    out
}

/// The binding clauses without a case.
fn unjudged(out: &mut String, specification: &str) {
    let judged = |id: &str| {
        let mut cases = CASES.iter().copied().flatten();
        cases.any(|case| case.clauses.contains(&id))
    };
    let mut ids: Vec<&str> = clauses()
        .filter(|clause| ["MUST", "SHOULD"].contains(&clause.level) && !judged(clause.id))
        .map(|clause| clause.id)
        .collect();
    ids.sort_by_key(|id| order(id));
    let links: Vec<_> = ids.iter().map(|id| link(id, specification)).collect();
    let _ = writeln!(
        out,
        "<h2>Without a case</h2>\n<p>The specification says why nobody can observe these from outside: {}.</p>",
        links.join(", ")
    );
}

fn failures(out: &mut String, all: &[Finding]) {
    let told = |it: &&Finding| matches!(Word::of(&it.verdict), Word::Fail | Word::Known);
    if !all.iter().any(|it| told(&it)) {
        return;
    }
    out.push_str("<h2>Failures</h2>\n");
    for finding in all.iter().filter(told) {
        let _ = writeln!(
            out,
            "<details><summary class=\"{}\">{} ({})</summary><pre>{}</pre></details>",
            Word::of(&finding.verdict).class(),
            escape(finding.case.id),
            escape(&finding.subject),
            escape(&details(finding)),
        );
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Failure;
    use crate::runner::report::tests::finding;

    #[test]
    fn a_clause_is_as_good_as_its_worst_case() {
        let failed = Verdict::Fail(Failure::compared("what <came>", "a & b", "c"));
        let all = [
            finding("one", 0, Verdict::Pass),
            finding("one", 1, failed),
            finding("two", 0, Verdict::Pass),
            finding("two", 1, Verdict::Precondition("not declared".into())),
        ];
        let page = html(&all, 1, "https://example.org/spec");
        let row = |id: &str| {
            let from = page.find(&format!("<tr id=\"{id}\"")).unwrap();
            let len = page[from..].find("</tr>").unwrap();
            page[from..from + len].to_owned()
        };
        let cells = |id: &str| -> Vec<String> {
            let row = row(id);
            let cells = row.split("<td class=\"verdict ").skip(1);
            let word = |it: &str| it.split_once('>').unwrap().1.replace("</td>", "");
            cells.map(word).collect()
        };
        assert_eq!(cells("TX-4"), ["fail", "pass"]);
        assert_eq!(cells("CL-8"), ["fail", "not applicable"]);
        assert!(row("TX-4").contains("https://example.org/spec/sending.md#tx-4-must"));
        assert!(row("TX-4").contains("What is &lt;sent&gt; arrives."));
        assert!(row("TX-4").contains("<code>buffered_amount</code> before the call plus"));
        assert!(!row("TX-4").contains("class=\"fine\""));
        assert!(page.contains("a &amp; b") && !page.contains("<script"));
    }

    #[test]
    fn an_area_is_chosen_by_an_input_before_the_sections() {
        let all = [
            finding("one", 0, Verdict::Pass),
            finding("one", 1, Verdict::Pass),
        ];
        let page = html(&all, 1, "spec");
        let main = page.find("<main>").unwrap();
        for area in ["TX", "CL"] {
            let input = page.find(&format!("id=\"only-{area}\"")).unwrap();
            assert!(input < main, "{area}");
            assert!(page.contains(&format!("<label for=\"only-{area}\">")));
            assert!(page.contains(&format!("<section id=\"{area}\" class=\"fine\">")));
            let rule = format!("#only-{area}:checked ~ main section:not(#{area})");
            assert!(page.contains(&rule));
        }
        assert!(page.contains("<tr id=\"CL-8\" class=\"fine\">"));
    }

    #[test]
    fn clauses_without_a_case_are_listed() {
        let page = html(&[finding("one", 0, Verdict::Pass)], 1, "spec");
        let (_, list) = page.split_once("Without a case").unwrap();
        assert!(list.contains("spec/sending.md#tx-12-should") && !list.contains("TX-4<"));
    }
}
