//! What images come in: a tar or a layout directory, as files by name.
//!
//! Only headers and small documents are read here; where a layer lies is told by offset, and its bytes go to the
//! unpacking child unseen. Nothing is believed because of its name: digests are compared by whoever reads.

use super::compression::{Compression, MAGIC_LEN};
use super::tar_stream::{MemberKind, TarError, TarReader};
use crate::sys::openat::{open_nonblocking, reopen};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Bytes of a manifest, index or config: what registries and containerd accept.
pub const MAX_DOCUMENT_LEN: u64 = 4 << 20;
/// Members of an archive. An image of 127 layers in docker's oldest form has some 500.
const MAX_MEMBERS: usize = 1 << 16;
/// Bytes of all their names together: what the agent may hold in memory for an archive.
const MAX_NAMES_LEN: usize = 8 << 20;
/// Links in an archive that lead to links.
const MAX_LINKS: usize = 8;

#[derive(Debug, Error)]
pub enum ArchiveError {
    #[error("cannot open {path}")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot read {name}")]
    Read {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("neither a file nor a directory")]
    Special,
    #[error("{0} compression is not supported")]
    Compression(&'static str),
    #[error("{name} is truncated: {there} of {size} bytes are there")]
    Truncated { name: String, size: u64, there: u64 },
    #[error("{name} has {size} bytes, more than {MAX_DOCUMENT_LEN}")]
    TooLong { name: String, size: u64 },
    #[error("more than {MAX_MEMBERS} members")]
    TooManyMembers,
    #[error("{0} is a sparse file")]
    Sparse(String),
}

impl ArchiveError {
    /// Whether the same bytes would fail again.
    pub fn is_final(&self) -> bool {
        match self {
            ArchiveError::Open { .. } | ArchiveError::Read { .. } | ArchiveError::Tar(TarError::Read(_)) => false,
            ArchiveError::Tar(_)
            | ArchiveError::Special
            | ArchiveError::Compression(_)
            | ArchiveError::Truncated { .. }
            | ArchiveError::TooLong { .. }
            | ArchiveError::TooManyMembers
            | ArchiveError::Sparse(_) => true,
        }
    }
}

/// Files by name, wherever they lie.
#[derive(Debug)]
pub enum Archive {
    Layout(PathBuf),
    Tar(TarIndex),
}

/// A tar whose members are known by offset.
#[derive(Debug)]
pub struct TarIndex {
    file: File,
    len: u64,
    members: BTreeMap<String, Place>,
}

#[derive(Clone, Debug)]
enum Place {
    Data {
        offset: u64,
        size: u64,
    },
    /// To another member, by its full name.
    Link(String),
}

/// A part of a file.
#[derive(Debug)]
pub struct Blob {
    /// At the part's beginning, with a position of its own.
    pub file: File,
    pub size: u64,
}

/// What lies at a path.
#[derive(Debug)]
pub enum Opened {
    Archive(Archive),
    /// A file that is compressed as a whole: its plain bytes are to be given to [`Archive::of_file`].
    Compressed(File),
}

impl Archive {
    pub fn open(path: &Path) -> Result<Opened, ArchiveError> {
        let failed = |source| ArchiveError::Open { path: path.display().to_string(), source };
        let file = open_nonblocking(path).map_err(failed)?;
        let kind = file.metadata().map_err(failed)?.file_type();
        if kind.is_dir() {
            return Ok(Opened::Archive(Archive::Layout(path.to_owned())));
        }
        if !kind.is_file() {
            return Err(ArchiveError::Special);
        }
        match compression_of(&file).map_err(failed)? {
            Compression::None => Archive::of_file(file).map(Opened::Archive),
            Compression::Gzip | Compression::Zstd => Ok(Opened::Compressed(file)),
            Compression::Foreign(name) => Err(ArchiveError::Compression(name)),
        }
    }

    /// Reads the headers of a tar.
    pub fn of_file(file: File) -> Result<Archive, ArchiveError> {
        let failed = |source| ArchiveError::Read { name: "the archive".to_owned(), source };
        let len = file.metadata().map_err(failed)?.len();
        let mut tar = TarReader::seekable(BufReader::new(reopen(&file).map_err(failed)?));
        let mut members = BTreeMap::new();
        let mut names_len = 0;
        while let Some(member) = tar.next_member()? {
            let (Some(name), Ok(link)) = (clean("", &member.name), String::from_utf8(member.link)) else { continue };
            let place = match member.kind {
                MemberKind::File if member.sparse.is_some() => return Err(ArchiveError::Sparse(name)),
                MemberKind::File => Place::Data { offset: member.offset, size: member.size },
                // docker's old form links layers that occur twice.
                MemberKind::Symlink => match clean(parent_of(&name), link.as_bytes()) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                MemberKind::HardLink => match clean("", link.as_bytes()) {
                    Some(target) => Place::Link(target),
                    None => continue,
                },
                MemberKind::Directory | MemberKind::CharDevice | MemberKind::BlockDevice | MemberKind::Fifo => continue,
            };
            names_len += name.len() + link.len();
            members.insert(name, place);
            if members.len() > MAX_MEMBERS || names_len > MAX_NAMES_LEN {
                return Err(ArchiveError::TooManyMembers);
            }
        }
        Ok(Archive::Tar(TarIndex { file, len, members }))
    }

    /// The file called `name`, or `None` if there is none.
    pub fn blob(&self, name: &str) -> Result<Option<Blob>, ArchiveError> {
        match self {
            Archive::Layout(dir) => blob_of_layout(dir, name),
            Archive::Tar(tar) => tar.blob(name),
        }
    }

    /// The whole content of a small file.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(blob) = self.blob(name)? else { return Ok(None) };
        if blob.size > MAX_DOCUMENT_LEN {
            return Err(ArchiveError::TooLong { name: name.to_owned(), size: blob.size });
        }
        let mut bytes = Vec::new();
        blob.file
            .take(blob.size)
            .read_to_end(&mut bytes)
            .map_err(|source| ArchiveError::Read { name: name.to_owned(), source })?;
        Ok(Some(bytes))
    }
}

impl TarIndex {
    fn blob(&self, name: &str) -> Result<Option<Blob>, ArchiveError> {
        let mut at = name;
        for _ in 0..MAX_LINKS {
            match self.members.get(at) {
                None => return Ok(None),
                Some(Place::Link(target)) => at = target,
                Some(&Place::Data { offset, size }) => {
                    let there = self.len.saturating_sub(offset);
                    if there < size {
                        return Err(ArchiveError::Truncated { name: name.to_owned(), size, there });
                    }
                    let failed = |source| ArchiveError::Read { name: name.to_owned(), source };
                    let mut file = reopen(&self.file).map_err(failed)?;
                    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                    return Ok(Some(Blob { file, size }));
                }
            }
        }
        Ok(None)
    }
}

fn blob_of_layout(dir: &Path, name: &str) -> Result<Option<Blob>, ArchiveError> {
    let Some(name) = clean("", name.as_bytes()) else { return Ok(None) };
    let failed = |source| ArchiveError::Read { name: name.clone(), source };
    let file = match open_nonblocking(&dir.join(&name)) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    // A FIFO or a directory by that name is no blob.
    Ok(meta.is_file().then(|| Blob { file, size: meta.len() }))
}

/// How the bytes of `blob` are packed; its position stays.
pub fn compression_of(file: &File) -> io::Result<Compression> {
    let mut first = [0; MAGIC_LEN];
    let mut filled = 0;
    let mut file = file;
    let start = file.stream_position()?;
    while filled < first.len() {
        match file.read(&mut first[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    file.seek(SeekFrom::Start(start))?;
    Ok(Compression::of(&first[..filled]))
}

fn parent_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// `name` as seen from the directory `from`, without `.` and `..`; `None` if it is no text or leads out.
fn clean(from: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::fixture::{Member, Scratch, tar};

    fn open(path: &Path) -> Archive {
        match Archive::open(path).unwrap() {
            Opened::Archive(archive) => archive,
            Opened::Compressed(_) => panic!("compressed"),
        }
    }

    #[test]
    fn members_are_found_by_clean_names_and_through_links() {
        let scratch = Scratch::new("archive-links");
        let bytes = tar(&[
            Member::file("./index.json", b"{}"),
            Member::file("a/layer.tar", b"layer"),
            Member::symlink("b/layer.tar", "../a/layer.tar"),
            Member::hard_link("c/layer.tar", "b/layer.tar"),
            Member::symlink("d", "d"),
            Member::symlink("e", "../../etc/passwd"),
            Member::symlink("f", "/etc/passwd"),
            Member::dir("g"),
        ]);
        let archive = open(&scratch.write("a.tar", &bytes));
        let document = |name: &str| archive.document(name).unwrap();
        assert_eq!(document("index.json").unwrap(), b"{}");
        for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar"] {
            assert_eq!(document(name).unwrap(), b"layer", "{name}");
        }
        for name in ["d", "e", "f", "g", "none"] {
            assert_eq!(document(name), None, "{name}");
        }
    }

    #[test]
    fn blobs_are_read_independently_of_one_another() {
        let scratch = Scratch::new("archive-positions");
        let archive = open(&scratch.write("a.tar", &tar(&[Member::file("a", b"first"), Member::file("b", b"second")])));
        let (mut a, mut b) = (archive.blob("a").unwrap().unwrap(), archive.blob("b").unwrap().unwrap());
        let mut bytes = [0; 5];
        b.file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"secon");
        a.file.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"first");
    }

    #[test]
    fn a_truncated_member_and_a_long_document_are_told() {
        let scratch = Scratch::new("archive-truncated");
        let bytes = tar(&[Member::file("a", b"first"), Member::file("b", &[1; 1000])]);
        let archive = open(&scratch.write("cut.tar", &bytes[..2000]));
        assert_eq!(archive.document("a").unwrap().unwrap(), b"first");
        let error = archive.document("b").unwrap_err();
        assert_eq!(error.to_string(), "b is truncated: 464 of 1000 bytes are there");
        let long = vec![b' '; usize::try_from(MAX_DOCUMENT_LEN).unwrap() + 1];
        let archive = open(&scratch.write("long.tar", &tar(&[Member::file("long", &long)])));
        assert!(matches!(archive.document("long"), Err(ArchiveError::TooLong { .. })));
    }

    #[test]
    fn a_layout_gives_files_and_neither_fifos_nor_what_lies_outside() {
        let scratch = Scratch::new("archive-layout");
        scratch.write("index.json", b"{}");
        crate::sys::openat::Dir::open(&scratch.0)
            .unwrap()
            .make_node("fifo".as_ref(), crate::sys::openat::Kind::Fifo, 0o600, 0, 0)
            .unwrap();
        let archive = open(&scratch.0);
        assert_eq!(archive.document("index.json").unwrap().unwrap(), b"{}");
        for name in ["fifo", "none", "none/x", "../etc/passwd", "/etc/passwd", "index.json/x"] {
            assert_eq!(archive.document(name).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_archive_says_what_it_is() {
        let scratch = Scratch::new("archive-odd");
        let error = |path: &Path| crate::error::chain(&Archive::open(path).unwrap_err());
        assert_eq!(error(&scratch.write("text", b"hello\n")), "not a tar archive");
        assert_eq!(error(&scratch.write("xz", b"\xfd7zXZ\0 ....")), "xz compression is not supported");
        assert_eq!(error(Path::new("/dev/null")), "neither a file nor a directory");
        assert!(error(&scratch.0.join("none")).starts_with("cannot open /"), "{}", error(&scratch.0.join("none")));
        let file = scratch.write("gz", &[0x1f, 0x8b, 8, 0]);
        assert!(matches!(Archive::open(&file), Ok(Opened::Compressed(_))));
    }
}
