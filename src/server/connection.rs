//! One connection: read the request, route it, ask the loop, write the answer.

use super::http::{self, Request};
use super::listen::Gate;
use super::logs::{self, LogOptions};
use super::query::{Answer, Asker, ExplainTarget, LogRequest, Query};
use super::wire::{ExecRequest, ImportRequest};
use super::{frame, status};
use crate::model::id::PodKey;
use crate::model::time::Wall;
use crate::sys::clock;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How often a silent peer and a silent loop are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A peer that does not take a short answer in this time is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The loop answers in microseconds; a worker behind a slow disk may take its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// An import reads and unpacks whole images.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(2 * 3600);

/// What is written back.
#[derive(Debug)]
struct Response {
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Response {
    fn text(status: u16, text: &str) -> Response {
        let body = if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") };
        Response { status, content_type: "text/plain; charset=utf-8", body: body.into_bytes() }
    }

    fn json(value: &impl serde::Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(body) => Response { status: 200, content_type: "application/json", body },
            Err(error) => Response::text(500, &format!("cannot write the answer: {error}")),
        }
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq)]
enum Route {
    /// One question, one answer; `shape` says how the answer is written.
    Ask {
        query: Query,
        shape: Shape,
    },
    Log(LogRequest),
    Exec {
        pod: PodKey,
        container: String,
    },
}

#[derive(Debug, PartialEq)]
enum Shape {
    Plain,
    /// The pods of one namespace, or of all.
    PodList {
        namespace: Option<String>,
    },
    OnePod {
        namespace: String,
        name: String,
    },
    NodeList,
    OneNode {
        name: String,
    },
    /// The events of one namespace, or all.
    EventList {
        namespace: Option<String>,
    },
}

/// Serves one request and closes.
pub fn serve(mut stream: UnixStream, asker: &Asker, streams: &Arc<Gate>) {
    let bounded = stream.set_read_timeout(Some(TICK)).and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)));
    if bounded.is_err() {
        return;
    }
    let response = match http::read_request(&mut stream) {
        Ok(request) => respond(&stream, &request, asker, streams),
        Err(error) => error.status().map(|status| Response::text(status, &error.to_string())),
    };
    if let Some(response) = response {
        // Whoever asked may have gone; there is nobody to tell.
        let _ = http::write_response(&mut stream, response.status, response.content_type, &response.body);
    }
}

/// `None`: the answer has been written already.
fn respond(stream: &UnixStream, request: &Request, asker: &Asker, streams: &Arc<Gate>) -> Option<Response> {
    match route(request) {
        Err(response) => Some(response),
        Ok(Route::Ask { query, shape }) => Some(shaped(ask(stream, asker, query), shape)),
        Ok(Route::Log(log)) => log_response(stream, request, log, asker, streams),
        Ok(Route::Exec { pod, container }) => exec_response(stream, request, pod, container, asker, streams),
    }
}

fn route(request: &Request) -> Result<Route, Response> {
    let parts: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let (method, route) = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => ("GET", plain(Query::Health)),
        ["pods"] | ["api", "v1", "pods"] => ("GET", pod_list(None)),
        ["api", "v1", "events"] => ("GET", event_list(None)),
        ["api", "v1", "namespaces", namespace, "events"] => ("GET", event_list(Some((*namespace).to_owned()))),
        ["api", "v1", "namespaces", namespace, "pods"] => ("GET", pod_list(Some((*namespace).to_owned()))),
        ["api", "v1", "namespaces", namespace, "pods", name] => {
            let shape = Shape::OnePod { namespace: (*namespace).to_owned(), name: (*name).to_owned() };
            ("GET", Route::Ask { query: Query::Pods, shape })
        }
        ["api", "v1", "nodes"] => ("GET", Route::Ask { query: Query::Node, shape: Shape::NodeList }),
        ["api", "v1", "nodes", name] => {
            ("GET", Route::Ask { query: Query::Node, shape: Shape::OneNode { name: (*name).to_owned() } })
        }
        ["containerLogs", namespace, pod, container] => {
            let log = LogRequest { pod: key(namespace, pod), container: (*container).to_owned(), previous: false };
            ("GET", Route::Log(log))
        }
        ["exec", namespace, pod, container] => {
            ("POST", Route::Exec { pod: key(namespace, pod), container: (*container).to_owned() })
        }
        ["pinlet", "v1", "manifests"] => ("GET", plain(Query::Manifests)),
        ["pinlet", "v1", "images"] => ("GET", plain(Query::Images)),
        ["pinlet", "v1", "stop"] => ("GET", plain(Query::StopProgress)),
        ["pinlet", "v1", "version"] => ("GET", plain(Query::Version)),
        ["pinlet", "v1", "explain"] => ("GET", plain(Query::Explain(explain_target(request)?))),
        // A request of the wrong method has no body to read the paths from.
        ["pinlet", "v1", "import"] if request.method != "POST" => return Err(wrong_method()),
        ["pinlet", "v1", "import"] => ("POST", plain(Query::Import(import_paths(request)?))),
        _ => return Err(Response::text(404, "404 page not found")),
    };
    if request.method == method { Ok(route) } else { Err(wrong_method()) }
}

fn wrong_method() -> Response {
    Response::text(405, "405 method not allowed")
}

fn plain(query: Query) -> Route {
    Route::Ask { query, shape: Shape::Plain }
}

fn pod_list(namespace: Option<String>) -> Route {
    Route::Ask { query: Query::Pods, shape: Shape::PodList { namespace } }
}

fn event_list(namespace: Option<String>) -> Route {
    Route::Ask { query: Query::Events, shape: Shape::EventList { namespace } }
}

fn key(namespace: &str, name: &str) -> PodKey {
    PodKey { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn explain_target(request: &Request) -> Result<ExplainTarget, Response> {
    match (request.parameter("path"), request.parameter("name")) {
        (Some(path), None) if path.starts_with('/') => Ok(ExplainTarget::Path(PathBuf::from(path))),
        (None, Some(name)) => {
            let namespace = request.parameter("namespace").map(str::to_owned);
            Ok(ExplainTarget::Name { name: name.to_owned(), namespace })
        }
        _ => Err(Response::text(400, "either an absolute path or a name must be given")),
    }
}

fn import_paths(request: &Request) -> Result<Vec<PathBuf>, Response> {
    let wrong = |text: String| Response::text(400, &text);
    let import: ImportRequest =
        serde_json::from_slice(&request.body).map_err(|error| wrong(format!("cannot decode the request: {error}")))?;
    match import.paths.iter().find(|path| !path.is_absolute()) {
        Some(path) => Err(wrong(format!("{} is not an absolute path", path.display()))),
        None => Ok(import.paths),
    }
}

/// Waits for the loop, and gives up when it is overdue or the peer has gone.
fn ask(stream: &UnixStream, asker: &Asker, query: Query) -> Answer {
    let timeout = if matches!(query, Query::Import(_)) { IMPORT_TIMEOUT } else { ANSWER_TIMEOUT };
    let answer: Receiver<Answer> = asker.ask(query);
    let started = Instant::now();
    loop {
        match answer.recv_timeout(TICK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return refused(500, "the agent did not answer"),
            Err(RecvTimeoutError::Timeout) if started.elapsed() > timeout => {
                return refused(503, "the agent did not answer in time");
            }
            Err(RecvTimeoutError::Timeout) if is_gone(stream) => return refused(503, "the client has gone"),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn refused(status: u16, message: &str) -> Answer {
    Answer::Refused { status, message: message.to_owned() }
}

/// A peer has nothing to say while it waits; the end of its stream means that it left.
fn is_gone(mut stream: &UnixStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let read = stream.read(&mut [0u8; 1]);
    let gone = match read {
        Ok(n) => n == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::Interrupted,
    };
    stream.set_nonblocking(false).is_err() || gone
}

fn shaped(answer: Answer, shape: Shape) -> Response {
    match (answer, shape) {
        (Answer::Refused { status, message }, Shape::Plain) => Response::text(status, &message),
        (Answer::Refused { status, message }, _) => status_response(status, &message, None),
        (Answer::Pods(pods), Shape::PodList { namespace }) => {
            let in_namespace = |pod: &Pod| namespace.is_none() || pod.metadata.namespace == namespace;
            let mut items: Vec<Pod> = pods.into_iter().filter(in_namespace).collect();
            let by = |pod: &Pod| (pod.metadata.namespace.clone(), pod.metadata.name.clone());
            items.sort_by_cached_key(by);
            Response::json(&List::<Pod> { items, ..List::default() })
        }
        (Answer::Pods(pods), Shape::OnePod { namespace, name }) => {
            let wanted = |pod: &&Pod| {
                pod.metadata.namespace.as_ref() == Some(&namespace) && pod.metadata.name.as_ref() == Some(&name)
            };
            match pods.iter().find(wanted) {
                Some(pod) => Response::json(pod),
                None => status_response(404, &format!("pods {name:?} not found"), Some(&name)),
            }
        }
        (Answer::Node(node), Shape::OneNode { name }) => match node.metadata.name.as_ref() == Some(&name) {
            true => Response::json(&node),
            false => status_response(404, &format!("nodes {name:?} not found"), None),
        },
        (Answer::Node(node), _) => Response::json(&List::<Node> { items: vec![*node], ..List::default() }),
        (Answer::Events(mut items), Shape::EventList { namespace }) => {
            items.retain(|event| namespace.is_none() || event.metadata.namespace == namespace);
            Response::json(&List::<Event> { items, ..List::default() })
        }
        // Without a line feed, as the kubelet says it: probes compare.
        (Answer::Healthy, _) => Response { body: b"ok".to_vec(), ..Response::text(200, "") },
        (Answer::Version(version), _) => Response::json(&version),
        (Answer::Manifests(report), _) => Response::json(&report),
        (Answer::Explain(report), _) => Response::json(&report),
        (Answer::Images(images), _) => Response::json(&images),
        (Answer::StopProgress(progress), _) => Response::json(&progress),
        (Answer::Imported(outcomes), _) => Response::json(&outcomes),
        (Answer::Pods(_) | Answer::Events(_) | Answer::Log(_) | Answer::Session(_), _) => {
            Response::text(500, "the agent answered another question")
        }
    }
}

fn status_response(status: u16, message: &str, pod: Option<&str>) -> Response {
    let mut response = Response::json(&status::failure(status, message, pod));
    response.status = status;
    response
}

fn log_response(
    stream: &UnixStream,
    request: &Request,
    mut log: LogRequest,
    asker: &Asker,
    streams: &Arc<Gate>,
) -> Option<Response> {
    let options = match LogOptions::from_query(&request.query, Wall(clock::realtime_ns())) {
        Ok(options) => options,
        Err((status, message)) => return Some(Response::text(status, &message)),
    };
    log.previous = options.previous;
    let place = match ask(stream, asker, Query::Log(log)) {
        Answer::Log(place) => place,
        other => return Some(shaped(other, Shape::Plain)),
    };
    let _place = match options.follow {
        true => match streams.enter() {
            Some(place) => Some(place),
            None => return Some(Response::text(503, "too many followed logs and sessions")),
        },
        false => None,
    };
    match logs::open(&place, &options) {
        Err(error) => {
            let text = format!("failed to open log file {:?}: {error}", place.path);
            Some(Response::text(500, &text))
        }
        Ok(reader) => {
            // A reader that pauses (a pager) is no fault; its place is bounded.
            let streamed = stream.set_write_timeout(None).and_then(|()| logs::stream(reader, &place, &options, stream));
            if let Err(error) = streamed {
                log::debug!("log of {} not sent to its end: {error}", place.path.display());
            }
            None
        }
    }
}

fn exec_response(
    stream: &UnixStream,
    request: &Request,
    pod: PodKey,
    container: String,
    asker: &Asker,
    streams: &Arc<Gate>,
) -> Option<Response> {
    if request.upgrade.as_deref() != Some(frame::PROTOCOL) {
        return Some(Response::text(400, &format!("exec needs the header Upgrade: {}", frame::PROTOCOL)));
    }
    let exec: ExecRequest = match serde_json::from_slice(&request.body) {
        Ok(exec) => exec,
        Err(error) => return Some(Response::text(400, &format!("cannot decode the request: {error}"))),
    };
    if exec.command.is_empty() {
        return Some(Response::text(400, "a command must be given"));
    }
    let Some(_place) = streams.enter() else {
        return Some(Response::text(503, "too many followed logs and sessions"));
    };
    match ask(stream, asker, Query::Exec { pod, container, request: exec }) {
        Answer::Session(session) => {
            let ready = stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None));
            if let (Ok(()), Ok(stream)) = (ready, stream.try_clone()) {
                (session.0)(stream);
            }
            None
        }
        other => Some(shaped(other, Shape::Plain)),
    }
}
