//! A serde deserializer over the tree: the expected type decides what a scalar is.
//!
//! Unknown fields and duplicate keys are noted on the way. A value of a wrong type ends a serde run, so it is noted,
//! taken out, and the run starts again until nothing is wrong any more: one run per wrong value, at most
//! [`WRONG_VALUES_MAX`].

use super::access::{Items, Pairs};
use super::document::Part;
use super::nearest::nearest;
use super::path::Path;
use super::problem::Kind;
use super::scalar;
use super::syntax;
use super::tree::{Node, Pair, ScalarKind, Value, shorten};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

/// Wrong values that are looked for in one document: each costs a run.
const WRONG_VALUES_MAX: usize = 20;

/// A problem whose place is not looked up yet.
#[derive(Debug)]
pub(super) struct Found {
    pub kind: Kind,
    pub path: Path,
    pub part: Part,
    /// The place, where it is known already.
    pub at: Option<usize>,
    pub message: String,
    pub hint: Option<String>,
    /// Of a duplicate key: where the first is.
    pub first_at: Option<usize>,
}

pub(super) fn decode<T: DeserializeOwned>(root: &Node) -> (Option<T>, Vec<Found>) {
    let run = Run::default();
    loop {
        let error = match T::deserialize(Typed { node: root, path: Way::Root, run: &run }) {
            Ok(value) => {
                let clean = run.taken_out.borrow().is_empty();
                return (clean.then_some(value), run.found.into_inner());
            }
            Err(error) => error,
        };
        let Fault { node, path } = error.at.unwrap_or(Fault { node: id(root), path: Path::root() });
        if error.missing.is_some() && run.taken_out.borrow().iter().any(|taken| *taken != node) {
            // It may be missing only because its wrong value was taken out.
            return (None, run.found.into_inner());
        }
        run.found.borrow_mut().push(Found {
            kind: Kind::Type,
            path,
            part: if error.missing.is_some() { Part::Parent } else { Part::Value },
            at: None,
            message: error.message,
            hint: error.hint,
            first_at: None,
        });
        let mut taken_out = run.taken_out.borrow_mut();
        if node == id(root) || !taken_out.insert(node) || taken_out.len() >= WRONG_VALUES_MAX {
            drop(taken_out);
            return (None, run.found.into_inner());
        }
    }
}

/// What the runs over one tree share.
#[derive(Default)]
pub(super) struct Run {
    found: RefCell<Vec<Found>>,
    /// Pairs that were noted, so that a later run does not note them again.
    noted: RefCell<HashSet<usize>>,
    pub taken_out: RefCell<HashSet<usize>>,
}

/// A node or pair is known by its address: the tree does not move while it is decoded.
pub(super) fn id<T>(thing: &T) -> usize {
    std::ptr::from_ref(thing) as usize
}

/// A path on the stack, from the leaf to the root.
#[derive(Clone, Copy)]
pub(super) enum Way<'w> {
    Root,
    Field(&'w Way<'w>, &'w str),
    Key(&'w Way<'w>, &'w str),
    Index(&'w Way<'w>, usize),
}

impl Way<'_> {
    fn path(&self) -> Path {
        match self {
            Way::Root => Path::root(),
            Way::Field(parent, name) => parent.path().field(name),
            Way::Key(parent, name) => parent.path().key(name),
            Way::Index(parent, index) => parent.path().index(*index),
        }
    }
}

#[derive(Debug)]
struct Fault {
    node: usize,
    path: Path,
}

#[derive(Debug)]
pub(super) struct Wrong {
    message: String,
    hint: Option<String>,
    at: Option<Fault>,
    /// The field that the type demands and that is not there.
    missing: Option<&'static str>,
}

impl Wrong {
    pub fn new(message: String) -> Wrong {
        Wrong { message, hint: None, at: None, missing: None }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Wrong {
        Wrong::new(message.to_string())
    }

    fn missing_field(field: &'static str) -> Wrong {
        Wrong { missing: Some(field), ..Wrong::new("Required value".to_owned()) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Typed<'a> {
    pub node: &'a Node,
    pub path: Way<'a>,
    pub run: &'a Run,
}

impl<'a> Typed<'a> {
    /// Blames this node for an error that has no place yet.
    fn here(self, mut error: Wrong) -> Wrong {
        if error.at.is_none() {
            let path = match error.missing {
                Some(field) => self.path.path().field(field),
                None => self.path.path(),
            };
            error.at = Some(Fault { node: id(self.node), path });
        }
        error
    }

    fn expected(self, what: &str) -> Wrong {
        self.here(Wrong::new(format!("expected {what}, found {}", self.node.describe())))
    }

    fn expected_mapping(self) -> Wrong {
        if let Value::Scalar(scalar) = &self.node.value {
            // Two such lines arrive as one text, joined by a blank.
            let first = scalar.text.split_whitespace().next().unwrap_or("");
            if let Some((key, value)) = syntax::key_without_space(first) {
                let problem = syntax::missing_space(key, value);
                return self.here(Wrong { hint: problem.hint, ..Wrong::new(problem.message) });
            }
        }
        self.expected("a mapping")
    }

    fn expected_list(self) -> Wrong {
        let hint = match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Text => {
                Some(format!("write it as a list: {}", as_list(&shorten(&scalar.text))))
            }
            Value::Mapping(pairs) => {
                let dash = pairs.iter().find_map(|pair| syntax::entry_without_space(&pair.key));
                Some(dash.map_or_else(|| "each entry of a list starts with \"- \"".to_owned(), dash_hint))
            }
            Value::Scalar(_) | Value::Sequence(_) => None,
        };
        Wrong { hint, ..self.expected("a list") }
    }

    /// The text of a scalar; nothing is an empty text, as it is for a kubelet.
    fn text(self) -> Result<&'a str, Wrong> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => Ok(""),
            Value::Scalar(scalar) => Ok(&scalar.text),
            Value::Sequence(_) | Value::Mapping(_) => Err(self.expected("a text")),
        }
    }

    fn int(self, min: i128, max: i128) -> Result<i128, Wrong> {
        let value = match &self.node.value {
            Value::Scalar(scalar) => scalar::as_int(&scalar.text).or_else(|| scalar::as_whole_float(&scalar.text)),
            Value::Sequence(_) | Value::Mapping(_) => None,
        };
        let value = value.ok_or_else(|| self.expected("a whole number"))?;
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        Err(self.here(Wrong::new(format!("{value} is out of range ({min} to {max})"))))
    }

    fn pairs(self) -> Result<&'a [Pair], Wrong> {
        match &self.node.value {
            Value::Mapping(pairs) => Ok(pairs),
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => Ok(&[]),
            Value::Scalar(_) | Value::Sequence(_) => Err(self.expected_mapping()),
        }
    }

    fn note(self, kind: Kind, pair: &Pair, path: Path, message: &str, hint: Option<String>, first_at: Option<usize>) {
        if self.run.noted.borrow_mut().insert(id(pair)) {
            let message = message.to_owned();
            let found = Found { kind, path, part: Part::Key, at: pair.key_at, message, hint, first_at };
            self.run.found.borrow_mut().push(found);
        }
    }

    /// The pairs that count: known, not taken out, and of equal keys the last. `fields`: `None` takes every key.
    fn counting_pairs(self, fields: Option<&'static [&'static str]>) -> Result<Vec<&'a Pair>, Wrong> {
        let pairs = self.pairs()?;
        let path_of = |pair: &Pair| match fields {
            Some(_) => Way::Field(&self.path, &pair.key).path(),
            None => Way::Key(&self.path, &pair.key).path(),
        };
        let mut counting: Vec<&Pair> = Vec::with_capacity(pairs.len());
        let mut position: HashMap<&str, usize> = HashMap::with_capacity(pairs.len());
        for pair in pairs {
            if fields.is_some_and(|fields| !fields.contains(&pair.key.as_str())) {
                let known = fields.unwrap_or_default().iter().copied();
                let hint = match syntax::entry_without_space(&pair.key) {
                    Some(key) => Some(dash_hint(key)),
                    None => nearest(&pair.key, known).map(|name| format!("did you mean {name}?")),
                };
                self.note(Kind::UnknownField, pair, path_of(pair), "unknown field", hint, None);
                continue;
            }
            match position.get(pair.key.as_str()) {
                Some(&index) => {
                    let first_at = counting[index].key_at;
                    self.note(Kind::DuplicateKey, pair, path_of(pair), "duplicate key", None, first_at);
                    counting[index] = pair;
                }
                None => {
                    position.insert(&pair.key, counting.len());
                    counting.push(pair);
                }
            }
        }
        let taken_out = self.run.taken_out.borrow();
        counting.retain(|pair| !taken_out.contains(&id(&pair.value)));
        Ok(counting)
    }

    fn mapping<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let pairs = self.counting_pairs(fields)?;
        let mut access = Pairs::new(self, fields.is_some(), &pairs);
        visitor.visit_map(&mut access).map_err(|error| self.here(error))
    }
}

macro_rules! integers {
    ($($method:ident => $visit:ident $type:ty),+ $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let value = self.int(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            let value = <$type>::try_from(value).map_err(|_| self.expected("a whole number"))?;
            visitor.$visit(value).map_err(|error| self.here(error))
        })+
    };
}

impl<'de> Deserializer<'de> for Typed<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let scalar = match &self.node.value {
            Value::Sequence(_) => return self.deserialize_seq(visitor),
            Value::Mapping(_) => return self.deserialize_map(visitor),
            Value::Scalar(scalar) => scalar,
        };
        let text = scalar.text.as_str();
        match scalar.kind {
            ScalarKind::Null => visitor.visit_unit(),
            ScalarKind::Bool => visitor.visit_bool(scalar::as_bool(text).unwrap_or_default()),
            ScalarKind::Int => match scalar::as_int(text).and_then(|value| i64::try_from(value).ok()) {
                Some(value) => visitor.visit_i64(value),
                None => visitor.visit_str(text),
            },
            ScalarKind::Float => match scalar::as_float(text) {
                Some(value) => visitor.visit_f64(value),
                None => visitor.visit_str(text),
            },
            ScalarKind::Text => visitor.visit_str(text),
        }
        .map_err(|error| self.here(error))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let value = match &self.node.value {
            Value::Scalar(scalar) => scalar::as_bool(&scalar.text),
            Value::Sequence(_) | Value::Mapping(_) => None,
        };
        let value = value.ok_or_else(|| self.expected("true or false"))?;
        visitor.visit_bool(value).map_err(|error| self.here(error))
    }

    integers! {
        deserialize_i8 => visit_i8 i8,
        deserialize_i16 => visit_i16 i16,
        deserialize_i32 => visit_i32 i32,
        deserialize_i64 => visit_i64 i64,
        deserialize_u8 => visit_u8 u8,
        deserialize_u16 => visit_u16 u16,
        deserialize_u32 => visit_u32 u32,
        deserialize_u64 => visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let value = self.text().ok().and_then(scalar::as_float).ok_or_else(|| self.expected("a number"))?;
        visitor.visit_f64(value).map_err(|error| self.here(error))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_str(self.text()?).map_err(|error| self.here(error))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let result = if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        result.map_err(|error| self.here(error))
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if !self.node.is_null() {
            return Err(self.expected("nothing"));
        }
        visitor.visit_unit().map_err(|error| self.here(error))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name == "Quantity" {
            // k8s-openapi asks for "any" inside and would make 1.10 of a plain 1.1, and lose 1e3.
            let text = self.text()?;
            let inner: StrDeserializer<'_, Wrong> = text.into_deserializer();
            return visitor.visit_newtype_struct(inner).map_err(|error| self.here(error));
        }
        visitor.visit_newtype_struct(self).map_err(|error| self.here(error))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let items: &[Node] = match &self.node.value {
            Value::Sequence(items) => items,
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => &[],
            Value::Scalar(_) | Value::Mapping(_) => return Err(self.expected_list()),
        };
        let mut access = Items::new(self, items);
        visitor.visit_seq(&mut access).map_err(|error| self.here(error))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.mapping(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.mapping(Some(fields), visitor)
    }

    /// Enums without content only: no type here has others.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let text: StrDeserializer<'_, Wrong> = self.text()?.into_deserializer();
        visitor.visit_enum(text).map_err(|error| self.here(error))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_unit().map_err(|error| self.here(error))
    }
}

fn dash_hint(key: &str) -> String {
    format!("a space is missing after the dash: write \"- {key}\"")
}

/// A command line as the list that it was meant to be; one for a shell stays one for a shell.
fn as_list(text: &str) -> String {
    let quoted =
        |words: &mut dyn Iterator<Item = &str>| words.map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
    let for_a_shell = text.contains(|c: char| "|&;<>()$`\"'*?".contains(c));
    let list = if for_a_shell {
        quoted(&mut ["/bin/sh", "-c", text].into_iter())
    } else {
        quoted(&mut text.split_whitespace())
    };
    format!("[{list}]")
}
