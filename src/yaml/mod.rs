//! YAML (and JSON) in the dialect that people write for a kubelet: text -> tree with places -> any serde type.
//!
//! The only user of serde_yaml (`load.rs`). It knows no Kubernetes: who the fields belong to, and what a value may be,
//! comes from the type that is asked for. It resolves scalars by the expected type (`yes` is a boolean only where a
//! boolean is expected, `0644` is octal where an integer is), reports unknown fields and duplicate keys, and collects
//! all problems with their places instead of stopping at the first.
//!
//! Foreign bytes go through here only inside the decoding child, which has limits; the agent's own configuration file
//! is read directly.

mod access;
mod canonical;
mod document;
mod load;
mod nearest;
mod path;
mod problem;
mod scalar;
mod syntax;
mod tree;
mod typed;

pub use document::{Document, Part};
pub use nearest::nearest;
pub use path::{Path, Segment};
pub use problem::{Kind, Problem, SHOWN_MAX, render};

use serde::de::DeserializeOwned;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Unknown fields and duplicate keys are errors; otherwise they come back as warnings, and the last of several
    /// equal keys counts, as it does for a kubelet.
    pub strict: bool,
}

/// Decodes one document. `Ok` carries warnings, in file order; `Err` carries every problem that was found, in file
/// order, unknown fields and duplicate keys of a lenient reading too.
pub fn decode<T: DeserializeOwned>(text: &str, options: Options) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    let document = Document::parse(text).map_err(|problem| vec![problem])?;
    let (value, problems) = document.decode::<T>();
    let fatal = |problem: &Problem| options.strict || !matches!(problem.kind, Kind::UnknownField | Kind::DuplicateKey);
    match value {
        Some(value) if !problems.iter().any(fatal) => Ok((value, problems)),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase")]
    struct Settings {
        max_pods: u32,
        #[serde(default)]
        enabled: Option<bool>,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        labels: std::collections::BTreeMap<String, String>,
        #[serde(default)]
        list: Vec<String>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Mode {
        Auto,
        Off,
    }

    fn settings(text: &str) -> Result<Settings, Vec<String>> {
        decode(text, Options { strict: true })
            .map(|(value, _)| value)
            .map_err(|problems| problems.iter().map(Problem::one_line).collect())
    }

    fn faults(text: &str) -> Vec<String> {
        settings(text).expect_err("this document is wrong")
    }

    fn pod(text: &str) -> Result<Pod, Vec<String>> {
        decode(text, Options { strict: true })
            .map(|(value, _)| value)
            .map_err(|problems| problems.iter().map(Problem::one_line).collect())
    }

    #[test]
    fn scalars_mean_what_the_field_expects() {
        let value = settings(
            "maxPods: 0o20\nenabled: yes\nmode: Off\nlabels: {a: 1.10, b: yes, c: 007, d: ~}\nlist: [no, 1e3, null]\n",
        )
        .expect("valid");
        assert_eq!(value.max_pods, 16);
        assert_eq!(value.enabled, Some(true));
        assert_eq!(value.mode, Some(Mode::Off));
        let labels: Vec<_> = value.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["a=1.10", "b=yes", "c=007", "d="]);
        assert_eq!(value.list, ["no", "1e3", ""]);
    }

    #[test]
    fn all_problems_are_reported_with_their_places_in_file_order() {
        let text = "labels:\n  a: {x: 1}\n  b: ok\n  b: again\nmaxpods: 3\nmaxPods: many\nenabled: maybe\nlist: [[1], a, {}]\nmode: Sometimes\n";
        assert_eq!(
            faults(text),
            [
                "2:6: labels[a]: expected a text, found a mapping",
                "4:3: labels[b]: duplicate key; hint: it is given in line 3 already",
                "5:1: maxpods: unknown field; hint: did you mean maxPods?",
                "6:10: maxPods: expected a whole number, found the text \"many\"",
                "7:10: enabled: expected true or false, found the text \"maybe\"",
                "8:8: list[0]: expected a text, found a list",
                "8:16: list[2]: expected a text, found a mapping",
                "9:7: mode: unknown variant `Sometimes`, expected `Auto` or `Off`",
            ]
        );
    }

    #[test]
    fn a_lenient_reading_warns_and_takes_the_last_of_equal_keys() {
        let (value, warnings) =
            decode::<Settings>("maxPods: 1\nmaxPods: 2\nextra: {}\n", Options { strict: false }).expect("lenient");
        assert_eq!(value.max_pods, 2);
        assert_eq!(warnings.iter().map(|w| w.kind).collect::<Vec<_>>(), [Kind::DuplicateKey, Kind::UnknownField]);
    }

    #[test]
    fn a_missing_field_is_reported_at_what_should_hold_it() {
        assert_eq!(faults("# none\nenabled: true\n"), ["2:1: maxPods: Required value"]);
        assert_eq!(faults(""), ["1:1: maxPods: Required value"]);
    }

    #[test]
    fn a_carriage_return_alone_makes_no_line_that_an_editor_would_not_show() {
        let faults = faults("\r\renabled: yes");
        assert_eq!(faults, ["1:15: maxPods: Required value"]);
    }

    #[test]
    fn a_missing_space_is_said_in_plain_words() {
        let whole = "metadata:\n  name: x\n  labels:\n    app:nodejs\nspec: {}\n";
        assert_eq!(
            pod(whole).unwrap_err(),
            ["4:5: metadata.labels: a space is missing after the colon in \"app:nodejs\"; hint: write \"app: nodejs\""]
        );
        let two = "metadata:\n  labels:\n    app:nodejs\n    tier:web\n";
        assert_eq!(
            pod(two).unwrap_err(),
            ["3:5: metadata.labels: a space is missing after the colon in \"app:nodejs\"; hint: write \"app: nodejs\""]
        );
        let before = "metadata:\n  labels:\n    app:nodejs\n    tier: web\n";
        assert_eq!(
            pod(before).unwrap_err(),
            ["3:5: a space is missing after the colon in \"app:nodejs\"; hint: write \"app: nodejs\""]
        );
        let after = "metadata:\n  labels:\n    tier: web\n    app:nodejs\nspec: {}\n";
        assert_eq!(
            pod(after).unwrap_err(),
            ["4:5: a space is missing after the colon in \"app:nodejs\"; hint: write \"app: nodejs\""]
        );
        let entry = "spec:\n  containers:\n  - name:nodejs\n    image: x\n";
        assert_eq!(
            pod(entry).unwrap_err(),
            ["3:5: a space is missing after the colon in \"name:nodejs\"; hint: write \"name: nodejs\""]
        );
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let text = "labels: &l {a: 1, b: 2}\nlist: &x [p]\nmaxPods: 1\n";
        assert_eq!(settings(text).expect("valid").list, ["p"]);
        let merged = "maxPods: 1\nlabels:\n  <<: [{a: first, c: c}, {a: second, d: d}]\n  c: own\n";
        let labels = settings(merged).expect("valid").labels;
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(labels, ["a=first", "c=own", "d=d"]);
        assert_eq!(
            faults("maxPods: 1\nlabels: {<<: text}\n"),
            ["2:10: a merge key (<<) takes a mapping or a list of mappings"]
        );
    }

    #[test]
    fn one_document_is_taken_whatever_marks_surround_it() {
        for text in
            ["---\nmaxPods: 1\n", "maxPods: 1\n---\n", "# c\n---\n---\nmaxPods: 1\n...\n", "\u{feff}maxPods: 1\n"]
        {
            assert_eq!(settings(text).map(|s| s.max_pods), Ok(1), "{text}");
        }
        assert_eq!(
            faults("maxPods: 1\n---\nmaxPods: 2\n"),
            ["3:1: a second document in one file; hint: put it into a file of its own"]
        );
    }

    #[test]
    fn tags_are_refused_by_name_and_the_core_ones_are_not() {
        assert_eq!(faults("maxPods: !foo 1\n"), ["1:10: maxPods: the tag !foo is not supported"]);
        assert_eq!(faults("!bar\nmaxPods: 1\n"), ["1:1: the tag !bar is not supported"]);
        assert_eq!(settings("maxPods: !!int \"3\"\n").map(|s| s.max_pods), Ok(3));
    }

    #[test]
    fn json_is_taken_with_what_yaml_cannot_read() {
        let text = "{\"maxPods\": 1, \"list\": [\"\\ud83d\\ude00\"], \"extra\": true}";
        assert_eq!(faults(text), ["1:42: extra: unknown field"]);
        let text = "{\"maxPods\": 1, \"list\": [\"\\ud83d\\ude00\"]}";
        assert_eq!(settings(text).map(|s| s.list), Ok(vec!["\u{1f600}".to_owned()]));
    }

    #[test]
    fn scanner_complaints_carry_a_place() {
        assert_eq!(
            faults("maxPods: 1\n\tlist: []\n"),
            ["2:1: not valid YAML: a tab indents this line; hint: indent with spaces"]
        );
        let faults = faults("labels: {a: 1\n");
        assert!(faults[0].starts_with("2:1: not valid YAML: "), "{faults:?}");
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(
            faults("maxPods: 1\nlabels: {\u{e4}\u{1f600}: a, b: [1]}\n"),
            ["2:20: labels[b]: expected a text, found a list"]
        );
    }

    #[test]
    fn the_canonical_form_is_one_for_all_spellings_and_differs_for_all_documents() {
        let form = |text: &str| Document::parse(text).expect("valid").canonical();
        let one = form("a: {c: yes, b: [1.10]}\nd: ~\n");
        assert_eq!(one, "{1:a{1:b[4:1.10]1:c3:yes}}");
        assert_eq!(one, form("# x\n---\n\"a\":\n  b:\n  - \"1.10\"\n  c: 'yes'\n"));
        assert_eq!(one, form("x: &x {c: yes}\na: {<<: *x, b: ['1.10']}\n").replace("1:x{1:c3:yes}", ""));
        assert_ne!(one, form("a: {c: yes, b: [1.1]}\n"));
        assert_ne!(form("a: ['']"), form("a: []"));
        assert_ne!(form("a: [~]"), form("a: []"));
    }
}
