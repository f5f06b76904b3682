//! What is stored, and every change of it in order: one counter gives each change its version, as etcd does.

use super::resource::Resource;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub type Object = Arc<Value>;

/// Changes that are kept for watches; the oldest half goes when there are more.
const LOG_MAX: usize = 50_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub plural: &'static str,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: &Resource, namespace: &str, name: &str) -> Key {
        let namespace = if resource.namespaced { namespace } else { "" };
        Key { plural: resource.plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub fn of(resource: &Resource, object: &Value) -> Key {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        Key::new(resource, &text("namespace"), &text("name"))
    }
}

/// One step of the history: created (no before), changed, or deleted (no after).
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub plural: &'static str,
    pub before: Option<Object>,
    pub after: Option<Object>,
}

#[derive(Debug)]
pub struct Store {
    version: u64,
    objects: BTreeMap<Key, Object>,
    /// When each was created, for what sees it late.
    born: BTreeMap<Key, Instant>,
    /// How far the caches of authorizer and admission are behind.
    pub lag: Duration,
    log: VecDeque<Change>,
}

impl Store {
    /// A cluster that has lived for a while: its versions do not begin at one.
    pub fn new() -> Store {
        Store {
            version: 200,
            objects: BTreeMap::new(),
            born: BTreeMap::new(),
            lag: Duration::ZERO,
            log: VecDeque::new(),
        }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    /// The newest version whose changes are no longer kept: a watch from before it is told 410.
    pub fn oldest(&self) -> u64 {
        self.log.front().map_or(self.version, |change| change.version - 1)
    }

    pub fn get(&self, key: &Key) -> Option<Object> {
        self.objects.get(key).cloned()
    }

    /// As the Node authorizer and NodeRestriction know it: from caches that learn of new objects a moment later.
    pub fn cached(&self, key: &Key) -> Option<Object> {
        self.get(key)
            .filter(|_| self.lag.is_zero() || self.born.get(key).is_some_and(|born| born.elapsed() >= self.lag))
    }

    /// All of a resource, in the order of namespaces and names; of one namespace where it is given.
    pub fn list(&self, resource: &Resource, namespace: &str) -> Vec<Object> {
        let start = Key::new(resource, namespace, "");
        let ours = self.objects.range(start..).take_while(|(key, _)| key.plural == resource.plural);
        let here = ours.filter(|(key, _)| namespace.is_empty() || !resource.namespaced || key.namespace == namespace);
        here.map(|(_, object)| object.clone()).collect()
    }

    /// Creates or replaces, under the next version.
    pub fn put(&mut self, key: Key, mut object: Value) -> Object {
        self.version += 1;
        set_version(&mut object, self.version);
        let after = Arc::new(object);
        let plural = key.plural;
        self.born.entry(key.clone()).or_insert_with(Instant::now);
        let before = self.objects.insert(key, after.clone());
        self.push(Change { version: self.version, plural, before, after: Some(after.clone()) });
        after
    }

    /// Removes; what was removed, under the version of its removal.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let before = self.objects.remove(key)?;
        self.born.remove(key);
        self.version += 1;
        let mut last = (*before).clone();
        set_version(&mut last, self.version);
        self.push(Change { version: self.version, plural: key.plural, before: Some(before), after: None });
        Some(Arc::new(last))
    }

    fn push(&mut self, change: Change) {
        self.log.push_back(change);
        if self.log.len() > LOG_MAX {
            self.log.drain(..LOG_MAX / 2);
        }
    }

    /// Forgets the history, as a compaction does. Objects stay; the version moves, or a watch could not be too old.
    pub fn compact(&mut self) {
        self.log.clear();
        self.version += 1;
    }

    /// Everything that happened after `version`.
    pub fn after(&self, version: u64) -> impl Iterator<Item = &Change> {
        let skip = self.log.partition_point(|change| change.version <= version);
        self.log.iter().skip(skip)
    }

    /// What happened to a resource after `version`.
    pub fn since(&self, version: u64, resource: &Resource) -> Vec<Change> {
        self.after(version).filter(|change| change.plural == resource.plural).cloned().collect()
    }
}

pub fn set_version(object: &mut Value, version: u64) {
    object["metadata"]["resourceVersion"] = version.to_string().into();
}
