//! Bytes as a power cut, a bad disk or an ill-meaning hand leaves them: for the tests of what reads them.
//!
//! The same seed does the same damage, so that a test that fails once fails again.

/// What stands in for numbers: the ends of their ranges, and what is none.
const ODD_NUMBERS: &[&str] = &[
    "0",
    "-1",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.5",
    "null",
];
/// Bytes that mean something to one of the formats, and some that no text has.
const ODD_BYTES: &[u8] = b"\0\n\t \"'\\/{}[]():,;&*#%@|>-._=TZPF09aZ\x7f\x80\xc3\xff";
/// A span that is taken out, doubled or moved is no longer than this.
const SPAN_MAX: usize = 24;

/// splitmix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// Below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).expect("below sides")
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

/// A copy of `whole` with one to three damages.
pub fn damaged(whole: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=dice.roll(3) {
        damage_once(&mut bytes, dice);
    }
    bytes
}

/// The same of a text, which stays one.
pub fn damaged_text(whole: &str, dice: &mut Dice) -> String {
    String::from_utf8_lossy(&damaged(whole.as_bytes(), dice)).into_owned()
}

fn damage_once(bytes: &mut Vec<u8>, dice: &mut Dice) {
    if bytes.is_empty() {
        return bytes.push(*dice.pick(ODD_BYTES));
    }
    let at = dice.roll(bytes.len());
    let span = at..(at + 1 + dice.roll(SPAN_MAX)).min(bytes.len());
    match dice.roll(8) {
        0 => bytes[at] ^= 1 << dice.roll(8),
        1 => bytes[at] = *dice.pick(ODD_BYTES),
        2 => bytes.insert(at, *dice.pick(ODD_BYTES)),
        3 => drop(bytes.drain(span)),
        4 => {
            let copy = bytes[span.clone()].to_vec();
            bytes.splice(span.start..span.start, copy);
        }
        5 => {
            let moved: Vec<u8> = bytes.drain(span).collect();
            let to = dice.roll(bytes.len() + 1);
            bytes.splice(to..to, moved);
        }
        _ => replace_number(bytes, at, dice),
    }
}

/// The first number from `from` on.
fn replace_number(bytes: &mut Vec<u8>, from: usize, dice: &mut Dice) {
    let Some(start) = bytes[from..].iter().position(u8::is_ascii_digit).map(|n| from + n) else { return };
    let end = bytes[start..].iter().position(|b| !b.is_ascii_digit()).map_or(bytes.len(), |n| start + n);
    bytes.splice(start..end, dice.pick(ODD_NUMBERS).bytes());
}
