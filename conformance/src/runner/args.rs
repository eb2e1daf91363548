//! The command line.

use std::path::PathBuf;

use super::glob;

pub(super) const USAGE: &str = "\
usage: [--subject NAME]... [--filter GLOB]... [--list] [--seed N] [--json FILE] [--html FILE] [--jobs N]

  --subject NAME  judge only this subject
  --filter GLOB   run only the cases with a matching id; without a *, any id that contains the text matches
  --list          print the cases and their clauses
  --seed N        the seed of the bytes to send
  --json FILE     write the findings to a file as JSON
  --html FILE     write the findings to a page: a row for each clause, a column for each subject
  --jobs N        run N processes at once (default: 2)
  --mutants       judge the kit: do the cases named by each deliberately broken provider catch it?
  --all-cases     with --mutants: run every case, and list the cases that catch nothing
  --mutant NAME   judge a provider broken in this way";

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) subjects: Vec<String>,
    pub(super) filters: Vec<String>,
    pub(super) list: bool,
    pub(super) help: bool,
    pub(super) seed: u64,
    pub(super) json: Option<PathBuf>,
    pub(super) html: Option<PathBuf>,
    pub(super) jobs: usize,
    pub(super) mutants: bool,
    pub(super) all_cases: bool,
    pub(super) mutant: Option<String>,
}

impl Args {
    pub(super) fn parse(words: &[String]) -> Result<Args, String> {
        let mut args = Args {
            subjects: Vec::new(),
            filters: Vec::new(),
            list: false,
            help: false,
            seed: 1,
            json: None,
            html: None,
            jobs: 2,
            mutants: false,
            all_cases: false,
            mutant: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (word, mut given) = match word.split_once('=') {
                Some((word, value)) if word.starts_with("--") => (word, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let mut value = || {
                let value = given.take().or_else(|| words.next().cloned());
                value.ok_or_else(|| format!("{word} needs a value"))
            };
            match word {
                "--subject" => args.subjects.push(value()?),
                "--filter" => args.filters.push(value()?),
                "--seed" => args.seed = number(word, &value()?)?,
                "--json" => args.json = Some(value()?.into()),
                "--html" => args.html = Some(value()?.into()),
                "--jobs" | "--test-threads" => args.jobs = number(word, &value()?)?,
                "--mutant" => args.mutant = Some(value()?),
                "--mutants" => args.mutants = true,
                "--all-cases" => args.all_cases = true,
                "--list" => args.list = true,
                "--help" | "-h" => args.help = true,
                // Options that people and tools pass to every test target.
                "--nocapture" | "--no-capture" | "--show-output" | "--quiet" | "-q" => {}
                _ if word.starts_with('-') => return Err(format!("unknown option {word}")),
                _ => args.filters.push(word.to_owned()),
            }
        }
        match args.jobs {
            0 => Err("--jobs needs at least 1".to_owned()),
            _ => Ok(args),
        }
    }

    pub(super) fn wants(&self, id: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|it| glob::matches(it, id))
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{word} needs a number, not {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Args, String> {
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        Args::parse(&words)
    }

    #[test]
    fn options_with_and_without_equals_sign() {
        let args =
            parse("--subject a --subject=b --filter tx* --seed 9 --jobs=3 --json f --html=g")
                .unwrap();
        assert_eq!(args.subjects, ["a", "b"]);
        assert_eq!((args.seed, args.jobs), (9, 3));
        assert_eq!((args.json, args.html), (Some("f".into()), Some("g".into())));
        assert!(!args.list);
    }

    #[test]
    fn what_cargo_test_passes_is_accepted() {
        let args = parse("--nocapture --test-threads 1 sending/").unwrap();
        assert_eq!(args.jobs, 1);
        assert!(args.wants("sending/exactly-the-mark"));
        assert!(!args.wants("closing/flushes"));
    }

    #[test]
    fn mistakes_are_told() {
        for words in ["--seed", "--seed x", "--jobs 0", "--wat"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
