//! Whole frames that were cut, flipped and spliced at random.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;

use lb_laws::corpus;
use lb_laws::wire::{mend_checksum, tags};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestError, TestRunner};
use sluice_tests::seeds::{self, PACKETS};

use super::bench::{Bench, LENGTHS};

const CASES: u32 = 1200;
/// Pins that there is room for: a case has seven flows at most.
const FEW: u32 = 1024;

/// What is done to a frame.
#[derive(Debug, Clone)]
enum Step {
    /// Cut to this share of its length, in 256ths.
    Cut(u8),
    /// One bit, at this place of 2¹⁶.
    Flip(u16, u8),
    /// One byte within the headers.
    Set(u8, u8),
    /// Bytes added.
    Pad(u8),
    /// The end of another frame, from the same offset on.
    Splice(prop::sample::Index, u8),
    /// The length in the IP header follows the frame's.
    MendLength,
    /// The checksum of the IPv4 header is made right.
    MendChecksum,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => any::<u8>().prop_map(Step::Cut),
        3 => (any::<u16>(), 0u8..8).prop_map(|(at, bit)| Step::Flip(at, bit)),
        4 => (12u8..80, any::<u8>()).prop_map(|(at, value)| Step::Set(at, value)),
        1 => any::<u8>().prop_map(Step::Pad),
        3 => (any::<prop::sample::Index>(), 12u8..80).prop_map(|(other, at)| Step::Splice(other, at)),
        2 => Just(Step::MendLength),
    ];
    // Most get right checksums in the end: else next to no IPv4 packet that was changed came to a service.
    let mended = prop::bool::weighted(0.9);
    let changes = (prop::collection::vec(step, 1..4), mended).prop_map(|(mut steps, is_mended)| {
        steps.extend(is_mended.then_some(Step::MendChecksum));
        steps
    });
    prop_oneof![Just(Vec::new()), changes]
}

fn change(mut frame: Vec<u8>, step: &Step, all: &[seeds::Seed]) -> Vec<u8> {
    match *step {
        Step::Cut(share) => frame.truncate(frame.len() * usize::from(share) / 256),
        Step::Flip(at, bit) if !frame.is_empty() => {
            let at = usize::from(at) * frame.len() / (1 << 16);
            frame[at] ^= 1 << bit;
        }
        Step::Set(at, value) => {
            if let Some(byte) = frame.get_mut(usize::from(at)) {
                *byte = value;
            }
        }
        Step::Pad(count) => frame.extend(std::iter::repeat_n(count, count.into())),
        Step::Splice(ref other, at) => {
            let (_, other) = other.get(all);
            frame.truncate(at.into());
            frame.extend(other.iter().skip(frame.len()));
        }
        Step::MendLength => {
            if let Some(ip) = ip_of(&mut frame)
                && ip.len() >= 40
            {
                let (at, len) = if ip[0] >> 4 == 6 { (4, ip.len() - 40) } else { (2, ip.len()) };
                ip[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
            }
        }
        Step::MendChecksum => {
            if let Some(ip) = ip_of(&mut frame) {
                mend_checksum(ip);
            }
        }
        Step::Flip(..) => {}
    }
    frame.resize(frame.len().clamp(*LENGTHS.start(), *LENGTHS.end()), 0);
    frame
}

/// What lies behind the Ethernet header and its tags.
fn ip_of(frame: &mut [u8]) -> Option<&mut [u8]> {
    let offset = 14 + tags(frame);
    frame.get_mut(offset..)
}

/// A frame that once differed is found again with the seed in `proptest-regressions`, and its bytes are kept for fuzzing, too.
fn keep(turns: &[Turn]) -> Vec<PathBuf> {
    let folder = corpus::folder().join("kept/parse");
    fs::create_dir_all(&folder).expect("the folder can be made");
    let mut paths = Vec::new();
    for Turn { frame, .. } in turns {
        let hash = frame.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let path = folder.join(format!("differed-{hash:016x}"));
        fs::write(&path, frame).expect("the frame can be written");
        paths.push(path);
    }
    paths
}

/// One of the packets of a case, which belong to one flow of a service unless they are changed.
#[derive(Debug, Clone)]
struct Turn {
    frame: Vec<u8>,
    is_changed: bool,
    is_twice: bool,
    /// Seconds that pass before it.
    seconds: u32,
}

fn turns(all: &[seeds::Seed]) -> impl Strategy<Value = Vec<Turn>> + use<> {
    let all = all.to_vec();
    let seconds = prop::sample::select(&[0, 0, 1, 5, 6, 31][..]);
    let turn = (any::<prop::sample::Index>(), steps(), any::<bool>(), seconds);
    (any::<prop::sample::Index>(), prop::collection::vec(turn, 1..8)).prop_map(move |(flow, turns)| {
        // The seeds of a flow lie side by side.
        let flow = flow.index(all.len() / PACKETS) * PACKETS;
        let turn = |(packet, steps, is_twice, seconds): (prop::sample::Index, Vec<Step>, _, _)| {
            let (_, frame) = packet.get(&all[flow..flow + PACKETS]);
            let frame = steps.iter().fold(frame.clone(), |frame, step| change(frame, step, &all));
            Turn { frame, is_changed: !steps.is_empty(), is_twice, seconds }
        };
        turns.into_iter().map(turn).collect()
    })
}

#[test]
fn kernel_and_host_agree_on_changed_frames() {
    let turns = turns(&seeds::frames());
    let mut bench = Bench::new(FEW);
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel_fuzz/regressions.txt");
    for site in [bench.calm.clone(), bench.stirred.clone()] {
        bench.publish(&site);
        let mut runner = TestRunner::new(Config {
            cases: CASES / 2,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
            ..Config::default()
        });
        let shared = RefCell::new(&mut bench);
        let result = runner.run(&turns, |turns| play(&mut shared.borrow_mut(), &turns));
        match result {
            Err(TestError::Fail(reason, turns)) => panic!("{reason}\nkept in {:?}", keep(&turns)),
            result => result.expect("the cases run"),
        }
    }
    bench.end_all();
    let forwarded = bench.forwarded();
    assert!(forwarded > 1.0 / 3.0, "{forwarded} of the frames came to a backend");
}

fn play(bench: &mut Bench, turns: &[Turn]) -> Result<(), TestCaseError> {
    // Else a case would depend on those before it, and could not be made smaller.
    bench.end_all();
    // A flow may take the word of another that has ended, which the model knows nothing of.
    let longest = if turns.iter().any(|turn| turn.is_changed) { 3 } else { u32::MAX };
    for Turn { frame, is_twice, seconds, .. } in turns {
        bench.pass(*seconds.min(&longest));
        for _ in 0..=u8::from(*is_twice) {
            bench.compare_foreseen(frame).map_err(TestCaseError::fail)?;
        }
    }
    Ok(())
}
