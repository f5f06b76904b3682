//! Server-side printing: what `kubectl get` shows is a table that the server makes, column by column.

use super::resource::Resource;
use super::shape::{items, text};
use super::store::Object;
use super::wire::Request;
use super::{age, cells};
use serde_json::{Value, json};

/// Name, type, and 0 for always or 1 for `-o wide`.
type Column = (&'static str, &'static str, u8);

const NAME: Column = ("Name", "string", 0);
const AGE: Column = ("Age", "string", 0);

const POD: &[Column] = &[
    NAME,
    ("Ready", "string", 0),
    ("Status", "string", 0),
    ("Restarts", "string", 0),
    AGE,
    ("IP", "string", 1),
    ("Node", "string", 1),
    ("Nominated Node", "string", 1),
    ("Readiness Gates", "string", 1),
];
const NODE: &[Column] = &[
    NAME,
    ("Status", "string", 0),
    ("Roles", "string", 0),
    AGE,
    ("Version", "string", 0),
    ("Internal-IP", "string", 1),
    ("External-IP", "string", 1),
    ("OS-Image", "string", 1),
    ("Kernel-Version", "string", 1),
    ("Container-Runtime", "string", 1),
];
const EVENT: &[Column] = &[
    ("Last Seen", "string", 0),
    ("Type", "string", 0),
    ("Reason", "string", 0),
    ("Object", "string", 0),
    ("Subobject", "string", 1),
    ("Source", "string", 1),
    ("Message", "string", 0),
    ("First Seen", "string", 1),
    ("Count", "string", 1),
    ("Name", "string", 1),
];
const LEASE: &[Column] = &[NAME, ("Holder", "string", 0), AGE];
const REQUEST: &[Column] = &[
    NAME,
    AGE,
    ("SignerName", "string", 0),
    ("Requestor", "string", 0),
    ("RequestedDuration", "string", 0),
    ("Condition", "string", 0),
];
const NAMESPACE: &[Column] = &[NAME, ("Status", "string", 0), AGE];
const OTHER: &[Column] = &[NAME, ("Created At", "date", 0)];

/// The table of a resource, and how much of each object goes with its row.
pub struct Columns {
    kind: &'static str,
    version: &'static str,
    include: String,
}

impl Columns {
    /// None where the client takes plain objects.
    pub fn asked(request: &Request, resource: &'static Resource) -> Option<Columns> {
        let accept = request.header("accept");
        let first =
            accept.split(',').map(str::trim).find(|part| part.contains("as=Table") || !part.contains(";as="))?;
        if !first.contains("as=Table") || !first.contains("g=meta.k8s.io") {
            return None;
        }
        let version = if first.contains("v=v1beta1") { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" };
        Some(Columns { kind: resource.kind, version, include: request.query("includeObject").to_owned() })
    }

    pub fn table(&self, objects: &[Object], list_meta: &Value) -> Value {
        let columns = match self.kind {
            "Pod" => POD,
            "Node" => NODE,
            "Event" => EVENT,
            "Lease" => LEASE,
            "CertificateSigningRequest" => REQUEST,
            "Namespace" => NAMESPACE,
            _ => OTHER,
        };
        let definitions = columns.iter().map(|(name, kind, priority)| {
            let format = if *name == "Name" { "name" } else { "" };
            json!({ "name": name, "type": kind, "format": format, "description": name, "priority": priority })
        });
        let rows = objects.iter().map(|object| {
            let mut row = json!({ "cells": self.cells(object), "object": self.included(object) });
            if let phase @ ("Succeeded" | "Failed") = text(object, "/status/phase") {
                row["conditions"] = json!([{ "type": "Completed", "status": "True", "reason": phase }]);
            }
            row
        });
        json!({
            "kind": "Table", "apiVersion": self.version, "metadata": list_meta,
            "columnDefinitions": definitions.collect::<Vec<_>>(), "rows": rows.collect::<Vec<_>>(),
        })
    }

    fn included(&self, object: &Value) -> Value {
        match self.include.as_str() {
            "None" => Value::Null,
            "Object" => object.clone(),
            _ => json!({
                "kind": "PartialObjectMetadata", "apiVersion": self.version, "metadata": object["metadata"],
            }),
        }
    }

    fn cells(&self, object: &Value) -> Value {
        match self.kind {
            "Pod" => cells::pod(object),
            "Node" => cells::node(object),
            "Event" => cells::event(object),
            "Lease" => json!([name(object), text(object, "/spec/holderIdentity"), age::since_creation(object)]),
            "CertificateSigningRequest" => json!([
                name(object),
                age::since_creation(object),
                text(object, "/spec/signerName"),
                text(object, "/spec/username"),
                "<none>",
                request_condition(object),
            ]),
            "Namespace" => json!([name(object), text(object, "/status/phase"), age::since_creation(object)]),
            _ => json!([name(object), text(object, "/metadata/creationTimestamp")]),
        }
    }
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn request_condition(request: &Value) -> String {
    let mut list: Vec<&str> = items(&request["status"], "conditions").iter().map(|c| text(c, "/type")).collect();
    if list.is_empty() {
        return "Pending".to_owned();
    }
    if !text(request, "/status/certificate").is_empty() {
        list.push("Issued");
    }
    list.join(",")
}
