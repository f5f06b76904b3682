//! When a pod passed which stage, and how long each took: what `explain` shows. Bounded, and only for people:
//! nothing is decided by it.

use crate::model::id::ContainerName;
use crate::model::time::Now;
use std::time::Duration;

/// The first entries tell how the pod came up, so they are never dropped.
const KEPT_FIRST: usize = 16;
/// Of what came later, the newest.
const KEPT_LAST: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub name: StageName,
    /// `None` for stages of the pod as a whole.
    pub container: Option<ContainerName>,
    pub at: Now,
    /// From the moment it was asked for; zero for what merely happened.
    pub took: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    Accepted,
    Adopted,
    Prepared,
    Sandbox,
    Image,
    Started,
    StartFailed,
    Exited,
    Stopping,
    Stopped,
    Finished,
}

impl StageName {
    pub fn as_str(self) -> &'static str {
        match self {
            StageName::Accepted => "accepted",
            StageName::Adopted => "adopted",
            StageName::Prepared => "prepared",
            StageName::Sandbox => "sandbox",
            StageName::Image => "image",
            StageName::Started => "started",
            StageName::StartFailed => "failed to start",
            StageName::Exited => "exited",
            StageName::Stopping => "stopping",
            StageName::Stopped => "stopped",
            StageName::Finished => "finished",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    stages: Vec<Stage>,
}

impl Timeline {
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    pub(super) fn mark(&mut self, name: StageName, container: Option<&ContainerName>, at: Now, took: Duration) {
        if self.stages.len() == KEPT_FIRST + KEPT_LAST {
            self.stages.remove(KEPT_FIRST);
        }
        self.stages.push(Stage { name, container: container.cloned(), at, took });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{Mono, Wall};

    #[test]
    fn a_long_life_keeps_the_first_stages_and_the_newest() {
        let mut line = Timeline::default();
        for n in 0..1000 {
            let at = Now { mono: Mono(n), wall: Wall(0) };
            line.mark(StageName::Exited, None, at, Duration::ZERO);
        }
        let kept: Vec<u64> = line.stages().iter().map(|s| s.at.mono.0).collect();
        assert_eq!(kept.len(), KEPT_FIRST + KEPT_LAST);
        assert_eq!(kept[..3], [0, 1, 2]);
        assert_eq!(kept[kept.len() - 2..], [998, 999]);
    }
}
