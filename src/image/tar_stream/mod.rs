//! A tar stream as a list of members, for archives of images and for layers.
//!
//! The `tar` crate knows the header's layout; what may follow a header is read here, for three reasons: its pax parser
//! splits values at newlines (file capabilities and signatures are binary), its extension headers are read into memory
//! whatever their size, and its names are already joined to paths. This reader interprets nothing: names and links are
//! bytes, and whoever uses them decides what they may be. It never seeks backwards and holds no member in memory.

mod extensions;
mod fields;
mod tests;

use crate::sys::openat::Timestamp;
use extensions::Extensions;
use fields::{device_numbers, number, unsigned};
use std::io::{self, Read, Seek, SeekFrom};
use thiserror::Error;

const BLOCK: u64 = 512;
/// Bytes of one extension header (long name, pax records); Go's archive/tar has the same bound.
const MAX_EXTENSION_LEN: u64 = 1 << 20;
/// Bytes of a name or link target: Linux's PATH_MAX without the NUL.
pub const MAX_NAME_LEN: usize = 4095;
/// Pieces of one sparse file: 1 MiB of map.
const MAX_SPARSE_PIECES: usize = 1 << 16;

#[derive(Debug, Error)]
pub enum TarError {
    #[error("not a tar archive")]
    NotTar,
    #[error("the archive is truncated")]
    Truncated,
    #[error("damaged tar header: {0}")]
    Damaged(&'static str),
    #[error("tar extension header of {0} bytes, more than {MAX_EXTENSION_LEN}")]
    ExtensionTooLong(u64),
    #[error("name of {0} bytes, more than {MAX_NAME_LEN}")]
    NameTooLong(usize),
    #[error("{name}: {what}")]
    Unsupported { name: String, what: String },
    #[error("cannot read")]
    Read(#[source] io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// One member's header, with all extensions applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub kind: MemberKind,
    pub name: Vec<u8>,
    /// Target of links, else empty.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: Timestamp,
    pub major: u64,
    pub minor: u64,
    /// Length of the file that the member stands for.
    pub size: u64,
    /// Where in the stream the data begins.
    pub offset: u64,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `(offset, length)` of each piece that has data, in order; `None` for an ordinary file.
    pub sparse: Option<Vec<(u64, u64)>>,
}

/// Reads members in order; as a [`Read`] it gives the stored data of the current one.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// Bytes of the stream that have been consumed.
    position: u64,
    /// Data of the current member that has not been read.
    data_left: u64,
    /// Filling up to the next block, after the data.
    padding: u64,
    first: bool,
}

impl<R: Read> TarReader<R> {
    /// For a stream: what is not wanted is read and dropped.
    pub fn stream(input: R) -> TarReader<R> {
        TarReader::new(input, |input, len| {
            let skipped = io::copy(&mut input.take(len), &mut io::sink())?;
            if skipped == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        })
    }

    fn new(input: R, skip: fn(&mut R, u64) -> io::Result<()>) -> TarReader<R> {
        TarReader { input, skip, position: 0, data_left: 0, padding: 0, first: true }
    }

    /// The next member, or `None` at the end of the archive. Data of the one before that was not read is skipped.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.next_header()? else {
                return if extensions.any { Err(TarError::Truncated) } else { Ok(None) };
            };
            let kind = match header.as_bytes()[156] {
                b'L' => {
                    extensions.gnu_name = Some(self.gnu_text(&header)?);
                    None
                }
                b'K' => {
                    extensions.gnu_link = Some(self.gnu_text(&header)?);
                    None
                }
                b'x' => {
                    let records = self.extension(&header)?;
                    extensions.read_pax(&records)?;
                    None
                }
                // Global records: Go's reader, by which images are judged, applies none of them.
                b'g' => {
                    self.extension(&header)?;
                    continue;
                }
                other => Some(other),
            };
            extensions.any = true;
            if let Some(kind) = kind {
                return self.member(&header, kind, extensions).map(Some);
            }
        }
    }

    /// `None` at the end: a block of zeros, or nothing more at all.
    fn next_header(&mut self) -> Result<Option<tar::Header>, TarError> {
        (self.skip)(&mut self.input, self.data_left).map_err(read_error)?;
        self.position = self.position.saturating_add(self.data_left);
        self.data_left = 0;
        if !self.skip_padding()? {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        if !self.read_block(header.as_mut_bytes())? {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let stored = number(&bytes[148..156]).ok_or(TarError::NotTar)?;
        let sum = |value: fn(u8) -> i64| {
            bytes[..148].iter().chain(&bytes[156..]).map(|b| value(*b)).sum::<i64>() + 8 * i64::from(b' ')
        };
        // Old writers summed signed bytes.
        if stored != sum(i64::from) && stored != sum(|b| i64::from(b as i8)) {
            return Err(if self.first { TarError::NotTar } else { TarError::Damaged("checksum") });
        }
        self.first = false;
        Ok(Some(header))
    }

    /// False if the stream ends here: some writers leave the filling after the last member out.
    fn skip_padding(&mut self) -> Result<bool, TarError> {
        let mut filling = [0; BLOCK as usize];
        while self.padding > 0 {
            match self.input.read(&mut filling[..self.padding as usize]) {
                Ok(0) => return Ok(false),
                Ok(n) => {
                    self.padding -= n as u64;
                    self.position = self.position.saturating_add(n as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        Ok(true)
    }

    /// False if the stream ends here; a part of a block is an error.
    fn read_block(&mut self, block: &mut [u8]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < block.len() {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) if self.first => return Err(TarError::NotTar),
                Ok(0) => return Err(TarError::Truncated),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        self.position = self.position.saturating_add(BLOCK);
        Ok(true)
    }

    /// Makes the next `len` bytes the current member's data.
    fn begin_data(&mut self, len: u64) {
        self.data_left = len;
        self.padding = len.wrapping_neg() % BLOCK;
    }

    fn extension(&mut self, header: &tar::Header) -> Result<Vec<u8>, TarError> {
        let len = unsigned(&header.as_old().size, "size")?;
        if len > MAX_EXTENSION_LEN {
            return Err(TarError::ExtensionTooLong(len));
        }
        self.begin_data(len);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(read_error)?;
        Ok(bytes)
    }

    /// A GNU long name or link: bytes up to a NUL.
    fn gnu_text(&mut self, header: &tar::Header) -> Result<Vec<u8>, TarError> {
        let mut bytes = self.extension(header)?;
        let len = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        bytes.truncate(len);
        Ok(bytes)
    }

    fn member(&mut self, header: &tar::Header, flag: u8, extensions: Extensions) -> Result<Member, TarError> {
        let old = header.as_old();
        let name = extensions.gnu_name.or(extensions.name).unwrap_or_else(|| header.path_bytes().into_owned());
        let header_link = || header.link_name_bytes().map(|l| l.into_owned()).unwrap_or_default();
        let link = extensions.gnu_link.or(extensions.link).unwrap_or_else(header_link);
        if let Some(long) = [&name, &link].into_iter().find(|text| text.len() > MAX_NAME_LEN) {
            return Err(TarError::NameTooLong(long.len()));
        }
        let unsupported = |what: String| TarError::Unsupported { name: String::from_utf8_lossy(&name).into(), what };
        let kind = match flag {
            // Before POSIX, a directory was a file whose name ends in a slash.
            b'0' | 0 | b'7' | b'S' if name.ends_with(b"/") && flag != b'S' => MemberKind::Directory,
            b'0' | 0 | b'7' | b'S' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Symlink,
            b'3' => MemberKind::CharDevice,
            b'4' => MemberKind::BlockDevice,
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            other => {
                return Err(unsupported(format!("tar member of type {:?} is not supported", char::from(other))));
            }
        };
        if extensions.pax_sparse {
            return Err(unsupported("sparse file in pax form is not supported".to_owned()));
        }
        let stored = match extensions.size {
            Some(size) => size,
            None => unsigned(&old.size, "size")?,
        };
        // The flag counts, not the name: an old directory may have a size, and what has no data may have one too.
        let stored = if matches!(flag, b'0' | 0 | b'7' | b'S') { stored } else { 0 };
        let (size, sparse) = if flag == b'S' { self.sparse_map(header, stored)? } else { (stored, None) };
        let (major, minor) = device_numbers(header, kind)?;
        let mtime = match extensions.mtime {
            Some(mtime) => mtime,
            None => Timestamp { seconds: number(&old.mtime).ok_or(TarError::Damaged("mtime"))?, nanos: 0 },
        };
        let member = Member {
            kind,
            link,
            mode: u32::try_from(unsigned(&old.mode, "mode")? & 0o7777).unwrap_or_default(),
            uid: extensions.uid.map_or_else(|| unsigned(&old.uid, "uid"), Ok)?,
            gid: extensions.gid.map_or_else(|| unsigned(&old.gid, "gid"), Ok)?,
            mtime,
            major,
            minor,
            size,
            offset: self.position,
            xattrs: extensions.xattrs,
            sparse,
            name,
        };
        self.begin_data(stored);
        Ok(member)
    }

    /// The old GNU form: four pieces in the header, more in blocks after it. Gives the file's true length and its map.
    fn sparse_map(&mut self, header: &tar::Header, stored: u64) -> Result<(u64, SparseMap), TarError> {
        let gnu = header.as_gnu().ok_or(TarError::Damaged("sparse file without GNU header"))?;
        let size = unsigned(&gnu.realsize, "real size")?;
        let mut pieces = Vec::new();
        let mut end = 0u64;
        let mut total = 0u64;
        let mut add = |piece: &tar::GnuSparseHeader| -> Result<(), TarError> {
            if piece.offset[0] == 0 || piece.numbytes[0] == 0 {
                return Ok(());
            }
            let (offset, len) = (unsigned(&piece.offset, "sparse map")?, unsigned(&piece.numbytes, "sparse map")?);
            let next = offset.checked_add(len).filter(|next| offset >= end && *next <= size);
            end = next.ok_or(TarError::Damaged("sparse map"))?;
            total += len;
            if pieces.len() == MAX_SPARSE_PIECES {
                return Err(TarError::Damaged("too many pieces in a sparse file"));
            }
            pieces.push((offset, len));
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut more = gnu.isextended[0] == 1;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            if !self.read_block(block.as_mut_bytes())? {
                return Err(TarError::Truncated);
            }
            block.sparse.iter().try_for_each(&mut add)?;
            more = block.isextended[0] == 1;
        }
        if total != stored {
            return Err(TarError::Damaged("sparse map"));
        }
        Ok((size, Some(pieces)))
    }
}

type SparseMap = Option<Vec<(u64, u64)>>;

impl<R: Read + Seek> TarReader<R> {
    /// For a file: what is not wanted is jumped over, so that a member may begin or end beyond the end of the file;
    /// whoever uses offsets compares them with its length.
    pub fn seekable(input: R) -> TarReader<R> {
        TarReader::new(input, |input, len| {
            let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            if len == 0 { Ok(()) } else { input.seek(SeekFrom::Current(len)).map(drop) }
        })
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.input.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data_left -= n as u64;
        self.position = self.position.saturating_add(n as u64);
        Ok(n)
    }
}

fn read_error(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => TarError::Truncated,
        _ => TarError::Read(error),
    }
}
