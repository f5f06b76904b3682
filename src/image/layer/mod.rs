//! One layer's members become a directory that overlayfs can mount.
//!
//! Runs in the role `internal-unpack`. INVARIANT: nothing outside the layer's directory is ever opened, made or changed:
//! parents are resolved by the kernel beneath it, last components are never followed, and a name or link that would lead
//! out refuses the whole layer. Whiteouts become overlayfs' own marks (a 0:0 character device, an opaque attribute).
//!
//! Where a layer holds `tmp/x` but no `tmp/`, the directory is made as the layers below have it, as containerd does:
//! overlayfs shows the attributes of the topmost one, and `/tmp` would lose its sticky bit.

mod attributes;
mod overlay;
mod tests;

use crate::image::tar_stream::{Member, MemberKind, TarError, TarReader};
use crate::sys::openat::{Dir, Kind, Stat, Timestamp, is_escape, is_no_directory};
use attributes::{copy, finish_attributes, set_xattr};
use overlay::{hide_all_below, is_whiteout, make_whiteout, set_opaque, shown_below};
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Members of one layer. The largest real ones have some 500 000; each directory among them costs us memory.
const MAX_MEMBERS: u64 = 1 << 22;
/// Components of a name. Deeper trees could not be removed again with the descriptors that a process may have.
const MAX_DEPTH: usize = 500;
/// User and group ids above this are no ids for the calls that take them (-1 means "unchanged").
const MAX_ID: u64 = 0x7fff_ffff;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Bookkeeping of AUFS, which means nothing elsewhere.
const AUFS_META: &[u8] = b".wh..wh.";

#[derive(Debug, Error)]
pub enum LayerError {
    #[error("{name}: {what}")]
    Refused { name: String, what: String },
    #[error("more than {MAX_MEMBERS} members in one layer")]
    TooManyMembers,
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("{name}: cannot {step}")]
    Write {
        name: String,
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Unpacks every member of `tar` into `root`, which is empty. `lower` are the layers below, the topmost first.
pub fn unpack<R: Read>(tar: &mut TarReader<R>, root: Dir, lower: &[Dir]) -> Result<(), LayerError> {
    let mut layer = Layer { root, lower, parent: None, directories: Vec::new(), root_opaque: false };
    layer.inherit(&[], OsStr::new("."), &layer.root_again()?)?;
    let mut count = 0;
    while let Some(member) = tar.next_member()? {
        count += 1;
        if count > MAX_MEMBERS {
            return Err(LayerError::TooManyMembers);
        }
        layer.apply(&member, tar)?;
    }
    layer.finish()
}

struct Layer<'a> {
    root: Dir,
    lower: &'a [Dir],
    /// The directory that the last member went to: members of one directory mostly follow one another.
    parent: Option<(Vec<u8>, Dir)>,
    /// Times that are set when nothing is put into the directories any more.
    directories: Vec<(Vec<u8>, Timestamp)>,
    root_opaque: bool,
}

/// Where a member goes: its name's components.
type Components<'a> = Vec<&'a [u8]>;

impl Layer<'_> {
    fn apply<R: Read>(&mut self, member: &Member, data: &mut TarReader<R>) -> Result<(), LayerError> {
        let name = components(&member.name).map_err(|what| refused(&member.name, what))?;
        if name.iter().any(|part| part.starts_with(AUFS_META) && *part != OPAQUE) {
            return Ok(());
        }
        let Some((&last, parents)) = name.split_last() else {
            return self.apply_root(member);
        };
        check_ids(member)?;
        let dir = self.take_parent(parents)?;
        let last = OsStr::from_bytes(last);
        if last.as_bytes() == OPAQUE {
            self.mark_opaque(&dir, parents)?;
        } else if let Some(hidden) = last.as_bytes().strip_prefix(WHITEOUT) {
            self.whiteout(&dir, OsStr::from_bytes(hidden), member)?;
        } else {
            match member.kind {
                MemberKind::Directory => self.directory(&dir, last, member)?,
                MemberKind::HardLink => self.hard_link(&dir, last, member, &name)?,
                MemberKind::File => self.file(&dir, last, member, data)?,
                MemberKind::Symlink => {
                    let target = OsStr::from_bytes(&member.link);
                    self.make(&dir, last, member, "make the symlink", |dir| dir.make_symlink(last, target))?;
                    finish_attributes(&dir, last, member)?;
                }
                MemberKind::CharDevice => self.node(&dir, last, member, Kind::CharDevice)?,
                MemberKind::BlockDevice => self.node(&dir, last, member, Kind::BlockDevice)?,
                MemberKind::Fifo => self.node(&dir, last, member, Kind::Fifo)?,
            }
        }
        self.parent = Some((parents.join(&b'/'), dir));
        Ok(())
    }

    /// The layer's `./`: what the root of a container looks like.
    fn apply_root(&mut self, member: &Member) -> Result<(), LayerError> {
        if member.kind != MemberKind::Directory {
            return Err(refused(&member.name, "stands for the layer's root, but is no directory"));
        }
        check_ids(member)?;
        finish_attributes(&self.root, OsStr::new("."), member)?;
        self.directories.push((Vec::new(), member.mtime));
        Ok(())
    }

    fn directory(&mut self, dir: &Dir, last: &OsStr, member: &Member) -> Result<(), LayerError> {
        let name = &member.name;
        if let Err(error) = dir.make_dir(last, 0o700) {
            let existing = if is_exists(&error) { stat(dir, last, name)? } else { None };
            match existing.map(|s| (s.kind, is_whiteout(&s))) {
                None => return Err(write(name, "make the directory")(error)),
                Some((Kind::Directory, _)) => {}
                Some((_, hides_lower)) => {
                    self.clear(dir, last, name)?;
                    dir.make_dir(last, 0o700).map_err(write(name, "make the directory"))?;
                    if hides_lower {
                        set_opaque(dir, last, name)?;
                    }
                }
            }
        }
        finish_attributes(dir, last, member)?;
        let path = components(name).unwrap_or_default().join(&b'/');
        self.directories.push((path, member.mtime));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        dir: &Dir,
        last: &OsStr,
        member: &Member,
        data: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let mut made = None;
        self.make(dir, last, member, "make the file", |dir| {
            made = Some(dir.create_file(last, 0o600)?);
            Ok(())
        })?;
        if let Some(mut file) = made {
            copy(member, data, &mut file)?;
        }
        finish_attributes(dir, last, member)
    }

    fn node(&mut self, dir: &Dir, last: &OsStr, member: &Member, kind: Kind) -> Result<(), LayerError> {
        self.make(dir, last, member, "make the node", |dir| {
            dir.make_node(last, kind, 0o600, member.major, member.minor)
        })?;
        finish_attributes(dir, last, member)
    }

    /// A link has no attributes of its own: they are those of the file that it names.
    fn hard_link(&mut self, dir: &Dir, last: &OsStr, member: &Member, name: &[&[u8]]) -> Result<(), LayerError> {
        let what = |what: &str| refused(&member.name, format!("hard link to {}: {what}", lossy(&member.link)));
        let target = components(&member.link).map_err(|error| what(&error))?;
        if target == name {
            return Ok(());
        }
        let Some((&target_last, target_parents)) = target.split_last() else {
            return Err(what("is a directory"));
        };
        let target_dir = self.root.beneath(&path_of(target_parents)).map_err(|error| {
            if is_escape(&error) {
                what("leads out of the layer")
            } else if is_no_directory(&error) {
                what("there is no such file in this layer")
            } else {
                write(&member.name, "find the hard link's target")(error)
            }
        })?;
        let target_last = OsStr::from_bytes(target_last);
        match stat(&target_dir, target_last, &member.name)? {
            None => return Err(what("there is no such file in this layer")),
            Some(s) if s.kind == Kind::Directory => return Err(what("is a directory")),
            Some(_) => {}
        }
        self.make(dir, last, member, "make the hard link", |dir| dir.make_link(last, &target_dir, target_last))
    }

    /// Hides a name of the layers below. What this layer itself has of that name stays, whichever came first.
    fn whiteout(&mut self, dir: &Dir, hidden: &OsStr, member: &Member) -> Result<(), LayerError> {
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(refused(&member.name, "whiteout of nothing"));
        }
        match stat(dir, hidden, &member.name)? {
            None => make_whiteout(dir, hidden, &member.name),
            Some(s) if s.kind == Kind::Directory => set_opaque(dir, hidden, &member.name),
            Some(_) => Ok(()),
        }
    }

    fn mark_opaque(&mut self, dir: &Dir, parents: &[&[u8]]) -> Result<(), LayerError> {
        if parents.is_empty() {
            self.root_opaque = true;
            return Ok(());
        }
        set_opaque(dir, OsStr::new("."), &parents.join(&b'/'))
    }

    /// Makes something new in place of whatever has its name.
    fn make(
        &mut self,
        dir: &Dir,
        last: &OsStr,
        member: &Member,
        step: &'static str,
        mut make: impl FnMut(&Dir) -> io::Result<()>,
    ) -> Result<(), LayerError> {
        match make(dir) {
            Err(error) if is_exists(&error) => {
                self.clear(dir, last, &member.name)?;
                make(dir).map_err(write(&member.name, step))
            }
            result => result.map_err(write(&member.name, step)),
        }
    }

    fn clear(&mut self, dir: &Dir, last: &OsStr, name: &[u8]) -> Result<(), LayerError> {
        let removed = match stat(dir, last, name)?.map(|s| s.kind) {
            None => Ok(()),
            Some(Kind::Directory) => dir.remove_tree(last),
            Some(_) => dir.remove_file(last),
        };
        removed.map_err(write(name, "replace what has its name"))
    }

    /// The directory that `parents` names; what is missing of it is made.
    fn take_parent(&mut self, parents: &[&[u8]]) -> Result<Dir, LayerError> {
        let path = parents.join(&b'/');
        match self.parent.take() {
            Some((known, dir)) if known == path => return Ok(dir),
            _ => {}
        }
        match self.root.beneath_plain(Path::new(OsStr::from_bytes(&path))) {
            Ok(dir) => Ok(dir),
            Err(_) => self.make_parents(parents),
        }
    }

    /// Goes down component by component: through symlinks that stay in the layer, over what has to be made.
    fn make_parents(&mut self, parents: &[&[u8]]) -> Result<Dir, LayerError> {
        let mut dir = self.root_again()?;
        for (depth, part) in parents.iter().enumerate() {
            let here = &parents[..=depth];
            let name = here.join(&b'/');
            let part = OsStr::from_bytes(part);
            let existing = stat(&dir, part, &name)?;
            dir = match existing.map(|s| (s.kind, is_whiteout(&s))) {
                Some((Kind::Directory, _)) => dir.beneath_plain(Path::new(part)).map_err(write(&name, "open"))?,
                Some((Kind::Symlink, _)) => self.through_symlink(here, &name, parents.len() - depth)?,
                None => self.make_implicit(&dir, part, Some(here), &name)?,
                Some((_, true)) => {
                    self.clear(&dir, part, &name)?;
                    let made = self.make_implicit(&dir, part, None, &name)?;
                    set_opaque(&dir, part, &name)?;
                    made
                }
                Some(_) => return Err(refused(&name, "has members below it, but is no directory")),
            };
        }
        Ok(dir)
    }

    /// `below` is how many more directories the member's name asks for.
    fn through_symlink(&self, path: &[&[u8]], name: &[u8], below: usize) -> Result<Dir, LayerError> {
        let dir = self.root.beneath(&path_of(path)).map_err(|error| {
            if is_escape(&error) {
                refused(name, "is a symlink that leads out of the layer, with members below it")
            } else if is_no_directory(&error) {
                refused(name, "is a symlink to no directory of this layer, with members below it")
            } else {
                write(name, "follow the symlink")(error)
            }
        })?;
        // Symlinks could make a tree deeper than any name is long.
        let depth = |dir: &Dir| dir.real_path().map(|path| path.components().count());
        let root_depth = depth(&self.root).map_err(write(name, "follow the symlink"))?;
        match depth(&dir) {
            Ok(depth) if depth - root_depth + below <= MAX_DEPTH => Ok(dir),
            _ => Err(refused(name, "is a symlink that leads too deep")),
        }
    }

    /// `inherit_from` is the directory's path in the image, where the layers below are to be asked.
    fn make_implicit(
        &mut self,
        dir: &Dir,
        part: &OsStr,
        inherit_from: Option<&[&[u8]]>,
        name: &[u8],
    ) -> Result<Dir, LayerError> {
        dir.make_dir(part, 0o755).map_err(write(name, "make the directory"))?;
        // The mode that was asked for may have been narrowed by a umask.
        dir.chmod(part, 0o755).map_err(write(name, "set the mode"))?;
        if let Some(path) = inherit_from {
            self.inherit(path, part, dir)?;
        }
        dir.beneath_plain(Path::new(part)).map_err(write(name, "open"))
    }

    /// Gives the directory `part` in `dir`, which is `path` in the image, the attributes that the layers below show.
    fn inherit(&mut self, path: &[&[u8]], part: &OsStr, dir: &Dir) -> Result<(), LayerError> {
        let name = path.join(&b'/');
        let Some((lower, stat)) = shown_below(self.lower, path).map_err(write(&name, "look below"))? else {
            return Ok(());
        };
        let here = OsStr::new(".");
        dir.chown(part, stat.uid, stat.gid).map_err(write(&name, "set the owner"))?;
        dir.chmod(part, stat.mode).map_err(write(&name, "set the mode"))?;
        for (key, value) in lower.xattrs(here).map_err(write(&name, "read attributes"))? {
            set_xattr(dir, part, key.as_bytes(), &value, &name)?;
        }
        self.directories.push((name, stat.mtime));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), LayerError> {
        if self.root_opaque {
            hide_all_below(&self.root, self.lower)?;
        }
        // A member that came later may have taken a directory's place: its time is set already.
        for (path, mtime) in &self.directories {
            if let Ok(dir) = self.root.beneath_plain(Path::new(OsStr::from_bytes(path))) {
                dir.set_mtime(OsStr::new("."), *mtime).map_err(write(path, "set the time"))?;
            }
        }
        Ok(())
    }

    fn root_again(&self) -> Result<Dir, LayerError> {
        self.root.beneath(Path::new(".")).map_err(write(b"/", "open"))
    }
}

/// Splits a name; `./`, doubled and trailing slashes mean nothing.
fn components(name: &[u8]) -> Result<Components<'_>, String> {
    if name.starts_with(b"/") {
        return Err("the name is absolute".to_owned());
    }
    if name.contains(&0) {
        return Err("the name holds a NUL".to_owned());
    }
    let parts: Components = name.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err("the name leads out of the layer by ..".to_owned());
    }
    if parts.len() > MAX_DEPTH {
        return Err(format!("the name has more than {MAX_DEPTH} components"));
    }
    Ok(parts)
}

fn path_of(parts: &[&[u8]]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&parts.join(&b'/')))
}

fn check_ids(member: &Member) -> Result<(), LayerError> {
    match [member.uid, member.gid].into_iter().find(|id| *id > MAX_ID) {
        Some(id) => Err(refused(&member.name, format!("owner {id} is above {MAX_ID}"))),
        None => Ok(()),
    }
}

fn stat(dir: &Dir, last: &OsStr, name: &[u8]) -> Result<Option<Stat>, LayerError> {
    dir.stat(last).map_err(write(name, "look at what has its name"))
}

fn is_exists(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AlreadyExists
}

fn refused(name: &[u8], what: impl Into<String>) -> LayerError {
    LayerError::Refused { name: lossy(name), what: what.into() }
}

fn write<'a>(name: &'a [u8], step: &'static str) -> impl Fn(io::Error) -> LayerError + 'a {
    move |source| LayerError::Write { name: lossy(name), step, source }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
