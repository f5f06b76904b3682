//! What connection threads ask the loop, and what it answers, as closed enums over a channel.
//!
//! The loop takes [`Pending`]s from its end of the channel when its waker fires, and answers each one at once or hands
//! its [`Reply`] to a worker (what needs the disk). A reply that is dropped unanswered becomes a 500, never a hang.

use super::wire::{ExecRequest, ExplainReport, ImageEntry, ImportOutcome, ManifestsReport, StopProgress, VersionInfo};
use crate::model::id::{PodKey, ProcessRef};
use crate::sys::poll::Waker;
use k8s_openapi::api::core::v1 as core_v1;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

/// A question that waits for its answer.
#[derive(Debug)]
pub struct Pending {
    pub query: Query,
    pub reply: Reply,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Query {
    /// Proves that the loop turns -> `Healthy`.
    Health,
    Version,
    /// All pods with the status a kubelet would post, one per namespace/name (the terminating one, while an old UID
    /// terminates), in any order -> `Pods`.
    Pods,
    /// What happened of late, in the order in which it happened last -> `Events`.
    Events,
    /// -> `Manifests`.
    Manifests,
    /// -> `Explain`, or `Refused` with 404.
    Explain(ExplainTarget),
    /// Needs the disk: for a worker -> `Images`.
    Images,
    /// This node as it would be registered; needs the disk: for a worker -> `Node`.
    Node,
    /// Needs the disk: for a worker; may take minutes -> `Imported`, in the order of the paths.
    Import(Vec<PathBuf>),
    /// -> `Log`, or `Refused` with the kubelet's 400 or 404.
    Log(LogRequest),
    /// The client has left the stop marker and waits -> `StopProgress`.
    StopProgress,
    /// -> `Session`, or `Refused`.
    Exec {
        pod: PodKey,
        container: String,
        request: ExecRequest,
    },
}

/// What `explain` was asked for: the caller has sorted out paths, names are for the loop to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExplainTarget {
    /// The argument had a `/`: an absolute path.
    Path(PathBuf),
    /// An exact file name in the manifest directory, else a pod by full name or manifest name.
    Name { name: String, namespace: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRequest {
    pub pod: PodKey,
    pub container: String,
    /// The run before the present one.
    pub previous: bool,
}

/// Where the log of one run of a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// `<pod-logs>/<ns>_<name>_<uid>/<container>/<attempt>.log`.
    pub path: PathBuf,
    /// The monitor that writes it, while it does: when that process is gone, the log is complete.
    pub writer: Option<ProcessRef>,
}

/// Runs on the connection's thread with the connection in hand: writes the response's head itself, then frames.
pub struct Session(pub Box<dyn FnOnce(UnixStream) + Send>);

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

#[derive(Debug)]
pub enum Answer {
    Healthy,
    Version(VersionInfo),
    Pods(Vec<core_v1::Pod>),
    Events(Vec<core_v1::Event>),
    Manifests(ManifestsReport),
    Explain(Box<ExplainReport>),
    Images(Vec<ImageEntry>),
    Node(Box<core_v1::Node>),
    Imported(Vec<ImportOutcome>),
    Log(LogPlace),
    StopProgress(StopProgress),
    Session(Session),
    /// An HTTP status (400, 404, 409, 500, 503) and what is wrong, in the kubelet's words where it has some.
    Refused {
        status: u16,
        message: String,
    },
}

impl Answer {
    /// kubectl's words: `pods "x" not found`.
    pub fn no_such_pod(name: &str) -> Answer {
        Answer::Refused { status: 404, message: format!("pods {name:?} not found") }
    }
}

/// The way back for one answer. Sending never blocks.
#[derive(Debug)]
pub struct Reply(SyncSender<Answer>);

impl Reply {
    pub fn send(self, answer: Answer) {
        // The asker may have gone meanwhile, which is its own affair.
        let _ = self.0.send(answer);
    }
}

/// The connection threads' end: asks and wakes the loop.
#[derive(Clone, Debug)]
pub struct Asker {
    queries: Sender<Pending>,
    waker: Waker,
}

impl Asker {
    pub fn new(queries: Sender<Pending>, waker: Waker) -> Asker {
        Asker { queries, waker }
    }

    /// Puts the question; the answer comes over the returned end, which closes if there will never be one.
    pub fn ask(&self, query: Query) -> Receiver<Answer> {
        // Room for the one answer, so that the loop never waits for us.
        let (reply, answer) = sync_channel(1);
        // A loop that is gone has dropped its end: then the reply is dropped here, and the answer's end closes.
        if self.queries.send(Pending { query, reply: Reply(reply) }).is_ok() {
            self.waker.wake();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_question_reaches_the_loop_and_its_answer_comes_back() {
        let (queries, pending) = channel();
        let asker = Asker::new(queries, Waker::new().expect("eventfd"));
        let answer = asker.ask(Query::Health);
        let Pending { query, reply } = pending.recv().expect("asked");
        assert_eq!(query, Query::Health);
        reply.send(Answer::Healthy);
        assert!(matches!(answer.recv(), Ok(Answer::Healthy)));
    }

    #[test]
    fn a_dropped_reply_or_a_dead_loop_closes_the_answer() {
        let (queries, pending) = channel();
        let asker = Asker::new(queries, Waker::new().expect("eventfd"));
        let answer = asker.ask(Query::Health);
        drop(pending.recv().expect("asked"));
        assert!(answer.recv().is_err());
        drop(pending);
        assert!(asker.ask(Query::Health).recv().is_err());
    }
}
