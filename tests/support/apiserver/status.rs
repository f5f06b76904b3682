//! What a failed request is told: Kubernetes' `Status`, in the words that a real server uses, since clients and their
//! users read reasons, details and messages.

use super::resource::Resource;
use serde_json::{Map, Value, json};

/// A failure as its `Status` body; `code` is also the status line's.
#[derive(Clone, Debug)]
pub struct Failure {
    pub code: u16,
    pub body: Value,
    pub retry_after: Option<u32>,
}

impl Failure {
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Failure {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason, "code": code,
        });
        if reason.is_empty() {
            body.as_object_mut().expect("an object").remove("reason");
        }
        Failure { code, body, retry_after: None }
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Failure {
        let mut details = Map::new();
        for (key, text) in [("name", name), ("group", group), ("kind", kind)] {
            if !text.is_empty() {
                details.insert(key.to_owned(), text.into());
            }
        }
        self.body["details"] = Value::Object(details);
        self
    }

    fn on(resource: &Resource, name: &str, code: u16, reason: &str, message: String) -> Failure {
        Failure::new(code, reason, message).about(resource.group, resource.plural, name)
    }

    pub fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    pub fn internal(message: impl Into<String>) -> Failure {
        let message = message.into();
        let mut failure = Failure::new(500, "InternalError", format!("Internal error occurred: {message}"));
        failure.body["details"] = json!({ "causes": [{ "message": message }] });
        failure
    }

    /// What the mux answers where no resource is served.
    pub fn no_such_path() -> Failure {
        let mut failure = Failure::new(404, "NotFound", "the server could not find the requested resource");
        failure.body["details"] = json!({});
        failure
    }

    pub fn method_not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        let mut failure = Failure::new(405, "MethodNotAllowed", message);
        failure.body["details"] = json!({});
        failure
    }

    pub fn unsupported_media(accepted: &[&str]) -> Failure {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Failure::new(415, "UnsupportedMediaType", message)
    }

    pub fn not_found(resource: &Resource, name: &str) -> Failure {
        Failure::on(resource, name, 404, "NotFound", format!("{} {name:?} not found", resource.qualified()))
    }

    /// As a cache says it, which knows no plural.
    pub fn not_cached(resource: &Resource, name: &str) -> Failure {
        let kind = resource.kind.to_lowercase();
        Failure::new(404, "NotFound", format!("{kind} {name:?} not found")).about(resource.group, &kind, name)
    }

    pub fn already_exists(resource: &Resource, name: &str) -> Failure {
        Failure::on(resource, name, 409, "AlreadyExists", format!("{} {name:?} already exists", resource.qualified()))
    }

    /// The object changed since the client read it.
    pub fn stale(resource: &Resource, name: &str) -> Failure {
        Failure::conflict(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Failure {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Failure::on(resource, name, 409, "Conflict", message)
    }

    /// A precondition of a delete; the real server names the kind here, not the resource.
    pub fn precondition(resource: &Resource, name: &str, why: &str) -> Failure {
        let kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let message = format!("Operation cannot be fulfilled on {kind} {name:?}: {why}");
        Failure::new(409, "Conflict", message).about(resource.group, resource.kind, name)
    }

    /// The object that a PUT names has another UID than the one that is stored (none where nothing is stored).
    pub fn other_uid(resource: &Resource, key: &str, name: &str, wanted: &str, found: &str) -> Failure {
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry/{key}, ResourceVersion: 0, AdditionalErrorMsg: \
             Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
        );
        Failure::conflict(resource, name, &why)
    }

    /// Refused, by the authorizer or by admission.
    pub fn forbidden(resource: &Resource, name: &str, why: &str) -> Failure {
        let qualified = resource.qualified();
        let message = if name.is_empty() {
            format!("{qualified} is forbidden: {why}")
        } else {
            format!("{qualified} {name:?} is forbidden: {why}")
        };
        Failure::on(resource, name, 403, "Forbidden", message)
    }

    /// One problem alone, or all of them in brackets, as validation reports them.
    pub fn invalid(resource: &Resource, name: &str, problems: &[Problem]) -> Failure {
        let kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let texts: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.text)).collect();
        let list = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let mut failure = Failure::new(422, "Invalid", format!("{kind} {name:?} is invalid: {list}"));
        failure = failure.about(resource.group, resource.kind, name);
        let causes = problems.iter().map(|p| json!({ "reason": p.reason, "message": p.text, "field": p.field }));
        failure.body["details"]["causes"] = causes.collect();
        failure
    }

    /// The version that a watch or a list asks for is no longer kept.
    pub fn gone(wanted: u64, oldest: u64) -> Failure {
        Failure::new(410, "Expired", format!("too old resource version: {wanted} ({oldest})"))
    }

    /// The version that a list asks for has not been reached.
    pub fn ahead(wanted: u64, current: u64) -> Failure {
        let message = format!("Too large resource version: {wanted}, current: {current}");
        let mut failure = Failure::new(504, "Timeout", message);
        failure.body["details"] = json!({
            "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }],
            "retryAfterSeconds": 1,
        });
        failure.retry_after = Some(1);
        failure
    }
}

/// One field that validation refuses.
pub struct Problem {
    pub field: &'static str,
    pub reason: &'static str,
    pub text: String,
}

impl Problem {
    pub fn immutable(field: &'static str, given: &str) -> Problem {
        let text = format!("Invalid value: {given:?}: field is immutable");
        Problem { field, reason: "FieldValueInvalid", text }
    }

    pub fn invalid(field: &'static str, given: &str, why: &str) -> Problem {
        Problem { field, reason: "FieldValueInvalid", text: format!("Invalid value: {given}: {why}") }
    }

    pub fn required(field: &'static str, why: &str) -> Problem {
        let text = if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        Problem { field, reason: "FieldValueRequired", text }
    }

    pub fn forbidden(field: &'static str, why: &str) -> Problem {
        Problem { field, reason: "FieldValueForbidden", text: format!("Forbidden: {why}") }
    }
}
