//! What a reader can judge the figures by on any machine: one look-up and refresh of a connection table that is made of the kernel's
//! LRU hash, with keys of 40 bytes and values of 16, and nothing else. That is the least that a balancer does which keeps its
//! connections there.

use anyhow::{Result, ensure};
use lb_common::layout::Tuple;

use super::Options;
use super::cases::Case;
use super::feeder::{Called, Feeder};
use super::measure::{TOLERANCE, XDP_TX, fill};
use super::report::Figure;

pub const NAME: &str = "reference: TCP/IPv4, one look-up and refresh in the kernel's LRU hash, nothing else";

/// Bytes of an entry's key and value; the kernel adds 48 for its own.
const ENTRY: u64 = size_of::<Tuple>() as u64 + 16;

/// The packets of the case, through a table of so many entries.
pub fn measure(case: &Case, options: &Options, feeder: &mut Feeder, entries: u32) -> Result<Figure> {
    fill(feeder, case.kind, case)?;
    let packets = case.flows * options.packets.div_ceil(case.flows).max(1);
    let (mut differences, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        feeder.run(Called::Sender, packets)?;
        let (floor, _) = feeder.run(Called::Sender, packets)?;
        feeder.run(Called::Reference, packets)?;
        let before = feeder.misses();
        let (ns, returned) = feeder.run(Called::Reference, packets)?;
        ensure!(returned == XDP_TX, "the reference returned {returned}");
        let misses = feeder.misses() - before;
        ensure!(
            misses <= u64::from(packets) / TOLERANCE,
            "the reference has no entry for {misses} of {packets} packets"
        );
        floors.push(floor);
        differences.push(ns - floor);
    }
    Ok(Figure {
        table_bytes: u64::from(entries) * ENTRY,
        load: f64::from(case.flows) / f64::from(entries),
        ..Figure::of(NAME, case.flows, differences, floors)
    })
}
