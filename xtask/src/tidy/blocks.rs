//! Rust blocks that rustdoc does not compile: each must be a literal part of a compiled file.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use super::{File, Report, Workspace};

pub(super) fn check(workspace: &Workspace, report: &mut Report) {
    for file in &workspace.files {
        if file.is("md") {
            for block in ignored(file) {
                let code = unindented(&block.code);
                let source = workspace.files.iter().find(|source| {
                    source.is("rs")
                        && is_built(&source.path)
                        && unindented(&source.text).contains(code.trim())
                });
                report.check(source.is_some(), &file.path, block.line, || {
                    "rustdoc does not compile this block, and it is no part of a test or an example"
                        .into()
                });
            }
        }
        for (line, fence) in fences(file) {
            report.check(!fence.contains("ignore"), &file.path, line, || {
                "rustdoc does not compile this block".into()
            });
        }
    }
}

/// The text with every line at the margin: a method on a page is not indented, and in its `impl` it is.
fn unindented(text: &str) -> String {
    text.lines()
        .flat_map(|line| [line.trim_start(), "\n"])
        .collect()
}

/// The fences in the comments of a source, with the words behind them.
fn fences(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let sources = file.lines().filter(|_| file.is("rs"));
    sources.filter_map(|(line, text)| {
        let text = text.trim_start();
        let comment = text.strip_prefix("///").or(text.strip_prefix("//!"))?;
        Some((line, comment.trim_start().strip_prefix("```")?))
    })
}

fn is_built(path: &str) -> bool {
    path.split('/').any(|it| it == "tests" || it == "examples")
}

#[derive(Debug)]
struct Block {
    line: usize,
    code: String,
}

fn ignored(page: &File) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut inside: Option<Block> = None;
    for (event, range) in Parser::new(&page.text).into_offset_iter() {
        match (event, &mut inside) {
            (Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))), _)
                if info.contains("ignore") =>
            {
                inside = Some(Block {
                    line: page.text[..range.start].matches('\n').count() + 1,
                    code: String::new(),
                });
            }
            (Event::Text(text), Some(block)) => block.code.push_str(&text),
            (Event::End(TagEnd::CodeBlock), _) => blocks.extend(inside.take()),
            _ => {}
        }
    }
    blocks
}
