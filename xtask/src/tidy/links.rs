//! Links between the pages: every one leads somewhere, and every page of the book is in its table of contents.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{File, Report, Workspace};

const BOOK: &str = "docs/";
const SUMMARY: &str = "docs/SUMMARY.md";

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    let pages = || workspace.files.iter().filter(|it| it.is("md"));
    for page in pages() {
        for link in links(page) {
            let wrong = wrong(workspace, page, &link.target);
            report.check(wrong.is_none(), &page.path, link.line, || {
                format!(
                    "{:?} leads nowhere: {}",
                    link.target,
                    wrong.unwrap_or_default()
                )
            });
        }
    }
    places_of_clauses(workspace, report);
    let Some(summary) = workspace.file(SUMMARY) else {
        report.check(false, SUMMARY, 1, || "the book has no contents".into());
        return;
    };
    let listed: BTreeSet<String> = links(summary)
        .iter()
        .filter_map(|it| resolve(&summary.path, &it.target))
        .collect();
    for page in pages().filter(|it| it.path.starts_with(BOOK) && it.path != SUMMARY) {
        report.check(listed.contains(&page.path), &page.path, 1, || {
            format!("{SUMMARY} does not list this page")
        });
    }
}

/// The kit's own link to each clause.
fn places_of_clauses(workspace: &Workspace, report: &mut Report) {
    const KIT: &str = "conformance/src/specification.rs";
    let Some(kit) = workspace.file(KIT) else {
        return;
    };
    let cases = tcpsocket_conformance::CASES.iter().copied().flatten();
    let clauses: BTreeSet<&str> = cases.flat_map(|it| it.clauses).copied().collect();
    for clause in clauses {
        let wrong = match tcpsocket_conformance::page(clause) {
            None => Some("no area has it".to_owned()),
            // From the root.
            Some(page) => wrong(workspace, &root_of(kit), &page),
        };
        report.check(wrong.is_none(), KIT, 1, || {
            format!("{clause}: {}", wrong.unwrap_or_default())
        });
    }
}

fn root_of(file: &File) -> File {
    File {
        path: "a page at the root".into(),
        text: file.text.clone(),
    }
}

#[derive(Debug)]
struct Link {
    line: usize,
    target: String,
}

fn links(page: &File) -> Vec<Link> {
    let events = Parser::new_ext(&page.text, Options::ENABLE_TABLES).into_offset_iter();
    let mut links = Vec::new();
    for (event, range) in events {
        if let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event {
            links.push(Link {
                line: page.text[..range.start].matches('\n').count() + 1,
                target: dest_url.into_string(),
            });
        }
    }
    links
}

/// Why a link is wrong, if it is. External links are not followed, and rustdoc checks paths of Rust items.
fn wrong(workspace: &Workspace, page: &File, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") || target.contains("::") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = match path {
        "" => page.path.clone(),
        path => match resolve(&page.path, path) {
            Some(to) => to,
            None => return Some("it is outside of the repository".to_owned()),
        },
    };
    if !workspace.root.join(&to).exists() {
        return Some(format!("there is no {to}"));
    }
    let heading = match (anchor, workspace.file(&to)) {
        ("", _) | (_, None) => return None,
        (anchor, Some(file)) => headings(file).contains(anchor),
    };
    (!heading).then(|| format!("{to} has no heading for #{anchor}"))
}

/// The file that a path means, from the root.
fn resolve(from: &str, path: &str) -> Option<String> {
    let mut to = PathBuf::from(from);
    to.pop();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => to.push(name),
            Component::ParentDir if to.pop() => {}
            _ => return None,
        }
    }
    Some(to.to_string_lossy().into_owned())
}

/// The anchors that GitHub and mdBook generate for headings.
fn headings(page: &File) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut text: Option<String> = None;
    for event in Parser::new_ext(&page.text, Options::ENABLE_TABLES) {
        match (event, &mut text) {
            (Event::Start(Tag::Heading { .. }), _) => text = Some(String::new()),
            (Event::Text(part) | Event::Code(part), Some(text)) => text.push_str(&part),
            (Event::End(TagEnd::Heading(_)), _) => {
                anchors.extend(text.take().map(|it| anchor(&it)));
            }
            _ => {}
        }
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(path: &str, text: &str) -> File {
        File {
            path: path.into(),
            text: text.into(),
        }
    }

    fn workspace(files: Vec<File>) -> Workspace {
        Workspace {
            root: crate::workspace_root(),
            packages: Vec::new(),
            files,
        }
    }

    #[test]
    fn links_are_followed_but_not_out_of_the_house() {
        let readme = page(
            "README.md",
            "# What is *here*, `x`?\n\n[a](README.md#what-is-here-x)",
        );
        let place = workspace(vec![page("README.md", &readme.text)]);
        for (from, target, fine) in [
            ("README.md", "docs/SUMMARY.md", true),
            ("README.md", "docs", true),
            ("docs/start.md", "../README.md", true),
            ("docs/start.md", "README.md", false),
            ("docs/start.md", "../../README.md", false),
            ("README.md", "#what-is-here-x", true),
            ("README.md", "#what-is-there", false),
            ("docs/start.md", "../README.md#what-is-here-x", true),
            ("README.md", "https://example.org/nothing", true),
            ("README.md", "tcpsocket::TcpSocket", true),
        ] {
            let found = wrong(&place, &page(from, &readme.text), target);
            assert_eq!(found.is_none(), fine, "{from} {target}: {found:?}");
        }
    }

    #[test]
    fn links_in_code_are_no_links() {
        let text = "[a](b)\n\n```text\n[c](d)\n```\n\n`[e](f)` ![g](h)";
        let found = links(&page("x.md", text));
        let found: Vec<_> = found.iter().map(|it| (it.line, &*it.target)).collect();
        assert_eq!(found, [(1, "b"), (7, "h")]);
    }

    #[test]
    fn every_page_of_the_book_is_listed() {
        let mut report = Report::default();
        let summary = page(SUMMARY, "[Start](start.md)");
        let place = workspace(vec![
            summary,
            page("docs/start.md", ""),
            page("docs/lost.md", ""),
            page("CHANGELOG.md", ""),
        ]);
        check(&place, &mut report);
        let lost: Vec<_> = report.violations.iter().map(|it| &*it.path).collect();
        assert_eq!(lost, ["docs/lost.md"]);
    }
}
