//! The life of a pod on a node: it starts, answers, crashes, changes, goes. Root and real containers.

mod support;

use std::time::{Duration, Instant};
use support::image::{Image, PAGE};
use support::wait::{expect, stays};
use support::{IDLE, Node, PATIENCE, Pod, Setup, host, http, json, wait_for};

fn serve(port: u16) -> String {
    format!("trap 'exit 0' TERM; httpd -f -p {port} -h /www & wait")
}

#[track_caller]
fn wait_page(ip: &str, port: u16) {
    wait_for("the pod's web server answers", PATIENCE, || {
        let (status, body) = http::get(ip, port, "/index.html")?;
        expect((status, body.as_str()) == (200, PAGE), || format!("{status} {body:?}"))
    });
}

#[test]
fn a_manifest_becomes_a_pod_that_answers_on_an_ip_of_its_own() {
    let node = Node::start();
    node.put_pod(&Pod::new("web", &serve(8080)).own_network());
    let pod = node.wait_running("web");
    assert!(pod.ip().starts_with("10."), "{}", pod.ip());
    wait_page(&pod.ip(), 8080);
    let pid = node.init_pid(&pod, "c");
    let own = std::fs::read_link("/proc/self/ns/net").expect("procfs");
    assert_ne!(std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("procfs"), own);
}

#[test]
fn two_pods_have_two_addresses_and_reach_each_other() {
    let node = Node::start();
    node.put_pod(&Pod::new("one", &serve(8080)).own_network());
    node.put_pod(&Pod::new("two", &serve(8080)).own_network());
    let (one, two) = (node.wait_running("one"), node.wait_running("two"));
    assert_ne!(one.ip(), two.ip());
    wait_page(&one.ip(), 8080);
    wait_page(&two.ip(), 8080);
    let url = format!("http://{}:8080/index.html", one.ip());
    assert_eq!(node.verb(&["exec", "two", "--", "wget", "-q", "-O", "-", &url]).ok().stdout, PAGE);
}

#[test]
fn a_pods_containers_share_one_network_and_localhost() {
    let node = Node::start();
    let peer = "until wget -q -O - http://127.0.0.1:8080/index.html; do sleep 0.1; done; sleep 1000000";
    node.put_pod(&Pod::new("web", &serve(8080)).container("peer", peer).own_network());
    node.wait_running("web");
    wait_for("the peer has read the page", PATIENCE, || {
        let out = node.verb(&["logs", "web", "-c", "peer"]);
        expect(out.stdout.contains(PAGE), || format!("{out:?}"))
    });
}

#[test]
fn a_host_network_pod_answers_on_the_nodes_address() {
    let node = Node::start();
    let port = http::free_port();
    node.put_pod(&Pod::new("web", &serve(port)));
    let pod = node.wait_running("web");
    wait_page(&pod.ip(), port);
    let host_ip = pod.0["status"]["hostIP"].as_str().expect("a hostIP").to_owned();
    assert_eq!(pod.ip(), host_ip);
    let table = node.verb(&["get", "pods", "-o", "wide"]).ok().stdout;
    assert!(table.contains(&host_ip), "{table}");
}

#[test]
fn a_host_network_pod_shows_the_node_ip_that_a_flag_gives() {
    let node = Setup::default().flag("--node-ip=127.0.0.9").start();
    let port = http::free_port();
    node.put_pod(&Pod::new("web", &serve(port)));
    let pod = node.wait_running("web");
    assert_eq!(pod.ip(), "127.0.0.9");
    wait_page("127.0.0.9", port);
}

#[test]
fn get_pods_prints_the_columns_of_kubectl() {
    let node = Setup::default().flag("--node-ip=127.0.0.9").start();
    node.put_pod(&Pod::idle("zeta"));
    node.put_pod(&Pod::idle("alpha").container("second", IDLE));
    node.put("other.yaml", Pod::idle("mid").metadata("namespace", json!("apps")).yaml());
    node.wait_running("zeta");
    node.wait_running("alpha");
    wait_for("three pods are ready", PATIENCE, || {
        let out = node.verb(&["get", "pods"]).ok().stdout;
        expect(out.matches("Running").count() == 3, || out)
    });
    let rows = |args: &[&str]| -> Vec<Vec<String>> {
        let out = node.verb(args).ok().stdout;
        out.lines().map(|l| l.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let wide = rows(&["get", "pods", "-o", "wide"]);
    assert_eq!(wide[0], ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]);
    let without_age =
        |row: &Vec<String>| row.iter().enumerate().filter(|(n, _)| *n != 5).map(|(_, c)| c.clone()).collect::<Vec<_>>();
    let full = |name: &str| node.full_name(name);
    assert_eq!(without_age(&wide[1]), ["apps", &full("mid"), "1/1", "Running", "0", "127.0.0.9", &node.tag]);
    assert_eq!(without_age(&wide[2]), ["default", &full("alpha"), "2/2", "Running", "0", "127.0.0.9", &node.tag]);
    assert_eq!(without_age(&wide[3]), ["default", &full("zeta"), "1/1", "Running", "0", "127.0.0.9", &node.tag]);
    assert!(wide.iter().skip(1).all(|row| row.len() == 8), "{wide:?}");
    assert!(wide.iter().skip(1).all(|row| row[5].ends_with('s') || row[5].ends_with('m')), "{wide:?}");
    let plain = rows(&["get", "pods"]);
    assert_eq!(plain[0], ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert!(plain.iter().all(|row| row.len() == 6), "{plain:?}");
    assert_eq!(rows(&["get", "pods", "-n", "apps"]).len(), 2);
    assert_eq!(rows(&["get", "pods", "zeta"]).len(), 2);
    assert_eq!(rows(&["get", "pods", &full("zeta")]).len(), 2);
    assert_eq!(
        rows(&["get", "pods", "-o", "name"]),
        [[format!("pod/{}", full("mid"))], [format!("pod/{}", full("alpha"))], [format!("pod/{}", full("zeta"))],]
    );
}

#[test]
fn get_pods_of_an_empty_node_says_so_on_stderr() {
    let node = Node::start();
    let out = node.verb(&["get", "pods"]).ok();
    assert_eq!((out.stdout.as_str(), out.stderr.trim_end()), ("", "No resources found"));
    let out = node.verb(&["get", "pods", "-o", "json"]).ok();
    let list: serde_json::Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!((&list["kind"], &list["apiVersion"], &list["items"]), (&json!("PodList"), &json!("v1"), &json!([])));
    let out = node.verb(&["get", "pods", "nobody"]).code(1);
    assert!(out.stderr.contains("pods \"nobody\" not found"), "{out:?}");
}

#[test]
fn the_pod_list_carries_the_status_that_a_kubelet_posts() {
    let image = Image::new("example/app:v1");
    let id = image.id();
    let node = Setup::default().image(image).start();
    let pod = Pod::idle("app").image("example/app:v1").own_network();
    node.put_pod(&pod.metadata("labels", json!({"app": "x"})));
    let pod = node.wait_running("app");
    let out = node.verb(&["get", "pods", "-o", "json"]).ok();
    let list: serde_json::Value = serde_json::from_str(&out.stdout).expect("JSON");
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("PodList"), &json!("v1")));
    let of = |pointer: &str| pod.0.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(of("/metadata/namespace"), "default");
    assert_eq!(of("/metadata/labels/app"), "x");
    assert_eq!(of("/metadata/annotations/kubernetes.io~1config.source"), "file");
    assert_eq!(of("/metadata/annotations/kubernetes.io~1config.hash"), of("/metadata/uid"));
    assert!(of("/metadata/annotations/kubernetes.io~1config.seen").is_string());
    assert_eq!(of("/metadata/uid").as_str().map(str::len), Some(32));
    assert!(of("/metadata/creationTimestamp").as_str().is_some_and(|t| t.ends_with('Z')));
    assert_eq!(of("/spec/nodeName"), node.tag.as_str());
    assert_eq!(of("/spec/restartPolicy"), "Always");
    assert_eq!(of("/status/phase"), "Running");
    assert_eq!(of("/status/qosClass"), "BestEffort");
    assert!(of("/status/startTime").is_string() && of("/status/hostIP").is_string());
    assert_eq!(of("/status/podIPs/0/ip"), of("/status/podIP"));
    for condition in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(pod.condition(condition), "True", "{condition}");
    }
    let status = pod.status("c");
    assert_eq!((&status["ready"], &status["started"]), (&json!(true), &json!(true)));
    assert_eq!(status["restartCount"], 0);
    assert_eq!(status["image"], "docker.io/example/app:v1");
    assert_eq!(status["imageID"], id.as_str());
    assert!(status["state"]["running"]["startedAt"].is_string());
    let id = pod.container_id("c");
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{id}");
}

#[test]
fn a_killed_container_is_back_at_once_and_then_waits_in_back_off() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app"));
    let first = node.wait_running("app");
    host::signal(node.init_pid(&first, "c"), nix::sys::signal::Signal::SIGKILL);
    let second = node.wait_pod("app", "is back", |p| p.restarts("c") == 1 && p.is_running("c"));
    assert_eq!(second.uid(), first.uid());
    assert_ne!(second.container_id("c"), first.container_id("c"));
    let last = second.terminated("c");
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("Error")), "{last:#}");
    host::signal(node.init_pid(&second, "c"), nix::sys::signal::Signal::SIGKILL);
    let waiting = node.wait_pod("app", "waits", |p| p.waiting("c") == "CrashLoopBackOff");
    let killed = Instant::now();
    assert_eq!(waiting.phase(), "Running", "a pod in back-off is still Running");
    let message = waiting.status("c")["state"]["waiting"]["message"].as_str().unwrap_or_default().to_owned();
    let full = node.full_name("app");
    let uid = first.uid();
    assert_eq!(message, format!("back-off 10s restarting failed container=c pod={full}_default({uid})"));
    let table = node.verb(&["get", "pods"]).ok().stdout;
    assert!(table.contains("CrashLoopBackOff"), "{table}");
    node.wait_pod("app", "is back again", |p| p.restarts("c") == 2 && p.is_running("c"));
    assert!(killed.elapsed() > Duration::from_secs(6), "back after {:?} instead of 10 s", killed.elapsed());
}

#[test]
fn the_longest_back_off_can_be_configured() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("app", "exit 3"));
    let pod = node.wait_pod("app", "has crashed six times", |p| p.restarts("c") >= 6);
    assert_eq!(pod.terminated("c")["exitCode"], 3);
}

#[test]
fn on_failure_restarts_only_failures() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("good", "exit 0").restart("OnFailure"));
    node.put_pod(&Pod::new("bad", "exit 1").restart("OnFailure"));
    node.wait_pod("bad", "is restarted", |p| p.restarts("c") >= 2);
    let good = node.wait_pod("good", "has ended", |p| p.phase() == "Succeeded");
    assert_eq!((good.restarts("c"), &good.terminated("c")["reason"]), (0, &json!("Completed")));
    let table = node.verb(&["get", "pods", "good"]).ok().stdout;
    assert!(table.contains("Completed") && table.contains("0/1"), "{table}");
}

#[test]
fn never_restarts_nothing() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("good", "exit 0").restart("Never"));
    node.put_pod(&Pod::new("bad", "exit 7").restart("Never"));
    node.wait_pod("good", "has succeeded", |p| p.phase() == "Succeeded");
    let bad = node.wait_pod("bad", "has failed", |p| p.phase() == "Failed");
    assert_eq!((&bad.terminated("c")["exitCode"], &bad.terminated("c")["reason"]), (&json!(7), &json!("Error")));
    let state = || node.pods().iter().map(|p| (p.restarts("c"), p.phase())).collect::<Vec<_>>();
    let before = state();
    stays("ended pods stay ended", Duration::from_secs(3), || expect(state() == before, || format!("{:?}", state())));
}

#[test]
fn always_restarts_successes_too() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("app", "exit 0"));
    let pod = node.wait_pod("app", "is restarted", |p| p.restarts("c") >= 2);
    assert_eq!(pod.terminated("c")["reason"], "Completed");
}

#[test]
fn a_restart_touches_no_other_container_of_the_pod() {
    let node = Setup::default().restart_period(1).start();
    node.put_pod(&Pod::new("app", "sleep 0.5; exit 1").container("steady", IDLE).own_network());
    let pod = node.wait_pod("app", "has both", |p| p.is_running("steady"));
    let (pid, ip) = (node.init_pid(&pod, "steady"), pod.ip());
    let later = node.wait_pod("app", "has crashed thrice", |p| p.restarts("c") >= 3);
    assert_eq!((later.restarts("steady"), later.ip()), (0, ip));
    assert_eq!(node.init_pid(&later, "steady"), pid);
}

#[test]
fn an_edit_ends_the_old_pod_fully_before_the_new_one_starts() {
    let node = Node::start();
    let out = node.dir.join("times");
    std::fs::create_dir(&out).expect("a fresh directory");
    let source = json!({"hostPath": {"path": out.display().to_string()}});
    let script = |word: &str| {
        format!(
            "cat /proc/uptime > /out/{word}-start; \
             trap 'sleep 1; cat /proc/uptime > /out/{word}-end; exit 0' TERM; sleep 1000000 & wait"
        )
    };
    let manifest = |word: &str| Pod::new("app", &script(word)).grace(20).volume("out", source.clone(), "/out");
    node.put_pod(&manifest("old"));
    let old = node.wait_running("app");
    wait_for("the old one has begun", PATIENCE, || expect(out.join("old-start").exists(), String::new));
    node.put_pod(&manifest("new"));
    let new = node.wait_pod("app", "is the new one", |p| p.uid() != old.uid() && p.is_running("c"));
    assert_eq!(new.restarts("c"), 0);
    let uptime = |name: &str| -> f64 {
        wait_for(name, PATIENCE, || {
            let text = std::fs::read_to_string(out.join(name)).map_err(|e| e.to_string())?;
            text.split(' ').next().and_then(|t| t.parse().ok()).ok_or(text)
        })
    };
    assert!(uptime("old-end") <= uptime("new-start"), "the new one started before the old one's handler was done");
    assert_eq!(node.pods().len(), 1);
}

#[test]
fn while_the_old_uid_terminates_its_row_alone_is_shown() {
    let node = Node::start();
    node.put_pod(&Pod::new("app", "trap '' TERM; while :; do sleep 0.2; done").grace(4));
    let old = node.wait_running("app");
    node.put_pod(&Pod::idle("app"));
    node.wait_pod("app", "terminates", |p| p.uid() == old.uid() && p.is_terminating());
    let table = node.verb(&["get", "pods"]).ok().stdout;
    assert!(table.contains("Terminating") && table.lines().count() == 2, "{table}");
    node.wait_pod("app", "is replaced", |p| p.uid() != old.uid() && p.is_running("c"));
}

#[test]
fn a_pod_that_ignores_its_stop_signal_is_killed_after_its_grace_period() {
    let node = Node::start();
    node.put_pod(&Pod::new("deaf", "trap '' TERM; while :; do sleep 0.2; done").grace(3));
    node.wait_running("deaf");
    let removed = Instant::now();
    node.remove("deaf.yaml");
    node.wait_gone("deaf");
    assert!(removed.elapsed() >= Duration::from_secs(3), "killed after {:?}", removed.elapsed());
    node.assert_no_pod_left();
}

#[test]
fn the_stop_signal_of_the_image_is_used() {
    let image = Image::new("usr1:1").config("StopSignal", json!("SIGUSR1"));
    let node = Setup::default().image(image).start();
    let out = node.dir.join("out");
    std::fs::create_dir(&out).expect("a fresh directory");
    let source = json!({"hostPath": {"path": out.display().to_string()}});
    let script = "trap 'echo usr1 > /out/signal; exit 0' USR1; trap 'echo term > /out/signal; exit 0' TERM; \
                  touch /out/ready; while :; do sleep 0.1; done";
    node.put_pod(&Pod::new("app", script).image("usr1:1").grace(20).volume("out", source, "/out"));
    wait_for("the trap is set", PATIENCE, || expect(out.join("ready").exists(), String::new));
    node.remove("app.yaml");
    node.wait_gone("app");
    assert_eq!(std::fs::read_to_string(out.join("signal")).expect("the handler ran"), "usr1\n");
}

#[test]
fn a_rewrite_that_changes_nothing_disturbs_nothing() {
    let node = Node::start();
    node.put("app.yaml", Pod::idle("app").yaml());
    let before = node.wait_running("app");
    let pid = node.init_pid(&before, "c");
    let script = serde_json::to_string(IDLE).expect("a string");
    node.put(
        "app.yaml",
        format!(
            "# the same pod, written by hand\n---\nkind:   Pod\napiVersion: \"v1\"\n\nmetadata: {{'name': app}}\n\
             spec:\n  terminationGracePeriodSeconds: \"2\"\n  hostNetwork: true   # a comment\n  containers:\n  \
             - command: [/bin/sh, '-c', {script}]\n    image: 'busybox:1'\n    name: c\n"
        ),
    );
    stays("the pod is left alone", Duration::from_secs(3), || {
        let now = node.try_pod("app")?;
        expect(now.uid() == before.uid() && now.is_running("c"), || format!("{:#}", now.0["status"]))
    });
    let now = node.pod("app");
    assert_eq!((node.init_pid(&now, "c"), now.restarts("c")), (pid, 0));
    let report = node.verb(&["explain", "app.yaml"]).ok().stdout;
    assert!(report.contains("accepted"), "{report}");
}

#[test]
fn a_removed_pod_leaves_nothing_behind() {
    let mut node = Node::start();
    let memory = json!({"emptyDir": {"medium": "Memory"}});
    let pod = Pod::new("app", "echo hello; trap 'exit 0' TERM; sleep 1000000 & wait").own_network();
    let pod = pod.volume("memory", memory, "/memory").container("second", IDLE).mount("memory", "/memory");
    let pod =
        pod.volume("disk", json!({"emptyDir": {}}), "/disk").with("resources", json!({"limits": {"memory": "64Mi"}}));
    node.put_pod(&pod);
    node.put_pod(&Pod::idle("host"));
    node.wait_running("app");
    node.wait_running("host");
    let ports = host::ports_of(&node.tag);
    assert_eq!(ports.len(), 1, "one pod on the bridge: {ports:?}");
    node.remove("app.yaml");
    node.remove("host.yaml");
    node.wait_gone("app");
    node.wait_gone("host");
    node.assert_no_pod_left();
    assert!(!host::links().contains(&ports[0]), "{}", ports[0]);
    assert_eq!(node.stop_agent(), 0);
    assert_eq!(
        host::mounts_below(&node.dir),
        [] as [std::path::PathBuf; 0],
        "an agent without pods takes its run dir along"
    );
    assert_eq!(host::processes(&node.tag), [] as [i32; 0]);
}

#[test]
fn a_renamed_manifest_replaces_its_pod() {
    let node = Node::start();
    node.put("one.yaml", Pod::idle("app").yaml());
    let before = node.wait_running("app");
    std::fs::rename(node.manifests().join("one.yaml"), node.manifests().join("two.yaml")).expect("a rename");
    let after = node.wait_pod("app", "is replaced", |p| p.uid() != before.uid() && p.is_running("c"));
    assert_eq!(after.restarts("c"), 0);
    assert_eq!(node.pods().len(), 1);
}

#[test]
fn a_file_that_is_away_for_a_moment_is_not_a_removal() {
    let node = Node::start();
    let pod = Pod::idle("app");
    node.put_pod(&pod);
    let before = node.wait_running("app");
    for _ in 0..3 {
        node.remove("app.yaml");
        node.put_pod(&pod);
        std::thread::sleep(Duration::from_millis(400));
    }
    let after = node.pod("app");
    assert_eq!((after.uid(), after.container_id("c")), (before.uid(), before.container_id("c")));
}

#[test]
fn the_same_file_put_back_is_the_same_pod_and_counts_on() {
    let node = Node::start();
    let pod = Pod::idle("app");
    node.put_pod(&pod);
    let before = node.wait_running("app");
    node.remove("app.yaml");
    node.wait_gone("app");
    node.put_pod(&pod);
    let after = node.wait_running("app");
    assert_eq!((after.uid(), after.restarts("c")), (before.uid(), 1));
}

#[test]
fn a_single_file_can_be_the_manifest_path() {
    let mut node = Setup::default().stopped().start();
    let file = node.dir.join("single.yaml");
    std::fs::write(&file, Pod::idle("only").yaml()).expect("a fresh file");
    node.setup.flags.push(format!("--pod-manifest-path={}", file.display()));
    node.start_agent();
    node.wait_running("only");
    std::fs::remove_file(&file).expect("still there");
    node.wait_gone("only");
}

#[test]
fn twenty_pods_at_once_all_run_and_all_go() {
    let node = Node::start();
    let names: Vec<String> = (0..20).map(|n| format!("p{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        let pod = Pod::idle(name);
        node.put_pod(&if n % 2 == 0 { pod.own_network() } else { pod });
    }
    wait_for("twenty pods run", PATIENCE * 2, || {
        let running = node.try_pods()?.iter().filter(|p| p.is_running("c")).count();
        expect(running == 20, || format!("{running} run"))
    });
    let mut ips: Vec<String> = node.pods().iter().step_by(2).map(|p| p.ip()).collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 10, "{ips:?}");
    for name in &names {
        node.remove(&format!("{name}.yaml"));
    }
    wait_for("twenty pods are gone", PATIENCE * 2, || {
        let left = node.try_pods()?.len();
        expect(left == 0, || format!("{left} are left"))
    });
    node.assert_no_pod_left();
}

/// What the cgroup above all burstable pods weighs, in shares; none where there is no such cgroup.
fn burstable_shares(node: &Node) -> Option<u64> {
    let burstable = host::cgroups(&node.tag).into_iter().filter(|c| c.ends_with("kubepods/burstable"));
    burstable.into_iter().find_map(|cgroup| {
        let read = |file: &str| std::fs::read_to_string(cgroup.join(file)).ok()?.trim().parse::<u64>().ok();
        // The kubelet's mapping of 2..=262144 shares onto weights of 1..=10000, backwards and rounded up.
        read("cpu.shares").or_else(|| read("cpu.weight").map(|weight| 2 + ((weight - 1) * 262_142).div_ceil(9999)))
    })
}

#[test]
fn burstable_pods_together_weigh_what_they_ask_for() {
    let node = Node::start();
    let asks = |name: &str, cpu: &str| Pod::idle(name).with("resources", json!({"requests": {"cpu": cpu}}));
    let wait_about = |what: &str, shares: Option<u64>| {
        wait_for(what, PATIENCE, || {
            let found = burstable_shares(&node);
            // A weight is 26 shares.
            let fits = match (found, shares) {
                (Some(found), Some(shares)) => found.abs_diff(shares) <= 27,
                (found, shares) => found == shares,
            };
            expect(fits, || format!("{found:?} instead of {shares:?}"))
        });
    };
    node.put_pod(&Pod::idle("besteffort"));
    node.wait_running("besteffort");
    assert_eq!(burstable_shares(&node), None);
    node.put_pod(&asks("half", "500m"));
    node.wait_running("half");
    wait_about("half a core", Some(512));
    node.put_pod(&asks("two", "2").container("second", IDLE).with("resources", json!({"requests": {"cpu": "1"}})));
    node.wait_running("two");
    wait_about("three and a half", Some(3584));
    // A guaranteed pod is not among them.
    let all = json!({"limits": {"cpu": "1", "memory": "64Mi"}});
    node.put_pod(&Pod::idle("guaranteed").with("resources", all));
    node.wait_running("guaranteed");
    wait_about("still three and a half", Some(3584));
    node.remove("two.yaml");
    node.wait_gone("two");
    wait_about("half a core again", Some(512));
    node.remove("half.yaml");
    node.wait_gone("half");
    wait_about("none of them is left", None);
}
