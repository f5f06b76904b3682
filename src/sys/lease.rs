//! Whether somebody writes a file, and opening one without leaving a trace.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Once;

/// File systems whose servers, or whose other clients, may write without this kernel knowing.
const NETWORK_FILE_SYSTEMS: [u32; 12] = [
    0x6969,      // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x517b,      // SMB
    0x6573_5546, // FUSE
    0x0102_1997, // 9P
    0x00c3_6400, // Ceph
    0x5346_414f, // AFS
    0x7375_7245, // Coda
    0x7461_636f, // OCFS2
    0x0116_1970, // GFS2
    0x0bd0_0bd0, // Lustre
];

/// What a read lease tells of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    None,
    Some,
    /// The file system gives no leases, or does not know of all writers.
    Unknown,
}

/// Asks the kernel for a read lease, which it gives only on a file that nobody holds open for writing, and gives it
/// back at once: whoever opens the file for writing meanwhile waits that long. `file` is open for reading only.
pub fn writers(file: &File) -> Writers {
    if is_on_network(file) {
        // A lease from here would say nothing of other clients.
        return Writers::Unknown;
    }
    ignore_lease_breaks();
    let fd = file.as_raw_fd();
    // SAFETY: F_SETLEASE takes an open descriptor and a lease type.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above. It cannot fail for a lease that was just given.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    if io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN) { Writers::Some } else { Writers::Unknown }
}

/// The kernel announces a writer that waits for a lease by SIGIO, which would end the process.
fn ignore_lease_breaks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    });
}

fn is_on_network(file: &File) -> bool {
    // SAFETY: an all-zero statfs is a valid one for the kernel to fill.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `info` is valid for the call.
    let rc = unsafe { libc::fstatfs(file.as_raw_fd(), &mut info) };
    // The magic number's type differs between libcs; all of them have 32 bits that count.
    rc == 0 && NETWORK_FILE_SYSTEMS.contains(&(info.f_type as u32))
}

/// Opens for reading, without ever waiting (a FIFO would) and, where we may, without touching the access time.
pub fn open_quietly(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    match open(flags | libc::O_NOATIME) {
        // Only the owner and root may leave the access time alone.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(flags),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    fn temp_file(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("pinlet-lease-{}-{name}", std::process::id()));
        fs::write(&path, "x").expect("writable");
        path
    }

    #[test]
    fn a_file_that_is_open_for_writing_has_writers() {
        let path = temp_file("writers");
        let reader = open_quietly(&path).expect("readable");
        assert_eq!(writers(&reader), Writers::None);
        let writer = OpenOptions::new().append(true).open(&path).expect("writable");
        assert_eq!(writers(&reader), Writers::Some);
        drop(writer);
        assert_eq!(writers(&reader), Writers::None);
        // The lease is given back: a writer does not wait.
        drop(OpenOptions::new().append(true).open(&path).expect("writable"));
        fs::remove_file(path).expect("removable");
    }

    #[test]
    fn reading_leaves_the_access_time_alone() {
        let path = temp_file("atime");
        let times = fs::FileTimes::new().set_accessed(std::time::SystemTime::UNIX_EPOCH);
        File::options().write(true).open(&path).and_then(|file| file.set_times(times)).expect("settable");
        let file = open_quietly(&path).expect("readable");
        assert_eq!(io::read_to_string(&file).expect("readable"), "x");
        assert_eq!(file.metadata().expect("stat").atime(), 0);
        fs::remove_file(path).expect("removable");
    }
}
