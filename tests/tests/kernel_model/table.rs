//! The flow table and the counters as they lie in the maps, and what a test does to them.

use aya::maps::PerCpuValues;
use lb_common::flow::Word;
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendStats, Cold, Overflow, Tuple, state};
use lb_common::reason::{Class, Reason};
use lb_common::table::BUCKET;
use lb_userspace::dataplane::{Dataplane, Maps};

use crate::client::KEY;

/// A pin as it lies in the table, live or not.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub tuple: Tuple,
    pub word: Word,
    pub cold: Cold,
    /// Index of the word; `None`: it is in the overflow map.
    pub index: Option<u32>,
}

/// Every word of the table that is a pin, live or not.
pub fn entries(maps: &Maps) -> Vec<Entry> {
    let mut entries = Vec::new();
    for bucket in 0..maps.hot.len() {
        for (index, word) in (bucket * BUCKET..).zip(maps.hot.get(bucket).map(Word)) {
            if word != Word::EMPTY {
                assert!(word.phase().is_pin(), "word {index} is left as {:?}", word.phase());
                let cold = maps.cold.get(index);
                entries.push(Entry { tuple: cold.tuple(), word, cold, index: Some(index) });
            }
        }
    }
    for entry in maps.overflow.iter() {
        let (tuple, Overflow { word, cold }) = entry.unwrap();
        entries.push(Entry { tuple, word: Word(word), cold, index: None });
    }
    entries
}

/// Takes a pin out of the table and books it, as the sweep does.
pub fn forget(maps: &mut Maps, entry: &Entry) {
    let home = FlowHash::of(&entry.tuple, KEY).bucket(maps.sizes.buckets - 1);
    let mut marks = maps.marks.get(home / 16);
    match entry.index {
        Some(index) => {
            let mut words = maps.hot.get(index / BUCKET);
            words[(index % BUCKET) as usize] = 0;
            maps.hot.set(index / BUCKET, words);
            if entry.cold.kind & Cold::SECOND != 0 {
                marks[home as usize % 16] -= lb_common::table::MARK_SECOND;
            }
        }
        None => {
            maps.overflow.remove(&entry.tuple).unwrap();
            marks[home as usize % 16] -= lb_common::table::MARK_OVERFLOW;
        }
    }
    maps.marks.set(home / 16, marks);
    if let Some(gauge) = BackendStats::gauge_of(entry.word.phase()) {
        let mut stats = maps.user_stats.get(entry.cold.stats);
        stats.left[gauge] += 1;
        maps.user_stats.set(entry.cold.stats, stats);
    }
}

/// All pins are gone, and their gauges with them.
pub fn empty(maps: &mut Maps) {
    for entry in entries(maps) {
        forget(maps, &entry);
    }
    for bucket in 0..maps.hot.len() {
        maps.hot.set(bucket, [0; 8]);
    }
    for index in 0..maps.cold.len() {
        maps.cold.set(index, Cold::default());
    }
    for block in 0..maps.marks.len() {
        maps.marks.set(block, [0; 16]);
    }
}

/// All pins are lost, and the data path knows.
pub fn lose(maps: &mut Maps, now: u64) {
    empty(maps);
    maps.state.store(state::LOST_AT, now);
    for host in 0..maps.incomplete_since.len() {
        maps.incomplete_since.store(host, now);
    }
}

/// An empty table, counters at zero, and no loss of state on record.
pub fn reset(maps: &mut Maps) {
    lose(maps, 0);
    let clients: Vec<_> = maps.clients.iter().flatten().map(|(key, _)| key).collect();
    for key in clients {
        maps.clients.remove(&key).expect("it is there");
    }
    maps.state.store(state::HALF_OPEN_OVER_QUOTA, 0);
    let cpus = aya::util::nr_cpus().unwrap();
    for index in 0..maps.sizes.stats {
        let zero = PerCpuValues::try_from(vec![BackendStats::default(); cpus]).unwrap();
        maps.backend_stats.set(index, zero, 0).unwrap();
        maps.user_stats.set(index, BackendStats::default());
    }
    for &reason in Reason::ALL {
        let zero = PerCpuValues::try_from(vec![0; cpus]).unwrap();
        maps.reason_counts.set(reason as u32, zero, 0).unwrap();
    }
}

/// Reasons of a class that were counted, with how often.
pub fn counted(plane: &Dataplane, class: Class) -> Vec<(Reason, u64)> {
    let reasons = plane.counters([]).unwrap().reasons;
    reasons.into_iter().filter(|(reason, count)| reason.class() == class && *count != 0).collect()
}
