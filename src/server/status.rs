//! Kubernetes' `Status` objects: what a Kubernetes-shaped read answers when it fails.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};

/// A failure in the API server's form; `pod` is the name that was asked for.
pub fn failure(code: u16, message: &str, pod: Option<&str>) -> Status {
    let reason = match code {
        400 => "BadRequest",
        404 => "NotFound",
        409 => "Conflict",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    let details = |name: &str| StatusDetails {
        name: Some(name.to_owned()),
        kind: Some("pods".to_owned()),
        ..StatusDetails::default()
    };
    Status {
        status: Some("Failure".to_owned()),
        message: Some(message.to_owned()),
        reason: Some(reason.to_owned()),
        details: pod.map(details),
        code: Some(i32::from(code)),
        ..Status::default()
    }
}
