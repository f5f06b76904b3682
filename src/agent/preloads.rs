//! `--preload-images-dir`: archives that are imported without being asked for.
//!
//! Only pods whose image is missing wait for it. What has not changed is not read again, and what cannot be imported
//! is named until it is mended or removed.

use super::outcome::Outcome;
use super::run::Agent;
use super::worker::Lane;
use crate::image::preload::{self, PreloadOutcome};
use crate::model::id::{ContainerName, PodUid};
use crate::model::observed::ImageProblem;
use crate::model::time::Now;
use crate::reconcile::event::Event;
use crate::reconcile::state::NodeState;
use crate::server::wire::Problem;
use crate::sys::watch::Watcher;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What one look at the directory came to.
#[derive(Debug)]
pub struct PreloadReport {
    pub outcomes: Vec<PreloadOutcome>,
}

pub struct Preloads {
    watcher: Watcher,
    busy: bool,
    /// Something changed while the directory was being read.
    again: bool,
    failed: BTreeMap<PathBuf, String>,
    /// Answers that wait for the end of the present reading.
    deferred: Vec<(PodUid, ContainerName, ImageProblem)>,
}

impl Preloads {
    pub fn new(watcher: Watcher) -> Preloads {
        Preloads { watcher, busy: false, again: false, failed: BTreeMap::new(), deferred: Vec::new() }
    }

    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    pub fn drain(&mut self) -> bool {
        self.watcher.drain()
    }

    pub fn busy(&self) -> bool {
        self.busy
    }

    pub fn defer(&mut self, uid: PodUid, container: ContainerName, problem: ImageProblem) {
        self.deferred.push((uid, container, problem));
    }

    /// Whether a rescan should look here too: somebody waits for an image.
    pub fn wanted(&self, core: &NodeState) -> bool {
        core.pods().flat_map(|p| &p.containers).any(|c| c.image_tries > 0)
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.failed.iter().map(|(path, why)| Problem::new(format!("{}: {why}", path.display()))).collect()
    }
}

impl Agent {
    pub(super) fn scan_preloads(&mut self, now: Now) {
        if self.preloads.busy {
            self.preloads.again = true;
            return;
        }
        self.preloads.busy = true;
        let node = Arc::clone(&self.node);
        let mut armer = self.preloads.watcher.armer();
        self.workers.submit(Lane::Images, "preload", now.mono, move || {
            if let Err(error) = armer.arm(&node.paths.preload) {
                log::warn!("cannot watch {}: {error}", node.paths.preload.display());
            }
            let outcomes = preload::scan(&node.paths.preload, &node.store, &node.me);
            Outcome::Preloaded(PreloadReport { outcomes })
        });
    }

    pub(super) fn take_preloads(&mut self, report: PreloadReport, now: Now) {
        self.preloads.busy = false;
        self.preloads.failed.clear();
        let mut gained = false;
        for outcome in report.outcomes {
            // Some images of an archive may have been taken although another one was refused.
            gained |= !outcome.imported.is_empty();
            if let Err(why) = outcome.result {
                self.preloads.failed.insert(outcome.path, why);
            }
        }
        // Whoever asked meanwhile was told nothing: with new images the answer may be another, and is looked up again.
        for (uid, container, problem) in std::mem::take(&mut self.preloads.deferred) {
            if gained {
                self.resolve_image(uid, container, now);
            } else {
                self.facts.push(Event::ImageMissing { uid, container, problem });
            }
        }
        if gained {
            self.facts.push(Event::ImagesChanged);
        }
        if std::mem::take(&mut self.preloads.again) {
            self.scan_preloads(now);
        }
    }
}
