//! The `tcpsocket` command.

mod args;
mod demo;
mod exit;
mod habits;
mod help;
mod listen;
mod man;
mod open;
mod runtime;
mod session;
mod trace;

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tcpsocket_tls::Client;

use crate::args::{Args, Command};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => match habits::advice(&given).filter(|_| error.use_stderr()) {
            None => error.exit(),
            Some(advice) => {
                let _ = io::stderr().write_all(habits::with_advice(&error, &advice).as_bytes());
                return Exit::Usage.into();
            }
        },
    };
    let outcome = match args.command {
        Command::Demo => {
            let played = runtime::run(async |net| demo::run(net, &mut io::stdout()).await);
            played.map(unless_the_reader_left)
        }
        Command::Open(wanted) => open::client(&wanted).and_then(|client| {
            runtime::run_with(client, wanted.trace, async |net| {
                open::run(&*net, &wanted).await
            })
        }),
        Command::Listen(wanted) => {
            runtime::run_with(Client::default(), wanted.trace, async |net| {
                listen::run(&*net, &wanted).await
            })
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "tcpsocket", &mut script);
            Ok(print(&script))
        }
        Command::Man => Ok(print(man::page(Args::command()).as_bytes())),
    };
    match outcome.and_then(|ended| ended) {
        Ok(()) => Exit::Fine.into(),
        Err(failure) => {
            let advice = habits::advice(&given).filter(|_| failure.exit() == Exit::Usage);
            for tip in advice.unwrap_or_default() {
                say(&format_args!("tip: {tip}"));
            }
            say(&failure);
            failure.exit().into()
        }
    }
}

/// Prints a generated text.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut to = io::stdout();
    let printed = to.write_all(text).and_then(|()| to.flush());
    unless_the_reader_left(
        printed.map_err(|error| Failure::Local("cannot write the output", error)),
    )
}

/// A reader that leaves early is no failure: it had what it wanted.
fn unless_the_reader_left(outcome: Result<(), Failure>) -> Result<(), Failure> {
    match outcome {
        Err(Failure::Local(_, error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints a message to standard error.
fn say(what: &dyn std::fmt::Display) {
    // If standard error is gone, nobody is left to be told.
    let _ = io::stderr().write_all(format!("tcpsocket: {what}\n").as_bytes());
}
