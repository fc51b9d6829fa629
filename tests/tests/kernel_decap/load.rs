//! How far the verifier has to walk for the programs.

use std::io::{self, Write};

use super::bench::*;

/// Of the verifier's limit of a million instructions, over all ways through a program; other kernels walk further.
const MOST_WALKED: u32 = 500_000;

#[test]
fn the_verifier_walks_no_further_than_it_must() {
    for kernel in all() {
        let info = kernel.info();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let walked = info.verified_instruction_count().expect("Linux 5.16 tells it");
        let counts = format!(
            "Linux {}, {}: {walked} instructions verified, {} bytes of machine code\n",
            release.trim(),
            kernel.program,
            info.size_jitted(),
        );
        // Not by a macro, whose output the test harness keeps back: the counts are to be seen.
        io::stderr().write_all(counts.as_bytes()).unwrap();
        assert!(walked <= MOST_WALKED, "{}: {walked} instructions, {MOST_WALKED} at most", kernel.program);
    }
}
