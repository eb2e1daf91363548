//! `cargo xtask tidy` against a small workspace: clean as it stands, and each violation, seeded alone, is found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What is done to the clean workspace.
enum Seed {
    /// The file's whole new text.
    Write(&'static str, String),
    /// Text appended to a file.
    Append(&'static str, String),
    /// A part of a file, replaced.
    Replace(&'static str, &'static str, String),
    Remove(&'static str),
}

use Seed::{Append, Remove, Replace, Write};

/// An id that the specification does not have, spelt so that tidy does not take this file for one that cites it.
fn unknown(area: &str) -> String {
    format!("{area}-{}", 99)
}

/// Each violation as `(name, seeds, what is printed)`; nothing else may be printed.
fn table() -> Vec<(&'static str, Vec<Seed>, Vec<String>)> {
    let core = "crates/tcpsocket-core/Cargo.toml";
    let kit = "conformance/src/lib.rs";
    let spec = "docs/spec/sending.md";
    let states = "docs/spec/states.md";
    let unobservable = "docs/spec/unobservable.md";
    let source = "crates/tcpsocket/src/lib.rs";
    let says = |line: &str| vec![line.to_owned()];
    vec![
        // Who may know whom.
        (
            "the interface knows nobody but its three",
            vec![Append(
                "crates/tcpsocket/Cargo.toml",
                "\n[dependencies]\nserde = { path = \"../../../serde\" }\n".into(),
            )],
            says("crates/tcpsocket/Cargo.toml:11: tcpsocket may not know serde"),
        ),
        (
            "an optional dependency counts",
            vec![Append(
                "crates/tcpsocket/Cargo.toml",
                "\n[dependencies]\nserde = { path = \"../../../serde\", optional = true }\n".into(),
            )],
            says("crates/tcpsocket/Cargo.toml:11: tcpsocket may not know serde"),
        ),
        (
            "the machine knows no runtime",
            vec![Append(core, "tokio = { path = \"../../../tokio\" }\n".into())],
            says("crates/tcpsocket-core/Cargo.toml:13: tcpsocket-core may not know tokio"),
        ),
        (
            "the machine knows no implementation, nor what that brings",
            vec![
                Append(core, "tcpsocket-smol = { path = \"../tcpsocket-smol\" }\n".into()),
                Replace(
                    "crates/tcpsocket-smol/Cargo.toml",
                    "tcpsocket-core = { path = \"../tcpsocket-core\" }\n",
                    "tokio = { path = \"../../../tokio\" }\n".into(),
                ),
            ],
            vec![
                "crates/tcpsocket-core/Cargo.toml:13: tcpsocket-core may not know tcpsocket-smol".into(),
                "crates/tcpsocket-core/Cargo.toml:1: tcpsocket-core may not know tokio".into(),
            ],
        ),
        (
            "the kit knows the interface only",
            vec![Replace(
                "conformance/Cargo.toml",
                "[dependencies]\n",
                "[dependencies]\ntcpsocket-core = { path = \"../crates/tcpsocket-core\" }\n".into(),
            )],
            says("conformance/Cargo.toml:11: tcpsocket-conformance may not know tcpsocket-core"),
        ),
        (
            "the kit's own tests may know more",
            vec![Append(
                "conformance/Cargo.toml",
                "\n[dev-dependencies]\ntcpsocket-core = { path = \"../crates/tcpsocket-core\" }\n".into(),
            )],
            vec![],
        ),
        (
            "a new crate needs a rule",
            vec![
                Replace("crates/tcpsocket-smol/Cargo.toml", "tcpsocket-smol", "tcpsocket-new".into()),
            ],
            says("crates/tcpsocket-smol/Cargo.toml:1: no rule for the dependencies of tcpsocket-new"),
        ),
        // Licences.
        (
            "a licence that is not allowed",
            vec![
                Append("crates/tcpsocket-smol/Cargo.toml", "viral = { path = \"../../../viral\" }\n".into()),
            ],
            says("Cargo.lock:32: viral 1.0.0 is under MIT AND GPL-3.0-only, which is not allowed"),
        ),
        (
            "a member without a licence",
            vec![Replace(core, "license = \"MIT/Apache-2.0\"\n", String::new())],
            says("crates/tcpsocket-core/Cargo.toml:1: tcpsocket-core 0.3.0 states no licence"),
        ),
        // Clauses.
        (
            "an id twice",
            vec![Append(states, "\n### TX-1 (MUST)\n".into())],
            says("docs/spec/states.md:10: TX-1 already exists in docs/spec/sending.md:3"),
        ),
        (
            "a row twice",
            vec![Append(states, "| ROW-1 | again |\n".into())],
            says("docs/spec/states.md:9: ROW-1 already exists in docs/spec/states.md:7"),
        ),
        (
            "a row left out",
            vec![Append(states, format!("| ROW-{} | late |\n", 4))],
            says("docs/spec/states.md:1: ROW-3 is missing from the table, which continues to ROW-4"),
        ),
        (
            "a heading that only looks like a clause",
            vec![Append(spec, format!("\n### TX-{} MUST\n", 7))],
            says("docs/spec/sending.md:13: the heading of TX-7 must read"),
        ),
        (
            "a level that does not exist",
            vec![Append(spec, format!("\n### TX-{} (OUGHT)\n", 7))],
            says("docs/spec/sending.md:13: the heading of TX-7 must read"),
        ),
        (
            "a citation of nothing in code",
            vec![Append(source, format!("// As in {}.\n", unknown("TX")))],
            says(&format!("crates/tcpsocket/src/lib.rs:5: {} does not exist", unknown("TX"))),
        ),
        (
            "a citation of a row that is not in the table",
            vec![Append(source, format!("// {}\n", unknown("ROW")))],
            says(&format!("crates/tcpsocket/src/lib.rs:5: {} does not exist", unknown("ROW"))),
        ),
        (
            "a citation of a reserved area before it exists",
            vec![Append("CHANGELOG.md", format!("- {}\n", unknown("PERM")))],
            says(&format!("CHANGELOG.md:4: {} does not exist", unknown("PERM"))),
        ),
        (
            "what only looks like an id",
            vec![Append(source, "// UTF-8, SHA-256, RFC-8305, TLS-1.3\n".into())],
            vec![],
        ),
        (
            "a MUST that nobody judges",
            vec![Append(spec, format!("\n### TX-{} (MUST)\n", 7))],
            says("docs/spec/sending.md:13: TX-7 has no case in the kit and no reason in"),
        ),
        (
            "a SHOULD that nobody judges",
            vec![Append(spec, format!("\n### TX-{} (SHOULD)\n", 7))],
            says("docs/spec/sending.md:13: TX-7 has no case in the kit and no reason in"),
        ),
        (
            "a MAY need not be judged",
            vec![Append(spec, format!("\n### TX-{} (MAY)\n", 7))],
            vec![],
        ),
        (
            "a MUST that only a mutant names",
            vec![
                Append(spec, format!("\n### TX-{} (MUST)\n", 7)),
                Write(
                    "conformance/src/mutants/sending.rs",
                    format!("//! Broken.\nconst NO: Mutant = Mutant {{ clauses: &[\"TX-{}\"] }};\n", 7),
                ),
            ],
            says("docs/spec/sending.md:13: TX-7 has no case in the kit and no reason in"),
        ),
        (
            "a clause judged and excused",
            vec![Append(unobservable, "| TX-1 | too hard |\n".into())],
            says("docs/spec/unobservable.md:6: TX-1 has a case in the kit: remove it from"),
        ),
        (
            "an excuse for what binds nobody",
            vec![Append(unobservable, "| TX-3 | too hard |\n".into())],
            says("docs/spec/unobservable.md:6: \"TX-3\" is not a binding clause"),
        ),
        (
            "an excuse without a reason",
            vec![Replace(unobservable, "It is inside.", String::new())],
            says("docs/spec/unobservable.md:5: TX-4 needs a reason"),
        ),
        (
            "an excuse twice",
            vec![Append(unobservable, "| TX-4 | once more |\n".into())],
            says("docs/spec/unobservable.md:6: TX-4 is listed twice"),
        ),
        (
            "a case of no clause",
            vec![Append(kit, "const EMPTY: Case = Case { clauses: &[\"Tx1\"] };\n".into())],
            says("conformance/src/lib.rs:10: a case names \"Tx1\", which is not a clause"),
        ),
        (
            "no specification at all",
            vec![
                Remove(spec),
                Remove(states),
                Remove(unobservable),
                Write("docs/SUMMARY.md", "# Summary\n".into()),
                Write(kit, "//! The kit.\n".into()),
                Write(source, "//! The interface.\n".into()),
                Write("crates/tcpsocket/README.md", "x\n".into()),
            ],
            says("docs/spec/:1: there is no clause"),
        ),
        // Blocks of code.
        (
            "a block that nobody compiles",
            vec![Append("conformance/README.md", "\n```rust,ignore\nlet a = 1;\n```\n".into())],
            says("conformance/README.md:3: rustdoc does not compile this block, and it is no part of a test"),
        ),
        (
            "a block that is a part of a test",
            vec![
                Append("conformance/README.md", "\n```rust,ignore\nlet a = 1;\n```\n".into()),
                Write(
                    "conformance/tests/kit.rs",
                    "//! A test.\n#[test]\nfn f() {\n    let a = 1;\n}\n".into(),
                ),
            ],
            vec![],
        ),
        (
            "a block of a comment that nobody compiles",
            vec![Append(source, "/// ```ignore\n/// f();\n/// ```\npub fn g() {}\n".into())],
            says("crates/tcpsocket/src/lib.rs:5: rustdoc does not compile this block"),
        ),
        // Sources and crates.
        (
            "a file that does not say what it is for",
            vec![Write("crates/tcpsocket/src/new.rs", "\n//! Late.\n".into())],
            says("crates/tcpsocket/src/new.rs:1: the first line must state the purpose of the file"),
        ),
        (
            "a file that git ignores is not ours",
            vec![Write("target/new.rs", "fn generated() {}\n".into())],
            vec![],
        ),
        (
            "should_panic",
            vec![Append(source, "#[should_panic(expected = \"x\")]\nfn it() {}\n".into())],
            says("crates/tcpsocket/src/lib.rs:5: should_panic passes on any panic"),
        ),
        (
            "should_panic behind a condition",
            vec![Append(source, "#[cfg_attr(unix, should_panic)]\nfn it() {}\n".into())],
            says("crates/tcpsocket/src/lib.rs:5: should_panic passes on any panic"),
        ),
        (
            "ignore without a reason",
            vec![Append(source, "#[test]\n    #[ignore]\nfn it() {}\n".into())],
            says("crates/tcpsocket/src/lib.rs:6: ignore needs a reason"),
        ),
        (
            "ignore with a reason",
            vec![Append(source, "#[ignore = \"needs a network\"]\nfn it() {}\n".into())],
            vec![],
        ),
        (
            "white space at the end of a line, in each kind of file",
            vec![
                Append(source, "// x \n".into()),
                Append("CHANGELOG.md", "x\t\n".into()),
                Append("Cargo.toml", "\r\n".into()),
            ],
            vec![
                "CHANGELOG.md:4: trailing whitespace".into(),
                "Cargo.toml:8: trailing whitespace".into(),
                "crates/tcpsocket/src/lib.rs:5: trailing whitespace".into(),
            ],
        ),
        (
            "a published crate without a README",
            vec![Remove("crates/tcpsocket-core/README.md")],
            says("crates/tcpsocket-core/Cargo.toml:1: tcpsocket-core is published and needs crates/tcpsocket-core/README.md"),
        ),
        (
            "a published crate without a description",
            vec![Replace(core, "description = \"M\"\n", String::new())],
            says("crates/tcpsocket-core/Cargo.toml:1: tcpsocket-core is published and needs a description"),
        ),
        (
            "a private crate needs neither, nor a licence, nor a rule",
            vec![
                Remove("crates/tcpsocket-smol/README.md"),
                Write(
                    "crates/tcpsocket-smol/Cargo.toml",
                    "lints.workspace = true\n[package]\nname = \"tool\"\npublish = false\n".into(),
                ),
            ],
            vec![],
        ),
        (
            "a crate with lints of its own",
            vec![Replace(core, "[lints]\nworkspace = true\n", "[lints.rust]\nunsafe_code = \"allow\"\n".into())],
            says("crates/tcpsocket-core/Cargo.toml:1: tcpsocket-core must have [lints] workspace = true"),
        ),
        (
            "the one crate that may have lints of its own must deny unsafe code",
            vec![
                Write(
                    "crates/tcpsocket-smol/Cargo.toml",
                    "[package]\nname = \"xtask-bench\"\npublish = false\n\n[lints.rust]\nunsafe_code = \"allow\"\n".into(),
                ),
            ],
            says("crates/tcpsocket-smol/Cargo.toml:1: xtask-bench must have [lints.rust] unsafe_code = \"deny\""),
        ),
        // Links.
        (
            "a link that leads nowhere",
            vec![Append("conformance/README.md", "[a](../nothing.md) [b](src/lib.rs)\n".into())],
            says("conformance/README.md:2: \"../nothing.md\" leads nowhere: there is no nothing.md"),
        ),
        (
            "a heading that is not there",
            vec![Append("conformance/README.md", "[a](../docs/spec/sending.md#sending) [b](../docs/spec/sending.md#sent)\n".into())],
            says("conformance/README.md:2: \"../docs/spec/sending.md#sent\" leads nowhere: docs/spec/sending.md has no heading for #sent"),
        ),
        (
            "a page that the contents do not list",
            vec![Write("docs/lost.md", "x\n".into())],
            says("docs/lost.md:1: docs/SUMMARY.md does not list this page"),
        ),
        (
            "no contents",
            vec![Remove("docs/SUMMARY.md")],
            says("docs/SUMMARY.md:1: the book has no contents"),
        ),
        (
            "no changelog",
            vec![Remove("CHANGELOG.md")],
            says("CHANGELOG.md:1: there is no CHANGELOG.md"),
        ),
        (
            "a changelog behind the version",
            vec![Replace("CHANGELOG.md", "0.3.0", "0.2.0".into())],
            says("CHANGELOG.md:1: no heading names the workspace's version, 0.3.0"),
        ),
        (
            "a changelog ahead of the version",
            vec![Replace("CHANGELOG.md", "0.3.0", "10.3.0".into())],
            says("CHANGELOG.md:1: no heading names the workspace's version, 0.3.0"),
        ),
    ]
}

#[test]
fn a_clean_workspace_has_no_violation() {
    let folder = Folder::new("clean");
    let output = folder.tidy();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    let (checks, rest) = printed
        .strip_prefix("tidy: ")
        .and_then(|it| it.split_once(' '))
        .unwrap_or_else(|| panic!("{printed}"));
    assert_eq!(rest, "checks, no violation\n");
    assert!(checks.parse::<usize>().is_ok_and(|it| it > 40), "{printed}");
}

#[test]
fn each_violation_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    for (index, (name, seeds, expected)) in table().into_iter().enumerate() {
        let folder = Folder::new(&format!("seeded-{index}"));
        for seed in seeds {
            folder.sow(seed);
        }
        let output = folder.tidy();
        let printed = String::from_utf8_lossy(&output.stdout);
        let code = if expected.is_empty() { 0 } else { 1 };
        let mut unexpected: Vec<&str> = printed.lines().collect();
        unexpected.retain(|line| !line.ends_with("no violation"));
        let mut missing = expected;
        missing.retain(|start| {
            let found = unexpected.iter().position(|line| line.starts_with(start));
            found.map(|it| unexpected.remove(it)).is_none()
        });
        if output.status.code() != Some(code) || !unexpected.is_empty() || !missing.is_empty() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            wrong.push(format!(
                "{name}: missing {missing:#?}, unexpected {unexpected:#?}, {complaint}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_folder_that_is_no_workspace_is_an_error() {
    let folder = Folder::new("broken");
    folder.sow(Write("Cargo.toml", "[workspace".into()));
    let output = folder.tidy();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).starts_with("tidy: "),
        "{output:?}"
    );
}

/// A copy of the small workspace, with crates from outside it beside it. Removed at its end, unless its test failed.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("tidy-{}", std::process::id()))
            .join(name);
        let folder = Folder(path);
        for (path, text) in CLEAN {
            write(&folder.0.join("main").join(path), text);
        }
        for (name, licence) in [
            ("serde", "MIT"),
            ("tokio", "MIT"),
            ("viral", "MIT AND GPL-3.0-only"),
        ] {
            let outside = folder.0.join(name);
            let manifest = format!(
                "[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nlicense = \"{licence}\"\n[workspace]\n"
            );
            write(&outside.join("Cargo.toml"), &manifest);
            write(&outside.join("src/lib.rs"), "");
        }
        let git = Command::new("git")
            .args(["init", "-q"])
            .arg(folder.0.join("main"))
            .status();
        assert!(git.is_ok_and(|it| it.success()), "git init failed");
        folder
    }

    fn sow(&self, seed: Seed) {
        let root = self.0.join("main");
        match seed {
            Write(path, text) => write(&root.join(path), &text),
            Append(path, text) => write(&root.join(path), &(read(&root.join(path)) + &text)),
            Replace(path, old, new) => {
                let text = read(&root.join(path));
                assert!(text.contains(old), "{path} has no {old:?}");
                write(&root.join(path), &text.replace(old, &new));
            }
            Remove(path) => fs::remove_file(root.join(path)).expect(path),
        }
    }

    fn tidy(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["tidy", "--root"])
            .arg(self.0.join("main"))
            .env("CARGO_NET_OFFLINE", "true")
            .output()
            .expect("xtask runs")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// The clean workspace.
const CLEAN: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\", \"conformance\"]\n\n[workspace.package]\n\
         version = \"0.3.0\" # not yet out\n[workspace.lints]\n",
    ),
    (".gitignore", "/target\n"),
    ("CHANGELOG.md", "# Changes\n\n## [0.3.0] - today\n"),
    (
        "crates/tcpsocket/Cargo.toml",
        "[package]\nname = \"tcpsocket\"\ndescription = \"I\"\nversion.workspace = true\nlicense = \"MIT\"\n\n\
         [lints]\nworkspace = true\n",
    ),
    ("crates/tcpsocket/README.md", "As TX-2 says.\n"),
    (
        "crates/tcpsocket/src/lib.rs",
        "//! The interface (TX-1, ROW-2).\n\n/// UTF-8 over TLS-1.3.\npub fn f() {}\n",
    ),
    (
        "crates/tcpsocket-core/Cargo.toml",
        "[package]\nname = \"tcpsocket-core\"\ndescription = \"M\"\nversion.workspace = true\n\
         license = \"MIT/Apache-2.0\"\n\n[lints]\nworkspace = true\n\n\n[dependencies]\n\
         tcpsocket = { path = \"../tcpsocket\" }\n",
    ),
    ("crates/tcpsocket-core/README.md", "x\n"),
    ("crates/tcpsocket-core/src/lib.rs", "//! The machine.\n"),
    (
        "crates/tcpsocket-smol/Cargo.toml",
        "[package]\nname = \"tcpsocket-smol\"\ndescription = \"S\"\nversion.workspace = true\nlicense = \"MIT\"\n\n\
         [lints]\nworkspace = true\n\n[dependencies]\ntcpsocket-core = { path = \"../tcpsocket-core\" }\n",
    ),
    ("crates/tcpsocket-smol/README.md", "x\n"),
    (
        "crates/tcpsocket-smol/src/lib.rs",
        "//! The implementation.\n",
    ),
    (
        "conformance/Cargo.toml",
        "[package]\nname = \"tcpsocket-conformance\"\ndescription = \"K\"\nversion.workspace = true\n\
         license = \"MIT\"\n\n[lints]\nworkspace = true\n\n[dependencies]\n\
         tcpsocket = { path = \"../crates/tcpsocket\" }\n",
    ),
    ("conformance/README.md", "x\n"),
    (
        "conformance/src/lib.rs",
        "//! The kit.\n\n// Such as clauses: &[\"nothing\"].\nconst A: Case = Case { clauses: &[\"TX-1\"] };\n\
         const B: Case = Case {\n    clauses: &[\n        \"TX-2\", \"ROW-1\",\n    ],\n};\n",
    ),
    (
        "docs/SUMMARY.md",
        "# Summary\n\n- [Sending](spec/sending.md)\n- [States](spec/states.md)\n- [Unobservable](spec/unobservable.md)\n",
    ),
    (
        "docs/spec/sending.md",
        "# Sending\n\n### TX-1 (MUST)\nx\n\n### TX-2 (MUST)\nx\n\n### TX-3 (MAY)\n\n### TX-4 (MUST)\n",
    ),
    (
        "docs/spec/states.md",
        "# States\n\n```\n### TX-1 (MUST)\n```\n| row | what |\n| ROW-1 | x |\n| **ROW-2** | TX-1 |\n",
    ),
    (
        "docs/spec/unobservable.md",
        "# What no kit can see\n\n| clause | reason |\n|---|---|\n| TX-4 | It is inside. |\n",
    ),
];
