//! `cargo xtask bench`: runs the package `xtask/bench`, which is apart because counting allocations needs unsafe code.

use std::process::ExitCode;

pub(crate) fn run(args: &[String]) -> ExitCode {
    let status = crate::cargo()
        .current_dir(crate::workspace_root())
        .args(["run", "--quiet", "--release", "--package=xtask-bench", "--"])
        .args(args)
        .status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: cargo cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}
