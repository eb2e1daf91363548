//! Runs the cases, each in a process of its own, and reports the findings.

mod args;
mod child;
mod expectations;
mod glob;
mod mutants;
mod process;
mod record;
mod report;
mod say;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::args::Args;
use self::expectations::Expectations;
use self::process::{Finding, Verdict};
use self::say::say;
use crate::sync::lock;
use crate::{CASES, Case, MUTANTS, Mutant, Subject};

pub(crate) use self::child::INTENDED;
pub(crate) use self::record::emit;

/// Judges subjects by cases.
///
/// A case runs in a child process of the same program, so the program must hand its arguments to [`run`](Runner::run)
/// before it does anything else.
pub struct Runner {
    subjects: Vec<Arc<dyn Subject>>,
    cases: Vec<&'static Case>,
    mutants: Vec<&'static Mutant>,
    prefix: Vec<String>,
    command: Option<String>,
    expectations: PathBuf,
    specification: String,
}

impl Runner {
    /// A runner of all cases.
    pub fn new(subjects: Vec<Box<dyn Subject>>) -> Runner {
        Runner {
            subjects: subjects.into_iter().map(Arc::from).collect(),
            cases: CASES.iter().flat_map(|area| area.iter()).collect(),
            mutants: MUTANTS.iter().flat_map(|it| it.iter()).collect(),
            prefix: Vec::new(),
            command: None,
            expectations: PathBuf::from("conformance/expectations"),
            specification: "docs/spec".into(),
        }
    }

    /// Sets cases other than the kit's own: for tests of the kit, and for suites beside it.
    pub fn cases(mut self, cases: &'static [Case]) -> Runner {
        self.cases = cases.iter().collect();
        self
    }

    /// Sets mutants other than the kit's own: for tests of the kit, and for suites beside it.
    pub fn mutants(mut self, mutants: &'static [Mutant]) -> Runner {
        self.mutants = mutants.iter().collect();
        self
    }

    /// Sets the leading arguments that make this program call [`run`](Runner::run), if it needs any.
    pub fn prefix(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Runner {
        self.prefix = args.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the command that people use to start this, as printed with a failure.
    pub fn command(mut self, command: impl Into<String>) -> Runner {
        self.command = Some(command.into());
        self
    }

    /// Sets the folder with the known failures of each subject, by default `conformance/expectations`.
    pub fn expectations(mut self, directory: impl Into<PathBuf>) -> Runner {
        self.expectations = directory.into();
        self
    }

    /// Sets the path or address of the specification for the page of findings, by default `docs/spec`.
    pub fn specification(mut self, at: impl Into<String>) -> Runner {
        self.specification = at.into();
        self
    }

    /// Runs with these arguments, the program's name not among them.
    pub fn run(&self, args: &[String]) -> ExitCode {
        if let Some(("--child", rest)) = args.split_first().map(|(a, rest)| (a.as_str(), rest)) {
            return child::run(&self.subjects, &self.cases, &self.mutants, rest);
        }
        let args = match Args::parse(args) {
            Ok(args) => args,
            Err(why) => {
                eprintln!("{why}\n\n{}", args::USAGE);
                return ExitCode::from(2);
            }
        };
        if args.help {
            say!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        let judged = match args.mutants {
            true => mutants::run(self, &args),
            false => self.judge(&args),
        };
        match judged {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::from(2)
            }
        }
    }

    fn judge(&self, args: &Args) -> Result<bool, String> {
        let subjects = self.chosen(args)?;
        let mutant = mutants::chosen(self, args)?;
        let wanted = self.cases.iter().filter(|it| args.wants(it.id));
        let cases: Vec<_> = wanted.copied().collect();
        if args.list {
            report::list(&cases);
            return Ok(true);
        }
        if cases.is_empty() {
            return Err("no case has a matching id; --list prints all of them".to_owned());
        }
        let began = Instant::now();
        let mut all = Vec::new();
        let mut complaints = Vec::new();
        for subject in subjects {
            let file = self.expectations.join(format!("{}.toml", subject.name()));
            let expectations = match mutant {
                // It has no known failures.
                Some(_) => Expectations::default(),
                None => Expectations::read(&file)?,
            };
            for id in expectations.unknown(&self.cases) {
                complaints.push(format!("{}: no case {id}", file.display()));
            }
            self.is_fit(args, subject)?;
            all.extend(self.judge_subject(args, subject, &cases, &expectations));
        }
        if let Some(path) = &args.json {
            std::fs::write(path, report::json(&all, args.seed))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        if let Some(path) = &args.html {
            std::fs::write(path, report::html(&all, args.seed, &self.specification))
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let filtered = self.cases.len() - cases.len();
        Ok(report::summary(
            &all,
            &complaints,
            filtered,
            began.elapsed(),
        ))
    }

    /// Fails if this subject's world does not pass the self-test of peers.
    fn is_fit(&self, args: &Args, subject: &dyn Subject) -> Result<(), String> {
        let (name, deadline) = (subject.name(), Case::MUST.deadline);
        match self.process(args, name, "selftest", deadline, None).0 {
            Verdict::Pass => Ok(()),
            verdict => {
                let why = report::verdict(&verdict);
                Err(format!("the world of {name} failed its self-test: {why}"))
            }
        }
    }

    fn chosen(&self, args: &Args) -> Result<Vec<&dyn Subject>, String> {
        let named = |name: &String| self.subjects.iter().any(|it| it.name() == name);
        if let Some(name) = args.subjects.iter().find(|name| !named(name)) {
            let known: Vec<_> = self.subjects.iter().map(|it| it.name()).collect();
            return Err(format!("no subject {name}; there are {}", known.join(", ")));
        }
        let wanted = |it: &&dyn Subject| {
            args.subjects.is_empty() || args.subjects.iter().any(|name| name == it.name())
        };
        let subjects = self.subjects.iter().map(|it| &**it);
        Ok(subjects.filter(wanted).collect())
    }

    fn judge_subject(
        &self,
        args: &Args,
        subject: &dyn Subject,
        cases: &[&'static Case],
        expectations: &Expectations,
    ) -> Vec<Finding> {
        report::heading(cases.len(), subject.name(), args.seed);
        let next = AtomicUsize::new(0);
        let findings = Mutex::new(report::InOrder::new(cases.len()));
        std::thread::scope(|scope| {
            for _ in 0..args.jobs {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(at) else { return };
                        let began = Instant::now();
                        let mutant = args.mutant.as_deref();
                        let (verdict, trail) =
                            self.process(args, subject.name(), case.id, case.deadline, mutant);
                        let finding = Finding {
                            subject: subject.name().to_owned(),
                            case,
                            verdict: expectations.judge(case.id, verdict),
                            trail,
                            took: began.elapsed(),
                            rerun: self.rerun(args, subject.name(), case.id),
                        };
                        lock(&findings).add(at, finding);
                    }
                });
            }
        });
        findings
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .finish()
    }

    fn process(
        &self,
        args: &Args,
        subject: &str,
        case: &str,
        deadline: std::time::Duration,
        mutant: Option<&str>,
    ) -> (Verdict, process::Trail) {
        let seed = args.seed.to_string();
        let mut words = self.prefix.clone();
        words.extend(["--child", subject, case, &seed].map(str::to_owned));
        words.extend(mutant.map(str::to_owned));
        process::run(&words, deadline)
    }

    fn rerun(&self, args: &Args, subject: &str, case: &str) -> String {
        let program = || {
            let exe = std::env::current_exe().unwrap_or_default();
            let words = [&[exe.display().to_string()], &self.prefix[..]].concat();
            words.join(" ")
        };
        let program = self.command.clone().unwrap_or_else(program);
        let mutant = args.mutant.as_ref();
        let mutant = mutant.map_or(String::new(), |it| format!(" --mutant {it}"));
        format!(
            "{program} --subject {subject}{mutant} --filter {case} --seed {}",
            args.seed
        )
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let subjects: Vec<_> = self.subjects.iter().map(|it| it.name()).collect();
        f.debug_struct("Runner")
            .field("subjects", &subjects)
            .field("cases", &self.cases.len())
            .finish_non_exhaustive()
    }
}
