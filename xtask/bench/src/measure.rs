//! The measuring process: runs subjects against peers, counts, and prints.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use crate::peer::Peer;
use crate::{Failure, Variant, Workload};

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    quick: bool,
    detail: bool,
    counter: Option<Counter>,
    only: Option<Workload>,
}

impl Plan {
    pub(crate) fn parse(args: &[&str]) -> Option<Plan> {
        let mut plan = Plan::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--quick" => plan.quick = true,
                "--detail" => plan.detail = true,
                "--with" => {
                    plan.counter = Some(match *args.next()? {
                        "perf" => Counter::Perf,
                        "strace" => Counter::Strace,
                        _ => return None,
                    });
                }
                "--only" => {
                    let name = args.next()?;
                    plan.only = Some(*Workload::ALL.iter().find(|it| it.name() == *name)?);
                }
                _ => return None,
            }
        }
        Some(plan)
    }

    fn wants(&self, workload: Workload) -> bool {
        self.only.is_none_or(|it| it == workload)
    }

    /// Messages, MiB or sockets.
    fn count(&self, workload: Workload) -> usize {
        let full = match workload {
            Workload::EchoServer | Workload::EchoClient => 8_000,
            Workload::Idle => return 1_000,
            _ => 256,
        };
        if self.quick { full / 4 } else { full }
    }

    fn repetitions(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    fn pairs(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }
}

/// How system calls are counted from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    /// By a tracepoint, at natural speed.
    Perf,
    /// By stopping at every call. Slow enough to change what is batched.
    Strace,
}

/// On which processors the subject and its peer run.
#[derive(Clone, Copy, Debug)]
struct Placement {
    name: &'static str,
    subject: usize,
    peer: usize,
}

/// What a subject said of itself.
#[derive(Clone, Copy, Debug)]
struct Said {
    ticks: f64,
    allocations: f64,
    seconds: f64,
    bytes: f64,
}

#[derive(Debug)]
struct Bench {
    subject: PathBuf,
    folder: Folder,
    counter: Counter,
}

pub(crate) fn run(plan: &Plan) -> Result<(), Failure> {
    need("taskset", "util-linux")?;
    need("timeout", "coreutils")?;
    let mut bench = Bench {
        subject: std::env::current_exe()?,
        folder: Folder::new()?,
        counter: Counter::Perf,
    };
    bench.counter = bench.choose(plan.counter)?;
    let placements = placements()?;
    for variant in Variant::ALL {
        println!("{variant:<10}{}", variant.meaning());
    }
    if plan.only != Some(Workload::Idle) {
        bench.system_calls(plan, &placements)?;
    }
    let same = placements.first().ok_or("no processor")?;
    let bulk_and_echo = Workload::ALL
        .into_iter()
        .filter(|it| *it != Workload::Idle && plan.wants(*it));
    let mut rates = Vec::new();
    let mut allocations = Vec::new();
    for workload in bulk_and_echo {
        let runs = bench.side_by_side(plan, workload, same)?;
        allocations.push((workload, runs.iter().map(|it| it.allocations).collect()));
        rates.push((workload, runs));
    }
    if !allocations.is_empty() {
        println!("\nallocations, per echo or MiB");
        heads();
        for (workload, values) in allocations {
            row(workload, "", values);
        }
    }
    if plan.wants(Workload::Idle) {
        println!(
            "\nheap bytes per idle open socket, of 1,000, each waited on (no read buffer in any)"
        );
        heads();
        let mut bytes = Vec::new();
        for variant in Variant::ALL {
            let count = plan.count(Workload::Idle);
            bytes.push(
                bench
                    .once(variant, Workload::Idle, count, same, None)?
                    .bytes,
            );
        }
        row(Workload::Idle, "", bytes);
    }
    if plan.detail {
        bench.detail(plan, same)?;
    }
    if !rates.is_empty() {
        println!(
            "\nrates against plain smol, {} interleaved runs, {}: NOISY, differences under 15 % mean nothing",
            plan.pairs(),
            same.name
        );
        for (workload, runs) in rates {
            let unit = if workload.is_bulk() {
                "MiB/s"
            } else {
                "messages/s"
            };
            println!("{workload} ({unit})");
            for (variant, run) in Variant::ALL.iter().zip(&runs) {
                let (low, high) = run.spread;
                println!(
                    "  {variant:<10}{:>9.0}   {:.2} of smol [{low:.2} to {high:.2}]",
                    run.rate, run.ratio
                );
            }
        }
    }
    Ok(())
}

/// One variant, over several runs.
#[derive(Debug)]
struct Runs {
    allocations: f64,
    /// The median.
    rate: f64,
    /// Against plain smol in the same round: the geometric mean, the lowest and the highest.
    ratio: f64,
    spread: (f64, f64),
}

impl Bench {
    fn choose(&self, wanted: Option<Counter>) -> Result<Counter, Failure> {
        let perf = || -> Result<u64, Failure> {
            let mut command = self.counted(Counter::Perf);
            let done = command.arg("true").stderr(Stdio::null()).status()?;
            if done.success() {
                self.counts(Counter::Perf)
            } else {
                Ok(0)
            }
        };
        if wanted != Some(Counter::Strace) {
            match perf() {
                Ok(calls) if calls > 0 => return Ok(Counter::Perf),
                _ if wanted.is_some() => {
                    return Err("perf does not count raw_syscalls here: it needs root (or \
                                kernel.perf_event_paranoid=-1 and a readable tracefs) and the package \
                                linux-perf; --with strace needs neither"
                        .into());
                }
                _ => {}
            }
        }
        need("strace", "strace")?;
        Ok(Counter::Strace)
    }

    /// The beginning of a command whose system calls are counted.
    fn counted(&self, counter: Counter) -> Command {
        let out = self.folder.0.join("calls");
        let mut command;
        match counter {
            Counter::Perf => {
                command = Command::new("perf");
                command.args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o"]);
                command.arg(out).arg("--");
            }
            Counter::Strace => {
                command = Command::new("strace");
                command.args(["-f", "-c", "-U", "calls,name", "-o"]);
                command.arg(out).arg("--");
            }
        }
        command
    }

    /// What `counted` found.
    fn counts(&self, counter: Counter) -> Result<u64, Failure> {
        let text = fs::read_to_string(self.folder.0.join("calls"))?;
        let count = match counter {
            Counter::Perf => text
                .lines()
                .find(|it| it.contains("raw_syscalls"))
                .and_then(|it| it.split(',').next()?.parse().ok()),
            Counter::Strace => by_name(&text).get("total").copied(),
        };
        count.ok_or_else(|| format!("no count of system calls in {text:?}").into())
    }

    /// Runs a subject once, and its peer beside it.
    fn once(
        &self,
        variant: Variant,
        workload: Workload,
        count: usize,
        placement: &Placement,
        counter: Option<Counter>,
    ) -> Result<Said, Failure> {
        pin(placement.peer)?;
        let mut peer = None;
        if workload != Workload::EchoServer {
            peer = Some(Peer::listen(workload, count)?);
        }
        let mut command = Command::new("timeout");
        command.args(["120", "taskset", "-c", &placement.subject.to_string()]);
        if let Some(counter) = counter {
            let counted = self.counted(counter);
            command.arg(counted.get_program()).args(counted.get_args());
        }
        let port = peer.as_ref().map_or(0, |it| it.port);
        command
            .arg(&self.subject)
            .args(["subject", variant.name(), workload.name()])
            .args([count.to_string(), port.to_string()])
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("the subject has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        if workload == Workload::EchoServer {
            let port = words(&mut lines, "port")?;
            let port = port.first().ok_or("the subject names no port")?.parse()?;
            peer = Some(Peer::ask(port, count)?);
        }
        let said = words(&mut lines, "done");
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("{variant} {workload} ended with {status}").into());
        }
        let said: Vec<f64> = said?.iter().filter_map(|it| it.parse().ok()).collect();
        peer.map_or(Ok(()), Peer::join)?;
        match said[..] {
            [ticks, allocations, seconds, bytes] => Ok(Said {
                ticks,
                allocations,
                seconds,
                bytes,
            }),
            _ => Err(format!("{variant} {workload} did not say what it counted").into()),
        }
    }

    /// System calls for one more message or MiB: of twice as many, less those of as many, so that starting costs
    /// nothing.
    fn system_calls(&self, plan: &Plan, placements: &[Placement]) -> Result<(), Failure> {
        let how = match self.counter {
            Counter::Perf => "by perf, at natural speed",
            Counter::Strace => "by strace, which slows them: fewer may be batched",
        };
        println!("\nsystem calls, {how}; those of 2N less those of N, divided by N");
        heads();
        for workload in Workload::ALL {
            if workload == Workload::Idle || !plan.wants(workload) {
                continue;
            }
            for placement in placements {
                let mut values = Vec::new();
                for variant in Variant::ALL {
                    let mut counts = Vec::new();
                    for _ in 0..plan.repetitions() {
                        counts.push(self.difference(plan, variant, workload, placement)?);
                    }
                    values.push(median(counts));
                }
                row(workload, placement.name, values);
            }
        }
        Ok(())
    }

    fn difference(
        &self,
        plan: &Plan,
        variant: Variant,
        workload: Workload,
        placement: &Placement,
    ) -> Result<f64, Failure> {
        let count = plan.count(workload);
        let mut totals = [0.0; 2];
        for (total, times) in totals.iter_mut().zip([1, 2]) {
            self.once(
                variant,
                workload,
                times * count,
                placement,
                Some(self.counter),
            )?;
            *total = self.counts(self.counter)? as f64;
        }
        Ok((totals[1] - totals[0]) / count as f64)
    }

    /// Runs every variant in turn, again and again.
    fn side_by_side(
        &self,
        plan: &Plan,
        workload: Workload,
        placement: &Placement,
    ) -> Result<Vec<Runs>, Failure> {
        let mut rates: Vec<Vec<f64>> = vec![Vec::new(); Variant::ALL.len()];
        let mut allocations: Vec<Vec<f64>> = rates.clone();
        for _ in 0..plan.pairs() {
            for (index, variant) in Variant::ALL.into_iter().enumerate() {
                let count = 4 * plan.count(workload);
                let said = self.once(variant, workload, count, placement, None)?;
                rates[index].push(said.ticks / said.seconds);
                allocations[index].push(said.allocations / said.ticks);
            }
        }
        let plain = rates.last().cloned().unwrap_or_default();
        let runs = rates.into_iter().zip(allocations);
        Ok(runs
            .map(|(rates, allocations)| {
                let ratios = rates.iter().zip(&plain).map(|(a, b)| a / b);
                let logs: f64 = ratios.clone().map(f64::ln).sum();
                Runs {
                    allocations: median(allocations),
                    ratio: (logs / rates.len() as f64).exp(),
                    spread: (
                        ratios.clone().fold(f64::INFINITY, f64::min),
                        ratios.fold(0.0, f64::max),
                    ),
                    rate: median(rates),
                }
            })
            .collect())
    }

    /// Which system calls they are, by strace.
    fn detail(&self, plan: &Plan, placement: &Placement) -> Result<(), Failure> {
        need("strace", "strace")?;
        println!("\nwhich system calls, by strace, {}", placement.name);
        for workload in Workload::ALL {
            if workload == Workload::Idle || !plan.wants(workload) {
                continue;
            }
            for variant in Variant::ALL {
                let count = plan.count(workload) / 4;
                let mut calls: BTreeMap<String, f64> = BTreeMap::new();
                for (times, sign) in [(1, -1.0), (2, 1.0)] {
                    let counter = Some(Counter::Strace);
                    self.once(variant, workload, times * count, placement, counter)?;
                    let text = fs::read_to_string(self.folder.0.join("calls"))?;
                    for (name, calls_of_it) in by_name(&text) {
                        *calls.entry(name).or_default() += sign * calls_of_it as f64 / count as f64;
                    }
                }
                let mut calls: Vec<(String, f64)> = calls.into_iter().collect();
                calls.retain(|(name, it)| name != "total" && *it >= 0.01);
                calls.sort_by(|a, b| b.1.total_cmp(&a.1));
                let calls: Vec<String> = calls
                    .into_iter()
                    .map(|(name, it)| format!("{name} {it:.2}"))
                    .collect();
                println!("{workload:<12}{variant:<10}{}", calls.join(", "));
            }
        }
        Ok(())
    }
}

/// The rest of the next line that begins with a word.
fn words(lines: &mut Lines<BufReader<ChildStdout>>, first: &str) -> Result<Vec<String>, Failure> {
    for line in lines {
        let line = line?;
        let mut words = line.split_whitespace();
        if words.next() == Some(first) {
            return Ok(words.map(str::to_owned).collect());
        }
    }
    Err(format!("the subject ended before it said {first:?}").into())
}

/// A table of strace, as printed for `-U calls,name`.
fn by_name(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (calls, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), calls.parse().ok()?))
        })
        .collect()
}

fn heads() {
    print!("{:<26}", "");
    for variant in Variant::ALL {
        print!("{variant:>9}");
    }
    println!();
}

fn row(workload: Workload, placement: &str, values: Vec<f64>) {
    print!("{workload:<13}{placement:<13}");
    for value in values {
        if value.abs() < 100.0 {
            print!("{value:>9.2}");
        } else {
            print!("{value:>9.0}");
        }
    }
    println!("   {}", workload.meaning());
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The last processor for both, and where there are two, one for each.
fn placements() -> Result<Vec<Placement>, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|it| it.strip_prefix("Cpus_allowed_list:"))
        .ok_or("/proc/self/status names no processors")?;
    let mut allowed: Vec<usize> = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        allowed.extend(first.parse::<usize>()?..=last.parse()?);
    }
    let last = *allowed.last().ok_or("no processor")?;
    let mut placements = vec![Placement {
        name: "same core",
        subject: last,
        peer: last,
    }];
    if let Some(other) = allowed.iter().rev().nth(1) {
        placements.push(Placement {
            name: "split cores",
            subject: last,
            peer: *other,
        });
    }
    Ok(placements)
}

/// Moves this process, and with it the peers that it starts.
fn pin(processor: usize) -> Result<(), Failure> {
    let done = Command::new("taskset")
        .args(["-a", "-p", "-c", &processor.to_string()])
        .arg(std::process::id().to_string())
        .stdout(Stdio::null())
        .status()?;
    if done.success() {
        Ok(())
    } else {
        Err("taskset cannot pin this process".into())
    }
}

fn need(tool: &str, package: &str) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|it| it.join(tool).is_file()) {
        return Ok(());
    }
    Err(format!("{tool} not found; on Debian: apt-get install {package}").into())
}

/// A temporary folder, removed at its end.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, Failure> {
        let name = format!("tcpsocket-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_or_refused() {
        let plan = Plan::parse(&["--quick", "--with", "strace", "--only", "idle"]);
        let plan = plan.expect("a good plan");
        assert!(plan.quick && !plan.detail && plan.wants(Workload::Idle));
        assert!(!plan.wants(Workload::Receive));
        assert_eq!(plan.counter, Some(Counter::Strace));
        for bad in [
            &["--with"][..],
            &["--with", "hope"],
            &["--only", "all"],
            &["x"],
        ] {
            assert!(Plan::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_table_of_strace_is_read() {
        let text = "    calls syscall\n--------- ----------------\n       12 write\n        3 futex\n\
                    --------- ----------------\n       15 total\n";
        let table = by_name(text);
        assert_eq!(table.get("write"), Some(&12));
        assert_eq!(table.get("total"), Some(&15));
        assert_eq!(table.len(), 3);
    }

    #[test]
    fn the_median_ignores_one_outlier() {
        assert_eq!(median(vec![3.0, 900.0, 1.0]).to_bits(), 3.0_f64.to_bits());
    }
}
