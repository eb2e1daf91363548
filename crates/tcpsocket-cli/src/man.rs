//! `tcpsocket man`: one page for the command and all its subcommands.
//!
//! `clap_mangen` makes a page of each subcommand; somebody who types `man tcpsocket` wants one page with everything.

use clap::{Arg, Command};
use roff::{Roff, bold, italic, roman};

use crate::exit::CODES;
use crate::help::{PAGES, Page};

/// The page, as roff.
pub(crate) fn page(mut command: Command) -> String {
    command.build();
    let mut page = Roff::new();
    let version = command.get_version().unwrap_or_default();
    page.control(
        "TH",
        [
            "TCPSOCKET",
            "1",
            // No date: it would be the day of the build.
            " ",
            &format!("tcpsocket {version}"),
            "User Commands",
        ],
    );
    page.control("SH", ["NAME"]);
    page.text([roman(
        "tcpsocket - open and serve TCP connections from the shell, with TLS",
    )]);
    synopsis(&mut page, &command);
    page.control("SH", ["DESCRIPTION"]);
    page.text([roman(
        "Firefox OS's TCPSocket from the shell: standard input and standard output are the two directions of a \
         connection. Bytes pass unchanged, with back-pressure: neither side is read far ahead of a slow one.",
    )]);
    page.control("SH", ["COMMANDS"]);
    for subcommand in subcommands(&command) {
        section(&mut page, subcommand);
    }
    exit_status(&mut page);
    page.control("SH", ["EXAMPLES"]);
    for (what, line) in PAGES.iter().flat_map(|it| it.examples) {
        paragraph(&mut page, &format!("{what}:"));
        literal(&mut page, line);
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([
        bold("nc"),
        roman("(1), "),
        bold("socat"),
        roman("(1), "),
        bold("openssl-s_client"),
        roman("(1)"),
    ]);
    page.to_roff()
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|it| it.get_name() != "help")
}

fn synopsis(page: &mut Roff, command: &Command) {
    page.control("SH", ["SYNOPSIS"]);
    for subcommand in subcommands(command) {
        let mut line = vec![bold(format!("tcpsocket {}", subcommand.get_name()))];
        if options(subcommand).next().is_some() {
            line.extend([roman(" ["), italic("OPTIONS"), roman("]")]);
        }
        for argument in subcommand.get_positionals() {
            line.extend([roman(" "), italic(value(argument))]);
        }
        page.text(line);
        page.control("br", []);
    }
}

/// The `--help` of a subcommand, without its examples.
fn section(page: &mut Roff, command: &Command) {
    page.control("SS", [command.get_name()]);
    let about = command.get_long_about().or(command.get_about());
    // The first paragraph of a section needs no mark.
    for (number, text) in paragraphs(about.map(ToString::to_string)).enumerate() {
        match number {
            0 => page.text([roman(text)]),
            _ => paragraph(page, &text),
        };
    }
    for argument in command.get_positionals().chain(options(command)) {
        described(page, argument);
    }
    let more: Option<&Page> = PAGES.iter().find(|it| it.command == command.get_name());
    for note in more.map(|it| it.notes).unwrap_or_default() {
        paragraph(page, note);
    }
}

fn described(page: &mut Roff, argument: &Arg) {
    page.control("TP", []);
    page.text(match argument.get_long() {
        None => vec![italic(value(argument))],
        Some(long) if !argument.get_action().takes_values() => vec![bold(format!("--{long}"))],
        Some(long) => vec![
            bold(format!("--{long}")),
            roman(" "),
            italic(value(argument)),
        ],
    });
    let about = argument.get_long_help().or(argument.get_help());
    let mut text: Vec<String> = paragraphs(about.map(ToString::to_string)).collect();
    if argument.get_action().takes_values() {
        let values = argument.get_possible_values();
        let values: Vec<&str> = values.iter().map(|it| it.get_name()).collect();
        if !values.is_empty() {
            text.push(format!("One of {}.", values.join(", ")));
        }
        if let [default] = argument.get_default_values() {
            text.push(format!("The default is {}.", default.to_string_lossy()));
        }
    }
    page.text([roman(text.join(" "))]);
}

/// The command's own options: not `--help`.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|it| !it.is_positional() && it.get_id() != "help")
}

fn value(argument: &Arg) -> String {
    match argument.get_value_names() {
        Some(names) => names.join(" "),
        None => argument.get_id().as_str().to_uppercase(),
    }
}

fn exit_status(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in CODES {
        page.control("TP", []);
        page.text([bold((*exit as u8).to_string())]);
        page.text([roman(*meaning)]);
    }
    paragraph(
        page,
        "A failure is a line on standard error that begins with \"tcpsocket: \", followed by the error's name if a connection \
         failed. Mistakes in the arguments take several lines and begin with \"error: \".",
    );
}

/// The paragraphs of a doc comment. clap removes the full stop of a single one.
fn paragraphs(text: Option<String>) -> impl Iterator<Item = String> {
    let text = text.unwrap_or_default();
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|it| format!("{}.", it.trim_end_matches('.')))
        .collect();
    paragraphs.into_iter()
}

fn paragraph<'a>(page: &'a mut Roff, text: &str) -> &'a mut Roff {
    page.control("PP", []).text([roman(text)])
}

/// A line to type.
fn literal(page: &mut Roff, line: &str) {
    page.control("PP", [])
        .control("RS", ["4"])
        .control("nf", [])
        .text([roman(line)])
        .control("fi", [])
        .control("RE", []);
}
