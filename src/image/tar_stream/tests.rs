//! Headers, extensions and damage.

#![cfg(test)]

use super::extensions::pax_time;
use super::fields::number;
use super::*;
use crate::image::fixture::{self, Member as Given};
use std::io::Cursor;

fn members(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, TarError> {
    let mut tar = TarReader::stream(bytes);
    let mut all = Vec::new();
    while let Some(member) = tar.next_member()? {
        let mut data = Vec::new();
        tar.read_to_end(&mut data).map_err(read_error)?;
        all.push((member, data));
    }
    Ok(all)
}

/// Gives the header at `start` the checksum that its bytes have.
fn sign(bytes: &mut [u8], start: usize) {
    let header = bytes[start..start + 512].iter().enumerate();
    let sum: u32 = header.map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
    bytes[start + 148..start + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn plain_headers_long_names_and_pax_records_are_read() {
    let long = "d/".repeat(120) + "file";
    let bytes = fixture::tar(&[
        Given::file("a", b"hello").owner(1000, 100).mode(0o4755),
        Given::file(&long, &[7; 1025]),
        Given::symlink("s", &long),
        Given::char_device("dev/null", 1, 3),
        Given::file("short", b"")
            .pax("path", "ü/x".as_bytes())
            .pax("uid", b"3000000")
            .pax("mtime", b"-1.25")
            .pax("atime", b"junk that nobody reads")
            .xattr("security.capability", b"\x01\0\0\x02\n=\n\0"),
    ]);
    let all = members(&bytes).unwrap();
    assert_eq!((all[0].0.mode, all[0].0.uid, all[0].0.gid, all[0].1.as_slice()), (0o4755, 1000, 100, &b"hello"[..]));
    assert_eq!((all[1].0.name.as_slice(), all[1].1.len()), (long.as_bytes(), 1025));
    assert_eq!((all[2].0.kind, all[2].0.link.as_slice()), (MemberKind::Symlink, long.as_bytes()));
    assert_eq!((all[3].0.kind, all[3].0.major, all[3].0.minor), (MemberKind::CharDevice, 1, 3));
    let last = &all[4].0;
    assert_eq!((last.name.as_slice(), last.uid), ("ü/x".as_bytes(), 3_000_000));
    assert_eq!(last.mtime, Timestamp { seconds: -2, nanos: 750_000_000 });
    assert_eq!(last.xattrs, [(b"security.capability".to_vec(), b"\x01\0\0\x02\n=\n\0".to_vec())]);
}

#[test]
fn a_binary_value_can_not_pretend_to_be_another_record() {
    let bytes = fixture::tar(&[Given::file("good", b"x").xattr("user.x", b"\n20 path=../../evil\n12 size=99\n")]);
    let all = members(&bytes).unwrap();
    assert_eq!((all[0].0.name.as_slice(), all[0].1.as_slice()), (&b"good"[..], &b"x"[..]));
}

#[test]
fn a_pax_size_wins_over_the_headers_and_the_next_member_is_found() {
    let mut bytes = fixture::tar(&[Given::file("big", &[1; 600]).pax("size", b"600"), Given::file("next", b"n")]);
    // As Go writes a size that is too large for the field: zero.
    bytes[1024 + 124..1024 + 136].fill(b'0');
    sign(&mut bytes, 1024);
    let all = members(&bytes).unwrap();
    assert_eq!((all[0].0.size, all[0].1.len(), all[1].0.name.as_slice()), (600, 600, &b"next"[..]));
}

#[test]
fn global_records_are_skipped_and_apply_to_nothing() {
    let global = Given { data: b"11 path=zz\n".to_vec(), ..Given::of_type("pax_global_header", b'g') };
    let all = members(&fixture::tar(&[global, Given::file("a", b"")])).unwrap();
    assert_eq!((all.len(), all[0].0.name.as_slice()), (1, &b"a"[..]));
}

#[test]
fn old_directories_end_in_a_slash_and_links_have_no_data() {
    let all = members(&fixture::tar(&[Given::file("d/", b"odd"), Given::hard_link("l", "a"), Given::file("a", b"1")]));
    let kinds: Vec<MemberKind> = all.unwrap().iter().map(|(m, _)| m.kind).collect();
    assert_eq!(kinds, [MemberKind::Directory, MemberKind::HardLink, MemberKind::File]);
}

#[test]
fn numbers_are_octal_or_binary_and_may_be_negative() {
    let mut huge = [0xffu8; 12];
    assert_eq!(number(&huge), Some(-1));
    huge[0] = 0x80;
    assert_eq!(number(&huge), None);
    assert_eq!(number(b"\x80\0\0\0\0\0\x01\0"), Some(256));
    assert_eq!(number(b"0000644\0"), Some(0o644));
    assert_eq!(number(b"  644 \0\0"), Some(0o644));
    assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
    assert_eq!(number(b"00009\0\0\0"), None);
    assert_eq!(pax_time(b"5.1234567891"), Some(Timestamp { seconds: 5, nanos: 123_456_789 }));
    assert_eq!(pax_time(b"-0.5"), Some(Timestamp { seconds: -1, nanos: 500_000_000 }));
    assert_eq!(pax_time(b"1.x"), None);
}

#[test]
fn offsets_lead_to_the_data_of_a_file() {
    let bytes = fixture::tar(&[Given::file("a", &[1; 513]).pax("uid", b"1"), Given::file("b", b"second")]);
    let mut tar = TarReader::seekable(Cursor::new(&bytes));
    tar.next_member().unwrap();
    let second = tar.next_member().unwrap().unwrap();
    let start = usize::try_from(second.offset).unwrap();
    assert_eq!(&bytes[start..start + 6], b"second");
    assert!(tar.next_member().unwrap().is_none());
}

#[test]
fn a_sparse_file_gives_its_map_and_only_its_pieces() {
    let mut gnu = tar::Header::new_gnu();
    gnu.set_entry_type(tar::EntryType::GNUSparse);
    gnu.set_size(3);
    let fields = gnu.as_gnu_mut().unwrap();
    fields.name[0] = b'h';
    fields.set_real_size(5000);
    fields.sparse[0].set_offset(0);
    fields.sparse[0].set_length(1);
    fields.sparse[1].set_offset(4096);
    fields.sparse[1].set_length(2);
    gnu.set_mode(0o600);
    gnu.set_uid(0);
    gnu.set_gid(0);
    gnu.set_mtime(0);
    gnu.set_cksum();
    let mut bytes = gnu.as_bytes().to_vec();
    bytes.extend(b"abc");
    bytes.resize(1024, 0);
    bytes.extend(fixture::tar(&[Given::file("next", b"")]));
    let all = members(&bytes).unwrap();
    assert_eq!((all[0].0.size, all[0].1.as_slice()), (5000, &b"abc"[..]));
    assert_eq!(all[0].0.sparse, Some(vec![(0, 1), (4096, 2)]));
    assert_eq!(all[1].0.name, b"next");
    let pax = fixture::tar(&[Given::file("p", b"x").pax("GNU.sparse.major", b"1")]);
    assert_eq!(members(&pax).unwrap_err().to_string(), "p: sparse file in pax form is not supported");
}

#[test]
fn an_archive_may_end_without_filling_and_without_blocks_of_zeros() {
    let bytes = fixture::tar(&[Given::file("a", b"first"), Given::file("b", b"second")]);
    let end = bytes.len() - 1024;
    for cut in [end, end - 100, end - 512 + 6] {
        let all = members(&bytes[..cut]).unwrap();
        assert_eq!((all.len(), all[1].1.as_slice()), (2, &b"second"[..]), "{cut}");
    }
    assert!(matches!(members(&bytes[..end - 512 + 5]), Err(TarError::Truncated)));
}

#[test]
fn what_is_no_tar_is_told_from_a_damaged_one() {
    assert!(matches!(members(b"hello, this is a text\n"), Err(TarError::NotTar)));
    assert!(matches!(members(&[b'x'; 2048]), Err(TarError::NotTar)));
    assert!(members(b"").unwrap().is_empty());
    let mut bytes = fixture::tar(&[Given::file("a", b"1"), Given::file("b", b"2")]);
    bytes[1024 + 3] ^= 1;
    assert!(matches!(members(&bytes), Err(TarError::Damaged("checksum"))));
}

#[test]
fn extension_headers_and_names_are_bounded() {
    let long = Given { data: vec![b'a'; 2 << 20], ..Given::of_type("././@LongLink", b'L') };
    assert!(matches!(members(&fixture::tar(&[long])), Err(TarError::ExtensionTooLong(_))));
    let name = "a".repeat(5000);
    assert!(matches!(members(&fixture::tar(&[Given::file(&name, b"")])), Err(TarError::NameTooLong(5000))));
    let unknown = members(&fixture::tar(&[Given::of_type("v", b'V')])).unwrap_err();
    assert_eq!(unknown.to_string(), "v: tar member of type 'V' is not supported");
}

#[test]
fn damage_of_any_one_byte_and_any_truncation_never_panics() {
    let bytes = fixture::tar(&[
        Given::file("a", b"hello").xattr("user.a", b"b").pax("mtime", b"1.5"),
        Given::symlink(&"s".repeat(200), &"t".repeat(200)),
        Given::char_device("c", 1, 2),
    ]);
    for cut in 0..bytes.len() {
        let _ = members(&bytes[..cut]);
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
        let _ = members(&damaged);
        // With a right checksum the fields themselves are reached.
        sign(&mut damaged, at / 512 * 512);
        let _ = members(&damaged);
        let mut seekable = TarReader::seekable(Cursor::new(&damaged));
        while let Ok(Some(_)) = seekable.next_member() {}
    }
}
