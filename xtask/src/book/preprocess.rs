//! The mdBook preprocessor: it adds anchors to clauses, links to their ids, and the READMEs as pages, and repairs links that
//! would lead out of the book.

use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::path::Path;

use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};
use serde_json::{Value, json};

use super::resolve;
use crate::tidy::clauses::leading_id;

/// Pages from outside `docs`: their paths, and their names in the book.
const REPOSITORY_PAGES: &[(&str, &str)] = &[
    ("README.md", "About"),
    ("CONTRIBUTING.md", "Contributing"),
    ("CHANGELOG.md", "Changelog"),
    ("conformance/README.md", "The conformance kit"),
    ("conformance/third-party/README.md", "A third party"),
    ("crates/tcpsocket/README.md", "tcpsocket"),
    ("crates/tcpsocket-core/README.md", "tcpsocket-core"),
    ("crates/tcpsocket-tls/README.md", "tcpsocket-tls"),
    ("crates/tcpsocket-smol/README.md", "tcpsocket-smol"),
    ("crates/tcpsocket-policy/README.md", "tcpsocket-policy"),
    ("crates/tcpsocket-cli/README.md", "The tcpsocket command"),
    ("examples/README.md", "Examples"),
    ("examples/clients/README.md", "clients"),
    ("examples/echo-client/README.md", "echo-client"),
    ("examples/mail-only/README.md", "mail-only"),
    ("examples/starttls-mail/README.md", "starttls-mail"),
    ("examples/tiny-provider/README.md", "tiny-provider"),
];

/// The marker of the report in its page.
const PLACE_OF_REPORT: &str = "<!-- report -->";

/// Its replacement, if the report is built as well.
const REPORT: &str = "\
<p><a href=\"report.html\">The report as a page of its own</a></p>
<iframe src=\"report.html\" title=\"Conformance report\" style=\"width: 100%; height: 80vh; border: 1px solid #8888\"></iframe>";

/// Reads the book from standard input and writes it to standard output, as mdBook asks of a preprocessor.
pub(super) fn run() -> Result<(), String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("standard input: {error}"))?;
    let input: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let root = crate::workspace_root();
    let mut book = input[1].clone();
    let items = book["items"].as_array_mut().ok_or("no items in the book")?;
    items.push(json!({ "PartTitle": "The repository" }));
    for (source, name) in REPOSITORY_PAGES {
        items.push(json!({ "Chapter": {
            "name": name,
            "content": super::read(&root.join(source))?,
            "number": null,
            "sub_items": [],
            "path": place(source),
            "source_path": null,
            "parent_names": [],
        }}));
    }
    let repository = std::env::var(super::REPOSITORY).ok();
    let links = Links {
        root: &root,
        repository: repository.as_deref(),
        report: std::env::var_os(super::WITH_REPORT).is_some(),
    };
    links.all(items);
    let out = serde_json::to_vec(&book).map_err(|error| error.to_string())?;
    let written = std::io::stdout().write_all(&out);
    written.map_err(|error| format!("standard output: {error}"))
}

/// The path of a page in the book, from that in the repository. mdBook makes an `index.html` of each `README.md` of its own.
fn place(source: &str) -> String {
    match source.strip_prefix("docs/") {
        Some(page) => page.replace("README.md", "index.md"),
        None if source == "README.md" => "repository/about.md".to_owned(),
        None => format!("repository/{source}"),
    }
}

/// The path in the repository of a page of the book.
fn source(place: &str) -> String {
    let page = REPOSITORY_PAGES
        .iter()
        .find(|(source, _)| self::place(source) == place);
    page.map_or_else(
        || format!("docs/{place}").replace("index.md", "README.md"),
        |(source, _)| (*source).to_owned(),
    )
}

/// How pages are linked.
struct Links<'a> {
    root: &'a Path,
    repository: Option<&'a str>,
    report: bool,
}

impl Links<'_> {
    fn all(&self, items: &mut [Value]) {
        for item in items {
            // Titles of parts and separators are items too.
            let Some(chapter) = item.get_mut("Chapter") else {
                continue;
            };
            if let (Some(place), Some(text)) =
                (chapter["path"].as_str(), chapter["content"].as_str())
            {
                let text = self.page(&source(place), place, text);
                chapter["content"] = Value::String(text);
            }
            if let Some(items) = chapter["sub_items"].as_array_mut() {
                self.all(items);
            }
        }
    }

    /// The text of a page, for the book.
    fn page(&self, source: &str, place: &str, text: &str) -> String {
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        // Ids are linked in running text only.
        let (mut in_link, mut in_heading, mut in_code) = (false, false, false);
        let unknown = |_| Some(("".into(), "".into()));
        let options = Options::ENABLE_TABLES;
        let parser = Parser::new_with_broken_link_callback(text, options, Some(unknown));
        for (event, range) in parser.into_offset_iter() {
            match event {
                Event::Start(Tag::Link {
                    link_type,
                    dest_url,
                    ..
                }) => {
                    in_link = true;
                    let link = &text[range.clone()];
                    edits.extend(
                        self.link(source, place, link_type, link, &dest_url)
                            .map(|it| (range, it)),
                    );
                }
                Event::End(TagEnd::Link) => in_link = false,
                Event::Start(Tag::Heading { .. }) => {
                    in_heading = true;
                    let title = text[range.clone()].trim_start_matches(['#', ' ']);
                    if let (true, Some(id)) = (is_clause_page(source), leading_id(title)) {
                        let anchor = format!("<span id=\"{}\"></span>\n\n", id.to_lowercase());
                        edits.push((range.start..range.start, anchor));
                    }
                }
                Event::End(TagEnd::Heading(_)) => in_heading = false,
                Event::Start(Tag::CodeBlock(_)) => in_code = true,
                Event::End(TagEnd::CodeBlock) => in_code = false,
                Event::Text(_) if !in_link && !in_heading && !in_code => {
                    for (at, id) in ids(&text[range.clone()]) {
                        let id_range = range.start + at..range.start + at + id.len();
                        edits.extend(
                            clause(source, place, id, &text[..id_range.start])
                                .map(|it| (id_range, it)),
                        );
                    }
                }
                _ => {}
            }
        }
        let mut page = text.to_owned();
        for (range, new) in edits.into_iter().rev() {
            page.replace_range(range, &new);
        }
        match self.report {
            true => page.replace(PLACE_OF_REPORT, REPORT),
            false => page,
        }
    }

    /// The replacement of a link in the book, unless it stays unchanged.
    fn link(
        &self,
        source: &str,
        place: &str,
        link_type: LinkType,
        link: &str,
        to: &str,
    ) -> Option<String> {
        let (label, _) = link
            .rsplit_once("](")
            .or(link.rsplit_once("]["))
            .unwrap_or((link, ""));
        let label = label.trim_start_matches('[').trim_end_matches(']');
        match link_type {
            // Rust items, for rustdoc. Other brackets are brackets.
            LinkType::ShortcutUnknown | LinkType::CollapsedUnknown | LinkType::ReferenceUnknown => {
                return label.starts_with('`').then(|| label.to_owned());
            }
            LinkType::Inline => {}
            _ => return None,
        }
        if to.contains("://") || to.starts_with('#') || to.starts_with("mailto:") {
            return None;
        }
        let (path, anchor) = to
            .split_once('#')
            .map_or((to, String::new()), |(path, anchor)| {
                (path, format!("#{anchor}"))
            });
        let Some(target) = resolve(source, path).filter(|it| self.root.join(it).exists()) else {
            return Some(label.to_owned());
        };
        let of_folder = format!("{target}/README.md");
        let page = [&target, &of_folder].into_iter().find(|it| {
            let listed = REPOSITORY_PAGES.iter().any(|(source, _)| source == *it);
            listed || is_page(it) && self.root.join(it).exists()
        });
        match (page, self.repository) {
            (Some(page), _) => Some(format!(
                "[{label}]({}{anchor})",
                relative(place, &self::place(page))
            )),
            (None, Some(url)) => Some(format!("[{label}]({url}/{target}{anchor})")),
            (None, None) => Some(label.to_owned()),
        }
    }
}

/// Whether a file is one of the book's own pages. The contents are none: mdBook shows them beside every page.
fn is_page(source: &str) -> bool {
    source.starts_with("docs/") && source.ends_with(".md") && source != "docs/SUMMARY.md"
}

fn is_clause_page(source: &str) -> bool {
    source.starts_with("docs/spec/")
}

/// A link to the clause with this id, or its anchor, if this is the row that defines it.
fn clause(source: &str, place: &str, id: &str, before: &str) -> Option<String> {
    let page = tcpsocket_conformance::page(id)?;
    let (page, _) = page.split_once('#').unwrap_or((&page, ""));
    let anchor = id.to_lowercase();
    let line = before.rsplit('\n').next().unwrap_or_default();
    if source == page && id.starts_with("ROW-") && line == "| " {
        return Some(format!("<span id=\"{anchor}\"></span>{id}"));
    }
    let to = relative(place, &self::place(page));
    Some(format!("[{id}]({to}#{anchor})"))
}

/// The ids in a text, with their positions.
fn ids(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (at, byte) in text.bytes().enumerate() {
        let word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if word && !inside {
            found.extend(leading_id(&text[at..]).map(|id| (at, id)));
        }
        inside = word;
    }
    found
}

/// The relative path from one page of the book to another.
fn relative(from: &str, to: &str) -> String {
    let up = "../".repeat(from.matches('/').count());
    format!("{up}{to}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(repository: Option<&str>, source: &str, text: &str) -> String {
        let root = crate::workspace_root();
        let links = Links {
            root: &root,
            repository,
            report: false,
        };
        links.page(source, &place(source), text)
    }

    #[test]
    fn links_stay_in_the_book_or_become_text() {
        let table = [
            ("[a](spec/tls.md#x)", "[a](spec/tls.md#x)"),
            (
                "[`a`](../crates/tcpsocket)",
                "[`a`](repository/crates/tcpsocket/README.md)",
            ),
            (
                "[a](../examples/README.md)",
                "[a](repository/examples/README.md)",
            ),
            ("[`a.rs`](../xtask/src/main.rs)", "`a.rs`"),
            ("[`App`] [x](TcpSocket::send) [0 | 1]", "`App` x [0 | 1]"),
            (
                "[a](https://example.org) [b](#c)",
                "[a](https://example.org) [b](#c)",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(page(None, "docs/start.md", text), expected);
        }
        let linked = page(
            Some("https://x/y"),
            "docs/guide/implement.md",
            "[a](../../xtask/src/main.rs)",
        );
        assert_eq!(linked, "[a](https://x/y/xtask/src/main.rs)");
    }

    #[test]
    fn clauses_have_anchors_and_ids_have_links() {
        let text = "### TX-4 (MUST)\n\nSee RX-6, `TX-5` and UTF-8.\n";
        assert_eq!(
            page(None, "docs/spec/sending.md", text),
            "<span id=\"tx-4\"></span>\n\n### TX-4 (MUST)\n\nSee [RX-6](../spec/receiving.md#rx-6), `TX-5` and UTF-8.\n"
        );
        let rows = "| row | a |\n|---|---|\n| ROW-1 | ROW-2 |\n";
        assert_eq!(
            page(None, "docs/spec/states.md", rows),
            "| row | a |\n|---|---|\n| <span id=\"row-1\"></span>ROW-1 | [ROW-2](../spec/states.md#row-2) |\n"
        );
    }
}
