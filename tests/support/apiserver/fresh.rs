//! What must never repeat: uids and the ends of generated names.

use std::sync::atomic::{AtomicU64, Ordering};

/// From the kernel, so that two doubles never give the same one.
pub fn uid() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").expect("the kernel makes uuids");
    text.trim().to_owned()
}

/// For one request in logs: told apart within this double is enough.
pub fn audit_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Five letters for a generateName, of those that a real server takes.
pub fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut left = COUNT.fetch_add(1, Ordering::Relaxed) + 1_000_000;
    let mut text = String::new();
    for _ in 0..5 {
        text.push(char::from(LETTERS[usize::try_from(left).expect("small") % LETTERS.len()]));
        left /= LETTERS.len() as u64;
    }
    text
}
