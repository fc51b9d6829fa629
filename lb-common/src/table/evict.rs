//! Making room in a full table.

use super::insert::{Tried, has_tag, take};
use super::{BUCKET, Inserted, MARK_HAND, MARK_SECOND, Table};
use crate::atomic;
use crate::bits::{at_most, is_zero, opaque};
use crate::flow::{Phase, Word};
use crate::hash::{FlowHash, other_bucket};
use crate::layout::{Cold, Overflow};

/// A half-open pin older than this many seconds may make room: 64 s are six retransmissions of a SYN (RFC 6298).
const HALF_OPEN_GRACE: u32 = 64;

/// Makes room where [`super::insert`] found none: a pin that can be missed goes, the least valuable first. Never one that is
/// established in an open slot, never a live UDP pin; one that is half-open in an open slot only for a flow that needs its own as
/// well, or when it is old.
#[inline(always)]
pub fn evict(table: &impl Table, hash: FlowHash, entry: &mut Overflow, now: u32) -> Inserted {
    let home = hash.bucket(table.mask());
    let second = other_bucket(home, hash.tag(), table.mask());
    if has_tag(table, home, hash.tag(), now) || has_tag(table, second, hash.tag(), now) {
        return Inserted::NoPlace;
    }
    let Some(mark) = table.mark(home) else { return Inserted::NoPlace };
    let (bucket, chosen) = choose(table, hash, home, second, entry, now);
    if chosen >= BUCKET as u64 {
        return Inserted::NoPlace;
    }
    let Some(words) = table.bucket(bucket) else { return Inserted::NoPlace };
    // The compiler would leave the mask out, and the verifier of Linux 6.1 does not know the bound by then.
    let i = opaque(chosen) as u32 & (BUCKET - 1);
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
        Tried::Placed => {
            if let Some(mark) = table.mark(bucket) {
                // SAFETY: as above.
                unsafe { atomic::add32(mark, MARK_HAND) };
            }
            Inserted::Placed
        }
        _ => {
            if bucket == second {
                entry.cold.kind &= !Cold::SECOND;
                // SAFETY: as above.
                unsafe { atomic::add32(mark, MARK_SECOND.wrapping_neg()) };
            }
            Inserted::Race
        }
    }
}

/// The pin that is missed least of two buckets: its bucket and its position, or [`BUCKET`] if all must stay.
#[inline(always)]
pub(super) fn choose(
    table: &impl Table,
    hash: FlowHash,
    home: u32,
    second: u32,
    entry: &Overflow,
    now: u32,
) -> (u32, u64) {
    let closing = settled_in(table, home, second, Phase::Closing);
    if closing.1 < BUCKET as u64 {
        return closing;
    }
    let first = table.victim(home, hand(table, home), now);
    let other = table.victim(second, hand(table, second), now);
    // Of pins that are missed alike, one in either bucket.
    let prefers = (hash.tag() & 1) as u64;
    let is_home = (first / BUCKET as u64) * 2 + prefers > (other / BUCKET as u64) * 2;
    let (bucket, chosen) = if is_home { (home, first) } else { (second, other) };
    if chosen >= BUCKET as u64 {
        let i = chosen as u32 & (BUCKET - 1);
        if !begins_elsewhere(table, bucket, i, now) {
            return (bucket, i as u64);
        }
        // Words do not tell whose slots are in handover, and to look it up for all of them would take a flood's time.
        let settled = settled_in(table, home, second, Phase::HalfOpen);
        if settled.1 < BUCKET as u64 {
            return settled;
        }
        if !is_answered(table, entry) {
            return (bucket, i as u64);
        }
    }
    settled_in(table, home, second, Phase::Established)
}

/// A pin of this phase whose slot is settled, in one of two buckets: the bucket, and what [`settled`] says.
#[inline(always)]
fn settled_in(table: &impl Table, home: u32, second: u32, phase: Phase) -> (u32, u64) {
    let chosen = table.settled(home, phase as u32);
    if chosen < BUCKET as u64 {
        return (home, chosen);
    }
    (second, table.settled(second, phase as u32))
}

/// Whether this very word, at this position of the cold array, may make room. An established pin only if its slot is settled,
/// where the flow finds its host without it (C3). A closing one likewise: its FIN may be forged.
#[inline(always)]
pub(super) fn may_go(table: &impl Table, index: u32, word: Word, now: u32) -> bool {
    if matches!(word.phase(), Phase::Established | Phase::Closing) {
        return is_settled(table, index);
    }
    rank(word, word.idle(now) as u64, table.half_open_over_quota() as u64) != 0
}

/// Whether the slot of the pin at a position of the cold array is settled.
#[inline(always)]
fn is_settled(table: &impl Table, index: u32) -> bool {
    match table.cold(index) {
        // SAFETY: the map's memory; if the record changes meanwhile, the swap of its word will fail.
        Some(cold) => unsafe { table.is_settled((*cold).service(), (*cold).slot, &(*cold).source) },
        None => false,
    }
}

/// Whether a half-open pin is a young one of an open slot: without it, the end of its handshake would go to another host than its
/// SYN did.
#[inline(always)]
fn begins_elsewhere(table: &impl Table, bucket: u32, i: u32, now: u32) -> bool {
    let Some(words) = table.bucket(bucket) else { return false };
    // SAFETY: a bucket has 8 aligned words.
    let word = Word(unsafe { atomic::load(words.add(i as usize)) });
    word.idle(now) <= HALF_OPEN_GRACE && !is_settled(table, bucket * BUCKET + i)
}

/// Whether the flow of a pin that is to be made finds its host without it (C3): then it is not worth another's.
#[inline(always)]
fn is_answered(table: &impl Table, entry: &Overflow) -> bool {
    Word(entry.word).phase() as u8 != Phase::Udp as u8
        && table.is_settled(entry.cold.service(), entry.cold.slot, &entry.cold.source)
}

/// How little a half-open pin is missed: for long without an answer, or while there are too many; 0: it must stay, or is none.
#[inline(always)]
fn rank(word: Word, idle: u64, over_quota: u64) -> u64 {
    let half_open = is_zero(word.0 & 7 ^ Phase::HalfOpen as u64);
    let old = 1 - at_most(idle, HALF_OPEN_GRACE as u64);
    (half_open & old) << 1 | half_open & over_quota
}

/// The half-open pin of a bucket that is missed least: its position in the lowest 3 bits, how many pins may go in the 4
/// bits above them, and above those its worth; below [`BUCKET`] if there is none.
///
/// Among pins that are missed alike it is the one at the bucket's hand, which then moves on: a flood that fills a bucket within a
/// second takes its places in turn. And of two buckets that with more such pins has to give one, as the few of a bucket that is
/// full of established pins would go one after the other before their handshakes have ended.
#[inline(always)]
pub fn victim(table: &impl Table, bucket: u32, hand: u32, now: u32) -> u64 {
    let Some(words) = table.bucket(bucket) else { return 0 };
    let over_quota = table.half_open_over_quota() as u64;
    // Read backwards from the hand, positions are turns: the first turn has the greatest number. Above them, from bit 8 on, the pins
    // that may go are counted: a number of its own would take more stack than there is.
    let mut turns = (hand + BUCKET - 1) as u64;
    let mut best = 0;
    let mut i = 0;
    while i < BUCKET as usize {
        // SAFETY: a bucket has 8 aligned words.
        let word = Word(unsafe { atomic::load(words.add(i)) });
        let idle = word.idle(now) as u64;
        let rank = rank(word, idle, over_quota);
        // Of equal rank, the one that is idle longest; then the one that the hand comes to first.
        let turn = turns.wrapping_sub(i as u64) & (BUCKET - 1) as u64;
        turns += (1 - is_zero(rank)) << 8;
        let score = (rank << 27 | (idle * (1 - is_zero(rank)))) << 3 | turn;
        if opaque(score) > best {
            best = score;
        }
        i += 1;
    }
    let (worth, turn) = (best >> 3, best & (BUCKET - 1) as u64);
    worth << 7 | turns >> 8 << 3 | turns.wrapping_sub(turn) & (BUCKET - 1) as u64
}

/// The place of a bucket whose pin goes next, of those that are missed alike.
#[inline(always)]
fn hand(table: &impl Table, bucket: u32) -> u32 {
    match table.mark(bucket) {
        // SAFETY: the map's memory, aligned.
        Some(mark) => unsafe { mark.read_volatile() / MARK_HAND },
        None => 0,
    }
}

/// Position of a pin in a phase, by its number, whose slot is settled; [`BUCKET`] if there is none.
#[inline(always)]
pub fn settled(table: &impl Table, bucket: u32, phase: u32) -> u64 {
    let Some(words) = table.bucket(bucket) else { return BUCKET as u64 };
    let mut i = 0;
    while i < BUCKET {
        // SAFETY: a bucket has 8 aligned words.
        let word = Word(unsafe { atomic::load(words.add(i as usize)) });
        if word.phase() as u32 == phase && is_settled(table, bucket * BUCKET + i) {
            return i as u64;
        }
        i += 1;
    }
    BUCKET as u64
}
