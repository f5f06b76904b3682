//! Who gets which name and UID. Pure, and the same for the same table: nothing depends on who came to be decoded first.
//!
//! What a file holds already stays its own; among the rest the first in byte order wins. A file that changes its
//! pod's name gives the old name up, unless it does not get the new one: then its last good version goes on under the
//! old. So names may even be exchanged between two files in one scan.

use super::{DELETION_QUIET, File, ManifestPath, Refusal, TOGETHER_MAX, Verdict, display};
use crate::model::id::{PodKey, PodUid};
use crate::model::pod::StaticPod;
use crate::model::time::Mono;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// For every file with a valid pod that does not run yet: `None` if it gets its name, else why not.
pub(super) fn decide(
    files: &BTreeMap<ManifestPath, File>,
    directory_there: bool,
    now: Mono,
) -> BTreeMap<ManifestPath, Option<Refusal>> {
    let mut holding: BTreeSet<&ManifestPath> =
        files.iter().filter(|(_, file)| file.active.is_some() && !wants(file)).map(|(path, _)| path).collect();
    let mut candidates: Vec<(&ManifestPath, &File, &StaticPod)> =
        files.iter().filter_map(|(path, file)| Some((path, file, candidate(file)?))).collect();
    // Stable: within each class the order of the paths.
    candidates.sort_by_key(|(_, file, pod)| !keeps_its_name(file, pod));
    if candidates.is_empty() {
        return BTreeMap::new();
    }
    loop {
        let mut owned = Owned::default();
        for &path in &holding {
            if let Some(active) = files.get(path).and_then(|file| file.active.as_ref()) {
                owned.take(path, &active.pod);
            }
        }
        let mut decisions = BTreeMap::new();
        let mut fallen_back = false;
        for &(path, file, pod) in &candidates {
            if holding.contains(path) {
                continue;
            }
            let decision = refusal(files, &owned, path, file, pod, directory_there, now);
            if decision.is_none() {
                owned.take(path, pod);
            } else if file.active.is_some() {
                fallen_back |= holding.insert(path);
            }
            decisions.insert(path.clone(), decision);
        }
        if fallen_back {
            // It holds its old name after all: what was given away meanwhile is decided anew.
            continue;
        }
        // Files that fell back in an earlier round are told against the final owners.
        for &(path, file, pod) in candidates.iter().filter(|(path, ..)| holding.contains(path)) {
            let decision = refusal(files, &owned, path, file, pod, directory_there, now);
            let other = || Refusal::Taken(format!("pod {} is being exchanged with another file", pod.key));
            decisions.insert(path.clone(), Some(decision.unwrap_or_else(other)));
        }
        return decisions;
    }
}

#[derive(Default)]
struct Owned<'f> {
    keys: HashMap<&'f PodKey, &'f ManifestPath>,
    uids: HashMap<&'f PodUid, &'f ManifestPath>,
}

impl<'f> Owned<'f> {
    fn take(&mut self, path: &'f ManifestPath, pod: &'f StaticPod) {
        self.keys.insert(&pod.key, path);
        self.uids.insert(&pod.uid, path);
    }
}

/// The latest version, if it is valid and there, and not what runs already.
fn candidate(file: &File) -> Option<&StaticPod> {
    match &file.verdict {
        Verdict::Good { kept, refusal, .. } if file.missing_since.is_none() => {
            let runs = refusal.is_none() && file.active.as_ref().is_some_and(|active| active.pod == kept.pod);
            (!runs).then_some(&kept.pod)
        }
        _ => None,
    }
}

fn wants(file: &File) -> bool {
    candidate(file).is_some()
}

fn keeps_its_name(file: &File, pod: &StaticPod) -> bool {
    file.active.as_ref().is_some_and(|active| active.pod.key == pod.key)
}

fn refusal(
    files: &BTreeMap<ManifestPath, File>,
    owned: &Owned<'_>,
    path: &ManifestPath,
    file: &File,
    pod: &StaticPod,
    directory_there: bool,
    now: Mono,
) -> Option<Refusal> {
    let by_key = owned.keys.get(&pod.key).filter(|owner| **owner != path);
    let by_uid = owned.uids.get(&pod.uid).filter(|owner| **owner != path);
    if let Some(owner) = by_key.or(by_uid) {
        let what = match by_key {
            Some(_) => format!("pod {}", pod.key),
            None => format!("uid {}", pod.uid),
        };
        let going = files.get(*owner).and_then(|owner| owner.missing_since);
        let soon = directory_there && going.is_some_and(|since| now.since(since) < DELETION_QUIET);
        let (owner, path) = (display(owner), display(path));
        return Some(if soon {
            Refusal::Waits { reason: format!("{what} still belongs to {owner}, which is away"), until: None }
        } else {
            Refusal::Taken(format!("{what} belongs to {owner}, so {path} cannot have it"))
        });
    }
    if file.active.is_some() || now.since(file.first_seen) >= TOGETHER_MAX {
        return None;
    }
    let mut before = files.iter().take_while(|(other, _)| *other < path);
    let first = before.find(|(_, other)| {
        let together = other.first_scan == file.first_scan && other.active.is_none();
        together && matches!(other.verdict, Verdict::Decoding { .. })
    });
    first.map(|(other, _)| Refusal::Waits {
        reason: format!("waiting for {}, which came with it", display(other)),
        until: Some(file.first_seen + TOGETHER_MAX),
    })
}
