//! The decapsulator on the same corpus.

use lb_common::decap::{DecapClass, DecapReason};
use lb_laws::corpus::inputs;
use lb_userspace::decap::PROGRAMS;
use sluice_tests::rig::decap::{Kernel, on_host};
use sluice_tests::seeds::decap_here;

use super::bench::LENGTHS;

#[test]
fn kernel_and_host_agree_on_what_is_taken_apart() {
    let accepted = decap_here();
    let kernels = PROGRAMS.map(|program| Kernel::load(program, &accepted));
    let mut seen = [0; DecapReason::ALL.len()];
    for input in inputs("parse") {
        if !LENGTHS.contains(&input.bytes.len()) {
            continue;
        }
        let expected = on_host(&input.bytes, &accepted);
        seen[expected.counted[0] as usize] += 1;
        for kernel in &kernels {
            assert_eq!(kernel.run(&input.bytes), expected, "{}, {}", input.name, kernel.program);
        }
    }
    for reason in DecapReason::ALL {
        let wanted = *reason != DecapReason::DropInternal;
        assert!(!wanted || seen[*reason as usize] > 0, "no frame led to {}", reason.name());
    }
    assert!(DecapReason::ALL.iter().any(|reason| reason.class() == DecapClass::Decapsulate));
}
