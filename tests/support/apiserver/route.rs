//! From a request to what it asks for: the resource, the object, the verb, as the authorizer and admission name them.

use super::resource::Resource;
use super::selector::Selector;
use super::status::Failure;
use super::wire::Request;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn text(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// A request about a resource.
#[derive(Clone, Debug)]
pub struct Target {
    pub resource: &'static Resource,
    pub verb: Verb,
    /// Empty: all of them, or a resource without.
    pub namespace: String,
    /// Of a list or watch too, where its field selector fixes the name.
    pub name: String,
    /// `status`, or empty.
    pub sub: String,
    pub fields: Selector,
    pub labels: Selector,
}

/// Whether the path is one of a resource: `/api/v1/...` or `/apis/<group>/<version>/...`, with something behind it.
pub fn target(request: &Request) -> Result<Option<Target>, Failure> {
    let steps: Vec<&str> = request.path.split('/').filter(|step| !step.is_empty()).collect();
    let (group, version, rest) = match steps.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(None),
    };
    if rest.is_empty() {
        return Ok(None);
    }
    let (namespace, rest) = match rest {
        // `namespaces/x` is the namespace itself; with a resource behind it, a place.
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() && !matches!(rest, ["status" | "finalize"]) => {
            (*namespace, rest)
        }
        rest => ("", rest),
    };
    let resource = Resource::find(group, version, rest[0]).ok_or_else(Failure::no_such_path)?;
    let name = rest.get(1).copied().unwrap_or_default();
    let sub = rest.get(2).copied().unwrap_or_default();
    if rest.len() > 3 || !(sub.is_empty() || resource.subresources.contains(&sub)) {
        return Err(Failure::no_such_path());
    }
    let fields = Selector::fields(request.query("fieldSelector")).map_err(Failure::bad_request)?;
    let labels = Selector::labels(request.query("labelSelector")).map_err(Failure::bad_request)?;
    let verb = verb(request, name)?;
    let mut name = name.to_owned();
    if name.is_empty()
        && matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
        && let Some(fixed) = fields.fixed("metadata.name")
    {
        name = fixed.to_owned();
    }
    let (namespace, sub) = (namespace.to_owned(), sub.to_owned());
    Ok(Some(Target { resource, verb, namespace, name, sub, fields, labels }))
}

fn verb(request: &Request, name: &str) -> Result<Verb, Failure> {
    Ok(match (request.method.as_str(), name.is_empty()) {
        ("GET", true) if request.flag("watch") => Verb::Watch,
        ("GET", true) => Verb::List,
        ("GET", false) => Verb::Get,
        ("POST", true) => Verb::Create,
        ("PUT", false) => Verb::Update,
        ("PATCH", false) => Verb::Patch,
        ("DELETE", false) => Verb::Delete,
        ("DELETE", true) => Verb::DeleteCollection,
        _ => return Err(Failure::method_not_allowed()),
    })
}
