//! The flow table as it lies in the maps, and the check that all books agree with it.

use std::collections::BTreeMap;

use lb_common::flow::Word;
use lb_common::hash::other_bucket;
use lb_common::layout::{BackendStats, Cold, Control, HostId, HostState, PHASES_COUNTED, Tuple};
use lb_common::table::{BUCKET, MARK_OVERFLOW, MARK_SECOND, MARKED};
use lb_userspace::dataplane::{SweepInput, Swept};

use super::Rig;

/// Where a pin lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In its home bucket, at this index of the table.
    Home(u32),
    /// In its second bucket.
    Second(u32),
    Overflow,
}

/// A pin, live or not swept yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub word: Word,
    pub cold: Cold,
    pub place: Place,
}

impl Rig {
    /// Every word of the arrays and of the overflow map that is not empty.
    pub fn pins(&self) -> Vec<Pin> {
        let maps = &self.dataplane.maps;
        let mut pins = Vec::new();
        for bucket in 0..maps.sizes.buckets {
            for (position, word) in maps.hot.get(bucket).into_iter().enumerate() {
                if word != 0 {
                    let index = bucket * BUCKET + position as u32;
                    let cold = maps.cold.get(index);
                    let place =
                        if cold.kind & Cold::SECOND == 0 { Place::Home(index) } else { Place::Second(index) };
                    pins.push(Pin { word: Word(word), cold, place });
                }
            }
        }
        pins.extend(maps.overflow.iter().map(|entry| {
            let (tuple, entry) = entry.expect("the overflow map can be read");
            assert!(entry.cold.is_of(&tuple), "an overflow entry lies under its own flow's key: {entry:?}");
            Pin { word: Word(entry.word), cold: entry.cold, place: Place::Overflow }
        }));
        pins
    }

    /// The flow's pin; the one that is live if there are several.
    pub fn pin(&self, tuple: &Tuple) -> Option<Pin> {
        let mut pins: Vec<_> = self.pins().into_iter().filter(|pin| pin.cold.is_of(tuple)).collect();
        let now = self.now();
        pins.sort_by_key(|pin| !pin.word.is_live(now, &self.dataplane.options.timeouts));
        pins.first().copied()
    }

    /// Marks that are not 0, by bucket: pins in the second bucket and pins in overflow.
    pub fn marks(&self) -> BTreeMap<u32, (u32, u32)> {
        let maps = &self.dataplane.maps;
        let blocks = (0..maps.marks.len()).flat_map(|block| maps.marks.get(block));
        let marks = blocks.map(|mark| mark & MARKED).enumerate().filter(|(_, mark)| *mark != 0);
        marks.map(|(bucket, mark)| (bucket as u32, (mark % MARK_OVERFLOW, mark / MARK_OVERFLOW))).collect()
    }

    /// Panics unless the gauges equal a count of the pins, the marks what lies away from home, and every pin lies where
    /// its flow is looked for, with no tag twice in a bucket.
    pub fn audit(&self) {
        let mask = self.dataplane.maps.sizes.buckets - 1;
        let mut gauges: BTreeMap<u32, [i64; PHASES_COUNTED]> = BTreeMap::new();
        let mut marks: BTreeMap<u32, u32> = BTreeMap::new();
        let mut tags = BTreeMap::new();
        for pin in self.pins() {
            assert!(pin.word.phase().is_pin(), "no packet is under way, so no word is reserved: {pin:?}");
            let hash = Self::hash(&pin.cold.tuple());
            let home = hash.bucket(mask);
            assert_eq!(pin.word.tag(), hash.tag(), "{pin:?}");
            assert_eq!(pin.cold.slot, self.slot(&pin.cold.tuple()), "{pin:?}");
            match pin.place {
                Place::Home(index) => assert_eq!(index / BUCKET, home, "{pin:?}"),
                Place::Second(index) => {
                    assert_eq!(index / BUCKET, other_bucket(home, hash.tag(), mask), "{pin:?}");
                    *marks.entry(home).or_default() += MARK_SECOND;
                }
                Place::Overflow => *marks.entry(home).or_default() += MARK_OVERFLOW,
            }
            if let Place::Home(index) | Place::Second(index) = pin.place {
                let other = tags.insert((index / BUCKET, hash.tag()), pin);
                assert_eq!(other, None, "two pins of a bucket share a tag: {pin:?}");
            }
            if let Some(gauge) = BackendStats::gauge_of(pin.word.phase()) {
                gauges.entry(pin.cold.stats).or_default()[gauge] += 1;
            }
        }
        let marks: BTreeMap<_, _> = marks
            .into_iter()
            .map(|(home, mark)| (home, (mark % MARK_OVERFLOW, mark / MARK_OVERFLOW)))
            .collect();
        assert_eq!(self.marks(), marks, "marks as found, and as they should be");
        let shown = self.counts().pairs.into_iter().map(|(stats, counters)| (stats, counters.live));
        let shown: BTreeMap<_, _> = shown.filter(|(_, live)| *live != [0; PHASES_COUNTED]).collect();
        assert_eq!(shown, gauges, "gauges as shown, and as counted");
    }

    /// Sweeps with what was published last.
    pub fn sweep(&mut self) -> Swept {
        let setup = self.published().clone();
        let rings = &setup.tables.rings;
        let services = &setup.tables.services;
        let state = |service: u16, host: HostId| {
            let backend = services.get(&service).and_then(|service| service.backends.get(&host));
            backend.map_or(HostState::Gone, |backend| Control(backend.record.control).state())
        };
        let input = SweepInput {
            ring_of: &|cold| services.get(&cold.service()).map(|service| service.ring),
            slots: &|ring| rings.get(&ring).map(Vec::as_slice),
            state: &|cold, host| state(cold.service(), host),
            losers: &|_| true,
            drain_of: &|_, _| None,
            leaving: &|service, host| state(service, host) == HostState::Lost,
        };
        self.dataplane.sweep(&input).expect("the table can be swept")
    }
}
