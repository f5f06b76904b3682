//! The built-in bridge against the real kernel, each test in network namespaces of its own: the machine's network is
//! neither used nor changed. Needs root.

use pinlet::model::id::PodKey;
use pinlet::net::{Attachment, Bridge, NetError, Watch, node_ip};
use pinlet::sys::mount;
use pinlet::sys::namespace::{Kind, create_pinned, within_net};
use pinlet::sys::netlink::nftables::TableSocket;
use pinlet::sys::netlink::route::{LOOPBACK_INDEX, RouteSocket};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const BRIDGE: &str = "pinlet0";
/// Some thousand times what a connection takes here.
const DEADLINE: Duration = Duration::from_secs(20);

/// A directory of pins: `host` stands for the machine, the others for pods and for a host outside. They are unmounted
/// and removed whatever the test does, and with the last pin goes everything in them.
struct World {
    dir: PathBuf,
}

impl World {
    fn new() -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pinlet-net-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().canonicalize().expect("a directory").join(name);
        std::fs::create_dir(&dir).expect("a directory");
        let world = World { dir };
        world.namespace("host");
        world
    }

    fn namespace(&self, name: &str) -> PathBuf {
        let pin = self.dir.join(name);
        create_pinned(&[(Kind::Net, &pin)], || {
            let mut socket = RouteSocket::open().map_err(std::io::Error::other)?;
            socket.set_up(LOOPBACK_INDEX).map_err(std::io::Error::other)
        })
        .expect("a namespace");
        pin
    }

    /// Runs `test` on the stand-in for the machine.
    fn on_host<T: Send>(&self, test: impl FnOnce() -> T + Send) -> T {
        within_net(&self.dir.join("host"), test).expect("entered")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let _ = mount::unmount_detach(&entry.path());
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn bridge() -> Bridge {
    Bridge::new(BRIDGE, Ipv4Addr::new(10, 85, 0, 0), 16).expect("a bridge")
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "default".into(), name: name.into() }
}

fn link_names() -> Vec<String> {
    let mut socket = RouteSocket::open().expect("rtnetlink");
    socket.links(None).expect("a list").into_iter().map(|link| link.name).collect()
}

fn has_table() -> bool {
    TableSocket::open().expect("nf_tables").exists(&format!("pinlet-{BRIDGE}")).expect("an answer")
}

/// A listener in `server` that answers with the address it is called from; what `client` hears.
fn call(server: &Path, ip: IpAddr, client: &Path) -> String {
    let listener = within_net(server, || TcpListener::bind((ip, 0)).expect("bound")).expect("entered");
    let port = listener.local_addr().expect("an address").port();
    let answering = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a caller");
        stream.write_all(peer.ip().to_string().as_bytes()).expect("answered");
    });
    let mut heard = String::new();
    within_net(client, || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), DEADLINE).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        stream.read_to_string(&mut heard).expect("an answer");
    })
    .expect("entered");
    answering.join().expect("answered");
    heard
}

/// A host at 198.51.100.2 that knows no way to the pod network, reached over a link of the machine's at .1.
fn outside(world: &World) -> PathBuf {
    let pin = world.namespace("outside");
    let file = std::fs::File::open(&pin).expect("opened");
    world.on_host(|| {
        let mut socket = RouteSocket::open().expect("rtnetlink");
        socket.add_bridge("up0", [2, 0, 0, 0, 0, 1]).expect("a link");
        let up = socket.link("up0").expect("an answer").expect("it is there").index;
        let ends = (("up1", [2, 0, 0, 0, 0, 2]), ("eth0", [2, 0, 0, 0, 0, 3]));
        socket.add_veth(ends.0, up, ends.1, std::os::fd::AsFd::as_fd(&file)).expect("a link");
        socket.add_address(up, Ipv4Addr::new(198, 51, 100, 1), 24).expect("an address");
    });
    within_net(&pin, || {
        let mut socket = RouteSocket::open().expect("rtnetlink");
        let link = socket.link("eth0").expect("an answer").expect("it is there").index;
        socket.add_address(link, Ipv4Addr::new(198, 51, 100, 2), 24).expect("an address");
        socket.set_up(link).expect("up");
    })
    .expect("entered");
    pin
}

#[test]
fn pods_reach_each_other_the_host_and_by_masquerade_the_outside() {
    let world = World::new();
    let (a, b, outside) = (world.namespace("a"), world.namespace("b"), outside(&world));
    let bridge = bridge();
    let attach = |pin: &Path, name: &str| world.on_host(|| bridge.attach(pin, &key(name), &[]).expect("attached"));
    let (at_a, at_b) = (attach(&a, "a"), attach(&b, "b"));
    assert_ne!(at_a.ip, at_b.ip);
    let host = world.dir.join("host");
    assert_eq!(call(&a, at_a.ip, &b), at_b.ip.to_string());
    assert_eq!(call(&a, at_a.ip, &host), "10.85.0.1");
    assert_eq!(call(&host, Ipv4Addr::new(10, 85, 0, 1).into(), &a), at_a.ip.to_string());
    assert_eq!(call(&a, at_a.ip, &a), at_a.ip.to_string());
    assert_eq!(call(&outside, Ipv4Addr::new(198, 51, 100, 2).into(), &a), "198.51.100.1");

    world.on_host(|| {
        bridge.detach(&at_a.veth).expect("detached");
        assert!(bridge.is_attached(&at_b.veth).expect("looked at") && has_table());
        bridge.detach(&at_b.veth).expect("detached");
        bridge.detach(&at_b.veth).expect("nothing to do");
        let names = link_names();
        assert!(!names.iter().any(|name| name == BRIDGE || name.starts_with("veth")), "{names:?}");
        assert!(!has_table());
    });
}

#[test]
fn an_attach_that_was_cut_short_is_taken_up_with_the_same_address() {
    let world = World::new();
    let a = world.namespace("a");
    world.on_host(|| {
        let first = bridge().attach(&a, &key("a"), &[]).expect("attached");
        // Another agent, without a record of the first.
        let bridge = bridge();
        let again = bridge.attach(&a, &key("a"), &[]).expect("attached again");
        assert_eq!(first, again);
        let veths = link_names().into_iter().filter(|name| name.starts_with("veth")).count();
        assert_eq!(veths, 1);
        // A recorded address is never given twice, whatever the hash says.
        let b = world.namespace("b");
        let other = bridge.attach(&b, &key("a"), &[again.ip]).expect("attached");
        assert_ne!(other.ip, again.ip);
    });
}

#[test]
fn a_route_on_another_link_that_overlaps_is_named_and_nothing_is_left() {
    let world = World::new();
    let a = world.namespace("a");
    world.on_host(|| {
        let mut socket = RouteSocket::open().expect("rtnetlink");
        socket.add_bridge("other0", [2, 0, 0, 0, 0, 1]).expect("a link");
        let other = socket.link("other0").expect("an answer").expect("it is there").index;
        socket.add_address(other, Ipv4Addr::new(10, 85, 7, 1), 24).expect("an address");
        let bridge = bridge();
        let error = bridge.attach(&a, &key("a"), &[]).expect_err("an overlap");
        let text = error.to_string();
        assert!(matches!(error, NetError::Overlap { .. }), "{text}");
        assert!(text.contains("10.85.0.0/16") && text.contains("10.85.7.") && text.contains("other0"), "{text}");
        assert!(!link_names().contains(&BRIDGE.to_owned()) && !has_table());

        socket.delete_link(other).expect("removed");
        socket.add_bridge("wan0", [2, 0, 0, 0, 0, 2]).expect("a link");
        let wan = socket.link("wan0").expect("an answer").expect("it is there").index;
        socket.add_address(wan, Ipv4Addr::new(192, 0, 2, 2), 24).expect("an address");
        socket.add_default_route(Ipv4Addr::new(192, 0, 2, 1), wan).expect("a route");
        let attached = bridge.attach(&a, &key("a"), &[]).expect("a default route does not count");
        bridge.check_overlap().expect("nor does our own bridge");
        bridge.detach(&attached.veth).expect("detached");
    });
}

#[test]
fn a_failed_attach_leaves_nothing_and_disturbs_nobody() {
    let world = World::new();
    let (a, b) = (world.namespace("a"), world.namespace("b"));
    let no_namespace = world.dir.join("plain");
    std::fs::write(&no_namespace, "").expect("a file");
    world.on_host(|| {
        let bridge = Bridge::new(BRIDGE, Ipv4Addr::new(10, 85, 0, 0), 30).expect("a bridge");
        assert!(matches!(bridge.attach(&no_namespace, &key("x"), &[]), Err(NetError::Enter { .. })));
        assert!(!link_names().contains(&BRIDGE.to_owned()) && !has_table());
        let only = bridge.attach(&a, &key("a"), &[]).expect("attached");
        assert!(matches!(bridge.attach(&b, &key("b"), &[]), Err(NetError::NoAddress(_))));
        assert!(bridge.is_attached(&only.veth).expect("looked at") && has_table());
    });
}

#[test]
fn links_that_nobody_knows_are_swept_and_a_foreign_bridge_is_not_touched() {
    let world = World::new();
    let (a, b) = (world.namespace("a"), world.namespace("b"));
    world.on_host(|| {
        let before = bridge();
        let known: Attachment = before.attach(&a, &key("a"), &[]).expect("attached");
        let stale = before.attach(&b, &key("b"), &[]).expect("attached");
        let bridge = bridge();
        assert!(bridge.sweep(std::slice::from_ref(&known.veth)).expect("swept"));
        assert!(bridge.is_attached(&known.veth).expect("looked at"));
        assert!(!bridge.is_attached(&stale.veth).expect("looked at"));
        assert!(bridge.sweep(&[]).expect("swept"));
        assert!(!link_names().contains(&BRIDGE.to_owned()) && !has_table());

        let mut socket = RouteSocket::open().expect("rtnetlink");
        socket.add_bridge(BRIDGE, [2, 0, 0, 0, 0, 1]).expect("the admin's bridge");
        assert!(matches!(bridge.attach(&a, &key("a"), &[]), Err(NetError::Foreign(_))));
        bridge.remove_if_unused().expect("nothing of ours");
        assert!(link_names().contains(&BRIDGE.to_owned()));
    });
}

#[test]
fn a_pod_without_a_record_is_detached_by_its_namespace() {
    let world = World::new();
    let a = world.namespace("a");
    world.on_host(|| {
        let bridge = bridge();
        bridge.attach(&a, &key("a"), &[]).expect("attached");
        bridge.detach_netns(&a).expect("detached");
        let names = link_names();
        assert!(!names.iter().any(|name| name == BRIDGE || name.starts_with("veth")), "{names:?}");
        bridge.detach_netns(&a).expect("nothing to do");
        bridge.detach_netns(&world.dir.join("none")).expect("nothing there");
    });
}

#[test]
fn a_flushed_table_is_put_back_while_pods_are_attached() {
    let world = World::new();
    let a = world.namespace("a");
    world.on_host(|| {
        let bridge = bridge();
        assert!(!bridge.restore_table().expect("no pods"));
        bridge.attach(&a, &key("a"), &[]).expect("attached");
        assert!(!bridge.restore_table().expect("it is there"));
        TableSocket::open().expect("nf_tables").delete(&format!("pinlet-{BRIDGE}")).expect("flushed");
        assert!(bridge.restore_table().expect("put back") && has_table());
    });
}

#[test]
fn the_nodes_address_follows_its_default_route_and_changes_are_told() {
    let world = World::new();
    world.on_host(|| {
        let watch = Watch::open().expect("a socket");
        assert!(!watch.drain().expect("nothing yet"));
        assert_eq!(node_ip().expect("an answer"), IpAddr::from(Ipv4Addr::LOCALHOST));
        let mut socket = RouteSocket::open().expect("rtnetlink");
        socket.add_bridge("wan0", [2, 0, 0, 0, 0, 2]).expect("a link");
        let wan = socket.link("wan0").expect("an answer").expect("it is there").index;
        socket.add_address(wan, Ipv4Addr::new(192, 0, 2, 2), 24).expect("an address");
        assert_eq!(node_ip().expect("an answer"), IpAddr::from(Ipv4Addr::LOCALHOST));
        socket.add_default_route(Ipv4Addr::new(192, 0, 2, 1), wan).expect("a route");
        assert_eq!(node_ip().expect("an answer"), IpAddr::from(Ipv4Addr::new(192, 0, 2, 2)));
        assert!(watch.drain().expect("told"));
        assert!(!watch.drain().expect("told once"));
    });
}

/// Runs itself again where `/proc/sys` is read-only: in namespaces of its own, by util-linux's `unshare`.
#[test]
fn where_forwarding_cannot_be_switched_on_the_reason_is_told() {
    const NAME: &str = "where_forwarding_cannot_be_switched_on_the_reason_is_told";
    const INSIDE: &str = "PINLET_TEST_READ_ONLY_PROC_SYS";
    if std::env::var_os(INSIDE).is_some() {
        let error = bridge().attach(Path::new("/proc/self/ns/net"), &key("a"), &[]).expect_err("it is read-only");
        assert!(matches!(error, NetError::Forwarding(_)) && error.hint().is_some(), "{error}");
        assert!(!link_names().contains(&BRIDGE.to_owned()));
        return;
    }
    // A new namespace may inherit the machine's setting.
    let script =
        "echo 0 > /proc/sys/net/ipv4/ip_forward && mount -o bind,ro /proc/sys /proc/sys && exec \"$0\" --exact \"$1\"";
    let me = std::env::current_exe().expect("a path");
    let outcome = std::process::Command::new("unshare")
        .args(["--net", "--mount", "sh", "-c", script])
        .args([me.as_os_str(), NAME.as_ref()])
        .env(INSIDE, "1")
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && text.contains("1 passed"), "{text}");
}
