//! The corpus of the fuzz target `parse`.

use lb_common::reason::Reason;
use lb_laws::corpus::inputs;
use lb_laws::parse::{turns, whole};

use super::bench::{Bench, LENGTHS, PINS};

/// Reasons that no frame of the corpus can lead to: there is always room for pins, the kernel refuses nothing and has no routes, and
/// any number of packets is answered.
const OUT_OF_REACH: [Reason; 8] = [
    Reason::PassUnhandled,
    Reason::ForwardReply,
    Reason::ForwardReplySlow,
    Reason::DropNoPlace,
    Reason::DropAnswerRate,
    Reason::NoteUnpinned,
    Reason::NoteFloodGate,
    Reason::ViolationPinNamesNobody,
];

/// Each frame, with others of its flow, as the first of them, then with the pins that they left, in a site at rest; then in one where each service is
/// in a state of its own, with those pins, and later; then there from the beginning.
#[test]
fn kernel_and_host_agree_on_every_frame_that_was_found() {
    let mut frames = inputs("parse");
    frames.retain(|input| {
        let is_long_enough = input.bytes.len() >= *LENGTHS.start();
        if !is_long_enough {
            assert_eq!(whole(&input.bytes).err(), Some(Reason::PassMalformed));
        }
        is_long_enough && input.bytes.len() <= *LENGTHS.end()
    });
    let frames: Vec<_> = frames.into_iter().map(|input| (input.name, turns(&input.bytes))).collect();
    let mut bench = Bench::new(PINS);
    let (calm, stirred) = (bench.calm.clone(), bench.stirred.clone());
    // UDP_GAP to the second and one more; longer than a closing pin lives.
    for (site, seconds, ends) in [
        (&calm, 0, false),
        (&calm, 1, false),
        (&stirred, 5, false),
        (&stirred, 6, false),
        (&stirred, 31, true),
        (&stirred, 0, false),
        (&stirred, 2, false),
        (&stirred, 31, false),
        (&calm, 3, false),
    ] {
        bench.publish(site);
        bench.pass(seconds);
        for (name, turns) in &frames {
            for turn in turns {
                bench.compare(turn).unwrap_or_else(|differs| panic!("{name}: {differs}"));
            }
        }
        if ends {
            bench.end_all();
        }
    }
    bench.end_all();
    for reason in Reason::ALL {
        let wanted = !OUT_OF_REACH.contains(reason);
        assert!(!wanted || bench.seen.contains_key(reason.name()), "no frame led to {}", reason.name());
    }
    let forwarded = bench.forwarded();
    assert!(forwarded > 0.25, "{forwarded} of the frames came to a backend");
}
