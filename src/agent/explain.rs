//! Why a pod is as it is: the manifest's state, the core's reasons, the stages it passed, and what hangs.

use super::cluster::ClusterLink;
use super::paths::lexically_absolute;
use super::run::Agent;
use super::worker::Lane;
use crate::model::id::PodKey;
use crate::model::observed::ImageProblem;
use crate::model::pod::StaticPod;
use crate::model::time::{Now, Wall};
use crate::reconcile::container::{ContainerState, TroubleKind};
use crate::reconcile::state::{NodeState, PodState, Waiting};
use crate::reconcile::status;
use crate::reconcile::timeline;
use crate::server::query::{Answer, ExplainTarget};
use crate::server::wire::{ExplainReport, ManifestReport, ManifestState, ManifestsReport, Problem, Stage};
use k8s_openapi::api::core::v1 as core_v1;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A job that takes longer is named: what it does takes milliseconds.
const SLOW_JOB: Duration = Duration::from_secs(2);

impl Agent {
    pub(super) fn manifests_report(&self, now: Now) -> ManifestsReport {
        ManifestsReport { manifests: self.manifests.reports(), notes: self.notes(now) }
    }

    pub(super) fn explain(&self, target: &ExplainTarget, now: Now) -> Answer {
        let found = match target {
            ExplainTarget::Path(path) => self
                .report_of_file(&lexically_absolute(path, Path::new("/")))
                .ok_or_else(|| (404, format!("manifest {:?} not found", path.display()))),
            ExplainTarget::Name { name, namespace } => match self.report_of_name(name) {
                Some(report) => Ok(report),
                None => self.report_of_pod(name, namespace.as_deref()),
            },
        };
        match found {
            Ok(manifest) => Answer::Explain(Box::new(self.explain_manifest(manifest, now))),
            Err((status, message)) => Answer::Refused { status, message },
        }
    }

    fn report_of_file(&self, path: &Path) -> Option<ManifestReport> {
        self.manifests.reports().into_iter().find(|r| r.file == path)
    }

    /// By its name in the manifest directory, or of the one file that is watched.
    fn report_of_name(&self, name: &str) -> Option<ManifestReport> {
        self.manifests.reports().into_iter().find(|r| r.file.file_name().is_some_and(|file| file == name))
    }

    /// By full name, else by manifest name; also a pod that is on its way out and has no file any more. Else the status
    /// and the text of the answer.
    fn report_of_pod(&self, name: &str, namespace: Option<&str>) -> Result<ManifestReport, (u16, String)> {
        let fits = |key: &PodKey, manifest_name: &str| {
            (key.name == name || manifest_name == name) && namespace.is_none_or(|ns| ns == key.namespace)
        };
        let known = self.core.pods().map(|p| &p.pod);
        let waiting: Vec<Waiting> = self.core.waiting().collect();
        let all = known.chain(waiting.iter().map(|w| &w.wanted.pod));
        let mut fitting: Vec<_> = all.filter(|p| fits(&p.key, &p.manifest_name)).collect();
        fitting.sort_by(|a, b| (a.key.name != name, &a.key).cmp(&(b.key.name != name, &b.key)));
        let Some(pod) = fitting.first() else { return Err((404, format!("pods {name:?} not found"))) };
        let also = |p: &&&Arc<StaticPod>| p.key != pod.key && (p.key.name == name) == (pod.key.name == name);
        if let Some(other) = fitting.iter().find(also) {
            let place = |p: &StaticPod| format!("{} ({})", p.key, p.source.display());
            let text = format!("pods {name:?} is ambiguous: {}, {}; name the file", place(pod), place(other));
            return Err((409, text));
        }
        Ok(self.report_of_file(&pod.source).unwrap_or_else(|| ManifestReport {
            file: pod.source.clone(),
            state: ManifestState::Accepted,
            pod: Some(pod.key.to_string()),
            problems: vec![Problem::new("the file is gone; its pod is being removed")],
            more: 0,
            last_good_runs: false,
        }))
    }

    fn explain_manifest(&self, manifest: ManifestReport, now: Now) -> ExplainReport {
        let mut reasons: Vec<Problem> = last_good(&manifest).into_iter().collect();
        let mut stages = Vec::new();
        let mut ok = false;
        let state = manifest.pod.as_deref().and_then(|key| self.pod_named(key));
        // A rejected file may name the pod of another file: what that one does says nothing of this one.
        let own = |pod: &&PodState| manifest.state == ManifestState::Accepted || pod.pod.source == manifest.file;
        if let Some(pod) = state.filter(own) {
            let is_ready = is_ready(pod, &self.core, now);
            ok = manifest.state == ManifestState::Accepted && is_ready && !pod.is_terminating();
            reasons.extend(status::reasons(pod, &self.core, now).into_iter().map(|text| self.with_hint(text, pod)));
            reasons.extend(self.mirror_problem(&pod.pod.key));
            stages = pod.timeline.stages().iter().map(stage).collect();
            for lane in [Lane::Pod, Lane::PodImages] {
                reasons.extend(self.slow_job(&lane(pod.pod.uid.clone()), now));
            }
        }
        for waiting in self.core.waiting() {
            if manifest.pod.as_deref() == Some(&waiting.wanted.pod.key.to_string()) {
                reasons.push(Problem::new(status::waiting_reason(&waiting.why)));
            }
        }
        if !ok {
            // The node's note says it with the marker's path, and what to do.
            reasons.retain(|reason| reason.text != status::STOPPED_MESSAGE);
            reasons.extend(self.notes(now));
        }
        ExplainReport { manifest, ok, reasons, stages }
    }

    /// The kubelet's words for an image that may not be pulled do not say how it comes in, and stay as they are.
    fn with_hint(&self, text: String, pod: &PodState) -> Problem {
        let lacks_image = |c: &ContainerState| {
            let kind = c.trouble.as_ref().map(|trouble| &trouble.kind);
            matches!(kind, Some(TroubleKind::Image(ImageProblem::ErrImageNeverPull { .. })))
                && text.starts_with(&format!("container {}: ErrImageNeverPull", c.name))
        };
        let preload = self.node.paths.preload.display();
        let hint = pod
            .containers
            .iter()
            .any(lacks_image)
            .then(|| format!("import an archive of it (pinlet import FILE) or put one into {preload}"));
        Problem { text, hint }
    }

    /// The pod runs all the same.
    fn mirror_problem(&self, key: &PodKey) -> Option<Problem> {
        let message = self.cluster.as_ref()?.core.problem_of(key)?;
        Some(Problem::new(format!("its mirror pod is refused, and tried again: {message}")))
    }

    fn pod_named(&self, key: &str) -> Option<&PodState> {
        let (namespace, name) = key.split_once('/')?;
        self.core.pod_by_key(&PodKey { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// What concerns the whole node.
    fn notes(&self, now: Now) -> Vec<Problem> {
        let mut notes = Vec::new();
        if self.core.stop_marker() {
            let path = self.node.paths.stop_marker();
            notes.push(Problem {
                text: format!("stop-pods was called: nothing is started while {} is there", path.display()),
                hint: Some("restart the agent, or boot".to_owned()),
            });
        }
        notes.extend(self.left_alone.pods.iter().map(|(uid, why)| Problem {
            text: format!("pod {uid} goes on untouched: {why}"),
            hint: Some("run the newer version again".to_owned()),
        }));
        notes.extend(self.preloads.problems());
        notes.extend(self.cluster.iter().flat_map(ClusterLink::problems));
        for lane in [Lane::Manifests, Lane::Images, Lane::Node, Lane::NodeFiles, Lane::Network, Lane::Queries] {
            notes.extend(self.slow_job(&lane, now));
        }
        notes
    }

    fn slow_job(&self, lane: &Lane, now: Now) -> Option<Problem> {
        let job = self.workers.underway(lane)?;
        let for_long = now.mono.since(job.since);
        (for_long >= SLOW_JOB && *lane != Lane::Images).then(|| Problem {
            text: format!("the step {:?} has been under way for {} s", job.name, for_long.as_secs()),
            hint: Some("a file system that it uses may hang: see `dmesg` and `cat /proc/mounts`".to_owned()),
        })
    }
}

/// What the log said when the file went bad.
fn last_good(manifest: &ManifestReport) -> Option<Problem> {
    let pod = manifest.pod.as_deref().filter(|_| manifest.last_good_runs)?;
    let hint = "mend the file to replace that pod, or remove it to stop the pod".to_owned();
    Some(Problem {
        text: format!("its last good version goes on as pod {pod}"),
        hint: (manifest.state == ManifestState::Rejected).then_some(hint),
    })
}

fn is_ready(pod: &PodState, core: &NodeState, now: Now) -> bool {
    let conditions = status::pod_status(pod, core, now).conditions.unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

fn stage(stage: &timeline::Stage) -> Stage {
    let name = match &stage.container {
        Some(container) => format!("{} {container}", stage.name.as_str()),
        None => stage.name.as_str().to_owned(),
    };
    let took = u64::try_from(stage.took.as_micros()).unwrap_or(u64::MAX);
    Stage { name, at: Wall::rfc3339_nanos(stage.at.wall), took_micros: (took > 0).then_some(took) }
}

/// Pods that should run and have no place yet: shown as Pending, unless the one that they replace is shown.
pub(super) fn waiting_pods(core: &NodeState) -> Vec<core_v1::Pod> {
    core.waiting()
        .filter(|w| core.pod_by_key(&w.wanted.pod.key).is_none())
        .map(|w| {
            let mut object = w.wanted.pod.object.clone();
            object.metadata.creation_timestamp = Some(w.wanted.since.wall.to_time());
            object.status = Some(core_v1::PodStatus { phase: Some("Pending".to_owned()), ..Default::default() });
            object
        })
        .collect()
}
