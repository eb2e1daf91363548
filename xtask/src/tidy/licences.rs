//! The licences of all dependencies, from `cargo metadata`.

use super::{Report, Workspace};

const ALLOWED: &[&str] = &[
    // Of the bundles of root certificates: data, not code.
    "CDLA-Permissive-2.0",
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

const ALLOWED_EXCEPTIONS: &[&str] = &["LLVM-exception"];

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let lock = std::fs::read_to_string(workspace.root.join("Cargo.lock")).unwrap_or_default();
    for package in &workspace.packages {
        if package.member && !package.published {
            continue;
        }
        let (path, line) = if package.member {
            (package.manifest.as_str(), 1)
        } else {
            let entry = format!(
                "name = \"{}\"\nversion = \"{}\"\n",
                package.name, package.version
            );
            let before = lock.split(&entry).next().unwrap_or_default();
            ("Cargo.lock", before.matches('\n').count() + 1)
        };
        let verdict = match &package.licence {
            None => Err("states no licence".to_owned()),
            Some(expression) => match allows(expression) {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("is under {expression}, which is not allowed")),
                Err(why) => Err(format!("has the licence {expression:?}, unreadable: {why}")),
            },
        };
        report.check(verdict.is_ok(), path, line, || {
            format!(
                "{} {} {}",
                package.name,
                package.version,
                verdict.unwrap_err()
            )
        });
    }
}

/// Whether an SPDX expression can be met with allowed licences alone. A `/` is read as `OR`, as crates.io once did.
fn allows(expression: &str) -> Result<bool, String> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut tokens = spaced.split_whitespace().peekable();
    let verdict = any(&mut tokens)?;
    match tokens.next() {
        None => Ok(verdict),
        Some(token) => Err(format!("{token:?} was not expected")),
    }
}

type Tokens<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any(tokens: &mut Tokens<'_>) -> Result<bool, String> {
    let mut verdict = all(tokens)?;
    while tokens.next_if_eq(&"OR").is_some() {
        verdict |= all(tokens)?;
    }
    Ok(verdict)
}

fn all(tokens: &mut Tokens<'_>) -> Result<bool, String> {
    let mut verdict = one(tokens)?;
    while tokens.next_if_eq(&"AND").is_some() {
        verdict &= one(tokens)?;
    }
    Ok(verdict)
}

fn one(tokens: &mut Tokens<'_>) -> Result<bool, String> {
    match tokens.next() {
        Some("(") => {
            let verdict = any(tokens)?;
            match tokens.next() {
                Some(")") => Ok(verdict),
                _ => Err("a parenthesis is not closed".to_owned()),
            }
        }
        None | Some(")" | "OR" | "AND" | "WITH") => Err("a licence is missing".to_owned()),
        Some(licence) => {
            let mut verdict = ALLOWED.contains(&licence);
            if tokens.next_if_eq(&"WITH").is_some() {
                let exception = tokens.next().ok_or("an exception is missing")?;
                verdict &= ALLOWED_EXCEPTIONS.contains(&exception);
            }
            Ok(verdict)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn an_expression_is_met_by_allowed_licences() {
        let table = [
            ("MIT", Ok(true)),
            ("MIT OR Apache-2.0", Ok(true)),
            ("MIT/Apache-2.0", Ok(true)),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", Ok(true)),
            (
                "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
                Ok(true),
            ),
            ("GPL-3.0-only OR MIT", Ok(true)),
            ("Zlib OR GPL-2.0-only AND GPL-3.0-only", Ok(true)),
            ("GPL-3.0-only", Ok(false)),
            ("MIT AND GPL-3.0-only", Ok(false)),
            ("(MIT OR ISC) AND (GPL-2.0-only OR MPL-2.0)", Ok(false)),
            ("Apache-2.0 WITH Some-exception", Ok(false)),
        ];
        for (expression, verdict) in table {
            assert_eq!(allows(expression), verdict, "{expression}");
        }
    }

    #[test]
    fn an_unreadable_expression_is_an_error_not_a_pass() {
        for expression in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH"] {
            assert!(allows(expression).is_err(), "{expression:?}");
        }
    }
}
