//! The flow table: where a pin is found, made, changed and given up.
//!
//! Two arrays with the same index: the hot one has 8 bytes a pin, 8 pins a bucket, one cache line; the cold one has
//! what only inserts, listings and the sweep read. A flow has two buckets; what finds no place in either goes to a
//! small exact overflow map. A mark for each bucket counts how many flows that call it home live elsewhere, so that
//! the other places are looked at only if there is something to find.
//!
//! A pin is made in three steps: a free word is *reserved*, the cold record is written, the word is *published*. All
//! changes of a word are compare-and-swaps, and who wins one does the accounting. Two live flows never share a tag
//! within a bucket, as a packet is matched by its tag alone; the later of them goes to overflow.

use crate::atomic;
use crate::bits::{at_most, is_zero, lowest, opaque};
use crate::flow::{Phase, TAG_SHIFT, Word};
use crate::hash::{FlowHash, other_bucket};
use crate::layout::{Cold, HostId, Overflow, Tuple};

/// Words in a bucket.
pub const BUCKET: u32 = 8;
/// A half-open pin older than this many seconds may make room: 64 s are six retransmissions of a SYN (RFC 6298).
const HALF_OPEN_GRACE: u32 = 64;
/// Index in the cold array that says "in the overflow map".
pub const IN_OVERFLOW: u32 = u32::MAX;

/// Host in a reserved word whose pin is made anew in its place. No host has this number. Such a word is not taken from
/// its CPU: the flow's place, and its mark, stay as they are.
const REMADE: HostId = 0;

/// A mark: pins of this home in their second bucket (bits 0–15) and in the overflow map (bits 16–31).
pub const MARK_SECOND: u32 = 1;
/// See [`MARK_SECOND`].
pub const MARK_OVERFLOW: u32 = 1 << 16;

/// The memory and the books that the algorithm works on: maps in the kernel, vectors in tests.
pub trait Table {
    /// Buckets less one.
    fn mask(&self) -> u32;
    /// Idle timeouts by phase, seconds.
    fn timeouts(&self) -> &[u32; 8];
    /// Seconds for which a word may not be taken by another flow, by phase; see [`keeps`].
    fn keeps(&self) -> &[u32; 8];
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
    /// Whether the slot of an established pin is settled, so that the pin may go (C3).
    fn is_settled(&self, service: u16, slot: u32) -> bool;
    /// Whether half-open pins exceed their quota of the table.
    fn half_open_over_quota(&self) -> bool;
    /// [`victim`], where it is worth a function of its own.
    fn victim(&self, bucket: u32, now: u32) -> u64
    where
        Self: Sized,
    {
        victim(self, bucket, now)
    }
    /// [`settled`], where it is worth a function of its own.
    fn settled(&self, bucket: u32, now: u32) -> u64
    where
        Self: Sized,
    {
        settled(self, bucket, now)
    }
}

/// [`Table::keeps`] from the idle timeouts. A word that a CPU has reserved is never free. A closing pin is kept as long
/// as an established one: only who knows its slot can tell whether it is an exception, which lives on; so it goes as a
/// victim, or by the sweep.
pub const fn keeps(timeouts: &[u32; 8]) -> [u32; 8] {
    let mut keeps = *timeouts;
    keeps[Phase::Reserved as usize] = u32::MAX;
    keeps[Phase::Aborted as usize] = u32::MAX;
    keeps[Phase::Closing as usize] = timeouts[Phase::Established as usize];
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
        Found { at, word, index: number * BUCKET + i }
    } else {
        Found::NONE
    }
}

/// Finds a flow's pin by its tag, in its first bucket only.
#[inline(always)]
pub fn find_home(table: &impl Table, hash: FlowHash) -> Found {
    let home = hash.bucket(table.mask());
    match table.bucket(home) {
        Some(bucket) => search(bucket, home, hash.tag()),
        None => Found::NONE,
    }
}

/// Finds a flow's pin by its tag. The word may be no longer live, and with a chance of 2⁻²³ a word it may be another
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
    let mark = unsafe { mark.read_volatile() };
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
        Some(mark) => unsafe { mark.read_volatile() >= MARK_OVERFLOW },
        None => false,
    }
}

/// The cold record of a pin that was found.
#[inline(always)]
pub fn cold_of(table: &impl Table, found: &Found) -> Option<*mut Cold> {
    if found.index == IN_OVERFLOW {
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
}

enum Tried {
    Placed,
    Race,
    /// Another live flow has the tag.
    Conflict,
    Full,
}

/// Makes a pin. `entry.word` is the word to publish; the flow has no live pin.
#[inline(always)]
pub fn insert(table: &impl Table, hash: FlowHash, tuple: &Tuple, entry: &mut Overflow, now: u32) -> Inserted {
    let tag = hash.tag();
    let home = hash.bucket(table.mask());
    let second = other_bucket(home, tag, table.mask());
    let Some(mark) = table.mark(home) else { return Inserted::NoPlace };

    // SAFETY: the map's memory, aligned.
    let marked = unsafe { mark.read_volatile() };
    let hidden = marked & (MARK_OVERFLOW - 1) != 0 && has_tag(table, second, tag, now);
    if !hidden {
        match place(table, home, tuple, entry, now) {
            Tried::Placed => return Inserted::Placed,
            Tried::Race => return Inserted::Race,
            Tried::Conflict => {}
            Tried::Full => {
                // The mark goes up before the pin can be seen, so that no reader misses it.
                // SAFETY: the map's memory, aligned.
                unsafe { atomic::add32(mark, MARK_SECOND) };
                entry.cold.kind |= Cold::SECOND;
                let tried = place(table, second, tuple, entry, now);
                if let Tried::Placed = tried {
                    return Inserted::Placed;
                }
                entry.cold.kind &= !Cold::SECOND;
                // SAFETY: as above.
                unsafe { atomic::add32(mark, MARK_SECOND.wrapping_neg()) };
                if let Tried::Race = tried {
                    return Inserted::Race;
                }
            }
        }
    }
    insert_overflow(table, mark, tuple, entry, now)
}

#[inline(always)]
fn insert_overflow(
    table: &impl Table,
    mark: *mut u32,
    tuple: &Tuple,
    entry: &mut Overflow,
    now: u32,
) -> Inserted {
    // SAFETY: the map's memory, aligned.
    unsafe { atomic::add32(mark, MARK_OVERFLOW) };
    if table.overflow_insert(tuple, entry) {
        table.account(entry.cold.stats, Phase::Empty, Word(entry.word).phase());
        return Inserted::Placed;
    }
    // SAFETY: as above.
    unsafe { atomic::add32(mark, MARK_OVERFLOW.wrapping_neg()) };
    let Some(old) = table.overflow(tuple) else { return Inserted::NoPlace };
    // The flow's last pin, idle past its timeout and not swept yet: made anew in place.
    // SAFETY: the map's memory; the tuple is the key.
    unsafe {
        let at = &raw mut (*old).word;
        let word = Word(atomic::load(at));
        if !word.phase().is_pin() || word.is_live(now, table.timeouts()) {
            return Inserted::Race;
        }
        let reserved = Word::new(word.tag(), word.host(), Phase::Reserved, now);
        if !atomic::swap(at, word.0, reserved.0) {
            return Inserted::Race;
        }
        table.account((*old).cold.stats, word.phase(), Phase::Empty);
        (*old).cold = entry.cold;
        atomic::swap(at, reserved.0, entry.word);
    }
    table.account(entry.cold.stats, Phase::Empty, Word(entry.word).phase());
    Inserted::Placed
}

/// What the words of a bucket are to a flow: a bit for each.
struct Scan {
    /// Has the flow's tag and may not be taken.
    conflict: u32,
    /// Has the flow's tag and may be taken: the flow's last pin, most likely.
    same: u32,
    /// May be taken.
    free: u32,
}

/// Looks at all words of a bucket, without a branch.
#[inline(always)]
fn scan(table: &impl Table, words: *mut u64, tag: u32, now: u32) -> Scan {
    let (mut conflict, mut same, mut free) = (0u64, 0u64, 0u64);
    let mut i = 0;
    while i < BUCKET as usize {
        // SAFETY: a bucket has 8 aligned words.
        let word = Word(unsafe { atomic::load(words.add(i)) });
        let used = 1 - is_zero(word.0 >> 1 | word.0 & 1);
        let taken = used & is_kept(table, word, now);
        let has_tag = used & is_zero((word.0 >> TAG_SHIFT) ^ tag as u64);
        conflict |= (has_tag & taken) << i;
        same |= (has_tag & !taken & 1) << i;
        free |= (!taken & 1) << i;
        i += 1;
    }
    Scan { conflict: conflict as u32, same: same as u32, free: free as u32 }
}

/// 1 if a word that is not empty may not be taken by another flow, else 0.
#[inline(always)]
fn is_kept(table: &impl Table, word: Word, now: u32) -> u64 {
    at_most(word.idle(now) as u64, table.keeps()[(word.0 & 7) as usize] as u64)
}

/// Whether a live pin, or one in the making, has the tag.
#[inline(always)]
fn has_tag(table: &impl Table, bucket: u32, tag: u32, now: u32) -> bool {
    match table.bucket(bucket) {
        Some(words) => scan(table, words, tag, now).conflict != 0,
        None => false,
    }
}

/// Tries to make the pin in one bucket.
#[inline(always)]
fn place(table: &impl Table, bucket: u32, tuple: &Tuple, entry: &Overflow, now: u32) -> Tried {
    let Some(words) = table.bucket(bucket) else { return Tried::Full };
    let scan = scan(table, words, Word(entry.word).tag(), now);
    if scan.conflict != 0 {
        return whose(table, bucket, words, lowest(scan.conflict), tuple);
    }
    if scan.free == 0 {
        return Tried::Full;
    }
    // The flow's last word if there is one, so that its tag stays alone.
    let i = lowest(if scan.same != 0 { scan.same } else { scan.free });
    // SAFETY: a bucket has 8 aligned words.
    let old = Word(unsafe { atomic::load(words.add(i as usize & 7)) });
    // Another CPU may have been faster, and its pin may be one that must not go.
    if old.0 != 0 && is_kept(table, old, now) != 0 {
        return Tried::Race;
    }
    take(table, bucket, words, i, old, entry, now)
}

/// Another word with the tag: the same flow on another CPU, or another flow.
#[inline(always)]
fn whose(table: &impl Table, bucket: u32, words: *mut u64, i: u32, tuple: &Tuple) -> Tried {
    // SAFETY: a bucket has 8 aligned words.
    let word = Word(unsafe { atomic::load(words.add(i as usize & 7)) });
    if !word.phase().is_pin() {
        return Tried::Race;
    }
    match table.cold(bucket * BUCKET + i) {
        // SAFETY: the map's memory; a record that changes meanwhile gives a wrong guess, and the insert is tried anew
        // with the flow's next packet.
        Some(cold) if unsafe { &*cold }.is_of(tuple) => Tried::Race,
        _ => Tried::Conflict,
    }
}

/// Reserves the word, which the caller saw to be `old` and free to be taken; gives up what was there, writes the cold
/// record and publishes.
#[inline(always)]
fn take(
    table: &impl Table,
    bucket: u32,
    words: *mut u64,
    i: u32,
    old: Word,
    entry: &Overflow,
    now: u32,
) -> Tried {
    let i = i & (BUCKET - 1);
    let new = Word(entry.word);
    let index = bucket * BUCKET + i;
    let Some(cold) = table.cold(index) else { return Tried::Full };
    // SAFETY: a bucket has 8 aligned words.
    let at = unsafe { words.add(i as usize) };
    let reserved = Word::new(new.tag(), new.host(), Phase::Reserved, now);
    // SAFETY: as above.
    if !unsafe { atomic::swap(at, old.0, reserved.0) } {
        return Tried::Race;
    }
    // The word is this CPU's now, and so is the cold record.
    if old.phase().is_pin() {
        // SAFETY: the map's memory.
        let (stats, kind) = unsafe { ((*cold).stats, (*cold).kind) };
        table.account(stats, old.phase(), Phase::Empty);
        if old.is_live(now, table.timeouts()) {
            table.evicted(stats, old.host());
        }
        unmark(table, bucket, old, kind);
    }
    // Another CPU may have reserved a word for the same tag. Both look again; the lower position wins.
    let lost = !is_alone(words, i, new.tag(), now);
    if !lost {
        // SAFETY: reserved, so nobody else writes it.
        unsafe { *cold = entry.cold };
        // SAFETY: as above.
        if unsafe { atomic::swap(at, reserved.0, new.0) } {
            table.account(entry.cold.stats, Phase::Empty, new.phase());
            return Tried::Placed;
        }
    }
    // SAFETY: as above; reserved or aborted, either way this CPU's to free.
    unsafe {
        let word = atomic::load(at);
        atomic::swap(at, word, Word::EMPTY.0);
    }
    Tried::Race
}

/// Whether word `i`, reserved by this CPU, is the only one of its bucket with the tag; a reservation at a higher position
/// is taken from its CPU to make it so.
#[inline(always)]
fn is_alone(words: *mut u64, i: u32, tag: u32, now: u32) -> bool {
    let mut others = 0u64;
    let mut j = 0;
    while j < BUCKET as usize {
        // SAFETY: a bucket has 8 aligned words.
        let word = unsafe { atomic::load(words.add(j)) };
        others |= is_zero((word >> TAG_SHIFT) ^ tag as u64) << j;
        j += 1;
    }
    let others = others as u32 & !(1 << i);
    if others == 0 {
        return true;
    }
    // Several others, or one below: theirs.
    if others & others.wrapping_sub(1) != 0 || others < 1 << i {
        return false;
    }
    // SAFETY: as above.
    let other = unsafe { words.add(lowest(others) as usize) };
    // SAFETY: as above.
    let word = Word(unsafe { atomic::load(other) });
    let aborted = Word::new(tag, word.host(), Phase::Aborted, now);
    let may = word.phase() as u8 == Phase::Reserved as u8 && word.host() != REMADE;
    // SAFETY: as above. If the swap fails, the other was published or given up meanwhile.
    may && unsafe { atomic::swap(other, word.0, aborted.0) }
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

/// Makes room where [`insert`] found none: a pin that can be missed goes, the least valuable first. Never one that is
/// established in an open slot, never a live UDP pin.
#[inline(always)]
pub fn evict(table: &impl Table, hash: FlowHash, entry: &mut Overflow, now: u32) -> Inserted {
    let home = hash.bucket(table.mask());
    let second = other_bucket(home, hash.tag(), table.mask());
    if has_tag(table, home, hash.tag(), now) || has_tag(table, second, hash.tag(), now) {
        return Inserted::NoPlace;
    }
    let Some(mark) = table.mark(home) else { return Inserted::NoPlace };
    let first = table.victim(home, now);
    let other = table.victim(second, now);
    let (mut bucket, mut chosen) = if first >= other { (home, first) } else { (second, other) };
    if chosen < BUCKET as u64 {
        (bucket, chosen) = (home, table.settled(home, now));
        if chosen >= BUCKET as u64 {
            (bucket, chosen) = (second, table.settled(second, now));
            if chosen >= BUCKET as u64 {
                return Inserted::NoPlace;
            }
        }
    }
    let Some(words) = table.bucket(bucket) else { return Inserted::NoPlace };
    let i = chosen as u32 & (BUCKET - 1);
    // SAFETY: a bucket has 8 aligned words.
    let old = Word(unsafe { atomic::load(words.add(i as usize)) });
    if !may_go(table, bucket * BUCKET + i, old, now) {
        // It was established meanwhile, or is another flow's.
        return Inserted::Race;
    }
    if bucket == second {
        // SAFETY: the map's memory, aligned.
        unsafe { atomic::add32(mark, MARK_SECOND) };
        entry.cold.kind |= Cold::SECOND;
    }
    match take(table, bucket, words, i, old, entry, now) {
        Tried::Placed => Inserted::Placed,
        _ => {
            if bucket == second {
                // SAFETY: as above.
                unsafe { atomic::add32(mark, MARK_SECOND.wrapping_neg()) };
            }
            Inserted::Race
        }
    }
}

/// Whether this very word, at this position of the cold array, may make room.
#[inline(always)]
fn may_go(table: &impl Table, index: u32, word: Word, now: u32) -> bool {
    if word.phase() as u8 != Phase::Established as u8 {
        return rank(word, word.idle(now) as u64, table.half_open_over_quota() as u64) != 0;
    }
    match table.cold(index) {
        // SAFETY: the map's memory; if the record changes meanwhile, the swap of its word will fail.
        Some(cold) => unsafe { table.is_settled((*cold).service(), (*cold).slot) },
        None => false,
    }
}

/// How little a pin is missed: closing, half-open for long, half-open while there are too many; 0: it must stay, for all
/// that its word tells.
#[inline(always)]
fn rank(word: Word, idle: u64, over_quota: u64) -> u64 {
    let closing = is_zero(word.0 & 7 ^ Phase::Closing as u64);
    let half_open = is_zero(word.0 & 7 ^ Phase::HalfOpen as u64);
    let old = 1 - at_most(idle, HALF_OPEN_GRACE as u64);
    closing << 2 | (half_open & old) << 1 | half_open & over_quota
}

/// The closing or half-open pin of a bucket that is missed least: its position in the lowest 3 bits, its worth above
/// them, 0 if there is none.
#[inline(always)]
pub fn victim(table: &impl Table, bucket: u32, now: u32) -> u64 {
    let Some(words) = table.bucket(bucket) else { return 0 };
    let over_quota = table.half_open_over_quota() as u64;
    let mut best = 0;
    let mut i = 0;
    while i < BUCKET as usize {
        // SAFETY: a bucket has 8 aligned words.
        let word = Word(unsafe { atomic::load(words.add(i)) });
        let idle = word.idle(now) as u64;
        let rank = rank(word, idle, over_quota);
        // Of equal rank, the one that is idle longest.
        let score = (rank << 27 | (idle * (1 - is_zero(rank)))) << 3 | i as u64;
        if opaque(score) > best {
            best = score;
        }
        i += 1;
    }
    best
}

/// Position of an established pin whose slot is settled; [`BUCKET`] if there is none.
#[inline(always)]
pub fn settled(table: &impl Table, bucket: u32, now: u32) -> u64 {
    let Some(words) = table.bucket(bucket) else { return BUCKET as u64 };
    let mut i = 0;
    while i < BUCKET {
        // SAFETY: a bucket has 8 aligned words.
        let word = Word(unsafe { atomic::load(words.add(i as usize)) });
        if word.phase() as u8 == Phase::Established as u8 && may_go(table, bucket * BUCKET + i, word, now) {
            return i as u64;
        }
        i += 1;
    }
    BUCKET as u64
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
        *cold = entry.cold;
        (*cold).kind |= second;
        atomic::swap(found.at, reserved.0, new.0);
    }
    table.account(entry.cold.stats, Phase::Empty, new.phase());
    Inserted::Placed
}
