//! The laws over what fuzzing has found, without a fuzzer.

use lb_laws::corpus::{Input, inputs};

use lb_laws::{decap, flow_table, forwarding, icmp, parse, words};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Runs a law over every input of a target; a panic says for which it was.
fn replay(target: &str, mut law: impl FnMut(&[u8])) {
    for Input { name, bytes } in inputs(target) {
        let named = Named(name);
        law(&bytes);
        std::mem::forget(named);
    }
}

/// Says its name when a law panics.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        eprintln!("broken by the input {}", self.0);
    }
}

#[test]
fn frames_keep_the_laws() {
    replay("parse", |bytes| {
        parse::check(bytes);
        decap::check(bytes);
        icmp::check(bytes);
        forwarding::check(bytes);
    });
}

#[test]
fn words_keep_the_laws() {
    replay("word", words::check);
}

proptest! {
    /// The fuzzer finds no branch that a few words do not reach, so numbers are drawn, too.
    #[test]
    fn any_words_keep_the_laws(bytes in prop::collection::vec(any::<u8>(), words::INPUT)) {
        words::check(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// Full tables are rare among what is short, which is what a corpus keeps.
    #[test]
    fn any_plays_on_the_flow_table_keep_the_laws(
        start: u32,
        capacity in 0u8..4,
        operations in prop::collection::vec(any::<[u8; 3]>(), 100..300),
    ) {
        flow_table::check(&[&start.to_le_bytes()[..], &[capacity, 0], &operations.concat()].concat());
    }
}

#[test]
fn plays_on_the_flow_table_keep_the_laws() {
    let mut sum = flow_table::Reached::default();
    replay("flow_table", |bytes| sum = sum + flow_table::check(bytes));
    println!("{sum:?}");
    let flow_table::Reached { short, second, overflow, limbo, evicted, no_place, garbage } = sum;
    for (what, count) in [
        ("pins made the short way", short),
        ("pins in second buckets", second),
        ("pins in overflow", overflow),
        ("flows in limbo", limbo),
        ("established pins that had to go", evicted[1]),
        ("half-open pins of open slots that had to go by the quota", evicted[2]),
        ("half-open pins of settled slots that had to go by the quota", evicted[3]),
        ("old half-open pins that had to go", evicted[4]),
        ("closing pins that had to go", evicted[5]),
        ("flows without a place", no_place),
        ("operations on garbage", garbage),
    ] {
        assert!(count > 0, "the corpus has no {what}");
    }
}
