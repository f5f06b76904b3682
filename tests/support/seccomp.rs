//! A kernel that lacks something, as the agent and all its children see it: a system-call filter that they inherit.
//!
//! Perl installs it, which every Debian has (perl-base is essential): a filter cannot be set by a test itself without
//! being its own for good.

use std::path::Path;

/// One instruction of classic BPF: operation, jump if true, jump if false, operand.
type Instruction = (u16, u8, u8, u32);

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const FAIL_WITH: u32 = 0x0005_0000;
/// struct seccomp_data: the call's number, the architecture, then six arguments of 8 bytes each.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;
const AF_NETLINK: u32 = 16;
const NETLINK_NETFILTER: u32 = 12;
const EPROTONOSUPPORT: u32 = 93;

/// AUDIT_ARCH, socket(2), prctl(2).
const MACHINE: (u32, u32, u32) =
    if cfg!(target_arch = "aarch64") { (0xc000_00b7, 198, 167) } else { (0xc000_003e, 41, 157) };

/// `Setup::shell` for a node without nf_tables: its socket is refused as a kernel without it does.
pub fn without_nf_tables(dir: &Path) -> String {
    let (architecture, socket, prctl) = MACHINE;
    let must_be = |field: u32, value: u32, otherwise: u8| -> [Instruction; 2] {
        [(LOAD_WORD, 0, 0, field), (JUMP_IF_EQUAL, 0, otherwise, value)]
    };
    let program = [
        &must_be(ARCHITECTURE, architecture, 7)[..],
        &must_be(NUMBER, socket, 5),
        &must_be(ARGUMENTS, AF_NETLINK, 3),
        &must_be(ARGUMENTS + 16, NETLINK_NETFILTER, 1),
        &[(RETURN, 0, 0, FAIL_WITH | EPROTONOSUPPORT), (RETURN, 0, 0, ALLOW)],
    ]
    .concat();
    let file = dir.join("filter.bpf");
    let bytes: Vec<u8> = program
        .iter()
        .flat_map(|(operation, yes, no, operand)| {
            [&operation.to_ne_bytes()[..], &[*yes, *no], &operand.to_ne_bytes()].concat()
        })
        .collect();
    std::fs::write(&file, bytes).expect("a fresh file");
    // prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &struct sock_fprog)
    let perl = format!(
        "open(F, \"<:raw\", shift) or die; local $/; $filter = <F>; \
         syscall({prctl}, 22, 2, pack(\"S x6 P\", length($filter) / 8, $filter)) == 0 or die \"seccomp: $!\"; \
         exec(@ARGV) or die"
    );
    format!("exec perl -e '{perl}' {} \"$@\"", file.display())
}
