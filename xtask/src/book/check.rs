//! The links of the rendered book: each leads to an existing file, and to an existing id in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::resolve;

#[derive(Debug, Default)]
struct Page {
    ids: BTreeSet<String>,
    links: Vec<String>,
}

/// Checks every page below a folder; returns the number of links, or the broken ones.
pub(super) fn links(book: &Path) -> Result<usize, String> {
    let mut pages = BTreeMap::new();
    collect(book, "", &mut pages)?;
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, page) in &pages {
        for link in &page.links {
            count += 1;
            if let Some(why) = wrong(book, &pages, path, link) {
                broken.push(format!("{path}: {link:?} {why}"));
            }
        }
    }
    for file in ["spec/sending.html", "report.html"] {
        let there = pages.get(file).is_some_and(|page| !page.links.is_empty());
        if !there {
            broken.push(format!("{file} has no links: was it built?"));
        }
    }
    match broken.is_empty() {
        true => Ok(count),
        false => Err(format!("broken links:\n{}", broken.join("\n"))),
    }
}

fn collect(folder: &Path, prefix: &str, pages: &mut BTreeMap<String, Page>) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|error| error.to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let (path, place) = (entry.path(), format!("{prefix}{name}"));
        if path.is_dir() {
            collect(&path, &format!("{place}/"), pages)?;
        } else if name.ends_with(".rs") || name.ends_with(".toml") {
            return Err(format!("{place}: the book contains a source file"));
        } else if name.ends_with(".html") && name != "404.html" {
            // The page for missing pages is served from every path, so its links are absolute.
            pages.insert(place, parse(&super::read(&path)?));
        }
    }
    Ok(())
}

/// Why a link is wrong, if it is. External links are not followed.
fn wrong(
    book: &Path,
    pages: &BTreeMap<String, Page>,
    from: &str,
    link: &str,
) -> Option<&'static str> {
    let scheme = link.split(['/', '#', '?']).next().unwrap_or_default();
    if scheme.contains(':') {
        return None;
    }
    let (path, id) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split('?').next().unwrap_or_default();
    let to = match path {
        "" => from.to_owned(),
        path => match resolve(from, path) {
            Some(to) if to.is_empty() || path.ends_with('/') => format!("{to}/index.html")
                .trim_start_matches('/')
                .to_owned(),
            Some(to) => to,
            None => return Some("is outside of the book"),
        },
    };
    if !book.join(&to).is_file() {
        return Some("is not there");
    }
    let found = id.is_empty() || pages.get(&to).is_none_or(|page| page.ids.contains(id));
    (!found).then_some("has no such id")
}

/// The ids and links of a page as mdBook and the kit write it: attributes between double quotes.
fn parse(html: &str) -> Page {
    let mut page = Page::default();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        if rest.starts_with("!--") {
            rest = rest.split_once("-->").map_or("", |(_, rest)| rest);
            continue;
        }
        let (tag, after) = rest.split_once('>').unwrap_or((rest, ""));
        rest = after;
        for (name, value) in attributes(tag) {
            match name {
                "id" => {
                    page.ids.insert(value.to_owned());
                }
                "href" | "src" => page.links.push(value.replace("&amp;", "&")),
                _ => {}
            }
        }
        for element in ["script", "style"] {
            if tag.split_whitespace().next() == Some(element) {
                let end = format!("</{element}");
                rest = rest.find(&end).map_or("", |at| &rest[at..]);
            }
        }
    }
    page
}

fn attributes(tag: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = tag;
    std::iter::from_fn(move || {
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = after.split_once('"')?;
        rest = after;
        Some((
            name.rsplit(char::is_whitespace).next().unwrap_or_default(),
            value,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_links_are_found_outside_of_comments_and_scripts() {
        let page = parse(
            "<!-- <a href=\"no\"> --><h1 class=\"x\" id=\"a\">T</h1><a href=\"b.html#c\"><img src=\"d.png\">\
             <script>let e = '<a href=\"no\">';</script><p id=\"f\">",
        );
        assert_eq!(page.links, ["b.html#c", "d.png"]);
        assert!(page.ids.contains("a") && page.ids.contains("f"));
    }

    #[test]
    fn a_link_to_nowhere_is_wrong() {
        let folder = std::env::temp_dir().join(format!("book-{}", std::process::id()));
        fs::create_dir_all(folder.join("b")).unwrap();
        fs::write(folder.join("a.html"), "<p id=\"here\">").unwrap();
        fs::write(folder.join("b/c.html"), "").unwrap();
        let mut pages = BTreeMap::new();
        collect(&folder, "", &mut pages).unwrap();
        for (link, right) in [
            ("../a.html", true),
            ("../a.html#here", true),
            ("../a.html#there", false),
            ("c.html?x", true),
            ("d.html", false),
            ("../../a.html", false),
            ("https://example.org/d.html", true),
        ] {
            assert_eq!(
                wrong(&folder, &pages, "b/c.html", link).is_none(),
                right,
                "{link}"
            );
        }
        fs::write(folder.join("b/lib.rs"), "").unwrap();
        assert!(collect(&folder, "", &mut pages).is_err());
        fs::remove_dir_all(folder).unwrap();
    }
}
