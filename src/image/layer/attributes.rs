//! What a new file gets: its content, owner, mode, extended attributes and time.

use super::{LayerError, write};
use crate::image::tar_stream::{Member, MemberKind, TarError, TarReader};
use crate::sys::openat::Dir;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;

/// Bytes that are copied at once.
const COPY_LEN: usize = 128 * 1024;
/// overlayfs' own marks: a layer that could set them would reach into others.
const OVERLAY_XATTRS: &[u8] = b"trusted.overlay.";
/// Labels of the machine that built the image, by a policy that this one does not have.
const SELINUX_XATTR: &[u8] = b"security.selinux";

/// A sparse file's holes stay holes.
pub fn copy<R: Read>(member: &Member, data: &mut TarReader<R>, file: &mut File) -> Result<(), LayerError> {
    let whole = [(0, member.size)];
    let pieces = member.sparse.as_deref().unwrap_or(&whole);
    let mut buffer = vec![0; COPY_LEN.min(usize::try_from(member.size).unwrap_or(COPY_LEN))];
    for (offset, len) in pieces {
        if member.sparse.is_some() {
            file.seek(SeekFrom::Start(*offset)).map_err(write(&member.name, "write"))?;
        }
        let mut left = *len;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(COPY_LEN));
            data.read_exact(&mut buffer[..wanted]).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => TarError::Truncated,
                _ => TarError::Read(error),
            })?;
            file.write_all(&buffer[..wanted]).map_err(write(&member.name, "write"))?;
            left -= wanted as u64;
        }
    }
    if member.sparse.is_some() {
        file.set_len(member.size).map_err(write(&member.name, "write"))?;
    }
    Ok(())
}

/// INVARIANT: owner, then mode, then attributes, then time: each of them is undone by the ones before it.
pub fn finish_attributes(dir: &Dir, last: &OsStr, member: &Member) -> Result<(), LayerError> {
    let name = &member.name;
    let (uid, gid) = (u32::try_from(member.uid).unwrap_or(0), u32::try_from(member.gid).unwrap_or(0));
    dir.chown(last, uid, gid).map_err(write(name, "set the owner"))?;
    if member.kind != MemberKind::Symlink {
        dir.chmod(last, member.mode).map_err(write(name, "set the mode"))?;
    }
    for (key, value) in &member.xattrs {
        set_xattr(dir, last, key, value, name)?;
    }
    dir.set_mtime(last, member.mtime).map_err(write(name, "set the time"))
}

/// What the file system cannot hold is left out, as containerd does; so are marks that are not a layer's to set.
pub fn set_xattr(dir: &Dir, last: &OsStr, key: &[u8], value: &[u8], name: &[u8]) -> Result<(), LayerError> {
    if key.starts_with(OVERLAY_XATTRS) || key == SELINUX_XATTR {
        return Ok(());
    }
    match dir.set_xattr(last, OsStr::from_bytes(key), value) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        // user.* exists on files and directories only.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && key.starts_with(b"user.") => Ok(()),
        result => result.map_err(write(name, "set an extended attribute")),
    }
}
