//! What a serde visitor is handed of a mapping or a list: one child after the other, each with its way from the root.

use super::tree::{Node, Pair};
use super::typed::{Typed, Way, Wrong, id};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess};

/// The pairs of a mapping that count.
pub(super) struct Pairs<'a, 'p> {
    of: Typed<'a>,
    /// Whether the keys are a type's fields or the user's.
    fields: bool,
    rest: std::slice::Iter<'p, &'a Pair>,
    value: Option<&'a Pair>,
}

impl<'a, 'p> Pairs<'a, 'p> {
    pub fn new(of: Typed<'a>, fields: bool, pairs: &'p [&'a Pair]) -> Pairs<'a, 'p> {
        Pairs { of, fields, rest: pairs.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Pairs<'_, '_> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        let Some(pair) = self.rest.next() else { return Ok(None) };
        self.value = Some(pair);
        let key: StrDeserializer<'_, Wrong> = pair.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let pair = self.value.take().ok_or_else(|| Wrong::new("a value without its key".to_owned()))?;
        let parent = &self.of.path;
        let path = if self.fields { Way::Field(parent, &pair.key) } else { Way::Key(parent, &pair.key) };
        seed.deserialize(Typed { node: &pair.value, path, run: self.of.run })
    }
}

/// The items of a list that are not taken out.
pub(super) struct Items<'a> {
    of: Typed<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'a> Items<'a> {
    pub fn new(of: Typed<'a>, items: &'a [Node]) -> Items<'a> {
        Items { of, rest: items.iter().enumerate() }
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        for (index, node) in self.rest.by_ref() {
            if self.of.run.taken_out.borrow().contains(&id(node)) {
                continue;
            }
            return seed
                .deserialize(Typed { node, path: Way::Index(&self.of.path, index), run: self.of.run })
                .map(Some);
        }
        Ok(None)
    }
}
