//! The threads of a process that did not end in time: tells a spin from a wait.

use std::cmp::Reverse;
use std::fs;
use std::path::Path;

/// A line for each thread: its name, its state, its CPU time so far. Empty where the system has no such list.
pub(super) fn of(process: u32) -> Vec<String> {
    let path = format!("/proc/{process}/task");
    let mut threads: Vec<_> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| thread(&entry.ok()?.path()))
        .collect();
    // Spinning threads stand first.
    threads.sort_by_key(|(spent, _)| Reverse(*spent));
    threads.into_iter().map(|(_, line)| line).collect()
}

/// The CPU time of a thread, in hundredths of a second, and its line.
fn thread(at: &Path) -> Option<(u64, String)> {
    let stat = fs::read_to_string(at.join("stat")).ok()?;
    // `id (name) state ...`, and a name may hold anything.
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let state = match *fields.first()? {
        "R" => "running",
        "S" => "waits",
        "D" => "waits for a device",
        "T" | "t" => "stopped",
        "Z" | "X" => "ended",
        other => other,
    };
    // proc_pid_stat(5): fields 14 and 15, of which the state is the third. A tick is a hundredth for every program that asks Linux.
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    let spent = ticks(11)? + ticks(12)?;
    let (seconds, hundredths) = (spent / 100, spent % 100);
    let line = format!("{name}: {state}, {seconds}.{hundredths:02} s of CPU time");
    Some((spent, line))
}
