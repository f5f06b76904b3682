//! Giving back what an idle process has mapped and does not need: pages of its own code.
//!
//! Starting touches most of the program; waiting touches little of it. Pages that are given back stay in the page
//! cache as long as there is room, and come back by themselves when they are executed again; on a small machine the
//! kernel may now use them for pods.

use std::io;

/// A mapping of [`Code`], by its first byte and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    len: usize,
}

/// The mappings of this process that come from files, cannot be written, and never were.
#[derive(Clone, Debug, Default)]
pub struct Code {
    ranges: Vec<Range>,
}

impl Code {
    /// Read once: the mappings of a program's own files do not change.
    pub fn of_self() -> io::Result<Code> {
        Ok(Code { ranges: parse(&std::fs::read_to_string("/proc/self/smaps")?) })
    }

    /// Gives all of it back. What is executed next is mapped again from the page cache.
    pub fn release(&self) {
        for range in &self.ranges {
            // SAFETY: the range is a read-only file mapping without a private copy of any page ([`parse`] takes no
            // other), so that the kernel fills it with the same bytes when it is touched again; nothing else of this
            // process relies on the pages being resident.
            unsafe { libc::madvise(range.start as *mut libc::c_void, range.len, libc::MADV_DONTNEED) };
        }
    }
}

/// proc(5), `/proc/<pid>/smaps`: a head line per mapping, then its figures. INVARIANT: a mapping with `Anonymous` pages
/// is left out: those pages are nowhere else (relocated data that was made read-only afterwards).
fn parse(smaps: &str) -> Vec<Range> {
    let mut ranges = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(range) = head(line) {
            current = range;
        } else if let Some(kib) = line.strip_prefix("Anonymous:")
            && kib.trim() == "0 kB"
            && let Some(range) = current.take()
        {
            ranges.push(range);
        }
    }
    ranges
}

/// `None`: no head line. `Some(None)`: a mapping that is not code.
fn head(line: &str) -> Option<Option<Range>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let rights = fields.next()?;
    let inode = fields.nth(2)?;
    let is_code = rights.starts_with('r') && !rights.contains('w') && rights.ends_with('p') && inode != "0";
    Some(is_code.then_some(Range { start, len: end.saturating_sub(start) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_read_only_file_mappings_are_taken() {
        let smaps = "\
00400000-00410000 r--p 00000000 fe:00 77                         /
Rss:                  64 kB
Anonymous:             0 kB
00410000-00500000 r-xp 00010000 fe:00 77                         /
Anonymous:             0 kB
00500000-00510000 r--p 00100000 fe:00 77                         /
Anonymous:             4 kB
00510000-00520000 rw-p 00110000 fe:00 77                         /
Anonymous:             0 kB
00600000-00700000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
7ff000-800000 r-xp 00000000 00:00 0                              [vdso]
Anonymous:             0 kB
";
        let starts: Vec<usize> = parse(smaps).iter().map(|r| r.start).collect();
        assert_eq!(starts, [0x400000, 0x410000]);
    }

    #[test]
    fn a_process_goes_on_after_giving_its_code_back() {
        let code = Code::of_self().expect("procfs is there");
        assert!(!code.ranges.is_empty());
        for _ in 0..3 {
            code.release();
            assert_eq!(format!("{:?}", head("x")), "None");
        }
    }
}
