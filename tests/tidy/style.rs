//! How files and functions look: small, named after one noun, opened by a sentence, finished.

use super::source::Source;
use super::{expect_none, files};

/// The target is 100 to 400 lines; past this a file surely holds two nouns.
const FILE_LINES_MAX: usize = 600;
/// The target is 70 lines; the rest is room for one flat match over a closed enum, which cutting would only hide.
const FUNCTION_LINES_MAX: usize = 90;
/// A table of cases is data: it may be longer than code.
const TEST_FUNCTION_LINES_MAX: usize = 150;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "misc", "shared", "stuff"];

/// Marks of unfinished or switched-off work, in pieces so that this file does not hold them.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X:"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("#[ig", "nore"),
];

fn sources() -> Vec<Source> {
    Source::all("src").into_iter().chain(Source::all("tests")).collect()
}

#[test]
fn files_are_small_and_say_why_they_exist() {
    let mut breaches = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path.display()));
        }
        if !source.text.starts_with("//! ") {
            breaches.push(format!("{}: does not start with //!", source.path.display()));
        }
    }
    expect_none("files", breaches);
}

#[test]
fn functions_are_short() {
    let mut breaches = Vec::new();
    for source in sources() {
        for (name, line, lines, test) in source.functions() {
            let test = test || source.path.starts_with("tests");
            let most = if test { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
            if lines > most {
                breaches.push(format!("{}: {name} has {lines} lines, at most {most}", source.place(line)));
            }
        }
    }
    expect_none("functions", breaches);
}

#[test]
fn names_say_what_is_inside() {
    let mut breaches = Vec::new();
    for path in files("src", "").iter().chain(&files("tests", "")) {
        for part in path.iter() {
            let stem = part.to_string_lossy();
            let stem = stem.split('.').next().unwrap_or_default();
            if EMPTY_NAMES.contains(&stem) {
                breaches.push(path.display().to_string());
            }
        }
    }
    expect_none("names that say nothing", breaches);
}

#[test]
fn nothing_is_left_unfinished() {
    let mut breaches = Vec::new();
    let folders =
        ["src", "tests", "packaging", "docs", "examples"].into_iter().filter(|f| super::root().join(f).exists());
    for path in folders.flat_map(|folder| files(folder, "")).filter(|path| !path.starts_with("tests/data")) {
        let Ok(text) = std::fs::read_to_string(super::root().join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                breaches.push(format!("{}:{}: {mark}", path.display(), at + 1));
            }
        }
    }
    expect_none("unfinished", breaches);
}

#[test]
fn only_tests_unwrap() {
    let mut breaches = Vec::new();
    for source in Source::all("src") {
        for pair in source.tokens.windows(2) {
            if pair[0].text == "." && pair[1].text == "unwrap" && !pair[1].test {
                breaches.push(format!("{}: say the invariant with expect", source.place(pair[1].line)));
            }
        }
    }
    expect_none("unwrap outside tests", breaches);
}

#[test]
fn every_file_belongs_to_the_crate() {
    let mut breaches = Vec::new();
    for path in files("src", ".rs") {
        let stem = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let folder = path.parent().expect("below src");
        let (name, parent) = match stem.as_str() {
            "main" | "lib" if folder == std::path::Path::new("src") => continue,
            "mod" => (folder.file_name().expect("a folder").to_string_lossy().into_owned(), folder.parent()),
            _ => (stem, Some(folder)),
        };
        let parent = parent.expect("below src");
        let parent = if parent == std::path::Path::new("src") { parent.join("lib.rs") } else { parent.join("mod.rs") };
        let declared = Source::read(&parent);
        let found = declared.tokens.windows(2).any(|pair| pair[0].text == "mod" && pair[1].text == name);
        if !found {
            breaches.push(format!("{}: {} does not declare it", path.display(), parent.display()));
        }
    }
    expect_none("files that nothing compiles", breaches);
}
