//! The guide quotes this crate. What it quotes is what the tests run.

use std::fs;
use std::path::Path;

const GUIDE: &str = include_str!("../../../../docs/guide/starttls.md");

/// The blocks of Rust in a page.
fn blocks(page: &str) -> Vec<&str> {
    let mut blocks: Vec<&str> = page.split("```rust\n").collect();
    blocks.remove(0);
    blocks
        .into_iter()
        .map(|it| it.split("```").next().unwrap_or_default())
        .collect()
}

/// Everything in the `.rs` files below a directory.
fn sources(directory: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|it| it == "rs") {
            text += &fs::read_to_string(&path).unwrap();
        }
    }
    text
}

#[test]
fn every_block_of_the_guide_is_code_that_is_run_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("src")) + &sources(&root.join("tests"));
    let blocks = blocks(GUIDE);
    assert!(blocks.len() >= 4, "the guide lost its blocks");
    for block in blocks {
        // Apart from doc comments, which say the same as the text around the block.
        for part in block.split("\n\n").map(str::trim) {
            assert!(sources.contains(part), "not in this crate:\n{part}");
        }
    }
}

#[test]
fn every_fence_of_the_guide_is_closed_and_of_a_known_kind() {
    let fences: Vec<&str> = GUIDE.lines().filter(|it| it.starts_with("```")).collect();
    for pair in fences.chunks(2) {
        let [open, close] = pair else {
            panic!("{} is not closed", pair[0]);
        };
        assert!(["```rust", "```text"].contains(open), "{open}");
        assert_eq!(*close, "```", "after {open}");
    }
}
