//! Known failures: `expectations/<subject>.toml`, one `"case-id" = "reason"` a line.

use std::io::ErrorKind;
use std::path::Path;

use super::process::Verdict;
use crate::Case;

#[derive(Debug, Default)]
pub(super) struct Expectations(Vec<(String, String)>);

impl Expectations {
    /// No file, no known failures.
    pub(super) fn read(path: &Path) -> Result<Expectations, String> {
        match std::fs::read_to_string(path) {
            Ok(text) => {
                Expectations::parse(&text).map_err(|why| format!("{}: {why}", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Expectations::default()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    fn parse(text: &str) -> Result<Expectations, String> {
        let mut entries: Vec<(String, String)> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let quoted = |it: &str| {
                let inner = it.trim().strip_prefix('"')?.strip_suffix('"')?;
                (!inner.is_empty() && !inner.contains(['"', '\\'])).then(|| inner.to_owned())
            };
            let entry = line
                .split_once('=')
                .and_then(|(id, reason)| Some((quoted(id)?, quoted(reason)?)));
            let Some(entry) = entry else {
                return Err(format!("line {}: write \"case-id\" = \"reason\"", at + 1));
            };
            if entries.iter().any(|(id, _)| *id == entry.0) {
                return Err(format!("line {}: {} is listed twice", at + 1, entry.0));
            }
            entries.push(entry);
        }
        Ok(Expectations(entries))
    }

    /// Entries that match no case.
    pub(super) fn unknown<'a>(
        &'a self,
        cases: &'a [&'static Case],
    ) -> impl Iterator<Item = &'a str> {
        let ids = self.0.iter().map(|(id, _)| id.as_str());
        ids.filter(|id| cases.iter().all(|case| case.id != *id))
    }

    /// The verdict in the light of the known failures.
    pub(super) fn judge(&self, id: &str, verdict: Verdict) -> Verdict {
        let Some((_, reason)) = self.0.iter().find(|(it, _)| it == id) else {
            return verdict;
        };
        let reason = reason.clone();
        match verdict {
            Verdict::Pass | Verdict::Precondition(_) => Verdict::Stale { reason },
            _ => Verdict::Known { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case {
        id: "a/b",
        ..Case::MUST
    };

    #[test]
    fn entries_are_read() {
        let text = "# why\n\n\"a/b\" = \"later, issue 7\"\n  \"c/d\"=\"never\"\n";
        let it = Expectations::parse(text).unwrap();
        assert_eq!(it.unknown(&[&CASE]).collect::<Vec<_>>(), ["c/d"]);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for text in [
            "a/b = \"x\"",
            "\"a/b\"",
            "\"a/b\" = \"\"",
            "\"a\" = \"x\"\n\"a\" = \"y\"",
        ] {
            assert!(Expectations::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_known_failure_that_passes_is_stale() {
        let it = Expectations::parse("\"a/b\" = \"x\"").unwrap();
        assert!(matches!(
            it.judge("a/b", Verdict::Timeout),
            Verdict::Known { .. }
        ));
        assert!(matches!(
            it.judge("a/b", Verdict::Pass),
            Verdict::Stale { .. }
        ));
        assert!(matches!(it.judge("c/d", Verdict::Pass), Verdict::Pass));
    }
}
