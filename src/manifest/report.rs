//! Problems of one manifest, each in its place and in Kubernetes' words (apimachinery: `field/errors.go`).

use crate::yaml::{Document, Kind, Part, Path, Problem};

pub(super) struct Report<'d> {
    document: &'d Document<'d>,
    problems: Vec<Problem>,
}

impl<'d> Report<'d> {
    pub fn new(document: &'d Document<'d>, problems: Vec<Problem>) -> Report<'d> {
        Report { document, problems }
    }

    /// In file order.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    pub fn add(&mut self, kind: Kind, path: &Path, part: Part, message: String, hint: Option<String>) {
        let problem = self.document.problem(kind, path, part, message, hint);
        self.problems.push(problem);
    }

    pub fn required(&mut self, path: &Path, detail: &str) {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        self.add(Kind::Value, path, self.part_of_missing(path), message, None);
    }

    /// A field that is there and empty is as good as missing, but its place is its own.
    fn part_of_missing(&self, path: &Path) -> Part {
        if self.document.text_at(path).is_some() { Part::Value } else { Part::Parent }
    }

    pub fn invalid(&mut self, path: &Path, value: &str, detail: &str) {
        self.invalid_at(path, path, &format!("{value:?}"), detail);
    }

    pub fn invalid_number(&mut self, path: &Path, value: i64, detail: &str) {
        self.invalid_at(path, path, &value.to_string(), detail);
    }

    /// Shown under `path`, as Kubernetes names it; the place is that of `at`, which may be nearer to the fault.
    pub fn invalid_at(&mut self, path: &Path, at: &Path, value: &str, detail: &str) {
        let message = format!("Invalid value: {value}: {detail}");
        let mut problem = self.document.problem(Kind::Value, at, Part::Value, message, None);
        problem.path = path.to_string();
        self.problems.push(problem);
    }

    /// As [`Report::invalid_at`], blaming the key: a label's name.
    pub fn invalid_key(&mut self, path: &Path, key: &str, detail: &str) {
        let message = format!("Invalid value: {key:?}: {detail}");
        let mut problem = self.document.problem(Kind::Value, &path.key(key), Part::Key, message, None);
        problem.path = path.to_string();
        self.problems.push(problem);
    }

    pub fn unsupported_value(&mut self, path: &Path, value: &str, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
        let message = format!("Unsupported value: {value:?}: supported values: {}", list.join(", "));
        let hint = crate::yaml::nearest(value, supported.iter().copied()).map(|name| format!("did you mean {name}?"));
        self.add(Kind::Value, path, Part::Value, message, hint);
    }

    pub fn duplicate(&mut self, path: &Path, value: &str) {
        self.add(Kind::Value, path, Part::Value, format!("Duplicate value: {value:?}"), None);
    }

    pub fn not_found(&mut self, path: &Path, value: &str) {
        self.add(Kind::Value, path, Part::Value, format!("Not found: {value:?}"), None);
    }

    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add(Kind::Value, path, Part::Key, format!("Forbidden: {detail}"), None);
    }

    pub fn too_long(&mut self, path: &Path, max_bytes: usize) {
        self.add(Kind::Value, path, Part::Key, format!("Too long: may not be more than {max_bytes} bytes"), None);
    }

    /// A field that a later release will take.
    pub fn not_yet(&mut self, path: &Path) {
        self.add(Kind::Unsupported, path, Part::Key, "not supported yet".to_owned(), None);
    }

    /// A value that a later release will take, of a field that is taken.
    pub fn value_not_yet(&mut self, path: &Path) {
        self.add(Kind::Unsupported, path, Part::Value, "not supported yet".to_owned(), None);
    }

    /// The kubelet's refusal of what only an API server could give (`HasAPIObjectReference`).
    pub fn reference(&mut self, path: &Path, what: &str) {
        self.add(Kind::Value, path, Part::Key, format!("static pods may not reference {what}"), None);
    }

    /// As [`Report::reference`], for a ConfigMap or Secret that a file beside the pod could hold one day.
    pub fn local_reference(&mut self, path: &Path, what: &str) {
        let hint = "ConfigMaps and Secrets in files beside the pods are not supported yet".to_owned();
        self.add(Kind::Value, path, Part::Key, format!("static pods may not reference {what}"), Some(hint));
    }
}
