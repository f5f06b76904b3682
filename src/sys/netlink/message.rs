//! The bytes of netlink: headers, attributes, nesting; and answers taken apart again.

use super::NetlinkError;

const HEADER: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
/// The bits of an attribute's kind that say "nested" and "big-endian".
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = libc::NLA_F_NESTED as u16;

/// A message in the making: the header is left out until [`Message::finish`].
#[derive(Clone, Debug)]
pub(super) struct Message {
    kind: u16,
    flags: libc::c_int,
    payload: Vec<u8>,
}

impl Message {
    /// `fixed` is the family's own header, such as an ifinfomsg.
    pub fn new(kind: u16, flags: libc::c_int, fixed: &[u8]) -> Message {
        let mut message = Message { kind, flags, payload: fixed.to_vec() };
        message.pad();
        message
    }

    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).expect("an attribute of ours is short");
        self.payload.extend_from_slice(&length.to_ne_bytes());
        self.payload.extend_from_slice(&kind.to_ne_bytes());
        self.payload.extend_from_slice(value);
        self.pad();
        self
    }

    pub fn u32(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// As nf_tables has its numbers.
    pub fn be32(self, kind: u16, value: u32) -> Message {
        self.attribute(kind, &value.to_be_bytes())
    }

    /// With the NUL that the kernel expects.
    pub fn text(self, kind: u16, value: &str) -> Message {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// An attribute that holds what `fill` adds.
    pub fn nest(mut self, kind: u16, fill: impl FnOnce(Message) -> Message) -> Message {
        let at = self.payload.len();
        self.payload.extend_from_slice(&[0; ATTRIBUTE_HEADER]);
        let mut filled = fill(self);
        let length = u16::try_from(filled.payload.len() - at).expect("an attribute of ours is short");
        filled.payload[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        filled.payload[at + 2..at + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        filled
    }

    /// Plain bytes inside a nest, such as the ifinfomsg of a veth's other end.
    pub fn raw(mut self, bytes: &[u8]) -> Message {
        self.payload.extend_from_slice(bytes);
        self.pad();
        self
    }

    pub fn finish(self, sequence: u32, flags: libc::c_int) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.payload.len()).expect("a message of ours is short");
        let flags = u16::try_from(self.flags | flags).expect("flags are 16 bits");
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        // The kernel knows our port.
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    fn pad(&mut self) {
        self.payload.resize(self.payload.len().next_multiple_of(4), 0);
    }
}

/// One message of the kernel.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub kind: u16,
    pub sequence: u32,
    flags: u16,
    pub payload: Vec<u8>,
}

impl Answer {
    /// How it went, if the message says so; `None` for one that carries what was asked for.
    pub fn outcome(&self) -> Option<Result<(), NetlinkError>> {
        let kind = libc::c_int::from(self.kind);
        if kind != libc::NLMSG_ERROR && kind != libc::NLMSG_DONE {
            return None;
        }
        let Some(errno) = i32_at(&self.payload, 0) else { return Some(Err(NetlinkError::Malformed)) };
        if errno == 0 {
            return Some(Ok(()));
        }
        Some(Err(NetlinkError::Refused { errno: errno.wrapping_neg(), reason: self.reason() }))
    }

    /// The extended acknowledgement's text: after the errno and the header of what we sent (NETLINK_CAP_ACK).
    fn reason(&self) -> String {
        const MESSAGE: u16 = 1;
        let rest = self.payload.get(4 + HEADER..).unwrap_or_default();
        let text = attributes(rest).find(|(kind, _)| *kind == MESSAGE).map(|(_, value)| text_of(value));
        text.unwrap_or_default()
    }

    pub fn interrupted(&self) -> bool {
        libc::c_int::from(self.flags) & libc::NLM_F_DUMP_INTR != 0
    }
}

/// The messages of one received piece.
pub(super) struct Answers<'a> {
    rest: &'a [u8],
}

impl Answers<'_> {
    pub fn of(bytes: &[u8]) -> Answers<'_> {
        Answers { rest: bytes }
    }
}

impl Iterator for Answers<'_> {
    type Item = Result<Answer, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let answer = take(self.rest);
        match answer {
            Some((answer, rest)) => {
                self.rest = rest;
                Some(Ok(answer))
            }
            None => {
                self.rest = &[];
                Some(Err(NetlinkError::Malformed))
            }
        }
    }
}

fn take(bytes: &[u8]) -> Option<(Answer, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let payload = bytes.get(HEADER..length)?.to_vec();
    let answer = Answer { kind: u16_at(bytes, 4)?, flags: u16_at(bytes, 6)?, sequence: u32_at(bytes, 8)?, payload };
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((answer, rest))
}

/// The attributes of `bytes`, up to the first that does not fit.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & KIND_MASK;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Up to its NUL.
pub(super) fn text_of(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_read_back() {
        let message = Message::new(7, 0, &[1, 2, 3, 4]).text(1, "ab").nest(2, |m| m.u32(3, 5).be32(4, 6));
        let bytes = message.finish(9, libc::NLM_F_REQUEST);
        assert_eq!(bytes.len() % 4, 0);
        let answers: Vec<Answer> = Answers::of(&bytes).map(|a| a.expect("whole")).collect();
        assert_eq!((answers.len(), answers[0].kind, answers[0].sequence), (1, 7, 9));
        let found: Vec<(u16, &[u8])> = attributes(&answers[0].payload[4..]).collect();
        assert_eq!(found[0], (1, &b"ab\0"[..]));
        assert_eq!(found[1].0, 2);
        let inner: Vec<(u16, &[u8])> = attributes(found[1].1).collect();
        assert_eq!(inner, [(3, &5u32.to_ne_bytes()[..]), (4, &6u32.to_be_bytes()[..])]);
    }

    #[test]
    fn cut_or_senseless_bytes_never_panic() {
        let whole = Message::new(7, 0, &[0; 16]).text(1, "abc").finish(1, 0);
        for length in 0..whole.len() {
            for answer in Answers::of(&whole[..length]) {
                assert!(answer.is_err());
            }
        }
        for byte in [0u8, 1, 0xff] {
            let senseless = vec![byte; 40];
            assert!(Answers::of(&senseless).count() <= 40);
            assert!(attributes(&senseless).count() <= 40);
        }
    }

    #[test]
    fn a_refusal_carries_the_kernels_words() {
        let mut payload = (-libc::EEXIST).to_ne_bytes().to_vec();
        payload.extend_from_slice(&[0; HEADER]);
        payload.extend_from_slice(&Message::new(0, 0, &[]).text(1, "no such thing").payload);
        let answer = Answer { kind: libc::NLMSG_ERROR as u16, sequence: 1, flags: 0, payload };
        let error = answer.outcome().expect("an outcome").expect_err("refused");
        assert!(error.already_exists() && !error.is_missing());
        assert!(error.to_string().starts_with("no such thing: "), "{error}");
    }
}
