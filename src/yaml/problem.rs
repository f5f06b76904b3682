//! One thing that is wrong with a document, and how it is shown (contract 2, "Errors").

use serde::{Deserialize, Serialize};
use std::fmt;

/// How many problems of one file are shown; the rest is only counted.
pub const SHOWN_MAX: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The text is no YAML, or not YAML that is taken here.
    Syntax,
    UnknownField,
    DuplicateKey,
    /// A value of another type than the field's.
    Type,
    /// A value that the field's rules refuse, or a field that must be there.
    Value,
    /// Right for a kubelet, but not built yet.
    Unsupported,
    /// The file itself, or its relation to another one.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub kind: Kind,
    /// From 1; 0 where no place in the file is to blame.
    pub line: u32,
    /// In characters, from 1; 0 with `line`.
    pub column: u32,
    /// Empty where no field is to blame.
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the whole file.
    pub fn of_file(message: impl Into<String>) -> Problem {
        Problem { kind: Kind::File, line: 0, column: 0, path: String::new(), message: message.into(), hint: None }
    }

    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// `LINE:COL: field.path: what is wrong; hint: ...`, without what is not known.
    pub fn one_line(&self) -> String {
        let place = if self.line > 0 { format!("{}:{}: ", self.line, self.column) } else { String::new() };
        match &self.hint {
            Some(hint) => format!("{place}{self}; hint: {hint}"),
            None => format!("{place}{self}"),
        }
    }
}

/// `field.path: what is wrong`.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// The lines that users see: `FILE:LINE:COL: field.path: what is wrong`, then `hint: ...` where there is one, and
/// `and N more` if `more` or the problems beyond [`SHOWN_MAX`] remain.
pub fn render(file: &str, problems: &[Problem], more: usize) -> String {
    let mut text = String::new();
    for problem in problems.iter().take(SHOWN_MAX) {
        if problem.line > 0 {
            text += &format!("{file}:{}:{}: {problem}\n", problem.line, problem.column);
        } else {
            text += &format!("{file}: {problem}\n");
        }
        if let Some(hint) = &problem.hint {
            text += &format!("hint: {hint}\n");
        }
    }
    let more = more + problems.len().saturating_sub(SHOWN_MAX);
    if more > 0 {
        text += &format!("and {more} more\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32) -> Problem {
        Problem {
            kind: Kind::UnknownField,
            line,
            column: 5,
            path: "spec.x".to_owned(),
            message: "unknown field".to_owned(),
            hint: Some("did you mean y?".to_owned()),
        }
    }

    #[test]
    fn a_problem_has_a_long_and_a_short_form() {
        assert_eq!(render("a.yaml", &[problem(3)], 0), "a.yaml:3:5: spec.x: unknown field\nhint: did you mean y?\n");
        assert_eq!(problem(3).one_line(), "3:5: spec.x: unknown field; hint: did you mean y?");
        assert_eq!(render("a.yaml", &[Problem::of_file("is empty")], 0), "a.yaml: is empty\n");
    }

    #[test]
    fn the_first_twenty_are_shown_and_the_rest_counted() {
        let problems: Vec<Problem> = (1..=23).map(problem).collect();
        let text = render("a", &problems, 4);
        assert_eq!(text.lines().count(), 41);
        assert!(text.ends_with("and 7 more\n"), "{text}");
    }
}
