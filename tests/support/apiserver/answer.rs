//! From a request and its user to an answer: reads and writes of resources, in the order of a real server's steps:
//! authorize, find, change, admit, validate, store.

use super::identity::User;
use super::resource::REQUESTS;
use super::route::{self, Target, Verb};
use super::shape::{self, text};
use super::status::{Failure, Problem};
use super::store::{Key, Object, Store};
use super::table::Columns;
use super::watch::{self, Plan};
use super::wire::Request;
use super::{State, admission, authorize, date, deletion, discovery, merge, strategic, strategy};
use serde_json::{Value, json};

pub enum Answer {
    Json { code: u16, body: Value },
    Text(&'static str),
    Watch(Box<Plan>),
}

/// Under the lock of the state: a request sees and changes it as one step.
pub fn answer(state: &mut State, request: &Request, user: Option<&User>) -> Result<Answer, Failure> {
    if matches!(request.path.as_str(), "/healthz" | "/livez" | "/readyz") {
        return Ok(Answer::Text("ok"));
    }
    let user = user.ok_or_else(Failure::unauthorized)?;
    let Some(target) = route::target(request)? else {
        return discovery::answer(&request.path).map(|body| Answer::Json { code: 200, body });
    };
    authorize::resource_request(&state.store, user, &target)?;
    let ok = |body| Ok(Answer::Json { code: 200, body });
    match target.verb {
        Verb::Get => {
            let object = find(&state.store, &target)?;
            ok(shown(request, &target, vec![object], None))
        }
        Verb::List => {
            let (objects, version) = list(&state.store, request, &target)?;
            ok(shown(request, &target, objects, Some(version)))
        }
        Verb::Watch => {
            let plan = watch::plan(state, request, target.clone(), Columns::asked(request, target.resource))?;
            Ok(Answer::Watch(Box::new(plan)))
        }
        Verb::Create => {
            let body = create(state, user, &target, body_of(request)?)?;
            Ok(Answer::Json { code: 201, body })
        }
        Verb::Update => update(state, user, &target, body_of(request)?),
        Verb::Patch => patch(state, user, &target, request).and_then(ok),
        Verb::Delete => delete(state, user, &target, request).and_then(ok),
        Verb::DeleteCollection => {
            let (objects, version) = list(&state.store, request, &target)?;
            for object in &objects {
                let mut one = target.clone();
                one.namespace = text(object, "/metadata/namespace").to_owned();
                one.name = text(object, "/metadata/name").to_owned();
                delete(state, user, &one, request)?;
            }
            ok(shown(request, &target, objects, Some(version)))
        }
    }
}

fn body_of(request: &Request) -> Result<Value, Failure> {
    if !matches!(request.media_type(), "application/json" | "") {
        return Err(Failure::unsupported_media(&["application/json"]));
    }
    serde_json::from_slice(&request.body).map_err(|e| Failure::bad_request(format!("couldn't get version/kind: {e}")))
}

fn key(target: &Target) -> Key {
    Key::new(target.resource, &target.namespace, &target.name)
}

fn find(store: &Store, target: &Target) -> Result<Object, Failure> {
    store.get(&key(target)).ok_or_else(|| Failure::not_found(target.resource, &target.name))
}

fn list(store: &Store, request: &Request, target: &Target) -> Result<(Vec<Object>, u64), Failure> {
    let current = store.version();
    let wanted: u64 = request.query("resourceVersion").parse().unwrap_or(0);
    if wanted > current {
        return Err(Failure::ahead(wanted, current));
    }
    if request.query("resourceVersionMatch") == "Exact" && wanted < store.oldest() {
        return Err(Failure::gone(wanted, store.oldest()));
    }
    let mut objects = store.list(target.resource, &target.namespace);
    objects.retain(|object| target.fields.selects_fields(object) && target.labels.selects_labels(object));
    Ok((objects, current))
}

/// One object, or a list under its version; as a table where that is asked for.
fn shown(request: &Request, target: &Target, objects: Vec<Object>, version: Option<u64>) -> Value {
    let list_meta = version.map_or(json!({}), |version| json!({ "resourceVersion": version.to_string() }));
    if let Some(columns) = Columns::asked(request, target.resource) {
        return columns.table(&objects, &list_meta);
    }
    if version.is_none() {
        return (*objects[0]).clone();
    }
    let bare = objects.iter().map(|object| {
        let mut object = (**object).clone();
        // Elements of a typed list do not say what they are.
        let map = object.as_object_mut().expect("objects are maps");
        map.remove("kind");
        map.remove("apiVersion");
        object
    });
    json!({
        "kind": format!("{}List", target.resource.kind), "apiVersion": target.resource.api_version(),
        "metadata": list_meta, "items": bare.collect::<Vec<_>>(),
    })
}

/// The object as its type knows it, with kind and apiVersion checked or filled in.
fn typed(target: &Target, mut object: Value) -> Result<Value, Failure> {
    let resource = target.resource;
    if !object.is_object() {
        return Err(Failure::bad_request("the object provided is unrecognized (must be of type Object)"));
    }
    for (field, wanted) in [("apiVersion", resource.api_version()), ("kind", resource.kind.to_owned())] {
        let given = text(&object, &format!("/{field}"));
        if !given.is_empty() && given != wanted {
            let message = format!("{given} in version {:?} cannot be handled as a {}", resource.version, resource.kind);
            return Err(Failure::bad_request(message));
        }
        object[field] = wanted.into();
    }
    shape::default(&mut object, "metadata", json!({}));
    shape::normalise(resource, &object).map_err(Failure::bad_request)
}

fn create(state: &mut State, user: &User, target: &Target, body: Value) -> Result<Value, Failure> {
    let mut object = typed(target, body)?;
    if target.resource.rules.review {
        object["status"] = json!({ "allowed": true });
        return Ok(object);
    }
    admission::on_create(&state.store, user, target, &mut object)?;
    let object = strategy::for_create(target, user, object)?;
    let object = shape::normalise(target.resource, &object).map_err(Failure::internal)?;
    let key = Key::of(target.resource, &object);
    if state.store.get(&key).is_some() {
        return Err(Failure::already_exists(target.resource, &key.name));
    }
    let stored = state.store.put(key.clone(), object);
    if target.resource == &REQUESTS {
        let State { store, signing, .. } = state;
        signing.arrived(store, &key.name, user);
    }
    Ok((*stored).clone())
}

fn update(state: &mut State, user: &User, target: &Target, body: Value) -> Result<Answer, Failure> {
    let mut new = typed(target, body)?;
    let rules = &target.resource.rules;
    let uid = text(&new, "/metadata/uid").to_owned();
    let Some(old) = state.store.get(&key(target)) else {
        if !uid.is_empty() {
            return Err(other_uid(target, &uid, ""));
        }
        if !rules.create_on_update || !target.sub.is_empty() {
            return Err(Failure::not_found(target.resource, &target.name));
        }
        new["metadata"].as_object_mut().expect("metadata is an object").remove("resourceVersion");
        return create(state, user, target, new).map(|body| Answer::Json { code: 201, body });
    };
    let found = text(&old, "/metadata/uid");
    if !uid.is_empty() && uid != found {
        return Err(other_uid(target, &uid, found));
    }
    let version = text(&new, "/metadata/resourceVersion");
    if version.is_empty() && !rules.unconditional {
        let problem = Problem::invalid("metadata.resourceVersion", "0x0", "must be specified for an update");
        return Err(Failure::invalid(target.resource, &target.name, &[problem]));
    }
    if !version.is_empty() && version != text(&old, "/metadata/resourceVersion") {
        return Err(Failure::stale(target.resource, &target.name));
    }
    store_update(state, user, target, &old, new).map(|body| Answer::Json { code: 200, body })
}

fn other_uid(target: &Target, wanted: &str, found: &str) -> Failure {
    let place = format!("{}/{}/{}", target.resource.plural, target.namespace, target.name).replace("//", "/");
    Failure::other_uid(target.resource, &place, &target.name, wanted, found)
}

/// Validation, admission and storing of what replaces `old`. What changes nothing is not stored and has no version.
fn store_update(state: &mut State, user: &User, target: &Target, old: &Object, new: Value) -> Result<Value, Failure> {
    // Before the strategy takes back what this endpoint does not write: a Node's taints are refused at its status too.
    admission::on_update(user, target, old, &new)?;
    let mut new = strategy::for_update(target, old, new)?;
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    let new = shape::normalise(target.resource, &new).map_err(Failure::bad_request)?;
    if new == **old {
        return Ok(new);
    }
    Ok((*state.store.put(key(target), new)).clone())
}

fn patch(state: &mut State, user: &User, target: &Target, request: &Request) -> Result<Value, Failure> {
    let old = find(&state.store, target)?;
    let patch: Value = serde_json::from_slice(&request.body)
        .map_err(|e| Failure::bad_request(format!("error decoding patch: {e}")))?;
    let mut new = (*old).clone();
    match request.media_type() {
        "application/merge-patch+json" => merge::apply(&mut new, &patch),
        "application/strategic-merge-patch+json" => strategic::apply(target.resource.kind, &mut new, &patch)?,
        _ => {
            let accepted = ["application/merge-patch+json", "application/strategic-merge-patch+json"];
            return Err(Failure::unsupported_media(&accepted));
        }
    }
    let new = typed(target, new).map_err(|failure| {
        let message = format!(" \"\" is invalid: patch: Invalid value: {:?}: {}", patch.to_string(), failure.message());
        Failure::new(422, "Invalid", message)
    })?;
    let version = text(&new, "/metadata/resourceVersion");
    if !version.is_empty() && version != text(&old, "/metadata/resourceVersion") {
        return Err(Failure::stale(target.resource, &target.name));
    }
    store_update(state, user, target, &old, new)
}

fn delete(state: &mut State, user: &User, target: &Target, request: &Request) -> Result<Value, Failure> {
    let object = find(&state.store, target)?;
    admission::on_delete(&state.store, user, target, &object)?;
    let options = deletion::Options::read(&request.json(), request.query("gracePeriodSeconds"));
    let outcome = deletion::delete(&mut state.store, target.resource, &key(target), &options)?;
    if outcome.gone && target.resource.kind == "Node" && state.collects {
        super::garbage::collect(&mut state.store);
    }
    if !outcome.gone || target.resource.rules.returns_deleted {
        return Ok((*outcome.object).clone());
    }
    Ok(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": target.name, "kind": target.resource.plural, "uid": text(&outcome.object, "/metadata/uid"),
        },
    }))
}

/// Puts an object in as it is, with what is missing of uid and creation time: what was there before a test began.
pub fn seed(store: &mut Store, object: &Value) -> Object {
    let resource = super::resource::Resource::of(object).expect("a resource that is served");
    let mut object = shape::normalise(resource, object).expect("an object of its type");
    shape::default(&mut object["metadata"], "uid", super::fresh::uid().into());
    shape::default(&mut object["metadata"], "creationTimestamp", date::now().into());
    store.put(Key::of(resource, &object), object)
}
