//! Failures on demand: which requests fail, how often, and how.

use super::wire::Request;
use std::sync::Mutex;
use std::time::Duration;

#[derive(Clone, Debug)]
pub enum Fault {
    /// A `Status` with this code, reason and message.
    Status { code: u16, reason: &'static str, message: String, retry_after: Option<u32> },
    /// 200 and these bytes as `application/json`.
    Garbage(Vec<u8>),
    /// The request is served; its answer breaks off in the middle of the body.
    Truncate,
    /// The request is served; the connection closes before a byte of the answer.
    LoseAnswer,
    /// Nothing is served, nothing is answered, the connection stays open.
    Hang,
    /// The connection is closed at once.
    Close,
    /// Served after a while.
    Delay(Duration),
    /// Served, but the answer comes in pieces of this size with a pause behind each.
    Dribble { piece: usize, pause: Duration },
}

impl Fault {
    pub fn status(code: u16) -> Fault {
        let reason = match code {
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "NotFound",
            409 => "Conflict",
            410 => "Expired",
            422 => "Invalid",
            429 => "TooManyRequests",
            500 => "InternalError",
            503 => "ServiceUnavailable",
            504 => "Timeout",
            _ => "",
        };
        Fault::says(code, reason, &format!("on demand: {code}"))
    }

    /// As a plugin or a quota refuses, in words of its own.
    pub fn says(code: u16, reason: &'static str, message: &str) -> Fault {
        Fault::Status { code, reason, message: message.to_owned(), retry_after: None }
    }

    pub fn too_many(retry_after: u32) -> Fault {
        let message = "too many requests, please try again later".to_owned();
        Fault::Status { code: 429, reason: "TooManyRequests", message, retry_after: Some(retry_after) }
    }
}

type Matches = Box<dyn Fn(&Request) -> bool + Send>;

struct Rule {
    id: u64,
    matches: Matches,
    left: Option<u64>,
    fault: Fault,
}

#[derive(Default)]
pub struct Faults {
    rules: Mutex<(u64, Vec<Rule>)>,
}

impl Faults {
    /// `times` is none for: until it is taken back. Returns what [`Faults::heal`] takes.
    pub fn add(&self, times: Option<u64>, fault: Fault, matches: impl Fn(&Request) -> bool + Send + 'static) -> u64 {
        let mut rules = self.rules.lock().expect("no holder panics");
        rules.0 += 1;
        let id = rules.0;
        rules.1.push(Rule { id, matches: Box::new(matches), left: times, fault });
        id
    }

    pub fn heal(&self, id: u64) {
        self.rules.lock().expect("no holder panics").1.retain(|rule| rule.id != id);
    }

    pub fn heal_all(&self) {
        self.rules.lock().expect("no holder panics").1.clear();
    }

    /// The fault of the first rule that this request meets; it counts.
    pub fn meets(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("no holder panics");
        let rule = rules.1.iter_mut().find(|rule| rule.left != Some(0) && (rule.matches)(request))?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.fault.clone())
    }
}
