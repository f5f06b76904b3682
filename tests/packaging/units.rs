//! The two systemd units.

use super::{Scratch, shipped};
use std::process::Command;

/// The values of a key, of all its lines.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let lines = unit.lines().filter_map(|line| line.split_once('='));
    lines.filter(|(name, _)| *name == key).map(|(_, value)| value).collect()
}

#[test]
fn systemd_understands_every_line() {
    let scratch = Scratch::new("verify");
    for name in ["pinlet.service", "pinlet-pods.service"] {
        // verify asks that the command exists; it is not installed here.
        let unit = shipped(name).replace("/usr/bin/pinlet", "/bin/true");
        std::fs::write(scratch.0.join(name), unit).expect("a copy of the unit");
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "pinlet.service", "pinlet-pods.service"])
        .env("SYSTEMD_UNIT_PATH", format!("{}:/lib/systemd/system", scratch.0.display()))
        .current_dir(&scratch.0)
        .output()
        .expect("systemd-analyze runs");
    // It exits 0 on unknown keys and only prints them.
    let said = String::from_utf8_lossy(&output.stderr);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("pinlet")).collect();
    assert!(about_us.is_empty(), "{said}");
}

#[test]
fn stopping_the_agent_touches_no_pod() {
    let unit = shipped("pinlet.service");
    assert_eq!(values(&unit, "Type"), ["notify"]);
    assert_eq!(values(&unit, "Restart"), ["always"]);
    assert_eq!(values(&unit, "KillMode"), ["process"]);
    assert_eq!(values(&unit, "OOMPolicy"), ["continue"]);
    // It would empty the run directory whenever the agent stops.
    assert!(values(&unit, "RuntimeDirectory").is_empty());
    // Each of these would give the agent a mount namespace of its own.
    for key in ["PrivateTmp", "ProtectSystem", "ProtectHome", "ReadOnlyPaths", "PrivateMounts", "MountFlags"] {
        assert!(values(&unit, key).is_empty(), "{key}");
    }
}

#[test]
fn pods_start_without_waiting_for_network_or_remote_mounts() {
    let unit = shipped("pinlet.service");
    for waited in values(&unit, "After").iter().flat_map(|line| line.split_whitespace()) {
        assert_eq!(waited, "network-pre.target", "the agent may wait only for firewalls that flush");
    }
    assert!(values(&unit, "Requires").is_empty());
}

#[test]
fn the_pods_end_before_network_and_mounts() {
    let unit = shipped("pinlet-pods.service");
    let after: Vec<&str> = values(&unit, "After").iter().flat_map(|line| line.split_whitespace()).collect();
    for earlier in ["pinlet.service", "network.target", "remote-fs.target"] {
        assert!(after.contains(&earlier), "{earlier}");
    }
    // Without the default dependencies nothing would ever stop it.
    assert!(values(&unit, "DefaultDependencies").is_empty());
    assert_eq!(values(&unit, "RefuseManualStop"), ["yes"]);
    assert_eq!(values(&unit, "RemainAfterExit"), ["yes"]);
    assert_eq!(values(&unit, "TimeoutStopSec"), ["infinity"]);
    assert!(values(&unit, "ExecStop")[0].starts_with("/usr/bin/pinlet stop-pods"));
}

#[test]
fn no_maintainer_script_stops_the_pods_unit() {
    for script in ["debian/postinst", "debian/prerm", "debian/postrm"] {
        let commands = shipped(script);
        let mut commands = commands.lines().filter(|line| !line.trim_start().starts_with('#'));
        assert!(commands.all(|line| !line.contains("pinlet-pods")), "{script}");
    }
}
