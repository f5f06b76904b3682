//! The local store as the core sees it: an image is there, or what is shown instead.
//!
//! Pulling from registries is a later stage: until then every pull policy uses the local copy.

use super::node::Node;
use super::outcome::Outcome;
use super::run::Agent;
use crate::error::chain;
use crate::image::reference::Reference;
use crate::model::id::{ContainerName, PodUid};
use crate::model::observed::ImageProblem;
use crate::model::pod::{Container, PullPolicy, StaticPod};
use crate::reconcile::event::Event;
use crate::server::query::Answer;
use crate::server::wire::ImageEntry;

/// Worker: looks the container's image up.
pub fn resolve(node: &Node, pod: &StaticPod, container: &ContainerName) -> Outcome {
    let (uid, name) = (pod.uid.clone(), container.clone());
    let Some(container) = pod.container(container) else { return Outcome::Nothing };
    let problem = match Reference::parse(&container.image) {
        Err(error) => ImageProblem::InvalidImageName { message: error.status_message() },
        Ok(_) => match node.store.find(&container.image) {
            Ok(Some(image)) => {
                return Outcome::Facts(vec![Event::ImageFound { uid, container: name, image: Box::new(image) }]);
            }
            Ok(None) => missing(node, container),
            Err(error) => ImageProblem::ErrImagePull { message: chain(&error) },
        },
    };
    Outcome::ImageMissing { uid, container: name, problem }
}

fn missing(node: &Node, container: &Container) -> ImageProblem {
    let image = &container.image;
    match container.pull_policy {
        PullPolicy::Never => ImageProblem::ErrImageNeverPull {
            message: format!("Container image {image:?} is not present with pull policy of Never"),
        },
        PullPolicy::Always | PullPolicy::IfNotPresent => ImageProblem::ErrImagePull {
            message: format!(
                "image {image:?} is not in the local store, and pulling from registries is not built yet: \
                 import an archive of it (pinlet import FILE) or put one into {}",
                node.paths.preload.display()
            ),
        },
    }
}

/// Worker: what the store holds.
pub fn list(node: &Node) -> Answer {
    match node.store.list() {
        Ok(images) => Answer::Images(
            images
                .into_iter()
                .map(|image| ImageEntry {
                    names: image.names,
                    id: image.config_digest,
                    digest: image.digest,
                    size_bytes: image.size,
                    pinned: image.pinned,
                })
                .collect(),
        ),
        Err(error) => Answer::Refused { status: 500, message: chain(&error) },
    }
}

impl Agent {
    /// While archives are being read, a missing image is not yet known to be missing.
    pub(super) fn image_missing(&mut self, uid: PodUid, container: ContainerName, problem: ImageProblem) {
        match problem {
            ImageProblem::ErrImagePull { .. } | ImageProblem::ErrImageNeverPull { .. } if self.preloads.busy() => {
                self.preloads.defer(uid, container, problem);
            }
            ImageProblem::ErrImagePull { .. }
            | ImageProblem::ErrImageNeverPull { .. }
            | ImageProblem::InvalidImageName { .. } => self.facts.push(Event::ImageMissing { uid, container, problem }),
        }
    }
}
