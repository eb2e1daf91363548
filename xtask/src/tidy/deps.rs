//! The allowed dependencies of each package, checked by `cargo tree`.

use std::collections::BTreeSet;

use super::{Package, Report, Workspace, output};

/// The allowed normal dependencies of a package, transitive ones included.
#[derive(Debug)]
struct Rule {
    package: &'static str,
    /// Its allowed dependencies among the members of this workspace.
    members: &'static [&'static str],
    others: Others,
}

/// Its allowed dependencies from outside.
#[derive(Debug)]
enum Others {
    Only(&'static [&'static str]),
    Not(&'static [&'static [&'static str]]),
}

const RUNTIMES: &[&str] = &[
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-net",
    "async-process",
    "async-std",
    "blocking",
    "compio",
    "embassy-executor",
    "futures-executor",
    "glommio",
    "mio",
    "monoio",
    "polling",
    "smol",
    "tokio",
    "tokio-util",
];

const TLS: &[&str] = &[
    "aws-lc-rs",
    "aws-lc-sys",
    "boring",
    "futures-rustls",
    "native-tls",
    "openssl",
    "ring",
    "rustls",
    "tokio-rustls",
];

const RULES: &[Rule] = &[
    Rule {
        package: "tcpsocket",
        members: &[],
        others: Others::Only(&[
            "async-trait",
            "bytes",
            "futures-core",
            // Dependencies of async-trait.
            "proc-macro2",
            "quote",
            "syn",
            "unicode-ident",
        ]),
    },
    Rule {
        package: "tcpsocket-core",
        members: &["tcpsocket"],
        others: Others::Not(&[RUNTIMES, TLS]),
    },
    Rule {
        package: "tcpsocket-tls",
        members: &["tcpsocket"],
        others: Others::Not(&[RUNTIMES]),
    },
    Rule {
        package: "tcpsocket-policy",
        members: &["tcpsocket"],
        others: Others::Not(&[RUNTIMES, TLS]),
    },
    Rule {
        package: "tcpsocket-smol",
        members: &["tcpsocket", "tcpsocket-core", "tcpsocket-tls"],
        others: Others::Not(&[]),
    },
    Rule {
        package: "tcpsocket-conformance",
        members: &["tcpsocket"],
        // Its peers speak TLS.
        others: Others::Not(&[RUNTIMES]),
    },
    Rule {
        package: "tcpsocket-cli",
        members: &[
            "tcpsocket",
            "tcpsocket-core",
            "tcpsocket-tls",
            "tcpsocket-smol",
            "tcpsocket-policy",
        ],
        others: Others::Not(&[]),
    },
];

pub(super) fn check(workspace: &Workspace, report: &mut Report) -> Result<(), String> {
    let members: BTreeSet<&str> = workspace.members().map(|it| it.name.as_str()).collect();
    for package in workspace.members() {
        let rule = RULES.iter().find(|it| it.package == package.name);
        report.check(
            rule.is_some() || !package.published,
            &package.manifest,
            1,
            || {
                format!(
                    "no rule for the dependencies of {}: add one to xtask/src/tidy/deps.rs",
                    package.name
                )
            },
        );
        let Some(rule) = rule else { continue };
        let tree = tree(workspace, package)?;
        for known in known(&tree, &package.name) {
            let allowed = rule.allows(known, &members);
            let line = workspace
                .file(&package.manifest)
                .map_or(1, |it| it.line_where(|line| declares(line, known)));
            report.check(allowed, &package.manifest, line, || {
                format!(
                    "{name} may not know {known}; `cargo tree -p {name} -e normal --all-features \
                     -i {known}` shows how it does",
                    name = package.name
                )
            });
        }
    }
    Ok(())
}

impl Rule {
    fn allows(&self, known: &str, members: &BTreeSet<&str>) -> bool {
        if members.contains(known) {
            return self.members.contains(&known);
        }
        match self.others {
            Others::Only(allowed) => allowed.contains(&known),
            Others::Not(lists) => !lists.iter().any(|it| it.contains(&known)),
        }
    }
}

/// `cargo tree` rather than `cargo metadata`: it resolves the features of this package alone, so that another member's
/// features cannot add dependencies.
fn tree(workspace: &Workspace, package: &Package) -> Result<String, String> {
    output(crate::cargo().current_dir(&workspace.root).args([
        "tree",
        "--package",
        &package.name,
        "--edges=normal",
        "--all-features",
        "--target=all",
        "--prefix=none",
        "--format={p}",
    ]))
}

/// The names in a tree, without the package's own.
fn known<'a>(tree: &'a str, own: &str) -> BTreeSet<&'a str> {
    tree.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != own)
        .collect()
}

/// Whether a line of a manifest declares a dependency of that name.
fn declares(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with([' ', '=', '.']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(package: &str) -> &'static Rule {
        let found = RULES.iter().find(|it| it.package == package);
        found.unwrap_or_else(|| panic!("no rule for {package}"))
    }

    #[test]
    fn a_tree_yields_names_without_versions_and_repeats() {
        let tree = "tcpsocket v0.1.0 (/w/crates/tcpsocket)\n\
                    async-trait v0.1.89 (proc-macro)\n\
                    syn v2.0.1\n\
                    bytes v1.10.0\n\
                    syn v2.0.1 (*)\n";
        let names: Vec<&str> = known(tree, "tcpsocket").into_iter().collect();
        assert_eq!(names, ["async-trait", "bytes", "syn"]);
    }

    #[test]
    fn each_rule_allows_and_forbids_what_the_design_says() {
        let members: BTreeSet<&str> = RULES.iter().map(|it| it.package).collect();
        let table = [
            ("tcpsocket", "bytes", true),
            ("tcpsocket", "unicode-ident", true),
            ("tcpsocket", "serde", false),
            ("tcpsocket", "tcpsocket-core", false),
            ("tcpsocket-core", "tcpsocket", true),
            ("tcpsocket-core", "slab", true),
            ("tcpsocket-core", "mio", false),
            ("tcpsocket-core", "tcpsocket-tls", false),
            ("tcpsocket-tls", "rustls", true),
            ("tcpsocket-tls", "tokio", false),
            ("tcpsocket-tls", "tcpsocket-core", false),
            ("tcpsocket-policy", "ring", false),
            ("tcpsocket-policy", "tcpsocket-core", false),
            ("tcpsocket-smol", "async-io", true),
            ("tcpsocket-smol", "tcpsocket-tls", true),
            ("tcpsocket-smol", "tcpsocket-policy", false),
            ("tcpsocket-conformance", "tcpsocket", true),
            ("tcpsocket-conformance", "tcpsocket-core", false),
            ("tcpsocket-conformance", "smol", false),
            ("tcpsocket-cli", "tcpsocket-policy", true),
            ("tcpsocket-cli", "tcpsocket-conformance", false),
        ];
        for (package, known, allowed) in table {
            let answer = rule(package).allows(known, &members);
            assert_eq!(answer, allowed, "{package} knows {known}");
        }
    }

    #[test]
    fn a_declaration_is_told_from_a_longer_name() {
        assert!(declares("tcpsocket.workspace = true", "tcpsocket"));
        assert!(declares("mio = \"1\"", "mio"));
        assert!(!declares(
            "tcpsocket-core = { path = \"../core\" }",
            "tcpsocket"
        ));
    }
}
