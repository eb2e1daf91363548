//! What the README shows is this program, and this program refuses.

use std::process::Command;

const README: &str = include_str!("../../../README.md");
const PROGRAM: &str = include_str!("../src/main.rs");

#[test]
fn the_readme_has_the_whole_program() {
    let (_, program) = PROGRAM.split_once("\n\n").unwrap();
    assert!(README.contains(program), "README.md shows another program");
}

#[test]
fn neither_another_port_nor_this_machine_is_reached() {
    let output = Command::new(env!("CARGO_BIN_EXE_mail-only"))
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), 2, "{printed}");
    for (line, host) in lines
        .iter()
        .zip(["mail.example.org:22: ", "localhost:993: "])
    {
        assert!(line.starts_with(host), "{line}");
        assert!(line.contains(" NotAllowedError: "), "{line}");
    }
}
