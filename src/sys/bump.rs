//! An allocator for processes that live for milliseconds: memory is handed out in a row and never taken back.
//!
//! libcontainer allocates some ten thousand times while it creates a container, and half a millisecond of that is the
//! C library's (musl's) book-keeping. Everything else in this binary uses the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Asked of the kernel at a time; what is not touched costs nothing.
const CHUNK_BYTES: usize = 4 << 20;

/// As malloc aligns whatever it is asked for: there is code that relies on it (nix makes message headers in byte vectors).
const ALIGN_MIN: usize = 16;

static BUMPING: AtomicBool = AtomicBool::new(false);
/// The free part of the current chunk.
static NEXT: AtomicUsize = AtomicUsize::new(0);
static END: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, until [`begin`].
#[derive(Debug)]
pub struct SwitchingAllocator;

/// From now on this process frees nothing. INVARIANT: the process is single-threaded and about to exec or end; so are
/// its children.
pub fn begin() {
    BUMPING.store(true, Ordering::Relaxed);
}

// SAFETY: before `begin` this is `System`. After it every block is a fresh piece of a mapping, aligned and sized as
// asked, given out once and never reused; blocks of `System` are then read but never freed. One thread only, so the
// two atomics are plain counters.
unsafe impl GlobalAlloc for SwitchingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if BUMPING.load(Ordering::Relaxed) {
            return take(layout);
        }
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if !BUMPING.load(Ordering::Relaxed) {
            // SAFETY: the caller's contract is passed on.
            unsafe { System.dealloc(block, layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if BUMPING.load(Ordering::Relaxed) {
            // Fresh from the kernel, so zero already.
            return take(layout);
        }
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !BUMPING.load(Ordering::Relaxed) {
            // SAFETY: the caller's contract is passed on.
            return unsafe { System.realloc(block, layout, size) };
        }
        if size <= layout.size() {
            return block;
        }
        if grow_last(block, layout.size(), size) {
            return block;
        }
        // SAFETY: the alignment is valid, and the caller vouches for the size.
        let fresh = take(unsafe { Layout::from_size_align_unchecked(size, layout.align()) });
        if !fresh.is_null() {
            // SAFETY: the old block is as long as its layout says, the new one is longer and lies elsewhere.
            unsafe { std::ptr::copy_nonoverlapping(block, fresh, layout.size()) };
        }
        fresh
    }
}

fn take(layout: Layout) -> *mut u8 {
    let start = NEXT.load(Ordering::Relaxed).next_multiple_of(layout.align().max(ALIGN_MIN));
    match start.checked_add(layout.size()) {
        Some(end) if end <= END.load(Ordering::Relaxed) => {
            NEXT.store(end, Ordering::Relaxed);
            start as *mut u8
        }
        _ => take_from_new_chunk(layout),
    }
}

#[cold]
fn take_from_new_chunk(layout: Layout) -> *mut u8 {
    let Some(size) = layout.size().checked_add(layout.align()).map(|s| s.max(CHUNK_BYTES)) else {
        return std::ptr::null_mut();
    };
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at a place of the kernel's choice.
    let chunk = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
    if chunk == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    let start = (chunk as usize).next_multiple_of(layout.align());
    NEXT.store(start + layout.size(), Ordering::Relaxed);
    END.store(chunk as usize + size, Ordering::Relaxed);
    start as *mut u8
}

/// A block that was handed out last can grow where it is.
fn grow_last(block: *mut u8, old: usize, new: usize) -> bool {
    let start = block as usize;
    let last = start + old == NEXT.load(Ordering::Relaxed);
    let fits = last && start.checked_add(new).is_some_and(|end| end <= END.load(Ordering::Relaxed));
    if fits {
        NEXT.store(start + new, Ordering::Relaxed);
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one test that uses the counters, which nobody else does outside of [`begin`].
    #[test]
    fn blocks_are_aligned_apart_and_grow_in_place_only_at_the_end() {
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let first = take(layout(3, 1)) as usize;
        let second = take(layout(64, 64)) as usize;
        assert!(first.is_multiple_of(ALIGN_MIN) && second.is_multiple_of(64) && second >= first + 3);
        assert!(grow_last(second as *mut u8, 64, 200) && !grow_last(first as *mut u8, 3, 4));
        let third = take(layout(8, 8)) as usize;
        assert!(third >= second + 200);
        let large = take(layout(CHUNK_BYTES + 1, 4096)) as usize;
        assert!(large.is_multiple_of(4096));
        assert!(!grow_last(large as *mut u8, CHUNK_BYTES + 1, 3 * CHUNK_BYTES));
    }
}
