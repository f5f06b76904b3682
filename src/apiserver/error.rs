//! What an API server refuses, and why there may be no answer at all: one typed enum, decoded from status and body.

use super::kubeconfig::CredentialError;
use crate::http;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Of an answer that is no Status, this much is shown, in characters.
const SHOWN_CHARACTERS_MAX: usize = 200;

/// What was asked for and what the server said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `PATCH https://host/api/v1/...`
    pub operation: String,
    pub message: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.message)
    }
}

#[derive(Debug, Error)]
pub enum ApiError {
    /// Nothing was sent: who we are is not known.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No answer, or none to the end. Whether a request was carried out is not known.
    #[error(transparent)]
    Unreachable(http::Error),
    /// 401, also with a fresh credential.
    #[error("{0}")]
    Unauthorized(Said),
    #[error("{0}")]
    Forbidden(Said),
    #[error("{0}")]
    NotFound(Said),
    /// Another version, or another UID, than the one that the request named.
    #[error("{0}")]
    Conflict(Said),
    #[error("{0}")]
    AlreadyExists(Said),
    /// The resource version is too old: list again.
    #[error("{0}")]
    Gone(Said),
    #[error("{said}")]
    TooManyRequests { said: Said, retry_after: Option<Duration> },
    /// 400 and 422: the same request will be refused again.
    #[error("{0}")]
    Invalid(Said),
    #[error("{said}")]
    Server { code: u16, said: Said, retry_after: Option<Duration> },
    /// An answer that no API server gives: a captive portal, a proxy, another server.
    #[error("{0}")]
    Garbage(Said),
    #[error(transparent)]
    TooLarge(http::Error),
}

impl ApiError {
    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ApiError::TooManyRequests { retry_after, .. } | ApiError::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn of_http(error: http::Error) -> ApiError {
        match error.cause() {
            http::Cause::TooLarge { .. } | http::Cause::LineTooLong { .. } => ApiError::TooLarge(error),
            _ => ApiError::Unreachable(error),
        }
    }

    /// Of an answer other than 2xx.
    pub(super) fn of_answer(operation: String, answer: &http::Answer) -> ApiError {
        let code = answer.head.status;
        let header = answer.head.retry_after();
        let status = serde_json::from_slice::<Status>(&answer.body).ok().filter(|_| is_json(&answer.head));
        match status {
            Some(status) => ApiError::of_status(operation, code, status, header),
            None => ApiError::of_text(operation, code, &answer.body, header),
        }
    }

    /// `code` is the answer's; a Status inside a watch has only its own.
    pub(super) fn of_status(operation: String, code: u16, status: Status, header: Option<Duration>) -> ApiError {
        let reason = status.reason.unwrap_or_default();
        let asked = status.details.as_ref().and_then(|details| details.retry_after_seconds);
        let asked = asked.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        let retry_after = header.or(asked.map(Duration::from_secs));
        let message = match status.message.filter(|message| !message.is_empty()) {
            Some(message) => message,
            None if reason.is_empty() => format!("status {code}"),
            None => reason.clone(),
        };
        let said = Said { operation, message };
        match (code, reason.as_str()) {
            (400 | 422, _) => ApiError::Invalid(said),
            (401, _) => ApiError::Unauthorized(said),
            (403, _) => ApiError::Forbidden(said),
            (404, _) => ApiError::NotFound(said),
            (409, "AlreadyExists") => ApiError::AlreadyExists(said),
            (409, _) => ApiError::Conflict(said),
            (410, _) => ApiError::Gone(said),
            (429, _) => ApiError::TooManyRequests { said, retry_after },
            _ => ApiError::Server { code, said, retry_after },
        }
    }

    /// Without a Status: of these codes only those are taken by their meaning that a server gives before it knows what
    /// was asked. Whatever stands between may say 404, and no object is gone by that.
    fn of_text(operation: String, code: u16, body: &[u8], retry_after: Option<Duration>) -> ApiError {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        let plain = !text.is_empty() && !text.starts_with('<') && !text.contains(|c: char| c.is_control() && c != '\n');
        let shown: String = text.lines().next().unwrap_or_default().chars().take(SHOWN_CHARACTERS_MAX).collect();
        let message = if plain { format!("status {code}: {shown}") } else { format!("status {code}") };
        let said = Said { operation, message };
        match code {
            401 => ApiError::Unauthorized(said),
            429 => ApiError::TooManyRequests { said, retry_after },
            100..=399 => ApiError::Garbage(said),
            _ => ApiError::Server { code, said, retry_after },
        }
    }
}

pub(super) fn is_json(head: &http::Head) -> bool {
    head.content_type().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}
