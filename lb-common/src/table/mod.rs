//! The flow table: where a pin is found, made, changed and given up.
//!
//! Two arrays with the same index: the hot one has 8 bytes a pin, 8 pins a bucket, one cache line; the cold one has
//! what only inserts, listings and the sweep read. A flow has two buckets; what finds no place in either goes to a
//! small exact overflow map. A mark for each bucket counts how many flows that call it home live elsewhere, so that
//! the other places are looked at only if there is something to find.
//!
//! An entry of the overflow map can be taken out while a packet still holds it, and what that packet writes then is lost. So
//! packets never write to an entry whose pin is dead, and the sweep takes out only what has been dead for [`LIMBO`].
//!
//! A pin is made in three steps: a free word is *reserved*, the cold record is written, the word is *published*. All
//! changes of a word are compare-and-swaps, and who wins one does the accounting. Two live flows never share a tag
//! within a bucket, as a packet is matched by its tag alone; the later of them goes to overflow.

mod begin;
mod evict;
mod insert;
mod would;

pub use begin::{begin, expect};
pub use evict::{evict, settled, victim};
pub use insert::insert;
pub use would::{would_evict, would_insert};

use crate::atomic;
use crate::bits::{is_zero, opaque};
use crate::flow::{Phase, TAG_SHIFT, Timeouts, Word};
use crate::hash::{FlowHash, other_bucket};
use crate::layout::{Cold, HostId, Overflow, Tuple};

/// Words in a bucket.
pub const BUCKET: u32 = 8;
/// Index in the cold array that says "in the overflow map". More than all others, and not by one: the verifier of Linux 6.1
/// knows the bounds of a number, but does not ask them whether it may be equal to another.
pub const IN_OVERFLOW: u32 = 1 << 31;

/// Seconds for which a dead pin stays in the overflow map at least: longer than a packet is under way, and than clock readings
/// of two CPUs differ.
pub const LIMBO: u32 = 2;

/// Host in a reserved word whose pin is made anew in its place. No host has this number. Such a word is not taken from
/// its CPU: the flow's place, and its mark, stay as they are.
const REMADE: HostId = 0;

/// A mark: pins of this home in their second bucket (bits 0–15) and in the overflow map (bits 16–28), and the bucket's hand
/// (bits 29–31): the place whose pin goes next, of those that are missed alike.
pub const MARK_SECOND: u32 = 1;
/// See [`MARK_SECOND`].
pub const MARK_OVERFLOW: u32 = 1 << 16;
/// See [`MARK_SECOND`]. Counting it up leaves the rest of the mark alone, as the hand is at its top and goes round.
pub const MARK_HAND: u32 = 1 << 29;
/// A mark without its hand: 0 if all pins of this home are in it.
pub const MARKED: u32 = MARK_HAND - 1;
/// Pins of one home that the overflow map takes: as many as a mark can count, less those that several CPUs may be at.
const MOST_IN_OVERFLOW: u32 = 8000;

/// The memory and the books that the algorithm works on: maps in the kernel, vectors in tests.
pub trait Table {
    /// Buckets less one.
    fn mask(&self) -> u32;
    /// Idle timeouts.
    fn timeouts(&self) -> &Timeouts;
    /// For how long a word may not be taken by another flow; see [`keeps`].
    fn keeps(&self) -> &Timeouts;
    /// The 8 words of a bucket, one cache line.
    fn bucket(&self, bucket: u32) -> Option<*mut u64>;
    /// Cold record of a word.
    fn cold(&self, index: u32) -> Option<*mut Cold>;
    /// Mark of a bucket.
    fn mark(&self, bucket: u32) -> Option<*mut u32>;
    /// Entry of the overflow map.
    fn overflow(&self, tuple: &Tuple) -> Option<*mut Overflow>;
    /// Inserts into the overflow map unless the key is there; whether it was done.
    fn overflow_insert(&self, tuple: &Tuple, entry: &Overflow) -> bool;
    /// Books a pin that left `from` and entered `to`, of the backend whose counters are `stats`.
    fn account(&self, stats: u32, from: Phase, to: Phase);
    /// Books a live pin that had to go.
    fn evicted(&self, stats: u32, host: HostId);
    /// Whether the slot of a pin is settled, so that its flow finds its host without it (C3).
    fn is_settled(&self, service: u16, slot: u32, client: &[u64; 2]) -> bool;
    /// Whether half-open pins exceed their quota of the table.
    fn half_open_over_quota(&self) -> bool;
    /// [`victim`], where it is worth a function of its own.
    fn victim(&self, bucket: u32, hand: u32, now: u32) -> u64
    where
        Self: Sized,
    {
        victim(self, bucket, hand, now)
    }
    /// [`settled`], where it is worth a function of its own.
    fn settled(&self, bucket: u32, phase: u32) -> u64
    where
        Self: Sized,
    {
        settled(self, bucket, phase)
    }
}

/// [`Table::keeps`] from the idle timeouts. A word that a CPU has reserved is never free. A closing pin is kept as long
/// as an established one: only who knows its slot can tell whether it is an exception, which lives on; so it goes as a
/// victim, or by the sweep.
pub const fn keeps(timeouts: &Timeouts) -> Timeouts {
    let mut keeps = *timeouts;
    let mut set = 0;
    while set < keeps.len() {
        keeps[set + Phase::Reserved as usize] = u32::MAX;
        keeps[set + Phase::Aborted as usize] = u32::MAX;
        keeps[set + Phase::Closing as usize] = timeouts[set + Phase::Established as usize];
        set += 8;
    }
    keeps
}

/// A pin that was found, or none. Not an `Option`, because the fields of a `None` would be undefined, and the verifier
/// refuses to see undefined registers stored.
#[derive(Clone, Copy)]
pub struct Found {
    /// Where the word lies; null: no pin was found.
    pub at: *mut u64,
    /// The word as it was read.
    pub word: Word,
    /// Index of the cold record, or [`IN_OVERFLOW`]: then it follows the word.
    pub index: u32,
}

impl Found {
    /// No pin.
    pub const NONE: Found = Found { at: core::ptr::null_mut(), word: Word::EMPTY, index: 0 };

    #[inline(always)]
    pub fn is_some(&self) -> bool {
        !self.at.is_null()
    }
}

/// Finds the word of a flow's tag in a bucket without a branch, so that random positions cost no misprediction.
#[inline(always)]
fn search(bucket: *mut u64, number: u32, tag: u32) -> Found {
    let mut sum = 0u64;
    let mut i = 0;
    while i < BUCKET as usize {
        // SAFETY: a bucket has 8 aligned words.
        let word = unsafe { atomic::load(bucket.add(i)) };
        sum += is_zero((word >> TAG_SHIFT) ^ tag as u64) * (i as u64 + 1);
        i += 1;
    }
    if sum == 0 {
        return Found::NONE;
    }
    // Two words with the tag exist for the moment in which an insert is given up; then the check below fails.
    let i = (sum - 1) as u32 & (BUCKET - 1);
    // SAFETY: as above.
    let at = unsafe { bucket.add(i as usize) };
    // SAFETY: as above.
    let word = Word(unsafe { atomic::load(at) });
    if word.tag() == tag && word.phase().is_pin() {
        // As a sum: the compiler would take the bits together, of which the verifier of Linux 6.1 makes nothing, and then
        // the word of an array could be one of an overflow entry.
        Found { at, word, index: opaque((number * BUCKET) as u64) as u32 + i }
    } else {
        Found::NONE
    }
}

/// A flow's first bucket.
#[derive(Clone, Copy)]
pub struct Home {
    words: *mut u64,
    number: u32,
}

impl Home {
    /// Finds it. Its cache line is on its way from here on: what is looked up until the words are asked for costs no time on
    /// top of it.
    #[inline(always)]
    pub fn of(table: &impl Table, hash: FlowHash) -> Option<Home> {
        let number = hash.bucket(table.mask());
        let home = Home { words: table.bucket(number)?, number };
        home.word(0);
        Some(home)
    }

    /// Where word `i` lies.
    #[inline(always)]
    pub fn at(&self, i: u32) -> *mut u64 {
        // SAFETY: a bucket has 8 words.
        unsafe { self.words.add((i & (BUCKET - 1)) as usize) }
    }

    #[inline(always)]
    pub fn word(&self, i: u32) -> Word {
        // SAFETY: a word of the bucket, aligned.
        Word(unsafe { atomic::load(self.at(i)) })
    }

    /// Finds a flow's pin by its tag, in this bucket only.
    #[inline(always)]
    pub fn find(&self, hash: FlowHash) -> Found {
        search(self.words, self.number, hash.tag())
    }
}

/// Finds a flow's pin by its tag. The word may be no longer live, and with a chance of 2⁻²² a word it may be another
/// flow's: who cares compares the tuple.
#[inline(always)]
pub fn find(table: &impl Table, hash: FlowHash, tuple: &Tuple) -> Found {
    let tag = hash.tag();
    let home = hash.bucket(table.mask());
    let Some(bucket) = table.bucket(home) else { return Found::NONE };
    let found = search(bucket, home, tag);
    if found.is_some() {
        return found;
    }
    let Some(mark) = table.mark(home) else { return Found::NONE };
    // SAFETY: the map's memory, aligned.
    let mark = unsafe { mark.read_volatile() } & MARKED;
    if mark == 0 {
        return Found::NONE;
    }
    if mark & (MARK_OVERFLOW - 1) != 0 {
        let second = other_bucket(home, tag, table.mask());
        let Some(bucket) = table.bucket(second) else { return Found::NONE };
        let found = search(bucket, second, tag);
        if found.is_some() {
            return found;
        }
    }
    if mark >= MARK_OVERFLOW { find_overflow(table, tuple) } else { Found::NONE }
}

/// Finds a flow's pin in the overflow map, by its tuple.
#[inline(always)]
pub fn find_overflow(table: &impl Table, tuple: &Tuple) -> Found {
    let Some(entry) = table.overflow(tuple) else { return Found::NONE };
    // SAFETY: the map's memory. An entry that is deleted meanwhile may be another flow's by now: the tuple that lies
    // beside the word tells.
    let found = unsafe {
        let word = Word(atomic::load(&raw const (*entry).word));
        Found { at: &raw mut (*entry).word, word, index: IN_OVERFLOW }
    };
    // SAFETY: as above.
    let cold = unsafe { &raw const (*entry).cold };
    if found.word.phase().is_pin() && is_flows(&found, cold, tuple) { found } else { Found::NONE }
}

/// Whether flows of this bucket live in the overflow map: then a match by tag alone is not enough.
#[inline(always)]
pub fn has_overflow(table: &impl Table, hash: FlowHash) -> bool {
    match table.mark(hash.bucket(table.mask())) {
        // SAFETY: the map's memory, aligned.
        Some(mark) => unsafe { mark.read_volatile() & MARKED >= MARK_OVERFLOW },
        None => false,
    }
}

/// The cold record of a pin that was found.
#[inline(always)]
pub fn cold_of(table: &impl Table, found: &Found) -> Option<*mut Cold> {
    if found.index >= IN_OVERFLOW {
        // SAFETY: in an overflow entry the cold record follows the word.
        Some(unsafe { found.at.add(1) }.cast())
    } else {
        table.cold(found.index)
    }
}

/// Whether a pin that was found by its tag is the flow's.
#[inline(always)]
pub fn is_of(table: &impl Table, found: &Found, tuple: &Tuple) -> bool {
    match cold_of(table, found) {
        Some(cold) => is_flows(found, cold, tuple),
        None => false,
    }
}

/// Whether the record is the flow's, and the word that was read before it names the same host still. Else it may have
/// been another flow's when it was read. One comparison for both, as each doubles the verifier's ways.
#[inline(always)]
fn is_flows(found: &Found, cold: *const Cold, tuple: &Tuple) -> bool {
    // SAFETY: a record of the map, which may change under the reader if the pin ends at this moment.
    let differs = unsafe { &*cold }.differs(tuple);
    atomic::fence();
    // SAFETY: `found` points to a word of the table.
    let word = Word(unsafe { atomic::load(found.at) });
    differs | word.moved(found.word) == 0
}

/// What became of an insert.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The flow has its pin.
    Placed = 0,
    /// Another CPU is pinning the same flow at this moment.
    Race = 1,
    /// Both buckets and the overflow map are full of pins that must not go.
    NoPlace = 2,
    /// The flow's last pin is dead and still in the overflow map, see [`LIMBO`]. No other pin is worth giving up for that
    /// moment.
    InLimbo = 3,
}

/// A pin that leaves its second bucket no longer counts in its home's mark.
#[inline(always)]
pub fn unmark(table: &impl Table, bucket: u32, word: Word, kind: u32) {
    if kind & Cold::SECOND != 0
        && let Some(mark) = table.mark(other_bucket(bucket, word.tag(), table.mask()))
    {
        // SAFETY: the map's memory, aligned.
        unsafe { atomic::add32(mark, MARK_SECOND.wrapping_neg()) };
    }
}

/// Changes a pin that was found; whether the word still was what was read.
#[inline(always)]
pub fn update(table: &impl Table, found: &Found, new: Word) -> bool {
    if new.phase() as u8 == found.word.phase() as u8 {
        // SAFETY: `found` points to a word of the table.
        return unsafe { atomic::swap(found.at, found.word.0, new.0) };
    }
    let Some(cold) = cold_of(table, found) else { return false };
    // Before the swap: from then on another CPU may make the pin anew, with other counters. If the swap succeeds, the
    // record was that of the word.
    // SAFETY: the map's memory, an aligned word.
    let stats = unsafe { (&raw const (*cold).stats).read_volatile() };
    // SAFETY: as above.
    if !unsafe { atomic::swap(found.at, found.word.0, new.0) } {
        return false;
    }
    table.account(stats, found.word.phase(), new.phase());
    true
}

/// Copies a cold record field by field; volatile, as the BPF compiler would call a function that copies byte by byte.
///
/// # Safety
/// `to` is the map's memory, and nobody else writes it.
#[inline(always)]
unsafe fn write(to: *mut Cold, from: &Cold) {
    // SAFETY: the caller's promise, for all fields.
    unsafe {
        (&raw mut (*to).source[0]).write_volatile(from.source[0]);
        (&raw mut (*to).source[1]).write_volatile(from.source[1]);
        (&raw mut (*to).destination[0]).write_volatile(from.destination[0]);
        (&raw mut (*to).destination[1]).write_volatile(from.destination[1]);
        (&raw mut (*to).ports).write_volatile(from.ports);
        (&raw mut (*to).kind).write_volatile(from.kind);
        (&raw mut (*to).sequence).write_volatile(from.sequence);
        (&raw mut (*to).start).write_volatile(from.start);
        (&raw mut (*to).stats).write_volatile(from.stats);
        (&raw mut (*to).slot).write_volatile(from.slot);
    }
}

/// Makes a pin anew in the place of a pin of the same flow, which ends if it has not by its idleness.
#[inline(always)]
pub fn remake(table: &impl Table, found: &Found, entry: &Overflow, now: u32) -> Inserted {
    let Some(cold) = cold_of(table, found) else { return Inserted::Race };
    let new = Word(entry.word);
    let reserved = Word::new(new.tag(), REMADE, Phase::Reserved, now);
    // SAFETY: `found` points to a word of the table.
    if !unsafe { atomic::swap(found.at, found.word.0, reserved.0) } {
        return Inserted::Race;
    }
    // SAFETY: reserved for good, so nobody else writes the word or the cold record.
    unsafe {
        let second = (*cold).kind & Cold::SECOND;
        table.account((*cold).stats, found.word.phase(), Phase::Empty);
        write(cold, &entry.cold);
        (*cold).kind |= second;
        atomic::swap(found.at, reserved.0, new.0);
    }
    table.account(entry.cold.stats, Phase::Empty, new.phase());
    Inserted::Placed
}
