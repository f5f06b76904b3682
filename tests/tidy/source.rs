//! Rust source as these rules need it: tokens with their lines, without comments and literals, each marked as test
//! code or not. Not a parser: it knows just enough to find paths, modules and functions.

use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
    /// Inside an item under `#[cfg(test)]`.
    pub test: bool,
    /// How many braces are open before it.
    pub depth: usize,
}

pub struct Source {
    /// Relative to the root of the repository.
    pub path: PathBuf,
    pub text: String,
    pub tokens: Vec<Token>,
}

impl Source {
    pub fn read(path: &Path) -> Source {
        let text =
            std::fs::read_to_string(super::root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut tokens = tokens(&text);
        // `mod tests;` under #[cfg(test)] stands in the parent; what it names is test code throughout.
        if path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs") {
            tokens.iter_mut().for_each(|token| token.test = true);
        }
        Source { path: path.to_owned(), tokens, text }
    }

    pub fn all(folder: &str) -> Vec<Source> {
        super::files(folder, ".rs").iter().map(|path| Source::read(path)).collect()
    }

    pub fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    /// `src/image/store.rs` -> `image`, `src/error.rs` -> `error`.
    pub fn area(&self) -> String {
        let inside = self.path.strip_prefix("src").unwrap_or(&self.path);
        let first = inside.iter().next().expect("a file has a name").to_string_lossy();
        first.trim_end_matches(".rs").to_owned()
    }

    /// Whether any path of the code, or a lone identifier, is this word.
    pub fn mentions(&self, word: &str) -> Option<usize> {
        self.tokens.iter().find(|token| token.text == word).map(|token| token.line)
    }

    /// Every path of the code with `use` groups expanded: `use std::{fs, io::Read}` gives std::fs and std::io::Read.
    pub fn paths(&self) -> Vec<(Token, Vec<String>)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let imports = at > 0 && self.tokens[at - 1].text == "use";
            let starts = is_word(&self.tokens[at].text) && (at == 0 || self.tokens[at - 1].text != "::");
            let goes_on = self.tokens.get(at + 1).is_some_and(|next| next.text == "::");
            if starts && (goes_on || imports) {
                at = self.expand(at, &[], &mut found);
            } else {
                at += 1;
            }
        }
        found
    }

    /// Reads one path from `at` on, adds what it names to `found`, and returns the place after it.
    fn expand(&self, at: usize, before: &[String], found: &mut Vec<(Token, Vec<String>)>) -> usize {
        let first = self.tokens[at].clone();
        let mut path = before.to_vec();
        let mut next = at;
        while let Some(token) = self.tokens.get(next) {
            if is_word(&token.text) || token.text == "*" {
                path.push(token.text.clone());
                next += 1;
                if self.tokens.get(next).is_some_and(|t| t.text == "::") {
                    next += 1;
                    continue;
                }
            } else if token.text == "{" {
                return self.expand_group(next + 1, &path, found);
            }
            break;
        }
        found.push((first, path));
        next
    }

    fn expand_group(&self, at: usize, before: &[String], found: &mut Vec<(Token, Vec<String>)>) -> usize {
        let mut next = at;
        while let Some(token) = self.tokens.get(next) {
            match token.text.as_str() {
                "}" => return next + 1,
                text if is_word(text) || text == "*" => {
                    next = self.expand(next, before, found);
                    // `name as other`
                    while self.tokens.get(next).is_some_and(|t| is_word(&t.text)) {
                        next += 1;
                    }
                }
                _ => next += 1,
            }
        }
        next
    }

    /// Every function with a body: its name, its first line, its number of lines, and whether it is test code.
    pub fn functions(&self) -> Vec<(String, usize, usize, bool)> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let Some(name) = self.tokens.get(at + 1) else { break };
            if token.text != "fn" || !is_word(&name.text) {
                continue;
            }
            // The body opens at the depth of the `fn`; a declaration of a trait ends before.
            let opening = self.tokens[at..]
                .iter()
                .take_while(|t| !(t.text == ";" && t.depth == token.depth))
                .position(|t| t.text == "{" && t.depth == token.depth);
            let Some(opening) = opening else { continue };
            let closing = self.tokens[at + opening + 1..].iter().find(|t| t.text == "}" && t.depth == token.depth);
            let last = closing.map_or(token.line, |t| t.line);
            found.push((name.text.clone(), token.line, last - token.line + 1, token.test));
        }
        found
    }
}

pub fn is_word(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_')
}

/// A `}` has the depth of its `{`, so that a pair is found by equal depth.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut line, mut depth) = (1, 0_usize);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest);
        let piece = &rest[..length];
        if !is_skipped(piece, first) {
            if piece == "}" {
                depth = depth.saturating_sub(1);
            }
            tokens.push(Token { text: piece.to_owned(), line, test: false, depth });
            if piece == "{" {
                depth += 1;
            }
        }
        line += piece.matches('\n').count();
        rest = &rest[length..];
    }
    mark_tests(&mut tokens);
    tokens
}

/// Space, comments and literals are no tokens.
fn is_skipped(piece: &str, first: char) -> bool {
    first.is_whitespace()
        || piece.starts_with("//")
        || piece.starts_with("/*")
        || first == '"'
        || first.is_ascii_digit()
        || (piece.len() > 1 && first == '\'')
        || piece.ends_with('"')
        || piece.ends_with("\"#")
}

/// The length in bytes of the token, comment, literal or space at the start of `rest`.
fn token_length(rest: &str) -> usize {
    let first = rest.chars().next().expect("not empty");
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(length) = string_length(rest) {
        return length;
    }
    if first == '\'' {
        return quote_length(rest);
    }
    if first.is_alphanumeric() || first == '_' {
        return rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    }
    if rest.starts_with("::") {
        return 2;
    }
    first.len_utf8()
}

/// Plain, byte, C and raw strings.
fn string_length(rest: &str) -> Option<usize> {
    let prefix = rest.bytes().take(3).position(|b| matches!(b, b'"' | b'#'))?;
    if !matches!(&rest[..prefix], "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    let raw = rest[..prefix].contains('r');
    let hashes = rest[prefix..].chars().take_while(|&c| c == '#').count();
    if !rest[prefix + hashes..].starts_with('"') || (hashes > 0 && !raw) {
        return None;
    }
    let body = prefix + hashes + 1;
    if raw {
        let close = format!("\"{}", "#".repeat(hashes));
        return Some(rest[body..].find(&close).map_or(rest.len(), |at| body + at + close.len()));
    }
    let mut escaped = false;
    for (at, c) in rest[body..].char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(body + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character literal, or else the lone quote of a lifetime.
fn quote_length(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            let close = rest[3..].find('\'').expect("an escaped character literal closes");
            3 + close + 1
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Marks what `#[cfg(test)]` stands before: an item up to its closing brace, or its semicolon. A file that begins with
/// `#![cfg(test)]` is test code throughout.
fn mark_tests(tokens: &mut [Token]) {
    let whole = ["#", "!", "[", "cfg", "(", "test", ")", "]"];
    if tokens.len() >= whole.len() && whole.iter().zip(tokens.iter()).all(|(text, token)| token.text == *text) {
        tokens.iter_mut().for_each(|token| token.test = true);
        return;
    }
    let pattern = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut at = 0;
    while at + pattern.len() <= tokens.len() {
        let here = pattern.iter().enumerate().all(|(i, text)| tokens[at + i].text == *text);
        if !here {
            at += 1;
            continue;
        }
        let depth = tokens[at].depth;
        let length = tokens[at..]
            .iter()
            .position(|t| t.depth == depth && (t.text == "}" || t.text == ";"))
            .map_or(tokens.len() - at, |end| end + 1);
        for token in &mut tokens[at..at + length] {
            token.test = true;
        }
        at += length;
    }
}

#[test]
fn groups_are_expanded_and_literals_are_no_code() {
    let text = r##"use std::{fs, io::{self, Read as R}}; // crate::agent
    fn f<'a>(x: &'a str) -> char { let _ = "crate::x"; let _ = r#"libc::y"#; '\''; '"'; crate::model::id::f(1.5) }"##;
    let source = Source { path: PathBuf::new(), text: String::new(), tokens: tokens(text) };
    let paths: Vec<String> = source.paths().into_iter().map(|(_, path)| path.join("::")).collect();
    assert_eq!(paths, ["std::fs", "std::io::self", "std::io::Read", "crate::model::id::f"]);
}

#[test]
fn functions_and_test_modules_are_found() {
    let text = "trait T { fn a(&self); fn b() { x(); }\n}\n#[cfg(test)]\nmod tests {\n fn c() {\n {}\n }\n}\nfn d() {}";
    let source = Source { path: PathBuf::new(), text: String::new(), tokens: tokens(text) };
    let found: Vec<_> = source.functions().into_iter().collect();
    let want = [("b", 1, 1, false), ("c", 5, 3, true), ("d", 9, 1, false)];
    assert_eq!(found, want.map(|(name, line, lines, test)| (name.to_owned(), line, lines, test)));
}
