//! The kernel that the tests run on, as some can do less than others.

use std::fs;

/// As `uname -r` says it.
///
/// # Panics
/// Without `/proc`.
pub fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel tells its version");
    release.trim().to_owned()
}

/// Whether it is older than this version of Linux.
///
/// # Panics
/// When its own version has no two numbers.
pub fn is_before(version: (u32, u32)) -> bool {
    let release = release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) < version,
        _ => panic!("{release} is no version of Linux"),
    }
}

/// Whether it is older than the version that has something, which is told: for a test of that alone, which has nothing to look at then.
///
/// # Panics
/// As [`is_before`].
pub fn lacks(what: &str, since: (u32, u32)) -> bool {
    let lacks = is_before(since);
    if lacks {
        println!("Linux {} has no {what}: that came with {}.{}", release(), since.0, since.1);
    }
    lacks
}

/// Frames in several pieces, and what looks into them: `xdp.frags` and `bpf_xdp_load_bytes`.
pub const PIECES: (u32, u32) = (5, 18);

/// How many times slower than another the machine is taken to be: 6 where QEMU emulates its processor, else 1. Loads are to be smaller by it, and
/// times longer: a flow whose packets wait for longer than its timeout has no pin any more, as it should.
pub fn slowness() -> u32 {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    if processors.contains("QEMU TCG") { 6 } else { 1 }
}

/// How far the verifier walked for a program: Linux 5.16 and later tell it, and no other may fail to.
///
/// # Panics
/// When it is not told by a kernel that should.
pub fn told_since_5_16(walked: Option<u32>) -> Option<u32> {
    assert!(walked.is_some() || is_before((5, 16)), "{} tells not how far it walked", release());
    walked
}
