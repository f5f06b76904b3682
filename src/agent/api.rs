//! Worker's side of the API server: one request carried out, one event of the watch waited for.
//!
//! It decides nothing: `cluster` says what to ask, and hears every answer.

use crate::apiserver::{ApiError, Client, EventKind, Watch};
use crate::cluster::events::EventRequest;
use crate::cluster::fact::Change;
use crate::cluster::node::NodeRequest;
use crate::cluster::request::{Answer, Refusal, RefusalKind, Request};
use crate::error::chain;
use crate::http::Method;
use crate::model::id::PodKey;
use k8s_openapi::api::core::v1;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

const JSON: &str = "application/json";
const STRATEGIC_MERGE: &str = "application/strategic-merge-patch+json";
/// A watch is begun anew so often at least: the kubelet's lasts 5 to 10 minutes.
const WATCH_LASTS: Duration = Duration::from_secs(480);

/// Blocks, for a bounded time.
pub fn perform(client: &Client, node: &str, request: &Request) -> Result<Answer, Refusal> {
    try_perform(client, node, request).map_err(|error| refusal(&error))
}

fn try_perform(client: &Client, node: &str, request: &Request) -> Result<Answer, ApiError> {
    match request {
        Request::Node(request) => about_node(client, node, request),
        Request::Event(post) => post_event(client, &post.request),
        Request::ListPods => {
            #[derive(Deserialize)]
            struct Pods {
                metadata: ListMeta,
                items: Option<Vec<v1::Pod>>,
            }
            #[derive(Deserialize)]
            #[serde(rename_all = "camelCase")]
            struct ListMeta {
                resource_version: String,
            }
            // From the server's cache: a fleet that comes back does not reach the store.
            let selector = format!("spec.nodeName={node}");
            let query = [("fieldSelector", selector.as_str()), ("resourceVersion", "0")];
            let list: Pods = client.request(Method::Get, "/api/v1/pods", &query, "", None)?.json()?;
            Ok(Answer::Pods { pods: list.items.unwrap_or_default(), version: list.metadata.resource_version })
        }
        Request::CreatePod(pod) => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let body = body(&json!(pod), &[("kind", "Pod"), ("apiVersion", "v1")]);
            let path = format!("/api/v1/namespaces/{namespace}/pods");
            let answer = client.request(Method::Post, &path, &[], JSON, Some(&body))?;
            Ok(Answer::Pod(Box::new(answer.json()?)))
        }
        Request::DeletePod { key, uid } => {
            let options = json!({
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "gracePeriodSeconds": 0,
                "preconditions": { "uid": uid },
            });
            client.request(Method::Delete, &path_of(key), &[], JSON, Some(&body(&options, &[])))?;
            Ok(Answer::Done)
        }
        Request::PatchPodStatus { key, patch } => {
            let path = format!("{}/status", path_of(key));
            let answer = client.request(Method::Patch, &path, &[], STRATEGIC_MERGE, Some(&body(patch, &[])))?;
            Ok(Answer::Pod(Box::new(answer.json()?)))
        }
    }
}

fn about_node(client: &Client, node: &str, request: &NodeRequest) -> Result<Answer, ApiError> {
    const NODES: &str = "/api/v1/nodes";
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    const OF_LEASE: [(&str, &str); 2] = [("kind", "Lease"), ("apiVersion", "coordination.k8s.io/v1")];
    let (path, lease) = (format!("{NODES}/{node}"), format!("{LEASES}/{node}"));
    let (method, path, content_type, body) = match request {
        NodeRequest::GetNode => (Method::Get, path, "", None),
        NodeRequest::CreateNode(node) => {
            let body = body(&json!(node), &[("kind", "Node"), ("apiVersion", "v1")]);
            (Method::Post, NODES.to_owned(), JSON, Some(body))
        }
        NodeRequest::PatchNode(patch) => (Method::Patch, path, STRATEGIC_MERGE, Some(body(patch, &[]))),
        NodeRequest::PatchNodeStatus(patch) => {
            (Method::Patch, format!("{path}/status"), STRATEGIC_MERGE, Some(body(patch, &[])))
        }
        NodeRequest::GetLease => (Method::Get, lease, "", None),
        NodeRequest::CreateLease(lease) => {
            (Method::Post, LEASES.to_owned(), JSON, Some(body(&json!(lease), &OF_LEASE)))
        }
        NodeRequest::UpdateLease(renewed) => (Method::Put, lease, JSON, Some(body(&json!(renewed), &OF_LEASE))),
    };
    let answer = client.request(method, &path, &[], content_type, body.as_deref())?;
    if request.kind().is_lease() {
        Ok(Answer::Lease(Box::new(answer.json()?)))
    } else {
        Ok(Answer::Node(Box::new(answer.json()?)))
    }
}

fn post_event(client: &Client, request: &EventRequest) -> Result<Answer, ApiError> {
    let path = |namespace: &str| format!("/api/v1/namespaces/{namespace}/events");
    let answer = match request {
        EventRequest::Create(event) => {
            let namespace = event.metadata.namespace.as_deref().unwrap_or("default");
            let body = body(&json!(event), &[("kind", "Event"), ("apiVersion", "v1")]);
            client.request(Method::Post, &path(namespace), &[], JSON, Some(&body))?
        }
        EventRequest::Patch { namespace, name, body: patch } => {
            let path = format!("{}/{name}", path(namespace));
            client.request(Method::Patch, &path, &[], STRATEGIC_MERGE, Some(&body(patch, &[])))?
        }
    };
    Ok(Answer::Event(Box::new(answer.json()?)))
}

/// Names and namespaces are checked when a pod is admitted: nothing in them needs escaping.
fn path_of(key: &PodKey) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", key.namespace, key.name)
}

fn body(value: &serde_json::Value, added: &[(&str, &str)]) -> Vec<u8> {
    let mut value = value.clone();
    for (field, text) in added {
        value[*field] = json!(text);
    }
    value.to_string().into_bytes()
}

/// Where the watch stands between two jobs.
#[derive(Debug)]
pub enum Watching {
    Begin { version: String },
    Goes(Box<Watch>),
}

/// What one job of the watch's lane brought.
#[derive(Debug)]
pub struct Watched {
    pub changes: Vec<Change>,
    /// `Err`: it is over, for the reason given if there is one.
    pub next: Result<Watching, Option<Refusal>>,
}

/// Blocks until something happens: a watch may be quiet for minutes.
pub fn follow(client: &Client, node: &str, watching: Watching) -> Watched {
    let ended = |refusal| Watched { changes: Vec::new(), next: Err(refusal) };
    let mut watch = match watching {
        Watching::Goes(watch) => watch,
        Watching::Begin { version } => {
            let selector = format!("spec.nodeName={node}");
            let query = [
                ("fieldSelector", selector.as_str()),
                ("resourceVersion", version.as_str()),
                ("allowWatchBookmarks", "true"),
            ];
            match client.watch("/api/v1/pods", &query, WATCH_LASTS) {
                Ok(watch) => Box::new(watch),
                Err(error) => return ended(Some(refusal(&error))),
            }
        }
    };
    let event = match watch.next() {
        None => return ended(None),
        Some(Err(error)) => return ended(Some(refusal(&error))),
        Some(Ok(event)) => event,
    };
    let pod = || event.object::<v1::Pod>().map(Box::new);
    let change = match event.kind {
        EventKind::Added | EventKind::Modified => pod().map(Change::Is),
        EventKind::Deleted => pod().map(Change::Gone),
        EventKind::Bookmark => {
            pod().map(|pod| Change::Bookmark(pod.metadata.resource_version.clone().unwrap_or_default()))
        }
    };
    match change {
        Ok(change) => Watched { changes: vec![change], next: Ok(Watching::Goes(watch)) },
        Err(error) => ended(Some(refusal(&error))),
    }
}

pub fn refusal(error: &ApiError) -> Refusal {
    let kind = match error {
        ApiError::Unreachable(_)
        | ApiError::TooManyRequests { .. }
        | ApiError::Server { .. }
        | ApiError::Garbage(_)
        | ApiError::TooLarge(_) => RefusalKind::Away,
        ApiError::Credentials(_) | ApiError::Unauthorized(_) => RefusalKind::Unauthorized,
        ApiError::Forbidden(_) => RefusalKind::Forbidden,
        ApiError::NotFound(_) => RefusalKind::NotFound,
        ApiError::Conflict(_) => RefusalKind::Conflict,
        ApiError::AlreadyExists(_) => RefusalKind::AlreadyExists,
        ApiError::Gone(_) => RefusalKind::Gone,
        ApiError::Invalid(_) => RefusalKind::Invalid,
    };
    Refusal { kind, message: chain(error), retry_after: error.retry_after() }
}
