//! One document: decoding it, and turning paths into places.

use super::canonical;
use super::load;
use super::path::{Path, Segment};
use super::problem::{Kind, Problem};
use super::syntax;
use super::tree::{self, Node, Pair, Value};
use super::typed::{self, Found};
use serde::de::DeserializeOwned;
use std::cell::Cell;

/// A walk parses the whole text again: of a longer one, the nearest place that is known without a walk is shown.
const WALKED_TEXT_BYTES_MAX: usize = 256 * 1024;
/// Walks for one document; beyond, as above.
const WALKS_MAX: u32 = 64;

/// Which place belongs to a problem at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Of the pair's key: an unknown or duplicate field.
    Key,
    /// Of the value: a wrong one.
    Value,
    /// Of the parent's key: a missing field.
    Parent,
}

#[derive(Debug)]
pub struct Document<'t> {
    text: &'t str,
    root: Node,
    /// Which of serde_yaml's documents it is: empty ones may stand before it.
    number: usize,
    line_starts: Vec<usize>,
    walks: Cell<u32>,
}

impl<'t> Document<'t> {
    /// Loads `text` (YAML, or JSON) and expands merge keys.
    pub fn parse(text: &'t str) -> Result<Document<'t>, Problem> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (root, number) = load::load(text)?;
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(breaks).collect();
        let mut document = Document { text, root, number, line_starts, walks: Cell::new(0) };
        if let Err(fault) = tree::expand_merges(&mut document.root) {
            let (line, column) = document.line_column(fault.at.unwrap_or(0));
            let message = fault.message.to_owned();
            return Err(Problem { kind: Kind::Syntax, line, column, path: String::new(), message, hint: None });
        }
        Ok(document)
    }

    /// Nothing but comments and white space.
    pub fn is_empty(&self) -> bool {
        self.root.is_null()
    }

    /// The text of the scalar at `path`, if there is one.
    pub fn text_at(&self, path: &Path) -> Option<&str> {
        let (found, node, _) = self.find(&path.0);
        match &node.value {
            Value::Scalar(scalar) if found == path.0.len() && !node.is_null() => Some(&scalar.text),
            Value::Scalar(_) | Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    pub fn is_mapping(&self) -> bool {
        matches!(self.root.value, Value::Mapping(_))
    }

    /// The value, unless there is one of a wrong type; and all unknown fields, duplicate keys and wrong types in file
    /// order.
    pub fn decode<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        let (value, found) = typed::decode(&self.root);
        let mut problems: Vec<Problem> = found.into_iter().map(|found| self.locate(found)).collect();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        (value, problems)
    }

    /// A problem at `path`, in its place.
    pub fn problem(&self, kind: Kind, path: &Path, part: Part, message: String, hint: Option<String>) -> Problem {
        let (line, column) = self.place(path, part);
        Problem { kind, line, column, path: path.to_string(), message, hint }
    }

    /// The same text for every spelling of the same document (`canonical.rs`).
    pub fn canonical(&self) -> String {
        canonical::canonical(&self.root)
    }

    fn locate(&self, found: Found) -> Problem {
        let (line, column) = match found.at {
            Some(at) => self.line_column(at),
            None => self.place(&found.path, found.part),
        };
        let hint = match found.first_at {
            Some(first) => Some(format!("it is given in line {} already", self.line_column(first).0)),
            None => found.hint,
        };
        Problem { kind: found.kind, line, column, path: found.path.to_string(), message: found.message, hint }
    }

    /// Line and column of `path`, both from 1, the column in characters. Where it is missing: of what would hold it.
    pub fn place(&self, path: &Path, part: Part) -> (u32, u32) {
        let wanted = if part == Part::Parent { &path.0[..path.0.len().saturating_sub(1)] } else { &path.0[..] };
        let (found, node, pair) = self.find(wanted);
        let here = &wanted[..found];
        let complete = found == wanted.len() && part != Part::Parent;
        match pair {
            Some(pair) if !complete || part == Part::Key || node.is_null() => match pair.key_at {
                Some(at) => self.line_column(at),
                None => self.walk(here, true).unwrap_or_else(|| self.nearest(node)),
            },
            Some(_) | None => match node.at {
                Some(at) => self.line_column(at),
                None => self.walk(here, false).unwrap_or_else(|| self.nearest(node)),
            },
        }
    }

    /// How many segments of `path` exist, the node there, and the pair that holds it (`None` in a list or at the top).
    fn find(&self, path: &[Segment]) -> (usize, &Node, Option<&Pair>) {
        let (mut node, mut holder) = (&self.root, None);
        for (depth, segment) in path.iter().enumerate() {
            let next = match segment {
                Segment::Field(name) | Segment::Key(name) => node.pair(name).map(|pair| (&pair.value, Some(pair))),
                Segment::Index(index) => match &node.value {
                    Value::Sequence(items) => items.get(*index).map(|item| (item, None)),
                    Value::Scalar(_) | Value::Mapping(_) => None,
                },
            };
            match next {
                Some(next) => (node, holder) = next,
                None => return (depth, node, holder),
            }
        }
        (path.len(), node, holder)
    }

    fn walk(&self, path: &[Segment], key: bool) -> Option<(u32, u32)> {
        if self.text.len() > WALKED_TEXT_BYTES_MAX || self.walks.get() >= WALKS_MAX {
            return None;
        }
        self.walks.set(self.walks.get() + 1);
        load::walk(self.text, self.number, path, key).map(|(line, column)| syntax::within(self.text, line, column))
    }

    fn nearest(&self, node: &Node) -> (u32, u32) {
        node.first_at().map_or((1, 1), |at| self.line_column(at))
    }

    fn line_column(&self, at: usize) -> (u32, u32) {
        let line = self.line_starts.partition_point(|start| *start <= at);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..at).map_or(0, |before| before.chars().count()) + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }
}
