//! Lines in, files out: CRI format, rotation, and a full disk.

use super::*;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("pinlet-crilog-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn target(&self, max_bytes: u64, max_files: u32) -> LogTarget {
        LogTarget { path: self.0.join("0.log"), max_bytes, max_files }
    }

    fn live(&self) -> String {
        std::fs::read_to_string(self.0.join("0.log")).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pipe() -> (OwnedFd, File) {
    let (read_end, write_end) = process::pipe().unwrap();
    process::set_nonblocking(&read_end).unwrap();
    (read_end, File::from(write_end))
}

/// Lines without their times.
fn bare(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once(' ').unwrap().1).collect()
}

#[test]
fn lines_are_tagged_full_and_what_is_left_at_the_end_partial() {
    let dir = Dir::new("lines");
    let mut log = CriLog::open(dir.target(1 << 20, 5)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stdout");
    sink.write_all(b"one\ntwo\n\nth").unwrap();
    assert_eq!(stream.pump(&source, &mut log), Pumped::Some);
    assert_eq!(stream.pump(&source, &mut log), Pumped::Idle);
    sink.write_all(b"ree\nrest").unwrap();
    stream.pump(&source, &mut log);
    drop(sink);
    assert_eq!(stream.pump(&source, &mut log), Pumped::End);
    stream.finish(&mut log);
    assert_eq!(bare(&dir.live()), ["stdout F one", "stdout F two", "stdout F ", "stdout F three", "stdout P rest"]);
}

#[test]
fn a_long_line_is_cut_at_16_kib() {
    let dir = Dir::new("long");
    let mut log = CriLog::open(dir.target(1 << 20, 5)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stderr");
    sink.write_all(&[b'x'; 40_000]).unwrap();
    sink.write_all(b"\nshort\n").unwrap();
    while stream.pump(&source, &mut log) == Pumped::Some {}
    let text = dir.live();
    let lengths: Vec<(&str, usize)> = bare(&text).iter().map(|l| (&l[..8], l.len() - 9)).collect();
    assert_eq!(lengths, [("stderr P", 16_384), ("stderr P", 16_384), ("stderr F", 7232), ("stderr F", 5)]);
}

#[test]
fn more_lines_than_one_write_takes_are_all_there() {
    let dir = Dir::new("many");
    let mut log = CriLog::open(dir.target(1 << 20, 5)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stdout");
    sink.write_all("\n".repeat(1000).as_bytes()).unwrap();
    while stream.pump(&source, &mut log) == Pumped::Some {}
    assert_eq!(bare(&dir.live()), vec!["stdout F "; 1000]);
}

#[test]
fn output_that_cannot_be_written_is_counted_and_told_once_it_can() {
    let dir = Dir::new("full");
    let mut log = CriLog::open(dir.target(1 << 20, 5)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stdout");
    let mut say = |log: &mut CriLog, text: &str| {
        sink.write_all(text.as_bytes()).unwrap();
        stream.pump(&source, log);
    };
    say(&mut log, "before\n");
    let good = std::mem::replace(&mut log.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
    say(&mut log, "12345\n");
    say(&mut log, "1234567\n");
    log.file = good;
    say(&mut log, "after\n");
    let text = dir.live();
    let lost = "stderr F pinlet: 14 bytes of output were lost here: no space left on device";
    assert_eq!(bare(&text), ["stdout F before", lost, "stdout F after"]);
}

#[test]
fn rotated_files_are_counted_and_compressed_but_for_the_newest() {
    let dir = Dir::new("rotate");
    let mut log = CriLog::open(dir.target(100, 4)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stdout");
    for n in 0..12 {
        sink.write_all(format!("line {n:02} {}\n", "x".repeat(80)).as_bytes()).unwrap();
        stream.pump(&source, &mut log);
        rotate::compress_all(&rotate::uncompressed(&log.target));
    }
    let names = dir.names();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names[0], "0.log");
    assert!(names[1].ends_with(".gz") && names[2].ends_with(".gz") && !names[3].ends_with(".gz"), "{names:?}");
    assert_eq!(dir.live(), "");
    let mode = |name: &String| std::fs::metadata(dir.0.join(name)).unwrap().permissions().mode() & 0o777;
    assert!(names.iter().all(|name| mode(name) == 0o640), "{names:?}");
    assert!(std::fs::read_to_string(dir.0.join(&names[3])).unwrap().contains("line 11"));
    let mut older = String::new();
    let compressed = File::open(dir.0.join(&names[2])).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(compressed), &mut older).unwrap();
    assert!(older.contains("line 10"), "{older}");
}

#[test]
fn two_rotations_within_a_second_have_two_names() {
    let dir = Dir::new("second");
    let mut log = CriLog::open(dir.target(10, 5)).unwrap();
    let (source, mut sink) = pipe();
    let mut stream = Stream::new("stdout");
    for _ in 0..3 {
        sink.write_all(b"0123456789\n").unwrap();
        stream.pump(&source, &mut log);
    }
    log.close();
    assert_eq!(dir.names().len(), 4);
}
