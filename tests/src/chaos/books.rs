//! What must be so at the end: nothing happened that must not, gauges agree with a count of the flow table, and each drain has
//! its receipt, whose sums add up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, MapData};
use lb_common::flow::{Phase, Word};
use lb_common::layout::{Overflow, Tuple};
use lb_userspace::api::types::{Flows, LiveFlows, Receipt, Status};
use lb_userspace::dataplane::{Mapped, Paths, monotonic_seconds};

/// Live flows by phase, as they are counted: half-open, established, closing, UDP.
pub type Phases = [u64; 4];

/// The flow table of an instance, by its pinned maps.
pub struct Table {
    hot: Mapped<[u64; 8]>,
    overflow: HashMap<MapData, Tuple, Overflow>,
}

impl Table {
    pub fn open(instance: &str) -> Result<Self> {
        let paths = Paths::of(instance);
        let open = |path: PathBuf| {
            MapData::from_pin(&path).with_context(|| format!("cannot open the map {}", path.display()))
        };
        let hot = open(paths.map("HOT"))?;
        let buckets = hot.info().context("what is the table's size?")?.max_entries();
        let overflow = aya::maps::Map::from_map_data(open(paths.map("OVERFLOW"))?)?;
        Ok(Table { hot: Mapped::new(hot.fd(), "HOT", buckets)?, overflow: overflow.try_into()? })
    }

    /// Its pins; `timeouts` are those of all services, by phase.
    pub fn count(&self, timeouts: Phases) -> Count {
        let words = (0..self.hot.len()).flat_map(|bucket| self.hot.get(bucket));
        let more = self.overflow.iter().flatten().map(|(_, entry)| entry.word);
        count(words.chain(more).map(Word), monotonic_seconds(), timeouts)
    }
}

/// Pins of the flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// All, as gauges have them: one that is idle past its timeout counts until the sweep ends it, in the overflow map some
    /// seconds later.
    pub all: Phases,
    /// Those that are not past their timeouts, as the listing of flows has them.
    pub live: u64,
}

fn count(words: impl Iterator<Item = Word>, now: u32, timeouts: Phases) -> Count {
    let mut counted = Count::default();
    for word in words {
        let phase = match word.phase() {
            Phase::HalfOpen => 0,
            Phase::Established => 1,
            Phase::Closing => 2,
            Phase::Udp => 3,
            // Free, or of flows that have been ended: no gauge knows them.
            Phase::Empty | Phase::Reserved | Phase::Reset | Phase::Aborted => continue,
        };
        counted.all[phase] += 1;
        // A closing pin that nothing else keeps at its host is listed as long as an established one.
        let limit = if phase == 2 { timeouts[1] } else { timeouts[phase] };
        counted.live += u64::from(u64::from(word.idle(now)) <= limit);
    }
    counted
}

/// The gauges of all hosts together.
pub fn gauges(status: &Status) -> Phases {
    status.hosts.iter().fold([0; 4], |sum, host| {
        let LiveFlows { half_open, established, closing, udp, .. } = host.live_flows;
        [sum[0] + half_open, sum[1] + established, sum[2] + closing, sum[3] + udp]
    })
}

/// Listed flows by host.
pub fn listed(flows: &Flows) -> BTreeMap<String, u64> {
    let mut hosts = BTreeMap::new();
    for flow in &flows.flows {
        *hosts.entry(flow.host.clone()).or_default() += 1;
    }
    hosts
}

/// Gauges by host, of those that have flows.
pub fn live(status: &Status) -> BTreeMap<String, u64> {
    let hosts = status.hosts.iter().map(|host| (host.name.clone(), host.live_flows.total));
    hosts.filter(|(_, live)| *live > 0).collect()
}

/// Checks the receipts, given in any order, against the numbers of drains that were acknowledged.
///
/// # Errors
/// The first that is wrong.
pub fn check_receipts(receipts: &[Receipt], acknowledged: &[u64]) -> Result<()> {
    let numbers: BTreeSet<u64> = receipts.iter().map(|receipt| receipt.drain).collect();
    ensure!(numbers.len() == receipts.len(), "a drain has two receipts");
    let missing: Vec<_> = acknowledged.iter().filter(|number| !numbers.contains(number)).collect();
    ensure!(missing.is_empty(), "drains without a receipt: {missing:?}");
    receipts.iter().try_for_each(check_receipt)
}

fn check_receipt(receipt: &Receipt) -> Result<()> {
    let Receipt {
        drain,
        host,
        flows_at_start,
        appeared,
        ended,
        moved,
        reset,
        silent,
        kicked,
        evicted,
        left,
        ..
    } = receipt;
    let (from, to) = (flows_at_start + appeared, ended + moved + reset + silent + kicked + evicted + left);
    ensure!(
        from == to,
        "receipt {drain} of {host}: {from} flows were there, and {to} came to an end: {receipt:?}"
    );
    let zero = receipt.new_flows + receipt.misrouted;
    ensure!(
        zero == 0 && receipt.violations.is_empty(),
        "receipt {drain} of {host} tells of a breach: {receipt:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_counted_by_phase_and_those_past_their_timeouts_are_not_live() {
        let word = |phase| Word::new(7, 1, phase, 100);
        let phases = [
            Phase::Empty,
            Phase::HalfOpen,
            Phase::Established,
            Phase::Established,
            Phase::Closing,
            Phase::Udp,
            Phase::Reset,
            Phase::Aborted,
        ];
        for (now, live) in [(104, 5), (105, 4), (108, 4), (109, 3), (110, 3), (111, 0)] {
            let counted = count(phases.into_iter().map(word), now, [4, 10, 3, 8]);
            assert_eq!(counted, Count { all: [1, 2, 1, 1], live }, "at {now}");
        }
    }

    #[test]
    fn a_wrong_receipt_is_told() {
        let good =
            Receipt { drain: 3, flows_at_start: 5, appeared: 1, ended: 4, kicked: 2, ..Receipt::default() };
        assert!(check_receipts(std::slice::from_ref(&good), &[3, 3]).is_ok());
        assert!(check_receipts(std::slice::from_ref(&good), &[3, 4]).is_err(), "one is missing");
        assert!(check_receipts(&[good.clone(), good.clone()], &[3]).is_err(), "two of one drain");
        type Spoil = fn(&mut Receipt);
        let spoils: [Spoil; 5] = [
            |receipt| receipt.left = 1,
            |receipt| receipt.ended = 3,
            |receipt| receipt.new_flows = 1,
            |receipt| receipt.misrouted = 1,
            |receipt| receipt.violations = [("violation_slot_names_nobody".to_owned(), 1)].into(),
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            let mut receipt = good.clone();
            spoil(&mut receipt);
            assert!(check_receipts(&[receipt], &[3]).is_err(), "{number}");
        }
    }
}
