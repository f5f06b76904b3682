//! The resources that the double serves: names, scopes and subresources, as discovery tells them and paths spell them.

use serde_json::{Value, json};

#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub short: &'static [&'static str],
    pub namespaced: bool,
    pub subresources: &'static [&'static str],
    pub rules: Rules,
}

/// How the resource's storage behaves where resources differ.
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// A PUT without a resourceVersion overwrites.
    pub unconditional: bool,
    /// A PUT of what is not there creates it.
    pub create_on_update: bool,
    /// A DELETE answers with the object that was deleted, not with a `Status`.
    pub returns_deleted: bool,
    /// Nothing is stored: the POST is a question.
    pub review: bool,
}

const PLAIN: Rules = Rules { unconditional: true, create_on_update: false, returns_deleted: false, review: false };

/// Of group and version in one string, as objects and paths have it.
const fn core(plural: &'static str, kind: &'static str, namespaced: bool) -> Resource {
    Resource { group: "", version: "v1", plural, kind, short: &[], namespaced, subresources: &[], rules: PLAIN }
}

pub const PODS: Resource = Resource {
    short: &["po"],
    subresources: &["status"],
    rules: Rules { returns_deleted: true, ..PLAIN },
    ..core("pods", "Pod", true)
};
pub const NODES: Resource = Resource { short: &["no"], subresources: &["status"], ..core("nodes", "Node", false) };
pub const EVENTS: Resource =
    Resource { short: &["ev"], rules: Rules { create_on_update: true, ..PLAIN }, ..core("events", "Event", true) };
pub const NAMESPACES: Resource = Resource { short: &["ns"], ..core("namespaces", "Namespace", false) };
pub const SERVICE_ACCOUNTS: Resource = Resource { short: &["sa"], ..core("serviceaccounts", "ServiceAccount", true) };
pub const QUOTAS: Resource = Resource { short: &["quota"], ..core("resourcequotas", "ResourceQuota", true) };
pub const LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    rules: Rules { unconditional: false, create_on_update: true, ..PLAIN },
    ..core("leases", "Lease", true)
};
pub const REQUESTS: Resource = Resource {
    group: "certificates.k8s.io",
    short: &["csr"],
    subresources: &["status", "approval"],
    ..core("certificatesigningrequests", "CertificateSigningRequest", false)
};
pub const CSI_NODES: Resource = Resource {
    group: "storage.k8s.io",
    rules: Rules { returns_deleted: true, ..PLAIN },
    ..core("csinodes", "CSINode", false)
};
pub const ACCESS_REVIEWS: Resource = Resource {
    group: "authorization.k8s.io",
    rules: Rules { review: true, ..PLAIN },
    ..core("subjectaccessreviews", "SubjectAccessReview", false)
};

pub static ALL: [&Resource; 10] =
    [&PODS, &NODES, &EVENTS, &NAMESPACES, &SERVICE_ACCOUNTS, &QUOTAS, &LEASES, &REQUESTS, &CSI_NODES, &ACCESS_REVIEWS];

impl Resource {
    pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        ALL.into_iter().find(|r| r.group == group && r.version == version && r.plural == plural)
    }

    /// The resource of an object, by its apiVersion and kind.
    pub fn of(object: &Value) -> Option<&'static Resource> {
        ALL.into_iter().find(|r| object["apiVersion"] == r.api_version().as_str() && object["kind"] == r.kind)
    }

    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `leases.coordination.k8s.io`: as messages name it.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The entries of discovery: the resource and its subresources.
    pub fn described(&self) -> Vec<Value> {
        let verbs: &[&str] = if self.rules.review {
            &["create"]
        } else {
            &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        };
        let mut main = json!({
            "name": self.plural, "singularName": self.kind.to_lowercase(), "namespaced": self.namespaced,
            "kind": self.kind, "verbs": verbs,
        });
        if !self.short.is_empty() {
            main["shortNames"] = json!(self.short);
        }
        if self.plural == "pods" {
            main["categories"] = json!(["all"]);
        }
        let mut all = vec![main];
        for sub in self.subresources {
            all.push(json!({
                "name": format!("{}/{sub}", self.plural), "singularName": "", "namespaced": self.namespaced,
                "kind": self.kind, "verbs": ["get", "patch", "update"],
            }));
        }
        all
    }
}
