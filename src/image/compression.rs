//! Layers and archives come plain, gzipped or as zstd; the first bytes say which, whatever the media type claims.
//!
//! Runs only in the role `internal-unpack`: the sizes that a frame asks for are bounded there by the memory limit.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

/// How bytes are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    /// Known, but not supported: the word names it.
    Foreign(&'static str),
}

/// As many first bytes as [`Compression::of`] wants to see.
pub const MAGIC_LEN: usize = 6;

impl Compression {
    /// By the first bytes; fewer than [`MAGIC_LEN`] are fine.
    pub fn of(first: &[u8]) -> Compression {
        match first {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // RFC 8878, 3.1.2: a skippable frame, which zstd:chunked and pzstd put first or last.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Foreign("xz"),
            [b'B', b'Z', b'h', ..] => Compression::Foreign("bzip2"),
            _ => Compression::None,
        }
    }
}

/// The plain bytes of `input`, which is unpacked by its first bytes.
pub fn decompress<'a>(mut input: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    match Compression::of(input.fill_buf()?) {
        Compression::None => Ok(Box::new(input)),
        // eStargz is gzip of many members.
        Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(input))),
        Compression::Zstd => Ok(Box::new(ZstdReader::new(input))),
        Compression::Foreign(name) => Err(io::Error::other(format!("{name} compression is not supported"))),
    }
}

/// All frames of a zstd stream, one after the other; skippable ones are skipped.
struct ZstdReader<R> {
    input: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(input: R) -> ZstdReader<R> {
        ZstdReader { input, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Goes to the next frame with content; false at the end of the input.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.input.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut (&mut self.input).take(u64::from(length)), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if !self.in_frame || self.decoder.is_finished() {
                if !self.next_frame()? {
                    return Ok(0);
                }
                continue;
            }
            // One block at a time (at most 128 KiB of content), so that memory stays at window + block.
            self.decoder
                .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn skippable(bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![0x5a, 0x2a, 0x4d, 0x18];
        frame.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        frame.extend(bytes);
        frame
    }

    fn plain(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decompress(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn members_and_frames_follow_one_another_and_skippable_ones_hold_nothing() {
        let long: Vec<u8> = (0..500_000u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        assert_eq!(plain(b"").unwrap(), b"");
        assert_eq!(plain(b"plain").unwrap(), b"plain");
        assert_eq!(plain(&[gzip(b"one "), gzip(b""), gzip(b"two")].concat()).unwrap(), b"one two");
        assert_eq!(plain(&gzip(&long)).unwrap(), long);
        assert_eq!(plain(&zstd(&long)).unwrap(), long);
        let frames = [skippable(b"toc"), zstd(b"one "), skippable(b""), zstd(b"two"), skippable(&long)].concat();
        assert_eq!(plain(&frames).unwrap(), b"one two");
    }

    #[test]
    fn truncated_streams_are_errors_and_never_shorter_content() {
        let long: Vec<u8> = (0..40_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        for packed in [gzip(&long), zstd(&long), skippable(&long)] {
            for cut in (1..packed.len() - 1).step_by(97).chain([packed.len() - 1]) {
                let got = plain(&packed[..cut]);
                assert!(got.is_err() || Compression::of(&packed[..cut]) == Compression::None, "{cut}");
            }
        }
    }

    #[test]
    fn foreign_compressions_are_named() {
        let error = plain(b"\xfd7zXZ\0\0\0").unwrap_err();
        assert_eq!(error.to_string(), "xz compression is not supported");
        assert_eq!(Compression::of(b"BZh9"), Compression::Foreign("bzip2"));
        assert_eq!(Compression::of(b""), Compression::None);
    }
}
