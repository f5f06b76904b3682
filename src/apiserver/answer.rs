//! What an API server answered with 2xx: JSON, checked to be it.

use super::error::{ApiError, Said, is_json};
use crate::http;
use serde::de::DeserializeOwned;

#[derive(Debug)]
pub struct Answer {
    operation: String,
    pub code: u16,
    /// The server's clock, in seconds since the epoch.
    pub date: Option<u64>,
    pub body: Vec<u8>,
}

impl Answer {
    pub(super) fn new(operation: String, answer: http::Answer) -> Result<Answer, ApiError> {
        if !(200..=299).contains(&answer.head.status) {
            return Err(ApiError::of_answer(operation, &answer));
        }
        if !answer.body.is_empty() && !is_json(&answer.head) {
            let kind = answer.head.content_type().unwrap_or("no type at all");
            let message = format!("the answer is {kind}, not JSON: this is no API server");
            return Err(ApiError::Garbage(Said { operation, message }));
        }
        Ok(Answer { operation, code: answer.head.status, date: answer.head.date(), body: answer.body })
    }

    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        decode(&self.operation, &self.body)
    }
}

pub(super) fn decode<T: DeserializeOwned>(operation: &str, body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the answer cannot be understood: {error}");
        ApiError::Garbage(Said { operation: operation.to_owned(), message })
    })
}
