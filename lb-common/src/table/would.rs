//! What making a pin would come to, of which nothing is done: for dry runs.
//!
//! The same steps as [`super::insert`] and [`super::evict`] take where no other CPU is at the same buckets; property tests hold one
//! against the other.

use super::evict::{choose, may_go};
use super::insert::{Tried, free, has_tag, twin, whose};
use super::{BUCKET, Inserted, MARK_OVERFLOW, MARKED, MOST_IN_OVERFLOW, Table};
use crate::atomic;
use crate::bits::{lowest, opaque};
use crate::flow::Word;
use crate::hash::{FlowHash, other_bucket};
use crate::layout::{Overflow, Tuple};

/// What [`super::insert`] would answer for a flow without a live pin, but that an entry in limbo is a [`Inserted::Race`]. Whether the
/// overflow map `has_room` cannot be asked of a map.
#[inline(always)]
pub fn would_insert(table: &impl Table, hash: FlowHash, tuple: &Tuple, now: u32, has_room: bool) -> Inserted {
    let tag = hash.tag();
    let home = hash.bucket(table.mask());
    let second = other_bucket(home, tag, table.mask());
    let Some(mark) = table.mark(home) else { return Inserted::NoPlace };
    // SAFETY: the map's memory, aligned.
    let marked = unsafe { mark.read_volatile() };
    let mut tried =
        if marked & (MARK_OVERFLOW - 1) != 0 { twin(table, second, tuple, tag, now) } else { Tried::Full };
    if let Tried::Full = tried {
        tried = would_place(table, home, tuple, tag, now);
        if let Tried::Full = tried {
            tried = would_place(table, second, tuple, tag, now);
        }
    }
    match tried {
        Tried::Placed => Inserted::Placed,
        Tried::Race => Inserted::Race,
        Tried::Conflict | Tried::Full if marked & MARKED >= MOST_IN_OVERFLOW * MARK_OVERFLOW => {
            Inserted::NoPlace
        }
        Tried::Conflict | Tried::Full if table.overflow(tuple).is_some() => Inserted::Race,
        Tried::Conflict | Tried::Full if has_room => Inserted::Placed,
        Tried::Conflict | Tried::Full => Inserted::NoPlace,
    }
}

#[inline(always)]
fn would_place(table: &impl Table, bucket: u32, tuple: &Tuple, tag: u32, now: u32) -> Tried {
    let Some(words) = table.bucket(bucket) else { return Tried::Full };
    match free(table, words, tag, now) {
        (0, 0) => Tried::Full,
        (0, _) => Tried::Placed,
        (conflict, _) => whose(table, bucket, words, lowest(conflict), tuple),
    }
}

/// Whether [`super::evict`] would make room for the pin of `entry`.
#[inline(always)]
pub fn would_evict(table: &impl Table, hash: FlowHash, entry: &Overflow, now: u32) -> bool {
    let home = hash.bucket(table.mask());
    let second = other_bucket(home, hash.tag(), table.mask());
    if has_tag(table, home, hash.tag(), now) || has_tag(table, second, hash.tag(), now) {
        return false;
    }
    let (bucket, chosen) = choose(table, hash, home, second, entry, now);
    if chosen >= BUCKET as u64 {
        return false;
    }
    let Some(words) = table.bucket(bucket) else { return false };
    // As in `evict`.
    let i = opaque(chosen) as u32 & (BUCKET - 1);
    // SAFETY: a bucket has 8 aligned words.
    let old = Word(unsafe { atomic::load(words.add(i as usize)) });
    may_go(table, bucket * BUCKET + i, old, now)
}
