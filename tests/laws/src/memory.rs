//! The flow table's memory as vectors, with the books that the kernel's maps keep. For one thread or for several.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};

use lb_common::atomic;
use lb_common::flow::{Phase, Timeouts, Word};
use lb_common::hash::FlowHash;
use lb_common::layout::{BackendStats, Cold, HostId, Overflow, PHASES_COUNTED, Tuple};
use lb_common::table::{
    self, BUCKET, Found, IN_OVERFLOW, MARK_OVERFLOW, MARK_SECOND, MARKED, Table, keeps, unmark,
};

/// Words and records that several threads write at once, as the map's memory is.
pub struct Memory {
    mask: u32,
    timeouts: Timeouts,
    keeps: Timeouts,
    hot: Vec<UnsafeCell<u64>>,
    cold: Vec<UnsafeCell<Cold>>,
    marks: Vec<UnsafeCell<u32>>,
    overflow: Mutex<Entries>,
    gauges: Vec<[AtomicI64; PHASES_COUNTED]>,
    pub evicted: AtomicU64,
    /// The settled ones of slots 0 to 31, a bit for each.
    pub settled: AtomicU32,
    pub over_quota: AtomicBool,
}

struct Entries {
    /// Number of the cell.
    of: HashMap<Tuple, usize>,
    /// Removed, and used again, as the kernel does.
    free: Vec<usize>,
    /// As many as there may be, so that they stay where they are.
    cells: Vec<UnsafeCell<Overflow>>,
}

/// A pin as it lies in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    pub word: Word,
    pub cold: Cold,
    /// Index in the arrays; [`IN_OVERFLOW`] in the overflow map.
    pub index: u32,
}

/// The tuple of flow number `n`.
pub fn tuple(n: u32) -> Tuple {
    Tuple { source: [0, n.into()], destination: [0, 1], ports: 0x5000_0050, protocol: 6 }
}

/// A pin of flow number `n`, to be made.
pub fn pin(n: u32, hash: FlowHash, host: HostId, phase: Phase, now: u32, stats: u32) -> Overflow {
    let Tuple { source, destination, ports, protocol } = tuple(n);
    Overflow {
        word: Word::new(hash.tag(), host, phase, now).0,
        cold: Cold { source, destination, ports, kind: protocol, start: now, stats, ..Cold::default() },
    }
}

// SAFETY: shared words are accessed atomically. Cold records are written by the one that reserved the word, and whoever
// reads them meanwhile makes sure afterwards that the word is the same: the very thing that is tested.
unsafe impl Sync for Memory {}
// SAFETY: as above.
unsafe impl Send for Memory {}

impl Memory {
    pub fn new(buckets: u32, capacity: usize, stats: u32, timeouts: Timeouts) -> Self {
        fn cells<T: Default>(count: u32) -> Vec<UnsafeCell<T>> {
            (0..count).map(|_| UnsafeCell::default()).collect()
        }
        Memory {
            mask: buckets - 1,
            timeouts,
            keeps: keeps(&timeouts),
            hot: cells(buckets * BUCKET),
            cold: cells(buckets * BUCKET),
            marks: cells(buckets),
            overflow: Mutex::new(Entries {
                of: HashMap::new(),
                free: (0..capacity).collect(),
                cells: cells(capacity as u32),
            }),
            gauges: (0..stats).map(|_| Default::default()).collect(),
            evicted: AtomicU64::new(0),
            settled: AtomicU32::new(0),
            over_quota: AtomicBool::new(false),
        }
    }

    /// Finds the pin of a flow, as the data path does.
    pub fn find(&self, hash: FlowHash, tuple: &Tuple) -> Found {
        let found = table::find(self, hash, tuple);
        if !found.is_some() || table::is_of(self, &found, tuple) {
            found
        } else if table::has_overflow(self, hash) {
            table::find_overflow(self, tuple)
        } else {
            Found::NONE
        }
    }

    /// One pass of the sweep over the arrays: pins that are idle past their timeout end.
    pub fn sweep(&self, now: u32) {
        for (index, cell) in (0..).zip(&self.hot) {
            // SAFETY: a word of the table.
            let word = Word(unsafe { atomic::load(cell.get()) });
            if !word.phase().is_pin() || word.is_live(now, &self.timeouts) {
                continue;
            }
            // SAFETY: as above; if the word still is what it was after this, so was the record.
            let cold = unsafe { self.cold[index as usize].get().read_volatile() };
            // SAFETY: as above.
            if unsafe { atomic::swap(cell.get(), word.0, Word::EMPTY.0) } {
                self.account(cold.stats, word.phase(), Phase::Empty);
                unmark(self, index / BUCKET, word, cold.kind);
            }
        }
    }

    /// The sweep of the overflow map, while no packet is under way.
    pub fn sweep_overflow(&self, now: u32, hash_of: impl Fn(&Tuple) -> FlowHash) {
        let mut overflow = self.overflow.lock().unwrap();
        let Entries { of, free, cells } = &mut *overflow;
        of.retain(|tuple, &mut cell| {
            // SAFETY: nobody else is at it.
            let Overflow { word, cold } = unsafe { *cells[cell].get() };
            let word = Word(word);
            if word.is_live(now, &self.timeouts) {
                return true;
            }
            self.account(cold.stats, word.phase(), Phase::Empty);
            let mark = self.marks[hash_of(tuple).bucket(self.mask) as usize].get();
            // SAFETY: a mark of the table.
            unsafe { atomic::add32(mark, MARK_OVERFLOW.wrapping_neg()) };
            free.push(cell);
            false
        });
    }

    /// Every word that is not empty, with its record; while no thread is at work.
    pub fn pins(&self) -> Vec<Pin> {
        // Most words are empty, and records are large.
        let pin = |(index, cell): (u32, &UnsafeCell<u64>)| {
            // SAFETY: nobody else is at it, as for all below.
            let word = Word(unsafe { *cell.get() });
            // SAFETY: as above.
            let pin = || Pin { word, cold: unsafe { *self.cold[index as usize].get() }, index };
            (word != Word::EMPTY).then(pin)
        };
        let mut pins: Vec<Pin> = (0..).zip(&self.hot).filter_map(pin).collect();
        let overflow = self.overflow.lock().unwrap();
        pins.extend(overflow.of.values().map(|&cell| {
            // SAFETY: as above.
            let Overflow { word, cold } = unsafe { *overflow.cells[cell].get() };
            Pin { word: Word(word), cold, index: IN_OVERFLOW }
        }));
        pins
    }

    /// The 8 words of a bucket; while no thread is at work.
    pub fn words(&self, bucket: u32) -> [Word; BUCKET as usize] {
        // SAFETY: nobody else is at it.
        std::array::from_fn(|i| Word(unsafe { *self.hot[bucket as usize * BUCKET as usize + i].get() }))
    }

    /// Whether the overflow map takes no more.
    pub fn is_overflow_full(&self) -> bool {
        self.overflow.lock().unwrap().free.is_empty()
    }

    /// Checks all books once no thread is at work: gauges, marks, tags and places. Number of pins in the arrays and in
    /// overflow.
    pub fn audit(&self, hash_of: impl Fn(&Tuple) -> FlowHash) -> (usize, usize) {
        let mut gauges = vec![[0; PHASES_COUNTED]; self.gauges.len()];
        let mut marks = vec![0u32; self.marks.len()];
        let mut tags = std::collections::HashSet::new();
        let (mut places, mut flows) = (0, HashMap::new());
        let mut count = |word: Word, cold: &Cold| {
            assert!(word.phase().is_pin(), "{word:?} was given up by nobody");
            assert_eq!(word.tag(), hash_of(&cold.tuple()).tag());
            gauges[cold.stats as usize][BackendStats::gauge_of(word.phase()).unwrap()] += 1;
            *flows.entry(cold.tuple()).or_insert(0) += 1;
        };
        for (index, (cell, cold)) in (0..).zip(self.hot.iter().zip(&self.cold)) {
            // SAFETY: nobody else is at it.
            let (word, cold) = unsafe { (Word(*cell.get()), *cold.get()) };
            if word == Word::EMPTY {
                continue;
            }
            places += 1;
            count(word, &cold);
            let home = hash_of(&cold.tuple()).bucket(self.mask);
            let is_second = cold.kind & Cold::SECOND != 0;
            assert_eq!(home != index / BUCKET, is_second, "{cold:?} at {index}");
            marks[home as usize] += if is_second { MARK_SECOND } else { 0 };
            assert!(tags.insert((index / BUCKET, word.tag())), "two pins of a bucket share a tag");
        }
        let overflow = self.overflow.lock().unwrap();
        for (tuple, &cell) in &overflow.of {
            // SAFETY: nobody else is at it.
            let entry = unsafe { *overflow.cells[cell].get() };
            assert!(entry.cold.is_of(tuple));
            count(Word(entry.word), &entry.cold);
            marks[hash_of(tuple).bucket(self.mask) as usize] += MARK_OVERFLOW;
        }
        for (bucket, (found, right)) in self.marks.iter().zip(marks).enumerate() {
            // SAFETY: nobody else is at it.
            assert_eq!(unsafe { *found.get() } & MARKED, right, "mark of bucket {bucket}");
        }
        for (stats, (found, right)) in self.gauges.iter().zip(gauges).enumerate() {
            let found = found.each_ref().map(|gauge| gauge.load(SeqCst));
            assert_eq!(found, right, "gauges {stats}, as shown and as counted");
        }
        (places, overflow.of.len())
    }
}

impl Table for Memory {
    fn mask(&self) -> u32 {
        self.mask
    }

    fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    fn keeps(&self) -> &Timeouts {
        &self.keeps
    }

    fn bucket(&self, bucket: u32) -> Option<*mut u64> {
        self.hot.get((bucket * BUCKET) as usize..).map(|words| UnsafeCell::raw_get(words.as_ptr()))
    }

    fn cold(&self, index: u32) -> Option<*mut Cold> {
        self.cold.get(index as usize).map(UnsafeCell::get)
    }

    fn mark(&self, bucket: u32) -> Option<*mut u32> {
        self.marks.get(bucket as usize).map(UnsafeCell::get)
    }

    fn overflow(&self, tuple: &Tuple) -> Option<*mut Overflow> {
        let overflow = self.overflow.lock().unwrap();
        overflow.of.get(tuple).map(|&cell| overflow.cells[cell].get())
    }

    fn overflow_insert(&self, tuple: &Tuple, entry: &Overflow) -> bool {
        let mut overflow = self.overflow.lock().unwrap();
        if overflow.of.contains_key(tuple) {
            return false;
        }
        let Some(cell) = overflow.free.pop() else { return false };
        // SAFETY: in no map, so nobody finds it any more.
        unsafe { *overflow.cells[cell].get() = *entry };
        overflow.of.insert(*tuple, cell);
        true
    }

    fn account(&self, stats: u32, from: Phase, to: Phase) {
        for (phase, change) in [(from, -1), (to, 1)] {
            if let Some(gauge) = BackendStats::gauge_of(phase) {
                // As in the kernel: a number that no counters have books nothing.
                let Some(gauges) = self.gauges.get(stats as usize) else { return };
                gauges[gauge].fetch_add(change, SeqCst);
            }
        }
    }

    fn evicted(&self, _stats: u32, _host: HostId) {
        self.evicted.fetch_add(1, SeqCst);
    }

    fn is_settled(&self, _service: u16, slot: u32, _client: &[u64; 2]) -> bool {
        self.settled.load(SeqCst) >> (slot & 31) & 1 == 1
    }

    fn half_open_over_quota(&self) -> bool {
        self.over_quota.load(SeqCst)
    }
}
