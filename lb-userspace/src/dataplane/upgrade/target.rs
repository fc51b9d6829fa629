//! The flow table that pins of another one are put into: by the algorithm of the data path, which may be at work in it at the same time.

use lb_common::atomic;
use lb_common::flow::{Phase, Timeouts, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendStats, Cold, HostId, Overflow, Tuple, state};
use lb_common::table::{self, Inserted, Table};

use super::super::Maps;
use super::source::Taken;

/// The flow table, for who books pins in the daemon's counters.
pub struct Target<'m> {
    pub maps: &'m mut Maps,
    pub timeouts: Timeouts,
    pub keeps: Timeouts,
    pub now: u32,
    /// Packets go by it already: then what they say of a flow counts, and not what the table before says.
    pub is_in_use: bool,
}

/// What became of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there; the word, if it lies in the arrays.
    There(Option<Word>),
    /// A packet has made or changed the flow's pin here since.
    Left,
    /// There is no room.
    NoPlace,
}

impl Target<'_> {
    /// Whether the flow has a pin, dead or alive.
    pub fn has(&self, pin: &Taken) -> bool {
        let found = table::find(self, pin.hash, &pin.tuple);
        found.is_some() && table::is_of(self, &found, &pin.tuple)
            || self.maps.overflow.get(&pin.tuple, 0).is_ok()
    }

    /// A flow of the host, which a slot in handover may need, has no pin.
    pub fn lost(&self, host: HostId) {
        self.maps.incomplete_since.store(u32::from(host), u64::from(self.now));
        self.maps.state.store(state::LOST_AT, u64::from(self.now));
    }

    /// Puts a pin there, or brings it up to date. `last` is the word that this has put for it before.
    pub fn put(&mut self, pin: &Taken, last: Option<Word>) -> Put {
        let Taken { tuple, hash, entry } = pin;
        let new = Word(entry.word);
        let found = table::find(self, *hash, tuple);
        if found.is_some() && table::is_of(self, &found, tuple) {
            let is_ours = !self.is_in_use || last == Some(found.word);
            if !is_ours || !found.word.phase().is_pin() {
                return Put::Left;
            }
            if let Some(cold) = table::cold_of(self, &found) {
                // SAFETY: a record of the mapped array. What a packet may write at the same time is as new as this.
                unsafe {
                    (&raw mut (*cold).sequence).write_volatile(entry.cold.sequence);
                    let kind = &raw mut (*cold).kind;
                    kind.write_volatile(kind.read_volatile() | entry.cold.kind & Cold::ANSWERED);
                }
            }
            return if found.word.moved(new) == 0 && table::update(self, &found, new) {
                Put::There(Some(new))
            } else if found.word.moved(new) != 0 {
                self.remake(&found, pin)
            } else {
                Put::Left
            };
        }
        if let Ok(old) = self.maps.overflow.get(tuple, 0) {
            return if self.is_in_use { Put::Left } else { self.put_overflow(&old, pin) };
        }
        // Of a flow whose pin has gone here since: its end.
        if last.is_some() && self.is_in_use {
            return Put::Left;
        }
        self.insert(*hash, tuple, *entry)
    }

    /// The flow has gone to another host in the meantime.
    fn remake(&self, found: &table::Found, pin: &Taken) -> Put {
        match table::remake(self, found, &pin.entry, self.now) {
            Inserted::Placed => Put::There(Some(Word(pin.entry.word))),
            _ => Put::Left,
        }
    }

    fn insert(&self, hash: FlowHash, tuple: &Tuple, mut entry: Overflow) -> Put {
        // A packet may be at the same place in this very moment.
        for _ in 0..8 {
            match table::insert(self, hash, tuple, &mut entry, self.now) {
                Inserted::Placed => {
                    let found = table::find(self, hash, tuple);
                    let is_here = found.is_some() && table::is_of(self, &found, tuple);
                    return Put::There(is_here.then_some(Word(entry.word)));
                }
                Inserted::Race => {
                    let found = table::find(self, hash, tuple);
                    if found.is_some() && table::is_of(self, &found, tuple) {
                        return Put::Left;
                    }
                }
                Inserted::NoPlace | Inserted::InLimbo => return Put::NoPlace,
            }
        }
        Put::NoPlace
    }

    fn put_overflow(&mut self, old: &Overflow, pin: &Taken) -> Put {
        let second = old.cold.kind & Cold::SECOND;
        let entry = Overflow {
            word: pin.entry.word,
            cold: Cold { kind: pin.entry.cold.kind | second, ..pin.entry.cold },
        };
        if self.maps.overflow.insert(pin.tuple, entry, 0).is_err() {
            return Put::Left;
        }
        self.account(old.cold.stats, Word(old.word).phase(), Phase::Empty);
        self.account(entry.cold.stats, Phase::Empty, Word(entry.word).phase());
        Put::There(None)
    }
}

impl Table for Target<'_> {
    fn mask(&self) -> u32 {
        self.maps.sizes.buckets - 1
    }

    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    fn keeps(&self) -> &Timeouts {
        &self.keeps
    }

    fn bucket(&self, bucket: u32) -> Option<*mut u64> {
        Some(self.maps.word(bucket * table::BUCKET))
    }

    fn cold(&self, index: u32) -> Option<*mut Cold> {
        Some(self.maps.cold.at(index))
    }

    fn mark(&self, bucket: u32) -> Option<*mut u32> {
        Some(self.maps.mark(bucket))
    }

    /// Its entries are not in this process's memory: who asks for one looks itself.
    fn overflow(&self, _: &Tuple) -> Option<*mut Overflow> {
        None
    }

    fn overflow_insert(&self, tuple: &Tuple, entry: &Overflow) -> bool {
        super::super::sys::insert_new(&self.maps.overflow, tuple, entry).unwrap_or(false)
    }

    /// In the daemon's own counters: those of CPUs are theirs to write.
    fn account(&self, stats: u32, from: Phase, to: Phase) {
        if stats >= self.maps.user_stats.len() {
            return;
        }
        let stats = self.maps.user_stats.at(stats);
        let add = |counter: *mut u64| {
            // SAFETY: the daemon is the only writer of these counters.
            unsafe { counter.write_volatile(counter.read_volatile() + 1) };
        };
        if let Some(gauge) = BackendStats::gauge_of(from) {
            // SAFETY: a record of the mapped array.
            add(unsafe { &raw mut (*stats).left[gauge] });
        }
        if let Some(gauge) = BackendStats::gauge_of(to) {
            // SAFETY: as above.
            add(unsafe { &raw mut (*stats).entered[gauge] });
        }
    }

    /// Only pins that have ended make room.
    fn evicted(&self, _: u32, _: HostId) {}

    fn is_settled(&self, _: u16, _: u32, _: &[u64; 2]) -> bool {
        false
    }

    fn half_open_over_quota(&self) -> bool {
        false
    }
}

/// Live pins of a table, in the arrays and in the overflow map.
pub fn live(maps: &Maps, timeouts: &Timeouts, now: u32) -> u64 {
    let in_arrays = (0..maps.sizes.words())
        // SAFETY: a word of the mapped array.
        .filter(|&index| Word(unsafe { atomic::load(maps.word(index)) }).is_live(now, timeouts))
        .count() as u64;
    let in_overflow =
        maps.overflow.iter().flatten().filter(|(_, entry)| Word(entry.word).is_live(now, timeouts));
    in_arrays + in_overflow.count() as u64
}
