//! The `tcpsocket` command.

mod args;
mod demo;
mod exit;
mod open;
mod runtime;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};
use crate::exit::Exit;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Demo => runtime::run(async |net| demo::run(net, &mut std::io::stdout()).await),
        Command::Open(wanted) => runtime::run(async |net| open::run(net, &wanted).await),
    };
    match outcome.and_then(|ended| ended) {
        Ok(()) => Exit::Fine.into(),
        Err(failure) => {
            // Nobody is left to be told that nobody can be told.
            let _ = writeln!(std::io::stderr(), "tcpsocket: {failure}");
            failure.exit().into()
        }
    }
}
