//! The log of a real container.

use crate::host::{Host, until};
use pinlet::model::observed::ExitStatus;
use std::fs;

fn names(dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("0.log"));
    names.sort();
    names
}

#[test]
fn both_streams_are_there_and_a_last_line_without_a_newline_is_partial() {
    let host = Host::new();
    let log = host.sh("echo out; sleep 0.05; echo err >&2; sleep 0.05; printf rest").run().log;
    let bare: Vec<&str> = log.lines().map(|l| l.split_once(' ').unwrap().1).collect();
    assert_eq!(bare, ["stdout F out", "stderr F err", "stdout P rest"]);
}

#[test]
fn a_log_is_rotated_while_the_container_writes_and_no_line_is_cut() {
    let host = Host::new();
    let setup = host.sh("seq 1 20000").with(|launch, _| {
        launch.log.max_bytes = 100_000;
        launch.log.max_files = 4;
    });
    let path = setup.launch.log.path.clone();
    assert_eq!(setup.run().exit.status, ExitStatus::Code(0));
    let names = names(path.parent().unwrap());
    assert_eq!(names.len(), 4, "{names:?}");
    let newest = names.iter().rfind(|n| !n.ends_with(".gz") && *n != "0.log").unwrap();
    let mut text = fs::read_to_string(path.with_file_name(newest)).unwrap();
    text += &fs::read_to_string(&path).unwrap();
    let numbers: Vec<u32> = text.lines().map(|l| l.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
    assert_eq!(numbers.last(), Some(&20_000));
}

#[test]
fn a_full_disk_holds_nobody_up_and_the_log_says_how_much_is_missing() {
    let host = Host::new();
    let disk = host.dir.join("disk");
    fs::create_dir(&disk).unwrap();
    pinlet::sys::mount::tmpfs(&disk, "size=64k", true).unwrap();
    let script = "seq 1 50000; echo done > /data/done; until [ -e /data/freed ]; do sleep 0.01; done; echo after";
    let shared = host.dir.join("shared");
    fs::create_dir(&shared).unwrap();
    let setup = host.sh(script).volume(&shared, "/data", &["rbind", "rw"]);
    let mut container = setup.with(|launch, _| launch.log.path = disk.join("0.log")).started();
    until("the container to get rid of its output", || shared.join("done").exists().then_some(()));
    let full = fs::read_to_string(disk.join("0.log")).unwrap();
    assert!(full.ends_with('\n') && !full.contains("lost"));
    let remount = std::process::Command::new("mount").args(["-o", "remount,size=1m"]).arg(&disk).status().unwrap();
    assert!(remount.success());
    fs::write(shared.join("freed"), "").unwrap();
    assert_eq!(container.wait().status, ExitStatus::Code(0));
    let text = container.log();
    let notice = text.lines().find(|l| l.contains("lost")).unwrap();
    assert!(notice.ends_with("bytes of output were lost here: no space left on device"), "{notice}");
    let written: usize = text.lines().filter_map(|l| Some(l.split_once(" stdout F ")?.1.len() + 1)).sum();
    let lost: usize = notice.split(" pinlet: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let all: usize = (1..=50_000).map(|n: u32| n.to_string().len() + 1).sum();
    assert_eq!(written + lost, all + "after\n".len());
    pinlet::sys::mount::unmount_detach(&disk).unwrap();
}

#[test]
fn output_that_arrives_with_the_end_is_not_missing() {
    let host = Host::new();
    let log = host.sh("seq 1 5000").run().log;
    assert_eq!(log.lines().count(), 5000);
    assert!(log.ends_with(" stdout F 5000\n"));
}
