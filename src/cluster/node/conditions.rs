//! The Node's conditions, in the kubelet's order and words.

use crate::model::time::Wall;
use k8s_openapi::api::core::v1::NodeCondition;

/// What the node is short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// Whether the node can run pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// Why not, for people.
    NotReady {
        message: String,
    },
}

/// What a condition says now; when it began is a matter of what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said<'a> {
    pub type_: &'static str,
    pub status: bool,
    reason: &'static str,
    message: &'a str,
    /// The reason of the event that tells of a change.
    pub event: &'static str,
}

/// All four, in the order in which the kubelet lists them.
pub fn said(pressures: Pressures, readiness: &Readiness) -> [Said<'_>; 4] {
    [memory(pressures.memory), disk(pressures.disk), pids(pressures.pids), ready(readiness)]
}

fn memory(status: bool) -> Said<'static> {
    let (reason, message, event) = if status {
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available", "NodeHasInsufficientMemory")
    } else {
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available", "NodeHasSufficientMemory")
    };
    Said { type_: "MemoryPressure", status, reason, message, event }
}

fn disk(status: bool) -> Said<'static> {
    let (reason, message, event) = if status {
        ("KubeletHasDiskPressure", "kubelet has disk pressure", "NodeHasDiskPressure")
    } else {
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasNoDiskPressure")
    };
    Said { type_: "DiskPressure", status, reason, message, event }
}

fn pids(status: bool) -> Said<'static> {
    let (reason, message, event) = if status {
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available", "NodeHasInsufficientPID")
    } else {
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available", "NodeHasSufficientPID")
    };
    Said { type_: "PIDPressure", status, reason, message, event }
}

fn ready(readiness: &Readiness) -> Said<'_> {
    let type_ = "Ready";
    match readiness {
        Readiness::Ready => Said {
            type_,
            status: true,
            reason: "KubeletReady",
            message: "kubelet is posting ready status",
            event: "NodeReady",
        },
        Readiness::NotReady { message } => {
            Said { type_, status: false, reason: "KubeletNotReady", message, event: "NodeNotReady" }
        }
    }
}

impl Said<'_> {
    /// As posted: `before` is what the API server has of this type. The transition's time stays unless the status
    /// flips.
    pub fn posted(&self, before: Option<&NodeCondition>, now: Wall) -> NodeCondition {
        let status = if self.status { "True" } else { "False" };
        let since = before.filter(|before| before.status == status).and_then(|b| b.last_transition_time.clone());
        NodeCondition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: Some(self.reason.to_owned()),
            message: Some(self.message.to_owned()),
            last_heartbeat_time: Some(now.to_time()),
            last_transition_time: since.or_else(|| Some(now.to_time())),
        }
    }

    /// Whether the API server shows something else, heartbeats apart.
    pub fn differs(&self, before: Option<&NodeCondition>) -> bool {
        before.is_none_or(|before| {
            before.status != if self.status { "True" } else { "False" }
                || before.reason.as_deref() != Some(self.reason)
                || before.message.as_deref() != Some(self.message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall(43_200_000_000_000);

    #[test]
    fn a_transition_keeps_its_time_until_the_status_flips() {
        let starved = said(Pressures { memory: true, ..Pressures::default() }, &Readiness::Ready)[0];
        let fine = said(Pressures::default(), &Readiness::Ready)[0];
        let first = fine.posted(None, NOON);
        assert_eq!(first.last_transition_time, Some(NOON.to_time()));
        let later = Wall(NOON.0 + 60_000_000_000);
        let second = fine.posted(Some(&first), later);
        assert_eq!(
            (&second.last_transition_time, &second.last_heartbeat_time),
            (&Some(NOON.to_time()), &Some(later.to_time()))
        );
        assert!(!fine.differs(Some(&first)) && starved.differs(Some(&first)) && fine.differs(None));
        assert_eq!(starved.posted(Some(&second), later).last_transition_time, Some(later.to_time()));
    }

    #[test]
    fn another_message_is_a_change_but_no_transition() {
        let slow = Readiness::NotReady { message: "image store: slow".to_owned() };
        let dead = Readiness::NotReady { message: "image store: gone".to_owned() };
        let before = said(Pressures::default(), &slow)[3].posted(None, NOON);
        let now = said(Pressures::default(), &dead)[3];
        assert!(now.differs(Some(&before)));
        let later = Wall(NOON.0 + 1_000_000_000);
        assert_eq!(now.posted(Some(&before), later).last_transition_time, Some(NOON.to_time()));
    }

    #[test]
    fn every_condition_has_the_kubelets_words_either_way() {
        let not = Readiness::NotReady { message: "why".to_owned() };
        let all = Pressures { memory: true, disk: true, pids: true };
        let shown = |pressures, readiness: &Readiness| -> Vec<String> {
            said(pressures, readiness)
                .iter()
                .map(|s| format!("{}={} {} {}", s.type_, s.status, s.reason, s.event))
                .collect()
        };
        assert_eq!(
            shown(all, &not),
            [
                "MemoryPressure=true KubeletHasInsufficientMemory NodeHasInsufficientMemory",
                "DiskPressure=true KubeletHasDiskPressure NodeHasDiskPressure",
                "PIDPressure=true KubeletHasInsufficientPID NodeHasInsufficientPID",
                "Ready=false KubeletNotReady NodeNotReady",
            ]
        );
        assert_eq!(
            shown(Pressures::default(), &Readiness::Ready),
            [
                "MemoryPressure=false KubeletHasSufficientMemory NodeHasSufficientMemory",
                "DiskPressure=false KubeletHasNoDiskPressure NodeHasNoDiskPressure",
                "PIDPressure=false KubeletHasSufficientPID NodeHasSufficientPID",
                "Ready=true KubeletReady NodeReady",
            ]
        );
    }
}
