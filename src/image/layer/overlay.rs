//! How overlayfs reads a stack of layers: whiteouts, opaque directories, and what shows through.

use super::{LayerError, write};
use crate::sys::openat::{Dir, Kind, Stat};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

pub fn set_opaque(dir: &Dir, last: &OsStr, name: &[u8]) -> Result<(), LayerError> {
    dir.set_xattr(last, OsStr::new(OPAQUE_XATTR), b"y").map_err(write(name, "make the directory opaque"))
}

/// Hides what the layers below have of that name.
pub fn make_whiteout(dir: &Dir, hidden: &OsStr, name: &[u8]) -> Result<(), LayerError> {
    dir.make_node(hidden, Kind::CharDevice, 0o600, 0, 0).map_err(write(name, "make the whiteout"))
}

pub fn is_whiteout(stat: &Stat) -> bool {
    stat.kind == Kind::CharDevice && stat.major == 0 && stat.minor == 0
}

/// The directory that overlayfs would show at `path` from `lower` alone; `None` if there is none.
pub fn shown_below(lower: &[Dir], path: &[&[u8]]) -> io::Result<Option<(Dir, Stat)>> {
    'layers: for layer in lower {
        let mut dir = layer.beneath_plain(Path::new("."))?;
        let mut opaque = false;
        for part in path {
            let part = OsStr::from_bytes(part);
            match dir.stat(part)?.map(|s| s.kind) {
                Some(Kind::Directory) => {
                    opaque |= dir.xattrs(part)?.iter().any(|(key, value)| key == OPAQUE_XATTR && value == b"y");
                    dir = dir.beneath_plain(Path::new(part))?;
                }
                None if !opaque => continue 'layers,
                // A whiteout, a file, or an opaque directory above: what lies below does not show.
                _ => return Ok(None),
            }
        }
        let stat = dir.stat_self()?;
        return Ok(Some((dir, stat)));
    }
    Ok(None)
}

/// Makes the whole root of a layer opaque. overlayfs does not ask a layer's root for the mark, so each name below is
/// hidden by itself.
pub fn hide_all_below(root: &Dir, lower: &[Dir]) -> Result<(), LayerError> {
    for layer in lower {
        for name in layer.names().map_err(write(b"/", "look below"))? {
            let bytes = name.as_bytes();
            match root.stat(&name).map_err(write(bytes, "look at what has its name"))?.map(|s| s.kind) {
                None => make_whiteout(root, &name, bytes)?,
                Some(Kind::Directory) => set_opaque(root, &name, bytes)?,
                Some(_) => {}
            }
        }
    }
    Ok(())
}
