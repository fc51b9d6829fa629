//! Making a pin where the flow has none.

use super::{
    BUCKET, Inserted, MARK_OVERFLOW, MARK_SECOND, MARKED, MOST_IN_OVERFLOW, REMADE, Table, unmark, write,
};
use crate::atomic;
use crate::bits::{at_most, is_zero, lowest};
use crate::flow::{Phase, TAG_SHIFT, Word};
use crate::hash::{FlowHash, other_bucket, preferred};
use crate::layout::{Cold, Overflow, Tuple};

pub(super) enum Tried {
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
    // A pin with the tag in the second bucket would be hidden by one in the first. It may be the flow's, by another CPU's doing.
    let hidden =
        if marked & (MARK_OVERFLOW - 1) != 0 { twin(table, second, tuple, tag, now) } else { Tried::Full };
    if let Tried::Race = hidden {
        return Inserted::Race;
    }
    if let Tried::Full = hidden {
        match place(table, home, tuple, entry, now) {
            Tried::Placed => return Inserted::Placed,
            Tried::Race => return Inserted::Race,
            Tried::Conflict if marked & (MARK_OVERFLOW - 1) != 0 => forget(table, second, tag, now),
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

/// Gives up the word of a bucket that has the tag, if it may be taken. It may be the flow's last pin, which another flow's has
/// hidden since: when that one ends, it would be found in place of the pin that the flow is about to get in overflow.
#[inline(always)]
fn forget(table: &impl Table, bucket: u32, tag: u32, now: u32) {
    let Some(words) = table.bucket(bucket) else { return };
    let same = scan(table, words, tag, now).same;
    if same == 0 {
        return;
    }
    let i = lowest(same) & (BUCKET - 1);
    let Some(cold) = table.cold(bucket * BUCKET + i) else { return };
    // SAFETY: a bucket has 8 aligned words.
    let at = unsafe { words.add(i as usize) };
    // SAFETY: as above.
    let old = Word(unsafe { atomic::load(at) });
    if !old.phase().is_pin() || is_kept(table, old, now) != 0 {
        return;
    }
    // SAFETY: the map's memory; if the swap succeeds, the record was that of the word.
    let (stats, kind) =
        unsafe { ((&raw const (*cold).stats).read_volatile(), (&raw const (*cold).kind).read_volatile()) };
    // SAFETY: as above.
    if unsafe { atomic::swap(at, old.0, Word::EMPTY.0) } {
        table.account(stats, old.phase(), Phase::Empty);
        unmark(table, bucket, old, kind);
    }
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
    if unsafe { mark.read_volatile() } & MARKED >= MOST_IN_OVERFLOW * MARK_OVERFLOW {
        return Inserted::NoPlace;
    }
    // SAFETY: as above.
    unsafe { atomic::add32(mark, MARK_OVERFLOW) };
    if table.overflow_insert(tuple, entry) {
        table.account(entry.cold.stats, Phase::Empty, Word(entry.word).phase());
        return Inserted::Placed;
    }
    // SAFETY: as above.
    unsafe { atomic::add32(mark, MARK_OVERFLOW.wrapping_neg()) };
    let Some(old) = table.overflow(tuple) else { return Inserted::NoPlace };
    // SAFETY: the map's memory; the tuple is the key.
    let word = Word(unsafe { atomic::load(&raw const (*old).word) });
    if word.phase().is_pin() && !word.is_live(now, table.timeouts()) {
        Inserted::InLimbo
    } else {
        Inserted::Race
    }
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
    at_most(word.idle(now) as u64, table.keeps()[word.limit()] as u64)
}

/// Whether a live pin, or one in the making, has the tag.
#[inline(always)]
pub(super) fn has_tag(table: &impl Table, bucket: u32, tag: u32, now: u32) -> bool {
    match table.bucket(bucket) {
        Some(words) => scan(table, words, tag, now).conflict != 0,
        None => false,
    }
}

/// Words of a bucket that have the tag and may not be taken, and words that may be: a bit for each.
#[inline(always)]
pub(super) fn free(table: &impl Table, words: *mut u64, tag: u32, now: u32) -> (u32, u32) {
    let scan = scan(table, words, tag, now);
    (scan.conflict, scan.free)
}

/// Whether a bucket has a word with the tag that may not be taken: of this flow, or of another; [`Tried::Full`] if it has none.
#[inline(always)]
pub(super) fn twin(table: &impl Table, bucket: u32, tuple: &Tuple, tag: u32, now: u32) -> Tried {
    let Some(words) = table.bucket(bucket) else { return Tried::Full };
    match scan(table, words, tag, now).conflict {
        0 => Tried::Full,
        conflict => whose(table, bucket, words, lowest(conflict), tuple),
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
    let wanted = scan.free & 1 << preferred(Word(entry.word).tag());
    // The flow's last word if there is one, so that its tag stays alone; else where it is looked for first.
    let i = lowest(if scan.same != 0 {
        scan.same
    } else if wanted != 0 {
        wanted
    } else {
        scan.free
    });
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
pub(super) fn whose(table: &impl Table, bucket: u32, words: *mut u64, i: u32, tuple: &Tuple) -> Tried {
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
pub(super) fn take(
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
        unsafe { write(cold, &entry.cold) };
        // SAFETY: as above.
        if unsafe { atomic::swap(at, reserved.0, new.0) } {
            table.account(entry.cold.stats, Phase::Empty, new.phase());
            return Tried::Placed;
        }
    }
    // SAFETY: as above. If it is not reserved any more, another CPU has aborted it, which happens once: then nobody but this CPU
    // changes it. It is looked at only then, as it may be aborted at any moment before.
    unsafe {
        if !atomic::swap(at, reserved.0, Word::EMPTY.0) {
            atomic::swap(at, atomic::load(at), Word::EMPTY.0);
        }
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
