//! What controllers do where a Node is gone: the garbage collector deletes what it owned, politely; the pod collector
//! ends pods of nodes that do not exist, by force. A bare API server does neither.

use super::deletion::{self, Options};
use super::resource::{ALL, LEASES, NAMESPACES, NODES, PODS, Resource};
use super::shape::{items, text};
use super::store::{Key, Store};

/// Deletes what has Nodes as owners of which none is left, with the grace that each pod asks for; how many.
pub fn collect(store: &mut Store) -> usize {
    let nodes = store.list(&NODES, "");
    let lives = |uid: &str| nodes.iter().any(|node| text(node, "/metadata/uid") == uid);
    let mut count = 0;
    for resource in [&PODS, &LEASES] as [&Resource; 2] {
        for object in store.list(resource, "") {
            let owners = items(&object["metadata"], "ownerReferences");
            let by_nodes = !owners.is_empty() && owners.iter().all(|owner| owner["kind"] == "Node");
            if by_nodes && owners.iter().all(|owner| !lives(text(owner, "/uid"))) {
                let done = deletion::delete(store, resource, &Key::of(resource, &object), &Options::default());
                count += usize::from(done.is_ok());
            }
        }
    }
    count
}

/// Deletes, with a grace of nothing, pods that are bound to a node that does not exist; how many.
pub fn collect_unbound(store: &mut Store) -> usize {
    let now = Options { grace: Some(0), ..Options::default() };
    let mut count = 0;
    for pod in store.list(&PODS, "") {
        let node = text(&pod, "/spec/nodeName");
        if !node.is_empty() && store.get(&Key::new(&NODES, "", node)).is_none() {
            count += usize::from(deletion::delete(store, &PODS, &Key::of(&PODS, &pod), &now).is_ok());
        }
    }
    count
}

/// Deletes what is in namespaces that are terminating, with grace, and those of them that are empty; how many went.
pub fn collect_namespaces(store: &mut Store) -> usize {
    let mut count = 0;
    for namespace in store.list(&NAMESPACES, "") {
        if text(&namespace, "/status/phase") != "Terminating" {
            continue;
        }
        let name = text(&namespace, "/metadata/name");
        let mut left = 0;
        for resource in ALL.into_iter().filter(|resource| resource.namespaced) {
            for object in store.list(resource, name) {
                let done = deletion::delete(store, resource, &Key::of(resource, &object), &Options::default());
                left += usize::from(done.is_ok_and(|outcome| !outcome.gone));
            }
        }
        count += usize::from(left == 0 && store.remove(&Key::of(&NAMESPACES, &namespace)).is_some());
    }
    count
}
