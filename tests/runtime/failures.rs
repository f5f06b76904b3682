//! Starts that fail: in which stage, in which words, and with nothing left.

use crate::host::{Finished, Host, Setup};
use pinlet::model::observed::ExitStatus;
use pinlet::model::time::Wall;
use pinlet::runtime::record::FailedStage;
use serde_json::json;
use std::path::Path;

/// Stage and message of a start that fails, after which nothing may be left.
fn failure(setup: Setup<'_>) -> (FailedStage, String) {
    let (mut container, report) = setup.start();
    let exit = container.wait();
    container.assert_gone();
    assert_eq!((exit.status, exit.started_at, container.log().as_str()), (ExitStatus::Code(128), Wall::EPOCH, ""));
    Finished { report, exit, log: String::new() }.failure()
}

#[test]
fn a_program_that_is_not_there_is_a_start_error_in_runcs_words() {
    let host = Host::new();
    let message = |argv: &[&str]| failure(host.container(argv));
    let create = |why: &str| (FailedStage::Run, format!("failed to create container: {why}"));
    assert_eq!(message(&["nosuch"]), create("exec: \"nosuch\": executable file not found in $PATH"));
    assert_eq!(message(&["/no/such"]), create("exec: \"/no/such\": stat /no/such: no such file or directory"));
    assert_eq!(message(&["/etc"]), create("exec: \"/etc\": is a directory"));
    assert_eq!(message(&["/etc/passwd"]), create("exec: \"/etc/passwd\": permission denied"));
}

#[test]
fn a_program_that_the_kernel_does_not_take_is_a_start_error() {
    let host = Host::new();
    host.add("/bin/garbage", "\0\0\0\0", 0o755);
    host.add("/bin/script", "#!/no/interpreter\n", 0o755);
    host.add("/bin/noshebang", "echo no\n", 0o755);
    let message = |path: &str| failure(host.container(&[path]));
    let start = |why: &str| (FailedStage::Run, format!("failed to start container: {why}"));
    assert_eq!(message("/bin/garbage"), start("exec /bin/garbage: exec format error"));
    assert_eq!(message("/bin/script"), start("exec /bin/script: no such file or directory"));
    assert_eq!(message("/bin/noshebang"), start("exec /bin/noshebang: exec format error"));
}

#[test]
fn a_user_that_the_image_does_not_know_is_a_configuration_error() {
    let host = Host::new();
    let message = |user: &str| failure(host.sh("id").user(user));
    let config = |text: &str| (FailedStage::Config, text.to_owned());
    assert_eq!(message("nobody"), config("unable to find user nobody: no matching entries in passwd file"));
    assert_eq!(message("0:staff"), config("unable to find group staff: no matching entries in group file"));
    assert_eq!(message("4294967295"), config("user or group id 4294967295 is out of range (0 to 2147483647)"));
}

#[test]
fn our_own_steps_are_create_errors_that_name_what_is_missing() {
    let host = Host::new();
    let gone = host.sh("id").volume(Path::new("/no/such/source"), "/data", &["rbind"]);
    let (stage, message) = failure(gone);
    assert_eq!(
        (stage, message.as_str()),
        (FailedStage::Create, "volume /no/such/source cannot be used: No such file or directory (os error 2)")
    );

    let (stage, message) = failure(host.sh("id").with(|launch, _| launch.layers.push("/no/such/layer".into())));
    assert_eq!(stage, FailedStage::Create);
    assert!(message.starts_with("the root file system cannot be mounted from 2 layers: "), "{message}");

    let file_in_the_way = host.sh("id").with(|_, spec| spec["process"]["cwd"] = json!("/etc/passwd/here"));
    let (stage, message) = failure(file_in_the_way);
    assert_eq!(stage, FailedStage::Create);
    assert!(message.starts_with("working directory /etc/passwd/here cannot be made: "), "{message}");
}

#[test]
fn what_libcontainer_refuses_is_told_with_its_cause() {
    let host = Host::new();
    let told = |change: fn(&mut serde_json::Value), words: [&str; 2]| {
        let (stage, message) = failure(host.sh("id").with(|_, spec| change(spec)));
        assert_eq!(stage, FailedStage::Run, "{message}");
        assert!(message.starts_with("failed to create container: "), "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
        assert_eq!(message.matches("failed to create").count(), 1, "{message}");
    };
    let mount = |spec: &mut serde_json::Value| {
        let bad = json!({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["rbind"]});
        spec["mounts"].as_array_mut().unwrap().push(bad);
    };
    told(mount, ["/no/such", "No such file"]);
    told(|spec| spec["linux"]["namespaces"][1]["path"] = json!("/no/such/ns"), ["/no/such/ns", "ENOENT"]);
    let rlimit = |spec: &mut serde_json::Value| {
        spec["process"]["rlimits"][0] = json!({"type": "RLIMIT_NOFILE", "soft": 1_u64 << 40, "hard": 1_u64 << 40});
    };
    told(rlimit, ["rlimit", "EPERM"]);
    told(|spec| spec["linux"]["sysctl"] = json!({"kernel.nosuch": "1"}), ["sysctl", "kernel.nosuch"]);
    told(|spec| spec["process"]["cwd"] = json!("/dev/null"), ["chdir", "ENOTDIR"]);
}
