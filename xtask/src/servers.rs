//! `cargo xtask servers`: drives the `tcpsocket` command, a real program over our sockets, against real servers on
//! loopback.
//!
//! A server that is not installed is a failure, not a skip. `--tool` takes a command that is built already, or another
//! one with the same arguments.

mod exchange;
mod nginx;
mod process;
mod redis;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use serde_json::Value;

use process::{Folder, Server};

/// A server, and what is checked against it.
struct Fixture {
    name: &'static str,
    binary: &'static str,
    package: &'static str,
    start: fn(&Path, &Folder) -> Result<Server, String>,
    checks: &'static [Check],
}

struct Check {
    name: &'static str,
    /// Returns what is worth telling.
    run: fn(&Path, &Server) -> Result<String, String>,
}

const FIXTURES: &[Fixture] = &[redis::FIXTURE, nginx::FIXTURE];

pub(crate) fn run(args: &[String]) -> ExitCode {
    let (mut only, mut tool) = (None, None);
    for pair in args.chunks(2) {
        match pair {
            [option, name] if option == "--only" && FIXTURES.iter().any(|it| it.name == name) => {
                only = Some(name.as_str());
            }
            [option, path] if option == "--tool" => tool = Some(PathBuf::from(path)),
            _ => {
                let names: Vec<&str> = FIXTURES.iter().map(|it| it.name).collect();
                let names = names.join("|");
                eprintln!("usage: cargo xtask servers [--only {names}] [--tool PATH]");
                return ExitCode::FAILURE;
            }
        }
    }
    match drive(only, tool) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("servers: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many checks failed.
fn drive(only: Option<&str>, tool: Option<PathBuf>) -> Result<usize, String> {
    let fixtures: Vec<&Fixture> = FIXTURES
        .iter()
        .filter(|it| only.is_none_or(|name| name == it.name))
        .collect();
    let missing: Vec<&Fixture> = fixtures
        .iter()
        .copied()
        .filter(|it| process::find(it.binary).is_none())
        .collect();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(|it| it.binary).collect();
        let packages: Vec<&str> = missing.iter().map(|it| it.package).collect();
        return Err(format!(
            "{} not found; on Debian: apt-get install {}",
            names.join(" and "),
            packages.join(" ")
        ));
    }
    let tool = tool.map_or_else(build, Ok)?;
    let (mut passed, mut failed) = (0, 0);
    for fixture in fixtures {
        let folder = Folder::new(fixture.name)?;
        let binary = process::find(fixture.binary).ok_or("the server is gone")?;
        let server = match (fixture.start)(&binary, &folder) {
            Ok(server) => server,
            Err(message) => {
                println!("FAILED {}: {message}", fixture.name);
                failed += fixture.checks.len();
                continue;
            }
        };
        for check in fixture.checks {
            let start = Instant::now();
            let outcome = (check.run)(&tool, &server);
            let seconds = start.elapsed().as_secs_f64();
            match outcome {
                Ok(told) => {
                    passed += 1;
                    let (name, check) = (fixture.name, check.name);
                    println!("ok {name}: {check} ({told}{seconds:.2} s)");
                }
                Err(message) => {
                    failed += 1;
                    println!("FAILED {}: {}: {message}", fixture.name, check.name);
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

/// Builds the command, and says where it is.
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
        .ok_or_else(|| "cargo built the tcpsocket command but did not say where".to_owned())
}
