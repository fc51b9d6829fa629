//! How far the verifier has to walk for the programs.

use std::io::{self, Write};

use sluice_tests::kernel::{release, told_since_5_16};

use super::bench::*;

/// Of the verifier's limit of a million instructions, over all ways through a program; other kernels walk further.
const MOST_WALKED: u32 = 500_000;

#[test]
fn the_verifier_walks_no_further_than_it_must() {
    for kernel in all() {
        let info = kernel.info();
        let walked = told_since_5_16(info.verified_instruction_count());
        let counts = format!(
            "Linux {}, {}: {walked:?} instructions verified, {} bytes of machine code\n",
            release(),
            kernel.program,
            info.size_jitted(),
        );
        // Not by a macro, whose output the test harness keeps back: the counts are to be seen.
        io::stderr().write_all(counts.as_bytes()).unwrap();
        let is_near = walked.is_some_and(|walked| walked > MOST_WALKED);
        assert!(!is_near, "{}: {walked:?} instructions, {MOST_WALKED} at most", kernel.program);
    }
}
