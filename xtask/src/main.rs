//! The workspace's own commands. `cargo xtask` lists them.

mod bench;
mod book;
mod conformance;
mod guards;
mod servers;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  conformance [--help]    judge this workspace's implementations by the clauses of the specification
  servers [--only NAME]   run the example clients and the tcpsocket command against real servers on loopback
  book [--help]           build the pages as a book, and check its links
  bench [--help]          count system calls, allocations and heap bytes, side by side with plain smol
  tidy [--root DIR]       check the rules that no compiler checks
  clauses                 copy the statements of docs/spec into the kit
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = args.split_first() else {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match command.as_str() {
        "conformance" => conformance::run(rest),
        "servers" => servers::run(rest),
        "bench" => bench::run(rest),
        "book" => book::run(rest),
        "tidy" => tidy::run(rest),
        "clauses" => clauses(),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        other => {
            eprint!("xtask: unknown command {other:?}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the kit's table of statements, which `tidy` compares.
fn clauses() -> ExitCode {
    match tidy::statements::write(&workspace_root()) {
        Ok(path) => {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("clauses: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace of this xtask.
fn workspace_root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or(manifest.clone(), Path::to_path_buf)
}

/// The cargo that runs this program.
fn cargo() -> std::process::Command {
    std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
