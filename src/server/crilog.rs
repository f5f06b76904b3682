//! Log files in CRI format, as the monitors write them: `TIME STREAM TAG CONTENT`, one record per line, rotated by
//! rename to `<attempt>.log.<time>`.
//!
//! A [`LogReader`] reads one container run's files as one text, oldest first, and goes on in the next file when the
//! one that it reads has been renamed away. It only reads whole lines: the last one may still be being written.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The longest line that is taken for a record, in bytes; the monitors cut at 16 KiB. What is longer is no CRI log.
const LINE_MAX: usize = 1024 * 1024;
const BLOCK_BYTES: usize = 64 * 1024;
/// RFC 3339 with nanoseconds and an offset has 35.
const TIME_BYTES_MAX: usize = 40;
/// Enough for a record's time, stream and tag.
const RECORD_HEAD_BYTES: usize = 64;

/// One line of a log file.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// RFC 3339 with nanoseconds.
    pub time: &'a str,
    /// The content goes on in the stream's next record.
    pub partial: bool,
    pub content: &'a [u8],
}

/// `None` for a line that is no record (a torn write after a power cut): such lines are skipped.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok();
    let time = time.filter(|time| (20..=TIME_BYTES_MAX).contains(&time.len()) && time.contains('T'))?;
    let stream = parts.next()?;
    if stream != b"stdout" && stream != b"stderr" {
        return None;
    }
    let tag = parts.next()?;
    let tag = tag.split(|b| *b == b':').next()?;
    let partial = match tag {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    Some(Record { time, partial, content: parts.next().unwrap_or_default() })
}

/// The files of one run: the one being written, and those it was renamed to.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    file: File,
    inode: u64,
    /// What has been read beyond the last whole line.
    rest: Vec<u8>,
}

impl LogReader {
    /// From the oldest file that is left.
    pub fn from_start(path: &Path) -> io::Result<LogReader> {
        match rotated(path)?.into_iter().next() {
            Some(oldest) => LogReader::at(path, &oldest.path, 0),
            None => LogReader::at(path, path, 0),
        }
    }

    /// From the first of the last `lines` lines.
    pub fn from_tail(path: &Path, lines: u64) -> io::Result<LogReader> {
        let mut missing = lines;
        let mut files = vec![path.to_owned()];
        files.extend(rotated(path)?.into_iter().rev().map(|old| old.path));
        let mut start = (path.to_owned(), u64::MAX);
        for name in files {
            // Renamed or removed since the directory was read: what is newer is still there.
            let Ok(file) = File::open(&name) else { continue };
            let (offset, found) = tail_offset(&file, missing, name == path)?;
            start = (name, offset);
            missing -= found;
            if missing == 0 {
                break;
            }
        }
        LogReader::at(path, &start.0, start.1)
    }

    fn at(path: &Path, name: &Path, offset: u64) -> io::Result<LogReader> {
        let mut file = File::open(name)?;
        let meta = file.metadata()?;
        file.seek(SeekFrom::Start(offset.min(meta.len())))?;
        Ok(LogReader { path: path.to_owned(), file, inode: meta.ino(), rest: Vec::new() })
    }

    /// Hands whole lines to `take` until there is nothing more for now; `take` returns false to stop for good, and
    /// then so does this.
    pub fn drain(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<bool> {
        loop {
            // Looked at before reading: a file that is renamed by then gets no more lines after this reading.
            let finished = self.is_finished();
            if !self.drain_file(take)? {
                return Ok(false);
            }
            if !finished || !self.advance()? {
                return Ok(true);
            }
        }
    }

    fn drain_file(&mut self, take: &mut impl FnMut(&[u8]) -> io::Result<bool>) -> io::Result<bool> {
        let mut block = vec![0u8; BLOCK_BYTES];
        loop {
            let n = match self.file.read(&mut block) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if n == 0 {
                return Ok(true);
            }
            self.rest.extend_from_slice(&block[..n]);
            let mut begin = 0;
            while let Some(length) = self.rest[begin..].iter().position(|b| *b == b'\n') {
                if !take(&self.rest[begin..begin + length])? {
                    return Ok(false);
                }
                begin += length + 1;
            }
            self.rest.drain(..begin);
            if self.rest.len() > LINE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a log in CRI format"));
            }
        }
    }

    /// True once another file has the name of the one that is being read, or none has.
    fn is_finished(&self) -> bool {
        fs::metadata(&self.path).map_or(true, |meta| meta.ino() != self.inode)
    }

    /// Goes on to the next newer file; false if there is none yet.
    fn advance(&mut self) -> io::Result<bool> {
        let files = rotated(&self.path)?;
        // Where ours is gone already, all that are left are newer.
        let next = files.iter().position(|old| old.inode == self.inode).map_or(0, |at| at + 1);
        let name = files.get(next).map_or(&self.path, |old| &old.path);
        match LogReader::at(&self.path, name, 0) {
            Ok(reader) if reader.inode != self.inode => {
                *self = reader;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[derive(Debug)]
struct Rotated {
    path: PathBuf,
    inode: u64,
}

/// The renamed files beside `path`, oldest first.
fn rotated(path: &Path) -> io::Result<Vec<Rotated>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        let is_old =
            file_name.strip_prefix(&prefix).is_some_and(|suffix| suffix.starts_with(|c: char| c.is_ascii_digit()));
        if !is_old || file_name.ends_with(".gz") || file_name.ends_with(".tmp") {
            continue;
        }
        if let Ok(meta) = entry.metadata() {
            let written = (meta.mtime(), meta.mtime_nsec());
            files.push((written, file_name, Rotated { path: entry.path(), inode: meta.ino() }));
        }
    }
    files.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    Ok(files.into_iter().map(|(_, _, file)| file).collect())
}

/// Where the last `lines` lines of `file` begin, and how many it has of them. A line is a record that ends one: the
/// partial records before it belong to it. In the `live` file the last record is a line in any case: nothing follows.
/// What is no record (torn by a power cut) is never shown, so it does not count either.
fn tail_offset(file: &File, lines: u64, live: bool) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    if lines == 0 {
        return Ok((length, 0));
    }
    // Where the record that was looked at last begins, and where the lines that are counted begin.
    let (mut end, mut begin, mut found) = (None, length, 0);
    let mut last = live;
    let mut count = |at: u64, end: u64| -> io::Result<bool> {
        if let Some(partial) = partial(file, at, end)? {
            if !partial || last {
                if found == lines {
                    return Ok(true);
                }
                found += 1;
            }
            last = false;
        }
        begin = at;
        Ok(false)
    };
    let mut block = vec![0u8; BLOCK_BYTES];
    let mut position = length;
    while position > 0 {
        let size = usize::try_from(position).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
        position -= size as u64;
        file.read_exact_at(&mut block[..size], position)?;
        for index in (0..size).rev().filter(|index| block[*index] == b'\n') {
            let at = position + index as u64 + 1;
            // The first line feed from the end only shows where whole lines end.
            if let Some(end) = end.replace(at)
                && count(at, end)?
            {
                return Ok((begin, found));
            }
        }
    }
    match end {
        Some(end) if count(0, end)? => Ok((begin, found)),
        _ => Ok((0, found)),
    }
}

/// Whether the record that begins at `at` leaves a line of the container's open; `None` where it is no record.
fn partial(file: &File, at: u64, end: u64) -> io::Result<Option<bool>> {
    let mut head = [0u8; RECORD_HEAD_BYTES];
    let size = usize::try_from(end - at).unwrap_or(RECORD_HEAD_BYTES).min(RECORD_HEAD_BYTES);
    file.read_exact_at(&mut head[..size], at)?;
    Ok(parse(&head[..size]).map(|record| record.partial))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{Dice, damaged};
    use std::io::Write;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir = std::env::temp_dir().join(format!("pinlet-crilog-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir).expect("temporary directory");
            Dir(dir)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).expect("log");
            file.write_all(text.as_bytes()).expect("written");
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn full(n: u32) -> String {
        format!("2026-11-23T23:06:{:02}.000000000Z stdout F line {n}\n", n % 60)
    }

    fn part(n: u32) -> String {
        full(n).replace(" F ", " P ")
    }

    fn contents(reader: &mut LogReader) -> Vec<String> {
        let mut seen = Vec::new();
        reader
            .drain(&mut |line| {
                let record = parse(line).expect("a record");
                seen.push(String::from_utf8_lossy(record.content).into_owned());
                Ok(true)
            })
            .expect("readable");
        seen
    }

    #[test]
    fn a_record_has_time_stream_tag_and_content() {
        let record = parse(b"2016-10-06T00:17:09.669794202Z stderr F a  b ").expect("a record");
        assert_eq!((record.time, record.partial), ("2016-10-06T00:17:09.669794202Z", false));
        assert_eq!(record.content, b"a  b ");
        assert!(parse(b"2016-10-06T00:17:09.669794202Z stdout P x").expect("a record").partial);
        assert_eq!(parse(b"2016-10-06T00:17:09.669794202Z stdout F").expect("a record").content, b"");
        for line in
            ["", "x", "2016-10-06T00:17:09.669794202Z stdin F x", "2016-10-06T00:17:09.669794202Z stdout X x", "\0\0"]
        {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_tail_is_counted_in_lines_across_rotated_files() {
        let dir = Dir::new("tail");
        dir.write("0.log.20260101-000000", &(full(1) + &full(2)));
        let path = dir.write("0.log", &(full(3) + &part(4) + &part(5) + &full(6) + &part(7)));
        for (tail, expected) in [
            (0, &[][..]),
            (1, &["line 7"]),
            (2, &["line 4", "line 5", "line 6", "line 7"]),
            (3, &["line 3", "line 4", "line 5", "line 6", "line 7"]),
            (4, &["line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]),
            (9, &["line 1", "line 2", "line 3", "line 4", "line 5", "line 6", "line 7"]),
        ] {
            let mut reader = LogReader::from_tail(&path, tail).expect("opened");
            assert_eq!(contents(&mut reader), expected, "--tail {tail}");
        }
        assert_eq!(contents(&mut LogReader::from_start(&path).expect("opened")).len(), 7);
    }

    #[test]
    fn a_tail_longer_than_a_block_is_found() {
        let dir = Dir::new("long");
        let text: String = (0..5000).map(full).collect();
        let path = dir.write("0.log", &text);
        let seen = contents(&mut LogReader::from_tail(&path, 3000).expect("opened"));
        assert_eq!((seen.len(), seen[0].as_str()), (3000, "line 2000"));
    }

    #[test]
    fn half_a_line_is_not_shown_until_it_is_whole() {
        let dir = Dir::new("half");
        let path = dir.write("0.log", &(full(1) + "2026-11-23T23:06:02.000000000Z stdout F ha"));
        let mut reader = LogReader::from_tail(&path, 1).expect("opened");
        assert_eq!(contents(&mut reader), ["line 1"]);
        dir.write("0.log", "lf\n");
        assert_eq!(contents(&mut reader), ["half"]);
    }

    #[test]
    fn torn_records_are_no_lines_and_the_last_whole_one_is_the_tail() {
        let nothing = "\0".repeat(40);
        let cut = &full(3)[..30];
        for (name, torn) in [
            ("cut", cut.to_owned()),
            ("zeros", nothing.clone()),
            ("closed", format!("{nothing}\n")),
            ("both", format!("{nothing}\n{nothing}\n{cut}")),
            ("tag", "2026-11-23T23:06:02.000000000Z stdout\n".to_owned()),
        ] {
            let dir = Dir::new(&format!("torn-{name}"));
            let path = dir.write("0.log", &(full(1) + &part(2) + &full(2) + &torn));
            for (tail, expected) in [(1, &["line 2", "line 2"][..]), (2, &["line 1", "line 2", "line 2"])] {
                let mut seen = Vec::new();
                let mut reader = LogReader::from_tail(&path, tail).expect("opened");
                let take = &mut |line: &[u8]| {
                    seen.extend(parse(line).map(|record| String::from_utf8_lossy(record.content).into_owned()));
                    Ok(true)
                };
                reader.drain(take).expect("readable");
                assert_eq!(seen, expected, "{name}, --tail {tail}");
            }
        }
    }

    #[test]
    fn following_goes_on_through_every_file_that_was_rotated_meanwhile() {
        let dir = Dir::new("rotate");
        let path = dir.write("0.log", &full(1));
        let mut reader = LogReader::from_start(&path).expect("opened");
        assert_eq!(contents(&mut reader), ["line 1"]);
        dir.write("0.log", &full(2));
        fs::rename(&path, dir.0.join("0.log.20260101-000000")).expect("rotated");
        assert_eq!(contents(&mut reader), ["line 2"]);
        dir.write("0.log", &full(3));
        fs::rename(&path, dir.0.join("0.log.20260101-000000-1")).expect("rotated");
        dir.write("0.log", &full(4));
        assert_eq!(contents(&mut reader), ["line 3", "line 4"]);
        assert_eq!(contents(&mut reader), [""; 0]);
    }

    #[test]
    fn a_reader_that_fell_behind_what_was_removed_goes_on_with_the_oldest() {
        let dir = Dir::new("behind");
        let path = dir.write("0.log", &full(1));
        let mut reader = LogReader::from_start(&path).expect("opened");
        fs::remove_file(&path).expect("removed");
        dir.write("0.log.20260101-000000", &full(2));
        dir.write("0.log", &full(3));
        assert_eq!(contents(&mut reader), ["line 1", "line 2", "line 3"]);
    }

    /// The lines as they are handed out, and whether the reading ended well. Panics where it would not end.
    fn lines_of(reader: io::Result<LogReader>, input: usize) -> (Vec<Vec<u8>>, io::Result<bool>) {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut bytes = 0;
        let end = reader.expect("opened").drain(&mut |line| {
            // Each has had a line feed.
            bytes += line.len() + 1;
            assert!(bytes <= input, "more comes out than went in");
            if let Some(record) = parse(line) {
                assert!(record.time.len() + record.content.len() < line.len());
            }
            lines.push(line.to_vec());
            Ok(true)
        });
        (lines, end)
    }

    fn is_full_record(line: &[u8]) -> bool {
        parse(line).is_some_and(|record| !record.partial)
    }

    /// A log file as a container writes it that prints what it likes.
    fn some_log(dice: &mut Dice) -> Vec<u8> {
        let mut log = Vec::new();
        for n in 0..u32::try_from(dice.roll(30)).expect("few") {
            match dice.roll(12) {
                0 => log.extend(part(n).bytes()),
                1 => log.extend(b"2026-11-23T23:06:02.000000000Z stderr F \xff\xfe\x80 \xc3\n"),
                2 => log.extend([&[b'\0'; 40][..], b"\n"].concat()),
                3 => log.extend(full(n).replace("line", &"l".repeat(dice.roll(200_000))).bytes()),
                _ => log.extend(full(n).bytes()),
            }
        }
        damaged(&log, dice)
    }

    #[test]
    fn whatever_became_of_the_files_reading_ends_and_a_tail_is_the_end_of_the_whole() {
        let dir = Dir::new("damaged");
        let old = dir.0.join("0.log.20260101-000000");
        let path = dir.0.join("0.log");
        for seed in 0..150 {
            let mut dice = Dice::new(seed);
            let (older, newer) = (some_log(&mut dice), some_log(&mut dice));
            fs::write(&old, &older).expect("written");
            fs::write(&path, &newer).expect("written");
            let input = older.len() + newer.len();
            let (whole, end) = lines_of(LogReader::from_start(&path), input);
            assert!(end.expect("no line is too long"), "seed {seed}");
            for tail in [0, 1, 2, 7, 40, u64::MAX] {
                let (lines, end) = lines_of(LogReader::from_tail(&path, tail), input);
                assert!(end.expect("no line is too long"), "seed {seed}");
                assert!(whole.ends_with(&lines), "seed {seed}, --tail {tail}");
                let shown = lines.iter().filter(|line| is_full_record(line)).count() as u64;
                assert!(shown <= tail, "seed {seed}, --tail {tail}: {shown} lines");
            }
        }
    }

    #[test]
    fn a_line_that_no_monitor_wrote_ends_the_reading_before_it_fills_the_memory() {
        let dir = Dir::new("huge");
        let path = dir.write("0.log", &full(1));
        let mut file = fs::OpenOptions::new().append(true).open(&path).expect("log");
        file.write_all(&vec![b'x'; LINE_MAX - 1]).expect("written");
        file.write_all(b"\n").expect("written");
        let input = 2 * LINE_MAX;
        let (lines, end) = lines_of(LogReader::from_start(&path), input);
        assert!(lines.len() == 2 && end.expect("just within the limit"));
        // Zeros that are nowhere on the disk: as long as a file can be made that nobody wrote.
        file.set_len(16 * LINE_MAX as u64).expect("sparse");
        let mut reader = LogReader::from_start(&path).expect("opened");
        let end = reader.drain(&mut |_| Ok(true));
        assert_eq!(end.expect_err("no log").kind(), io::ErrorKind::InvalidData);
        assert!(reader.rest.len() <= LINE_MAX + BLOCK_BYTES);
        let (lines, _) = lines_of(LogReader::from_tail(&path, 1), input);
        assert_eq!(lines, [full(1).trim_end().as_bytes(), &[b'x'; LINE_MAX - 1]], "no record is no line of the tail's");
    }
}
