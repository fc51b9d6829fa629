//! Frames that were changed at random.

use etherparse::Ipv4Header;
use lb_common::decap::DecapReason;
use lb_laws::decap as laws;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::bench::*;

/// A valid frame: IP in IP, or GUE with and without surplus and checksum.
fn valid() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let gue = prop::option::weighted(0.6, (prop_oneof![3 => Just(0u8), 1 => 1u8..4], any::<bool>()));
    (any::<bool>(), any::<bool>(), 0u8..4, 0u8..4, gue).prop_map(
        |(outer_is_v6, inner_is_v6, ecn, inner_ecn, gue)| {
            let packet = inner(inner_is_v6, inner_ecn);
            let packet = match gue {
                Some((surplus, has_checksum)) => {
                    Gue { outer_is_v6, ecn, has_checksum, surplus }.around(&packet)
                }
                None => outer(outer_is_v6, &packet, ecn),
            };
            (outer_is_v6, frame(&packet))
        },
    )
}

/// Where a byte is changed.
#[derive(Debug, Clone, Copy)]
enum Place {
    Any(usize),
    /// What the program looks at in the headers before UDP and the inner packet: Ethertype, versions, lengths, protocols,
    /// fragments.
    Outer(usize),
    /// Behind the outer IP header, within the headers of UDP and GUE and of the inner packet.
    Behind(usize),
}

/// A valid frame, and what is done to it: bytes changed, cut, padded, tags added, and the outer checksum mended or not.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    const LOOKED_AT: [usize; 11] = [12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 23];
    const BEHIND: [usize; 20] = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19, 21, 37];
    let place = prop_oneof![
        1 => (0usize..140).prop_map(Place::Any),
        1 => prop::sample::select(&LOOKED_AT[..]).prop_map(Place::Outer),
        2 => prop::sample::select(&BEHIND[..]).prop_map(Place::Behind),
    ];
    let change = (place, prop_oneof![any::<u8>(), 0u8..4, Just(0x20)]);
    let tags = prop::sample::select(&TAGS[..]);
    (valid(), prop::collection::vec(change, 0..4), 0usize..40, 0usize..200, any::<bool>(), tags).prop_map(
        |((outer_is_v6, mut bytes), changes, padding, cut, mend, tags)| {
            for (place, value) in changes {
                let at = match place {
                    Place::Any(at) => at % bytes.len(),
                    Place::Outer(at) => at,
                    Place::Behind(at) => at + if outer_is_v6 { 54 } else { 34 },
                };
                bytes[at] = value;
            }
            if mend && !outer_is_v6 && Ipv4Header::from_slice(&bytes[14..]).is_ok() {
                mend_checksum(&mut bytes[14..]);
            }
            bytes.resize(bytes.len() + padding, 0xcc);
            let mut bytes = tagged(tags, &bytes);
            if cut < 60 {
                bytes.truncate(14 + cut);
            }
            bytes
        },
    )
}

#[test]
fn kernel_and_host_agree_on_any_frame() {
    let kernels = all();
    let mut seen = [0; DecapReason::ALL.len()];
    let mut runner = TestRunner::new(Config { cases: 2000, failure_persistence: None, ..Config::default() });
    let counts = std::cell::RefCell::new(&mut seen);
    runner
        .run(&mutated(), |bytes| {
            laws::check(&bytes);
            let expected = on_host(&bytes);
            counts.borrow_mut()[expected.counted[0] as usize] += 1;
            for kernel in &kernels {
                prop_assert_eq!(&kernel.run(&bytes), &expected);
            }
            Ok(())
        })
        .unwrap();
    // The frames reach every branch, or the test proves little.
    for reason in DecapReason::ALL {
        assert!(
            seen[*reason as usize] > 0 || *reason == DecapReason::DropInternal,
            "never {}",
            reason.name()
        );
    }
}
