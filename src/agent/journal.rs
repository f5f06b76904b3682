//! One log line per state transition, in the words of Kubernetes' events: what an admin greps for.

use crate::model::id::PodUid;
use crate::model::observed::ImageProblem;
use crate::reconcile::event::Event;
use crate::reconcile::state::NodeState;
use log::Level;

/// What the log says of `event`, before it is applied; nothing for what is only progress.
pub fn line(event: &Event, core: &NodeState) -> Option<(Level, String)> {
    let pod = |uid: &PodUid| match core.pod(uid) {
        Some(state) => state.pod.key.to_string(),
        None => format!("pod {uid}"),
    };
    let (level, text) = match event {
        Event::PrepareFailed { uid, message } => (Level::Error, format!("{}: not prepared: {message}", pod(uid))),
        Event::SandboxFailed { uid, message } => {
            (Level::Error, format!("{}: Failed to create pod sandbox: {message}", pod(uid)))
        }
        Event::SandboxReady { uid, ip: Some(ip) } => (Level::Info, format!("{}: its address is {ip}", pod(uid))),
        Event::ImageMissing { uid, container, problem } => {
            let text = match problem {
                ImageProblem::ErrImageNeverPull { message } => format!("ErrImageNeverPull: {message}"),
                ImageProblem::ErrImagePull { message } => format!("ErrImagePull: {message}"),
                ImageProblem::InvalidImageName { message } => format!("InvalidImageName: {message}"),
            };
            (Level::Warn, format!("{} container {container}: {text}", pod(uid)))
        }
        Event::Started { uid, container, running } => {
            (Level::Info, format!("{} container {container}: started, pid {}", pod(uid), running.init.pid.0))
        }
        Event::StartFailed { uid, container, failure, .. } => {
            let text = format!("{} container {container}: {}: {}", pod(uid), failure.reason.as_str(), failure.message);
            (Level::Error, text)
        }
        Event::Exited { uid, container, termination } => {
            let (code, reason) = (termination.status.code(), termination.reason.as_str());
            (Level::Info, format!("{} container {container}: exited with code {code} ({reason})", pod(uid)))
        }
        Event::Lost { uid, container, .. } => {
            (Level::Warn, format!("{} container {container}: its monitor is gone; what was left is killed", pod(uid)))
        }
        Event::SandboxStopFailed { uid, message } | Event::RemoveFailed { uid, message } => {
            (Level::Error, format!("{}: not taken away: {message}", pod(uid)))
        }
        Event::SandboxLost { uid } => {
            (Level::Warn, format!("{}: Pod sandbox changed, it will be killed and re-created.", pod(uid)))
        }
        Event::SandboxStopped { uid } => (Level::Info, format!("{}: stopped", pod(uid))),
        Event::Removed { uid } => (Level::Info, format!("{}: removed", pod(uid))),
        Event::Desired(_)
        | Event::Adopted(_)
        | Event::StopMarker(_)
        | Event::NodeAddress(_)
        | Event::Prepared { .. }
        | Event::SandboxReady { ip: None, .. }
        | Event::ImageFound { .. }
        | Event::ImagesChanged => return None,
    };
    Some((level, text))
}
