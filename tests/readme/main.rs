//! The documents for operators are true: README, pages, example configurations and example servers.

#[path = "../support/mod.rs"]
mod support;

mod examples;
mod generated;
mod links;
mod servers;
mod ways;

use std::fs;
use std::path::{Path, PathBuf};

fn in_checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(in_checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder whose names end so, as paths in the checkout, in order.
fn files_below(folder: &str, ending: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(in_checkout(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
        if entry.path().is_dir() {
            files.extend(files_below(&path, ending));
        } else if path.ends_with(ending) {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// All pages that people read.
fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned(), "SECURITY.md".to_owned(), "CHANGELOG.md".to_owned()];
    pages.extend(files_below("docs", ".md"));
    pages
}

/// What stands between `<!-- NAME -->` and `<!-- /NAME -->`, where NAME may be followed by a colon and more, and where in
/// the text.
fn marked<'t>(page: &str, text: &'t str, name: &str) -> (usize, &'t str) {
    let end = format!("<!-- /{} -->", name.split(':').next().unwrap());
    let begin = format!("<!-- {name} -->\n");
    let start = text.find(&begin).unwrap_or_else(|| panic!("{page} has no {begin}")) + begin.len();
    let length = text[start..].find(&end).unwrap_or_else(|| panic!("{page} has no {end} behind {begin}"));
    (start, &text[start..start + length])
}

/// The blocks of code in a language, in order.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("\n```{language}\n");
    text.split(&fence).skip(1).map(|rest| &rest[..=rest.find("\n```").expect("the block ends")]).collect()
}

/// The text without blocks of code.
fn prose(text: &str) -> String {
    let (_, prose) = text.lines().fold((true, String::new()), |(in_prose, prose), line| {
        match (line.trim_start().starts_with("```"), in_prose) {
            (true, _) => (!in_prose, prose),
            (false, true) => (true, prose + line + "\n"),
            (false, false) => (false, prose),
        }
    });
    prose
}
