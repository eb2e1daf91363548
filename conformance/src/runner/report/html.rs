//! The findings as a page: a row for each clause, a column for each subject. It needs no scripts and nothing from elsewhere.

use std::fmt::Write as _;

use super::details;
use super::table::subjects;
use crate::Case;
use crate::runner::process::{Finding, Verdict};
use crate::specification::{order, page};

/// What a cell says, the worst last: of several cases the worst counts.
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
body { margin: 0 auto; max-width: 70rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--paper); }
h1 { font-size: 1.5rem; margin: .5rem 0; } h1 code { font-size: inherit; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { color: var(--dim); margin: .25rem 0; } a { color: var(--link); }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: var(--paper); }
.clause { white-space: nowrap; font-weight: 600; }
.pass { color: var(--pass); } .fail { color: var(--fail); font-weight: 700; } .known { color: var(--known); } .unmet { color: var(--unmet); }
td.verdict { white-space: nowrap; } ul { margin: 0; padding-left: 1.1rem; } summary { cursor: pointer; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; } pre { overflow-x: auto; background: var(--soft); padding: .75rem; }
@media (max-width: 40rem) { body { font-size: 15px; padding: .6rem; } th, td { padding: .35rem .4rem; } }
";

/// The page. `specification` is where the clauses stand, a path or an address.
pub(in crate::runner) fn html(all: &[Finding], seed: u64, specification: &str) -> String {
    let subjects = subjects(all);
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>tcpsocket conformance</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Conformance of <code>tcpsocket</code> implementations</h1>\n\
         <p>Kit {}, specification {}, {}, seed {seed}.</p>\n",
        escape(env!("CARGO_PKG_VERSION")),
        escape(crate::SPECIFICATION),
        escape(std::env::consts::OS),
    );
    totals(&mut out, all, &subjects);
    clauses(&mut out, all, &subjects, specification);
    failures(&mut out, all);
    out.push_str("</body>\n</html>\n");
    out
}

fn totals(out: &mut String, all: &[Finding], subjects: &[&str]) {
    out.push_str("<div class=\"wide\"><table>\n<thead><tr><th>cases</th>");
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
            let these = all.iter().filter(|it| it.subject == *subject);
            let count = these.filter(|it| Word::of(&it.verdict) == word).count();
            let _ = write!(out, "<td>{count}</td>");
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
}

fn clauses(out: &mut String, all: &[Finding], subjects: &[&str], specification: &str) {
    let mut ids: Vec<&str> = all.iter().flat_map(|it| it.case.clauses).copied().collect();
    ids.sort_by_key(|it| order(it));
    ids.dedup();
    let mut area = "";
    for id in ids {
        let this = id.split('-').next().unwrap_or_default();
        if this != area {
            if !area.is_empty() {
                out.push_str("</tbody></table></div>\n");
            }
            area = this;
            let _ = write!(
                out,
                "<h2>{}</h2>\n<div class=\"wide\"><table>\n<thead><tr><th>clause</th><th>shown by</th>",
                escape(area)
            );
            for subject in subjects {
                let _ = write!(out, "<th>{}</th>", escape(subject));
            }
            out.push_str("</tr></thead>\n<tbody>\n");
        }
        clause(out, id, all, subjects, specification);
    }
    if !area.is_empty() {
        out.push_str("</tbody></table></div>\n");
    }
}

fn clause(out: &mut String, id: &str, all: &[Finding], subjects: &[&str], specification: &str) {
    let these = || all.iter().filter(|it| it.case.clauses.contains(&id));
    let link = page(id).map(|it| it.replacen("docs/spec", specification, 1));
    let name = match &link {
        Some(link) => format!("<a href=\"{}\">{}</a>", escape(link), escape(id)),
        None => escape(id),
    };
    let _ = write!(
        out,
        "<tr id=\"{}\"><td class=\"clause\">{name}</td><td>",
        escape(id)
    );
    let first = these().next().map(|it| it.subject.as_str());
    let cases: Vec<_> = these()
        .filter(|it| Some(it.subject.as_str()) == first)
        .map(|it| it.case)
        .collect();
    let line = |it: &Case| format!("{} <code>{}</code>", escape(it.requirement), escape(it.id));
    if let [only] = cases[..] {
        out.push_str(&line(only));
    } else {
        let _ = write!(out, "<details><summary>{} cases</summary><ul>", cases.len());
        for case in cases {
            let _ = write!(out, "<li>{}</li>", line(case));
        }
        out.push_str("</ul></details>");
    }
    out.push_str("</td>");
    for subject in subjects {
        let words = these().filter(|it| it.subject == *subject);
        match words.map(|it| Word::of(&it.verdict)).max() {
            Some(word) => {
                let _ = write!(
                    out,
                    "<td class=\"verdict {}\">{}</td>",
                    word.class(),
                    word.text()
                );
            }
            None => out.push_str("<td class=\"verdict unmet\">not judged</td>"),
        }
    }
    out.push_str("</tr>\n");
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
            let from = page.find(&format!("<tr id=\"{id}\">")).unwrap();
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
        assert!(page.contains("a &amp; b") && !page.contains("<script"));
    }
}
