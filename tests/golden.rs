//! Golden files of the manifests: `tests/data/manifest/<case>/pod.yaml` (or `pod.json`) -> `admitted.json` and
//! `warnings.txt`, or `reject.txt`. `UPDATE_GOLDEN=1 cargo test --test golden` writes them anew; read the difference
//! before you commit it. A case whose name starts with `warn-` is read with `--field-validation warn`.
//!
//! `sent.json` is what a kubelet (v1.36.2) sent to its API server for the same manifest; the object must be equal to it.
//! The vectors in `tests/data/manifest/uid` are never updated: a UID that changes with a release replaces every pod.

use pinlet::manifest::decode::{self, DecodeRequest, Decoded, FieldValidation};
use pinlet::yaml;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifest")
}

fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(root()).expect("tests/data/manifest is there");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).filter(|p| p.is_dir()).collect();
    cases.retain(|path| path.file_name().is_some_and(|name| name != "uid"));
    cases.sort();
    cases
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn manifest_of(case: &Path) -> (String, Vec<u8>) {
    for name in ["pod.yaml", "pod.json"] {
        if let Ok(bytes) = fs::read(case.join(name)) {
            return (name.to_owned(), bytes);
        }
    }
    panic!("{} has no pod.yaml", case.display());
}

fn decode(case: &Path) -> (String, Decoded) {
    let name = name_of(case);
    let lenient = name.starts_with("warn-");
    let request = DecodeRequest {
        path: PathBuf::from(format!("/etc/kubernetes/manifests/{name}.yaml")),
        node_name: "vm".to_owned(),
        field_validation: if lenient { FieldValidation::Warn } else { FieldValidation::Strict },
    };
    let (file, bytes) = manifest_of(case);
    (file, decode::in_process(&request, &bytes))
}

/// File name and content of what a case comes to.
fn outcome(case: &Path) -> Vec<(&'static str, String)> {
    match decode(case) {
        (file, Decoded::Rejected { problems, more }) => vec![("reject.txt", yaml::render(&file, &problems, more))],
        (file, Decoded::Accepted { pod, warnings }) => {
            let pod = serde_json::to_string_pretty(&pod).expect("a pod is JSON") + "\n";
            let mut files = vec![("admitted.json", pod)];
            if !warnings.is_empty() {
                files.push(("warnings.txt", yaml::render(&file, &warnings, 0)));
            }
            files
        }
    }
}

#[test]
fn every_manifest_comes_to_its_golden_outcome() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differences = Vec::new();
    for case in cases() {
        let files = outcome(&case);
        for name in ["admitted.json", "warnings.txt", "reject.txt"] {
            let wanted = fs::read_to_string(case.join(name)).ok();
            let got = files.iter().find(|(file, _)| *file == name).map(|(_, content)| content.clone());
            if wanted == got {
                continue;
            }
            if update {
                match got {
                    Some(content) => fs::write(case.join(name), content).expect("writable"),
                    None => fs::remove_file(case.join(name)).expect("removable"),
                }
            } else {
                let show = |text: Option<String>| text.unwrap_or_else(|| "(no such file)\n".to_owned());
                differences.push(format!(
                    "{}/{name}\n--- wanted\n{}--- got\n{}",
                    name_of(&case),
                    show(wanted),
                    show(got)
                ));
            }
        }
    }
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
}

/// What differs on purpose: identities, what an API server adds, and what marks a mirror pod.
fn without_identities(mut object: Value) -> Value {
    if let Some(top) = object.as_object_mut() {
        top.remove("status");
    }
    if let Some(meta) = object["metadata"].as_object_mut() {
        meta.remove("uid");
        meta.remove("ownerReferences");
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        for name in ["hash", "mirror", "seen"] {
            annotations.remove(&format!("kubernetes.io/config.{name}"));
        }
    }
    object
}

#[test]
fn the_object_is_what_a_kubelet_sends() {
    let mut compared = 0;
    for case in cases() {
        let Ok(sent) = fs::read_to_string(case.join("sent.json")) else { continue };
        let sent: Value = serde_json::from_str(&sent).expect("sent.json is JSON");
        let (_, Decoded::Accepted { pod, .. }) = decode(&case) else { panic!("{} is rejected", case.display()) };
        let object = serde_json::to_value(&pod.object).expect("an object is JSON");
        assert_eq!(without_identities(object), without_identities(sent), "{}", case.display());
        compared += 1;
    }
    assert!(compared >= 5, "only {compared} recordings were compared");
}

/// `<name>.yaml` beside `<name>.uid`: node name, path and UID, one a line.
#[test]
fn uids_never_change() {
    let mut vectors = 0;
    let entries = fs::read_dir(root().join("uid")).expect("the vectors are there");
    for path in
        entries.map(|entry| entry.expect("readable").path()).filter(|p| p.extension().is_some_and(|e| e == "uid"))
    {
        let vector = fs::read_to_string(&path).expect("readable");
        let [node_name, file, uid] = vector.lines().collect::<Vec<_>>()[..] else { panic!("{}", path.display()) };
        let bytes = fs::read(path.with_extension("yaml")).expect("readable");
        let request = DecodeRequest {
            path: PathBuf::from(file),
            node_name: node_name.to_owned(),
            field_validation: FieldValidation::Warn,
        };
        match decode::in_process(&request, &bytes) {
            Decoded::Accepted { pod, .. } => assert_eq!(pod.hash, uid, "{}", path.display()),
            Decoded::Rejected { problems, .. } => panic!("{}: {problems:?}", path.display()),
        }
        vectors += 1;
    }
    assert!(vectors >= 5, "only {vectors} vectors");
}

/// The spellings of one pod: comments, white space, quoting, order, anchors, JSON.
#[test]
fn a_rewrite_that_changes_nothing_keeps_the_uid() {
    let request = DecodeRequest {
        path: PathBuf::from("/m/a.yaml"),
        node_name: "vm".to_owned(),
        field_validation: FieldValidation::Strict,
    };
    let spellings = [
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    v: 1.10\nspec:\n  containers:\n  - name: c\n    image: x:1\n    env:\n    - name: A\n      value: yes\n",
        "# again\n---\nkind: 'Pod'\napiVersion: \"v1\"\nspec:\n    containers:\n      - {image: \"x:1\", name: c, env: [{value: \"yes\", name: A}]}\nmetadata: {labels: {v: '1.10'}, name: a, annotations: }\n---\n",
        "apiVersion: v1\nkind: Pod\nmetadata: &m\n  name: a\n  labels: {v: 1.10}\nspec: {containers: [{<<: {image: x:1, name: d}, name: c, env: [{name: A, value: yes}]}]}\n",
        "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\",\"labels\":{\"v\":\"1.10\"}},\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"x:1\",\"env\":[{\"name\":\"A\",\"value\":\"yes\"}]}]}}",
    ];
    let mut uids = spellings.map(|text| match decode::in_process(&request, text.as_bytes()) {
        Decoded::Accepted { pod, .. } => pod.uid.to_string(),
        Decoded::Rejected { problems, .. } => panic!("{text}\n{problems:?}"),
    });
    uids.sort();
    assert_eq!(uids[0], uids[3]);
}

#[test]
fn annotations_have_a_limit_in_bytes() {
    let request = DecodeRequest {
        path: PathBuf::from("/m/a.yaml"),
        node_name: "vm".to_owned(),
        field_validation: FieldValidation::Strict,
    };
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    a: {}\nspec: {{containers: [{{name: c, image: x}}]}}\n",
        "x".repeat(256 * 1024)
    );
    let Decoded::Rejected { problems, more: 0 } = decode::in_process(&request, text.as_bytes()) else {
        panic!("accepted");
    };
    let lines: Vec<String> = problems.iter().map(yaml::Problem::one_line).collect();
    assert_eq!(lines, ["5:3: metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

/// xorshift64: the same mutations for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap_or(0)
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const SPLICES: [&[u8]; 14] =
        [b":", b"- ", b"\n", b"  ", b"[", b"{", b"}", b"&a ", b"*a", b"<<: ", b"!x ", b"~", b"\"", b"\xf0\x9f\x98\x80"];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.splice(at..at, SPLICES[random.below(SPLICES.len())].iter().copied()).for_each(drop),
            2 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap_or(0),
            _ => {
                let end = (at + random.below(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, piece).for_each(drop);
            }
        }
    }
}

/// Decoding never panics, and every place that it names is in the file.
#[test]
fn damaged_manifests_are_rejected_with_places_that_exist() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    let mut random = Random(seed);
    let originals: Vec<Vec<u8>> = cases().iter().map(|case| manifest_of(case).1).filter(|b| !b.is_empty()).collect();
    let request = DecodeRequest {
        path: PathBuf::from("/m/a.yaml"),
        node_name: "vm".to_owned(),
        field_validation: FieldValidation::Strict,
    };
    for round in 0..3000 {
        let mut bytes = originals[round % originals.len()].clone();
        mutate(&mut bytes, &mut random);
        let Decoded::Rejected { problems, .. } = decode::in_process(&request, &bytes) else { continue };
        assert!(!problems.is_empty());
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.split('\n').collect();
        for problem in problems.iter().filter(|problem| problem.line > 0) {
            let place = format!("seed {seed}, round {round}: {problem:?}\n{text}");
            assert!((problem.line as usize) <= lines.len(), "{place}");
            let line = lines.get(problem.line as usize - 1).copied().unwrap_or_default();
            assert!((problem.column as usize) <= line.chars().count() + 1, "{place}");
        }
    }
}
