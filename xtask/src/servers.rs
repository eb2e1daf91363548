//! `cargo xtask servers`: runs the example clients and the `tcpsocket` command, real programs on these sockets, against
//! real servers on loopback.
//!
//! A missing server is a failure, not a skip, and so is a missing feature of the kernel, unless
//! `--allow-missing-kernel` says otherwise. `--tool` names an already built command, or another one with the same arguments.

mod dovecot;
mod exchange;
mod exim;
mod link;
mod net;
mod nginx;
mod openssl;
mod pki;
mod process;
mod proxies;
mod redis;
mod run;

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use serde_json::Value;

use process::Folder;
use run::Run;

/// Servers, and the checks against them.
struct Fixture {
    name: &'static str,
    /// The programs that it needs, and their Debian packages.
    needs: &'static [(&'static str, &'static str)],
    run: fn(&mut Run, &Folder) -> Result<(), String>,
}

const FIXTURES: &[Fixture] = &[
    openssl::FIXTURE,
    redis::FIXTURE,
    nginx::FIXTURE,
    dovecot::FIXTURE,
    exim::FIXTURE,
    proxies::FIXTURE,
    link::FIXTURE,
];

const USAGE: &str = "\
usage: cargo xtask servers [--only NAME]... [--tool PATH] [--allow-missing-kernel]";

pub(crate) fn run(args: &[String]) -> ExitCode {
    if let [option, part, tool] = args
        && option == link::INSIDE
    {
        return link::inside(part, PathBuf::from(tool));
    }
    let (mut only, mut tool, mut forgiving) = (Vec::new(), None, false);
    let mut args = args.iter();
    while let Some(option) = args.next() {
        match (option.as_str(), args.as_slice().first()) {
            ("--only", Some(name)) if FIXTURES.iter().any(|it| it.name == name) => {
                only.push(name.as_str());
            }
            ("--tool", Some(path)) => tool = Some(PathBuf::from(path)),
            ("--allow-missing-kernel", _) => {
                forgiving = true;
                continue;
            }
            _ => {
                let names: Vec<&str> = FIXTURES.iter().map(|it| it.name).collect();
                eprintln!("{USAGE}\nNAME is one of {}", names.join(", "));
                return ExitCode::FAILURE;
            }
        }
        args.next();
    }
    match drive(&only, tool, forgiving) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("servers: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of failed checks.
fn drive(only: &[&str], tool: Option<PathBuf>, forgiving: bool) -> Result<usize, String> {
    let fixtures: Vec<&Fixture> = FIXTURES
        .iter()
        .filter(|it| only.is_empty() || only.contains(&it.name))
        .collect();
    let mut missing: Vec<(&str, &str)> = fixtures
        .iter()
        .flat_map(|it| it.needs.iter().copied())
        .filter(|(program, _)| process::find(program).is_none())
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let programs: Vec<&str> = missing.iter().map(|it| it.0).collect();
        let packages: Vec<&str> = missing.iter().map(|it| it.1).collect();
        return Err(format!(
            "{} not found; on Debian: apt-get install {}",
            programs.join(", "),
            packages.join(" ")
        ));
    }
    let begun = Instant::now();
    let mut run = Run::new(tool.map_or_else(build, Ok)?, forgiving);
    for fixture in fixtures {
        let folder = Folder::new(fixture.name)?;
        run.begin(fixture.name);
        if let Err(message) = (fixture.run)(&mut run, &folder) {
            run.fail("the fixture", &message);
        }
    }
    let (passed, failed) = (run.passed, run.failed);
    let took = begun.elapsed().as_secs_f64();
    println!("{passed} passed, {failed} failed, {took:.0} s");
    Ok(failed)
}

/// Builds the command, and returns its path.
fn build() -> Result<PathBuf, String> {
    let output = crate::cargo()
        .current_dir(crate::workspace_root())
        .args(["build", "--release", "--package=tcpsocket-cli"])
        .args([
            "--bin=tcpsocket",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be run: {error}"))?;
    if !output.status.success() {
        return Err("the tcpsocket command does not build".to_owned());
    }
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|it| it["target"]["name"] == "tcpsocket")
        .find_map(|it| it["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo built the tcpsocket command, but reported no path".to_owned())
}
