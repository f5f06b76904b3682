//! A document as a tree of our own: scalars with their text, mappings in order with duplicates still visible.

/// A value and where its text starts (bytes from the start of the document), as far as that is known: always for
/// plain scalars, never for mappings and sequences, whose place `load::walk` finds.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub at: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Pair>),
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub kind: ScalarKind,
    /// As written, without quotes and with escapes resolved.
    pub text: String,
}

/// What the scalar is where nothing says what is expected (YAML 1.2's rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Null,
    Bool,
    Int,
    Float,
    Text,
}

#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub key: String,
    pub key_at: Option<usize>,
    pub value: Node,
}

impl Node {
    pub fn null() -> Node {
        Node { value: Value::Scalar(Scalar { kind: ScalarKind::Null, text: String::new() }), at: None }
    }

    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// The value of the last pair named `key`: of several, the last counts.
    pub fn pair(&self, key: &str) -> Option<&Pair> {
        match &self.value {
            Value::Mapping(pairs) => pairs.iter().rev().find(|pair| pair.key == key),
            Value::Scalar(_) | Value::Sequence(_) => None,
        }
    }

    /// `a mapping`, `the text "x"`, ...: what was found where something else was expected.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Sequence(_) => "a list".to_owned(),
            Value::Scalar(scalar) => match scalar.kind {
                ScalarKind::Null => "nothing".to_owned(),
                ScalarKind::Bool | ScalarKind::Int | ScalarKind::Float => shorten(&scalar.text),
                ScalarKind::Text => format!("the text {:?}", shorten(&scalar.text)),
            },
        }
    }

    /// The first place known in this subtree: of a mapping, its first key's.
    pub fn first_at(&self) -> Option<usize> {
        self.at.or_else(|| match &self.value {
            Value::Scalar(_) => None,
            Value::Sequence(items) => items.first().and_then(Node::first_at),
            Value::Mapping(pairs) => pairs.first().and_then(|pair| pair.key_at),
        })
    }
}

/// Long texts make no error clearer.
const QUOTED_CHARS_MAX: usize = 60;

pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// What [`expand_merges`] objects to: where, and in which words.
pub(super) struct MergeFault {
    pub at: Option<usize>,
    pub message: &'static str,
}

/// Replaces every merge key (`<<`) by the pairs that it brings: the mapping's own keys win, then the earlier source.
pub(super) fn expand_merges(node: &mut Node) -> Result<(), MergeFault> {
    match &mut node.value {
        Value::Scalar(_) => Ok(()),
        Value::Sequence(items) => items.iter_mut().try_for_each(expand_merges),
        Value::Mapping(pairs) => {
            pairs.iter_mut().try_for_each(|pair| expand_merges(&mut pair.value))?;
            if !pairs.iter().any(|pair| pair.key == "<<") {
                return Ok(());
            }
            let (merges, mut own): (Vec<Pair>, Vec<Pair>) =
                std::mem::take(pairs).into_iter().partition(|pair| pair.key == "<<");
            let mut named: std::collections::HashSet<String> = own.iter().map(|pair| pair.key.clone()).collect();
            for merge in merges {
                for source in merge_sources(merge)? {
                    own.extend(source.into_iter().filter(|pair| named.insert(pair.key.clone())));
                }
            }
            *pairs = own;
            Ok(())
        }
    }
}

fn merge_sources(merge: Pair) -> Result<Vec<Vec<Pair>>, MergeFault> {
    let fault = |at| MergeFault { at, message: "a merge key (<<) takes a mapping or a list of mappings" };
    match merge.value.value {
        Value::Mapping(pairs) => Ok(vec![pairs]),
        Value::Sequence(items) => items
            .into_iter()
            .map(|item| match item.value {
                Value::Mapping(pairs) => Ok(pairs),
                Value::Scalar(_) | Value::Sequence(_) => Err(fault(item.at.or(merge.key_at))),
            })
            .collect(),
        Value::Scalar(_) => Err(fault(merge.key_at)),
    }
}
