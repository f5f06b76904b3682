//! The binary as users call it: usage, exit codes and printing, against no agent or one that answers from a table.

mod streams;

use pinlet::server::frame::{self, Frame};
use pinlet::server::http;
use pinlet::server::listen::Server;
use pinlet::server::query::{Answer, Asker, ExplainTarget, LogPlace, Pending, Query, Session};
use pinlet::server::wire::{
    ExecExit, ExplainReport, ImageEntry, ImportOutcome, ManifestReport, ManifestState, ManifestsReport, Problem, Stage,
    StopProgress, VersionInfo,
};
use pinlet::sys::poll::Waker;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::thread;

/// A directory of its own for each test, taken away at its end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pinlet-cli-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("temporary directory");
        Dir(dir)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

fn pinlet(args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pinlet"));
    ran(command.args(args).stdin(Stdio::null()).output().expect("the binary runs"))
}

#[test]
fn wrong_flags_of_the_agent_exit_2_and_name_the_flag() {
    for (args, name) in [
        (&["--pod-manifest-pat=/x"][..], "--pod-manifest-pat"),
        (&["run", "--nonsense"], "--nonsense"),
        (&["run", "stray"], "stray"),
        (&["run", "--max-pods=x"], "--max-pods"),
        (&["run", "--config", "/nonexistent/config.yaml"], "/nonexistent/config.yaml"),
        (&["--manifest-url=http://x/"], "not built yet: --manifest-url"),
        (&["--bootstrap-kubeconfig", "/x"], "not built yet: --bootstrap-kubeconfig"),
        (&["run", "--network=cni"], "not built yet: --network cni"),
        (&["run", "--read-only-port=10255"], "not built yet: --read-only-port"),
    ] {
        let ran = pinlet(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(name), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_wrong_configuration_file_exits_2_and_names_the_place() {
    let dir = Dir::new();
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    for (name, body, expected) in [
        ("key.yaml", "maxPod: 3\n", "key.yaml:3:1: maxPod: unknown field"),
        ("type.yaml", "maxPods: many\n", "type.yaml:3:10: maxPods: "),
        ("url.yaml", "staticPodURL: http://x/\n", "not built yet: staticPodURL"),
    ] {
        let path = dir.write(name, &format!("{head}{body}"));
        let ran = pinlet(&["run", "--config", &path.to_string_lossy()]);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn wrong_verbs_exit_2() {
    for (args, name) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["get"], "pods|images|node|events"),
        (&["get", "services"], "services"),
        (&["get", "events", "-w"], "not built yet: -w"),
        (&["get", "pods", "-w"], "not built yet: -w"),
        (&["pull", "x"], "not built yet: pull"),
        (&["images", "check"], "not built yet: images check"),
        (&["explain", "--node"], "not built yet: --node"),
        (&["exec", "web"], "CMD"),
        (&["internal-nonsense"], "internal-nonsense"),
    ] {
        let ran = pinlet(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(name), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn help_and_version_go_to_stdout_and_exit_0() {
    for (args, word) in [
        (&["--help"][..], "stop-pods"),
        (&["help", "logs"], "--timestamps"),
        (&["run", "--help"], "--pod-manifest-path"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["run", "--version"], env!("CARGO_PKG_VERSION")),
        (&["version", "--run-dir=/nonexistent"], env!("CARGO_PKG_VERSION")),
    ] {
        let ran = pinlet(args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        assert!(ran.stdout.contains(word), "{args:?}: {}", ran.stdout);
    }
}

#[test]
fn without_an_agent_verbs_say_so_and_exit_1() {
    for args in [
        &["get", "pods"][..],
        &["get", "events"],
        &["get", "images"],
        &["describe", "pod", "x"],
        &["logs", "x"],
        &["exec", "x", "--", "y"],
    ] {
        let (verb, rest) = args.split_first().expect("a verb");
        let args = [&[*verb, "--run-dir=/nonexistent"], rest].concat();
        let ran = pinlet(&args);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?}");
        let expected = "cannot reach the agent at /nonexistent/pinlet.sock: ";
        assert!(ran.stderr.starts_with(expected) && ran.stderr.contains("\nhint: "), "{}", ran.stderr);
    }
}

#[test]
fn an_agent_that_does_not_answer_is_given_up_after_ten_seconds() {
    let dir = Dir::new();
    // Connections are queued by the kernel: that is what an agent in SIGSTOP looks like.
    let _mute = std::os::unix::net::UnixListener::bind(dir.0.join("pinlet.sock")).expect("bound");
    dir.write("good.yaml", GOOD);
    let run_dir = format!("--run-dir={}", dir.0.display());
    let path = dir.0.join("pinlet.sock").display().to_string();
    let expected = format!("the agent (pid {}) does not answer on {path}: waited 10 s", std::process::id());
    let good = dir.0.join("good.yaml").display().to_string();
    let manifests = format!("--pod-manifest-path={good}");
    let verbs: [(&[&str], i32); 9] = [
        (&["get", "pods"], 1),
        (&["get", "images"], 1),
        (&["describe", "pod", "x"], 1),
        (&["logs", "-f", "x"], 1),
        (&["exec", "x", "--", "y"], 1),
        (&["import", "/nonexistent.tar"], 1),
        (&["version"], 0),
        (&["explain", "--hostname-override=n", &manifests, "web"], 1),
        (&["stop-pods"], 0),
    ];
    let started = std::time::Instant::now();
    // All at once: each waits as long.
    let ran: Vec<Ran> = thread::scope(|scope| {
        let run = |(args, _): &(&[&str], i32)| pinlet(&[&[args[0], run_dir.as_str()], &args[1..]].concat());
        let threads: Vec<_> = verbs.iter().map(|verb| scope.spawn(move || run(verb))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let took = started.elapsed().as_secs();
    assert!((10..25).contains(&took), "{took} s");
    for ((args, code), ran) in verbs.iter().zip(ran) {
        assert_eq!(ran.code, *code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with(&expected), "{args:?}: {}", ran.stderr);
        match args[0] {
            "version" => assert_eq!(ran.stdout, format!("pinlet {}\n", env!("CARGO_PKG_VERSION"))),
            // What the file says needs no agent.
            "explain" => {
                assert!(ran.stderr.contains("; what follows is checked without it\nhint: "), "{}", ran.stderr);
                assert_eq!(ran.stdout, format!("{good}  accepted  default/web-n\n"));
            }
            "stop-pods" => assert_eq!(ran.stderr, format!("{expected}; the pods are stopped without it\n")),
            _ => assert!(ran.stdout.is_empty() && ran.stderr.contains("\nhint: "), "{args:?}: {}", ran.stderr),
        }
    }
}

const GOOD: &str =
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: x\n";

#[test]
fn check_tells_good_files_from_bad_ones() {
    let dir = Dir::new();
    let good = dir.write("good.yaml", GOOD);
    let bad = dir.write("bad.yaml", &GOOD.replace("image: x", "image: x\n    imagePullPolcy: Never"));
    let (good, bad) = (good.to_string_lossy(), bad.to_string_lossy());
    let check = |file: &str| pinlet(&["check", "--hostname-override=n", file]);
    let ran = check(&good);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, format!("{good}: ok (pod default/web-n)\n"));
    let ran = check(&bad);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let expected =
        format!("{bad}:9:5: spec.containers[0].imagePullPolcy: unknown field\nhint: did you mean imagePullPolicy?\n");
    assert_eq!(ran.stderr, expected);
    assert_eq!(check(&dir.0.to_string_lossy()).code, 1);
}

#[test]
fn check_of_a_directory_names_both_files_that_claim_one_pod() {
    let dir = Dir::new();
    let first = dir.write("a.yaml", GOOD);
    let second = dir.write("b.yaml", GOOD);
    dir.write("c.yaml", &GOOD.replace("name: web", "name: other"));
    dir.write("d.yaml~", "leavings");
    let ran = pinlet(&["check", "--hostname-override=n", &dir.0.to_string_lossy()]);
    assert_eq!(ran.code, 1);
    let oks: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(oks.len(), 2, "{}", ran.stdout);
    assert_eq!(oks[0], format!("{}: ok (pod default/web-n)", first.display()));
    assert!(oks[1].ends_with("/c.yaml: ok (pod default/other-n)"), "{}", ran.stdout);
    let of_second = ran.stderr.lines().find(|l| l.starts_with(&second.display().to_string())).unwrap_or_default();
    assert!(of_second.contains("a.yaml") && of_second.contains("default/web-n"), "{}", ran.stderr);
    // Each file alone is fine.
    assert_eq!(pinlet(&["check", &first.to_string_lossy(), &second.to_string_lossy()]).code, 0);
}

#[test]
fn check_lets_warnings_pass_and_stops_after_twenty_problems() {
    let dir = Dir::new();
    let lenient = dir.write("lenient.yaml", &GOOD.replace("image: x", "image: x\n    imagePullPolcy: Never"));
    let ran = pinlet(&["check", "--field-validation=warn", "--hostname-override=n", &lenient.to_string_lossy()]);
    assert_eq!((ran.code, ran.stdout), (0, format!("{}: ok (pod default/web-n)\n", lenient.display())));
    assert!(ran.stderr.contains("imagePullPolcy: unknown field"), "{}", ran.stderr);
    let fields: String = (0..23).map(|n| format!("    unknown{n}: x\n")).collect();
    let many = dir.write("many.yaml", &format!("{GOOD}{fields}"));
    let ran = pinlet(&["check", &many.to_string_lossy()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    let problems = ran.stderr.lines().filter(|l| l.contains(": unknown field")).count();
    assert_eq!((problems, ran.stderr.lines().last()), (20, Some("and 3 more")), "{}", ran.stderr);
    let ran = pinlet(&["check", &dir.0.join("nobody.yaml").to_string_lossy()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("nobody.yaml"), "{}", ran.stderr);
}

#[test]
fn explain_without_an_agent_says_so_and_checks_the_files() {
    let dir = Dir::new();
    dir.write("good.yaml", GOOD);
    let manifests = format!("--pod-manifest-path={}", dir.0.display());
    for target in ["good.yaml", "web"] {
        let ran = pinlet(&["explain", "--run-dir=/nonexistent", "--hostname-override=n", &manifests, target]);
        assert_eq!(ran.code, 1);
        assert!(ran.stderr.starts_with("cannot reach the agent at "), "{}", ran.stderr);
        assert!(ran.stdout.contains("/good.yaml  accepted  default/web-n\n"), "{}", ran.stdout);
    }
}

/// A server whose loop answers from `answer`.
struct Fake {
    dir: Dir,
    _server: Server,
}

impl Fake {
    fn new(answer: impl Fn(Query) -> Answer + Send + 'static) -> Fake {
        let dir = Dir::new();
        let (queries, pending) = channel();
        thread::spawn(move || {
            for Pending { query, reply } in pending {
                reply.send(answer(query));
            }
        });
        let server = Server::start(&dir.0, Asker::new(queries, Waker::new().expect("eventfd"))).expect("bound");
        Fake { dir, _server: server }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pinlet"));
        command.arg(args[0]).arg("--run-dir").arg(&self.dir.0).args(&args[1..]).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("the binary runs"))
    }
}

fn pod(namespace: &str, name: &str, more: serde_json::Value) -> k8s_openapi::api::core::v1::Pod {
    let mut object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": format!("{name}-n"), "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}, {"name": "d"}]},
        "status": {"phase": "Pending"},
    });
    for (key, value) in more.as_object().expect("an object") {
        for (inner, value) in value.as_object().expect("an object") {
            object[key][inner] = value.clone();
        }
    }
    serde_json::from_value(object).expect("a pod")
}

fn pods() -> Vec<k8s_openapi::api::core::v1::Pod> {
    let statuses = serde_json::json!([
        {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 2, "state": {"running": {}}},
        {"name": "d", "image": "", "imageID": "", "ready": false, "restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
    ]);
    vec![
        pod("kube-system", "web", serde_json::json!({})),
        pod(
            "default",
            "web",
            serde_json::json!({"status": {"phase": "Running", "podIP": "10.85.0.2", "containerStatuses": statuses}}),
        ),
        pod("default", "gone", serde_json::json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}})),
    ]
}

fn manifests() -> ManifestsReport {
    let report = |name: &str, state, pod: Option<&str>, problem: Option<Problem>| ManifestReport {
        file: Path::new("/m").join(name),
        state,
        pod: pod.map(str::to_owned),
        more: if name == "b.yaml" { 2 } else { 0 },
        problems: problem.into_iter().collect(),
        last_good_runs: false,
    };
    let problem =
        Problem { text: "/m/b.yaml:3:5: spec.x: unknown field".to_owned(), hint: Some("did you mean y?".to_owned()) };
    ManifestsReport {
        manifests: vec![
            report("a.yaml", ManifestState::Accepted, Some("default/web-n"), None),
            report("b.yaml", ManifestState::Rejected, None, Some(problem)),
            report("c.yaml", ManifestState::Rejected, None, Some(Problem::new("/m/c.yaml: cannot be decoded: time"))),
            report("d.bak", ManifestState::Ignored, None, None),
        ],
        notes: vec![Problem::new("stop-pods was called")],
    }
}

fn node() -> k8s_openapi::api::core::v1::Node {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "edge-7" },
        "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
    }))
    .expect("a node")
}

fn table(query: Query) -> Answer {
    match query {
        Query::Pods => Answer::Pods(pods()),
        Query::Events => Answer::Events(Vec::new()),
        Query::Manifests => Answer::Manifests(manifests()),
        Query::Health => Answer::Healthy,
        Query::Version => Answer::Version(VersionInfo { version: "9".to_owned(), pid: 7 }),
        Query::Node => Answer::Node(Box::new(node())),
        Query::Images => Answer::Images(vec![ImageEntry {
            names: vec!["docker.io/kalise/web:latest".to_owned()],
            id: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            digest: None,
            size_bytes: 74_100_000,
            pinned: false,
        }]),
        Query::Explain(ExplainTarget::Name { name, .. }) if name == "none" => Answer::no_such_pod("none"),
        Query::Explain(target) => Answer::Explain(Box::new(ExplainReport {
            manifest: manifests().manifests.swap_remove(0),
            ok: matches!(target, ExplainTarget::Path(path) if path == Path::new("/m/a.yaml")),
            reasons: vec![Problem::new("container d: CrashLoopBackOff")],
            stages: vec![Stage { name: "accepted".to_owned(), at: "T".to_owned(), took_micros: Some(1500) }],
        })),
        Query::Import(paths) => Answer::Imported(
            paths
                .into_iter()
                .map(|path| {
                    let error = path.ends_with("bad.tar").then(|| "not an archive".to_owned());
                    let names =
                        if error.is_none() { vec!["docker.io/library/x:latest".to_owned()] } else { Vec::new() };
                    ImportOutcome { path, names, error }
                })
                .collect(),
        ),
        Query::StopProgress => {
            Answer::StopProgress(StopProgress { marker_seen: true, left: Vec::new(), largest_grace_seconds: 1 })
        }
        other => Answer::Refused { status: 500, message: format!("not in this table: {other:?}") },
    }
}

#[test]
fn get_pods_prints_pods_on_stdout_and_rejected_files_on_stderr() {
    let fake = Fake::new(table);
    let ran = fake.run(&["get", "pods", "-o", "wide"]);
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let age = lines[1][5];
    let expected = [
        ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"],
        ["default", "gone-n", "0/2", "Terminating", "0", age, "<none>", "n"],
        ["default", "web-n", "1/2", "CrashLoopBackOff", "7", age, "10.85.0.2", "n"],
        ["kube-system", "web-n", "0/2", "Pending", "0", age, "<none>", "n"],
    ];
    assert_eq!((ran.code, lines), (0, expected.map(|row| row.to_vec()).to_vec()));
    let rejected = "/m/b.yaml rejected: /m/b.yaml:3:5: spec.x: unknown field; hint: did you mean y?; and 2 more: pinlet explain b.yaml\n\
                    /m/c.yaml rejected: cannot be decoded: time\n";
    assert_eq!(ran.stderr, rejected);
    assert_eq!(fake.run(&["get", "pods", "-o", "name"]).stdout, "pod/gone-n\npod/web-n\npod/web-n\n");
    assert_eq!(fake.run(&["get", "pods"]).stdout.lines().next().map(|l| l.split_whitespace().count()), Some(6));
}

#[test]
fn get_pods_finds_pods_by_name_and_namespace() {
    let fake = Fake::new(table);
    for name in ["web", "web-n"] {
        assert_eq!(fake.run(&["get", "pods", name]).stdout.lines().count(), 3);
        assert_eq!(fake.run(&["get", "pods", name, "-n", "default"]).stdout.lines().count(), 2);
    }
    let ran = fake.run(&["get", "pods", "x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.ends_with("pods \"x\" not found\n"), "{}", ran.stderr);
    let ran = fake.run(&["get", "pods", "-n", "none"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.ends_with("No resources found\n"), "{}", ran.stderr);
    let list: serde_json::Value =
        serde_json::from_str(&fake.run(&["get", "pods", "-n", "none", "-o", "json"]).stdout).expect("json");
    assert_eq!((list["kind"].as_str(), list["items"].as_array().map(Vec::len)), (Some("PodList"), Some(0)));
    let one = fake.run(&["get", "pods", "web", "-n", "default", "-o", "yaml"]).stdout;
    assert!(one.starts_with("apiVersion: v1\nkind: Pod\n"), "{one}");
    let described = fake.run(&["describe", "pod", "web", "-n", "default"]);
    assert!(described.code == 0 && described.stdout.starts_with("Name:"), "{}", described.stdout);
    for noun in ["pod", "pods"] {
        let ran = fake.run(&["describe", noun]);
        let pods: Vec<&str> = ran.stdout.split("\n\n\n").collect();
        assert!(ran.code == 0 && pods.len() == 3, "{}", ran.stdout);
        for (pod, name) in pods.iter().zip(["gone-n", "web-n", "web-n"]) {
            let first: Vec<&str> = pod.lines().next().unwrap_or_default().split_whitespace().collect();
            assert_eq!(first, ["Name:", name], "{}", ran.stdout);
        }
    }
    let ran = fake.run(&["describe", "pods", "-n", "none"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", "No resources found\n"));
    let ran = fake.run(&["describe", "pod", "web"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("pods \"web\" is ambiguous: default/web-n, kube-system/web-n"), "{}", ran.stderr);
}

#[test]
fn the_node_is_printed_as_kubectl_prints_it() {
    let fake = Fake::new(table);
    let shown = fake.run(&["get", "node"]).stdout;
    assert!(
        shown.starts_with("NAME     STATUS   ROLES    AGE         VERSION\nedge-7   Ready    <none>   <unknown>"),
        "{shown}"
    );
    assert_eq!(fake.run(&["get", "no", "-o", "name"]).stdout, "node/edge-7\n");
    let kind = |args: &[&str]| {
        let value: serde_json::Value = serde_json::from_str(&fake.run(args).stdout).expect("json");
        value["kind"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(kind(&["get", "nodes", "-o", "json"]), "NodeList");
    assert_eq!(kind(&["get", "node", "edge-7", "-o", "json"]), "Node");
    let missing = fake.run(&["get", "node/other"]);
    assert_eq!((missing.code, missing.stderr.as_str()), (1, "nodes \"other\" not found\n"));
}

#[test]
fn images_events_imports_and_versions_are_printed() {
    let fake = Fake::new(table);
    assert_eq!(
        fake.run(&["get", "images"]).stdout,
        "IMAGE                  TAG      ID             SIZE\ndocker.io/kalise/web   latest   0123456789ab   74.1MB\n"
    );
    let ran = fake.run(&["get", "events"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", "No resources found\n"));
    let images: serde_json::Value =
        serde_json::from_str(&fake.run(&["get", "images", "-o", "json"]).stdout).expect("json");
    assert_eq!(
        (images[0]["sizeBytes"].as_u64(), images[0]["names"][0].as_str()),
        (Some(74_100_000), Some("docker.io/kalise/web:latest"))
    );
    let ran = fake.run(&["import", "/x/good.tar", "/x/bad.tar"]);
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout, "/x/good.tar: imported docker.io/library/x:latest\n");
    assert_eq!(ran.stderr, "/x/bad.tar: not an archive\n");
    let version = format!("pinlet {}\nagent 9 (pid 7)\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(fake.run(&["version"]).stdout, version);
}

#[test]
fn explain_has_a_line_per_manifest_or_all_of_one() {
    let fake = Fake::new(table);
    let ran = fake.run(&["explain"]);
    let lines =
        "/m/a.yaml  accepted  default/web-n\n/m/b.yaml  rejected  -\n/m/c.yaml  rejected  -\n/m/d.bak  ignored  -\n";
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, lines, "stop-pods was called\n"));
    let text =
        "/m/a.yaml  accepted  default/web-n\n  container d: CrashLoopBackOff\n  stages:\n    accepted  T  took 1.5ms\n";
    let ran = fake.run(&["explain", "/m/a.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, text));
    assert_eq!(fake.run(&["explain", "web"]).code, 1);
    let ran = fake.run(&["explain", "none"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "pods \"none\" not found\n"));
}
