//! Field and label selectors: which objects a list or a watch is about.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    Is(String),
    Not(String),
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

/// Fields or labels and what they must be; empty selects everything.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pub terms: Vec<(String, Test)>,
}

impl Selector {
    /// `metadata.name=x,spec.nodeName!=y`: fields know equality only.
    pub fn fields(text: &str) -> Result<Selector, String> {
        let mut terms = Vec::new();
        for term in text.split(',').filter(|t| !t.is_empty()) {
            terms.push(equality(term).ok_or_else(|| format!("invalid selector: {text:?}; can't understand {term:?}"))?);
        }
        Ok(Selector { terms })
    }

    /// `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn labels(text: &str) -> Result<Selector, String> {
        let mut terms = Vec::new();
        for term in outside_brackets(text) {
            let term = term.trim();
            if let Some((key, list)) = set(term, " notin ") {
                terms.push((key, Test::NotIn(list)));
            } else if let Some((key, list)) = set(term, " in ") {
                terms.push((key, Test::In(list)));
            } else if let Some(found) = equality(term) {
                terms.push(found);
            } else if let Some(key) = term.strip_prefix('!') {
                terms.push((key.to_owned(), Test::Missing));
            } else if term.contains(['(', ')', ' ']) {
                return Err(format!("unable to parse requirement: {term:?}"));
            } else {
                terms.push((term.to_owned(), Test::Exists));
            }
        }
        Ok(Selector { terms })
    }

    /// The value that the selector fixes for `key`.
    pub fn fixed(&self, key: &str) -> Option<&str> {
        self.terms.iter().find_map(|(k, test)| match test {
            Test::Is(value) if k == key => Some(value.as_str()),
            _ => None,
        })
    }

    fn holds(&self, value_of: impl Fn(&str) -> Option<String>) -> bool {
        self.terms.iter().all(|(key, test)| {
            let value = value_of(key);
            match test {
                Test::Is(wanted) => value.as_deref() == Some(wanted),
                Test::Not(wanted) => value.as_deref() != Some(wanted),
                Test::In(list) => value.is_some_and(|v| list.contains(&v)),
                Test::NotIn(list) => value.is_none_or(|v| !list.contains(&v)),
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
            }
        })
    }

    pub fn selects_fields(&self, object: &Value) -> bool {
        self.holds(|key| Some(field(object, key)))
    }

    pub fn selects_labels(&self, object: &Value) -> bool {
        self.holds(|key| object["metadata"]["labels"][key].as_str().map(str::to_owned))
    }
}

/// A field by its dotted path; one that is not there selects as the empty text, as it does for Go's types.
fn field(object: &Value, path: &str) -> String {
    let path = match path {
        // Of events, which have no single source of their own.
        "source" => "source.component",
        other => other,
    };
    let mut at = object;
    for step in path.split('.') {
        at = &at[step];
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn equality(term: &str) -> Option<(String, Test)> {
    let (key, value) = term.split_once('=')?;
    if let Some(key) = key.strip_suffix('!') {
        return Some((key.trim().to_owned(), Test::Not(value.trim().to_owned())));
    }
    Some((key.trim().to_owned(), Test::Is(value.trim_start_matches('=').trim().to_owned())))
}

fn set(term: &str, word: &str) -> Option<(String, Vec<String>)> {
    let (key, list) = term.split_once(word)?;
    let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some((key.trim().to_owned(), list.split(',').map(|v| v.trim().to_owned()).collect()))
}

fn outside_brackets(text: &str) -> Vec<&str> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.retain(|t| !t.trim().is_empty());
    terms
}
