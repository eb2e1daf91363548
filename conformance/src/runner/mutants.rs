//! The kit judged: deliberately broken providers, and the cases that must catch them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::args::Args;
use super::process::Verdict;
use super::say::say;
use super::{Runner, report};
use crate::sync::lock;
use crate::{Case, Mutant, Subject};

/// How many times more processes run at once than elsewhere: most of them wait in vain.
const CROWD: usize = 12;

/// The result of one case against one mutant.
struct Tried {
    case: &'static Case,
    verdict: Verdict,
}

impl Tried {
    fn caught(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_) | Verdict::Timeout)
    }

    fn not_here(&self) -> bool {
        matches!(self.verdict, Verdict::Precondition(_))
    }
}

/// The results of one mutant.
struct Trial {
    mutant: &'static Mutant,
    tried: Vec<Tried>,
}

/// The mutant to judge, if there is one.
pub(super) fn chosen(runner: &Runner, args: &Args) -> Result<Option<&'static Mutant>, String> {
    if args.all_cases && !args.mutants {
        return Err("--all-cases needs --mutants".to_owned());
    }
    let Some(name) = &args.mutant else {
        return Ok(None);
    };
    let known = runner.mutants.iter().find(|it| it.name == name);
    known.copied().map(Some).ok_or_else(|| {
        let all: Vec<_> = runner.mutants.iter().map(|it| it.name).collect();
        format!("no mutant {name}; there are {}", all.join(", "))
    })
}

/// Runs the mutants on the first subject; returns whether all were caught.
pub(super) fn run(runner: &Runner, args: &Args) -> Result<bool, String> {
    if args.json.is_some() || args.html.is_some() {
        return Err("--json and --html cannot be combined with --mutants".to_owned());
    }
    if !args.filters.is_empty() && !args.all_cases {
        let why = "--mutants runs the cases named by each mutant; --filter needs --all-cases";
        return Err(why.to_owned());
    }
    let subjects = runner.chosen(args)?;
    let subject = *subjects.first().ok_or("there is no subject")?;
    let mutants: Vec<_> = match chosen(runner, args)? {
        Some(it) => vec![it],
        None => runner.mutants.clone(),
    };
    if args.list {
        list(&mutants);
        return Ok(true);
    }
    let wanted = |it: &&&'static Case| args.wants(it.id);
    let wanted: Vec<_> = runner.cases.iter().filter(wanted).copied().collect();
    let mut pairs = Vec::new();
    for (at, mutant) in mutants.iter().enumerate() {
        let named = named(runner, mutant)?;
        let cases = if args.all_cases { &wanted } else { &named };
        pairs.extend(cases.iter().map(|case| (at, *case)));
    }
    runner.is_fit(args, subject)?;
    let (count, name) = (mutants.len(), subject.name());
    say!("\nrunning {count} mutants of {name}, seed {}", args.seed);
    let began = Instant::now();
    let trials = try_all(runner, args, subject, &mutants, &pairs);
    let well = summary(&trials, began.elapsed());
    if args.all_cases {
        table(&trials, &wanted);
    }
    Ok(well)
}

fn list(mutants: &[&Mutant]) {
    for mutant in mutants {
        say!("{} [{}]", mutant.name, mutant.clauses.join(" "));
        say!("    {}", mutant.what);
        say!("    Seen in: {}", mutant.repeats);
    }
    say!("{} mutants", mutants.len());
}

fn named(runner: &Runner, mutant: &Mutant) -> Result<Vec<&'static Case>, String> {
    let case = |id: &&'static str| {
        let found = runner.cases.iter().find(|it| it.id == *id);
        let missing = || format!("mutant {}: no case {id}", mutant.name);
        found.copied().ok_or_else(missing)
    };
    mutant.caught_by.iter().map(case).collect()
}

fn try_all(
    runner: &Runner,
    args: &Args,
    subject: &dyn Subject,
    mutants: &[&'static Mutant],
    pairs: &[(usize, &'static Case)],
) -> Vec<Trial> {
    let next = AtomicUsize::new(0);
    let trials = Mutex::new(InOrder::new(mutants, pairs));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs * CROWD {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((mutant, case)) = pairs.get(at) else {
                        return;
                    };
                    let name = Some(mutants[*mutant].name);
                    let (verdict, _) =
                        runner.process(args, subject.name(), case.id, case.deadline, name);
                    lock(&trials).add(*mutant, Tried { case, verdict });
                }
            });
        }
    });
    let trials = trials.into_inner();
    trials.unwrap_or_else(|poisoned| poisoned.into_inner()).all
}

/// Trials, each printed once it and its predecessors are complete.
struct InOrder {
    all: Vec<Trial>,
    /// How many cases are still to come for each.
    left: Vec<usize>,
    printed: usize,
}

impl InOrder {
    fn new(mutants: &[&'static Mutant], pairs: &[(usize, &'static Case)]) -> InOrder {
        let trial = |mutant: &&'static Mutant| Trial {
            mutant,
            tried: Vec::new(),
        };
        let mut left = vec![0; mutants.len()];
        pairs.iter().for_each(|(mutant, _)| left[*mutant] += 1);
        let mut it = InOrder {
            all: mutants.iter().map(trial).collect(),
            left,
            printed: 0,
        };
        it.print();
        it
    }

    fn add(&mut self, mutant: usize, tried: Tried) {
        self.all[mutant].tried.push(tried);
        self.left[mutant] -= 1;
        self.print();
    }

    fn print(&mut self) {
        while self.left.get(self.printed) == Some(&0) {
            let trial = &mut self.all[self.printed];
            trial.tried.sort_by_key(|it| it.case.id);
            say!("mutant {} ... {}", trial.mutant.name, trial.outcome());
            self.printed += 1;
        }
    }
}

impl Trial {
    fn find(&self, id: &str) -> Option<&Tried> {
        self.tried.iter().find(|it| it.case.id == id)
    }

    /// The named cases that did not catch it.
    fn missed(&self) -> Vec<&Tried> {
        let named = self.mutant.caught_by.iter();
        let tried = named.filter_map(|id| self.find(id));
        tried.filter(|it| !it.caught() && !it.not_here()).collect()
    }

    fn caught_by(&self) -> Vec<&'static str> {
        let caught = self.tried.iter().filter(|it| it.caught());
        caught.map(|it| it.case.id).collect()
    }

    /// Why the trial shows nothing, if so.
    fn not_here(&self) -> Option<String> {
        match self.tried.first().map(|it| &it.verdict) {
            Some(Verdict::Precondition(why)) if self.tried.iter().all(Tried::not_here) => {
                Some(why.clone())
            }
            _ => None,
        }
    }

    fn survived(&self) -> bool {
        let silent = self.caught_by().is_empty() && self.not_here().is_none();
        silent || !self.missed().is_empty()
    }

    fn outcome(&self) -> String {
        if let Some(why) = self.not_here() {
            return format!("ignored, {why}");
        }
        let missed: Vec<_> = self.missed().iter().map(|it| it.case.id).collect();
        if !missed.is_empty() {
            return format!("SURVIVED {}", missed.join(", "));
        }
        match &self.caught_by()[..] {
            [] => "SURVIVED".to_owned(),
            [id] => format!("caught by {id}"),
            all => format!("caught by {} cases", all.len()),
        }
    }
}

/// Prints the survivors and the last line; returns whether there are none.
fn summary(trials: &[Trial], took: Duration) -> bool {
    let survived: Vec<_> = trials.iter().filter(|it| it.survived()).collect();
    for trial in &survived {
        let mutant = trial.mutant;
        say!("\n---- {} ----", mutant.name);
        say!("{}: {}", mutant.clauses.join(", "), mutant.what);
        for tried in trial.missed() {
            let verdict = report::verdict(&tried.verdict);
            say!("{} must fail: {verdict}", tried.case.id);
        }
        if trial.mutant.caught_by.is_empty() {
            say!("no named case fails because of it");
        }
    }
    let ignored = trials.iter().filter(|it| it.not_here().is_some()).count();
    say!(
        "\nmutants: {}. {} caught; {} survived; {ignored} ignored; finished in {:.2}s",
        if survived.is_empty() { "ok" } else { "FAILED" },
        trials.len() - survived.len() - ignored,
        survived.len(),
        took.as_secs_f64(),
    );
    survived.is_empty()
}

/// Prints which cases catch which mutant, and the cases that catch none.
fn table(trials: &[Trial], cases: &[&'static Case]) {
    say!("\ncaught by:\n");
    let mut counts = Vec::new();
    for trial in trials.iter().filter(|it| it.not_here().is_none()) {
        let caught = trial.caught_by();
        counts.push(caught.len());
        say!("{} ({})", trial.mutant.name, caught.len());
        for id in caught {
            let named = trial.mutant.caught_by.contains(&id);
            say!("    {id}{}", if named { "" } else { " (not named)" });
        }
        for tried in trial.tried.iter() {
            if let Verdict::Crash(why) = &tried.verdict {
                say!("    {} (CRASH: {why})", tried.case.id);
            }
        }
    }
    counts.sort_unstable();
    let median = counts.get(counts.len() / 2).copied().unwrap_or_default();
    say!("\nmedian: caught by {median} cases");
    let idle: Vec<_> = cases
        .iter()
        .filter(|case| {
            let of = |it: &Trial| it.find(case.id).is_some_and(Tried::caught);
            !trials.iter().any(of)
        })
        .collect();
    say!(
        "cases that no mutant fails: {} of {}",
        idle.len(),
        cases.len()
    );
    for case in idle {
        say!("    {}", case.id);
    }
}
