//! The decoding child: it answers as decoding in place would, its own limits are verdicts on the bytes, and no other
//! death is.

use pinlet::manifest::decode::{self, DecodeFailure, DecodeRequest, Decoded, FieldValidation};
use std::path::PathBuf;
use std::process::Command;

const MANIFEST: &str =
    "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: x:1}]}\n";
const MIB: usize = 1 << 20;

fn request() -> DecodeRequest {
    DecodeRequest {
        path: PathBuf::from("/etc/kubernetes/manifests/web.yaml"),
        node_name: "n1".to_owned(),
        field_validation: FieldValidation::Strict,
    }
}

fn child() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinlet"));
    command.arg(decode::ROLE).env_clear();
    command
}

fn decode(bytes: &[u8]) -> Result<Decoded, DecodeFailure> {
    decode::decode_by(child(), &request(), bytes)
}

fn shell(script: &str) -> Result<Decoded, DecodeFailure> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    decode::decode_by(command, &request(), MANIFEST.as_bytes())
}

#[test]
fn the_child_answers_as_decoding_in_place_does() {
    for text in [MANIFEST, "", "kind: [", &MANIFEST.replace("image", "imge")] {
        assert_eq!(decode(text.as_bytes()), Ok(decode::in_process(&request(), text.as_bytes())), "{text}");
    }
}

#[test]
fn bytes_that_want_too_much_memory_get_a_verdict() {
    let failure = decode(format!("[{}", "1,".repeat(5 * MIB - 1)).as_bytes()).expect_err("a list of ones");
    assert_eq!(failure, DecodeFailure::ByLimits("memory".to_owned()));
    assert_eq!(failure.to_string(), "cannot be decoded: memory");
}

#[test]
fn ten_mebibytes_of_brackets_get_a_verdict() {
    // Which limit acts first depends on the build.
    match decode("[".repeat(10 * MIB).as_bytes()) {
        Err(DecodeFailure::ByLimits(limit)) => assert!(limit == "memory" || limit == "time", "{limit}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_that_want_too_much_time_get_a_verdict() {
    // Each of these names is a problem, and each problem's place is looked for among all of them.
    let names: String = (0..150_000).map(|number| format!("          x{number}: 1\n")).collect();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers:\n  - name: c\n    image: x:1\n    resources:\n        limits:\n{names}"
    );
    assert_eq!(decode(text.as_bytes()), Err(DecodeFailure::ByLimits("time".to_owned())));
}

#[test]
fn nesting_within_the_limits_is_an_ordinary_rejection() {
    let Ok(Decoded::Rejected { problems, .. }) = decode("[".repeat(1000).as_bytes()) else { panic!("no rejection") };
    assert!(problems[0].message.starts_with("not valid YAML") || problems[0].message == "nested too deeply");
}

#[test]
fn an_alias_that_multiplies_itself_is_stopped() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 10].join(", "));
    }
    match decode(text.as_bytes()) {
        Ok(Decoded::Rejected { problems, .. }) => assert!(problems[0].message.contains("repetition"), "{problems:?}"),
        Ok(Decoded::Accepted { .. }) => panic!("accepted"),
        Err(failure) => assert_eq!(failure, DecodeFailure::ByLimits("memory".to_owned())),
    }
}

#[test]
fn a_fault_is_a_verdict_and_a_foreign_signal_is_not() {
    for signal in ["SEGV", "ABRT", "BUS", "ILL"] {
        let failure = shell(&format!("kill -{signal} $$")).expect_err(signal);
        assert!(
            matches!(&failure, DecodeFailure::ByLimits(what) if what.starts_with("signal ")),
            "{signal}: {failure}"
        );
    }
    for signal in ["KILL", "TERM", "HUP", "ALRM"] {
        let failure = shell(&format!("kill -{signal} $$")).expect_err(signal);
        assert!(matches!(failure, DecodeFailure::Transient(_)), "{signal}: {failure}");
    }
}

#[test]
fn a_child_that_fails_in_any_other_way_is_tried_again() {
    let rows = [("exits", "exit 3"), ("says nothing", "cat > /dev/null"), ("says nonsense", "cat > /dev/null; echo x")];
    for (what, script) in rows {
        let failure = shell(script).expect_err(what);
        assert!(matches!(failure, DecodeFailure::Transient(_)), "{what}: {failure}");
    }
    let missing = decode::decode_by(Command::new("/nonexistent/pinlet"), &request(), MANIFEST.as_bytes());
    assert!(matches!(missing, Err(DecodeFailure::Transient(_))), "{missing:?}");
}

#[test]
fn an_answer_has_a_limit() {
    let failure = shell("exec head -c 20000000 /dev/zero").expect_err("too long");
    assert_eq!(failure, DecodeFailure::ByLimits("memory".to_owned()));
}

#[test]
fn the_largest_manifest_that_is_taken_can_be_decoded() {
    let text = format!("{MANIFEST}# {}\n", "x".repeat(10 * MIB - MANIFEST.len() - 3));
    assert_eq!(text.len(), decode::MANIFEST_BYTES_MAX);
    assert!(matches!(decode(text.as_bytes()), Ok(Decoded::Accepted { .. })));
}
