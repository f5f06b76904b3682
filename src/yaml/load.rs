//! The one user of serde_yaml: text -> tree, and the place of a path.
//!
//! Two passes build the tree. The first asks serde_yaml what each value is, the second asks again for every scalar's
//! text: only a scalar that is asked for as text comes as it was written (`1.10`, `0644`). A text that serde_yaml lends
//! straight out of the document also tells its place. JSON that YAML does not take (surrogate pairs, very long keys)
//! goes through serde_json.

use super::path::Segment;
use super::problem::{Kind, Problem};
use super::syntax;
use super::tree::{Node, Pair, Scalar, ScalarKind, Value};
use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use std::cell::RefCell;
use std::fmt;

/// The only document of `text`, and its number among the empty ones that may surround it. An empty text is a null.
pub(super) fn load(text: &str) -> Result<(Node, usize), Problem> {
    let source = Source { text, own_words: RefCell::new(None) };
    match load_yaml(&source) {
        Err(problem) if text.trim_start().starts_with('{') => {
            load_json(&source).map(|node| (node, 0)).map_err(|_| problem)
        }
        loaded => loaded,
    }
}

fn load_yaml(source: &Source<'_>) -> Result<(Node, usize), Problem> {
    let mut found: Option<(Node, usize)> = None;
    for (number, document) in serde_yaml::Deserializer::from_str(source.text).enumerate() {
        let node = Shape { source }.deserialize(document).map_err(|error| problem_of(source, &error))?;
        if node.is_null() {
            continue;
        }
        if found.is_some() {
            return Err(second_document(source.text, number));
        }
        found = Some((node, number));
    }
    let Some((mut node, number)) = found else { return Ok((Node::null(), 0)) };
    if let Some(document) = serde_yaml::Deserializer::from_str(source.text).nth(number) {
        Texts { source, node: &mut node }.deserialize(document).map_err(|error| problem_of(source, &error))?;
    }
    Ok((node, number))
}

fn load_json(source: &Source<'_>) -> Result<Node, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(source.text);
    let node = Shape { source }.deserialize(&mut json)?;
    json.end()?;
    Ok(node)
}

/// The document's text, and the words of a fault that is ours rather than serde_yaml's.
struct Source<'t> {
    text: &'t str,
    own_words: RefCell<Option<String>>,
}

impl Source<'_> {
    /// Where `part`, which was lent out of the text, starts: at its quote, if it has one.
    fn offset(&self, part: &str) -> Option<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        if offset + part.len() > self.text.len() {
            return None;
        }
        let quoted = offset > 0 && matches!(self.text.as_bytes()[offset - 1], b'"' | b'\'');
        Some(if quoted { offset - 1 } else { offset })
    }

    fn refuse<E: de::Error>(&self, words: String) -> E {
        let error = E::custom(&words);
        *self.own_words.borrow_mut() = Some(words);
        error
    }
}

fn problem_of(source: &Source<'_>, error: &serde_yaml::Error) -> Problem {
    let display = error.to_string();
    let (line, column) = location(error).unwrap_or((1, 1));
    match source.own_words.borrow_mut().take() {
        Some(words) => {
            let path = display.split_once(words.as_str()).map_or("", |(before, _)| before.trim_end_matches(": "));
            Problem { kind: Kind::Syntax, line, column, path: path.to_owned(), message: words, hint: None }
        }
        None => syntax::explain(source.text, &display, line, column),
    }
}

fn second_document(text: &str, number: usize) -> Problem {
    let error = serde_yaml::Deserializer::from_str(text).nth(number).map(|document| document.deserialize_any(Fail));
    let (line, column) = match error {
        Some(Err(error)) => location(&error).unwrap_or((1, 1)),
        Some(Ok(never)) => match never {},
        None => (1, 1),
    };
    Problem {
        kind: Kind::Syntax,
        line,
        column,
        path: String::new(),
        message: "a second document in one file".to_owned(),
        hint: Some("put it into a file of its own".to_owned()),
    }
}

fn location(error: &serde_yaml::Error) -> Option<(u32, u32)> {
    let place = error.location()?;
    Some((u32::try_from(place.line()).ok()?, u32::try_from(place.column()).ok()?))
}

/// First pass: what every value is.
#[derive(Clone, Copy)]
struct Shape<'s, 't> {
    source: &'s Source<'t>,
}

impl Shape<'_, '_> {
    fn scalar(self, kind: ScalarKind, text: String) -> Node {
        Node { value: Value::Scalar(Scalar { kind, text }), at: None }
    }
}

impl<'de> DeserializeSeed<'de> for Shape<'_, '_> {
    type Value = Node;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shape<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::null())
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::null())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Bool, value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Int, value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Int, value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Int, value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Int, value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Float, value.to_string()))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Node, E> {
        let at = self.source.offset(value);
        Ok(Node { at, ..self.scalar(ScalarKind::Text, value.to_owned()) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(self.scalar(ScalarKind::Text, value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node { value: Value::Sequence(items), at: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, key_at)) = access.next_key_seed(Key { source: self.source })? {
            pairs.push(Pair { key, key_at, value: access.next_value_seed(self)? });
        }
        Ok(Node { value: Value::Mapping(pairs), at: None })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
        let (tag, _) = access.variant::<String>()?;
        Err(self.source.refuse(format!("the tag !{} is not supported", tag.trim_start_matches('!'))))
    }
}

/// A mapping's key: its text, whatever it would be elsewhere.
struct Key<'s, 't> {
    source: &'s Source<'t>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = (String, Option<usize>);
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = (String, Option<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as the key of a mapping")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok((value.to_owned(), self.source.offset(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok((value.to_owned(), None))
    }
}

/// Second pass: the text and the place of every scalar.
struct Texts<'s, 't, 'n> {
    source: &'s Source<'t>,
    node: &'n mut Node,
}

impl<'de> DeserializeSeed<'de> for Texts<'_, '_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match &self.node.value {
            Value::Scalar(_) => deserializer.deserialize_str(self),
            Value::Sequence(_) => deserializer.deserialize_seq(self),
            Value::Mapping(_) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Texts<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the same value as before")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<(), E> {
        self.node.at = self.source.offset(value);
        if let Value::Scalar(scalar) = &mut self.node.value {
            value.clone_into(&mut scalar.text);
        }
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if let Value::Scalar(scalar) = &mut self.node.value {
            value.clone_into(&mut scalar.text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        if let Value::Sequence(items) = &mut self.node.value {
            for node in items {
                access.next_element_seed(Texts { source: self.source, node })?;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        if let Value::Mapping(pairs) = &mut self.node.value {
            for pair in pairs {
                access.next_key::<de::IgnoredAny>()?;
                access.next_value_seed(Texts { source: self.source, node: &mut pair.value })?;
            }
        }
        Ok(())
    }
}

/// Line and column of the value at `path` in document `number`, or of its key: walks there and fails on purpose,
/// because serde_yaml tells the place of an error and of nothing else.
pub(super) fn walk(text: &str, number: usize, path: &[Segment], key: bool) -> Option<(u32, u32)> {
    let document = serde_yaml::Deserializer::from_str(text).nth(number)?;
    let error = Walk { path, key }.deserialize(document).err()?;
    location(&error)
}

struct Walk<'p> {
    path: &'p [Segment],
    key: bool,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path.first() {
            None => deserializer.deserialize_any(Fail).map(|never| match never {}),
            Some(Segment::Index(_)) => deserializer.deserialize_seq(self),
            Some(Segment::Field(_) | Segment::Key(_)) => deserializer.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value on the way")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((Segment::Index(wanted), rest)) = self.path.split_first() else { return Ok(()) };
        for _ in 0..*wanted {
            access.next_element::<de::IgnoredAny>()?;
        }
        access.next_element_seed(Walk { path: rest, key: self.key })?;
        while access.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        let Some((Segment::Field(name) | Segment::Key(name), rest)) = self.path.split_first() else { return Ok(()) };
        let fail_at = (self.key && rest.is_empty()).then_some(name.as_str());
        while let Some(key) = access.next_key_seed(WalkKey { fail_at })? {
            if key == *name {
                access.next_value_seed(Walk { path: rest, key: self.key })?;
            } else {
                access.next_value::<de::IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct WalkKey<'p> {
    fail_at: Option<&'p str>,
}

impl<'de> DeserializeSeed<'de> for WalkKey<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for WalkKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<String, E> {
        if self.fail_at == Some(value) { Err(E::custom("here")) } else { Ok(value.to_owned()) }
    }
}

/// Fails at whatever value it is given.
struct Fail;

enum Never {}

impl Visitor<'_> for Fail {
    type Value = Never;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}
