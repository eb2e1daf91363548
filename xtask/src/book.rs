//! `cargo xtask book`: the pages as a book, by mdBook, with the conformance kit's report and with its rendered links
//! checked.

mod check;
mod preprocess;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::conformance;

const USAGE: &str = "\
usage: cargo xtask book [--repository URL]

Builds the book into target/book and checks its links.

  --repository URL  where sources are linked to; without it their paths are plain text

mdBook is taken from target/tools, and installed there if it is missing. The report of the kit is target/conformance.html,
made if it is missing; `cargo xtask conformance --html target/conformance.html` makes it anew.";

/// The mdBook version whose output the checks understand.
const MDBOOK: &str = "0.5.4";

/// Where the report of the kit is, from the root.
const REPORT: &str = "target/conformance.html";

/// The address of the repository, for the preprocessor that mdBook starts.
const REPOSITORY: &str = "TCPSOCKET_BOOK_REPOSITORY";

/// Tells the preprocessor that the report is built as well; `mdbook serve` does without it.
const WITH_REPORT: &str = "TCPSOCKET_BOOK_WITH_REPORT";

pub(crate) fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args[..] {
        [] => build(None),
        ["--repository", url] => build(Some(url)),
        // The preprocessor that mdBook calls, configured in book.toml.
        ["--preprocess"] => preprocess::run(),
        ["--preprocess", "supports", renderer] => match renderer {
            "html" => Ok(()),
            _ => return ExitCode::FAILURE,
        },
        ["--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("book: {message}");
            ExitCode::FAILURE
        }
    }
}

fn build(repository: Option<&str>) -> Result<(), String> {
    let root = crate::workspace_root();
    let mdbook = mdbook(&root)?;
    let report = root.join(REPORT);
    if !report.exists() {
        println!("book: running the conformance kit for its report");
        make(report.parent())?;
        let args = ["--html", REPORT].map(str::to_owned);
        if conformance::run(&args) != ExitCode::SUCCESS {
            return Err("the conformance kit failed".to_owned());
        }
    }
    let mut build = Command::new(mdbook);
    build.arg("build").current_dir(&root).env(WITH_REPORT, "1");
    if let Some(url) = repository {
        build.env(REPOSITORY, url);
    }
    finish(&mut build)?;
    let book = root.join("target/book");
    // The report links to clauses by their paths in the repository.
    let page = read(&report)?.replace("\"docs/spec/", "\"spec/");
    let page = page.replace(".md#", ".html#").replace(".md\"", ".html\"");
    // In its frame, too, a link opens the whole page.
    let page = page.replacen("<head>\n", "<head>\n<base target=\"_top\">\n", 1);
    write(&book.join("report.html"), &page)?;
    let checked = check::links(&book)?;
    println!("book: {checked} links checked; target/book/index.html");
    Ok(())
}

/// mdBook of the version above.
fn mdbook(root: &Path) -> Result<PathBuf, String> {
    let tools = root.join("target/tools");
    let path = tools.join("bin/mdbook");
    let version = Command::new(&path).arg("--version").output();
    if version.is_ok_and(|it| it.stdout.trim_ascii() == format!("mdbook v{MDBOOK}").as_bytes()) {
        return Ok(path);
    }
    println!("book: installing mdbook {MDBOOK} into target/tools");
    // A book of fifty pages needs neither an optimised renderer nor one that can be debugged.
    finish(
        crate::cargo()
            .args(["install", "--quiet", "--locked", "--debug", "mdbook"])
            .args(["--version", MDBOOK, "--no-default-features"])
            .args(["--features", "search", "--root"])
            .arg(&tools)
            .env("CARGO_TARGET_DIR", tools.join("build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .current_dir(root),
    )?;
    Ok(path)
}

/// Runs a command and waits for its end.
fn finish(command: &mut Command) -> Result<(), String> {
    let status = command.stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

fn make(folder: Option<&Path>) -> Result<(), String> {
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    made.map_err(|error| format!("{folder:?}: {error}"))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The target of a link, from the root: `path` relative to the file `from`. `None` if it is above the root.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_means_a_place() {
        for (from, path, place) in [
            (
                "docs/guide/starttls.md",
                "../spec/tls.md",
                Some("docs/spec/tls.md"),
            ),
            ("docs/start.md", "../examples/", Some("examples")),
            ("index.html", "./a.html", Some("a.html")),
            ("index.html", "../a.html", None),
        ] {
            assert_eq!(resolve(from, path).as_deref(), place, "{from} {path}");
        }
    }
}
