//! Where watches wait. Each room is of one resource, and of one node where the watch is of one: among a thousand nodes a
//! change wakes the one that it is about, as a real server's cache does by its index of node names.

use super::route::Target;
use super::shape::text;
use super::store::Change;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

type Name = (&'static str, String);

#[derive(Default)]
pub struct Rooms {
    rooms: Mutex<BTreeMap<Name, Arc<Condvar>>>,
}

impl Rooms {
    pub fn of(&self, target: &Target) -> Arc<Condvar> {
        let node = target.fields.fixed("spec.nodeName").unwrap_or_default();
        let mut rooms = self.rooms.lock().expect("no holder panics");
        rooms.entry((target.resource.plural, node.to_owned())).or_default().clone()
    }

    pub fn ring_all(&self) {
        self.rooms.lock().expect("no holder panics").values().for_each(|room| room.notify_all());
    }

    /// Wakes whom a change may be about.
    pub fn ring(&self, change: &Change) {
        let rooms = self.rooms.lock().expect("no holder panics");
        let objects = [change.before.as_ref(), change.after.as_ref()];
        let nodes = objects.into_iter().flatten().map(|object| text(object, "/spec/nodeName").to_owned());
        let mut names: Vec<Name> = nodes.chain([String::new()]).map(|node| (change.plural, node)).collect();
        names.dedup();
        names.iter().filter_map(|name| rooms.get(name)).for_each(|room| room.notify_all());
    }
}
