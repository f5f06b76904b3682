//! A disk with a volatile write cache, which a killed emulator alone does not have: what the guest wrote would sit in
//! the host's page cache and survive. An NBD server keeps writes apart until the guest flushes; a power cut drops them.
//!
//! Blocks lie over a base image that is never written, in memory: the same disk serves several boots of one machine.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

const BLOCK: usize = 4096;
/// qemu asks for at most 32 MiB at once.
const REQUEST_MAX: usize = 64 << 20;

const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY_MAGIC: u64 = 0x3e889045565a9;
const REQUEST_MAGIC: u32 = 0x25609513;
const REPLY_MAGIC: u32 = 0x67446698;
const FIXED_NEWSTYLE: u16 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_GO: u32 = 7;
const REPLY_ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 1 << 31 | 1;
const INFO_EXPORT: u16 = 0;
/// The flags of the export: flags are valid, flush is understood, and so is force-unit-access.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3;
const COMMAND_FUA: u16 = 1;
const EINVAL: u32 = 22;

type Block = Box<[u8; BLOCK]>;

/// The disk of one machine; clones are handles to the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<Blocks>>);

struct Blocks {
    base: File,
    size: u64,
    /// What a power cut leaves.
    stable: HashMap<u64, Block>,
    /// Written since the last flush.
    cached: HashMap<u64, Block>,
}

impl Disk {
    pub fn over(base: &Path) -> io::Result<Disk> {
        let base = File::open(base)?;
        let size = base.metadata()?.len();
        Ok(Disk(Arc::new(Mutex::new(Blocks { base, size, stable: HashMap::new(), cached: HashMap::new() }))))
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.0.lock().expect("no holder of the disk panics")
    }

    /// The power goes: whatever was not flushed never was.
    pub fn cut(&self) {
        self.lock().cached.clear();
    }

    /// Writes what a power cut would leave now into an image file, sparse where the base is.
    pub fn export(&self, image: &Path) -> io::Result<()> {
        let blocks = self.lock();
        let file = File::options().write(true).create(true).truncate(true).open(image)?;
        file.set_len(blocks.size)?;
        let mut buffer = [0; BLOCK];
        for index in 0..blocks.size / BLOCK as u64 {
            blocks.read_stable(index, &mut buffer)?;
            if buffer.iter().any(|byte| *byte != 0) {
                file.write_all_at(&buffer, index * BLOCK as u64)?;
            }
        }
        Ok(())
    }

    /// Answers on the socket until the emulator goes.
    pub fn serve(&self, socket: &Path) -> io::Result<()> {
        let listener = UnixListener::bind(socket)?;
        let disk = self.clone();
        std::thread::spawn(move || {
            // A closed connection is how each boot ends.
            if let Ok((stream, _)) = listener.accept() {
                let _ = disk.speak(stream);
            }
        });
        Ok(())
    }

    fn speak(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.write_all(b"NBDMAGIC")?;
        stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
        stream.write_all(&FIXED_NEWSTYLE.to_be_bytes())?;
        read::<4>(&mut stream)?;
        while !self.negotiated(&mut stream)? {}
        loop {
            self.answer(&mut stream)?;
        }
    }

    /// One option; whether it was the one that ends the negotiation.
    fn negotiated(&self, stream: &mut UnixStream) -> io::Result<bool> {
        read::<8>(stream)?;
        let option = u32::from_be_bytes(read(stream)?);
        let length = u32::from_be_bytes(read(stream)?) as usize;
        io::copy(&mut stream.take(length as u64), &mut io::sink())?;
        let mut reply = |kind: u32, data: &[u8]| -> io::Result<()> {
            let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
            for word in [option, kind, data.len() as u32] {
                bytes.extend(word.to_be_bytes());
            }
            bytes.extend(data);
            stream.write_all(&bytes)
        };
        match option {
            OPTION_GO => {
                let mut info = INFO_EXPORT.to_be_bytes().to_vec();
                info.extend(self.lock().size.to_be_bytes());
                info.extend(EXPORT_FLAGS.to_be_bytes());
                reply(REPLY_INFO, &info)?;
                reply(REPLY_ACK, &[])?;
                Ok(true)
            }
            OPTION_ABORT => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => reply(REPLY_UNSUPPORTED, &[]).map(|()| false),
        }
    }

    fn answer(&self, stream: &mut UnixStream) -> io::Result<()> {
        if u32::from_be_bytes(read(stream)?) != REQUEST_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let flags = u16::from_be_bytes(read(stream)?);
        let command = u16::from_be_bytes(read(stream)?);
        let cookie: [u8; 8] = read(stream)?;
        let offset = u64::from_be_bytes(read(stream)?);
        let length = u32::from_be_bytes(read(stream)?) as usize;
        let (error, data) = match command {
            0 if length <= REQUEST_MAX => (0, self.lock().read(offset, length)?),
            1 if length <= REQUEST_MAX => {
                let mut data = vec![0; length];
                stream.read_exact(&mut data)?;
                self.lock().write(offset, &data, flags & COMMAND_FUA != 0)?;
                (0, Vec::new())
            }
            2 => return Err(io::ErrorKind::ConnectionAborted.into()),
            3 => {
                self.lock().flush();
                (0, Vec::new())
            }
            _ => (EINVAL, Vec::new()),
        };
        let mut reply = REPLY_MAGIC.to_be_bytes().to_vec();
        reply.extend(u32::to_be_bytes(error));
        reply.extend(cookie);
        reply.extend(data);
        stream.write_all(&reply)
    }
}

impl Blocks {
    fn read_stable(&self, index: u64, buffer: &mut [u8; BLOCK]) -> io::Result<()> {
        match self.stable.get(&index) {
            Some(block) => *buffer = **block,
            None => self.base.read_exact_at(buffer, index * BLOCK as u64)?,
        }
        Ok(())
    }

    fn read_block(&self, index: u64) -> io::Result<Block> {
        let mut buffer = Box::new([0; BLOCK]);
        match self.cached.get(&index) {
            Some(block) => *buffer = **block,
            None => self.read_stable(index, &mut buffer)?,
        }
        Ok(buffer)
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut data = Vec::with_capacity(length);
        for (index, range) in pieces(offset, length) {
            data.extend_from_slice(&self.read_block(index)?[range]);
        }
        Ok(data)
    }

    fn write(&mut self, offset: u64, mut data: &[u8], through: bool) -> io::Result<()> {
        for (index, range) in pieces(offset, data.len()) {
            let mut block = self.read_block(index)?;
            let (now, later) = data.split_at(range.len());
            block[range].copy_from_slice(now);
            data = later;
            if through {
                self.cached.remove(&index);
                self.stable.insert(index, block);
            } else {
                self.cached.insert(index, block);
            }
        }
        Ok(())
    }

    fn flush(&mut self) {
        self.stable.extend(self.cached.drain());
    }
}

/// The blocks that a range touches, and which bytes of each.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    (offset / BLOCK as u64..end.div_ceil(BLOCK as u64)).map(move |index| {
        let start = index * BLOCK as u64;
        let from = offset.saturating_sub(start) as usize;
        let to = (end - start).min(BLOCK as u64) as usize;
        (index, from..to)
    })
}

fn read<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_power_cut_drops_exactly_what_was_not_flushed() {
    let base = std::env::temp_dir().join(format!("pinlet-vm-disk-{}", std::process::id()));
    std::fs::write(&base, vec![7; 3 * BLOCK]).expect("a base image");
    let disk = Disk::over(&base).expect("a disk");
    std::fs::remove_file(&base).expect("the base image is open");
    let mut blocks = disk.lock();
    blocks.write(100, &[1; BLOCK], false).expect("write");
    blocks.flush();
    blocks.write(BLOCK as u64, &[2; 10], false).expect("write");
    blocks.write(2 * BLOCK as u64, &[3; 10], true).expect("write");
    assert_eq!(blocks.read(BLOCK as u64, 2).expect("read"), [2, 2]);
    drop(blocks);
    disk.cut();
    let blocks = disk.lock();
    assert_eq!(blocks.read(99, 3).expect("read"), [7, 1, 1]);
    assert_eq!(blocks.read(BLOCK as u64 + 99, 3).expect("read"), [1, 7, 7]);
    assert_eq!(blocks.read(2 * BLOCK as u64 + 9, 2).expect("read"), [3, 7]);
}
