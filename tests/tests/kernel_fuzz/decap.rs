//! The decapsulator on the same corpus.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lb_common::decap::{DecapReason, GUE_PORT, decapsulate};
use lb_laws::corpus::inputs;
use lb_userspace::decap::PROGRAMS;
use sluice_tests::rig::decap::{Kernel, on_host};
use sluice_tests::seeds::{Seed, encapsulated};

use super::bench::LENGTHS;

/// Where a frame would be taken apart if it were for here.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let mut destination = None;
    let _ = decapsulate(&mut frame.to_vec(), GUE_PORT, |[upper, lower]| {
        let bytes = [upper.to_ne_bytes(), lower.to_ne_bytes()].concat();
        let bytes: [u8; 16] = bytes.try_into().expect("an address has 16 bytes");
        destination = Some(IpAddr::from(bytes).to_canonical());
        false
    });
    destination
}

#[test]
fn kernel_and_host_agree_on_what_is_taken_apart() {
    let mut frames: Vec<Seed> =
        inputs("parse").into_iter().map(|input| (input.name, input.bytes)).chain(encapsulated()).collect();
    frames.retain(|(_, frame)| LENGTHS.contains(&frame.len()));
    // All but a few are for here.
    let destinations: BTreeSet<IpAddr> = frames.iter().filter_map(|(_, frame)| destination(frame)).collect();
    let (foreign, accepted): (Vec<_>, Vec<_>) =
        (0..).zip(destinations).partition(|(number, _)| number % 8 == 7);
    assert!(!foreign.is_empty() && accepted.len() > 8);
    let accepted: Vec<IpAddr> = accepted.into_iter().map(|(_, address)| address).collect();
    let kernels = PROGRAMS.map(|program| Kernel::load(program, &accepted));
    let mut seen = [0; DecapReason::ALL.len()];
    for (name, frame) in frames {
        lb_laws::decap::check(&frame);
        let expected = on_host(&frame, &accepted);
        seen[expected.counted[0] as usize] += 1;
        for kernel in &kernels {
            assert_eq!(kernel.run(&frame), expected, "{name}, {}", kernel.program);
        }
    }
    for reason in DecapReason::ALL {
        let wanted = *reason != DecapReason::DropInternal;
        assert!(!wanted || seen[*reason as usize] > 0, "no frame led to {}", reason.name());
    }
}
