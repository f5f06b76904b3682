//! The quality-of-service class that a server gives a pod when it is created.

use super::shape::items;
use serde_json::Value;

pub fn class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    for container in items(spec, "containers").iter().chain(items(spec, "initContainers")) {
        for resource in ["cpu", "memory"] {
            let limit = &container["resources"]["limits"][resource];
            let request = &container["resources"]["requests"][resource];
            let asks = |amount: &Value| amount.as_str().is_some_and(|text| !text.trim_start_matches('0').is_empty());
            any |= asks(limit) || asks(request);
            guaranteed &= asks(limit) && (request.is_null() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
