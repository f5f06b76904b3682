//! Watches: changes as they come, one JSON document a line, through the eyes of a selector. What leaves a selection is
//! deleted for its watcher and what enters is added, whatever it is for the store.

use super::connection::Out;
use super::resource::Resource;
use super::route::Target;
use super::status::Failure;
use super::store::{Change, Object, set_version};
use super::table::Columns;
use super::wire::{self, Request};
use super::{Shared, State};
use serde_json::{Value, json};
use std::io;
use std::time::{Duration, Instant};

/// How a watch that is cut ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// As a server does at its time limit: the body is complete.
    Clean,
    /// The body lacks its end.
    Abrupt,
    /// In the middle of a line.
    InALine,
    /// An ERROR event with 410 first.
    Expired,
}

/// A wait is never longer: a client that went away is noticed by then.
const BEAT: Duration = Duration::from_secs(1);
/// Without a limit of the client's own.
const LIMIT: Duration = Duration::from_secs(1800);
const BEFORE_THE_END: Duration = Duration::from_secs(2);

/// A watch that was accepted and not begun.
pub struct Plan {
    target: Target,
    cursor: u64,
    first: Vec<Value>,
    bookmarks: bool,
    limit: Duration,
    columns: Option<Columns>,
    /// Cuts and bookmarks up to here were before this watch.
    cuts: usize,
    marks: u64,
}

/// What the request wants to see; an error where its version is unreadable.
pub fn plan(state: &State, request: &Request, target: Target, columns: Option<Columns>) -> Result<Plan, Failure> {
    let store = &state.store;
    let wanted = request.query("resourceVersion");
    let limit = request.query("timeoutSeconds").parse().map_or(LIMIT, Duration::from_secs);
    let bookmarks = request.flag("allowWatchBookmarks");
    let initial = request.flag("sendInitialEvents");
    let (cuts, marks) = (state.cuts.len(), state.bookmarks);
    let mut plan = Plan { target, cursor: store.version(), first: Vec::new(), bookmarks, limit, columns, cuts, marks };
    if initial || matches!(wanted, "" | "0") {
        let present = store.list(plan.target.resource, &plan.target.namespace);
        let seen = present.iter().filter(|object| plan.sees(object));
        plan.first = seen.map(|object| plan.event("ADDED", (**object).clone())).collect();
        if initial {
            let mut mark = bookmark(plan.target.resource, plan.cursor);
            mark["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            plan.first.push(plan.event("BOOKMARK", mark));
        }
        return Ok(plan);
    }
    plan.cursor = wanted.parse().map_err(|_| {
        Failure::bad_request(format!("resourceVersion: Invalid value: {wanted:?}: strconv.ParseUint: invalid syntax"))
    })?;
    if plan.cursor < store.oldest() {
        plan.first = vec![error(&Failure::gone(plan.cursor, store.oldest()))];
        plan.limit = Duration::ZERO;
    }
    Ok(plan)
}

fn error(failure: &Failure) -> Value {
    json!({ "type": "ERROR", "object": failure.body })
}

fn bookmark(resource: &Resource, version: u64) -> Value {
    let mut object = json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": {} });
    match resource.kind {
        "Pod" => {
            object["spec"] = json!({ "containers": null });
            object["status"] = json!({});
        }
        "Node" => {
            object["spec"] = json!({});
            object["status"] = json!({ "daemonEndpoints": { "kubeletEndpoint": { "Port": 0 } } });
        }
        _ => {}
    }
    set_version(&mut object, version);
    object
}

impl Plan {
    fn sees(&self, object: &Object) -> bool {
        self.target.fields.selects_fields(object) && self.target.labels.selects_labels(object) && {
            let namespace = &self.target.namespace;
            namespace.is_empty() || !self.target.resource.namespaced || object["metadata"]["namespace"] == **namespace
        }
    }

    fn event(&self, kind: &str, object: Value) -> Value {
        let object = match &self.columns {
            Some(columns) => columns.table(&[object.into()], &json!({})),
            None => object,
        };
        json!({ "type": kind, "object": object })
    }

    /// What this watcher sees of a change.
    fn seen(&self, change: &Change) -> Option<Value> {
        let was = change.before.as_ref().filter(|object| self.sees(object));
        let is = change.after.as_ref().filter(|object| self.sees(object));
        match (was, is) {
            (_, Some(now)) => Some(self.event(if was.is_some() { "MODIFIED" } else { "ADDED" }, (**now).clone())),
            (Some(last), None) => {
                let mut last = (**last).clone();
                set_version(&mut last, change.version);
                Some(self.event("DELETED", last))
            }
            (None, None) => None,
        }
    }

    /// Streams until the limit, a cut, or the client's end.
    pub fn run(mut self, shared: &Shared, out: &mut Out) -> io::Result<()> {
        let started = Instant::now();
        out.send(&wire::head(200, &[], None))?;
        for event in std::mem::take(&mut self.first) {
            line(out, &event)?;
        }
        let room = shared.rooms.of(&self.target);
        let mut state = shared.state();
        let mut bookmarked = Instant::now();
        let mut last_mark = false;
        loop {
            if let Some(cut) = state.cuts.get(self.cuts).copied() {
                drop(state);
                return end(out, cut);
            }
            let changes = state.store.since(self.cursor, self.target.resource);
            let newest = state.store.version();
            let left = self.limit.saturating_sub(started.elapsed());
            let due = bookmarked.elapsed() >= state.bookmark_interval || self.marks != state.bookmarks;
            let closing = left <= BEFORE_THE_END && !last_mark && self.limit > BEFORE_THE_END;
            self.marks = state.bookmarks;
            if changes.is_empty() && !(self.bookmarks && (due || closing)) && !left.is_zero() {
                let (guard, waited) = room.wait_timeout(state, left.min(BEAT)).expect("no holder panics");
                drop(guard);
                if waited.timed_out() && out.is_gone() {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                state = shared.state();
                continue;
            }
            drop(state);
            for event in changes.iter().filter_map(|change| self.seen(change)) {
                line(out, &event)?;
            }
            self.cursor = self.cursor.max(newest);
            if self.bookmarks && (due || closing) {
                last_mark |= closing;
                bookmarked = Instant::now();
                line(out, &self.event("BOOKMARK", bookmark(self.target.resource, self.cursor)))?;
            }
            if left.is_zero() {
                return end(out, Cut::Clean);
            }
            state = shared.state();
        }
    }
}

fn line(out: &mut Out, event: &Value) -> io::Result<()> {
    let mut text = event.to_string().into_bytes();
    text.push(b'\n');
    out.send(&wire::chunk(&text))
}

fn end(out: &mut Out, cut: Cut) -> io::Result<()> {
    match cut {
        Cut::Clean => {}
        Cut::Expired => line(out, &error(&Failure::gone(1, 2)))?,
        Cut::Abrupt => return Err(io::ErrorKind::ConnectionAborted.into()),
        Cut::InALine => {
            out.send(&wire::chunk(b"{\"type\":\"MODIFIED\",\"object\":{\"kind\":\"Po"))?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
    out.send(&wire::chunk(b""))
}
