//! Requirements and prohibitions for every file, manifest and crate.

use super::{File, Package, Report, Workspace};

/// Members that cannot use the workspace's lints, and why. They must deny unsafe code themselves.
const OWN_LINTS: &[(&str, &str)] = &[(
    "xtask-bench",
    "counts allocations with a GlobalAlloc, an unsafe trait, in one module",
)];

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for file in &workspace.files {
        trailing_space(file, report);
        if file.is("rs") {
            opening(file, report);
            attributes(file, report);
        }
    }
    for package in workspace.members() {
        lints(workspace, package, report);
        if package.published {
            published(workspace, package, report);
        }
    }
    changelog(workspace, report);
}

fn trailing_space(file: &File, report: &mut Report) {
    let mut clean = true;
    for (number, line) in file.lines() {
        if line.ends_with(char::is_whitespace) {
            clean = false;
            report.check(false, &file.path, number, || "trailing whitespace".into());
        }
    }
    if clean {
        report.check(true, &file.path, 1, String::new);
    }
}

fn opening(file: &File, report: &mut Report) {
    report.check(file.text.starts_with("//!"), &file.path, 1, || {
        "the first line must state the purpose of the file, with `//!`".into()
    });
}

fn attributes(file: &File, report: &mut Report) {
    for (number, line) in file.lines() {
        let line: String = line.split_whitespace().collect();
        if !line.starts_with("#[") {
            continue;
        }
        let has = |attribute: &str| {
            line.starts_with(&format!("#[{attribute}"))
                || line.starts_with("#[cfg_attr(") && line.contains(&format!(",{attribute}"))
        };
        report.check(!has("should_panic"), &file.path, number, || {
            "should_panic passes on any panic: assert on the error, or catch this one".into()
        });
        let bare = has("ignore]") || has("ignore)") || has("ignore,");
        report.check(!bare, &file.path, number, || {
            "ignore needs a reason: #[ignore = \"why\"]".into()
        });
    }
}

fn lints(workspace: &Workspace, package: &Package, report: &mut Report) {
    let Some(manifest) = workspace.file(&package.manifest) else {
        return;
    };
    if OWN_LINTS.iter().any(|(name, _)| *name == package.name) {
        let denies = setting(manifest, "lints.rust", "unsafe_code")
            .is_some_and(|level| level.contains("deny"));
        report.check(denies, &manifest.path, 1, || {
            format!(
                "{} must have [lints.rust] unsafe_code = \"deny\"",
                package.name
            )
        });
        return;
    }
    let inherits =
        setting(manifest, "lints", "workspace").or(setting(manifest, "", "lints.workspace"));
    report.check(inherits == Some("true"), &manifest.path, 1, || {
        format!("{} must have [lints] workspace = true", package.name)
    });
}

/// The value of a key in a table of a manifest; for a plain `key = value` a TOML parser would say the same.
fn setting<'a>(manifest: &'a File, table: &str, key: &str) -> Option<&'a str> {
    let mut current = "";
    for (_, line) in manifest.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            current = header;
        } else if let Some((name, value)) = line.split_once('=')
            && current == table
            && name.trim() == key
        {
            return Some(value.trim());
        }
    }
    None
}

fn published(workspace: &Workspace, package: &Package, report: &mut Report) {
    let described = package
        .description
        .as_ref()
        .is_some_and(|it| !it.is_empty());
    report.check(described, &package.manifest, 1, || {
        format!("{} is published and needs a description", package.name)
    });
    let readme = package.manifest.replace("Cargo.toml", "README.md");
    report.check(
        workspace.file(&readme).is_some(),
        &package.manifest,
        1,
        || format!("{} is published and needs {readme}", package.name),
    );
}

fn changelog(workspace: &Workspace, report: &mut Report) {
    let version = workspace
        .file("Cargo.toml")
        .and_then(|it| setting(it, "workspace.package", "version"))
        .map(|it| it.trim_matches('"'));
    report.check(version.is_some(), "Cargo.toml", 1, || {
        "[workspace.package] must have a version".into()
    });
    let Some(version) = version else { return };
    let Some(changelog) = workspace.file("CHANGELOG.md") else {
        report.check(false, "CHANGELOG.md", 1, || {
            "there is no CHANGELOG.md".into()
        });
        return;
    };
    let named = changelog.lines().any(|(_, line)| {
        line.starts_with('#')
            && line
                .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'))
                .any(|word| word == version)
    });
    report.check(named, "CHANGELOG.md", 1, || {
        format!("no heading names the workspace's version, {version}")
    });
}
