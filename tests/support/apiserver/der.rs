//! As much of DER as it takes to read who a certificate or a request for one names, and with which key.

/// A subject and its key, as a certificate or a signing request has them.
#[derive(Debug, PartialEq)]
pub struct Named<'a> {
    pub common_name: String,
    pub organisations: Vec<String>,
    /// The contents of the key's AlgorithmIdentifier.
    pub key_algorithm: &'a [u8],
    pub key: &'a [u8],
}

/// A signing request, taken apart.
pub struct Request<'a> {
    pub named: Named<'a>,
    /// What is signed.
    pub info: &'a [u8],
    pub attributes: &'a [u8],
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

/// Takes the next element off `rest`: tag, contents, and the element as a whole.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8], &'a [u8])> {
    let all = *rest;
    let (tag, first) = (*all.first()?, usize::from(*all.get(1)?));
    let (length, head) = if first < 0x80 {
        (first, 2)
    } else {
        let bytes = all.get(2..2 + (first & 0x7f))?;
        (bytes.iter().try_fold(0usize, |n, b| n.checked_mul(256)?.checked_add(usize::from(*b)))?, 2 + bytes.len())
    };
    let whole = all.get(..head.checked_add(length)?)?;
    *rest = &all[whole.len()..];
    Some((tag, &whole[head..], whole))
}

/// The contents of the next element, which must have this tag.
fn expect<'a>(rest: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    next(rest).filter(|(found, _, _)| *found == tag).map(|(_, contents, _)| contents)
}

/// Whole bytes; the first says how many bits are unused, which is none in keys and signatures.
fn bits<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    expect(rest, BIT_STRING)?.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}

fn subject_and_key<'a>(mut subject: &'a [u8], mut key: &'a [u8]) -> Option<Named<'a>> {
    let (mut common_name, mut organisations) = (String::new(), Vec::new());
    while let Some(mut set) = expect(&mut subject, SET) {
        let mut pair = expect(&mut set, SEQUENCE)?;
        let kind = expect(&mut pair, OBJECT)?;
        let (_, text, _) = next(&mut pair)?;
        let text = String::from_utf8_lossy(text).into_owned();
        match kind {
            COMMON_NAME => common_name = text,
            ORGANISATION => organisations.push(text),
            _ => {}
        }
    }
    let key_algorithm = expect(&mut key, SEQUENCE)?;
    Some(Named { common_name, organisations, key_algorithm, key: bits(&mut key)? })
}

pub fn certificate(mut der: &[u8]) -> Option<Named<'_>> {
    let mut outer = expect(&mut der, SEQUENCE)?;
    let mut inner = expect(&mut outer, SEQUENCE)?;
    // Version, which old ones lack; then serial number, algorithm, issuer, validity.
    if inner.first() == Some(&0xa0) {
        next(&mut inner)?;
    }
    for _ in 0..4 {
        next(&mut inner)?;
    }
    let subject = expect(&mut inner, SEQUENCE)?;
    subject_and_key(subject, expect(&mut inner, SEQUENCE)?)
}

pub fn request(mut der: &[u8]) -> Option<Request<'_>> {
    let mut outer = expect(&mut der, SEQUENCE)?;
    let (_, mut inner, info) = next(&mut outer)?;
    next(&mut inner)?;
    let subject = expect(&mut inner, SEQUENCE)?;
    let named = subject_and_key(subject, expect(&mut inner, SEQUENCE)?)?;
    let signature_algorithm = expect(&mut outer, SEQUENCE)?;
    Some(Request { named, info, attributes: inner, signature_algorithm, signature: bits(&mut outer)? })
}
