//! `cargo xtask tidy`: the rules that no compiler checks.
//!
//! Every violation is printed as `path:line: message`.

mod blocks;
pub(crate) mod clauses;
mod deps;
mod licences;
mod links;
mod sources;
pub(crate) mod statements;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

pub(crate) fn run(args: &[String]) -> ExitCode {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = match args[..] {
        [] => crate::workspace_root(),
        ["--root", dir] => PathBuf::from(dir),
        _ => {
            eprintln!("usage: cargo xtask tidy [--root DIR]");
            return ExitCode::FAILURE;
        }
    };
    match check(&root) {
        Ok(report) if report.violations.is_empty() => {
            println!("tidy: {} checks, no violation", report.checks);
            ExitCode::SUCCESS
        }
        Ok(mut report) => {
            report.violations.sort();
            for violation in &report.violations {
                println!("{violation}");
            }
            let found = report.violations.len();
            eprintln!("tidy: {} checks, {found} violated", report.checks);
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("tidy: {message}");
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> Result<Report, String> {
    let workspace = Workspace::load(root)?;
    let mut report = Report::default();
    deps::check(&workspace, &mut report)?;
    licences::check(&workspace, &mut report);
    clauses::check(&workspace, &mut report);
    statements::check(&workspace, &mut report);
    sources::check(&workspace, &mut report);
    links::check(&workspace, &mut report);
    blocks::check(&workspace, &mut report);
    Ok(report)
}

/// The findings.
#[derive(Debug, Default)]
struct Report {
    checks: usize,
    violations: Vec<Violation>,
}

impl Report {
    /// Counts a check, and keeps its violation unless it `holds`.
    fn check(&mut self, holds: bool, path: &str, line: usize, message: impl FnOnce() -> String) {
        self.checks += 1;
        if !holds {
            self.violations.push(Violation {
                path: path.to_owned(),
                line,
                message: message(),
            });
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The input of the checks.
#[derive(Debug)]
struct Workspace {
    root: PathBuf,
    packages: Vec<Package>,
    files: Vec<File>,
}

/// A package in `cargo metadata`.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    /// The path of its manifest, relative to the root if below it.
    manifest: String,
    licence: Option<String>,
    description: Option<String>,
    member: bool,
    published: bool,
}

/// A text file of this repository.
#[derive(Debug)]
struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Workspace {
    fn load(root: &Path) -> Result<Workspace, String> {
        let root = root
            .canonicalize()
            .map_err(|error| format!("{}: {error}", root.display()))?;
        let packages = packages(&root)?;
        let files = files(&root)?;
        Ok(Workspace {
            root,
            packages,
            files,
        })
    }

    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|it| it.member)
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|it| it.path == path)
    }
}

impl File {
    fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension() == Some(extension.as_ref())
    }

    /// The lines, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.split('\n'))
    }

    /// The number of the first matching line, or 1.
    fn line_where(&self, test: impl Fn(&str) -> bool) -> usize {
        self.lines()
            .find(|(_, line)| test(line))
            .map_or(1, |(number, _)| number)
    }
}

fn packages(root: &Path) -> Result<Vec<Package>, String> {
    let json = output(crate::cargo().current_dir(root).args([
        "metadata",
        "--format-version=1",
        "--all-features",
    ]))?;
    let json: Value = serde_json::from_str(&json)
        .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
    let members = json["workspace_members"].as_array();
    let members: Vec<&Value> = members.into_iter().flatten().collect();
    let text = |it: &Value| it.as_str().map(str::to_owned);
    let mut packages = Vec::new();
    for package in json["packages"].as_array().into_iter().flatten() {
        let (Some(name), Some(version), Some(manifest)) = (
            text(&package["name"]),
            text(&package["version"]),
            text(&package["manifest_path"]),
        ) else {
            return Err("cargo metadata names a package without name, version or path".to_owned());
        };
        let relative = Path::new(&manifest).strip_prefix(root).ok();
        packages.push(Package {
            name,
            version,
            manifest: relative.map_or(manifest.clone(), |it| it.to_string_lossy().into_owned()),
            licence: text(&package["license"]),
            description: text(&package["description"]),
            member: members.contains(&&package["id"]),
            // `publish = false` is an empty list of registries, no restriction is null.
            published: package["publish"]
                .as_array()
                .is_none_or(|it| !it.is_empty()),
        });
    }
    Ok(packages)
}

/// The `.rs`, `.md` and `.toml` files that git tracks or would track.
fn files(root: &Path) -> Result<Vec<File>, String> {
    let mut git = Command::new("git");
    git.current_dir(root).args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]);
    let listed = output(&mut git)?;
    let mut paths: Vec<&str> = listed.split('\0').collect();
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        let extension = Path::new(path).extension().and_then(|it| it.to_str());
        // Git still lists a removed file until the removal is staged.
        if !matches!(extension, Some("rs" | "md" | "toml")) || !root.join(path).is_file() {
            continue;
        }
        let bytes = std::fs::read(root.join(path)).map_err(|error| format!("{path}: {error}"))?;
        files.push(File {
            path: path.to_owned(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        });
    }
    Ok(files)
}

/// Runs a command and returns its output, or its complaint.
fn output(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{name} cannot be run: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}", complaint.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
