//! The built-in bridge, seen from pods, from the node and from outside.

mod support;

use std::net::{IpAddr, TcpListener};
use std::sync::mpsc;
use support::wait::expect;
use support::{IDLE, Node, PATIENCE, Pod, host, http, json, verb, wait_for};

/// A machine beyond the node: a network namespace on a link of its own, with no route back to any pod.
struct Outside {
    name: String,
    node_end: IpAddr,
    far_end: IpAddr,
}

impl Outside {
    fn new(tag: &str) -> Outside {
        let name = tag.replacen("pt", "out", 1);
        let seed = u32::from_str_radix(&support::image::sha256(tag.as_bytes())[..4], 16).expect("hex digits");
        // 198.18.0.0/15 is for benchmarks; a /30 of it.
        let at = |n: u32| format!("198.{}.{}.{}", 18 + (seed >> 15), (seed >> 7) & 0xff, ((seed & 0x3f) << 2) + n);
        let (near, far) = (at(1), at(2));
        let peer = name.replacen("out", "far", 1);
        let ip = |line: &str| {
            let words: Vec<&str> = std::iter::once("ip").chain(line.split(' ')).collect();
            verb::tool(&words);
        };
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name {peer} netns {name}"));
        ip(&format!("addr add {near}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {far}/30 dev {peer}"));
        ip(&format!("-n {name} link set {peer} up"));
        Outside { name, node_end: near.parse().expect("an address"), far_end: far.parse().expect("an address") }
    }

    /// Listens out there; the first caller's address.
    fn listen(&self) -> (u16, mpsc::Receiver<IpAddr>) {
        let (say, port) = mpsc::channel();
        let (tell, callers) = mpsc::channel();
        let namespace = format!("/run/netns/{}", self.name);
        std::thread::spawn(move || {
            let file = std::fs::File::open(namespace).expect("a namespace");
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root");
            let listener = TcpListener::bind("0.0.0.0:0").expect("a port");
            say.send(listener.local_addr().expect("bound").port()).expect("the test waits");
            if let Ok((_, peer)) = listener.accept() {
                let _ = tell.send(peer.ip());
            }
        });
        (port.recv_timeout(PATIENCE).expect("bound"), callers)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        verb::tool_quiet(&["ip", "link", "delete", &self.name]);
        verb::tool_quiet(&["ip", "netns", "delete", &self.name]);
    }
}

#[test]
fn the_outside_sees_the_nodes_address_and_the_node_forwards() {
    let node = Node::start();
    let outside = Outside::new(&node.tag);
    node.put_pod(&Pod::idle("app").own_network());
    node.wait_running("app");
    assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("procfs").trim(), "1");
    let (port, callers) = outside.listen();
    let far = outside.far_end.to_string();
    let _ = node.verb(&["exec", "app", "--", "nc", "-w", "3", &far, &port.to_string()]);
    let seen = callers.recv_timeout(PATIENCE).expect("the pod's connection arrives");
    assert_eq!(seen, outside.node_end);
}

#[test]
fn a_pod_reaches_the_node_and_what_listens_there() {
    let node = Node::start();
    let port = http::free_port();
    node.put_pod(&Pod::new("host", &format!("trap 'exit 0' TERM; httpd -f -p {port} -h /www & wait")));
    node.put_pod(&Pod::idle("own").own_network());
    let address = node.wait_running("host").ip();
    node.wait_running("own");
    let url = format!("http://{address}:{port}/index.html");
    wait_for("the pod reads the page", PATIENCE, || {
        let out = node.verb(&["exec", "own", "--", "wget", "-q", "-O", "-", &url]);
        expect(out.stdout == support::image::PAGE, || format!("{out:?}"))
    });
}

#[test]
fn a_pods_interface_has_loopback_one_address_and_a_default_route() {
    let node = Node::start();
    node.put_pod(&Pod::idle("app").own_network());
    let pod = node.wait_running("app");
    let out = node
        .verb(&["exec", "app", "--", "sh", "-c", "ip -4 addr; ip route; cat /sys/class/net/*/operstate"])
        .ok()
        .stdout;
    assert!(out.contains("inet 127.0.0.1/8") && out.contains(&format!("inet {}/24", pod.ip())), "{out}");
    let gateway = format!("{}.1", pod.ip().rsplit_once('.').expect("an IPv4 address").0);
    assert!(out.contains(&format!("default via {gateway} dev eth0")), "{out}");
}

#[test]
fn addresses_are_not_given_twice_and_come_back_after_use() {
    let mut node = support::Setup::default().stopped().start();
    let cidr = node.flags().iter().find_map(|f| f.strip_prefix("--pod-cidr=").map(str::to_owned)).expect("a flag");
    // Room for the gateway and five pods.
    let small = cidr.replace("/24", "/29");
    node.setup.flags.push(format!("--pod-cidr={small}"));
    node.start_agent();
    for n in 0..5 {
        node.put_pod(&Pod::idle(&format!("p{n}")).own_network());
    }
    let mut ips: Vec<String> = (0..5).map(|n| node.wait_running(&format!("p{n}")).ip()).collect();
    ips.sort();
    ips.dedup();
    assert_eq!(ips.len(), 5, "{ips:?}");
    node.put_pod(&Pod::idle("extra").own_network());
    wait_for("explain says that no address is left", PATIENCE, || {
        let out = node.verb(&["explain", "extra"]);
        expect(out.code == 1 && out.stdout.contains(&small), || format!("{out:?}"))
    });
    node.remove("p2.yaml");
    node.wait_pod_for(PATIENCE * 2, "extra", "got the address that came free", |p| p.is_running("c"));
}

#[test]
fn the_bridge_goes_with_the_last_pod_and_comes_with_the_next() {
    let node = Node::start();
    node.put_pod(&Pod::idle("host"));
    node.wait_running("host");
    assert!(!host::links().contains(&node.tag), "hostNetwork needs no bridge");
    for _ in 0..2 {
        node.put_pod(&Pod::new("one", IDLE).own_network());
        node.put_pod(&Pod::new("two", IDLE).own_network());
        node.wait_running("one");
        node.wait_running("two");
        assert!(host::nft_tables().iter().any(|t| t.ends_with(&format!("pinlet-{}", node.tag))));
        node.remove("one.yaml");
        node.wait_gone("one");
        assert!(host::links().contains(&node.tag));
        node.remove("two.yaml");
        node.wait_gone("two");
        assert!(!host::links().contains(&node.tag));
        assert!(!host::nft_tables().iter().any(|t| t.ends_with(&format!("pinlet-{}", node.tag))));
    }
}

#[test]
fn with_network_none_a_pod_has_loopback_and_no_address() {
    let mut node = support::Setup::default().flag("--network=none").start();
    node.put_pod(&Pod::idle("host"));
    node.put_pod(&Pod::idle("own").own_network());
    node.wait_running("host");
    let pod = node.wait_running("own");
    assert_eq!((pod.ip().as_str(), pod.0["status"].get("podIPs")), ("", None), "{:#}", pod.0["status"]);
    let out = node.verb(&["get", "pods", "own", "-o", "wide"]).ok().stdout;
    let cells: Vec<&str> = out.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(cells[6], "<none>", "{out}");
    let out = node.verb(&["exec", "own", "--", "sh", "-c", "ls /sys/class/net; ip -4 addr show lo; ip route"]).ok();
    assert!(out.stdout.starts_with("lo\n") && out.stdout.contains("inet 127.0.0.1/8"), "{out:?}");
    assert!(!out.stdout.contains("eth0") && !out.stdout.contains("default"), "{out:?}");
    assert!(!host::links().contains(&node.tag));
    // Nor does it get one by being adopted.
    node.crash_agent();
    node.start_agent();
    let after = node.wait_running("own");
    assert_eq!((after.container_id("c"), after.ip()), (pod.container_id("c"), String::new()));
    node.remove("own.yaml");
    node.wait_gone("own");
}

#[test]
fn without_nf_tables_host_network_pods_run_and_the_others_say_why_not() {
    let mut node = support::Setup::default().stopped().start();
    node.setup.shell = Some(support::seccomp::without_nf_tables(&node.dir));
    node.start_agent();
    node.put_pod(&Pod::idle("host"));
    node.put_pod(&Pod::idle("own").own_network());
    let pid = node.init_pid(&node.wait_running("host"), "c");
    let out = wait_for("explain names what is missing", PATIENCE, || {
        let out = node.verb(&["explain", "own"]);
        expect(out.code == 1 && out.stdout.contains("nf_tables"), || format!("{out:?}"))?;
        Ok(out.stdout)
    });
    assert!(out.contains("this kernel has no nf_tables") && out.contains("hint: "), "{out}");
    let out = node.verb(&["describe", "pod", "own"]).ok().stdout;
    assert!(out.contains("this kernel has no nf_tables"), "{out}");
    let own = node.pod("own");
    assert_eq!(
        (own.phase().as_str(), own.waiting("c").as_str(), own.ip().as_str()),
        ("Pending", "ContainerCreating", "")
    );
    assert!(node.agent_log().contains("this kernel has no nf_tables"), "{}", node.agent_log());
    // Nothing of the attempts stays, and the pod without a network goes as any other.
    assert!(!host::links().contains(&node.tag));
    node.remove("own.yaml");
    node.wait_gone("own");
    node.put_pod(&Pod::idle("later"));
    node.wait_running("later");
    // Nor does the next agent mind, whether or not it finds nf_tables.
    node.put_pod(&Pod::idle("own").own_network());
    node.wait_pod("own", "waits", |pod| pod.phase() == "Pending");
    node.crash_agent();
    node.setup.shell = None;
    node.start_agent();
    node.wait_running("own");
    assert_eq!(node.init_pid(&node.pod("host"), "c"), pid, "nothing was restarted");
}

#[test]
fn a_changed_resolv_conf_reaches_pods_that_run() {
    let mut node = support::Setup::default().config("fileCheckFrequency: 1s").stopped().start();
    let own = node.dir.join("resolv.conf");
    std::fs::write(&own, "nameserver 192.0.2.1\nsearch before.example\n").expect("a fresh file");
    node.setup.flags.push(format!("--resolv-conf={}", own.display()));
    node.start_agent();
    node.put_pod(&Pod::idle("own").own_network());
    node.put_pod(&Pod::idle("host"));
    let before = ["own", "host"].map(|name| node.wait_running(name).container_id("c"));
    let wait_text = |node: &Node, what: &str, text: &str| {
        for name in ["own", "host"] {
            wait_for(&format!("{name} {what}"), PATIENCE, || {
                let out = node.verb(&["exec", name, "--", "cat", "/etc/resolv.conf"]);
                expect(out.code == 0 && out.stdout == text, || format!("{out:?}"))
            });
        }
    };
    wait_text(&node, "has the node's servers", "search before.example\nnameserver 192.0.2.1\n");
    // Edited in place, as an editor may do it, to something longer.
    let two = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch after.example much.longer.example\n";
    std::fs::write(&own, two).expect("a file");
    let expected = "search after.example much.longer.example\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n";
    wait_text(&node, "has the new ones", expected);
    // Replaced, as DHCP clients do it, by something shorter.
    let aside = node.dir.join("resolv.new");
    std::fs::write(&aside, "nameserver 192.0.2.3\n").expect("a fresh file");
    std::fs::rename(&aside, &own).expect("the same directory");
    wait_text(&node, "has the last one", "nameserver 192.0.2.3\n");
    node.crash_agent();
    std::fs::write(&own, "nameserver 192.0.2.4\n").expect("a file");
    node.start_agent();
    wait_text(&node, "has what came while no agent ran", "nameserver 192.0.2.4\n");
    assert_eq!(["own", "host"].map(|name| node.pod(name).container_id("c")), before, "nothing was restarted");
}

#[test]
fn changed_hosts_of_the_node_reach_host_network_pods_that_run() {
    let mut node = support::Setup::default().config("fileCheckFrequency: 1s").stopped().start();
    // The agent sees a file of the test's own in the place of /etc/hosts.
    let hosts = node.dir.join("hosts");
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a fresh file");
    let bind = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    node.setup.shell = Some(format!("exec unshare --mount /bin/sh -c '{}' sh \"$@\"", bind.replace('\'', "'\\''")));
    node.start_agent();
    let alias = json!([{"ip": "192.0.2.9", "hostnames": ["alias.example"]}]);
    node.put_pod(&Pod::idle("host").spec_field("hostAliases", alias));
    node.put_pod(&Pod::idle("own").own_network());
    let before = ["host", "own"].map(|name| node.wait_running(name).container_id("c"));
    let read = |name: &str| node.verb(&["exec", name, "--", "cat", "/etc/hosts"]).ok().stdout;
    let own = read("own");
    std::fs::write(&hosts, "127.0.0.1 localhost\n192.0.2.7 added.example\n").expect("a file");
    wait_for("the host's new line is there", PATIENCE, || {
        let text = read("host");
        let whole = text.contains("192.0.2.7 added.example\n") && text.contains("alias.example");
        expect(whole, || text.clone())
    });
    std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a file");
    wait_for("and gone again", PATIENCE, || {
        let text = read("host");
        expect(!text.contains("added.example") && text.contains("alias.example"), || text.clone())
    });
    assert_eq!(read("own"), own, "the node's hosts are no concern of a pod with its own network");
    assert_eq!(["host", "own"].map(|name| node.pod(name).container_id("c")), before, "nothing was restarted");
}
