//! The guide quotes this crate. What it quotes is what the kit judges here.

use std::fs;
use std::path::Path;

use tcpsocket_conformance::CASES;

const GUIDE: &str = include_str!("../../../docs/guide/implement.md");

/// The text without indentation, doc comments and empty ends: a method is quoted without the `impl` around it.
fn plain(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    let lines: Vec<&str> = lines.filter(|it| !it.starts_with("///")).collect();
    format!("\n{}\n", lines.join("\n").trim())
}

/// The blocks of a kind in the page.
fn blocks(kind: &str) -> Vec<&'static str> {
    let fence = format!("```{kind}\n");
    let blocks = GUIDE.split(fence.as_str()).skip(1);
    blocks
        .map(|it| it.split("```").next().unwrap_or_default())
        .collect()
}

fn sources() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = String::new();
    for directory in ["src", "tests"] {
        for entry in fs::read_dir(root.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "rs") {
                text += &plain(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    text
}

#[test]
fn every_block_of_the_guide_is_code_that_is_judged_here() {
    let sources = sources();
    let blocks = blocks("rust");
    assert!(blocks.len() >= 12, "the guide lost its blocks");
    for block in blocks {
        // Where something is left out, there is an empty line.
        for part in block.split("\n\n").map(plain) {
            assert!(sources.contains(&part), "not in this crate:{part}");
        }
    }
}

#[test]
fn the_manifest_of_the_guide_has_what_this_one_has() {
    let target = "[[test]]\nname = \"conformance\"\nharness = false\n";
    let manifest = include_str!("../Cargo.toml");
    let quoted = blocks("toml")[0];
    assert!(manifest.contains(target) && quoted.contains(target));
    for section in manifest.split("dependencies]\n").skip(1) {
        let lines = section.lines().take_while(|it| !it.is_empty());
        for name in lines.filter_map(|it| it.strip_suffix(".workspace = true")) {
            let there = quoted.contains(&format!("\n{name} = "));
            assert!(there, "{name} is a dependency, and not in the guide");
        }
    }
}

#[test]
fn every_case_that_the_guide_names_is_one_of_the_kit() {
    let ids = || CASES.iter().copied().flatten().map(|it| it.id);
    let words = GUIDE.split(|it: char| !(it.is_ascii_alphanumeric() || "/-_.".contains(it)));
    let mut named = 0;
    for word in words {
        let area = word.split_once('/').filter(|(_, rest)| !rest.is_empty());
        let Some((area, _)) = area else { continue };
        if ids().any(|it| it.split('/').next() == Some(area)) {
            assert!(ids().any(|it| it == word), "the kit has no case {word}");
            named += 1;
        }
    }
    assert!(named >= 10, "the guide names {named} cases");
}

#[test]
fn every_fence_of_the_guide_is_closed_and_of_a_known_kind() {
    let fences: Vec<&str> = GUIDE.lines().filter(|it| it.starts_with("```")).collect();
    for pair in fences.chunks(2) {
        let [open, close] = pair else {
            panic!("{} is not closed", pair[0]);
        };
        assert!(["```rust", "```text", "```toml"].contains(open), "{open}");
        assert_eq!(*close, "```", "after {open}");
    }
}
