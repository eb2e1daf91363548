//! The findings for programs.

use std::fmt::Write as _;

use super::{status, verdict};
use crate::runner::process::{Finding, Verdict};

/// The findings for programs, in the format of `wptreport.json`.
pub(in crate::runner) fn json(all: &[Finding], seed: u64) -> String {
    let results: Vec<_> = all.iter().map(|it| format!("    {}", result(it))).collect();
    format!(
        "{{\n  \"run_info\": {{\"kit\": {}, \"specification\": {}, \"os\": {}, \"seed\": {seed}}},\n  \"results\": [\n{}\n  ]\n}}\n",
        string(env!("CARGO_PKG_VERSION")),
        string(crate::SPECIFICATION),
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
