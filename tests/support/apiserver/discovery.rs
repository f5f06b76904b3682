//! Discovery, as kubectl asks for it before anything else: versions, groups, and the resources of each.

use super::resource::{ALL, Resource};
use super::status::Failure;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is at a path that is not of a resource.
pub fn answer(path: &str) -> Result<Value, Failure> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    match steps.as_slice() {
        [] => Ok(json!({ "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"] })),
        ["version"] => Ok(version()),
        ["api"] => Ok(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1" }],
        })),
        ["api", version] => resources("", version),
        ["apis"] => Ok(json!({
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": groups().values().cloned().collect::<Vec<_>>(),
        })),
        ["apis", group] => {
            let mut found = groups().get(*group).cloned().ok_or_else(Failure::no_such_path)?;
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            Ok(found)
        }
        ["apis", group, version] => resources(group, version),
        _ => Err(Failure::no_such_path()),
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "gitVersion": "v1.36.2", "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "2026-06-01T00:00:00Z", "goVersion": "go1.26", "compiler": "gc", "platform": "linux/amd64",
    })
}

fn groups() -> BTreeMap<&'static str, Value> {
    let grouped = ALL.into_iter().filter(|resource| !resource.group.is_empty());
    let described = grouped.map(|resource| {
        let version = json!({ "groupVersion": resource.api_version(), "version": resource.version });
        let group = json!({ "name": resource.group, "versions": [version], "preferredVersion": version });
        (resource.group, group)
    });
    described.collect()
}

fn resources(group: &str, version: &str) -> Result<Value, Failure> {
    let ours = |resource: &&Resource| resource.group == group && resource.version == version;
    let list: Vec<Value> = ALL.into_iter().filter(ours).flat_map(Resource::described).collect();
    if list.is_empty() {
        return Err(Failure::no_such_path());
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list }))
}
