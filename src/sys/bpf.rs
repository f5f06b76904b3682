//! The device allow-list of a v2 cgroup: a BPF program of a few instructions, made and attached by bpf(2) alone.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
/// Programs of parents and of others stay in force: all of them must allow.
const BPF_F_ALLOW_MULTI: u32 = 2;

pub const MKNOD: u32 = 1;
pub const READ: u32 = 2;
pub const WRITE: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    Block = 1,
    Char = 2,
}

/// One line of the list; `None` is any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

const RESULT: u8 = 0;
/// At first the context (access and type in one word, major, minor), then free.
const CONTEXT: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// Whatever no rule allows is denied.
fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0),
        instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(MOVE_REGISTER, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    ];
    for rule in rules {
        let beyond = !i32::try_from(rule.access).unwrap_or(0);
        let mut block = vec![
            instruction(JUMP_IF_NOT_EQUAL, KIND, 0, 0, rule.kind as i32),
            instruction(MOVE_REGISTER, CONTEXT, ACCESS, 0, 0),
            instruction(AND, CONTEXT, 0, 0, beyond),
            instruction(JUMP_IF_NOT_EQUAL, CONTEXT, 0, 0, 0),
        ];
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            if let Some(number) = number {
                let number = i32::try_from(number).unwrap_or(i32::MAX);
                block.push(instruction(JUMP_IF_NOT_EQUAL, register, 0, 0, number));
            }
        }
        block.push(instruction(MOVE, RESULT, 0, 0, 1));
        block.push(instruction(EXIT, 0, 0, 0, 0));
        let end = block.len();
        for (at, step) in block.iter_mut().enumerate().filter(|(_, step)| step.code == JUMP_IF_NOT_EQUAL) {
            // Relative to the next instruction; a block has nine at most.
            step.offset = i16::try_from(end - at - 1).unwrap_or(0);
        }
        program.extend(block);
    }
    program.push(instruction(MOVE, RESULT, 0, 0, 0));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Puts the list in force for the cgroup whose directory `cgroup` is, and for all below it, until it is removed.
pub fn allow_devices(cgroup: impl AsFd, rules: &[DeviceRule]) -> io::Result<()> {
    let program = assemble(rules);
    let load = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_count: u32::try_from(program.len()).map_err(io::Error::other)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    // SAFETY: `load` points at `program` and at a static string, which outlive the call.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &load) }?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    let loaded = unsafe { OwnedFd::from_raw_fd(fd) };
    let attach = AttachAttr {
        target_fd: cgroup.as_fd().as_raw_fd().unsigned_abs(),
        attach_bpf_fd: loaded.as_raw_fd().unsigned_abs(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: plain numbers only.
    unsafe { bpf(BPF_PROG_ATTACH, &attach) }.map(drop)
}

/// # Safety
/// `attr` must be what `command` expects, with valid pointers.
unsafe fn bpf<T>(command: libc::c_int, attr: &T) -> io::Result<libc::c_int> {
    // SAFETY: the attributes are valid for their size, by the contract above.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *const T, size_of::<T>()) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { libc::c_int::try_from(rc).map_err(io::Error::other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_jump_of_a_rule_lands_behind_it() {
        let any_block = DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: MKNOD };
        let null = DeviceRule { kind: DeviceKind::Char, major: Some(1), minor: Some(3), access: MKNOD | READ | WRITE };
        let program = assemble(&[any_block, null]);
        let targets: Vec<usize> = program
            .iter()
            .enumerate()
            .filter(|(_, step)| step.code == JUMP_IF_NOT_EQUAL)
            .map(|(at, step)| at + 1 + usize::try_from(step.offset).unwrap())
            .collect();
        assert_eq!(targets, [12, 12, 20, 20, 20, 20]);
        assert_eq!(program.len(), 22);
    }
}
