//! A watch: events as the server sends them, until it ends the watch, the deadline passes, or something breaks.

use super::answer::decode;
use super::error::{ApiError, Said};
use crate::http;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
    /// Only its resource version means something.
    Bookmark,
}

/// One line of a watch; its object is decoded by whoever knows its type.
pub struct WatchEvent {
    pub kind: EventKind,
    operation: String,
    line: Vec<u8>,
}

impl WatchEvent {
    pub fn object<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        #[derive(Deserialize)]
        #[serde(bound = "T: DeserializeOwned")]
        struct Body<T> {
            object: T,
        }
        decode::<Body<T>>(&self.operation, &self.line).map(|body| body.object)
    }
}

impl fmt::Debug for WatchEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.line.len())
    }
}

/// Ends (`None`) when the server ends it, which is ordinary: list or watch again. An error is the last item.
#[derive(Debug)]
pub struct Watch {
    operation: String,
    /// `None` after an error.
    stream: Option<http::Stream>,
}

impl Watch {
    pub(super) fn new(operation: String, stream: http::Stream) -> Watch {
        Watch { operation, stream: Some(stream) }
    }

    fn event(&self, line: Vec<u8>) -> Result<WatchEvent, ApiError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(rename = "type")]
            kind: String,
        }
        let head: Head = decode(&self.operation, &line)?;
        let kind = match head.kind.as_str() {
            "ADDED" => EventKind::Added,
            "MODIFIED" => EventKind::Modified,
            "DELETED" => EventKind::Deleted,
            "BOOKMARK" => EventKind::Bookmark,
            "ERROR" => return Err(self.refusal(line)),
            other => {
                let message = format!("an event of a kind that no API server sends: {other:?}");
                return Err(ApiError::Garbage(Said { operation: self.operation.clone(), message }));
            }
        };
        Ok(WatchEvent { kind, operation: self.operation.clone(), line })
    }

    fn refusal(&self, line: Vec<u8>) -> ApiError {
        let event = WatchEvent { kind: EventKind::Bookmark, operation: self.operation.clone(), line };
        match event.object::<Status>() {
            Ok(status) => {
                let code = status.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500);
                ApiError::of_status(self.operation.clone(), code, status, None)
            }
            Err(error) => error,
        }
    }
}

impl Iterator for Watch {
    type Item = Result<WatchEvent, ApiError>;

    fn next(&mut self) -> Option<Result<WatchEvent, ApiError>> {
        let line = self.stream.as_mut()?.next()?;
        let event = line.map_err(ApiError::of_http).and_then(|line| self.event(line));
        if event.is_err() {
            self.stream = None;
        }
        Some(event)
    }
}
