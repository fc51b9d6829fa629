//! Listing the pins.

use ipnet::IpNet;
use lb_common::atomic;
use lb_common::flow::{Phase, Word};
use lb_common::layout::{Cold, HostId, Tuple};

use super::Dataplane;
use crate::plan::address_of;

/// Which pins to list; all that is given must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlowFilter {
    pub host: Option<HostId>,
    pub service: Option<u16>,
    pub client: Option<IpNet>,
    pub phase: Option<Phase>,
    /// Seconds.
    pub min_age: u64,
    /// Seconds.
    pub min_idle: u64,
}

impl FlowFilter {
    /// As far as the word tells: most words are told apart by it, without a look at the cold record, which is far away.
    fn takes_word(&self, word: Word, now: u32) -> bool {
        self.host.is_none_or(|host| host == word.host())
            && self.phase.is_none_or(|phase| phase == word.phase())
            && u64::from(word.idle(now)) >= self.min_idle
    }

    fn takes(&self, record: &FlowRecord) -> bool {
        self.service.is_none_or(|service| service == record.service)
            && u64::from(record.age) >= self.min_age
            && self.client.is_none_or(|clients| clients.contains(&address_of(record.tuple.source)))
    }
}

/// Words that one page looks at, at most: some milliseconds of the engine's time.
const WORDS_A_PAGE: u64 = 1 << 20;

/// A live pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowRecord {
    /// Index of its word; `None`: the pin is in the overflow map.
    pub index: Option<u32>,
    pub tuple: Tuple,
    pub service: u16,
    pub host: HostId,
    pub phase: Phase,
    /// Number of the timeouts that it goes by.
    pub set: u8,
    pub slot: u32,
    /// Seconds since the pin was made.
    pub age: u32,
    /// Seconds since the last packet.
    pub idle: u32,
}

impl FlowRecord {
    pub(super) fn new(index: Option<u32>, word: Word, cold: &Cold, now: u32) -> Self {
        FlowRecord {
            index,
            tuple: cold.tuple(),
            service: cold.service(),
            host: word.host(),
            phase: word.phase(),
            set: word.set(),
            slot: cold.slot,
            // A pin that was made since the clock was read is not old.
            age: (now.wrapping_sub(cold.start) as i32).max(0) as u32,
            idle: word.idle(now),
        }
    }
}

/// Part of a listing.
pub struct FlowPage {
    pub flows: Vec<FlowRecord>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<u64>,
}

impl Dataplane {
    /// Lists live pins from `cursor` (0: the start), `limit` at most; a page may be empty and not the last. Pins that come and
    /// go while pages are read may be missed; none is listed twice unless it moved.
    pub fn flows(&self, filter: &FlowFilter, cursor: u64, limit: usize) -> FlowPage {
        let now = self.now();
        let words = u64::from(self.maps.sizes.words());
        let mut flows = Vec::new();
        let mut at = cursor;
        while at < words {
            if flows.len() == limit || at - cursor >= WORDS_A_PAGE {
                return FlowPage { flows, next: Some(at) };
            }
            let index = at as u32;
            at += 1;
            // SAFETY: a word of the mapped array.
            let word = Word(unsafe { atomic::load(self.maps.word(index)) });
            if self.is_listed(word, now) && filter.takes_word(word, now) {
                let cold = self.maps.cold.get(index);
                // SAFETY: as above. A word that changed meanwhile: the record may be another flow's.
                let again = Word(unsafe { atomic::load(self.maps.word(index)) });
                if again.tag() == word.tag() {
                    flows.extend(self.record(Some(index), word, &cold, now, filter));
                }
            }
        }
        // The overflow map has no positions: it comes whole, on a page of its own after the arrays.
        if flows.is_empty() || cursor >= words {
            let entries = self.maps.overflow.iter().flatten();
            flows.extend(entries.filter_map(|(_, entry)| {
                let word = Word(entry.word);
                (self.is_listed(word, now) && filter.takes_word(word, now))
                    .then(|| self.record(None, word, &entry.cold, now, filter))?
            }));
            return FlowPage { flows, next: None };
        }
        FlowPage { flows, next: Some(words) }
    }

    /// A live pin. A closing one is listed until the sweep ends it, as only that knows whether it still waits; one of a flow that has
    /// been ended is none.
    pub(super) fn is_listed(&self, word: Word, now: u32) -> bool {
        if word.phase() == Phase::Reset {
            return false;
        }
        let phase = if word.phase() == Phase::Closing { Phase::Established } else { word.phase() };
        word.phase().is_pin() && word.idle(now) <= self.options.timeouts[word.limit_as(phase)]
    }

    fn record(
        &self,
        index: Option<u32>,
        word: Word,
        cold: &Cold,
        now: u32,
        filter: &FlowFilter,
    ) -> Option<FlowRecord> {
        let record = FlowRecord::new(index, word, cold, now);
        filter.takes(&record).then_some(record)
    }
}
