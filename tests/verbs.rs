//! The verbs, as their users see them: exit codes, standard output and standard error.

mod support;

use std::process::Stdio;
use std::time::Duration;
use support::image::Image;
use support::wait::expect;
use support::{IDLE, Node, PATIENCE, Pod, Setup, host, json, verb, wait_for};

#[test]
fn logs_prints_what_a_container_wrote() {
    let node = Node::start();
    let script = "for n in 1 2 3 4 5; do echo line $n; done; echo to stderr >&2; sleep 0.3; echo -n partial";
    let other = "echo from other";
    node.put_pod(&Pod::new("app", script).container("other", other).restart("Never"));
    node.wait_pod("app", "has ended", |p| p.phase() == "Succeeded");
    let all = "line 1\nline 2\nline 3\nline 4\nline 5\nto stderr\npartial";
    wait_for("everything is there", PATIENCE, || {
        let out = node.verb(&["logs", "app", "-c", "c"]);
        expect(out.code == 0 && out.stdout.replace("to stderr\n", "") == all.replace("to stderr\n", ""), || {
            format!("{out:?}")
        })
    });
    assert_eq!(node.verb(&["logs", "app", "-c", "other"]).ok().stdout, "from other\n");
    assert_eq!(node.verb(&["logs", &node.full_name("app"), "-c", "other"]).ok().stdout, "from other\n");
    let tail = node.verb(&["logs", "app", "-c", "c", "--tail", "2"]).ok().stdout;
    assert!(tail.ends_with("partial") && tail.lines().count() == 2, "{tail:?}");
    assert_eq!(node.verb(&["logs", "app", "-c", "c", "--tail=0"]).ok().stdout, "");
    let stamped = node.verb(&["logs", "app", "-c", "other", "--timestamps"]).ok().stdout;
    let (stamp, text) = stamped.split_once(' ').expect("a stamp");
    assert!(stamp.len() >= 20 && stamp.starts_with("20") && text == "from other\n", "{stamped}");
    assert_eq!(node.verb(&["logs", "app", "-c", "other", "--since", "1h"]).ok().stdout, "from other\n");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(node.verb(&["logs", "app", "-c", "other", "--since=1s"]).ok().stdout, "");
    let out = node.verb(&["logs", "app"]).ok();
    assert_eq!(out.stderr, "Defaulted container \"c\" out of: c, other\n", "as kubectl says it");
    let out = node.verb(&["logs", "app", "-c", "nobody"]).code(1);
    assert!(out.stderr.contains("nobody"), "{out:?}");
    let out = node.verb(&["logs", "nobody"]).code(1);
    assert!(out.stderr.contains("pods \"nobody\" not found"), "{out:?}");
}

#[test]
fn the_tail_of_a_log_that_a_power_cut_tore_is_its_last_whole_line() {
    let node = Node::start();
    node.put_pod(&Pod::new("app", "echo first; echo last").restart("Never"));
    let pod = node.wait_pod("app", "has ended", |p| p.phase() == "Succeeded");
    node.wait_log("app", "last\n");
    let file = node.pod_logs().join(format!("default_{}_{}/c/0.log", node.full_name("app"), pod.uid()));
    let whole = std::fs::read(&file).expect("a log");
    let zeros = "\0".repeat(100);
    for torn in ["2026-11-24T01:02:03.000000000Z stdout F to", "2026-11", &zeros, &format!("{zeros}\n{zeros}")] {
        std::fs::write(&file, [&whole, torn.as_bytes()].concat()).expect("a log");
        for (tail, text) in [("1", "last\n"), ("2", "first\nlast\n"), ("-1", "first\nlast\n")] {
            let out = node.verb(&["logs", "app", &format!("--tail={tail}")]).ok();
            assert_eq!(out.stdout, text, "--tail={tail} with {torn:?} at its end");
        }
    }
}

#[test]
fn log_files_are_cri_and_linked() {
    let node = Node::start();
    node.put_pod(&Pod::new("app", "echo out; echo err >&2; echo -n part").restart("Never"));
    let pod = node.wait_pod("app", "has ended", |p| p.phase() == "Succeeded");
    let full = node.full_name("app");
    let file = node.pod_logs().join(format!("default_{full}_{}/c/0.log", pod.uid()));
    let text = wait_for("three lines", PATIENCE, || {
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        expect(text.lines().count() == 3, || text.clone())?;
        Ok(text)
    });
    for (stream, tag, word) in [("stdout", "F", "out"), ("stderr", "F", "err"), ("stdout", "P", "part")] {
        let line = text.lines().find(|l| l.ends_with(&format!(" {stream} {tag} {word}")));
        let stamp = line.unwrap_or_else(|| panic!("{word} in {text}")).split(' ').next().expect("a stamp");
        assert!(stamp.contains('T') && stamp.contains('.'), "{stamp}");
    }
    let link = node.container_logs().join(format!("{full}_default_c-{}.log", pod.container_id("c")));
    assert_eq!(std::fs::canonicalize(link).expect("a symlink"), file.canonicalize().expect("a file"));
}

#[test]
fn logs_follows_until_the_container_ends() {
    let node = Node::start();
    let script = "echo begin; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo end; exit 0";
    node.put_pod(&Pod::new("app", script).restart("Never"));
    node.wait_running("app");
    let mut follow = node.command(&["logs", "app", "-f"]);
    let mut child = follow.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("our program");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("our own child").is_none(), "it follows");
    let pid = node.init_pid(&node.pod("app"), "c");
    std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").expect("a root file system");
    let status = verb::wait_child(&mut child, PATIENCE);
    if status.is_none() {
        let _ = child.kill();
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("piped"), &mut text).expect("text");
    let _ = child.wait();
    assert_eq!((status.map(verb::code), text.as_str()), (Some(0), "begin\nend\n"));
}

#[test]
fn logs_of_the_previous_container() {
    let node = Setup::default().restart_period(1).start();
    let script = "if [ -e /keep/ran ]; then echo second; trap 'exit 0' TERM; sleep 1000000 & wait; else touch /keep/ran; echo first; exit 1; fi";
    node.put_pod(&Pod::new("app", script).volume("keep", json!({"emptyDir": {}}), "/keep"));
    node.wait_pod("app", "has restarted", |p| p.restarts("c") == 1 && p.is_running("c"));
    node.wait_log("app", "second");
    assert_eq!(node.verb(&["logs", "app", "-p"]).ok().stdout, "first\n");
    node.put_pod(&Pod::idle("fresh"));
    node.wait_running("fresh");
    node.verb(&["logs", "fresh", "-p"]).code(1);
}

#[test]
fn a_log_is_rotated_and_followers_lose_nothing() {
    let node = Setup::default().config("containerLogMaxSize: 20Ki\ncontainerLogMaxFiles: 3").start();
    let script = format!(
        "n=0; while [ $n -lt 3000 ]; do echo line number $n of three thousand; n=$((n+1)); done; echo done; {IDLE}"
    );
    node.put_pod(&Pod::new("app", &script));
    let pod = node.wait_running("app");
    node.wait_log("app", "done\n");
    let dir = node.pod_logs().join(format!("default_{}_{}/c", node.full_name("app"), pod.uid()));
    let names = wait_for("at most three files", PATIENCE, || {
        let mut names: Vec<String> = std::fs::read_dir(&dir)
            .expect("a log dir")
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        expect(names.len() == 3, || format!("{names:?}"))?;
        Ok(names)
    });
    assert_eq!(names[0], "0.log");
    assert!(names[1].starts_with("0.log.20"), "{names:?}");
    for name in names {
        assert!(std::fs::metadata(dir.join(&name)).expect("a file").len() < 40 << 10, "{name} is too big");
    }
}

#[test]
fn exec_runs_a_command_in_the_container_and_returns_its_status() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app").own_network().with("env", json!([{"name": "A", "value": "b"}])));
    let pod = node.wait_running("app");
    let out = node.verb(&["exec", "app", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).code(7);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
    let out =
        node.verb(&["exec", "app", "-c", "c", "--", "sh", "-c", "echo $A $HOSTNAME; pwd; cat /proc/self/cgroup"]).ok();
    assert!(out.stdout.starts_with(&format!("b {}\n/\n", node.full_name("app"))), "{out:?}");
    let pid = node.init_pid(&pod, "c");
    let ns = |n: &str| std::fs::read_link(format!("/proc/{pid}/ns/{n}")).expect("alive").display().to_string();
    let out = node.verb(&["exec", "app", "--", "sh", "-c", "for n in pid net mnt; do readlink /proc/self/ns/$n; done; grep -E '^(Cap|Groups|Sig[BI])' /proc/self/status"]).ok();
    assert!(out.stdout.starts_with(&format!("{}\n{}\n{}\n", ns("pid"), ns("net"), ns("mnt"))), "{out:?}");
    assert!(
        out.stdout.contains("CapEff:\t00000000a80425fb") && out.stdout.contains("SigBlk:\t0000000000000000"),
        "{out:?}"
    );
    let out = node.verb_with(&["exec", "app", "-i", "--", "cat"], b"through stdin").ok();
    assert_eq!(out.stdout, "through stdin");
    let big = vec![b'x'; 3 << 20];
    assert_eq!(
        node.verb_with(&["exec", "app", "-i", "--", "wc", "-c"], &big).ok().stdout.trim(),
        (3 << 20).to_string()
    );
    let out = node.verb(&["exec", "app", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y"]).ok();
    assert_eq!(out.stdout.len(), 3_000_000);
    let out = node.verb(&["exec", "app", "--", "sh", "-c", "kill -9 $$"]).code(137);
    assert_eq!(out.stdout, "");
    let out = node.verb(&["exec", "app", "--", "/no/such/command"]);
    assert!(out.code != 0 && out.stderr.contains("/no/such/command"), "{out:?}");
    let out = node.verb(&["exec", "app", "-c", "nobody", "--", "true"]).code(1);
    assert!(out.stderr.contains("nobody"), "{out:?}");
    node.verb(&["exec", "nobody", "--", "true"]).code(1);
    node.verb(&["exec", "app"]).code(2);
    let pod = node.pod("app");
    assert_eq!(pod.restarts("c"), 0);
    assert_eq!(node.init_pid(&pod, "c"), pid);
}

#[test]
fn exec_gives_a_terminal_on_request() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    // script(1) is the terminal on this side.
    let command =
        node.command(&["exec", "app", "-i", "-t", "--", "sh", "-c", "tty; stty size; read x; echo got $x; exit 5"]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|w| format!("'{}'", w.to_string_lossy().replace('\'', r"'\''")))
        .collect();
    let line = format!("stty rows 41 cols 97; {}", words.join(" "));
    let mut script = std::process::Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    let out = verb::run(&mut script, b"hello\n", PATIENCE);
    assert!(
        out.stdout.contains("/dev/pts/") && out.stdout.contains("41 97") && out.stdout.contains("got hello"),
        "{out:?}"
    );
    assert_eq!(out.code, 5, "{out:?}");
}

#[test]
fn an_exec_whose_client_is_killed_does_not_outlive_the_container() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let pod = node.wait_running("app");
    let mut child =
        node.command(&["exec", "app", "--", "sleep", "1000004"]).stdin(Stdio::null()).spawn().expect("our program");
    wait_for("the command runs", PATIENCE, || {
        let out = node.verb(&["exec", "app", "--", "ps"]);
        expect(out.stdout.contains("1000004"), || format!("{out:?}"))
    });
    child.kill().expect("our own child");
    child.wait().expect("our own child");
    assert_eq!(node.pod("app").container_id("c"), pod.container_id("c"));
    node.remove("app.yaml");
    node.wait_gone("app");
    node.assert_no_pod_left();
}

#[test]
fn describe_tells_the_whole_story() {
    let node = Node::start();
    let pod = Pod::idle("app").own_network().with("env", json!([{"name": "A", "value": "b"}]));
    node.put_pod(&pod.metadata("labels", json!({"tier": "front"})));
    let pod = node.wait_running("app");
    let out = node.verb(&["describe", "pod", "app"]).ok().stdout;
    for word in
        [&node.full_name("app"), &pod.uid(), &pod.ip(), "tier=front", "busybox:1", "Running", &pod.container_id("c")]
    {
        assert!(out.contains(word), "{word} in {out}");
    }
    let out = node.verb(&["describe", "pod", "nobody"]).code(1);
    assert!(out.stderr.contains("pods \"nobody\" not found"), "{out:?}");
}

#[test]
fn explain_lists_every_manifest_with_its_state() {
    let node = Node::start();
    node.put_pod(&Pod::idle("good"));
    node.put(
        "bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n    imagePullPolcy: Never\n",
    );
    node.put("note.txt~", "a backup");
    node.wait_running("good");
    let lines = wait_for("all three are judged", PATIENCE, || {
        let out = node.verb(&["explain"]);
        let rows: Vec<Vec<String>> =
            out.stdout.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect();
        expect(rows.len() == 3, || format!("{out:?}"))?;
        Ok(rows)
    });
    let of = |file: &str| lines.iter().find(|r| r[0].ends_with(file)).unwrap_or_else(|| panic!("{file} in {lines:?}"));
    assert_eq!(of("bad.yaml")[1], "rejected");
    assert_eq!(of("good.yaml")[1..3], ["accepted".to_owned(), format!("default/{}", node.full_name("good"))]);
    assert_eq!(of("note.txt~")[1], "ignored");
    let good = node.verb(&["explain", "good"]).ok().stdout;
    assert!(good.contains("accepted"), "{good}");
    let path = node.manifests().join("bad.yaml").display().to_string();
    for argument in ["bad.yaml", path.as_str()] {
        let bad = node.verb(&["explain", argument]).code(1).stdout;
        assert!(
            bad.contains("bad.yaml:9:5") && bad.contains("spec.containers[0].imagePullPolcy: unknown field"),
            "{bad}"
        );
        assert!(bad.contains("hint: did you mean imagePullPolicy?"), "{bad}");
    }
    node.verb(&["explain", "nobody"]).code(1);
    let out = node.verb(&["get", "pods"]).ok();
    assert_eq!(out.stdout.lines().count(), 2, "{out:?}");
    let line = out.stderr.lines().find(|l| l.contains("bad.yaml")).unwrap_or_else(|| panic!("{out:?}"));
    assert!(line.contains("rejected: ") && line.contains("unknown field"), "{line}");
}

#[test]
fn a_pod_without_a_place_says_so_to_every_verb() {
    let node = Setup::default().flag("--max-pods=1").start();
    node.put_pod(&Pod::idle("first"));
    node.wait_running("first");
    node.put_pod(&Pod::idle("second"));
    node.wait_pod("second", "is listed", |p| p.phase() == "Pending");
    let why = "the node has as many pods as --max-pods allows (1)";
    for verb in [&["logs", "second"][..], &["exec", "second", "--", "true"], &["explain", "second"]] {
        let out = node.verb(verb).code(1);
        assert!(out.stderr.contains(why) || out.stdout.contains(why), "{verb:?}: {out:?}");
    }
}

#[test]
fn a_file_gone_bad_says_that_its_last_good_version_goes_on() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let before = node.wait_running("app");
    node.put("app.yaml", Pod::idle("app").yaml().replace("image", "imagePullPolcy"));
    let said = format!("its last good version goes on as pod default/{}\n", node.full_name("app"));
    wait_for("explain says it", PATIENCE, || {
        let out = node.verb(&["explain", "app.yaml"]);
        expect(out.stdout.contains(&said) && out.stdout.contains("  hint: mend the file"), || format!("{out:?}"))?;
        expect(out.code == 1 && out.stdout.contains("  rejected  "), || format!("{out:?}"))
    });
    let out = node.verb(&["get", "pods"]).ok();
    assert!(out.stderr.trim_end().ends_with("; its last good version goes on"), "{out:?}");
    assert_eq!(node.pod("app").container_id("c"), before.container_id("c"));
    node.remove("app.yaml");
    node.wait_gone("app");
}

#[test]
fn what_stop_pods_means_is_explained_once() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    node.verb(&["stop-pods"]).ok();
    let out = node.verb(&["explain", "app"]).code(1);
    assert_eq!(out.stdout.matches("stop-pods was called").count(), 1, "{out:?}");
}

#[test]
fn explain_without_an_agent_says_so_and_checks_offline() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
    node.stop_agent();
    let path = node.manifests().join("app.yaml").display().to_string();
    let out = node.verb(&["explain", &path]).code(1);
    let all = format!("{}{}", out.stdout, out.stderr);
    assert!(all.contains("agent") && all.contains("app.yaml"), "{out:?}");
    let out = node.verb(&["get", "pods"]).code(1);
    assert!(out.stderr.contains("pinlet.sock"), "{out:?}");
}

#[test]
fn an_agent_that_was_stopped_is_named_and_its_pods_can_be_stopped_all_the_same() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let pod = node.wait_running("app");
    let pid = node.init_pid(&pod, "c");
    host::signal(node.agent_pid(), nix::sys::signal::Signal::SIGSTOP);
    let mute = format!("the agent (pid {}) does not answer on ", node.agent_pid());
    let out = node.verb(&["get", "pods"]).code(1);
    assert!(out.stderr.starts_with(&mute) && out.stderr.contains("\nhint: "), "{out:?}");
    let out = node.verb(&["stop-pods"]).ok();
    assert!(out.stderr.starts_with(&mute), "{out:?}");
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "its init is gone");
    host::signal(node.agent_pid(), nix::sys::signal::Signal::SIGCONT);
    wait_for("it answers again", PATIENCE, || {
        let out = node.verb(&["explain", "app"]);
        expect(out.stdout.contains("stop-pods was called"), || format!("{out:?}"))
    });
    assert!(!node.pod("app").is_running("c"), "the marker is heeded");
}

#[test]
fn check_says_what_the_agent_would() {
    let node = Setup::default().stopped().start();
    node.put_pod(&Pod::idle("good"));
    let file = node.manifests().join("good.yaml").display().to_string();
    let check = |args: &[&str]| {
        let mut command = std::process::Command::new(node.program());
        verb::run(command.arg("check").args(args), b"", PATIENCE)
    };
    let out = check(&[&file]).ok();
    assert!(out.stdout.starts_with(&format!("{file}: ok (pod default/good")), "{out:?}");
    node.put(
        "bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: bad\n  labels:\n    app:nodejs\nspec:\n  containers: []\n",
    );
    let bad = node.manifests().join("bad.yaml").display().to_string();
    let out = check(&[&bad]).code(1);
    assert!(out.stderr.contains(&format!("{bad}:6:5: metadata.labels: ")) && out.stderr.contains("space"), "{out:?}");
    node.put("twin.yaml", Pod::idle("good").yaml());
    let out = check(&[&node.manifests().display().to_string()]).code(1);
    assert!(out.stderr.contains("twin.yaml") && out.stderr.contains("good.yaml"), "{out:?}");
}

#[test]
fn get_images_and_import() {
    let node = Node::start();
    let image = Image::new("example/tool:v2").tag("registry.example:5000/tool:v3");
    node.put_pod(&Pod::new("waits", IDLE).image("example/tool:v2"));
    node.wait_pod("waits", "has no image", |p| {
        p.waiting("c").starts_with("ErrImage") || p.waiting("c") == "ImagePullBackOff"
    });
    let archive = node.dir.join("tool.tar");
    image.write_oci_archive(&archive);
    let out = node.verb(&["import", &archive.display().to_string()]).ok();
    assert!(out.stdout.contains("docker.io/example/tool:v2"), "{out:?}");
    node.wait_running("waits");
    let rows: Vec<Vec<String>> = node
        .verb(&["get", "images"])
        .ok()
        .stdout
        .lines()
        .map(|l| l.split_whitespace().map(str::to_owned).collect())
        .collect();
    assert_eq!(rows[0], ["IMAGE", "TAG", "ID", "SIZE"]);
    let id = image.id();
    let row = |name: &str, tag: &str| {
        let found = rows.iter().find(|r| r[0] == name && r[1] == tag).unwrap_or_else(|| panic!("{name} in {rows:?}"));
        found.clone()
    };
    assert_eq!(row("docker.io/example/tool", "v2")[2], id[7..19]);
    assert_eq!(row("registry.example:5000/tool", "v3")[2], id[7..19]);
    assert!(row("docker.io/library/busybox", "1")[3].ends_with("MB"));
    let out = node.verb(&["get", "images", "-o", "json"]).ok();
    assert!(serde_json::from_str::<serde_json::Value>(&out.stdout).is_ok() && out.stdout.contains(&id), "{out:?}");
    let out = node.verb(&["import", "/no/such/file"]).code(1);
    assert!(out.stderr.contains("/no/such/file"), "{out:?}");
}

#[test]
fn an_image_that_is_nowhere_is_waited_for_and_found_when_preloaded() {
    let node = Node::start();
    node.put_pod(&Pod::idle("never").image("example/late:v1").with("imagePullPolicy", json!("Never")));
    node.put_pod(&Pod::idle("policy").image("example/late:v1"));
    let pod = node.wait_pod("never", "waits", |p| p.waiting("c") == "ErrImageNeverPull");
    let message = pod.status("c")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(message, "Container image \"example/late:v1\" is not present with pull policy of Never");
    node.wait_pod("policy", "waits", |p| matches!(p.waiting("c").as_str(), "ErrImagePull" | "ImagePullBackOff"));
    let hint = format!("import an archive of it (pinlet import FILE) or put one into {}", node.preload().display());
    let out = node.verb(&["explain", "policy"]).code(1);
    assert!(out.stdout.contains(&hint), "{out:?}");
    let out = node.verb(&["explain", "never"]).code(1);
    assert!(out.stdout.contains(&format!("ErrImageNeverPull: {message}\n  hint: {hint}\n")), "{out:?}");
    Image::new("example/late:v1").write_docker_archive(&node.preload().join("late.tar"));
    for name in ["never", "policy"] {
        node.wait_pod_for(PATIENCE * 3, name, "runs", |p| p.is_running("c"));
    }
}

#[test]
fn wrong_usage_is_exit_code_two() {
    let node = Setup::default().stopped().start();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(node.program());
        verb::run(command.args(args), b"", PATIENCE)
    };
    for (args, word) in [
        (&["--no-such-flag"][..], "no-such-flag"),
        (&["get", "nonsense"], "nonsense"),
        (&["get", "--nonsense"], "Usage: pinlet get "),
        (&["frobnicate"], "frobnicate"),
        (&["run", "--pod-cidr=nonsense"], "pod-cidr"),
        (&["run", "--kubeconfig=/no/such/kubeconfig"], "/no/such/kubeconfig"),
        (&["run", "--bootstrap-kubeconfig=/x"], "not built yet: --bootstrap-kubeconfig"),
        (&["run", "--port=10250"], "not built yet: --port"),
        (&["pull", "x"], "not built yet: pull"),
        (&["get", "pods", "-w"], "not built yet: -w"),
        (&["run", "--network=cni"], "cni"),
    ] {
        let out = run(args).code(2);
        assert!(out.stderr.contains(word), "{args:?}: {out:?}");
    }
    std::fs::write(
        node.dir.join("config.yaml"),
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nnoSuchKey: 1\n",
    )
    .expect("a file");
    let config = format!("--config={}", node.dir.join("config.yaml").display());
    let out = run(&["run", &config]).code(2);
    assert!(out.stderr.contains("noSuchKey"), "{out:?}");
    assert!(run(&["version"]).ok().stdout.contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
}

#[test]
fn a_wrong_configuration_is_exit_code_two_and_named() {
    let node = Setup::default().stopped().start();
    let file = node.dir.join("config.yaml");
    let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    for (lines, word) in [
        ("fileCheckFrequency: soon\n", "fileCheckFrequency"),
        ("containerLogMaxSize: [1]\n", "containerLogMaxSize"),
        ("containerLogMaxFiles: 1\n", "containerLogMaxFiles"),
        ("crashLoopBackOff: {maxContainerRestartPeriod: 400s}\n", "maxContainerRestartPeriod"),
        ("crashLoopBackOff: {maxContainerRestartPeriods: 4s}\n", "maxContainerRestartPeriods"),
        ("staticPodURL: http://x/\n", "not built yet: staticPodURL"),
        ("noSuchKey: 1\n", "noSuchKey"),
    ] {
        std::fs::write(&file, format!("{head}{lines}")).expect("a file");
        let mut command = std::process::Command::new(node.program());
        let out = verb::run(command.args(node.flags()), b"", PATIENCE).code(2);
        assert!(out.stderr.contains(word), "{lines}: {out:?}");
    }
    std::fs::write(&file, "apiVersion: v1\nkind: Pod\n").expect("a file");
    let mut command = std::process::Command::new(node.program());
    verb::run(command.args(node.flags()), b"", PATIENCE).code(2);
    std::fs::remove_file(&file).expect("a file");
    let mut command = std::process::Command::new(node.program());
    let out = verb::run(command.args(node.flags()), b"", PATIENCE).code(2);
    assert!(out.stderr.contains("config.yaml"), "{out:?}");
}

#[test]
fn what_means_nothing_here_is_one_warning_and_a_missing_directory_too() {
    let mut node =
        Setup::default().config("authentication: {anonymous: {enabled: false}}\nmaxOpenFiles: 5").stopped().start();
    std::fs::remove_dir(node.manifests()).expect("an empty directory");
    node.start_agent();
    let log = node.agent_log();
    for key in ["authentication", "maxOpenFiles"] {
        assert_eq!(log.lines().filter(|l| l.starts_with("W ") && l.contains(key)).count(), 1, "{key} in {log}");
    }
    let shown = node.manifests().display().to_string();
    wait_for("the directory is missed", PATIENCE, || {
        let log = node.agent_log();
        expect(log.lines().any(|l| l.starts_with("W ") && l.contains(&shown)), || log.clone())
    });
    std::fs::create_dir(node.manifests()).expect("just removed");
    node.put_pod(&Pod::idle("app"));
    node.wait_running("app");
}

#[test]
fn exec_works_after_the_agents_own_limits_have_fallen() {
    let mut node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let pod = node.wait_running("app");
    node.crash_agent();
    // As a unit's LimitNOFILE= and CapabilityBoundingSet= may have it after an edit.
    let fallen = "ulimit -n 5000; exec setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource \"$@\"";
    node.setup.shell = Some(fallen.to_owned());
    node.start_agent();
    let limits = "ulimit -Sn; ulimit -Hn; ulimit -Sc; grep -c . /proc/1/limits";
    let out = node.verb(&["exec", "app", "--", "sh", "-c", limits]).ok();
    assert_eq!(out.stdout, "5000\n5000\n0\n17\n", "no more than the agent has itself: {out:?}");
    assert_eq!(node.pod("app").container_id("c"), pod.container_id("c"), "nothing was restarted");
}
