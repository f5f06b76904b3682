//! Who asks: by bearer token, from a table, or by the certificate that the connection was opened with.

use super::wire::{Duplex, Request};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    pub name: String,
    pub groups: Vec<String>,
}

impl User {
    pub fn new(name: &str, groups: &[&str]) -> User {
        User { name: name.to_owned(), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node that this user is, by name and group; a user of the group whose name says no node has an empty one.
    pub fn node(&self) -> Option<&str> {
        self.is_in("system:nodes").then(|| self.name.strip_prefix("system:node:").unwrap_or_default())
    }
}

/// The tokens that are known.
#[derive(Debug, Default)]
pub struct Users {
    by_token: BTreeMap<String, User>,
    /// Who shows nothing is this one; none: nobody.
    pub anonymous: Option<User>,
}

impl Users {
    pub fn add(&mut self, token: &str, user: User) {
        self.by_token.insert(token.to_owned(), user);
    }

    pub fn remove(&mut self, token: &str) {
        self.by_token.remove(token);
    }

    /// None: unknown, or nobody at all.
    pub fn identify(&self, request: &Request, stream: &dyn Duplex) -> Option<User> {
        let (scheme, token) = request.header("authorization").split_once(' ').unwrap_or_default();
        // A certificate counts first, also beside a token that nobody knows.
        let mut user = if let Some((name, groups)) = stream.certificate() {
            User { name, groups }
        } else if scheme.eq_ignore_ascii_case("bearer") {
            self.by_token.get(token.trim())?.clone()
        } else {
            self.anonymous.clone()?
        };
        user.groups.push("system:authenticated".to_owned());
        Some(user)
    }
}
