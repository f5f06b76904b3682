//! Every request that came, in order, with what was answered: what tests ask about traffic.

use super::wire::Request;
use serde_json::Value;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Instant,
    /// The connection, counted from 1 over the life of the double.
    pub connection: u64,
    pub user: String,
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub user_agent: String,
    pub content_type: String,
    pub body: Value,
    /// 0 as long as nothing was answered, and for good where a fault took the answer away.
    pub status: u16,
    /// With heads.
    pub bytes_in: usize,
    pub bytes_out: usize,
    /// The answer, or the watch, is over.
    pub done: bool,
}

impl Entry {
    pub fn query(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    pub fn is_watch(&self) -> bool {
        self.method == "GET" && matches!(self.query("watch"), "true" | "1")
    }

    /// `PATCH /api/v1/nodes/n/status`
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    pub fn begin(&self, connection: u64, request: &Request) -> usize {
        let mut entries = self.entries.lock().expect("no holder panics");
        entries.push(Entry {
            at: Instant::now(),
            connection,
            user: String::new(),
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            user_agent: request.header("user-agent").to_owned(),
            content_type: request.header("content-type").to_owned(),
            body: request.json(),
            status: 0,
            bytes_in: request.bytes,
            bytes_out: 0,
            done: false,
        });
        entries.len() - 1
    }

    pub fn note(&self, entry: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries.lock().expect("no holder panics").get_mut(entry) {
            change(entry);
        }
    }

    pub fn all(&self) -> Vec<Entry> {
        self.entries.lock().expect("no holder panics").clone()
    }

    /// A place in the journal, for [`Journal::since`].
    pub fn mark(&self) -> usize {
        self.entries.lock().expect("no holder panics").len()
    }

    pub fn since(&self, mark: usize) -> Vec<Entry> {
        self.entries.lock().expect("no holder panics").iter().skip(mark).cloned().collect()
    }
}
