//! Deletion: at once for most things; for a pod on a node it is a wish, with a time by which it should be met, until
//! somebody (the node) deletes it with a grace of nothing.

use super::date;
use super::resource::Resource;
use super::shape::text;
use super::status::Failure;
use super::store::{Key, Object, Store};
use serde_json::Value;

/// Of DeleteOptions, what decides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub grace: Option<i64>,
    pub uid: String,
    pub version: String,
}

impl Options {
    /// From the body, or from the query where there is none.
    pub fn read(body: &Value, query_grace: &str) -> Options {
        let grace = body["gracePeriodSeconds"].as_i64().or_else(|| query_grace.parse().ok());
        let precondition = |field: &str| text(body, &format!("/preconditions/{field}")).to_owned();
        Options { grace, uid: precondition("uid"), version: precondition("resourceVersion") }
    }

    pub fn check(&self, resource: &Resource, object: &Value) -> Result<(), Failure> {
        let name = text(object, "/metadata/name");
        for (wanted, field, word) in
            [(&self.uid, "/metadata/uid", "UID"), (&self.version, "/metadata/resourceVersion", "ResourceVersion")]
        {
            let found = text(object, field);
            if !wanted.is_empty() && wanted != found {
                let what = if word == "UID" { "deleted and then recreated" } else { "modified" };
                let why = format!(
                    "the {word} in the precondition ({wanted}) does not match the {word} in record ({found}). The \
                     object might have been {what}"
                );
                return Err(Failure::precondition(resource, name, &why));
            }
        }
        Ok(())
    }
}

/// What a delete left: the object as it was last, and whether it is gone.
pub struct Outcome {
    pub object: Object,
    pub gone: bool,
}

pub fn delete(store: &mut Store, resource: &Resource, key: &Key, options: &Options) -> Result<Outcome, Failure> {
    let object = store.get(key).ok_or_else(|| Failure::not_found(resource, &key.name))?;
    options.check(resource, &object)?;
    if resource.kind == "Namespace" {
        return Ok(Outcome { object: terminate(store, key, &object), gone: false });
    }
    if resource.kind != "Pod" {
        let object = store.remove(key).expect("it was there");
        return Ok(Outcome { object, gone: true });
    }
    let mut pod = (*object).clone();
    let grace = match pod["metadata"]["deletionGracePeriodSeconds"].as_i64() {
        // A second wish can only shorten the first.
        Some(pending) => match options.grace.map(|wanted| wanted.max(0)) {
            Some(wanted) if wanted < pending => {
                let due = date::parse(text(&pod, "/metadata/deletionTimestamp")).unwrap_or_else(date::seconds);
                pod["metadata"]["deletionTimestamp"] = date::text(due - pending + wanted).into();
                wanted
            }
            _ => return Ok(Outcome { object, gone: false }),
        },
        None => {
            let grace = first_grace(&pod, options);
            pod["metadata"]["deletionTimestamp"] = date::after(grace).into();
            let generation = pod["metadata"]["generation"].as_i64().unwrap_or(0);
            if generation > 0 {
                pod["metadata"]["generation"] = (generation + 1).into();
            }
            grace
        }
    };
    pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
    let object = store.put(key.clone(), pod);
    if grace > 0 {
        return Ok(Outcome { object, gone: false });
    }
    Ok(Outcome { object: store.remove(key).expect("it was there"), gone: true })
}

/// A namespace stays until somebody has emptied it.
fn terminate(store: &mut Store, key: &Key, namespace: &Object) -> Object {
    if text(namespace, "/status/phase") == "Terminating" {
        return namespace.clone();
    }
    let mut namespace = (**namespace).clone();
    namespace["metadata"]["deletionTimestamp"] = date::now().into();
    namespace["status"]["phase"] = "Terminating".into();
    store.put(key.clone(), namespace)
}

/// The grace of a first wish: nothing where nobody has to stop anything.
fn first_grace(pod: &Value, options: &Options) -> i64 {
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(0);
    let bound = !text(pod, "/spec/nodeName").is_empty();
    let over = matches!(text(pod, "/status/phase"), "Failed" | "Succeeded");
    match options.grace.unwrap_or(own) {
        _ if !bound || over => 0,
        negative if negative < 0 => 1,
        grace => grace,
    }
}
