//! What the command says about itself: help, manual page, completions.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Ended, Running, within};

const OPEN: &[&str] = &[
    "--tls",
    "--starttls",
    "--ehlo",
    "--ca",
    "--alpn",
    "--connect-timeout",
    "--close-on-eof",
    "--trace",
];
const LISTEN: &[&str] = &["--address", "--keep", "--trace"];
const COMMANDS: &[&str] = &["demo", "open", "listen", "completions", "man"];

/// What is printed, by a command that does nothing else.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let mut running = Running::start(arguments);
    let output = running.all_output();
    running.end().assert_fine();
    String::from_utf8(within(&output, "the output")).unwrap()
}

#[track_caller]
fn assert_all(text: &str, wanted: &[&str]) {
    for it in wanted {
        assert!(text.contains(it), "no {it:?} in\n{text}");
    }
}

#[test]
fn help_names_every_option_and_every_exit_code() {
    let codes: Vec<String> = (0..=8).map(|it| format!("\n  {it}  ")).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    assert_all(&printed(&["--help"]), COMMANDS);
    for (command, options) in [("open", OPEN), ("listen", LISTEN)] {
        for flag in ["-h", "--help"] {
            let help = printed(&[command, flag]);
            assert_all(&help, options);
            assert_all(&help, &codes);
            assert!(help.lines().all(|it| it.chars().count() <= 100), "{help}");
        }
        let help = printed(&[command, "--help"]);
        assert_all(&help, &["Examples:", &format!("tcpsocket {command} ")]);
    }
    for command in COMMANDS {
        assert_all(&printed(&[command, "--help"]), &["Usage: tcpsocket"]);
    }
    // That the lists above are complete.
    for (command, options) in [("open", OPEN), ("listen", LISTEN)] {
        let help = printed(&[command, "-h"]);
        let listed = help.lines().filter(|it| it.starts_with("      --")).count();
        assert_eq!(listed, options.len(), "{help}");
    }
}

#[test]
fn completions_are_scripts_that_know_every_option() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completions", shell]);
        assert_all(&script, COMMANDS);
        for option in OPEN.iter().chain(LISTEN) {
            assert_all(&script, &[option.trim_start_matches('-')]);
        }
    }
    // As bash reads it, and then as it uses it.
    let script = printed(&["completions", "bash"]);
    judged(Command::new("bash").arg("-n"), &script).expect("bash is needed for this test");
    let ask = "COMP_WORDS=(tcpsocket open --c); COMP_CWORD=2; _tcpsocket tcpsocket --c open; echo \"${COMPREPLY[*]}\"";
    let answer = judged(&mut Command::new("bash"), &format!("{script}\n{ask}\n")).unwrap();
    let mut answer: Vec<&str> = answer.split_whitespace().collect();
    answer.sort_unstable();
    assert_eq!(answer, ["--ca", "--close-on-eof", "--connect-timeout"]);
}

/// Its output, if it is installed. It must have nothing to complain about.
#[track_caller]
fn judged(judge: &mut Command, text: &str) -> Option<String> {
    let pipes = judge
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().ok()?;
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(0), ""),
        "{judge:?}"
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_manual_page_has_everything_on_one_page() {
    let page = printed(&["man"]);
    assert!(page.starts_with(".TH TCPSOCKET 1 "), "{page}");
    for section in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "COMMANDS",
        "\"EXIT STATUS\"",
        "EXAMPLES",
    ] {
        assert_all(&page, &[&format!("\n.SH {section}\n")]);
    }
    for command in COMMANDS {
        assert_all(&page, &[&format!("\n.SS {command}\n")]);
    }
    for option in OPEN.iter().chain(LISTEN) {
        let escaped = option.replace('-', "\\-");
        assert_all(&page, &[&format!("\n.TP\n\\fB{escaped}\\fR")]);
    }
    let codes = (0..=8).map(|it| format!("\n.TP\n\\fB{it}\\fR\n"));
    codes.for_each(|it| assert_all(&page, &[&it]));
    // Each judges it that is here.
    let _ = judged(Command::new("groff").args(["-man", "-ww", "-z"]), &page);
    let _ = judged(
        Command::new("mandoc").args(["-T", "lint", "-W", "error"]),
        &page,
    );
    if let Some(text) = judged(
        Command::new("groff").args(["-man", "-Tascii", "-P-cbou"]),
        &page,
    ) {
        assert_all(
            &text,
            &[
                "--connect-timeout SECONDS",
                "printf 'PING\\r\\nQUIT\\r\\n' |",
            ],
        );
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    for arguments in [&["man"][..], &["completions", "bash"], &["--help"]] {
        let mut running = Running::start(arguments);
        drop(running.stdout());
        let Ended { code, stderr } = running.end();
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
    }
}
