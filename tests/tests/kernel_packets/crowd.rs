//! Flows that are made for each other: of one home and one second bucket, or of one tag.

use std::collections::HashMap;

use lb_common::hash::other_bucket;
use lb_common::layout::Slot;
use lb_userspace::dataplane::Sizes;
use sluice_tests::rig::{Rig, l2};

use super::bench::{Bench, Flow};

/// Buckets of a crowded table: the fewest there can be.
pub const BUCKETS: u32 = 16;
/// The home bucket of [`crowd`].
pub const HOME: u32 = 5;
/// Their second bucket.
pub const SECOND: u32 = 8;
/// Words of both: what finds no place there goes to overflow.
pub const PLACES: usize = 16;
/// Entries of the overflow map.
pub const OVERFLOW: usize = 4;

/// A bench with a flow table of 16 buckets and 4 entries of overflow.
pub fn small_table() -> Bench {
    Bench::with(small_sizes(), l2)
}

/// Of such a table.
pub fn small_sizes() -> Sizes {
    let sizes = Sizes { overflow: OVERFLOW as u32, ..Sizes::new(251, 64) };
    let sizes = Sizes { ring_copies: 64, ..sizes };
    assert_eq!(sizes.buckets, BUCKETS);
    sizes
}

/// Home and second bucket of a flow in such a table.
fn buckets(flow: Flow) -> (u32, u32) {
    let hash = Rig::hash(&flow.tuple());
    let home = hash.bucket(BUCKETS - 1);
    (home, other_bucket(home, hash.tag(), BUCKETS - 1))
}

/// Flows of a service with the tag of each, without end.
fn flows(service: u16) -> impl Iterator<Item = Flow> {
    (0..).map(move |number| Flow::of(service, number))
}

/// `count` flows of a service whose home is [`HOME`] and whose second bucket is [`SECOND`], each with a tag of its own.
pub fn crowd(service: u16, count: usize) -> Vec<Flow> {
    between(service, HOME, SECOND, count)
}

/// As [`crowd`], between any two buckets.
pub fn between(service: u16, home: u32, second: u32, count: usize) -> Vec<Flow> {
    let mut tags = std::collections::HashSet::new();
    let fits = |flow: &Flow| buckets(*flow) == (home, second) && tags.insert(Rig::hash(&flow.tuple()).tag());
    flows(service).filter(fits).take(count).collect()
}

/// Two flows of a service with one home and one tag, and so with the same second bucket.
pub fn twins(service: u16) -> [Flow; 2] {
    let mut seen = HashMap::new();
    let found = flows(service).find_map(|flow| {
        let hash = Rig::hash(&flow.tuple());
        seen.insert((hash.bucket(BUCKETS - 1), hash.tag()), flow).map(|other| [other, flow])
    });
    found.expect("27 bits agree sooner or later")
}

/// Two flows of a service with one tag, of which each has its second bucket where the other has its home.
pub fn mirrored(service: u16) -> [Flow; 2] {
    let mut seen = HashMap::new();
    let found = flows(service).find_map(|flow| {
        let tag = Rig::hash(&flow.tuple()).tag();
        let (home, second) = buckets(flow);
        seen.insert((home, tag), flow);
        seen.get(&(second, tag)).map(|&other| [other, flow])
    });
    found.expect("27 bits agree sooner or later")
}

impl Bench {
    /// Publishes the slots of these flows as they are to be; the others stay as they are.
    pub fn slots_of(&mut self, flows: &[Flow], slot: Slot) {
        for flow in flows {
            let number = self.rig.slot(&flow.tuple());
            self.setup.slot(0, number, slot);
        }
        self.publish();
    }
}
