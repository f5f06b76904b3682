//! Where the figures are taken: a mount namespace with a fresh ext4 at /tmp, for this program and its peers alike.
//!
//! ext4 does not give the inode of a file away again within minutes of its removal. Where much was removed before, by
//! tests say, each new file is a search through whole bitmaps, and a start takes twice as long, for everybody.

use crate::support::verb;
use std::path::PathBuf;
use std::process::Command;

/// The role of the copy of this program that runs there.
pub const MEASURED: &str = "measured";
const DISK: &str = "4G";

struct Disk(PathBuf);

impl Disk {
    fn new() -> Disk {
        let disk = Disk(PathBuf::from(format!("/var/tmp/pinlet-bench-{}.img", std::process::id())));
        let file = disk.0.to_str().expect("text");
        verb::tool(&["truncate", "-s", DISK, file]);
        // All of it now, instead of by a kernel thread while the clock runs.
        verb::tool(&["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", file]);
        disk
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs this program again in there; its exit code. The mount, and the loop device below it, end with the namespace.
pub fn run_measured() -> i32 {
    let disk = Disk::new();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -o loop \"$1\" /tmp && shift && exec \"$@\"", "sh"]);
    command.arg(&disk.0).arg(std::env::current_exe().expect("procfs")).arg(MEASURED);
    verb::code(command.status().expect("unshare is part of every Debian"))
}
