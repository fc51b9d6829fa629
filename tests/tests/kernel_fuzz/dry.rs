//! Dry runs say what the data path then does, and change nothing.

use lb_common::layout::Side;
use lb_common::parse::Signal;
use lb_laws::corpus::inputs;
use lb_laws::parse::turns;
use sluice_tests::seeds;

use super::bench::{Bench, LENGTHS, PINS};

/// Packets that are compared, at least.
const MANY: usize = 10_000;

/// All seeds and all that fuzzing found, with their twins of other flags.
fn frames() -> Vec<Vec<u8>> {
    let found = inputs("parse").into_iter().map(|input| input.bytes);
    let frames = found.chain(seeds::frames().into_iter().map(|(_, bytes)| bytes));
    let frames = frames.filter(|frame| LENGTHS.contains(&frame.len()));
    frames.flat_map(|frame| turns(&frame)).filter(|frame| LENGTHS.contains(&frame.len())).collect()
}

/// Verdict, bytes and reason: each frame by a dry run first, then by the programs for traffic, on the same pins; in a site at rest, then in
/// one where each service is in a state of its own, with the pins from before, and later.
#[test]
fn the_kernel_does_what_a_dry_run_said() {
    let frames = frames();
    let mut bench = Bench::new(PINS);
    let (calm, stirred) = (bench.calm.clone(), bench.stirred.clone());
    let mut compared = 0;
    for (site, seconds) in [(&calm, 0), (&stirred, 5), (&stirred, 31)] {
        bench.publish(site);
        bench.pass(seconds);
        for frame in &frames {
            bench.compare_foreseen(frame).unwrap_or_else(|differs| panic!("{differs}"));
            compared += 1;
        }
    }
    assert!(compared >= MANY, "{compared} packets");
    let forwarded = bench.forwarded();
    assert!(forwarded > 0.25, "{forwarded} of the frames came to a backend");
}

/// Also of the packets that begin and end flows, of fragments and of those that are answered, with pins of them there and without.
#[test]
fn a_dry_run_changes_nothing() {
    let frames = frames();
    let mut bench = Bench::new(PINS / 10);
    let (calm, stirred) = (bench.calm.clone(), bench.stirred.clone());
    let mut signals = [0; 8];
    for site in [&calm, &stirred] {
        bench.publish(site);
        // Every third frame leaves its pin.
        for frame in frames.iter().step_by(3) {
            bench.compare(frame).unwrap_or_else(|differs| panic!("{differs}"));
        }
        bench.pass(2);
        let before = bench.dump();
        for frame in &frames {
            let run = bench.foresee(frame);
            if run.record.side == Side::Client as u8 {
                signals[usize::from(run.record.signal)] += 1;
            }
        }
        let after = bench.dump();
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (number, (name, elements)) in &before {
            let changed = after[number].1.iter().filter(|(key, value)| elements.get(*key) != Some(value));
            let changed: Vec<&Vec<u8>> = changed.map(|(key, _)| key).collect();
            assert!(changed.is_empty(), "{name} changed at {changed:02x?}");
            assert_eq!(elements.len(), after[number].1.len(), "{name} lost elements");
        }
        bench.check_others();
        // As a packet does.
        bench.compare(&frames[0]).unwrap_or_else(|differs| panic!("{differs}"));
        assert_ne!(bench.dump(), after, "what is compared does not show a packet");
    }
    for signal in [Signal::Syn, Signal::Ack, Signal::Fin, Signal::Rst, Signal::Datagram, Signal::Stray] {
        assert!(signals[signal as usize] > 20, "{signal:?}: {}", signals[signal as usize]);
    }
}
