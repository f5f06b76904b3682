//! mount(2) by intention, and the reading of mountinfo.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Shows `source` (file or directory) at `target` too.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Takes the mount out of its peer group: what is mounted below it is mounted nowhere else.
pub fn make_private(target: &Path) -> io::Result<()> {
    Ok(mount(None::<&str>, target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>)?)
}

/// Makes the mount at `target` a peer of its copies in other namespaces.
pub fn make_shared(target: &Path) -> io::Result<()> {
    Ok(mount(None::<&str>, target, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?)
}

/// A tmpfs with nosuid and nodev; `options` as in mount(8), such as `mode=1777,size=65536k`.
pub fn tmpfs(target: &Path, options: &str, noexec: bool) -> io::Result<()> {
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if noexec {
        flags |= MsFlags::MS_NOEXEC;
    }
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options))?)
}

/// Takes the topmost mount at `target` away, at once for new users and for good when the last one closes.
pub fn unmount_detach(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// One line of mountinfo, as far as we use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    pub root: PathBuf,
    pub target: PathBuf,
    pub filesystem: String,
    pub shared: bool,
    pub super_options: String,
}

/// The mounts of this process's namespace, in mount order.
pub fn mounts() -> io::Result<Vec<MountEntry>> {
    Ok(parse_mountinfo(&std::fs::read("/proc/self/mountinfo")?))
}

/// True if something is mounted exactly at `target` (an absolute path without symlinks).
pub fn is_mount_point(target: &Path) -> io::Result<bool> {
    Ok(mounts()?.iter().any(|m| m.target == target))
}

fn parse_mountinfo(bytes: &[u8]) -> Vec<MountEntry> {
    bytes.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

/// proc(5): `36 35 98:0 /root /target options optional... - type source super-options`.
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
    let dash = fields.iter().position(|f| *f == b"-")?;
    let text = |f: &[u8]| String::from_utf8_lossy(f).into_owned();
    Some(MountEntry {
        root: unescape(fields.get(3)?),
        target: unescape(fields.get(4)?),
        filesystem: text(fields.get(dash + 1)?),
        shared: fields.get(6..dash)?.iter().any(|f| f.starts_with(b"shared:")),
        super_options: text(fields.get(dash + 3)?),
    })
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|d| first == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match digits {
            Some(d) => {
                bytes.push(d.iter().fold(0u8, |n, b| n.wrapping_mul(8).wrapping_add(b - b'0')));
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_propagation_is_read() {
        let line =
            b"36 35 98:0 /a\\040b /mnt/c\\134d rw,noatime shared:1 master:2 - ext4 /dev/root rw,errors=continue\n";
        let all = parse_mountinfo(line);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].root, Path::new("/a b"));
        assert_eq!(all[0].target, Path::new("/mnt/c\\d"));
        assert_eq!((all[0].filesystem.as_str(), all[0].shared), ("ext4", true));
        assert_eq!(all[0].super_options, "rw,errors=continue");
    }
}
