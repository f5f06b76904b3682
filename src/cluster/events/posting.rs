//! Which event is posted next, and what follows from the answer.
//!
//! An event owes the API server at most one request at a time: what happens meanwhile is told by the next one, with the
//! count as it is then. So an outage leaves no more behind than the events that are kept.

use super::happening::Subject;
use super::kept::{Kept, NODE_NAMESPACE};
use super::recorder::Recorder;
use crate::model::id::NodeName;
use crate::model::time::{Mono, Now};
use k8s_openapi::api::core::v1;
use serde_json::Value;
use std::time::Duration;

/// After a failure nothing is posted for so long (client-go: `sleepDuration`).
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// What an outage held up is posted no faster than this: 5 a second.
const BACKLOG_PACE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId(pub(super) u64);

/// A request that is due, and who the answer is for. Every one is to be answered, by [`EventAnswer::Failed`] where it was
/// given up: until then its event has no other.
#[derive(Clone, Debug, PartialEq)]
pub struct EventPost {
    pub id: EventId,
    pub request: EventRequest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EventRequest {
    /// POST to the events of the object's own namespace.
    Create(Box<v1::Event>),
    /// Strategic merge patch.
    Patch { namespace: String, name: String, body: Value },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventAnswer {
    /// It is there now; `resource_version` as the answer has it.
    Posted { resource_version: String },
    /// 404: of a create, the namespace does not exist; of a patch, the API server has forgotten the event.
    NotFound,
    /// No answer, or one that asks for patience (408, 429, 5xx): all of them are tried again later.
    Failed,
    /// It would refuse it again (400, 403, 409, 422): not posted any more.
    Refused,
}

/// How far an event is told to the API server.
#[derive(Clone, Debug, Default)]
pub(super) struct Remote {
    place: Place,
    state: State,
    /// Its turn, while it has something to tell.
    owed: Option<Turn>,
    /// The turn of the request that is under way.
    in_flight: Option<Turn>,
}

/// First come, first posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Own,
    /// Its namespace does not exist.
    Node,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    There {
        resource_version: String,
    },
    Refused,
}

impl Remote {
    pub fn on_node(&self) -> bool {
        self.place == Place::Node
    }

    pub fn resource_version(&self) -> Option<&str> {
        match &self.state {
            State::There { resource_version } => Some(resource_version),
            State::Unknown | State::Refused => None,
        }
    }

    /// Something of it is still to be told, or being told.
    pub fn is_awaited(&self) -> bool {
        self.owed.is_some() || self.in_flight.is_some()
    }

    fn due(&self) -> Option<Turn> {
        self.owed.filter(|_| self.in_flight.is_none())
    }

    /// Earlier of what was under way and what has come since.
    fn owe_again(&mut self, turn: Turn) {
        self.owed = Some(self.owed.map_or(turn, |since| since.min(turn)));
    }
}

/// What concerns all events together.
#[derive(Clone, Debug, Default)]
pub(super) struct Posting {
    on: bool,
    last_turn: u64,
    /// Not before this.
    hold: Option<Mono>,
    /// There is a backlog; the next of it not before this.
    backlog: Option<Mono>,
}

impl Posting {
    pub fn is_on(&self) -> bool {
        self.on
    }

    pub fn owe(&mut self, remote: &mut Remote) {
        if remote.owed.is_none() && remote.state != State::Refused {
            self.last_turn += 1;
            remote.owed = Some(Turn(self.last_turn));
        }
    }
}

impl Recorder {
    /// From now on there is an API server to tell. What has been kept until now is told as after an outage.
    pub fn begin_posting(&mut self, now: Now) {
        self.posting.on = true;
        self.outage_over(now);
    }

    /// The API server is back: what is owed is told at the pace of a backlog.
    pub fn outage_over(&mut self, now: Now) {
        self.posting.hold = None;
        self.posting.backlog.get_or_insert(now.mono);
    }

    /// The next request that may be sent now. Its answer goes to [`Recorder::answered`].
    pub fn due(&mut self, now: Now) -> Option<EventPost> {
        if self.due_at().is_none_or(|at| at > now.mono) {
            return None;
        }
        let next = self.kept.iter().enumerate().filter_map(|(at, kept)| Some((kept.remote.due()?, at))).min();
        let (turn, at) = next?;
        if let Some(next_at) = &mut self.posting.backlog {
            *next_at = now.mono + BACKLOG_PACE;
        }
        let kept = self.kept.get_mut(at)?;
        kept.remote.owed = None;
        kept.remote.in_flight = Some(turn);
        Some(EventPost { id: kept.id, request: request(kept, &self.node) })
    }

    /// When [`Recorder::due`] has something to give; `None` while there is nothing to tell.
    pub fn due_at(&self) -> Option<Mono> {
        let owes = self.posting.on && self.kept.iter().any(|kept| kept.remote.due().is_some());
        let earliest = [self.posting.hold, self.posting.backlog].into_iter().flatten().max();
        owes.then(|| earliest.unwrap_or(Mono(0)))
    }

    /// How a request ended. One of an event that has been forgotten meanwhile changes nothing.
    pub fn answered(&mut self, id: EventId, answer: EventAnswer, now: Now) {
        let Some(kept) = self.kept.iter_mut().find(|kept| kept.id == id) else { return };
        let remote = &mut kept.remote;
        let Some(turn) = remote.in_flight.take() else { return };
        match answer {
            EventAnswer::Posted { resource_version } => remote.state = State::There { resource_version },
            EventAnswer::Refused => remote.refuse(),
            EventAnswer::Failed => {
                remote.owe_again(turn);
                self.posting.hold = Some(now.mono + RETRY_AFTER);
                self.posting.backlog.get_or_insert(now.mono);
            }
            EventAnswer::NotFound => match (&remote.state, &kept.subject) {
                (State::There { .. }, _) => {
                    remote.state = State::Unknown;
                    remote.owe_again(turn);
                }
                (State::Unknown, Subject::Pod { key, .. } | Subject::Container { key, .. })
                    if remote.place == Place::Own && key.namespace != NODE_NAMESPACE =>
                {
                    remote.place = Place::Node;
                    remote.owe_again(turn);
                }
                (State::Unknown | State::Refused, _) => remote.refuse(),
            },
        }
        if !self.kept.iter().any(|kept| kept.remote.is_awaited()) {
            self.posting.backlog = None;
        }
    }
}

impl Remote {
    fn refuse(&mut self) {
        self.state = State::Refused;
        self.owed = None;
    }
}

fn request(kept: &Kept, node: &NodeName) -> EventRequest {
    let object = kept.object(node);
    match kept.remote.state {
        State::There { .. } => EventRequest::Patch {
            namespace: object.metadata.namespace.unwrap_or_default(),
            name: object.metadata.name.unwrap_or_default(),
            body: kept.patch(),
        },
        State::Unknown | State::Refused => EventRequest::Create(Box::new(object)),
    }
}
